//! `continuum log`

use clap::Args;
use serde_json::{Value, json};

use crate::ops::points::{self, Point};
use crate::ops::snapshots::snapshots;
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::index::Index;
use crate::repo::{Fault, RepositoryError};

use super::error::{CliError, DAMAGE, DONE};
use super::session::Session;
use super::snapshots::report_faults;
use super::{output, time};

/// Options of `log`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every line is a state that `continuum restore --commit N` brings back.

Examples:
  continuum -r /backup/repo log orders
  continuum -r /backup/repo log orders --since \"1 hour ago\"
  continuum -r /backup/repo log orders --since 2026-11-23 --snapshots")]
pub struct LogArguments {
    /// The database's name in the repository [default: all]
    #[arg(value_name = "DATABASE")]
    name: Option<String>,
    /// Only those captured then or later: a time, a date, or like "10 minutes ago"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Leave out commits between snapshots
    #[arg(long)]
    snapshots: bool,
}

/// Lists restore points.
pub fn run(session: &Session, arguments: &LogArguments) -> Result<u8, CliError> {
    let repository = session.open()?;
    let now = repository.environment().clock.now();
    let since = arguments.since.as_deref().map(|text| time::parse(text, now)).transpose().map_err(CliError::usage)?;
    let monitor = session.monitor();
    let (found, faults) = snapshots(&repository, arguments.name.as_deref())?;
    if found.is_empty()
        && let Some(name) = &arguments.name
        && faults.is_empty()
    {
        return Err(CliError::failed(format!("no snapshot of a database named {name:?}"))
            .with_hint("`continuum snapshots` lists what is there"));
    }
    let index = Index::load_reporting(&repository, &monitor).map_err(RepositoryError::from)?;
    let reader = ChunkReader::new(&repository, &index);
    let mut listed = points::list(&reader, found)?;
    listed.retain(|point| match point {
        Point::Snapshot(snapshot) => since.is_none_or(|since| snapshot.manifest.captured >= since),
        Point::Commit { step, .. } => !arguments.snapshots && since.is_none_or(|since| step.state.captured >= since),
    });
    if session.json() {
        let faults: Vec<String> = faults.iter().map(Fault::describe).collect();
        let points: Vec<Value> = listed.iter().map(document).collect();
        session.print_json("continuum.log/1", json!({ "points": points, "faults": faults }));
    } else {
        output::print(&describe(&listed));
        report_faults(&faults);
    }
    Ok(if faults.is_empty() { DONE } else { DAMAGE })
}

fn describe(listed: &[Point]) -> String {
    if listed.is_empty() {
        return "no restore points\n".to_owned();
    }
    let row = |point: &Point| match point {
        Point::Snapshot(snapshot) => {
            let manifest = &snapshot.manifest;
            vec![
                manifest.commit.to_string(),
                time::local_millis(manifest.captured),
                snapshot.database.clone(),
                format!("{:.8}", snapshot.id.to_string()),
                manifest.strategy.to_string(),
                String::new(),
                output::bytes(manifest.added),
                manifest.tags.join(", "),
            ]
        }
        Point::Commit { database, step } => vec![
            step.state.commit.to_string(),
            time::local_millis(step.state.captured),
            database.clone(),
            String::new(),
            "commit".to_owned(),
            step.pages.to_string(),
            output::bytes(step.bytes),
            String::new(),
        ],
    };
    let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
    let header = ["commit", "captured", "database", "snapshot", "kind", "pages", "bytes", "tags"];
    output::table(&header, &rows, &[0, 5, 6])
}

fn document(point: &Point) -> Value {
    match point {
        Point::Snapshot(snapshot) => {
            let manifest = &snapshot.manifest;
            json!({
                "commit": manifest.commit,
                "captured": time::utc(manifest.captured),
                "database": snapshot.database,
                "kind": manifest.strategy.to_string(),
                "snapshot": snapshot.id.to_string(),
                "lineage": manifest.lineage,
                "page_count": manifest.page_count,
                "blake3": manifest.root.to_string(),
                "bytes": manifest.added,
                "tags": manifest.tags,
            })
        }
        Point::Commit { database, step } => json!({
            "commit": step.state.commit,
            "captured": time::utc(step.state.captured),
            "database": database,
            "kind": "commit",
            "page_count": step.state.page_count,
            "blake3": step.state.root.to_string(),
            "pages": step.pages,
            "bytes": step.bytes,
        }),
    }
}
