//! How the machines of a pool are asked whether they are well, as the portfolio says.

use std::time::Duration;

use http::uri::PathAndQuery;
use pointsman_policies::language::{Diagnostic, Report};

use super::{Endpoint, Pool};
use crate::health::probe::Probe;
use crate::pool::PoolShape;

/// How often a machine is asked where the file does not say.
const INTERVAL: Duration = Duration::from_secs(5);

/// What a pool says of it.
pub(super) fn read(shape: &PoolShape, report: &mut Report) -> Option<Probe> {
    let path = shape.health.as_ref()?;
    let interval = shape.health_interval_ms.map_or(INTERVAL, Duration::from_millis);
    match path.value.parse::<PathAndQuery>() {
        Ok(parsed) if path.value.starts_with('/') => Some(Probe { path: parsed, interval }),
        _ => {
            let wrong = Diagnostic::error("bad-path", format!("`{}` is not a path", path.value));
            report.push(wrong.at(path.span.clone()).help("write it like `/v1/models` or `/health`"));
            None
        }
    }
}

impl Pool {
    /// How one of its endpoints is asked whether it is well; `None` where it is not.
    pub fn probe(&self, endpoint: &Endpoint) -> Option<Probe> {
        let Probe { path, interval } = self.health.clone()?;
        Some(Probe { path: format!("{}{path}", endpoint.address.base_path).parse().ok()?, interval })
    }
}
