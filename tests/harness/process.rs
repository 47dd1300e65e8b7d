//! Programs as processes of their own: killed when dropped, what they print kept in files.

use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait;

/// No command that ends by itself takes longer.
const LONGEST: Duration = Duration::from_secs(30);

/// The program under test: beside the folder that holds this test, or beside this program.
pub fn program() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this test");
    let folder = this.parent().expect("target/PROFILE");
    let folder = if folder.ends_with("deps") { folder.parent().expect("target/PROFILE") } else { folder };
    let program = folder.join("pointsman");
    assert!(program.exists(), "`{}` is missing: run `cargo build --workspace --bins` first", program.display());
    program
}

/// Whether the program under test is a release build.
pub fn is_release() -> bool {
    program().parent().is_some_and(|folder| folder.ends_with("release"))
}

/// Runs `pointsman` until it ends.
pub fn output(folder: &Path, arguments: &[&str]) -> Output {
    let mut process = Process::start(folder, arguments, &[]);
    let status = process.until_exit(LONGEST);
    Output { status, stdout: process.stdout().into_bytes(), stderr: process.stderr().into_bytes() }
}

/// A process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    printed: TempDir,
}

impl Process {
    /// Starts `pointsman` in a folder, with these arguments and environment variables.
    pub fn start(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new(program());
        command.args(arguments).stdin(Stdio::piped());
        Process::run(command, folder, environment)
    }

    /// Starts `pointsman serve` as systemd does: with a listening socket that is bound already.
    pub fn activated(folder: &Path, socket: TcpListener, environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new("sh");
        let script = format!("exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec '{}' serve", program().display());
        command.args(["-c", &script]).stdin(Stdio::from(OwnedFd::from(socket)));
        Process::run(command, folder, environment)
    }

    fn run(mut command: Command, folder: &Path, environment: &[(&str, &str)]) -> Process {
        let printed = tempfile::tempdir().expect("a folder");
        let file = |name| File::create(printed.path().join(name)).expect("a file");
        let child = command
            .current_dir(folder)
            .env_remove("RUST_LOG")
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .envs(environment.iter().copied())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("the program can be started");
        Process { child, printed }
    }

    /// What it has printed on stdout.
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it has printed on stderr.
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Gives it a text on stdin, and its end.
    pub fn feed(&mut self, text: &str) {
        let mut stdin = self.child.stdin.take().expect("stdin has not been fed");
        stdin.write_all(text.as_bytes()).expect("it reads");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it has ended");
    }

    /// Waits for its end; panics when the limit has passed.
    pub fn until_exit(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status;
            }
            assert!(began.elapsed() < limit, "it did not end within {limit:?}:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until it has printed a text, on either output, and returns what follows up to the end of the line.
    pub async fn until_printed(&mut self, text: &str) -> String {
        wait::some(text, async || {
            let printed = self.stdout() + &self.stderr();
            if let Some((_, rest)) = printed.split_once(text)
                && let Some((line, _)) = rest.split_once('\n')
            {
                return Some(line.to_owned());
            }
            let ended = self.child.try_wait().expect("it can be waited for");
            assert!(ended.is_none(), "it ended with {ended:?} before it printed `{text}`:\n{printed}");
            None
        })
        .await
    }

    /// Memory that is really there for it, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.printed.path().join(name)).expect("the file is there")).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- stderr of process {}\n{}", self.id(), self.stderr());
        }
    }
}

/// `pointsman serve`.
#[derive(Debug)]
pub struct Served {
    /// The process.
    pub process: Process,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
}

impl Served {
    /// Serves the `pointsman.toml` of a folder; its ports may be 0.
    pub async fn start(folder: &Path, environment: &[(&str, &str)]) -> Served {
        Served::by(Process::start(folder, &["serve"], environment)).await
    }

    /// Serves in the place of the process that does so already.
    pub async fn inheriting(folder: &Path) -> Served {
        Served::by(Process::start(folder, &["serve", "--inherit"], &[])).await
    }

    /// Waits until a process serves.
    pub async fn by(mut process: Process) -> Served {
        let line = process.until_printed("serving on http").await;
        let mut urls = line.split("://").skip(1);
        let mut address = || {
            let url = urls.next().expect("an address");
            let end = url.find(|end: char| !(end.is_ascii_digit() || end == '.' || end == ':')).unwrap_or(url.len());
            url[..end].parse().expect("an address")
        };
        let (address, admin) = (address(), address());
        Served { process, address, admin }
    }
}

/// `pointsman simulate`.
#[derive(Debug)]
pub struct Simulated {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Simulated {
    /// A machine of the catalog, without rate limits.
    pub async fn start(hardware: &str, more: &[&str]) -> Simulated {
        let arguments = ["simulate", "--hardware", hardware, "--unlimited", "--until-stdin-closes"];
        let arguments: Vec<&str> = arguments.into_iter().chain(more.iter().copied()).collect();
        let mut process = Process::start(Path::new("."), &arguments, &[]);
        let address = process.until_printed(" simulated on ").await.trim().parse().expect("an address");
        Simulated { process, address }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
