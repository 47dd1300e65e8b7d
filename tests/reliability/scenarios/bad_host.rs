//! A host that runs out of files, of room on its disk, or of a sense of time: requests go on.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use pointsman_tests::client::{Ask, send};
use pointsman_tests::files::portfolio;
use pointsman_tests::wait;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use tokio::task::JoinSet;

use super::Scale;
use crate::client::{self, Load};
use crate::ledger::{Ended, Ledger};
use crate::machine::{Machine, Manners, Wish};
use crate::report::{Promise, Report};
use crate::stand::{Stand, policy, pool};

/// Files that the gateway may have where files are few.
const FILES: u64 = 160;

/// More clients than there can be files: some wait, some are told, nobody is dropped, and afterwards all is as before.
pub(super) async fn few_files(scale: Scale) -> Report {
    let machine = Machine::start(Manners::default()).await;
    let stand = Stand::start("", &[pool("gpu", "h1", [machine.url()])]).await;
    let id = Pid::from_raw(stand.served.process.id().cast_signed()).expect("an id");
    let few = Rlimit { current: Some(FILES), maximum: Some(FILES) };
    prlimit(Some(id), Resource::Nofile, few).expect("a child's limit can be lowered");
    let (clients, rounds, address) = (400, scale.of(1, 20), stand.address());
    let mut all = JoinSet::new();
    for _ in 0..clients {
        all.spawn(async move {
            let mut ledger = Ledger::default();
            for _ in 0..rounds {
                ledger.book(&client::once(address, Wish::stream(10, 20)).await);
            }
            ledger
        });
    }
    let mut report = Report::default();
    report.book(client::sum(all).await);
    wait::some("its clients have gone", async || {
        (stand.metric("pointsman_client_connections ").await == 0.0).then_some(())
    })
    .await;
    let mut after = Ledger::default();
    for _ in 0..20 {
        after.book(&client::once(address, Wish::stream(10, 2)).await);
    }
    report.none("requests not served afterwards", after.sent - after.ok);
    report.book(after);
    report
}

/// A file system in memory that is unmounted in the end.
struct Small<'p>(&'p Path);

impl Small<'_> {
    fn mount(path: &Path) -> Option<Small<'_>> {
        std::fs::create_dir_all(path).ok()?;
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=192k", "tmpfs"]).arg(path).output().ok()?;
        status.status.success().then_some(Small(path))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

/// The decision log and the state folder find no room; then there is some again.
pub(super) async fn full_disk(scale: Scale) -> Report {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let Some(_small) = Small::mount(&path) else {
        return Report::skipped("only root may mount the small disk that it needs");
    };
    let machine = Machine::start(Manners::default()).await;
    let log = path.join("decisions.log");
    let more = format!("state = {path:?}\n[record]\nfile = {log:?}\n");
    let stand = Stand::start(&more, &[pool("gpu", "h1", [machine.url()])]).await;
    let load = Load::start(stand.address(), 8, Wish::stream(5, 2), Duration::ZERO);
    answered(&stand, 8.0).await;
    let fill = path.join("fill");
    let _ = std::fs::write(&fill, vec![0; 512 << 10]);
    tokio::time::sleep(scale.of(Duration::from_secs(3), Duration::from_secs(60))).await;
    let room = std::fs::write(path.join("more"), vec![0; 8 << 10]).is_ok();
    stand.files.replace("policy.toml", &policy("while-full"));
    stand.served.process.signal(Signal::HUP);
    let in_force = async || {
        let status = send(stand.served.admin, Ask::get("/api/v1/status")).await.text();
        status.contains("while-full").then_some(())
    };
    wait::some("the policy is in force though the disk is full", in_force).await;
    let dropped = stand.metric("pointsman_decisions_recorded_total{result=\"dropped\"}").await;
    let _ = std::fs::remove_file(&fill);
    answered(&stand, 8.0).await;
    let ledger = load.stop().await;
    let mut report = Report::default();
    report.none("the disk was not full", u64::from(room));
    report.none("refused", ledger.refused);
    report.figure("decisions that found no room", dropped, Promise::None);
    report.book(ledger);
    report
}

/// Waits until so many more requests have been answered.
async fn answered(stand: &Stand, more: f64) {
    let count = async || stand.metric("pointsman_requests_total").await;
    let before = count().await;
    wait::some("requests are answered", async || (count().await >= before + more).then_some(())).await;
}

/// Where Debian puts it.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// Streams, time limits and held requests go by a clock that cannot jump.
pub(super) async fn clock(scale: Scale) -> Report {
    if !Path::new(FAKETIME).exists() {
        return Report::skipped("libfaketime is not installed (Debian: `apt-get install libfaketime`)");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("offset");
    std::fs::write(&file, "+0\n").expect("the file can be written");
    let file = file.to_str().expect("a path in UTF-8");
    let machine = Machine::start(Manners::default()).await;
    let environment = [
        ("LD_PRELOAD", FAKETIME),
        ("FAKETIME_TIMESTAMP_FILE", file),
        ("FAKETIME_CACHE_DURATION", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    let pools = portfolio(&[pool("gpu", "h2", [machine.url()])]);
    let stand = Stand::with("", &pools, &policy("cheapest"), &environment).await;
    let load = Load::start(stand.address(), 20, Wish::stream(30, 100), Duration::ZERO);
    wait::some("streams run", async || (stand.metric("pointsman_client_connections ").await >= 20.0).then_some(()))
        .await;
    let (mut seen_days, mut looks): (f64, u32) = (0.0, 0);
    for _ in 0..scale.of(1, 10) {
        for (offset, days) in [("+30d\n", 30.0), ("-30d\n", -30.0), ("+0\n", 0.0)] {
            std::fs::write(file, offset).expect("the file can be written");
            wait::some("its clock has jumped", async || {
                looks += 1;
                let ahead = days_ahead(&stand, &format!("look-{looks}")).await;
                seen_days = seen_days.max(ahead);
                (ahead - days).abs().lt(&1.0).then_some(())
            })
            .await;
        }
    }
    let mut report = Report::default();
    let ledger = load.stop().await;
    report.none("refused", ledger.refused);
    report.none("streams cut", ledger.told);
    report.book(ledger);
    report.figure("days that its clock was ahead", seen_days, Promise::AtLeast(29.0));
    let ended = client::once(stand.address(), Wish::stream(3, 1)).await;
    report.none("not served afterwards", u64::from(ended != Ended::Ok));
    report
}

/// How far its clock is ahead of ours, by the time that it remembers of a request.
async fn days_ahead(stand: &Stand, id: &str) -> f64 {
    send(stand.address(), Ask::chat(&Wish::stream(1, 1).body()).header("x-request-id", id)).await;
    let list = send(stand.served.admin, Ask::get("/api/v1/decisions?limit=1000")).await.json();
    let lines = list["decisions"].as_array().cloned().unwrap_or_default();
    let told = lines.iter().find(|line| line["request_id"] == id).and_then(|line| line["unix_ms"].as_f64());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    told.map_or(f64::NAN, |ms| (ms / 1e3 - now) / 86_400.0)
}
