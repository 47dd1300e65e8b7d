//! Charts as SVG, coloured by the page's style sheet so that dark and light both work.

use std::fmt::Write as _;

use crate::commands::figures::percent;
use crate::commands::page::escaped;

/// Width of a panel, in the units of its view box.
const WIDTH: f64 = 480.0;
/// Room for a name above its bar.
const NAME: f64 = 18.0;
/// Height of one bar.
const BAR: f64 = 14.0;
/// From one bar to the next.
const ROW: f64 = 46.0;
/// Room for a figure behind its bar.
const FIGURE: f64 = 92.0;

/// One bar.
pub(super) struct Bar {
    pub(super) name: String,
    /// What stands behind the name.
    pub(super) note: String,
    /// Its length, 0 to 1.
    pub(super) length: f64,
    pub(super) figure: String,
    /// A mark on the bar, 0 to 1, and what it says.
    pub(super) mark: Option<(f64, String)>,
    /// A class of the style sheet.
    pub(super) tone: &'static str,
}

/// Bars, one below the other.
pub(super) fn bars(label: &str, bars: &[Bar]) -> String {
    let height = ROW * bars.len() as f64;
    let room = WIDTH - FIGURE;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">\n", escaped(label));
    for (index, bar) in bars.iter().enumerate() {
        let top = ROW * index as f64;
        let (y, length) = (top + NAME, bar.length.clamp(0.0, 1.0) * room);
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{:.1}\">{} <tspan class=\"soft\">{}</tspan></text>\
             <rect class=\"track\" x=\"0\" y=\"{y:.1}\" width=\"{room}\" height=\"{BAR}\" rx=\"3\"/>\
             <rect class=\"{}\" x=\"0\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"3\"/>\
             <text class=\"strong\" x=\"{WIDTH}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            top + 12.0,
            escaped(&bar.name),
            escaped(&bar.note),
            bar.tone,
            y + 11.5,
            escaped(&bar.figure)
        );
        if let Some((at, says)) = &bar.mark {
            let _ = writeln!(
                svg,
                "<rect class=\"tickmark\" x=\"{:.1}\" y=\"{:.1}\" width=\"2.5\" height=\"{:.1}\"><title>{}</title></rect>",
                (at.clamp(0.0, 1.0) * room - 1.25).max(0.0),
                y - 2.0,
                BAR + 4.0,
                escaped(says)
            );
        }
    }
    svg.push_str("</svg>");
    svg
}

/// One line of a chart: a name and its points.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// What is to be reached.
    pub(super) target: f64,
}

/// Height of a chart of lines.
const HEIGHT: f64 = 260.0;
/// Its width.
const WIDE: f64 = 1040.0;
/// Room for figures at the left, for names at the right.
const MARGINS: (f64, f64) = (56.0, 150.0);
/// Room for figures below.
const BELOW: f64 = 34.0;
/// Names stand at least so far apart.
const NAME_STEP: f64 = 18.0;

/// Attainment over load. `limit` is where the first target is missed.
pub(super) fn lines(lines: &[Line], limit: Option<f64>) -> String {
    let loads = || lines.iter().flat_map(|line| line.points.iter().map(|(load, _)| *load)).chain(limit);
    let (first, last) =
        loads().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), load| (low.min(load), high.max(load)));
    let least = lines.iter().flat_map(|line| line.points.iter().map(|(_, kept)| *kept)).fold(0.99, f64::min);
    let floor = ((least * 20.0).floor() / 20.0).clamp(0.0, 0.95);
    let (left, right) = MARGINS;
    let x = |load: f64| left + (load - first) / (last - first).max(1e-9) * (WIDE - left - right);
    let y = |kept: f64| 10.0 + (1.0 - (kept - floor) / (1.0 - floor)) * (HEIGHT - BELOW - 10.0);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDE} {HEIGHT}\" role=\"img\" aria-label=\"Attainment over load; the same numbers are in the tables below\">\n"
    );
    for step in 0..=4 {
        let kept = floor + (1.0 - floor) * f64::from(step) / 4.0;
        let at = y(kept);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"soft\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDE - right,
            left - 8.0,
            at + 4.5,
            percent(kept)
        );
    }
    let mut shown: Vec<f64> = lines.iter().flat_map(|line| line.points.iter().map(|(load, _)| *load)).collect();
    shown.sort_by(f64::total_cmp);
    shown.dedup();
    for load in shown {
        let at = x(load);
        let text = super::text::load(load);
        let _ = writeln!(
            svg,
            "<text class=\"soft\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            HEIGHT - 10.0
        );
    }
    if let Some(limit) = limit {
        let (at, word) = (x(limit), super::text::load(limit));
        // Its name stands where there is room.
        let (name_at, anchor) = if at > WIDE / 2.0 { (at - 6.0, "end") } else { (at + 6.0, "start") };
        let _ = writeln!(
            svg,
            "<line class=\"limit\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"10\" y2=\"{:.1}\"/>\
             <text class=\"bad\" x=\"{name_at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">holds up to {word}</text>",
            HEIGHT - BELOW,
            HEIGHT - BELOW - 8.0
        );
    }
    drawn(&mut svg, lines, (x, y));
    svg.push_str("</svg>");
    svg
}

fn drawn(svg: &mut String, lines: &[Line], (x, y): (impl Fn(f64) -> f64, impl Fn(f64) -> f64)) {
    let mut names: Vec<(f64, usize)> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let points: Vec<String> =
            line.points.iter().map(|(load, kept)| format!("{:.1},{:.1}", x(*load), y(*kept))).collect();
        let _ = writeln!(svg, "<polyline class=\"line l{}\" points=\"{}\"/>", index % 6, points.join(" "));
        for (load, kept) in &line.points {
            let (name, target) = (escaped(&line.name), percent(line.target));
            let _ = writeln!(
                svg,
                "<circle class=\"c{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{name} at {}: {}, target {target}</title></circle>",
                index % 6,
                x(*load),
                y(*kept),
                super::text::load(*load),
                percent(*kept)
            );
        }
        names.push((line.points.last().map_or(0.0, |(_, kept)| y(*kept)), index));
    }
    names.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut lowest = f64::NEG_INFINITY;
    for (at, index) in names {
        let Some(line) = lines.get(index) else { continue };
        let at = at.max(lowest + NAME_STEP);
        lowest = at;
        let _ = writeln!(
            svg,
            "<text class=\"c{} strong\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            index % 6,
            WIDE - MARGINS.1 + 12.0,
            at + 4.5,
            escaped(&line.name)
        );
    }
}
