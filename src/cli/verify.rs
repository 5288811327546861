//! `continuum verify`

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueHint};
use serde_json::{Value, json};

use crate::base::clock::{SystemTimer, Timer};
use crate::base::id::to_hex;
use crate::format::verification::{Outcome, Record, Verification};
use crate::monitor::{Event, Monitor};
use crate::ops::snapshots::{SelectError, Snapshot, select_snapshot, snapshots};
use crate::ops::verify::{VerifyOptions, verify};
use crate::repo::chunk_cache::ChunkCache;
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::index::Index;
use crate::repo::verifications::{self, Verifications};
use crate::repo::{Fault, Repository, RepositoryError, TOOL};

use super::error::{CliError, DAMAGE, DONE};
use super::query::CACHE_BYTES;
use super::session::{self, Session};
use super::units::{self, Bytes};
use super::{output, time};

/// So many results are kept by one object.
const BATCH: usize = 1000;

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads every page and compares the hash, parses the schema, looks at random rows and their indexes, and runs SQLite's own checks, without restoring.
The result is kept in the repository; `continuum snapshots` shows it. Ends with 3 if a snapshot failed.

Examples:
  continuum -r /backup/repo verify                    # the newest snapshot of each database
  continuum -r /backup/repo verify --since 24h
  continuum -r /backup/repo verify 1a2b3c4d --sha256
  continuum -r /backup/repo verify --restore          # measure the recovery time, too")]
pub struct VerifyArguments {
    /// A snapshot's id or the beginning of it [default: the newest of each database]
    #[arg(conflicts_with_all = ["since", "all"])]
    snapshot: Option<String>,
    /// Those that were captured then or later: a time, a date, or like "24h"
    #[arg(long, value_name = "TIME", conflicts_with = "all")]
    since: Option<String>,
    /// All snapshots
    #[arg(long)]
    all: bool,
    /// Leave out those that were verified and passed
    #[arg(long)]
    unverified: bool,
    /// Only those of the database of this name
    #[arg(long)]
    name: Option<String>,
    /// Compute SHA-256 of the image, too
    #[arg(long)]
    sha256: bool,
    /// Restore into a scratch folder, and measure how long that takes
    #[arg(long)]
    restore: bool,
    /// Where the scratch folder is made [default: the system's folder for temporary files]
    #[arg(long, value_name = "FOLDER", requires = "restore", value_hint = ValueHint::DirPath)]
    scratch: Option<PathBuf>,
    /// Rows of each table that are looked at
    #[arg(long, value_name = "ROWS", default_value_t = 20)]
    sample: u32,
    /// How much memory SQLite may take
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, default_value = "256MiB")]
    memory_limit: Bytes,
    /// Do not keep the result in the repository
    #[arg(long)]
    no_record: bool,
}

/// Verifies snapshots.
pub fn run(session: &Session, arguments: &VerifyArguments) -> Result<u8, CliError> {
    let repository = session.open()?;
    let monitor = session.monitor();
    let (found, faults) = snapshots(&repository, arguments.name.as_deref())?;
    Fault::report(faults, &monitor);
    let (known, faults) = verifications::load(&repository)?;
    Fault::report(faults, &monitor);
    let chosen = choose(&repository, arguments, &found, &known)?;
    let index = Index::load_reporting(&repository, &monitor).map_err(RepositoryError::from)?;
    let cache = ChunkCache::new(ChunkReader::new(&repository, &index), CACHE_BYTES);
    let options = VerifyOptions {
        sample_rows: arguments.sample,
        sha256: arguments.sha256,
        restore_in: arguments.restore.then(|| arguments.scratch.clone().unwrap_or_else(std::env::temp_dir)),
        memory_bytes: arguments.memory_limit.0,
    };
    let timer: Arc<dyn Timer> = Arc::new(SystemTimer::default());
    let mut records: Vec<Record> = Vec::new();
    for snapshot in &chosen {
        let passed = |other: &&Snapshot| {
            let now = records.iter().any(|record| record.snapshot == other.id && record.is_passed());
            now || known.is_passed(other.id, &other.manifest)
        };
        let earlier = found.iter().rev().filter(|other| other.database == snapshot.database);
        let previous = earlier.skip_while(|other| other.id != snapshot.id).skip(1).find(passed);
        let record = verify(&cache, snapshot, previous, &options, Arc::clone(&timer), Arc::clone(&monitor) as _)?;
        if !session.json() && (!session.quiet() || !record.is_passed()) {
            output::print(&describe(&record));
        }
        records.push(record);
    }
    if !arguments.no_record {
        store(&repository, &records)?;
    }
    let failed = records.iter().filter(|record| !record.is_passed()).count();
    if session.json() {
        let records: Vec<Value> = records.iter().map(document).collect();
        session.print_json(
            "continuum.verify/1",
            json!({ "verified": records, "failed": failed, "recorded": !arguments.no_record }),
        );
    } else if chosen.is_empty() {
        monitor.event(Event::Notice("nothing to verify".to_owned()));
    } else if !session.quiet() && chosen.len() > 1 {
        output::line(format!("{} verified, {failed} failed", output::plural(chosen.len() as u64, "snapshot")));
    }
    Ok(if failed == 0 { DONE } else { DAMAGE })
}

/// Keeps results, a bounded number in each object.
fn store(repository: &Repository, records: &[Record]) -> Result<(), RepositoryError> {
    for records in records.chunks(BATCH) {
        let recorded = repository.environment().clock.now();
        let (host, tool) = (session::host(), TOOL.to_owned());
        verifications::store(repository, &Verification { recorded, host, tool, records: records.to_vec() })?;
    }
    Ok(())
}

/// The snapshots to verify, oldest first, for each is compared with the one before.
fn choose(
    repository: &Repository,
    arguments: &VerifyArguments,
    found: &[Snapshot],
    known: &Verifications,
) -> Result<Vec<Snapshot>, CliError> {
    if let Some(prefix) = arguments.snapshot.as_deref().filter(|prefix| *prefix != "latest") {
        return Ok(vec![select_snapshot(found.to_vec(), &prefix.to_ascii_lowercase())?]);
    }
    if found.is_empty() {
        return Err(SelectError::None(arguments.name.clone()).into());
    }
    let now = repository.environment().clock.now();
    let since = arguments.since.as_deref().map(|text| time::parse(text, now)).transpose();
    let since = since.map_err(|error| CliError::usage(format!("--since {error}")))?;
    let is_newest = |at: usize| found.get(at + 1).is_none_or(|next| next.database != found[at].database);
    let is_wanted = |&(at, snapshot): &(usize, &Snapshot)| match since {
        _ if arguments.unverified && known.is_passed(snapshot.id, &snapshot.manifest) => false,
        Some(since) => snapshot.manifest.captured >= since,
        None => arguments.all || is_newest(at),
    };
    Ok(found.iter().enumerate().filter(is_wanted).map(|(_, snapshot)| snapshot.clone()).collect())
}

fn describe(record: &Record) -> String {
    let word = if record.is_passed() { "verified" } else { "FAILED  " };
    let mut text = format!("{word} {:.8} of {}\n", record.snapshot.to_string(), record.database);
    for check in &record.checks {
        let outcome = if check.outcome == Outcome::Failed { "FAILED".to_owned() } else { check.outcome.to_string() };
        text += &format!("  {:<9}  {outcome:<7}  {}\n", check.kind.to_string(), super::rows::shown(&check.detail));
    }
    if let Some(sha256) = &record.sha256 {
        text += &format!("  sha256     {}\n", to_hex(&sha256[..]));
    }
    text
}

/// A record for programs.
pub fn document(record: &Record) -> Value {
    let checks: Vec<Value> = record
        .checks
        .iter()
        .map(|check| json!({ "kind": check.kind.to_string(), "outcome": check.outcome.to_string(), "detail": check.detail }))
        .collect();
    json!({
        "snapshot": record.snapshot.to_string(),
        "database": record.database,
        "blake3": record.root.to_string(),
        "sha256": record.sha256.as_ref().map(|sha256| to_hex(&sha256[..])),
        "passed": record.is_passed(),
        "checks": checks,
        "restore_seconds": record.restore_micros.map(|micros| micros as f64 / 1e6),
    })
}
