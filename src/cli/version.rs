//! `continuum version`

use serde_json::json;

use crate::format::object;

use super::error::{CliError, DONE};
use super::output;
use super::session::Session;

/// Prints versions.
pub fn run(session: &Session) -> Result<u8, CliError> {
    let (program, sqlite) = (env!("CARGO_PKG_VERSION"), rusqlite::version());
    if session.json() {
        session.print_json(
            "continuum.version/1",
            json!({ "version": program, "repository_format": object::VERSION, "sqlite": sqlite }),
        );
    } else {
        output::line(format!("continuum {program} (repository format {}, SQLite {sqlite})", object::VERSION));
    }
    Ok(DONE)
}
