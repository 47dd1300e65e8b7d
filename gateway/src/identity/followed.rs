//! What was made of the files of keys and certificates, followed while the gateway runs: each file for itself, the last
//! good of each kept. A policy with a mistake does not hold up the revocation of a key, nor a broken certificate a policy.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pointsman_backends::tls::{self, CertificateDer, PeerName, Served, ServerConfig, Stamp};
use tokio::sync::{Notify, watch};

use super::caller::{By, Caller, Scope};
use super::key_set::KeySet;
use super::keys::KeyRing;
use super::tokens::Tokens;
use crate::config::process::{Auth, Jwt, KeysAt, Process, Tls};
use crate::gateway::Gateway;

/// How often files are looked at. Their contents are read only when something has changed.
const EVERY: Duration = Duration::from_secs(1);
/// Unknown keys make the issuer be asked this often at most, whoever invents them.
const ASKED_EVERY: Duration = Duration::from_secs(10);

/// What requests and handshakes go by.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Whether a request needs a caller.
    pub(super) required: bool,
    /// API keys.
    pub(super) ring: Option<Arc<KeyRing>>,
    /// Signed tokens.
    pub(super) tokens: Option<Arc<Tokens>>,
    served: Option<Served>,
    spiffe_ids: Vec<String>,
}

/// Who calls and how the listener proves itself.
#[derive(Debug)]
pub struct Identity {
    state: ArcSwap<State>,
    /// Whether others than this machine reach the listener, whatever the process file says.
    exposed: AtomicBool,
    files: Mutex<Files>,
    pub(super) issuer: Issuer,
}

/// How the issuer is asked for keys.
#[derive(Debug)]
pub(super) struct Issuer {
    /// Somebody wants them now.
    pub(super) wanted: Notify,
    /// Counts the times it was asked.
    pub(super) asked: watch::Sender<u64>,
    /// When somebody wanted them last, and how often it had been asked then.
    last_wanted: Mutex<Option<(Instant, u64)>>,
    /// What came last; kept apart from files.
    keys: Mutex<Option<(Jwt, KeySet)>>,
}

/// What comes of wanting keys.
enum Wanted {
    /// The issuer is to be asked.
    Now,
    /// It is being asked for somebody else.
    BeingAsked,
    /// It was asked a moment ago.
    NotAgain,
}

impl Issuer {
    fn want(&self, asked: u64) -> Wanted {
        let mut last = self.last_wanted.lock();
        match *last {
            Some((_, before)) if before == asked => Wanted::BeingAsked,
            Some((at, _)) if at.elapsed() < ASKED_EVERY => Wanted::NotAgain,
            _ => {
                *last = Some((Instant::now(), asked));
                Wanted::Now
            }
        }
    }
}

/// What is told of one thing that is followed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Told {
    /// `api-keys`, `listener-certificates`, `token-keys`.
    pub what: &'static str,
    /// Why the last good one stays; `None` where what is there is in force.
    pub problem: Option<String>,
}

#[derive(Debug, Default)]
struct Files {
    ring: Kept<Option<std::path::PathBuf>, Arc<KeyRing>>,
    keys: Kept<Option<std::path::PathBuf>, KeySet>,
    served: Kept<Option<Tls>, Served>,
}

/// Something made of files, with the last good one.
#[derive(Debug)]
struct Kept<S, T> {
    wanted: S,
    stamp: Stamp,
    problem: Option<String>,
    good: Option<T>,
}

impl<S: Default, T> Default for Kept<S, T> {
    fn default() -> Kept<S, T> {
        Kept { wanted: S::default(), stamp: Stamp::default(), problem: None, good: None }
    }
}

impl<S: PartialEq, T> Kept<S, T> {
    /// Reads anew where something else is wanted, the files have changed, or what was there could not be read. Whether
    /// there is something to tell.
    fn look(&mut self, wanted: S, stamp: Stamp, load: impl FnOnce(&S) -> Option<Result<T, String>>) -> bool {
        if self.wanted == wanted && self.stamp == stamp && self.problem.is_none() {
            return false;
        }
        let loaded = load(&wanted);
        (self.wanted, self.stamp) = (wanted, stamp);
        match loaded {
            None => {
                self.problem = None;
                self.good.take().is_some()
            }
            Some(Ok(good)) => {
                (self.good, self.problem) = (Some(good), None);
                true
            }
            Some(Err(problem)) => {
                let news = self.problem.as_ref() != Some(&problem);
                self.problem = Some(problem);
                news
            }
        }
    }
}

impl Identity {
    /// Reads the files of a process. What cannot be read is told, and nobody is let in by it.
    pub fn new(process: &Process) -> Identity {
        let issuer = Issuer {
            wanted: Notify::new(),
            asked: watch::Sender::new(0),
            last_wanted: Mutex::new(None),
            keys: Mutex::new(None),
        };
        let state = ArcSwap::default();
        let identity = Identity { state, exposed: AtomicBool::new(false), files: Mutex::default(), issuer };
        identity.look(|| Cow::Borrowed(process));
        identity
    }

    /// Whether a request needs a caller.
    pub(super) fn asks(&self) -> bool {
        self.state.load().required
    }

    /// Others reach the listener: from now on somebody is asked, unless it is written that nobody is.
    pub fn expose(&self, process: &Process) {
        self.exposed.store(true, Ordering::Relaxed);
        self.publish(process, &self.files.lock());
    }

    /// Goes by a process file that has come into force. Reads files.
    pub fn adopt(&self, process: &Process) {
        self.look(|| Cow::Borrowed(process)).iter().for_each(log);
    }

    pub(super) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// For the next handshake; `None` where it is not known how to prove the listener.
    pub fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.state.load().served.as_ref().map(|served| Arc::clone(&served.config))
    }

    /// When the listener's certificates end, seconds since 1970.
    pub fn ends(&self) -> Vec<(String, u64)> {
        self.state.load().served.as_ref().map(|served| served.ends.clone()).unwrap_or_default()
    }

    /// The caller that a client's certificate names, once the handshake has verified it; `None` where it may not call.
    pub fn peer(&self, chain: &[CertificateDer<'_>]) -> Option<Arc<Caller>> {
        let PeerName { name, spiffe } = tls::peer_name(chain)?;
        let state = self.state.load();
        let allowed = state.spiffe_ids.is_empty() || (spiffe && tls::spiffe_allowed(&name, &state.spiffe_ids));
        allowed.then(|| Arc::new(Caller { name: name.into(), by: By::Certificate, scope: Scope::default() }))
    }

    /// What is in force of what is followed.
    pub fn told(&self) -> Vec<Told> {
        let files = self.files.lock();
        let told = |what, there: bool, problem: &Option<String>| there.then(|| Told { what, problem: problem.clone() });
        let all = [
            told("api-keys", files.ring.wanted.is_some(), &files.ring.problem),
            told("token-keys", files.keys.wanted.is_some(), &files.keys.problem),
            told("listener-certificates", files.served.wanted.is_some(), &files.served.problem),
        ];
        all.into_iter().flatten().collect()
    }

    /// Looks at the files that a process names; what is new to tell. Reads files.
    ///
    /// What is in force is asked for once nobody else can put anything in force: what was read before would undo that.
    fn look<'p>(&self, process: impl FnOnce() -> Cow<'p, Process>) -> Vec<Told> {
        let mut files = self.files.lock();
        let process = process();
        let process: &Process = &process;
        let Auth { keys_file, jwt, .. } = &process.auth;
        let stamp = Stamp::of(keys_file.as_deref());
        let ring = files.ring.look(keys_file.clone(), stamp, |path| Some(KeyRing::read(path.as_ref()?).map(Arc::new)));
        let keys_at = jwt.as_ref().and_then(|jwt| match &jwt.keys {
            KeysAt::File(path) => Some(path.clone()),
            KeysAt::Url(..) => None,
        });
        let stamp = Stamp::of(keys_at.as_deref());
        let keys =
            files.keys.look(keys_at, stamp, |path: &Option<std::path::PathBuf>| Some(KeySet::read(path.as_deref()?)));
        let paths = process.tls.iter().flat_map(|tls| tls.files.paths());
        let stamp = Stamp::of(paths.collect::<Vec<&Path>>());
        let served = files.served.look(process.tls.clone(), stamp, |tls| {
            Some(tls.as_ref()?.files.load().map_err(|error| error.to_string()))
        });
        self.publish(process, &files);
        let news = [
            ring.then(|| Told { what: "api-keys", problem: files.ring.problem.clone() }),
            keys.then(|| Told { what: "token-keys", problem: files.keys.problem.clone() }),
            served.then(|| Told { what: "listener-certificates", problem: files.served.problem.clone() }),
        ];
        news.into_iter().flatten().collect()
    }

    /// Puts what there is in force. Tokens that were verified stay so as long as keys and rules do.
    fn publish(&self, process: &Process, files: &Files) {
        let before = self.state.load();
        let tokens = process.auth.jwt.as_ref().map(|jwt| {
            let keys = match &jwt.keys {
                KeysAt::File(_) => files.keys.good.clone(),
                KeysAt::Url(..) => {
                    let fetched = self.issuer.keys.lock();
                    fetched.as_ref().filter(|(of, _)| of.keys == jwt.keys).map(|(_, keys)| keys.clone())
                }
            };
            match &before.tokens {
                Some(tokens) if tokens.is_of(jwt, keys.as_ref()) => Arc::clone(tokens),
                _ => Arc::new(Tokens::new(jwt.clone(), keys)),
            }
        });
        self.state.store(Arc::new(State {
            required: process.auth.required || (self.exposed.load(Ordering::Relaxed) && !process.auth.open),
            ring: files.ring.good.clone(),
            tokens,
            served: files.served.good.clone(),
            spiffe_ids: process.tls.as_ref().map(|tls| tls.spiffe_ids.clone()).unwrap_or_default(),
        }));
    }

    /// Takes the keys that an issuer gave.
    pub(super) fn take_keys(&self, gateway: &Gateway, jwt: &Jwt, keys: KeySet) {
        *self.issuer.keys.lock() = Some((jwt.clone(), keys));
        let files = self.files.lock();
        self.publish(&gateway.snapshot().process, &files);
    }

    /// Waits until the issuer has been asked once. Whoever comes later than that waits for nothing.
    pub(super) async fn first_keys(&self) {
        let _ = self.issuer.asked.subscribe().wait_for(|times| *times > 0).await;
    }

    /// Waits until the issuer has been asked after now, where it may be asked.
    pub(super) async fn keys_after_now(&self) {
        let mut asked = self.issuer.asked.subscribe();
        asked.mark_unchanged();
        match self.issuer.want(*asked.borrow()) {
            Wanted::Now => self.issuer.wanted.notify_one(),
            Wanted::BeingAsked => {}
            Wanted::NotAgain => return,
        }
        let _ = asked.changed().await;
    }
}

/// Follows the files until dropped. What changes is logged and counted.
pub async fn tend(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        let gateway = Arc::clone(&gateway);
        let _ = tokio::task::spawn_blocking(move || follow(&gateway)).await;
    }
}

fn log(Told { what, problem }: &Told) {
    match problem {
        None => tracing::info!("new {what} are in force"),
        Some(problem) => tracing::error!("{what} cannot be used, the last good ones stay in force: {problem}"),
    }
}

fn follow(gateway: &Gateway) {
    let (identity, metrics) = (gateway.identity(), gateway.telemetry().metrics());
    for told in identity.look(|| Cow::Owned(gateway.snapshot().process.clone())) {
        metrics.credentials_read(told.what, told.problem.is_none());
        log(&told);
    }
    for told in identity.told() {
        metrics.credentials_ok(told.what, told.problem.is_none());
    }
    let mut ends = identity.ends();
    let towards_machines = tls::refresh();
    if !towards_machines.is_empty() {
        let good = towards_machines.iter().all(|refreshed| refreshed.outcome.is_ok());
        metrics.credentials_ok("machine-certificates", good);
    }
    for refreshed in towards_machines {
        ends.extend(refreshed.end);
        let file = refreshed.file.display();
        match refreshed.outcome {
            Ok(false) => {}
            Ok(true) => tracing::info!("what `{file}` holds now is used towards machines"),
            Err(problem) => tracing::error!("the last good certificates stay in use towards machines: {problem}"),
        }
    }
    metrics.certificate_ends(&ends);
}
