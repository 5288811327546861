//! Stores chunks: gathers them into packs, seals and uploads packs beside the caller, and lists them in index segments.
//!
//! The order of writes is kept here: a segment is created only after all packs in it are durable, and [`ChunkWriter::finish`]
//! returns only after the last segment. What a snapshot [stands on](Stand) that is made of it is written down on the way: the packs that were made, and those in which chunks were found.
//! Packs that were left unlisted by a kill can be [adopted](super::unlisted_packs).

use std::collections::HashSet;
use std::time::Duration;

use crate::base::id::{ChunkId, ObjectHash};
use crate::chunk::codec::{self, Compression};
use crate::format::index::{IndexSegment, ListedPack, MAX_SEGMENT_ENTRIES};
use crate::format::name::ObjectName;
use crate::format::pack::{self, EncodedChunk, MAX_PACK_CHUNKS, PackReader, PackedChunk, SealedPack};
use crate::store::lane::Lane;

use super::index::Index;
use super::timeline::Stand;
use super::{Fault, Repository, RepositoryError};

/// A pack is closed before it would pass this length. Being a Padmé length itself, a full pack is padded by less than a chunk.
const TARGET_PACK_BYTES: usize = 16 << 20;

/// A segment is written at the latest after this many packs, so that an interrupted upload is not done again from the start.
const PACKS_A_SEGMENT: usize = 16;

/// How long to wait for a pack at a time. Nothing else is done meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// How chunks are encoded.
#[derive(Clone, Copy, Debug)]
pub struct EncodeOptions {
    /// Codec and level.
    pub compression: Compression,
    /// Decode and compare everything before it is uploaded.
    pub verify: bool,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self { compression: Compression::default(), verify: true }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Chunks that were new.
    pub chunk_count: u64,
    /// Packs that hold them.
    pub pack_count: u64,
    /// Bytes of these packs.
    pub pack_bytes: u64,
    /// Bytes of index segments.
    pub index_bytes: u64,
}

type PackResult = Result<(ListedPack, Vec<PackedChunk>), RepositoryError>;

/// See the module documentation.
pub struct ChunkWriter<'r> {
    repository: &'r Repository,
    index: &'r Index,
    options: EncodeOptions,
    known: HashSet<ChunkId>,
    packs: HashSet<ObjectHash>,
    pending: Vec<EncodedChunk>,
    pending_bytes: usize,
    lane: Lane<Vec<EncodedChunk>, PackResult>,
    segment: IndexSegment,
    written: Written,
    /// Whether [`adopt`](Self::adopt) was begun.
    adopts: bool,
}

impl<'r> ChunkWriter<'r> {
    /// A writer that stores nothing of which `index` says that it is there for good.
    pub fn new(repository: &'r Repository, index: &'r Index, options: EncodeOptions) -> Self {
        Self {
            repository,
            index,
            options,
            known: HashSet::new(),
            packs: HashSet::new(),
            pending: Vec::new(),
            pending_bytes: 0,
            lane: pack_lane(repository, options.verify),
            segment: IndexSegment::default(),
            written: Written::default(),
            adopts: false,
        }
    }

    /// Whether the chunk is new; from now on it is not, so the caller must [`add`](Self::add) it.
    pub fn claim(&mut self, id: ChunkId) -> bool {
        !self.relies_on(id) && self.known.insert(id)
    }

    /// Whether the chunk was stored before, for good; from now on that is relied upon.
    fn relies_on(&mut self, id: ChunkId) -> bool {
        let place = self.index.reliable(id);
        self.packs.extend(place.map(|place| place.pack.name));
        place.is_some()
    }

    /// What a snapshot stands on that is made of what was claimed and stored, and settled, until now, and takes over from `base`.
    pub fn stand(&self, base: Option<ObjectHash>) -> Stand {
        Stand { base, packs: self.packs.clone() }
    }

    /// What was stored before.
    pub fn index(&self) -> &'r Index {
        self.index
    }

    /// Whether packs that others have left may still be adopted: not for a second time, for then this writer's own are among them.
    pub fn begin_adoption(&mut self) -> bool {
        !std::mem::replace(&mut self.adopts, true)
    }

    /// Uses, and lists, a verified pack that is durable and that no segment lists.
    pub fn adopt(&mut self, pack: ListedPack, chunks: &[PackedChunk]) -> Result<(), RepositoryError> {
        self.known.extend(chunks.iter().map(|chunk| chunk.id));
        self.packs.insert(pack.name);
        self.add_to_segment(pack, chunks)
    }

    /// How this writer encodes.
    pub fn options(&self) -> EncodeOptions {
        self.options
    }

    /// Adds a chunk that was claimed.
    pub fn add(&mut self, chunk: EncodedChunk) -> Result<(), RepositoryError> {
        let bytes = pack::unpadded_bytes(self.pending.len() + 1, self.pending_bytes + chunk.encoded.len());
        if bytes > TARGET_PACK_BYTES || self.pending.len() == MAX_PACK_CHUNKS {
            self.close_pack()?;
        }
        self.pending_bytes += chunk.encoded.len();
        self.pending.push(chunk);
        Ok(())
    }

    /// Stores one chunk, if it is new, and returns its id.
    pub fn store(&mut self, bytes: &[u8]) -> Result<ChunkId, RepositoryError> {
        let id = self.repository.keys().chunk_id(bytes);
        if self.claim(id) {
            self.add(encode(id, bytes, self.options)?)?;
        }
        Ok(id)
    }

    /// Whether the chunk is stored, or will be; if so, that is relied upon.
    pub fn knows(&mut self, id: ChunkId) -> bool {
        self.known.contains(&id) || self.relies_on(id)
    }

    /// Makes everything durable and listed.
    pub fn finish(mut self) -> Result<Written, RepositoryError> {
        self.settle()
    }

    /// Makes everything until now durable and listed; returns all that was written until now.
    pub fn settle(&mut self) -> Result<Written, RepositoryError> {
        self.close_pack()?;
        self.drain()?;
        self.close_segment()?;
        Ok(self.written)
    }

    /// Lists the packs that are durable, for work that ends early, so that the next one need not store them again. Waits for those under way. Best effort: what is
    /// not listed can still be adopted.
    pub fn list_stored(mut self) {
        let _ = self.drain().and_then(|()| self.close_segment());
    }

    /// Waits for the packs under way.
    fn drain(&mut self) -> Result<(), RepositoryError> {
        while self.lane.in_flight() > 0 {
            if let Some(result) = self.lane.wait(PATIENCE) {
                self.list(result)?;
            }
        }
        Ok(())
    }

    fn close_pack(&mut self) -> Result<(), RepositoryError> {
        if !self.pending.is_empty() {
            self.pending_bytes = 0;
            self.lane.submit(std::mem::take(&mut self.pending));
        }
        for result in self.lane.completed() {
            self.list(result)?;
        }
        Ok(())
    }

    fn list(&mut self, result: PackResult) -> Result<(), RepositoryError> {
        let (pack, chunks) = result?;
        self.packs.insert(pack.name);
        self.written.chunk_count += chunks.len() as u64;
        self.written.pack_count += 1;
        self.written.pack_bytes += pack.length;
        self.add_to_segment(pack, &chunks)
    }

    fn add_to_segment(&mut self, pack: ListedPack, chunks: &[PackedChunk]) -> Result<(), RepositoryError> {
        if self.segment.entries.len() + chunks.len() > MAX_SEGMENT_ENTRIES {
            self.close_segment()?;
        }
        self.segment.add(pack, chunks);
        if self.segment.packs.len() >= PACKS_A_SEGMENT {
            self.close_segment()?;
        }
        Ok(())
    }

    fn close_segment(&mut self) -> Result<(), RepositoryError> {
        if self.segment.packs.is_empty() {
            return Ok(());
        }
        let (context, keys) = (self.repository.config.seal_context(), &self.repository.keys);
        let entropy = &*self.repository.environment.entropy;
        let object = std::mem::take(&mut self.segment).seal(&context, &keys.index, entropy);
        self.written.index_bytes += object.len() as u64;
        let name = ObjectName::index(ObjectHash::of(&object));
        self.repository.store.create(&name, &object)?;
        Ok(())
    }
}

/// Encodes a chunk, and decodes it again when asked to: a bit that flips in this machine's memory or processor must not become the only copy.
pub fn encode(id: ChunkId, bytes: &[u8], options: EncodeOptions) -> Result<EncodedChunk, RepositoryError> {
    let encoded = codec::encode(bytes, options.compression);
    if options.verify && codec::decode(&encoded).as_deref() != Ok(bytes) {
        return Err(RepositoryError::Unfaithful(id));
    }
    Ok(EncodedChunk { id, encoded })
}

fn pack_lane(repository: &Repository, verify: bool) -> Lane<Vec<EncodedChunk>, PackResult> {
    let threads = repository.environment.upload_threads;
    let repository = repository.clone();
    let work = move |chunks| upload(&repository, chunks, verify);
    Lane::new(threads, work)
}

fn upload(repository: &Repository, chunks: Vec<EncodedChunk>, verify: bool) -> PackResult {
    let Repository { store, config, keys, environment, .. } = repository;
    let sealed = pack::seal(chunks, &config.seal_context(), keys.public(), &keys.footer, &*environment.entropy);
    if verify {
        verify_pack(repository, &sealed)?;
    }
    let name = ObjectName::pack(sealed.hash);
    store.create(&name, &sealed.bytes)?;
    Ok((ListedPack { name: sealed.hash, length: sealed.bytes.len() as u64 }, sealed.chunks))
}

/// Opens the pack as a reader would: header, footer, and every chunk's tag.
fn verify_pack(repository: &Repository, sealed: &SealedPack) -> Result<(), Fault> {
    let (name, keys) = (ObjectName::pack(sealed.hash), &repository.keys);
    let reader =
        PackReader::open(&sealed.bytes, &repository.config.seal_context(), keys).map_err(Fault::object(&name))?;
    for chunk in &sealed.chunks {
        let range = chunk.offset as usize..(chunk.offset + chunk.length) as usize;
        let mut copy = sealed.bytes[range].to_vec();
        reader.authenticate(chunk.id, chunk.offset, &mut copy).map_err(|source| Fault::Chunk {
            name: name.clone(),
            chunk: chunk.id,
            offset: chunk.offset,
            source,
        })?;
    }
    Ok(())
}
