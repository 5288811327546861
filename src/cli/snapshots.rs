//! `continuum snapshots`

use clap::Args;
use serde_json::{Value, json};

use crate::ops::snapshots::{Snapshot, snapshots_and_forgotten};
use crate::repo::Fault;
use crate::repo::standing::Standing;
use crate::repo::verifications::{self, Verifications, Verified};

use super::error::{CliError, DAMAGE, DONE};
use super::rows::shown;
use super::session::Session;
use super::{output, time};

/// Options of `snapshots`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  continuum -r /backup/repo snapshots --name orders
  continuum -r /backup/repo snapshots --forgotten")]
pub struct SnapshotsArguments {
    /// Only those of the database of this name
    #[arg(long)]
    name: Option<String>,
    /// Only those with this tag
    #[arg(long)]
    tag: Option<String>,
    /// List those that are forgotten, too, and until when they can be brought back
    #[arg(long)]
    forgotten: bool,
}

/// Lists snapshots. Damaged timeline entries are named, and make the command end with 3.
pub fn run(session: &Session, arguments: SnapshotsArguments) -> Result<u8, CliError> {
    let repository = session.open()?;
    let (mut found, mut faults) = snapshots_and_forgotten(&repository, arguments.name.as_deref())?;
    found.retain(|snapshot| arguments.forgotten || snapshot.standing.forgotten.is_none());
    let (verified, wrong) = verifications::load(&repository)?;
    faults.extend(wrong);
    found.retain(|snapshot| arguments.tag.as_ref().is_none_or(|tag| snapshot.manifest.tags.contains(tag)));
    if session.json() {
        let faults: Vec<String> = faults.iter().map(Fault::describe).collect();
        let list: Vec<Value> =
            found.iter().map(|snapshot| document(snapshot, verified.of(snapshot.id, &snapshot.manifest))).collect();
        session.print_json("continuum.snapshots/1", json!({ "snapshots": list, "faults": faults }));
    } else {
        output::print(&describe(&found, &verified));
        report_faults(&faults);
    }
    Ok(if faults.is_empty() { DONE } else { DAMAGE })
}

/// Names faults on standard error.
pub fn report_faults(faults: &[Fault]) {
    for fault in faults {
        eprintln!("damage: {}", fault.describe());
    }
}

fn describe(found: &[Snapshot], verified: &Verifications) -> String {
    if found.is_empty() {
        return "no snapshots\n".to_owned();
    }
    let row = |snapshot: &Snapshot| {
        let manifest = &snapshot.manifest;
        vec![
            format!("{:.8}", snapshot.id.to_string()),
            snapshot.database.clone(),
            time::local(manifest.captured),
            manifest.strategy.to_string(),
            output::bytes(manifest.image_bytes()),
            output::bytes(manifest.added),
            manifest.host.clone(),
            verified.of(snapshot.id, &snapshot.manifest).map(describe_verified).unwrap_or_default(),
            manifest.tags.join(", "),
            describe_standing(snapshot),
        ]
    };
    let mut rows: Vec<Vec<String>> = found.iter().map(row).collect();
    let mut header = vec!["id", "database", "captured", "strategy", "size", "added", "host", "verified", "tags"];
    if found.iter().any(|snapshot| snapshot.is_damaged || snapshot.standing != Standing::default()) {
        header.push("standing");
    } else {
        rows.iter_mut().for_each(|row| row.truncate(header.len()));
    }
    output::table(&header, &rows, &[4, 5])
}

/// Whether a snapshot is damaged, forgotten or held.
fn describe_standing(Snapshot { standing, is_damaged, .. }: &Snapshot) -> String {
    let standing = match (standing.forgotten, &standing.held) {
        (Some(until), _) => Some(format!("forgotten, kept until {}", time::local(until))),
        (None, Some(reason)) if reason.is_empty() => Some("held".to_owned()),
        (None, Some(reason)) => Some(format!("held: {}", shown(reason))),
        (None, None) => None,
    };
    let damaged = is_damaged.then(|| "DAMAGED".to_owned());
    damaged.into_iter().chain(standing).collect::<Vec<_>>().join(", ")
}

/// When and how a snapshot was proved.
fn describe_verified(verified: &Verified) -> String {
    let Verified { recorded, record } = verified;
    let when = time::local(*recorded);
    match (record.is_passed(), record.restore_micros) {
        (false, _) => format!("FAILED {when}"),
        (true, Some(_)) => format!("{when} restored"),
        (true, None) => when,
    }
}

fn document(snapshot: &Snapshot, verified: Option<&Verified>) -> Value {
    let manifest = &snapshot.manifest;
    json!({
        "id": snapshot.id.to_string(),
        "database": snapshot.database,
        "sequence": snapshot.sequence,
        "strategy": manifest.strategy.to_string(),
        "captured": time::utc(manifest.captured),
        "host": manifest.host,
        "source": manifest.source,
        "tags": manifest.tags,
        "tool": manifest.tool,
        "journal_mode": manifest.journal_mode,
        "page_size": manifest.page_size,
        "page_count": manifest.page_count,
        "forgotten_until": snapshot.standing.forgotten.map(time::utc),
        "held": snapshot.standing.held,
        "damaged": snapshot.is_damaged,
        "image_bytes": manifest.image_bytes(),
        "blake3": manifest.root.to_string(),
        "added_bytes": manifest.added,
        "verified": verified.map(|Verified { recorded, record }| {
            let mut document = super::verify::document(record);
            document["recorded"] = time::utc(*recorded).into();
            document
        }),
    })
}
