//! What each mechanism is claimed to be worth, in small: scenarios of a minute or two that need one, with it and without it.
//! A claim that held without its mechanism would say nothing of it. Every scenario is drawn anew by several seeds.

use std::sync::Arc;

use pointsman::simulation::conditions::{Conditions, Disturbance, Happening};
use pointsman::simulation::pointsman::Pointsman;
use pointsman::simulation::report::Report;
use pointsman::simulation::router::Router;
use pointsman::simulation::workload::rules::{ClassRule, Mix, Rules};
use pointsman::simulation::workload::trace::Row;
use pointsman::simulation::world;
use pointsman::snapshot::Snapshot;
use pointsman_policies::mechanisms::Mechanisms;
use pointsman_policies::units::Micros;
use tempfile::TempDir;

use super::*;
use crate::arguments::Without;

/// Each scenario is drawn so often.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;
/// First tokens within 1 s and others within 50 ms for the interactive, 4 s and 100 ms for the standard, ten minutes for
/// batch: the reference's.
const POLICY: &str = include_str!("../fleet/policy.toml");

/// A scenario: machines, what is asked of them, what happens to them.
struct Small {
    portfolio: &'static str,
    rps: f64,
    duration_s: f64,
    /// Parts of the requests that are interactive and standard.
    shares: [f64; 2],
    /// So many come beside them at one moment, all at once.
    jobs: u32,
    disturbances: fn(span: Micros) -> Vec<Disturbance>,
}

/// Two machines that slow with every request they have in their batch.
const BATCHING: &str = r#"
[pool.gpu]
hardware = "h100"
endpoints = ["http://a:1", "http://b:1"]
[pool.gpu.service]
step_base_ms = 18
step_per_sequence_ms = 1.0
prefill_tokens_per_s = 18_000
fixed_ttft_ms = 100
slots = 128
[pool.gpu.model.m]
usd_per_m = { input = 0.10, output = 0.40 }
"#;

/// A chat, and twenty seconds later a job of many long requests that have ten minutes.
const JOB_BESIDE_CHAT: Small = Small {
    portfolio: BATCHING,
    rps: 2.0,
    duration_s: 60.0,
    shares: [1.0, 0.0],
    jobs: 100,
    disturbances: |_| Vec::new(),
};

/// A cheap API whose first tokens come after three quarters of a second, now and then after one and a half, and three
/// machines that are dearer and sure.
const SCATTERING: Small = Small {
    portfolio: r#"
[pool.api]
hardware = "cloud-api"
endpoints = ["http://a:1"]
[pool.api.service]
fixed_ttft_ms = 700
[pool.api.model.m]
usd_per_m = { input = 0.10, output = 0.40 }
[pool.gpu]
hardware = "h100"
endpoints = ["http://b:1", "http://c:1", "http://d:1"]
[pool.gpu.model.m]
usd_per_m = { input = 0.30, output = 1.20 }
"#,
    rps: 6.0,
    duration_s: 240.0,
    shares: [0.7, 0.3],
    jobs: 0,
    disturbances: |_| Vec::new(),
};

/// Four accounts of a rented API. For a fifth of the time each, one or two of them work at a fifth of their speed,
/// because of others whom nobody here sees.
const NEIGHBOURS: Small = Small {
    portfolio: r#"
[pool.api]
hardware = "cloud-api"
endpoints = ["http://a:1", "http://b:1", "http://c:1", "http://d:1"]
[pool.api.model.m]
usd_per_m = { input = 0.10, output = 0.40 }
"#,
    rps: 8.0,
    duration_s: 120.0,
    shares: [0.7, 0.3],
    jobs: 0,
    disturbances: |span| {
        let slow = |endpoint: usize, from: f64, to: f64| {
            let then = |part: f64, speed| Disturbance {
                at: Micros((span.0 as f64 * part) as u64),
                endpoints: vec![endpoint],
                what: Happening::Speed(speed),
            };
            [then(from, 0.2), then(to, 1.0)]
        };
        [slow(0, 0.1, 0.3), slow(1, 0.1, 0.5), slow(2, 0.3, 0.7), slow(3, 0.5, 0.9), slow(0, 0.7, 0.9)].concat()
    },
};

/// Two APIs; the cheaper works at a fifth of the speed that the catalog tells of.
const NOT_AS_TOLD: Small = Small {
    portfolio: r#"
[pool.cheap]
hardware = "cloud-api"
endpoints = ["http://a:1", "http://b:1"]
[pool.cheap.model.m]
usd_per_m = { input = 0.10, output = 0.40 }
[pool.dear]
hardware = "cloud-api"
endpoints = ["http://c:1", "http://d:1"]
[pool.dear.model.m]
usd_per_m = { input = 0.30, output = 1.20 }
"#,
    rps: 6.0,
    duration_s: 60.0,
    shares: [0.7, 0.3],
    jobs: 0,
    disturbances: |_| vec![Disturbance { at: Micros(0), endpoints: vec![0, 1], what: Happening::Speed(0.2) }],
};

/// Three pools: slow ones that only batch can use, an API, another that costs ten times as much. The first API works at a
/// tenth of its speed for half a minute, until nobody uses it.
const RECOVERED: Small = Small {
    portfolio: r#"
[pool.aged]
hardware = "h100"
endpoints = ["http://a:1", "http://b:1"]
[pool.aged.service]
step_base_ms = 80
[pool.aged.model.m]
usd_per_m = { input = 0.05, output = 0.20 }
[pool.cheap]
hardware = "cloud-api"
endpoints = ["http://c:1"]
[pool.cheap.model.m]
usd_per_m = { input = 0.10, output = 0.40 }
[pool.dear]
hardware = "cloud-api"
endpoints = ["http://d:1"]
[pool.dear.model.m]
usd_per_m = { input = 1.00, output = 4.00 }
"#,
    rps: 6.0,
    duration_s: 300.0,
    shares: [0.8, 0.0],
    jobs: 0,
    disturbances: |_| {
        let then = |at_s, speed| Disturbance {
            at: Micros::from_secs(at_s),
            endpoints: vec![2],
            what: Happening::Speed(speed),
        };
        vec![then(10, 0.1), then(40, 1.0)]
    },
};

impl Small {
    fn workload(&self, seed: u64) -> Workload {
        let input = Lengths { median_tokens: 600.0, p90_tokens: 1_500.0 };
        let output = Lengths { median_tokens: 150.0, p90_tokens: 300.0 };
        let Small { rps, duration_s, .. } = *self;
        let chat = Described { rps, duration_s, burstiness: 1.0, input, output }.trace(seed);
        let job = (0..self.jobs).map(|_| Row::plain(Micros::from_secs(20), 4_000, 400));
        let mut rows: Vec<Row> = chat.rows.into_iter().chain(job).collect();
        rows.sort_by_key(|row| row.at);
        let traces = [Trace::of("chat", rows)];
        let class = |name: &str, share, longest_input_tokens| ClassRule {
            name: name.to_owned(),
            share,
            longest_input_tokens,
            longest_output_tokens: u32::MAX,
            streams: 1.0,
        };
        let [interactive, standard] = self.shares;
        let classes = vec![
            class("interactive", interactive, 3_999),
            class("standard", standard, 3_999),
            class("batch", (1.0 - interactive - standard).max(0.0), u32::MAX),
        ];
        let mix = Mix { classes, bound_tokens: 1_024 };
        Workload::by(&Rules::stated(&traces, &mix), &traces, &Shape { seed, ..Shape::default() })
    }

    fn play(&self, mechanisms: Mechanisms, seed: u64) -> Report {
        let folder = TempDir::new().expect("a folder");
        for (name, text) in [("pointsman.toml", ""), ("portfolio.toml", self.portfolio), ("policy.toml", POLICY)] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let fleet = Fleet::load(&folder.path().join("pointsman.toml")).unwrap_or_else(|told| panic!("{told}"));
        let work = self.workload(seed);
        let conditions = Conditions { seed, disturbances: (self.disturbances)(work.span), ..Conditions::default() };
        let machines = pointsman_backends::fleet::Fleet::default();
        let snapshot = Arc::new(Snapshot::build(1, fleet.copy(), None, &machines));
        let mut routers: Vec<Box<dyn Router>> = vec![Box::new(Pointsman::new(snapshot, seed).with(mechanisms))];
        world::run(&fleet.setup(), &work, &conditions, &mut routers)
    }

    /// With everything at least one part of the promises to the interactive is kept, whatever the seed, and without one
    /// mechanism at most another part.
    #[track_caller]
    fn needs(&self, mechanism: Without, with: f64, without: f64) {
        for seed in SEEDS {
            let all = self.play(Mechanisms::default(), seed);
            let less = self.play(mechanism.mechanisms(), seed);
            let told = format!(
                "seed {seed}: {:.3} of interactive promises kept, {:.3} {}",
                kept(&all),
                kept(&less),
                mechanism.row()
            );
            println!("{told}");
            assert!(
                kept(&all) >= with && kept(&less) <= without,
                "{told}; to be at least {with} and at most {without}"
            );
            assert!(all.classes.iter().all(|class| class.kept.part() >= with), "{told}, others {:?}", all.classes);
        }
    }
}

fn kept(report: &Report) -> f64 {
    report.classes[0].kept.part()
}

#[test]
fn without_the_priority_queue_a_chat_stands_behind_a_job() {
    JOB_BESIDE_CHAT.needs(Without::Queue, 0.95, 0.5);
}

#[test]
fn without_regard_for_victims_a_job_slows_those_who_chat() {
    JOB_BESIDE_CHAT.needs(Without::Victims, 0.95, 0.5);
}

#[test]
fn without_calibrated_margins_too_much_is_believed_of_a_machine_that_scatters() {
    SCATTERING.needs(Without::Margins, 0.95, 0.91);
}

#[test]
fn without_the_factor_for_hidden_load_requests_go_on_to_machines_that_others_slow() {
    NEIGHBOURS.needs(Without::HiddenLoad, 0.94, 0.85);
}

#[test]
fn without_learned_service_models_a_machine_is_taken_for_what_its_maker_says() {
    NOT_AS_TOLD.needs(Without::Services, 0.92, 0.8);
}

#[test]
fn without_exploration_nobody_finds_out_that_a_machine_has_recovered() {
    for seed in SEEDS {
        let part = |mechanisms| {
            let by_pool = &RECOVERED.play(mechanisms, seed).classes[0].by_pool;
            by_pool[1] as f64 / by_pool.iter().sum::<u64>() as f64
        };
        let (all, less) = (part(Mechanisms::default()), part(Without::Exploration.mechanisms()));
        let told =
            format!("seed {seed}: {all:.3} of interactive requests at the cheap pool, {less:.3} without exploration");
        println!("{told}");
        assert!(all >= 0.5 && less <= 0.25, "{told}; it is itself again for the last five sixths");
    }
}
