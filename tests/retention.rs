//! What retention keeps: a table for each policy, and a simulated year of snapshots that is gone through day by day.
//!
//! `cargo test --test retention -- --ignored write_tables` writes the tables anew; a reviewer reads what changed in them.

#[path = "retention/tables.rs"]
mod tables;
#[path = "retention/year.rs"]
mod year;

use continuum::base::clock::UnixMicros;
use continuum::policy::retention::{Candidate, Kind};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Where clocks change at the end of March and of October.
fn zone() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone")
}

fn local(text: &str) -> UnixMicros {
    let time: DateTime = text.parse().expect("a date and a time");
    UnixMicros(time.to_zoned_datetime(zone()).expect("a time of the zone").timestamp().as_microsecond())
}

fn candidate(sequence: u64, captured: UnixMicros, kind: Kind) -> Candidate {
    let tags = Vec::new();
    Candidate {
        sequence,
        captured,
        recorded: captured,
        kind,
        tags,
        is_held: false,
        is_verified: false,
        is_damaged: false,
    }
}
