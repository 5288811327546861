//! Times as people and programs read them.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ZonedDateTime};

use crate::base::clock::UnixMicros;

fn timestamp(time: UnixMicros) -> Timestamp {
    Timestamp::from_microsecond(time.0).unwrap_or(if time.0 < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// In the user's zone, to the second: `2026-11-24 14:30:00`.
pub fn local(time: UnixMicros) -> String {
    timestamp(time).to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// RFC 3339, UTC: `2026-11-24T13:30:00.123456Z`.
pub fn utc(time: UnixMicros) -> String {
    timestamp(time).to_string()
}

/// For file names: `20261124T133000Z`.
pub fn compact(time: UnixMicros) -> String {
    timestamp(time).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A moment as people write it: RFC 3339 (`2026-11-23T14:30:00Z`), a date with or without a time in the user's zone, a time (`14:30`: the last one that is past), `now`, `today`,
/// `yesterday` or `yesterday 14:30`, or relative to `now` (`10 minutes ago`).
pub fn parse(text: &str, now: UnixMicros) -> Result<UnixMicros, String> {
    let text = text.trim();
    let zone = TimeZone::system();
    let zoned = |time: DateTime| time.to_zoned_datetime(zone.clone()).map(|zoned| zoned.timestamp());
    let moment = if let Ok(moment) = text.parse::<Timestamp>() {
        moment
    } else if let Ok(time) = text.parse::<DateTime>() {
        zoned(time).map_err(|error| format!("{text:?}: {error}"))?
    } else if let Some(time) = by_day(text, &timestamp(now).to_zoned_datetime(zone.clone())) {
        time.timestamp()
    } else if let Ok(span) = text.parse::<Span>() {
        let now = timestamp(now).to_zoned_datetime(zone);
        // "10 minutes" without "ago" means the past, too.
        let span = if span.is_negative() { span } else { -span };
        now.checked_add(span).map_err(|error| format!("{text:?}: {error}"))?.timestamp()
    } else {
        return Err(format!(
            "{text:?} is no time: expected something like 2026-11-23T14:30:00Z, \"2026-11-23 14:30\" (your zone) or \"10 minutes ago\""
        ));
    };
    Ok(UnixMicros(moment.as_microsecond()))
}

/// `14:30`, `now`, `today`, `yesterday`, `yesterday 14:30`.
fn by_day(text: &str, now: &ZonedDateTime) -> Option<ZonedDateTime> {
    let text = text.to_ascii_lowercase();
    if text == "now" {
        return Some(now.clone());
    }
    let (day, rest) = match text.split_once(char::is_whitespace).unwrap_or((&text, "")) {
        ("today", rest) => (Some(now.clone()), rest),
        ("yesterday", rest) => (Some(now.yesterday().ok()?), rest),
        _ => (None, text.as_str()),
    };
    let rest = rest.trim().trim_start_matches("at ");
    let time = if day.is_some() && rest.is_empty() { Time::midnight() } else { rest.parse::<Time>().ok()? };
    match day {
        Some(day) => day.date().to_datetime(time).to_zoned_datetime(now.time_zone().clone()).ok(),
        None => {
            let at = |day: &ZonedDateTime| day.date().to_datetime(time).to_zoned_datetime(now.time_zone().clone()).ok();
            at(now).filter(|at| at <= now).or_else(|| at(&now.yesterday().ok()?))
        }
    }
}

/// In the user's zone, to the millisecond: `2026-11-24 14:30:00.123`.
pub fn local_millis(time: UnixMicros) -> String {
    timestamp(time).to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_text_form_each() {
        let time = UnixMicros(1_764_000_000_500_000);
        assert_eq!(utc(time), "2025-11-24T16:00:00.5Z");
        assert_eq!(compact(time), "20251124T160000Z");
        let now = UnixMicros(1_764_000_000_000_000);
        assert_eq!(parse("2025-11-24T16:00:00Z", now), Ok(now));
        assert_eq!(parse("10 minutes ago", now), Ok(UnixMicros(now.0 - 600_000_000)));
        assert_eq!(parse("1h 30m", now), Ok(UnixMicros(now.0 - 5_400_000_000)));
        assert!(parse("2025-11-24 16:00", now).is_ok() && parse("2025-11-24", now).is_ok());
        let days = |text: &str| parse(text, now).map(|time| (now.0 - time.0) / 1_000_000);
        assert_eq!(days("now"), Ok(0));
        // A day may have an hour more or less.
        assert!(days("yesterday").is_ok_and(|seconds| (82_000..=176_400).contains(&seconds)));
        assert!(days("today").is_ok_and(|seconds| (0..=90_000).contains(&seconds)));
        assert!(["14:30", "00:00", "23:59:59"].iter().all(|time| days(time).is_ok_and(|s| (0..=90_000).contains(&s))));
        assert!(days("Yesterday 14:30").is_ok() && days("yesterday at 9:75").is_err() && days("today at").is_err());
        assert!(parse("yesterday-ish", now).is_err_and(|error| error.contains("10 minutes ago")));
        assert!(utc(UnixMicros(i64::MAX)).starts_with("9999"));
    }
}
