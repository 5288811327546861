//! Reads a state's image: which chunk holds which pages, and their bytes in the order of the packs.
//!
//! [`read_pieces`] decodes on all processors what [`pack_fetch`](super::pack_fetch) fetches ahead. Its memory is that of the requests under way,
//! whatever the size of the database; the plan takes some 150 bytes a chunk.

use rayon::prelude::*;

use crate::base::id::{ChunkId, ObjectHash};
use crate::base::page::{PageCount, PageNo, PageSize};
use crate::format::layer::RunContent;
use crate::monitor::{Event, Monitor};

use super::chunk_reader::ChunkReader;
use super::index::Place;
use super::pack_fetch::{self, Fetched};
use super::stack_reader::{State, image_runs};
use super::{Fault, RepositoryError};

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
    /// All pages of the chunk.
    pub chunk_pages: u32,
}

impl Piece {
    /// Its bytes.
    pub fn bytes(&self, page_size: PageSize) -> u64 {
        page_size.image_bytes(PageCount(self.pages))
    }

    /// Whether it is all of its chunk.
    pub fn is_whole(&self) -> bool {
        self.first_in_chunk == 0 && self.pages == self.chunk_pages
    }
}

/// The pieces of a state's image, in page order. Pages in none of them are zeros.
pub fn pieces(reader: &ChunkReader, state: &State) -> Result<Vec<Piece>, Fault> {
    let mut next = 1u32;
    let pieces = image_runs(reader, state.snapshot, state.image())?.into_iter().filter_map(|run| {
        let first = PageNo(next);
        next = next.saturating_add(run.pages);
        match run.content {
            RunContent::Zeros => None,
            RunContent::Chunk { chunk, first: first_in_chunk } => {
                Some(Piece { first, pages: run.pages, first_in_chunk, chunk: chunk.id, chunk_pages: chunk.pages })
            }
        }
    });
    Ok(pieces.collect())
}

/// Hands the pages of these pieces of a state's image to `write`, in no particular order and from several threads: the first page's number and whole pages.
pub fn read_pieces<E: From<RepositoryError> + Send>(
    reader: &ChunkReader,
    state: &State,
    pieces: Vec<Piece>,
    write: &PageSink<'_, E>,
    monitor: &dyn Monitor,
) -> Result<(), E> {
    let fault = |fault: Fault| E::from(RepositoryError::from(fault));
    let (id, page_bytes) = (state.snapshot, state.page_size.bytes());
    let placed = place(reader, id, pieces).map_err(fault)?;
    let chunks: Vec<&[(Place, Piece)]> = placed.chunk_by(|(a, _), (b, _)| a == b).collect();
    let places: Vec<Place> = chunks.iter().map(|pieces| pieces[0].0).collect();
    pack_fetch::fetch(reader, &places, monitor, |fetched: &Fetched| {
        chunks[fetched.positions.clone()].par_iter().try_for_each(|pieces| {
            let place = pieces[0].0;
            let opened = reader.open_fetched(place, fetched.sealed(place), &|| format!("snapshot {id}"));
            let chunk = opened.map_err(fault)?.decoded;
            for (_, piece) in *pieces {
                write(piece.first, slice(&chunk, piece, page_bytes, id).map_err(fault)?)?;
                monitor.event(Event::Advanced(piece.pages as u64 * page_bytes as u64));
            }
            Ok(())
        })
    })
}

/// The pieces with their places, in the order of the packs.
fn place(reader: &ChunkReader, id: ObjectHash, pieces: Vec<Piece>) -> Result<Vec<(Place, Piece)>, Fault> {
    let missing = |chunk| Fault::MissingChunk { chunk, needed_by: format!("snapshot {id}") };
    let place = |piece: Piece| Ok((reader.place(piece.chunk).ok_or_else(|| missing(piece.chunk))?, piece));
    let mut placed: Vec<(Place, Piece)> = pieces.into_iter().map(place).collect::<Result<_, Fault>>()?;
    placed.sort_unstable_by_key(|(place, piece)| (pack_fetch::sort_key(place), piece.first));
    Ok(placed)
}

fn slice<'a>(chunk: &'a [u8], piece: &Piece, page_bytes: usize, snapshot: ObjectHash) -> Result<&'a [u8], Fault> {
    let start = piece.first_in_chunk as usize * page_bytes;
    let pages = chunk.get(start..start + piece.pages as usize * page_bytes);
    pages.ok_or(Fault::ShortChunk { snapshot, chunk: piece.chunk })
}
