//! Processes: bound to a core, measured with all their children, ended with all their children.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getrlimit, kill_process, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// A process that is asked to end gets this long.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Time on a clock that all processes share, nanoseconds.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Thousands of connections need as many files; children inherit the limit.
pub(crate) fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The core of the proxy, and that of everything else; the same where there is only one.
pub(crate) fn cores() -> (usize, usize) {
    let allowed = sched_getaffinity(None).expect("a core to run on");
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let first = cores.next().expect("a core to run on");
    (first, cores.next().unwrap_or(first))
}

/// Stays on one core from now on, with all threads and children that are made later.
pub(crate) fn bind(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("this core may be used");
}

/// Becomes another program, which ends when its parent does.
pub(crate) fn become_bound(core: usize, command: &[String]) -> ExitCode {
    bind(core);
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    eprintln!("cannot run `{}`: {error}", command[0]);
    ExitCode::FAILURE
}

/// A process and its children.
pub(crate) struct Process {
    child: Child,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// Time on a core, nanoseconds.
    pub(crate) ran_ns: u64,
    /// Time in which it wanted a core and others had it, nanoseconds.
    pub(crate) waited_ns: u64,
}

impl Process {
    /// Starts a program on a core. What it prints goes to a file.
    pub(crate) fn start(core: usize, command: &[String], env: &[(String, String)], folder: &Path) -> Process {
        let log = fs::File::create(folder.join("log")).expect("a file");
        let child = bound(core, command)
            .current_dir(folder)
            .envs(env.iter().cloned())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("it can be started");
        Process { child }
    }

    /// Starts one that prints a line when it is ready.
    pub(crate) fn start_ready(core: usize, command: &[String]) -> (Process, String) {
        let mut child = bound(core, command).stdout(Stdio::piped()).spawn().expect("it can be started");
        let mut line = String::new();
        let mut printed = BufReader::new(child.stdout.take().expect("its output"));
        printed.read_line(&mut line).expect("a line");
        (Process { child }, line)
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// What it and its children have used.
    pub(crate) fn used(&self) -> Used {
        let mut sum = Used::default();
        for id in self.family() {
            for task in fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
                let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let mut figures = text.split_whitespace().map_while(|figure| figure.parse::<u64>().ok());
                sum.ran_ns += figures.next().unwrap_or(0);
                sum.waited_ns += figures.next().unwrap_or(0);
            }
        }
        sum
    }

    /// Memory that is really there for it and its children, KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let resident = |id| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        self.family().into_iter().filter_map(resident).sum()
    }

    /// Its id and those of its children, and theirs.
    fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(id) = family.get(next) {
            let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
            let children: Vec<u32> = tasks
                .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
                .flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<u32>>())
                .collect();
            family.extend(children);
            next += 1;
        }
        family
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let family = self.family();
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let asked = Instant::now();
        while !self.has_ended() && asked.elapsed() < LAST_WORDS {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for orphan in family.into_iter().skip(1).filter_map(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process(orphan, Signal::KILL);
        }
    }
}

/// This program, which binds itself to a core and becomes another one.
fn bound(core: usize, command: &[String]) -> Command {
    let mut bound = Command::new(std::env::current_exe().expect("the path of this program"));
    bound.args(["bound", "--core", &core.to_string(), "--"]).args(command).stdin(Stdio::null());
    bound
}
