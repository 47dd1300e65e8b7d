//! The answer in a few sentences: how much it bears, what gives way first, what helps.

use std::fmt::Write as _;

use super::case::Case;
use super::limit::{Bounds, HIGHEST, LOWEST};
use super::study::{Study, WhatIf};
use super::text::{is_idle, load};
use super::traffic::rate;
use crate::commands::figures::{count, percent};

/// What it means that a target is missed beside idle machines.
const IDLE: &str = "No pool is half used there: look at the promises, the routes and the prices before the machines.";

/// The answer in one or two sentences.
pub(super) fn verdict(study: &Study) -> String {
    let Some(limit) = &study.limit else { return verdict_of_loads(study) };
    let load_now = study.reference().map_or(1.0, |case| case.load);
    let first = match limit.bounds {
        Bounds { keeps: None, .. } => format!("Not even a load of {LOWEST:.2} keeps every target"),
        Bounds { keeps: Some(_), fails: None } => {
            format!("Every class keeps its target up to load {HIGHEST:.0} and beyond")
        }
        Bounds { keeps: Some(keeps), .. } => {
            let rps = limit.beyond.as_ref().map_or(0.0, |beyond| beyond.rps / beyond.load * keeps);
            format!("Every class keeps its target up to load {}, {} requests a second", load(keeps), rate(rps))
        }
    };
    let mut verdict = format!("{first}.");
    if let Some(class) = limit.beyond.as_ref().and_then(|beyond| beyond.failing().into_iter().next().cloned()) {
        let part = class.fails().map_or_else(String::new, |part| format!(" its {part}"));
        let _ = write!(verdict, "\nBeyond, {} misses{part} first.", class.name);
    }
    let within = |case: &Case| limit.bounds.keeps.is_some_and(|keeps| case.load <= keeps);
    for case in study.cases.iter().filter(|case| !case.keeps() && (case.load == load_now || within(case))) {
        let _ = write!(verdict, "\n{}", does_not_hold(case, within(case)));
    }
    if let Some((best, bounds)) = best(study) {
        let to = bounds.keeps.map_or_else(String::new, |keeps| format!(" It then holds up to load {}.", load(keeps)));
        let _ = write!(verdict, "\nWhat helps most: {}.{to}", best.words);
    }
    if limit.beyond.as_ref().is_some_and(is_idle) {
        let _ = write!(verdict, "\n{IDLE}");
    }
    verdict
}

/// A load that was asked for and is too much. Where the search found it to be borne, by a stretch of the traffic, a few
/// requests of a rare class decide: their number is told.
fn does_not_hold(case: &Case, searched_otherwise: bool) -> String {
    let failing = case.failing().into_iter().map(|class| match searched_otherwise {
        true => format!("{} {} of {}", class.name, percent(class.kept), count(class.requests)),
        false => format!("{} {}", class.name, percent(class.kept)),
    });
    let failing = failing.collect::<Vec<_>>().join(", ");
    match searched_otherwise {
        true => format!("Over all of the traffic, load {} misses a target all the same: {failing}.", load(case.load)),
        false => format!("At load {} it does not hold: {failing}.", load(case.load)),
    }
}

fn verdict_of_loads(study: &Study) -> String {
    let kept: Vec<String> = study.cases.iter().filter(|case| case.keeps()).map(|case| load(case.load)).collect();
    match kept.len() {
        0 => "Some class misses its target at every load.".to_owned(),
        all if all == study.cases.len() => "Every class keeps its target at every load.".to_owned(),
        _ => format!("Every class keeps its target at load {}.", kept.join(", ")),
    }
}

/// The change that raises the limit most, if any does.
fn best(study: &Study) -> Option<(&WhatIf, &Bounds)> {
    let now = study.limit.as_ref()?.bounds.keeps.unwrap_or(0.0);
    let raised = study.what_ifs.iter().filter_map(|what_if| Some((what_if, &what_if.outcome.as_ref().ok()?.0)));
    let raised = raised.filter(|(_, bounds)| bounds.keeps.unwrap_or(0.0) > now * 1.03);
    raised.max_by(|(_, one), (_, other)| one.keeps.unwrap_or(0.0).total_cmp(&other.keeps.unwrap_or(0.0)))
}
