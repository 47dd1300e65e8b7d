//! The result as a page, complete in itself: no script, no font, no picture from elsewhere; for dark and light screens.

use std::fmt::Write as _;

use super::case::{Case, RESOURCES};
use super::chart::{Bar, Line, bars, lines};
use super::limit::HIGHEST;
use super::study::{Limit, Study};
use super::text::{BUSIEST, SIMULATED, by_use, effort, figure, gain, holds, load, missed, ms, subject, worst};
use super::traffic::rate;
use super::verdict::verdict;
use crate::commands::figures::{count, dollars, percent};
use crate::commands::page::{self, escaped};

const STYLE: &str = include_str!("fleet.css");

/// All of it.
pub(super) fn page(study: &Study) -> String {
    let mut page = page::begin(&format!("Pointsman fleet: {}", study.policy), STYLE);
    let _ = writeln!(page, "<p class=\"eyebrow\">Pointsman simulate-fleet · {}</p>", escaped(&subject(study)));
    let mut lines = verdict(study).lines().map(str::to_owned).collect::<Vec<_>>().into_iter();
    let _ = writeln!(page, "<h1>{}</h1>", escaped(&lines.next().unwrap_or_default()));
    for line in lines {
        let _ = writeln!(page, "<p>{}</p>", escaped(&line));
    }
    let _ = writeln!(page, "<p class=\"soft\">{}</p>", escaped(&study.traffic.replace('\n', "; ")));
    if let Some(case) = study.reference() {
        tiles(&mut page, case, study.limit.as_ref());
    }
    attainment(&mut page, study);
    if let Some(limit) = &study.limit {
        saturation(&mut page, limit);
    }
    what_ifs(&mut page, study);
    for case in &study.cases {
        one_load(&mut page, case);
    }
    let _ = writeln!(page, "<footer>\n<p>{SIMULATED}</p>");
    if study.limit.as_ref().is_some_and(|limit| limit.slice.is_part) {
        let _ = writeln!(page, "<p>{BUSIEST}</p>");
    }
    let _ = writeln!(page, "<p>{}</p>\n</footer>", escaped(&effort(study)));
    page.push_str(page::END);
    page
}

fn tiles(page: &mut String, case: &Case, limit: Option<&Limit>) {
    page.push_str("<dl class=\"tiles\">\n");
    let at = format!("at load {}", load(case.load));
    let tone = if case.keeps() { "good" } else { "bad" };
    let kept = if case.keeps() { "every target kept" } else { "targets missed" };
    tile(page, "Promises kept", &percent(case.kept), (kept, tone), &at);
    if let Some(limit) = limit {
        let rps = limit.beyond.as_ref().zip(limit.bounds.keeps).map(|(beyond, keeps)| beyond.rps / beyond.load * keeps);
        let rps = rps.map_or_else(String::new, |rps| format!("{} requests a second", rate(rps)));
        tile(page, "Holds up to load", &holds(&limit.bounds), ("", "soft"), &rps);
    }
    let hourly = format!("{} an hour", dollars(case.usd_per_hour));
    tile(page, "Price of a day", &dollars(case.usd_per_hour * 24.0), ("", "soft"), &hourly);
    tile(page, "Price of 1,000 kept", &dollars(case.usd_per_1k_good), ("", "soft"), &at);
    let energy = format!("{} kW, {} J per good token", figure(case.kw), figure(case.j_per_good_token));
    tile(page, "Energy of a day", &format!("{} kWh", figure(case.kw * 24.0)), ("", "soft"), &energy);
    page.push_str("</dl>\n");
}

fn tile(page: &mut String, name: &str, value: &str, (says, tone): (&str, &str), note: &str) {
    let says = if says.is_empty() { String::new() } else { format!("<dd class=\"{tone}\">{says}</dd>") };
    let _ = writeln!(
        page,
        "<div class=\"tile\"><dt>{name}</dt><dd class=\"value\">{}</dd>{says}<dd class=\"note\">{}</dd></div>",
        escaped(value),
        escaped(note)
    );
}

/// Attainment by class over load; the limit is a line.
fn attainment(page: &mut String, study: &Study) {
    let Some(first) = study.cases.first().filter(|_| study.cases.len() > 1) else { return };
    let classes = first.classes.iter().map(|class| {
        let points = study
            .cases
            .iter()
            .filter_map(|case| Some((case.load, case.classes.iter().find(|other| other.name == class.name)?.kept)));
        let mut points: Vec<(f64, f64)> = points.collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        Line { name: class.name.clone(), points, target: class.target }
    });
    let classes: Vec<Line> = classes.collect();
    let highest = study.cases.iter().map(|case| case.load).fold(0.0, f64::max);
    let limit = study.limit.as_ref().and_then(|limit| limit.bounds.keeps.filter(|_| limit.bounds.fails.is_some()));
    let limit = limit.filter(|limit| *limit <= highest * 1.5);
    let _ = writeln!(
        page,
        "<section class=\"card\"><h2>Promises kept over load</h2>\n<div class=\"scroll\"><div class=\"wide\">{}</div></div></section>",
        lines(&classes, limit)
    );
}

fn saturation(page: &mut String, limit: &Limit) {
    page.push_str("<section class=\"card\"><h2>Where it saturates first</h2>\n");
    let Some(beyond) = &limit.beyond else {
        let _ = writeln!(page, "<p class=\"soft\">At no load up to {HIGHEST:.0}.</p></section>");
        return;
    };
    let _ = writeln!(
        page,
        "<p class=\"soft\">Just beyond the limit, at load {}, {} requests a second.</p>",
        load(beyond.load),
        rate(beyond.rps)
    );
    page.push_str("<div class=\"panels\">\n<div><h3>Promises kept</h3>\n");
    let kept: Vec<Bar> = beyond
        .classes
        .iter()
        .map(|class| Bar {
            name: class.name.clone(),
            note: class
                .fails()
                .filter(|_| !class.keeps())
                .map_or_else(String::new, |part| format!("misses its {part}")),
            length: class.kept,
            figure: percent(class.kept),
            mark: Some((class.target, format!("target {}", percent(class.target)))),
            tone: if class.keeps() { "kept" } else { "refused" },
        })
        .collect();
    let _ = writeln!(page, "{}</div>\n<div><h3>Most used of each pool</h3>", bars("Promises kept by class", &kept));
    let used: Vec<Bar> = by_use(beyond)
        .into_iter()
        .map(|pool| {
            let (what, used) = pool.most_used();
            Bar {
                name: pool.name.clone(),
                note: what.to_owned(),
                length: used,
                figure: percent(used),
                mark: None,
                tone: if used >= 0.85 { "refused" } else { "after" },
            }
        })
        .collect();
    let _ = writeln!(page, "{}</div>\n</div>", bars("Use by pool", &used));
    for class in beyond.failing() {
        let _ = writeln!(page, "<p class=\"worse\">{}</p>", escaped(&missed(class, class.fails().unwrap_or("answer"))));
    }
    page.push_str("</section>\n");
}

fn what_ifs(page: &mut String, study: &Study) {
    let Some(now) = study.reference().filter(|_| !study.what_ifs.is_empty()) else { return };
    let at = load(now.load);
    let _ = writeln!(
        page,
        "<section class=\"card\"><h2>What if</h2><div class=\"scroll\"><table>\n<tr><th>Fleet</th>\
         <th class=\"number\">Holds up to load</th><th class=\"number\">Change</th><th class=\"number\">Kept at {at}</th>\
         <th>Worst class</th><th class=\"number\">$ a day</th><th class=\"number\">$ per 1,000 kept</th>\
         <th class=\"number\">kWh a day</th></tr>"
    );
    let today = study.limit.as_ref().map(|limit| limit.bounds);
    row(page, "As it is", &today.map_or_else(String::new, |bounds| holds(&bounds)), "", now);
    for what_if in &study.what_ifs {
        match &what_if.outcome {
            Ok((bounds, case)) => {
                let change = today.and_then(|today| Some(gain(bounds.keeps?, today.keeps?))).unwrap_or_default();
                row(page, &what_if.words, &holds(bounds), &change, case);
            }
            Err(why) => {
                let (words, why) = (escaped(&what_if.words), escaped(why));
                let _ =
                    writeln!(page, "<tr><td>{words}</td><td colspan=\"7\" class=\"soft\">cannot be: {why}</td></tr>");
            }
        }
    }
    page.push_str("</table></div></section>\n");
}

fn row(page: &mut String, words: &str, holds: &str, change: &str, case: &Case) {
    let tone = match change.chars().next() {
        Some('+') => "good",
        Some('−') => "bad",
        _ => "soft",
    };
    let _ = writeln!(
        page,
        "<tr><td>{}</td><td class=\"number\"><b>{}</b></td><td class=\"number {tone}\">{change}</td>\
         <td class=\"number\">{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>\
         <td class=\"number\">{}</td></tr>",
        escaped(words),
        escaped(holds),
        percent(case.kept),
        escaped(&worst(case)),
        dollars(case.usd_per_hour * 24.0),
        dollars(case.usd_per_1k_good),
        figure(case.kw * 24.0)
    );
}

fn one_load(page: &mut String, case: &Case) {
    let _ = writeln!(
        page,
        "<section class=\"card\"><h2>Load {}</h2>\n<p class=\"soft\">{} requests a second, {} kept; {}</p>\n\
         <p class=\"soft\">{}</p>\n\
         <div class=\"scroll\"><table>\n<tr><th>Class</th><th class=\"number\">Requests</th><th class=\"number\">Kept</th>\
         <th class=\"number\">Target</th><th>Misses most</th><th class=\"number\">TTFT p50</th><th class=\"number\">p99</th>\
         <th class=\"number\">Held p50</th><th class=\"number\">p99</th><th class=\"number\">Refused</th></tr>",
        load(case.load),
        rate(case.rps),
        percent(case.kept),
        escaped(&super::text::costs(case)),
        escaped(&super::text::conduct(case).join("; "))
    );
    for class in &case.classes {
        let tone = if class.keeps() { "" } else { " bad" };
        let fails = class.fails().unwrap_or("–");
        let [ttft_p50, ttft_p99] = class.ttft_ms.map(|figure| if figure > 0.0 { ms(figure) } else { "–".to_owned() });
        let [held_p50, held_p99] = class.held_ms.map(ms);
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"number{tone}\"><b>{}</b></td><td class=\"number\">{}</td>\
             <td>{fails}</td><td class=\"number\">{ttft_p50}</td><td class=\"number\">{ttft_p99}</td>\
             <td class=\"number\">{held_p50}</td><td class=\"number\">{held_p99}</td><td class=\"number\">{}</td></tr>",
            escaped(&class.name),
            count(class.requests),
            percent(class.kept),
            percent(class.target),
            count(class.refused)
        );
    }
    let owed = case.pools.iter().any(|pool| pool.commitment_used.is_some());
    let heads: String = RESOURCES.iter().map(|what| format!("<th class=\"number\">{what}</th>")).collect();
    let _ = writeln!(
        page,
        "</table></div>\n<div class=\"scroll\"><table class=\"pools\">\n<tr><th>Pool</th><th class=\"number\">Endpoints</th>\
         <th class=\"number\">Sent</th>{heads}<th class=\"number\">429</th><th class=\"number\">$ an hour</th>\
         <th class=\"number\">kW</th>{}</tr>",
        if owed { "<th class=\"number\">of owed</th>" } else { "" }
    );
    for pool in &case.pools {
        let of_owed = pool.commitment_used.map_or_else(|| "–".to_owned(), percent);
        let of_owed = if owed { format!("<td class=\"number\">{of_owed}</td>") } else { String::new() };
        let used: String = RESOURCES
            .iter()
            .map(|what| {
                let used = pool.used(what);
                let hot = if used.is_some_and(|used| used >= 0.85) { " bad" } else { "" };
                format!("<td class=\"number{hot}\">{}</td>", used.map_or_else(|| "–".to_owned(), percent))
            })
            .collect();
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td>{used}<td class=\"number\">{}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td>{of_owed}</tr>",
            escaped(&pool.name),
            count(pool.endpoints as u64),
            count(pool.sent),
            count(pool.turned_away),
            dollars(pool.usd_per_hour),
            figure(pool.kw)
        );
    }
    page.push_str("</table></div></section>\n");
}
