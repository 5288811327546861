//! `continuum compact`

use clap::Args;
use serde_json::json;

use crate::ops::compact::compact;
use crate::repo::chunk_writer::EncodeOptions;

use super::error::{CliError, DONE};
use super::output;
use super::session::{self, Session};

/// Options of `compact`.
#[derive(Debug, Args)]
#[command(after_help = "\
The database itself is not needed. Nothing is deleted: earlier restore points stay.

Examples:
  continuum -r /backup/repo compact orders
  continuum -r /backup/repo compact orders --full")]
pub struct CompactArguments {
    /// The database's name in the repository
    #[arg(value_name = "DATABASE")]
    name: String,
    /// Fold everything into a new image (a synthetic full)
    #[arg(long)]
    full: bool,
}

/// Folds layers.
pub fn run(session: &Session, arguments: &CompactArguments) -> Result<u8, CliError> {
    let repository = session.open()?;
    let encode = EncodeOptions::default();
    let summary = compact(&repository, &arguments.name, arguments.full, &session::host(), encode, &session.monitor())?;
    let Some(summary) = summary else {
        return Err(CliError::failed(format!("no snapshot of a database named {:?}", arguments.name))
            .with_hint("`continuum snapshots` lists what is there"));
    };
    if session.json() {
        session.print_json(
            "continuum.compact/1",
            json!({
                "id": summary.id.map(|id| id.to_string()),
                "layers_before": summary.layers_before,
                "layers_after": summary.layers_after,
                "new_pack_bytes": summary.written.pack_bytes,
            }),
        );
    } else if !session.quiet() {
        output::line(match summary.id {
            Some(id) => format!(
                "folded {} into {} as snapshot {:.8}; {} new",
                output::plural(summary.layers_before as u64, "layer"),
                summary.layers_after,
                id.to_string(),
                output::bytes(summary.written.pack_bytes),
            ),
            None => format!("nothing to fold: {}", output::plural(summary.layers_before as u64, "layer")),
        });
    }
    Ok(DONE)
}
