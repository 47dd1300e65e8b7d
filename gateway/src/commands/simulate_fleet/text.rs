//! The result for people: the verdict first, then where it comes from, at most 100 columns.

use std::fmt::Write as _;

use super::case::{Case, Class, Conduct, Pool, RESOURCES};
use super::limit::{Bounds, HIGHEST};
use super::study::{Limit, Study};
use super::traffic::{rate, span};
use super::verdict::verdict;
use crate::commands::figures::{columns, count, dollars, of, percent};

/// What this is.
pub(super) const SIMULATED: &str =
    "Simulated: machines behave as the hardware catalog and the portfolio say; measure before you buy.";
/// What a search over a stretch of the traffic is.
pub(super) const BUSIEST: &str = "Limits are searched in the busiest stretch of the traffic, loads told apart to 2 %.";

/// Below this part in use, nothing of a pool is used up, 0 to 1.
const IDLE_BELOW: f64 = 0.5;
/// Of fewer requests a part in a hundred is a handful.
const FEW: u64 = 1_000;

/// All of it.
pub(super) fn text(study: &Study) -> String {
    let mut text = format!("{}\n\n", verdict(study));
    let _ = writeln!(text, "{}", subject(study));
    let _ = writeln!(text, "{}", study.traffic);
    for case in &study.cases {
        text.push('\n');
        one_load(&mut text, case);
    }
    if let Some(limit) = &study.limit {
        text.push('\n');
        saturation(&mut text, limit);
    }
    if !study.what_ifs.is_empty() {
        text.push('\n');
        what_ifs(&mut text, study);
    }
    let _ = writeln!(text, "\n{SIMULATED}");
    if study.limit.as_ref().is_some_and(|limit| limit.slice.is_part) {
        let _ = writeln!(text, "{BUSIEST}");
    }
    let _ = writeln!(text, "{}", effort(study));
    text
}

/// What is simulated, in words.
pub(super) fn subject(study: &Study) -> String {
    let part = match study.one_in {
        1 => String::new(),
        number => format!(", one in {} of them simulated", count(u64::from(number))),
    };
    format!(
        "{} on {} with {}{part}, everybody asks for {}",
        study.policy,
        of(study.pools as u64, "pool"),
        of(study.endpoints as u64, "endpoint"),
        study.model
    )
}

fn one_load(text: &mut String, case: &Case) {
    let _ = writeln!(
        text,
        "Load {}: {} requests a second, {} kept{}",
        load(case.load),
        rate(case.rps),
        percent(case.kept),
        if case.keeps() { "" } else { ", targets missed" }
    );
    let _ = writeln!(text, "  {}", costs(case));
    for line in conduct(case) {
        let _ = writeln!(text, "  {line}");
    }
    let heads = ["class", "requests", "kept", "target", "misses most", "TTFT p50", "p99", "held p50", "p99", "refused"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(case.classes.iter().map(class_row));
    columns(text, &rows, &[0, 4]);
    let heads = ["pool", "endpoints", "sent"].into_iter().chain(RESOURCES).chain(["429", "$/h", "kW"]);
    let owed = case.pools.iter().any(|pool| pool.commitment_used.is_some());
    let heads = heads.chain(owed.then_some("of owed"));
    let mut rows = vec![heads.map(str::to_owned).collect::<Vec<_>>()];
    rows.extend(case.pools.iter().map(|pool| pool_row(pool, owed)));
    columns(text, &rows, &[0]);
}

/// What it costs, in words.
pub(super) fn costs(case: &Case) -> String {
    format!(
        "{} an hour, {} a day, {} per 1,000 kept; {} kW, {} kWh a day, {} J per good token",
        dollars(case.usd_per_hour),
        dollars(case.usd_per_hour * 24.0),
        dollars(case.usd_per_1k_good),
        figure(case.kw),
        figure(case.kw * 24.0),
        figure(case.j_per_good_token)
    )
}

/// How the gateway went about it, in words: a line each.
pub(super) fn conduct(case: &Case) -> Vec<String> {
    let Conduct { moved, hedged, tenants, herding, ttft_came, itl_came } = case.conduct;
    let mut parts = vec![format!("{} moved while held", percent(moved)), format!("{} hedged", percent(hedged))];
    parts.extend(tenants.map(|(index, worst)| format!("fairness {index:.3}, worst tenant {}", percent(worst))));
    parts.push(format!("herding {herding:.2}"));
    let came = |name: &str, [p50, p90]: [f64; 2]| format!("{name} {p50:.2} times (p90 {p90:.2})");
    let times = [ttft_came.map(|came_in| came("TTFT", came_in)), itl_came.map(|came_in| came("ITL", came_in))];
    let times: Vec<String> = times.into_iter().flatten().collect();
    let mut lines = vec![parts.join("; ")];
    if !times.is_empty() {
        lines.push(format!("came after {} what was predicted", times.join(", ")));
    }
    lines
}

fn class_row(class: &Class) -> Vec<String> {
    let fails = class.fails().map_or_else(
        || "-".to_owned(),
        |part| {
            let missed = class.misses.first().map_or(0.0, |(_, missed)| *missed);
            format!("{part} {}", percent(missed))
        },
    );
    let streams = class.ttft_ms.iter().any(|ms| *ms > 0.0);
    let ttft = class.ttft_ms.map(|figure| if streams { ms(figure) } else { "-".to_owned() });
    let held = class.held_ms.map(ms);
    let [ttft_p50, ttft_p99] = ttft;
    let [held_p50, held_p99] = held;
    let mark = if class.keeps() { "" } else { " ✗" };
    vec![
        class.name.clone(),
        count(class.requests),
        format!("{}{mark}", percent(class.kept)),
        percent(class.target),
        fails,
        ttft_p50,
        ttft_p99,
        held_p50,
        held_p99,
        count(class.refused),
    ]
}

fn pool_row(pool: &Pool, owed: bool) -> Vec<String> {
    let used = RESOURCES.map(|what| pool.used(what).map_or_else(|| "-".to_owned(), percent));
    let mut row = vec![pool.name.clone(), count(pool.endpoints as u64), count(pool.sent)];
    row.extend(used);
    row.extend([count(pool.turned_away), dollars(pool.usd_per_hour), figure(pool.kw)]);
    row.extend(owed.then(|| pool.commitment_used.map_or_else(|| "-".to_owned(), percent)));
    row
}

fn saturation(text: &mut String, limit: &Limit) {
    let Some(beyond) = &limit.beyond else {
        let _ = writeln!(text, "Where it saturates: at no load up to {HIGHEST:.0}");
        return;
    };
    let _ = writeln!(
        text,
        "Where it saturates first: at load {}, {} requests a second",
        load(beyond.load),
        rate(beyond.rps)
    );
    for class in beyond.failing() {
        let part = class.fails().unwrap_or("answer");
        let _ = writeln!(text, "  {}", missed(class, part));
    }
    for pool in by_use(beyond) {
        let (what, used) = pool.most_used();
        let _ = writeln!(text, "  {}: {what} {} used", pool.name, percent(used));
    }
    if limit.slice.is_part {
        let (from, length) = (span(limit.slice.from_s), span(limit.slice.for_s));
        let _ = writeln!(text, "  searched in the busiest {length} of the traffic, from {from} on");
    }
}

/// `realtime keeps 97.2 % of 99 %: time per token missed by 2.8 %`
pub(super) fn missed(class: &Class, part: &str) -> String {
    let by = class.misses.first().map_or(0.0, |(_, missed)| *missed);
    let target = percent(class.target);
    // Just below the target is not the target.
    let kept = Some(percent(class.kept)).filter(|kept| *kept != target);
    let kept = kept.unwrap_or_else(|| format!("{:.2} %", class.kept * 100.0));
    format!("{} keeps {kept}, target {target}: {} miss their {part}", class.name, percent(by))
}

/// Whether no pool is used up.
pub(super) fn is_idle(case: &Case) -> bool {
    case.pools.iter().all(|pool| pool.most_used().1 < IDLE_BELOW)
}

/// Pools that are used, the most used first.
pub(super) fn by_use(case: &Case) -> Vec<&Pool> {
    let mut pools: Vec<&Pool> = case.pools.iter().filter(|pool| pool.sent > 0).collect();
    pools.sort_by(|one, other| other.most_used().1.total_cmp(&one.most_used().1));
    pools
}

fn what_ifs(text: &mut String, study: &Study) {
    let Some(now) = study.reference() else { return };
    let at = format!("kept at {}", load(now.load));
    let mut rows = vec![
        ["What if", "holds up to", "", &at, "worst class", "$/day", "$ per 1k", "kWh/day"].map(str::to_owned).to_vec(),
    ];
    let today = study.limit.as_ref().map(|limit| limit.bounds);
    rows.push(what_if_row("as it is", today, None, now));
    for what_if in &study.what_ifs {
        match &what_if.outcome {
            Ok((bounds, case)) => rows.push(what_if_row(&what_if.words, Some(*bounds), today, case)),
            Err(why) => rows.push(vec![what_if.words.clone(), format!("cannot be: {why}")]),
        }
    }
    columns(text, &rows, &[0, 4]);
}

fn what_if_row(words: &str, bounds: Option<Bounds>, today: Option<Bounds>, case: &Case) -> Vec<String> {
    let change = bounds.zip(today).and_then(|(bounds, today)| Some(gain(bounds.keeps?, today.keeps?)));
    vec![
        words.to_owned(),
        bounds.map_or_else(|| "-".to_owned(), |bounds| holds(&bounds)),
        change.unwrap_or_default(),
        percent(case.kept),
        worst(case),
        dollars(case.usd_per_hour * 24.0),
        dollars(case.usd_per_1k_good),
        figure(case.kw * 24.0),
    ]
}

/// `+12 %`, `same` within what the search can tell.
pub(super) fn gain(now: f64, before: f64) -> String {
    let change = (now / before - 1.0) * 100.0;
    match change.abs() {
        small if small < 3.0 => "same".to_owned(),
        size => format!("{}{size:.0} %", if change < 0.0 { "−" } else { "+" }),
    }
}

/// The load up to which it holds.
pub(super) fn holds(bounds: &Bounds) -> String {
    match (bounds.keeps, bounds.fails) {
        (None, _) => "never".to_owned(),
        (Some(_), None) => format!(">{HIGHEST:.0}"),
        (Some(keeps), Some(_)) => load(keeps),
    }
}

/// The class that is farthest below its target, or nearest to it.
pub(super) fn worst(case: &Case) -> String {
    let worst =
        case.classes.iter().min_by(|one, other| (one.kept - one.target).total_cmp(&(other.kept - other.target)));
    worst.map_or_else(String::new, |class| {
        format!("{} {}{}", class.name, percent(class.kept), if class.keeps() { "" } else { " ✗" })
    })
}

/// How it was come by.
pub(super) fn effort(study: &Study) -> String {
    let simulated: u64 = study.cases.iter().map(|case| case.simulated).sum();
    let slowest = study.cases.iter().map(|case| case.decision_ns[1]).fold(0.0, f64::max);
    let least = study.cases.iter().map(|case| case.simulated).min().unwrap_or(0);
    let few = match least < FEW {
        true => {
            format!("Only {} at one load: a part in a hundred is luck; simulate more hours.\n", of(least, "request"))
        }
        false => String::new(),
    };
    format!(
        "{few}Seed {}. {} simulated for the loads; a decision took {:.0} µs at the 99th percentile; {:.1} s in all.",
        study.seed,
        of(simulated, "request"),
        slowest / 1e3,
        study.took.as_secs_f64()
    )
}

/// `0.7`, `1.42`
pub(super) fn load(load: f64) -> String {
    let text = format!("{load:.2}");
    text.strip_suffix('0').map_or(text.clone(), str::to_owned)
}

/// Three digits that count.
pub(super) fn figure(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => count(figure.round() as u64),
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

/// `85 ms`, `1.2 s`
pub(super) fn ms(ms: f64) -> String {
    match ms {
        ms if ms >= 10_000.0 => format!("{:.0} s", ms / 1e3),
        ms if ms >= 1_000.0 => format!("{:.1} s", ms / 1e3),
        ms if ms > 0.0 && ms < 1.0 => "<1 ms".to_owned(),
        ms => format!("{ms:.0} ms"),
    }
}
