//! Decoded chunks, kept in memory up to a limit, for readers that come back to the same ones: queries, a mount, a comparison of two states.
//!
//! # Guarantees
//! * A chunk is fetched and decoded once, however many readers ask for it at the same time: the others wait for the first.
//! * What is kept stays within the limit, apart from the chunks that readers are using and those that are being fetched ahead (at most [`REQUEST_BYTES`] for each
//!   thread). Chunks that were fetched ahead and not read yet take no more than half of it.
//! * Of a chunk that is let go, the few pages that were read of it stay: a walk through a tree that comes back to pages spread over the whole database fetches none of
//!   their chunks again.
//! * Fetching ahead is a hint: a chunk that could not be fetched then is fetched when it is read, and only then its fault is an error.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Included};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::base::id::{ChunkId, ObjectHash};
use crate::format::name::ObjectName;
use crate::store::lane::Lane;

use super::Fault;
use super::chunk_reader::ChunkReader;
use super::index::Place;
use super::pack_fetch::{self, Fetched};

/// The most that is fetched ahead with one request.
const REQUEST_BYTES: u64 = 1 << 20;
/// The most pages of a chunk that are kept without it, and the most bytes of such pages.
const MAX_LEFT_PAGES: usize = 8;
const MAX_LEFT_BYTES: usize = 32 << 20;
/// Chunks that wait for a thread. More are not noted.
const MAX_PENDING: usize = 4096;
/// Bytes that nobody asked for are fetched along if they are fewer than this, on this machine and over a network: little, for a reader of one table should not fetch its
/// neighbours.
const GAP_BYTES: (u64, u64) = (8 << 10, 96 << 10);

/// See the module documentation. A clone is the same cache.
#[derive(Clone)]
pub struct ChunkCache {
    shared: Arc<Shared>,
    workers: Arc<Mutex<Workers>>,
}

/// Threads that fetch ahead, each until nothing waits.
struct Workers {
    lane: Lane<(), ()>,
    shared: Arc<Shared>,
}

/// What is fetched ahead. While all threads are busy, more chunks gather here, and more of them are fetched with one request: the slower the destination, the larger the requests.
#[derive(Default)]
struct Ahead {
    /// Chunks of which the request has not begun, by pack and offset.
    pending: BTreeMap<Spot, Place>,
    /// In the order in which they were asked for.
    order: VecDeque<Spot>,
    gap_bytes: u64,
}

/// A chunk's pack and offset.
type Spot = (ObjectHash, u32);

struct Shared {
    reader: ChunkReader,
    limit_bytes: u64,
    kept: Mutex<Kept>,
    ahead: Mutex<Ahead>,
    /// Bytes of chunks that were fetched ahead and not read yet.
    ahead_bytes: AtomicU64,
    /// Nobody reads any more.
    is_closed: AtomicBool,
}

/// Pages of chunks that are gone, by chunk and offset: those that came or were used since the older half was dropped, and that half.
#[derive(Default)]
struct Leavings {
    young: HashMap<(ChunkId, usize), Arc<[u8]>>,
    old: HashMap<(ChunkId, usize), Arc<[u8]>>,
    young_bytes: usize,
}

/// Second-chance eviction (clock): `order` holds each chunk once, oldest first; one that was used since it was put there goes back to the end.
#[derive(Default)]
struct Kept {
    slots: HashMap<ChunkId, Arc<Slot>>,
    order: VecDeque<ChunkId>,
    bytes: u64,
    leavings: Leavings,
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
    /// It was fetched ahead and not read yet.
    is_ahead: bool,
    /// Its bytes are counted.
    is_counted: bool,
    chunk: Option<Arc<Vec<u8>>>,
    /// Offsets and lengths of pages that were read, up to one more than are kept.
    read: Vec<(usize, usize)>,
}

/// Whoever has it loads the slot's chunk. However that ends, those who wait go on.
struct Loading<'s>(&'s Slot);

impl ChunkCache {
    /// A cache of what `reader` reads.
    pub fn new(reader: ChunkReader, limit_bytes: u64) -> Self {
        let environment = reader.repository().environment();
        let is_remote = reader.repository().store().concurrency() > 0;
        let gap_bytes = if is_remote { GAP_BYTES.1 } else { GAP_BYTES.0 };
        let (threads, ahead) = (environment.fetch_threads, Ahead { gap_bytes, ..Ahead::default() });
        let shared = Arc::new(Shared {
            reader,
            limit_bytes,
            kept: Mutex::default(),
            ahead: Mutex::new(ahead),
            ahead_bytes: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
        });
        let fetching = Arc::clone(&shared);
        let lane = Lane::new(threads, move |()| {
            while let Some(places) = fetching.next_request() {
                fetching.fetch(&places);
            }
        });
        let workers = Workers { lane, shared: Arc::clone(&shared) };
        Self { shared, workers: Arc::new(Mutex::new(workers)) }
    }

    /// Where the chunks come from.
    pub fn reader(&self) -> &ChunkReader {
        &self.shared.reader
    }

    /// A chunk. `needed_by` says what for, in case it stands nowhere.
    pub fn read(&self, id: ChunkId, needed_by: &dyn Fn() -> String) -> Result<Arc<Vec<u8>>, Fault> {
        let slot = self.shared.slot(id);
        let ahead_bytes = self.shared.ahead_bytes.load(Ordering::Relaxed);
        if let Some(chunk) = self.shared.wait(&slot) {
            // There may be room for more now.
            if self.shared.ahead_bytes.load(Ordering::Relaxed) < ahead_bytes {
                self.wake();
            }
            return Ok(chunk);
        }
        // What waits to be fetched along with it is fetched now, the rest beside it.
        if let Some(places) = self.take_pending(id) {
            self.wake();
            self.shared.fetch(&places);
            if let Some(chunk) = self.shared.wait(&slot) {
                return Ok(chunk);
            }
        }
        let mut state = slot.lock();
        while state.is_loading {
            state = slot.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(chunk) = self.shared.take(&mut state) {
            return Ok(chunk);
        }
        state.is_loading = true;
        drop(state);
        let loading = Loading(&slot);
        let chunk = Arc::new(self.shared.reader.read(id, needed_by)?);
        loading.settle(Arc::clone(&chunk), true);
        self.shared.account(id, &slot, chunk.len() as u64);
        Ok(chunk)
    }

    /// Fills `page` with what stands at `offset` in a chunk; false if the chunk ends before that.
    pub fn read_page(
        &self,
        id: ChunkId,
        offset: usize,
        page: &mut [u8],
        needed_by: &dyn Fn() -> String,
    ) -> Result<bool, Fault> {
        if let Some(left) = self.shared.left(id, offset).filter(|left| left.len() == page.len()) {
            page.copy_from_slice(&left);
            return Ok(true);
        }
        let chunk = self.read(id, needed_by)?;
        let Some(found) = chunk.get(offset..offset + page.len()) else { return Ok(false) };
        page.copy_from_slice(found);
        self.shared.note_read(id, (offset, page.len()));
        Ok(true)
    }

    /// Whether a page can be read without fetching.
    pub fn has_page(&self, id: ChunkId, offset: usize) -> bool {
        self.shared.left(id, offset).is_some()
    }

    /// Begins to fetch those of these chunks that are not there, as threads become free. Does not wait.
    pub fn will_read(&self, chunks: impl IntoIterator<Item = ChunkId>) {
        let missing = chunks.into_iter().filter(|&id| self.shared.is_missing(id));
        let places: Vec<Place> = missing.filter_map(|id| self.shared.reader.place(id)).collect();
        let mut ahead = self.shared.ahead();
        places.into_iter().for_each(|place| ahead.note(place));
        drop(ahead);
        self.wake();
    }

    /// Lets threads that are free go on.
    fn wake(&self) {
        // Whoever has them wakes them.
        let Ok(mut workers) = self.workers.try_lock() else { return };
        workers.lane.completed();
        // Without threads, nothing is fetched ahead.
        let threads = workers.lane.width() - 1;
        while workers.lane.in_flight() < threads && self.shared.has_work() {
            workers.lane.submit(());
            if workers.lane.in_flight() >= self.shared.ahead().pending.len() {
                return;
            }
        }
    }

    /// What is to be fetched with this chunk, if that has not begun; what is left begins as threads are free.
    fn take_pending(&self, id: ChunkId) -> Option<Vec<Place>> {
        let place = self.shared.reader.place(id)?;
        let places = self.shared.ahead().take(pack_fetch::sort_key(&place));
        places.map(|places| self.shared.begin_all(places))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::Relaxed);
    }
}

impl Ahead {
    fn note(&mut self, place: Place) {
        let spot = pack_fetch::sort_key(&place);
        if self.pending.len() < MAX_PENDING && self.pending.insert(spot, place).is_none() {
            self.order.push_back(spot);
        }
        // What was fetched along with others, or by a reader, is still in line.
        if self.order.len() > 2 * MAX_PENDING {
            self.order.retain(|spot| self.pending.contains_key(spot));
        }
    }

    /// The next request: around the chunk that was asked for first.
    fn next(&mut self) -> Option<Vec<Place>> {
        loop {
            let spot = self.order.pop_front()?;
            if let Some(places) = self.take(spot) {
                return Some(places);
            }
        }
    }

    /// A chunk that waits, with those near it in its pack, in the order in which they lie there.
    fn take(&mut self, spot: Spot) -> Option<Vec<Place>> {
        let first = self.pending.remove(&spot)?;
        let mut range = bytes_of(&first);
        let mut places = VecDeque::from([first]);
        while let Some((&next, &place)) = self.pending.range((Excluded(spot), Included((spot.0, u32::MAX)))).next() {
            let bytes = bytes_of(&place);
            if bytes.start > range.end + self.gap_bytes || bytes.end - range.start > REQUEST_BYTES {
                break;
            }
            range.end = bytes.end;
            self.pending.remove(&next);
            places.push_back(place);
        }
        while let Some((&previous, &place)) = self.pending.range((Included((spot.0, 0)), Excluded(spot))).next_back() {
            let bytes = bytes_of(&place);
            if bytes.end + self.gap_bytes < range.start || range.end - bytes.start > REQUEST_BYTES {
                break;
            }
            range.start = bytes.start;
            self.pending.remove(&previous);
            places.push_front(place);
        }
        Some(places.into())
    }
}

/// Where a chunk stands in its pack.
fn bytes_of(place: &Place) -> Range<u64> {
    let start = u64::from(place.chunk.offset);
    start..start + u64::from(place.chunk.length)
}

impl Shared {
    fn slot(&self, id: ChunkId) -> Arc<Slot> {
        Arc::clone(self.kept().slots.entry(id).or_default())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left of a chunk that is gone.
    fn left(&self, id: ChunkId, offset: usize) -> Option<Arc<[u8]>> {
        let mut kept = self.kept();
        if kept.slots.contains_key(&id) { None } else { kept.leavings.get((id, offset)) }
    }

    fn note_read(&self, id: ChunkId, part: (usize, usize)) {
        let Some(slot) = self.kept().slots.get(&id).map(Arc::clone) else { return };
        let mut state = slot.lock();
        if state.read.len() <= MAX_LEFT_PAGES && !state.read.contains(&part) {
            state.read.push(part);
        }
    }

    fn is_missing(&self, id: ChunkId) -> bool {
        let slot = self.kept().slots.get(&id).map(Arc::clone);
        slot.is_none_or(|slot| {
            let state = slot.lock();
            state.chunk.is_none() && !state.is_loading
        })
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something waits to be fetched ahead, and there is room for it.
    fn has_work(&self) -> bool {
        let has_room = self.ahead_bytes.load(Ordering::Relaxed) <= self.limit_bytes / 2;
        has_room && !self.is_closed.load(Ordering::Relaxed) && !self.ahead().pending.is_empty()
    }

    /// What to fetch ahead next.
    fn next_request(&self) -> Option<Vec<Place>> {
        while self.has_work() {
            let places = self.ahead().next()?;
            let places = self.begin_all(places);
            if !places.is_empty() {
                return Some(places);
            }
        }
        None
    }

    /// The chunk of a slot, for a reader.
    fn take(&self, state: &mut SlotState) -> Option<Arc<Vec<u8>>> {
        let chunk = state.chunk.clone()?;
        state.was_used = true;
        self.forget_ahead(state, chunk.len());
        Some(chunk)
    }

    /// A chunk that was fetched ahead is no longer.
    fn forget_ahead(&self, state: &mut SlotState, bytes: usize) {
        if std::mem::take(&mut state.is_ahead) {
            self.ahead_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }

    /// The chunk once it is there, if it is or is on its way.
    fn wait(&self, slot: &Slot) -> Option<Arc<Vec<u8>>> {
        let mut state = slot.lock();
        while state.is_loading && state.chunk.is_none() {
            state = slot.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.take(&mut state)
    }

    /// Those of the chunks that are neither there nor on their way, which they are now.
    fn begin_all(&self, mut places: Vec<Place>) -> Vec<Place> {
        places.retain(|place| self.begin(place.chunk.id));
        places
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
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return };
        let range = bytes_of(first).start..bytes_of(last).end;
        let start = range.start;
        let bytes = self.reader.repository().store().read_range(&ObjectName::pack(first.pack.name), range).ok();
        let fetched = Fetched::new(0..places.len(), start, bytes);
        for (place, slot) in places.iter().zip(&slots) {
            let loading = loading.pop_front();
            let Some(sealed) = fetched.sealed(*place) else { continue };
            let opened = self.reader.open_fetched(*place, Some(sealed), &|| "what is read ahead".to_owned());
            if let (Ok(opened), Some(loading)) = (opened, loading) {
                let chunk = Arc::new(opened.decoded);
                let bytes = chunk.len() as u64;
                self.ahead_bytes.fetch_add(bytes, Ordering::Relaxed);
                loading.settle(chunk, false);
                self.account(place.chunk.id, slot, bytes);
            }
        }
    }

    /// Counts a chunk that has come, and lets go of old ones. Each counted chunk stands in the order once; one whose slot was let go of meanwhile belongs to its readers
    /// alone.
    fn account(&self, id: ChunkId, slot: &Arc<Slot>, bytes: u64) {
        let mut kept = self.kept();
        if !kept.slots.get(&id).is_some_and(|known| Arc::ptr_eq(known, slot)) {
            return;
        }
        if std::mem::replace(&mut slot.lock().is_counted, true) {
            return;
        }
        kept.bytes += bytes;
        kept.order.push_back(id);
        while kept.bytes > self.limit_bytes {
            let Some(oldest) = kept.order.pop_front() else { break };
            let Some(slot) = kept.slots.get(&oldest).map(Arc::clone) else { continue };
            let mut state = slot.lock();
            if std::mem::take(&mut state.was_used) && oldest != id {
                kept.order.push_back(oldest);
                continue;
            }
            kept.slots.remove(&oldest);
            let Some(chunk) = state.chunk.take() else { continue };
            state.is_counted = false;
            self.forget_ahead(&mut state, chunk.len());
            kept.bytes -= chunk.len() as u64;
            let read = std::mem::take(&mut state.read);
            if read.len() <= MAX_LEFT_PAGES {
                for (offset, length) in read {
                    if let Some(page) = chunk.get(offset..offset + length) {
                        kept.leavings.put((oldest, offset), page.into());
                    }
                }
            }
        }
    }
}

impl Leavings {
    fn get(&mut self, key: (ChunkId, usize)) -> Option<Arc<[u8]>> {
        if let Some(page) = self.young.get(&key) {
            return Some(Arc::clone(page));
        }
        let page = self.old.remove(&key)?;
        self.put(key, Arc::clone(&page));
        Some(page)
    }

    fn put(&mut self, key: (ChunkId, usize), page: Arc<[u8]>) {
        if self.young_bytes + page.len() > MAX_LEFT_BYTES / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += page.len();
        self.young.insert(key, page);
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
        (state.chunk, state.was_used, state.is_ahead) = (Some(chunk), was_used, !was_used);
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.lock().is_loading = false;
        self.0.settled.notify_all();
    }
}
