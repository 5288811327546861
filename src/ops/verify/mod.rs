//! Verifies that a snapshot can be relied on, and keeps the result.
//!
//! Four checks, and a fifth on request: every page is read and the image's hash compared with the manifest's; the schema parses; sampled rows hold what their columns declare and
//! stand in their indexes; SQLite's own checks pass; and a file is restored and proved. All but the last read through the VFS: nothing is written.
//!
//! # Guarantees
//! * A check that failed tells of the snapshot, not of the moment: a destination that does not answer ends the run with an error and no record.
//! * What a check could not look at, such as an index by a collation of the application, is *skipped* and said, never passed.

mod data;
mod integrity;
mod schema;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_bytes::ByteArray;
use sha2::{Digest, Sha256};

use crate::base::clock::Timer;
use crate::base::error_text::with_causes;
use crate::base::page::{PageNo, PageReader};
use crate::format::manifest::MAX_TEXT_BYTES;
use crate::format::verification::{Check, CheckKind, Outcome, Record};
use crate::monitor::{Event, Monitor, Phase};
use crate::repo::chunk_cache::ChunkCache;
use crate::repo::lazy_pages::LazyPages;
use crate::repo::stack_reader::State;
use crate::repo::{Fault, RepositoryError};

use super::query::{Database, Limits, QueryError};
use super::restore::{RestoreError, RestoreOptions, restore};
use super::snapshots::Snapshot;

/// Pages are hashed by so many bytes, and so many are read ahead.
const BATCH_BYTES: usize = 4 << 20;
/// How many faults a detail names.
const NAMED: usize = 5;

/// How to verify.
#[derive(Clone)]
pub struct VerifyOptions {
    /// Rows of each table that are looked at.
    pub sample_rows: u32,
    /// Compute SHA-256 of the image, too.
    pub sha256: bool,
    /// Where to restore to, for a moment; `None` to leave that out.
    pub restore_in: Option<PathBuf>,
    /// Bytes that SQLite may allocate.
    pub memory_bytes: u64,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The repository cannot be read for now, or the user wants to stop.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// There is no room or right to restore.
    #[error("the test restore could not be made")]
    Scratch(#[source] RestoreError),
    /// Nor a place for it.
    #[error("{}: no folder can be made there for a test restore", .path.display())]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What a check found: a text, or what is wrong.
type Found = Result<String, String>;

/// What all checks read.
struct Subject<'a> {
    cache: &'a ChunkCache,
    state: State,
    options: &'a VerifyOptions,
    timer: Arc<dyn Timer>,
    monitor: Arc<dyn Monitor>,
}

/// Verifies a snapshot. `previous` is the one verified before it, whose schema is compared.
pub fn verify(
    cache: &ChunkCache,
    snapshot: &Snapshot,
    previous: Option<&Snapshot>,
    options: &VerifyOptions,
    timer: Arc<dyn Timer>,
    monitor: Arc<dyn Monitor>,
) -> Result<Record, VerifyError> {
    let state = snapshot.state_without_journal();
    let subject = Subject { cache, state, options, timer, monitor };
    let mut record = Record {
        database: snapshot.database.clone(),
        snapshot: snapshot.id,
        root: snapshot.manifest.root,
        checks: Vec::new(),
        sha256: None,
        restore_micros: None,
    };
    let hashes = subject.hashes()?;
    record.sha256 = hashes.as_ref().ok().and_then(|(_, sha256)| *sha256).map(ByteArray::new);
    record.checks.push(check(CheckKind::Hashes, hashes.map(|(text, _)| text)));
    match subject.open() {
        Ok(database) => {
            record.checks.push(schema::check(&subject, &database, previous)?);
            record.checks.push(data::check(&subject, &database)?);
            record.checks.push(integrity::check(&database)?);
        }
        Err(error) => {
            let fault = judged::<String>(Err(error))?.err().unwrap_or_default();
            let kinds = [CheckKind::Schema, CheckKind::Data, CheckKind::Integrity];
            record.checks.extend(kinds.map(|kind| check(kind, Err(fault.clone()))));
        }
    }
    if let Some(folder) = &options.restore_in {
        let restored = subject.restore(folder)?;
        record.restore_micros = restored.as_ref().ok().map(|time| time.as_micros() as u64);
        let text = |time: Duration| format!("restored and proved in {:.1} s", time.as_secs_f64());
        record.checks.push(check(CheckKind::Restore, restored.map(text)));
    }
    Ok(record)
}

impl Subject<'_> {
    fn open(&self) -> Result<Database, QueryError> {
        self.open_state(&self.state)
    }

    fn open_state(&self, state: &State) -> Result<Database, QueryError> {
        let limits = Limits { time: None, memory_bytes: self.options.memory_bytes };
        Database::open(self.cache, state, limits, Arc::clone(&self.timer), Arc::clone(&self.monitor))
    }

    /// Reads every page; the text, and SHA-256 if it was asked for.
    fn hashes(&self) -> Result<Result<(String, Option<[u8; 32]>), String>, VerifyError> {
        let state = &self.state;
        self.monitor.event(Event::Started { phase: Phase::Verify, total_bytes: state.image_bytes() });
        let hashed = self.hash_image();
        self.monitor.event(Event::Finished);
        Ok(match hashed {
            Ok((root, sha256)) if root == state.root.0 => {
                Ok((format!("{} pages, BLAKE3 as captured", state.page_count.0), sha256))
            }
            Ok((root, _)) => Err(format!("BLAKE3 is {}, expected {}", blake3::Hash::from_bytes(root), state.root)),
            Err(error) => Err(damage(error)?),
        })
    }

    fn hash_image(&self) -> Result<([u8; 32], Option<[u8; 32]>), RepositoryError> {
        let pages = LazyPages::open(self.cache, &self.state)?;
        let page_bytes = pages.page_size().bytes();
        let (count, batch_pages) = (pages.page_count().0, (BATCH_BYTES / page_bytes) as u32);
        let (mut blake3, mut sha256) = (blake3::Hasher::new(), self.options.sha256.then(Sha256::new));
        let mut buffer = vec![0; BATCH_BYTES];
        for first in (1..=count).step_by(batch_pages as usize) {
            self.monitor.check_cancelled()?;
            let ahead = (first..first.saturating_add(3 * batch_pages).min(count + 1)).map(PageNo);
            pages.will_read(&ahead.collect::<Vec<_>>());
            let bytes = &mut buffer[..batch_pages.min(count + 1 - first) as usize * page_bytes];
            pages.read(PageNo(first), bytes)?;
            blake3.update_rayon(bytes);
            if let Some(sha256) = &mut sha256 {
                sha256.update(&*bytes);
            }
            self.monitor.event(Event::Advanced(bytes.len() as u64));
        }
        Ok((*blake3.finalize().as_bytes(), sha256.map(|sha256| sha256.finalize().into())))
    }

    /// Restores into a folder that is removed again.
    fn restore(&self, folder: &std::path::Path) -> Result<Result<Duration, String>, VerifyError> {
        let no_folder = |source| VerifyError::Folder { path: folder.to_owned(), source };
        let scratch = tempfile::Builder::new().prefix("continuum-verify-").tempdir_in(folder).map_err(no_folder)?;
        let options = RestoreOptions { force: false, integrity_check: Some(false), aside_suffix: "aside".into() };
        let started = self.timer.elapsed();
        let target = scratch.path().join("restored.db");
        match restore(self.cache.reader(), &self.state, &target, &options, &self.monitor) {
            Ok(_) => Ok(Ok(self.timer.elapsed().saturating_sub(started))),
            Err(RestoreError::Repository(error)) => Ok(Err(damage(error)?)),
            Err(RestoreError::Unfinished { source, .. }) => match *source {
                RestoreError::Repository(error) => Ok(Err(damage(error)?)),
                error @ RestoreError::WrongRoot { .. } => Ok(Err(error.to_string())),
                other => Err(VerifyError::Scratch(other)),
            },
            Err(error @ RestoreError::WrongRoot { .. }) => Ok(Err(error.to_string())),
            Err(error) => Err(VerifyError::Scratch(error)),
        }
    }
}

/// What an error says of the snapshot; passed on if it says something of the moment.
fn damage(error: RepositoryError) -> Result<String, VerifyError> {
    match error {
        RepositoryError::Fault(fault) if fault.is_damage() => Ok(fault.describe()),
        other => Err(other.into()),
    }
}

/// What a check that runs SQL found.
fn judged<T>(outcome: Result<T, QueryError>) -> Result<Result<T, String>, VerifyError> {
    Ok(match outcome {
        Ok(found) => Ok(found),
        Err(QueryError::Repository(error)) => Err(damage(error)?),
        Err(QueryError::Cancelled(cancelled)) => return Err(RepositoryError::from(cancelled).into()),
        Err(error) => Err(with_causes(&error)),
    })
}

fn check(kind: CheckKind, found: Found) -> Check {
    let (outcome, detail) = match found {
        Ok(text) => (Outcome::Passed, text),
        Err(text) => (Outcome::Failed, text),
    };
    Check { kind, outcome, detail: shortened(detail) }
}

/// Within the limit of a text in the repository.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES - 4).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text += " …";
    }
    text
}

/// Some of them, and how many there are beyond.
fn named(items: &[String]) -> String {
    let more = if items.len() > NAMED { format!(" and {} more", items.len() - NAMED) } else { String::new() };
    items[..items.len().min(NAMED)].join("; ") + &more
}

/// What passed, unless something could not be looked at for lack of the application.
fn checked_but(kind: CheckKind, text: String, foreign: &[String]) -> Check {
    if foreign.is_empty() {
        return check(kind, Ok(text));
    }
    let text = format!("{text}; not looked at, for they need the application: {}", named(foreign));
    Check { outcome: Outcome::Skipped, ..check(kind, Ok(text)) }
}

/// Whether SQLite lacks what the application brings: functions, collations, modules.
fn is_of_application(message: &str) -> bool {
    ["no such function", "no such collation", "no such module", "unsafe use of"]
        .iter()
        .any(|words| message.contains(words))
}

impl From<Fault> for VerifyError {
    fn from(fault: Fault) -> Self {
        Self::Repository(fault.into())
    }
}
