//! `continuum watch`

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::chunk::codec::Compression;
use crate::daemon::watch::{DatabaseOptions, DatabaseStatus, Status, WatchOptions, watch};
use crate::ops::snapshot::{Choice, SnapshotOptions};
use crate::repo::Repository;
use crate::repo::chunk_writer::EncodeOptions;
use crate::source::CaptureOptions;

use super::databases::{self, ListedDatabase};
use super::error::{CliError, DONE, FAILED};
use super::session::{self, Session};
use super::{output, status, time};

/// Options of `watch`.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs until Ctrl-C or SIGTERM; then everything that was committed before is stored. In WAL mode every commit becomes a restore point, durable in the repository \
within the flush interval and a moment; the application is never waited for and never waits. A database in another journal mode is compared when \
its file has changed. `continuum status` in another terminal shows how far each database is.

Without a DATABASE, those of the configuration file are watched; its keys are the options here:
  [watch]
  flush-interval = 0.2
  [[database]]
  path = \"/var/lib/app/orders.db\"
  name = \"orders\"          # optional

Examples:
  continuum -r /backup/repo watch /var/lib/app/orders.db
  continuum -r /backup/repo watch --flush-interval 0.2 *.db
  continuum watch                  # repository and databases from the configuration file")]
pub struct WatchArguments {
    /// Database files; they may appear later [default: those that the configuration file lists]
    #[arg(value_name = "DATABASE")]
    databases: Vec<PathBuf>,
    /// Name of the database in the repository, if only one is given [default: the file's stem]
    #[arg(long)]
    name: Option<String>,
    /// Store commits at most so often, all databases' together, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5, value_parser = seconds)]
    flush_interval: f64,
    /// Fold commits into packs so often, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300.0, value_parser = seconds)]
    fold_interval: f64,
    /// … or when so many MiB of them wait
    #[arg(long, value_name = "MIB", default_value_t = 16)]
    fold_size: u64,
    /// Run passive checkpoints when a WAL is longer than so many MiB; readers and writers never wait for them
    #[arg(long, value_name = "MIB", default_value_t = 4)]
    wal_limit: u64,
    /// Let the databases go when so many MiB wait for the repository
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    spool_limit: u64,
    /// Compare a database that is not in WAL mode at most so often, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    scan_interval: f64,
    /// Go on although a watcher on another machine did not end; its later commits are ignored
    #[arg(long)]
    take_over: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("0.01 to 86400 seconds expected".to_owned()),
    }
}

impl WatchArguments {
    fn plan(&self, listed: &[ListedDatabase]) -> Result<Vec<DatabaseOptions>, CliError> {
        let chosen = databases::chosen(&self.databases, self.name.as_deref(), listed)?;
        Ok(chosen.into_iter().map(|(path, name)| self.options(path, name)).collect())
    }

    fn options(&self, path: PathBuf, name: String) -> DatabaseOptions {
        DatabaseOptions {
            path,
            snapshot: SnapshotOptions {
                name,
                choice: Choice::Auto,
                tags: Vec::new(),
                host: session::host(),
                compression: Compression::default(),
                verify: true,
                capture: CaptureOptions { busy_timeout: Duration::from_secs(2) },
                take_over: self.take_over,
            },
            wal_limit_bytes: self.wal_limit << 20,
            scan_interval: Duration::from_secs_f64(self.scan_interval),
        }
    }
}

/// Descriptors that a followed database takes: the file, its WAL and WAL index for each of up to three connections and for ourselves, the page map and
/// the lock on its memory. About nine were counted.
const DESCRIPTORS_A_DATABASE: u64 = 12;

/// Descriptors that the repository, the local state and the terminal need.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Makes sure that every database can be opened with descriptors to spare: without them, nothing could be stored either.
fn reserve_descriptors(database_count: usize) -> Result<(), CliError> {
    let needed = DESCRIPTORS_RESERVED + DESCRIPTORS_A_DATABASE * database_count as u64;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    limit.current = limit.maximum;
    let raised = setrlimit(Resource::Nofile, limit);
    if raised.is_ok() && limit.maximum.is_none_or(|maximum| maximum >= needed) {
        return Ok(());
    }
    let message = format!("{database_count} databases need {needed} open files, more than this process may have");
    Err(CliError::failed(message)
        .with_hint(format!("raise the limit (`ulimit -n {needed}`, LimitNOFILE= in systemd), or use several watchers")))
}

/// Watches until told to stop.
pub fn run(session: &Session, arguments: &WatchArguments, listed: &[ListedDatabase]) -> Result<u8, CliError> {
    let plan = arguments.plan(listed)?;
    reserve_descriptors(plan.len())?;
    let repository = session.open()?;
    let options = WatchOptions {
        flush_interval: Duration::from_secs_f64(arguments.flush_interval),
        fold_interval: Duration::from_secs_f64(arguments.fold_interval),
        fold_bytes: arguments.fold_size << 20,
        spool_bytes: arguments.spool_limit << 20,
        encode: EncodeOptions::default(),
    };
    let monitor = session.monitor();
    let line = status::Line::new(!session.json() && !session.quiet());
    let started = time::utc(repository.environment().clock.now());
    let whereabouts = session.whereabouts()?;
    let mut kept = Kept { repository: &repository, whereabouts, started, last: None, unchanged: 0 };
    let ended = watch(&repository, plan, options, &monitor, &mut |status| {
        line.show(status);
        kept.keep(status);
    });
    line.clear();
    kept.remove();
    let status = ended?;
    if session.json() {
        session.print_json("continuum.watch/1", status::document(&status));
    } else if !session.quiet() {
        let commits = status.databases.iter().map(|database| database.commit_count).sum();
        output::line(format!(
            "stopped: {} captured, all stored; {} of journal in {}, {}",
            output::plural(commits, "commit"),
            output::bytes(status.flushed_bytes),
            output::plural(status.flush_count, "object"),
            output::plural(status.fold_count, "fold"),
        ));
    }
    // A database that is not there is no failure, one that is there and could not be captured is.
    let behind = |database: &DatabaseStatus| database.activity == "waiting" && Path::new(&database.path).exists();
    Ok(if status.databases.iter().any(behind) { FAILED } else { DONE })
}

/// Keeps the status in the local state, for `continuum status`.
struct Kept<'a> {
    repository: &'a Repository,
    whereabouts: String,
    started: String,
    last: Option<(String, Value)>,
    unchanged: u32,
}

/// An unchanged status is written again after so many reports, to show that the watcher lives.
const KEEP_ALIVE_REPORTS: u32 = 5;

impl Kept<'_> {
    fn keep(&mut self, status: &Status) {
        let Some(state) = &self.repository.environment().state else { return };
        let document = status::document(status);
        self.unchanged += 1;
        if self.last.as_ref().is_some_and(|(_, last)| *last == document) && self.unchanged < KEEP_ALIVE_REPORTS {
            return;
        }
        self.unchanged = 0;
        let name = status::file_name(self.repository, &status.writer.to_string());
        let now = time::utc(self.repository.environment().clock.now());
        let whole = json!({
            "location": self.whereabouts, "pid": std::process::id(), "host": session::host(), "started": self.started, "updated": now, "status": document,
        });
        // A status that cannot be kept is no reason to stop.
        let _ = state.write(&name, whole.to_string().as_bytes());
        self.last = Some((name, document));
    }

    fn remove(&self) {
        if let (Some(state), Some((name, _))) = (&self.repository.environment().state, &self.last) {
            let _ = state.remove(name);
        }
    }
}
