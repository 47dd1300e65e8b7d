//! Pools of which not every endpoint is weighed: what is left out is what has more to do.

use pointsman_policies::decide::{Decision, Request, decide};
use pointsman_policies::facts::Facts;
use pointsman_policies::fleet::{Availability, Cached, EndpointState, Fleet, PoolFacts};
use pointsman_policies::home::name_hash;
use pointsman_policies::policy::{Objective, PoolSelector, Route};
use pointsman_policies::shortlist::{CACHED_PER_POOL, PATIENT_PER_POOL, WEIGHED_PER_POOL};

use crate::world::{GPU, INTERACTIVE, WAFER, busy, facts, gpu, policy, wafer, with};

/// A large pool of GPUs and a small one of wafers.
const GPUS: usize = 200;
const WAFERS: usize = 2;

fn large(pool: PoolFacts, size: usize) -> PoolFacts {
    let endpoints = (0..size).map(|port| format!("{}/a:{port}", pool.name)).collect();
    PoolFacts { endpoints, ..pool }
}

fn pools() -> [PoolFacts; 2] {
    [large(gpu(), GPUS), large(wafer(), WAFERS)]
}

/// GPUs by how much each has in flight, and idle wafers.
fn states(in_flight: impl Fn(usize) -> u32) -> Vec<EndpointState> {
    let gpus = (0..GPUS).map(|place| busy(GPU, in_flight(place)));
    gpus.chain((0..WAFERS).map(|_| EndpointState::idle(WAFER))).collect()
}

fn decided(facts: &Facts<'_>, endpoints: &[EndpointState], cached: &[Cached], draw: u64) -> Decision {
    let (pools, policy) = (pools(), policy(Objective::CheapestThatMeetsSlo));
    let fleet = Fleet { cached, ..Fleet::new(&pools, endpoints) };
    let decision = decide(&Request::new(&policy, facts, INTERACTIVE), fleet, draw);
    let names: Vec<u64> = pools.iter().flat_map(|pool| &pool.endpoints).map(|name| name_hash(name)).collect();
    let named = decide(&Request::new(&policy, facts, INTERACTIVE), Fleet { names: &names, ..fleet }, draw);
    assert_eq!(format!("{named:?}"), format!("{decision:?}"), "names at hand change nothing");
    let tokens = |place| cached.iter().find(|cached| cached.endpoint == place).map_or(0, |cached| cached.tokens);
    let states = (0..).zip(endpoints);
    let told: Vec<EndpointState> =
        states.map(|(place, state)| EndpointState { cached_tokens: tokens(place), ..*state }).collect();
    let again = decide(&Request::new(&policy, facts, INTERACTIVE), Fleet::new(&pools, &told), draw);
    assert_eq!(format!("{again:?}"), format!("{decision:?}"), "a record of it decides the same");
    decision
}

fn weighed(decision: &Decision) -> Vec<usize> {
    decision.candidates.iter().map(|candidate| candidate.endpoint).collect()
}

#[test]
fn those_with_the_least_to_do_are_weighed_and_all_of_a_small_pool() {
    // The least busy stand in the middle.
    let endpoints = states(|place| place.abs_diff(100) as u32);
    let decision = decided(&facts(), &endpoints, &[], 7);
    let found = weighed(&decision);
    assert_eq!(found.len(), WEIGHED_PER_POOL + WAFERS);
    let half = WEIGHED_PER_POOL / 2;
    assert!((101 - half..100 + half).all(|place| found.contains(&place)), "{found:?}");
    assert!((GPUS..GPUS + WAFERS).all(|place| found.contains(&place)), "{found:?}");
    let first = decision.plan.unwrap().attempts[0].endpoint;
    assert!(first.abs_diff(100) < half, "{first}");
}

#[test]
fn machines_full_of_the_patient_are_weighed_beside_the_least_busy() {
    let mut endpoints = states(|place| 1 + place as u32 / 50);
    for state in &mut endpoints[150..170] {
        state.strictest_itl_ms = Some(500.0);
    }
    endpoints[..150].iter_mut().for_each(|state| state.strictest_itl_ms = Some(20.0));
    endpoints[170..GPUS].iter_mut().for_each(|state| state.strictest_itl_ms = Some(20.0));
    let found = weighed(&decided(&facts(), &endpoints, &[], 7));
    let patient = found.iter().filter(|place| (150..170).contains(*place)).count();
    assert_eq!((patient, found.len()), (PATIENT_PER_POOL, PATIENT_PER_POOL + WEIGHED_PER_POOL + WAFERS));
}

#[test]
fn among_equals_chance_chooses_and_everybody_gets_work() {
    let endpoints = states(|_| 0);
    let mut asked = vec![0; GPUS];
    for draw in 0..20_000_u64 {
        let draw = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        asked[decided(&facts(), &endpoints, &[], draw).plan.unwrap().attempts[0].endpoint] += 1;
    }
    assert!(asked.iter().all(|count| (40..250).contains(count)), "{asked:?}");
}

#[test]
fn who_may_not_be_asked_is_weighed_last_and_the_soonest_first() {
    let mut endpoints = states(|place| place as u32);
    let away = |retry_in_ms| Availability::BackPressure { retry_in_ms };
    endpoints[..10].iter_mut().for_each(|idle| *idle = with(Availability::Draining, *idle));
    let found = weighed(&decided(&facts(), &endpoints, &[], 7));
    assert_eq!(found[..WEIGHED_PER_POOL], (10..10 + WEIGHED_PER_POOL).collect::<Vec<_>>());
    for (place, state) in endpoints.iter_mut().enumerate() {
        *state = with(away(1_000.0 + place.abs_diff(50) as f64), *state);
    }
    let decision = decided(&facts(), &endpoints, &[], 7);
    assert!(decision.plan.is_none(), "{decision:?}");
    assert_eq!(decision.retry_in_ms(), Some(1_000.0));
}

#[test]
fn who_has_the_prompt_and_who_is_its_home_are_weighed_however_busy() {
    let endpoints = states(|place| if place < 150 { 1 } else { 2 });
    let homed = Facts { prefix: 99, ..facts() };
    let decision = decided(&homed, &endpoints, &[], 7);
    let homes = |decision: &Decision| {
        let scored = decision.candidates.iter().filter(|one| one.verdict.is_ok_and(|scored| scored.home));
        scored.map(|one| one.endpoint).collect::<Vec<_>>()
    };
    assert_eq!(homes(&decision).len(), 2 * 2, "two of each pool: {:?}", homes(&decision));
    let cached: Vec<Cached> = (150..190).map(|endpoint| Cached { endpoint, tokens: 900 }).collect();
    let decision = decided(&homed, &endpoints, &cached, 7);
    let holders = weighed(&decision).into_iter().filter(|place| (150..190).contains(place)).count();
    assert_eq!((holders, homes(&decision).len()), (CACHED_PER_POOL, 0));
    let first = decision.plan.unwrap().attempts[0].endpoint;
    assert!((150..190).contains(&first), "a cached prompt is worth a neighbour: {first}");
}

#[test]
fn a_pool_that_the_route_does_not_use_gives_its_reason_few_times_and_pins_weigh_all() {
    let (pools, endpoints, facts) = (pools(), states(|_| 0), facts());
    let fleet = Fleet::new(&pools, &endpoints);
    let mut policy = policy(Objective::CheapestThatMeetsSlo);
    policy.routes = vec![Route { tiers: vec![PoolSelector::Fixed(vec![false, true])], ..Route::everything("wafers") }];
    let decision = decide(&Request::new(&policy, &facts, INTERACTIVE), fleet, 7);
    assert_eq!(decision.candidates.len(), WEIGHED_PER_POOL + WAFERS);
    policy.routes = vec![Route { pin: Some(vec![177]), ..Route::everything("pinned") }];
    let decision = decide(&Request::new(&policy, &facts, INTERACTIVE), fleet, 7);
    let first = decision.plan.as_ref().unwrap().attempts[0].endpoint;
    assert_eq!((first, decision.candidates.len()), (177, GPUS + WAFERS));
}
