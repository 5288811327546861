//! What is there, what snapshots need of it, and what is wrong with that, without reading data.
//!
//! It is looked at as a collector looks: tombstones before the index, the index before the packs. A pack that the index lists and that is not there is no fault if a tombstone
//! names it and what is needed of it stands elsewhere. Where something is missing and the repository has changed while we looked, it is looked at again.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::base::id::{ChunkId, ObjectHash};
use crate::format::index::ListedPack;
use crate::format::name::{Folder, ObjectName};
use crate::monitor::Monitor;
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::index::{ByPack, Index, Place};
use crate::repo::journal::Journals;
use crate::repo::reachable::Reachable;
use crate::repo::stack_reader::delta_parts;
use crate::repo::timeline::{self, Timeline};
use crate::repo::tombstones::Tombstones;
use crate::repo::{Fault, Repository, RepositoryError, key_slots, verifications};
use crate::store::{Listed, StoreError};

/// How often it is looked at again what a collector has changed meanwhile.
const MOST_LOOKS: usize = 4;

/// So many chunks that are missing are named one by one.
const MOST_NAMED_CHUNKS: usize = 1000;

/// See the module documentation.
pub struct Structure {
    /// All that is wrong.
    pub faults: Vec<Fault>,
    /// All timelines.
    pub timelines: Vec<Timeline>,
    /// The index, loaded after the tombstones.
    pub index: Index,
    /// Packs that are there, and their lengths.
    pub packs: BTreeMap<ObjectHash, u64>,
    /// What snapshots need.
    pub reachable: Reachable,
    /// Reads what the index lists.
    pub reader: ChunkReader,
}

/// Looks at everything but data.
pub fn look(repository: &Repository, monitor: &dyn Monitor) -> Result<Structure, RepositoryError> {
    let mut looks = 1;
    loop {
        let before = fingerprint(repository)?;
        let structure = look_once(repository, monitor)?;
        let is_sound = !structure.faults.iter().any(may_be_of_collectors);
        if is_sound || looks == MOST_LOOKS || fingerprint(repository)? == before {
            return Ok(structure);
        }
        looks += 1;
    }
}

/// What changes before anything is deleted.
fn fingerprint(repository: &Repository) -> Result<Vec<Vec<Listed>>, StoreError> {
    let folders = [Folder::Tombstones, Folder::Index, Folder::Timelines];
    folders.into_iter().map(|folder| repository.store().list(folder)).collect()
}

/// Whether something is not there.
fn may_be_of_collectors(fault: &Fault) -> bool {
    fault.is_absence()
        || matches!(
            fault,
            Fault::MissingPack { .. }
                | Fault::MissingChunk { .. }
                | Fault::MissingEntry { .. }
                | Fault::BrokenChain { .. }
                | Fault::Layer { .. }
        )
}

fn look_once(repository: &Repository, monitor: &dyn Monitor) -> Result<Structure, RepositoryError> {
    let mut faults = look_at_slots(repository)?;
    // Journals before timelines: what a watcher folds and deletes meanwhile is in the timelines then. Verifications before them likewise.
    let (journals, found) = Journals::load(repository)?;
    faults.extend(found);
    let (_, found) = verifications::load(repository)?;
    faults.extend(found);
    let (timelines, found) = timeline::load_all(repository)?;
    faults.extend(found);
    faults.extend(timelines.iter().filter_map(|timeline| journal_gap(&journals, timeline)));
    let (index, found) = Index::load_reliable(repository)?;
    faults.extend(found);
    let mut packs = BTreeMap::new();
    for listed in repository.store().list(Folder::Packs)? {
        match listed.name.hash() {
            Some(hash) => _ = packs.insert(hash, listed.bytes),
            None => faults.push(Fault::ForeignName { name: listed.name }),
        }
    }
    let (reader, reachable) = (ChunkReader::new(repository, &index), Reachable::new(&index));
    let mut structure = Structure { faults, timelines, index, packs, reachable, reader };
    structure.look_at_snapshots(monitor)?;
    let missing = structure.missing_packs();
    structure.faults.extend(missing);
    let lost = structure.lost_chunks();
    structure.faults.extend(lost);
    Ok(structure)
}

fn look_at_slots(repository: &Repository) -> Result<Vec<Fault>, RepositoryError> {
    let (slots, mut faults) = key_slots(repository)?;
    if slots.is_empty() {
        faults.push(Fault::NoKeySlot);
    }
    let listed = repository.store().list(Folder::Keys)?.into_iter().filter(|listed| listed.name.slot().is_none());
    faults.extend(listed.map(|listed| Fault::ForeignName { name: listed.name }));
    Ok(faults)
}

fn journal_gap(journals: &Journals, timeline: &Timeline) -> Option<Fault> {
    timeline.open_watch()?;
    let (id, manifest) = timeline.last()?;
    journals.steps_behind(id, manifest).1
}

/// What is in no index segment is said once, for all that needs it.
fn is_not_lost(fault: &Fault) -> bool {
    !matches!(fault, Fault::MissingChunk { .. })
}

impl Structure {
    /// Every page map and delta parses; notes what they need.
    fn look_at_snapshots(&mut self, monitor: &dyn Monitor) -> Result<(), RepositoryError> {
        let mut deltas_read = HashSet::new();
        for kept in self.timelines.iter().flat_map(Timeline::kept) {
            monitor.check_cancelled()?;
            let found = self.reachable.add_all(&self.reader, kept.id, &kept.manifest.layers);
            self.faults.extend(found.into_iter().filter(is_not_lost));
            let deltas = kept.manifest.layers.get(1..).unwrap_or_default();
            for (position, &chunk) in deltas.iter().flat_map(|layer| layer.segments.iter().enumerate()) {
                // Layers are shared: each segment is read once.
                if deltas_read.insert(chunk) {
                    let parts = delta_parts(&self.reader, kept.id, kept.manifest.page_size(), position, chunk);
                    self.faults.extend(parts.err().filter(is_not_lost));
                }
            }
        }
        Ok(())
    }

    /// Looks at the snapshots again, with an index that lists more; says what is wrong then.
    pub fn look_again_with(
        &mut self,
        repository: &Repository,
        index: Index,
        monitor: &dyn Monitor,
    ) -> Result<Vec<Fault>, RepositoryError> {
        (self.reader, self.reachable) = (ChunkReader::new(repository, &index), Reachable::new(&index));
        self.index = index;
        self.look_at_snapshots(monitor)?;
        Ok(std::mem::take(&mut self.faults))
    }

    /// Which packs must not be relied upon.
    pub fn tombstones(&self) -> &Tombstones {
        self.index.tombstones().expect("BUG: the index was loaded after the tombstones")
    }

    /// Whether a chunk can be there, as far as lengths tell.
    pub fn is_there(&self, place: &Place) -> bool {
        self.packs.get(&place.pack.name) == Some(&place.pack.length)
    }

    /// Chunks that are needed and that the index lists: their places, of each chunk first those in packs without a tombstone.
    pub fn needed(&self) -> impl Iterator<Item = Vec<Place>> {
        self.reachable.needed().map(Iterator::collect)
    }

    /// Packs that the index lists and that are not there, or not in their length, unless a tombstone names them and nothing is needed of them.
    fn missing_packs(&self) -> Vec<Fault> {
        let mut wrong: BTreeSet<ListedPack> = self
            .index
            .packs()
            .into_iter()
            .filter(|pack| self.packs.get(&pack.name) != Some(&pack.length))
            .filter(|pack| !self.tombstones().surely_names(pack.name))
            .collect();
        let homeless = self.needed().filter(|places| !places.iter().any(|place| self.is_there(place)));
        wrong.extend(homeless.filter_map(|places| places.first().map(|place| place.pack)));
        if wrong.is_empty() {
            return Vec::new();
        }
        let by_pack = self.index.by_pack();
        let fault = |ListedPack { name: hash, length: expected }| {
            let name = ObjectName::pack(hash);
            match self.packs.get(&hash) {
                None => Fault::MissingPack { name, chunk_count: by_pack.chunks(hash).len() },
                Some(&found) => Fault::PackLength { name, expected, found },
            }
        };
        wrong.into_iter().map(fault).collect()
    }

    /// Chunks that the index does not list, of each an example of what needs it.
    fn lost_chunks(&self) -> Vec<Fault> {
        let mut lost: Vec<(ObjectHash, ChunkId)> = self.reachable.lost().map(|(chunk, id)| (id, chunk)).collect();
        lost.sort_unstable();
        let count = lost.len();
        lost.truncate(MOST_NAMED_CHUNKS);
        let more = count - lost.len();
        let fault = |(id, chunk)| Fault::MissingChunk { chunk, needed_by: format!("snapshot {id}") };
        lost.into_iter().map(fault).chain((more > 0).then_some(Fault::MoreMissingChunks { count: more })).collect()
    }

    /// Packs with a tombstone of which nothing is needed: they wait to be deleted, and what is wrong with them is none of our business.
    pub fn given_up(&self) -> BTreeSet<ObjectHash> {
        let is_buried = |pack: ObjectHash| self.tombstones().surely_names(pack);
        let mut given_up: BTreeSet<ObjectHash> = self.packs.keys().copied().filter(|&pack| is_buried(pack)).collect();
        if !given_up.is_empty() {
            for places in self.needed() {
                if !places.iter().any(|place| self.is_there(place) && !is_buried(place.pack.name)) {
                    places.iter().for_each(|place| _ = given_up.remove(&place.pack.name));
                }
            }
        }
        given_up
    }

    /// Packs that no segment lists and no tombstone names: left by an interrupted backup, or their segment is lost.
    pub fn unlisted(&self) -> Vec<ListedPack> {
        let listed: HashSet<ObjectHash> = self.index.packs().into_iter().map(|pack| pack.name).collect();
        let unlisted = self.packs.iter().filter(|(pack, _)| !listed.contains(pack));
        let unlisted = unlisted.filter(|(pack, _)| !self.tombstones().surely_names(**pack));
        unlisted.map(|(&name, &length)| ListedPack { name, length }).collect()
    }

    /// The index by pack.
    pub fn by_pack(&self) -> ByPack {
        self.index.by_pack()
    }
}
