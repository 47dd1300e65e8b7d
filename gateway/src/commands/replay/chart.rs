//! Charts as SVG, coloured by the page's style sheet so that dark and light both work.

use std::fmt::Write as _;

use super::ground::REFUSED;
use super::tally::Difference;
use crate::commands::figures::{count, percent, share};
use crate::commands::page::escaped;

/// Width of the flows, in the units of their view box.
const WIDTH: f64 = 1040.0;
/// Room for the names on either side.
const NAMES: f64 = 130.0;
/// Width of a place.
const PLACE: f64 = 12.0;
/// Height of all requests together.
const HEIGHT: f64 = 270.0;
/// The least height between two names.
const LEAST_STEP: f64 = 46.0;
/// Between two places.
const GAP: f64 = 14.0;
/// Room for the heads of the columns.
const HEADS: f64 = 40.0;
/// Hues that tell places apart.
const HUES: usize = 6;

/// A place in one of the two columns.
struct Place<'p> {
    name: &'p str,
    requests: u64,
    top: f64,
    height: f64,
}

/// Requests from where the incumbent sends them (left) to where the candidate does (right).
pub(super) fn flows(difference: &Difference, [before, after]: [&str; 2]) -> String {
    let names = difference.places();
    let scale = HEIGHT / difference.decisions.max(1) as f64;
    let sum = |from: Option<&str>, to: Option<&str>| -> u64 {
        let flows = difference.flows.iter();
        let wanted = flows.filter(|((f, t), _)| from.is_none_or(|from| from == f) && to.is_none_or(|to| to == t));
        wanted.map(|(_, count)| count).sum()
    };
    let left = column(&names, scale, |name| sum(Some(name), None));
    let right = column(&names, scale, |name| sum(None, Some(name)));
    let height = bottom(&left).max(bottom(&right)) + 8.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"Requests from place to place; the same \
         numbers are in the table below\">\n"
    );
    for (x, anchor, head) in [(NAMES, "end", before), (WIDTH - NAMES, "start", after)] {
        let head = escaped(head);
        let _ = writeln!(svg, "<text class=\"soft\" x=\"{x}\" y=\"16\" text-anchor=\"{anchor}\">{head}</text>");
    }
    let mut used_left = vec![0.0; left.len()];
    let mut used_right = vec![0.0; right.len()];
    for (from, used_left) in left.iter().zip(&mut used_left) {
        for (to, used_right) in right.iter().zip(&mut used_right) {
            let requests = difference.flow(from.name, to.name);
            if requests == 0 {
                continue;
            }
            let thick = requests as f64 * scale;
            let class = if from.name == to.name { "stay".to_owned() } else { format!("move {}", hue(&names, to.name)) };
            let title = format!(
                "{} → {}: {} ({})",
                from.name,
                to.name,
                count(requests),
                percent(share(requests, difference.decisions))
            );
            let _ = writeln!(
                svg,
                "<path class=\"{class}\" d=\"{}\"><title>{}</title></path>",
                ribbon(from.top + *used_left, to.top + *used_right, thick.max(1.0)),
                escaped(&title)
            );
            *used_left += thick;
            *used_right += thick;
        }
    }
    places(&mut svg, &left, &names, (NAMES - PLACE, NAMES - PLACE - 10.0, "end"));
    places(&mut svg, &right, &names, (WIDTH - NAMES, WIDTH - NAMES + PLACE + 10.0, "start"));
    svg.push_str("</svg>");
    svg
}

fn column<'p>(names: &[&'p str], scale: f64, requests: impl Fn(&str) -> u64) -> Vec<Place<'p>> {
    let mut top = HEADS;
    let mut places = Vec::new();
    for name in names {
        let requests = requests(name);
        if requests == 0 {
            continue;
        }
        let height = (requests as f64 * scale).max(2.0);
        places.push(Place { name, requests, top, height });
        top += (height + GAP).max(LEAST_STEP);
    }
    places
}

fn bottom(places: &[Place<'_>]) -> f64 {
    places.last().map_or(0.0, |place| place.top + place.height.max(LEAST_STEP - GAP))
}

fn ribbon(from: f64, to: f64, thick: f64) -> String {
    let (x1, x2) = (NAMES, WIDTH - NAMES);
    let middle = (x1 + x2) / 2.0;
    format!(
        "M{x1},{from:.1} C{middle},{from:.1} {middle},{to:.1} {x2},{to:.1} V{:.1} C{middle},{:.1} {middle},{:.1} {x1},{:.1} Z",
        to + thick,
        to + thick,
        from + thick,
        from + thick
    )
}

fn places(svg: &mut String, places: &[Place<'_>], names: &[&str], (x, text_x, anchor): (f64, f64, &str)) {
    for place in places {
        let middle = place.top + place.height / 2.0;
        let _ = writeln!(
            svg,
            "<rect class=\"{}\" x=\"{x}\" y=\"{:.1}\" width=\"{PLACE}\" height=\"{:.1}\" rx=\"2\"/>\
             <text class=\"strong\" x=\"{text_x}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>\
             <text class=\"soft\" x=\"{text_x}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            hue(names, place.name),
            place.top,
            place.height,
            middle - 2.0,
            escaped(place.name),
            middle + 14.0,
            count(place.requests)
        );
    }
}

/// The hue of a place; refusal has its own.
fn hue(names: &[&str], name: &str) -> String {
    if name == REFUSED {
        return "refused".to_owned();
    }
    format!("c{}", names.iter().position(|other| *other == name).unwrap_or(0) % HUES)
}

/// One row of bars.
pub(super) struct Bars {
    /// The class.
    pub(super) name: String,
    /// The incumbent's figure and how it is written.
    pub(super) before: (f64, String),
    /// The candidate's.
    pub(super) after: (f64, String),
    /// What was observed.
    pub(super) observed: Option<f64>,
}

/// Width of a panel of bars, in the units of its view box.
const PANEL: f64 = 320.0;
/// Room for a figure behind its bar.
const FIGURE: f64 = 66.0;
/// Height of one class.
const ROW: f64 = 64.0;
/// Height of one bar.
const BAR: f64 = 13.0;

/// Two bars for each class; `full` is the figure of a whole bar.
pub(super) fn bars(label: &str, rows: &[Bars], full: f64) -> String {
    let height = ROW * rows.len() as f64;
    let room = PANEL - FIGURE;
    let width = |figure: f64| (figure / full.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0) * room;
    let mut svg =
        format!("<svg viewBox=\"0 0 {PANEL} {height:.0}\" role=\"img\" aria-label=\"{} by class\">\n", escaped(label));
    for (index, row) in rows.iter().enumerate() {
        let top = ROW * index as f64;
        let _ = writeln!(svg, "<text class=\"soft\" x=\"0\" y=\"{:.1}\">{}</text>", top + 14.0, escaped(&row.name));
        for (bar, (figure, text), class) in [(0.0, &row.before, "before"), (1.0, &row.after, "after")] {
            let y = top + 21.0 + bar * (BAR + 4.0);
            let _ = writeln!(
                svg,
                "<rect class=\"track\" x=\"0\" y=\"{y:.1}\" width=\"{room}\" height=\"{BAR}\" rx=\"3\"/>\
                 <rect class=\"{class}\" x=\"0\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"3\"/>\
                 <text class=\"{}\" x=\"{PANEL}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                width(*figure),
                if class == "after" { "strong" } else { "soft" },
                y + 11.0,
                escaped(text)
            );
        }
        if let Some(observed) = row.observed {
            let _ = writeln!(
                svg,
                "<rect class=\"tickmark\" x=\"{:.1}\" y=\"{:.1}\" width=\"2.5\" height=\"{BAR}\"><title>observed: {}</title></rect>",
                (width(observed) - 1.25).max(0.0),
                top + 21.0,
                percent(observed)
            );
        }
    }
    svg.push_str("</svg>");
    svg
}
