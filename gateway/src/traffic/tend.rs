//! Enters what has ended into the books five times a second, looks at the endpoints once a second, and tells those who watch.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pointsman_policies::fleet::EndpointState;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::names::Column;
use super::rollup::{Series, Stats};
use super::summary::Summary;
use super::{Books, Traffic};
use crate::gateway::Gateway;
use crate::generations::entry::{Entry, Outcome};

/// How often books are kept.
const EVERY: Duration = Duration::from_millis(200);
/// Records that are entered between two requests of the data path: some hundred microseconds.
const MOST_AT_ONCE: usize = 64;
/// Changes of policies that are looked at for new ones, each second.
const LAST_ENTRIES: usize = 8;

/// Now, milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Keeps the books, until it is dropped.
pub async fn tend(gateway: Arc<Gateway>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut second, mut told_ms) = (now_ms() / 1_000, now_ms());
    loop {
        tick.tick().await;
        let now_ms = now_ms();
        let is_new = now_ms / 1_000 != second;
        let traffic = gateway.telemetry().traffic();
        if traffic.waiting() > MOST_AT_ONCE || traffic.is_searched() {
            // entering many, or waiting until a search has ended, takes milliseconds that are the data path's
            let keeping = Arc::clone(&gateway);
            let kept = tokio::task::spawn_blocking(move || keep(&keeping, is_new.then_some((now_ms, told_ms))));
            if kept.await.is_err() {
                tracing::error!("the books of requests could not be kept");
            }
        } else {
            keep(&gateway, is_new.then_some((now_ms, told_ms)));
        }
        if is_new {
            (second, told_ms) = (now_ms / 1_000, now_ms);
        }
    }
}

/// Enters what has ended and, at the end of a second, looks around: now, and since when things are to be told.
fn keep(gateway: &Gateway, at_second: Option<(u64, u64)>) {
    let traffic = gateway.telemetry().traffic();
    let notable = traffic.books().take_notable();
    notable.iter().for_each(|record| gateway.telemetry().kept(record));
    if let Some((now_ms, told_ms)) = at_second {
        look(gateway, traffic, now_ms, told_ms);
    }
    traffic.feed.wake();
}

/// Looks at the endpoints and tells what has happened since the last look.
fn look(gateway: &Gateway, traffic: &Traffic, now_ms: u64, since_ms: u64) {
    let snapshot = gateway.snapshot();
    let states = snapshot.endpoint_states(gateway.fleet().now());
    let targets = || snapshot.targets().zip(&states);
    let named = targets().map(|(target, state)| (target.endpoint.id.as_str(), state.availability.as_str()));
    let changed = traffic.books().strips.look(now_ms, named);
    if !traffic.feed.is_watched() {
        return;
    }
    for (endpoint, change) in changed {
        let by = targets().find(|(target, _)| target.endpoint.id.as_str() == endpoint);
        let by = by.and_then(|(target, _)| target.live.drained()).map(|drained| format!(", drained by {}", drained.by));
        let text = format!("{endpoint} is {}{}", change.state, by.unwrap_or_default());
        let event = json!({ "unix_ms": now_ms, "kind": "breaker", "text": text, "endpoint": endpoint });
        traffic.feed.tell("event", event.to_string());
    }
    let entries = gateway.history().entries(LAST_ENTRIES);
    for entry in entries.iter().rev().filter(|entry| entry.at_unix_ms > since_ms) {
        traffic.feed.tell("event", mark(entry).to_string());
    }
    let backends: Vec<Value> = targets()
        .map(|(target, state)| backend(target.endpoint.id.as_str(), state, target.facts.service.slots))
        .collect();
    let second = now_ms / 1_000 - 1;
    let mut tick = sums(&traffic.books(), second);
    if let Some(members) = tick.as_object_mut() {
        members.insert("policy".to_owned(), json!(&*snapshot.version));
        members.insert("generation".to_owned(), json!(snapshot.generation));
        members.insert("backends".to_owned(), json!(backends));
        members.insert("queue".to_owned(), json!({ "held": gateway.queue().flow().held() }));
    }
    traffic.feed.tell("tick", tick.to_string());
}

/// A change of policies, as it is marked on a line of time.
pub fn mark(entry: &Entry) -> Value {
    let (kind, what) = match entry.result {
        Outcome::Accepted => ("policy", format!("{}@{} in force", entry.policy, entry.number)),
        Outcome::Refused => ("refused", format!("attempt {} refused", entry.id())),
    };
    let who = if entry.who == "-" { String::new() } else { format!(", by {}", entry.who) };
    json!({ "unix_ms": entry.at_unix_ms, "kind": kind, "text": format!("{what}{who}: {}", entry.summary) })
}

fn backend(endpoint: &str, state: &EndpointState, slots: u32) -> Value {
    json!({ "endpoint": endpoint, "state": state.availability.as_str(), "in_flight": state.in_flight, "slots": slots })
}

/// Sums of one second.
fn sums(books: &Books, second: u64) -> Value {
    let cell = books.rollups.cells(1, second, second + 1).next();
    let nothing = Stats::default();
    let all = cell.and_then(|cell| cell.series.get(&Series::All)).unwrap_or(&nothing);
    let series = || cell.into_iter().flat_map(|cell| &cell.series);
    let name = |column, number| books.names.name(column, number);
    let mut classes: Vec<Summary> = series()
        .filter_map(|(series, stats)| match series {
            Series::Class(class) => Some(Summary::of(name(Column::Class, *class), stats)),
            _ => None,
        })
        .collect();
    classes.sort_by(|one, other| one.name.cmp(&other.name));
    let flow = series().filter_map(|(series, stats)| match series {
        Series::Flow(class, endpoint) => Some(json!({
            "class": name(Column::Class, *class),
            "endpoint": name(Column::Endpoint, *endpoint),
            "requests": stats.requests,
        })),
        _ => None,
    });
    let flow: Vec<Value> = flow.collect();
    json!({ "unix_s": second, "all": Summary::of("all", all), "classes": classes, "flow": flow })
}
