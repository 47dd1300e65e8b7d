//! Numbers for people: few digits, thousands apart, one unit.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// `12,204`
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 decision`, `12,204 decisions`
pub(super) fn of(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `97.3 %`; never 100 or 0 where it is not quite.
pub(super) fn percent(share: f64) -> String {
    let rounded = (share * 1000.0).round() / 10.0;
    match share {
        share if share < 1.0 && rounded >= 100.0 => ">99.9 %".to_owned(),
        share if share > 0.0 && rounded <= 0.0 => "<0.1 %".to_owned(),
        _ if rounded.fract() == 0.0 && (rounded == 0.0 || rounded == 100.0) => format!("{rounded:.0} %"),
        _ => format!("{rounded:.1} %"),
    }
}

/// `37` of 100, as a share; nothing of nothing is nothing.
pub(super) fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

/// `$12.10`, `$0.0312`
pub(super) fn dollars(usd: f64) -> String {
    match usd.abs() {
        0.0 => "$0".to_owned(),
        size if size >= 1000.0 => format!("${}", count(usd.round() as u64)),
        size if size >= 1.0 => format!("${usd:.2}"),
        size => {
            let digits = (2.0 - size.log10().floor()).min(9.0) as usize; // three that count
            format!("${usd:.digits$}")
        }
    }
}

/// `4.21 MJ`, `812 J`
pub(super) fn joules(joules: f64) -> String {
    let (figure, unit) = match joules {
        joules if joules >= 1e9 => (joules / 1e9, "GJ"),
        joules if joules >= 1e6 => (joules / 1e6, "MJ"),
        joules if joules >= 1e3 => (joules / 1e3, "kJ"),
        joules => (joules, "J"),
    };
    let digits = if figure >= 100.0 {
        0
    } else if figure >= 10.0 {
        1
    } else {
        2
    };
    format!("{figure:.digits$} {unit}")
}

/// `+14.0 %`, `−3.1 %`, `same`
pub(super) fn change(before: f64, after: f64) -> String {
    if before == after {
        return "same".to_owned();
    }
    if before <= 0.0 {
        return "new".to_owned();
    }
    let change = (after / before - 1.0) * 100.0;
    let digits = if change.abs() >= 100.0 { 0 } else { 1 };
    signed(change, digits, " %")
}

/// `+0.8 points`, `same`
pub(super) fn points(before: f64, after: f64) -> String {
    if before == after { "same".to_owned() } else { signed((after - before) * 100.0, 1, " points") }
}

/// `+3`, `−12`, `same`
pub(super) fn more(before: u64, after: u64) -> String {
    match after.cmp(&before) {
        std::cmp::Ordering::Equal => "same".to_owned(),
        std::cmp::Ordering::Greater => format!("+{}", count(after - before)),
        std::cmp::Ordering::Less => format!("−{}", count(before - after)),
    }
}

fn signed(figure: f64, digits: usize, unit: &str) -> String {
    let size = format!("{:.digits$}", figure.abs());
    let sign = if figure < 0.0 { "−" } else { "+" };
    if size.chars().all(|digit| matches!(digit, '0' | '.')) {
        return format!("{sign}<0.1{unit}");
    }
    format!("{sign}{size}{unit}")
}

/// Bytes: `1.9 MiB`
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 30 => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        bytes if bytes >= 1 << 20 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        bytes if bytes >= 1 << 10 => format!("{:.1} KiB", bytes as f64 / f64::from(1 << 10)),
        bytes => format!("{bytes} bytes"),
    }
}

/// `2026-11-25 14:02:11`, in UTC.
pub(super) fn time(unix_ms: u64) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms);
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ").replace('Z', "")
}

/// `14:02:11`, in UTC.
pub(super) fn time_of_day(unix_ms: u64) -> String {
    time(unix_ms).split(' ').nth(1).unwrap_or_default().to_owned()
}

/// `1,024-2,047`
pub(super) fn tokens(log2: u32) -> String {
    let from = 1u64 << log2.min(62);
    if log2 == 0 { "up to 1".to_owned() } else { format!("{}–{}", count(from), count(2 * from - 1)) }
}

/// Rows as columns, two spaces apart; those named are flush left, the others right.
pub(super) fn columns(text: &mut String, rows: &[Vec<String>], left: &[usize]) {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match left.contains(&column) {
                true => write!(line, "  {cell:<width$}"),
                false => write!(line, "  {cell:>width$}"),
            };
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        #[track_caller]
        fn check(text: String, expected: &str) {
            assert_eq!(text, expected);
        }
        check(count(0), "0");
        check(count(999), "999");
        check(count(1_234_567), "1,234,567");
        check(of(1, "decision"), "1 decision");
        check(percent(1.0), "100 %");
        check(percent(0.99999), ">99.9 %");
        check(percent(0.0001), "<0.1 %");
        check(percent(0.9), "90.0 %");
        check(dollars(12.1), "$12.10");
        check(dollars(0.0312), "$0.0312");
        check(dollars(0.006), "$0.00600");
        check(dollars(45_678.9), "$45,679");
        check(joules(4.21e6), "4.21 MJ");
        check(joules(812.4), "812 J");
        check(change(2.0, 1.0), "−50.0 %");
        check(change(2.0, 2.0), "same");
        check(change(2.0, 2.0001), "+<0.1 %");
        check(points(0.5, 0.6), "+10.0 points");
        check(more(5, 2), "−3");
        check(time(1_764_079_331_000), "2025-11-25 14:02:11");
        check(tokens(10), "1,024–2,047");
    }
}
