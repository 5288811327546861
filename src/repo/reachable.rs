//! Which chunks snapshots need, and where they stand.
//!
//! Memory: a bit for each place in the index, and 32 bytes for each segment of a page map that was read; each is read once, however many snapshots share it.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::base::id::{ChunkId, ObjectHash};
use crate::base::page::PageCount;
use crate::format::layer::{LayerSegment, RunContent};
use crate::format::manifest::{Layer, LayerKind};

use super::Fault;
use super::chunk_reader::ChunkReader;
use super::index::{Index, Place};
use super::pack_fetch::read_ahead;

/// See the module documentation.
pub struct Reachable {
    index: Index,
    /// A bit for each position in the index, set for the first place of each chunk that is needed.
    marks: Vec<u64>,
    maps: HashSet<ChunkId>,
    lost: BTreeMap<ChunkId, ObjectHash>,
}

/// What of a pack is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackUse {
    /// Chunks that the index lists.
    pub chunk_count: usize,
    /// Their bytes.
    pub chunk_bytes: u64,
    /// Those that are needed and have their first place here.
    pub needed_count: usize,
    /// Their bytes.
    pub needed_bytes: u64,
}

impl Reachable {
    /// Nothing, yet, of what this index lists.
    pub fn new(index: &Index) -> Self {
        let marks = vec![0; index.len().div_ceil(64)];
        Self { index: index.clone(), marks, maps: HashSet::new(), lost: BTreeMap::new() }
    }

    /// Adds what these layers of a snapshot need. Chunks that stand nowhere are [lost](Self::lost); a page map that cannot be read is a fault.
    pub fn add(&mut self, reader: &ChunkReader, snapshot: ObjectHash, layers: &[Layer]) -> Result<(), Fault> {
        for layer in layers {
            layer.segments.iter().for_each(|&chunk| self.mark(chunk, snapshot));
            if layer.kind == LayerKind::Image {
                self.add_map(reader, snapshot, layer)?;
            }
        }
        Ok(())
    }

    /// Adds what these layers need, and says all that is wrong with their page maps; what such a segment names is not known.
    pub fn add_all(&mut self, reader: &ChunkReader, snapshot: ObjectHash, layers: &[Layer]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for layer in layers {
            layer.segments.iter().for_each(|&chunk| self.mark(chunk, snapshot));
            if layer.kind == LayerKind::Image && self.add_map(reader, snapshot, layer).is_err() {
                let all = layer.segments.len();
                faults
                    .extend((0..all).filter_map(|position| self.add_segment(reader, snapshot, layer, position).err()));
            }
        }
        faults
    }

    /// One segment of a page map, unless it was read, or found unusable, before.
    fn add_segment(
        &mut self,
        reader: &ChunkReader,
        snapshot: ObjectHash,
        layer: &Layer,
        position: usize,
    ) -> Result<(), Fault> {
        let chunk = layer.segments[position];
        if !self.maps.insert(chunk) {
            return Ok(());
        }
        let bytes = reader.read(chunk, &|| format!("snapshot {snapshot}, segment {position} of the page map"))?;
        let segment = LayerSegment::parse(&bytes, position, PageCount(layer.page_count));
        let segment = segment.map_err(|source| Fault::Layer { snapshot, position, chunk, source })?;
        self.mark_runs(&segment, snapshot);
        Ok(())
    }

    fn mark_runs(&mut self, segment: &LayerSegment, snapshot: ObjectHash) {
        for run in &segment.runs {
            if let RunContent::Chunk { chunk, .. } = run.content {
                self.mark(chunk.id, snapshot);
            }
        }
    }

    fn add_map(&mut self, reader: &ChunkReader, snapshot: ObjectHash, layer: &Layer) -> Result<(), Fault> {
        let (positions, chunks): (Vec<usize>, Vec<ChunkId>) =
            layer.segments.iter().copied().enumerate().filter(|(_, chunk)| !self.maps.contains(chunk)).unzip();
        let needed_by = |at: usize| format!("snapshot {snapshot}, segment {} of the page map", positions[at]);
        read_ahead(reader, &chunks, &needed_by, |at, bytes| {
            let (position, chunk) = (positions[at], chunks[at]);
            let segment = LayerSegment::parse(&bytes, position, PageCount(layer.page_count));
            let segment = segment.map_err(|source| Fault::Layer { snapshot, position, chunk, source })?;
            self.mark_runs(&segment, snapshot);
            self.maps.insert(chunk);
            Ok(())
        })
    }

    fn mark(&mut self, chunk: ChunkId, snapshot: ObjectHash) {
        match self.index.position(chunk) {
            Some(at) => self.marks[at / 64] |= 1 << (at % 64),
            None => _ = self.lost.entry(chunk).or_insert(snapshot),
        }
    }

    /// Chunks that are needed and stand nowhere, and a snapshot that needs each.
    pub fn lost(&self) -> impl Iterator<Item = (ChunkId, ObjectHash)> {
        self.lost.iter().map(|(&chunk, &snapshot)| (chunk, snapshot))
    }

    /// All places of each chunk that is needed, chunk by chunk.
    pub fn needed(&self) -> impl Iterator<Item = impl Iterator<Item = Place>> {
        self.positions().map(|at| self.index.places_from(at))
    }

    fn positions(&self) -> impl Iterator<Item = usize> {
        let words = self.marks.iter().enumerate();
        words.flat_map(|(word, &bits)| (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit))
    }

    /// Bytes of the sealed chunks that are needed, each counted once.
    pub fn needed_bytes(&self) -> u64 {
        self.needed().filter_map(|mut places| places.next()).map(|place| u64::from(place.chunk.length)).sum()
    }

    /// What is needed of each pack that the index lists.
    pub fn packs(&self) -> HashMap<ObjectHash, PackUse> {
        let mut packs: HashMap<ObjectHash, PackUse> = HashMap::new();
        for place in self.index.iter() {
            let found = packs.entry(place.pack.name).or_default();
            found.chunk_count += 1;
            found.chunk_bytes += u64::from(place.chunk.length);
        }
        for place in self.needed().filter_map(|mut places| places.next()) {
            let found = packs.entry(place.pack.name).or_default();
            found.needed_count += 1;
            found.needed_bytes += u64::from(place.chunk.length);
        }
        packs
    }
}
