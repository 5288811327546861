//! Several destinations that hold the same objects under the same names.
//!
//! # What holds
//! * With N destinations of which `tolerate` may fail, a write is acknowledged once N − `tolerate` of them (at least one) have it durably. The others are waited for
//!   a moment longer; one that is slower or fails is *behind*: what it lacks is noted in its [`backlog`], and everything after goes there too, in order, so
//!   each destination receives objects in the order in which they were written. A thread brings it up to date once it answers again.
//! * `config` and timeline entries, whose names two writers may choose at once, go to the first destination that answers before any other, always in the same
//!   order: of two writers that see the same destinations one wins, and the loser has written nothing. Writers that see different ones may
//!   both write; the second destination then refuses, and the write ends as a [`StoreError::Conflict`] that [`crate::ops::sync`] shows. Where N − `tolerate` is a
//!   majority, at most one of the two was acknowledged.
//! * A listing is the union of all destinations that answer, and a read asks one after the other, the fastest first. Something counts as missing only if N − `tolerate`
//!   destinations answer and none has it. So whoever reads, sees everything that was acknowledged, if N − `tolerate` is a majority.
//! * A copy whose bytes are wrong is the reader's to notice: [`Store::copies`] gives it the others.

mod backlog;
mod health;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::clock::UnixMicros;
use crate::base::id::ObjectHash;
use crate::format::name::{Folder, ObjectName};
use crate::format::pack::MAX_PACK_BYTES;
use crate::monitor::{Event, Monitor};

use super::{Creation, Listed, Store, StoreError};
use backlog::{Backlog, Owed};
use health::Health;

/// How long a destination is waited for once enough others have an object.
const STRAGGLER: Duration = Duration::from_secs(2);

/// How long to wait before a destination that is behind is tried again, at first and at most.
const CATCH_UP: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// See the module documentation.
pub struct Replicas {
    shared: Arc<Shared>,
}

struct Shared {
    destinations: Vec<Destination>,
    needed: usize,
    monitor: Arc<dyn Monitor>,
}

struct Destination {
    store: Arc<dyn Store>,
    health: Health,
    backlog: Backlog,
    catching_up: AtomicBool,
}

/// How a destination is.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Where it is.
    pub location: String,
    /// Writes that it lacks, as far as this machine knows.
    pub owed: usize,
    /// What went wrong last, if it does not answer.
    pub error: Option<String>,
}

impl Replicas {
    /// The destinations, in the order of which the first decides. `state` is where their backlogs are kept, in memory if there is none.
    pub fn new(
        stores: Vec<Arc<dyn Store>>,
        tolerate: usize,
        state: Option<PathBuf>,
        monitor: Arc<dyn Monitor>,
    ) -> Self {
        let needed = stores.len().saturating_sub(tolerate).max(1);
        let destination = |store: Arc<dyn Store>| {
            let backlog = Backlog::new(state.as_deref(), &store.location());
            Destination { store, health: Health::default(), backlog, catching_up: AtomicBool::new(false) }
        };
        let destinations = stores.into_iter().map(destination).collect();
        let shared = Arc::new(Shared { destinations, needed, monitor });
        for at in 0..shared.destinations.len() {
            if !shared.destinations[at].backlog.is_empty() {
                shared.begin_catching_up(at);
            }
        }
        Self { shared }
    }

    /// Tries once to bring every destination that is behind up to date.
    pub fn catch_up(&self) {
        for at in 0..self.shared.destinations.len() {
            let destination = &self.shared.destinations[at];
            if !destination.backlog.is_empty() && !destination.catching_up.swap(true, Ordering::SeqCst) {
                let _ = self.shared.catch_up(at);
                destination.catching_up.store(false, Ordering::SeqCst);
            }
        }
    }

    /// How each destination is.
    pub fn standings(&self) -> Vec<Standing> {
        let standing = |destination: &Destination| Standing {
            location: destination.store.location(),
            owed: destination.backlog.len(),
            error: destination.health.error(),
        };
        self.shared.destinations.iter().map(standing).collect()
    }

    /// Writes to the destinations at these places, at the same time; returns once all are done, or enough and the others are late. Those that did not do it
    /// are behind then.
    fn write_to(&self, places: Vec<usize>, done: usize, owed: &Owed, bytes: &Arc<Vec<u8>>) -> Written {
        let mut written = Written { reached: done, ..Written::default() };
        let (sender, results) = channel();
        let mut waiting = Vec::new();
        for at in places {
            if self.shared.destinations[at].backlog.is_empty() {
                let (shared, owed, bytes) = (Arc::clone(&self.shared), owed.clone(), Arc::clone(bytes));
                let sender = sender.clone();
                thread::spawn(move || {
                    // Nobody listens any more if this was late.
                    let _ = sender.send((at, shared.destinations[at].write(&owed, &bytes)));
                });
                waiting.push(at);
            } else {
                self.shared.owe(at, owed);
            }
        }
        drop(sender);
        let mut enough_since = None;
        while !waiting.is_empty() {
            if written.reached >= self.shared.needed {
                enough_since.get_or_insert_with(Instant::now);
            }
            let received = match enough_since {
                None => results.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => results.recv_timeout(STRAGGLER.saturating_sub(since.elapsed())),
            };
            let Ok((at, result)) = received else { break };
            waiting.retain(|&other| other != at);
            match result {
                Ok(creation) => written.count(at, creation),
                Err(error) => {
                    self.shared.owe(at, owed);
                    written.error = Some(error);
                }
            }
        }
        for at in waiting {
            self.shared.destinations[at].health.failed(&format!("slower than the others by {} s", STRAGGLER.as_secs()));
            self.shared.owe(at, owed);
        }
        written
    }

    /// For a name that two writers may choose: the first destination that answers decides.
    fn create_deciding(&self, name: &ObjectName, bytes: &Arc<Vec<u8>>) -> Result<Creation, StoreError> {
        let owed = Owed::Create(name.clone());
        let mut failed = None;
        let (mut decided, mut others) = (None, Vec::new());
        for at in 0..self.shared.destinations.len() {
            let destination = &self.shared.destinations[at];
            if decided.is_some() || !destination.backlog.is_empty() {
                others.push(at);
                continue;
            }
            match destination.write(&owed, bytes) {
                Ok(Creation::New) => decided = Some(at),
                Ok(Creation::Exists) if destination.holds(name, bytes)? => decided = Some(at),
                Ok(Creation::Exists) => return Ok(Creation::Exists),
                Err(error) => {
                    failed = Some(error);
                    others.push(at);
                }
            }
        }
        let Some(first) = decided else { return Err(self.too_few("create", name.to_string(), 0, failed)) };
        let mut written = self.write_to(others, 1, &owed, bytes);
        written.error = written.error.or(failed);
        for &at in &written.existed {
            let second = &self.shared.destinations[at];
            if !second.holds(name, bytes)? {
                let first = self.shared.destinations[first].store.location();
                return Err(StoreError::Conflict { name: name.clone(), first, second: second.store.location() });
            }
        }
        self.judge("create", name.to_string(), written).map(|_| Creation::New)
    }

    fn judge(&self, action: &'static str, name: String, written: Written) -> Result<Creation, StoreError> {
        if written.reached < self.shared.needed {
            return Err(self.too_few(action, name, written.reached, written.error));
        }
        Ok(if written.existed.len() == written.reached { Creation::Exists } else { Creation::New })
    }

    fn too_few(&self, action: &'static str, name: String, reached: usize, error: Option<StoreError>) -> StoreError {
        let behind = || StoreError::Unavailable {
            location: self.location(),
            action,
            name: name.clone(),
            source: std::io::Error::other("destinations are behind and not caught up yet"),
        };
        let source = Box::new(error.unwrap_or_else(behind));
        StoreError::TooFew { action, name, reached, needed: self.shared.needed, source }
    }

    /// Asks one destination after the other, the fastest first.
    fn read_any<T>(
        &self,
        name: &ObjectName,
        read: impl Fn(&dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (mut missing, mut failed, mut answered) = (None, None, 0);
        for at in self.shared.fastest_first() {
            let destination = &self.shared.destinations[at];
            match destination.health.timed(|| read(&*destination.store)) {
                Ok(found) => return Ok(found),
                Err(error @ (StoreError::NotFound { .. } | StoreError::Truncated { .. })) => {
                    answered += 1;
                    missing = missing.or(Some(error));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match missing {
            Some(missing) if answered >= self.shared.needed => Err(missing),
            _ => Err(self.too_few("read", name.to_string(), answered, failed.or(missing))),
        }
    }
}

/// What became of a write.
#[derive(Default)]
struct Written {
    reached: usize,
    /// Where such an object was already.
    existed: Vec<usize>,
    error: Option<StoreError>,
}

impl Written {
    fn count(&mut self, at: usize, creation: Creation) {
        self.reached += 1;
        if creation == Creation::Exists {
            self.existed.push(at);
        }
    }
}

impl Destination {
    fn write(&self, owed: &Owed, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.health.timed(|| match owed {
            Owed::Create(name) => self.store.create(name, bytes),
            Owed::Delete(name) => self.store.delete(name).map(|()| Creation::New),
        })
    }

    fn holds(&self, name: &ObjectName, bytes: &[u8]) -> Result<bool, StoreError> {
        match self.store.read(name, bytes.len() as u64) {
            Ok(there) => Ok(there == bytes),
            // Longer than ours.
            Err(StoreError::Io { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Shared {
    fn fastest_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.destinations.len()).collect();
        order.sort_by_key(|&at| {
            let destination = &self.destinations[at];
            (!destination.health.is_good(), !destination.backlog.is_empty(), destination.health.latency())
        });
        order
    }

    /// Notes what a destination lacks.
    fn owe(self: &Arc<Self>, at: usize, owed: &Owed) {
        let destination = &self.destinations[at];
        if destination.backlog.is_empty() {
            let why = destination.health.error().unwrap_or_else(|| "it did not take a write".to_owned());
            let text = format!("{} is behind: {why}", destination.store.location());
            self.monitor.event(Event::Notice(text));
        }
        destination.backlog.add(owed);
        self.begin_catching_up(at);
    }

    fn begin_catching_up(self: &Arc<Self>, at: usize) {
        if self.destinations[at].catching_up.swap(true, Ordering::SeqCst) {
            return;
        }
        let shared = Arc::downgrade(self);
        thread::spawn(move || keep_catching_up(&shared, at));
    }

    /// Does what a destination lacks, in order, until nothing is left or it fails.
    fn catch_up(&self, at: usize) -> Result<(), StoreError> {
        let destination = &self.destinations[at];
        while let Some(owed) = destination.backlog.first() {
            let bytes = match &owed {
                Owed::Delete(_) => Vec::new(),
                Owed::Create(name) => match self.read_from_others(at, name)? {
                    Some(bytes) => bytes,
                    // Deleted everywhere meanwhile.
                    None => {
                        destination.backlog.done(&owed);
                        continue;
                    }
                },
            };
            destination.write(&owed, &bytes)?;
            destination.backlog.done(&owed);
        }
        self.monitor.event(Event::Notice(format!("{} has caught up", destination.store.location())));
        Ok(())
    }

    fn read_from_others(&self, at: usize, name: &ObjectName) -> Result<Option<Vec<u8>>, StoreError> {
        let mut failed = None;
        for other in self.fastest_first().into_iter().filter(|&other| other != at) {
            match self.destinations[other].store.read(name, MAX_PACK_BYTES) {
                Ok(bytes) if name.hash().is_none_or(|hash| hash == ObjectHash::of(&bytes)) => {
                    return Ok(Some(bytes));
                }
                Ok(_) | Err(StoreError::NotFound { .. }) => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }
}

/// Ends when the destination has caught up, or nobody uses the destinations any more.
fn keep_catching_up(shared: &Weak<Shared>, at: usize) {
    let mut pause = CATCH_UP.0;
    loop {
        thread::sleep(pause);
        let Some(shared) = shared.upgrade() else { return };
        let caught_up = shared.catch_up(at).is_ok();
        let destination = &shared.destinations[at];
        if caught_up {
            destination.catching_up.store(false, Ordering::SeqCst);
            // What came in between would have found this thread still there.
            if destination.backlog.is_empty() || destination.catching_up.swap(true, Ordering::SeqCst) {
                return;
            }
        }
        pause = if caught_up { CATCH_UP.0 } else { (pause * 2).min(CATCH_UP.1) };
    }
}

impl Store for Replicas {
    fn location(&self) -> String {
        let locations = self.shared.destinations.iter().map(|destination| destination.store.location());
        locations.collect::<Vec<_>>().join(", ")
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        let bytes = Arc::new(bytes.to_vec());
        if name.timeline().is_some() || *name == ObjectName::config() {
            return self.create_deciding(name, &bytes);
        }
        let all = (0..self.shared.destinations.len()).collect();
        let written = self.write_to(all, 0, &Owed::Create(name.clone()), &bytes);
        self.judge("create", name.to_string(), written)
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.read_any(name, |store| store.read(name, limit_bytes))
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.read_any(name, |store| store.read_range(name, range.clone()))
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let list = |destination: &Destination| destination.health.timed(|| destination.store.list(folder));
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> =
                self.shared.destinations.iter().map(|destination| scope.spawn(move || list(destination))).collect();
            threads.into_iter().map(|thread| thread.join().expect("BUG: a listing does not panic")).collect()
        });
        let (mut union, mut answered, mut failed) = (Vec::new(), 0, None);
        for result in results {
            match result {
                Ok(listed) => {
                    answered += 1;
                    union.extend(listed);
                }
                Err(error) => failed = Some(error),
            }
        }
        if answered < self.shared.needed {
            return Err(self.too_few("list", folder.prefix(), answered, failed));
        }
        // Of copies with different lengths the longest: the others are cut off.
        union.sort_by(|a, b| a.name.cmp(&b.name).then(b.bytes.cmp(&a.bytes)));
        union.dedup_by(|later, kept| later.name == kept.name);
        Ok(union)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let all = (0..self.shared.destinations.len()).collect();
        let written = self.write_to(all, 0, &Owed::Delete(name.clone()), &Arc::default());
        self.judge("delete", name.to_string(), written).map(|_| ())
    }

    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        self.read_any(name, |store| store.created(name))
    }

    fn copies(&self) -> Vec<Arc<dyn Store>> {
        self.shared.destinations.iter().map(|destination| Arc::clone(&destination.store)).collect()
    }

    fn concurrency(&self) -> usize {
        self.shared.destinations.iter().map(|destination| destination.store.concurrency()).max().unwrap_or(0)
    }
}
