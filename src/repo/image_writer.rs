//! Stores a whole state of a database as an image layer.
//!
//! Two things happen at once: the next pages are read, hashed and cut, which must go in order, while the chunks
//! of the pages before them are identified and encoded on all processors. Memory is two batches, whatever the size of the database.

use rayon::prelude::*;

use crate::base::id::{ChunkId, ImageRoot};
use crate::base::page::{PageCount, PageNo, PageReader};
use crate::chunk::cutter::Cutter;
use crate::format::layer::{LayerBuilder, LayerSegment, Run, RunContent};
use crate::format::manifest::{Layer, LayerKind};
use crate::monitor::{Event, Monitor, Phase};

use super::chunk_writer::{self, ChunkWriter};
use super::{Repository, RepositoryError};

/// Bytes read at a time. A multiple of every page size.
const BATCH_BYTES: usize = 8 << 20;

/// An image that is stored.
#[derive(Debug)]
pub struct StoredImage {
    /// The layer for the manifest.
    pub layer: Layer,
    /// BLAKE3 of the image.
    pub root: ImageRoot,
}

/// Why an image was not stored: the source or the repository failed.
#[derive(Debug)]
pub enum ImageError<E> {
    /// Pages could not be read.
    Source(E),
    /// Chunks could not be stored.
    Repository(RepositoryError),
}

impl<E> From<RepositoryError> for ImageError<E> {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}

/// Whole pages of an image and where they are cut.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

/// Reads all pages of `source` and stores those chunks that `writer` does not know.
pub fn write_image<P: PageReader>(
    repository: &Repository,
    writer: &mut ChunkWriter<'_>,
    source: &P,
    monitor: &dyn Monitor,
) -> Result<StoredImage, ImageError<P::Error>> {
    let total_bytes = source.page_size().image_bytes(source.page_count());
    monitor.event(Event::Started { phase: Phase::Snapshot, total_bytes });
    let cutter = Cutter::new(repository.config.cutter, source.page_size(), &repository.keys.gear);
    let mut reader = BatchReader::new(source, cutter);
    let mut map = MapWriter { builder: LayerBuilder::default(), segments: Vec::new() };
    let mut batch = reader.next().map_err(ImageError::Source)?;
    while let Some(current) = batch {
        monitor.check_cancelled().map_err(RepositoryError::from)?;
        let (next, stored) = rayon::join(
            || reader.next(),
            || store_batch(repository, writer, &current, source.page_size().bytes(), &mut map),
        );
        stored?;
        monitor.event(Event::Advanced(current.lengths.iter().sum::<usize>() as u64));
        batch = next.map_err(ImageError::Source)?;
    }
    let root = ImageRoot(*reader.hasher.finalize().as_bytes());
    let layer = map.finish(writer)?;
    monitor.event(Event::Finished);
    Ok(StoredImage { layer, root })
}

/// Reads a source in order.
struct BatchReader<'a, P> {
    source: &'a P,
    cutter: Cutter<'a>,
    hasher: blake3::Hasher,
    /// Pages read so far.
    done: u32,
    /// Bytes that were read but could not be cut yet.
    carry: Vec<u8>,
    finished: bool,
}

impl<'a, P: PageReader> BatchReader<'a, P> {
    fn new(source: &'a P, cutter: Cutter<'a>) -> Self {
        Self { source, cutter, hasher: blake3::Hasher::new(), done: 0, carry: Vec::new(), finished: false }
    }

    fn next(&mut self) -> Result<Option<Batch>, P::Error> {
        if self.finished {
            return Ok(None);
        }
        let page_bytes = self.source.page_size().bytes();
        let PageCount(total) = self.source.page_count();
        let pages = (total - self.done).min((BATCH_BYTES / page_bytes) as u32);
        let mut bytes = Vec::with_capacity(self.carry.len() + BATCH_BYTES);
        bytes.append(&mut self.carry);
        let carried = bytes.len();
        bytes.resize(carried + pages as usize * page_bytes, 0);
        self.source.read(PageNo(self.done + 1), &mut bytes[carried..])?;
        self.hasher.update(&bytes[carried..]);
        self.done += pages;
        self.finished = self.done == total;
        let lengths = self.cutter.cut_all(&bytes, self.finished);
        self.carry = bytes.split_off(lengths.iter().sum());
        Ok(Some(Batch { bytes, lengths }))
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
        let content = id.map_or(RunContent::Zeros, |id| RunContent::Chunk { id, first: 0 });
        map.push(Run { pages: (chunk.len() / page_bytes) as u32, content }, writer)?;
    }
    Ok(())
}

fn is_zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// Writes the page map, segment by segment.
struct MapWriter {
    builder: LayerBuilder,
    segments: Vec<ChunkId>,
}

impl MapWriter {
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

    fn finish(mut self, writer: &mut ChunkWriter<'_>) -> Result<Layer, RepositoryError> {
        let (last, pages) = std::mem::take(&mut self.builder).finish();
        if let Some(segment) = last {
            self.store(&segment, writer)?;
        }
        Ok(Layer { kind: LayerKind::Image, page_count: pages.0, segments: self.segments })
    }
}
