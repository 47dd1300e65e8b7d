//! Reads the metrics of inference engines: a few names out of Prometheus text, whatever else stands there.

use http::uri::PathAndQuery;
use schemars::JsonSchema;
use serde::Deserialize;

use super::engine_report::EngineReport;

/// Engines whose metrics are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// vLLM.
    Vllm,
    /// SGLang; started with `--enable-metrics`.
    Sglang,
    /// llama.cpp; started with `--metrics`.
    #[serde(rename = "llamacpp")]
    LlamaCpp,
    /// `trtllm-serve`.
    TensorrtLlm,
}

/// The names an engine uses, current ones before those of older releases; none where it does not tell.
struct Names {
    path: &'static str,
    running: &'static [&'static str],
    waiting: &'static [&'static str],
    kv_used: &'static [&'static str],
    hit_rate: &'static [&'static str],
    queries: &'static [&'static str],
    hits: &'static [&'static str],
}

const VLLM: Names = Names {
    path: "/metrics",
    running: &["vllm:num_requests_running"],
    waiting: &["vllm:num_requests_waiting"],
    kv_used: &["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"],
    hit_rate: &[],
    queries: &["vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"],
    hits: &["vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"],
};

const SGLANG: Names = Names {
    path: "/metrics",
    running: &["sglang:num_running_reqs"],
    waiting: &["sglang:num_queue_reqs"],
    kv_used: &["sglang:token_usage"],
    hit_rate: &["sglang:cache_hit_rate"],
    queries: &[],
    hits: &[],
};

const LLAMA_CPP: Names = Names {
    path: "/metrics",
    running: &["llamacpp:requests_processing"],
    waiting: &["llamacpp:requests_deferred"],
    kv_used: &["llamacpp:kv_cache_usage_ratio"],
    hit_rate: &[],
    queries: &[],
    hits: &[],
};

const TENSORRT_LLM: Names = Names {
    path: "/prometheus/metrics",
    running: &["trtllm_num_requests_running"],
    waiting: &["trtllm_num_requests_waiting"],
    kv_used: &["trtllm_kv_cache_utilization"],
    hit_rate: &["trtllm_kv_cache_hit_rate"],
    queries: &[],
    hits: &[],
};

impl Engine {
    /// Where it shows its metrics, below the endpoint's base path.
    pub fn path(self) -> PathAndQuery {
        PathAndQuery::from_static(self.names().path)
    }

    /// What it says of itself; `None` where the text does not tell how many requests it has.
    pub fn read(self, text: &str) -> Option<EngineReport> {
        let names = self.names();
        let mut samples = Samples::default();
        let wanted = [names.running, names.waiting, names.kv_used, names.hit_rate, names.queries, names.hits];
        for line in text.lines() {
            let Some((name, value)) = sample(line) else { continue };
            for (sums, names) in samples.0.iter_mut().zip(wanted) {
                let rank = names.iter().position(|known| *known == name);
                if let Some(rank) = rank {
                    sums.add(rank, value);
                }
            }
        }
        let [running, waiting, kv_used, hit_rate, queries, hits] = samples.0;
        Some(EngineReport {
            running: running.sum()? as u32,
            waiting: waiting.sum().unwrap_or(0.0) as u32,
            kv_used: kv_used.mean(),
            prefix_hit_rate: hit_rate.mean(),
            prefix_totals: queries.sum().zip(hits.sum()),
        })
    }

    fn names(self) -> &'static Names {
        match self {
            Engine::Vllm => &VLLM,
            Engine::Sglang => &SGLANG,
            Engine::LlamaCpp => &LLAMA_CPP,
            Engine::TensorrtLlm => &TENSORRT_LLM,
        }
    }
}

/// Values of one metric over its label sets (models, ranks), by the most current of its names.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    sum: f64,
    count: u32,
    rank: usize,
}

#[derive(Default)]
struct Samples([Sums; 6]);

impl Sums {
    fn add(&mut self, rank: usize, value: f64) {
        if self.count == 0 || rank < self.rank {
            *self = Sums { sum: 0.0, count: 0, rank };
        }
        if rank == self.rank {
            self.sum += value;
            self.count += 1;
        }
    }

    fn sum(self) -> Option<f64> {
        (self.count > 0).then_some(self.sum)
    }

    fn mean(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

/// Name and value of one line; `None` for comments and whatever is no finite, non-negative number.
fn sample(line: &str) -> Option<(&str, f64)> {
    let line = line.trim_start();
    if line.starts_with('#') {
        return None;
    }
    let (name, rest) = match line.split_once('{') {
        Some((name, labelled)) => (name, labelled.rsplit_once('}')?.1),
        None => line.split_once(char::is_whitespace)?,
    };
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((name.trim_end(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(engine: Engine, text: &str, expected: EngineReport) {
        assert_eq!(engine.read(text), Some(expected));
    }

    #[test]
    fn each_engine_is_read_by_its_own_names() {
        check(
            Engine::Vllm,
            "# HELP vllm:num_requests_running Number of requests in model execution batches.\n\
             # TYPE vllm:num_requests_running gauge\n\
             vllm:num_requests_running{engine=\"0\",model_name=\"a}b\"} 7.0\n\
             vllm:num_requests_running{engine=\"1\",model_name=\"a}b\"} 5.0\n\
             vllm:num_requests_waiting{engine=\"0\"} 2.0 1764000000000\n\
             vllm:gpu_cache_usage_perc{engine=\"0\"} 0.9\n\
             vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n\
             vllm:kv_cache_usage_perc{engine=\"1\"} 0.75\n\
             vllm:prefix_cache_queries_total{engine=\"0\"} 1000.0\n\
             vllm:prefix_cache_hits_total{engine=\"0\"} 400.0\n\
             vllm:time_to_first_token_seconds_bucket{le=\"0.1\"} 3\n",
            EngineReport {
                running: 12,
                waiting: 2,
                kv_used: Some(0.5),
                prefix_hit_rate: None,
                prefix_totals: Some((1000.0, 400.0)),
            },
        );
        check(
            Engine::Sglang,
            "sglang:num_running_reqs{tp_rank=\"0\"} 8\nsglang:num_queue_reqs 4\nsglang:token_usage 0.52\n\
             sglang:cache_hit_rate 0.28\n",
            EngineReport {
                running: 8,
                waiting: 4,
                kv_used: Some(0.52),
                prefix_hit_rate: Some(0.28),
                prefix_totals: None,
            },
        );
        check(
            Engine::LlamaCpp,
            "llamacpp:requests_processing 3\nllamacpp:requests_deferred 1\nllamacpp:predicted_tokens_seconds 128.5\n",
            EngineReport { running: 3, waiting: 1, ..EngineReport::default() },
        );
        check(
            Engine::TensorrtLlm,
            "trtllm_num_requests_running{model_name=\"m\"} 3.0\ntrtllm_num_requests_waiting 0.0\n\
             trtllm_kv_cache_utilization 0.1\ntrtllm_kv_cache_hit_rate 0.5\n",
            EngineReport { running: 3, kv_used: Some(0.1), prefix_hit_rate: Some(0.5), ..EngineReport::default() },
        );
    }

    #[test]
    fn what_is_no_metrics_text_gives_no_report() {
        for text in
            ["", "<html>404</html>", "{\"error\":{}}", "vllm:num_requests_running NaN", "vllm:num_requests_running"]
        {
            assert_eq!(Engine::Vllm.read(text), None, "{text}");
        }
        assert_eq!(Engine::Sglang.read("vllm:num_requests_running 1"), None, "another engine's names");
    }

    #[test]
    fn odd_lines_are_skipped_and_the_rest_is_read() {
        let text = "{} 1\n}{ 2\n\u{0}\nvllm:num_requests_running{a=\"b\" 3\nvllm:num_requests_running 4\n  \nx y z";
        check(Engine::Vllm, text, EngineReport { running: 4, ..EngineReport::default() });
    }
}
