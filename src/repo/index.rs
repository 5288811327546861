//! The index in memory: chunk id → places, from all index segments (`format-spec/index.md`).
//!
//! 44 bytes a chunk, sorted, found by binary search.
//!
//! # What may be relied upon
//! A reader takes a chunk from wherever it is. A writer that leaves a chunk out, because the index knows it, relies on its pack being there for good: only an index that was
//! [loaded for that](Index::load_reliable), after the tombstones, says so ([`Index::reliable`]).

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;

use crate::base::id::{ChunkId, ObjectHash};
use crate::format::FormatError;
use crate::format::index::{IndexEntry, IndexSegment, ListedPack};
use crate::format::manifest::Layer;
use crate::format::name::Folder;
use crate::format::pack::PackedChunk;
use crate::monitor::Monitor;
use crate::store::lane::concurrently;
use crate::store::{Listed, StoreError};

use super::copies::{read_folder, read_named};
use super::tombstones::Tombstones;
use super::{Fault, Repository, RepositoryError};

/// About so many entries are sorted at a time: 700 KiB of them.
const PIECE_ENTRIES: usize = 16_384;
const MAX_PIECES: usize = 256;

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

impl Entry {
    /// Stands for one that is about to be written.
    const NONE: Self = Self { chunk: PackedChunk { id: ChunkId([0; 32]), offset: 0, length: 0 }, pack: 0 };
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
        let (mut packs, mut runs, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        for segment in segments {
            match segment {
                Ok(segment) => {
                    runs.push(Run { first_pack: packs.len() as u32, entries: segment.entries });
                    packs.extend(segment.packs);
                }
                Err(fault) => faults.push(fault),
            }
        }
        let entries = merge(&runs, &order(&packs, tombstones.as_deref()));
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
        // Two runs: a merge sort takes them as they are.
        entries.sort_by(order(&packs, tombstones.as_deref()));
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
fn order(packs: &[ListedPack], tombstones: Option<&Tombstones>) -> impl Fn(&Entry, &Entry) -> Ordering + Sync {
    let buried = |pack: &ListedPack| tombstones.is_some_and(|tombstones| tombstones.names(pack.name));
    let buried: Vec<bool> = packs.iter().map(buried).collect();
    let rest = move |entry: &Entry| (buried[entry.pack as usize], entry.pack, entry.chunk.offset);
    move |a, b| a.chunk.id.cmp(&b.chunk.id).then_with(|| rest(a).cmp(&rest(b)))
}

/// What one segment adds, in its order.
struct Run {
    /// Where its packs begin among all.
    first_pack: u32,
    entries: Vec<IndexEntry>,
}

/// All runs as one. Ids are hashes: cut by their first byte into pieces of much the same size, which a processor's cache holds, each is sorted by itself.
fn merge(runs: &[Run], order: &(impl Fn(&Entry, &Entry) -> Ordering + Sync)) -> Vec<Entry> {
    let count: usize = runs.iter().map(|run| run.entries.len()).sum();
    let piece_count = (count / PIECE_ENTRIES).clamp(1, MAX_PIECES);
    let piece = |id: ChunkId| (usize::from(id.0[0]) * piece_count) >> 8;
    let mut entries = vec![Entry::NONE; count];
    let (mut pieces, mut rest) = (Vec::with_capacity(piece_count), entries.as_mut_slice());
    let mut begins = vec![0; runs.len()];
    for at in 0..piece_count {
        let parts: Vec<(u32, &[IndexEntry])> = runs
            .iter()
            .zip(&mut begins)
            .map(|(run, begin)| {
                let left = &run.entries[*begin..];
                let part = &left[..left.partition_point(|entry| piece(entry.chunk.id) <= at)];
                *begin += part.len();
                (run.first_pack, part)
            })
            .collect();
        let (piece, others) = rest.split_at_mut(parts.iter().map(|(_, part)| part.len()).sum());
        pieces.push((piece, parts));
        rest = others;
    }
    let fill = |(piece, parts): (&mut [Entry], Vec<(u32, &[IndexEntry])>)| {
        let all = parts.iter().flat_map(|&(first, part)| {
            part.iter().map(move |entry| Entry { chunk: entry.chunk, pack: first + entry.pack })
        });
        piece.iter_mut().zip(all).for_each(|(place, entry)| *place = entry);
        piece.sort_unstable_by(order);
    };
    // One is not worth waking others.
    if piece_count == 1 {
        pieces.into_iter().for_each(fill);
    } else {
        pieces.into_par_iter().for_each(fill);
    }
    entries
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::{Entropy, SeededEntropy};

    /// Runs in order, of ids that often stand in several of them.
    fn runs(count: usize, entries: usize) -> Vec<Run> {
        let entropy = SeededEntropy::new(7);
        let run = |at: usize| {
            let entry = |offset: usize| {
                let mut id = [0; 32];
                id[..2].copy_from_slice(&(&entropy as &dyn Entropy).bytes::<2>());
                let chunk = PackedChunk { id: ChunkId(id), offset: offset as u32, length: 1 };
                IndexEntry { pack: (offset % 2) as u32, chunk }
            };
            let mut entries: Vec<IndexEntry> = (0..entries).map(entry).collect();
            entries.sort_unstable_by_key(|entry| (entry.chunk.id, entry.pack, entry.chunk.offset));
            Run { first_pack: 2 * at as u32, entries }
        };
        (0..count).map(run).collect()
    }

    #[test]
    fn pieces_are_merged_as_the_whole_would_be() {
        for (count, entries) in [(0, 0), (1, 5), (3, 0), (2, PIECE_ENTRIES), (7, PIECE_ENTRIES)] {
            let runs = runs(count, entries);
            let buried = |pack: u32| pack.is_multiple_of(3);
            let key = |entry: &Entry| (entry.chunk.id, buried(entry.pack), entry.pack, entry.chunk.offset);
            let merged = merge(&runs, &|a: &Entry, b: &Entry| key(a).cmp(&key(b)));
            let whole = runs.iter().flat_map(|run| {
                run.entries.iter().map(|entry| Entry { chunk: entry.chunk, pack: run.first_pack + entry.pack })
            });
            let mut whole: Vec<_> = whole.map(|entry| key(&entry)).collect();
            whole.sort_unstable();
            assert!(merged.iter().map(key).eq(whole), "{count} runs of {entries}");
        }
    }
}
