//! The loads, and what is measured under each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::load::{self, Extent, Load, Outcome};
use crate::process::{Process, Used};

/// How often memory is looked at under a load.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A line of what people paste into prompts; its break is escaped, as it is in JSON.
const LINE: &str =
    r#"The gateway holds the queue: it sends each machine what it can begin at once, and keeps the rest in order.\n"#;

/// A load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: &'static str,
    connections: usize,
    body_bytes: usize,
    streams: Option<Streams>,
}

/// Of the load that consists of streams.
#[derive(Clone, Copy, Debug)]
struct Streams {
    each: u64,
    events: u64,
    every: Duration,
    ramp: Duration,
}

/// All of them, in the order in which they are measured.
pub(crate) const SCENARIOS: [Scenario; 6] = [
    Scenario { name: "serial", connections: 1, body_bytes: 0, streams: None },
    Scenario { name: "saturated", connections: 64, body_bytes: 0, streams: None },
    Scenario { name: "body32k", connections: 16, body_bytes: 32 << 10, streams: None },
    Scenario { name: "body256k", connections: 16, body_bytes: 256 << 10, streams: None },
    Scenario { name: "streams", connections: 200, body_bytes: 0, streams: Some(Streams::new(2, 100, 20, 1500)) },
    Scenario { name: "streams2k", connections: 2000, body_bytes: 0, streams: Some(Streams::new(1, 40, 200, 2000)) },
];

impl Streams {
    const fn new(each: u64, events: u64, every_ms: u64, ramp_ms: u64) -> Streams {
        Streams { each, events, every: Duration::from_millis(every_ms), ramp: Duration::from_millis(ramp_ms) }
    }
}

/// Where a peer is, and how it wants to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Path of chat completions.
    pub(crate) path: String,
    /// The model's name.
    pub(crate) model: String,
    /// More headers, `name: value`.
    pub(crate) headers: Vec<String>,
}

/// Figures of a peer under a load; `null` where it has none.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// The proxy's time on its core for each request, of streams for each event, microseconds.
    pub(crate) cpu_us: Option<f64>,
    /// Answers a second.
    pub(crate) rps: Option<f64>,
    /// Median time of an answer, of streams an event's way, microseconds.
    pub(crate) p50_us: Option<f64>,
    /// The same, of the slowest hundredth.
    pub(crate) p99_us: Option<f64>,
    /// Median time to the first event.
    pub(crate) ttft_p50_us: Option<f64>,
    /// The same, of the slowest hundredth.
    pub(crate) ttft_p99_us: Option<f64>,
    /// Memory for each open stream.
    pub(crate) kib_per_stream: Option<f64>,
    /// Answers that were not right, or not whole, or did not come.
    pub(crate) errors: u64,
    /// How much longer than it ran the proxy waited for its core.
    #[serde(skip)]
    pub(crate) waited: f64,
}

impl Scenario {
    /// Whether its answers are streamed.
    pub(crate) fn is_streamed(&self) -> bool {
        self.streams.is_some()
    }

    /// A tenth of it.
    pub(crate) fn shortened(self) -> Scenario {
        let short =
            |streams: Streams| Streams { each: 1, events: 20, every: streams.every / 2, ramp: streams.ramp / 5 };
        let connections = if self.is_streamed() { self.connections / 5 } else { self.connections };
        Scenario { connections, streams: self.streams.map(short), ..self }
    }

    /// The pace that the machine has to keep: events, and microseconds between them.
    pub(crate) fn pace(&self) -> (u64, u128) {
        self.streams.map_or((0, 0), |streams| (streams.events, streams.every.as_micros()))
    }

    /// A load like it that makes a peer warm.
    pub(crate) fn warm_up(&self, target: &Target, time: Duration) -> Load {
        Load {
            address: target.address,
            request: target.request(0, self.is_streamed()),
            connections: 16,
            extent: match self.streams {
                None => Extent::For(time),
                Some(_) => Extent::Streams { each: 4, events: 20, ramp: time / 4, longest: time },
            },
        }
    }

    fn load(&self, target: &Target, time: Duration) -> Load {
        let extent = self.streams.map_or(Extent::For(time), |Streams { each, events, every, ramp }| Extent::Streams {
            each,
            events,
            ramp,
            longest: every * events as u32 + Duration::from_secs(1),
        });
        let request = target.request(self.body_bytes, self.is_streamed());
        Load { address: target.address, request, connections: self.connections, extent }
    }

    /// Measures a peer under it.
    pub(crate) fn measure(&self, target: &Target, proxy: Option<&Process>, time: Duration) -> Figures {
        let used = |proxy: Option<&Process>| proxy.map_or_else(Used::default, Process::used);
        let resident = || proxy.map_or(0, Process::resident_kib);
        let (before, resident_before) = (used(proxy), resident());
        let load = self.load(target, time);
        let (outcome, most) = std::thread::scope(|scope| {
            let running = scope.spawn(|| load::run(&load));
            let (mut most, mut looked) = (resident_before, Instant::now());
            while !running.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
                if self.is_streamed() && looked.elapsed() > LOOK_EVERY {
                    (most, looked) = (most.max(resident()), Instant::now());
                }
            }
            (running.join().expect("a load that ends"), most)
        });
        let after = used(proxy);
        let ran_ns = after.ran_ns.saturating_sub(before.ran_ns);
        let waited_ns = after.waited_ns.saturating_sub(before.waited_ns);
        let grown = most.saturating_sub(resident_before) as f64 / self.connections as f64;
        self.figures(&outcome, proxy.map(|_| (ran_ns, waited_ns, grown)))
    }

    fn figures(&self, outcome: &Outcome, proxy: Option<(u64, u64, f64)>) -> Figures {
        let streamed = self.is_streamed();
        let count = if streamed { outcome.events } else { outcome.answers };
        let quantile = |times: &hdrhistogram::Histogram<u64>, at: f64| {
            (!times.is_empty()).then(|| times.value_at_quantile(at) as f64)
        };
        let first = |at| quantile(&outcome.first_us, at).filter(|_| streamed);
        Figures {
            cpu_us: proxy.map(|(ran_ns, ..)| ran_ns as f64 / 1e3 / count.max(1) as f64),
            rps: Some(outcome.answers as f64 / outcome.elapsed.as_secs_f64()),
            p50_us: quantile(&outcome.times_us, 0.5),
            p99_us: quantile(&outcome.times_us, 0.99),
            ttft_p50_us: first(0.5),
            ttft_p99_us: first(0.99),
            kib_per_stream: proxy.filter(|_| streamed).map(|(.., grown)| grown),
            errors: outcome.errors,
            waited: proxy.map_or(0.0, |(ran_ns, waited_ns, _)| waited_ns as f64 / ran_ns.max(1) as f64),
        }
    }
}

impl Target {
    /// A chat request of about this many bytes.
    pub(crate) fn request(&self, bytes: usize, stream: bool) -> Vec<u8> {
        let pasted = LINE.repeat(bytes / LINE.len());
        let body = format!(
            "{{\"model\":\"{}\",\"messages\":[{{\"role\":\"system\",\"content\":\"You are a careful assistant. Answer in plain \
             words, and say what you do not know.\"}},{{\"role\":\"user\",\"content\":\"{pasted}Why does a sidecar sit in front \
             of every request, and what may it cost there?\"}}],\"max_tokens\":100,\"temperature\":0.7,\"stream\":{stream}}}",
            self.model
        );
        let mut head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nuser-agent: bench\r\naccept: */*\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n",
            self.path,
            self.address,
            body.len()
        );
        for header in &self.headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        if !self.headers.iter().any(|header| header.starts_with("authorization:")) {
            head.push_str("authorization: Bearer sk-bench\r\n");
        }
        (head + "\r\n" + &body).into_bytes()
    }
}
