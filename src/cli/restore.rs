//! `continuum restore`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::ops::restore::{RestoreOptions, RestoreSummary, restore, restore_in_place};
use crate::repo::stack_reader::State;

use super::error::{CliError, DONE};
use super::selection::{Selected, Selection};
use super::session::Session;
use super::{output, time};

/// Options of `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file is written beside the target, compared with the state's BLAKE3 hash, synced, and only then gets the target's name.
A restore that was interrupted or killed leaves .NAME.continuum-*.partial there: the same command again continues from it.

Examples:
  continuum -r /backup/repo restore latest --to /tmp/orders.db
  continuum -r /backup/repo restore --at \"10 minutes ago\" --to /tmp/orders.db
  continuum -r /backup/repo restore --at 2026-11-23T14:30:00Z --to /tmp/orders.db
  continuum -r /backup/repo restore --commit 4711 --name orders --to /tmp/orders.db
  continuum -r /backup/repo restore 1a2b3c4d --in-place --to /var/lib/app/orders.db
  b3sum /tmp/orders.db       # prints the hash that restore printed")]
pub struct RestoreArguments {
    /// A snapshot's id or the beginning of it, or `latest`, which is the default
    snapshot: Option<String>,
    #[command(flatten)]
    selection: Selection,
    /// The file to restore to
    #[arg(long, value_name = "PATH")]
    to: PathBuf,
    /// Set aside what stands at the target (renamed, not deleted)
    #[arg(long)]
    force: bool,
    /// Write into the database that stands at the target, and only those pages that differ; refused while a process has it open
    #[arg(long, conflicts_with = "force")]
    in_place: bool,
    /// Run SQLite's integrity check on the result [default: up to 1 GiB]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    integrity_check: Option<bool>,
}

/// Restores a state.
pub fn run(session: &Session, arguments: RestoreArguments) -> Result<u8, CliError> {
    let repository = session.open()?;
    let monitor = session.monitor();
    let Selected { reader, database, state } =
        arguments.selection.select(arguments.snapshot.as_deref(), &repository, &monitor)?;
    let options = RestoreOptions {
        force: arguments.force,
        integrity_check: arguments.integrity_check,
        aside_suffix: format!("replaced-{}", time::compact(repository.environment().clock.now())),
    };
    let before_s = session.elapsed_s();
    let summary = if arguments.in_place {
        restore_in_place(&reader, &state, &arguments.to, &options, &monitor)?
    } else {
        restore(&reader, &state, &arguments.to, &options, &monitor)?
    };
    let seconds = session.elapsed_s() - before_s;
    if session.json() {
        session.print_json("continuum.restore/1", document(&summary, &database, &state, &arguments.to, seconds));
    } else if !session.quiet() {
        output::print(&describe(&summary, &database, &state, &arguments.to, seconds));
    }
    Ok(DONE)
}

fn document(summary: &RestoreSummary, database: &str, state: &State, to: &Path, seconds: f64) -> Value {
    let aside = summary
        .set_aside
        .iter()
        .map(|(from, to)| json!({ "from": from.display().to_string(), "to": to.display().to_string() }));
    json!({
        "snapshot": state.snapshot.to_string(),
        "database": database,
        "commit": state.commit,
        "captured": time::utc(state.captured),
        "target": to.display().to_string(),
        "bytes": summary.bytes,
        "written_bytes": summary.written_bytes,
        "resumed_bytes": summary.resumed_bytes,
        "blake3": summary.root.to_string(),
        "integrity_checked": summary.integrity_checked,
        "set_aside": aside.collect::<Vec<_>>(),
        "seconds": seconds,
    })
}

fn describe(summary: &RestoreSummary, database: &str, state: &State, to: &Path, seconds: f64) -> String {
    let mut text = String::new();
    for (from, to) in &summary.set_aside {
        text += &format!("set aside {} as {}\n", from.display(), to.display());
    }
    let rate = output::bytes((summary.bytes as f64 / seconds.max(1e-3)) as u64);
    let in_place = if summary.written_bytes < summary.bytes {
        format!(", {} of it written in place", output::bytes(summary.written_bytes))
    } else {
        String::new()
    };
    let resumed = match summary.resumed_bytes {
        0 => String::new(),
        found => format!(", {} of it found on disk", output::bytes(found)),
    };
    text + &format!(
        "restored {} from commit {} of {database} (snapshot {:.8}), captured {}\n  wrote   {} in {seconds:.1} s ({rate}/s){resumed}{in_place}\n  blake3  {}  (as captured)\n  SQLite  {}\n",
        to.display(),
        state.commit,
        state.snapshot.to_string(),
        time::local(state.captured),
        output::bytes(summary.bytes),
        summary.root,
        if summary.integrity_checked { "integrity_check: ok" } else { "integrity_check not run" },
    )
}
