//! `continuum hold`

use clap::Args;
use serde_json::json;

use crate::format::manifest::MAX_TEXT_BYTES;
use crate::ops::forget::{hold, release};

use super::error::{CliError, DONE};
use super::output;
use super::session::Session;

/// Options of `hold`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is held is kept until it is released, whatever policies say and whoever runs them. One that was forgotten comes back.

Examples:
  continuum -r /backup/repo hold 1a2b3c4d --reason \"litigation 2026-117\"
  continuum -r /backup/repo hold --release 1a2b3c4d")]
pub struct HoldArguments {
    /// A snapshot's id or the beginning of it
    snapshot: String,
    /// Why; `continuum snapshots` shows it
    #[arg(long, value_name = "TEXT", conflicts_with = "release")]
    reason: Option<String>,
    /// Let it be forgotten again
    #[arg(long)]
    release: bool,
}

/// Holds or releases a snapshot.
pub fn run(session: &Session, arguments: &HoldArguments) -> Result<u8, CliError> {
    let reason = arguments.reason.as_deref().unwrap_or_default();
    if reason.len() > MAX_TEXT_BYTES {
        return Err(CliError::usage(format!("--reason has more than {MAX_TEXT_BYTES} bytes")));
    }
    let repository = session.open()?;
    let prefix = arguments.snapshot.to_ascii_lowercase();
    let is_held = !arguments.release;
    let changed = if is_held { hold(&repository, &prefix, reason)? } else { release(&repository, &prefix)? };
    if session.json() {
        session.print_json(
            "continuum.hold/1",
            json!({
                "id": changed.id.to_string(),
                "database": changed.database,
                "held": is_held.then_some(reason),
                "came_back": changed.came_back,
            }),
        );
    } else if !session.quiet() {
        let word = if is_held { "held" } else { "released" };
        let back = if changed.came_back { "; it was forgotten, and is a restore point again" } else { "" };
        output::line(format!("{word} {:.8} of {}{back}", changed.id.to_string(), changed.database));
    }
    Ok(DONE)
}
