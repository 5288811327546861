//! `continuum check`

use clap::Args;
use serde_json::json;

use crate::ops::check::{CheckOptions, check};
use crate::repo::Fault;

use super::error::{CliError, DAMAGE, DONE, FAILED};
use super::output;
use super::session::Session;
use super::snapshots::report_faults;

/// Options of `check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Ends with 0 when everything is as it should be, with 3 when damage is found; each fault names the object.

Examples:
  continuum -r /backup/repo check
  continuum -r /backup/repo check --read-data")]
pub struct CheckArguments {
    /// Read every pack, compare its hash, and decode every chunk
    #[arg(long)]
    read_data: bool,
}

/// Checks the repository.
pub fn run(session: &Session, arguments: CheckArguments) -> Result<u8, CliError> {
    let repository = session.open()?;
    let options = CheckOptions { read_data: arguments.read_data };
    let report = check(&repository, options, &session.monitor())?;
    let (unlisted_count, unlisted_bytes) = report.unlisted_packs;
    let damaged_copies = repository.damaged_copies().list();
    if session.json() {
        session.print_json(
            "continuum.check/1",
            json!({
                "faults": report.faults.iter().map(Fault::describe).collect::<Vec<_>>(),
                "damaged_copies": damaged_copies
                    .iter()
                    .map(|(location, name)| json!({ "location": location, "name": name.to_string() }))
                    .collect::<Vec<_>>(),
                "snapshots": report.snapshot_count,
                "packs": report.pack_count,
                "chunks": report.chunk_count,
                "read_bytes": report.read_bytes,
                "unlisted_packs": unlisted_count,
                "unlisted_pack_bytes": unlisted_bytes,
            }),
        );
    } else {
        report_faults(&report.faults);
        if !session.quiet() {
            output::line(format!(
                "checked {}, {}, {}{}",
                output::plural(report.snapshot_count as u64, "snapshot"),
                output::plural(report.pack_count as u64, "pack"),
                output::plural(report.chunk_count as u64, "chunk"),
                if arguments.read_data {
                    format!("; read {}", output::bytes(report.read_bytes))
                } else {
                    String::new()
                },
            ));
            if unlisted_count > 0 {
                output::line(format!(
                    "{} of {} left by an interrupted backup: no damage",
                    output::plural(unlisted_count as u64, "pack"),
                    output::bytes(unlisted_bytes),
                ));
            }
            output::line(match report.faults.len() as u64 {
                0 if damaged_copies.is_empty() => "no damage found".to_owned(),
                faults => format!("{} found", output::plural(faults, "fault")),
            });
        }
    }
    // What could not be read need not be damaged: the check is not done.
    Ok(match report.faults.as_slice() {
        [] if damaged_copies.is_empty() => DONE,
        [] => DAMAGE,
        faults if faults.iter().any(Fault::is_damage) => DAMAGE,
        _ => FAILED,
    })
}
