//! The figures as a table for a terminal.

use std::fmt::Write as _;

use pointsman::simulation::report::{Calibration, Times};

use crate::matrix::Cell;
use crate::summary::Summary;

/// One cell.
pub fn table(cell: &Cell, summaries: &[Summary], seeds: u64) -> String {
    let mut text = String::new();
    let seeds = if seeds == 1 { "1 seed".to_owned() } else { format!("{seeds} seeds") };
    let (name, about) = (cell.scenario.name, cell.scenario.about);
    let _ = writeln!(text, "{name} at load {} — {about}", cell.load);
    let _ = writeln!(text, "{} requests, {:.1} a second, {seeds}", cell.requests, cell.rps);
    let owed = summaries.iter().any(|summary| !summary.commitments.is_empty());
    let classes = summaries.first().map(|summary| summary.classes.as_slice()).unwrap_or_default();
    let _ = write!(text, "{:22}{:>8}  {:13}", "", "kept", "95 %");
    for class in classes.iter().filter(|class| class.kept.all > 0) {
        let _ = write!(text, "{:>12}", class.name);
    }
    let _ = writeln!(
        text,
        "{:>9}{:>8}{:>10}{:>7}{:>7}{:>7}{:>7}{:>13}{:>13}{:>9}{:>7}{}",
        "$/1k",
        "J/tok",
        "p99 TTFT",
        "herd",
        "fair",
        "429",
        "moved",
        "TTFT/told",
        "ITL/told",
        "decide",
        "peak",
        if owed { "  owed, used" } else { "" }
    );
    let mut sorted: Vec<&Summary> = summaries.iter().collect();
    sorted.sort_by(|one, other| other.kept.part().total_cmp(&one.kept.part()));
    for summary in sorted {
        row(&mut text, summary);
    }
    text
}

fn row(text: &mut String, summary: &Summary) {
    let (low, high) = summary.attainment_95;
    let _ = write!(text, "{:22}{:>8.4}  {low:.3}-{high:.3}  ", summary.name, summary.kept.part());
    for class in summary.classes.iter().filter(|class| class.kept.all > 0) {
        let _ = write!(text, "{:>12.4}", class.kept.part());
    }
    let _ = writeln!(
        text,
        "{:>9.3}{:>8.2}{:>8.0}ms{:>7.2}{:>7.3}{:>6.1}%{:>6.1}%{:>13}{:>13}{:>7.1}us{:>5.0}kW{}",
        summary.usd_per_1k_good,
        summary.j_per_good_token,
        summary.p99_ttft_ms,
        summary.herding,
        summary.fairness,
        summary.rates.turned_away * 100.0,
        summary.rates.moved * 100.0,
        came(&summary.calibration.ttft),
        came(&summary.calibration.itl),
        summary.decision_us.1,
        summary.peak_kw,
        commitments(summary),
    );
}

/// What came over what was predicted: in the middle, and of the slowest tenth.
pub fn came(times: &Times) -> String {
    let ratio = |part| Calibration::ratio(times, part);
    ratio(0.5).zip(ratio(0.9)).map_or_else(|| "-".to_owned(), |(p50, p90)| format!("{p50:.2}, {p90:.2}"))
}

/// `  wafer 87 %`: what was used of what is owed for each pool.
pub fn commitments(summary: &Summary) -> String {
    let used = summary.commitments.iter().map(|(pool, part)| format!("  {pool} {:.0} %", part * 100.0));
    used.collect()
}
