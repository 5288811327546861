//! The page map of an image: segments of 65,536 pages, each stored as a chunk (`format-spec/layer.md`).
//!
//! A segment of pages that did not change is the same bytes and thus the same chunk, so an unchanged database costs no new map.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::base::id::ChunkId;
use crate::base::page::{PageCount, PageNo};

use super::pack::le_u32;
use super::{FormatError, cbor, ensure};

/// Pages of a full segment.
pub const SEGMENT_PAGES: u32 = 65_536;
/// The most segments of a layer: an image cannot have more.
pub const MAX_SEGMENTS: usize = 65_536;

const ZEROS: u32 = u32::MAX;
const RECORD_BYTES: usize = 12;
const CHUNK_RECORD_BYTES: usize = 36;

/// What a run of pages holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunContent {
    /// Zeros.
    Zeros,
    /// Pages of a chunk.
    Chunk {
        /// Which.
        chunk: PageChunk,
        /// The first page's number in the chunk, from 0.
        first: u32,
    },
}

/// A chunk of whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageChunk {
    /// Its identity.
    pub id: ChunkId,
    /// All its pages, whether or not an image still uses them.
    pub pages: u32,
}

/// Consecutive pages that lie in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many, at least one.
    pub pages: u32,
    /// Where they are.
    pub content: RunContent,
}

impl Run {
    /// `pages` of its pages, after the first `skip`.
    pub fn part(self, skip: u32, pages: u32) -> Self {
        let content = match self.content {
            RunContent::Zeros => RunContent::Zeros,
            RunContent::Chunk { chunk, first } => RunContent::Chunk { chunk, first: first + skip },
        };
        Self { pages, content }
    }
}

/// The map of up to [`SEGMENT_PAGES`] pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSegment {
    /// The first page it covers.
    pub first_page: PageNo,
    /// One after the other, without gaps.
    pub runs: Vec<Run>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSegment {
    first_page: u32,
    page_count: u32,
    #[serde(with = "serde_bytes")]
    chunks: Vec<u8>,
    #[serde(with = "serde_bytes")]
    runs: Vec<u8>,
}

/// How many segments the map of `pages` pages has.
pub fn segment_count(pages: PageCount) -> usize {
    pages.0.div_ceil(SEGMENT_PAGES) as usize
}

/// The first page and the number of pages of the segment with that position, from 0.
pub fn segment_range(position: usize, pages: PageCount) -> (PageNo, u32) {
    let before = position as u32 * SEGMENT_PAGES;
    (PageNo(before + 1), SEGMENT_PAGES.min(pages.0 - before))
}

impl LayerSegment {
    /// The bytes of the chunk that stores the segment.
    pub fn encode(&self) -> Vec<u8> {
        let mut chunks: Vec<u8> = Vec::new();
        let mut positions = HashMap::new();
        let mut runs = Vec::with_capacity(self.runs.len() * RECORD_BYTES);
        for run in &self.runs {
            let (chunk, first) = match run.content {
                RunContent::Zeros => (ZEROS, 0),
                RunContent::Chunk { chunk, first } => {
                    let position = *positions.entry(chunk.id).or_insert_with(|| {
                        chunks.extend(chunk.id.0);
                        chunks.extend(chunk.pages.to_le_bytes());
                        (chunks.len() / CHUNK_RECORD_BYTES - 1) as u32
                    });
                    (position, first)
                }
            };
            for number in [run.pages, chunk, first] {
                runs.extend(number.to_le_bytes());
            }
        }
        let page_count = self.runs.iter().map(|run| run.pages).sum();
        cbor::encode(&WireSegment { first_page: self.first_page.0, page_count, chunks, runs })
    }

    /// Parses the segment that stands at that `position` of an image of `pages` pages.
    pub fn parse(bytes: &[u8], position: usize, pages: PageCount) -> Result<Self, FormatError> {
        let wire: WireSegment = cbor::decode(bytes)?;
        let (first_page, page_count) = segment_range(position, pages);
        ensure(wire.first_page == first_page.0 && wire.page_count == page_count, "a layer segment covers other pages")?;
        ensure(wire.chunks.len().is_multiple_of(CHUNK_RECORD_BYTES), "chunks of a layer segment are not whole")?;
        ensure(wire.runs.len().is_multiple_of(RECORD_BYTES), "runs of a layer segment are not whole")?;
        let runs = wire.runs.chunks_exact(RECORD_BYTES).map(|record| parse_run(record, &wire.chunks));
        let runs: Vec<Run> = runs.collect::<Result<_, _>>()?;
        let covered: u64 = runs.iter().map(|run| u64::from(run.pages)).sum();
        ensure(covered == u64::from(page_count), "runs of a layer segment do not add up")?;
        Ok(Self { first_page, runs })
    }
}

fn parse_run(record: &[u8], chunks: &[u8]) -> Result<Run, FormatError> {
    let [pages, chunk, first] = [0, 4, 8].map(|at| le_u32(&record[at..at + 4]));
    ensure(pages > 0, "a run of no pages")?;
    if chunk == ZEROS {
        ensure(first == 0, "a run of zeros begins inside a chunk")?;
        return Ok(Run { pages, content: RunContent::Zeros });
    }
    let listed = chunks.chunks_exact(CHUNK_RECORD_BYTES).nth(chunk as usize);
    let listed = listed.ok_or_else(|| FormatError::malformed("a run names a chunk that is not listed"))?;
    let mut id = ChunkId([0; 32]);
    id.0.copy_from_slice(&listed[..32]);
    let chunk = PageChunk { id, pages: le_u32(&listed[32..]) };
    ensure(u64::from(first) + u64::from(pages) <= u64::from(chunk.pages), "a run passes the end of its chunk")?;
    Ok(Run { pages, content: RunContent::Chunk { chunk, first } })
}

/// Builds the segments of an image from runs that arrive in page order.
#[derive(Debug, Default)]
pub struct LayerBuilder {
    pages: u32,
    runs: Vec<Run>,
}

impl LayerBuilder {
    /// Adds a run; returns the segments that it completes.
    pub fn push(&mut self, run: Run) -> Vec<LayerSegment> {
        let mut complete = Vec::new();
        let mut rest = run;
        while rest.pages > 0 {
            let room = SEGMENT_PAGES - self.pages % SEGMENT_PAGES;
            let head = rest.pages.min(room);
            self.append(rest.part(0, head));
            if self.pages.is_multiple_of(SEGMENT_PAGES) {
                complete.push(self.take());
            }
            rest = rest.part(head, rest.pages - head);
        }
        complete
    }

    /// The last segment, if it is not empty, and how many pages there were.
    pub fn finish(mut self) -> (Option<LayerSegment>, PageCount) {
        let pages = PageCount(self.pages);
        ((!self.runs.is_empty()).then(|| self.take()), pages)
    }

    fn append(&mut self, run: Run) {
        self.pages += run.pages;
        match self.runs.last_mut() {
            Some(last) if continues(last, run.content) => last.pages += run.pages,
            _ => self.runs.push(run),
        }
    }

    fn take(&mut self) -> LayerSegment {
        let runs = std::mem::take(&mut self.runs);
        let covered: u32 = runs.iter().map(|run| run.pages).sum();
        LayerSegment { first_page: PageNo(self.pages - covered + 1), runs }
    }
}

/// Whether `content` lies right behind the run.
fn continues(run: &Run, content: RunContent) -> bool {
    match (run.content, content) {
        (RunContent::Zeros, RunContent::Zeros) => true,
        (RunContent::Chunk { chunk, first }, RunContent::Chunk { chunk: next, first: next_first }) => {
            chunk == next && first + run.pages == next_first
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(id: u8, pages: u32) -> Run {
        let chunk = PageChunk { id: ChunkId([id; 32]), pages };
        Run { pages, content: RunContent::Chunk { chunk, first: 0 } }
    }

    #[test]
    fn runs_are_cut_at_segment_boundaries_and_come_back() {
        let zeros = Run { pages: 100_000, content: RunContent::Zeros };
        let mut builder = LayerBuilder::default();
        let mut segments = Vec::new();
        for run in [chunk(1, 65_530), chunk(2, 40), zeros, zeros, chunk(3, 1)] {
            segments.extend(builder.push(run));
        }
        let (last, pages) = builder.finish();
        segments.extend(last);
        assert_eq!((pages, segments.len()), (PageCount(265_571), segment_count(PageCount(265_571))));
        for (position, segment) in segments.iter().enumerate() {
            assert_eq!(LayerSegment::parse(&segment.encode(), position, pages).as_ref(), Ok(segment));
            assert!(LayerSegment::parse(&segment.encode(), position, PageCount(265_572)).is_err() || position < 4);
        }
        let split = RunContent::Chunk { chunk: PageChunk { id: ChunkId([2; 32]), pages: 40 }, first: 6 };
        assert_eq!(segments[1].runs[0], Run { pages: 34, content: split });
    }

    #[test]
    fn pages_lie_in_any_order_in_chunks_that_are_partly_used() {
        let chunk = PageChunk { id: ChunkId([1; 32]), pages: 10 };
        let run = |pages, first| Run { pages, content: RunContent::Chunk { chunk, first } };
        let mut builder = LayerBuilder::default();
        let runs = [run(2, 8), run(1, 3), run(3, 4), run(1, 0), run(1, 0)];
        runs.into_iter().for_each(|run| assert!(builder.push(run).is_empty()));
        let (segment, pages) = builder.finish();
        let segment = segment.expect("BUG: it has runs");
        assert_eq!(segment.runs, [run(2, 8), run(4, 3), run(1, 0), run(1, 0)]);
        assert_eq!(LayerSegment::parse(&segment.encode(), 0, pages), Ok(segment));
    }

    #[test]
    fn hostile_segments_are_refused() {
        let encode = |page_count, chunks: usize, runs: &[[u32; 3]]| {
            let runs = runs.iter().flatten().flat_map(|n| n.to_le_bytes()).collect();
            cbor::encode(&WireSegment { first_page: 1, page_count, chunks: vec![1; chunks], runs })
        };
        let check = |bytes: Vec<u8>| LayerSegment::parse(&bytes, 0, PageCount(10)).map(|s| s.runs.len());
        assert_eq!(check(encode(10, 36, &[[4, 0, 7], [6, ZEROS, 0]])), Ok(2));
        for (what, bytes) in [
            ("past the chunk", encode(10, 36, &[[10, 0, 0x0101_0101 - 9]])),
            ("overflowing in the chunk", encode(10, 36, &[[10, 0, u32::MAX]])),
            ("ids alone, as of old", encode(10, 32, &[[10, 0, 0]])),
            ("no pages", encode(10, 36, &[[10, 0, 0], [0, 0, 0]])),
            ("unlisted chunk", encode(10, 36, &[[10, 1, 0]])),
            ("too few pages", encode(10, 36, &[[9, 0, 0]])),
            ("overflowing pages", encode(10, 36, &[[u32::MAX, 0, 0], [11, 0, 0]])),
            ("zeros inside a chunk", encode(10, 36, &[[10, ZEROS, 1]])),
            ("torn ids", encode(10, 37, &[[10, 0, 0]])),
            ("other count", encode(9, 36, &[[9, 0, 0]])),
        ] {
            assert!(check(bytes).is_err(), "{what}");
        }
    }
}
