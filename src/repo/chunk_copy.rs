//! Carries layers from one repository to another that has other keys.
//!
//! Every chunk is opened, decoded and compared with its id, gets the id that the destination's key gives it, and is stored as it was encoded: compression is inside the encryption, so
//! nothing is compressed again. A page map names chunks and is written anew with their new ids; a delta names none and is carried as it is.
//!
//! What was carried before is known by its layers, in the source and in the destination: their segments, and the runs of their page maps, correspond one by one. So carrying
//! one more snapshot reads what is new in it, not what it shares with those before it.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use crate::base::id::{ChunkId, ObjectHash};
use crate::format::layer::{LayerSegment, PageChunk, Run, RunContent};
use crate::format::manifest::{Layer, LayerKind};
use crate::format::pack::EncodedChunk;
use crate::monitor::{Event, Monitor, Phase};

use super::chunk_reader::ChunkReader;
use super::chunk_writer::{ChunkWriter, Written};
use super::index::Place;
use super::pack_fetch::{self, Fetched};
use super::stack_reader::{image_runs, read_map};
use super::timeline::Stand;
use super::{Fault, Repository, RepositoryError};

/// On which side it failed.
#[derive(Debug)]
pub enum CarryError {
    /// Reading.
    Source(RepositoryError),
    /// Writing.
    Destination(RepositoryError),
}

impl From<RepositoryError> for CarryError {
    fn from(error: RepositoryError) -> Self {
        Self::Source(error)
    }
}

impl From<Fault> for CarryError {
    fn from(fault: Fault) -> Self {
        Self::Source(fault.into())
    }
}

/// Layers of a snapshot that is there already: as the source has them, and as the destination has them.
#[derive(Clone, Copy)]
pub struct Carried<'a> {
    /// The snapshot's id in each.
    pub ids: (ObjectHash, ObjectHash),
    /// Its layers in the source.
    pub source: &'a [Layer],
    /// Its layers in the destination: as many, of the same shape.
    pub destination: &'a [Layer],
}

/// See the module documentation.
pub struct ChunkCopier<'a, 'r> {
    reader: &'a ChunkReader,
    writer: &'a mut ChunkWriter<'r>,
    destination: &'r Repository,
    /// Segments of layers, from the source's to the destination's.
    layers: HashMap<Vec<ChunkId>, Vec<ChunkId>>,
    /// Chunks of page maps and deltas, likewise.
    ids: HashMap<ChunkId, ChunkId>,
    /// Bytes of sealed chunks that were fetched.
    read_bytes: u64,
}

impl<'a, 'r> ChunkCopier<'a, 'r> {
    /// Carries from what `reader` reads to what `writer` writes, in the repository `destination`.
    pub fn new(reader: &'a ChunkReader, writer: &'a mut ChunkWriter<'r>, destination: &'r Repository) -> Self {
        Self { reader, writer, destination, layers: HashMap::new(), ids: HashMap::new(), read_bytes: 0 }
    }

    /// Makes durable what was carried until now; returns all that was written.
    pub fn settle(&mut self) -> Result<Written, RepositoryError> {
        self.writer.settle()
    }

    /// What a snapshot stands on that is made of what was carried until now.
    pub fn stand(&self) -> Stand {
        self.writer.stand(None)
    }

    /// Bytes of chunks that were fetched.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Whether a layer needs not be read.
    pub fn has(&self, layer: &Layer) -> bool {
        self.layers.contains_key(&layer.segments)
    }

    /// Learns the layers of a snapshot that was carried before, if the destination still has all their segments.
    pub fn learn_layers(&mut self, carried: &Carried<'_>) {
        for (from, to) in carried.source.iter().zip(carried.destination) {
            if to.segments.iter().all(|&segment| self.writer.knows(segment)) {
                self.layers.insert(from.segments.clone(), to.segments.clone());
            }
        }
    }

    /// Learns the chunks of an image that was carried before, from the page maps on both sides. What does not correspond is not learnt, and carried again.
    pub fn learn_image(&mut self, carried: &Carried<'_>, destination: &ChunkReader) {
        let (Some(from), Some(to)) = (carried.source.first(), carried.destination.first()) else { return };
        let (from, to) = (image_runs(self.reader, carried.ids.0, from), image_runs(destination, carried.ids.1, to));
        let (Ok(from), Ok(to)) = (from, to) else { return };
        if from.len() != to.len() || from.iter().zip(&to).any(|(from, to)| !corresponds(from, to)) {
            return;
        }
        for (from, to) in from.iter().zip(&to) {
            if let (RunContent::Chunk { chunk: from, .. }, RunContent::Chunk { chunk: to, .. }) =
                (from.content, to.content)
                && self.writer.knows(to.id)
            {
                self.ids.insert(from.id, to.id);
            }
        }
    }

    /// Carries the layers of a snapshot, and returns them as the destination has them. Nothing is durable before the writer says so.
    pub fn carry(
        &mut self,
        snapshot: ObjectHash,
        layers: &[Layer],
        monitor: &dyn Monitor,
    ) -> Result<Vec<Layer>, CarryError> {
        let new = layers.iter().filter(|layer| !self.has(layer)).cloned().collect::<Vec<_>>();
        let (mut maps, mut needed) = (HashMap::new(), Vec::new());
        for layer in &new {
            match layer.kind {
                LayerKind::Delta => needed.extend(layer.segments.iter().copied()),
                LayerKind::Image => {
                    let map = read_map(self.reader, snapshot, layer)?;
                    needed.extend(map.iter().flat_map(|segment| &segment.runs).filter_map(chunk_of));
                    maps.insert(layer.segments.clone(), map);
                }
            }
        }
        self.carry_chunks(snapshot, needed, monitor)?;
        for layer in &new {
            let segments = match maps.remove(&layer.segments) {
                None => layer.segments.iter().map(|id| self.new_id(snapshot, *id)).collect::<Result<_, Fault>>()?,
                Some(map) => {
                    map.into_iter().map(|segment| self.store_map(snapshot, segment)).collect::<Result<_, _>>()?
                }
            };
            self.layers.insert(layer.segments.clone(), segments);
        }
        let carried = |layer: &Layer| Layer { segments: self.layers[&layer.segments].clone(), ..layer.clone() };
        Ok(layers.iter().map(carried).collect())
    }

    /// Carries those of the chunks that are not known yet.
    fn carry_chunks(
        &mut self,
        snapshot: ObjectHash,
        chunks: Vec<ChunkId>,
        monitor: &dyn Monitor,
    ) -> Result<(), CarryError> {
        let missing: HashSet<ChunkId> = chunks.into_iter().filter(|id| !self.ids.contains_key(id)).collect();
        let needed_by = || format!("snapshot {snapshot}");
        let place =
            |chunk| self.reader.place(chunk).ok_or_else(|| Fault::MissingChunk { chunk, needed_by: needed_by() });
        let mut places: Vec<Place> = missing.into_iter().map(place).collect::<Result<_, Fault>>()?;
        places.sort_unstable_by_key(pack_fetch::sort_key);
        let total_bytes = places.iter().map(|place| u64::from(place.chunk.length)).sum();
        monitor.event(Event::Started { phase: Phase::Copy, total_bytes });
        let keys = self.destination.keys();
        pack_fetch::fetch(self.reader, &places, monitor, |fetched: &Fetched| {
            let opened = places[fetched.positions.clone()].par_iter().map(|&place| {
                let opened = self.reader.open_fetched(place, fetched.sealed(place), &needed_by)?;
                Ok((place, keys.chunk_id(&opened.decoded), opened.encoded))
            });
            let opened: Vec<(Place, ChunkId, Vec<u8>)> = opened.collect::<Result<_, Fault>>()?;
            for (place, id, encoded) in opened {
                if self.writer.claim(id) {
                    self.writer.add(EncodedChunk { id, encoded }).map_err(CarryError::Destination)?;
                }
                self.ids.insert(place.chunk.id, id);
                self.read_bytes += u64::from(place.chunk.length);
                monitor.event(Event::Advanced(place.chunk.length.into()));
            }
            Ok::<(), CarryError>(())
        })?;
        monitor.event(Event::Finished);
        Ok(())
    }

    fn new_id(&self, snapshot: ObjectHash, chunk: ChunkId) -> Result<ChunkId, Fault> {
        let missing = || Fault::MissingChunk { chunk, needed_by: format!("snapshot {snapshot}") };
        self.ids.get(&chunk).copied().ok_or_else(missing)
    }

    /// Stores a segment of a page map with the new ids of its chunks.
    fn store_map(&mut self, snapshot: ObjectHash, mut segment: LayerSegment) -> Result<ChunkId, CarryError> {
        for run in &mut segment.runs {
            if let RunContent::Chunk { chunk, first } = run.content {
                let chunk = PageChunk { id: self.new_id(snapshot, chunk.id)?, ..chunk };
                run.content = RunContent::Chunk { chunk, first };
            }
        }
        self.writer.store(&segment.encode()).map_err(CarryError::Destination)
    }
}

fn chunk_of(run: &Run) -> Option<ChunkId> {
    match run.content {
        RunContent::Zeros => None,
        RunContent::Chunk { chunk, .. } => Some(chunk.id),
    }
}

/// Whether two runs can be the same pages of the same chunk under two ids.
fn corresponds(from: &Run, to: &Run) -> bool {
    let content = match (from.content, to.content) {
        (RunContent::Zeros, RunContent::Zeros) => true,
        (RunContent::Chunk { chunk: from, first: from_first }, RunContent::Chunk { chunk: to, first: to_first }) => {
            (from.pages, from_first) == (to.pages, to_first)
        }
        _ => false,
    };
    content && from.pages == to.pages
}
