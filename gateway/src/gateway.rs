//! What lives as long as the process: the snapshot in force, the fleet, telemetry, the tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use pointsman_backends::fleet::Fleet;

use crate::accounting::Accounting;
use crate::config::set::ConfigSet;
use crate::extra_attempts::RouteAccounts;
use crate::generations::History;
use crate::identity::Identity;
use crate::learning::{self, Learning};
use crate::overload::Overload;
use crate::queue::Queue;
use crate::reload::ReloadStatus;
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;
use crate::trial::trials::Trials;

/// The gateway.
#[derive(Debug)]
pub struct Gateway {
    snapshot: ArcSwap<Snapshot>,
    fleet: Fleet,
    queue: Queue,
    route_accounts: RouteAccounts,
    learning: Learning,
    telemetry: Telemetry,
    identity: Identity,
    trials: Trials,
    accounting: Accounting,
    history: History,
    reload_status: ArcSwap<ReloadStatus>,
    reloading: Mutex<()>,
    ready: AtomicBool,
    kept_for_clients: Arc<AtomicUsize>,
    kept_for_continuation: Arc<AtomicUsize>,
    overload: Overload,
}

impl Gateway {
    /// A gateway with its first generation, which is the last of the process before where nothing has changed since. Not
    /// ready until it listens. Reads and writes files.
    pub fn new(set: ConfigSet, telemetry: Telemetry) -> Arc<Gateway> {
        let fleet = Fleet::default();
        let history = History::open(&set.process);
        let generation = history.begin(&set);
        let identity = Identity::new(&set.process);
        let trials = Trials::new(&set.process.state);
        let trial = trials.adopt(generation, &set);
        let accounting = Accounting::open(&set.process.state);
        let snapshot = Snapshot::build(generation, set, trial, &fleet);
        accounting.publish(&snapshot, fleet.now());
        let status = ReloadStatus::first(&snapshot);
        let learning = Learning::default();
        learning::file::load(&learning, &snapshot.process.state);
        learning.adopt(&snapshot);
        telemetry.metrics().in_force(&snapshot);
        Arc::new(Gateway {
            snapshot: ArcSwap::from_pointee(snapshot),
            fleet,
            queue: Queue::default(),
            route_accounts: RouteAccounts::default(),
            learning,
            telemetry,
            identity,
            trials,
            accounting,
            history,
            reload_status: ArcSwap::from_pointee(status),
            reloading: Mutex::new(()),
            ready: AtomicBool::new(false),
            kept_for_clients: Arc::default(),
            kept_for_continuation: Arc::default(),
            overload: Overload::default(),
        })
    }

    /// The generation in force; a request takes it once and keeps it.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The live state of the machines.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// What it has learned.
    pub fn learning(&self) -> &Learning {
        &self.learning
    }

    /// Requests that wait for room.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What attempts beyond the first may take of each route.
    pub fn route_accounts(&self) -> &RouteAccounts {
        &self.route_accounts
    }

    /// Room may have been made on a machine.
    pub fn room_made(&self) {
        self.queue.room_made(self.fleet.now());
    }

    /// Metrics and traces.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Who calls, and how the listener proves itself.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Candidates on trial.
    pub fn trials(&self) -> &Trials {
        &self.trials
    }

    /// What was spent, served and drawn.
    pub fn accounting(&self) -> &Accounting {
        &self.accounting
    }

    /// What was in force before, and what was refused.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How the last reload went.
    pub fn reload_status(&self) -> Arc<ReloadStatus> {
        self.reload_status.load_full()
    }

    /// Held while the files are read and put in force, so that generations follow one another.
    pub fn reloading(&self) -> MutexGuard<'_, ()> {
        self.reloading.lock()
    }

    /// Notes how a reload went.
    pub fn set_reload_status(&self, status: ReloadStatus) {
        self.telemetry.metrics().reload(status.ok);
        self.reload_status.store(Arc::new(status));
    }

    /// Puts a checked set in force as the next generation and returns it. Requests in flight finish under theirs.
    pub fn swap(&self, set: ConfigSet) -> Arc<Snapshot> {
        let generation = self.history.next_number().max(self.snapshot.load().generation + 1);
        let trial = self.trials.adopt(generation, &set);
        let snapshot = Arc::new(Snapshot::build(generation, set, trial, &self.fleet));
        self.learning.adopt(&snapshot);
        self.accounting.publish(&snapshot, self.fleet.now());
        self.snapshot.store(Arc::clone(&snapshot));
        self.identity.adopt(&snapshot.process);
        self.fleet.retain(&snapshot.portfolio);
        self.telemetry.metrics().in_force(&snapshot);
        snapshot
    }

    /// Bytes of answers that are kept because their clients do not take them.
    pub fn kept_for_clients(&self) -> &Arc<AtomicUsize> {
        &self.kept_for_clients
    }

    /// Bytes of requests and answers that are kept so that streams which break can go on elsewhere.
    pub fn kept_for_continuation(&self) -> &Arc<AtomicUsize> {
        &self.kept_for_continuation
    }

    /// How short of memory it is.
    pub fn overload(&self) -> &Overload {
        &self.overload
    }

    /// Whether it accepts requests.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Turns readiness on or off.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }
}
