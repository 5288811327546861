//! Which restore points are affected by what is lost, and by how much.

use std::collections::{HashMap, HashSet};

use crate::base::clock::UnixMicros;
use crate::base::id::{ChunkId, DatabaseId, ObjectHash};
use crate::base::page::PageCount;
use crate::format::layer::{LayerSegment, RunContent, segment_range};
use crate::format::manifest::{Layer, LayerKind, Strategy};
use crate::ops::check::structure::Structure;
use crate::repo::Fault;
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::timeline::{Kept, Timeline};

use super::RepairError;

/// A snapshot that cannot be restored, with the commits that its newest layer holds one by one.
#[derive(Clone, Debug)]
pub struct Affected {
    /// Its id.
    pub id: ObjectHash,
    /// Its database's name.
    pub database: String,
    /// The same.
    pub timeline: DatabaseId,
    /// Its place.
    pub sequence: u64,
    /// When it was captured.
    pub captured: UnixMicros,
    /// As what.
    pub strategy: Strategy,
    /// Its pages.
    pub page_count: u32,
    /// Pages of its image that are lost; a later layer may have replaced some.
    pub lost_pages: u32,
    /// So many more may be, at most: what a lost part of a page map or a delta held is not known.
    pub unknown_pages: u32,
    /// Segments of its layers that are lost, or need a chunk that is.
    pub segments: Vec<ChunkId>,
    /// Commits before it that can be restored by it only, at most.
    pub commit_count: u64,
    /// Whether it is the last of its timeline, which is never taken away.
    pub is_last: bool,
    /// Whether it is held, and not taken away either.
    pub is_held: bool,
}

/// The snapshots that need one of the lost chunks.
pub fn find(structure: &Structure, lost: &HashSet<ChunkId>) -> Result<Vec<Affected>, RepairError> {
    let mut affected = Vec::new();
    if lost.is_empty() {
        return Ok(affected);
    }
    let mut counts = HashMap::new();
    for timeline in &structure.timelines {
        let last = timeline.last().map(|(id, _)| id);
        for kept in timeline.kept() {
            if let Some(loss) = loss(&structure.reader, &kept, lost, &mut counts)? {
                affected.push(describe(timeline, &kept, last, loss));
            }
        }
    }
    Ok(affected)
}

/// What is lost of a snapshot.
struct Loss {
    pages: u32,
    unknown_pages: u32,
    segments: Vec<ChunkId>,
}

fn describe(timeline: &Timeline, kept: &Kept<'_>, last: Option<ObjectHash>, loss: Loss) -> Affected {
    let manifest = kept.manifest;
    let newest = manifest.layers.last().filter(|layer| layer.kind == LayerKind::Delta);
    Affected {
        id: kept.id,
        database: timeline.entries.last().map_or_else(String::new, |recorded| recorded.entry.database.clone()),
        timeline: timeline.database,
        sequence: kept.sequence,
        captured: manifest.captured,
        strategy: manifest.strategy,
        page_count: manifest.page_count,
        lost_pages: loss.pages,
        unknown_pages: loss.unknown_pages,
        segments: loss.segments,
        commit_count: newest.map_or(0, |layer| layer.last_commit.saturating_sub(layer.first_commit)),
        is_last: last == Some(kept.id),
        is_held: kept.standing.held.is_some(),
    }
}

/// What is lost of a snapshot, if anything is.
fn loss(
    reader: &ChunkReader,
    kept: &Kept<'_>,
    lost: &HashSet<ChunkId>,
    counts: &mut HashMap<ChunkId, u32>,
) -> Result<Option<Loss>, RepairError> {
    let (mut known, mut unknown, mut segments) = (0u64, 0u64, Vec::new());
    for layer in &kept.manifest.layers {
        for (position, segment) in layer.segments.iter().enumerate() {
            if lost.contains(segment) {
                segments.push(*segment);
                unknown += u64::from(match layer.kind {
                    LayerKind::Image => segment_range(position, PageCount(layer.page_count)).1,
                    LayerKind::Delta => kept.manifest.page_count,
                });
            } else if layer.kind == LayerKind::Image {
                let pages = match counts.get(segment) {
                    Some(&pages) => pages,
                    None => *counts.entry(*segment).or_insert(lost_in_map(reader, kept.id, layer, position, lost)?),
                };
                segments.extend((pages > 0).then_some(*segment));
                known += u64::from(pages);
            }
        }
    }
    let all = u64::from(kept.manifest.page_count);
    let (known, unknown) = (known.min(all), unknown.min(all.saturating_sub(known)));
    let (pages, unknown_pages) = (known as u32, unknown as u32);
    Ok((!segments.is_empty()).then_some(Loss { pages, unknown_pages, segments }))
}

fn lost_in_map(
    reader: &ChunkReader,
    snapshot: ObjectHash,
    layer: &Layer,
    position: usize,
    lost: &HashSet<ChunkId>,
) -> Result<u32, Fault> {
    let chunk = layer.segments[position];
    let bytes = reader.read(chunk, &|| format!("snapshot {snapshot}, segment {position} of the page map"))?;
    let segment = LayerSegment::parse(&bytes, position, PageCount(layer.page_count));
    let segment = segment.map_err(|source| Fault::Layer { snapshot, position, chunk, source })?;
    let is_lost = |content: RunContent| matches!(content, RunContent::Chunk { chunk, .. } if lost.contains(&chunk.id));
    Ok(segment.runs.iter().filter(|run| is_lost(run.content)).map(|run| run.pages).sum())
}

/// All segments of page maps and deltas, each once.
pub fn segments(structure: &Structure) -> impl Iterator<Item = ChunkId> {
    let kept = structure.timelines.iter().flat_map(Timeline::kept);
    let segments = kept.flat_map(|kept| &kept.manifest.layers).flat_map(|layer| layer.segments.iter().copied());
    segments.collect::<HashSet<_>>().into_iter()
}
