//! Periods of the calendar in a time zone: hours, days, ISO weeks, months and years, as people there count them.
//!
//! A day on which clocks change has 23 or 25 hours, and the hour that is repeated counts as two.

use std::fmt;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use crate::base::clock::UnixMicros;

/// A second.
pub const SECOND: i64 = 1_000_000;
/// An hour.
pub const HOUR: i64 = 3600 * SECOND;
/// A day of 24 hours.
pub const DAY: i64 = 24 * HOUR;

/// A stretch of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// So many minutes, from 1 to 60, counted from the full hour.
    Minutes(u8),
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday (ISO 8601).
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    /// The period that the time lies in, as a number that grows with time.
    pub fn of(self, time: UnixMicros, zone: &TimeZone) -> i64 {
        let zoned = zoned(time, zone);
        let date = zoned.date();
        match self {
            Self::Minutes(minutes) => {
                let minutes = i64::from(minutes.clamp(1, 60));
                hour_begin(&zoned) + i64::from(zoned.minute()) / minutes * minutes * 60
            }
            Self::Hour => hour_begin(&zoned),
            Self::Day => day_number(date),
            Self::Week => day_number(date) - i64::from(date.weekday().to_monday_zero_offset()),
            Self::Month => i64::from(date.year()) * 12 + i64::from(date.month()),
            Self::Year => i64::from(date.year()),
        }
    }

    /// The longest that one can last, in microseconds.
    pub fn longest(self) -> i64 {
        match self {
            Self::Minutes(minutes) => i64::from(minutes.clamp(1, 60)) * 60 * SECOND,
            Self::Hour => HOUR,
            Self::Day => DAY + CLOCK_CHANGE,
            Self::Week => 7 * DAY + CLOCK_CHANGE,
            Self::Month => 31 * DAY + CLOCK_CHANGE,
            Self::Year => 366 * DAY + CLOCK_CHANGE,
        }
    }

    /// The shortest that one can last, but for those in which a zone's own definition was changed.
    pub fn shortest(self) -> i64 {
        match self {
            Self::Minutes(_) | Self::Hour => self.longest(),
            Self::Day => DAY - CLOCK_CHANGE,
            Self::Week => 7 * DAY - CLOCK_CHANGE,
            Self::Month => 28 * DAY - CLOCK_CHANGE,
            Self::Year => 365 * DAY - CLOCK_CHANGE,
        }
    }
}

/// Summer time is an hour almost everywhere.
const CLOCK_CHANGE: i64 = HOUR;

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minutes(1) => f.write_str("every minute"),
            Self::Minutes(minutes) => write!(f, "every {minutes} minutes"),
            Self::Hour => f.write_str("hourly"),
            Self::Day => f.write_str("daily"),
            Self::Week => f.write_str("weekly"),
            Self::Month => f.write_str("monthly"),
            Self::Year => f.write_str("yearly"),
        }
    }
}

/// The time on clocks of the zone; the first or last one that there is for times beyond.
pub fn zoned(time: UnixMicros, zone: &TimeZone) -> ZonedDateTime {
    let limit = if time.0 < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(time.0).unwrap_or(limit).to_zoned_datetime(zone.clone())
}

/// Seconds since 1970 when the hour began, counted back from the time itself: so the hour that clocks repeat is another one.
fn hour_begin(zoned: &ZonedDateTime) -> i64 {
    zoned.timestamp().as_second() - i64::from(zoned.minute()) * 60 - i64::from(zoned.second())
}

fn day_number(date: jiff::civil::Date) -> i64 {
    let since = date.since(jiff::civil::Date::ZERO);
    since.map_or(0, |span| i64::from(span.get_days()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMicros {
        UnixMicros(text.parse::<Timestamp>().expect("a time").as_microsecond())
    }

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone")
    }

    /// In how many different periods the times lie, and that they are in order.
    #[track_caller]
    fn check(period: Period, times: &[&str], expected: usize) {
        let mut found: Vec<i64> = times.iter().map(|time| period.of(at(time), &berlin())).collect();
        assert!(found.is_sorted(), "{found:?}");
        found.dedup();
        assert_eq!(found.len(), expected, "{period}: {times:?}");
    }

    #[test]
    fn days_are_those_of_the_zone() {
        check(Period::Day, &["2026-01-10T22:59:59Z", "2026-01-10T23:00:00Z", "2026-01-11T22:59:59Z"], 2);
        // 23 and 25 hours.
        check(Period::Day, &["2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z", "2026-03-29T22:00:00Z"], 2);
        check(Period::Day, &["2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z"], 2);
    }

    #[test]
    fn the_hour_that_is_repeated_counts_twice() {
        let night = ["2026-10-25T00:10:00Z", "2026-10-25T00:50:00Z", "2026-10-25T01:10:00Z", "2026-10-25T02:10:00Z"];
        check(Period::Hour, &night, 3);
        check(Period::Minutes(60), &night, 3);
        check(Period::Hour, &["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"], 2);
        check(Period::Minutes(20), &["2026-03-29T00:19:59Z", "2026-03-29T00:20:00Z", "2026-03-29T00:39:59Z"], 2);
        // The last of an hour is cut short.
        check(Period::Minutes(25), &["2026-03-29T00:49:00Z", "2026-03-29T00:50:00Z", "2026-03-29T01:00:00Z"], 3);
    }

    #[test]
    fn weeks_are_those_of_iso_8601() {
        check(Period::Week, &["2026-12-27T12:00:00Z", "2026-12-28T12:00:00Z", "2027-01-03T12:00:00Z"], 2);
        check(Period::Week, &["2027-01-03T22:59:59Z", "2027-01-03T23:00:00Z"], 2);
    }

    #[test]
    fn months_and_years_follow_the_calendar() {
        check(Period::Month, &["2026-12-31T22:59:59Z", "2026-12-31T23:00:00Z", "2027-01-31T22:00:00Z"], 2);
        check(Period::Year, &["2026-12-31T22:59:59Z", "2026-12-31T23:00:00Z", "2027-12-31T22:00:00Z"], 2);
    }

    #[test]
    fn times_beyond_the_calendar_have_a_period_too() {
        for period in [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year] {
            assert!(period.of(UnixMicros(i64::MIN), &berlin()) < period.of(UnixMicros(i64::MAX), &berlin()));
        }
    }
}
