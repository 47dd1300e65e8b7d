//! Every baseline's formula on hand-made views of a fleet: two GPUs (0, 1) and two wafers (2, 3).

use pointsman::simulation::router::{Act, Arrival, Ended, Reported, Router, Seen, SeenEndpoint, TurnedAway};
use pointsman_backends::hardware;
use pointsman_policies::facts::{Api, Facts};
use pointsman_policies::fleet::{ModelFacts, PoolFacts, Price};
use pointsman_policies::policy::{ClassId, Slo};
use pointsman_policies::units::Micros;

use super::{World, all, find};

const REALTIME: Slo = Slo { ttft_ms: Some(300.0), itl_ms: Some(8.0), deadline_ms: None };
const STANDARD: Slo = Slo { ttft_ms: Some(4_000.0), itl_ms: Some(100.0), deadline_ms: None };
const PROMISES: [Slo; 2] = [REALTIME, STANDARD];

fn pool(name: &str, hardware: &str, usd_per_m: f64) -> PoolFacts {
    let entry = hardware::find(hardware).expect("the catalog has it");
    let price = Price { usd_per_m_input: usd_per_m, usd_per_m_output: usd_per_m };
    PoolFacts {
        name: name.to_owned(),
        site: String::new(),
        vendor: String::new(),
        endpoints: vec![format!("{name}/a"), format!("{name}/b")],
        hardware: hardware.to_owned(),
        kind: entry.kind,
        labels: Default::default(),
        models: vec![ModelFacts { name: "m".to_owned(), context: None, price }],
        service: entry.service_model(),
        round_trip_ms: 0.0,
        carbon_g_per_kwh: None,
        pue: 1.0,
        usd_per_kwh: None,
        power_cap_kw: None,
    }
}

/// A fleet to be changed by a test, and the router it is shown to.
struct Stage {
    pools: Vec<PoolFacts>,
    endpoints: Vec<SeenEndpoint>,
    router: Box<dyn Router>,
    now: Micros,
    next: u32,
}

impl Stage {
    fn new(name: &str, settings: &[f64]) -> Stage {
        let pools = vec![pool("gpu", "h100", 0.1), pool("wafer", "cs3", 0.5)];
        let endpoint = |pool| SeenEndpoint {
            pool,
            up: true,
            reported: Some(Reported::default()),
            in_flight: 0,
            prefill_tokens: 0,
            context_tokens: 0,
        };
        let world = World { pools: &pools, promises: &PROMISES };
        let router = find(name).expect("it is in the table").build(&world, settings, 7);
        Stage { endpoints: [0, 0, 1, 1].map(endpoint).to_vec(), pools, router, now: Micros(0), next: 0 }
    }

    fn in_flight(mut self, in_flight: [u32; 4]) -> Stage {
        for (endpoint, in_flight) in self.endpoints.iter_mut().zip(in_flight) {
            endpoint.in_flight = in_flight;
        }
        self
    }

    fn reported(mut self, endpoint: usize, running: u32, waiting: u32, kv_tokens: u64) -> Stage {
        self.endpoints[endpoint].reported = Some(Reported { at: self.now, running, waiting, kv_tokens });
        self
    }

    fn down(mut self, down: &[usize]) -> Stage {
        down.iter().for_each(|endpoint| self.endpoints[*endpoint].up = false);
        self
    }

    fn arrive(&mut self, class: usize, input_tokens: u64, output_tokens: u64, prefix: &[u64]) -> Vec<Act> {
        self.next += 1;
        let facts = Facts { stream: true, input_tokens, output_tokens, ..Facts::plain(Api::ChatCompletions, "m") };
        let arrival = Arrival {
            id: self.next,
            facts,
            class: ClassId(class),
            slo: PROMISES[class],
            priority: 0,
            prefix,
            predicted_output_tokens: output_tokens,
            true_output_tokens: output_tokens,
        };
        let mut acts = Vec::new();
        let seen = Seen { pools: &self.pools, endpoints: &self.endpoints };
        self.router.arrive(self.now, &arrival, &seen, &mut acts);
        acts
    }

    /// Where a request of the class standard goes.
    fn sent(&mut self) -> usize {
        self.sent_with(1, 1_000, 100, &[])
    }

    fn sent_with(&mut self, class: usize, input_tokens: u64, output_tokens: u64, prefix: &[u64]) -> usize {
        match self.arrive(class, input_tokens, output_tokens, prefix)[..] {
            [Act::Send { endpoint, .. }] => endpoint,
            ref other => panic!("sends nothing: {other:?}"),
        }
    }

    /// The last request has its first token this long after it was sent, and its end as soon.
    fn answered(&mut self, endpoint: usize, ttft_ms: f64, output_tokens: u64) {
        let (request, sent) = (self.next, self.now);
        self.now += Micros::from_ms(ttft_ms);
        let mut acts = Vec::new();
        let seen = Seen { pools: &self.pools, endpoints: &self.endpoints };
        self.router.first_token(self.now, request, endpoint, &seen, &mut acts);
        let ended = Ended {
            request,
            endpoint,
            sent,
            ttft_ms: Some(ttft_ms),
            itl_ms: None,
            total_ms: ttft_ms,
            input_tokens: 1_000,
            cached_tokens: 0,
            output_tokens,
            broken: false,
        };
        self.router.ended(self.now, &ended, &seen, &mut acts);
        assert_eq!(acts, [], "an end alone makes nobody move");
    }

    fn turned_away(&mut self, endpoint: usize) -> Vec<Act> {
        let away = TurnedAway { request: self.next, endpoint, retry_after_ms: Some(250.0) };
        let mut acts = Vec::new();
        let seen = Seen { pools: &self.pools, endpoints: &self.endpoints };
        self.router.turned_away(self.now, &away, &seen, &mut acts);
        acts
    }
}

#[test]
fn every_row_of_the_table_sends_what_it_can_and_cites_its_source() {
    for baseline in all() {
        let mut stage = Stage::new(baseline.name, &[]);
        assert!(stage.sent() < 4, "{}", baseline.name);
        assert!(baseline.source.len() > 10 && baseline.formula.len() > 5, "{}", baseline.name);
        let only = Stage::new(baseline.name, &[]).down(&[0, 2, 3]).sent();
        assert_eq!(only, 1, "{} sends to the only machine that is up", baseline.name);
        let world = World { pools: &stage.pools, promises: &PROMISES };
        for knob in baseline.knobs(&world) {
            assert!(knob.values.contains(&knob.default), "{}: {}", baseline.name, knob.name);
        }
    }
    let names: std::collections::BTreeSet<_> = all().iter().map(|baseline| baseline.name).collect();
    assert_eq!(names.len(), all().len(), "names are unique");
}

#[test]
fn whoever_is_turned_away_is_sent_elsewhere_twice_and_then_refused() {
    for baseline in all() {
        let mut stage = Stage::new(baseline.name, &[]);
        let mut tried = vec![stage.sent()];
        for _ in 0..2 {
            match stage.turned_away(*tried.last().expect("it was sent"))[..] {
                [Act::Send { request, endpoint }] => {
                    assert_eq!(request, stage.next);
                    assert!(!tried.contains(&endpoint), "{} asks {endpoint} twice", baseline.name);
                    tried.push(endpoint);
                }
                ref other => panic!("{}: {other:?}", baseline.name),
            }
        }
        let acts = stage.turned_away(tried[2]);
        assert_eq!(acts, [Act::Refuse { request: 1, retry_after_ms: 250.0 }], "{}", baseline.name);
    }
}

#[test]
fn round_robin_takes_turns() {
    let mut stage = Stage::new("round robin", &[]);
    assert_eq!([(); 6].map(|()| stage.sent()), [0, 1, 2, 3, 0, 1]);
}

#[test]
fn random_and_two_choices_reach_everybody() {
    for name in ["random", "two choices"] {
        let mut stage = Stage::new(name, &[]);
        let mut met = [0; 4];
        (0..400).for_each(|_| met[stage.sent()] += 1);
        assert!(met.iter().all(|count| *count > 60), "{name}: {met:?}");
    }
}

#[test]
fn least_outstanding_counts_requests_in_flight() {
    assert_eq!(Stage::new("least outstanding", &[]).in_flight([3, 2, 1, 2]).sent(), 2);
}

#[test]
fn two_choices_never_takes_the_worst_of_all() {
    let mut stage = Stage::new("two choices", &[]).in_flight([9, 1, 2, 3]);
    assert!((0..200).all(|_| stage.sent() != 0));
}

#[test]
fn vllm_counts_who_waits_four_times_and_what_it_sent_since_as_waiting() {
    let reported = |name| {
        Stage::new(name, &[]).reported(0, 5, 0, 0).reported(1, 0, 1, 0).reported(2, 9, 9, 0).reported(3, 9, 9, 0)
    };
    let mut stage = reported("vllm internal");
    assert_eq!(stage.sent(), 1, "4 * 1 + 0 is less than 5");
    assert_eq!(stage.sent(), 0, "4 * 2 + 0 is more than 5");
}

#[test]
fn peak_ewma_takes_a_peak_at_once_and_relief_by_and_by() {
    let mut ewma = super::latency::PeakEwma::new(fastrand::Rng::with_seed(1), 10.0);
    let at = Micros::from_secs;
    assert_eq!(ewma.cost(at(0), 0, 2), 90.0, "30 ms before anything is seen, times pending + 1");
    ewma.observe(at(0), 0, 500.0);
    assert_eq!(ewma.cost(at(0), 0, 0), 500.0);
    ewma.observe(at(10), 0, 100.0);
    let expected = 500.0 * (-1.0_f64).exp() + 100.0 * (1.0 - (-1.0_f64).exp());
    assert!((ewma.cost(at(10), 0, 0) - expected).abs() < 1e-9);
    assert!((ewma.cost(at(20), 0, 1) - 2.0 * expected * (-1.0_f64).exp()).abs() < 1e-9, "it fades while unused");
}

#[test]
fn prequal_avoids_hot_machines_and_prefers_fast_ones_among_the_cold() {
    let mut stage = Stage::new("prequal", &[0.5, 6.0]).in_flight([50, 1, 1, 1]);
    let mut met = [0; 4];
    for _ in 0..200 {
        let endpoint = stage.sent();
        met[endpoint] += 1;
        stage.now += Micros::from_ms(1.0);
        stage.answered(endpoint, if endpoint == 2 { 4.0 } else { 40.0 }, 10);
    }
    assert!(met[2] > 80 && met[2] > met[1] + 20, "the cold and fast one serves most: {met:?}");
    assert!(met[0] < 10, "the hot one hardly any: {met:?}");
}

#[test]
fn litellm_takes_the_least_mean_latency_per_token() {
    let mut stage = Stage::new("litellm latency", &[0.0, 10.0]);
    let mut unseen = vec![0, 1, 2, 3];
    for ttft_ms in [400.0, 200.0, 300.0, 100.0] {
        let endpoint = stage.sent();
        unseen.retain(|other| *other != endpoint);
        // Twice the tokens: half the latency per token.
        stage.answered(endpoint, ttft_ms, if ttft_ms == 300.0 { 30 } else { 10 });
        if ttft_ms == 300.0 || ttft_ms == 100.0 {
            stage.endpoints[endpoint].in_flight = ttft_ms as u32;
        }
    }
    assert!(unseen.is_empty(), "who was not seen is tried first");
    let best = stage.endpoints.iter().filter(|endpoint| endpoint.in_flight >= 100).count();
    assert_eq!(best, 2, "300 ms for 30 tokens is as good as 100 ms for 10");
    let endpoint = stage.sent();
    assert!(stage.endpoints[endpoint].in_flight >= 100);
}

#[test]
fn litellm_cost_takes_the_cheapest_pool_whatever_its_load() {
    let mut stage = Stage::new("litellm cost", &[]).in_flight([99, 99, 0, 0]);
    assert!((0..20).all(|_| stage.sent() < 2));
}

#[test]
fn llmd_weighs_queue_memory_and_prefix() {
    let full = 240_000;
    let queues = Stage::new("llm-d default", &[]).reported(0, 0, 4, 0).reported(1, 0, 1, 0);
    assert_eq!(queues.reported(2, 0, 4, 0).reported(3, 0, 4, 0).sent(), 1, "the shortest queue");
    let memory = Stage::new("llm-d default", &[]).reported(0, 0, 0, full).reported(1, 0, 0, full / 2);
    assert_eq!(memory.down(&[2, 3]).sent(), 1, "the most free memory");
    let mut prefix = Stage::new("llm-d default", &[]);
    let first = prefix.sent_with(1, 1_024, 10, &[1, 2]);
    prefix.endpoints[first].reported = Some(Reported { at: Micros(1), running: 0, waiting: 1, kv_tokens: 0 });
    assert_eq!(prefix.sent_with(1, 1_024, 10, &[1, 2]), first, "3 for all of it held is more than 2 for the queue");
}

#[test]
fn smg_cache_aware_breaks_affinity_when_loads_drift_apart() {
    let mut stage = Stage::new("smg cache_aware", &[]);
    let holder = stage.sent_with(1, 1_024, 10, &[1, 2]);
    assert_eq!(stage.sent_with(1, 1_536, 10, &[1, 2, 3]), holder, "2 of 3 blocks are more than 30 %");
    assert_ne!(stage.sent_with(1, 1_024, 10, &[7, 8]), holder, "an unknown prompt goes where least was sent");
    let in_flight = std::array::from_fn(|endpoint| if endpoint == holder { 40 } else { 1 });
    let mut stage = stage.in_flight(in_flight);
    assert_ne!(stage.sent_with(1, 1_536, 10, &[1, 2, 3]), holder, "40 - 1 > 32 and 40 > 1.1 * 1");
}

#[test]
fn smg_least_load_adds_drain_time_and_pressure_on_memory() {
    let mut stage = Stage::new("smg least_load", &[]).down(&[2, 3]).reported(0, 0, 0, 120_000);
    // 0.15 * 1 = 0.15 s at the half-full one, nothing at the other until 400 tokens were sent there: 0.2 s.
    assert_eq!(stage.sent_with(1, 400, 10, &[]), 1);
    assert_eq!(stage.sent_with(1, 400, 10, &[]), 0);
    stage.endpoints[1].reported = Some(Reported { at: Micros(5), ..Reported::default() });
    assert_eq!(stage.sent_with(1, 400, 10, &[]), 1, "a new report clears what was sent since");
}

#[test]
fn dynamo_adds_blocks_of_prefill_and_decode() {
    let mut stage = Stage::new("dynamo kv", &[]).down(&[2, 3]);
    (stage.endpoints[0].prefill_tokens, stage.endpoints[0].context_tokens) = (4_096, 8_192);
    (stage.endpoints[1].prefill_tokens, stage.endpoints[1].context_tokens) = (0, 13_000);
    assert_eq!(stage.sent(), 0, "8 + 16 blocks are less than 25.4");
    let mut stage = Stage::new("dynamo kv", &[2.0]).down(&[2, 3]);
    (stage.endpoints[0].prefill_tokens, stage.endpoints[0].context_tokens) = (4_096, 8_192);
    (stage.endpoints[1].prefill_tokens, stage.endpoints[1].context_tokens) = (0, 13_000);
    assert_eq!(stage.sent(), 1, "2 * 8 + 16 blocks are more than 25.4");
}

#[test]
fn grids_keep_each_class_to_its_pool() {
    for name in ["dynamo grid", "static class to pool"] {
        let mut stage = Stage::new(name, &[1.0, 0.0]).in_flight([9, 9, 9, 9]);
        assert!(stage.sent_with(0, 100, 10, &[]) >= 2, "{name}");
        assert!(stage.sent_with(1, 100, 10, &[]) < 2, "{name}");
        let mut stage = stage.down(&[0, 1]);
        assert!(stage.sent_with(1, 100, 10, &[]) >= 2, "{name} spills where its pool is gone");
    }
}

#[test]
fn llmd_predicted_packs_and_most_headroom_spreads() {
    let mut packing = Stage::new("llm-d predicted", &[]);
    assert!((0..5).all(|_| packing.sent() < 2), "the slow pool keeps a promise of 100 ms: least headroom");
    let mut spreading = Stage::new("most headroom", &[]);
    assert!((0..5).all(|_| spreading.sent() >= 2), "the wafer leaves most over");
    let mut tight = Stage::new("llm-d predicted", &[]);
    let endpoints: Vec<usize> = (0..8).map(|_| tight.sent_with(0, 2_000, 200, &[])).collect();
    assert!(endpoints.iter().any(|endpoint| *endpoint >= 2), "two at once are too slow on a GPU: {endpoints:?}");
}

#[test]
fn a_mirror_foretells_what_an_engine_without_chance_does() {
    use pointsman_backends::simulators::engine::{Engine, Job};
    use pointsman_backends::simulators::profile::Profile;
    let mut stage = Stage::new("round robin", &[]);
    stage.arrive(1, 3_000, 50, &[]);
    let pools = stage.pools.clone();
    let mut profile = Profile::new(pools[0].kind, pools[0].service.clone());
    profile.service.jitter_sigma = 0.0;
    let mut engine = Engine::new(profile, 1);
    let job = |id, prompt_tokens, output_tokens| Job {
        id,
        prompt_tokens,
        output_tokens,
        reserved_output_tokens: output_tokens,
        ..Job::default()
    };
    engine.submit(Micros(0), job(1, 3_000, 50));
    engine.submit(Micros(0), job(2, 1_000, 20));
    let mut sent = Vec::new();
    engine.advance(Micros::from_secs(60), &mut sent);
    let second: Vec<_> = sent.iter().filter(|emission| emission.id == 2).collect();
    let facts = Facts { stream: true, ..Facts::plain(Api::ChatCompletions, "m") };
    let kept = |id, input_tokens, predicted| {
        let arrival = Arrival {
            id,
            facts: Facts { input_tokens, ..facts },
            class: ClassId(1),
            slo: STANDARD,
            priority: 0,
            prefix: &[],
            predicted_output_tokens: predicted,
            true_output_tokens: predicted,
        };
        super::at_once::Kept::of(Micros(0), &arrival)
    };
    let (first, next) = (kept(1, 3_000, 50), kept(2, 1_000, 20));
    let seen = Seen { pools: &pools, endpoints: &stage.endpoints };
    let choice = |request| super::at_once::Choice { now: Micros(0), request, seen: &seen, open: &[0] };
    let mut mirror = super::mirror::Mirror::default();
    mirror.submit(&choice(&first), 0);
    let predicted = mirror.predict(&choice(&next), 0);
    // Long strides and single steps round differently, by microseconds.
    let like = |one: f64, other: f64| assert!((one - other).abs() < 0.05, "{one} {other}");
    like(predicted.ttft_ms, second[0].at.as_ms());
    like(predicted.total_ms, second[19].at.as_ms());
}

#[test]
fn aibrix_ranks_by_how_near_a_promise_is_to_broken_and_waits_for_room() {
    let mut stage = Stage::new("aibrix slo", &[]).down(&[1, 2, 3]);
    // A GPU of 5.5 + 0.36 per head serves (8 - 5.5) / (0.36 + 0.016 * 1.05) = 6.6 such requests at 8 ms.
    let acts: Vec<usize> = (0..10).map(|_| stage.arrive(0, 1_000, 100, &[]).len()).collect();
    assert_eq!(acts, [1, 1, 1, 1, 1, 1, 0, 0, 0, 0], "the rest waits");
    let router = super::aibrix::AibrixSlo::new(1.0, 1.0);
    let arrival = Arrival {
        id: 1,
        facts: Facts { input_tokens: 1_500, ..Facts::plain(Api::ChatCompletions, "m") },
        class: ClassId(1),
        slo: STANDARD,
        priority: 0,
        prefix: &[],
        predicted_output_tokens: 10,
        true_output_tokens: 10,
    };
    let kept = super::at_once::Kept::of(Micros(0), &arrival);
    let profiled = super::aibrix::profiled(&kept, &stage.pools[1], 1.0);
    let expected_ms = 12.0 + 30.0 + 0.55 * 10.0;
    assert!((profiled.expected_ms - expected_ms).abs() < 1e-9, "{profiled:?}");
    let rank = router.rank(Micros::from_secs(2), &kept, &stage.pools[1]);
    assert!((rank - (2_000.0 + expected_ms - (100.0 * 10.0 + 4_000.0))).abs() < 1e-9);
}

#[test]
fn polyserve_packs_its_tier_and_borrows_from_a_tighter_one() {
    let mut stage = Stage::new("polyserve", &[1.0, 0.0]);
    let first = stage.sent();
    assert!(first < 2);
    assert_eq!(stage.sent(), first, "the fullest that keeps all promises");
    // Prompts of 30,000 tokens take two seconds each: the third within four seconds finds no room on either GPU.
    let long: Vec<usize> = (0..4).map(|_| stage.sent_with(1, 30_000, 100, &[])).collect();
    assert!(long[..2].iter().all(|endpoint| *endpoint < 2), "{long:?}");
    assert!(long[2..].iter().all(|endpoint| *endpoint >= 2), "{long:?}");
    assert!(stage.sent_with(0, 100, 10, &[]) >= 2, "a tight tier never takes a looser one's machines");
}
