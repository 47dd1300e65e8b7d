//! What people can pick today, each from its published formula: one table with the source, what can be tuned, and how to
//! build it. Where a released program falls short of its own description, the description is followed.
//!
//! All of them send a request that was turned away to the next best endpoint, three attempts in all; none is asked to
//! send to a machine that is down or that a request does not fit.

/// What those have in common that send each request as soon as it comes.
pub mod at_once;
/// One value for each endpoint.
mod column;
/// Balance by counting.
mod load;
/// Balance by latencies seen.
mod latency;
/// Which prompts an endpoint is believed to hold.
mod prefix;
/// Weigh what engines report.
mod weighed;
/// Choose a pool first.
mod placed;
/// A perfect predictor.
mod mirror;
/// Predict latency.
mod predicted;
/// AIBrix's SLO router.
mod aibrix;

#[cfg(test)]
mod tests;

use fastrand::Rng;
use pointsman::simulation::router::Router;
use pointsman_policies::fleet::PoolFacts;
use pointsman_policies::policy::Slo;

use at_once::AtOnce;

/// What a baseline is set up with.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// Pools of the portfolio.
    pub pools: &'a [PoolFacts],
    /// Promises of the classes, in the order of their numbers.
    pub promises: &'a [Slo],
}

/// Something that can be tuned.
#[derive(Clone, Debug, PartialEq)]
pub struct Knob {
    /// Its name.
    pub name: String,
    /// What its authors ship, or what is most neutral.
    pub default: f64,
    /// What the search may choose from.
    pub values: Vec<f64>,
}

/// One row of the table.
pub struct Baseline {
    /// Its name in tables and files.
    pub name: &'static str,
    /// The formula in a few words.
    pub formula: &'static str,
    /// Where it is published.
    pub source: &'static str,
    knobs: fn(&World<'_>) -> Vec<Knob>,
    build: fn(&World<'_>, &[f64], u64) -> Box<dyn Router>,
}

impl Baseline {
    /// What can be tuned in a world: nothing, numbers, or the pool of each class.
    pub fn knobs(&self, world: &World<'_>) -> Vec<Knob> {
        (self.knobs)(world)
    }

    /// The router with these settings, one for each knob; defaults where some are missing.
    pub fn build(&self, world: &World<'_>, settings: &[f64], seed: u64) -> Box<dyn Router> {
        let knobs = self.knobs(world);
        let set = |(at, knob): (usize, &Knob)| settings.get(at).copied().unwrap_or(knob.default);
        let settings: Vec<f64> = knobs.iter().enumerate().map(set).collect();
        (self.build)(world, &settings, seed)
    }
}

/// The row of this name.
pub fn find(name: &str) -> Option<&'static Baseline> {
    ALL.iter().find(|baseline| baseline.name == name)
}

/// The table.
pub fn all() -> &'static [Baseline] {
    &ALL
}

/// The table.
static ALL: [Baseline; 19] = [
    Baseline {
        name: "round robin",
        formula: "one after the other",
        source: "nginx ngx_http_upstream_module, default method",
        knobs: none,
        build: |_, _, _| AtOnce::boxed("round robin", load::RoundRobin::default()),
    },
    Baseline {
        name: "random",
        formula: "by lot",
        source: "Envoy load balancing policy RANDOM",
        knobs: none,
        build: |_, _, seed| AtOnce::boxed("random", load::Random { lots: lots(seed) }),
    },
    Baseline {
        name: "least outstanding",
        formula: "min in flight",
        source: "HAProxy leastconn; LiteLLM least-busy",
        knobs: none,
        build: |_, _, seed| AtOnce::boxed("least outstanding", load::LeastOutstanding { lots: lots(seed) }),
    },
    Baseline {
        name: "two choices",
        formula: "min in flight of two by lot",
        source: "Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, IEEE TPDS 2001",
        knobs: none,
        build: |_, _, seed| AtOnce::boxed("two choices", load::TwoChoices { lots: lots(seed) }),
    },
    Baseline {
        name: "peak ewma",
        formula: "of two by lot, min peak-EWMA(latency) * (pending + 1)",
        source: "Finagle PeakEwma, linkerd2-proxy (default RTT 30 ms, decay 10 s)",
        knobs: |_| vec![knob("decay_s", 10.0, &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0])],
        build: |_, set, seed| AtOnce::boxed("peak ewma", latency::PeakEwma::new(lots(seed), set[0])),
    },
    Baseline {
        name: "prequal",
        formula: "probes; above the quantile of in-flight hot, among cold min latency, else min in flight",
        source: "Wydrowski et al., Load is not what you should balance: Introducing Prequal, NSDI 2024",
        knobs: |_| {
            let quantile = knob("quantile", 0.84, &[0.5, 0.75, 0.84, 0.9, 0.99, 1.0]);
            vec![quantile, knob("probes", 3.0, &[1.0, 3.0, 6.0])]
        },
        build: |_, set, seed| AtOnce::boxed("prequal", latency::Prequal::new(lots(seed), set[0], set[1] as usize)),
    },
    Baseline {
        name: "litellm latency",
        formula: "by lot within (1 + buffer) of the least windowed mean of latency per token (first token for streams)",
        source: "LiteLLM router_strategy/lowest_latency.py and its routing docs",
        knobs: |_| {
            let buffer = knob("buffer", 0.0, &[0.0, 0.1, 0.5, 1.0, 3.0, 10.0]);
            vec![buffer, knob("window", 10.0, &[10.0, 50.0, 200.0])]
        },
        build: |_, set, seed| {
            AtOnce::boxed("litellm latency", latency::LitellmLatency::new(lots(seed), set[0], set[1] as usize))
        },
    },
    Baseline {
        name: "litellm cost",
        formula: "min input price + output price",
        source: "LiteLLM router_strategy/lowest_cost.py",
        knobs: none,
        build: |_, _, seed| AtOnce::boxed("litellm cost", placed::LitellmCost { lots: lots(seed) }),
    },
    Baseline {
        name: "vllm internal",
        formula: "min 4 * waiting + running",
        source: "vLLM v1/engine/core_client.py, data-parallel load balancing",
        knobs: |_| vec![knob("waiting_weight", 4.0, &[1.0, 2.0, 4.0, 8.0])],
        build: |_, set, seed| AtOnce::boxed("vllm internal", load::VllmInternal::new(lots(seed), set[0])),
    },
    Baseline {
        name: "llm-d default",
        formula: "max 2 * free queue + 2 * free KV + 3 * prefix held, each 0 to 1",
        source: "gateway-api-inference-extension pkg/epp scorers queue, kv-cache-utilization, prefix; llm-d default config",
        knobs: |_| {
            let weight = |name, default| knob(name, default, &[0.0, 1.0, 2.0, 3.0, 5.0, 8.0]);
            vec![weight("queue", 2.0), weight("kv", 2.0), weight("prefix", 3.0)]
        },
        build: |_, set, seed| {
            let weights = weighed::Weights { queue: set[0], kv: set[1], prefix: set[2] };
            AtOnce::boxed("llm-d default", weighed::LlmdDefault::new(lots(seed), weights))
        },
    },
    Baseline {
        name: "llm-d predicted",
        formula: "least headroom among endpoints predicted to keep the promise, else least deficit; perfect predictor",
        source: "llm-d-router latency scorer README (headroomSelectionStrategy, TTFT weight 0.8, TPOT weight 0.2)",
        knobs: |_| {
            let strategy = knob("most", 0.0, &[0.0, 1.0]);
            let weight = knob("ttft_weight", 0.8, &[0.2, 0.5, 0.8]);
            vec![strategy, weight, knob("slo_share", 1.0, &[0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0])]
        },
        build: |_, set, seed| {
            let strategy = if set[0] > 0.5 { predicted::Strategy::Most } else { predicted::Strategy::Least };
            AtOnce::boxed("llm-d predicted", predicted::LlmdPredicted::new(lots(seed), strategy, set[1], set[2]))
        },
    },
    Baseline {
        name: "most headroom",
        formula: "max over endpoints of the scarcest share of the promise left over; perfect predictor",
        source: "llm-d-router latency scorer, strategy `most`, without weights",
        knobs: none,
        build: |_, _, seed| {
            let mirror = mirror::Mirror::default();
            AtOnce::boxed("most headroom", predicted::MostHeadroom { lots: lots(seed), mirror })
        },
    },
    Baseline {
        name: "smg cache_aware",
        formula: "holder of more than the threshold of the prompt, else least sent; min in flight when loads drift apart",
        source: "SGLang model gateway (SMG) policies/cache_aware.rs",
        knobs: |_| {
            let threshold = knob("threshold", 0.3, &[0.1, 0.3, 0.5, 0.8]);
            let apart = knob("apart", 32.0, &[1.0, 2.0, 4.0, 8.0, 32.0]);
            vec![threshold, apart, knob("ratio", 1.1, &[1.1, 1.5])]
        },
        build: |_, set, seed| {
            AtOnce::boxed("smg cache_aware", weighed::SmgCacheAware::new(lots(seed), set[0], set[1], set[2]))
        },
    },
    Baseline {
        name: "smg least_load",
        formula: "min (queued + in-flight tokens) / throughput + 0.15 s * k / (1 - k)",
        source: "SGLang model gateway (SMG) policies/least_load.rs",
        knobs: |_| {
            let weight = knob("kv_weight_s", 0.15, &[0.05, 0.15, 0.5, 1.5]);
            vec![weight, knob("throughput", 2000.0, &[500.0, 2000.0, 8000.0, 32000.0])]
        },
        build: |_, set, seed| AtOnce::boxed("smg least_load", weighed::SmgLeastLoad::new(lots(seed), set[0], set[1])),
    },
    Baseline {
        name: "dynamo kv",
        formula: "min overlap weight * (prefill - overlap) blocks + decode blocks",
        source: "NVIDIA Dynamo docs, Routing Concepts (cost calculation)",
        knobs: |_| vec![knob("prefill_weight", 1.0, &[0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0])],
        build: |_, set, seed| AtOnce::boxed("dynamo kv", weighed::DynamoKv::new(lots(seed), set[0])),
    },
    Baseline {
        name: "dynamo grid",
        formula: "TTFT x ITL grid to pool, by search; KV cost inside the pool",
        source: "NVIDIA Dynamo docs, Global Router Configuration; Routing Concepts",
        knobs: by_class,
        build: |_, set, seed| {
            let (pools, inside) = (indices(set), weighed::DynamoKv::new(lots(seed), 1.0));
            AtOnce::boxed("dynamo grid", placed::ByClass { pools, inside })
        },
    },
    Baseline {
        name: "static class to pool",
        formula: "class to pool, by search; least outstanding inside the pool",
        source: "Envoy and Gateway API header matches to clusters",
        knobs: by_class,
        build: |_, set, seed| {
            let (pools, inside) = (indices(set), load::LeastOutstanding { lots: lots(seed) });
            AtOnce::boxed("static class to pool", placed::ByClass { pools, inside })
        },
    },
    Baseline {
        name: "aibrix slo",
        formula: "queue by elapsed + profile latency - (TPOT * tokens + TTFT); most relaxed pool with room",
        source: "AIBrix gateway plugin queue/slo_queue.go, algorithms/slo.go, least_load.go (pulling)",
        knobs: |_| vec![knob("cap", 1.0, &[0.7, 1.0, 1.3]), knob("slo_share", 1.0, &[0.3, 0.45, 0.6, 0.8, 1.0])],
        build: |_, set, _| Box::new(aibrix::AibrixSlo::new(set[0], set[1])),
    },
    Baseline {
        name: "polyserve",
        formula: "tier to pool, by search; fullest endpoint that keeps all promises, else a tighter tier's",
        source: "Zhu et al., PolyServe: Efficient Multi-SLO Serving at Scale, arXiv:2507.17769",
        knobs: |world| {
            let mut knobs = by_class(world);
            knobs.push(knob("slo_share", 1.0, &[0.7, 0.8, 0.9, 1.0]));
            knobs
        },
        build: |world, set, seed| {
            let (pools, share) = set.split_at(world.promises.len());
            let paces = world.promises.iter().map(|slo| slo.itl_ms.unwrap_or(f64::INFINITY)).collect();
            let router = predicted::PolyServe::new(lots(seed), indices(pools), paces, share[0]);
            AtOnce::boxed("polyserve", router)
        },
    },
];

fn none(_: &World<'_>) -> Vec<Knob> {
    Vec::new()
}

fn knob(name: &str, default: f64, values: &[f64]) -> Knob {
    Knob { name: name.to_owned(), default, values: values.to_vec() }
}

/// For each class, which pool: the fastest where nothing was searched for.
fn by_class(world: &World<'_>) -> Vec<Knob> {
    let values: Vec<f64> = (0..world.pools.len()).map(|pool| pool as f64).collect();
    let step = |pool: &PoolFacts| pool.service.step_base_ms;
    let fastest = world.pools.iter().enumerate().min_by(|(_, one), (_, other)| step(one).total_cmp(&step(other)));
    let default = fastest.map_or(0.0, |(pool, _)| pool as f64);
    (0..world.promises.len()).map(|class| knob(&format!("pool of class {class}"), default, &values)).collect()
}

fn indices(settings: &[f64]) -> Vec<usize> {
    settings.iter().map(|setting| *setting as usize).collect()
}

fn lots(seed: u64) -> Rng {
    Rng::with_seed(seed)
}
