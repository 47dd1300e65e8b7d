//! Explanations: of what was decided, nothing else, and in words that can be read.

use pointsman_policies::decide::{Request, decide};
use pointsman_policies::explain::{Considered, Explanation, Given, Style, consider};
use pointsman_policies::facts::Facts;
use pointsman_policies::fleet::{Availability, EndpointState, Fleet, PoolFacts};
use pointsman_policies::language::{Source, compile};
use pointsman_policies::policy::Policy;

use crate::world::{GPU, WAFER, busy, facts, gpu, leased, wafer, with};

const POLICY: &str = r#"
name = "shop"
[[classify]]
name = "voice"
when = 'request.stream && request.headers["x-agent"] == "voice"'
class = "realtime"
[[classify]]
name = "night"
when = 'request.tenant == "nightly" || request.headers["x-api-key"] == "sk-1"'
class = "batch"
[[route]]
name = "long"
when = 'request.input_tokens > 60000'
pools = 'pool.hardware.kind == "gpu"'
[[route]]
name = "chat"
when = 'request.class == "interactive"'
objective = "weights"
weights = { cost = 1, ttft = 0.5 }
affinity = { by = "session", homes = 1 }
fallback = [{ pools = 'pool.name == "wafer"' }]
pools = 'pool.name == "gpu"'
[[route]]
name = "default"
"#;

fn pools() -> [PoolFacts; 2] {
    let named = |pool: PoolFacts, names: &[&str]| PoolFacts {
        endpoints: names.iter().map(|name| (*name).to_owned()).collect(),
        ..pool
    };
    [named(gpu(), &["gpu/10.0.0.1:8000", "gpu/10.0.0.2:8000"]), named(wafer(), &["wafer/10.0.1.1:8443"])]
}

fn policy() -> Policy {
    let (policy, report) = compile(Source::new("policy.toml", POLICY), &pools());
    policy.unwrap_or_else(|| panic!("{report}"))
}

fn explain(facts: &Facts<'_>, endpoints: &[EndpointState]) -> Explanation {
    Explanation::of(&Given { policy: &policy(), facts, fleet: Fleet::new(&pools(), endpoints), draw: 7 })
}

/// Reads as text, within the width.
#[track_caller]
fn text(explanation: &Explanation) -> String {
    let text = explanation.render(Style::default());
    let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(long.is_empty(), "{long:?}");
    text
}

fn voice() -> Vec<(String, String)> {
    vec![("x-agent".to_owned(), "voice".to_owned()), ("x-api-key".to_owned(), "sk-other".to_owned())]
}

#[test]
fn a_choice_among_feasible_ones_reads_well() {
    let headers = voice();
    let facts = Facts { headers: &headers, max_output_tokens: Some(4_000), ..facts() };
    let endpoints = [busy(GPU, 3), with(Availability::Draining, busy(GPU, 1)), busy(WAFER, 0)];
    insta::assert_snapshot!(text(&explain(&facts, &endpoints)));
}

#[test]
fn weights_homes_and_tiers_read_well() {
    let facts = Facts { session: "s-1", tenant: "acme", tools: 2, ..facts() };
    let endpoints = [busy(GPU, 1), busy(GPU, 1), busy(WAFER, 0)];
    insta::assert_snapshot!(text(&explain(&facts, &endpoints)));
}

#[test]
fn an_attempt_that_may_begin_beside_the_first_is_told() {
    let source = Source::new("policy.toml", "[[route]]\nhedge = { after = \"200ms\" }\n");
    let pools = pools();
    let (policy, report) = compile(source, &pools);
    let policy = policy.unwrap_or_else(|| panic!("{report}"));
    let endpoints = [busy(GPU, 0), busy(GPU, 0), busy(WAFER, 0)];
    let given = Given { policy: &policy, facts: &facts(), fleet: Fleet::new(&pools, &endpoints), draw: 7 };
    let explanation = Explanation::of(&given);
    let hedge = explanation.plan.as_ref().and_then(|plan| plan.hedge.as_ref()).expect("it may be hedged");
    assert_eq!((hedge.pool.as_str(), hedge.after_ms), ("wafer", 200.0));
    let told = "beside 1 also wafer/10.0.1.1:8443 if nothing has come within 200 ms";
    assert!(text(&explanation).contains(told), "{}", text(&explanation));
}

#[test]
fn a_refusal_reads_well() {
    let facts = Facts { input_tokens: 80_000, stream: false, deadline_ms: Some(2_000.0), ..facts() };
    let endpoints = [
        with(Availability::BreakerOpen { retry_in_ms: 3_000.0 }, busy(GPU, 0)),
        leased(0.0, 10.0, false),
        busy(WAFER, 0),
    ];
    let explanation = explain(&facts, &endpoints);
    assert_eq!(explanation.refusal.as_ref().map(|refusal| refusal.code.as_str()), Some("saturated"));
    insta::assert_snapshot!(text(&explanation));
}

#[test]
fn what_no_pool_serves_reads_well_and_cannot_steer_a_terminal() {
    let facts = Facts { model: "\u{1b}[2Jgpt", ..facts() };
    let text = text(&explain(&facts, &[]));
    assert!(!text.contains('\u{1b}'), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn it_is_the_decision_itself() {
    let (policy, pools) = (policy(), pools());
    let headers = voice();
    for (draw, stream) in (0..16_u64).flat_map(|draw| [(draw << 32 | draw, false), (draw, true)]) {
        let facts = Facts { headers: &headers, stream, ..facts() };
        let endpoints = [busy(GPU, 2), busy(GPU, 2), busy(WAFER, 1)];
        let given = Given { policy: &policy, facts: &facts, fleet: Fleet::new(&pools, &endpoints), draw };
        let Considered::Decided(classified, considered) = consider(&given) else { panic!("refused") };
        let decision = decide(&Request::new(&policy, &facts, classified.class), given.fleet, draw);
        assert_eq!(considered.plan, decision.plan);
        let explanation = Explanation::of(&given);
        assert_eq!(explanation, Explanation::of(&given), "explaining has no memory");
        assert_eq!(explanation, Explanation::decided(&given, classified, &decision));
        let names: Vec<&String> = pools.iter().flat_map(|pool| &pool.endpoints).collect();
        let plan = decision.plan.map(|plan| plan.attempts).unwrap_or_default();
        let planned: Vec<&String> = plan.iter().map(|attempt| names[attempt.endpoint]).collect();
        let told: Vec<&String> =
            explanation.plan.iter().flat_map(|plan| &plan.attempts).map(|one| &one.endpoint).collect();
        assert_eq!(told, planned);
        for (candidate, reason) in decision.candidates.iter().zip(&explanation.candidates) {
            let scored = candidate.verdict.as_ref().ok();
            assert_eq!(reason.score, scored.map(|scored| scored.score));
            let sum: f64 = reason.terms.iter().map(|term| term.value).sum();
            assert!(reason.home || scored.is_none_or(|scored| (scored.score - sum).abs() < 1e-12), "{reason:?}");
        }
    }
}

#[test]
fn json_says_it_all_and_comes_back_the_same() {
    let headers = voice();
    let explanation = explain(&Facts { headers: &headers, ..facts() }, &[busy(GPU, 3), busy(GPU, 0), busy(WAFER, 0)]);
    let json = serde_json::to_string_pretty(&explanation).expect("it serialises");
    assert!(!json.contains("sk-other"), "a secret is shown: {json}");
    let back: Explanation = serde_json::from_str(&json).expect("it comes back");
    assert_eq!(text(&back), text(&explanation)); // all but the last digit of a float
    insta::assert_snapshot!(json);
}
