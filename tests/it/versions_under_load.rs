//! More than a thousand swaps a minute under full load, a fifth of the edits invalid: no request fails, and every answer
//! is of the version that its header names, which was in force while it was decided.
//!
//! Runs for ten seconds; `POINTSMAN_SWAP_SECONDS=60` makes it a minute.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pointsman::generations::entry::Change;
use pointsman::reload::{Reloaded, reload};
use pointsman_backends::simulators::server::{RunningSimulator, SimulatorConfig};
use pointsman_tests::client::{Ask, Connection};
use pointsman_tests::files::{PROCESS, PoolText, portfolio};
use pointsman_tests::gateway::Gateway;
use pointsman_tests::load::{Answered, Load};
use pointsman_tests::machines::{self, url};
use pointsman_tests::run::alone;
use pointsman_tests::wait;

/// One edit after the other, so far apart: 1,333 a minute, 1,067 of them valid.
const EVERY: Duration = Duration::from_millis(45);
const POOLS: [&str; 4] = ["north", "east", "south", "west"];
const CLIENTS: usize = 32;

/// The policy of an edit: its name, its only class and the only pool that it allows tell it from its neighbours.
fn policy(edit: usize) -> String {
    let pool = pool(edit);
    format!("name = \"edit-{edit}\"\n[class.c-{edit}]\nttft_ms = 1000\n[[route]]\npools = 'pool.name == \"{pool}\"'\n")
}

fn pool(edit: usize) -> &'static str {
    POOLS[edit % POOLS.len()]
}

/// When a generation came into force: at some time between these two.
#[derive(Clone, Copy, Debug)]
struct Entry {
    edit: usize,
    earliest: Instant,
    latest: Instant,
}

/// Every generation that was ever in force, by number.
type Log = BTreeMap<u64, Entry>;

fn seconds() -> u64 {
    std::env::var("POINTSMAN_SWAP_SECONDS").map_or(10, |text| text.parse().expect("a number of seconds"))
}

/// Edits and swaps at a steady pace; returns what came into force when, and how many edits were refused.
fn swap_on_and_on(gateway: &Gateway, mut log: Log) -> (Log, usize) {
    let (inner, file) = (gateway.inner(), gateway.files.process_file());
    let began = Instant::now();
    let mut refused = 0;
    for edit in 1.. {
        let due = began + EVERY * u32::try_from(edit).unwrap();
        if due.duration_since(began) > Duration::from_secs(seconds()) {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let broken = edit % 5 == 0;
        let text = if broken { policy(edit) + "nonsense" } else { policy(edit) };
        gateway.files.replace("policy.toml", &text);
        let earliest = Instant::now();
        match reload(inner, &file, &Change::signal()) {
            Reloaded::Swapped(snapshot) if !broken => {
                log.insert(snapshot.generation, Entry { edit, earliest, latest: Instant::now() });
            }
            Reloaded::Refused(_) if broken => refused += 1,
            other => panic!("edit {edit}: {other:?}"),
        }
    }
    (log, refused)
}

/// Asks for a class that no policy has, until stopped, and keeps what the refusals say.
async fn be_refused(address: SocketAddr, stop: Arc<AtomicBool>) -> Vec<(Answered, String)> {
    let connection = Connection::http1(address).await;
    let mut refusals = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let ask = Ask::chat(&machines::chat(1, false)).header("x-pointsman-class", "none");
        let stream = connection.open(ask).await;
        let answer = Answered::of(&stream, sent);
        let reply = stream.whole().await.expect("a whole refusal");
        assert_eq!(reply.status, 400, "{}", reply.text());
        refusals.push((answer, reply.text()));
    }
    refusals
}

/// The generation that an answer names and its edit, once it is shown that it was in force between request and answer.
fn version(answer: &Answered, log: &Log) -> (u64, usize) {
    let (name, generation) = answer.policy.split_once('@').expect("NAME@GENERATION");
    let generation: u64 = generation.parse().expect("a generation");
    let entry = log.get(&generation).unwrap_or_else(|| panic!("{answer:?} names what never was in force"));
    assert_eq!(name, format!("edit-{}", entry.edit), "{answer:?} names another policy than its generation's");
    assert!(entry.earliest <= answer.headed, "{answer:?} is of a version that was not yet in force: {entry:?}");
    let next = log.get(&(generation + 1));
    let gone = next.is_some_and(|next| next.latest < answer.sent);
    assert!(!gone, "{answer:?} is of a version that was no longer in force: {next:?}");
    (generation, entry.edit)
}

/// The same for one that a machine has given: on the pool that only this version allows.
fn decided_by(answer: &Answered, log: &Log) -> u64 {
    let (generation, edit) = version(answer, log);
    let asked = answer.endpoint.split('/').next();
    assert_eq!(asked, Some(pool(edit)), "{answer:?} was decided by another version than it names");
    generation
}

/// The same for a refusal, which names the only class of its version.
fn refused_by((answer, text): &(Answered, String), log: &Log) -> u64 {
    let (generation, edit) = version(answer, log);
    assert!(text.contains(&format!("`c-{edit}`")), "{answer:?} was refused by another version than it names: {text}");
    generation
}

/// Whoever has seen a version is never answered by an older one, however close to a swap.
fn never_back(answers: &[(Instant, Instant, u64)]) {
    let mut by_sent = answers.to_vec();
    by_sent.sort_by_key(|(sent, ..)| *sent);
    let mut by_headed = answers.to_vec();
    by_headed.sort_by_key(|(_, headed, _)| *headed);
    let mut seen = by_headed.into_iter().peekable();
    let mut newest = 0;
    for (sent, _, generation) in by_sent {
        while let Some((_, _, older)) = seen.next_if(|(_, headed, _)| *headed < sent) {
            newest = newest.max(older);
        }
        assert!(generation >= newest, "generation {generation} after {newest} was seen");
    }
}

async fn machines() -> Vec<RunningSimulator> {
    let mut machines = Vec::new();
    for _ in POOLS {
        machines.push(machines::run(SimulatorConfig { speed: 500.0, ..machines::config("cs3") }).await);
    }
    machines
}

#[test]
fn every_answer_is_of_a_version_that_was_in_force() {
    alone(async {
        let machines = machines().await;
        let pools = POOLS.iter().zip(&machines).map(|(name, machine)| PoolText::new(name, [url(machine)]));
        let pools: Vec<PoolText> = pools.map(|pool| pool.hardware("cs3")).collect();
        let start = Instant::now();
        let gateway = Gateway::unwatched(PROCESS, &portfolio(&pools), &policy(0)).await;
        let log = Log::from([(1, Entry { edit: 0, earliest: start, latest: Instant::now() })]);
        let load = Load::start(gateway.address(), CLIENTS, 20);
        let stop = Arc::new(AtomicBool::new(false));
        let refusing = tokio::spawn(be_refused(gateway.address(), Arc::clone(&stop)));
        wait::until("the load runs", || load.answered() > 100).await;
        let swapping = move || (swap_on_and_on(&gateway, log), gateway);
        let ((log, refused), gateway) = tokio::task::spawn_blocking(swapping).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        let (ledger, refusals) = (load.stop().await, refusing.await.unwrap());
        drop(gateway);

        ledger.close();
        assert_eq!(ledger.broken, 0, "no stream was cut");
        assert_eq!(ledger.answers.len() as u64, ledger.sent, "every request has an answer");
        let answered = ledger.answers.iter().map(|answer| (answer.sent, answer.headed, decided_by(answer, &log)));
        let refusals = refusals.iter().map(|refusal| (refusal.0.sent, refusal.0.headed, refused_by(refusal, &log)));
        let answers: Vec<_> = answered.chain(refusals).collect();
        never_back(&answers);
        let mut seen: Vec<u64> = answers.iter().map(|(.., generation)| *generation).collect();
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() * 10 > log.len() * 9, "answers of {} generations of {}", seen.len(), log.len());
        let swaps = log.len() - 1;
        let a_minute = |count: usize| count as u64 * 60 / seconds();
        println!(
            "{swaps} swaps, {} a minute; {refused} invalid edits refused, {} edits a minute; {} answers, {} a second; {} generations seen in answers",
            a_minute(swaps),
            a_minute(swaps + refused),
            ledger.sent,
            ledger.sent / seconds(),
            seen.len()
        );
    });
}
