//! The result as a page, complete in itself: no script, no font, no picture from elsewhere; for dark and light screens.

use std::fmt::Write as _;

use super::Arguments;
use super::chart::{Bars, bars, flows};
use super::command::explain;
use super::stream::Outcome;
use super::tally::{ClassDifference, Difference, Predicted};
use super::text::{OPEN_LOOP, candidate, incumbent, worse};
use crate::commands::figures::{bytes, change, count, dollars, joules, more, of, percent, points, share, time, tokens};
use crate::commands::page::{self, escaped};

/// All of it.
pub(super) fn page(outcome: &Outcome, arguments: &Arguments) -> String {
    let compared = outcome.tally.difference.decisions > 0;
    let title = match compared {
        true => format!("{} against {}", candidate(arguments), incumbent(arguments)),
        false => "Reproduction".to_owned(),
    };
    let mut page = page::begin(&format!("Pointsman replay: {title}"), "");
    let _ = writeln!(page, "<p class=\"eyebrow\">Pointsman replay · {}</p>", escaped(&source(outcome)));
    if compared {
        comparison(&mut page, outcome, arguments);
    } else {
        reproduction(&mut page, outcome);
    }
    footer(&mut page, outcome, compared);
    page.push_str(page::END);
    page
}

fn source(outcome: &Outcome) -> String {
    let files: Vec<String> = outcome.files.iter().map(|(file, _)| file.display().to_string()).collect();
    let span = outcome
        .tally
        .span_ms
        .map_or_else(String::new, |(first, last)| format!(" · {} to {} UTC", time(first), time(last)));
    format!("{} in {}{span}", of(outcome.tally.decisions, "decision"), files.join(", "))
}

fn reproduction(page: &mut String, outcome: &Outcome) {
    let tally = &outcome.tally;
    let same = if tally.same == tally.decisions { "All".to_owned() } else { format!("{} of", count(tally.same)) };
    let all = of(tally.decisions, "decision");
    let _ = writeln!(page, "<h1>{same} {all} came out as they were made, to the last bit</h1>");
    if tally.examples.is_empty() {
        return;
    }
    page.push_str("<section class=\"card\"><h2>Decisions that came out otherwise</h2><div class=\"scroll\"><table>\n");
    page.push_str("<tr><th>Request</th><th>When, UTC</th><th>Under</th><th>What differs</th></tr>\n");
    for found in &tally.examples {
        let cells = [found.id.clone(), time(found.unix_ms), found.version.clone(), found.what.clone()];
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escaped(cell))).collect();
        let _ = writeln!(page, "<tr>{cells}</tr>");
    }
    page.push_str("</table></div></section>\n");
}

fn comparison(page: &mut String, outcome: &Outcome, arguments: &Arguments) {
    let difference = &outcome.tally.difference;
    let all = difference.all();
    let names = [incumbent(arguments), candidate(arguments)];
    let [before, after] = &names;
    let part = percent(share(all.moved, all.requests));
    let requests = of(difference.decisions, "request");
    let verdict = match all.moved {
        0 => format!("{} sends all {requests} to the pools that had them", escaped(after)),
        moved => format!("{} sends {} of {requests} elsewhere ({part})", escaped(after), count(moved)),
    };
    let _ = writeln!(page, "<h1>{verdict}</h1>");
    for warning in worse(difference) {
        let _ = writeln!(page, "<p class=\"worse\">{}</p>", escaped(&warning));
    }
    if all.moved_within > 0 {
        let within = count(all.moved_within);
        let _ = writeln!(page, "<p class=\"soft\">{within} more go to another endpoint of their pool.</p>");
    }
    tiles(page, &all, difference.experience.expected(all.requests));
    let _ = writeln!(
        page,
        "<section class=\"card\"><h2>Where requests go</h2>\n<p class=\"legend\">\
         <span><i style=\"background:var(--quiet)\"></i>stays</span>\
         <span>in colour: moves; the colour is that of where it goes</span></p>\n{}\n{}</section>",
        flows(difference, [before, after]),
        matrix(difference, before, after)
    );
    classes(page, outcome, before, after);
    kinds(page, outcome, arguments);
}

fn tiles(page: &mut String, all: &ClassDifference, expected: Option<(f64, f64)>) {
    let (before, after) = (&all.incumbent, &all.candidate);
    let kept = points(before.attainment(), after.attainment());
    let lost = after.attainment() < before.attainment();
    let observed = all.observed.attainment().map_or_else(String::new, |kept| format!(" · observed {}", percent(kept)));
    page.push_str("<dl class=\"tiles\">\n");
    tile(
        page,
        "Promise likely kept",
        &percent(after.attainment()),
        (&kept, lost),
        &format!("{} before{observed}", percent(before.attainment())),
    );
    if let Some((was, is)) = expected {
        let note = format!("{} before · how often such predictions held here", percent(was));
        tile(page, "Kept, by experience", &percent(is), (&points(was, is), is < was), &note);
    }
    let was = format!("{} before", dollars(before.usd));
    tile(page, "Price", &dollars(after.usd), (&change(before.usd, after.usd), after.usd > before.usd), &was);
    let was = format!("{} before", joules(before.joules));
    let dearer = after.joules > before.joules;
    tile(page, "Energy", &joules(after.joules), (&change(before.joules, after.joules), dearer), &was);
    let was = format!("{} before", count(before.refused));
    let harsher = after.refused > before.refused;
    tile(page, "Refused", &count(after.refused), (&more(before.refused, after.refused), harsher), &was);
    page.push_str("</dl>\n");
}

fn tile(page: &mut String, name: &str, value: &str, (change, worse): (&str, bool), note: &str) {
    let tone = match (change, worse) {
        ("same", _) => "soft",
        (_, true) => "bad",
        (_, false) => "good",
    };
    let _ = writeln!(
        page,
        "<div class=\"tile\"><dt>{name}</dt><dd class=\"value\">{value}</dd><dd class=\"{tone}\">{change}</dd>\
         <dd class=\"note\">{note}</dd></div>"
    );
}

fn matrix(difference: &Difference, before: &str, after: &str) -> String {
    let places = difference.places();
    let mut table = String::from("<details open><summary>The same as numbers</summary><div class=\"scroll\"><table>\n");
    let heads: String =
        places.iter().map(|place| format!("<th scope=\"col\" class=\"number\">{}</th>", escaped(place))).collect();
    let corner = format!("{} ↓ · {} →", escaped(before), escaped(after));
    let _ = writeln!(table, "<tr><th scope=\"col\">{corner}</th>{heads}</tr>");
    for from in &places {
        if places.iter().all(|to| difference.flow(from, to) == 0) {
            continue;
        }
        let cells: String = places
            .iter()
            .map(|to| match difference.flow(from, to) {
                0 => "<td class=\"number stays\">·</td>".to_owned(),
                number if from == to => format!("<td class=\"number stays\">{}</td>", count(number)),
                number => format!("<td class=\"number\"><b>{}</b></td>", count(number)),
            })
            .collect();
        let _ = writeln!(table, "<tr><th scope=\"row\">{}</th>{cells}</tr>", escaped(from));
    }
    table.push_str("</table></div></details>\n");
    table
}

fn classes(page: &mut String, outcome: &Outcome, before: &str, after: &str) {
    let difference = &outcome.tally.difference;
    let _ = writeln!(
        page,
        "<section class=\"card\"><h2>By class</h2>\n<p class=\"legend\">\
         <span><i style=\"background:var(--before)\"></i>{}</span><span><i style=\"background:var(--after)\"></i>{}</span>\
         <span><i class=\"tick\"></i>observed</span></p>\n<div class=\"panels\">",
        escaped(before),
        escaped(after)
    );
    let rows = |figure: fn(&Predicted) -> (f64, String), observed: bool| -> Vec<Bars> {
        let classes = difference.classes.iter();
        classes
            .map(|(name, class)| Bars {
                name: format!("{name} · {}", of(class.requests, "request")),
                before: figure(&class.incumbent),
                after: figure(&class.candidate),
                observed: class.observed.attainment().filter(|_| observed),
            })
            .collect()
    };
    let most = |rows: &[Bars]| rows.iter().fold(0.0, |most: f64, row| most.max(row.before.0).max(row.after.0));
    let kept = rows(|side| (side.attainment(), percent(side.attainment())), true);
    let price = rows(|side| (side.usd_each(), dollars(side.usd_each() * 1000.0)), false);
    let energy = rows(|side| (side.joules_each(), joules(side.joules_each())), false);
    for (label, rows, full) in [
        ("Promise likely kept", &kept, 1.0),
        ("Price of 1,000 requests", &price, most(&price)),
        ("Energy of one request", &energy, most(&energy)),
    ] {
        let _ = writeln!(page, "<div><h3>{label}</h3>\n{}</div>", bars(label, rows, full));
    }
    page.push_str("</div>\n");
    for promise in &outcome.promises {
        let _ = writeln!(page, "<p class=\"soft\">Each side is held to its own promise: {}.</p>", escaped(promise));
    }
    for ((from, to), number) in &difference.reclassified {
        let into = to.as_ref().map_or("refused: the candidate has no such class".to_owned(), |to| format!("now {to}"));
        let _ =
            writeln!(page, "<p class=\"soft\">{} of {}: {}</p>", of(*number, "request"), escaped(from), escaped(&into));
    }
    page.push_str("</section>\n");
}

fn kinds(page: &mut String, outcome: &Outcome, arguments: &Arguments) {
    let most = outcome.tally.difference.most_moved(arguments.limit);
    if most.is_empty() {
        return;
    }
    page.push_str(
        "<section class=\"card\"><h2>Most moved kinds of request</h2>\n<p class=\"soft\">Each with a command that \
         explains one of them.</p>\n<div class=\"scroll\"><table class=\"pairs\">\n<tr><th class=\"number\">Requests</th>\
         <th>From → to</th><th>Class</th><th>Model</th><th>Answer</th><th class=\"number\">Prompt tokens</th></tr>\n",
    );
    for (kind, moved) in most {
        let how = if kind.stream { "stream" } else { "whole" };
        let tools = if kind.tools { ", tools" } else { "" };
        let log = outcome.files.get(moved.file).map(|(file, _)| explain(file, &moved.example, arguments));
        let _ = writeln!(
            page,
            "<tr><td class=\"number\"><b>{}</b></td><td><b>{} → {}</b></td><td>{}</td><td>{}</td>\
             <td>{how}{tools}</td><td class=\"number\">{}</td></tr>\n\
             <tr class=\"more\"><td></td><td colspan=\"5\"><code>{}</code></td></tr>",
            count(moved.count),
            escaped(&kind.from),
            escaped(&kind.to),
            escaped(&kind.class),
            escaped(&kind.model),
            tokens(kind.input_log2),
            escaped(&log.unwrap_or_default())
        );
    }
    page.push_str("</table></div></section>\n");
}

fn footer(page: &mut String, outcome: &Outcome, compared: bool) {
    let tally = &outcome.tally;
    page.push_str("<footer>\n");
    if compared {
        let _ = writeln!(page, "<p>{}</p>", escaped(OPEN_LOOP));
        let again = match tally.differing {
            0 => format!("All {} came out again as they were made, to the last bit.", of(tally.same, "decision")),
            some => format!("Careful: {} did not come out again as they were made.", of(some, "decision")),
        };
        let _ = writeln!(page, "<p>{again} Predictions are the policy's own, of each request's first choice.</p>");
    }
    for (reason, number) in &tally.undecided {
        let all = of(*number, "decision");
        let _ = writeln!(page, "<p class=\"worse\">{all} could not be made again: {}</p>", escaped(reason));
    }
    for (file, damage) in &outcome.damage {
        let _ = writeln!(
            page,
            "<p class=\"worse\">{}: {}</p>",
            escaped(&file.display().to_string()),
            escaped(&damage.to_string())
        );
    }
    let under: Vec<String> =
        tally.versions.iter().map(|(version, number)| format!("{version} ({})", count(*number))).collect();
    let size: u64 = outcome.files.iter().map(|(_, bytes)| bytes).sum();
    let _ = writeln!(
        page,
        "<p>Recorded under {}. {}, decided again in {:.2} s on {}.</p>\n</footer>",
        escaped(&under.join(", ")),
        bytes(size),
        outcome.took.as_secs_f64(),
        of(outcome.threads as u64, "thread")
    );
}
