//! Times as people and programs read them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

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

/// A moment as people write it: RFC 3339 (`2026-11-23T14:30:00Z`), a date with or without a time in the user's zone, or relative to `now` (`10 minutes ago`).
pub fn parse(text: &str, now: UnixMicros) -> Result<UnixMicros, String> {
    let text = text.trim();
    let zone = TimeZone::system();
    let zoned = |time: DateTime| time.to_zoned_datetime(zone.clone()).map(|zoned| zoned.timestamp());
    let moment = if let Ok(moment) = text.parse::<Timestamp>() {
        moment
    } else if let Ok(time) = text.parse::<DateTime>() {
        zoned(time).map_err(|error| format!("{text:?}: {error}"))?
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
        assert!(parse("yesterday-ish", now).is_err_and(|error| error.contains("10 minutes ago")));
        assert!(utc(UnixMicros(i64::MAX)).starts_with("9999"));
    }
}
