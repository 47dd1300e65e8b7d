//! Figures as people read them.

/// A span of time: `0.9 ms`, `812 ms`, `4.2 s`, `10 min`.
pub(super) fn ms(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 10_000.0 => format!("{:.1} s", ms / 1e3),
        ms if ms < 120_000.0 => format!("{:.0} s", ms / 1e3),
        ms if ms < 7_200_000.0 => format!("{:.0} min", ms / 60e3),
        ms => format!("{:.0} h", ms / 3_600e3),
    }
}

/// A price: four significant digits, never in exponents.
pub(super) fn usd(usd: f64) -> String {
    format!("${usd:.6}")
}

/// A count with its thousands apart: `60,210`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let first = digits.len() % 3;
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && at % 3 == first {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A figure of any size, about four digits.
pub(super) fn short(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1e9 => format!("{figure:.3e}"),
        size if size >= 1_000.0 => format!("{figure:.0}"),
        size if size >= 1.0 => format!("{figure:.2}"),
        size if size >= 1e-2 => format!("{figure:.3}"),
        size if size >= 1e-6 => format!("{figure:.6}"),
        _ => format!("{figure:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_say_their_unit() {
        assert_eq!(
            [0.04, 9.94, 80.2, 999.0, 1_500.0, 59_600.0, 600_000.0, 8e6].map(ms),
            ["0.0 ms", "9.9 ms", "80 ms", "999 ms", "1.5 s", "60 s", "10 min", "2 h"]
        );
        assert_eq!([0, 7, 999, 1_000, 60_210, 1_234_567].map(count), ["0", "7", "999", "1,000", "60,210", "1,234,567"]);
        assert_eq!([0.0, 3.016, 1234.5, 0.00057, 1e12].map(short), ["0", "3.02", "1234", "0.000570", "1.000e12"]);
    }
}
