//! Stores a whole state as an image layer.
//!
//! An image is a list of extents: pages whose content an earlier image holds keep their place in its chunks, the others are read, cut and stored. A chunk is kept
//! only while at least half of its pages are live in the image, so what an image needs stays below twice its size; its live pages are stored anew otherwise.
//!
//! Two things happen at once: the next pages are read and cut, which must go in order, while the chunks
//! of the pages before them are identified and encoded on all processors. Memory is two batches, whatever the size of the database.

use std::collections::{HashMap, VecDeque};

use rayon::prelude::*;

use crate::base::id::ChunkId;
use crate::base::page::{PageNo, PageReader, PageSize};
use crate::chunk::cutter::Cutter;
use crate::format::layer::{LayerBuilder, LayerSegment, PageChunk, Run, RunContent};
use crate::monitor::{Event, Monitor, Phase};
use crate::store::page_map::PageMapBuilder;

use super::chunk_writer::{self, ChunkWriter};
use super::{ImageError, Repository, RepositoryError};

/// Bytes read at a time. A multiple of every page size.
const BATCH_BYTES: usize = 8 << 20;

/// What an image is made of, in page order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Pages that a chunk in the repository holds, or zeros.
    Kept(Run),
    /// Pages that are read and stored: the first, and how many.
    New(PageNo, u32),
}

impl Extent {
    fn pages(&self) -> u32 {
        match self {
            Self::Kept(run) => run.pages,
            Self::New(_, pages) => *pages,
        }
    }
}

/// The extents of an image of `page_count` pages, of which `changed`, ascending, differ from the earlier image with these `runs`.
pub fn plan(runs: &[(PageNo, Run)], changed: &[PageNo], page_count: u32) -> Vec<Extent> {
    let split = split_at_changes(runs, changed, page_count);
    let mut live: HashMap<ChunkId, u32> = HashMap::new();
    for extent in &split {
        if let Extent::Kept(Run { pages, content: RunContent::Chunk { chunk, .. } }) = extent {
            *live.entry(chunk.id).or_default() += pages;
        }
    }
    let mut extents: Vec<Extent> = Vec::new();
    let mut next = 1;
    for extent in split {
        let pages = extent.pages();
        let extent = match extent {
            Extent::Kept(Run { content: RunContent::Chunk { chunk, .. }, .. })
                if live[&chunk.id] < chunk.pages.div_ceil(2) =>
            {
                Extent::New(PageNo(next), pages)
            }
            other => other,
        };
        match (extents.last_mut(), extent) {
            (Some(Extent::New(_, before)), Extent::New(..)) => *before += pages,
            _ => extents.push(extent),
        }
        next += pages;
    }
    extents
}

/// Bytes of the new pages of an image.
pub fn new_bytes(extents: &[Extent], page_size: PageSize) -> u64 {
    let new_pages = extents.iter().map(|extent| if let Extent::New(_, pages) = extent { *pages } else { 0 });
    new_pages.map(u64::from).sum::<u64>() * page_size.bytes() as u64
}

/// Kept where nothing changed, new elsewhere, also beyond the earlier image.
fn split_at_changes(runs: &[(PageNo, Run)], changed: &[PageNo], page_count: u32) -> Vec<Extent> {
    let mut extents = Vec::new();
    let mut changed = changed.iter().map(|page| page.0).peekable();
    let mut next = 1;
    for &(first, run) in runs {
        let end = (first.0 + run.pages).min(page_count + 1);
        while next < end {
            while changed.next_if(|&page| page < next).is_some() {}
            let until = changed.peek().map_or(end, |&page| page.min(end));
            if until > next {
                extents.push(Extent::Kept(run.part(next - first.0, until - next)));
                next = until;
            } else {
                extents.push(Extent::New(PageNo(next), 1));
                next += 1;
            }
        }
    }
    if next <= page_count {
        extents.push(Extent::New(PageNo(next), page_count + 1 - next));
    }
    extents
}

/// Stores an image with these extents: the chunks of its new pages that `writer` does not know, and its page map, whose chunks it returns. A `tree` is given the leaves of
/// an image that is all new.
pub fn write_image<P: PageReader>(
    repository: &Repository,
    writer: &mut ChunkWriter<'_>,
    source: &P,
    extents: &[Extent],
    tree: Option<&mut PageMapBuilder>,
    monitor: &dyn Monitor,
) -> Result<Vec<ChunkId>, ImageError<P::Error>> {
    let total_bytes = new_bytes(extents, source.page_size());
    monitor.event(Event::Started { phase: Phase::Snapshot, total_bytes });
    let cutter = Cutter::new(repository.config.cutter, source.page_size(), &repository.keys.gear);
    let mut reader = BatchReader::new(source, cutter, extents, tree);
    let mut map = MapWriter::new(extents);
    let mut batch = reader.next()?;
    while let Some(current) = batch {
        monitor.check_cancelled().map_err(RepositoryError::from)?;
        let (next, stored) = rayon::join(
            || reader.next(),
            || store_batch(repository, writer, &current, source.page_size().bytes(), &mut map),
        );
        stored?;
        monitor.event(Event::Advanced(current.lengths.iter().sum::<usize>() as u64));
        batch = next?;
    }
    let segments = map.finish(writer)?;
    monitor.event(Event::Finished);
    Ok(segments)
}

/// Whole pages and where they are cut.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

/// Reads the new pages of an image in order.
struct BatchReader<'a, P> {
    source: &'a P,
    cutter: Cutter<'a>,
    /// What is left to be read: first pages and how many.
    ranges: VecDeque<(PageNo, u32)>,
    tree: Option<&'a mut PageMapBuilder>,
    /// Bytes that were read but could not be cut yet.
    carry: Vec<u8>,
    finished: bool,
}

impl<'a, P: PageReader> BatchReader<'a, P> {
    fn new(source: &'a P, cutter: Cutter<'a>, extents: &[Extent], tree: Option<&'a mut PageMapBuilder>) -> Self {
        let new = |extent: &Extent| if let Extent::New(first, pages) = extent { Some((*first, *pages)) } else { None };
        let ranges: VecDeque<_> = extents.iter().filter_map(new).collect();
        let finished = ranges.is_empty();
        Self { source, cutter, ranges, tree, carry: Vec::new(), finished }
    }

    fn next(&mut self) -> Result<Option<Batch>, ImageError<P::Error>> {
        if self.finished {
            return Ok(None);
        }
        let page_bytes = self.source.page_size().bytes();
        let mut bytes = Vec::with_capacity(self.carry.len() + BATCH_BYTES);
        bytes.append(&mut self.carry);
        let carried = bytes.len();
        let mut room = (BATCH_BYTES / page_bytes) as u32;
        while room > 0
            && let Some((first, pages)) = self.ranges.pop_front()
        {
            let taken = pages.min(room);
            if taken < pages {
                self.ranges.push_front((PageNo(first.0 + taken), pages - taken));
            }
            let start = bytes.len();
            bytes.resize(start + taken as usize * page_bytes, 0);
            self.source.read(first, &mut bytes[start..]).map_err(ImageError::Source)?;
            room -= taken;
        }
        self.hash(&bytes[carried..])?;
        self.finished = self.ranges.is_empty();
        let lengths = self.cutter.cut_all(&bytes, self.finished);
        self.carry = bytes.split_off(lengths.iter().sum());
        Ok(Some(Batch { bytes, lengths }))
    }

    fn hash(&mut self, bytes: &[u8]) -> Result<(), ImageError<P::Error>> {
        let Some(tree) = &mut self.tree else { return Ok(()) };
        tree.push_pages(bytes).map_err(|error| ImageError::Repository(RepositoryError::LocalState(error)))
    }
}

fn store_batch(
    repository: &Repository,
    writer: &mut ChunkWriter<'_>,
    batch: &Batch,
    page_bytes: usize,
    map: &mut MapWriter,
) -> Result<(), RepositoryError> {
    let mut rest = &batch.bytes[..];
    let chunks: Vec<&[u8]> = batch
        .lengths
        .iter()
        .map(|&length| {
            let (chunk, tail) = rest.split_at(length);
            rest = tail;
            chunk
        })
        .collect();
    let identify = |chunk: &&[u8]| (!is_zeros(chunk)).then(|| repository.keys.chunk_id(chunk));
    let ids: Vec<Option<ChunkId>> = chunks.par_iter().map(identify).collect();
    let new: Vec<(ChunkId, &[u8])> = ids
        .iter()
        .zip(&chunks)
        .filter_map(|(id, &chunk)| Some(((*id)?, chunk)))
        .filter(|(id, _)| writer.claim(*id))
        .collect();
    let options = writer.options();
    let encoded: Vec<_> = new.par_iter().map(|(id, chunk)| chunk_writer::encode(*id, chunk, options)).collect();
    for chunk in encoded {
        writer.add(chunk?)?;
    }
    for (id, chunk) in ids.into_iter().zip(chunks) {
        let pages = (chunk.len() / page_bytes) as u32;
        let content = |id| RunContent::Chunk { chunk: PageChunk { id, pages }, first: 0 };
        map.fill(Run { pages, content: id.map_or(RunContent::Zeros, content) }, writer)?;
    }
    Ok(())
}

fn is_zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Writes the page map, segment by segment: kept extents as they are, new ones as their chunks become known.
struct MapWriter<'a> {
    extents: std::slice::Iter<'a, Extent>,
    /// New pages that wait for their chunks.
    waiting: u32,
    builder: LayerBuilder,
    segments: Vec<ChunkId>,
}

impl<'a> MapWriter<'a> {
    fn new(extents: &'a [Extent]) -> Self {
        Self { extents: extents.iter(), waiting: 0, builder: LayerBuilder::default(), segments: Vec::new() }
    }

    /// Says where the next new pages lie.
    fn fill(&mut self, mut run: Run, writer: &mut ChunkWriter<'_>) -> Result<(), RepositoryError> {
        while run.pages > 0 {
            if self.waiting == 0 {
                self.advance(writer)?;
            }
            let pages = run.pages.min(self.waiting);
            self.push(run.part(0, pages), writer)?;
            self.waiting -= pages;
            run = run.part(pages, run.pages - pages);
        }
        Ok(())
    }

    /// Passes kept extents up to the next new one.
    fn advance(&mut self, writer: &mut ChunkWriter<'_>) -> Result<(), RepositoryError> {
        while let Some(extent) = self.extents.next() {
            match *extent {
                Extent::New(_, pages) => {
                    self.waiting = pages;
                    return Ok(());
                }
                Extent::Kept(run) => self.push(run, writer)?,
            }
        }
        Ok(())
    }

    fn push(&mut self, run: Run, writer: &mut ChunkWriter<'_>) -> Result<(), RepositoryError> {
        for segment in self.builder.push(run) {
            self.store(&segment, writer)?;
        }
        Ok(())
    }

    fn store(&mut self, segment: &LayerSegment, writer: &mut ChunkWriter<'_>) -> Result<(), RepositoryError> {
        self.segments.push(writer.store(&segment.encode())?);
        Ok(())
    }

    fn finish(mut self, writer: &mut ChunkWriter<'_>) -> Result<Vec<ChunkId>, RepositoryError> {
        self.advance(writer)?;
        if let (Some(segment), _) = std::mem::take(&mut self.builder).finish() {
            self.store(&segment, writer)?;
        }
        Ok(self.segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u32, id: u8, pages: u32) -> (PageNo, Run) {
        let chunk = PageChunk { id: ChunkId([id; 32]), pages };
        (PageNo(first), Run { pages, content: RunContent::Chunk { chunk, first: 0 } })
    }

    /// Kept pages as (chunk, first in it, pages), new ones as (0, first, pages).
    fn planned(changed: &[u32], page_count: u32) -> Vec<(u8, u32, u32)> {
        let changed: Vec<PageNo> = changed.iter().map(|&page| PageNo(page)).collect();
        let extents = plan(&[run(1, 1, 10), run(11, 2, 4)], &changed, page_count);
        extents
            .into_iter()
            .map(|extent| match extent {
                Extent::New(first, pages) => (0, first.0, pages),
                Extent::Kept(Run { pages, content: RunContent::Chunk { chunk, first } }) => {
                    (chunk.id.0[0], first, pages)
                }
                Extent::Kept(Run { pages, .. }) => (255, 0, pages),
            })
            .collect()
    }

    #[test]
    fn unchanged_pages_keep_their_place_while_half_of_their_chunk_is_live() {
        assert_eq!(planned(&[], 14), [(1, 0, 10), (2, 0, 4)]);
        assert_eq!(planned(&[3, 4], 14), [(1, 0, 2), (0, 3, 2), (1, 4, 6), (2, 0, 4)]);
        assert_eq!(planned(&[12, 13, 14], 16), [(1, 0, 10), (0, 11, 6)]);
        assert_eq!(planned(&[], 12), [(1, 0, 10), (2, 0, 2)]);
        assert_eq!(planned(&[], 11), [(1, 0, 10), (0, 11, 1)]);
        assert_eq!(planned(&[1, 14], 15), [(0, 1, 1), (1, 1, 9), (2, 0, 3), (0, 14, 2)]);
    }
}
