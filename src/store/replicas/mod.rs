//! Several destinations that hold the same objects under the same names.
//!
//! # What holds
//! * With N destinations of which `tolerate` may fail, a write is acknowledged once N − `tolerate` of them (at least one) have it durably. The others are waited for
//!   a moment longer; one that is slower or fails is *behind*: what it lacks is noted in its [`backlog`], and everything after goes there too, in order, so
//!   each destination receives objects in the order in which they were written. A thread brings it up to date once it answers again; if too few
//!   others answer, a write does that first.
//! * What was not acknowledged is owed to nobody, though a destination may have it. Listings show it, and new index segments and entries may need it: so before one of
//!   these is created, packs, segments and entries that a listing showed on too few destinations are copied to enough of them; so is the entry that a new one continues.
//! * A destination without a config, where another has one, is behind, too: a disk that is not mounted, or a new place that a [`crate::ops::sync`] is to fill.
//! * `config` and timeline entries, whose names two writers may choose at once, go to the first destination that answers before any other, always in the same
//!   order: of two writers that see the same destinations one wins, and the loser has written nothing. Writers that see different ones may
//!   both write; the second destination then refuses, and the write ends as a [`StoreError::Conflict`] that [`crate::ops::sync`] shows. Where N − `tolerate` is a
//!   majority, at most one of the two was acknowledged.
//! * A listing is the union of all destinations that answer, and a read asks one after the other, the fastest first. Something counts as missing only if it
//!   was looked for on so many destinations that are not behind that one of them has every object that was acknowledged, if N − `tolerate` is a majority.
//! * A copy whose bytes are wrong is the reader's to notice: [`Store::copies`] gives it the others.

mod backlog;
mod catching_up;
mod destination;
mod health;
mod round;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::base::clock::{Timer, UnixMicros};
use crate::base::id::{DatabaseId, ObjectHash};
use crate::format::name::{Folder, ObjectName};
use crate::monitor::Monitor;

use super::lane::concurrently;
use super::{Creation, Listed, Store, StoreError};
use backlog::Owed;
use destination::Destination;
use health::Health;
use round::{Round, Written};

/// Who was told to stop goes on for so long to bring destinations up to date.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Of the objects that a destination was found to lack, so many are remembered, as examples.
const MAX_LACKING: usize = 16;

/// How long is waited for destinations.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For one that is slower than the others, once enough of them have an object.
    pub straggler: Duration,
    /// Before one that is behind is tried again, at first and at most.
    pub catch_up: (Duration, Duration),
    /// So long, one that failed is asked last.
    pub avoid: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        let catch_up = (Duration::from_millis(500), Duration::from_secs(10));
        Self { straggler: Duration::from_secs(2), catch_up, avoid: Duration::from_secs(10) }
    }
}

/// How to use several destinations.
pub struct Options {
    /// How many may fail.
    pub tolerate: usize,
    /// Where is kept what each lacks; in memory if nowhere.
    pub state: Option<PathBuf>,
    /// How long they are waited for.
    pub waits: Waits,
    /// Whether the caller's thread asks one destination after the other, as a simulation needs it. Then none is brought up to date unless a write needs it, or by
    /// [`Replicas::catch_up`].
    pub is_inline: bool,
    /// Measures them.
    pub timer: Arc<dyn Timer>,
    /// Hears of trouble.
    pub monitor: Arc<dyn Monitor>,
}

/// See the module documentation.
pub struct Replicas {
    shared: Arc<Shared>,
}

struct Shared {
    destinations: Vec<Arc<Destination>>,
    needed: usize,
    tolerate: usize,
    waits: Waits,
    is_inline: bool,
    timer: Arc<dyn Timer>,
    monitor: Arc<dyn Monitor>,
    /// What a destination did not have, although it is not behind and another has it.
    lacking: Mutex<BTreeSet<(usize, ObjectName)>>,
    /// What listings showed on too few destinations.
    weak: Mutex<BTreeSet<ObjectName>>,
    /// Of timelines, the last entry that is known to be the same on enough destinations.
    confirmed: Mutex<HashMap<DatabaseId, u64>>,
}

/// How a destination is.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Where it is.
    pub location: String,
    /// Writes that it lacks, as far as this machine knows.
    pub owed: usize,
    /// Whether there is no repository although others have one.
    pub is_absent: bool,
    /// Objects that were looked for there in vain, although it should have them.
    pub lacking: Vec<ObjectName>,
}

impl Replicas {
    /// The destinations, each with the name under which its backlog is kept, in the order of which the first decides.
    pub fn new(stores: Vec<(String, Arc<dyn Store>)>, options: Options) -> Self {
        let Options { tolerate, state, waits, is_inline, timer, monitor } = options;
        let needed = stores.len().saturating_sub(tolerate).max(1);
        let destination = |(identity, store): (String, Arc<dyn Store>)| {
            Arc::new(Destination::new(store, state.as_deref(), &identity, Health::new(Arc::clone(&timer), waits.avoid)))
        };
        let destinations = stores.into_iter().map(destination).collect();
        let (lacking, weak, confirmed) = (Mutex::default(), Mutex::default(), Mutex::default());
        let shared =
            Shared { destinations, needed, tolerate, waits, is_inline, timer, monitor, lacking, weak, confirmed };
        Self { shared: Arc::new(shared) }
    }

    /// Begins to bring destinations up to date that are behind since an earlier run.
    pub fn keep_up(&self) {
        let destinations = self.shared.destinations.iter().enumerate();
        destinations
            .filter(|(_, destination)| !destination.backlog.is_empty())
            .for_each(|(at, _)| self.shared.keep_up(at));
    }

    /// Tries once to bring every destination that is behind up to date, except those that have failed a moment ago.
    pub fn catch_up(&self) {
        let shared = &self.shared;
        let begun = shared.timer.elapsed();
        let goes_on = || !shared.monitor.is_cancelled() || shared.timer.elapsed().saturating_sub(begun) < STOP_WAIT;
        for (at, destination) in shared.destinations.iter().enumerate() {
            if !destination.backlog.is_empty()
                && destination.health.is_good()
                && let Some(turn) = destination.backlog.turn()
            {
                // It was said why not.
                let _ = shared.catch_up(at, turn, &goes_on);
            }
        }
    }

    /// How each destination is.
    pub fn standings(&self) -> Vec<Standing> {
        let shared = &self.shared;
        let standing = |(at, destination): (usize, &Arc<Destination>)| Standing {
            location: destination.location(),
            owed: destination.backlog.len(),
            is_absent: shared.is_absent(at),
            lacking: shared.lacking(at),
        };
        shared.destinations.iter().enumerate().map(standing).collect()
    }

    /// Destinations that take a write now, and those that are behind.
    fn sides(&self, name: &ObjectName) -> (Vec<usize>, Vec<usize>) {
        (0..self.shared.destinations.len()).partition(|&at| self.takes(at, name))
    }

    fn takes(&self, at: usize, name: &ObjectName) -> bool {
        let is_config = *name == ObjectName::config();
        self.shared.destinations[at].backlog.is_empty() && (is_config || self.shared.has_repository(at))
    }

    /// Brings a destination that is needed up to date; whether it takes the write then.
    fn makes_it_take(&self, at: usize, name: &ObjectName) -> bool {
        self.shared.try_to_catch_up(at, &|| true).is_ok() && self.takes(at, name)
    }

    /// Writes to all destinations at the same time; returns once all are done, or enough and the others are late.
    fn write_to_all(&self, owed: &Owed, bytes: Vec<u8>) -> Written {
        let (now, later) = self.sides(owed.name());
        let mut round = Round::new(&self.shared, owed, bytes);
        let mut written = Written::default();
        now.into_iter().for_each(|at| round.start(at));
        round.settle(&mut written);
        self.complete(round, &mut written, later);
        written
    }

    /// If a write has reached too few, brings those that are behind up to date and writes to them, too.
    fn complete(&self, mut round: Round<'_>, written: &mut Written, later: Vec<usize>) {
        for at in later {
            if written.reached < self.shared.needed && self.makes_it_take(at, round.name()) {
                round.start(at);
                round.settle(written);
            } else {
                written.missed.push(at);
            }
        }
    }

    /// For a name that two writers may choose: the first destination that answers decides. One that takes its time is not waited for if another may decide.
    fn create_deciding(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        let owed = Owed::Create(name.clone());
        let (now, mut later) = self.sides(name);
        let mut now = now.into_iter();
        let mut round = Round::new(&self.shared, &owed, bytes.to_vec());
        let mut written = Written::default();
        let first = loop {
            now.next().into_iter().for_each(|at| round.start(at));
            if round.is_over() {
                let Some(at) = later.iter().position(|&at| self.makes_it_take(at, name)) else {
                    return Err(self.too_few("create", name.to_string(), 0, self.shared.needed, written.error));
                };
                round.start(later.remove(at));
            }
            let limit = (now.len() > 0).then_some(self.shared.waits.straggler);
            let Some((at, result)) = round.wait(limit) else { continue };
            match result {
                Ok(Creation::Exists) if !self.shared.destinations[at].holds(name, bytes)? => {
                    return Ok(Creation::Exists);
                }
                Ok(_) => break at,
                Err(error) => written.fail(at, error),
            }
        };
        written.reached = 1;
        now.for_each(|at| round.start(at));
        round.settle(&mut written);
        self.complete(round, &mut written, later);
        for &at in &written.existed {
            let second = &self.shared.destinations[at];
            if !second.holds(name, bytes)? {
                let first = self.shared.destinations[first].location();
                return Err(StoreError::Conflict { name: name.clone(), first, second: second.location() });
            }
        }
        self.judge("create", &owed, written).map(|_| Creation::New)
    }

    /// Whoever continues a timeline may have read its last entry where only a writer that failed has left it: no listing need have shown that. Those before it were confirmed by whoever wrote it.
    fn confirm_last(&self, next: &ObjectName) -> Result<(), StoreError> {
        let Some((database, sequence)) = next.timeline().filter(|(_, sequence)| *sequence > 1) else { return Ok(()) };
        if locked(&self.shared.confirmed).get(&database) == Some(&(sequence - 1)) {
            return Ok(());
        }
        let name = ObjectName::timeline_entry(database, sequence - 1);
        let asked: Vec<&Arc<Destination>> =
            self.shared.destinations.iter().filter(|destination| destination.health.is_good()).collect();
        let width = if self.shared.is_inline { 1 } else { asked.len() };
        let copies = concurrently(width, &asked, |destination| destination.look_at(&name).ok());
        let held: Vec<(&Arc<Destination>, &Vec<u8>)> =
            asked.into_iter().zip(&copies).filter_map(|(at, copy)| Some((at, copy.as_ref()?))).collect();
        let alike = |bytes: &[u8]| held.iter().filter(|(_, other)| other.as_slice() == bytes).count();
        // A copy that is like no other may be damaged; then it is no other entry.
        let Some(&(first, bytes)) = held.iter().rev().max_by_key(|(_, bytes)| alike(bytes)) else { return Ok(()) };
        let count = alike(bytes);
        if count < self.shared.needed
            && let Some((second, _)) = held.iter().find(|(_, other)| *other != bytes)
        {
            return Err(StoreError::Conflict { name, first: first.location(), second: second.location() });
        }
        let seen: Vec<ObjectHash> =
            self.shared.destinations.iter().flat_map(|destination| destination.seen(database, sequence - 1)).collect();
        if !seen.is_empty() && !seen.contains(&ObjectHash::of(bytes)) {
            // A sync has replaced it since it was read.
            return Err(StoreError::Conflict { name, first: first.location(), second: self.location() });
        }
        if count < self.shared.needed {
            locked(&self.shared.weak).insert(name);
        }
        Ok(())
    }

    /// What a listing showed on too few destinations is copied to enough of them, for what comes may need it.
    fn strengthen(&self) -> Result<(), StoreError> {
        let mut names: Vec<ObjectName> = std::mem::take(&mut *locked(&self.shared.weak)).into_iter().collect();
        // What is needed before what needs it; from the end.
        names.sort_by_key(|name| std::cmp::Reverse((name.hash().is_none(), !name.is_pack(), name.clone())));
        while let Some(name) = names.last() {
            let copied = match self.shared.read_good(name, None) {
                Ok(Some(bytes)) => self.create(name, &bytes).map(|_| ()),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = copied {
                locked(&self.shared.weak).extend(names);
                return Err(error);
            }
            names.pop();
        }
        Ok(())
    }

    /// Those that have not done a write that was acknowledged owe it.
    fn judge(&self, action: &'static str, owed: &Owed, written: Written) -> Result<Creation, StoreError> {
        if written.reached < self.shared.needed {
            let name = owed.name().to_string();
            return Err(self.too_few(action, name, written.reached, self.shared.needed, written.error));
        }
        written.missed.iter().for_each(|&at| self.shared.owe(at, owed));
        Ok(if written.existed.len() == written.reached { Creation::Exists } else { Creation::New })
    }

    fn too_few(
        &self,
        action: &'static str,
        name: String,
        reached: usize,
        needed: usize,
        error: Option<StoreError>,
    ) -> StoreError {
        let behind = || StoreError::Unavailable {
            location: self.location(),
            action,
            name: name.clone(),
            source: std::io::Error::other(self.shared.describe_behind()),
        };
        let source = Box::new(error.unwrap_or_else(behind));
        StoreError::TooFew { action, name, reached, needed, source }
    }

    /// Asks one destination after the other, the fastest first.
    fn read_any<T>(
        &self,
        name: &ObjectName,
        read: impl Fn(&dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let shared = &self.shared;
        let (mut missing, mut failed, mut answers, mut lacking) = (None, None, Answers::default(), Vec::new());
        for at in shared.fastest_first() {
            let destination = &shared.destinations[at];
            if missing.is_some() && !destination.health.is_good() && shared.suffices(answers) {
                break;
            }
            match read(&**destination) {
                Ok(found) => {
                    shared.note_lacking(name, lacking);
                    return Ok(found);
                }
                Err(error @ (StoreError::NotFound { .. } | StoreError::Truncated { .. })) => {
                    shared.add(&mut answers, at);
                    let is_there = matches!(error, StoreError::Truncated { .. });
                    lacking.extend((!is_there && !shared.is_behind(at)).then_some(at));
                    missing = missing.or(Some(error));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match missing {
            Some(missing) if shared.suffices(answers) => Err(missing),
            _ => {
                let error = failed.or(missing);
                Err(self.too_few("read", name.to_string(), answers.all, shared.required().count, error))
            }
        }
    }
}

/// How many destinations have answered.
#[derive(Clone, Copy, Default)]
struct Answers {
    /// Those that are a repository, or one in the making.
    all: usize,
    /// Of these, those that are not behind.
    current: usize,
}

/// How many answers tell that something is missing.
struct Required {
    count: usize,
    /// Whether those count that are behind.
    from_all: bool,
}

impl Shared {
    /// Does it in a thread of its own, or at once.
    fn beside(&self, work: impl FnOnce() + Send + 'static) {
        if self.is_inline { work() } else { _ = thread::spawn(work) }
    }

    /// Whether a destination has no config although another has one.
    fn is_absent(&self, at: usize) -> bool {
        self.destinations[at].has_config() == Some(false) && self.is_made()
    }

    /// Whether there is a repository anywhere, as far as anybody has looked.
    fn is_made(&self) -> bool {
        self.destinations.iter().any(|destination| destination.has_config() == Some(true))
    }

    /// Whether there is a repository, or none anywhere yet.
    fn has_repository(&self, at: usize) -> bool {
        let looked = || self.destinations[at].look_for_config().unwrap_or(false);
        !self.is_made() || self.destinations[at].has_config().unwrap_or_else(looked)
    }

    fn is_behind(&self, at: usize) -> bool {
        !self.destinations[at].backlog.is_empty() || self.is_absent(at)
    }

    fn add(&self, answers: &mut Answers, at: usize) {
        answers.all += usize::from(!self.is_absent(at));
        answers.current += usize::from(!self.is_behind(at));
    }

    /// An object that was acknowledged is on `needed` destinations, so one of any `tolerate` + 1 has it; those that are known to be behind count as some that have
    /// it not. If too many are behind, as many as for a write must answer. Where that is no majority, no more can be asked for.
    fn required(&self) -> Required {
        let behind = (0..self.destinations.len()).filter(|&at| self.is_behind(at)).count();
        match self.tolerate.min(self.destinations.len() - 1).checked_sub(behind) {
            None => Required { count: self.needed, from_all: true },
            Some(_) => {
                let count = self.needed.min(self.tolerate + 1).saturating_sub(behind).max(1);
                Required { count, from_all: false }
            }
        }
    }

    fn suffices(&self, answers: Answers) -> bool {
        let Required { count, from_all } = self.required();
        count <= if from_all { answers.all } else { answers.current }
    }

    /// Those that are behind, for people.
    fn describe_behind(&self) -> String {
        let behind = (0..self.destinations.len()).filter(|&at| self.is_behind(at));
        let describe = |at: usize| {
            let state = if self.is_absent(at) { "holds no repository" } else { "is behind and not caught up yet" };
            format!("{} {state}", self.destinations[at].location())
        };
        behind.map(describe).collect::<Vec<_>>().join(", ")
    }

    fn fastest_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.destinations.len()).collect();
        order.sort_by_cached_key(|&at| {
            let health = &self.destinations[at].health;
            (!health.is_good(), self.is_behind(at), health.latency())
        });
        order
    }

    fn note_lacking(&self, name: &ObjectName, places: Vec<usize>) {
        let mut lacking = locked(&self.lacking);
        for at in places {
            if lacking.len() < MAX_LACKING * self.destinations.len() && *name != ObjectName::config() {
                lacking.insert((at, name.clone()));
            }
        }
    }

    /// Compares what the destinations list.
    fn note_listed(&self, folder: Folder, listed: &[(usize, Vec<Listed>)]) {
        // Others may be deleted between one destination and the next.
        if !matches!(
            folder,
            Folder::Packs | Folder::Index | Folder::Timelines | Folder::Timeline(_) | Folder::Verifications
        ) {
            return;
        }
        let mut holders: BTreeMap<&ObjectName, Vec<usize>> = BTreeMap::new();
        for (at, listed) in listed {
            listed.iter().for_each(|listed| holders.entry(&listed.name).or_default().push(*at));
        }
        let current: Vec<usize> = listed.iter().map(|(at, _)| *at).filter(|&at| !self.is_behind(at)).collect();
        for (name, holders) in holders {
            if holders.len() < self.needed {
                locked(&self.weak).insert(name.clone());
            }
            self.note_lacking(name, current.iter().copied().filter(|at| !holders.contains(at)).collect());
        }
    }

    /// What was noted and is still so: another writer may have been between two destinations.
    fn lacking(&self, at: usize) -> Vec<ObjectName> {
        let noted: Vec<ObjectName> =
            locked(&self.lacking).iter().filter(|(lacks, _)| *lacks == at).map(|(_, name)| name.clone()).collect();
        let lacks = |name: &ObjectName| {
            matches!(self.destinations[at].read_range(name, 0..1), Err(StoreError::NotFound { .. }))
        };
        noted.into_iter().take(MAX_LACKING).filter(lacks).collect()
    }
}

impl Store for Replicas {
    fn location(&self) -> String {
        let locations = self.shared.destinations.iter().map(|destination| destination.location());
        locations.collect::<Vec<_>>().join(", ")
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        if name.timeline().is_some() || (name.hash().is_some() && !name.is_pack()) {
            self.confirm_last(name)?;
            self.strengthen()?;
        }
        if name.timeline().is_some() || *name == ObjectName::config() {
            let created = self.create_deciding(name, bytes)?;
            if let Some((database, sequence)) = name.timeline().filter(|_| created == Creation::New) {
                locked(&self.shared.confirmed).insert(database, sequence);
            }
            return Ok(created);
        }
        let owed = Owed::Create(name.clone());
        let written = self.write_to_all(&owed, bytes.to_vec());
        self.judge("create", &owed, written)
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.read_any(name, |store| store.read(name, limit_bytes))
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.read_any(name, |store| store.read_range(name, range.clone()))
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let shared = &self.shared;
        let (sender, results) = channel();
        for (at, destination) in shared.destinations.iter().cloned().enumerate() {
            let sender = sender.clone();
            shared.beside(move || {
                // Nobody listens any more if this was late.
                let _ = sender.send((at, destination.list(folder)));
            });
        }
        drop(sender);
        let mut waiting: Vec<usize> = (0..shared.destinations.len()).collect();
        let (mut lists, mut answers, mut failed, mut enough_at) = (Vec::new(), Answers::default(), None, None);
        loop {
            let limit = if shared.suffices(answers) {
                let since = *enough_at.get_or_insert_with(|| shared.timer.elapsed());
                let is_expected = waiting.iter().any(|&at| shared.destinations[at].health.is_good());
                let patience = if is_expected { shared.waits.straggler } else { Duration::ZERO };
                patience.saturating_sub(shared.timer.elapsed().saturating_sub(since))
            } else {
                Duration::MAX
            };
            let Ok((at, result)) = results.recv_timeout(limit) else { break };
            waiting.retain(|&other| other != at);
            match result {
                Ok(listed) => {
                    shared.add(&mut answers, at);
                    lists.push((at, listed));
                }
                Err(error) => failed = Some(error),
            }
        }
        for late in waiting.into_iter().map(|at| &shared.destinations[at]).filter(|late| late.health.is_good()) {
            late.health.failed("slow to list");
        }
        if !shared.suffices(answers) {
            return Err(self.too_few("list", folder.prefix(), answers.all, shared.required().count, failed));
        }
        shared.note_listed(folder, &lists);
        let mut union: Vec<Listed> = lists.into_iter().flat_map(|(_, listed)| listed).collect();
        // Of copies with different lengths the longest: the others are cut off.
        union.sort_by(|a, b| a.name.cmp(&b.name).then(b.bytes.cmp(&a.bytes)));
        union.dedup_by(|later, kept| later.name == kept.name);
        Ok(union)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let owed = Owed::Delete(name.clone());
        let written = self.write_to_all(&owed, Vec::new());
        self.judge("delete", &owed, written).map(|_| ())
    }

    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        self.read_any(name, |store| store.created(name))
    }

    fn copies(&self) -> Vec<Arc<dyn Store>> {
        self.shared.destinations.iter().map(|destination| Arc::clone(destination) as _).collect()
    }

    fn concurrency(&self) -> usize {
        self.shared.destinations.iter().map(|destination| destination.concurrency()).max().unwrap_or(0)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
