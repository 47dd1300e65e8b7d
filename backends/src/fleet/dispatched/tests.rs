//! What an endpoint is believed to have of a prompt, by what became of the request.

use std::path::Path;

use pointsman_policies::language::Source;
use pointsman_policies::prefix::of_blocks;

use super::super::Fleet;
use super::*;
use crate::health::engine_report::EngineReport;
use crate::portfolio::{Secrets, load};

const TOKENS: u64 = 8 * 512;

struct Stage {
    prefixes: Arc<Prefixes>,
    live: Arc<Live>,
    prefix: Arc<Prefix>,
}

impl Stage {
    fn new() -> Stage {
        let text = "[pool.a]\nhardware = \"h100\"\nendpoints = [\"http://a:1\"]\n[pool.a.model.m]\n";
        let (portfolio, report) = load(Source::new("portfolio.toml", text), Path::new(""), Secrets::Optional);
        let portfolio = portfolio.unwrap_or_else(|| panic!("{report}"));
        let fleet = Fleet::default();
        let live = fleet.adopt(&portfolio).remove(0);
        let prefix = Arc::new(of_blocks(&(0..8).collect::<Vec<_>>(), 512, TOKENS));
        Stage { prefixes: Arc::clone(fleet.prefixes()), live, prefix }
    }

    fn send(&self, now: Micros) -> Dispatched {
        let work = Work { input_tokens: TOKENS, ..Work::default() };
        let mut dispatched = self.live.begin(now, work).expect("it has no limits");
        dispatched.reads(&self.prefixes, &self.prefix, 10);
        dispatched
    }

    fn held(&self) -> u64 {
        let held = self.prefixes.held(&self.prefix, TOKENS, |_| Some((0, self.live.cache())));
        held.first().map_or(0, |held| held.tokens)
    }
}

#[test]
fn only_a_prompt_that_was_read_is_kept() {
    let now = Micros(0);
    type End = fn(Dispatched, Micros);
    let ends: [(&str, End, u64); 6] = [
        ("refused", |one, now| one.refused(now), 0),
        ("failed without an answer", |one, now| one.settle(now, 10), 0),
        ("its client left", |one, _| drop(one), 0),
        (
            "its first token came, then its client left",
            |mut one, now| {
                one.first_token(now);
                drop(one);
            },
            TOKENS,
        ),
        (
            "answered as a stream",
            |mut one, now| {
                one.first_token(now);
                one.answered(None);
                one.settle(now, 10);
            },
            TOKENS,
        ),
        (
            "answered whole",
            |mut one, now| {
                one.answered(Some(0));
                one.settle(now, 10);
            },
            TOKENS,
        ),
    ];
    for (name, end, kept) in ends {
        let stage = Stage::new();
        let sent = stage.send(now);
        assert_eq!(stage.held(), TOKENS, "{name}: what begins alike is best sent after it");
        end(sent, now);
        assert_eq!(stage.held(), kept, "{name}");
    }
}

#[test]
fn who_was_started_again_has_read_nothing() {
    let report = |queries: f64| EngineReport { prefix_totals: Some((queries, 0.0)), ..EngineReport::default() };
    let stage = Stage::new();
    let read = |now: Micros| {
        let mut sent = stage.send(now);
        sent.first_token(now);
        sent.settle(now, 10);
        assert_eq!(stage.held(), TOKENS);
    };
    read(Micros(0));
    stage.live.is_gone();
    assert_eq!(stage.held(), 0, "nobody listened");

    read(Micros(0));
    stage.live.take_report(Micros(0), &report(1_000.0), None);
    stage.live.take_report(Micros(0), &report(2_000.0), None);
    assert_eq!(stage.held(), TOKENS);
    stage.live.take_report(Micros(0), &report(10.0), None);
    assert_eq!(stage.held(), 0, "it counts from the beginning");

    read(Micros(0));
    let fail = |at: Micros| stage.live.report(Verdict::Failed, at);
    (0..3).for_each(|_| fail(Micros(0)));
    stage.send(Micros::from_secs(2)).refused(Micros::from_secs(2));
    assert_eq!(stage.held(), TOKENS, "it was away for a moment");
    fail(Micros::from_secs(2));
    stage.send(Micros::from_secs(12)).refused(Micros::from_secs(12));
    assert_eq!(stage.held(), 0, "it was away for long");
}
