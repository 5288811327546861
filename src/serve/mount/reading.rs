//! Open files: each shows one state for as long as it is open, whatever becomes of the name that it was opened by.
//!
//! # Invariants
//! * The chunks of all readers are kept in one cache, whose limit holds for all of them together.
//! * Directories of deltas and page maps are kept of [`MOST_STATES`] states, those used last: a file that is read after its own went has it read again.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::id::ImageRoot;
use crate::base::page::{PageNo, PageReader};
use crate::repo::chunk_cache::ChunkCache;
use crate::repo::lazy_pages::LazyPages;
use crate::repo::stack_reader::State;
use crate::repo::{Fault, RepositoryError};
use crate::sqlite::without_wal::WithoutWal;

use super::Content;
use super::sequence::Sequence;

/// States whose page maps are kept. Each may hold up to 64 MiB of parsed deltas, if it is read all over and has as many.
const MOST_STATES: usize = 8;

/// See the module documentation.
pub struct OpenFiles {
    cache: ChunkCache,
    cache_bytes: u64,
    content: Content,
    handles: Mutex<HashMap<u64, Arc<OpenFile>>>,
    next: AtomicU64,
    /// Used last, last.
    states: Mutex<VecDeque<(StateKey, Arc<Slot>)>>,
}

/// What tells a state from others.
type StateKey = (String, u64, ImageRoot);

/// A state that is open, or is being opened by whoever has the lock.
type Slot = Mutex<Option<Arc<LazyPages>>>;

/// An open file.
pub struct OpenFile {
    /// Its inode's number.
    pub number: u64,
    database: String,
    state: State,
    sequence: Mutex<Sequence>,
}

impl OpenFile {
    /// What it shows, for messages.
    pub fn describe(&self) -> String {
        format!("{}, commit {}", self.database, self.state.commit)
    }

    /// The part of a range that the file has.
    fn within(&self, range: &Range<u64>) -> Range<u64> {
        let end = self.state.image_bytes();
        range.start.min(end)..range.end.min(end)
    }
}

impl OpenFiles {
    /// No file is open. Chunks are kept in `cache`, whose limit is `cache_bytes`.
    pub fn new(cache: ChunkCache, cache_bytes: u64, content: Content) -> Self {
        Self {
            cache,
            cache_bytes,
            content,
            handles: Mutex::default(),
            next: AtomicU64::new(1),
            states: Mutex::default(),
        }
    }

    /// Opens a state of a database, whose inode has that number.
    pub fn open(&self, number: u64, database: &str, state: State) -> u64 {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        let file = OpenFile {
            number,
            database: database.to_owned(),
            state,
            sequence: Mutex::new(Sequence::new(self.cache_bytes)),
        };
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(file));
        handle
    }

    /// An open file.
    pub fn get(&self, handle: u64) -> Option<Arc<OpenFile>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(&handle).map(Arc::clone)
    }

    /// Closes a file.
    pub fn close(&self, handle: u64) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle);
    }

    /// Hands the bytes of a range, as far as the file has them, to `take`.
    pub fn read<T>(
        &self,
        file: &OpenFile,
        range: &Range<u64>,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, RepositoryError> {
        let range = file.within(range);
        if range.is_empty() {
            return Ok(take(&[]));
        }
        let pages = self.pages(file)?;
        let page_bytes = file.state.page_size.bytes() as u64;
        let whole = whole_pages(&range, page_bytes);
        // Not larger than the kernel's requests and a page.
        let mut buffer = vec![0; ((whole.end - whole.start) * page_bytes) as usize];
        let first = PageNo(whole.start as u32 + 1);
        match self.content {
            Content::Exact => pages.read(first, &mut buffer)?,
            Content::WithoutWal => WithoutWal(pages).read(first, &mut buffer)?,
        }
        let skip = (range.start - whole.start * page_bytes) as usize;
        Ok(take(&buffer[skip..skip + (range.end - range.start) as usize]))
    }

    /// Notes that a range was read, and reads ahead of a reader that goes on; returns what it should be given without its asking.
    pub fn look_ahead(&self, file: &OpenFile, range: &Range<u64>) -> Option<Range<u64>> {
        let ahead = file.sequence.lock().unwrap_or_else(PoisonError::into_inner).note(file.within(range))?;
        let pages = whole_pages(&file.within(&ahead.fetch), file.state.page_size.bytes() as u64);
        let pages: Vec<PageNo> = pages.map(|page| PageNo(page as u32 + 1)).collect();
        // What is wrong is said when it is read.
        self.pages(file).ok()?.will_read(&pages);
        Some(file.within(&ahead.give)).filter(|give| !give.is_empty())
    }

    fn pages(&self, file: &OpenFile) -> Result<Arc<LazyPages>, Fault> {
        let slot = self.slot((file.database.clone(), file.state.commit, file.state.root));
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pages) = &*slot {
            return Ok(Arc::clone(pages));
        }
        Ok(Arc::clone(slot.insert(Arc::new(LazyPages::open(&self.cache, &file.state)?))))
    }

    fn slot(&self, key: StateKey) -> Arc<Slot> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let known = states.iter().rposition(|(other, _)| *other == key).and_then(|at| states.remove(at));
        let (key, slot) = known.unwrap_or_else(|| (key, Arc::default()));
        if states.len() >= MOST_STATES {
            states.pop_front();
        }
        states.push_back((key, Arc::clone(&slot)));
        slot
    }
}

/// The pages, counted from 0, that hold these bytes.
fn whole_pages(bytes: &Range<u64>, page_bytes: u64) -> Range<u64> {
    bytes.start / page_bytes..bytes.end.div_ceil(page_bytes)
}
