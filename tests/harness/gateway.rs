//! A gateway in this process, on free ports, watching its files.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use pointsman::config::set;
use pointsman::serve::{self, Options, Running};
use pointsman_backends::portfolio::Secrets;
use serde_json::Value;

use crate::client::{self, Ask, Reply};
use crate::files::Files;
use crate::wait;

/// A gateway with its files.
#[derive(Debug)]
pub struct Gateway {
    /// Its files; edits are seen by the gateway.
    pub files: Files,
    /// The gateway.
    pub running: Running,
}

impl Gateway {
    /// Starts one; panics with the diagnostics if the files have errors.
    pub async fn start(process: &str, portfolio: &str, policy: &str) -> Gateway {
        Gateway::on(Files::new(process, portfolio, policy)).await
    }

    /// Starts one on files that are there.
    pub async fn on(files: Files) -> Gateway {
        let watched = Some(files.process_file());
        Gateway::watching(files, watched).await
    }

    /// Starts one that reads its files again only when it is asked to.
    pub async fn unwatched(process: &str, portfolio: &str, policy: &str) -> Gateway {
        Gateway::watching(Files::new(process, portfolio, policy), None).await
    }

    async fn watching(files: Files, watched: Option<PathBuf>) -> Gateway {
        let mut loaded = set::load(&files.process_file(), Secrets::Required);
        let Some(set) = loaded.set.take() else { panic!("{}", loaded.render(false)) };
        let running = serve::start(set, Options { watched, ..Options::default() }).await.expect("it can listen");
        Gateway { files, running }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Sends a request on a connection of its own.
    pub async fn send(&self, ask: Ask) -> Reply {
        client::send(self.address(), ask).await
    }

    /// Asks the operators' listener.
    pub async fn admin(&self, path: &str) -> Reply {
        self.operate(Ask::get(path)).await
    }

    /// Sends a request to the operators' listener.
    pub async fn operate(&self, ask: Ask) -> Reply {
        client::send(self.running.admin_address, ask).await
    }

    /// What the gateway says of itself.
    pub async fn status(&self) -> Value {
        self.admin("/api/v1/status").await.json()
    }

    /// What it says of one pool's first endpoint.
    pub async fn endpoint(&self, pool: &str) -> Value {
        let status = self.status().await;
        let endpoints = status["endpoints"].as_array().expect("endpoints");
        endpoints.iter().find(|endpoint| endpoint["pool"] == pool).expect("the pool").clone()
    }

    /// Waits until this many requests are in flight.
    pub async fn until_in_flight(&self, count: u64) {
        wait::some(&format!("{count} requests in flight"), async || {
            let status = self.status().await;
            let endpoints = status["endpoints"].as_array().expect("endpoints");
            let sum: u64 = endpoints.iter().filter_map(|endpoint| endpoint["in_flight"].as_u64()).sum();
            (sum == count).then_some(())
        })
        .await;
    }

    /// Waits until `/metrics` has a line that begins so and returns its value.
    pub async fn metric(&self, start: &str) -> f64 {
        wait::some(start, async || {
            let text = self.admin("/metrics").await.text();
            let line = text.lines().find(|line| line.starts_with(start))?.to_owned();
            line.rsplit(' ').next()?.parse().ok()
        })
        .await
    }

    /// The live gateway.
    pub fn inner(&self) -> &Arc<pointsman::gateway::Gateway> {
        &self.running.gateway
    }
}
