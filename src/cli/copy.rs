//! `continuum copy`

use clap::Args;
use serde_json::{Value, json};

use crate::base::id::ObjectHash;
use crate::monitor::{Event, Monitor};
use crate::ops::copy::{CopyOptions, CopySummary, copy, plan_copy};
use crate::ops::snapshots::Snapshot;
use crate::repo::Fault;
use crate::repo::chunk_writer::Written;

use super::error::{CliError, DAMAGE, DONE};
use super::session::Session;
use super::{output, password, time};

/// Options of `copy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Copies have other ids, but the same hash, number, time, tags and host. Chunks are decoded, verified and encrypted with the destination's keys; what the destination \
has is not stored again, and snapshots that it has are passed over, so the command can run as a job, and goes on after an interruption.
The source is only read. The destination must exist: make it with `continuum -r DESTINATION init`.

Password of the destination: CONTINUUM_TO_PASSWORD, CONTINUUM_TO_PASSWORD_FILE or CONTINUUM_TO_PASSWORD_COMMAND; else it is asked for.

Examples:
  continuum -r /backup/repo copy --to 's3://bucket/repo'
  continuum -r /backup/repo copy --to /mnt/offsite/repo --name orders --dry-run
  continuum -r /backup/repo copy --to /mnt/offsite/repo 1a2b3c4d")]
pub struct CopyArguments {
    /// The repository to copy to; several times for several destinations of it
    #[arg(long, required = true, value_name = "PLACE")]
    to: Vec<String>,
    /// Ids of snapshots or the beginnings of ids [default: all]
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Only the snapshots of this database
    #[arg(long, value_name = "DATABASE")]
    name: Option<String>,
    /// Say what would be copied, and copy nothing
    #[arg(long)]
    dry_run: bool,
}

/// Copies snapshots.
pub fn run(session: &Session, arguments: CopyArguments) -> Result<u8, CliError> {
    let source = session.open()?;
    let destination = session.open_other(&arguments.to, password::destination)?;
    let monitor = session.monitor();
    let options = CopyOptions { snapshots: arguments.snapshots, name: arguments.name };
    let mut plan = plan_copy(&source, &destination, &options, &monitor)?;
    let (faults, present_count) = (std::mem::take(&mut plan.faults), plan.present_count);
    for fault in &faults {
        monitor.event(Event::Notice(fault.describe()));
    }
    let left_out: Vec<Value> = plan.left_out.iter().map(|snapshot| document(snapshot, None)).collect();
    let says = !session.json() && !session.quiet();
    let before_s = session.elapsed_s();
    let (snapshots, summary) = if arguments.dry_run {
        plan.copies().filter(|_| says).for_each(|snapshot| output::line(format!("would copy {}", name(snapshot))));
        (plan.copies().map(|snapshot| document(snapshot, None)).collect(), CopySummary::default())
    } else {
        let summary = copy(&source, &destination, plan, &monitor, |copied| {
            if says {
                output::line(format!("copied {} as {:.8}", name(&copied.original), copied.id.to_string()));
            }
        })?;
        let copied = summary.copied.iter();
        (copied.map(|copied| document(&copied.original, Some(copied.id))).collect::<Vec<_>>(), summary)
    };
    if session.json() {
        let faults: Vec<String> = faults.iter().map(Fault::describe).collect();
        session.print_json(
            "continuum.copy/1",
            json!({
                "destination": destination.location(),
                "dry_run": arguments.dry_run,
                "snapshots": snapshots,
                "left_out": left_out,
                "already_there": present_count,
                "read_bytes": summary.read_bytes,
                "new_chunks": summary.written.chunk_count,
                "new_packs": summary.written.pack_count,
                "new_pack_bytes": summary.written.pack_bytes,
                "new_index_bytes": summary.written.index_bytes,
                "faults": faults,
                "seconds": session.elapsed_s() - before_s,
            }),
        );
    } else if says {
        let Written { pack_bytes, pack_count, .. } = summary.written;
        output::line(format!(
            "{} to copy, {present_count} there already; {} read, {} new in {}",
            output::plural(snapshots.len() as u64, "snapshot"),
            output::bytes(summary.read_bytes),
            output::bytes(pack_bytes),
            output::plural(pack_count, "pack"),
        ));
        if !left_out.is_empty() {
            let left_out = output::plural(left_out.len() as u64, "snapshot");
            output::line(format!("{left_out} left out: the destination has later ones of the same database"));
        }
    }
    Ok(if faults.is_empty() { DONE } else { DAMAGE })
}

fn name(snapshot: &Snapshot) -> String {
    let Snapshot { id, database, manifest, .. } = snapshot;
    let (id, captured) = (id.to_string(), time::local(manifest.captured));
    format!("{id:.8} of {database} ({}): commit {}, captured {captured}", manifest.strategy, manifest.commit)
}

fn document(snapshot: &Snapshot, copy: Option<ObjectHash>) -> Value {
    let Snapshot { id, database, manifest, .. } = snapshot;
    json!({
        "id": id.to_string(),
        "copy": copy.map(|id| id.to_string()),
        "database": database,
        "commit": manifest.commit,
        "strategy": manifest.strategy.to_string(),
        "captured": time::utc(manifest.captured),
        "image_bytes": manifest.image_bytes(),
        "blake3": manifest.root.to_string(),
    })
}
