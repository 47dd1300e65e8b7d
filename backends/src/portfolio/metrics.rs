//! How the engines of a pool are asked for their load, as the portfolio says.

use std::time::Duration;

use http::uri::PathAndQuery;
use pointsman_policies::language::{Diagnostic, Report};

use super::{Endpoint, Pool};
use crate::health::metrics_text::Engine;
use crate::health::scrape::Scrape;
use crate::pool::PoolShape;

/// How often an engine is asked where the file does not say.
const INTERVAL: Duration = Duration::from_secs(1);

/// Metrics of a pool's engines.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    engine: Engine,
    path: PathAndQuery,
    interval: Duration,
}

/// What a pool says of its metrics.
pub(super) fn read(shape: &PoolShape, report: &mut Report) -> Option<Metrics> {
    let Some(engine) = shape.metrics else {
        if let Some(path) = &shape.metrics_path {
            let idle = Diagnostic::warning("no-metrics", "`metrics_path` has no effect without `metrics`");
            report.push(idle.at(path.span.clone()).help("name the engine, as in `metrics = \"vllm\"`"));
        }
        return None;
    };
    let path = match &shape.metrics_path {
        None => engine.path(),
        Some(path) => match path.value.parse() {
            Ok(parsed) if path.value.starts_with('/') => parsed,
            _ => {
                let wrong = Diagnostic::error("bad-path", format!("`{}` is not a path", path.value));
                report.push(wrong.at(path.span.clone()).help("write it like `/metrics`"));
                return None;
            }
        },
    };
    let interval = shape.metrics_interval_ms.map_or(INTERVAL, Duration::from_millis);
    Some(Metrics { engine, path, interval })
}

impl Pool {
    /// How one of its endpoints is asked for its metrics; `None` where it is not.
    pub fn scrape(&self, endpoint: &Endpoint) -> Option<Scrape> {
        let Metrics { engine, path, interval } = self.metrics.clone()?;
        let path = format!("{}{path}", endpoint.address.base_path).parse().ok()?;
        Some(Scrape { engine, path, interval })
    }
}
