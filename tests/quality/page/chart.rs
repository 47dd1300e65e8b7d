//! Lines and points in a frame with axes, as inline SVG. Colours are classes of the page's style sheet.

use std::fmt::Write as _;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 118.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 36.0;
/// Labels at the right keep this distance.
const LABEL_GAP: f64 = 12.0;
/// Labels whose beginnings are further apart do not touch.
const LABEL_WIDTH: f64 = 105.0;

/// One policy.
pub struct Series {
    /// Its name.
    pub name: String,
    /// Class of its colour.
    pub colour: String,
    /// In order of x.
    pub points: Vec<(f64, f64)>,
}

/// A frame.
pub struct Chart {
    title: String,
    below: String,
    series: Vec<Series>,
    x: Axis,
    y: Axis,
}

struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Holds all values, with ends and steps that are round.
    fn over(values: impl Iterator<Item = f64> + Clone, steps: f64) -> Axis {
        let low = values.clone().fold(f64::INFINITY, f64::min);
        let high = values.fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low.is_finite() && high > low { (low, high) } else { (low.min(0.0), low.max(0.0) + 1.0) };
        let raw = (high - low) / steps;
        let power = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|by| by * power).find(|step| *step >= raw).unwrap_or(raw);
        Axis { low: (low / step).floor() * step, high: (high / step).ceil() * step, step }
    }

    fn part(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count).map(|tick| self.low + tick as f64 * self.step)
    }

    fn label(&self, value: f64) -> String {
        let digits = (-self.step.log10().floor()).max(0.0) as usize;
        format!("{value:.digits$}")
    }
}

impl Chart {
    /// Frames what is given; the first series is drawn last, above the others.
    pub fn new(title: &str, below: &str, series: Vec<Series>) -> Chart {
        let all = || series.iter().flat_map(|one| one.points.iter());
        let (x, y) = (Axis::over(all().map(|point| point.0), 5.0), Axis::over(all().map(|point| point.1), 5.0));
        Chart { title: title.to_owned(), below: below.to_owned(), x, y, series }
    }

    /// As SVG.
    pub fn draw(&self) -> String {
        let mut text = format!(
            "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\"><text class=\"title\" x=\"{LEFT}\" \
             y=\"14\">{0}</text>",
            escaped(&self.title)
        );
        self.frame(&mut text);
        for one in self.series.iter().rev() {
            self.one(&mut text, one);
        }
        self.labels(&mut text);
        text.push_str("</svg></figure>");
        text
    }

    fn at(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let across = LEFT + self.x.part(x) * (WIDTH - LEFT - RIGHT);
        (across, HEIGHT - BOTTOM - self.y.part(y) * (HEIGHT - TOP - BOTTOM))
    }

    fn frame(&self, text: &mut String) {
        for value in self.y.ticks() {
            let (_, y) = self.at((self.x.low, value));
            let _ = write!(
                text,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"tick\" x=\"{}\" \
                 y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 3.5,
                self.y.label(value)
            );
        }
        for value in self.x.ticks() {
            let (x, _) = self.at((value, self.y.low));
            let (y, label) = (HEIGHT - BOTTOM + 15.0, self.x.label(value));
            let _ = write!(text, "<text class=\"tick\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>");
        }
        let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 5.0);
        let _ = write!(
            text,
            "<text class=\"tick\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
            escaped(&self.below)
        );
    }

    fn one(&self, text: &mut String, series: &Series) {
        let name = escaped(&series.name);
        let _ = write!(text, "<g class=\"series {}\" data-name=\"{name}\">", series.colour);
        let places: Vec<(f64, f64)> = series.points.iter().map(|point| self.at(*point)).collect();
        if places.len() > 1 {
            let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = write!(text, "<polyline points=\"{}\"/>", path.join(" "));
        }
        for ((x, y), (across, up)) in places.iter().zip(&series.points) {
            let _ = write!(
                text,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{name}: {} {}, {} {}</title></circle>",
                escaped(&self.below),
                short(*across),
                escaped(&self.title),
                short(*up)
            );
        }
        text.push_str("</g>");
    }

    /// Names at the right of the last points, of coloured series only, moved apart.
    fn labels(&self, text: &mut String) {
        let coloured = self.series.iter().filter(|one| one.colour != "rest");
        let mut labels: Vec<(f64, f64, &Series)> = coloured
            .filter_map(|one| {
                let (x, y) = self.at(*one.points.last()?);
                Some((x, y, one))
            })
            .collect();
        labels.sort_by(|one, other| one.1.total_cmp(&other.1));
        let mut placed: Vec<(f64, f64)> = Vec::new();
        let lines = self.series.iter().any(|one| one.points.len() > 1);
        for (x, y, one) in labels {
            let x = if lines { WIDTH - RIGHT + 8.0 } else { x + 7.0 };
            let above = placed.iter().filter(|(other, _)| (x - other).abs() < LABEL_WIDTH).map(|(_, y)| y + LABEL_GAP);
            let place = above.fold(y, f64::max);
            placed.push((x, place));
            let (y, name) = (place + 3.5, escaped(&one.name));
            let _ = write!(
                text,
                "<text class=\"label {}\" data-name=\"{name}\" x=\"{x:.1}\" y=\"{y:.1}\">{name}</text>",
                one.colour
            );
        }
    }
}

fn short(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// Text as it may stand in HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
