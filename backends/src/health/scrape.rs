//! Asks one inference engine for its metrics.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::{BodyExt, Limited};

use super::engine_report::EngineReport;
use super::metrics_text::Engine;
use crate::connect::{ConnectError, Connections, Outgoing, Spliced};

/// The most metrics that are read of one engine, bytes; vLLM's are about 100 KiB.
const LONGEST_METRICS: usize = 4 << 20;
/// An engine that does not answer in this time is too busy to be asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked for, where, how often.
#[derive(Clone, Debug, PartialEq)]
pub struct Scrape {
    /// Whose names to look for.
    pub engine: Engine,
    /// The path, the endpoint's base path included.
    pub path: PathAndQuery,
    /// From one answer to the next question.
    pub interval: Duration,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum NoReport {
    /// It could not be asked.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It did not answer in time.
    #[error("no answer within {PATIENCE:?}")]
    Late,
    /// Another status than 200.
    #[error("status {0}")]
    Status(u16),
    /// The answer broke off, or was too long.
    #[error("the answer cannot be read: {0}")]
    Body(String),
    /// None of the engine's names is in it.
    #[error("it shows none of the names that {0:?} uses")]
    Names(Engine),
}

impl Scrape {
    /// Asks once.
    pub async fn ask(&self, connections: &Arc<Connections>, key: &HeaderMap) -> Result<EngineReport, NoReport> {
        tokio::time::timeout(PATIENCE, self.ask_patiently(connections, key)).await.map_err(|_| NoReport::Late)?
    }

    async fn ask_patiently(&self, connections: &Arc<Connections>, key: &HeaderMap) -> Result<EngineReport, NoReport> {
        let mut headers = key.clone();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/plain"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let outgoing = Outgoing { method: Method::GET, path: self.path.clone(), headers, body: Spliced::default() };
        let (response, hold) = connections.send(|| outgoing.clone(), PATIENCE).await?;
        let status = response.status().as_u16();
        let collected = Limited::new(response.into_body(), LONGEST_METRICS).collect().await;
        let bytes = collected.map_err(|error| NoReport::Body(error.to_string()))?.to_bytes();
        hold.finish();
        if status != 200 {
            return Err(NoReport::Status(status));
        }
        let text = String::from_utf8_lossy(&bytes);
        self.engine.read(&text).ok_or(NoReport::Names(self.engine))
    }
}
