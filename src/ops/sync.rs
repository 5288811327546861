//! Compares destinations and makes each of them whole: by names and hashes, without keys.
//!
//! # What holds
//! * A [`Plan`] is made first, from listings, and can be printed; [`execute`] does what it says.
//! * What one destination has, the others get: packs before index segments before timeline entries, the config last, so at every moment each is a
//!   repository that lacks its newest part, or no repository yet. Nothing is deleted; what a deletion missed comes back as garbage, no more.
//! * Packs and index segments carry their hash in the name: a copy with another hash is damaged and is replaced by a good one. If all of them are read, every such
//!   copy is found, else those of another length.
//! * Of other objects two copies may both look right: a timeline entry that two writers wrote at the same place of different destinations. If more than half of the
//!   destinations agree, the others are mended; else it is a [`Conflict`], and nothing is done until the caller says which destination to
//!   believe. What is replaced is handed to the caller first.
//! * A copy is made only of bytes that were compared with their hash, where the name tells it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::error_text::with_causes;
use crate::base::id::{DatabaseId, ObjectHash};
use crate::format::name::{Folder, ObjectName};
use crate::format::pack::MAX_PACK_BYTES;
use crate::monitor::{Cancelled, Event, Monitor, Phase};
use crate::store::lane::concurrently;
use crate::store::{Listed, Store, StoreError};

/// The order in which objects are copied.
const FOLDERS: [Folder; 5] = [Folder::Keys, Folder::Packs, Folder::Index, Folder::Timelines, Folder::Journals];

/// Objects that are read and written at a time: each takes its bytes in memory.
const CONCURRENCY: usize = 4;

/// How to compare.
#[derive(Clone, Copy, Debug, Default)]
pub struct SyncOptions {
    /// Read every copy, not only list it.
    pub read_data: bool,
    /// Where copies conflict, the destination to believe, by its place in the list.
    pub prefer: Option<usize>,
}

/// One destination, as the comparison found it.
#[derive(Debug)]
pub struct Destination {
    /// Where it is.
    pub location: String,
    /// Why it could not be listed.
    pub error: Option<String>,
    /// Objects that it has.
    pub object_count: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that others have and it lacks.
    pub lacking: u64,
    /// Of these, entries of timelines: restore points that it does not know, because it is behind or was rolled back.
    pub lacking_entries: u64,
    /// Copies that are damaged or in the minority.
    pub wrong: u64,
}

/// Copies that disagree, and no majority.
#[derive(Debug)]
pub struct Conflict {
    /// Which object.
    pub name: ObjectName,
    /// The destinations that have it.
    pub locations: Vec<String>,
}

/// One copy to make.
#[derive(Debug)]
struct Step {
    name: ObjectName,
    bytes: u64,
    /// Where good copies are.
    from: Vec<usize>,
    /// Where there is none.
    to: Vec<usize>,
    /// Where there is a wrong one.
    replace: Vec<usize>,
}

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    /// Each destination.
    pub destinations: Vec<Destination>,
    /// What nobody but the user can decide.
    pub conflicts: Vec<Conflict>,
    /// Objects of which no destination has a good copy.
    pub lost: Vec<ObjectName>,
    steps: Vec<Step>,
    config: Option<Step>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    /// Copies made.
    pub copied: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Wrong copies that were replaced.
    pub replaced: u64,
    /// What went wrong; the rest was done.
    pub errors: Vec<String>,
}

/// What each destination has of one name.
type Holders = Vec<Option<u64>>;

/// Compares the destinations. One that cannot be listed is left out.
pub fn compare(stores: &[Arc<dyn Store>], options: SyncOptions, monitor: &dyn Monitor) -> Result<Plan, Cancelled> {
    let listings = concurrently(stores.len(), stores, |store| list(&**store));
    let mut plan =
        Plan { destinations: Vec::new(), conflicts: Vec::new(), lost: Vec::new(), steps: Vec::new(), config: None };
    let mut objects: Vec<BTreeMap<ObjectName, Holders>> = FOLDERS.iter().map(|_| BTreeMap::new()).collect();
    for (at, (store, listing)) in stores.iter().zip(listings).enumerate() {
        let (error, folders) = match listing {
            Ok(folders) => (None, folders),
            Err(error) => (Some(with_causes(&error)), Vec::new()),
        };
        let all = || folders.iter().flatten();
        plan.destinations.push(Destination {
            location: store.location(),
            error,
            object_count: all().count() as u64,
            bytes: all().map(|listed| listed.bytes).sum(),
            lacking: 0,
            lacking_entries: 0,
            wrong: 0,
        });
        for (objects, listed) in objects.iter_mut().zip(folders) {
            for listed in listed {
                objects.entry(listed.name).or_insert_with(|| vec![None; stores.len()])[at] = Some(listed.bytes);
            }
        }
    }
    let comparison = Comparison { stores, options };
    let suspects = comparison.forked_timelines(&objects[3]);
    let total_bytes = objects.iter().flatten().flat_map(|(_, holders)| holders).flatten().sum();
    monitor.event(Event::Started { phase: Phase::Compare, total_bytes });
    for (name, holders) in objects.iter().flatten() {
        monitor.check_cancelled()?;
        let forked = name.timeline().is_some_and(|(database, _)| suspects.contains(&database));
        plan.judge(&comparison, name, holders, forked);
        monitor.event(Event::Advanced(holders.iter().flatten().sum()));
    }
    let config = ObjectName::config();
    let holders: Holders = concurrently(stores.len(), stores, |store| {
        store.read(&config, MAX_PACK_BYTES).ok().map(|bytes| bytes.len() as u64)
    });
    plan.judge(&comparison, &config, &holders, true);
    plan.config = plan.steps.pop_if(|step| step.name == config);
    monitor.event(Event::Finished);
    Ok(plan)
}

fn list(store: &dyn Store) -> Result<Vec<Vec<Listed>>, StoreError> {
    FOLDERS.iter().map(|&folder| store.list(folder)).collect()
}

struct Comparison<'a> {
    stores: &'a [Arc<dyn Store>],
    options: SyncOptions,
}

impl Comparison<'_> {
    /// Timelines whose last common entry is not the same everywhere: further back some may differ as well.
    fn forked_timelines(&self, entries: &BTreeMap<ObjectName, Holders>) -> Vec<DatabaseId> {
        let mut last_common: BTreeMap<DatabaseId, (&ObjectName, &Holders)> = BTreeMap::new();
        for (name, holders) in entries {
            if let Some((database, _)) = name.timeline()
                && holders.iter().flatten().count() > 1
            {
                last_common.insert(database, (name, holders));
            }
        }
        let differs = |name: &ObjectName, holders: &Holders| {
            let copies = self.read(name, holders);
            copies.windows(2).any(|pair| pair[0].1 != pair[1].1)
        };
        let forked = last_common.into_iter().filter(|(_, (name, holders))| differs(name, holders));
        forked.map(|(database, _)| database).collect()
    }

    /// The hashes of all copies that can be read; `None` for one that cannot.
    fn read(&self, name: &ObjectName, holders: &Holders) -> Vec<(usize, Option<ObjectHash>)> {
        let held: Vec<usize> = (0..holders.len()).filter(|&at| holders[at].is_some()).collect();
        let hash = |&at: &usize| {
            let copy = self.stores[at].read(name, MAX_PACK_BYTES);
            (at, copy.ok().map(|bytes| ObjectHash::of(&bytes)))
        };
        concurrently(held.len(), &held, hash)
    }

    /// The destinations whose copies are right, and those whose are not; `None` if that cannot be known.
    fn sort(&self, name: &ObjectName, holders: &Holders, doubtful: bool) -> Option<(Vec<usize>, Vec<usize>)> {
        let held: Vec<usize> = (0..holders.len()).filter(|&at| holders[at].is_some()).collect();
        let same_length = held.windows(2).all(|pair| holders[pair[0]] == holders[pair[1]]);
        if same_length && !doubtful && !self.options.read_data {
            return Some((held, Vec::new()));
        }
        let copies = self.read(name, holders);
        let right = match name.hash() {
            Some(hash) => Some(hash),
            None => self.agreed(&copies),
        }?;
        let (right, wrong): (Vec<_>, Vec<_>) = copies.into_iter().partition(|(_, hash)| *hash == Some(right));
        let places = |copies: Vec<(usize, Option<ObjectHash>)>| copies.into_iter().map(|(at, _)| at).collect();
        Some((places(right), places(wrong)))
    }

    /// What all, or more than half of the destinations, or the preferred one has.
    fn agreed(&self, copies: &[(usize, Option<ObjectHash>)]) -> Option<ObjectHash> {
        let mut votes: BTreeMap<ObjectHash, usize> = BTreeMap::new();
        for hash in copies.iter().filter_map(|(_, hash)| *hash) {
            *votes.entry(hash).or_default() += 1;
        }
        if votes.len() == 1 {
            return votes.into_keys().next();
        }
        let preferred = copies.iter().find(|(at, _)| Some(*at) == self.options.prefer).and_then(|(_, hash)| *hash);
        let majority = votes.into_iter().find(|&(_, count)| count * 2 > self.stores.len()).map(|(hash, _)| hash);
        preferred.or(majority)
    }
}

impl Plan {
    fn judge(&mut self, comparison: &Comparison<'_>, name: &ObjectName, holders: &Holders, doubtful: bool) {
        let Some((from, replace)) = comparison.sort(name, holders, doubtful) else {
            if holders.iter().any(Option::is_some) {
                let held = (0..holders.len()).filter(|&at| holders[at].is_some());
                let locations = held.map(|at| self.destinations[at].location.clone()).collect();
                self.conflicts.push(Conflict { name: name.clone(), locations });
            }
            return;
        };
        for &at in &replace {
            self.destinations[at].wrong += 1;
        }
        if from.is_empty() {
            self.lost.push(name.clone());
            return;
        }
        let lacks = |at: &usize| holders[*at].is_none() && self.destinations[*at].error.is_none();
        let to: Vec<usize> = (0..holders.len()).filter(lacks).collect();
        for &at in &to {
            self.destinations[at].lacking += 1;
            self.destinations[at].lacking_entries += u64::from(name.timeline().is_some());
        }
        if !to.is_empty() || !replace.is_empty() {
            let bytes = holders[from[0]].unwrap_or(0);
            self.steps.push(Step { name: name.clone(), bytes, from, to, replace });
        }
    }

    /// Whether nothing is lacking, wrong, in conflict or unknown.
    pub fn is_whole(&self) -> bool {
        self.steps.is_empty()
            && self.config.is_none()
            && self.conflicts.is_empty()
            && self.lost.is_empty()
            && self.destinations.iter().all(|destination| destination.error.is_none())
    }

    /// Bytes that are to be written.
    pub fn bytes(&self) -> u64 {
        self.steps.iter().map(|step| step.bytes * (step.to.len() + step.replace.len()) as u64).sum()
    }
}

/// Takes a wrong copy before it is replaced: the destination's place in the list, the object's name, its bytes.
pub type KeepReplaced<'a> = dyn Fn(usize, &ObjectName, &[u8]) -> std::io::Result<()> + Sync + 'a;

/// Makes the copies, in order. Should the config conflict, nothing is done: these are different repositories.
pub fn execute(
    stores: &[Arc<dyn Store>],
    plan: &Plan,
    keep: &KeepReplaced<'_>,
    monitor: &dyn Monitor,
) -> Result<Done, Cancelled> {
    let mut done = Done::default();
    if plan.conflicts.iter().any(|conflict| conflict.name == ObjectName::config()) {
        done.errors.push("the destinations hold different repositories: nothing was copied".into());
        return Ok(done);
    }
    monitor.event(Event::Started { phase: Phase::Copy, total_bytes: plan.bytes() });
    let mut steps = plan.steps.as_slice();
    while !steps.is_empty() {
        monitor.check_cancelled()?;
        // One kind after the other: what is named comes before what names it.
        let kind = |step: &Step| step.name.as_str().split('/').next().map(str::to_owned);
        let same = steps.iter().take_while(|step| kind(step) == kind(&steps[0])).count().min(CONCURRENCY);
        for result in concurrently(CONCURRENCY, &steps[..same], |step| make_copies(stores, step, keep)) {
            done.add(result, monitor);
        }
        if !done.errors.is_empty() && steps[0].name.timeline().is_none() {
            // What comes after may need what failed.
            return Ok(done);
        }
        steps = &steps[same..];
    }
    if let Some(step) = plan.config.as_ref().filter(|_| done.errors.is_empty()) {
        done.add(make_copies(stores, step, keep), monitor);
    }
    monitor.event(Event::Finished);
    Ok(done)
}

impl Done {
    fn add(&mut self, copies: Copies, monitor: &dyn Monitor) {
        self.copied += copies.made;
        self.copied_bytes += copies.bytes;
        self.replaced += copies.replaced;
        self.errors.extend(copies.error);
        monitor.event(Event::Advanced(copies.bytes));
    }
}

#[derive(Default)]
struct Copies {
    made: u64,
    bytes: u64,
    replaced: u64,
    error: Option<String>,
}

fn make_copies(stores: &[Arc<dyn Store>], step: &Step, keep: &KeepReplaced<'_>) -> Copies {
    let mut copies = Copies::default();
    let bytes = match read_good(stores, step) {
        Ok(Some(bytes)) => bytes,
        // Deleted since it was listed, as journals are once they are folded.
        Ok(None) => return copies,
        Err(error) => return Copies { error: Some(error), ..copies },
    };
    for &at in step.to.iter().chain(&step.replace) {
        let wrong = step.replace.contains(&at);
        match write_copy(&*stores[at], at, &step.name, &bytes, wrong, keep) {
            Ok(()) => {
                copies.made += 1;
                copies.bytes += bytes.len() as u64;
                copies.replaced += u64::from(wrong);
            }
            Err(error) => copies.error = Some(error),
        }
    }
    copies
}

fn read_good(stores: &[Arc<dyn Store>], step: &Step) -> Result<Option<Vec<u8>>, String> {
    let mut error = None;
    for &at in &step.from {
        match stores[at].read(&step.name, MAX_PACK_BYTES) {
            Ok(bytes) if step.name.hash().is_none_or(|hash| hash == ObjectHash::of(&bytes)) => return Ok(Some(bytes)),
            Ok(_) => error = Some(format!("{}: {} is damaged", stores[at].location(), step.name)),
            Err(StoreError::NotFound { .. }) => {}
            Err(failed) => error = Some(with_causes(&failed)),
        }
    }
    error.map_or(Ok(None), Err)
}

fn write_copy(
    store: &dyn Store,
    at: usize,
    name: &ObjectName,
    bytes: &[u8],
    wrong: bool,
    keep: &KeepReplaced<'_>,
) -> Result<(), String> {
    let text = |error: StoreError| with_causes(&error);
    if wrong {
        if let Ok(replaced) = store.read(name, MAX_PACK_BYTES) {
            keep(at, name, &replaced)
                .map_err(|error| format!("{name}: cannot be kept before it is replaced: {error}"))?;
        }
        store.delete(name).map_err(text)?;
    }
    store.create(name, bytes).map_err(text)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::monitor::Silent;
    use crate::store::opendal::OpendalStore;

    fn memory() -> Arc<dyn Store> {
        Arc::new(OpendalStore::memory().expect("BUG: memory is always there"))
    }

    fn put(store: &Arc<dyn Store>, name: &ObjectName, bytes: &[u8]) {
        store.create(name, bytes).expect("BUG: memory takes it");
    }

    fn sync(stores: &[Arc<dyn Store>], options: SyncOptions) -> (Plan, Done) {
        let plan = compare(stores, options, &Silent).expect("BUG: nobody cancels");
        let done = execute(stores, &plan, &|_, _, _| Ok(()), &Silent).expect("BUG: nobody cancels");
        (plan, done)
    }

    #[test]
    fn what_one_lacks_it_gets_and_the_config_last() {
        let stores = [memory(), memory()];
        let pack = ObjectName::pack(ObjectHash::of(b"pack"));
        let entry = ObjectName::timeline_entry(DatabaseId([1; 16]), 1);
        put(&stores[0], &ObjectName::config(), b"config");
        put(&stores[0], &pack, b"pack");
        put(&stores[0], &entry, b"entry");
        let (plan, done) = sync(&stores, SyncOptions::default());
        assert_eq!((plan.destinations[1].lacking, plan.destinations[1].lacking_entries), (3, 1));
        assert_eq!((done.copied, done.replaced, done.errors.len()), (3, 0, 0));
        assert!(compare(&stores, SyncOptions::default(), &Silent).is_ok_and(|plan| plan.is_whole()));
    }

    #[test]
    fn a_damaged_copy_is_found_by_reading_and_replaced() {
        let stores = [memory(), memory()];
        let pack = ObjectName::pack(ObjectHash::of(b"pack"));
        put(&stores[0], &pack, b"pack");
        put(&stores[1], &pack, b"pock");
        assert!(compare(&stores, SyncOptions::default(), &Silent).is_ok_and(|plan| plan.is_whole()));
        let kept = Mutex::new(Vec::new());
        let options = SyncOptions { read_data: true, ..SyncOptions::default() };
        let plan = compare(&stores, options, &Silent).expect("BUG: nobody cancels");
        let keep = |_: usize, _: &ObjectName, bytes: &[u8]| {
            kept.lock().expect("BUG: no panic").extend_from_slice(bytes);
            Ok(())
        };
        let done = execute(&stores, &plan, &keep, &Silent).expect("BUG: nobody cancels");
        assert_eq!((done.replaced, kept.into_inner().expect("BUG: no panic")), (1, b"pock".to_vec()));
        assert_eq!(stores[1].read(&pack, 9).expect("BUG: there"), b"pack");
    }

    #[test]
    fn a_fork_is_the_users_to_decide_unless_most_agree() {
        let entry = |sequence| ObjectName::timeline_entry(DatabaseId([1; 16]), sequence);
        let mut stores = vec![memory(), memory()];
        for (store, ours) in stores.iter().zip([b"one", b"two"]) {
            put(store, &entry(1), b"same");
            put(store, &entry(2), ours);
        }
        let (plan, done) = sync(&stores, SyncOptions::default());
        assert_eq!((plan.conflicts.len(), done.copied), (1, 0));
        stores.push(memory());
        put(&stores[2], &entry(2), b"two");
        let (plan, done) = sync(&stores, SyncOptions::default());
        assert_eq!((plan.conflicts.len(), plan.destinations[0].wrong), (0, 1));
        assert_eq!((done.copied, done.replaced), (2, 1), "the fork, and the first entry of the third");
        let options = SyncOptions { prefer: Some(1), ..SyncOptions::default() };
        stores.truncate(2);
        assert!(compare(&stores, options, &Silent).is_ok_and(|plan| plan.is_whole()));
    }

    #[test]
    fn different_repositories_are_not_mixed() {
        let stores = [memory(), memory()];
        put(&stores[0], &ObjectName::config(), b"one");
        put(&stores[1], &ObjectName::config(), b"two");
        put(&stores[0], &ObjectName::pack(ObjectHash::of(b"pack")), b"pack");
        let (plan, done) = sync(&stores, SyncOptions::default());
        assert_eq!((plan.conflicts.len(), done.copied, done.errors.len()), (1, 0, 1));
    }
}
