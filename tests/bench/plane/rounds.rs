//! One peer after the other, one round after the other, so that what else the machine does meets all of them alike.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use crate::arguments::Wanted;
use crate::load::{self, Extent, Load};
use crate::mock;
use crate::peers::{self, DIRECT, FLOOR, Peer, Started};
use crate::process::{self, Process};
use crate::report::Report;
use crate::scenario::{SCENARIOS, Scenario, Target};

/// The machine's addresses: eight to work, one for traces.
const MACHINES: usize = 9;
/// Nothing is asked for this long before idle memory is read.
const QUIET: Duration = Duration::from_millis(700);

/// Measures what is wanted.
pub(crate) fn run(wanted: &Wanted) -> ExitCode {
    let known = match peers::read(&wanted.file) {
        Ok(known) => known,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    let scenarios: Vec<Scenario> = SCENARIOS
        .into_iter()
        .filter(|scenario| wanted.loads.iter().any(|load| load == scenario.name))
        .map(|scenario| if wanted.quick { scenario.shortened() } else { scenario })
        .collect();
    let mut report = Report::default();
    let named = named(wanted, &known, &mut report);
    if named.is_empty() || scenarios.is_empty() {
        eprintln!(
            "nothing to measure: peers are {DIRECT}, {FLOOR}, {}",
            known.keys().cloned().collect::<Vec<_>>().join(", ")
        );
        return ExitCode::FAILURE;
    }
    let (proxy_core, other_core) = process::cores();
    process::bind(other_core);
    let this = std::env::current_exe().expect("the path of this program").to_string_lossy().into_owned();
    let command = [this, "mock".to_owned(), "--listeners".to_owned(), MACHINES.to_string()];
    let (_machine, line) = Process::start_ready(other_core, &command);
    let machine = mock::addresses(&line);
    let rounds = if wanted.quick { 1 } else { wanted.rounds };
    for round in 1..=rounds {
        for (name, peer) in &named {
            for streamed in [false, true] {
                let these: Vec<&Scenario> = scenarios.iter().filter(|one| one.is_streamed() == streamed).collect();
                if !these.is_empty() {
                    Turn { name, round, wanted, machine: &machine, core: proxy_core }.take(
                        peer.as_ref(),
                        &these,
                        &mut report,
                    );
                }
            }
        }
    }
    print!("{}", report.table());
    if let Some(file) = &wanted.json
        && let Err(error) = std::fs::write(file, report.json())
    {
        eprintln!("cannot write `{}`: {error}", file.display());
        return ExitCode::FAILURE;
    }
    if report.failed(wanted.quick) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The peers that are wanted and there; those that are not there are told of.
fn named(wanted: &Wanted, known: &BTreeMap<String, Peer>, report: &mut Report) -> Vec<(String, Option<Peer>)> {
    let names: Vec<String> = match wanted.peers.as_slice() {
        [all] if all == "all" => [DIRECT, FLOOR].map(str::to_owned).into_iter().chain(known.keys().cloned()).collect(),
        names => names.to_vec(),
    };
    let mut named = Vec::new();
    for name in names {
        let peer = match (name.as_str(), known.get(&name)) {
            (DIRECT, _) => None,
            (FLOOR, _) => Some(Peer::floor()),
            (_, Some(peer)) => Some(peer.clone()),
            (_, None) => {
                report.absent(&name, "peers.toml does not know it");
                continue;
            }
        };
        match peer.as_ref().and_then(Peer::is_absent) {
            Some(why) => report.absent(&name, &why),
            None => {
                report.present(&name, peer.as_ref().map_or("no proxy: client and machine alone", |peer| &peer.note));
                named.push((name, peer));
            }
        }
    }
    named
}

/// A peer's turn in a round.
struct Turn<'t> {
    name: &'t str,
    round: usize,
    wanted: &'t Wanted,
    machine: &'t [SocketAddr],
    core: usize,
}

impl Turn<'_> {
    fn take(&self, peer: Option<&Peer>, scenarios: &[&Scenario], report: &mut Report) {
        self.set_pace(1, 1000);
        let started = match peer {
            None => Ok(peers::direct(self.machine)),
            Some(peer) => peer.start(self.core, self.machine),
        };
        let Started { process, target, .. } = &match started {
            Ok(started) => started,
            Err(problem) => return report.broken(self.name, &problem),
        };
        if let Some(process) = process {
            std::thread::sleep(QUIET);
            report.idle(self.name, process.resident_kib() as f64 / 1024.0);
        }
        let (warm, time) = match self.wanted.quick {
            true => (Duration::from_millis(300), Duration::from_millis(500)),
            false => (Duration::from_secs(1), Duration::from_secs_f64(self.wanted.seconds)),
        };
        self.set_pace(20, 1000);
        for scenario in scenarios.iter().take(1) {
            load::run(&scenario.warm_up(target, warm));
        }
        for scenario in scenarios {
            let (events, every_us) = scenario.pace();
            self.set_pace(events, every_us);
            let figures = scenario.measure(target, process.as_ref(), time);
            eprintln!("round {} {:<10} {:<14} {figures}", self.round, scenario.name, self.name);
            report.add(self.name, scenario.name, figures);
        }
    }

    /// Tells the machine at what pace to stream.
    fn set_pace(&self, events: u64, every_us: u128) {
        let path = format!("{}{events},{every_us}", mock::PACE);
        let machine = Target { address: self.machine[0], path, model: String::new(), headers: Vec::new() };
        let (address, request) = (machine.address, machine.request(0, false));
        let longest = Duration::from_secs(5);
        let once = Extent::Streams { each: 1, events: 0, ramp: Duration::ZERO, longest };
        load::run(&Load { address, request, connections: 1, extent: once });
    }
}
