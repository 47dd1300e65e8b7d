//! When a request comes, as people write it.

use toml::value::{Datetime, Offset};

/// Monday, the fifth of January 1970, at midnight, seconds since 1970: the week in which scenarios play.
const MONDAY_S: i64 = 4 * DAY_S;
const DAY_S: i64 = 86_400;
const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
/// Shortest beginning of a day's name that is understood, letters.
const SHORTEST_DAY: usize = 3;
/// Noon, seconds after midnight.
const NOON_S: i64 = DAY_S / 2;

/// Seconds since 1970 of `HH:MM` and `DAY HH:MM` by a clock that is so many seconds ahead of UTC, in a week of January
/// 1970, or of a moment such as `2026-09-15T09:30:00Z`, whose own offset counts. `None` where it is neither.
pub fn unix_seconds(text: &str, utc_offset_s: i32) -> Option<u64> {
    let text = text.trim();
    let local = match text.parse::<Datetime>() {
        Ok(Datetime { date: Some(date), time: Some(time), offset }) => {
            let days = days_since_1970(i64::from(date.year), i64::from(date.month), i64::from(date.day));
            let second = i64::from(time.second.unwrap_or(0));
            let of_day = i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + second;
            let ahead_s = match offset {
                Some(Offset::Custom { minutes }) => i64::from(minutes) * 60,
                Some(Offset::Z) => 0,
                None => i64::from(utc_offset_s),
            };
            return u64::try_from(days * DAY_S + of_day - ahead_s).ok();
        }
        _ => time_of_week(text)?,
    };
    u64::try_from(MONDAY_S + local - i64::from(utc_offset_s)).ok()
}

/// Monday noon by a clock that is so many seconds ahead of UTC.
pub(super) fn monday_noon(utc_offset_s: i32) -> u64 {
    u64::try_from(MONDAY_S + NOON_S - i64::from(utc_offset_s)).unwrap_or_default()
}

/// Seconds since Monday midnight.
fn time_of_week(text: &str) -> Option<i64> {
    let (day, clock) = match text.split_once(char::is_whitespace) {
        Some((day, clock)) => {
            let day = day.to_ascii_lowercase();
            let named = |name: &&str| day.len() >= SHORTEST_DAY && name.starts_with(day.as_str());
            (DAYS.iter().position(named)?, clock.trim())
        }
        None => (0, text),
    };
    let (hours, minutes) = clock.split_once(':')?;
    let number = |text: &str| text.parse::<i64>().ok().filter(|_| text.len() == 2);
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let sound = (0..24).contains(&hours) && (0..60).contains(&minutes);
    sound.then_some(i64::try_from(day).ok()? * DAY_S + hours * 3600 + minutes * 60)
}

/// Days of the Gregorian calendar. The year is taken to begin in March, so that the leap day is its last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_or_refused() {
        #[track_caller]
        fn check(text: &str, offset_s: i32, expected: Option<u64>) {
            assert_eq!(unix_seconds(text, offset_s), expected, "{text}");
        }
        check("1970-01-01T00:00:00Z", 0, Some(0));
        check("2026-09-15T09:30:00Z", 0, Some(1_789_464_600));
        check("2026-09-15T11:30:00+02:00", 0, Some(1_789_464_600));
        check("2026-09-15T11:30:00", 7200, Some(1_789_464_600));
        check("2024-02-29T00:00:00Z", 0, Some(1_709_164_800));
        check("00:00", 0, Some(4 * 86_400));
        check("09:30", 7200, Some(4 * 86_400 + 9 * 3600 + 1800 - 7200));
        check("Sat 09:30", 0, Some(9 * 86_400 + 9 * 3600 + 1800));
        check("saturday 09:30", 0, Some(9 * 86_400 + 9 * 3600 + 1800));
        for wrong in ["", "9:30", "24:00", "09:60", "sa 09:30", "someday 09:30", "2026-09-15", "-1:00", "09:30:00"] {
            check(wrong, 0, None);
        }
    }
}
