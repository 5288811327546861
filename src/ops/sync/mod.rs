//! Compares destinations and makes each of them whole: by names and hashes, without keys.
//!
//! # What holds
//! * A [`Plan`] is made first, from listings, and can be printed; [`execute`] does what it says.
//! * What one destination has, the others get: packs before index segments before timeline entries, the config last, so at every moment each is a
//!   repository that lacks its newest part, or no repository yet. What a deletion missed comes back as garbage, no more.
//! * Copies that show damage without any key are replaced by good ones. If all copies are read, every such one is found, else those of another length.
//! * Of timeline entries, journal objects and key slots, two copies may both look right. If more than half of the destinations agree, the others are mended; else
//!   it is a [`Conflict`], and nothing is done about it until the caller says which destination to believe. Two configs that look right are two repositories:
//!   then nothing is done at all.
//! * A timeline *forks* where two writers wrote different entries at the same place of different destinations. Entries behind a fork belong to its sides and are
//!   not mixed: those of a side that was not chosen are taken away, which only the caller's word does.
//! * What is replaced or taken away, and may have been right, is handed to the caller first.

mod comparison;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::error_text::with_causes;
use crate::base::id::DatabaseId;
use crate::format::damage::shows_damage;
use crate::format::name::{Folder, ObjectName};
use crate::format::pack::MAX_PACK_BYTES;
use crate::monitor::{Cancelled, Event, Monitor, Phase};
use crate::store::lane::concurrently;
use crate::store::{Listed, Store, StoreError};

use comparison::{Comparison, Form, Looked};

/// The order in which objects are copied.
const FOLDERS: [Folder; 7] = [
    Folder::Keys,
    // Whoever sees an index segment has seen which packs are not to be relied upon.
    Folder::Tombstones,
    Folder::Packs,
    Folder::Index,
    Folder::Timelines,
    Folder::Journals,
    Folder::Verifications,
];

/// Objects that are read and written at a time: each takes its bytes in memory.
const CONCURRENCY: usize = 4;

/// How to compare.
#[derive(Clone, Copy, Debug, Default)]
pub struct SyncOptions {
    /// Read every copy, not only list it.
    pub read_data: bool,
    /// Where copies conflict, the destination to believe, by its place in the list.
    pub prefer: Option<usize>,
    /// Whether the caller's thread makes one request after the other, as a simulation needs it.
    pub is_inline: bool,
}

impl SyncOptions {
    /// How many of so many requests are made at once.
    fn width(&self, count: usize) -> usize {
        if self.is_inline { 1 } else { count }
    }
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
}

/// Copies that disagree, and no majority.
#[derive(Debug)]
pub struct Conflict {
    /// Which object.
    pub name: ObjectName,
    /// The destinations that have it.
    pub locations: Vec<String>,
}

/// Copies to make of one object.
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
#[derive(Debug, Default)]
pub struct Plan {
    /// Each destination.
    pub destinations: Vec<Destination>,
    /// What nobody but the user can decide.
    pub conflicts: Vec<Conflict>,
    /// Objects of which no destination has a good copy.
    pub lost: Vec<ObjectName>,
    /// Copies that are damaged, in the minority, or on the wrong side of a fork: the destination's place in the list, and the object.
    pub wrong: Vec<(usize, ObjectName)>,
    /// Copies that could not be read although their destination answers, and why.
    pub unread: Vec<String>,
    steps: Vec<Step>,
    config: Option<Step>,
    /// Objects that are read and written at a time.
    width: usize,
    /// Entries behind a fork, on the side that was not chosen, oldest first, and where they are.
    removals: Vec<(ObjectName, Vec<usize>)>,
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
    /// Entries behind a fork that were taken away.
    pub removed: u64,
    /// What went wrong; the rest was done.
    pub errors: Vec<String>,
    /// Destinations that failed. They get nothing more: what comes later may need what they lack.
    failed: BTreeSet<usize>,
}

/// What each destination has of one name.
type Holders = Vec<Option<u64>>;

/// Compares the destinations. One that cannot be listed is left out.
pub fn compare(stores: &[Arc<dyn Store>], options: SyncOptions, monitor: &dyn Monitor) -> Result<Plan, Cancelled> {
    let listings = concurrently(options.width(stores.len()), stores, |store| list(&**store));
    let mut plan = Plan { width: options.width(CONCURRENCY), ..Plan::default() };
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
        });
        for (objects, listed) in objects.iter_mut().zip(folders) {
            for listed in listed {
                objects.entry(listed.name).or_insert_with(|| vec![None; stores.len()])[at] = Some(listed.bytes);
            }
        }
    }
    let comparison = Comparison { stores, options };
    let total_bytes = objects.iter().flatten().flat_map(|(_, holders)| holders).flatten().sum();
    monitor.event(Event::Started { phase: Phase::Compare, total_bytes });
    for (folder, objects) in FOLDERS.iter().zip(&objects) {
        if *folder == Folder::Timelines {
            plan.judge_timelines(&comparison, objects, monitor)?;
        } else {
            for (name, holders) in objects {
                monitor.check_cancelled()?;
                plan.judge(&comparison, name, holders, false);
                monitor.event(Event::Advanced(holders.iter().flatten().sum()));
            }
        }
    }
    let config = ObjectName::config();
    let mut holders = comparison.holders(&config);
    for (holds, destination) in holders.iter_mut().zip(&plan.destinations) {
        *holds = holds.take_if(|_| destination.error.is_none());
    }
    plan.judge(&comparison, &config, &holders, true);
    plan.config = plan.steps.pop_if(|step| step.name == config);
    monitor.event(Event::Finished);
    Ok(plan)
}

fn list(store: &dyn Store) -> Result<Vec<Vec<Listed>>, StoreError> {
    FOLDERS.iter().map(|&folder| store.list(folder)).collect()
}

/// Of a timeline whose copies differ somewhere.
enum Fork {
    /// Nothing differed so far.
    None,
    /// From here on, nobody but the user can tell what belongs to it.
    Undecided,
    /// From here on, what only these destinations have does not belong to it.
    Decided(Vec<usize>),
}

impl Plan {
    fn judge_timelines(
        &mut self,
        comparison: &Comparison<'_>,
        entries: &BTreeMap<ObjectName, Holders>,
        monitor: &dyn Monitor,
    ) -> Result<(), Cancelled> {
        let suspects = comparison.suspects(entries);
        let mut fork: (Option<DatabaseId>, Fork) = (None, Fork::None);
        for (name, holders) in entries {
            monitor.check_cancelled()?;
            let database = name.timeline().map(|(database, _)| database);
            if database != fork.0 {
                fork = (database, Fork::None);
            }
            let is_suspect = database.is_some_and(|database| suspects.contains(&database));
            self.judge_entry(comparison, name, holders, is_suspect, &mut fork.1);
            monitor.event(Event::Advanced(holders.iter().flatten().sum()));
        }
        Ok(())
    }

    fn judge_entry(
        &mut self,
        comparison: &Comparison<'_>,
        name: &ObjectName,
        holders: &Holders,
        is_suspect: bool,
        fork: &mut Fork,
    ) {
        let losers = match fork {
            Fork::Undecided => return,
            Fork::None => &[],
            Fork::Decided(losers) => losers.as_slice(),
        };
        let looked = comparison.look(name, holders, is_suspect);
        let chosen = looked.without(losers);
        if chosen.sound.is_empty() && !looked.sound.is_empty() {
            // A side of the fork goes on here. A majority that decides by itself takes nothing away.
            if comparison.options.prefer.is_some() {
                let places = looked.sound.into_iter().map(|(at, _)| at).chain(looked.damaged).collect::<Vec<_>>();
                self.wrong.extend(places.iter().map(|&at| (at, name.clone())));
                self.removals.push((name.clone(), places));
            } else {
                self.conflict(name, holders);
                *fork = Fork::Undecided;
            }
            return;
        }
        match comparison.decide(&chosen) {
            None if chosen.sound.is_empty() => self.lose(name, &looked),
            None => {
                self.conflict(name, holders);
                *fork = Fork::Undecided;
            }
            Some(right) => {
                let others = looked.sound.iter().filter(|(_, form)| *form != right).map(|(at, _)| *at);
                let losers: Vec<usize> = others.chain(losers.iter().copied()).collect();
                if !losers.is_empty() {
                    *fork = Fork::Decided(losers);
                }
                self.mend(name, holders, looked, right);
            }
        }
    }

    fn judge(&mut self, comparison: &Comparison<'_>, name: &ObjectName, holders: &Holders, doubtful: bool) {
        let looked = comparison.look(name, holders, doubtful);
        match comparison.decide(&looked) {
            // Two that are whole are two repositories, whoever has more copies.
            Some(_) if *name == ObjectName::config() && looked.forms().len() > 1 => self.conflict(name, holders),
            Some(right) => self.mend(name, holders, looked, right),
            None if looked.sound.is_empty() => self.lose(name, &looked),
            None => self.conflict(name, holders),
        }
    }

    fn conflict(&mut self, name: &ObjectName, holders: &Holders) {
        let held = (0..holders.len()).filter(|&at| holders[at].is_some());
        let locations = held.map(|at| self.destinations[at].location.clone()).collect();
        self.conflicts.push(Conflict { name: name.clone(), locations });
    }

    /// There is no good copy.
    fn lose(&mut self, name: &ObjectName, looked: &Looked) {
        self.wrong.extend(looked.damaged.iter().map(|&at| (at, name.clone())));
        if looked.unread.is_empty() && !looked.damaged.is_empty() {
            self.lost.push(name.clone());
        }
        self.unread.extend(looked.unread.iter().cloned());
    }

    fn mend(&mut self, name: &ObjectName, holders: &Holders, looked: Looked, right: Form) {
        let Looked { sound, damaged, unread } = looked;
        self.unread.extend(unread);
        let (from, wrong): (Vec<_>, Vec<_>) = sound.into_iter().partition(|(_, form)| *form == right);
        let places = |copies: Vec<(usize, Form)>| copies.into_iter().map(|(at, _)| at);
        let from: Vec<usize> = places(from).collect();
        let replace: Vec<usize> = places(wrong).chain(damaged).collect();
        let lacks = |at: &usize| holders[*at].is_none() && self.destinations[*at].error.is_none();
        let to: Vec<usize> = (0..holders.len()).filter(lacks).collect();
        self.wrong.extend(replace.iter().map(|&at| (at, name.clone())));
        for &at in &to {
            self.destinations[at].lacking += 1;
            self.destinations[at].lacking_entries += u64::from(name.timeline().is_some());
        }
        if !to.is_empty() || !replace.is_empty() {
            let bytes = holders[from[0]].unwrap_or(0);
            self.steps.push(Step { name: name.clone(), bytes, from, to, replace });
        }
    }

    /// How many copies of a destination are wrong.
    pub fn wrong_at(&self, place: usize) -> u64 {
        self.wrong.iter().filter(|(at, _)| *at == place).count() as u64
    }

    /// Whether nothing is lacking, wrong, in conflict or unknown.
    pub fn is_whole(&self) -> bool {
        self.steps.is_empty()
            && self.config.is_none()
            && self.removals.is_empty()
            && self.conflicts.is_empty()
            && self.lost.is_empty()
            && self.unread.is_empty()
            && self.destinations.iter().all(|destination| destination.error.is_none())
    }

    /// Whether nothing would be copied, replaced or taken away.
    pub fn has_nothing_to_do(&self) -> bool {
        self.steps.is_empty() && self.config.is_none() && self.removals.is_empty()
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
    // The newest first: at every moment the rest is a timeline.
    for (name, places) in plan.removals.iter().rev() {
        for &at in places {
            done.remove(at, take_away(&*stores[at], at, name, keep));
        }
    }
    let mut steps = plan.steps.as_slice();
    while !steps.is_empty() {
        monitor.check_cancelled()?;
        // One kind after the other: what is named comes before what names it.
        let kind = |step: &Step| step.name.as_str().split('/').next().map(str::to_owned);
        let same = steps.iter().take_while(|step| kind(step) == kind(&steps[0])).count().min(CONCURRENCY);
        // Of a timeline, one after the other: each is then one that lacks its end.
        let same = if steps[0].name.timeline().is_some() { 1 } else { same };
        let failed = done.failed.clone();
        for copies in concurrently(plan.width, &steps[..same], |step| make_copies(stores, step, &failed, keep)) {
            done.add(copies, monitor);
        }
        steps = &steps[same..];
    }
    if let Some(step) = &plan.config {
        let failed = done.failed.clone();
        done.add(make_copies(stores, step, &failed, keep), monitor);
    }
    monitor.event(Event::Finished);
    Ok(done)
}

impl Done {
    fn add(&mut self, copies: Copies, monitor: &dyn Monitor) {
        self.copied += copies.made;
        self.copied_bytes += copies.bytes;
        self.replaced += copies.replaced;
        for (at, error) in copies.errors {
            self.failed.insert(at);
            self.errors.push(error);
        }
        monitor.event(Event::Advanced(copies.bytes));
    }

    fn remove(&mut self, at: usize, removed: Result<(), String>) {
        match removed {
            Ok(()) => self.removed += 1,
            Err(error) => {
                self.failed.insert(at);
                self.errors.push(error);
            }
        }
    }
}

#[derive(Default)]
struct Copies {
    made: u64,
    bytes: u64,
    replaced: u64,
    errors: Vec<(usize, String)>,
}

fn make_copies(stores: &[Arc<dyn Store>], step: &Step, failed: &BTreeSet<usize>, keep: &KeepReplaced<'_>) -> Copies {
    let mut copies = Copies::default();
    let targets: Vec<usize> = step.to.iter().chain(&step.replace).copied().filter(|at| !failed.contains(at)).collect();
    if targets.is_empty() {
        return copies;
    }
    let bytes = match read_good(stores, step) {
        Ok(Some(bytes)) => bytes,
        // Deleted since it was listed, as journals are once they are folded.
        Ok(None) => return copies,
        Err(error) => {
            copies.errors = targets.into_iter().map(|at| (at, error.clone())).collect();
            return copies;
        }
    };
    for at in targets {
        let wrong = step.replace.contains(&at);
        let written = if wrong { take_away(&*stores[at], at, &step.name, keep) } else { Ok(()) };
        let created = || stores[at].create(&step.name, &bytes).map_err(|error| with_causes(&error));
        match written.and_then(|()| created()) {
            Ok(_) => {
                copies.made += 1;
                copies.bytes += bytes.len() as u64;
                copies.replaced += u64::from(wrong);
            }
            Err(error) => copies.errors.push((at, error)),
        }
    }
    copies
}

fn read_good(stores: &[Arc<dyn Store>], step: &Step) -> Result<Option<Vec<u8>>, String> {
    let mut error = None;
    for &at in &step.from {
        match stores[at].read(&step.name, MAX_PACK_BYTES) {
            Ok(bytes) if !shows_damage(&step.name, &bytes) => return Ok(Some(bytes)),
            Ok(_) => {
                let location = stores[at].location();
                error = Some(format!(
                    "{location}: {} is damaged; `continuum sync --read-data` finds all such copies",
                    step.name
                ));
            }
            Err(StoreError::NotFound { .. }) => {}
            Err(failed) => error = Some(with_causes(&failed)),
        }
    }
    error.map_or(Ok(None), Err)
}

/// Puts good bytes, which the caller vouches for, in the place of a wrong copy.
pub fn replace(
    stores: &[Arc<dyn Store>],
    at: usize,
    name: &ObjectName,
    good: &[u8],
    keep: &KeepReplaced<'_>,
) -> Result<(), String> {
    take_away(&*stores[at], at, name, keep)?;
    stores[at].create(name, good).map(|_| ()).map_err(|error| with_causes(&error))
}

/// Deletes a copy after the caller was given it.
fn take_away(store: &dyn Store, at: usize, name: &ObjectName, keep: &KeepReplaced<'_>) -> Result<(), String> {
    if let Ok(bytes) = store.read(name, MAX_PACK_BYTES) {
        keep(at, name, &bytes).map_err(|error| format!("{name}: cannot be kept before it is replaced: {error}"))?;
    }
    store.delete(name).map_err(|error| with_causes(&error))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::base::id::ObjectHash;
    use crate::format::object::{ObjectType, header, plain};
    use crate::monitor::Silent;
    use crate::store::opendal::OpendalStore;

    fn memory() -> Arc<dyn Store> {
        Arc::new(OpendalStore::memory().expect("BUG: memory is always there"))
    }

    fn put(store: &Arc<dyn Store>, name: &ObjectName, bytes: &[u8]) {
        store.create(name, bytes).expect("BUG: memory takes it");
    }

    fn config(of: &[u8]) -> Vec<u8> {
        plain(ObjectType::Config, 0, of)
    }

    fn entry(sequence: u64) -> ObjectName {
        ObjectName::timeline_entry(DatabaseId([1; 16]), sequence)
    }

    /// As far as anybody sees who has no key.
    fn sealed(content: &str) -> Vec<u8> {
        let mut object = [&header(ObjectType::TimelineEntry, 1), content.as_bytes()].concat();
        object.resize(128, 0);
        object
    }

    fn sync(stores: &[Arc<dyn Store>], options: SyncOptions) -> (Plan, Done) {
        let plan = compare(stores, options, &Silent).expect("BUG: nobody cancels");
        let done = execute(stores, &plan, &|_, _, _| Ok(()), &Silent).expect("BUG: nobody cancels");
        (plan, done)
    }

    fn is_whole(stores: &[Arc<dyn Store>]) -> bool {
        let options = SyncOptions { read_data: true, ..SyncOptions::default() };
        compare(stores, options, &Silent).is_ok_and(|plan| plan.is_whole())
    }

    #[test]
    fn what_one_lacks_it_gets_and_the_config_last() {
        let stores = [memory(), memory()];
        let pack = ObjectName::pack(ObjectHash::of(b"pack"));
        put(&stores[0], &ObjectName::config(), &config(b"one"));
        put(&stores[0], &pack, b"pack");
        put(&stores[0], &entry(1), &sealed("entry"));
        let (plan, done) = sync(&stores, SyncOptions::default());
        assert_eq!((plan.destinations[1].lacking, plan.destinations[1].lacking_entries), (3, 1));
        assert_eq!((done.copied, done.replaced, done.errors.len()), (3, 0, 0));
        assert!(is_whole(&stores));
    }

    #[test]
    fn a_damaged_copy_is_found_by_reading_and_replaced() {
        let stores = [memory(), memory()];
        let pack = ObjectName::pack(ObjectHash::of(b"pack"));
        let good = [(pack, b"pack".to_vec()), (ObjectName::config(), config(b"one"))];
        for (name, bytes) in &good {
            let mut damaged = bytes.clone();
            damaged[1] ^= 1;
            put(&stores[0], name, bytes);
            put(&stores[1], name, &damaged);
        }
        let plan = compare(&stores, SyncOptions::default(), &Silent).expect("BUG: nobody cancels");
        assert_eq!(plan.wrong_at(1), 1, "the config is always read");
        let kept = Mutex::new(Vec::new());
        let options = SyncOptions { read_data: true, ..SyncOptions::default() };
        let plan = compare(&stores, options, &Silent).expect("BUG: nobody cancels");
        let keep = |at: usize, name: &ObjectName, _: &[u8]| {
            kept.lock().expect("BUG: no panic").push((at, name.clone()));
            Ok(())
        };
        let done = execute(&stores, &plan, &keep, &Silent).expect("BUG: nobody cancels");
        let kept = kept.into_inner().expect("BUG: no panic");
        assert_eq!((done.replaced, kept), (2, good.clone().map(|(name, _)| (1, name)).to_vec()));
        for (name, bytes) in good {
            assert_eq!(stores[1].read(&name, 99).expect("BUG: there"), bytes);
        }
    }

    #[test]
    fn a_fork_is_the_users_to_decide_unless_most_agree() {
        let mut stores = vec![memory(), memory()];
        for (store, ours) in stores.iter().zip(["one", "two"]) {
            put(store, &entry(1), &sealed("same"));
            put(store, &entry(2), &sealed(ours));
        }
        let (plan, done) = sync(&stores, SyncOptions::default());
        assert_eq!((plan.conflicts.len(), done.copied), (1, 0));
        stores.push(memory());
        put(&stores[2], &entry(2), &sealed("two"));
        let (plan, done) = sync(&stores, SyncOptions::default());
        assert_eq!((plan.conflicts.len(), plan.wrong_at(0)), (0, 1));
        assert_eq!((done.copied, done.replaced), (2, 1), "the fork, and the first entry of the third");
        assert!(is_whole(&stores));
    }

    #[test]
    fn the_sides_of_a_fork_are_not_mixed() {
        let forked = || {
            let stores = [memory(), memory(), memory()];
            for (store, entries) in stores.iter().zip([["same", "a2", "a3"], ["same", "b2", ""], ["same", "", ""]]) {
                for (content, sequence) in entries.iter().zip(1..).filter(|(content, _)| !content.is_empty()) {
                    put(store, &entry(sequence), &sealed(content));
                }
            }
            stores
        };
        let stores = forked();
        let (plan, done) = sync(&stores, SyncOptions::default());
        assert_eq!((plan.conflicts.len(), done.copied, done.removed), (1, 0, 0));
        let (plan, done) = sync(&stores, SyncOptions { prefer: Some(1), ..SyncOptions::default() });
        assert_eq!((plan.conflicts.len(), done.copied, done.replaced, done.removed), (0, 2, 1, 1));
        assert!(is_whole(&stores) && stores[2].read(&entry(2), 999).is_ok_and(|entry| entry == sealed("b2")));
        let stores = forked();
        let (_, done) = sync(&stores, SyncOptions { prefer: Some(0), ..SyncOptions::default() });
        assert_eq!((done.copied, done.replaced, done.removed), (4, 1, 0));
        assert!(is_whole(&stores) && stores[2].read(&entry(3), 999).is_ok_and(|entry| entry == sealed("a3")));
    }

    #[test]
    fn different_repositories_are_not_mixed_whoever_has_more_copies() {
        let stores = [memory(), memory(), memory()];
        for (store, of) in stores.iter().zip([b"one", b"one", b"two"]) {
            put(store, &ObjectName::config(), &config(of));
        }
        put(&stores[0], &ObjectName::pack(ObjectHash::of(b"pack")), b"pack");
        for prefer in [None, Some(0)] {
            let (plan, done) = sync(&stores, SyncOptions { prefer, ..SyncOptions::default() });
            assert_eq!((plan.conflicts.len(), done.copied, done.errors.len()), (1, 0, 1));
        }
    }

    #[test]
    fn a_destination_that_fails_gets_nothing_more_and_the_others_do() {
        use crate::store::around::fault::{Fault, Faults};
        let failing = Arc::new(Faults::new(memory(), []));
        let stores: [Arc<dyn Store>; 3] = [memory(), Arc::clone(&failing) as _, memory()];
        let pack = ObjectName::pack(ObjectHash::of(b"pack"));
        put(&stores[0], &pack, b"pack");
        put(&stores[0], &entry(1), &sealed("entry"));
        put(&stores[0], &ObjectName::config(), &config(b"one"));
        let plan = compare(&stores, SyncOptions::default(), &Silent).expect("BUG: nobody cancels");
        failing.push(Fault::Before);
        let done = execute(&stores, &plan, &|_, _, _| Ok(()), &Silent).expect("BUG: nobody cancels");
        assert_eq!((done.copied, done.errors.len()), (3, 1));
        assert!(stores[1].read(&entry(1), 999).is_err() && stores[1].read(&ObjectName::config(), 999).is_err());
        sync(&stores, SyncOptions::default());
        assert!(is_whole(&stores));
    }
}
