//! What the repository holds, read again when somebody looks and what is known is old.
//!
//! # Invariants
//! * Nobody looks, nothing is asked: a mount that is not used makes no request.
//! * The repository is read at most every [`FRESH`], and at most a tenth of the time goes into it. Whoever looks meanwhile waits for at most [`PATIENCE`] and is then shown
//!   what is known.
//! * While the repository does not answer, what was known stays, that is said once, and it is asked ever less often, at least every [`MOST_PAUSE`].
//! * The index is read after the timelines: it has all that they need.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::base::clock::{Timer, UnixMicros};
use crate::base::error_text::with_causes;
use crate::base::id::ObjectHash;
use crate::monitor::{Event, Monitor};
use crate::ops::points;
use crate::ops::snapshots::{Snapshot, snapshots};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::index::Index;
use crate::repo::stack_reader::State;
use crate::repo::{Fault, Repository, RepositoryError};

use super::Times;
use super::listing::{Database, Listing, StateFile};
use super::tree::States;

/// What is known counts as new for so long.
const FRESH: Duration = Duration::from_secs(2);
/// How long somebody who looks waits for news.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest pause between two attempts at a repository that does not answer.
const MOST_PAUSE: Duration = Duration::from_secs(30);
/// Reading takes at most one part in so many of the time.
const TIME_SHARE: u32 = 10;
/// Times whose states are remembered, until there is another snapshot.
const MOST_MOMENTS: usize = 1024;
/// Notices that are not said again, until the repository was read well.
const MOST_NOTICES: usize = 256;

/// See the module documentation. A clone is the same catalog.
#[derive(Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
}

struct Shared {
    source: Source,
    monitor: Arc<dyn Monitor>,
    timer: Arc<dyn Timer>,
    known: Mutex<Known>,
    settled: Condvar,
    said: Mutex<HashSet<String>>,
}

/// Where it comes from.
pub struct Source {
    /// The repository.
    pub repository: Repository,
    /// The databases to show; all if none is named.
    pub names: Vec<String>,
    /// How times are read and written.
    pub times: Times,
}

struct Known {
    listing: Arc<Listing>,
    /// Which snapshots it shows.
    ids: HashSet<ObjectHash>,
    reader: ChunkReader,
    moments: HashMap<(String, UnixMicros), Option<Arc<StateFile>>>,
    /// Since when it is being read.
    reading_since: Option<Duration>,
    /// When it is old.
    due: Duration,
    failures: u32,
}

/// What reading gives.
struct News {
    listing: Listing,
    ids: HashSet<ObjectHash>,
    /// The index, if there are other snapshots than before.
    index: Option<Index>,
    faults: Vec<Fault>,
}

impl Catalog {
    /// Reads the repository for the first time.
    pub fn open(source: Source, monitor: Arc<dyn Monitor>, timer: Arc<dyn Timer>) -> Result<Self, RepositoryError> {
        let News { listing, ids, index, faults } = source.read(&HashSet::new(), true)?;
        let reader = ChunkReader::new(&source.repository, &index.unwrap_or_default());
        let (listing, moments, due) = (Arc::new(listing), HashMap::new(), timer.elapsed() + FRESH);
        let known = Mutex::new(Known { listing, ids, reader, moments, reading_since: None, due, failures: 0 });
        let shared = Shared { source, monitor, timer, known, settled: Condvar::new(), said: Mutex::default() };
        shared.say_faults(&faults);
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What reads the chunks of what is shown.
    pub fn reader(&self) -> ChunkReader {
        self.shared.known().reader.clone()
    }

    /// How times are read and written.
    pub fn times(&self) -> &Times {
        &self.shared.source.times
    }

    /// What there is: as it is in the repository, if that answers soon.
    pub fn listing(&self) -> Arc<Listing> {
        let Shared { timer, settled, .. } = &*self.shared;
        let mut known = self.shared.known();
        if known.reading_since.is_none() && timer.elapsed() >= known.due {
            known.reading_since = Some(timer.elapsed());
            let shared = Arc::clone(&self.shared);
            let begun = thread::Builder::new().name("catalog".to_owned()).spawn(move || shared.renew());
            if begun.is_err() {
                known.settle(timer.elapsed() + FRESH);
            }
        }
        while let Some(since) = known.reading_since {
            let Some(left) = (since + PATIENCE).checked_sub(timer.elapsed()) else { break };
            known = settled.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Arc::clone(&known.listing)
    }

    /// What there was when the repository was read last.
    pub fn known_listing(&self) -> Arc<Listing> {
        Arc::clone(&self.shared.known().listing)
    }

    /// The state that a file shows; `None` if it is not there any more.
    pub fn state(&self, file: &StateFile) -> Result<Option<State>, Fault> {
        let listing = self.known_listing();
        let Some(database) = listing.database(&file.database) else { return Ok(None) };
        let snapshot = database.snapshots.iter().find(|snapshot| snapshot.id == file.snapshot);
        let near = snapshot.and_then(|snapshot| near_state(snapshot, file.commit));
        let found = match near {
            Some(state) => Some(state),
            // A watcher's commits were folded since the file was found.
            None => points::of_commit(&self.reader(), &database.snapshots, file.commit)?,
        };
        Ok(found.filter(|state| state.root == file.root))
    }

    /// Says something that went wrong, once.
    pub fn say(&self, text: String) {
        self.shared.say(text);
    }
}

/// The state of that number, if the snapshot has it without anything being read.
fn near_state(snapshot: &Snapshot, commit: u64) -> Option<State> {
    if snapshot.manifest.commit == commit {
        return Some(snapshot.state_without_journal());
    }
    let part = snapshot.journal.iter().rfind(|part| part.state.commit == commit)?;
    Some(snapshot.state().at_step(&part.state))
}

/// Why a state cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The timeline is damaged.
    #[error("the timeline of {0} is damaged, so its newest state and those of times may be missing: use its snapshots")]
    Doubtful(String),
    /// What must be read for it cannot be read.
    #[error("a state of {database} cannot be found")]
    Repository {
        /// The database's name.
        database: String,
        /// Why.
        source: Box<Fault>,
    },
}

fn trusted<'a>(listing: &'a Listing, database: &str) -> Result<Option<&'a Database>, StateError> {
    match listing.database(database) {
        Some(found) if found.is_doubtful => Err(StateError::Doubtful(database.to_owned())),
        found => Ok(found),
    }
}

impl States for Catalog {
    type Failure = StateError;

    fn latest(&self, database: &str) -> Result<Option<Arc<StateFile>>, StateError> {
        let listing = self.listing();
        Ok(trusted(&listing, database)?.and_then(Database::latest).map(Arc::new))
    }

    fn at(&self, database: &str, text: &str) -> Result<Option<Arc<StateFile>>, StateError> {
        let now = self.shared.source.repository.environment().clock.now();
        let Some(time) = (self.times().parse)(text, now) else { return Ok(None) };
        let listing = self.listing();
        let Some(found) = trusted(&listing, database)? else { return Ok(None) };
        let key = (database.to_owned(), time);
        // A time to come means the newest, which changes.
        let is_past = time < now;
        if let Some(file) = self.shared.known().moments.get(&key).filter(|_| is_past) {
            return Ok(file.clone());
        }
        let state = points::at(&self.reader(), &found.snapshots, time);
        let state =
            state.map_err(|fault| StateError::Repository { database: database.to_owned(), source: Box::new(fault) })?;
        let file = state.map(|state| Arc::new(StateFile::of(database, &state)));
        let mut known = self.shared.known();
        if is_past && Arc::ptr_eq(&known.listing, &listing) {
            if known.moments.len() >= MOST_MOMENTS {
                known.moments.clear();
            }
            known.moments.insert(key, file.clone());
        }
        Ok(file)
    }
}

impl Known {
    fn settle(&mut self, due: Duration) {
        (self.reading_since, self.due) = (None, due);
    }
}

/// Whoever has it reads the repository. However that ends, those who wait go on.
struct Reading<'s>(&'s Shared);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut known = self.0.known();
        if known.reading_since.is_some() {
            known.settle(self.0.timer.elapsed() + MOST_PAUSE);
        }
        self.0.settled.notify_all();
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew(&self) {
        let _reading = Reading(self);
        let began = self.timer.elapsed();
        let ids = self.known().ids.clone();
        let news = self.source.read(&ids, false);
        let ended = self.timer.elapsed();
        let mut known = self.known();
        match news {
            Ok(News { listing, ids, index, faults }) => {
                if let Some(index) = index {
                    known.reader.renew(index);
                }
                (known.listing, known.ids) = (Arc::new(listing), ids);
                known.moments.clear();
                known.settle(ended + FRESH.max((ended - began) * TIME_SHARE));
                let was_away = std::mem::take(&mut known.failures) > 0;
                drop(known);
                if was_away {
                    self.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    self.monitor.event(Event::Notice("the repository answers again".to_owned()));
                }
                self.say_faults(&faults);
            }
            Err(error) => {
                known.failures += 1;
                let is_first = known.failures == 1;
                let pause = FRESH * 2u32.saturating_pow(known.failures.min(8));
                known.settle(ended + pause.min(MOST_PAUSE));
                drop(known);
                if is_first {
                    let text = format!(
                        "the repository cannot be read; what was known before is shown: {}",
                        with_causes(&error)
                    );
                    self.monitor.event(Event::Notice(text));
                }
            }
        }
    }

    fn say_faults(&self, faults: &[Fault]) {
        for fault in faults {
            self.say(format!("{}; run `continuum check`", fault.describe()));
        }
    }

    fn say(&self, text: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < MOST_NOTICES && said.insert(text.clone()) {
            self.monitor.event(Event::Notice(text));
        }
    }
}

impl Source {
    /// Reads timelines and journals, and the index if there are other snapshots than `known`.
    fn read(&self, known: &HashSet<ObjectHash>, is_first: bool) -> Result<News, RepositoryError> {
        let (found, faults) = self.snapshots()?;
        let faults = damage(faults)?;
        let doubtful = self.doubtful(&found, &faults)?;
        let ids: HashSet<ObjectHash> = found.iter().map(|snapshot| snapshot.id).collect();
        let mut faults = faults;
        let index = if is_first || ids != *known {
            let (index, more) = Index::load(&self.repository)?;
            faults.extend(damage(more)?);
            Some(index)
        } else {
            None
        };
        let listing = Listing::new(found, |name| doubtful.contains(name), &self.times);
        Ok(News { listing, ids, index, faults })
    }

    fn snapshots(&self) -> Result<(Vec<Snapshot>, Vec<Fault>), RepositoryError> {
        if let [name] = self.names.as_slice() {
            return snapshots(&self.repository, Some(name));
        }
        let (mut found, faults) = snapshots(&self.repository, None)?;
        found.retain(|snapshot| self.names.is_empty() || self.names.contains(&snapshot.database));
        Ok((found, faults))
    }

    /// The databases that faults are of: where there are any, each database is looked at by itself.
    fn doubtful(&self, found: &[Snapshot], faults: &[Fault]) -> Result<HashSet<String>, RepositoryError> {
        let mut doubtful = HashSet::new();
        if faults.is_empty() {
            return Ok(doubtful);
        }
        let names: HashSet<&String> = found.iter().map(|snapshot| &snapshot.database).collect();
        for name in names {
            if !snapshots(&self.repository, Some(name))?.1.is_empty() {
                doubtful.insert(name.clone());
            }
        }
        Ok(doubtful)
    }
}

/// Faults, unless one of them only says that the repository does not answer.
fn damage(faults: Vec<Fault>) -> Result<Vec<Fault>, RepositoryError> {
    let (damage, mut access): (Vec<Fault>, Vec<Fault>) = faults.into_iter().partition(Fault::is_damage);
    if access.is_empty() { Ok(damage) } else { Err(access.remove(0).into()) }
}
