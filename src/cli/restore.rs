//! `continuum restore`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::monitor::{Event, Monitor};
use crate::ops::restore::{RestoreOptions, restore};
use crate::ops::snapshots::{Selector, Snapshot, select, snapshots};
use crate::repo::{Fault, Repository, RepositoryError};

use super::error::{CliError, DONE};
use super::session::Session;
use super::{output, time};

/// Options of `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file is written beside the target, compared with the snapshot's BLAKE3 hash, synced, and only then gets the target's name.

Examples:
  continuum -r /backup/repo restore latest --to /tmp/orders.db
  continuum -r /backup/repo restore 1a2b3c4d --to ./orders.db --force
  b3sum /tmp/orders.db       # prints the hash that restore printed")]
pub struct RestoreArguments {
    /// A snapshot's id or the beginning of it, or `latest`
    #[arg(default_value = "latest")]
    snapshot: String,
    /// The file to restore to
    #[arg(long, value_name = "PATH")]
    to: PathBuf,
    /// The database's name, where the repository holds several
    #[arg(long)]
    name: Option<String>,
    /// Set aside what stands at the target (renamed, not deleted)
    #[arg(long)]
    force: bool,
    /// Run SQLite's integrity check on the result [default: up to 1 GiB]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    integrity_check: Option<bool>,
}

/// Restores a snapshot.
pub fn run(session: &Session, arguments: RestoreArguments) -> Result<u8, CliError> {
    let repository = session.open()?;
    let monitor = session.monitor();
    let snapshot = find(&repository, &arguments, &monitor)?;
    let options = RestoreOptions {
        force: arguments.force,
        integrity_check: arguments.integrity_check,
        aside_suffix: format!("replaced-{}", time::compact(repository.environment().clock.now())),
    };
    let before_s = session.elapsed_s();
    let summary = restore(&repository, &snapshot, &arguments.to, &options, &monitor)?;
    let seconds = session.elapsed_s() - before_s;
    if session.json() {
        let aside = summary
            .set_aside
            .iter()
            .map(|(from, to)| json!({ "from": from.display().to_string(), "to": to.display().to_string() }));
        session.print_json(
            "continuum.restore/1",
            json!({
                "snapshot": snapshot.id.to_string(),
                "database": snapshot.database,
                "captured": time::utc(snapshot.manifest.captured),
                "target": arguments.to.display().to_string(),
                "bytes": summary.bytes,
                "blake3": summary.root.to_string(),
                "integrity_checked": summary.integrity_checked,
                "set_aside": aside.collect::<Vec<_>>(),
                "seconds": seconds,
            }),
        );
    } else if !session.quiet() {
        for (from, to) in &summary.set_aside {
            output::line(format!("set aside {} as {}", from.display(), to.display()));
        }
        let rate = output::bytes((summary.bytes as f64 / seconds.max(1e-3)) as u64);
        output::line(format!(
            "restored {} from snapshot {:.8} of {}, captured {}\n  wrote   {} in {seconds:.1} s ({rate}/s)\n  blake3  {}  (as captured)\n  SQLite  {}",
            arguments.to.display(),
            snapshot.id.to_string(),
            snapshot.database,
            time::local(snapshot.manifest.captured),
            output::bytes(summary.bytes),
            summary.root,
            if summary.integrity_checked { "integrity_check: ok" } else { "integrity_check not run" },
        ));
    }
    Ok(DONE)
}

/// Damage elsewhere in the timelines is said and does not keep a snapshot from being restored by its id. `latest` is refused: a newer one may be missing.
fn find(repository: &Repository, arguments: &RestoreArguments, monitor: &dyn Monitor) -> Result<Snapshot, CliError> {
    let selector = match arguments.snapshot.as_str() {
        "latest" => Selector::Latest,
        prefix => Selector::Prefix(prefix.to_ascii_lowercase()),
    };
    let (found, mut faults) = snapshots(repository, arguments.name.as_deref())?;
    if selector == Selector::Latest && !faults.is_empty() {
        let error = CliError::from(RepositoryError::from(faults.remove(0)));
        return Err(error.with_hint(
            "the timeline is damaged, so the latest snapshot may be missing: choose one that `continuum snapshots` lists, by its id",
        ));
    }
    for fault in faults.iter().map(Fault::describe) {
        monitor.event(Event::Notice(fault));
    }
    Ok(select(found, &selector, arguments.name.as_deref())?)
}
