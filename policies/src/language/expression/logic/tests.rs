//! Reasoning about conditions: what is seen, what is not, and that no claim is ever false.

use proptest::prelude::*;

use super::super::{Checked, Key, Scope, Trees, check_text};
use crate::facts::{Api, Facts, OwnedFacts};
use crate::policy::Env;

const CLASSES: [&str; 3] = ["realtime", "standard", "batch"];

fn checked(text: &str) -> Checked {
    let classes = CLASSES.map(str::to_owned);
    let mut problems = Vec::new();
    let checked = check_text(
        text,
        Scope { key: Key::RouteWhen, classes: &classes, pools: &[] },
        &mut Trees::default(),
        &mut problems,
    );
    checked.unwrap_or_else(|| panic!("{text}: {problems:?}"))
}

#[test]
fn implications_are_seen() {
    #[track_caller]
    fn check(narrow: &str, wide: &str, expected: bool) {
        assert_eq!(checked(wide).logic.follows_from(&checked(narrow).logic), expected, "{narrow} => {wide}");
    }
    for (narrow, wide) in [
        ("request.tokens > 60000", "request.tokens > 1000"),
        ("request.tokens >= 1001", "request.tokens > 1000"),
        ("request.tokens > 1000.5", "1001 <= request.tokens"),
        ("request.tokens in [3, 5]", "request.tokens > 2 && request.tokens < 6"),
        ("request.stream && request.tools > 0", "request.stream"),
        ("request.stream", "request.stream || request.tools > 0"),
        ("request.stream && request.tools > 3", "request.tools > 1 || request.images > 1"),
        ("request.tenant == 'a'", "request.tenant in ['a', 'b']"),
        ("request.tenant == 'a'", "request.tenant != 'b'"),
        ("request.tenant in ['a', 'b']", "request.tenant == 'b' || request.tenant == 'a'"),
        ("request.path.startsWith('/v1/batches')", "request.path.startsWith('/v1/')"),
        ("request.path.startsWith('/v1/batches')", "request.path.contains('batch')"),
        ("request.path == '/v1/batches'", "request.path.endsWith('batches')"),
        ("request.path.startsWith('/a')", "!request.path.startsWith('/b')"),
        ("request.headers['X-A'] == 'v'", "has(request.headers['x-a'])"),
        ("request.headers.x == 'v'", "'X' in request.headers"),
        ("!has(request.headers.x)", "request.headers.x == ''"),
        ("request.api == 'chat'", "request.api in ['chat', 'completions']"),
        ("request.api != 'chat'", "request.api in ['embeddings', 'completions']"),
        ("request.class != 'batch' && request.class != 'standard'", "request.class == 'realtime'"),
        ("request.hour >= 22", "request.hour >= 22 || request.hour < 6"),
        ("request.hour == 3", "request.hour >= 22 || request.hour < 6"),
        ("!(request.stream && request.tools > 0)", "!request.stream || request.tools == 0"),
        ("request.stream == true", "request.stream != false"),
        ("request.stream ? request.tools > 3 : request.tools > 5", "request.tools > 3"),
        ("request.input_tokens + request.output_tokens > 9", "request.input_tokens + request.output_tokens >= 10"),
        ("size(request.tenant) > 3", "size(request.tenant) > 0"),
        ("request.deadline_ms > 10", "request.deadline_ms >= 10.5 || request.deadline_ms < 11"),
        ("request.tenant < 'b' && request.stream", "request.tenant < 'b'"),
    ] {
        let full = |text: &str| text.replace("request.tokens", "request.input_tokens");
        check(&full(narrow), &full(wide), true);
    }
    for (narrow, wide) in [
        ("request.tokens > 1000", "request.tokens > 60000"),
        ("request.tokens > 1000", "request.tokens >= 1002"),
        ("request.stream", "request.stream && request.tools > 0"),
        ("request.stream || request.tools > 0", "request.stream"),
        ("request.tenant in ['a', 'b']", "request.tenant == 'a'"),
        ("request.tenant != 'b'", "request.tenant == 'a'"),
        ("request.path.startsWith('/v1/')", "request.path.startsWith('/v1/batches')"),
        ("request.path.contains('a')", "request.path.startsWith('a')"),
        ("has(request.headers.x)", "request.headers.x != ''"),
        ("request.headers.x == ''", "!has(request.headers.x)"),
        ("request.api != 'chat'", "request.api == 'embeddings'"),
        ("!(request.deadline_ms > 10)", "request.deadline_ms <= 10"), // not-a-number is neither
        ("request.tenant < 'b'", "request.tenant < 'c'"),             // true, and beyond this
    ] {
        let full = |text: &str| text.replace("request.tokens", "request.input_tokens");
        check(&full(narrow), &full(wide), false);
    }
}

#[test]
fn what_is_no_use_is_doubted_at_its_place() {
    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let doubts = checked(text).doubts;
        let found: Vec<_> = doubts.iter().map(|one| (one.code, &text[one.span.clone().unwrap()])).collect();
        assert_eq!(found, expected, "{text}");
    }
    check("request.hour > 25 || request.stream", &[("never-true", "request.hour > 25")]);
    check("request.hour >= 0", &[("always-true", "request.hour >= 0")]);
    check("request.tools == 2.5", &[("never-true", "request.tools == 2.5")]);
    check("request.tools < 0 && request.stream", &[("never-true", "request.tools < 0")]);
    check("request.stream && !request.stream", &[("never-true", "!request.stream")]);
    check("request.stream || !request.stream", &[("always-true", "!request.stream")]);
    check("request.tools > 5 && request.stream && request.tools < 3", &[("never-true", "request.tools < 3")]);
    check("request.tenant != 'a' || request.tenant != 'b'", &[("always-true", "request.tenant != 'b'")]);
    check("request.tenant == 'a' && request.tenant == 'b'", &[("never-true", "request.tenant == 'b'")]);
    check("request.hour < 12 || request.hour >= 12", &[("always-true", "request.hour >= 12")]);
    check(
        "request.path.startsWith('/a') && request.path.startsWith('/b')",
        &[("never-true", "request.path.startsWith('/b')")],
    );
    check(
        "request.api in ['chat', 'completions', 'embeddings']",
        &[("always-true", "request.api in ['chat', 'completions', 'embeddings']")],
    );
    for sound in [
        "request.hour > 22 || request.hour < 6",
        "request.hour >= 22 && request.hour != 23",
        "request.tools > 2 && request.tools < 4",
        "request.stream || !request.stream && request.tools > 0",
        "request.deadline_ms > 0 && request.deadline_ms < 1",
        "true",
        "false && request.stream",
        "request.path.startsWith('/v1') && request.path.startsWith('/v1/')",
        "request.weekday > 5 || request.hour < 8 || request.hour >= 18",
    ] {
        check(sound, &[]);
    }
}

const ATOMS: [&str; 38] = [
    "request.stream",
    "request.stream == false",
    "request.input_tokens > 3",
    "request.input_tokens >= 4",
    "request.input_tokens < 2.5",
    "2 <= request.input_tokens",
    "request.input_tokens == 3",
    "request.input_tokens != 3",
    "request.input_tokens in [1, 3, 4.5]",
    "request.hour < 1",
    "request.hour > 30",
    "request.tools + request.images > 2",
    "request.tools + request.images <= 2",
    "request.tools * 0.5 >= 1",
    "-request.tools < -1",
    "request.deadline_ms > 2",
    "request.deadline_ms <= 2.0",
    "request.deadline_ms == 0",
    "request.tenant == 'a'",
    "request.tenant != 'ab'",
    "request.tenant in ['a', 'b', '']",
    "request.tenant.startsWith('a')",
    "request.tenant.startsWith('ab')",
    "request.tenant.endsWith('b')",
    "request.tenant.contains('b')",
    "request.tenant < 'b'",
    "request.tenant == request.model",
    "size(request.tenant) > 1",
    "size(request.tenant) == 1",
    "request.headers['x-a'] == 'a'",
    "request.headers.x == ''",
    "has(request.headers.x)",
    "'X' in request.headers",
    "request.headers.x.startsWith('a')",
    "request.api == 'chat'",
    "request.api in ['completions', 'chat']",
    "request.class != 'batch'",
    "request.class == 'realtime'",
];

fn condition() -> impl Strategy<Value = String> {
    let atom = proptest::sample::select(&ATOMS[..]).prop_map(str::to_owned);
    atom.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) == ({b}))")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

fn word() -> impl Strategy<Value = String> {
    proptest::sample::select(&["", "a", "b", "ab", "abb", "ba", "c"][..]).prop_map(str::to_owned)
}

fn facts() -> impl Strategy<Value = (OwnedFacts, &'static str)> {
    let numbers = (0_u64..6, 0_u64..4, 0_u64..4, 0_u64..200_000);
    let deadline = proptest::sample::select(&[0.0, 1.0, 2.0, 2.5, -0.0, -1.0, f64::NAN, f64::INFINITY][..]);
    let headers = proptest::collection::vec((proptest::sample::select(&["x", "x-a"][..]), word()), 0..3);
    let api = proptest::sample::select(&Api::ALL[..]);
    let class = proptest::sample::select(&CLASSES[..]);
    (numbers, deadline, headers, api, class, any::<bool>(), word(), word()).prop_map(
        |((input_tokens, tools, images, unix_s), deadline_ms, headers, api, class, stream, tenant, model)| {
            let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let deadline_ms = Some(deadline_ms);
            let facts = OwnedFacts {
                input_tokens,
                tools,
                images,
                unix_s,
                deadline_ms,
                headers,
                api,
                stream,
                tenant,
                model,
                ..OwnedFacts::of(&Facts::plain(api, ""), [])
            };
            (facts, class)
        },
    )
}

fn holds(checked: &Checked, (facts, class): &(OwnedFacts, &str)) -> bool {
    let facts = facts.facts();
    checked.condition.holds(&Env { facts: &facts, class, pool: None, load: None, utc_offset_s: 0 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_claim_is_false(
        narrow in condition(),
        wide in condition(),
        requests in proptest::collection::vec(facts(), 24),
    ) {
        let joined = format!("({narrow}) && ({wide})");
        let either = format!("({wide}) || ({narrow})");
        let all = [narrow, wide, joined, either].map(|text| (checked(&text), text));
        for (one, text) in &all {
            for request in &requests {
                prop_assert!(!one.logic.yes.is_empty() || !holds(one, request), "{text} is said to be never true");
                prop_assert!(!one.logic.no.is_empty() || holds(one, request), "{text} is said to be always true");
            }
            for (other, wider) in &all {
                let broken = requests.iter().find(|request| holds(one, request) && !holds(other, request));
                if other.logic.follows_from(&one.logic) {
                    prop_assert!(broken.is_none(), "{text} is said to imply {wider}: {broken:?}");
                }
            }
        }
    }
}

/// The property above is worth something only if claims are made.
#[test]
fn most_true_implications_between_plain_conditions_are_seen() {
    let all: Vec<Checked> = ATOMS.iter().map(|text| checked(text)).collect();
    let seen = all.iter().flat_map(|one| all.iter().map(move |two| two.logic.follows_from(&one.logic)));
    let count = seen.filter(|seen| *seen).count();
    assert!(count >= ATOMS.len() + 20, "only {count} of {} pairs", ATOMS.len() * ATOMS.len());
}
