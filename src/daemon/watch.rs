//! The loop of `watch`: capture, flush, fold, until told to stop.

use std::time::{Duration, Instant};

use crate::base::entropy::Entropy;
use crate::base::id::WriterId;
use crate::monitor::{self, Monitor};
use crate::repo::chunk_writer::EncodeOptions;
use crate::repo::{Repository, RepositoryError};

use super::database::Database;
pub use super::database::DatabaseOptions;
use super::journal::JournalWriter;

/// How often a database is looked at that had commits lately, and one that had none.
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));

/// How long a database counts as busy after a commit.
const BUSY: Duration = Duration::from_secs(2);

/// How often the status is told.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long to wait for the destination when told to stop.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// Commits become durable in the destination at most so often, all databases' together.
    pub flush_interval: Duration,
    /// The journal is folded into packs so often …
    pub fold_interval: Duration,
    /// … or when it holds so many bytes of records.
    pub fold_bytes: u64,
    /// What may wait for the destination. Beyond it the databases are let go until the destination is back.
    pub spool_bytes: u64,
    /// How chunks are encoded.
    pub encode: EncodeOptions,
}

/// What a watcher is doing.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its journal.
    pub writer: WriterId,
    /// Each database.
    pub databases: Vec<DatabaseStatus>,
    /// Objects of the journal so far.
    pub flush_count: u64,
    /// Their bytes.
    pub flushed_bytes: u64,
    /// Folds so far.
    pub fold_count: u64,
    /// Bytes that wait for the destination.
    pub spool_bytes: u64,
    /// What the destination said last, if it refused.
    pub destination_error: Option<String>,
}

/// What is known of a watched database.
#[derive(Clone, Debug)]
pub struct DatabaseStatus {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: String,
    /// "following", "scanning", "waiting".
    pub activity: &'static str,
    /// The number of the last captured state.
    pub commit: Option<u64>,
    /// The number of the last state that is durable in the destination.
    pub acknowledged: u64,
    /// Commits captured since the watcher began.
    pub commit_count: u64,
    /// How long the oldest captured commit has waited to become durable.
    pub lag: Duration,
    /// Bytes of the WAL.
    pub wal_bytes: u64,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

struct Watcher<'a> {
    repository: &'a Repository,
    options: WatchOptions,
    monitor: &'a dyn Monitor,
    writer: WriterId,
    databases: Vec<Watched>,
    journal: JournalWriter,
    flushed: Instant,
    folded: Instant,
    fold_count: u64,
}

struct Watched {
    database: Database,
    next_poll: Instant,
    busy_until: Instant,
}

/// Watches until the monitor says stop; then everything committed before is flushed and folded. `report` is told the status every second.
pub fn watch(
    repository: &Repository,
    databases: Vec<DatabaseOptions>,
    options: WatchOptions,
    monitor: &dyn Monitor,
    report: &mut dyn FnMut(&Status),
) -> Result<Status, RepositoryError> {
    let entropy: &dyn Entropy = &*repository.environment().entropy;
    let writer = WriterId(entropy.bytes());
    let now = Instant::now();
    let claim = |options| {
        let database = Database::new(repository, options, writer)?;
        Ok(Watched { database, next_poll: now, busy_until: now })
    };
    let databases = databases.into_iter().map(claim).collect::<Result<Vec<_>, RepositoryError>>()?;
    let journal = JournalWriter::new(repository, writer);
    let mut watcher =
        Watcher { repository, options, monitor, writer, databases, journal, flushed: now, folded: now, fold_count: 0 };
    let mut reported: Option<Instant> = None;
    while !monitor.is_cancelled() {
        let now = Instant::now();
        watcher.step(now);
        if reported.is_none_or(|at| now.duration_since(at) >= STATUS_INTERVAL) {
            reported = Some(now);
            report(&watcher.status());
        }
        std::thread::sleep(watcher.pause());
    }
    watcher.stop()?;
    Ok(watcher.status())
}

/// Hears everything and never says stop.
struct Unstoppable<'a>(&'a dyn Monitor);

impl Monitor for Unstoppable<'_> {
    fn event(&self, event: monitor::Event) {
        self.0.event(event);
    }
}

impl Watcher<'_> {
    fn step(&mut self, now: Instant) {
        let may_attach = self.journal.is_idle();
        for watched in &mut self.databases {
            if watched.next_poll > now {
                continue;
            }
            if watched.database.tick(self.repository, may_attach, self.monitor, now) {
                watched.busy_until = now + BUSY;
            }
            watched.next_poll = now + if watched.busy_until > now { POLL.0 } else { POLL.1 };
        }
        self.acknowledge(now);
        if now.duration_since(self.flushed) >= self.options.flush_interval {
            self.flush(now);
        }
        let unfolded: u64 = self.databases.iter().map(|watched| watched.database.unfolded_bytes()).sum();
        let due = now.duration_since(self.folded) >= self.options.fold_interval;
        // A journal that falls behind a busy writer is overtaken by a fold, which stores the same in larger objects.
        let behind = self.journal.last_error.is_none() && self.journal.waiting_bytes() > self.options.fold_bytes / 2;
        let must = behind || self.databases.iter().any(|watched| watched.database.must_fold());
        if must || (self.journal.is_idle() && (due || unfolded >= self.options.fold_bytes)) {
            self.folded = now;
            self.fold();
        }
        self.let_go(now);
    }

    fn acknowledge(&mut self, now: Instant) {
        for (name, commit) in self.journal.advance(now) {
            let named = self.databases.iter_mut().find(|watched| watched.database.name() == name);
            if let Some(Watched { database, .. }) = named {
                database.acknowledged = database.acknowledged.max(commit);
            }
        }
    }

    fn flush(&mut self, now: Instant) {
        let pending = self.databases.iter_mut().filter_map(|watched| watched.database.take_pending());
        if self.journal.write(pending) {
            self.flushed = now;
        }
        self.acknowledge(now);
    }

    /// Folds every database; the journal is deleted only if all of them were.
    fn fold(&mut self) {
        let mut all = true;
        for Watched { database, .. } in &mut self.databases {
            match database.fold(self.repository, self.options.encode, self.monitor) {
                Ok(folded) => self.fold_count += u64::from(folded),
                Err(error) => {
                    all = false;
                    let text = format!("{}: not folded: {error}", database.name());
                    if database.last_error.as_ref() != Some(&text) {
                        self.monitor.event(monitor::Event::Notice(text.clone()));
                    }
                    database.last_error = Some(text);
                    if matches!(error, RepositoryError::Fenced { .. }) {
                        database.detach(Instant::now());
                    }
                }
            }
        }
        if all && !self.databases.iter().any(|watched| watched.database.journaled) {
            self.journal.drop_waiting();
            // What cannot be deleted now is deleted at the next fold.
            let _ = self.journal.delete_folded();
        }
    }

    /// Past the bound of what may wait, the databases are let go.
    fn let_go(&mut self, now: Instant) {
        if self.journal.waiting_bytes() <= self.options.spool_bytes {
            return;
        }
        for Watched { database, next_poll, .. } in &mut self.databases {
            if database.activity() == "following" {
                let text = format!("{}: let go: too much waits for the destination", database.name());
                self.monitor.event(monitor::Event::Notice(text.clone()));
                database.last_error = Some(text);
            }
            database.detach(now + Duration::from_secs(1));
            *next_poll = now + Duration::from_secs(1);
        }
    }

    fn pause(&self) -> Duration {
        let now = Instant::now();
        let next = self.databases.iter().map(|watched| watched.next_poll).min();
        let next = next.map_or(POLL.1, |next| next.saturating_duration_since(now));
        // An object under way is waited for closely, for its acknowledgement.
        if self.journal.is_idle() { next.min(POLL.1) } else { next.min(Duration::from_millis(5)) }
    }

    fn stop(&mut self) -> Result<(), RepositoryError> {
        // The wish to stop has been heard: what is left to do is not to be interrupted by it.
        let monitor = &Unstoppable(self.monitor);
        for Watched { database, .. } in &mut self.databases {
            database.catch_up(self.repository, monitor);
        }
        let begun = Instant::now();
        self.flush(begun);
        while !self.journal.is_idle() && begun.elapsed() < STOP_WAIT {
            self.acknowledge(Instant::now());
            std::thread::sleep(Duration::from_millis(2));
        }
        for Watched { database, .. } in &mut self.databases {
            self.fold_count += u64::from(database.finish(self.repository, self.options.encode, monitor)?);
        }
        self.journal.delete_folded()?;
        for Watched { database, .. } in &mut self.databases {
            database.end(self.repository)?;
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let now = self.repository.environment().clock.now();
        let databases = self.databases.iter().map(|Watched { database, .. }| {
            let oldest = database.oldest_waiting();
            let lag = oldest.map_or(0, |oldest| now.0.saturating_sub(oldest.0).max(0));
            DatabaseStatus {
                name: database.name().to_owned(),
                path: database.path().display().to_string(),
                activity: database.activity(),
                commit: database.last_commit(),
                acknowledged: database.acknowledged,
                commit_count: database.commit_count,
                lag: Duration::from_micros(lag as u64),
                wal_bytes: database.wal_bytes(),
                last_error: database.last_error.clone(),
            }
        });
        Status {
            writer: self.writer,
            databases: databases.collect(),
            flush_count: self.journal.sent_count,
            flushed_bytes: self.journal.sent_bytes,
            fold_count: self.fold_count,
            spool_bytes: self.journal.waiting_bytes(),
            destination_error: self
                .journal
                .last_error
                .clone()
                .or_else(|| self.databases.iter().find_map(|watched| watched.database.destination_error.clone())),
        }
    }
}
