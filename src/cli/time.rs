//! Times as people and programs read them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_text_form_each() {
        let time = UnixMicros(1_764_000_000_500_000);
        assert_eq!(utc(time), "2025-11-24T16:00:00.5Z");
        assert_eq!(compact(time), "20251124T160000Z");
        assert!(utc(UnixMicros(i64::MAX)).starts_with("9999"));
    }
}
