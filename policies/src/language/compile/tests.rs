//! Policies: what they become, and what is told of those that cannot be used.

use super::super::diagnostic::DiagnosticRecord;
use super::*;
use crate::facts::{Api, Facts};
use crate::fleet::{HardwareKind, ServiceModel};
use crate::policy::{Env, Objective, PoolSelector};

fn pool(name: &str, kind: HardwareKind) -> PoolFacts {
    PoolFacts {
        name: name.to_owned(),
        site: "valley".to_owned(),
        vendor: "self".to_owned(),
        endpoints: vec![format!("{name}/10.0.0.1:8000"), format!("{name}/10.0.0.2:8000")],
        hardware: "h100".to_owned(),
        kind,
        labels: [("tier".to_owned(), "gold".to_owned())].into(),
        models: Vec::new(),
        service: ServiceModel {
            step_base_ms: 10.0,
            step_per_sequence_ms: 0.1,
            step_per_kv_token_ns: 1.0,
            prefill_tokens_per_s: 10_000.0,
            fixed_ttft_ms: 10.0,
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

fn pools() -> Vec<PoolFacts> {
    vec![pool("wafer", HardwareKind::Wafer), pool("gpu-east", HardwareKind::Gpu), pool("gpu-west", HardwareKind::Gpu)]
}

fn told(text: &str) -> String {
    let (policy, report) = compile(Source::new("policy.toml", text), &pools());
    assert_eq!(policy.is_some(), !report.has_errors());
    report.render(false)
}

fn sound(text: &str) -> Policy {
    let (policy, report) = compile(Source::new("policy.toml", text), &pools());
    policy.unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn an_empty_file_is_a_sensible_policy() {
    let policy = sound("");
    insta::assert_debug_snapshot!(policy);
}

#[test]
fn five_mistakes_are_five_diagnostics_at_the_character() {
    let text = r#"name = "balanced"

[class.realtime]
ttft_mss = 300
itl_ms = "10"

[class.batch]
deadline_s = 600

[[classify]]
when = 'request.path == "/v1/batches" || request.service_tier == "flex"'
class = "bacth"

[[classify]]
when = 'request.stream && request.headers["x-agent"] = "voice"'
class = "realtime"

[[route]]
name = "long-prompts"
when = "request.input_token > 60000 && \"é\" == request.model"
pools = 'pool.hardware.kind == "gpu"'
"#;
    let report = compile(Source::new("policy.toml", text), &pools()).1;
    let place = |one: &DiagnosticRecord| one.place.map(|place| (place.line, place.column));
    let places: Vec<_> = report.records().iter().map(|one| (one.code, place(one))).collect();
    assert_eq!(
        places,
        [
            ("unknown-key", Some((4, 1))),
            ("no-unit", Some((5, 10))),
            ("unknown-class", Some((12, 9))),
            ("expression-syntax", Some((15, 54))),
            ("unknown-field", Some((20, 9))),
        ]
    );
    insta::assert_snapshot!(report.render(false));
}

#[test]
fn mistakes_of_meaning_are_told() {
    insta::assert_snapshot!(told(
        r#"
default_class = "fast"
[class.fast]
ttft_ms = 100
target = 1.0
[class."slow lane"]
[[classify]]
class = "slow lane"
[[classify]]
when = 'request.class == "fast"'
class = "fast"
[[route]]
name = "a"
when = 'request.class == "fats"'
pools = 'pool.hardware.kind == "gppu"'
objective = "fastst"
[[route]]
name = "a"
when = 'request.stream && voice && 3'
pools = 'pool.name == "gpu-eats" || pool.site == "hill"'
objective = "weights"
[[route]]
name = "c"
pools = 'pool.labels.tier == "silver"'
weights = { cost = 1 }
[[route]]
objective = "weights"
weights = { cost = 0, ttft = -1 }
when = 'pool.name == "gpu-east" && request.declared_class == "gold"'
"#
    ));
}

#[test]
fn warnings_do_not_hinder() {
    let text = r#"
[class.calm]
[[classify]]
class = "calm"
[[classify]]
when = "request.stream"
class = "calm"
[[route]]
[[route]]
when = 'request.declared_class == "clam"'
objective = "fastest"
"#;
    insta::assert_snapshot!(told(text));
    let policy = sound(text);
    assert_eq!(policy.routes.len(), 1, "what never applies is left out");
    assert_eq!(policy.routes[0].name, "route-1");
}

#[test]
fn objectives_and_weights_belong_together() {
    let check = |text: &str, expected: &str| {
        let report = compile(Source::new("policy.toml", format!("[[route]]\n{text}")), &pools()).1;
        assert_eq!(report.iter().map(|one| one.code).collect::<Vec<_>>().join(" "), expected, "{text}");
    };
    check("objective = 'weights'", "missing-weights");
    check("objective = 'weights'\nweights = {}", "zero-weights");
    check("objective = 'weights'\nweights = { cots = 1 }", "unknown-key");
    check("objective = 'weights'\nweights = 3", "wrong-type");
    check("objective = 'fastest'\nweights = { cost = 1 }", "unused-weights");
    check("objective = 'weights'\nweights = { cost = 1 }", "");
    let policy = sound("[[route]]\nobjective = 'weights'\nweights = { cost = 1, energy = 0.5 }");
    assert!(matches!(policy.routes[0].objective, Objective::Weights(w) if w.cost == 1.0 && w.energy == 0.5));
}

#[test]
fn selectors_that_read_no_request_are_decided_at_load() {
    let policy = sound(concat!(
        "[[route]]\nwhen = 'request.stream'\npools = 'pool.hardware.kind == \"gpu\"'\n",
        "[[route]]\nname = 'default'\nwhen = 'request.tools > 0'\n",
        "pools = 'request.input_tokens > 10 || pool.name == \"wafer\"'\n",
    ));
    assert!(matches!(&policy.routes[0].tiers[0], PoolSelector::Fixed(flags) if flags == &[false, true, true]));
    let PoolSelector::PerRequest(condition) = &policy.routes[1].tiers[0] else { panic!() };
    let pools = pools();
    for (tokens, index, expected) in [(5, 0, true), (5, 1, false), (11, 1, true)] {
        let facts = Facts { input_tokens: tokens, ..Facts::plain(Api::Completions, "m") };
        assert_eq!(
            condition.holds(&Env { facts: &facts, class: "", pool: Some(&pools[index]), load: None, utc_offset_s: 0 }),
            expected
        );
    }
    let names: Vec<_> = policy.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["route-1", "default", "otherwise"], "the last route always applies");
    assert!(policy.routes[2].when.is_none());
}

#[test]
fn classes_keep_the_order_of_the_file() {
    let policy = sound(concat!(
        "default_class = 'b'\n[class.z]\nttft_ms = 1\n[class.b]\nttft_ms = 2\npriority = 9\n",
        "[class.a]\ndeadline_s = 3\nsheddable = true\n",
    ));
    let classes: Vec<_> = policy.classes.iter().map(|class| (class.name.as_str(), class.priority)).collect();
    assert_eq!(classes, [("z", 2), ("b", 9), ("a", 0)]);
    assert_eq!(policy.classes[2].slo.deadline_ms, Some(3000.0));
}

#[test]
fn requests_that_no_rule_names_have_a_class() {
    let check = |text: &str, expected: [&str; 3]| {
        let policy = sound(text);
        let name = |id: ClassId| policy.classes[id.0].name.as_str();
        let builtin = policy.builtin;
        let found = [name(builtin.interactive), name(builtin.standard), name(builtin.batch)];
        assert_eq!(found, expected, "{text}");
    };
    check("", ["interactive", "standard", "batch"]);
    let four = "[class.a]\nttft_ms = 1\n[class.b]\nttft_ms = 1\n[class.c]\nsheddable = true\nttft_ms = 1\n";
    check(four, ["b", "b", "c"]);
    check(&format!("default_class = 'a'\n{four}"), ["a", "a", "a"]);
    check(&format!("{four}[class.standard]\nttft_ms = 1\n"), ["standard", "standard", "c"]);
    check("[class.only]\nsheddable = true\nttft_ms = 1", ["only", "only", "only"]);
}

#[test]
fn wrong_shapes_are_told_without_echoes() {
    insta::assert_snapshot!(told("name = ''\nclass = []\nclassify = [1]\n[route]\nobjective = 'purple'\n"));
    insta::assert_snapshot!(told(concat!(
        "[class.a]\npriority = 3000000000\ndeadline_s = inf\nttft_ms = 1e300\n[[classify]]\nname = 'no class'\n[[route]]\n",
        "when = \'\'\'\nrequest.stream\n && (request.tools + \"1\" > 2\n || request.model.exists(x, x))\'\'\'\n",
    )));
}

#[test]
fn new_keys_are_checked_like_the_old() {
    insta::assert_snapshot!(told(
        r#"
utc_offset = "2h"
[class.fast]
ttft_ms = "300msec"
itl_ms = "soon"
deadline_s = "0min"
shed_order = 1
[class.dear]
ttft_ms = "0.3s"
max_usd = 0
[[classify]]
when = 'request.slo_ttft_ms > "300ms" || request.hour > "9"'
class = "fast"
[[route]]
name = "a"
pools = 'pool.busy < 0.9'
exclude = 'pool.vendor == "slef"'
pin = ["gpu-east/10.0.0.3:8000", "gpu-west"]
spill = "slo-at-rsk"
fallback = [{ pools = 'pool.name == "waffer"' }, {}]
affinity = { by = "user", weight = 2 }
hedge = { after = "p100", budget = 0.02, class = "fats" }
retry = { attempts = 9, budget = 0.2 }
timeouts = { first_byte_ms = "5", total_s = 10 }
[[route]]
when = 'pool.ready > 1'
spill = "unavailable"
[limits]
pool_concurrency = { wafre = 3 }
vendor_share = { self = 1.5 }
site_power_kw = { vally = 900 }
usd_per_day = -1
[shadow]
policy = "candidate.toml"
sample = 0
[canary]
polcy = "candidate.toml"
by = "sesion"
rollback = { margin = 1.0 }
"#
    ));
}

#[test]
fn two_trials_at_once_are_refused() {
    insta::assert_snapshot!(told("[shadow]\npolicy = \"a.toml\"\n[canary]\npolicy = \"b.toml\"\n"));
}

#[test]
fn everything_a_route_can_say_is_understood() {
    let policy = sound(
        r#"
utc_offset = "-05:30"
[class.fast]
ttft_ms = "0.3s"
itl_ms = 10
deadline_s = "2min"
sheddable = true
shed_order = 3
max_usd = 0.02
[[route]]
pools = 'pool.hardware.kind == "gpu"'
exclude = 'pool.name == "gpu-west"'
pin = ["gpu-east/10.0.0.2:8000", "wafer"]
fallback = [{ pools = 'pool.name == "wafer" && request.headers["X-Plan"] == "gold"' }]
spill = "slo-at-risk"
affinity = { by = "header:X-User", homes = 1, weight = 0.25 }
retry = { attempts = 2 }
timeouts = { first_byte_ms = "1.5s", total_s = 90 }
[canary]
policy = "next.toml"
share = 0.1
by = "tenant"
tenants = ["acme"]
rollback = { margin = 0.01 }
"#,
    );
    insta::assert_debug_snapshot!(policy);
}
