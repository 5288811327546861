//! `continuum check`

use clap::Args;
use serde_json::{Value, json};

use crate::base::clock::{Clock, SystemClock, SystemTimer};
use crate::format::name::ObjectName;
use crate::ops::check::keyless::{KeylessOptions, KeylessReport, UNSEEN, check_keyless};
use crate::ops::check::{CheckOptions, CheckReport, Coverage, ReadData, check};
use crate::repo::Fault;

use super::error::{CliError, DAMAGE, DONE, FAILED};
use super::output;
use super::session::{self, Session};
use super::snapshots::report_faults;
use super::units::{self, Span};

/// Options of `check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Ends with 0 when everything is as it should be, with 3 when damage is found; each fault names the object. `continuum repair` mends what can be mended.

A subset is of the packs that were read longest ago on this machine, so that a share a day goes through all of them.

Examples:
  continuum -r /backup/repo check
  continuum -r /backup/repo check --read-data
  continuum -r /backup/repo check --read-data-subset 5% --max-duration 10m
  continuum -r /mirror/repo check --keyless")]
pub struct CheckArguments {
    /// Read every pack, compare its hash, and decode every chunk
    #[arg(long)]
    read_data: bool,
    /// Read only so much: 5%, 1/20 or 10GiB, the packs first that were read longest ago
    #[arg(long, value_name = "AMOUNT", value_parser = units::amount, conflicts_with = "read_data")]
    read_data_subset: Option<ReadData>,
    /// Begin to read no further pack after so long
    #[arg(long, value_name = "SPAN", value_parser = units::span)]
    max_duration: Option<Span>,
    /// Compare what each pack says of itself with the index, from its two ends
    #[arg(long, conflicts_with = "keyless")]
    footers: bool,
    /// Ask for no password, and check what anybody can who has the objects; reads all packs unless told how much
    #[arg(long)]
    keyless: bool,
}

impl CheckArguments {
    fn read(&self) -> Option<ReadData> {
        self.read_data_subset.or(self.read_data.then_some(ReadData::All))
    }
}

/// Checks the repository.
pub fn run(session: &Session, arguments: &CheckArguments) -> Result<u8, CliError> {
    if arguments.max_duration.is_some() && !arguments.keyless && arguments.read().is_none() {
        return Err(CliError::usage("--max-duration is about packs that are read")
            .with_hint("add --read-data, or --read-data-subset with how much"));
    }
    if arguments.keyless { run_keyless(session, arguments) } else { run_with_key(session, arguments) }
}

fn run_with_key(session: &Session, arguments: &CheckArguments) -> Result<u8, CliError> {
    let repository = session.open_uncached()?;
    let options = CheckOptions {
        footers: arguments.footers,
        read_data: arguments.read().unwrap_or_default(),
        max_duration: arguments.max_duration.map(|span| span.0),
    };
    let report = check(&repository, &options, &SystemTimer::default(), &session.monitor())?;
    let damaged_copies = repository.damaged_copies().list();
    if session.json() {
        session.print_json("continuum.check/1", document(&report, &damaged_copies));
    } else {
        report_faults(&report.faults);
        if !session.quiet() {
            describe(&report, options.read_data != ReadData::Nothing);
            line_of_faults(&report.faults, &damaged_copies);
        }
    }
    Ok(code(&report.faults, &damaged_copies))
}

fn run_keyless(session: &Session, arguments: &CheckArguments) -> Result<u8, CliError> {
    let options = KeylessOptions {
        read_data: arguments.read().unwrap_or(ReadData::All),
        max_duration: arguments.max_duration.map(|span| span.0),
    };
    let (store, environment) = (session.store()?, session::environment());
    let report = check_keyless(&*store, &environment, &options, &SystemTimer::default(), &session.monitor())?;
    let damaged_copies = report.damaged.list();
    if session.json() {
        session.print_json("continuum.check-keyless/1", keyless_document(&report, &damaged_copies));
    } else {
        report_faults(&report.faults);
        if !session.quiet() {
            output::line(format!(
                "checked {} and {} of {}, {}, without any key",
                output::plural(report.object_count as u64, "small object"),
                output::count(report.read_count as u64),
                output::plural(report.pack_count as u64, "pack"),
                output::bytes(report.read_bytes),
            ));
            describe_coverage(&report.coverage, report.is_cut_short);
            line_of_faults(&report.faults, &damaged_copies);
            output::line(format!("not seen without a key: {UNSEEN}"));
        }
    }
    Ok(code(&report.faults, &damaged_copies))
}

/// What could not be read need not be damaged: the check is not done.
fn code(faults: &[Fault], damaged_copies: &[(String, ObjectName)]) -> u8 {
    match faults {
        [] if damaged_copies.is_empty() => DONE,
        [] => DAMAGE,
        faults if faults.iter().any(Fault::is_damage) => DAMAGE,
        _ => FAILED,
    }
}

fn describe(report: &CheckReport, has_read: bool) {
    output::line(format!(
        "checked {}, {}, {}{}",
        output::plural(report.snapshot_count as u64, "snapshot"),
        output::plural(report.pack_count as u64, "pack"),
        output::plural(report.chunk_count as u64, "chunk"),
        if has_read { format!("; read {}", output::bytes(report.read_bytes)) } else { String::new() },
    ));
    let packs = |(count, bytes): (usize, u64), what: &str| {
        if count > 0 {
            let packs = output::plural(count as u64, "pack");
            output::line(format!("{packs} of {} {what}", output::bytes(bytes)));
        }
    };
    packs(report.unlisted_packs, "left by an interrupted backup: no damage");
    packs(report.given_up_packs, "given up: a prune deletes them");
    if has_read {
        describe_coverage(&report.coverage, report.is_cut_short);
    }
}

/// How much of the repository was read within what age.
fn describe_coverage(coverage: &Coverage, is_cut_short: bool) {
    if is_cut_short {
        output::line("time was up before all was read that should be");
    }
    let Some(oldest) = coverage.oldest else { return };
    let age = age(SystemClock.now().0.saturating_sub(oldest.0));
    output::line(match coverage.never_count {
        0 => format!("all packs were read within the last {age}"),
        never => format!(
            "{} of {} were never read on this machine, the others within the last {age}",
            output::count(never as u64),
            output::plural(coverage.pack_count as u64, "pack"),
        ),
    });
}

/// A time span in the largest unit that it is twice as long as, rounded up.
fn age(micros: i64) -> String {
    let seconds = u64::try_from(micros).unwrap_or(0).div_ceil(1_000_000).max(1);
    let units = [("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)];
    let (unit, length) = units.into_iter().find(|(_, length)| seconds >= 2 * length).unwrap_or(("second", 1));
    output::plural(seconds.div_ceil(length), unit)
}

fn line_of_faults(faults: &[Fault], damaged_copies: &[(String, ObjectName)]) {
    output::line(match faults.len() as u64 {
        0 if damaged_copies.is_empty() => "no damage found".to_owned(),
        faults => format!("{} found", output::plural(faults, "fault")),
    });
}

fn document(report: &CheckReport, damaged_copies: &[(String, ObjectName)]) -> Value {
    json!({
        "faults": texts(&report.faults),
        "damaged_copies": copies(damaged_copies),
        "snapshots": report.snapshot_count,
        "packs": report.pack_count,
        "chunks": report.chunk_count,
        "read_packs": report.read_count,
        "read_bytes": report.read_bytes,
        "cut_short": report.is_cut_short,
        "never_read_packs": report.coverage.never_count,
        "oldest_read": report.coverage.oldest.map(super::time::utc),
        "unlisted_packs": report.unlisted_packs.0,
        "unlisted_pack_bytes": report.unlisted_packs.1,
        "given_up_packs": report.given_up_packs.0,
        "given_up_pack_bytes": report.given_up_packs.1,
    })
}

fn keyless_document(report: &KeylessReport, damaged_copies: &[(String, ObjectName)]) -> Value {
    json!({
        "faults": texts(&report.faults),
        "damaged_copies": copies(damaged_copies),
        "objects": report.object_count,
        "packs": report.pack_count,
        "read_packs": report.read_count,
        "read_bytes": report.read_bytes,
        "cut_short": report.is_cut_short,
        "never_read_packs": report.coverage.never_count,
        "oldest_read": report.coverage.oldest.map(super::time::utc),
        "unseen": UNSEEN,
    })
}

fn texts(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(Fault::describe).collect()
}

fn copies(damaged: &[(String, ObjectName)]) -> Vec<Value> {
    damaged.iter().map(|(location, name)| json!({ "location": location, "name": name.to_string() })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_rounded_up() {
        let second = 1_000_000;
        let cases =
            [(0, "1 second"), (90, "90 seconds"), (130, "3 minutes"), (8000, "3 hours"), (86_400 * 9, "9 days")];
        for (seconds, expected) in cases {
            assert_eq!(age(seconds * second), expected);
        }
        assert_eq!(age(-second), "1 second");
    }
}
