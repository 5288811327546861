//! Reads any pages of a state: deltas newest first down to the image.
//!
//! Opening it reads the page map and every delta segment of the stack once, for a directory of 16 bytes a record; what a page needs is fetched when it is asked for.
//! A state that has not been folded yet has its last steps in memory.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use crate::base::clock::UnixMicros;
use crate::base::id::{ChunkId, ImageRoot, ObjectHash};
use crate::base::image_tree::Leaves;
use crate::base::page::{PageCount, PageNo, PageReader, PageSize};
use crate::format::delta::{self, Change, StepPart, StepState};
use crate::format::layer::{LayerSegment, Run, RunContent};
use crate::format::manifest::{Layer, Manifest};

use super::chunk_reader::ChunkReader;
use super::pack_fetch::read_ahead;
use super::{Fault, RepositoryError};

/// Parsed segments that are kept in memory.
const KEPT_SEGMENTS: usize = 64;

/// A restorable state: what a manifest names, up to some commit, or beyond it by steps that are in a journal only.
#[derive(Clone, Debug)]
pub struct State {
    /// The snapshot that names the layers.
    pub snapshot: ObjectHash,
    /// Bytes of a page.
    pub page_size: PageSize,
    /// Pages of the state.
    pub page_count: PageCount,
    /// BLAKE3 of its image.
    pub root: ImageRoot,
    /// Its number in the timeline.
    pub commit: u64,
    /// When it was captured.
    pub captured: UnixMicros,
    /// Newest last; the first is an image. Steps beyond `commit` do not count.
    pub layers: Vec<Layer>,
    /// Further steps.
    pub journal: Arc<Vec<StepPart>>,
}

impl State {
    /// The state of a snapshot.
    pub fn of_snapshot(snapshot: ObjectHash, manifest: &Manifest) -> Self {
        Self {
            snapshot,
            page_size: manifest.page_size(),
            page_count: manifest.page_count(),
            root: manifest.root,
            commit: manifest.commit,
            captured: manifest.captured,
            layers: manifest.layers.clone(),
            journal: Arc::default(),
        }
    }

    /// The state that `step`, which stands in the last of `layers` or in `journal`, leads to.
    pub fn at_step(&self, step: &StepState) -> Self {
        let StepState { commit, captured, root, .. } = *step;
        Self { page_count: step.page_count(), root, commit, captured, ..self.clone() }
    }

    /// How its image is divided into leaves.
    pub fn shape(&self) -> Leaves {
        Leaves { page_size: self.page_size, page_count: self.page_count }
    }

    /// Bytes of the image.
    pub fn image_bytes(&self) -> u64 {
        self.page_size.image_bytes(self.page_count)
    }

    /// The layer that holds every page.
    pub fn image(&self) -> &Layer {
        self.layers.first().expect("BUG: a state stands on an image")
    }

    /// The layers above it.
    pub fn deltas(&self) -> &[Layer] {
        self.layers.get(1..).unwrap_or_default()
    }
}

/// The page map of an image layer, segment by segment.
pub fn read_map(reader: &ChunkReader, snapshot: ObjectHash, layer: &Layer) -> Result<Vec<LayerSegment>, Fault> {
    let mut map = Vec::new();
    let needed_by = |position: usize| format!("snapshot {snapshot}, segment {position} of the page map");
    read_ahead(reader, &layer.segments, &needed_by, |position, bytes| {
        let segment = LayerSegment::parse(&bytes, position, PageCount(layer.page_count));
        let chunk = layer.segments[position];
        map.push(segment.map_err(|source| Fault::Layer { snapshot, position, chunk, source })?);
        Ok(())
    })
    .map(|()| map)
}

/// The runs of an image layer, in page order.
pub fn image_runs(reader: &ChunkReader, snapshot: ObjectHash, layer: &Layer) -> Result<Vec<Run>, Fault> {
    Ok(read_map(reader, snapshot, layer)?.into_iter().flat_map(|segment| segment.runs).collect())
}

/// The step parts of one segment of a delta layer.
pub fn delta_parts(
    reader: &ChunkReader,
    snapshot: ObjectHash,
    page_size: PageSize,
    position: usize,
    chunk: ChunkId,
) -> Result<Vec<StepPart>, Fault> {
    let bytes = reader.read(chunk, &|| format!("snapshot {snapshot}, segment {position} of a delta"))?;
    delta::parse(&bytes, page_size).map_err(|source| Fault::Layer { snapshot, position, chunk, source })
}

/// Hands the step parts of every segment of these delta layers to `take`, in order, with the segment's position in its layer and its chunk.
pub fn for_each_segment<E: From<Fault>>(
    reader: &ChunkReader,
    snapshot: ObjectHash,
    page_size: PageSize,
    deltas: &[Layer],
    mut take: impl FnMut(usize, ChunkId, Vec<StepPart>) -> Result<(), E>,
) -> Result<(), E> {
    let segments = |layer: &Layer| layer.segments.clone().into_iter().enumerate().collect::<Vec<_>>();
    let segments: Vec<(usize, ChunkId)> = deltas.iter().flat_map(segments).collect();
    let chunks: Vec<ChunkId> = segments.iter().map(|&(_, chunk)| chunk).collect();
    let needed_by = |at: usize| format!("snapshot {snapshot}, segment {} of a delta", segments[at].0);
    read_ahead(reader, &chunks, &needed_by, |at, bytes| {
        let (position, chunk) = segments[at];
        let parts = delta::parse(&bytes, page_size);
        take(position, chunk, parts.map_err(|source| Fault::Layer { snapshot, position, chunk, source })?)
    })
}

/// Hands every step part of a state's deltas, oldest first, to `take`: those in its layers, then those in its journal.
pub fn for_each_part<E: From<Fault>>(
    reader: &ChunkReader,
    state: &State,
    mut take: impl FnMut(&StepPart) -> Result<(), E>,
) -> Result<(), E> {
    let counts = |part: &&StepPart| part.state.commit <= state.commit;
    for_each_segment(reader, state.snapshot, state.page_size, state.deltas(), |_, _, parts| {
        parts.iter().filter(counts).try_for_each(&mut take)
    })?;
    state.journal.iter().filter(counts).try_for_each(take)
}

/// Where the record of a page stands.
#[derive(Clone, Copy, Debug)]
struct Entry {
    page: PageNo,
    /// Position of its step part among all, oldest first.
    order: u32,
    /// Position of the segment among all; the journal counts as one.
    segment: u32,
    part: u32,
    record: u32,
}

/// See the module documentation.
pub struct StackReader {
    reader: ChunkReader,
    state: State,
    /// Runs of the image with their first page.
    runs: Vec<(PageNo, Run)>,
    /// Sorted by page, then order.
    entries: Vec<Entry>,
    /// Steps that cut the database: their order and how many pages were left.
    cuts: Vec<(u32, u32)>,
    /// Position in its layer, and chunk, of each segment.
    segments: Vec<(usize, ChunkId)>,
    /// Used last, last.
    kept: Mutex<VecDeque<(u32, Arc<Vec<StepPart>>)>>,
    /// The state that the deltas lead to.
    last: Option<StepState>,
}

impl StackReader {
    /// Reads the directory of a state.
    pub fn open(reader: &ChunkReader, state: &State) -> Result<Self, Fault> {
        let mut next = 1u32;
        let runs = image_runs(reader, state.snapshot, state.image())?.into_iter().map(|run| {
            let first = PageNo(next);
            next = next.saturating_add(run.pages);
            (first, run)
        });
        let runs = runs.collect();
        Ok(Self { runs, ..Self::open_deltas(reader, state)? })
    }

    /// Reads the directory of a state's deltas, to know which pages they touch: pages have no content then.
    pub fn open_deltas(reader: &ChunkReader, state: &State) -> Result<Self, Fault> {
        let mut stack = Self {
            reader: reader.clone(),
            state: state.clone(),
            runs: Vec::new(),
            entries: Vec::new(),
            cuts: Vec::new(),
            segments: Vec::new(),
            kept: Mutex::default(),
            last: None,
        };
        stack.read_directory()?;
        Ok(stack)
    }

    fn read_directory(&mut self) -> Result<(), Fault> {
        let mut order = 0;
        let State { snapshot, page_size, .. } = self.state;
        let (reader, deltas) = (self.reader.clone(), self.state.deltas().to_vec());
        for_each_segment(&reader, snapshot, page_size, &deltas, |position, chunk, parts| {
            let segment = self.segments.len() as u32;
            self.segments.push((position, chunk));
            self.add(&parts, segment, &mut order);
            self.keep(segment, Arc::new(parts));
            Ok::<(), Fault>(())
        })?;
        let journal = Arc::clone(&self.state.journal);
        // The journal is no chunk: it is found by a segment number past the end.
        self.add(&journal, self.segments.len() as u32, &mut order);
        self.entries.sort_unstable_by_key(|entry| (entry.page, entry.order));
        Ok(())
    }

    fn add(&mut self, parts: &[StepPart], segment: u32, order: &mut u32) {
        for (part_position, part) in parts.iter().enumerate() {
            if part.state.commit > self.state.commit {
                continue;
            }
            // Without pages beyond the low count in the state before, there is nothing to cut.
            let begins = self.last.is_none_or(|last| last.commit != part.state.commit);
            if begins && self.last.is_none_or(|last| part.state.low_page_count < last.page_count) {
                self.cuts.push((*order, part.state.low_page_count));
            }
            self.last = Some(part.state);
            self.entries.extend(part.records.iter().enumerate().map(|(record, found)| Entry {
                page: found.page,
                order: *order,
                segment,
                part: part_position as u32,
                record: record as u32,
            }));
            *order += 1;
        }
    }

    /// Pages that the deltas can make something else of, ascending: those that have a record, and those that a step cut off, which start from zeros
    /// and need no record to stay so.
    pub fn touched(&self) -> Vec<PageNo> {
        let mut pages: Vec<PageNo> = self.entries.iter().map(|entry| entry.page).collect();
        let low = self.cuts.iter().map(|&(_, low)| low).min();
        pages.extend(low.into_iter().flat_map(|low| low.saturating_add(1)..=self.state.page_count.0).map(PageNo));
        pages.sort_unstable();
        pages.dedup();
        pages
    }

    /// The runs of the image with their first page.
    pub fn runs(&self) -> &[(PageNo, Run)] {
        &self.runs
    }

    fn keep(&self, segment: u32, parts: Arc<Vec<StepPart>>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_SEGMENTS {
            kept.pop_front();
        }
        kept.push_back((segment, parts));
    }

    fn segment(&self, segment: u32) -> Result<Arc<Vec<StepPart>>, Fault> {
        let Some(&(position, chunk)) = self.segments.get(segment as usize) else {
            return Ok(Arc::clone(&self.state.journal));
        };
        if let Some(parts) = self.kept_segment(segment) {
            return Ok(parts);
        }
        let parts = delta_parts(&self.reader, self.state.snapshot, self.state.page_size, position, chunk)?;
        let parts = Arc::new(parts);
        self.keep(segment, Arc::clone(&parts));
        Ok(parts)
    }

    fn kept_segment(&self, segment: u32) -> Option<Arc<Vec<StepPart>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().rposition(|(number, _)| *number == segment)?;
        let found = kept.remove(at)?;
        let parts = Arc::clone(&found.1);
        kept.push_back(found);
        Some(parts)
    }

    /// Makes of a page of the image what the deltas make of it.
    pub fn apply(&self, page: PageNo, bytes: &mut [u8]) -> Result<(), Fault> {
        if self.last.is_some()
            && let Some(change) = self.change(page)?
        {
            change.apply(bytes);
        }
        Ok(())
    }

    /// All that the deltas make of a page, as one change; `None` if nothing.
    pub fn change(&self, page: PageNo) -> Result<Option<Change>, Fault> {
        let start = self.entries.partition_point(|entry| entry.page < page);
        let mut composed: Option<Change> = None;
        let mut done = 0;
        for entry in self.entries[start..].iter().take_while(|entry| entry.page == page) {
            if self.is_cut(page, done, entry.order + 1) {
                composed = Some(Change::Zero);
            }
            done = entry.order + 1;
            let parts = self.segment(entry.segment)?;
            let change = &parts[entry.part as usize].records[entry.record as usize].change;
            composed = Some(match composed {
                Some(before) => before.then(change, self.state.page_size),
                None => change.clone(),
            });
        }
        if self.is_cut(page, done, u32::MAX) {
            composed = Some(Change::Zero);
        }
        Ok(composed.filter(|change| !change.is_nothing()))
    }

    /// Whether a step from `from` to before `to` left fewer pages than `page`.
    fn is_cut(&self, page: PageNo, from: u32, to: u32) -> bool {
        let first = self.cuts.partition_point(|&(order, _)| order < from);
        self.cuts[first..].iter().take_while(|&&(order, _)| order < to).any(|&(_, low)| low < page.0)
    }

    /// These pages, one after the other.
    pub fn read_pages(&self, pages: &[PageNo]) -> Result<Vec<u8>, Fault> {
        let page_bytes = self.state.page_size.bytes();
        let mut buffer = vec![0; pages.len() * page_bytes];
        // In order, so that the same pages give the same requests.
        let mut by_chunk: BTreeMap<ChunkId, Vec<(usize, u32)>> = BTreeMap::new();
        for (at, &page) in pages.iter().enumerate() {
            if let Some((id, in_chunk)) = self.place(page) {
                by_chunk.entry(id).or_default().push((at, in_chunk));
            }
        }
        let by_chunk: Vec<(ChunkId, Vec<(usize, u32)>)> = by_chunk.into_iter().collect();
        let fetched: Vec<Vec<(usize, Vec<u8>)>> =
            by_chunk.par_iter().map(|(id, wanted)| self.cut_out(*id, wanted)).collect::<Result<_, Fault>>()?;
        for (at, page) in fetched.into_iter().flatten() {
            buffer[at * page_bytes..(at + 1) * page_bytes].copy_from_slice(&page);
        }
        for (&page, bytes) in pages.iter().zip(buffer.chunks_exact_mut(page_bytes)) {
            self.apply(page, bytes)?;
        }
        Ok(buffer)
    }

    /// Bytes of chunks that reading these pages fetches, apart from those of deltas, which are there.
    pub fn fetched_bytes(&self, pages: impl Iterator<Item = PageNo>) -> u64 {
        let chunks: HashSet<ChunkId> = pages.filter_map(|page| self.place(page)).map(|(chunk, _)| chunk).collect();
        let places = chunks.into_iter().filter_map(|chunk| self.reader.place(chunk));
        places.map(|place| u64::from(place.chunk.length)).sum()
    }

    /// The chunk that holds a page of the image, and the page's number in it.
    fn place(&self, page: PageNo) -> Option<(ChunkId, u32)> {
        let after = self.runs.partition_point(|(first, _)| *first <= page);
        let (first, run) = self.runs.get(after.checked_sub(1)?)?;
        let offset = page.0 - first.0;
        match run.content {
            RunContent::Chunk { chunk, first } if offset < run.pages => Some((chunk.id, first + offset)),
            _ => None,
        }
    }

    /// Pages of one chunk.
    fn cut_out(&self, id: ChunkId, wanted: &[(usize, u32)]) -> Result<Vec<(usize, Vec<u8>)>, Fault> {
        let (snapshot, page_bytes) = (self.state.snapshot, self.state.page_size.bytes());
        let chunk = self.reader.read(id, &|| format!("snapshot {snapshot}"))?;
        let cut = |&(at, in_chunk): &(usize, u32)| {
            let start = in_chunk as usize * page_bytes;
            let page = chunk.get(start..start + page_bytes).ok_or(Fault::ShortChunk { snapshot, chunk: id })?;
            Ok((at, page.to_vec()))
        };
        wanted.iter().map(cut).collect()
    }
}

impl PageReader for StackReader {
    type Error = RepositoryError;

    fn page_size(&self) -> PageSize {
        self.state.page_size
    }

    fn page_count(&self) -> PageCount {
        self.state.page_count
    }

    fn read(&self, first: PageNo, buffer: &mut [u8]) -> Result<(), RepositoryError> {
        let count = (buffer.len() / self.state.page_size.bytes()) as u32;
        let pages: Vec<PageNo> = (first.0..first.0 + count).map(PageNo).collect();
        buffer.copy_from_slice(&self.read_pages(&pages)?);
        Ok(())
    }
}
