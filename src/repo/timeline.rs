//! Timelines: reading them whole, checking their chain, and extending them.
//!
//! # Invariants
//! * Entry n + 1 carries the hash of entry n, and is created only if absent: of two writers one wins, the other is told.
//! * A client remembers the newest head it has seen of each timeline. A repository that shows an older one, or another entry there, was rolled back or
//!   altered, and says so at the next opportunity.
//! * One damaged entry does not hide the others.
//! * An entry that is missing is a fault, unless the log says that it is gone; one that is gone counts for nothing, whether or not it is still there.
//! * Where destinations have different entries at one place, that is said, and nothing is appended until a sync has decided.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::base::clock::UnixMicros;
use crate::base::id::{ChunkId, DatabaseId, ObjectHash, RepositoryId};
use crate::format::manifest::Manifest;
use crate::format::name::{Folder, ObjectName};
use crate::format::object::MAX_SEALED_BYTES;
use crate::format::timeline::{Event, NO_ENTRY, Run, SnapshotRef, TimelineEntry, Watch};
use crate::monitor::Monitor;
use crate::store::lane::concurrently;
use crate::store::state::LocalState;
use crate::store::{Creation, Listed, Store, StoreError};

use super::copies::{read_whole, several};
use super::standing::{Standing, Standings, is_in};
use super::tombstones::Tombstones;
use super::{Fault, Repository, RepositoryError};

/// Entries beyond what is remembered that are looked for one by one; if there are more, they are listed.
const MOST_PROBES: usize = 8;

/// How often a timeline is listed to read all that it holds, while collectors take entries away.
const MOST_LISTINGS: usize = 4;

/// Every such entry is a *stone*: it is never deleted, and entries before it only once it is there (`format-spec/collection.md`, "Names that are free again").
const STONES: u64 = 16;

/// The first stone behind an entry.
fn stone_behind(sequence: u64) -> u64 {
    (sequence / STONES).saturating_add(1).saturating_mul(STONES)
}

/// An entry and the hash that names it; for a snapshot, the hash is its id.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Hash of the object.
    pub id: ObjectHash,
    /// The entry.
    pub entry: TimelineEntry,
}

/// A database's log.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Its name in the store.
    pub database: DatabaseId,
    /// Entries that could be read and are not gone, oldest first.
    pub entries: Vec<Recorded>,
    /// Entries that are gone and still there.
    pub leftover: Vec<u64>,
    standings: Standings,
    /// The newest object, whether or not it can be used.
    head: Option<Head>,
    fork: Option<Fork>,
    /// The head that this client had seen before the timeline was read. What another process has seen since need not be in it.
    seen: Option<Head>,
}

/// Where two destinations have different entries, each of them authentic: two writers saw different destinations.
#[derive(Clone, Debug)]
struct Fork {
    name: ObjectName,
    first: String,
    second: String,
}

/// The end of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    sequence: u64,
    hash: ObjectHash,
}

/// All timelines, and everything that is wrong with them.
pub fn load_all(repository: &Repository) -> Result<(Vec<Timeline>, Vec<Fault>), StoreError> {
    // Before the listing: what is remembered now was there then.
    let seen: BTreeMap<DatabaseId, Head> = seen_databases(repository)
        .into_iter()
        .filter_map(|database| Some((database, seen_head(repository, database)?)))
        .collect();
    let mut databases: BTreeMap<DatabaseId, Vec<u64>> = seen.keys().map(|&database| (database, Vec::new())).collect();
    let mut faults = Vec::new();
    for listed in repository.store().list(Folder::Timelines)? {
        match listed.name.timeline() {
            Some((database, sequence)) => databases.entry(database).or_default().push(sequence),
            None => faults.push(Fault::ForeignName { name: listed.name }),
        }
    }
    let mut timelines = Vec::new();
    for (database, sequences) in databases {
        let seen = seen.get(&database).copied();
        let (mut timeline, mut found) = read(repository, database, &sequences, seen);
        if found.iter().any(Fault::is_absence) {
            (timeline, found) = load_listed(repository, database, seen)?;
        }
        faults.extend(found);
        timelines.push(timeline);
    }
    Ok((timelines, faults))
}

/// The timeline of the database of that name; empty if it has none.
///
/// Where this client remembers it, nothing is listed: the newest entry known is read anew, which shows that the repository was not rolled back, and then
/// those after it, one by one, until there is none.
pub fn load(repository: &Repository, name: &str) -> Result<(Timeline, Vec<Fault>), StoreError> {
    let database = repository.keys().database_id(name);
    let seen = seen_head(repository, database);
    let remembered = repository.store().remembered(Folder::Timeline(database));
    if let Some(remembered) = remembered.map(|listed| sequences(&listed))
        && let Some(seen) = seen
        && remembered.last() == Some(&seen.sequence)
        && let Some(all) = probe_forward(repository, database, remembered)?
    {
        let (timeline, faults) = read(repository, database, &all, Some(seen));
        if faults.is_empty() {
            return Ok((timeline, faults));
        }
    }
    load_listed(repository, database, seen)
}

/// Lists the timeline, and reads what is listed.
fn load_listed(
    repository: &Repository,
    database: DatabaseId,
    seen: Option<Head>,
) -> Result<(Timeline, Vec<Fault>), StoreError> {
    let mut listings = 0..MOST_LISTINGS;
    loop {
        let listed = repository.store().list(Folder::Timeline(database))?;
        let (timeline, faults) = read(repository, database, &sequences(&listed), seen);
        // What is listed and not there was taken away since: the entry that says so is in the next listing.
        if listings.next().is_none() || !faults.iter().any(Fault::is_absence) {
            return Ok((timeline, faults));
        }
    }
}

fn sequences(listed: &[Listed]) -> Vec<u64> {
    listed.iter().filter_map(|listed| listed.name.timeline()).map(|(_, sequence)| sequence).collect()
}

/// The same for whoever extends it. What is damaged is reported; what only cannot be read now may say that nothing is to be written, or that more was.
pub fn load_for_writing(
    repository: &Repository,
    name: &str,
    monitor: &dyn Monitor,
) -> Result<Timeline, RepositoryError> {
    let (timeline, faults) = load(repository, name)?;
    Fault::report(Fault::require_readable(faults)?, monitor);
    Ok(timeline)
}

/// The sequences after those that are known, as far as there are few.
fn probe_forward(
    repository: &Repository,
    database: DatabaseId,
    mut known: Vec<u64>,
) -> Result<Option<Vec<u64>>, StoreError> {
    for _ in 0..MOST_PROBES {
        let next = known.last().map_or(1, |last| last + 1);
        let name = ObjectName::timeline_entry(database, next);
        match repository.store().read(&name, MAX_SEALED_BYTES as u64) {
            Ok(_) => known.push(next),
            // Its end, unless that entry is gone.
            Err(StoreError::NotFound { .. }) if !is_there(repository, database, stone_behind(next))? => {
                return Ok(Some(known));
            }
            Err(StoreError::NotFound { .. }) => return Ok(None),
            // A listing may know more.
            Err(error) if !error.is_temporary() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether there is an entry of that number.
fn is_there(repository: &Repository, database: DatabaseId, sequence: u64) -> Result<bool, StoreError> {
    match repository.store().read(&ObjectName::timeline_entry(database, sequence), MAX_SEALED_BYTES as u64) {
        Err(StoreError::NotFound { .. }) => Ok(false),
        read => read.map(|_| true),
    }
}

/// Reads the entries with these sequence numbers, ascending. `seen` is what was remembered before they were listed.
fn read(
    repository: &Repository,
    database: DatabaseId,
    sequences: &[u64],
    seen: Option<Head>,
) -> (Timeline, Vec<Fault>) {
    let objects = concurrently(repository.store().concurrency(), sequences, |&sequence| {
        read_entry(repository, &ObjectName::timeline_entry(database, sequence), database, sequence)
    });
    let read = sequences.iter().copied().zip(objects).collect();
    let (mut timeline, hashes, breaks, mut faults) = connect(database, read);
    timeline.fork = find_fork(repository, database, &hashes, &breaks);
    timeline.seen = seen;
    faults.extend(timeline.fork.clone().map(Fork::into_fault));
    faults.extend(seen.and_then(|seen| compare_with_seen(&timeline, seen)));
    if faults.is_empty() {
        remember(repository, &timeline);
    }
    (timeline, faults)
}

/// The hash of an entry's object, also of one that cannot be opened, and the entry.
type ReadEntry = Result<(ObjectHash, Result<TimelineEntry, Fault>), Fault>;

/// Checks that entries, in ascending order, are a whole log, but for those that are gone. Also returns the hashes of all, and the places before which the chain is broken.
fn connect(
    database: DatabaseId,
    read: Vec<(u64, ReadEntry)>,
) -> (Timeline, BTreeMap<u64, ObjectHash>, Vec<u64>, Vec<Fault>) {
    let gone = last_gone(&read);
    let (entries, leftover, standings) = (Vec::new(), Vec::new(), Standings::default());
    let mut timeline = Timeline { database, entries, leftover, standings, head: None, fork: None, seen: None };
    let (mut faults, mut hashes, mut breaks) = (Vec::new(), BTreeMap::new(), Vec::new());
    let mut previous = Some(NO_ENTRY);
    let mut next = 1;
    for (sequence, object) in read {
        let name = ObjectName::timeline_entry(database, sequence);
        if is_in(&gone, sequence) {
            timeline.leftover.push(sequence);
            continue;
        }
        let run = gone.get(gone.partition_point(|run| run.first < next));
        if let Some(run) = run.filter(|run| run.first == next && run.last < sequence) {
            (next, previous) = (run.last + 1, Some(run.last_id));
        }
        if sequence != next {
            faults.push(Fault::MissingEntry { name: ObjectName::timeline_entry(database, next) });
            previous = None;
        }
        next = sequence.saturating_add(1);
        let (hash, entry) = match object {
            Ok(read) => read,
            Err(fault) => {
                timeline.head = None;
                faults.push(fault);
                previous = None;
                continue;
            }
        };
        timeline.head = Some(Head { sequence, hash });
        hashes.insert(sequence, hash);
        match entry {
            Ok(entry) => {
                if previous.is_some_and(|previous| previous != entry.previous) {
                    breaks.push(sequence - 1);
                    faults.push(Fault::BrokenChain { name });
                }
                timeline.push(Recorded { id: hash, entry });
            }
            Err(fault) => faults.push(fault),
        }
        previous = Some(hash);
    }
    (timeline, hashes, breaks, faults)
}

/// What the last collector that is readable says is gone.
fn last_gone(read: &[(u64, ReadEntry)]) -> Vec<Run> {
    let gone = read.iter().rev().find_map(|(_, object)| match object {
        Ok((_, Ok(TimelineEntry { event: Event::Collected { gone }, .. }))) => Some(gone.clone()),
        _ => None,
    });
    gone.unwrap_or_default()
}

/// Compares the last entry that each destination has with the one that was read, and those before a broken link. A copy that differs and cannot be opened is damaged.
fn find_fork(
    repository: &Repository,
    database: DatabaseId,
    hashes: &BTreeMap<u64, ObjectHash>,
    breaks: &[u64],
) -> Option<Fork> {
    let Repository { store, damaged, .. } = repository;
    // One that does not answer is compared when it does.
    let copies = several(&**store);
    let read = |copy: &dyn Store, sequence| {
        copy.read(&ObjectName::timeline_entry(database, sequence), MAX_SEALED_BYTES as u64)
    };
    let held = concurrently(repository.environment().width(copies.len()), &copies, |copy| {
        let before = breaks.iter().filter_map(|&sequence| Some((sequence, read(&**copy, sequence).ok()?)));
        before.chain(last_held(&**copy, database, hashes)).collect::<Vec<_>>()
    });
    for (copy, held) in copies.iter().zip(&held) {
        for (sequence, object) in held {
            let Some(known) = hashes.get(sequence) else { continue };
            let name = ObjectName::timeline_entry(database, *sequence);
            if ObjectHash::of(object) == *known {
                continue;
            }
            if open_entry(repository, &name, object, database, *sequence).is_err() {
                damaged.add(copy.location(), &name);
                continue;
            }
            let is_known = |other: &&Arc<dyn Store>| {
                read(&***other, *sequence).is_ok_and(|object| ObjectHash::of(&object) == *known)
            };
            let first = copies.iter().find(is_known).map_or_else(|| store.location(), |other| other.location());
            return Some(Fork { name, first, second: copy.location() });
        }
    }
    None
}

/// The newest of the entries that a destination has, unless it does not answer.
fn last_held(copy: &dyn Store, database: DatabaseId, hashes: &BTreeMap<u64, ObjectHash>) -> Option<(u64, Vec<u8>)> {
    let read = |sequence| copy.read(&ObjectName::timeline_entry(database, sequence), MAX_SEALED_BYTES as u64);
    for &sequence in hashes.keys().rev().take(MOST_PROBES) {
        match read(sequence) {
            Ok(object) => return Some((sequence, object)),
            Err(StoreError::NotFound { .. }) => {}
            Err(_) => return None,
        }
    }
    let listed = copy.list(Folder::Timeline(database)).ok()?;
    let (_, sequence) = listed.last()?.name.timeline()?;
    Some((sequence, read(sequence).ok()?))
}

impl Fork {
    fn into_fault(self) -> Fault {
        let Self { name, first, second } = self;
        Fault::Forked { name, first, second }
    }
}

/// An entry and its hash; the hash also of one that cannot be opened, if it is the same on every destination or there is only one.
fn read_entry(repository: &Repository, name: &ObjectName, database: DatabaseId, sequence: u64) -> ReadEntry {
    let Repository { store, damaged, .. } = repository;
    let opened = read_whole(&**store, damaged, name, MAX_SEALED_BYTES, |object| {
        Ok((ObjectHash::of(&object), open_entry(repository, name, &object, database, sequence)?))
    });
    match opened {
        Ok((hash, entry)) => Ok((hash, Ok(entry))),
        Err(fault @ Fault::Unreadable { .. }) => Err(fault),
        Err(fault) => {
            let object = store.read(name, MAX_SEALED_BYTES as u64).map_err(Fault::unreadable(name))?;
            Ok((ObjectHash::of(&object), Err(fault)))
        }
    }
}

fn open_entry(
    repository: &Repository,
    name: &ObjectName,
    object: &[u8],
    database: DatabaseId,
    sequence: u64,
) -> Result<TimelineEntry, Fault> {
    let context = repository.config().seal_context();
    TimelineEntry::open(object, database, sequence, &context, repository.keys()).map_err(Fault::object(name))
}

/// What of others an entry may stand behind although it was not seen when the entry was made.
#[derive(Clone, Copy)]
pub enum Behind<'a> {
    /// Nothing: what the entry says depends on all that is there.
    Nothing,
    /// What does not write to the database's history: neither snapshots nor watchers. A snapshot that is appended needs what it stands on.
    Housekeeping(Option<&'a Stand>),
    /// Anything: the entry says the same wherever it stands.
    Anything,
}

/// What a snapshot needs that it does not hold itself (`format-spec/collection.md`, "A writer").
#[derive(Clone, Debug, Default)]
pub struct Stand {
    /// The snapshot whose layers or chunks it takes over.
    pub base: Option<ObjectHash>,
    /// Packs that were made for it, or in which its chunks were found.
    pub packs: HashSet<ObjectHash>,
}

impl Timeline {
    /// The snapshots that are restore points with their ids, oldest first.
    pub fn snapshots(&self) -> impl DoubleEndedIterator<Item = (ObjectHash, &Manifest)> {
        self.kept().filter(|kept| kept.standing.forgotten.is_none()).map(|kept| (kept.id, kept.manifest))
    }

    /// All snapshots that are not gone, forgotten ones too, oldest first.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = Kept<'_>> {
        self.entries.iter().filter_map(|Recorded { id, entry }| match &entry.event {
            Event::Snapshot(manifest) => {
                let standing = self.standings.of(entry.sequence)?;
                let (sequence, recorded, is_damaged) = (entry.sequence, entry.recorded, self.is_damaged(manifest));
                Some(Kept { id: *id, sequence, recorded, manifest, standing, is_damaged })
            }
            _ => None,
        })
    }

    /// The database's name; empty if no entry can be read.
    pub fn name(&self) -> &str {
        self.entries.last().map_or("", |recorded| &recorded.entry.database)
    }

    /// The last snapshot, forgotten or not: what the next one is made from.
    pub fn last(&self) -> Option<(ObjectHash, &Manifest)> {
        self.kept().next_back().map(|kept| (kept.id, kept.manifest))
    }

    /// Segments of layers that are known to be lost, or to need a chunk that is.
    pub fn damaged(&self) -> &HashSet<ChunkId> {
        self.standings.damaged()
    }

    /// Whether a snapshot with this manifest is known to need one.
    pub fn is_damaged(&self, manifest: &Manifest) -> bool {
        self.standings.is_damaged(manifest)
    }

    /// Entries that are gone, still there, and can be deleted: none whose name a slow writer could take for the end.
    pub fn deletable(&self) -> impl Iterator<Item = u64> {
        let end = self.head.map_or(0, |head| head.sequence);
        let is_deletable = move |sequence: &u64| !sequence.is_multiple_of(STONES) && stone_behind(*sequence) <= end;
        self.leftover.iter().copied().filter(is_deletable)
    }

    /// The entries that are gone.
    pub fn gone(&self) -> &[Run] {
        self.standings.gone()
    }

    /// Place and hash of the last object, whether or not it can be used; `None` if it cannot be read, or there is none.
    pub fn end(&self) -> Option<(u64, ObjectHash)> {
        self.head.map(|head| (head.sequence, head.hash))
    }

    /// The watcher that began last, if it has not ended.
    pub fn open_watch(&self) -> Option<&Watch> {
        self.entries.iter().rev().find_map(|recorded| match &recorded.entry.event {
            Event::WatchStarted(watch) => Some(Some(watch)),
            Event::WatchEnded(_) => Some(None),
            _ => None,
        })?
    }

    /// The highest number that a state has; 0 without any.
    pub fn last_commit(&self) -> u64 {
        self.kept().map(|kept| kept.manifest.commit).max().unwrap_or(0)
    }

    fn push(&mut self, recorded: Recorded) {
        self.standings.apply(recorded.id, &recorded.entry);
        self.entries.push(recorded);
        if let Some(Event::Collected { gone }) = self.entries.last().map(|recorded| &recorded.entry.event) {
            let (gone, leftover) = (gone.clone(), &mut self.leftover);
            self.entries.retain(|Recorded { entry, .. }| {
                let is_gone = is_in(&gone, entry.sequence);
                leftover.extend(is_gone.then_some(entry.sequence));
                !is_gone
            });
        }
    }

    /// Fails if the timeline cannot be extended: where destinations have different ones, and where it was rolled back.
    pub fn require_end(&self) -> Result<(), Fault> {
        let rolled_back = || self.seen.and_then(|seen| compare_with_seen(self, seen));
        self.fork.clone().map(Fork::into_fault).or_else(rolled_back).map_or(Ok(()), Err)
    }

    /// Makes sure that the timeline has an entry, before anything is looked for or stored for its first snapshot.
    pub fn begin(&mut self, repository: &Repository, name: &str) -> Result<(), RepositoryError> {
        if self.head.is_none() {
            self.append(repository, name, Event::Begun {}, Behind::Housekeeping(None))?;
        }
        Ok(())
    }

    /// Extends the timeline by an event. A damaged entry does not keep later ones from being written, an unreadable or rolled-back end does. If others have extended it
    /// meanwhile, their entries are read, and `behind` says what becomes of the event.
    pub fn append(
        &mut self,
        repository: &Repository,
        name: &str,
        event: Event,
        behind: Behind<'_>,
    ) -> Result<ObjectHash, RepositoryError> {
        self.require_end()?;
        loop {
            match self.append_here(repository, name, &event)? {
                Appended::Done(id) => return Ok(id),
                Appended::Taken(place) => self.follow(repository, place, behind)?,
            }
        }
    }

    fn append_here(&mut self, repository: &Repository, name: &str, event: &Event) -> Result<Appended, RepositoryError> {
        let (sequence, previous) = self.head.map_or((1, NO_ENTRY), |head| (head.sequence + 1, head.hash));
        let recorded = repository.environment.clock.now();
        let entry = TimelineEntry { sequence, previous, database: name.to_owned(), recorded, event: event.clone() };
        let object = entry.seal(&repository.config.seal_context(), &repository.keys, &*repository.environment.entropy);
        let (place, id) = (ObjectName::timeline_entry(self.database, sequence), ObjectHash::of(&object));
        if repository.store.create(&place, &object)? == Creation::Exists {
            // Several destinations tell by themselves whether it is ours; of those that disagree, a read might give the one that nobody else has.
            if repository.store.copies().len() > 1 {
                return Ok(Appended::Taken(place));
            }
            // A retried request may have met its own success.
            match repository.store.read(&place, MAX_SEALED_BYTES as u64) {
                Ok(there) if there == object => {}
                Ok(_) | Err(StoreError::NotFound { .. }) => return Ok(Appended::Taken(place)),
                Err(error) => return Err(error.into()),
            }
        }
        if !self.counts(repository, sequence, id)? {
            return Ok(Appended::Taken(place));
        }
        self.head = Some(Head { sequence, hash: id });
        self.push(Recorded { id, entry });
        remember(repository, self);
        Ok(Appended::Done(id))
    }

    /// Whether an entry that was just created is part of the log: its name may have been free because the entry that stood there is gone.
    fn counts(&self, repository: &Repository, sequence: u64, id: ObjectHash) -> Result<bool, RepositoryError> {
        if sequence.is_multiple_of(STONES) || !is_there(repository, self.database, stone_behind(sequence))? {
            return Ok(true);
        }
        let (now, faults) = load_listed(repository, self.database, None)?;
        let damage = Fault::require_readable(faults)?;
        Ok(damage.is_empty() && now.entries.iter().any(|recorded| recorded.id == id))
    }

    /// Reads what others have appended, at `place` and behind it, and fails if nothing may be appended behind that.
    fn follow(
        &mut self,
        repository: &Repository,
        place: ObjectName,
        behind: Behind<'_>,
    ) -> Result<(), RepositoryError> {
        let (stand, is_writer) = match behind {
            Behind::Nothing => return Err(RepositoryError::Fenced { name: place }),
            Behind::Housekeeping(stand) => (stand, true),
            Behind::Anything => (None, false),
        };
        let (now, faults) = load_listed(repository, self.database, self.head)?;
        // A damaged entry does not keep later ones from being written; one that only cannot be read now may be another writer's.
        Fault::require_readable(faults)?;
        now.require_end()?;
        // The last snapshot, and what was said last of a watcher, are never gone: no other writer passed unseen.
        if is_writer && (now.last_history() != self.last_history()) {
            return Err(RepositoryError::Fenced { name: place });
        }
        let is_collected = now.gone() != self.gone() || now.collected() != self.collected();
        let is_fenced = is_collected || now.damaged() != self.damaged();
        let before = std::mem::replace(self, now);
        match stand {
            Some(stand) if is_fenced => self.require_stand(repository, stand, &before),
            _ => Ok(()),
        }
    }

    /// The ids of the last snapshot and of the last entry of a watcher.
    fn last_history(&self) -> (Option<ObjectHash>, Option<ObjectHash>) {
        let is_watch = |event: &Event| matches!(event, Event::WatchStarted(_) | Event::WatchEnded(_));
        let watch = self.entries.iter().rev().find(|recorded| is_watch(&recorded.entry.event));
        (self.last().map(|(id, _)| id), watch.map(|recorded| recorded.id))
    }

    /// The id of the last collector's entry.
    fn collected(&self) -> Option<ObjectHash> {
        let is_collected = |recorded: &&Recorded| matches!(recorded.entry.event, Event::Collected { .. });
        self.entries.iter().rev().find(is_collected).map(|recorded| recorded.id)
    }

    /// Fails if something that a snapshot stands on is, or is being, deleted, or is damaged and `before` did not know it.
    fn require_stand(&self, repository: &Repository, stand: &Stand, before: &Self) -> Result<(), RepositoryError> {
        let was_damaged = |base| before.kept().any(|kept| kept.id == base && kept.is_damaged);
        let is_base = |kept: &Kept<'_>, base| kept.id == base && (!kept.is_damaged || was_damaged(base));
        let has_base = stand.base.is_none_or(|base| self.kept().any(|kept| is_base(&kept, base)));
        // Faults count: what cannot be read may name anything.
        let (tombstones, _) = Tombstones::load(repository)?;
        if has_base && !stand.packs.iter().any(|&pack| tombstones.names(pack)) {
            return Ok(());
        }
        Err(RepositoryError::Collected)
    }
}

/// What became of an attempt to append.
enum Appended {
    Done(ObjectHash),
    /// Another entry is there.
    Taken(ObjectName),
}

/// A snapshot that is not gone.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Its id.
    pub id: ObjectHash,
    /// Its place.
    pub sequence: u64,
    /// When the entry was written, on its writer's clock.
    pub recorded: UnixMicros,
    /// What it says.
    pub manifest: &'a Manifest,
    /// What has become of it.
    pub standing: &'a Standing,
    /// Whether it is known that something that it needs is lost.
    pub is_damaged: bool,
}

impl Kept<'_> {
    /// As entries name it.
    pub fn reference(&self) -> SnapshotRef {
        SnapshotRef { sequence: self.sequence, id: self.id }
    }
}

/// Forgets the head that this client has seen, if it is this entry: it was replaced at the user's wish.
pub fn forget_head(state: &LocalState, repository: RepositoryId, entry: &ObjectName, hash: ObjectHash) {
    let Some((database, sequence)) = entry.timeline() else { return };
    let name = format!("{repository}/heads/{database}");
    let seen = state.read(&name).ok().flatten().and_then(Head::parse);
    if seen == Some(Head { sequence, hash }) {
        // What stays is a refusal later, with a hint that says what to do.
        let _ = state.remove(&name);
    }
}

fn state_folder(repository: &Repository) -> String {
    format!("{}/heads", repository.config.repository)
}

fn seen_databases(repository: &Repository) -> Vec<DatabaseId> {
    let Some(state) = &repository.environment.state else { return Vec::new() };
    state.names(&state_folder(repository)).into_iter().filter_map(|name| name.parse().ok()).collect()
}

fn seen_head(repository: &Repository, database: DatabaseId) -> Option<Head> {
    let state = repository.environment.state.as_ref()?;
    Head::parse(state.read(&format!("{}/{database}", state_folder(repository))).ok()??)
}

impl Head {
    fn parse(content: Vec<u8>) -> Option<Self> {
        let content = String::from_utf8(content).ok()?;
        let (sequence, hash) = content.trim().split_once(' ')?;
        Some(Self { sequence: sequence.parse().ok()?, hash: hash.parse().ok()? })
    }
}

fn compare_with_seen(timeline: &Timeline, seen: Head) -> Option<Fault> {
    let is_head = timeline.head == Some(seen);
    let is_entry =
        || timeline.entries.iter().any(|recorded| recorded.entry.sequence == seen.sequence && recorded.id == seen.hash);
    // What is gone cannot be compared any more; the log, which continues it, says so.
    let is_gone = || timeline.standings.is_gone(seen.sequence);
    let name = ObjectName::timeline_entry(timeline.database, seen.sequence);
    (!is_head && !is_entry() && !is_gone()).then_some(Fault::RolledBack { name, seen: seen.hash })
}

/// Best effort: forgetting a head costs a warning that might have come, never data.
fn remember(repository: &Repository, timeline: &Timeline) {
    let (Some(state), Some(head)) = (&repository.environment.state, timeline.head) else { return };
    // Another process may have seen a newer one meanwhile.
    if seen_head(repository, timeline.database).is_none_or(|seen| seen.sequence < head.sequence) {
        let name = format!("{}/{}", state_folder(repository), timeline.database);
        let _ = state.write(&name, format!("{} {}\n", head.sequence, head.hash).as_bytes());
    }
}
