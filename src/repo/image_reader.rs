//! Reads a state's image: which chunk holds which pages, and their bytes in the order of the packs.
//!
//! [`read_image`] fetches neighbouring chunks of a pack together and decodes them on all processors while the next ones are fetched. Its memory is
//! two fetches, whatever the size of the database; the plan takes some 80 bytes a chunk.

use std::ops::Range;

use rayon::prelude::*;

use crate::base::id::{ChunkId, ObjectHash};
use crate::base::page::PageNo;
use crate::format::layer::RunContent;
use crate::format::name::ObjectName;
use crate::monitor::{Event, Monitor};

use super::chunk_reader::ChunkReader;
use super::index::Place;
use super::stack_reader::{State, image_runs};
use super::{Fault, RepositoryError};

/// The most that is fetched at once, unless a single chunk is longer.
const FETCH_BYTES: u64 = 8 << 20;
/// Bytes that nobody needs are fetched along if they are fewer than a further request costs.
const GAP_BYTES: u64 = 128 << 10;

/// Takes whole pages, from the page with that number on.
pub type PageSink<'a, E> = dyn Fn(PageNo, &[u8]) -> Result<(), E> + Sync + 'a;

/// Pages of an image that lie in one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The first page.
    pub first: PageNo,
    /// How many.
    pub pages: u32,
    /// The first one's number in the chunk.
    pub first_in_chunk: u32,
    /// The chunk.
    pub chunk: ChunkId,
}

/// The pieces of a state's image, in page order. Pages in none of them are zeros.
pub fn pieces(reader: &ChunkReader<'_>, state: &State) -> Result<Vec<Piece>, Fault> {
    let mut next = 1u32;
    let pieces = image_runs(reader, state.snapshot, state.image())?.into_iter().filter_map(|run| {
        let first = PageNo(next);
        next = next.saturating_add(run.pages);
        match run.content {
            RunContent::Zeros => None,
            RunContent::Chunk { chunk, first: first_in_chunk } => {
                Some(Piece { first, pages: run.pages, first_in_chunk, chunk: chunk.id })
            }
        }
    });
    Ok(pieces.collect())
}

/// Chunks that are fetched with one request.
struct Fetch {
    pack: ObjectHash,
    range: Range<u64>,
    /// Each with its pieces.
    chunks: Vec<(Place, Range<usize>)>,
}

/// Hands every page of the image that is in a chunk to `write`, in no particular order and from several threads: the first page's number and whole pages.
pub fn read_image<E: From<RepositoryError> + Send>(
    reader: &ChunkReader<'_>,
    state: &State,
    write: &PageSink<'_, E>,
    monitor: &dyn Monitor,
) -> Result<(), E> {
    let fault = |fault: Fault| E::from(RepositoryError::from(fault));
    let (id, page_bytes) = (state.snapshot, state.page_size.bytes());
    let (pieces, fetches) = plan(reader, state).map_err(fault)?;
    let store = reader.repository().store();
    let fetch = |fetch: &Fetch| store.read_range(&ObjectName::pack(fetch.pack), fetch.range.clone());
    let mut fetched = fetches.first().map(fetch);
    for (i, current) in fetches.iter().enumerate() {
        monitor.check_cancelled().map_err(|cancelled| E::from(cancelled.into()))?;
        let bytes = fetched.take().and_then(Result::ok);
        let (next, written) = rayon::join(
            || fetches.get(i + 1).map(fetch),
            || {
                current.chunks.par_iter().try_for_each(|(place, range)| {
                    let chunk = open_chunk(reader, id, *place, bytes.as_deref(), current.range.start).map_err(fault)?;
                    for piece in &pieces[range.clone()] {
                        write(piece.first, slice(&chunk, piece, page_bytes, id).map_err(fault)?)?;
                        monitor.event(Event::Advanced(piece.pages as u64 * page_bytes as u64));
                    }
                    Ok::<(), E>(())
                })
            },
        );
        written?;
        fetched = next;
    }
    Ok(())
}

/// From what was fetched, or, should that be damaged or not have come, from any other place.
fn open_chunk(
    reader: &ChunkReader<'_>,
    id: ObjectHash,
    place: Place,
    fetched: Option<&[u8]>,
    start: u64,
) -> Result<Vec<u8>, Fault> {
    let offset = (u64::from(place.chunk.offset) - start) as usize;
    let sealed = fetched.and_then(|bytes| bytes.get(offset..offset + place.chunk.length as usize));
    match sealed.map(|sealed| reader.open(place, &mut sealed.to_vec())) {
        Some(Ok(chunk)) => Ok(chunk),
        _ => reader.read(place.chunk.id, &|| format!("snapshot {id}")),
    }
}

fn slice<'a>(chunk: &'a [u8], piece: &Piece, page_bytes: usize, snapshot: ObjectHash) -> Result<&'a [u8], Fault> {
    let start = piece.first_in_chunk as usize * page_bytes;
    let pages = chunk.get(start..start + piece.pages as usize * page_bytes);
    pages.ok_or(Fault::ShortChunk { snapshot, chunk: piece.chunk })
}

/// Pieces sorted by their place in the packs, and the fetches that cover them.
fn plan(reader: &ChunkReader<'_>, state: &State) -> Result<(Vec<Piece>, Vec<Fetch>), Fault> {
    let needed_by = || format!("snapshot {}", state.snapshot);
    let place = |chunk| reader.place(chunk).ok_or_else(|| Fault::MissingChunk { chunk, needed_by: needed_by() });
    let mut placed: Vec<(Place, Piece)> = pieces(reader, state)?
        .into_iter()
        .map(|piece| Ok((place(piece.chunk)?, piece)))
        .collect::<Result<_, Fault>>()?;
    placed.sort_unstable_by_key(|(place, piece)| (place.pack.name, place.chunk.offset, piece.first));
    let mut fetches: Vec<Fetch> = Vec::new();
    for (i, (place, _)) in placed.iter().enumerate() {
        let start = u64::from(place.chunk.offset);
        let end = start + u64::from(place.chunk.length);
        match fetches.last_mut() {
            Some(fetch) if fetch.pack == place.pack.name && fits(fetch, start, end) => {
                fetch.range.end = fetch.range.end.max(end);
                match fetch.chunks.last_mut() {
                    Some((last, range)) if last.chunk == place.chunk => range.end = i + 1,
                    _ => fetch.chunks.push((*place, i..i + 1)),
                }
            }
            _ => fetches.push(Fetch { pack: place.pack.name, range: start..end, chunks: vec![(*place, i..i + 1)] }),
        }
    }
    Ok((placed.into_iter().map(|(_, piece)| piece).collect(), fetches))
}

fn fits(fetch: &Fetch, start: u64, end: u64) -> bool {
    start <= fetch.range.end + GAP_BYTES && end - fetch.range.start <= FETCH_BYTES
}
