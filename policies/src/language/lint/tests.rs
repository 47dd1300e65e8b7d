//! Each lint: a mistake it tells, at its place and with its cause, and a near miss that it does not.

use super::super::{Source, compile};
use crate::fleet::{HardwareKind, ModelFacts, PoolFacts, Price, ServiceModel};

fn pool(name: &str, kind: HardwareKind, step_base_ms: f64, models: &[&str]) -> PoolFacts {
    let model = |name: &&str| ModelFacts { name: (*name).to_owned(), context: None, price: Price::default() };
    PoolFacts {
        name: name.to_owned(),
        site: "valley".to_owned(),
        vendor: "self".to_owned(),
        endpoints: vec![format!("{name}/10.0.0.1:8000"), format!("{name}/10.0.0.2:8000")],
        hardware: kind.as_str().to_owned(),
        kind,
        labels: [].into(),
        models: models.iter().map(model).collect(),
        service: ServiceModel {
            step_base_ms,
            step_per_sequence_ms: 0.0,
            step_per_kv_token_ns: 0.0,
            prefill_tokens_per_s: 1_000.0,
            fixed_ttft_ms: 20.0,
            slots: 64,
            kv_tokens: None,
            jitter_sigma: 0.0,
            tokens_per_event: 1.0,
            joules_per_output_token: None,
            power_kw: None,
            prefill_weight: 1.0,
        },
        round_trip_ms: 1.0,
        carbon_g_per_kwh: None,
        pue: 1.0,
        usd_per_kwh: None,
        power_cap_kw: None,
    }
}

fn told(text: &str) -> super::super::Report {
    let pools = [
        pool("wafer", HardwareKind::Wafer, 0.5, &["large"]),
        pool("gpu-east", HardwareKind::Gpu, 8.0, &["large", "small"]),
        pool("gpu-west", HardwareKind::Gpu, 8.0, &["large"]),
    ];
    let (policy, report) = compile(Source::new("policy.toml", text), &pools);
    assert!(policy.is_some(), "{report}");
    report
}

/// Checks which codes are told, at which text, with which other places.
#[track_caller]
fn check(text: &str, expected: &[(&str, &str, &[&str])]) {
    let report = told(text);
    let at = |span: &std::ops::Range<usize>| &text[span.clone()];
    let found: Vec<(&str, &str, Vec<&str>)> = report
        .iter()
        .map(|one| (one.code, one.span.as_ref().map_or("", at), one.also.iter().map(|(span, _)| at(span)).collect()))
        .collect();
    let expected: Vec<_> = expected.iter().map(|(code, at, also)| (*code, *at, also.to_vec())).collect();
    assert_eq!(found, expected, "\n{report}");
}

/// Rules of one class with these conditions, from the first to the last.
fn rules(conditions: &[&str]) -> String {
    let rule = |when: &&str| match *when {
        "" => "[[classify]]\nclass = 'standard'\n".to_owned(),
        when => format!("[[classify]]\nwhen = \"{when}\"\nclass = 'standard'\n"),
    };
    conditions.iter().map(rule).collect()
}

#[test]
fn rules_that_never_apply() {
    let dead = |conditions: &[&str], at: &str, also: &[&str]| {
        check(&rules(conditions), &[("never-applies", at, also)]);
    };
    let alive = |conditions: &[&str]| check(&rules(conditions), &[]);
    dead(&["", "request.stream"], "[[classify]]", &["[[classify]]"]);
    alive(&["request.stream", ""]);
    dead(&["request.stream", "request.stream"], "\"request.stream\"", &["\"request.stream\""]);
    alive(&["request.stream", "!request.stream"]);
    dead(
        &["request.input_tokens > 1000", "request.tools > 0", "request.input_tokens > 60000"],
        "\"request.input_tokens > 60000\"",
        &["\"request.input_tokens > 1000\""],
    );
    alive(&["request.input_tokens > 60000", "request.input_tokens > 1000"]);
    dead(
        &["request.tenant in ['a', 'b']", "request.stream && request.tenant == 'b'"],
        "\"request.stream && request.tenant == 'b'\"",
        &["\"request.tenant in ['a', 'b']\""],
    );
    alive(&["request.tenant in ['a', 'b']", "request.stream && request.tenant == 'c'"]);
    dead(
        &["request.path.startsWith('/v1/')", "request.path == '/v1/batches'"],
        "\"request.path == '/v1/batches'\"",
        &["\"request.path.startsWith('/v1/')\""],
    );
    alive(&["request.path.startsWith('/v1/b')", "request.path.startsWith('/v1/')"]);
    dead(
        &["request.stream", "request.tools > 2", "request.stream && request.images > 1 || request.tools > 5"],
        "\"request.stream && request.images > 1 || request.tools > 5\"",
        &["\"request.stream\"", "\"request.tools > 2\""],
    );
    alive(&["request.stream && request.tools > 2", "request.stream", "request.tools > 2"]);
    // A condition that is always true closes as well; one that is never true is told once.
    check(
        &rules(&["request.hour < 24", "request.stream"]),
        &[("always-true", "request.hour < 24", &[]), ("never-applies", "[[classify]]", &["\"request.hour < 24\""])],
    );
    check(&rules(&["request.hour > 24", "request.stream"]), &[("never-true", "request.hour > 24", &[])]);
}

#[test]
fn routes_that_never_apply() {
    let text = "[[route]]\nwhen = 'request.class != \"batch\"'\n[[route]]\nwhen = 'request.class == \"realtime\"'\n";
    check(text, &[("never-applies", "'request.class == \"realtime\"'", &["'request.class != \"batch\"'"])]);
    check(&text.replace("!=", "=="), &[]);
    check("[[route]]\n[[route]]\nwhen = 'request.stream'\n", &[("never-applies", "[[route]]", &["[[route]]"])]);
}

/// However many rules ask for a value of one field, the one that asks for it again is found.
#[test]
fn a_thousand_rules_hide_nothing() {
    let tenants: Vec<String> = (0..1000).map(|index| format!("request.tenant == 'tenant-{index}'")).collect();
    let mut conditions: Vec<&str> = tenants.iter().map(String::as_str).collect();
    check(&rules(&conditions), &[]);
    conditions.push("request.stream && request.tenant == 'tenant-7'");
    check(
        &rules(&conditions),
        &[(
            "never-applies",
            "\"request.stream && request.tenant == 'tenant-7'\"",
            &["\"request.tenant == 'tenant-7'\""],
        )],
    );
}

#[test]
fn conditions_that_are_no_use() {
    check(&rules(&["request.declared_class == 'batch'"]), &[("never-true", "request.declared_class == 'batch'", &[])]);
    check("[[route]]\nwhen = 'request.declared_class == \"batch\"'\n", &[]);
    check(
        "[[route]]\nwhen = 'request.tools > 3 && request.tools < 3'\n",
        &[("never-true", "request.tools < 3", &["request.tools > 3"])],
    );
    check("[[route]]\nwhen = 'request.model == \"lage\"'\n", &[("unknown-name", "\"lage\"", &[])]);
    check("[[route]]\nwhen = 'request.model.startsWith(\"lage\")'\n", &[]);
    check(
        "[[route]]\nwhen = 'request.stream'\npools = 'pool.busy < 0.0 || pool.name == \"wafer\"'\n",
        &[("never-true", "pool.busy < 0.0", &[])],
    );
}

#[test]
fn classes_that_nobody_gets() {
    let text = "[class.fast]\nttft_ms = 100\n[class.slow]\nttft_ms = 4000\n[class.standard]\nttft_ms = 400\n\
                [[classify]]\nwhen = 'request.stream'\nclass = 'fast'\n";
    check(text, &[("unused-class", "slow", &[])]);
    check(&format!("{text}[[classify]]\nwhen = 'request.tools > 0'\nclass = 'slow'\n"), &[]);
    check(&format!("{text}[[route]]\nwhen = 'request.class == \"slow\"'\n"), &[]);
    check(text.split_once("[[classify]]").unwrap().0, &[]);
}

#[test]
fn promises_that_nobody_can_keep() {
    // The wafer: 1 ms away, 20 ms fixed, 1 ms for a token of prompt, 0.5 ms for the first of the answer.
    check("[class.interactive]\nttft_ms = 22\n", &[("impossible-slo", "22", &[])]);
    check("[class.interactive]\nttft_ms = 22.5\n", &[]);
    check("[class.interactive]\nitl_ms = '400us'\n", &[("impossible-slo", "'400us'", &[])]);
    check("[class.interactive]\nitl_ms = 0.5\n", &[]);
    check("[class.interactive]\ndeadline_s = 0.02\n", &[("impossible-slo", "0.02", &[])]);
}

#[test]
fn fallbacks_that_add_nothing() {
    let gpu = "when = 'request.stream'\npools = 'pool.hardware.kind == \"gpu\"'\n";
    check(
        &format!("[[route]]\n{gpu}fallback = [{{ pools = 'pool.name == \"gpu-east\"' }}]\n"),
        &[("useless-fallback", "'pool.name == \"gpu-east\"'", &["'pool.hardware.kind == \"gpu\"'"])],
    );
    check(
        "[[route]]\nfallback = [{ pools = 'pool.name == \"gpu-east\"' }]\n",
        &[("useless-fallback", "'pool.name == \"gpu-east\"'", &["[[route]]"])],
    );
    check(
        "[[route]]\nwhen = 'request.stream'\npools = 'pool.busy < 0.5'\nfallback = [{ pools = 'pool.busy < 0.9' }, { pools = 'pool.busy < 0.4' }]\n",
        &[("useless-fallback", "'pool.busy < 0.4'", &["'pool.busy < 0.5'"])],
    );
    check(
        &format!(
            "[[route]]\n{gpu}exclude = 'pool.name == \"wafer\"'\nfallback = [{{ pools = 'pool.name == \"wafer\"' }}]\n"
        ),
        &[("useless-fallback", "'pool.name == \"wafer\"'", &["'pool.name == \"wafer\"'"])],
    );
    check(&format!("[[route]]\n{gpu}fallback = [{{ pools = 'pool.name != \"gpu-east\"' }}]\n"), &[]);
}

#[test]
fn routes_that_leave_no_pool() {
    let text = "[[route]]\npools = 'pool.hardware.kind == \"gpu\"'\nexclude = 'pool.name != \"wafer\"'\nwhen = 'request.stream'\n";
    check(text, &[("no-pool-left", "'pool.name != \"wafer\"'", &["'pool.hardware.kind == \"gpu\"'"])]);
    check(&text.replace("'pool.name != \"wafer\"'", "'pool.name == \"gpu-west\"'"), &[]);
}

#[test]
fn pins_that_pin_nothing() {
    let text = "[[route]]\nwhen = 'request.stream'\npools = 'pool.hardware.kind == \"gpu\"'\npin = ['gpu-east', 'wafer/10.0.0.1:8000']\n";
    check(text, &[("useless-pin", "'wafer/10.0.0.1:8000'", &["'pool.hardware.kind == \"gpu\"'"])]);
    check(&text.replace("wafer/10", "gpu-west/10"), &[]);
    check(
        "[[route]]\nwhen = 'request.stream'\nexclude = 'pool.name == \"wafer\"'\npin = ['gpu-east', 'wafer']\n",
        &[("useless-pin", "'wafer'", &["'pool.name == \"wafer\"'"])],
    );
}

#[test]
fn models_that_no_pool_of_the_route_serves() {
    let text = "[[route]]\nwhen = 'request.model == \"small\" && request.stream'\npools = 'pool.name == \"wafer\"'\n";
    let when = "'request.model == \"small\" && request.stream'";
    check(text, &[("model-not-served", when, &["'pool.name == \"wafer\"'"])]);
    check(&text.replace("small", "large"), &[]);
    check(&text.replace("request.model == \"small\" &&", "request.model == \"small\" ||"), &[]);
    check(&text.replace("== \"small\"", "in [\"small\", \"large\"]"), &[]);
}

#[test]
fn pools_that_no_route_leads_to() {
    let text = "[[route]]\nwhen = 'request.stream'\npools = 'pool.name == \"wafer\"'\n[[route]]\npools = 'pool.name == \"gpu-east\"'\n";
    check(text, &[("unreachable-pool", "'pool.name == \"gpu-east\"'", &[])]);
    check(&format!("{text}exclude = 'pool.name == \"gpu-west\"'\n"), &[]);
    check(&text.replace("[[route]]\npools", "[[route]]\nwhen = 'request.tools > 0'\npools"), &[]);
    check(&text.replace("pool.name == \"gpu-east\"", "pool.name != \"wafer\" || request.stream"), &[]);
}

/// What the operator sees.
#[test]
fn they_read_well() {
    insta::assert_snapshot!(
        told(
            r#"
[class.realtime]
ttft_ms = 20
[class.forgotten]
ttft_ms = 900
[class.standard]
ttft_ms = 4000

[[classify]]
when = 'request.stream && request.input_tokens < 2000'
class = "realtime"
[[classify]]
when = 'request.stream && request.tenant == "acme" && request.input_tokens <= 500'
class = "standard"
[[classify]]
when = 'request.hour > 25 || (request.tools > 4 && request.tools < 2)'
class = "standard"

[[route]]
name = "small-ones"
when = 'request.model == "small"'
pools = 'pool.hardware.kind == "wafer"'
[[route]]
name = "default"
pools = 'pool.name == "gpu-east"'
pin = ["gpu-west"]
fallback = [{ pools = 'pool.name in ["gpu-east"]' }]
[[route]]
when = 'request.stream'
"#
        )
        .render(false)
    );
}
