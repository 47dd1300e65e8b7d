//! Sums as the admin API shows them.

use serde::Serialize;

use super::rollup::Stats;

/// Sums of one series over one span.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Of what.
    pub name: String,
    requests: u32,
    errors: u32,
    slo_kept: u32,
    slo_missed: u32,
    input_tokens: u64,
    output_tokens: u64,
    usd: f64,
    joules: f64,
    usd_all_gpu: Option<f64>,
    joules_all_gpu: Option<f64>,
    ttft_p50_ms: Option<f64>,
    ttft_p95_ms: Option<f64>,
    ttft_p99_ms: Option<f64>,
    itl_p50_ms: Option<f64>,
    itl_p95_ms: Option<f64>,
    itl_p99_ms: Option<f64>,
}

impl Summary {
    /// Under a name.
    pub fn of(name: &str, stats: &Stats) -> Summary {
        let Stats { requests, errors, kept, missed, input_tokens, output_tokens, usd, joules, .. } = *stats;
        Summary {
            name: name.to_owned(),
            requests,
            errors,
            slo_kept: kept,
            slo_missed: missed,
            input_tokens,
            output_tokens,
            usd,
            joules,
            usd_all_gpu: stats.all_gpu(),
            joules_all_gpu: stats.all_gpu_joules(),
            ttft_p50_ms: stats.ttft.quantile(0.5),
            ttft_p95_ms: stats.ttft.quantile(0.95),
            ttft_p99_ms: stats.ttft.quantile(0.99),
            itl_p50_ms: stats.itl.quantile(0.5),
            itl_p95_ms: stats.itl.quantile(0.95),
            itl_p99_ms: stats.itl.quantile(0.99),
        }
    }
}

/// Sums of one series, step by step: a column for each figure.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Columns {
    name: String,
    requests: Vec<u32>,
    errors: Vec<u32>,
    slo_kept: Vec<u32>,
    slo_missed: Vec<u32>,
    input_tokens: Vec<u64>,
    output_tokens: Vec<u64>,
    usd: Vec<f64>,
    joules: Vec<f64>,
    usd_all_gpu: Vec<Option<f64>>,
    ttft_p50_ms: Vec<Option<f64>>,
    ttft_p95_ms: Vec<Option<f64>>,
    ttft_p99_ms: Vec<Option<f64>>,
    itl_p50_ms: Vec<Option<f64>>,
    itl_p95_ms: Vec<Option<f64>>,
    itl_p99_ms: Vec<Option<f64>>,
}

impl Columns {
    /// Of the steps of a series, in order; `None` where nothing came.
    pub fn of<'s>(name: &str, steps: impl Iterator<Item = Option<&'s Stats>>) -> Columns {
        let mut columns = Columns { name: name.to_owned(), ..Columns::default() };
        for step in steps {
            let step = step.map(|stats| Summary::of("", stats)).unwrap_or_else(nothing);
            columns.requests.push(step.requests);
            columns.errors.push(step.errors);
            columns.slo_kept.push(step.slo_kept);
            columns.slo_missed.push(step.slo_missed);
            columns.input_tokens.push(step.input_tokens);
            columns.output_tokens.push(step.output_tokens);
            columns.usd.push(step.usd);
            columns.joules.push(step.joules);
            columns.usd_all_gpu.push(step.usd_all_gpu);
            columns.ttft_p50_ms.push(step.ttft_p50_ms);
            columns.ttft_p95_ms.push(step.ttft_p95_ms);
            columns.ttft_p99_ms.push(step.ttft_p99_ms);
            columns.itl_p50_ms.push(step.itl_p50_ms);
            columns.itl_p95_ms.push(step.itl_p95_ms);
            columns.itl_p99_ms.push(step.itl_p99_ms);
        }
        columns
    }
}

/// A step without requests costs nothing on GPUs either.
fn nothing() -> Summary {
    Summary { usd_all_gpu: Some(0.0), ..Summary::default() }
}
