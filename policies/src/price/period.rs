//! Hours, days and months of a clock that is some seconds ahead of UTC: what budgets and commitments are counted by. They
//! are those of a bill, from the first of the month at midnight, not the last thirty days.

use serde::{Deserialize, Serialize};

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 86_400;

/// What a budget is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From the first of a month to that of the next.
    Month,
}

/// From its beginning to its end, seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Its first second.
    pub begins_s: i64,
    /// The first second after it.
    pub ends_s: i64,
}

impl Span {
    /// How long it is, seconds.
    pub fn length_s(self) -> f64 {
        (self.ends_s - self.begins_s).max(1) as f64
    }
}

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Period; 3] = [Period::Hour, Period::Day, Period::Month];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Month => "month",
        }
    }

    /// The one in which a moment lies, by a clock so many seconds ahead of UTC.
    pub fn around(self, unix_s: i64, utc_offset_s: i32) -> Span {
        let ahead_s = i64::from(utc_offset_s);
        let local_s = unix_s + ahead_s;
        let of = |length_s: i64| {
            let begins_s = local_s.div_euclid(length_s) * length_s;
            (begins_s, begins_s + length_s)
        };
        let (begins_s, ends_s) = match self {
            Period::Hour => of(HOUR_S),
            Period::Day => of(DAY_S),
            Period::Month => month_around(local_s.div_euclid(DAY_S)),
        };
        Span { begins_s: begins_s - ahead_s, ends_s: ends_s - ahead_s }
    }
}

/// First and last second of the month of a day since 1970. The Gregorian calendar repeats every 400 years; the year is
/// taken to begin in March, so that the leap day is its last.
fn month_around(day: i64) -> (i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let first_of = |month: i64| (153 * month + 2) / 5;
    let begin = era * 146_097 + 365 * year + year / 4 - year / 100 - 719_468;
    let end = if month == 11 {
        let next = year + 1;
        era * 146_097 + 365 * next + next / 4 - next / 100 + next / 400 - 719_468
    } else {
        begin + first_of(month + 1)
    };
    ((begin + first_of(month)) * DAY_S, end * DAY_S)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::unix_seconds;

    #[track_caller]
    fn check(period: Period, at: &str, offset_s: i32, begins: &str, ends: &str) {
        let unix = |text: &str| unix_seconds(text, 0).expect(text) as i64;
        let span = period.around(unix(at), offset_s);
        assert_eq!(span, Span { begins_s: unix(begins), ends_s: unix(ends) }, "{period:?} of {at}");
    }

    #[test]
    fn they_are_those_of_a_calendar() {
        use Period::{Day, Hour, Month};
        check(Hour, "2026-02-28T23:59:59Z", 0, "2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z");
        check(Day, "2026-02-28T23:30:00Z", 3600, "2026-02-28T23:00:00Z", "2026-03-01T23:00:00Z");
        check(Month, "2026-02-28T23:59:59Z", 0, "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
        check(Month, "2024-02-29T12:00:00Z", 0, "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z");
        check(Month, "2026-12-31T23:30:00Z", 3600, "2026-12-31T23:00:00Z", "2027-01-31T23:00:00Z");
        check(Month, "2026-01-01T00:00:00Z", -3600, "2025-12-01T01:00:00Z", "2026-01-01T01:00:00Z");
        check(Month, "2100-02-10T00:00:00Z", 0, "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z");
        check(Month, "2000-02-29T00:00:00Z", 0, "2000-02-01T00:00:00Z", "2000-03-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn each_moment_lies_in_one_and_they_follow_one_another(unix_s in 0_i64..10_000_000_000, hours in -14..=14) {
            for period in Period::ALL {
                let span = period.around(unix_s, hours * 3600);
                prop_assert!(span.begins_s <= unix_s && unix_s < span.ends_s, "{period:?} {span:?}");
                prop_assert_eq!(period.around(span.ends_s - 1, hours * 3600), span);
                prop_assert_eq!(period.around(span.ends_s, hours * 3600).begins_s, span.ends_s);
            }
        }
    }
}
