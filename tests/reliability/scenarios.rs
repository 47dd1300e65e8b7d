//! The scenarios, in the order in which they run.

/// Very many streams at once.
mod streams;
/// Files that change all the time.
mod reloads;
/// A long time.
mod soak;
/// Machines that are killed.
mod killed;
/// Machines that close, reset, swallow.
mod bad_machines;
/// Clients that read too slowly.
mod slow_readers;
/// Clients that leave.
mod leaving;
/// Too few files, a full disk, a clock that jumps.
mod bad_host;
/// More work than there is room for.
mod overload;
/// Floods, and those who are slow on purpose.
mod attackers;

use std::pin::Pin;

use crate::report::Report;

/// How large a scenario is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Short and small.
    pub(crate) quick: bool,
}

impl Scale {
    /// One of two sizes.
    pub(crate) fn of<T>(self, quick: T, long: T) -> T {
        if self.quick { quick } else { long }
    }
}

/// A scenario on its way.
pub(crate) type Run = Pin<Box<dyn Future<Output = Report>>>;

/// A scenario.
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) what: &'static str,
    /// Runs it.
    pub(crate) run: fn(Scale) -> Run,
}

/// `[limits]` that let so many clients of one address in.
pub(crate) fn limits(connections: usize) -> String {
    format!("[limits]\nconnections = {connections}\n")
}

/// All of them.
pub(crate) const SCENARIOS: [Scenario; 14] = [
    Scenario {
        name: "streams",
        what: "very many numbered streams at once, HTTP/1 to clients, HTTP/2 to machines",
        run: |scale| Box::pin(streams::run(scale)),
    },
    Scenario {
        name: "reloads",
        what: "1,000 changes of the policy a minute under load, every fifth of them invalid",
        run: |scale| Box::pin(reloads::run(scale)),
    },
    Scenario {
        name: "soak",
        what: "a mixed load for a long time: memory does not slope",
        run: |scale| Box::pin(soak::run(scale)),
    },
    Scenario {
        name: "killed",
        what: "machines killed with SIGKILL under load and started again",
        run: |scale| Box::pin(killed::run(scale)),
    },
    Scenario {
        name: "idle-close",
        what: "machines that close idle connections without a word, at about the moment they are used again",
        run: |scale| Box::pin(bad_machines::idle_close(scale)),
    },
    Scenario {
        name: "blackholes",
        what: "machines that take no connection, take one and never answer, or reset it",
        run: |scale| Box::pin(bad_machines::blackholes(scale)),
    },
    Scenario {
        name: "slow-readers",
        what: "clients that do not read streams of 40, 120 and 300-byte events, beside others that do",
        run: |scale| Box::pin(slow_readers::run(scale)),
    },
    Scenario {
        name: "leaving",
        what: "clients that leave in every phase of a request, HTTP/1 and 2 on both sides",
        run: |scale| Box::pin(leaving::run(scale)),
    },
    Scenario {
        name: "few-files",
        what: "more clients than the process may have files",
        run: |scale| Box::pin(bad_host::few_files(scale)),
    },
    Scenario {
        name: "full-disk",
        what: "no room for the decision log and the state folder",
        run: |scale| Box::pin(bad_host::full_disk(scale)),
    },
    Scenario {
        name: "clock",
        what: "the clock of the host jumps 30 days ahead and back while streams run",
        run: |scale| Box::pin(bad_host::clock(scale)),
    },
    Scenario {
        name: "overload",
        what: "five times the work that there is room for; who waits for an answer gets it",
        run: |scale| Box::pin(overload::run(scale)),
    },
    Scenario {
        name: "floods",
        what: "HTTP/2 floods: PING, SETTINGS, resets, CONTINUATION, empty DATA, window updates",
        run: |scale| Box::pin(attackers::floods(scale)),
    },
    Scenario {
        name: "slow-attack",
        what: "connections that send a byte now and then, in heads and bodies, or read none",
        run: |scale| Box::pin(attackers::slow(scale)),
    },
];
