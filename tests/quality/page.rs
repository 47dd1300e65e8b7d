//! The figures as one page that needs nothing else: plots as inline SVG, dark and light, a table of everything.

/// Lines and points in a frame with axes.
mod chart;

use std::fmt::Write as _;

use crate::matrix::Cell;
use crate::summary::Summary;
use crate::table::{came, commitments};
use chart::{Chart, Series, escaped};

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
/// Policies with a colour of their own, the best; the others are grey.
const COLOURED: usize = 5;

/// The page.
pub fn page(trace: &str, seeds: u64, cells: &[(Cell, Vec<Summary>)]) -> String {
    let mut body = String::new();
    let _ = write!(
        body,
        "<header><h1>Decision quality</h1><p>{} · {seeds} {} · {} policies. Promises kept, what they cost, what they took; \
         point at a line, a point or a row to follow one policy.</p></header>",
        escaped(trace),
        if seeds == 1 { "seed" } else { "seeds" },
        cells.first().map_or(0, |(_, summaries)| summaries.len())
    );
    let ranks = ranks(cells);
    let mut scenarios: Vec<&str> = cells.iter().map(|(cell, _)| cell.scenario.name).collect();
    scenarios.dedup();
    if scenarios.len() > 1 {
        body.push_str(&across(cells, &scenarios, &ranks));
    }
    for name in scenarios {
        let of_scenario: Vec<_> = cells.iter().filter(|(cell, _)| cell.scenario.name == name).collect();
        body.push_str(&scenario(&of_scenario, &ranks));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Decision quality: {}</title><style>{STYLE}</style></head>\
         <body>{body}<script>{SCRIPT}</script></body></html>\n",
        escaped(trace)
    )
}

/// Policies from the best to the worst, by mean attainment.
fn ranks(cells: &[(Cell, Vec<Summary>)]) -> Vec<&'static str> {
    let Some((_, first)) = cells.first() else { return Vec::new() };
    let mean = |index: usize| cells.iter().map(|(_, all)| all[index].kept.part()).sum::<f64>();
    let mut order: Vec<usize> = (0..first.len()).collect();
    order.sort_by(|one, other| mean(*other).total_cmp(&mean(*one)));
    order.into_iter().map(|index| first[index].name).collect()
}

/// The colour of a policy: Pointsman has the accent, the best others one each.
fn colour(name: &str, ranks: &[&'static str]) -> String {
    if name == "pointsman" {
        return "ours".to_owned();
    }
    let rank = ranks.iter().filter(|ranked| **ranked != "pointsman").position(|ranked| *ranked == name);
    rank.filter(|rank| *rank < COLOURED).map_or_else(|| "rest".to_owned(), |rank| format!("c{rank}"))
}

fn scenario(cells: &[&(Cell, Vec<Summary>)], ranks: &[&'static str]) -> String {
    let Some((first, _)) = cells.first() else { return String::new() };
    let mut text = format!(
        "<section><h2>{}</h2><p>{}</p><div class=\"plots\">",
        escaped(first.scenario.name),
        escaped(first.scenario.about)
    );
    let over_load = |figure: fn(&Summary) -> f64| lines(cells, ranks, figure);
    if cells.len() > 1 {
        let kept = over_load(|summary| summary.kept.part() * 100.0);
        text.push_str(&Chart::new("Promises kept, %", "load", kept).draw());
        let cost = over_load(|summary| summary.usd_per_1k_good);
        text.push_str(&Chart::new("Cost of 1,000 promises kept, $", "load", cost).draw());
    }
    for (cell, summaries) in cells {
        let title = format!("Kept against cost at load {}", cell.load);
        let points = points(summaries, ranks, |summary| (summary.usd_per_1k_good, summary.kept.part() * 100.0));
        text.push_str(&Chart::new(&title, "$ for 1,000 promises kept", points).draw());
    }
    for class in first_classes(cells) {
        let kept = lines(cells, ranks, |summary| summary.classes[class].kept.part() * 100.0);
        let name = &cells[0].1[0].classes[class].name;
        text.push_str(&Chart::new(&format!("{name}, % kept"), "load", kept).draw());
    }
    if cells.len() > 1 {
        let ttft = over_load(|summary| summary.p99_ttft_ms.max(1.0).log10());
        text.push_str(&Chart::new("p99 time to first token, log10 ms", "load", ttft).draw());
        let joules = over_load(|summary| summary.j_per_good_token);
        text.push_str(&Chart::new("Joules for each good token", "load", joules).draw());
    }
    text.push_str("</div>");
    for (cell, summaries) in cells {
        text.push_str(&table(cell, summaries, ranks));
    }
    text.push_str("</section>");
    text
}

/// Classes that anybody asked for, where there is more than one load to draw them over.
fn first_classes(cells: &[&(Cell, Vec<Summary>)]) -> Vec<usize> {
    let Some((_, summaries)) = cells.first().filter(|_| cells.len() > 1) else { return Vec::new() };
    let classes = summaries.first().map(|summary| summary.classes.as_slice()).unwrap_or_default();
    (0..classes.len()).filter(|class| classes[*class].kept.all > 0).collect()
}

fn lines(cells: &[&(Cell, Vec<Summary>)], ranks: &[&'static str], figure: impl Fn(&Summary) -> f64) -> Vec<Series> {
    let named = |name: &&'static str| Series {
        name: (*name).to_owned(),
        colour: colour(name, ranks),
        points: cells
            .iter()
            .filter_map(|(cell, all)| Some((cell.load, figure(all.iter().find(|one| one.name == *name)?))))
            .collect(),
    };
    ranks.iter().map(named).collect()
}

fn points(summaries: &[Summary], ranks: &[&'static str], figure: impl Fn(&Summary) -> (f64, f64)) -> Vec<Series> {
    let point = |summary: &Summary| Series {
        name: summary.name.to_owned(),
        colour: colour(summary.name, ranks),
        points: vec![figure(summary)],
    };
    summaries.iter().map(point).collect()
}

/// Every scenario beside the first, at the load nearest to 1.
fn across(cells: &[(Cell, Vec<Summary>)], scenarios: &[&str], ranks: &[&'static str]) -> String {
    let nearest = |name: &&str| {
        let of_scenario = cells.iter().filter(move |(cell, _)| cell.scenario.name == *name);
        of_scenario.min_by(|(one, _), (other, _)| (one.load - 1.0).abs().total_cmp(&(other.load - 1.0).abs()))
    };
    let columns: Vec<_> = scenarios.iter().filter_map(nearest).collect();
    let Some((first, _)) = columns.first() else { return String::new() };
    let mut text = format!(
        "<section><h2>Every scenario at load {}</h2><p>Promises kept, %; below it, how many points more or less than in \
         <b>{}</b>.</p><table><thead><tr><th>policy</th>",
        first.load,
        escaped(first.scenario.name)
    );
    for (cell, _) in &columns {
        let _ = write!(text, "<th title=\"{}\">{}</th>", escaped(cell.scenario.about), escaped(cell.scenario.name));
    }
    text.push_str("</tr></thead><tbody>");
    for name in ranks {
        let kept = |summaries: &[Summary]| {
            summaries.iter().find(|summary| summary.name == *name).map_or(0.0, |summary| summary.kept.part() * 100.0)
        };
        let _ = write!(text, "<tr data-name=\"{0}\"><th class=\"{1}\">{0}</th>", escaped(name), colour(name, ranks));
        let base = columns.first().map_or(0.0, |(_, summaries)| kept(summaries));
        for (index, (_, summaries)) in columns.iter().enumerate() {
            let here = kept(summaries);
            let change = if index == 0 { String::new() } else { format!("<small>{:+.1}</small>", here - base) };
            let _ = write!(text, "<td>{here:.1}{change}</td>");
        }
        text.push_str("</tr>");
    }
    text.push_str("</tbody></table></section>");
    text
}

fn table(cell: &Cell, summaries: &[Summary], ranks: &[&'static str]) -> String {
    let mut text = format!(
        "<details open><summary>Load {}: {} requests, {:.1} a second</summary><table><thead><tr><th>policy</th>\
         <th>kept %</th><th>95 %</th>",
        cell.load, cell.requests, cell.rps
    );
    let classes = summaries.first().map(|summary| summary.classes.as_slice()).unwrap_or_default();
    for class in classes.iter().filter(|class| class.kept.all > 0) {
        let _ = write!(text, "<th>{}</th>", escaped(&class.name));
    }
    for head in [
        "$/1k",
        "J/token",
        "good/s",
        "p99 TTFT ms",
        "herding",
        "429 %",
        "shed %",
        "hedge %",
        "move %",
        "fairness",
        "TTFT came / told p50, p90",
        "ITL came / told p50, p90",
        "of what is owed",
        "peak kW",
        "p99 µs",
    ] {
        let _ = write!(text, "<th>{head}</th>");
    }
    text.push_str("</tr></thead><tbody>");
    let mut sorted: Vec<&Summary> = summaries.iter().collect();
    sorted.sort_by(|one, other| other.kept.part().total_cmp(&one.kept.part()));
    for summary in sorted {
        row(&mut text, summary, ranks);
    }
    text.push_str("</tbody></table></details>");
    text
}

fn row(text: &mut String, summary: &Summary, ranks: &[&'static str]) {
    let name = summary.name;
    let _ = write!(text, "<tr data-name=\"{0}\"><th class=\"{1}\">{0}</th>", escaped(name), colour(name, ranks));
    let (low, high) = summary.attainment_95;
    let _ = write!(
        text,
        "<td><b>{:.2}</b></td><td>{:.1}–{:.1}</td>",
        summary.kept.part() * 100.0,
        low * 100.0,
        high * 100.0
    );
    for class in summary.classes.iter().filter(|class| class.kept.all > 0) {
        let parts = class.parts.iter().filter(|(_, kept)| kept.all > 0);
        let told: Vec<String> = parts.map(|(part, kept)| format!("{part} {:.1}", kept.part() * 100.0)).collect();
        let _ = write!(text, "<td title=\"{}\">{:.1}</td>", told.join(", "), class.kept.part() * 100.0);
    }
    let owed = escaped(commitments(summary).trim());
    let _ = write!(
        text,
        "<td>{:.3}</td><td>{:.2}</td><td>{:.2}</td><td>{:.0}</td><td>{:.2}</td><td>{:.1}</td><td>{:.1}</td><td>{:.1}</td>\
         <td>{:.1}</td><td>{:.3}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.0}</td><td>{:.1}</td></tr>",
        summary.usd_per_1k_good,
        summary.j_per_good_token,
        summary.goodput_rps,
        summary.p99_ttft_ms,
        summary.herding,
        summary.rates.turned_away * 100.0,
        summary.rates.shed * 100.0,
        summary.rates.hedged * 100.0,
        summary.rates.moved * 100.0,
        summary.fairness,
        came(&summary.calibration.ttft),
        came(&summary.calibration.itl),
        if owed.is_empty() { "–" } else { &owed },
        summary.peak_kw,
        summary.decision_us.1,
    );
}
