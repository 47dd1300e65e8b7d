//! The process file: listeners, TLS, limits, telemetry, and where the other two files are.

/// What a client may take.
mod edge;
/// Who may operate the gateway, and how much it remembers of what they did.
mod operators;
/// Who may send requests.
mod auth;
/// How the listener proves itself.
mod tls;
/// How many requests are held, and how long.
mod queueing;
/// Whether and where decisions are recorded.
mod recording;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pointsman_backends::endpoint::Address;
use pointsman_backends::portfolio::Secrets;
use pointsman_policies::language::{Diagnostic, Located, Report};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::traffic::Room;

pub use auth::{Auth, AuthShape, Jwt, KeysAt};
pub use edge::EdgeLimits;
pub use operators::{Admin, AdminShape, Generations, GenerationsShape, Token};
pub use queueing::{QueueLimits, QueueShape};
pub use recording::{Record, RecordShape};
pub use tls::{Tls, TlsShape};

/// `pointsman.toml` as it is written. Every key has a default; an empty file serves.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessShape {
    /// Where clients connect, `ADDRESS:PORT`; `127.0.0.1:7070` where not given.
    #[schemars(example = &"0.0.0.0:7070")]
    pub listen: Option<Located<String>>,
    /// Where operators connect (metrics, health, status), `ADDRESS:PORT`; `127.0.0.1:7071` where not given.
    #[schemars(example = &"127.0.0.1:7071")]
    pub admin_listen: Option<Located<String>>,
    /// The portfolio file, relative to this one; `portfolio.toml` where not given.
    #[schemars(example = &"portfolio.toml")]
    pub portfolio: Option<String>,
    /// The policy file, relative to this one; `policy.toml` where not given.
    #[schemars(example = &"policy.toml")]
    pub policy: Option<String>,
    /// The folder for what the gateway itself remembers (generations, audit log), relative to this file; `state` where
    /// not given. Where it cannot be written, the gateway serves all the same and remembers nothing past its end.
    #[schemars(example = &"state")]
    pub state: Option<String>,
    /// Who may send requests: `"none"` (whoever reaches the listener), or a table. Must be given where `listen` is not of
    /// this machine alone, unless `tls.client_ca_file` is; `"none"` where not given.
    #[schemars(example = &"none")]
    pub auth: Option<Located<AuthShape>>,
    /// Who may operate the gateway.
    #[serde(default)]
    pub admin: AdminShape,
    /// What is kept of policies that were in force.
    #[serde(default)]
    pub generations: GenerationsShape,
    /// Whether and where decisions are recorded.
    #[serde(default)]
    pub record: RecordShape,
    /// Serve clients over TLS.
    pub tls: Option<TlsShape>,
    /// Bounds on what one client can take.
    #[serde(default)]
    pub limits: LimitsShape,
    /// Bounds on requests that are held until a machine has room.
    #[serde(default)]
    pub queue: QueueShape,
    /// How long each phase of a request may take.
    #[serde(default)]
    pub timeouts: TimeoutsShape,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryShape,
}

/// `[limits]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsShape {
    /// Open client connections; 8192 where not given. More wait to be accepted.
    #[schemars(range(min = 1))]
    #[schemars(example = 8192)]
    pub connections: Option<usize>,
    /// Open connections from one address, or one IPv6 network of 64 bits; 200 where not given, and on loopback, where all
    /// clients have one address, as many as `connections`. More are closed.
    #[schemars(range(min = 1))]
    #[schemars(example = 200)]
    pub connections_per_address: Option<usize>,
    /// Requests that one caller, by its key or, without one, its address, may have running at once; no bound where not
    /// given, since an application that the gateway stands beside is one caller. More are a 429.
    #[schemars(range(min = 1))]
    #[schemars(example = 100)]
    pub requests_per_caller: Option<u32>,
    /// Bytes of an answer that are kept for a client that does not take them as fast as the machine makes them; 262144
    /// (256 KiB) where not given. The machine is only held up beyond that.
    #[schemars(range(min = 4096))]
    #[schemars(example = 262_144)]
    pub client_buffer_bytes: Option<usize>,
    /// The same for all clients together; 268435456 (256 MiB) where not given. Where that is full, slow clients hold up
    /// their machines.
    #[schemars(range(min = 4096))]
    #[schemars(example = 268_435_456)]
    pub client_buffers_bytes: Option<usize>,
    /// Bytes of requests and answers that are kept so that streams which break can go on on another machine, of all streams
    /// together; 268435456 (256 MiB) where not given. A stream that finds no room ends where it breaks.
    #[schemars(range(min = 0))]
    #[schemars(example = 268_435_456)]
    pub continuation_bytes: Option<usize>,
    /// Memory that the process may use, MiB; that of its control group where not given, and no bound without one. From 80 % on
    /// classes that may be shed are refused with 503, from 90 % on all new requests, and from 95 % on idle connections are
    /// closed.
    #[schemars(range(min = 1))]
    #[schemars(example = 2048)]
    pub memory_mib: Option<u64>,
    /// Size of a request body, bytes; 33554432 (32 MiB) where not given.
    #[schemars(range(min = 1024))]
    #[schemars(example = 33_554_432)]
    pub body_bytes: Option<usize>,
}

/// `[timeouts]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsShape {
    /// The head of a request, also how long an idle connection is kept, seconds; 10 where not given.
    #[schemars(range(min = 0.001, max = 86400))]
    #[schemars(example = 10)]
    pub head_s: Option<f64>,
    /// The TLS handshake, and the first byte of a connection, each get this long, seconds; 10 where not given.
    #[schemars(range(min = 0.001, max = 86400))]
    #[schemars(example = 10)]
    pub opening_s: Option<f64>,
    /// After this age, give or take a tenth, a connection is asked to end, and ends with what runs on it, so that balancers
    /// and name changes get their way, seconds; 3600 where not given.
    #[schemars(range(min = 0.001, max = 86400))]
    #[schemars(example = 3600)]
    pub connection_age_s: Option<f64>,
    /// Between two pieces of a request body, seconds; 30 where not given.
    #[schemars(range(min = 0.001, max = 86400))]
    #[schemars(example = 30)]
    pub body_idle_s: Option<f64>,
    /// A whole request body, however steadily it comes, seconds; 300 where not given, which is 32 MiB at a megabit a second.
    #[schemars(range(min = 0.001, max = 86400))]
    #[schemars(example = 300)]
    pub body_s: Option<f64>,
    /// Connecting to a machine, TLS included, seconds; 2 where not given.
    #[schemars(range(min = 0.001, max = 86400))]
    #[schemars(example = 2)]
    pub connect_s: Option<f64>,
    /// Cap on the wait for a machine's first byte, which otherwise follows the class's SLO, seconds; 600 where not
    /// given.
    #[schemars(range(min = 0.001, max = 86400))]
    #[schemars(example = 600)]
    pub first_byte_s: Option<f64>,
    /// Between two events of a stream, seconds; 60 where not given.
    #[schemars(range(min = 0.001, max = 86400))]
    #[schemars(example = 60)]
    pub event_idle_s: Option<f64>,
    /// A whole answer after its first byte, seconds; 3600 where not given.
    #[schemars(range(min = 0.001, max = 86400))]
    #[schemars(example = 3600)]
    pub total_s: Option<f64>,
    /// A client that takes no byte of its answer for this long is cut, seconds; 30 where not given.
    #[schemars(range(min = 0.001, max = 86400))]
    #[schemars(example = 30)]
    pub client_write_s: Option<f64>,
    /// A client for which `limits.client_buffer_bytes` are kept, and that takes less than as many in this time, is cut, and
    /// the machine let go, seconds; 30 where not given.
    #[schemars(range(min = 0.001, max = 86400))]
    #[schemars(example = 30)]
    pub client_behind_s: Option<f64>,
    /// On SIGTERM, how long to answer "not ready" while still accepting, seconds; 5 where not given. SIGINT skips it.
    #[schemars(range(min = 0.0, max = 86400))]
    #[schemars(example = 5)]
    pub lame_duck_s: Option<f64>,
    /// How long running requests get to finish at shutdown, seconds; 120 where not given.
    #[schemars(range(min = 0.0, max = 86400))]
    #[schemars(example = 120)]
    pub drain_s: Option<f64>,
}

/// `[telemetry]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TelemetryShape {
    /// OTLP over HTTP/protobuf, the base URL such as `http://127.0.0.1:4318`; no traces are sent where neither this
    /// nor `OTEL_EXPORTER_OTLP_ENDPOINT` is given.
    #[schemars(example = &"http://127.0.0.1:4318")]
    pub otlp_endpoint: Option<Located<String>>,
    /// Requests traced each second; 100 where not given. As many again are traced of those that broke, failed, were
    /// tried more than once, missed their promise or took longer than 99 of 100 of their class. A caller's `traceparent` is followed, whatever is given here.
    #[schemars(example = 100)]
    pub traces_per_s: Option<u32>,
    /// Requests of which a row is kept for lists, filters and comparisons, 96 bytes each; 200000 (19 MB) where not given. The
    /// oldest is forgotten first. 0: nothing is kept of requests, no rows, sums or decisions, and the dashboard stays empty.
    #[schemars(range(min = 0, max = 10_000_000))]
    #[schemars(example = 200_000)]
    pub kept_rows: Option<usize>,
    /// Memory for whole requests with decision and attempts, bytes; 33554432 (32 MiB) where not given. A quarter of it is
    /// for failures, a quarter for missed promises, the rest for slow, unusual and ordinary ones; what one does not need,
    /// others use.
    #[schemars(range(min = 1_048_576))]
    #[schemars(example = 33_554_432)]
    pub kept_detail_bytes: Option<usize>,
    /// `service.name` of the traces; `pointsman` where not given.
    #[schemars(example = &"pointsman")]
    pub service_name: Option<String>,
    /// Form of the logs on stderr; `text` where not given.
    #[serde(default)]
    #[schemars(example = &"json")]
    pub log_format: LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter as in `RUST_LOG`, which takes
    /// precedence; `info` where not given.
    #[schemars(example = &"info,pointsman=debug")]
    pub log: Option<Located<String>>,
}

impl TelemetryShape {
    /// What the traces say they are of.
    pub fn service(&self) -> &str {
        self.service_name.as_deref().unwrap_or("pointsman")
    }

    /// How much is remembered of what has passed.
    pub fn room(&self) -> Room {
        let Room { rows, detail_bytes } = Room::default();
        Room { rows: self.kept_rows.unwrap_or(rows), detail_bytes: self.kept_detail_bytes.unwrap_or(detail_bytes) }
    }
}

/// Form of the logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A checked process file.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where operators connect.
    pub admin_listen: SocketAddr,
    /// The portfolio file.
    pub portfolio: PathBuf,
    /// The policy file.
    pub policy: PathBuf,
    /// The folder for what the gateway itself remembers.
    pub state: PathBuf,
    /// Who may send requests.
    pub auth: Auth,
    /// Who may operate the gateway.
    pub admin: Admin,
    /// What is kept of policies that were in force.
    pub generations: Generations,
    /// Whether and where decisions are recorded.
    pub record: Record,
    /// How the listener proves itself; plain text where `None`.
    pub tls: Option<Tls>,
    /// Open client connections.
    pub connections: usize,
    /// What a client may take.
    pub edge: EdgeLimits,
    /// Size of a request body, bytes.
    pub body_bytes: usize,
    /// Bounds on requests that are held.
    pub queue: QueueLimits,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Logs and traces.
    pub telemetry: TelemetryShape,
}

/// Time limits of a request's phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The head of a request.
    pub head: Duration,
    /// The TLS handshake and the first byte of a connection, each.
    pub opening: Duration,
    /// A connection, before it is asked to end.
    pub connection_age: Duration,
    /// Between two pieces of a request body.
    pub body_idle: Duration,
    /// A whole request body.
    pub body: Duration,
    /// Connecting to a machine.
    pub connect: Duration,
    /// Cap on the wait for a machine's first byte.
    pub first_byte: Duration,
    /// Between two events of a stream.
    pub event_idle: Duration,
    /// A whole answer after its first byte.
    pub total: Duration,
    /// For a client to take a byte.
    pub client_write: Duration,
    /// For a client to take as much as is kept for it.
    pub client_behind: Duration,
    /// Not ready, still accepting.
    pub lame_duck: Duration,
    /// For running requests at shutdown.
    pub drain: Duration,
}

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7070);
const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7071);
const DEFAULT_CONNECTIONS: usize = 8192;
const DEFAULT_BODY_BYTES: usize = 32 << 20;

impl Process {
    /// Checks a shape; `folder` is what relative paths start from. Problems go into the report.
    pub fn new(shape: &ProcessShape, folder: &Path, secrets: Secrets, report: &mut Report) -> Process {
        let path = |given: &Option<String>, default: &str| folder.join(given.as_deref().unwrap_or(default));
        let tls = Tls::new(shape.tls.as_ref(), folder, report);
        if let Some(url) = &shape.telemetry.otlp_endpoint
            && let Err(error) = Address::parse(&url.value)
        {
            let wrong = Diagnostic::error("bad-endpoint", format!("`telemetry.otlp_endpoint`: {error}"));
            report.push(wrong.at(url.span.clone()).help("write it like `http://127.0.0.1:4318`"));
        }
        let listen = address(shape.listen.as_ref(), DEFAULT_LISTEN, report);
        let admin_listen = address(shape.admin_listen.as_ref(), DEFAULT_ADMIN, report);
        if listen == admin_listen && listen.port() != 0 {
            let same = Diagnostic::error("same-address", format!("clients and operators both get `{listen}`"));
            let span = shape.admin_listen.as_ref().or(shape.listen.as_ref()).map_or(0..0, |given| given.span.clone());
            report.push(same.at(span).help("give `admin_listen` a port of its own"));
        }
        if let Some(filter) = &shape.telemetry.log
            && let Err(error) = EnvFilter::try_new(&filter.value)
        {
            let wrong = Diagnostic::error("bad-log-filter", format!("`{}` is no log filter: {error}", filter.value));
            report.push(wrong.at(filter.span.clone()).help("write it like `info` or `info,pointsman=debug`"));
        }
        let by_certificate = tls.as_ref().is_some_and(Tls::asks_clients);
        let auth = Auth::new(shape.auth.as_ref(), (listen, shape.listen.as_ref()), by_certificate, folder, report);
        if let Some(given) = shape.auth.as_ref().filter(|_| auth.open)
            && tls.as_ref().is_some_and(|tls| !tls.spiffe_ids.is_empty())
        {
            let unused = "`tls.spiffe_ids` says who may call, and with `auth = \"none\"` nobody is asked";
            let help = "take out `auth`: the certificates are proof enough; or take out `spiffe_ids`";
            report.push(Diagnostic::error("ids-without-auth", unused).at(given.span.clone()).help(help));
        }
        let admin = Admin::new(&shape.admin, folder, secrets, report);
        if !admin_listen.ip().is_loopback() && shape.admin.token.is_none() {
            operators::refuse_without_token(admin_listen, shape.admin_listen.as_ref(), report);
        }
        Process {
            listen,
            admin_listen,
            portfolio: path(&shape.portfolio, "portfolio.toml"),
            policy: path(&shape.policy, "policy.toml"),
            state: path(&shape.state, "state"),
            auth,
            admin,
            generations: Generations::new(&shape.generations),
            record: Record::new(&shape.record, folder, &path(&shape.state, "state"), report),
            tls,
            connections: shape.limits.connections.unwrap_or(DEFAULT_CONNECTIONS),
            edge: EdgeLimits::new(&shape.limits),
            body_bytes: shape.limits.body_bytes.unwrap_or(DEFAULT_BODY_BYTES),
            queue: QueueLimits::new(&shape.queue),
            timeouts: Timeouts::new(&shape.timeouts),
            telemetry: shape.telemetry.clone(),
        }
    }

    /// The keys that differ from another process file and take effect only at a start.
    pub fn fixed_keys_changed(&self, other: &Process) -> Vec<&'static str> {
        let keys = [
            ("listen", self.listen != other.listen),
            ("admin_listen", self.admin_listen != other.admin_listen),
            ("portfolio", self.portfolio != other.portfolio),
            ("policy", self.policy != other.policy),
            ("state", self.state != other.state),
            (
                "record.file",
                self.record.from_start != other.record.from_start || self.record.files.file != other.record.files.file,
            ),
            ("record.max_bytes", self.record.files.max_bytes != other.record.files.max_bytes),
            ("record.keep", self.record.files.keep != other.record.files.keep),
            ("tls", self.tls.is_some() != other.tls.is_some()),
            ("limits.connections", self.connections != other.connections),
            ("timeouts.head_s", self.timeouts.head != other.timeouts.head),
            ("timeouts.client_write_s", self.timeouts.client_write != other.timeouts.client_write),
            ("telemetry", self.telemetry != other.telemetry),
        ];
        keys.iter().filter(|(_, changed)| *changed).map(|(key, _)| *key).collect()
    }
}

impl Timeouts {
    fn new(shape: &TimeoutsShape) -> Timeouts {
        let seconds = |given: Option<f64>, default: f64| {
            Duration::try_from_secs_f64(given.unwrap_or(default)).unwrap_or(Duration::MAX)
        };
        Timeouts {
            head: seconds(shape.head_s, 10.0),
            opening: seconds(shape.opening_s, 10.0),
            connection_age: seconds(shape.connection_age_s, 3600.0),
            body_idle: seconds(shape.body_idle_s, 30.0),
            body: seconds(shape.body_s, 300.0),
            connect: seconds(shape.connect_s, 2.0),
            first_byte: seconds(shape.first_byte_s, 600.0),
            event_idle: seconds(shape.event_idle_s, 60.0),
            total: seconds(shape.total_s, 3600.0),
            client_write: seconds(shape.client_write_s, 30.0),
            client_behind: seconds(shape.client_behind_s, 30.0),
            lame_duck: seconds(shape.lame_duck_s, 5.0),
            drain: seconds(shape.drain_s, 120.0),
        }
    }
}

fn address(given: Option<&Located<String>>, default: SocketAddr, report: &mut Report) -> SocketAddr {
    let Some(given) = given else { return default };
    given.value.parse().unwrap_or_else(|_| {
        let wrong = Diagnostic::error("bad-address", format!("`{}` is not an address and port", given.value));
        report.push(wrong.at(given.span.clone()).help("write it like `127.0.0.1:7070` or `[::]:7070`"));
        default
    })
}
