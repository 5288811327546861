//! `continuum unforget`

use clap::Args;
use serde_json::{Value, json};

use crate::format::timeline::SnapshotRef;
use crate::ops::forget::{Forgotten, unforget};

use super::error::{CliError, DONE};
use super::output;
use super::session::Session;

/// Options of `unforget`.
#[derive(Debug, Args)]
#[command(after_help = "\
`continuum snapshots --forgotten` lists what is forgotten, and until when it can surely be brought back.

Examples:
  continuum -r /backup/repo unforget 1a2b3c4d
  continuum -r /backup/repo unforget --all --name orders")]
pub struct UnforgetArguments {
    /// Ids of snapshots or the beginnings of ids
    #[arg(value_name = "SNAPSHOT", conflicts_with_all = ["all", "name"])]
    snapshots: Vec<String>,
    /// All that are forgotten
    #[arg(long)]
    all: bool,
    /// Of --all, only those of the database of this name
    #[arg(short, long, value_name = "DATABASE")]
    name: Option<String>,
}

/// Brings snapshots back.
pub fn run(session: &Session, arguments: &UnforgetArguments) -> Result<u8, CliError> {
    if arguments.snapshots.is_empty() && !arguments.all {
        return Err(CliError::usage("no snapshot named").with_hint("name one or more by their ids, or use --all"));
    }
    let repository = session.open()?;
    let prefixes: Vec<String> = arguments.snapshots.iter().map(|prefix| prefix.to_ascii_lowercase()).collect();
    // A name from the configuration file limits --all alone.
    let name = arguments.name.as_deref().filter(|_| prefixes.is_empty());
    let back = unforget(&repository, &prefixes, name)?;
    if session.json() {
        let databases: Vec<Value> = back.iter().map(document).collect();
        session.print_json("continuum.unforget/1", json!({ "databases": databases }));
    } else if !session.quiet() {
        for Forgotten { database, snapshots } in &back {
            output::line(format!("{database}: {} brought back", output::plural(snapshots.len() as u64, "snapshot")));
        }
        if back.is_empty() {
            output::line("nothing is forgotten");
        }
    }
    Ok(DONE)
}

fn document(done: &Forgotten) -> Value {
    let ids = done.snapshots.iter().map(|SnapshotRef { id, .. }| id.to_string());
    json!({ "database": done.database, "snapshots": ids.collect::<Vec<_>>() })
}
