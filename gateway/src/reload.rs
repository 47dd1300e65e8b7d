//! Hot swap: the files are watched by their folders, read as one set, checked, and put in force whole; or the last good
//! set stays and says why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use pointsman_backends::portfolio::Secrets;
use pointsman_policies::language::{Diagnostic, DiagnosticRecord, Report, Source};
use tokio::sync::Notify;

use crate::config::set::{self, Loaded, folder_of};
use crate::gateway::Gateway;
use crate::generations::entry::{Change, Origin};
use crate::generations::texts_of;
use crate::snapshot::Snapshot;

/// Editors and Kubernetes change files in several steps; the set is read once nothing has moved for this long.
const QUIET: Duration = Duration::from_millis(60);
/// Files are taken as written when they are the same twice, this far apart.
const BETWEEN_LOOKS: Duration = Duration::from_millis(30);
/// Someone who never stops writing still gets what stood there after this long.
const LONGEST_WAIT: Duration = Duration::from_millis(400);
/// Files are looked at again this often even without an event: a folder that was replaced whole, or that cannot be
/// watched, sends none.
const POLL: Duration = Duration::from_secs(2);

/// How the last reload went.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ReloadStatus {
    /// Whether the files as they are now are in force.
    pub ok: bool,
    /// When they were last read, seconds since 1970.
    pub at_unix_s: u64,
    /// The generation in force.
    pub generation: u64,
    /// Its hash.
    pub hash: String,
    /// What is wrong or doubtful with the files as they are now.
    pub diagnostics: Vec<DiagnosticRecord>,
    /// The same for people.
    #[serde(skip)]
    pub rendered: String,
    /// Counts the times the files were read.
    #[serde(skip)]
    pub attempt: u64,
    /// Hash of the texts that this is about; as long as they stay, there is nothing new to say.
    #[serde(skip)]
    pub seen: String,
}

impl ReloadStatus {
    /// The status after a start.
    pub fn first(snapshot: &Snapshot) -> ReloadStatus {
        ReloadStatus::new(
            true,
            snapshot,
            &Loaded { set: None, reports: Vec::new(), texts: None },
            (0, snapshot.hash.clone()),
        )
    }

    /// The same under another generation of the same files.
    pub fn under(&self, snapshot: &Snapshot) -> ReloadStatus {
        ReloadStatus { generation: snapshot.generation, hash: snapshot.hash.clone(), ..self.clone() }
    }

    fn new(ok: bool, snapshot: &Snapshot, loaded: &Loaded, (attempt, seen): (u64, String)) -> ReloadStatus {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        ReloadStatus {
            ok,
            at_unix_s: at.as_secs(),
            generation: snapshot.generation,
            hash: snapshot.hash.clone(),
            diagnostics: loaded.reports.iter().flat_map(Report::records).collect(),
            rendered: loaded.render(false),
            attempt,
            seen,
        }
    }
}

/// What came of reading the files again.
#[derive(Debug)]
pub enum Reloaded {
    /// Nothing has changed.
    Same,
    /// A new generation is in force.
    Swapped(Arc<Snapshot>),
    /// The last good generation stays; the text says why.
    Refused(String),
}

/// Reads the files again and puts them in force if they are good. Where a file has changed, the same text is no new
/// generation; where a signal asks for it there is one, because secrets that the files refer to may have changed.
pub fn reload(gateway: &Gateway, process_file: &Path, change: &Change) -> Reloaded {
    let _one_at_a_time = gateway.reloading();
    if change.origin == Origin::File && !worth_reading(gateway, process_file) {
        return Reloaded::Same;
    }
    read_again(gateway, process_file, change)
}

/// The same for whoever holds [`Gateway::reloading`].
pub(crate) fn read_again(gateway: &Gateway, process_file: &Path, change: &Change) -> Reloaded {
    let current = gateway.snapshot();
    let seen = set::look(process_file, &current.process).hash;
    let mut loaded = set::load(process_file, Secrets::Required);
    refuse_fixed_keys(&mut loaded, process_file, &current);
    let attempt = gateway.reload_status().attempt + 1;
    let status =
        |ok, snapshot: &Snapshot, loaded: &Loaded| ReloadStatus::new(ok, snapshot, loaded, (attempt, seen.clone()));
    match loaded.set.take() {
        Some(set) if set.hash == current.hash && change.origin != Origin::Signal => {
            gateway.set_reload_status(status(true, &current, &loaded));
            Reloaded::Same
        }
        Some(set) => {
            let snapshot = gateway.swap(set);
            gateway.set_reload_status(status(true, &snapshot, &loaded));
            gateway.history().accepted(&snapshot, &current.texts, change);
            Reloaded::Swapped(snapshot)
        }
        None => {
            let texts = texts_of(&loaded, process_file, &current.texts);
            gateway.history().refused(&current, &seen, &texts, &loaded.reports, change);
            gateway.set_reload_status(status(false, &current, &loaded));
            Reloaded::Refused(loaded.render(false))
        }
    }
}

/// Files that are as they were when they were last read need no reading. A file whose text differs between two looks is still being written: a
/// save that truncates first would show an empty policy, which is a valid one. The next event comes when it is done.
/// Saves by renaming are whole at every look.
fn worth_reading(gateway: &Gateway, process_file: &Path) -> bool {
    let current = gateway.snapshot();
    let seen = set::look(process_file, &current.process);
    if seen.hash == gateway.reload_status().seen {
        return false;
    }
    std::thread::sleep(BETWEEN_LOOKS);
    let again = set::look(process_file, &current.process);
    seen.hash == again.hash || seen.inodes != again.inodes
}

/// What takes effect only at a start is refused by name.
pub(crate) fn refuse_fixed_keys(loaded: &mut Loaded, process_file: &Path, current: &Snapshot) {
    let Some(set) = &loaded.set else { return };
    let fixed = current.process.fixed_keys_changed(&set.process);
    if fixed.is_empty() {
        return;
    }
    let mut report = Report::new(Source::new(process_file.display().to_string(), ""));
    for key in fixed {
        let refused = Diagnostic::error("fixed-while-running", format!("`{key}` cannot change while the gateway runs"));
        report.push(refused.help("put the old value back, or restart the gateway"));
    }
    loaded.reports.push(report);
    loaded.set = None;
}

/// Reloads and says in the log what came of it.
pub fn reload_and_log(gateway: &Gateway, process_file: &Path, change: &Change) {
    match reload(gateway, process_file, change) {
        Reloaded::Same => tracing::debug!("configuration unchanged"),
        Reloaded::Swapped(snapshot) => tracing::info!(
            generation = snapshot.generation,
            policy = %snapshot.version,
            hash = %snapshot.hash,
            endpoints = snapshot.portfolio.endpoints.len(),
            "configuration in force"
        ),
        Reloaded::Refused(diagnostics) => {
            let version = &gateway.snapshot().version;
            tracing::error!("configuration refused, {version} stays in force\n{diagnostics}");
        }
    }
}

/// Watches the files until dropped or the runtime ends; each change is followed by a reload.
pub async fn watch(gateway: Arc<Gateway>, process_file: PathBuf) {
    let changed = Arc::new(Notify::new());
    let mut watched = Watched::default();
    loop {
        watched.follow(folders(&gateway, &process_file), &changed);
        if tokio::time::timeout(POLL, changed.notified()).await.is_ok() {
            let settled = async { while tokio::time::timeout(QUIET, changed.notified()).await.is_ok() {} };
            let _ = tokio::time::timeout(LONGEST_WAIT, settled).await;
            watched.renew();
        }
        let (gateway, process_file) = (Arc::clone(&gateway), process_file.clone());
        let reading = move || reload_and_log(&gateway, &process_file, &Change::file());
        if let Err(error) = tokio::task::spawn_blocking(reading).await {
            tracing::error!("reload failed: {error}");
        }
    }
}

/// A file that is replaced by renaming is lost to whoever watches the file, so its folder is watched; and where the file
/// is a link, the folder it leads to as well.
fn folders(gateway: &Gateway, process_file: &Path) -> BTreeSet<PathBuf> {
    let process = gateway.snapshot().process.clone();
    let mut folders = BTreeSet::new();
    for file in set::files(process_file, Some(&process)) {
        folders.insert(folder_of(&file).to_owned());
        if let Ok(target) = std::fs::canonicalize(&file) {
            folders.insert(folder_of(&target).to_owned());
        }
    }
    folders
}

/// The folders being watched. A folder that is replaced under its name leaves the watch on the old one, so the watch is
/// made anew after every event.
#[derive(Default)]
struct Watched {
    folders: BTreeSet<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    stale: bool,
    complained: bool,
}

impl Watched {
    fn renew(&mut self) {
        self.stale = true;
    }

    fn follow(&mut self, folders: BTreeSet<PathBuf>, changed: &Arc<Notify>) {
        let elsewhere = self.folders != folders;
        if !elsewhere && !self.stale && self.watcher.is_some() {
            return;
        }
        self.stale = false;
        match watcher(&folders, changed) {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.complained = false;
                if elsewhere {
                    changed.notify_one(); // the files may have changed between being read and being watched
                }
            }
            Err(error) => {
                self.watcher = None;
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!("cannot watch the configuration ({error}); reading it every {POLL:?} instead");
                }
            }
        }
        self.folders = folders;
    }
}

fn watcher(folders: &BTreeSet<PathBuf>, changed: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let notify = Arc::clone(changed);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let only_read = event.is_ok_and(|event| event.kind.is_access());
        if !only_read {
            notify.notify_one();
        }
    })?;
    for folder in folders {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}
