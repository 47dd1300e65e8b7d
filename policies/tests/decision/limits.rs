//! Bounds on all requests together, and prices that count as more or less than they are.

use pointsman_policies::decide::{Decision, Request, decide};
use pointsman_policies::explain::{Explanation, Given, Style};
use pointsman_policies::filter::Rejection;
use pointsman_policies::fleet::{EndpointState, Fleet, PoolFacts, Window};
use pointsman_policies::language::{Source, compile};
use pointsman_policies::learned::Learned;
use pointsman_policies::policy::{ClassId, Policy};
use pointsman_policies::price::{BudgetUse, Period, PoolPrice, Used};
use pointsman_policies::refusal::Refusal;

use crate::world::{BATCH, INTERACTIVE, STANDARD, busy, facts, gpu, wafer};

const GPU: usize = 0;
const WAFER: usize = 1;

/// Two GPUs of `own` and a wafer of `acme`, at one site.
fn pools() -> [PoolFacts; 2] {
    let at_site = |pool: PoolFacts, vendor: &str, endpoints: &[&str]| PoolFacts {
        site: "valley".to_owned(),
        vendor: vendor.to_owned(),
        endpoints: endpoints.iter().map(|name| (*name).to_owned()).collect(),
        ..pool
    };
    [at_site(gpu(), "own", &["gpu/a:1", "gpu/b:1"]), at_site(wafer(), "acme", &["wafer/c:1"])]
}

fn policy(text: &str) -> Policy {
    let (policy, report) = compile(Source::new("policy.toml", text), &pools());
    policy.unwrap_or_else(|| panic!("{}", report.render(false)))
}

fn idle() -> Vec<EndpointState> {
    vec![EndpointState::idle(GPU), EndpointState::idle(GPU), EndpointState::idle(WAFER)]
}

fn decided(text: &str, class: ClassId, learned: &Learned, endpoints: &[EndpointState], draw: u64) -> Decision {
    let (policy, pools) = (policy(text), pools());
    let fleet = Fleet { learned, ..Fleet::new(&pools, endpoints) };
    decide(&Request::new(&policy, &facts(), class), fleet, draw)
}

fn reasons(decision: &Decision) -> Vec<&'static str> {
    decision.candidates.iter().map(|one| one.verdict.err().map_or("-", Rejection::as_str)).collect()
}

#[test]
fn a_vendor_serves_no_more_than_its_share_of_what_was_counted_and_is_in_flight() {
    let text = "[limits]\nvendor_share = { acme = 0.6 }\n";
    let used =
        |tokens: [f64; 2]| Learned { used: Used { tokens: tokens.to_vec(), budget: None }, ..Learned::default() };
    let check = |tokens, endpoints: &[EndpointState], expected: &str| {
        let decision = decided(text, INTERACTIVE, &used(tokens), endpoints, 0);
        assert_eq!(reasons(&decision), ["-", "-", expected], "{tokens:?}");
    };
    check([50_000.0, 50_000.0], &idle(), "-");
    check([40_000.0, 60_000.0], &idle(), "vendor-share");
    // 59,000 + 1,101 of 100,101 tokens are 60.04 %; what the GPUs have in flight makes it less.
    check([40_000.0, 59_000.0], &idle(), "vendor-share");
    check([40_000.0, 59_000.0], &[busy(GPU, 2), EndpointState::idle(GPU), EndpointState::idle(WAFER)], "-");
    check([0.0, 0.0], &idle(), "-");
    let decision = decided(text, INTERACTIVE, &used([40_000.0, 60_000.0]), &idle(), 0);
    let Some(Err(Rejection::VendorShare { share, allowed })) = decision.candidates.last().map(|last| last.verdict)
    else {
        panic!("{decision:?}")
    };
    assert!((share - 61_101.0 / 101_101.0).abs() < 1e-9 && allowed == 0.6, "{share}");
}

#[test]
fn a_site_is_asked_for_no_more_than_it_may_draw() {
    // With PUE a GPU draws 4.5 kW idle, 11.25 while it decodes, 15 in prefill; of the wafer nothing is known.
    let text = "[limits]\nsite_power_kw = { valley = 20 }\n";
    let nothing = Learned::default();
    assert_eq!(reasons(&decided(text, INTERACTIVE, &nothing, &idle(), 0)), ["-"; 3]);
    let at_work = [busy(GPU, 1), EndpointState::idle(GPU), EndpointState::idle(WAFER)];
    let decision = decided(text, INTERACTIVE, &nothing, &at_work, 0);
    assert_eq!(reasons(&decision), ["-", "power", "-"], "who works already hardly draws more");
    let expected = Rejection::Power { kw: 26.25, allowed_kw: 20.0 };
    assert_eq!(decision.candidates[1].verdict, Err(expected));
    // Where the gateway holds requests, they wait for power.
    let window = Some(Window { requests: 8, prefill_tokens: 10_000 });
    let held = at_work.map(|state| EndpointState { window, ..state });
    let decision = decided(text, INTERACTIVE, &nothing, &held, 0);
    let scored = decision.candidates[1].verdict.expect("it may wait");
    assert!(!scored.room && scored.estimate.wait_ms > 500.0, "{scored:?}");
    // What can never be powered is not waited for.
    let decision = decided("[limits]\nsite_power_kw = { valley = 15 }\n", INTERACTIVE, &nothing, &held, 0);
    assert_eq!(reasons(&decision), ["power", "power", "-"]);
}

fn pressed(spent_usd: f64, lambda: f64) -> Learned {
    let budget = BudgetUse { period: Period::Day, usd: 10.0, spent_usd, lambda, ends_in_ms: 7_200_000.0 };
    Learned { used: Used { budget: Some(budget), tokens: Vec::new() }, ..Learned::default() }
}

/// How many of a hundred draws give way.
fn give_way(text: &str, class: ClassId, learned: &Learned) -> usize {
    let draws = (0..100_u64).map(|draw| draw.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let reasons = draws.map(|draw| reasons(&decided(text, class, learned, &idle(), draw)));
    reasons.filter(|reasons| reasons.contains(&"budget")).count()
}

#[test]
fn sheddable_classes_give_way_to_a_budget_in_their_order_then_the_rest_goes_to_the_cheapest_the_urgent_last() {
    let text = "[class.voice]\nttft_ms = 300\n[class.reader]\nttft_ms = 1000\nitl_ms = 50\n\
        [class.job]\ndeadline_s = 600\nsheddable = true\nshed_order = 2\n\
        [class.backfill]\ndeadline_s = 600\nsheddable = true\nshed_order = 1\n[limits]\nusd_per_day = 10\n";
    let [voice, reader, job, backfill] = [0, 1, 2, 3].map(ClassId);
    let check = |lambda: f64, expected: [std::ops::RangeInclusive<usize>; 4]| {
        for (class, expected) in [backfill, job, reader, voice].into_iter().zip(expected) {
            let count = give_way(text, class, &pressed(5.0, lambda));
            assert!(expected.contains(&count), "{class:?} at {lambda}: {count} of 100");
        }
    };
    check(0.0, [0..=0, 0..=0, 0..=0, 0..=0]);
    check(0.5, [35..=65, 0..=0, 0..=0, 0..=0]);
    check(1.5, [100..=100, 35..=65, 0..=0, 0..=0]);
    check(2.5, [100..=100, 100..=100, 35..=65, 0..=0]);
    check(4.0, [100..=100, 100..=100, 100..=100, 100..=100]);
    let refused = decided(text, backfill, &pressed(5.0, 1.0), &idle(), 0);
    assert_eq!((refused.plan.as_ref(), reasons(&refused)), (None, vec!["budget"; 3]));
    let refusal = Refusal::of(&refused, &policy(text), &pools()).expect("it is refused");
    assert_eq!((refusal.code(), refusal.retry_in_ms()), ("over_budget", Some(15_000.0)));
    let cheaper = decided(text, reader, &pressed(5.0, 3.0), &idle(), 0);
    assert_eq!(reasons(&cheaper), ["-", "-", "budget"]);
}

#[test]
fn who_gives_way_to_a_budget_goes_to_the_lowest_price_however_long_it_takes_there() {
    // So long a wait at the GPUs, and so much owed for the wafer, that the wafer counts as cheaper.
    let owed = PoolPrice::of(0.5, 0.0, [0.0, 0.0], 0.0);
    let pressed = |lambda| Learned { prices: vec![PoolPrice::default(), owed], ..pressed(5.0, lambda) };
    let crowded = [busy(GPU, 60), busy(GPU, 60), EndpointState::idle(WAFER)];
    let text = "[limits]\nusd_per_day = 10\n";
    let before = decided(text, INTERACTIVE, &pressed(0.0), &crowded, 0);
    let usd = |index: usize| before.candidates[index].verdict.map_or(0.0, |scored| scored.effective_usd);
    assert!(usd(0) > usd(2) && usd(1) > usd(2), "{:?}", [0, 1, 2].map(usd));
    assert_eq!(reasons(&decided(text, INTERACTIVE, &pressed(4.0), &crowded, 0)), ["-", "-", "budget"]);
}

#[test]
fn what_is_used_up_is_told_with_its_end_and_refuses_all_where_the_policy_says_so() {
    let text = "[limits]\nusd_per_day = 10\n";
    let up = pressed(10.0, 0.0);
    let batch = decided(text, BATCH, &up, &idle(), 0);
    let refusal = Refusal::of(&batch, &policy(text), &pools()).expect("it is refused");
    assert_eq!(refusal.retry_in_ms(), Some(7_200_000.0));
    assert_eq!(
        batch.candidates[0].verdict.map_err(|reason| reason.to_string()),
        Err("the $10.00 for this day are used up".to_owned())
    );
    assert_eq!(reasons(&decided(text, STANDARD, &up, &idle(), 0)), ["-", "-", "budget"]);
    let strict = "[limits]\nusd_per_day = 10\nover_budget = \"refuse\"\n";
    assert_eq!(reasons(&decided(strict, STANDARD, &up, &idle(), 0)), ["budget"; 3]);
    assert_eq!(reasons(&decided(strict, STANDARD, &pressed(9.0, 3.0), &idle(), 0)), ["-", "-", "budget"]);
}

fn explained(text: &str, prices: [PoolPrice; 2]) -> String {
    let learned = Learned { prices: prices.to_vec(), ..Learned::default() };
    let (policy, pools, endpoints) = (policy(text), pools(), idle());
    let mut pools = pools;
    pools[GPU].usd_per_kwh = Some(0.12);
    pools[GPU].carbon_g_per_kwh = Some(300.0);
    let fleet = Fleet { learned: &learned, ..Fleet::new(&pools, &endpoints) };
    Explanation::of(&Given { policy: &policy, facts: &facts(), fleet, draw: 0 }).render(Style::default())
}

#[test]
fn what_is_owed_anyway_goes_first_and_the_page_says_why() {
    let owed = PoolPrice::of(0.98, 0.12, [0.0, 0.0], 0.0);
    let scarce = PoolPrice::of(0.0, 0.0, [0.25, 0.0], 1e-7);
    let page = explained("[limits]\nusd_per_tonne_co2 = 80\n", [scarce, owed]);
    insta::assert_snapshot!(page);
}
