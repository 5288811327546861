//! `continuum stats`

use serde_json::json;

use crate::ops::stats::{DatabaseStats, stats};

use super::error::{CliError, DAMAGE, DONE};
use super::output;
use super::session::Session;
use super::snapshots::report_faults;

/// Counts what the repository holds.
pub fn run(session: &Session) -> Result<u8, CliError> {
    let repository = session.open()?;
    let stats = stats(&repository)?;
    let ratio = stats.stored_bytes() as f64 / stats.image_bytes().max(1) as f64;
    if session.json() {
        let database = |database: &DatabaseStats| {
            json!({
                "name": database.name,
                "snapshots": database.snapshot_count,
                "image_bytes": database.image_bytes,
                "latest_bytes": database.latest_bytes,
            })
        };
        session.print_json(
            "continuum.stats/1",
            json!({
                "databases": stats.databases.iter().map(database).collect::<Vec<_>>(),
                "chunks": stats.chunk_count,
                "packs": stats.pack_count,
                "pack_bytes": stats.pack_bytes,
                "index_bytes": stats.index_bytes,
                "timeline_bytes": stats.timeline_bytes,
                "journal_bytes": stats.journal_bytes,
                "stored_bytes": stats.stored_bytes(),
                "image_bytes": stats.image_bytes(),
            }),
        );
    } else {
        report_faults(&stats.faults);
        let row = |database: &DatabaseStats| {
            vec![
                database.name.clone(),
                output::count(database.snapshot_count as u64),
                output::bytes(database.latest_bytes),
                output::bytes(database.image_bytes),
            ]
        };
        let rows: Vec<Vec<String>> = stats.databases.iter().map(row).collect();
        output::print(&output::table(&["database", "snapshots", "latest", "all snapshots"], &rows, &[1, 2, 3]));
        output::line(format!(
            "\nstored: {} ({:.1} % of all snapshots): {} in {}, index {}, timelines {}, journals {}",
            output::bytes(stats.stored_bytes()),
            100.0 * ratio,
            output::plural(stats.chunk_count as u64, "chunk"),
            output::plural(stats.pack_count as u64, "pack"),
            output::bytes(stats.index_bytes),
            output::bytes(stats.timeline_bytes),
            output::bytes(stats.journal_bytes),
        ));
    }
    Ok(if stats.faults.is_empty() { DONE } else { DAMAGE })
}
