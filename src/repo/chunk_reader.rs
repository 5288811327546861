//! Fetches chunks from packs.
//!
//! Every chunk that comes out has been authenticated, decoded and compared with its id. If one place fails, the others are tried.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::id::{ChunkId, ObjectHash};
use crate::format::name::ObjectName;
use crate::format::pack::{PACK_HEADER_BYTES, PackReader};

use super::copies::read_part;
use super::index::{Index, Place};
use super::{Fault, Repository};

/// Opened packs are kept, up to this many; one takes about half a kilobyte.
const MAX_OPEN_PACKS: usize = 8192;

/// See the module documentation.
pub struct ChunkReader<'r> {
    repository: &'r Repository,
    index: &'r Index,
    packs: Mutex<HashMap<ObjectHash, Arc<PackReader>>>,
}

impl<'r> ChunkReader<'r> {
    /// A reader of the chunks that `index` knows.
    pub fn new(repository: &'r Repository, index: &'r Index) -> Self {
        Self { repository, index, packs: Mutex::default() }
    }

    /// Whose chunks it reads.
    pub fn repository(&self) -> &'r Repository {
        self.repository
    }

    /// A chunk's first place, for planning.
    pub fn place(&self, id: ChunkId) -> Option<Place> {
        self.index.places(id).next()
    }

    /// A chunk, from any of its places. `needed_by` says what for, in case it stands nowhere.
    pub fn read(&self, id: ChunkId, needed_by: &dyn Fn() -> String) -> Result<Vec<u8>, Fault> {
        let mut fault = None;
        for place in self.index.places(id) {
            match self.read_place(place) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        Err(fault.unwrap_or_else(|| Fault::MissingChunk { chunk: id, needed_by: needed_by() }))
    }

    fn read_place(&self, place: Place) -> Result<Vec<u8>, Fault> {
        let name = ObjectName::pack(place.pack.name);
        let start = u64::from(place.chunk.offset);
        let range = start..start + u64::from(place.chunk.length);
        let Repository { store, damaged, .. } = self.repository;
        read_part(&**store, damaged, &name, range, |mut sealed| self.open(place, &mut sealed))
    }

    /// Decodes the sealed bytes of a chunk.
    pub fn open(&self, place: Place, sealed: &mut [u8]) -> Result<Vec<u8>, Fault> {
        let (pack, chunk) = (self.pack(place.pack.name)?, place.chunk);
        pack.chunk(chunk.id, chunk.offset, sealed, self.repository.keys()).map_err(|source| Fault::Chunk {
            name: ObjectName::pack(place.pack.name),
            chunk: chunk.id,
            offset: chunk.offset,
            source,
        })
    }

    fn pack(&self, hash: ObjectHash) -> Result<Arc<PackReader>, Fault> {
        if let Some(pack) = self.open_packs().get(&hash) {
            return Ok(Arc::clone(pack));
        }
        let name = ObjectName::pack(hash);
        let Repository { store, damaged, config, keys, .. } = self.repository;
        let pack = read_part(&**store, damaged, &name, 0..PACK_HEADER_BYTES as u64, |head| {
            PackReader::open(&head, &config.seal_context(), keys).map_err(Fault::object(&name))
        })?;
        let pack = Arc::new(pack);
        let mut open = self.open_packs();
        if open.len() >= MAX_OPEN_PACKS {
            open.clear();
        }
        open.insert(hash, Arc::clone(&pack));
        Ok(pack)
    }

    fn open_packs(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectHash, Arc<PackReader>>> {
        self.packs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
