//! Columns, times and colours of the `policy` command.

use std::time::{Duration, SystemTime};

use pointsman_policies::language::{Change, Difference, shown};
use serde_json::Value;

use crate::generations::comparison::FileComparison;

/// A value longer than this gets a line of its own, characters.
const LONG_VALUE: usize = 48;
/// Last columns are cut here, characters.
const LONG_LINE: usize = 110;

/// Terminal colours; left out where the output is no terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Colour {
    Plain,
    Good,
    Bad,
    Notice,
    Faint,
    Strong,
}

/// A text in a colour.
pub(in crate::commands) fn paint(colour: Colour, text: &str) -> String {
    let code = match colour {
        Colour::Plain => return text.to_owned(),
        Colour::Good => 32,
        Colour::Bad => 31,
        Colour::Notice => 33,
        Colour::Faint => 2,
        Colour::Strong => 1,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Rows as columns two spaces apart; the last column is cut where it is too long.
pub(in crate::commands) fn columns(rows: &[Vec<(Colour, String)>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| column + 1 < row.len()).filter_map(|row| row.get(column));
        cells.map(|(_, text)| text.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<(Colour, String)>| {
        let last = row.len().saturating_sub(1);
        let cells = row.iter().zip(&widths).enumerate().map(|(column, ((colour, text), width))| {
            if column == last {
                return paint(*colour, &cut(text, LONG_LINE));
            }
            let gap = width.saturating_sub(text.chars().count());
            format!("{}{}", paint(*colour, text), " ".repeat(gap))
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  "))
    };
    rows.iter().map(line).collect()
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// How long ago a time is, in the largest unit that fits.
pub(super) fn ago(at_unix_ms: u64) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(at_unix_ms);
    let seconds = SystemTime::now().duration_since(then).unwrap_or_default().as_secs();
    match seconds {
        0..60 => "just now".to_owned(),
        60..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// The differences of one file, each with a sign.
pub(super) fn differences(comparison: &FileComparison, indent: &str) -> String {
    if let Some(why) = &comparison.unreadable {
        return format!("{indent}{}\n", paint(Colour::Notice, why));
    }
    if comparison.differences.is_empty() {
        let words = if comparison.same_text { "the same text" } else { "no change in meaning" };
        return format!("{indent}{}\n", paint(Colour::Faint, words));
    }
    let paths = comparison.differences.iter().map(|one| one.path.chars().count()).max().unwrap_or_default();
    comparison.differences.iter().map(|one| difference(one, indent, paths)).collect()
}

fn difference(one: &Difference, indent: &str, paths: usize) -> String {
    let value = |value: &Option<Value>| value.as_ref().map(shown).unwrap_or_default();
    let (from, to) = (value(&one.from), value(&one.to));
    let (sign, colour) = match one.change {
        Change::Changed => ("~", Colour::Notice),
        Change::Added => ("+", Colour::Good),
        Change::Removed => ("-", Colour::Bad),
        Change::Moved => (">", Colour::Notice),
    };
    let gap = " ".repeat(paths.saturating_sub(one.path.chars().count()));
    let head = format!("{indent}{} {}{gap}", paint(colour, sign), one.path);
    let long = |text: &str| text.chars().count() > LONG_VALUE;
    let place = one.place.map(|(at, of)| format!("{at} of {of}: ")).unwrap_or_default();
    match one.change {
        Change::Changed if long(&from) || long(&to) => {
            let (from, to) = (paint(Colour::Bad, &from), paint(Colour::Good, &to));
            format!("{}\n{indent}      {from}\n{indent}    → {to}\n", head.trim_end())
        }
        Change::Changed => format!("{head}  {from} → {to}\n"),
        Change::Added => format!("{head}  {place}{to}\n"),
        Change::Removed => format!("{head}  {place}{from}\n"),
        Change::Moved => format!("{head}  place {from} → place {to}\n"),
    }
}

/// A text at hand that diagnostics may be about.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtHand<'t> {
    /// As the gateway calls its file.
    pub(super) theirs: &'t str,
    /// As it is called here.
    pub(super) ours: &'t str,
    /// The text.
    pub(super) text: &'t str,
}

/// Diagnostics of an answer, with the line that each is about where the text is at hand.
pub(super) fn diagnostics(records: &[Value], at_hand: Option<AtHand<'_>>) -> String {
    records.iter().map(|record| diagnostic(record, at_hand)).collect()
}

fn diagnostic(record: &Value, at_hand: Option<AtHand<'_>>) -> String {
    let of = |key: &str| super::text(record, key);
    let severity = of("severity");
    let colour = if severity == "error" { Colour::Bad } else { Colour::Notice };
    let title = paint(colour, &format!("{severity}[{}]", of("code")));
    let mut told = format!("{title}: {}\n", paint(Colour::Strong, of("message")));
    let (line, column) = (super::number(record, "line") as usize, super::number(record, "column") as usize);
    let at_hand = at_hand.filter(|at_hand| at_hand.theirs == of("file"));
    let file = at_hand.map_or(of("file"), |at_hand| at_hand.ours);
    if line == 0 {
        told.push_str(&format!("  --> {file}\n"));
    } else {
        told.push_str(&format!("  --> {file}:{line}:{column}\n"));
        if let Some(shown) = at_hand.and_then(|at_hand| at_hand.text.lines().nth(line - 1)) {
            let end = super::number(record, "end_column") as usize;
            let same_line = super::number(record, "end_line") as usize == line;
            let marks = if same_line { end.saturating_sub(column).max(1) } else { 1 };
            let (gutter, marks) = (" ".repeat(line.to_string().len()), paint(colour, &"^".repeat(marks)));
            let pad = " ".repeat(column.saturating_sub(1));
            told.push_str(&format!("{line} | {}\n{gutter} | {pad}{marks}\n", cut(shown, LONG_LINE)));
        }
    }
    if !of("help").is_empty() {
        told.push_str(&format!("  help: {}\n", of("help")));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_line_and_long_lines_are_cut() {
        let row = |cells: [&str; 3]| cells.map(|cell| (Colour::Plain, cell.to_owned())).to_vec();
        let text = columns(&[row(["1", "é", "x"]), row(["100", "ab", &"y".repeat(200)])]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1    é   x");
        assert_eq!(lines[1].chars().count(), "100  ab  ".len() + LONG_LINE + 1);
    }

    #[test]
    fn times_are_told_in_a_fitting_unit() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        #[track_caller]
        fn check(now: u64, seconds: u64, expected: &str) {
            assert_eq!(ago(now - seconds * 1000), expected);
        }
        check(now, 0, "just now");
        check(now, 59, "just now");
        check(now, 61, "1 min ago");
        check(now, 600, "10 min ago");
        check(now, 7200, "2 h ago");
        check(now, 260_000, "3 d ago");
        assert_eq!(ago(now + 60_000), "just now", "clocks differ");
    }
}
