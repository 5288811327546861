//! A state as pages that are fetched when they are read: what a query, a mount or a comparison touches is all that they cost.
//!
//! Opening it reads the deltas' segments for their directory; of the image's page map, a segment is read when one of its 65,536 pages is needed. What is read has been
//! authenticated chunk by chunk and compared with its chunk id; the whole image's hash is not, for that needs every page (`restore` and `verify` do that).

use std::sync::OnceLock;

use crate::base::id::ChunkId;
use crate::base::page::{PageCount, PageNo, PageReader, PageSize};
use crate::format::delta::Change;
use crate::format::layer::{LayerSegment, Run, RunContent, SEGMENT_PAGES};

use super::chunk_cache::ChunkCache;
use super::stack_reader::{StackReader, State};
use super::{Fault, RepositoryError};

/// See the module documentation.
pub struct LazyPages {
    cache: ChunkCache,
    state: State,
    deltas: StackReader,
    /// The page map of the image, segment by segment.
    map: Vec<OnceLock<Vec<PlacedRun>>>,
}

/// A run of the image and its first page.
type PlacedRun = (PageNo, Run);

/// Where a page of the image stands.
struct Spot {
    chunk: ChunkId,
    first_in_chunk: u32,
    /// How many pages follow it there, itself included.
    pages: u32,
}

impl LazyPages {
    /// Opens a state. Several states share what `cache` holds.
    pub fn open(cache: &ChunkCache, state: &State) -> Result<Self, Fault> {
        let deltas = StackReader::open_deltas(cache.reader(), state)?;
        let map = state.image().segments.iter().map(|_| OnceLock::new()).collect();
        Ok(Self { cache: cache.clone(), state: state.clone(), deltas, map })
    }

    /// Which state it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn segment(&self, position: usize) -> Result<&[PlacedRun], Fault> {
        let Some(segment) = self.map.get(position) else { return Ok(&[]) };
        if segment.get().is_none() {
            let _ = segment.set(self.read_segment(position)?);
        }
        Ok(segment.get().map(Vec::as_slice).unwrap_or_default())
    }

    fn read_segment(&self, position: usize) -> Result<Vec<PlacedRun>, Fault> {
        let (snapshot, image) = (self.state.snapshot, self.state.image());
        let chunk = image.segments[position];
        let needed_by = || format!("snapshot {snapshot}, segment {position} of the page map");
        let bytes = self.cache.reader().read(chunk, &needed_by)?;
        let parsed = LayerSegment::parse(&bytes, position, PageCount(image.page_count));
        let segment = parsed.map_err(|source| Fault::Layer { snapshot, position, chunk, source })?;
        let mut next = segment.first_page.0;
        let placed = segment.runs.into_iter().map(|run| {
            let first = PageNo(next);
            next = next.saturating_add(run.pages);
            (first, run)
        });
        Ok(placed.collect())
    }

    /// Where a page of the image stands; `None` for zeros and for one that the image does not have.
    fn spot(&self, page: PageNo) -> Result<Option<Spot>, Fault> {
        let runs = self.segment((page.0.saturating_sub(1) / SEGMENT_PAGES) as usize)?;
        let after = runs.partition_point(|(first, _)| *first <= page);
        let Some((first, run)) = after.checked_sub(1).map(|at| runs[at]) else { return Ok(None) };
        let skip = page.0 - first.0;
        Ok(match run.content {
            RunContent::Chunk { chunk, first } if skip < run.pages => {
                Some(Spot { chunk: chunk.id, first_in_chunk: first + skip, pages: run.pages - skip })
            }
            _ => None,
        })
    }

    /// Fills `buffer` with as many pages from `page` on as lie in one place, at least one; returns how many.
    fn read_run(&self, page: PageNo, buffer: &mut [u8]) -> Result<usize, Fault> {
        let page_bytes = self.state.page_size.bytes();
        let change = self.deltas.change(page)?;
        // What does not depend on the image needs none of its chunks.
        let spot = if matches!(change, Some(Change::Plain(_) | Change::Zero)) { None } else { self.spot(page)? };
        let Some(spot) = spot else {
            buffer[..page_bytes].fill(0);
            change.into_iter().for_each(|change| change.apply(&mut buffer[..page_bytes]));
            return Ok(1);
        };
        let snapshot = self.state.snapshot;
        let needed_by = || format!("snapshot {snapshot}");
        if buffer.len() == page_bytes {
            let offset = spot.first_in_chunk as usize * page_bytes;
            if !self.cache.read_page(spot.chunk, offset, buffer, &needed_by)? {
                return Err(Fault::ShortChunk { snapshot, chunk: spot.chunk });
            }
            change.into_iter().for_each(|change| change.apply(buffer));
            return Ok(1);
        }
        let chunk = self.cache.read(spot.chunk, &needed_by)?;
        let pages = (buffer.len() / page_bytes).min(spot.pages as usize);
        let start = spot.first_in_chunk as usize * page_bytes;
        let found = chunk.get(start..start + pages * page_bytes);
        buffer[..pages * page_bytes].copy_from_slice(found.ok_or(Fault::ShortChunk { snapshot, chunk: spot.chunk })?);
        for (at, bytes) in buffer[..pages * page_bytes].chunks_exact_mut(page_bytes).enumerate() {
            self.deltas.apply(PageNo(page.0 + at as u32), bytes)?;
        }
        Ok(pages)
    }
}

impl PageReader for LazyPages {
    type Error = RepositoryError;

    fn page_size(&self) -> PageSize {
        self.state.page_size
    }

    fn page_count(&self) -> PageCount {
        self.state.page_count
    }

    fn read(&self, first: PageNo, buffer: &mut [u8]) -> Result<(), RepositoryError> {
        let (mut page, mut rest) = (first, buffer);
        while !rest.is_empty() {
            let pages = self.read_run(page, rest)?;
            rest = &mut rest[pages * self.state.page_size.bytes()..];
            page.0 += pages as u32;
        }
        Ok(())
    }

    fn will_read(&self, pages: &[PageNo]) {
        let mut chunks: Vec<ChunkId> = Vec::new();
        for &page in pages {
            // What is wrong with it is said when it is read.
            if let Ok(Some(spot)) = self.spot(page)
                && chunks.last() != Some(&spot.chunk)
                && !self.cache.has_page(spot.chunk, spot.first_in_chunk as usize * self.state.page_size.bytes())
            {
                chunks.push(spot.chunk);
            }
        }
        self.cache.will_read(chunks);
    }
}
