//! A host that runs out of files, of room on its disk, or of a sense of time: requests go on.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use pointsman_tests::client::{Ask, send};
use pointsman_tests::files::portfolio;
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
    tokio::time::sleep(Duration::from_millis(500)).await;
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
    tokio::time::sleep(Duration::from_millis(500)).await;
    let fill = path.join("fill");
    let _ = std::fs::write(&fill, vec![0; 512 << 10]);
    tokio::time::sleep(scale.of(Duration::from_secs(3), Duration::from_secs(60))).await;
    let room = std::fs::write(path.join("more"), vec![0; 8 << 10]).is_ok();
    stand.files.replace("policy.toml", &policy("while-full"));
    stand.served.process.signal(Signal::HUP);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let status = send(stand.served.admin, Ask::get("/api/v1/status")).await.text();
    let dropped = stand.metric("pointsman_decisions_recorded_total{result=\"dropped\"}").await;
    let _ = std::fs::remove_file(&fill);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let ledger = load.stop().await;
    let mut report = Report::default();
    report.none("the disk was not full", u64::from(room));
    report.none("refused", ledger.refused);
    report.none("a policy was not put in force", u64::from(!status.contains("while-full")));
    report.figure("decisions that found no room", dropped, Promise::None);
    report.book(ledger);
    report
}

/// Where Debian puts it.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

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
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut seen_days: f64 = 0.0;
    for _ in 0..scale.of(1, 10) {
        for offset in ["+30d\n", "-30d\n", "+0\n"] {
            std::fs::write(file, offset).expect("the file can be written");
            tokio::time::sleep(Duration::from_millis(2200)).await;
            seen_days = seen_days.max(days_ahead(&stand).await);
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

/// How far its clock is ahead of ours, by the date of an answer.
async fn days_ahead(stand: &Stand) -> f64 {
    let reply = send(stand.address(), Ask::get("/v1/models")).await;
    // The day of the month and its name are enough: a month ahead it is another month.
    let date = httpdate(reply.header("date"));
    date.map_or(0.0, |date| (date - now_days()).max(0.0).min(MONTH.as_secs_f64()))
}

fn now_days() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() / 86_400.0)
}

/// Days since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn httpdate(text: &str) -> Option<f64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split(' ').skip(1);
    let day: f64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as f64;
    let year: f64 = words.next()?.parse().ok()?;
    let hours: f64 = words.next()?.split(':').next()?.parse().ok()?;
    // The civil calendar, counted from March.
    let (year, month) = if month < 2.0 { (year - 1.0, month + 10.0) } else { (year, month - 2.0) };
    let leap = (year / 4.0).floor() - (year / 100.0).floor() + (year / 400.0).floor();
    Some(365.0 * year + leap + ((153.0 * month + 2.0) / 5.0).floor() + day - 1.0 - 719_468.0 + hours / 24.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_days() {
        assert_eq!(httpdate("Thu, 01 Jan 1970 12:00:00 GMT"), Some(0.5));
        assert_eq!(httpdate("Sun, 06 Nov 1994 00:49:37 GMT"), Some(9075.0));
        assert_eq!(httpdate("Tue, 29 Feb 2000 00:00:00 GMT"), Some(11016.0));
    }
}
