//! Decoded chunks, kept in memory up to a limit, for readers that come back to the same ones: queries, a mount, a comparison of two states.
//!
//! # Guarantees
//! * A chunk is fetched and decoded once, however many readers ask for it at the same time: the others wait for the first.
//! * What is kept stays within the limit, apart from the chunks that readers are using and those that are being fetched ahead (at most [`REQUEST_BYTES`] for each
//!   thread).
//! * Fetching ahead is a hint: a chunk that could not be fetched then is fetched when it is read, and only then its fault is an error.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::base::id::ChunkId;
use crate::format::name::ObjectName;
use crate::store::lane::Lane;

use super::Fault;
use super::chunk_reader::ChunkReader;
use super::index::Place;
use super::pack_fetch::{self, Fetched, Reach};

/// The most that is fetched ahead with one request.
const REQUEST_BYTES: u64 = 1 << 20;
/// Bytes that nobody asked for are fetched along if they are fewer than this: little, for a reader of one table should not fetch its neighbours.
const GAP_BYTES: u64 = 8 << 10;

/// See the module documentation. A clone is the same cache.
#[derive(Clone)]
pub struct ChunkCache {
    shared: Arc<Shared>,
    ahead: Arc<Mutex<Lane<Vec<Place>, ()>>>,
}

struct Shared {
    reader: ChunkReader,
    limit_bytes: u64,
    kept: Mutex<Kept>,
}

/// Second-chance eviction (clock): `order` holds each chunk once, oldest first; one that was used since it was put there goes back to the end.
#[derive(Default)]
struct Kept {
    slots: HashMap<ChunkId, Arc<Slot>>,
    order: VecDeque<ChunkId>,
    bytes: u64,
}

/// A chunk that is there, on its way, or neither.
#[derive(Default)]
struct Slot {
    state: Mutex<SlotState>,
    settled: Condvar,
}

#[derive(Default)]
struct SlotState {
    is_loading: bool,
    was_used: bool,
    chunk: Option<Arc<Vec<u8>>>,
}

/// Whoever has it loads the slot's chunk. However that ends, those who wait go on.
struct Loading<'s>(&'s Slot);

impl ChunkCache {
    /// A cache of what `reader` reads.
    pub fn new(reader: ChunkReader, limit_bytes: u64) -> Self {
        let threads = reader.repository().environment().fetch_threads;
        let shared = Arc::new(Shared { reader, limit_bytes, kept: Mutex::default() });
        let fetching = Arc::clone(&shared);
        let ahead = Lane::new(threads, move |places: Vec<Place>| fetching.fetch(&places));
        Self { shared, ahead: Arc::new(Mutex::new(ahead)) }
    }

    /// Where the chunks come from.
    pub fn reader(&self) -> &ChunkReader {
        &self.shared.reader
    }

    /// A chunk. `needed_by` says what for, in case it stands nowhere.
    pub fn read(&self, id: ChunkId, needed_by: &dyn Fn() -> String) -> Result<Arc<Vec<u8>>, Fault> {
        let slot = self.shared.slot(id);
        let mut state = slot.lock();
        loop {
            if let Some(chunk) = &state.chunk {
                let chunk = Arc::clone(chunk);
                state.was_used = true;
                return Ok(chunk);
            }
            if !state.is_loading {
                break;
            }
            state = slot.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_loading = true;
        drop(state);
        let loading = Loading(&slot);
        let chunk = Arc::new(self.shared.reader.read(id, needed_by)?);
        loading.settle(Arc::clone(&chunk), true);
        self.shared.account(id, &slot, chunk.len() as u64);
        Ok(chunk)
    }

    /// Begins to fetch those of these chunks that are not there, as far as threads are free. Does not wait.
    pub fn will_read(&self, chunks: impl IntoIterator<Item = ChunkId>) {
        let Ok(mut ahead) = self.ahead.try_lock() else { return };
        ahead.completed();
        let mut free = ahead.width() - ahead.in_flight().min(ahead.width());
        if free == 0 {
            return;
        }
        let missing = chunks.into_iter().filter(|&id| self.shared.is_missing(id));
        let mut places: Vec<Place> = missing.filter_map(|id| self.shared.reader.place(id)).collect();
        places.sort_unstable_by_key(pack_fetch::sort_key);
        places.dedup();
        for request in pack_fetch::plan(&places, Reach { request_bytes: REQUEST_BYTES, gap_bytes: GAP_BYTES }) {
            if free == 0 {
                return;
            }
            let places: Vec<Place> =
                places[request.positions].iter().copied().filter(|place| self.shared.begin(place.chunk.id)).collect();
            if !places.is_empty() {
                free -= 1;
                ahead.submit(places);
            }
        }
    }
}

impl Shared {
    fn slot(&self, id: ChunkId) -> Arc<Slot> {
        Arc::clone(self.kept().slots.entry(id).or_default())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_missing(&self, id: ChunkId) -> bool {
        let slot = self.kept().slots.get(&id).map(Arc::clone);
        slot.is_none_or(|slot| {
            let state = slot.lock();
            state.chunk.is_none() && !state.is_loading
        })
    }

    /// Says that a chunk is on its way, unless it is already, or is there.
    fn begin(&self, id: ChunkId) -> bool {
        let slot = self.slot(id);
        let mut state = slot.lock();
        let is_missing = state.chunk.is_none() && !state.is_loading;
        state.is_loading |= is_missing;
        is_missing
    }

    /// Fetches chunks that lie near each other in one pack, in the order in which they lie there, with one request.
    fn fetch(&self, places: &[Place]) {
        let slots: Vec<Arc<Slot>> = places.iter().map(|place| self.slot(place.chunk.id)).collect();
        let mut loading: VecDeque<Loading<'_>> = slots.iter().map(|slot| Loading(slot)).collect();
        let [Place { pack, chunk: first }, ..] = places else { return };
        let start = u64::from(first.offset);
        let ends = places.iter().map(|place| u64::from(place.chunk.offset) + u64::from(place.chunk.length));
        let range = start..ends.max().unwrap_or(start);
        let bytes = self.reader.repository().store().read_range(&ObjectName::pack(pack.name), range).ok();
        let fetched = Fetched::new(0..places.len(), start, bytes);
        for (place, slot) in places.iter().zip(&slots) {
            let loading = loading.pop_front();
            let Some(sealed) = fetched.sealed(*place) else { continue };
            let opened = self.reader.open_fetched(*place, Some(sealed), &|| "what is read ahead".to_owned());
            if let (Ok(opened), Some(loading)) = (opened, loading) {
                let chunk = Arc::new(opened.decoded);
                let bytes = chunk.len() as u64;
                loading.settle(chunk, false);
                self.account(place.chunk.id, slot, bytes);
            }
        }
    }

    /// Counts a chunk that has come, and lets go of old ones.
    fn account(&self, id: ChunkId, slot: &Arc<Slot>, bytes: u64) {
        let mut kept = self.kept();
        // It may have been let go of while it was on its way.
        kept.slots.entry(id).or_insert_with(|| Arc::clone(slot));
        kept.bytes += bytes;
        kept.order.push_back(id);
        while kept.bytes > self.limit_bytes {
            let Some(oldest) = kept.order.pop_front() else { break };
            let Some(slot) = kept.slots.get(&oldest).map(Arc::clone) else { continue };
            let mut state = slot.lock();
            if std::mem::take(&mut state.was_used) && oldest != id {
                kept.order.push_back(oldest);
            } else {
                kept.bytes -= state.chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                kept.slots.remove(&oldest);
            }
        }
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loading<'_> {
    fn settle(self, chunk: Arc<Vec<u8>>, was_used: bool) {
        let mut state = self.0.lock();
        (state.chunk, state.was_used) = (Some(chunk), was_used);
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.lock().is_loading = false;
        self.0.settled.notify_all();
    }
}
