//! The index in memory: chunk id → places, from all index segments (`format-spec/index.md`).
//!
//! 44 bytes a chunk, sorted, found by binary search.
//!
//! # What may be relied upon
//! A reader takes a chunk from wherever it is. A writer that leaves a chunk out, because the index knows it, relies on its pack being there for good: only an index that was
//! [loaded for that](Index::load_reliable), after the tombstones, says so ([`Index::reliable`]).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::base::id::{ChunkId, ObjectHash};
use crate::format::FormatError;
use crate::format::index::{IndexSegment, ListedPack};
use crate::format::manifest::Layer;
use crate::format::name::Folder;
use crate::format::pack::PackedChunk;
use crate::monitor::Monitor;
use crate::store::lane::concurrently;
use crate::store::{Listed, StoreError};

use super::copies::{read_folder, read_named};
use super::tombstones::Tombstones;
use super::{Fault, Repository, RepositoryError};

/// Where a chunk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pack.
    pub pack: ListedPack,
    /// The place in it.
    pub chunk: PackedChunk,
}

/// See the module documentation. A clone is the same index, not a copy of it.
#[derive(Clone, Default)]
pub struct Index {
    packs: Arc<Vec<ListedPack>>,
    /// Sorted by chunk id.
    entries: Arc<Vec<Entry>>,
    /// Only what this client remembered was read.
    is_partial: bool,
    /// Those that were read before the rest.
    tombstones: Option<Arc<Tombstones>>,
}

impl fmt::Debug for Index {
    /// Without the entries: there may be millions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (packs, entries) = (self.packs.len(), self.entries.len());
        f.debug_struct("Index").field("packs", &packs).field("entries", &entries).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    chunk: PackedChunk,
    pack: u32,
}

impl Index {
    /// Reads all segments. A segment that cannot be used is a fault; the rest serves.
    pub fn load(repository: &Repository) -> Result<(Self, Vec<Fault>), StoreError> {
        let segments = read_folder(repository, Folder::Index, |object| open_segment(repository, object))?;
        Ok(Self::of(segments.into_values(), None))
    }

    /// Reads the tombstones, then all segments: what [may be relied upon](Self::reliable) is known. A tombstone that cannot be read is a fault, and nothing may.
    pub fn load_reliable(repository: &Repository) -> Result<(Self, Vec<Fault>), StoreError> {
        let (tombstones, mut faults) = Tombstones::load(repository)?;
        let segments = read_folder(repository, Folder::Index, |object| open_segment(repository, object))?;
        let (index, found) = Self::of(segments.into_values(), Some(Arc::new(tombstones)));
        faults.extend(found);
        Ok((index, faults))
    }

    /// Reads the segments that this client remembers, without asking which there are; all of them where asking costs nothing. Chunks of others may be missing.
    pub fn load_remembered(repository: &Repository) -> Result<(Self, Vec<Fault>), StoreError> {
        match repository.store().remembered(Folder::Index) {
            Some(listed) => {
                // In order, so that the same repository gives the same index; side by side, for each costs a round trip.
                let read =
                    |listed: &Listed| read_named(repository, &listed.name, |object| open_segment(repository, object));
                let segments = concurrently(repository.store().concurrency(), &listed, read);
                let (index, faults) = Self::of(segments, None);
                Ok((Self { is_partial: true, ..index }, faults))
            }
            None => Self::load(repository),
        }
    }

    /// Does something with the index that builds on `layers`: with what this client remembers of it, without asking what there is, if that lists all that the layers
    /// name; else, or if another chunk is missing there, with all of it.
    pub fn with<T, E: From<RepositoryError>>(
        repository: &Repository,
        layers: Option<&[Layer]>,
        monitor: &dyn Monitor,
        misses_chunk: fn(&E) -> bool,
        attempt: &mut dyn FnMut(Self) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(layers) = layers {
            let (index, faults) = Self::load_remembered(repository).map_err(RepositoryError::from)?;
            let mut needed = layers.iter().flat_map(|layer| &layer.segments);
            if faults.is_empty() && needed.all(|&chunk| index.contains(chunk)) {
                match attempt(index) {
                    Err(error) if misses_chunk(&error) => {}
                    done => return done,
                }
            }
        }
        attempt(Self::load_for_writing(repository, monitor).map_err(RepositoryError::from)?)
    }

    fn of(
        segments: impl IntoIterator<Item = Result<IndexSegment, Fault>>,
        tombstones: Option<Arc<Tombstones>>,
    ) -> (Self, Vec<Fault>) {
        let segments: Vec<_> = segments.into_iter().collect();
        let count = segments.iter().flatten().map(|segment| segment.entries.len()).sum();
        let (mut packs, mut entries, mut faults) = (Vec::new(), Vec::with_capacity(count), Vec::new());
        for segment in segments {
            match segment {
                Ok(segment) => {
                    let first = packs.len() as u32;
                    packs.extend(segment.packs);
                    let found = segment.entries.into_iter();
                    entries.extend(found.map(|entry| Entry { chunk: entry.chunk, pack: first + entry.pack }));
                }
                Err(fault) => faults.push(fault),
            }
        }
        sort(&mut entries, &packs, tombstones.as_deref());
        (Self { packs: Arc::new(packs), entries: Arc::new(entries), is_partial: false, tombstones }, faults)
    }

    /// Reads all segments and reports those that cannot be used as notices.
    pub fn load_reporting(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, StoreError> {
        let (index, faults) = Self::load(repository)?;
        Fault::report(faults, monitor);
        Ok(index)
    }

    /// Reads what a writer needs, and reports what cannot be used as notices.
    pub fn load_for_writing(repository: &Repository, monitor: &dyn Monitor) -> Result<Self, StoreError> {
        let (index, faults) = Self::load_reliable(repository)?;
        Fault::report(faults, monitor);
        Ok(index)
    }

    /// Fails if only a part of the index was read: what is stored whole is compared with all that is there.
    pub fn require_whole(&self) -> Result<(), RepositoryError> {
        if self.is_partial { Err(RepositoryError::PartialIndex) } else { Ok(()) }
    }

    /// Whether the chunk stands anywhere.
    pub fn contains(&self, id: ChunkId) -> bool {
        self.places(id).next().is_some()
    }

    /// A place of a chunk that stays, as far as the log of the timeline does not say otherwise meanwhile.
    pub fn reliable(&self, id: ChunkId) -> Option<Place> {
        self.places(id).next().filter(|place| self.is_reliable(place.pack.name))
    }

    /// The tombstones that were read before the rest; none if it was not loaded for that.
    pub fn tombstones(&self) -> Option<&Tombstones> {
        self.tombstones.as_deref()
    }

    /// Whether the pack is known not to be deleted.
    pub fn is_reliable(&self, pack: ObjectHash) -> bool {
        self.tombstones.as_ref().is_some_and(|tombstones| !tombstones.names(pack))
    }

    /// All places of a chunk.
    pub fn places(&self, id: ChunkId) -> impl Iterator<Item = Place> {
        self.position(id).into_iter().flat_map(|at| self.places_from(at))
    }

    /// The position of a chunk's first place among all.
    pub fn position(&self, id: ChunkId) -> Option<usize> {
        let start = self.entries.partition_point(|entry| entry.chunk.id < id);
        self.entries.get(start).filter(|entry| entry.chunk.id == id).map(|_| start)
    }

    /// All places of the chunk whose first one has this position.
    pub fn places_from(&self, position: usize) -> impl Iterator<Item = Place> {
        let entries = &self.entries[position..];
        let id = entries.first().map(|entry| entry.chunk.id);
        let same = entries.iter().take_while(move |entry| Some(entry.chunk.id) == id);
        same.map(|entry| Place { pack: self.packs[entry.pack as usize], chunk: entry.chunk })
    }

    /// Every place of every chunk, by chunk id.
    pub fn iter(&self) -> impl Iterator<Item = Place> {
        self.entries.iter().map(|entry| Place { pack: self.packs[entry.pack as usize], chunk: entry.chunk })
    }

    /// This index and these packs, which it does not list.
    pub fn extended(&self, found: &[(ListedPack, Vec<PackedChunk>)]) -> Self {
        if found.is_empty() {
            return self.clone();
        }
        let mut segment = IndexSegment::default();
        found.iter().for_each(|(pack, chunks)| segment.add(*pack, chunks));
        let mut packs = self.packs.to_vec();
        let first = packs.len() as u32;
        packs.append(&mut segment.packs);
        let new = segment.entries.into_iter().map(|entry| Entry { chunk: entry.chunk, pack: first + entry.pack });
        let mut entries = Vec::with_capacity(self.entries.len() + new.len());
        entries.extend_from_slice(&self.entries);
        entries.extend(new);
        let tombstones = self.tombstones.clone();
        sort(&mut entries, &packs, tombstones.as_deref());
        Self { packs: Arc::new(packs), entries: Arc::new(entries), is_partial: self.is_partial, tombstones }
    }

    /// The same places, to be found by pack.
    pub fn by_pack(&self) -> ByPack {
        let pack = |at: u32| self.entry_pack(at).name;
        let mut order: Vec<u32> = (0..self.entries.len() as u32).collect();
        order.sort_unstable_by_key(|&at| (pack(at), self.entries[at as usize].chunk.offset));
        ByPack { index: self.clone(), order }
    }

    fn entry_pack(&self, at: u32) -> ListedPack {
        self.packs[self.entries[at as usize].pack as usize]
    }

    /// All packs that are listed, with the lengths that are said of them, in order.
    pub fn packs(&self) -> BTreeSet<ListedPack> {
        self.packs.iter().copied().collect()
    }

    /// Whether both are one index, not two with the same content.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.entries, &other.entries)
    }

    /// How many places there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is stored yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// By chunk. Of the places of one those come last whose packs are being deleted.
fn sort(entries: &mut [Entry], packs: &[ListedPack], tombstones: Option<&Tombstones>) {
    let buried = |pack: &ListedPack| tombstones.is_some_and(|tombstones| tombstones.names(pack.name));
    let buried: Vec<bool> = packs.iter().map(buried).collect();
    // Runs that are in order, one for each segment: a merge sort takes them as they are.
    let order = |entry: &Entry| (buried[entry.pack as usize], entry.pack);
    entries.sort_by(|a, b| a.chunk.id.cmp(&b.chunk.id).then_with(|| order(a).cmp(&order(b))));
}

/// The places of an index by pack: 4 bytes a place beside the index.
pub struct ByPack {
    index: Index,
    order: Vec<u32>,
}

impl ByPack {
    /// What the index lists in a pack, by place, each once.
    pub fn chunks(&self, pack: ObjectHash) -> Vec<PackedChunk> {
        let start = self.order.partition_point(|&at| self.index.entry_pack(at).name < pack);
        let same = self.order[start..].iter().take_while(|&&at| self.index.entry_pack(at).name == pack);
        let mut chunks: Vec<PackedChunk> = same.map(|&at| self.index.entries[at as usize].chunk).collect();
        chunks.dedup();
        chunks
    }
}

fn open_segment(repository: &Repository, object: &[u8]) -> Result<IndexSegment, FormatError> {
    IndexSegment::open(object, &repository.config.seal_context(), &repository.keys.index)
}
