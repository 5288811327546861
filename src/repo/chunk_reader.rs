//! Fetches chunks from packs.
//!
//! Every chunk that comes out has been authenticated, decoded and compared with its id. If one place fails, the others are tried. If nothing is there any more, a collector may have
//! put it elsewhere since the index was read: that is read anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::base::id::{ChunkId, ObjectHash};
use crate::format::name::{Folder, ObjectName};
use crate::format::pack::{OpenedChunk, PACK_HEADER_BYTES, PackReader};

use super::copies::read_part;
use super::index::{Index, Place};
use super::{Fault, Repository};

/// Opened packs are kept, up to this many; one takes about half a kilobyte.
const MAX_OPEN_PACKS: usize = 8192;

/// The index is not listed again if that has told nothing new so often, one time after the other: what is missing then is lost.
const MOST_VAIN_LISTINGS: usize = 4;

/// See the module documentation. A clone is the same reader.
#[derive(Clone)]
pub struct ChunkReader {
    repository: Repository,
    index: Arc<RwLock<Index>>,
    listings: Arc<Mutex<Listings>>,
    packs: Arc<OpenPacks>,
}

/// What was listed to find chunks that were put elsewhere.
#[derive(Default)]
struct Listings {
    last: Vec<ObjectName>,
    /// How often that was nothing new, lately.
    vain: usize,
}

impl ChunkReader {
    /// A reader of the chunks that `index` knows.
    pub fn new(repository: &Repository, index: &Index) -> Self {
        let index = Arc::new(RwLock::new(index.clone()));
        Self { repository: repository.clone(), index, listings: Arc::default(), packs: Arc::default() }
    }

    /// From now on reads the chunks that this index knows: for a reader that outlives what the repository held when it was made.
    pub fn renew(&self, index: Index) {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner).vain = 0;
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index;
    }

    /// An index that may know more than the one that was looked into.
    fn newer_index(&self, known: &Index) -> Option<Index> {
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.index();
        if !index.is_same(known) {
            return Some(index);
        }
        if listings.vain >= MOST_VAIN_LISTINGS {
            return None;
        }
        let listed = self.repository.store().list(Folder::Index).ok()?;
        let listed: Vec<ObjectName> = listed.into_iter().map(|listed| listed.name).collect();
        if listed == listings.last {
            listings.vain += 1;
            return None;
        }
        let (index, _) = Index::load(&self.repository).ok()?;
        *listings = Listings { last: listed, vain: 0 };
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = index.clone();
        Some(index)
    }

    /// The index as it is now.
    fn index(&self) -> Index {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whose chunks it reads.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The packs that it has opened, for those that fetch for it.
    pub fn packs(&self) -> Arc<OpenPacks> {
        Arc::clone(&self.packs)
    }

    /// A chunk's first place, for planning.
    pub fn place(&self, id: ChunkId) -> Option<Place> {
        self.index().places(id).next()
    }

    /// A chunk, from any of its places. `needed_by` says what for, in case it stands nowhere.
    pub fn read(&self, id: ChunkId, needed_by: &dyn Fn() -> String) -> Result<Vec<u8>, Fault> {
        self.open_any(id, needed_by).map(|chunk| chunk.decoded)
    }

    fn open_any(&self, id: ChunkId, needed_by: &dyn Fn() -> String) -> Result<OpenedChunk, Fault> {
        let mut index = self.index();
        loop {
            let fault = match self.open_from(&index, id) {
                Ok(chunk) => return Ok(chunk),
                Err(fault) => fault.unwrap_or_else(|| Fault::MissingChunk { chunk: id, needed_by: needed_by() }),
            };
            let may_be_elsewhere = fault.is_absence() || matches!(fault, Fault::MissingChunk { .. });
            if !may_be_elsewhere {
                return Err(fault);
            }
            index = self.newer_index(&index).ok_or(fault)?;
        }
    }

    /// A chunk from any of the places that this index knows; if there are some, what is wrong with the first.
    fn open_from(&self, index: &Index, id: ChunkId) -> Result<OpenedChunk, Option<Fault>> {
        let mut fault = None;
        for place in index.places(id) {
            match self.open_place(place) {
                Ok(chunk) => return Ok(chunk),
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        Err(fault)
    }

    fn open_place(&self, place: Place) -> Result<OpenedChunk, Fault> {
        let name = ObjectName::pack(place.pack.name);
        let start = u64::from(place.chunk.offset);
        let range = start..start + u64::from(place.chunk.length);
        let Repository { store, damaged, .. } = &self.repository;
        read_part(&**store, damaged, &name, range, |sealed| self.open(place, sealed))
    }

    /// A chunk from sealed bytes that were fetched, or, should they be damaged or not have come, from any of its places.
    pub fn open_fetched(
        &self,
        place: Place,
        sealed: Option<&[u8]>,
        needed_by: &dyn Fn() -> String,
    ) -> Result<OpenedChunk, Fault> {
        match sealed.map(|sealed| self.open(place, sealed.to_vec())) {
            Some(Ok(chunk)) => Ok(chunk),
            _ => self.open_any(place.chunk.id, needed_by),
        }
    }

    /// Decodes the sealed bytes of a chunk.
    fn open(&self, place: Place, sealed: Vec<u8>) -> Result<OpenedChunk, Fault> {
        let (pack, chunk) = (self.packs.open(&self.repository, place.pack.name)?, place.chunk);
        pack.open_chunk(chunk.id, chunk.offset, sealed, self.repository.keys()).map_err(|source| Fault::Chunk {
            name: ObjectName::pack(place.pack.name),
            chunk: chunk.id,
            offset: chunk.offset,
            source,
        })
    }
}

/// Packs whose data keys were opened. Whoever asks for one that another is opening waits for it: one request a pack.
#[derive(Default)]
pub struct OpenPacks(Mutex<HashMap<ObjectHash, Arc<Slot>>>);

/// A pack that is open, or is being opened by whoever has the lock.
type Slot = Mutex<Option<Arc<PackReader>>>;

impl OpenPacks {
    /// A pack; its header is fetched if it is not open yet.
    pub fn open(&self, repository: &Repository, hash: ObjectHash) -> Result<Arc<PackReader>, Fault> {
        let Repository { store, damaged, config, keys, .. } = repository;
        self.open_with(hash, |name| {
            read_part(&**store, damaged, name, 0..PACK_HEADER_BYTES as u64, |head| {
                PackReader::open(&head, &config.seal_context(), keys).map_err(Fault::object(name))
            })
        })
    }

    /// Opens a pack from its first bytes. If they are no pack's, nothing happens: whoever needs it will be told.
    pub fn learn(&self, repository: &Repository, hash: ObjectHash, head: &[u8]) {
        let head = head.get(..PACK_HEADER_BYTES).unwrap_or_default();
        let context = repository.config.seal_context();
        let _ = self
            .open_with(hash, |name| PackReader::open(head, &context, &repository.keys).map_err(Fault::object(name)));
    }

    fn open_with(
        &self,
        hash: ObjectHash,
        open: impl FnOnce(&ObjectName) -> Result<PackReader, Fault>,
    ) -> Result<Arc<PackReader>, Fault> {
        let slot = self.slot(hash);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pack) = &*slot {
            return Ok(Arc::clone(pack));
        }
        Ok(Arc::clone(slot.insert(Arc::new(open(&ObjectName::pack(hash))?))))
    }

    fn slot(&self, hash: ObjectHash) -> Arc<Slot> {
        let mut packs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if packs.len() >= MAX_OPEN_PACKS && !packs.contains_key(&hash) {
            packs.clear();
        }
        Arc::clone(packs.entry(hash).or_default())
    }
}
