//! The figures as a table for a terminal.

use std::fmt::Write as _;

use crate::matrix::Cell;
use crate::summary::Summary;

/// One cell.
pub fn table(cell: &Cell, summaries: &[Summary], seeds: u64) -> String {
    let mut text = String::new();
    let seeds = if seeds == 1 { "1 seed".to_owned() } else { format!("{seeds} seeds") };
    let (name, about) = (cell.scenario.name, cell.scenario.about);
    let _ = writeln!(text, "{name} at load {} — {about}", cell.load);
    let _ = writeln!(text, "{} requests, {:.1} a second, {seeds}", cell.requests, cell.rps);
    let classes = summaries.first().map(|summary| summary.classes.as_slice()).unwrap_or_default();
    let _ = write!(text, "{:22}{:>8}  {:13}", "", "kept", "95 %");
    for class in classes.iter().filter(|class| class.kept.all > 0) {
        let _ = write!(text, "{:>12}", class.name);
    }
    let _ = writeln!(
        text,
        "{:>9}{:>8}{:>10}{:>7}{:>7}{:>9}{:>7}",
        "$/1k", "J/tok", "p99 TTFT", "herd", "429", "decide", "peak"
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
        "{:>9.3}{:>8.2}{:>8.0}ms{:>7.2}{:>6.1}%{:>7.1}us{:>5.0}kW",
        summary.usd_per_1k_good,
        summary.j_per_good_token,
        summary.p99_ttft_ms,
        summary.herding,
        summary.rates.turned_away * 100.0,
        summary.decision_us.1,
        summary.peak_kw,
    );
}
