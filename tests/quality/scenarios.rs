//! What happens in a run besides its load: one table.

use pointsman::simulation::conditions::{Conditions, Disturbance, Happening, Metrics, Neighbour};
use pointsman::simulation::workload::{Bursts, Shape};
use pointsman_backends::portfolio::Portfolio;
use pointsman_policies::units::Micros;

/// One scenario.
pub struct Scenario {
    /// Its name on the command line and in tables.
    pub name: &'static str,
    /// What happens.
    pub about: &'static str,
    shape: fn(&mut Shape),
    conditions: fn(&mut Conditions, &Run<'_>),
    swap: Option<Swap>,
}

/// Another policy takes over in the middle of a run; baselines, which have none, do not notice.
#[derive(Clone, Copy)]
pub struct Swap {
    /// When, as a part of the run.
    pub at: f64,
    /// The text of the policy that takes over, from that of the one before.
    pub policy: fn(&str) -> String,
}

/// What a scenario knows of the run it happens in.
struct Run<'a> {
    portfolio: &'a Portfolio,
    span: Micros,
}

impl Run<'_> {
    /// A moment of the run, 0 to 1.
    fn at(&self, part: f64) -> Micros {
        Micros((self.span.0 as f64 * part) as u64)
    }

    /// The endpoints of pools for which something holds.
    fn endpoints(&self, of: impl Fn(&pointsman_policies::fleet::PoolFacts) -> bool) -> Vec<usize> {
        let pools = self.portfolio.endpoints.iter().map(|endpoint| &self.portfolio.facts[endpoint.pool]);
        pools.enumerate().filter(|(_, pool)| of(pool)).map(|(index, _)| index).collect()
    }
}

impl Scenario {
    /// Changes what is made of the traces.
    pub fn shape(&self, mut shape: Shape) -> Shape {
        (self.shape)(&mut shape);
        shape
    }

    /// Conditions of a run that lasts so long.
    pub fn conditions(&self, portfolio: &Portfolio, span: Micros, seed: u64) -> Conditions {
        let mut conditions = Conditions { seed, ..Conditions::default() };
        (self.conditions)(&mut conditions, &Run { portfolio, span });
        conditions
    }
}

impl Scenario {
    /// The policy that takes over.
    pub fn swap(&self) -> Option<Swap> {
        self.swap
    }
}

/// By name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// All of them.
pub static ALL: [Scenario; 19] = [
    Scenario {
        name: "steady",
        about: "the traces as they are; metrics every 50 ms",
        shape: same,
        conditions: calm,
        swap: None,
    },
    Scenario {
        name: "bursts",
        about: "half of every two minutes' requests come in 15 s, at four times their rate",
        shape: |shape| shape.bursts = Some(Bursts { period_s: 120.0, part: 0.5, factor: 4.0 }),
        conditions: calm,
        swap: None,
    },
    Scenario {
        name: "stale-1s",
        about: "metrics of engines are 1 s old",
        shape: same,
        conditions: |conditions, _| conditions.metrics = stale(1),
        swap: None,
    },
    Scenario {
        name: "stale-5s",
        about: "metrics of engines are 5 s old",
        shape: same,
        conditions: |conditions, _| conditions.metrics = stale(5),
        swap: None,
    },
    Scenario {
        name: "stale-15s",
        about: "metrics of engines are 15 s old",
        shape: same,
        conditions: |conditions, _| conditions.metrics = stale(15),
        swap: None,
    },
    Scenario {
        name: "lost",
        about: "metrics of engines never come",
        shape: same,
        conditions: |conditions, _| conditions.metrics = Metrics::LOST,
        swap: None,
    },
    Scenario {
        name: "noise-0.5",
        about: "what is predicted of prompts and answers is off by a lognormal factor of sigma 0.5",
        shape: |shape| shape.prediction_sigma = 0.5,
        conditions: calm,
        swap: None,
    },
    Scenario {
        name: "drift-2",
        about: "what is predicted of prompts and answers is twice the truth",
        shape: |shape| shape.prediction_drift = 2.0,
        conditions: calm,
        swap: None,
    },
    Scenario {
        name: "antagonist",
        about: "from 1/4 to 3/4 of the run somebody else takes 40 % of the h100 pool: 5 requests/s of 1500 + 300 tokens each",
        shape: same,
        conditions: |conditions, run| {
            let neighbour = Neighbour { rps: 5.0, input_tokens: 1500, output_tokens: 300 };
            let endpoints = run.endpoints(|pool| pool.name == "h100");
            let what = Happening::Neighbour(neighbour);
            conditions.disturbances.push(Disturbance { at: run.at(0.25), endpoints: endpoints.clone(), what });
            conditions.disturbances.push(Disturbance { at: run.at(0.75), endpoints, what: Happening::Alone });
        },
        swap: None,
    },
    Scenario {
        name: "site-lost",
        about: "site fjord (the A100s) is gone from 1/3 to 2/3 of the run",
        shape: same,
        conditions: |conditions, run| {
            let endpoints = run.endpoints(|pool| pool.site == "fjord");
            conditions.disturbances.push(Disturbance {
                at: run.at(1.0 / 3.0),
                endpoints: endpoints.clone(),
                what: Happening::Down,
            });
            conditions.disturbances.push(Disturbance { at: run.at(2.0 / 3.0), endpoints, what: Happening::Up });
        },
        swap: None,
    },
    Scenario {
        name: "tranche-late",
        about: "the second wafer and the third H100 come half-way, two of the A100s never",
        shape: same,
        conditions: |conditions, run| {
            let last =
                |endpoints: Vec<usize>, count: usize| endpoints[endpoints.len().saturating_sub(count)..].to_vec();
            let mut late = last(run.endpoints(|pool| pool.name == "wafer"), 1);
            late.extend(last(run.endpoints(|pool| pool.name == "h100"), 1));
            let never = last(run.endpoints(|pool| pool.name == "a100"), 2);
            let mut then = |at, endpoints, what| conditions.disturbances.push(Disturbance { at, endpoints, what });
            then(Micros(0), late.clone(), Happening::Down);
            then(Micros(0), never, Happening::Down);
            then(run.at(0.5), late, Happening::Up);
        },
        swap: None,
    },
    Scenario {
        name: "misdeclared",
        about: "one caller in five declares realtime whatever it is; judged by what it is",
        shape: |shape| shape.misdeclared = 0.2,
        conditions: calm,
        swap: None,
    },
    Scenario {
        name: "five-gateways",
        about: "five gateways that know nothing of each other; ingress 8 : 4 : 2 : 1 : 1",
        shape: |shape| shape.ingress = vec![8.0, 4.0, 2.0, 1.0, 1.0],
        conditions: calm,
        swap: None,
    },
    Scenario {
        name: "throttled",
        about: "the H100s work at 60 % of their speed from 1/3 to 2/3 of the run, and nobody says so",
        shape: same,
        conditions: |conditions, run| {
            let endpoints = run.endpoints(|pool| pool.name == "h100");
            let mut then = |at, speed| {
                let what = Happening::Speed(speed);
                conditions.disturbances.push(Disturbance { at: run.at(at), endpoints: endpoints.clone(), what });
            };
            then(1.0 / 3.0, 0.6);
            then(2.0 / 3.0, 1.0);
        },
        swap: None,
    },
    Scenario {
        name: "stalls",
        about: "every 30 s the H100s stand still for 3 s, and nobody says so",
        shape: same,
        conditions: stalls,
        swap: None,
    },
    Scenario {
        name: "stalls-hedged",
        about: "the same where Pointsman's route hedges at p95 within 2 % of its tokens",
        shape: same,
        conditions: stalls,
        swap: Some(Swap { at: 0.0, policy: |text| format!("{text}hedge = {{ after = \"p95\", budget = 0.02 }}\n") }),
    },
    Scenario {
        name: "policy-swap",
        about: "half-way another policy takes over under load: it keeps batch off the wafer",
        shape: same,
        conditions: calm,
        swap: Some(Swap { at: 0.5, policy: |text| text.replacen("[[route]]", BATCH_ON_GPUS, 1) }),
    },
    Scenario {
        name: "power-cap",
        about: "from 1/3 of the run the A100s' site may draw no more than 12 kW; idle it draws 5, full 18",
        shape: same,
        conditions: calm,
        swap: Some(Swap {
            at: 1.0 / 3.0,
            policy: |text| format!("{text}\n[limits]\nsite_power_kw = {{ fjord = 12 }}\n"),
        }),
    },
    Scenario {
        name: "budget",
        about: "from 1/3 of the run no more than $15 an hour may be spent; six sevenths of what it takes at load 1",
        shape: same,
        conditions: calm,
        swap: Some(Swap { at: 1.0 / 3.0, policy: |text| format!("{text}\n[limits]\nusd_per_hour = 15\n") }),
    },
];

/// A route before the first.
const BATCH_ON_GPUS: &str = "[[route]]\nname = \"batch-on-gpus\"\nwhen = 'request.class == \"batch\"'\n\
    pools = 'pool.hardware.kind == \"gpu\"'\n\n[[route]]";

/// The pool that stands still now and then.
const STALLING: &str = "h100";
/// So much of a machine's speed is left.
const STANDSTILL: f64 = 0.01;

fn same(_: &mut Shape) {}

fn calm(_: &mut Conditions, _: &Run<'_>) {}

fn stalls(conditions: &mut Conditions, run: &Run<'_>) {
    const EVERY: Micros = Micros::from_secs(30);
    const FOR: Micros = Micros::from_secs(3);
    let endpoints = run.endpoints(|pool| pool.name == STALLING);
    for at in (1..=run.span.0 / EVERY.0).map(|round| Micros(round * EVERY.0)) {
        let mut then = |at, speed| {
            let what = Happening::Speed(speed);
            conditions.disturbances.push(Disturbance { at, endpoints: endpoints.clone(), what });
        };
        then(at, STANDSTILL);
        then(at + FOR, 1.0);
    }
}

/// Read twenty times a second, and so old when they come.
fn stale(seconds: u64) -> Metrics {
    Metrics { delay: Micros::from_secs(seconds), ..Metrics::default() }
}
