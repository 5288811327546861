//! Lost chunks that the live source still has.
//!
//! A page map says which pages of the database a chunk holds. If the source has the same bytes there, as their keyed hash proves, that is the chunk: whatever was committed since
//! does not matter. Chunks of deltas and of page maps are not in a database; they come back only if somebody happens to store the same bytes.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::{Mutex, PoisonError};

use crate::base::error_text::with_causes;
use crate::base::id::ChunkId;
use crate::base::page::{PageCount, PageNo, PageReader, PageSize};
use crate::chunk::MAX_CHUNK_BYTES;
use crate::format::layer::{LayerSegment, RunContent};
use crate::ops::check::structure::Structure;
use crate::repo::{Repository, RepositoryError};
use crate::source::{Pinned, SourceError};

/// A live database that a timeline is of.
pub struct Source<'a> {
    /// The database's name in the repository.
    pub database: String,
    /// Its pages.
    pub pages: &'a dyn LivePages,
}

/// Pages of a pinned state. Why one cannot be read is a text: then the chunk is not there.
pub trait LivePages {
    /// Size of a page.
    fn page_size(&self) -> PageSize;

    /// How many there are.
    fn page_count(&self) -> PageCount;

    /// Reads one page.
    fn read_page(&self, page: PageNo, buffer: &mut [u8]) -> Result<(), String>;
}

impl<P: PageReader> LivePages for P
where
    P::Error: Error + 'static,
{
    fn page_size(&self) -> PageSize {
        PageReader::page_size(self)
    }

    fn page_count(&self) -> PageCount {
        PageReader::page_count(self)
    }

    fn read_page(&self, page: PageNo, buffer: &mut [u8]) -> Result<(), String> {
        self.read(page, buffer).map_err(|error| with_causes(&error))
    }
}

/// A captured database. Should its WAL be restarted, which can happen once, the pages are those of a newer state: whoever reads proves what they are.
pub struct Captured<C>(Mutex<C>);

impl<C: Pinned> Captured<C> {
    /// Reads from a capture.
    pub fn new(capture: C) -> Self {
        Self(Mutex::new(capture))
    }
}

impl<C: Pinned> LivePages for Captured<C> {
    fn page_size(&self) -> PageSize {
        PageReader::page_size(self.0.lock().unwrap_or_else(PoisonError::into_inner).pages())
    }

    fn page_count(&self) -> PageCount {
        PageReader::page_count(self.0.lock().unwrap_or_else(PoisonError::into_inner).pages())
    }

    fn read_page(&self, page: PageNo, buffer: &mut [u8]) -> Result<(), String> {
        let mut capture = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = match capture.pages().read(page, buffer) {
            Err(SourceError::WalRestarted(_)) => capture.map_wal().and_then(|()| capture.pages().read(page, buffer)),
            read => read,
        };
        read.map_err(|error| with_causes(&error))
    }
}

/// A lost chunk that a source has.
#[derive(Clone, Debug)]
pub struct FromSource {
    /// Which.
    pub chunk: ChunkId,
    /// The source's position among all.
    source: usize,
    pages: Vec<PageNo>,
}

/// Those of the lost chunks that a source has.
pub fn find(
    repository: &Repository,
    structure: &Structure,
    lost: &HashSet<ChunkId>,
    sources: &[Source<'_>],
) -> Result<Vec<FromSource>, RepositoryError> {
    let mut found: Vec<FromSource> = Vec::new();
    let mut known = HashSet::new();
    for (source, Source { database, pages }) in sources.iter().enumerate() {
        let mut layouts: Vec<(ChunkId, Vec<Option<u32>>)> =
            layouts(structure, database, pages.page_size(), lost).into_iter().collect();
        layouts.sort_unstable_by_key(|(chunk, _)| *chunk);
        for (chunk, layout) in layouts {
            let candidate = FromSource { chunk, source, pages: filled(&layout) };
            if !known.contains(&chunk) && candidate.read(repository, sources).is_some() {
                known.insert(chunk);
                found.push(candidate);
            }
        }
    }
    Ok(found)
}

impl FromSource {
    /// The chunk's bytes, if the source has them.
    pub fn read(&self, repository: &Repository, sources: &[Source<'_>]) -> Option<Vec<u8>> {
        let source = sources.get(self.source)?.pages;
        let page_bytes = source.page_size().bytes();
        let mut bytes = vec![0; self.pages.len() * page_bytes];
        for (page, buffer) in self.pages.iter().zip(bytes.chunks_exact_mut(page_bytes)) {
            if page.0 == 0 || page.0 > source.page_count().0 {
                return None;
            }
            source.read_page(*page, buffer).ok()?;
        }
        (repository.keys().chunk_id(&bytes) == self.chunk).then_some(bytes)
    }
}

/// For each of the chunks, in what order its pages stand in the database of that name, as far as its page maps say.
fn layouts(
    structure: &Structure,
    database: &str,
    page_size: PageSize,
    lost: &HashSet<ChunkId>,
) -> HashMap<ChunkId, Vec<Option<u32>>> {
    let (mut layouts, mut read) = (HashMap::new(), HashSet::new());
    let named = |name: &str| name == database;
    for timeline in &structure.timelines {
        if !timeline.entries.last().is_some_and(|recorded| named(&recorded.entry.database)) {
            continue;
        }
        for kept in timeline.kept().filter(|kept| kept.manifest.page_size() == page_size) {
            let image = kept.manifest.image();
            for (position, &segment) in image.segments.iter().enumerate() {
                if !read.insert(segment) || lost.contains(&segment) {
                    continue;
                }
                let bytes = structure.reader.read(segment, &|| format!("snapshot {}", kept.id));
                let parsed = bytes
                    .ok()
                    .and_then(|bytes| LayerSegment::parse(&bytes, position, PageCount(image.page_count)).ok());
                if let Some(parsed) = parsed {
                    note(&parsed, page_size, lost, &mut layouts);
                }
            }
        }
    }
    layouts
}

fn note(
    segment: &LayerSegment,
    page_size: PageSize,
    lost: &HashSet<ChunkId>,
    layouts: &mut HashMap<ChunkId, Vec<Option<u32>>>,
) {
    let mut page = segment.first_page.0;
    for run in &segment.runs {
        if let RunContent::Chunk { chunk, first } = run.content
            && lost.contains(&chunk.id)
            && chunk.pages as usize <= MAX_CHUNK_BYTES / page_size.bytes()
        {
            let layout = layouts.entry(chunk.id).or_default();
            layout.resize(layout.len().max(chunk.pages as usize), None);
            for at in 0..run.pages {
                layout[(first + at) as usize].get_or_insert(page + at);
            }
        }
        page = page.saturating_add(run.pages);
    }
}

/// Pages of a chunk that no image uses any more stood beside those that one uses.
fn filled(layout: &[Option<u32>]) -> Vec<PageNo> {
    let mut pages: Vec<u32> = layout.iter().map(|page| page.unwrap_or(0)).collect();
    for at in 1..pages.len() {
        if pages[at] == 0 && pages[at - 1] != 0 {
            pages[at] = pages[at - 1].saturating_add(1);
        }
    }
    for at in (1..pages.len()).rev() {
        if pages[at - 1] == 0 {
            pages[at - 1] = pages[at].saturating_sub(1);
        }
    }
    pages.into_iter().map(PageNo).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_no_map_names_stand_beside_the_others() {
        let check = |layout: &[u32], expected: &[u32]| {
            let layout: Vec<Option<u32>> = layout.iter().map(|&page| (page > 0).then_some(page)).collect();
            assert_eq!(filled(&layout).into_iter().map(|page| page.0).collect::<Vec<_>>(), expected);
        };
        check(&[5, 6, 9], &[5, 6, 9]);
        check(&[0, 0, 7, 0], &[5, 6, 7, 8]);
        check(&[3, 0, 9], &[3, 4, 9]);
        check(&[0, 1], &[0, 1]);
        check(&[0], &[0]);
    }
}
