//! Scenarios that hold, that fail, and that make no sense.

use pointsman_policies::fleet::{EndpointState, Fleet, LeaseState, PoolFacts};
use pointsman_policies::language::{Report, Source, compile};
use pointsman_policies::policy::Policy;
use pointsman_policies::scenario::{self, Ran};

use crate::world::{gpu, wafer};

const POLICY: &str = r#"
[[classify]]
name = "voice"
when = 'request.stream && request.headers["x-agent"] == "voice"'
class = "realtime"
[[classify]]
name = "night"
when = 'request.hour < 6'
class = "batch"

[[route]]
name = "long"
when = 'request.input_tokens > 60000'
pools = 'pool.hardware.kind == "gpu"'
[[route]]
name = "default"
"#;

fn named(pool: PoolFacts, endpoints: &[&str]) -> PoolFacts {
    PoolFacts { endpoints: endpoints.iter().map(|name| (*name).to_owned()).collect(), ..pool }
}

fn pools() -> [PoolFacts; 2] {
    [named(gpu(), &["gpu/a:1", "gpu/b:1"]), named(wafer(), &["wafer/w:1"])]
}

fn policy(pools: &[PoolFacts]) -> Policy {
    let (policy, report) = compile(Source::new("policy.toml", POLICY), pools);
    policy.unwrap_or_else(|| panic!("{report}"))
}

fn run(text: &str) -> Ran {
    let pools = pools();
    let lease = LeaseState {
        requests: 9.0,
        tokens: 1e6,
        tokens_capacity: 1e6,
        requests_per_s: 0.1,
        tokens_per_s: 100.0,
        reserves_output: true,
    };
    let limited = EndpointState { lease: Some(lease), ..EndpointState::idle(1) };
    let endpoints = [EndpointState::idle(0), EndpointState::idle(0), limited];
    let fleet = Fleet::new(&pools, &endpoints);
    let (file, report) = scenario::parse(Source::new("a.scenarios.toml", text));
    match file {
        Some(file) => scenario::run(&file, report, &policy(&pools), fleet),
        None => Ran { report, scenarios: 0, held: 0 },
    }
}

#[track_caller]
fn holds(scenario: &str) {
    let Ran { report, held, .. } = run(&format!("[[scenario]]\nname = \"x\"\n{scenario}"));
    assert!(report.is_empty() && held == 1, "{report}");
}

/// The codes of what is said.
#[track_caller]
fn told(text: &str, expected: &[&str]) -> Report {
    let report = run(text).report;
    let codes: Vec<&str> = report.iter().map(|one| one.code).collect();
    assert_eq!(codes, expected, "{report}");
    report
}

#[test]
fn what_a_request_can_be_is_seen_by_the_policy() {
    holds(
        "request = { stream = true, headers = { X-Agent = 'voice' } }\nexpect = { class = 'realtime', rule = 'voice' }",
    );
    holds("request = { at = '05:59' }\nexpect = { class = 'batch', rule = 'night' }");
    holds("request = { at = '2026-09-15T05:59:00+02:00' }\nexpect.rule = 'night'");
    holds("expect = { class = 'standard', rule = 'whole-answer', route = 'default' }");
    holds("request = { input_bytes = 300_000 }\nexpect = { route = 'long', avoids = ['wafer'] }");
    holds("request = { headers = { x-pointsman-class = 'batch' } }\nexpect.rule = 'declared'");
    holds("request = { headers = { x-slo-ttft-ms = '250' } }\nexpect = { class = 'realtime', rule = 'declared-slo' }");
    holds("request = { path = '/v1/embeddings' }\nexpect = { class = 'batch', rule = 'patient-tier' }");
    holds("request = { model = 'other' }\nexpect.refusal = 'model_not_found'");
    holds("request = { declared_class = 'other' }\nexpect.refusal = 'unknown_class'");
    holds("request = { max_tokens = 200_000 }\nexpect.refusal = 'context_length_exceeded'");
}

#[test]
fn lists_mean_one_of_and_not_means_none_of() {
    holds("expect = { class = ['batch', 'standard'], pool = ['gpu', 'wafer'] }");
    holds("expect.not = { class = ['batch', 'realtime'], pool = 'wafer', refusal = 'saturated' }");
    told(
        "[[scenario]]\nname = 'x'\nexpect = { class = ['batch', 'realtime'], not = { pool = ['gpu', 'wafer'] } }",
        &["scenario-fails", "scenario-fails"],
    );
}

#[test]
fn the_fleet_is_as_described_and_idle_where_not() {
    let fleet = |states: &str, expect: &str| {
        let Ran { report, held, .. } =
            run(&format!("[fleet.f]\n{states}\n[[scenario]]\nname = \"x\"\nfleet = \"f\"\nexpect = {expect}"));
        assert!(report.is_empty() && held == 1, "{report}");
    };
    fleet("gpu = { in_flight = 40 }", "{ plan = ['wafer', 'gpu'] }");
    fleet("gpu = { availability = 'draining' }", "{ plan = ['wafer'], rejected = { gpu = 'draining' } }");
    fleet("gpu = { in_flight = 40 }\n\"gpu/b:1\" = { in_flight = 0 }", "{ endpoint = 'gpu/b:1' }");
    fleet("wafer = { tokens_left = 10 }", "{ rejected = { wafer = 'token-lease' } }");
    fleet(
        "gpu = { availability = 'breaker-open', retry_in_ms = '3s' }\nwafer = { availability = 'back-pressure' }",
        "{ refusal = 'saturated', not = { refusal = 'backends_unavailable' } }",
    );
}

#[test]
fn an_expectation_must_hold_for_every_draw() {
    let report = told("[[scenario]]\nname = 'x'\nexpect.endpoint = 'gpu/a:1'", &["scenario-fails"]);
    assert!(report.render(false).contains("got `gpu/b:1`"), "{report}");
    holds("expect.endpoint = ['gpu/a:1', 'gpu/b:1']");
}

#[test]
fn a_failed_scenario_says_what_came_and_why() {
    let report = told(FAILING, &["scenario-fails"; 7]);
    insta::assert_snapshot!(report.render(false));
}

const FAILING: &str = r#"[fleet.gone]
gpu = { availability = "draining" }

[[scenario]]
name = "the wafer is used for everything"
expect = { pool = "wafer", class = "realtime" }

[[scenario]]
name = "long prompts go to the wafer"
request = { input_tokens = 80_000 }
expect = { plan = ["gpu", "gpu", "wafer"], route = "default" }

[[scenario]]
name = "the gpus are gone"
fleet = "gone"
expect = { refusal = "backends_unavailable", rejected = { gpu = ["context", "price"] } }

[[scenario]]
name = "an unknown model is served"
request = { model = "lama" }
expect = { pool = "gpu" }
"#;

#[test]
fn what_makes_no_sense_is_told_at_its_place() {
    let report = run(SENSELESS).report;
    insta::assert_snapshot!(report.render(false));
}

const SENSELESS: &str = r#"[fleet.f]
gppu = { in_flight = 1 }
gpu = { tokens_left = 10, in_flght = 3 }
wafer = { availability = "broken", retry_in_ms = "5" }

[[scenario]]
name = "names"
fleet = "g"
request = { at = "9 o'clock", input_tokens = 5, input_bytes = 20, headers = { x-slo-ttft-ms = "soon" } }
expect = { class = "realtim", rule = "night-shift", plan = ["wafer", "cpu"], rejected = { gpu = "contxt" } }

[[scenario]]
name = "names"
expect = { refusal = "too_long", pools = "gpu", class = [] }

[[scenario]]
request = { stream = "yes" }
"#;

#[test]
fn a_file_that_shows_nothing_is_warned_of() {
    told("", &["no-scenarios"]);
    let scenarios = "[[scenario]]\nname = 'x'\nexpect = {}\n".repeat(scenario::MAX_SCENARIOS + 1);
    told(&scenarios, &["out-of-range"]);
}

#[test]
fn a_described_fleet_is_found_by_name() {
    let pools = pools();
    let endpoints = [EndpointState::idle(0), EndpointState::idle(0), EndpointState::idle(1)];
    let fleet = Fleet::new(&pools, &endpoints);
    let described = |text: &str, name: Option<&str>| {
        let (file, report) = scenario::parse(Source::new("a.scenarios.toml", text));
        let file = file.unwrap_or_else(|| panic!("{report}"));
        scenario::described(&file, name, fleet)
            .map(|endpoints| endpoints.iter().map(|one| one.in_flight).collect::<Vec<_>>())
    };
    let two = "[fleet.one]\ngpu = { in_flight = 3 }\n[fleet.two]\nwafer = { in_flight = 1 }";
    assert_eq!(described("[fleet.one]\ngpu = { in_flight = 3 }", None), Ok(vec![3, 3, 0]));
    assert_eq!(described(two, Some("two")), Ok(vec![0, 0, 1]));
    assert_eq!(described(two, Some("twoo")).unwrap_err(), "there is no fleet `twoo`; did you mean `two`?");
    assert!(described(two, None).unwrap_err().ends_with("there are: one, two"));
}
