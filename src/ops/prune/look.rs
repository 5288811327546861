//! All that is there, and what of it is needed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::base::clock::UnixMicros;
use crate::base::id::ObjectHash;
use crate::format::name::{Folder, ObjectName};
use crate::monitor::Monitor;
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::index::{Index, Place};
use crate::repo::journal::Journals;
use crate::repo::reachable::Reachable;
use crate::repo::timeline::{self, Timeline};
use crate::repo::tombstones::Tombstones;
use crate::repo::{Fault, Repository, verifications};

use super::{PruneError, gone};

/// How often something is tried that another collector may make fail.
const MOST_ATTEMPTS: usize = 3;

/// See the module documentation.
pub struct Look {
    pub timelines: Vec<Timeline>,
    pub index: Index,
    /// Packs that are there, and their lengths.
    pub packs: BTreeMap<ObjectHash, u64>,
    pub reachable: Reachable,
    journals: Journals,
    /// With the snapshots that each is of.
    verifications: Vec<(ObjectName, Vec<ObjectHash>)>,
}

/// Does something for which all that is needed has to be there. What another collector has put elsewhere meanwhile is found by trying again.
pub fn persist<T>(mut attempt: impl FnMut() -> Result<T, PruneError>) -> Result<T, PruneError> {
    let mut attempts = 1;
    loop {
        match attempt() {
            Err(PruneError::Damaged(_)) if attempts < MOST_ATTEMPTS => attempts += 1,
            done => return done,
        }
    }
}

/// Looks. Snapshots that are due at that time are not needed. Fails if something is wrong that says what is needed, or if something that is needed is lost.
pub fn look(repository: &Repository, due_at: Option<UnixMicros>, monitor: &dyn Monitor) -> Result<Look, PruneError> {
    persist(|| look_once(repository, due_at, monitor))
}

/// Looks, and takes what another collector moves while we look for lost.
pub fn look_once(
    repository: &Repository,
    due_at: Option<UnixMicros>,
    monitor: &dyn Monitor,
) -> Result<Look, PruneError> {
    // What is of snapshots comes before the snapshots: what is there now is of those that are found then.
    let verifications = verifications::objects(repository)?.into_iter().filter_map(|(name, read)| {
        let records = read.ok()?.records;
        Some((name, records.into_iter().map(|record| record.snapshot).collect()))
    });
    let verifications = verifications.collect();
    let (journals, _) = Journals::load(repository)?;
    let (timelines, faults) = timeline::load_all(repository)?;
    require_sound(faults)?;
    let (index, faults) = Index::load_reliable(repository)?;
    require_sound(faults)?;
    let listed = repository.store().list(Folder::Packs)?;
    let packs = listed.into_iter().filter_map(|listed| Some((listed.name.hash()?, listed.bytes))).collect();
    let (reader, mut reachable) = (ChunkReader::new(repository, &index), Reachable::new(&index));
    for timeline in &timelines {
        let due: HashSet<ObjectHash> =
            due_at.into_iter().flat_map(|now| gone::due(timeline, now)).map(|kept| kept.id).collect();
        for kept in timeline.kept().filter(|kept| !due.contains(&kept.id)) {
            monitor.check_cancelled()?;
            reachable.add(&reader, kept.id, &kept.manifest.layers)?;
        }
    }
    let look = Look { timelines, index, packs, reachable, journals, verifications };
    let lost = |(chunk, snapshot)| Fault::MissingChunk { chunk, needed_by: format!("snapshot {snapshot}") };
    require_sound(look.reachable.lost().map(lost).collect())?;
    let missing = |place: Place| Fault::MissingPack { name: ObjectName::pack(place.pack.name), chunk_count: 1 };
    require_sound(look.homeless().filter_map(|home| home.err()).map(missing).collect())?;
    Ok(look)
}

fn require_sound(faults: Vec<Fault>) -> Result<(), PruneError> {
    if faults.is_empty() { Ok(()) } else { Err(PruneError::Damaged(faults)) }
}

impl Look {
    pub fn tombstones(&self) -> &Tombstones {
        self.index.tombstones().expect("BUG: the index was loaded after the tombstones")
    }

    /// Chunks that are needed and stand in no pack that stays: where they can be taken from, or, if nowhere, where they should be.
    pub fn homeless(&self) -> impl Iterator<Item = Result<Place, Place>> {
        self.reachable.needed().filter_map(|places| {
            let places: Vec<Place> = places.collect();
            let is_there = |place: &&Place| self.packs.get(&place.pack.name) == Some(&place.pack.length);
            if places.iter().filter(is_there).any(|place| self.index.is_reliable(place.pack.name)) {
                return None;
            }
            let there = places.iter().find(is_there).copied();
            there.map(Ok).or_else(|| places.first().copied().map(Err))
        })
    }

    /// Packs in which the chunks stand that are needed.
    fn homes(&self) -> BTreeSet<ObjectHash> {
        let of = |mut places: Box<dyn Iterator<Item = Place> + '_>| {
            places.find(|place| self.packs.contains_key(&place.pack.name)).map(|place| place.pack.name)
        };
        self.reachable.needed().filter_map(|places| of(Box::new(places))).collect()
    }

    /// Packs and entries that are relied upon.
    pub fn needed(&self) -> BTreeSet<ObjectName> {
        let entries = self.timelines.iter().flat_map(|timeline| {
            let name = |sequence| ObjectName::timeline_entry(timeline.database, sequence);
            timeline.entries.iter().map(move |recorded| name(recorded.entry.sequence))
        });
        self.homes().into_iter().map(ObjectName::pack).chain(entries).collect()
    }

    /// Entries, journal objects and verifications that say nothing any more.
    pub fn leftovers(&self) -> impl Iterator<Item = ObjectName> {
        let entries = self.timelines.iter().flat_map(|timeline| {
            timeline.deletable().map(|sequence| ObjectName::timeline_entry(timeline.database, sequence))
        });
        let last: Vec<ObjectHash> = self.timelines.iter().filter_map(Timeline::last).map(|(id, _)| id).collect();
        let kept: HashSet<ObjectHash> = self.timelines.iter().flat_map(Timeline::kept).map(|kept| kept.id).collect();
        let is_stale = move |snapshots: &[ObjectHash]| !snapshots.iter().any(|id| kept.contains(id));
        let stale = self.verifications.iter().filter(move |(_, snapshots)| is_stale(snapshots));
        entries.chain(self.journals.folded(&last)).chain(stale.map(|(name, _)| name.clone()))
    }
}

/// Fails if a destination lacks one of these packs and entries.
pub fn require_on_all(repository: &Repository, names: BTreeSet<ObjectName>) -> Result<(), PruneError> {
    let copies = repository.store().copies();
    if copies.len() < 2 {
        return Ok(());
    }
    for copy in copies {
        let mut there = HashSet::new();
        for folder in [Folder::Packs, Folder::Timelines] {
            there.extend(copy.list(folder)?.into_iter().map(|listed| listed.name));
        }
        let mut lacking = names.iter().filter(|name| !there.contains(*name));
        if let Some(example) = lacking.next() {
            let (location, count) = (copy.location(), 1 + lacking.count());
            return Err(PruneError::Behind { location, count, example: example.clone() });
        }
    }
    Ok(())
}
