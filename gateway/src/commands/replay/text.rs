//! The result for people: the verdict first, then where it comes from, at most 100 columns.

use std::fmt::Write as _;
use std::path::Path;

use super::Arguments;
use super::command::explain;
use super::stream::Outcome;
use super::tally::{ClassDifference, Difference, Kind, Tally};
use crate::commands::figures::{
    bytes, change, columns, count, dollars, joules, more, of, percent, points, share, time, time_of_day, tokens,
};

/// A class that loses more than this of its attainment is named in the verdict, 0 to 1.
const WORTH_NAMING: f64 = 0.005;
/// What a comparison cannot know.
pub(super) const OPEN_LOOP: &str = "Open loop: every decision sees the machines as they were recorded. Load that moves neither slows\n\
where it goes nor relieves where it left: the more moves, the less sure the figures.";

/// Pieces of damage that are listed.
const MOST_DAMAGE: usize = 5;
/// What the figures by experience are.
const BY_EXPERIENCE: &str =
    "(*) \"Likely\" is cautious: this is how often such predictions came true on these machines in this log.";

/// All of it.
pub(super) fn text(outcome: &Outcome, arguments: &Arguments) -> String {
    let tally = &outcome.tally;
    let mut text = String::new();
    if tally.decisions == 0 {
        text.push_str("There is no decision in it.\n");
    } else if arguments.policy.is_none() && arguments.portfolio.is_none() {
        reproduction(&mut text, outcome);
    } else {
        comparison(&mut text, outcome, arguments);
    }
    text.push('\n');
    source(&mut text, outcome);
    text
}

fn reproduction(text: &mut String, outcome: &Outcome) {
    let tally = &outcome.tally;
    if tally.same == tally.decisions {
        let _ = writeln!(text, "All {} came out as they were made, to the last bit.", of(tally.decisions, "decision"));
        return;
    }
    let all = of(tally.decisions, "decision");
    let _ = writeln!(text, "{} of {all} came out as they were made, to the last bit.", count(tally.same));
    if tally.differing > 0 {
        let _ = writeln!(text, "\n{} came out otherwise:", count(tally.differing));
        for found in &tally.examples {
            let _ = writeln!(text, "  {} at {} under {}", found.id, time_of_day(found.unix_ms), found.version);
            let _ = writeln!(text, "    {}", found.what);
        }
        unlisted(text, tally.differing, tally.examples.len());
    }
    undecided(text, tally);
}

fn undecided(text: &mut String, tally: &Tally) {
    for (reason, number) in &tally.undecided {
        let _ = writeln!(text, "\n{} could not be made again: {reason}", of(*number, "decision"));
    }
}

fn unlisted(text: &mut String, all: u64, listed: usize) {
    let rest = all.saturating_sub(listed as u64);
    if rest > 0 {
        let _ = writeln!(text, "  and {} more", count(rest));
    }
}

/// What the incumbent is called.
pub(super) fn incumbent(arguments: &Arguments) -> String {
    arguments.against.as_deref().map_or_else(|| "in force".to_owned(), file_name)
}

/// What the candidate is called.
pub(super) fn candidate(arguments: &Arguments) -> String {
    arguments.policy.as_deref().or(arguments.portfolio.as_deref()).map_or_else(String::new, file_name)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn comparison(text: &mut String, outcome: &Outcome, arguments: &Arguments) {
    let tally = &outcome.tally;
    let difference = &tally.difference;
    let all = difference.all();
    let (incumbent, candidate) = (incumbent(arguments), candidate(arguments));
    if difference.decisions == 0 {
        text.push_str("Nothing could be compared.\n");
        undecided(text, tally);
        return;
    }
    verdict(text, difference, &all, &candidate);
    let _ = writeln!(text);
    let expected = difference.experience.expected(all.requests);
    summary(text, &all, expected, [&incumbent, &candidate]);
    text.push_str("\nBy class\n");
    classes(text, difference);
    for promise in &outcome.promises {
        let _ = writeln!(text, "  each side is held to its own promise: {promise}");
    }
    reclassified(text, difference);
    if difference.places().len() > 1 {
        let _ = writeln!(text, "\nWhere requests go (rows: {incumbent}, columns: {candidate})");
        flows(text, difference);
    }
    kinds(text, outcome, arguments);
    if tally.differing > 0 {
        let _ = writeln!(
            text,
            "\nCareful: {} did not come out as they were made; `pointsman replay` without --policy says why.",
            of(tally.differing, "decision")
        );
    }
    undecided(text, tally);
    let _ = writeln!(text, "\n{OPEN_LOOP}");
    if difference.experience.expected(1).is_some() {
        let _ = writeln!(text, "{BY_EXPERIENCE}");
    }
}

fn verdict(text: &mut String, difference: &Difference, all: &ClassDifference, candidate: &str) {
    let requests = of(difference.decisions, "request");
    if all.moved == 0 && all.moved_within == 0 {
        let _ = writeln!(text, "{candidate} sends all {requests} where they went.");
        return;
    }
    let part = percent(share(all.moved, all.requests));
    let _ = writeln!(text, "{candidate} sends {} of {requests} elsewhere ({part}).", count(all.moved));
    if all.moved_within > 0 {
        let _ = writeln!(text, "{} more change the endpoint within their pool.", count(all.moved_within));
    }
    for warning in worse(difference) {
        let _ = writeln!(text, "{warning}.");
    }
}

/// What gets clearly worse, in words, the worst first.
pub(super) fn worse(difference: &Difference) -> Vec<String> {
    let mut worse: Vec<(f64, String)> = Vec::new();
    for (name, class) in &difference.classes {
        let (before, after) = (class.incumbent.attainment(), class.candidate.attainment());
        if class.candidate.refused > class.incumbent.refused {
            let (was, is) = (count(class.incumbent.refused), count(class.candidate.refused));
            let of_all = of(class.requests, "request");
            let loss = share(class.candidate.refused - class.incumbent.refused, class.requests);
            worse.push((loss, format!("Worse for {name}: {is} of {of_all} refused instead of {was}")));
        }
        if before - after > WORTH_NAMING {
            let (was, is) = (percent(before), percent(after));
            let words = format!("Worse for {name}: its promise is likely kept for {is} of requests instead of {was}");
            worse.push((before - after, words));
        }
    }
    worse.sort_by(|one, other| other.0.total_cmp(&one.0));
    worse.into_iter().map(|(_, words)| words).collect()
}

fn summary(text: &mut String, all: &ClassDifference, expected: Option<(f64, f64)>, [incumbent, candidate]: [&str; 2]) {
    let (before, after) = (&all.incumbent, &all.candidate);
    let observed = all.observed.attainment().map_or_else(String::new, |kept| format!("(observed: {})", percent(kept)));
    let energy_of = match before.joules_unknown + after.joules_unknown {
        0 => String::new(),
        _ => "(where the hardware's is known)".to_owned(),
    };
    let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![
        row(["predicted", incumbent, candidate, "", ""]),
        row([
            "promise likely kept",
            &percent(before.attainment()),
            &percent(after.attainment()),
            &points(before.attainment(), after.attainment()),
            &observed,
        ]),
        row([
            "price",
            &dollars(before.usd),
            &dollars(after.usd),
            &change(before.usd, after.usd),
            &format!("(observed: {})", dollars(all.observed.usd)),
        ]),
        row([
            "energy",
            &joules(before.joules),
            &joules(after.joules),
            &change(before.joules, after.joules),
            &energy_of,
        ]),
        row(["refused", &count(before.refused), &count(after.refused), &more(before.refused, after.refused), ""]),
    ];
    if let Some((before, after)) = expected {
        let cells = [&percent(before), &percent(after), &points(before, after)];
        let [before, after, change] = cells;
        rows.insert(2, row(["  by experience (*)", before, after, change, ""]));
    }
    columns(text, &rows, &[0, 4]);
}

fn classes(text: &mut String, difference: &Difference) {
    let heads = ["class", "requests", "moved", "likely kept", "$ per 1,000", "energy each", "refused"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (name, class) in &difference.classes {
        let (before, after) = (&class.incumbent, &class.candidate);
        let price = |usd: f64| dollars(usd * 1000.0);
        rows.push(vec![
            name.clone(),
            count(class.requests),
            percent(share(class.moved, class.requests)),
            from_to(percent(before.attainment()), percent(after.attainment())),
            from_to(price(before.usd_each()), price(after.usd_each())),
            from_to(joules(before.joules_each()), joules(after.joules_each())),
            from_to(count(before.refused), count(after.refused)),
        ]);
    }
    columns(text, &rows, &[0]);
}

/// One figure where both are the same.
fn from_to(before: String, after: String) -> String {
    if before == after { before } else { format!("{before} → {after}") }
}

fn reclassified(text: &mut String, difference: &Difference) {
    for ((from, to), number) in &difference.reclassified {
        let into = match to {
            Some(to) => format!("become `{to}`"),
            None => "name a class that the candidate does not define and are refused".to_owned(),
        };
        let _ = writeln!(text, "  {} of `{from}` {into}", of(*number, "request"));
    }
}

fn flows(text: &mut String, difference: &Difference) {
    let places = difference.places();
    let mut rows = vec![std::iter::once("").chain(places.iter().copied()).map(str::to_owned).collect::<Vec<_>>()];
    for from in &places {
        let cells = places.iter().map(|to| match difference.flow(from, to) {
            0 => "·".to_owned(),
            number if from == to => format!("[{}]", count(number)),
            number => count(number),
        });
        let row: Vec<String> = std::iter::once((*from).to_owned()).chain(cells).collect();
        if row.iter().skip(1).any(|cell| cell != "·") {
            rows.push(row);
        }
    }
    columns(text, &rows, &[0]);
    text.push_str("  [ ] stays where it was\n");
}

fn kinds(text: &mut String, outcome: &Outcome, arguments: &Arguments) {
    let difference = &outcome.tally.difference;
    let most = difference.most_moved(arguments.limit);
    if most.is_empty() {
        return;
    }
    text.push_str("\nMost moved kinds of request, with one of each to explain\n");
    for (kind, moved) in &most {
        let _ = writeln!(text, "  {:>7}  {}", count(moved.count), describe(kind));
        if let Some((log, _)) = outcome.files.get(moved.file) {
            let _ = writeln!(text, "           {}", explain(log, &moved.example, arguments));
        }
    }
    unlisted(text, difference.kinds.len() as u64, most.len());
}

/// A kind in words.
pub(super) fn describe(kind: &Kind) -> String {
    let how = if kind.stream { "stream" } else { "whole answer" };
    let tools = if kind.tools { ", tools" } else { "" };
    format!(
        "{} → {}  {}, {}, {how}, {} prompt tokens{tools}",
        kind.from,
        kind.to,
        kind.class,
        kind.model,
        tokens(kind.input_log2)
    )
}

fn source(text: &mut String, outcome: &Outcome) {
    let tally = &outcome.tally;
    let size: u64 = outcome.files.iter().map(|(_, bytes)| bytes).sum();
    let seconds = outcome.took.as_secs_f64();
    let files = match outcome.files.as_slice() {
        [(file, _)] => file.display().to_string(),
        files => of(files.len() as u64, "file"),
    };
    let _ = write!(text, "{} in {files}, {}", of(tally.decisions, "decision"), bytes(size));
    if let Some((first, last)) = tally.span_ms {
        let until = if time(first).get(..10) == time(last).get(..10) { time_of_day(last) } else { time(last) };
        let _ = write!(text, "; {} to {until} UTC", time(first));
    }
    text.push('\n');
    for (version, number) in &tally.versions {
        let _ = writeln!(text, "  {:>9}  under {version}", count(*number));
    }
    let each = tally.decisions as f64 / seconds.max(1e-9);
    let threads = of(outcome.threads as u64, "thread");
    let _ = writeln!(text, "decided again in {seconds:.2} s on {threads}, {} a second", count(each as u64));
    for (file, damage) in outcome.damage.iter().take(MOST_DAMAGE) {
        let _ = writeln!(text, "{}: {damage}", file.display());
    }
    unlisted(text, outcome.damage.len() as u64, MOST_DAMAGE.min(outcome.damage.len()));
    if !outcome.damage.is_empty() {
        text.push_str("everything around what is torn or damaged was read\n");
    }
}
