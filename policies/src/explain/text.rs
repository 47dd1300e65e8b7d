//! An explanation as a terminal shows it: the verdict first, then what led to it, at most 100 columns wide.

use super::figures::{count, ms, short, usd};
use super::{CandidateReason, ClassReason, Explanation, HoldReason, Outcome, RouteReason, Tested};
use crate::estimate::Estimate;
use crate::facts::OwnedFacts;
use crate::learned::Known;

/// Columns of a line.
const WIDTH: usize = 100;
/// Where what follows a heading starts.
const INDENT: usize = 10;
/// Endpoints shown; the rest is counted.
const MOST_ROWS: usize = 24;

/// How it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// With ANSI colours.
    pub color: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }
}

pub(super) fn render(explanation: &Explanation, style: Style) -> String {
    let mut page = Page { style, text: String::new() };
    page.verdict(explanation);
    page.request(&explanation.request);
    if let Some(class) = &explanation.class {
        page.class(class);
    }
    if let Some(route) = &explanation.route {
        page.route(route);
    }
    page.candidates(explanation);
    page.plan(explanation);
    if let Some(outcome) = &explanation.outcome {
        page.outcome(outcome);
    }
    page.source(explanation);
    page.text
}

struct Page {
    style: Style,
    text: String,
}

impl Page {
    /// Lines under a heading, wrapped at words; every line but the first is indented.
    fn entry(&mut self, heading: &str, lines: &[String]) {
        let mut heading = heading;
        for line in lines {
            let indent = 2 + line.len() - line.trim_start().len();
            for piece in wrapped_under(line, WIDTH - INDENT, indent) {
                let head = self.style.bold(&format!("{heading:<8}"));
                self.text.push_str(format!("{head}  {piece}").trim_end());
                self.text.push('\n');
                heading = "";
            }
        }
    }

    fn verdict(&mut self, explanation: &Explanation) {
        for line in wrapped(&explanation.verdict, WIDTH) {
            let painted = match explanation.refusal {
                None => self.style.good(&line),
                Some(_) => self.style.bad(&line),
            };
            self.text.push_str(&painted);
            self.text.push('\n');
        }
        self.text.push('\n');
    }

    fn request(&mut self, request: &OwnedFacts) {
        let mut words = vec![format!("{} {}", request.api.as_str(), request.model)];
        let answer = if request.stream { "streamed" } else { "answered whole" };
        words.push(answer.to_owned());
        words.push(format!("about {} tokens in", count(request.input_tokens)));
        let most = request.max_output_tokens.map_or_else(String::new, |most| format!(", at most {}", count(most)));
        words.push(format!("about {} out{most}", count(request.output_tokens)));
        let named = [
            ("tenant", request.tenant.as_str()),
            ("session", request.session.as_str()),
            ("service_tier", request.service_tier.as_str()),
            ("declares", request.declared_class.as_str()),
        ];
        words
            .extend(named.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name} {value}")));
        let counts = [("tools", request.tools), ("images", request.images)];
        words.extend(counts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")));
        let asked = [("ttft", request.slo_ttft_ms), ("itl", request.slo_itl_ms), ("deadline", request.deadline_ms)];
        words.extend(asked.iter().filter_map(|(name, bound)| Some(format!("asks for {name} {}", ms((*bound)?)))));
        self.entry("request", &[words.join(", ")]);
    }

    fn class(&mut self, class: &ClassReason) {
        let by = match class.because.as_str() {
            "declared" => "declared by the caller".to_owned(),
            "declared-slo" => "no rule applies; the least urgent class that gives what the caller asks for".to_owned(),
            "patient-tier" => "no rule applies; its API or service tier says that nobody waits".to_owned(),
            "stream" => "no rule applies; it is a stream".to_owned(),
            "whole-answer" => "no rule applies; the caller waits for the whole answer".to_owned(),
            _ => class.rule.as_ref().map_or_else(String::new, |rule| format!("rule {}", condition(rule))),
        };
        let mut lines = vec![format!("{}, {by}", class.name)];
        lines.extend(class.rule.as_ref().and_then(saw));
        let parts = [("ttft", class.slo.ttft_ms), ("itl", class.slo.itl_ms), ("deadline", class.slo.deadline_ms)];
        let parts: Vec<String> =
            parts.iter().filter_map(|(name, bound)| Some(format!("{name} {}", ms((*bound)?)))).collect();
        let promised = if parts.is_empty() { "promises nothing".to_owned() } else { parts.join(", ") };
        let ceiling = class.max_usd.map_or_else(String::new, |most| format!(", at most {} a request", usd(most)));
        lines.push(format!("promise: {promised} for {} %{ceiling}", (class.target * 1e4).round() / 1e2));
        lines.extend(class.passed_over.iter().flat_map(not));
        self.entry("class", &lines);
    }

    fn route(&mut self, route: &RouteReason) {
        let spill =
            if route.tiers > 1 { format!(", {} tiers (spill {})", route.tiers, route.spill) } else { String::new() };
        let affinity = route.affinity.as_ref().map_or_else(String::new, |by| format!(", keeps one {by} together"));
        let mut lines = vec![condition(&route.tested)];
        lines.extend(saw(&route.tested));
        lines.push(format!("objective: {}{spill}{affinity}", route.objective));
        lines.extend(route.passed_over.iter().flat_map(not));
        self.entry("route", &lines);
    }

    fn candidates(&mut self, explanation: &Explanation) {
        if explanation.candidates.is_empty() {
            return;
        }
        let mut passed: Vec<&CandidateReason> =
            explanation.candidates.iter().filter(|candidate| candidate.rejection.is_none()).collect();
        let order = |candidate: &CandidateReason| (candidate.attempt.unwrap_or(usize::MAX), candidate.tier);
        passed.sort_by(|a, b| {
            let scores = || a.score.unwrap_or(f64::MAX).total_cmp(&b.score.unwrap_or(f64::MAX));
            order(a).cmp(&order(b)).then_with(scores)
        });
        let names = explanation.candidates.iter().map(|candidate| candidate.endpoint.chars().count());
        let width = names.max().unwrap_or(0).clamp(8, 34);
        let home_bonus = explanation.route.as_ref().and_then(|route| route.home_bonus).unwrap_or_default();
        self.text.push('\n');
        if !passed.is_empty() {
            self.header(width);
        }
        for candidate in passed.iter().take(MOST_ROWS) {
            self.row(candidate, width, home_bonus);
        }
        self.more(passed.len());
        if passed.iter().any(|candidate| candidate.meets_slo == Some(false)) {
            let legend = "  strain: predicted over the planned part of the promise; above 1 it is likely to be missed";
            self.text.push_str(&self.style.dim(legend));
            self.text.push('\n');
        }
        let rejected: Vec<&CandidateReason> =
            explanation.candidates.iter().filter(|candidate| candidate.rejection.is_some()).collect();
        for candidate in rejected.iter().take(MOST_ROWS) {
            let reason = candidate.rejection.as_ref().map_or("", |rejection| rejection.message.as_str());
            let line = format!("- {:<width$}  {reason}", fitted(&candidate.endpoint, width));
            for line in wrapped_under(&line, WIDTH, width + 4) {
                self.text.push_str(&self.style.dim(&line));
                self.text.push('\n');
            }
        }
        self.more(rejected.len());
        if explanation.not_weighed > 0 {
            let (one, word) = (explanation.not_weighed == 1, count(explanation.not_weighed as u64));
            let line = format!("  {word} more {} not weighed: ", if one { "was" } else { "were" });
            let line = format!("{line}the others of {} have less to do", if one { "its pool" } else { "their pools" });
            self.text.push_str(&self.style.dim(&line));
            self.text.push('\n');
        }
    }

    fn more(&mut self, all: usize) {
        if all > MOST_ROWS {
            self.text.push_str(&format!("  and {} more, see --json\n", all - MOST_ROWS));
        }
    }

    fn header(&mut self, width: usize) {
        let titles = format!(
            "  {:<width$} {:>8} {:>8} {:>8} {:>10} {:>7} {:>7}  {}",
            "ENDPOINT", "TTFT", "ITL", "TOTAL", "PRICE", "ENERGY", "BUSY", "STRAIN"
        );
        self.text.push_str(&self.style.bold(&titles));
        self.text.push('\n');
    }

    fn row(&mut self, candidate: &CandidateReason, width: usize, home_bonus: f64) {
        let estimate = candidate.estimate.unwrap_or_default();
        let place = candidate.attempt.map_or_else(|| " ".to_owned(), |place| place.to_string());
        let energy = estimate.joules.map_or_else(|| "?".to_owned(), energy);
        let marks = format!(
            "{:.2}{}{}{}",
            candidate.strain.unwrap_or_default(),
            if candidate.meets_slo == Some(true) { "" } else { " missed" },
            if candidate.home { " home" } else { "" },
            if candidate.tier > 0 { format!(" tier {}", candidate.tier) } else { String::new() },
        );
        let busy = format!("{}/{}", candidate.in_flight, candidate.slots);
        let line = format!(
            "{place} {:<width$} {:>8} {:>8} {:>8} {:>10} {energy:>7} {busy:>7}  {marks}",
            fitted(&candidate.endpoint, width),
            ms(estimate.ttft_ms),
            pace(&estimate),
            ms(estimate.total_ms),
            usd(estimate.usd),
        );
        let line = if candidate.attempt == Some(1) { self.style.good(&line) } else { line };
        self.text.push_str(line.trim_end());
        self.text.push('\n');
        if let Some(counts) = candidate.effective_usd.filter(|_| !candidate.counts_because.is_empty()) {
            let because = candidate.counts_because.join("; ");
            for line in wrapped_under(&format!("    counts as {} because {because}", usd(counts)), WIDTH, 6) {
                self.text.push_str(&self.style.dim(&line));
                self.text.push('\n');
            }
        }
        if candidate.terms.len() > 1 {
            let terms = candidate.terms.iter().filter(|term| term.value != 0.0);
            let sum: Vec<String> = terms.map(|term| format!("{} {}", term.name, short(term.value))).collect();
            let score = short(candidate.score.unwrap_or_default());
            let less = format!(", less {:.0} % as a home", home_bonus * 100.0);
            let less = if candidate.home { less.as_str() } else { "" };
            self.text.push_str(&self.style.dim(&format!("    score {score} = {}{less}", sum.join(" + "))));
            self.text.push('\n');
        }
    }

    fn plan(&mut self, explanation: &Explanation) {
        let Some(plan) = &explanation.plan else { return };
        self.text.push('\n');
        let attempts = plan.attempts.iter().enumerate().map(|(place, attempt)| {
            let why = plan.explored.filter(|_| place == 0).map_or("", to_learn);
            format!("{} {}, first byte within {}{why}", place + 1, attempt.endpoint, ms(attempt.first_byte_ms))
        });
        let hedge = plan
            .hedge
            .as_ref()
            .map(|hedge| format!("beside 1 also {} if nothing has come within {}", hedge.endpoint, ms(hedge.after_ms)));
        let hold = plan.hold.as_ref().map(hold);
        let whole = plan.total_ms.map(|total| format!("whole answer within {} of its first byte", ms(total)));
        self.entry("plan", &hold.into_iter().chain(attempts).chain(hedge).chain(whole).collect::<Vec<_>>());
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let mut words = vec![format!("{} {}", outcome.outcome, outcome.status)];
        words.extend(outcome.queue_ms.map(|held| format!("held for {}", ms(held))));
        let figures = [("ttft", outcome.ttft_ms), ("itl", outcome.itl_ms), ("total", Some(outcome.total_ms))];
        words.extend(figures.iter().filter_map(|(name, figure)| Some(format!("{name} {}", ms((*figure)?)))));
        let about = if outcome.usage_estimated { "about " } else { "" };
        words.extend(outcome.output_tokens.map(|tokens| format!("{about}{} tokens out", count(tokens))));
        if outcome.usd > 0.0 {
            words.push(usd(outcome.usd));
        }
        words.extend(outcome.slo_met.map(|met| match met {
            true => "promise kept".to_owned(),
            false => format!("promise missed ({})", outcome.slo_missed.join(", ")),
        }));
        let mut lines = vec![words.join(", ")];
        lines.extend(outcome.attempts.iter().map(|attempt| {
            let end = attempt.failure.clone().unwrap_or_else(|| "answered".to_owned());
            format!("{} after {}: {end}", attempt.endpoint, ms(attempt.ms))
        }));
        lines.extend(outcome.not_retried.iter().map(|reason| format!("not tried again: {reason}")));
        lines.extend(outcome.not_continued.iter().map(|reason| format!("not continued elsewhere: {reason}")));
        self.entry("outcome", &lines);
    }

    fn source(&mut self, explanation: &Explanation) {
        let mut lines = vec![explanation.policy.clone()];
        if let Some(origin) = &explanation.origin {
            lines = vec![format!("{}, files {}", explanation.policy, origin.hash)];
            lines.push(format!("request {}, trace {}", origin.request_id, origin.trace_id));
        }
        self.text.push('\n');
        self.entry("policy", &lines);
        if !explanation.fleet.is_empty() {
            self.entry("fleet", std::slice::from_ref(&explanation.fleet));
        }
    }
}

fn hold(hold: &HoldReason) -> String {
    let behind = hold.behind();
    let behind = if behind.is_empty() { behind } else { format!(", {behind}") };
    let slack = match hold.slack_ms {
        slack if slack >= 0.0 => format!("its promise can be kept for {} more", ms(slack)),
        late => format!("it is {} too late for its promise", ms(-late)),
    };
    format!("held until `{}` has room{behind}; {slack}", hold.pool)
}

fn condition(tested: &Tested) -> String {
    match &tested.when {
        Some(when) => format!("`{}`: {}", tested.name, flat(when)),
        None => format!("`{}`, which always applies", tested.name),
    }
}

/// A rule that did not apply, and what it saw.
fn not(tested: &Tested) -> impl Iterator<Item = String> {
    [Some(format!("not {}", condition(tested))), saw(tested)].into_iter().flatten()
}

fn saw(tested: &Tested) -> Option<String> {
    let values: Vec<String> = tested.reads.iter().map(|read| format!("{} = {}", read.field, read.value)).collect();
    (!values.is_empty()).then(|| format!("    saw {}", values.join(", ")))
}

/// Conditions may stand on several lines.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn energy(joules: f64) -> String {
    match joules {
        joules if joules < 10.0 => format!("{joules:.1} J"),
        joules if joules < 1e4 => format!("{joules:.0} J"),
        joules => format!("{:.1} kJ", joules / 1e3),
    }
}

/// The end of a name tells machines of one pool apart.
fn fitted(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.to_owned();
    }
    let kept: String = name.chars().skip(length - width + 1).collect();
    format!("…{kept}")
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    wrapped_under(text, width, 2)
}

/// Lines of at most so many columns, broken at spaces where there are any; all but the first indented.
fn wrapped_under(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    // What callers wrote must not steer the terminal.
    let mut rest: Vec<char> = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    while rest.len() > width {
        let words = rest.iter().take(width + 1).collect::<Vec<_>>();
        let at = words.iter().rposition(|c| **c == ' ').filter(|at| *at > indent).unwrap_or(width);
        lines.push(rest.iter().take(at).collect::<String>().trim_end().to_owned());
        let tail = rest.iter().skip(at).skip_while(|c| **c == ' ');
        rest = std::iter::repeat_n(&' ', indent).chain(tail).copied().collect();
    }
    lines.push(rest.into_iter().collect());
    lines
}

/// Why a machine is tried that is not the best.
fn to_learn(known: Known) -> &'static str {
    match known {
        Known::Little => ", to learn how it serves: little is known of its pool",
        Known::LongAgo => ", to learn how it serves by now: nobody has used its pool for long",
        Known::Well => "",
    }
}

/// The time per token, with its scatter where there is any to speak of.
fn pace(estimate: &Estimate) -> String {
    if estimate.itl_spread_ms < 0.5 {
        return ms(estimate.itl_ms);
    }
    format!("{:.0}±{:.0} ms", estimate.itl_ms, estimate.itl_spread_ms)
}
