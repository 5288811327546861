//! `continuum status`, and the status line of `continuum watch`.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use crate::daemon::watch::Status;
use crate::repo::Repository;

use super::error::{CliError, DONE};
use super::output;
use super::session::{self, Session};

/// The folder of a repository's watchers in the local state.
const WATCHERS: &str = "watchers";

/// Where a watcher's status is kept in the local state.
pub fn file_name(repository: &Repository, writer: &str) -> String {
    format!("{}/{WATCHERS}/{writer}", repository.config().repository)
}

/// The status as JSON.
pub fn document(status: &Status) -> Value {
    let databases = status.databases.iter().map(|database| {
        json!({
            "name": database.name,
            "path": database.path,
            "activity": database.activity,
            "commit": database.commit,
            "acknowledged": database.acknowledged,
            "commits_captured": database.commit_count,
            "lag_commits": database.commit.map_or(0, |commit| commit.saturating_sub(database.acknowledged)),
            "lag_seconds": database.lag.as_secs_f64(),
            "wal_bytes": database.wal_bytes,
            "last_error": database.last_error,
        })
    });
    json!({
        "writer": status.writer.to_string(),
        "databases": databases.collect::<Vec<_>>(),
        "flushes": status.flush_count,
        "flushed_bytes": status.flushed_bytes,
        "folds": status.fold_count,
        "spool_bytes": status.spool_bytes,
        "destination_error": status.destination_error,
    })
}

/// Shows what this machine's watchers of the repository are doing. The repository is not opened: it may be away, which is when this is asked.
pub fn run(session: &Session) -> Result<u8, CliError> {
    let whereabouts = session.whereabouts()?;
    let Some(state) = session::environment().state else {
        return Err(CliError::failed("no place for local state, so nothing is known of watchers"));
    };
    let mut watchers: Vec<Value> = Vec::new();
    for folder in state.names("").into_iter().map(|repository| format!("{repository}/{WATCHERS}")) {
        for name in state.names(&folder) {
            let kept = state.read(&format!("{folder}/{name}")).ok().flatten();
            let watcher = kept.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            if let Some(mut watcher) = watcher.filter(|watcher| watcher["location"] == whereabouts.as_str()) {
                watcher["alive"] = is_alive(&watcher).into();
                watchers.push(watcher);
            }
        }
    }
    if session.json() {
        session.print_json("continuum.status/1", json!({ "watchers": watchers }));
    } else {
        output::print(&describe(&watchers));
    }
    Ok(DONE)
}

/// Whether the process that wrote a status is there.
fn is_alive(watcher: &Value) -> bool {
    let pid = watcher["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

fn describe(watchers: &[Value]) -> String {
    if watchers.is_empty() {
        return "no watcher of this repository on this machine\n".to_owned();
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let mut described = String::new();
    for watcher in watchers {
        let status = &watcher["status"];
        let state = if watcher["alive"] == true { "running" } else { "NOT RUNNING, it did not end cleanly" };
        described += &format!(
            "watcher {} since {}: {state}; as of {}\n  {} in {} of journal, {} wait, {}\n",
            watcher["pid"],
            text(&watcher["started"]),
            text(&watcher["updated"]),
            output::bytes(number(&status["flushed_bytes"])),
            output::plural(number(&status["flushes"]), "object"),
            output::bytes(number(&status["spool_bytes"])),
            output::plural(number(&status["folds"]), "fold"),
        );
        if let Some(error) = status["destination_error"].as_str() {
            described += &format!("  DESTINATION: {error}\n");
        }
        let databases = status["databases"].as_array().map(Vec::as_slice).unwrap_or_default();
        let row = |database: &Value| {
            vec![
                text(&database["name"]),
                text(&database["activity"]),
                database["commit"].as_u64().map(|commit| commit.to_string()).unwrap_or_default(),
                number(&database["lag_commits"]).to_string(),
                format!("{:.1} s", database["lag_seconds"].as_f64().unwrap_or_default()),
                output::bytes(number(&database["wal_bytes"])),
                text(&database["last_error"]),
            ]
        };
        let rows: Vec<Vec<String>> = databases.iter().map(row).collect();
        let header = ["database", "activity", "commit", "behind", "lag", "WAL", "last error"];
        described += &output::table(&header, &rows, &[2, 3, 4, 5]);
    }
    described
}

/// One line on a terminal, written over each time.
pub struct Line {
    shown: bool,
}

impl Line {
    /// A line, if it is wanted and standard error is a terminal.
    pub fn new(wanted: bool) -> Self {
        Self { shown: wanted && std::io::stderr().is_terminal() }
    }

    /// Shows a status.
    pub fn show(&self, status: &Status) {
        if !self.shown {
            return;
        }
        let following = status.databases.iter().filter(|database| database.activity != "waiting").count();
        let commits: u64 = status.databases.iter().map(|database| database.commit_count).sum();
        let lag = status.databases.iter().map(|database| database.lag.as_secs_f64()).fold(0.0, f64::max);
        let text = format!(
            "{following} of {} · {} · lag {lag:.1} s · {} waiting",
            output::plural(status.databases.len() as u64, "database"),
            output::plural(commits, "commit"),
            output::bytes(status.spool_bytes),
        );
        let _ = write!(std::io::stderr(), "\r\x1b[2K{text}");
    }

    /// Removes the line.
    pub fn clear(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}
