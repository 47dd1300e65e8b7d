//! How short of memory the process is, looked at a few times a second, and what is refused for it. What is running is never
//! given up: first what may be shed is refused, then everything new, then connections without work are closed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::gateway::Gateway;

/// How often it is looked at: a thousand requests of 32 MiB take longer than this to arrive.
const EVERY: Duration = Duration::from_millis(250);
/// How often the limit is read again, in looks: some systems change it under a running process.
const LIMIT_EVERY: u32 = 40;
/// From these parts of the limit on.
const STEPS: [(f64, Level); 3] = [(0.95, Level::CloseIdle), (0.90, Level::Refuse), (0.80, Level::Shed)];
/// A level is left when use is this much below its step, so that it does not flap.
const SLACK: f64 = 0.03;
/// Callers are told to come back after this.
pub const COME_BACK: Duration = Duration::from_secs(5);
/// Of everything new, still so many requests may run: memory that was freed is not always given back to the system, and
/// whoever refuses until it is may refuse for ever.
pub const STILL_ADMITTED: usize = 8;

/// What is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Calm,
    /// Classes that may be shed.
    Shed,
    /// All new requests.
    Refuse,
    /// And connections without requests.
    CloseIdle,
}

impl Level {
    fn at(used: u64, limit: u64, before: Level) -> Level {
        let part = used as f64 / limit as f64;
        let holds = |(step, level): &&(f64, Level)| part >= if before >= *level { step - SLACK } else { *step };
        STEPS.iter().find(holds).map_or(Level::Calm, |(_, level)| *level)
    }
}

/// The memory of the process.
#[derive(Debug)]
pub struct Overload {
    level: watch::Sender<Level>,
    used: AtomicU64,
    limit: AtomicU64,
}

impl Default for Overload {
    fn default() -> Overload {
        Overload { level: watch::Sender::new(Level::Calm), used: AtomicU64::new(0), limit: AtomicU64::new(0) }
    }
}

impl Overload {
    /// What is given up now.
    pub fn level(&self) -> Level {
        *self.level.borrow()
    }

    /// Tells of each look that found something to give up, and of the first that did not.
    pub fn watch(&self) -> watch::Receiver<Level> {
        self.level.subscribe()
    }

    /// Used, bytes; 0 before the first look.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// What may be used, bytes; 0 where there is no limit.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Looks for as long as it is awaited.
    pub async fn tend(gateway: Arc<Gateway>) {
        let mut tick = tokio::time::interval(EVERY);
        let mut of_group = None;
        for look in 0_u32.. {
            tick.tick().await;
            if look % LIMIT_EVERY == 0 {
                of_group = limit_of_group(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
            }
            let said = gateway.snapshot().process.edge.memory_bytes;
            gateway.overload().look(used().unwrap_or(0), said.or(of_group).unwrap_or(0));
        }
    }

    fn look(&self, used: u64, limit: u64) {
        self.used.store(used, Ordering::Relaxed);
        self.limit.store(limit, Ordering::Relaxed);
        let before = self.level();
        let level = if limit == 0 { Level::Calm } else { Level::at(used, limit, before) };
        if level != before {
            let (used, limit) = (used >> 20, limit >> 20);
            match level {
                Level::Calm => tracing::info!("memory is enough again: {used} of {limit} MiB"),
                Level::Shed => tracing::warn!("{used} of {limit} MiB used: what may be shed is refused"),
                Level::Refuse => tracing::warn!("{used} of {limit} MiB used: new requests are refused"),
                Level::CloseIdle => tracing::warn!("{used} of {limit} MiB used: idle connections are closed too"),
            }
        }
        if level != before || level == Level::CloseIdle {
            self.level.send_replace(level);
        }
    }
}

/// Resident memory of this process, bytes. That of its group counts files that the system would drop first.
fn used() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least of the limits of the control groups that this process is in, of either version; `None` where none has one.
fn limit_of_group(own: &Path, root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(own).ok()?;
    let files = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        if controllers.is_empty() {
            return Some((root.to_owned(), path, "memory.max"));
        }
        let memory = controllers.split(',').any(|controller| controller == "memory");
        memory.then(|| (root.join("memory"), path, "memory.limit_in_bytes"))
    });
    let limits = files.flat_map(|(root, path, file)| {
        let folders: Vec<PathBuf> = Path::new(path).ancestors().map(|folder| below(&root, folder)).collect();
        folders.into_iter().filter_map(move |folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok())
    });
    // A group of the first version without a limit says so by a number that no machine has.
    limits.filter(|limit: &u64| *limit < 1 << 60).min()
}

fn below(root: &Path, folder: &Path) -> PathBuf {
    root.join(folder.strip_prefix("/").unwrap_or(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_use_and_do_not_flap() {
        let overload = Overload::default();
        let steps = [
            (79, Level::Calm),
            (80, Level::Shed),
            (78, Level::Shed),
            (76, Level::Calm),
            (90, Level::Refuse),
            (96, Level::CloseIdle),
            (93, Level::CloseIdle),
            (91, Level::Refuse),
            (86, Level::Shed),
            (10, Level::Calm),
        ];
        for (used, expected) in steps {
            overload.look(used, 100);
            assert_eq!(overload.level(), expected, "at {used} %");
        }
        overload.look(100, 0);
        assert_eq!(overload.level(), Level::Calm, "without a limit there is no part of it");
    }

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (own, root) = (folder.path().join("cgroup"), folder.path().join("fs"));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        fs::write(&own, "0::/pod/container\n").unwrap();
        write("pod/container/memory.max", "max\n");
        assert_eq!(limit_of_group(&own, &root), None);
        write("pod/memory.max", "1048576\n");
        assert_eq!(limit_of_group(&own, &root), Some(1_048_576));
        fs::write(&own, "5:cpu:/a\n4:memory:/a/b\n0::/\n").unwrap();
        write("memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit_of_group(&own, &root), None);
        write("memory/a/memory.limit_in_bytes", "4096\n");
        assert_eq!(limit_of_group(&own, &root), Some(4096));
        assert!(used().is_some_and(|bytes| bytes > 1 << 20));
    }
}
