//! The learner against simulated machines whose truth it does not know.

use std::collections::{BTreeMap, HashMap};

use pointsman_policies::fleet::{ModelFacts, Price};
use pointsman_policies::policy::Slo;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::meter::{Exposure, Mark, Meter};
use super::observation::{Load, Predicted};
use super::*;
use crate::hardware;
use crate::simulators::engine::{Admission, Engine, Job};
use crate::simulators::profile::Profile;

const SLO: Slo = Slo { ttft_ms: Some(1_000.0), itl_ms: Some(50.0), deadline_ms: None };

fn pool(name: &str, hardware: &str, endpoints: usize) -> PoolFacts {
    let entry = hardware::find(hardware).unwrap();
    PoolFacts {
        name: name.to_owned(),
        site: String::new(),
        vendor: String::new(),
        endpoints: (0..endpoints).map(|at| format!("{name}/{at}:80")).collect(),
        hardware: hardware.to_owned(),
        kind: entry.kind,
        labels: BTreeMap::new(),
        models: vec![ModelFacts { name: "m".to_owned(), context: None, price: Price::default() }],
        service: entry.service_model(),
        round_trip_ms: 0.0,
        carbon_g_per_kwh: None,
        pue: 1.0,
        usd_per_kwh: None,
        power_cap_kw: None,
    }
}

fn class(name: &str) -> Class {
    Class {
        name: name.to_owned(),
        slo: SLO,
        target: 0.95,
        priority: 0,
        sheddable: false,
        shed_order: 0,
        max_usd: None,
        explores: false,
    }
}

fn learner(pools: &[PoolFacts]) -> Learner {
    let mut learner = Learner::new(Mechanisms::default());
    learner.adopt(pools, &[class("interactive")]);
    learner
}

/// One machine, the requests on it, and what a gateway keeps account of.
struct Bench {
    engine: Engine,
    random: Pcg64Mcg,
    now: Micros,
    meter: Meter,
    running: HashMap<u64, Running>,
    arrivals_per_s: f64,
    next: u64,
}

struct Running {
    seen: Observation,
    begun: Mark,
    expected_output: u64,
}

impl Bench {
    fn new(hardware: &str, change: impl FnOnce(&mut ServiceModel), arrivals_per_s: f64) -> Bench {
        let mut profile = Profile::of(hardware::find(hardware).unwrap());
        profile.limits = crate::lease::RateLimits::default();
        change(&mut profile.service);
        let (engine, random) = (Engine::new(profile, 11), Pcg64Mcg::seed_from_u64(12));
        let (meter, running) = (Meter::default(), HashMap::new());
        Bench { engine, random, now: Micros(0), meter, running, arrivals_per_s, next: 0 }
    }

    /// Lets traffic run for a while; `tell` hears every stream that ended.
    fn run(&mut self, seconds: u64, mut tell: impl FnMut(&Observation)) {
        let end = self.now + Micros::from_secs(seconds);
        let mut arrival = self.now;
        while self.now < end {
            let gap: f64 = -self.random.random_range(1e-9..1.0_f64).ln() / self.arrivals_per_s;
            arrival += Micros::from_ms(gap * 1e3);
            self.drain(arrival, &mut tell);
            self.now = arrival;
            self.arrive();
        }
    }

    fn load(&self) -> Load {
        let context = |running: &Running| running.seen.input_tokens + running.expected_output;
        let reading = |running: &&Running| running.seen.first_byte == Micros(0);
        Load {
            in_flight: self.running.len() as u32,
            prefill_tokens: self.running.values().filter(reading).map(|running| running.seen.input_tokens).sum(),
            context_tokens: self.running.values().map(context).sum(),
        }
    }

    fn account(&mut self, at: Micros) {
        let load = self.load();
        self.meter.load(at, load.in_flight, load.context_tokens);
    }

    fn arrive(&mut self) {
        let (id, input_tokens) = (self.next, self.random.random_range(50..3_000));
        let output_tokens = self.random.random_range(20..400);
        self.next += 1;
        let job = Job {
            id,
            prompt_tokens: input_tokens,
            output_tokens,
            reserved_output_tokens: output_tokens,
            ..Job::default()
        };
        let at_dispatch = self.load();
        assert_eq!(self.engine.submit(self.now, job), Admission::Accepted, "the bench is not to be overloaded");
        let predicted = Predicted {
            ttft_ms: 100.0,
            itl_ms: 10.0,
            itl_planned_ms: 10.0,
            total_ms: 1_000.0,
            factors: Factors::NEUTRAL,
        };
        let seen = Observation {
            endpoint: 0,
            class: 0,
            streamed: true,
            waited_ms: 0.0,
            dispatched: self.now,
            first_byte: Micros(0),
            last_byte: Micros(0),
            input_tokens,
            cached_tokens: 0,
            output_tokens,
            at_dispatch,
            during: None,
            predicted,
            slo: SLO,
        };
        self.running.insert(id, Running { seen, begun: Mark::default(), expected_output: 200 });
        self.account(self.now);
    }

    fn drain(&mut self, until: Micros, tell: &mut impl FnMut(&Observation)) {
        let mut sent = Vec::new();
        self.engine.advance(until, &mut sent);
        for emission in sent {
            let running = self.running.get_mut(&emission.id).unwrap();
            if emission.first {
                running.seen.first_byte = emission.at;
                self.meter.prefilled(running.seen.input_tokens);
                self.account(emission.at);
                self.running.get_mut(&emission.id).unwrap().begun = self.meter.at(emission.at);
            }
            if emission.last {
                let Running { mut seen, begun, .. } = self.running.remove(&emission.id).unwrap();
                seen.last_byte = emission.at;
                seen.during = begun.until(&self.meter.at(emission.at));
                self.account(emission.at);
                tell(&seen);
            }
        }
    }
}

/// Mean absolute logarithm of observed over predicted, of both times, over a while of traffic.
fn errors(learner: &Learner, facts: &PoolFacts, bench: &mut Bench, seconds: u64) -> (f64, f64) {
    let mut judge = Service::new(facts);
    judge.restore(&learner.pools[0].service.save());
    let (mut ttft, mut itl, mut count) = (0.0, 0.0, 0.0);
    bench.run(seconds, |seen| {
        // A copy learns from each, so that the judge stays as it is.
        let mut copy = judge.clone();
        if let (Some(first), Some(rest)) = (copy.learn_ttft(seen), copy.learn_itl(seen)) {
            (ttft, itl, count) = (ttft + first.log.abs(), itl + rest.log.abs(), count + 1.0);
        }
    });
    assert!(count > 50.0, "{count} observations");
    (ttft / count, itl / count)
}

#[test]
fn a_machine_that_is_not_what_the_catalog_says_is_learned_within_a_minute() {
    for (hardware, rate) in [("h100", 2.0), ("h100", 4.0), ("b200", 12.0), ("cs3", 20.0)] {
        let facts = pool("p", hardware, 1);
        let change = |model: &mut ServiceModel| {
            model.step_base_ms *= 1.8;
            model.step_per_sequence_ms *= 0.5;
            model.prefill_tokens_per_s *= 0.6;
            model.fixed_ttft_ms *= 2.0;
        };
        let mut truth = facts.clone();
        change(&mut truth.service);
        let mut learner = learner(std::slice::from_ref(&facts));
        let mut bench = Bench::new(hardware, change, rate);
        let before = errors(&learner, &facts, &mut bench, 60);
        bench.run(60, |seen| learner.observe(seen));
        let after = errors(&learner, &facts, &mut bench, 60);
        let knowing = errors(&self::learner(std::slice::from_ref(&truth)), &truth, &mut bench, 60);
        let told = format!("{hardware} at {rate}/s: {before:.2?} -> {after:.2?}, knowing the truth {knowing:.2?}");
        println!("{told} {:?}", learner.services()[0]);
        assert!(after.0 < 1.1 * knowing.0 + 0.05 && after.0 < before.0, "TTFT, {told}");
        assert!(after.1 < 1.1 * knowing.1 + 0.05 && after.1 < before.1, "ITL, {told}");
    }
}

#[test]
fn a_machine_that_changes_is_noticed_and_followed() {
    let facts = pool("p", "h100", 1);
    let mut learner = learner(std::slice::from_ref(&facts));
    let mut bench = Bench::new("h100", |_| {}, 4.0);
    bench.run(300, |seen| learner.observe(seen));
    let quiet = learner.drifts_noticed();
    let mut slower = Bench::new("h100", |model| model.step_base_ms *= 2.5, 4.0);
    slower.now = bench.now;
    slower.run(60, |seen| learner.observe(seen));
    let drift = learner.drifts().last().cloned();
    assert!(quiet <= 2, "{quiet} drifts while nothing changed");
    assert!(learner.drifts_noticed() > quiet, "nothing was noticed");
    assert!(drift.as_ref().is_some_and(|drift| drift.time == Time::Itl && drift.factor > 1.2), "{drift:?}");
    let after = errors(&learner, &facts, &mut slower, 60);
    assert!(after.1 < 0.15, "ITL {}", after.1);
}

#[test]
fn switched_off_it_says_what_it_said_at_first() {
    let facts = pool("p", "h100", 1);
    let off = Mechanisms { services: false, hidden_load: false, margins: false, ..Mechanisms::default() };
    let mut learner = Learner::new(off);
    learner.adopt(std::slice::from_ref(&facts), &[class("interactive")]);
    let mut bench = Bench::new("h100", |model| model.step_base_ms *= 4.0, 1.0);
    bench.run(60, |seen| learner.observe(seen));
    assert_eq!(learner.services(), [facts.service]);
    assert_eq!(learner.factors(0, bench.now), Factors::NEUTRAL);
    assert_eq!(learner.margin(0, HardwareKind::Gpu), Margin::prior(HardwareKind::Gpu));
}

/// A stream of 100 tokens from an endpoint, so many times slower than predicted.
fn stream(endpoint: usize, at_s: f64, slower: f64) -> Observation {
    let dispatched = Micros::from_ms(at_s * 1e3);
    let first_byte = dispatched + Micros::from_ms(400.0 * slower);
    let predicted =
        Predicted { ttft_ms: 400.0, itl_ms: 12.0, itl_planned_ms: 12.0, total_ms: 1_588.0, factors: Factors::NEUTRAL };
    Observation {
        endpoint,
        class: 0,
        streamed: true,
        waited_ms: 0.0,
        dispatched,
        first_byte,
        last_byte: first_byte + Micros::from_ms(99.0 * 12.0 * slower),
        input_tokens: 1_000,
        cached_tokens: 0,
        output_tokens: 100,
        at_dispatch: Load::default(),
        during: None,
        predicted,
        slo: SLO,
    }
}

/// Beside a stream of 100 tokens others have so many read, each at so many times what it takes to read it.
fn disturbed(facts: &PoolFacts, at_s: f64, prefilled_tokens: u64, weight: f64) -> Observation {
    let alone = stream(0, at_s, 1.0);
    let service = &facts.service;
    let read_ms = |tokens: u64| tokens as f64 / service.prefill_tokens_per_s * 1e3;
    let first_ms = service.fixed_ttft_ms + service.step_base_ms + read_ms(alone.input_tokens);
    let first_byte = alone.dispatched + Micros::from_ms(first_ms);
    let last_byte = first_byte + Micros::from_ms(99.0 * 12.0 + weight * read_ms(prefilled_tokens));
    let during = Some(Exposure { batch: 2.0, context_tokens: 0.0, prefilled_tokens });
    Observation { first_byte, last_byte, during, ..alone }
}

#[test]
fn what_prompts_of_others_cost_a_stream_is_learned_and_told() {
    for weight in [0.3, 1.0] {
        let facts = pool("gpu", "h100", 1);
        let mut learner = learner(std::slice::from_ref(&facts));
        for round in 0..400_u32 {
            let prefilled_tokens = 1_000 * u64::from(round % 20);
            learner.observe(&disturbed(&facts, f64::from(round), prefilled_tokens, weight));
        }
        let told = learner.services()[0].prefill_weight;
        assert!((told / weight - 1.0).abs() < 0.15, "{told} instead of {weight}");
    }
}

#[test]
fn hidden_load_is_that_of_one_endpoint_and_the_pool_keeps_its_model() {
    let mut learner = learner(&[pool("api", "cloud-api", 2)]);
    for at in 0..40 {
        learner.observe(&stream(0, f64::from(at) / 4.0, 1.0));
        learner.observe(&stream(1, f64::from(at) / 4.0, 1.0));
    }
    for at in 40..60 {
        let factors = learner.factors(1, Micros::from_ms(f64::from(at) * 250.0));
        let mut slow = stream(1, f64::from(at) / 4.0, 5.0);
        slow.predicted.factors = factors;
        learner.observe(&slow);
        learner.observe(&stream(0, f64::from(at) / 4.0, 1.0));
    }
    let now = Micros::from_secs(17);
    let (calm, busy) = (learner.factors(0, now), learner.factors(1, now));
    assert!(busy.ttft > 1.8 * calm.ttft && busy.itl > 1.8 * calm.itl, "{busy:?} beside {calm:?}");
    assert!((0.4..=1.2).contains(&calm.ttft), "{calm:?}");
}

#[test]
fn whole_answers_teach_the_pace_and_the_margin_of_the_whole() {
    let facts = pool("p", "h100", 1);
    let mut learner = learner(std::slice::from_ref(&facts));
    let before = learner.margin(0, HardwareKind::Gpu).ttft;
    for at in 0..100 {
        learner.observe(&Observation { streamed: false, output_tokens: 300, ..stream(0, f64::from(at), 10.0) });
    }
    assert!(learner.services()[0].step_base_ms > 1.3 * facts.service.step_base_ms);
    assert_ne!(learner.margin(0, HardwareKind::Gpu).ttft, before);
}

#[test]
fn known_names_keep_what_was_learned_across_portfolios_and_processes() {
    let (gpu, other) = (pool("gpu", "h100", 2), pool("a-new-one", "cs3", 1));
    let mut learner = learner(std::slice::from_ref(&gpu));
    (0..100).for_each(|at| learner.observe(&stream(1, f64::from(at) / 10.0, 3.0)));
    let (learned, now) = (learner.services()[0].clone(), Micros::from_secs(12));
    let factors = learner.factors(1, now);
    let margin = learner.margin(0, HardwareKind::Gpu);
    assert!(learned.step_base_ms > gpu.service.step_base_ms && factors.itl != 1.0);

    learner.adopt(&[other.clone(), gpu.clone()], &[class("batch"), class("interactive")]);
    assert_eq!((learner.endpoint("gpu/1:80"), learner.endpoint("gone/1:80")), (Some(2), None));
    assert_near(&learner.services()[1], &learned);
    assert_eq!(learner.factors(2, now), factors);
    assert_eq!(learner.margin(1, HardwareKind::Gpu), margin);

    learner.adopt(&[other], &[class("batch")]);
    let text = serde_json::to_string(&learner.save()).unwrap();
    let mut next = Learner::new(Mechanisms::default());
    next.adopt(std::slice::from_ref(&gpu), &[class("interactive")]);
    next.load(serde_json::from_str(&text).unwrap()).unwrap();
    assert_near(&next.services()[0], &learned);
    let again = next.margin(0, HardwareKind::Gpu); // as text it may lose the last bit
    assert!((again.ttft - margin.ttft).abs() < 1e-12 && (again.itl - margin.itl).abs() < 1e-12, "{again:?} {margin:?}");
    assert_eq!(next.factors(1, now), Factors::NEUTRAL);

    let mut saved = learner.save();
    saved.version = 99;
    assert_eq!(next.load(saved), Err(super::saved::WrongVersion(99)));
}

#[track_caller]
fn assert_near(left: &ServiceModel, right: &ServiceModel) {
    let figures = |model: &ServiceModel| {
        [model.step_base_ms, model.step_per_sequence_ms, model.prefill_tokens_per_s, model.fixed_ttft_ms]
    };
    for (left, right) in figures(left).into_iter().zip(figures(right)) {
        assert!((left - right).abs() <= 1e-9 * right.abs(), "{left} and {right}");
    }
}

#[test]
fn nonsense_never_makes_it_tell_nonsense() {
    let mut random = Pcg64Mcg::seed_from_u64(9);
    let mut learner = learner(&[pool("gpu", "h100", 2), pool("wafer", "cs3", 1), pool("api", "cloud-api", 1)]);
    let odd = [0, 1, 7, 1_000, u64::MAX / 2, u64::MAX];
    let odd_ms = [f64::NAN, f64::INFINITY, -5.0, 0.0, 1e-300, 1e300, 40.0];
    for _ in 0..20_000 {
        let mut pick = || odd[random.random_range(0..odd.len())];
        let mut seen = Observation {
            endpoint: (pick() % 6) as usize,
            class: (pick() % 3) as usize,
            streamed: pick() > 3,
            dispatched: Micros(pick()),
            first_byte: Micros(pick()),
            last_byte: Micros(pick()),
            input_tokens: pick(),
            cached_tokens: pick(),
            output_tokens: pick(),
            at_dispatch: Load { in_flight: pick() as u32, prefill_tokens: pick(), context_tokens: pick() },
            ..stream(0, 0.0, 1.0)
        };
        let mut pick_ms = || odd_ms[random.random_range(0..odd_ms.len())];
        let factors = Factors { ttft: pick_ms(), itl: pick_ms() };
        seen.predicted = Predicted {
            ttft_ms: pick_ms(),
            itl_ms: pick_ms(),
            itl_planned_ms: pick_ms(),
            total_ms: pick_ms(),
            factors,
        };
        learner.observe(&seen);
        for model in learner.services() {
            let positive = [model.step_base_ms, model.prefill_tokens_per_s];
            let rest = [model.step_per_sequence_ms, model.step_per_kv_token_ns, model.fixed_ttft_ms];
            assert!(positive.iter().all(|figure| figure.is_finite() && *figure > 0.0), "{model:?}");
            assert!(rest.iter().all(|figure| figure.is_finite() && *figure >= 0.0), "{model:?}");
            assert!(model.slots > 0);
        }
        for endpoint in 0..4 {
            let factors = learner.factors(endpoint, seen.last_byte);
            assert!((0.25..=16.0).contains(&factors.ttft) && (0.25..=16.0).contains(&factors.itl), "{factors:?}");
        }
        let margin = learner.margin(0, HardwareKind::Gpu);
        assert!((0.2..=1.2).contains(&margin.ttft) && (0.2..=1.2).contains(&margin.itl), "{margin:?}");
    }
}
