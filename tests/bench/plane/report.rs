//! What came out: medians over rounds, as JSON and as a table.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde_json::{Map, Value, json};

use crate::peers::{DIRECT, FLOOR};
use crate::scenario::{Figures, SCENARIOS};

/// Figures of all rounds.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// In the order in which they were named, with what they are.
    peers: Vec<(String, String)>,
    absent: Vec<(String, String)>,
    idle_mib: BTreeMap<String, Vec<f64>>,
    figures: BTreeMap<(String, &'static str), Vec<Figures>>,
}

impl Report {
    pub(crate) fn present(&mut self, name: &str, note: &str) {
        self.peers.push((name.to_owned(), note.to_owned()));
    }

    /// A peer that was wanted and is not there.
    pub(crate) fn absent(&mut self, name: &str, why: &str) {
        eprintln!("{name} is absent: {why}");
        self.absent.push((name.to_owned(), why.to_owned()));
    }

    /// A peer that did not start; told of once.
    pub(crate) fn broken(&mut self, name: &str, why: &str) {
        if !self.absent.iter().any(|(known, _)| known == name) {
            self.absent(name, why);
        }
    }

    pub(crate) fn idle(&mut self, name: &str, mib: f64) {
        self.idle_mib.entry(name.to_owned()).or_default().push(mib);
    }

    pub(crate) fn add(&mut self, name: &str, scenario: &'static str, figures: Figures) {
        self.figures.entry((name.to_owned(), scenario)).or_default().push(figures);
    }

    /// Whether nothing came out, or something is wrong in a run in which nothing may be.
    pub(crate) fn failed(&self, strictly: bool) -> bool {
        let wrong = || self.figures.values().flatten().any(|figures| figures.errors > 0);
        self.figures.is_empty() || (strictly && (wrong() || !self.absent.is_empty()))
    }

    fn figure(&self, name: &str, scenario: &'static str, of: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        let rounds = self.figures.get(&(name.to_owned(), scenario))?;
        median(rounds.iter().filter_map(of).collect())
    }

    /// `{"peers":{NAME:{"idle_rss_mib":..., SCENARIO:{...}}}}`
    pub(crate) fn json(&self) -> String {
        let mut peers = Map::new();
        for (name, _) in &self.peers {
            let mut peer = Map::new();
            peer.insert(
                "idle_rss_mib".to_owned(),
                json!(self.idle_mib.get(name).cloned().and_then(median).map(rounded)),
            );
            for scenario in SCENARIOS {
                let Some(rounds) = self.figures.get(&(name.clone(), scenario.name)) else { continue };
                let figure = |of: fn(&Figures) -> Option<f64>| json!(self.figure(name, scenario.name, of).map(rounded));
                let figures = json!({
                    "cpu_us": figure(|figures| figures.cpu_us),
                    "rps": figure(|figures| figures.rps),
                    "p50_us": figure(|figures| figures.p50_us),
                    "p99_us": figure(|figures| figures.p99_us),
                    "ttft_p50_us": figure(|figures| figures.ttft_p50_us),
                    "ttft_p99_us": figure(|figures| figures.ttft_p99_us),
                    "kib_per_stream": figure(|figures| figures.kib_per_stream),
                    "errors": rounds.iter().map(|figures| figures.errors).sum::<u64>(),
                });
                peer.insert(scenario.name.to_owned(), figures);
            }
            peers.insert(name.clone(), Value::Object(peer));
        }
        format!("{:#}\n", json!({ "peers": peers }))
    }

    /// For people: medians, and in brackets how many times the floor that is.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from(
            "\n| peer | CPU µs/request, 64 connections | 32 KiB bodies | 256 KiB bodies | CPU µs/event, 200 streams | \
             KiB/stream, 2,000 streams | added p50 µs, one connection | requests/s, 64 connections | idle RSS MiB | errors |\n\
             |---|---|---|---|---|---|---|---|---|---|\n",
        );
        for (name, _) in &self.peers {
            let cpu = |scenario| self.cell(name, |name| self.figure(name, scenario, |figures| figures.cpu_us));
            let kib = self.cell(name, |name| self.figure(name, "streams2k", |figures| figures.kib_per_stream));
            let p50 = |name: &str| self.figure(name, "serial", |figures| figures.p50_us);
            let added = self.cell(name, |name| Some(p50(name)? - p50(DIRECT)?));
            let rate = self.figure(name, "saturated", |figures| figures.rps);
            let idle = self.idle_mib.get(name).cloned().and_then(median);
            let errors: u64 = self
                .figures
                .iter()
                .filter(|((peer, _), _)| peer == name)
                .flat_map(|(_, all)| all)
                .map(|figures| figures.errors)
                .sum();
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {} | {} | {kib} | {added} | {} | {} | {errors} |",
                cpu("saturated"),
                cpu("body32k"),
                cpu("body256k"),
                cpu("streams"),
                rate.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.0}")),
                idle.map_or_else(|| "–".to_owned(), |idle| format!("{idle:.1}")),
            );
        }
        for (name, note) in &self.peers {
            let _ = write!(text, "\n- {name}: {note}");
        }
        for (name, why) in &self.absent {
            let _ = write!(text, "\n- {name} is absent: {why}");
        }
        text + "\n"
    }

    /// A figure, with what it is to the floor's.
    fn cell(&self, name: &str, figure: impl Fn(&str) -> Option<f64>) -> String {
        match (figure(name), figure(FLOOR).filter(|floor| *floor > 0.0 && name != FLOOR)) {
            (Some(figure), Some(floor)) => format!("{figure:.1} ({:.2} x)", figure / floor),
            (Some(figure), None) => format!("{figure:.1}"),
            (None, _) => "–".to_owned(),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = [
            ("CPU µs", self.cpu_us),
            ("/s", self.rps),
            ("p50 µs", self.p50_us),
            ("p99 µs", self.p99_us),
            ("first p50 µs", self.ttft_p50_us),
            ("first p99 µs", self.ttft_p99_us),
            ("KiB/stream", self.kib_per_stream),
        ];
        for (name, figure) in figures {
            if let Some(figure) = figure {
                write!(f, "{figure:.1} {name}, ")?;
            }
        }
        write!(f, "{} errors, waited {:.0} %", self.errors, self.waited * 100.0)
    }
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = (figures.len().checked_sub(1)? / 2, figures.len() / 2);
    Some((figures[middle.0] + figures[middle.1]) / 2.0)
}

fn rounded(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}
