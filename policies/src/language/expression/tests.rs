//! Expressions: what they yield, what is refused and where, and that no text does harm.

use super::*;
use crate::facts::{Api, Facts};
use crate::fleet::HardwareKind;
use crate::language::Source;
use crate::policy::Env;

const ROUTE: Key = Key::RouteWhen;

fn checked(text: &str, key: Key) -> (Option<Checked>, Vec<Diagnostic>) {
    let classes = ["realtime".to_owned(), "batch".to_owned()];
    let mut problems = Vec::new();
    let checked = check_text(text, Scope { key, classes: &classes, pools: &[] }, &mut Trees::default(), &mut problems);
    (checked, problems)
}

#[test]
fn conditions_hold_as_written() {
    let headers = vec![("x-agent".to_owned(), "voice".to_owned()), ("x-empty".to_owned(), String::new())];
    let facts = Facts {
        headers: &headers,
        tenant: "acme",
        stream: true,
        input_tokens: 60_000,
        output_tokens: 7,
        tools: 2,
        deadline_ms: Some(1500.5),
        ..Facts::plain(Api::ChatCompletions, "gpt-oss-120b")
    };
    let env = Env { facts: &facts, class: "realtime", pool: None, load: None, utc_offset_s: 0 };
    let check = |text: &str, expected: bool| {
        let (checked, problems) = checked(text, ROUTE);
        assert_eq!(problems, [], "{text}");
        assert_eq!(checked.unwrap().condition.holds(&env), expected, "{text}");
    };
    for (text, expected) in [
        ("request.stream", true),
        ("!request.stream || request.tools == 2", true),
        ("request.stream && (request.tools > 2 || request.images > 0)", false),
        ("request.stream == true", true),
        ("request.api == 'chat' && request.path == '/v1/chat/completions'", true),
        ("request.class == 'realtime' && request.class != 'batch'", true),
        ("request.input_tokens > 59999", true),
        ("59999 < request.input_tokens && request.input_tokens <= 60000", true),
        ("request.input_tokens >= 60000.5", false),
        ("request.input_tokens + 1 > 60 * 1000", true),
        ("request.input_tokens / request.images == 0", true),
        ("request.input_tokens % request.images == 0", true),
        ("9223372036854775807 + request.tools > 0", true),
        ("-request.tools == -2 && -2 < 0", true),
        ("request.deadline_ms / 1000 > 1.5 && request.deadline_ms - 0.5 == 1500", true),
        ("request.max_output_tokens == 0", true),
        ("request.model.startsWith('gpt-') && request.model.endsWith(\"120b\") && request.model.contains('oss')", true),
        ("size(request.tenant) == 4 && request.tenant.size() < 5", true),
        ("request.headers['X-Agent'] == 'voice' && request.headers.absent == ''", true),
        ("has(request.headers['x-empty']) && !has(request.headers.absent)", true),
        ("'x-agent' in request.headers && !('X-Absent' in request.headers)", true),
        ("request.tenant in ['acme', 'umbrella'] && !(request.tools in [1, 3])", true),
        ("request.tools in [2.0]", true),
        ("(request.stream ? request.tools : 9) == 2", true),
        ("(request.stream ? 'a' : request.tenant) == 'a'", true),
        ("(request.stream ? 1 : 2.5) < 2", true),
        ("request.stream ? request.tools > 1 : false", true),
        ("request.tenant < 'b' && 'b' >= 'a'", true),
        ("request.model == request.tenant", false),
        ("request.tools == 0x2 // tools", true),
        ("r'\\d' != '\\u0064' && 2u == 2", true),
    ] {
        check(text, expected);
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let check = |text: &str, key: Key, expected: &[(&str, &str)]| {
        let (checked, mut problems) = checked(text, key);
        problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
        let found: Vec<(&str, &str)> =
            problems.iter().map(|one| (&text[one.span.clone().unwrap_or(0..0)], one.message.as_str())).collect();
        assert_eq!(found, expected, "{text}");
        assert!(checked.is_none(), "{text}");
    };
    let route = |text: &str, expected: &[(&str, &str)]| check(text, ROUTE, expected);
    route("request.streem", &[("request.streem", "unknown field `request.streem`")]);
    route("stream", &[("stream", "unknown field `stream`")]);
    route("request", &[("request", "`request` is not a value")]);
    route("request.tenant.name == 'x'", &[("request.tenant.name", "unknown field `request.tenant.name`")]);
    route("request.tenant", &[("request.tenant", "the expression is a string, not true or false")]);
    route("request.headers", &[("request.headers", "the expression is a map, not true or false")]);
    route(
        "request.tools == 'x' || (request.a || request.stream + 1 > 2) && !request.tenant",
        &[
            ("request.tools == 'x'", "`==` cannot compare an integer with a string"),
            ("request.a", "unknown field `request.a`"),
            ("request.stream", "`+` is for numbers, not a boolean"),
            ("request.tenant", "what `!` negates must be true or false, not a string"),
        ],
    );
    route("request.headers.x-agent == 'v'", &[("agent", "unknown field `agent`")]);
    route(
        "request.headers[request.tenant] == 'v'",
        &[("request.tenant", "the name in brackets must be a literal string")],
    );
    route("request.tools > 1 / 0", &[("0", "division by zero")]);
    route("request.model.matches('a')", &[("matches", "unknown function `matches`")]);
    route("request.model.startWith('a')", &[("startWith", "unknown function `startWith`")]);
    route("request.model.startsWith(3)", &[("3", "what `startsWith` looks for must be a string, not an integer")]);
    route("request.model.contains()", &[("contains", "wrong arguments of `contains`")]);
    route("[1, 2].exists(x, x > 1)", &[("exists", "`exists` is not available: it loops")]);
    route("has(request.tenant)", &[("request.tenant", "`has` asks only for a header or a label")]);
    route("request.tools in []", &[("request.tools in []", "the list is empty, so this is never true")]);
    route("request.tools in ['a']", &[("'a'", "`in` compares an integer with something else")]);
    route(
        "request.tools in [request.images]",
        &[("request.images", "a list may hold only strings, numbers and booleans")],
    );
    route("'a' in request.model", &[("request.model", "`in` looks into a list, not into a string")]);
    route("request.api == 'chatt'", &[("'chatt'", "there is no api `chatt`")]);
    route("request.class in ['batch', 'bach']", &[("'bach'", "there is no class `bach`")]);
    route("request.tools == null", &[("null", "nothing here is ever `null`")]);
    route(
        "{'a': 1} == {'a': 1}",
        &[
            ("{'a': 1}", "maps cannot be written in an expression"),
            ("{'a': 1}", "maps cannot be written in an expression"),
        ],
    );
    route(
        "request.stream ? 1 : 'a'",
        &[("request.stream ? 1 : 'a'", "`?:` yields an integer or a string, which differ")],
    );
    route("pool.name == 'x'", &[("pool.name", "`pool.name` cannot be read before pools are chosen")]);
    check(
        "request.class == 'batch'",
        Key::ClassifyWhen,
        &[("request.class", "`request.class` is not known while it is decided")],
    );
    check("pool.hardware.kind == 'gppu'", Key::RoutePools, &[("'gppu'", "there is no hardware kind `gppu`")]);
    check("pool.hardware == 'gpu'", Key::RoutePools, &[("pool.hardware", "`pool.hardware` is not a value")]);
}

#[test]
fn text_that_is_no_expression_is_told_once() {
    let check = |text: &str, span: &str, message: &str| {
        let (_, problems) = checked(text, ROUTE);
        let found: Vec<_> =
            problems.iter().map(|one| (&text[one.span.clone().unwrap_or(0..0)], one.message.as_str())).collect();
        assert_eq!(found, [(span, message)], "{text}");
    };
    check("", "", "the expression is empty");
    check("  // nothing", "", "the expression is empty");
    check("request.stream &&", "&&", "the expression ends too early");
    check("request.stream & request.stream", "&", "unexpected `&`");
    check("request.tenant = 'a'", "=", "unexpected `=`");
    check("request.stream and request.stream", "and", "unexpected `and`");
    check("(request.stream", "stream", "the expression ends too early");
    check("request.stream)", ")", "unexpected `)`");
    check("request.tenant == 'a", "'a", "the string is not closed");
    check("request.tenant == 'é' && #", "#", "unexpected `#`");
    check("request.tenant ==\n 'é' && $x", "$", "unexpected `$`");
    check("if == 1", "if", "`if` is a reserved word");
    check("request.tools == 99999999999999999999", "99999999999999999999", "invalid int literal");
    check("request.tenant == '\\q'", "'\\q'", "unexpected `'\\q'`");
}

#[test]
fn operators_of_other_languages_are_told_all_at_once() {
    let text = "request.stream and request.tenant = 'a and b' or not request.stream";
    let (_, problems) = checked(text, ROUTE);
    let found: Vec<_> = problems.iter().map(|one| (one.span.clone(), one.help.as_deref())).collect();
    let said = |word: &str, ours| (text.find(word).map(|at| at..at + word.len()), Some(ours));
    let expected = [
        said("and", "did you mean `&&`?"),
        said("=", "did you mean `==`?"),
        said("or", "did you mean `||`?"),
        said("not", "did you mean `!`?"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn bounds_hold() {
    let refused = |text: &str| {
        let (checked, problems) = checked(text, ROUTE);
        assert!(
            checked.is_none() && problems.iter().all(|one| one.code == "expression-too-large"),
            "{text:.60}: {problems:?}"
        );
        assert_eq!(problems.len(), 1, "{text:.60}");
    };
    refused(&"(".repeat(4000));
    refused(&("(".repeat(9) + "true" + &")".repeat(9)));
    refused(&"true ? ".repeat(40));
    refused(&("true ? true : ".repeat(40) + "true"));
    refused(&("request.stream && ".repeat(200) + "true"));
    refused(&("1".to_owned() + &" + 1".repeat(200) + " > 1"));
    refused(&("a".to_owned() + &".a".repeat(2000)));
    refused(&"!".repeat(4000));
    refused(&"x".repeat(5000));
    assert!(checked(&("request.stream && ".repeat(50) + "true"), ROUTE).0.is_some());
    assert!(checked(&("(".repeat(8) + "request.stream" + &")".repeat(8)), ROUTE).0.is_some());
    assert!(checked(&("request.stream ? false : ".repeat(30) + "true"), ROUTE).0.is_some());
    assert!(checked(&("!".repeat(301) + "request.stream"), ROUTE).0.is_some());
}

/// No text makes the parser panic, and every problem has a place inside the text.
#[test]
fn mangled_expressions_do_no_harm() {
    const PIECES: [&str; 40] = [
        "request", ".", "stream", "headers", "[", "]", "\"x\"", "'", "\"", "(", ")", "&&", "||", "==", "!=", "<", ">=",
        "in", "+", "-", "*", "/", "%", "!", "?", ":", "1", "2.5", "0x", "1e", "u", "true", "null", "{", "}", ",",
        "has", "\\", "é", "`",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let valid =
        "request.stream && request.headers[\"x-agent\"] == 'voice' || size(request.model) > 3 ? true : 1 in [1]";
    for round in 0..4000 {
        let mut text: Vec<char> = if round % 2 == 0 { valid.chars().collect() } else { Vec::new() };
        for _ in 0..=next(12) {
            let piece = PIECES[next(PIECES.len())];
            let at = next(text.len() + 1);
            let end = (at + next(3)).min(text.len());
            text.splice(at..end, piece.chars());
        }
        let text: String = text.into_iter().collect();
        for key in [Key::ClassifyWhen, Key::RoutePools] {
            let (checked, problems) = checked(&text, key);
            assert!(checked.is_some() || !problems.is_empty(), "{text}");
            for problem in problems {
                let span = problem.span.unwrap_or(0..0);
                assert!(text.get(span.clone()).is_some(), "{text}: {span:?} {}", problem.message);
                assert!(!problem.message.contains("ContextAll"), "{text}: {}", problem.message);
            }
        }
    }
}

#[test]
fn places_point_through_toml_escapes() {
    let check = |file: &str, at: &str| {
        #[derive(serde::Deserialize)]
        struct File {
            when: Located<String>,
        }
        let mut report = Report::new(Source::new("p.toml", file));
        let parsed: File = toml::from_str(file).unwrap();
        super::check(&mut report, &parsed.when, Scope { key: ROUTE, classes: &[], pools: &[] }, &mut Trees::default());
        let spans: Vec<_> = report.iter().map(|one| &file[one.span.clone().unwrap()]).collect();
        assert_eq!(spans, [at], "{file}");
    };
    check("when = \"request.model == \\\"é\\\" && request.oops\"", "request.oops");
    check("when = '''\nrequest.stream\n  && request.oops'''", "request.oops");
    check("when = \"\"\"\\\n  request.stream \\\n   && request.oops\"\"\"", "request.oops");
    check("when = 'request.stream &&'", "&&");
    check("when = ''", "");
}

#[test]
fn the_table_of_fields_is_whole() {
    let names: Vec<&str> = fields().map(|field| field.name).collect();
    assert!(names.contains(&"request.class") && names.contains(&"pool.labels"));
    assert!(fields().all(|field| !field.doc.is_empty()));
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
    assert_eq!(HardwareKind::ALL.len(), 5);
}
