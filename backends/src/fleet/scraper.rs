//! Keeps asking one engine for its metrics, as long as the endpoint is part of the portfolio.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{State, since};
use crate::connect::Connections;
use crate::endpoint::EndpointId;
use crate::health::scrape::Scrape;
use crate::portfolio::Pool;

/// An engine that gives no report is asked less and less often, down to once in this time.
const SLOWEST: Duration = Duration::from_secs(30);

/// The task that asks; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Scraper {
    scrape: Scrape,
    kv_tokens: Option<u64>,
    connections: Arc<Connections>,
    _stop: DropGuard,
}

/// Whom to ask, and who wants to know.
pub(super) struct Asked {
    pub(super) id: EndpointId,
    pub(super) connections: Arc<Connections>,
    pub(super) state: Arc<State>,
    pub(super) kv_tokens: Option<u64>,
    pub(super) origin: Instant,
}

impl Scraper {
    /// Begins to ask, where there is a runtime to do it; `tasks` owns the task.
    pub(super) fn start(scrape: Scrape, pool: &Pool, asked: Asked, tasks: &TaskTracker) -> Option<Scraper> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let mut key = HeaderMap::new();
        if let Some(api_key) = &pool.api_key {
            pool.dialect.authorize(&mut key, api_key);
        }
        let stop = CancellationToken::new();
        let (connections, kv_tokens) = (Arc::clone(&asked.connections), asked.kv_tokens);
        let asking = stop.clone().run_until_cancelled_owned(ask_on(scrape.clone(), key, asked));
        tasks.spawn_on(asking, &runtime);
        Some(Scraper { scrape, kv_tokens, connections, _stop: stop.drop_guard() })
    }

    /// Whether it does what is wanted now.
    pub(super) fn serves(&self, scrape: &Scrape, kv_tokens: Option<u64>, connections: &Arc<Connections>) -> bool {
        self.scrape == *scrape && self.kv_tokens == kv_tokens && Arc::ptr_eq(&self.connections, connections)
    }
}

async fn ask_on(scrape: Scrape, key: HeaderMap, asked: Asked) {
    let (mut failures, mut told) = (0_u32, false);
    loop {
        let report = scrape.ask(&asked.connections, &key).await;
        match report {
            Ok(report) => {
                asked.state.take_report(since(asked.origin), &report, asked.kv_tokens);
                if std::mem::take(&mut told) {
                    tracing::info!(endpoint = %asked.id, "its metrics can be read again");
                }
                failures = 0;
            }
            Err(problem) => {
                failures = failures.saturating_add(1);
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        endpoint = %asked.id,
                        path = %scrape.path,
                        "its metrics cannot be read: {problem}; what others send it is not seen meanwhile. \
                         Check that the engine shows its metrics there, and `metrics` of its pool"
                    );
                }
            }
        }
        let pause = scrape.interval.saturating_mul(1 << failures.min(5));
        tokio::time::sleep(if failures > 0 { pause.min(SLOWEST.max(scrape.interval)) } else { scrape.interval }).await;
    }
}
