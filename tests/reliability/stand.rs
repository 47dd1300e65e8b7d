//! What every scenario stands on: the real program as a process, its files, and what can be seen of it from outside.

use std::net::SocketAddr;
use std::time::Duration;

use pointsman_tests::client::{Ask, send};
use pointsman_tests::files::{Files, PROCESS, PoolText, portfolio};
use pointsman_tests::process::Served;
use tokio::task::JoinHandle;

/// One class that promises next to nothing: what is shown is what becomes of requests, not who goes first.
pub(crate) const ANYTHING: &str = "[class.any]\ndeadline_s = 3600\n[[classify]]\nwhen = 'true'\nclass = \"any\"\n";

/// A policy of this name: everything goes to the cheapest pool.
pub(crate) fn policy(name: &str) -> String {
    format!("name = \"{name}\"\n{ANYTHING}[[route]]\nname = \"all\"\nobjective = \"cheapest\"\n")
}

/// Enough room for whatever a scenario sends: flow control is the subject of its own scenario.
const ROOM: &str = "limits = { slots = 100000 }\nwindow = { requests = 100000, prefill_tokens = 100000000 }";

/// A pool of machines, spoken to in this version of HTTP.
pub(crate) fn pool(name: &str, http: &str, urls: impl IntoIterator<Item = String>) -> PoolText {
    PoolText::new(name, urls).key(&format!("http = \"{http}\"")).key(ROOM)
}

/// A gateway and its files.
pub(crate) struct Stand {
    /// Its files.
    pub(crate) files: Files,
    /// The process.
    pub(crate) served: Served,
}

impl Stand {
    /// Serves these pools, every machine alike; `more` goes into the process file.
    pub(crate) async fn start(more: &str, pools: &[PoolText]) -> Stand {
        Stand::with(more, &portfolio(pools), &policy("cheapest"), &[]).await
    }

    /// The same under another policy, in another environment.
    pub(crate) async fn with(more: &str, portfolio: &str, policy: &str, environment: &[(&str, &str)]) -> Stand {
        let files = Files::new(&format!("{PROCESS}{more}"), portfolio, policy);
        let served = Served::start(files.folder(), environment).await;
        Stand { files, served }
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.served.address
    }

    /// Memory that is really there for it, KiB.
    pub(crate) fn resident_kib(&self) -> f64 {
        self.served.process.resident_bytes() as f64 / 1024.0
    }

    /// The largest memory it has had, KiB.
    pub(crate) fn most_resident_kib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.served.process.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or(f64::NAN)
    }

    /// The sum of the metrics whose line begins like this.
    pub(crate) async fn metric(&self, start: &str) -> f64 {
        let text = send(self.served.admin, Ask::get("/metrics")).await.text();
        let lines = text.lines().filter(|line| line.starts_with(start));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Looks at its memory again and again until the handle is told to stop.
    pub(crate) fn watch_memory(&self, every: Duration) -> Watch {
        let id = self.served.process.id();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        Watch { stop, samples: tokio::spawn(watch(id, every, stopped)) }
    }
}

/// Memory that is being watched.
pub(crate) struct Watch {
    stop: tokio::sync::oneshot::Sender<()>,
    samples: JoinHandle<Vec<(f64, f64)>>,
}

impl Watch {
    /// Seconds since the watch began, and KiB.
    pub(crate) async fn stop(self) -> Vec<(f64, f64)> {
        let _ = self.stop.send(());
        self.samples.await.expect("a watch that ends")
    }
}

async fn watch(id: u32, every: Duration, mut stopped: tokio::sync::oneshot::Receiver<()>) -> Vec<(f64, f64)> {
    let (began, mut samples) = (std::time::Instant::now(), Vec::new());
    let mut tick = tokio::time::interval(every);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = &mut stopped => return samples,
        }
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        samples.extend(kib.map(|kib| (began.elapsed().as_secs_f64(), kib)));
    }
}
