//! Asks one question at many restore points, and only where the answer can have changed.
//!
//! While a question is answered, the pages that it reads are noted. The answer at the next restore point is the same if none of them changed on the way there: SQLite, reading
//! the same pages, does the same. Of page 1 the change counter and the counts of pages do not count, for they change with every commit and are only read to know
//! whether anything did.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use crate::base::clock::Timer;
use crate::base::page::{PageCount, PageNo, PageReader, PageSize};
use crate::monitor::Monitor;
use crate::repo::RepositoryError;
use crate::repo::chunk_cache::ChunkCache;
use crate::repo::lazy_pages::LazyPages;
use crate::sqlite::header::are_same_but_for_counters;
use crate::sqlite::without_wal::WithoutWal;

use super::query::{Database, Limits, QueryError};
use super::timeline_walk::{Changes, TimelineWalk};

/// Takes the answer at a restore point, by its position.
pub type TakeAnswer<'t, T> = dyn FnMut(usize, &Result<T, String>) -> Result<(), QueryError> + 't;

/// What a question is asked with.
pub struct Asker<'a> {
    /// The restore points.
    pub walk: &'a TimelineWalk,
    /// Chunks, shared by all states.
    pub cache: ChunkCache,
    /// What a question may use.
    pub limits: Limits,
    /// Measures it.
    pub timer: Arc<dyn Timer>,
    /// Whether to stop.
    pub monitor: Arc<dyn Monitor>,
}

/// An answer, and what it depends on.
#[derive(Clone, Debug)]
pub struct Asked<T> {
    /// The answer, or what SQLite has against the question.
    pub answer: Result<T, String>,
    noted: BTreeSet<PageNo>,
    head: Vec<u8>,
}

impl Asker<'_> {
    /// Asks at a restore point.
    pub fn ask<T>(
        &self,
        at: usize,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<Asked<T>, QueryError> {
        let pages = Arc::new(LazyPages::open(&self.cache, &self.walk.state(at))?);
        let mut head = vec![0; pages.page_size().bytes()];
        pages.read(PageNo(1), &mut head)?;
        let noting = Arc::new(Noting { pages: WithoutWal(pages), noted: Mutex::default() });
        let (timer, monitor) = (Arc::clone(&self.timer), Arc::clone(&self.monitor));
        let database = Database::of(Arc::clone(&noting), self.limits, timer, monitor)?;
        database.begin();
        let answer = match question(database.connection()) {
            Ok(answer) => Ok(answer),
            Err(error) => match database.explain(&error) {
                QueryError::Sqlite(text) => Err(text),
                other => return Err(other),
            },
        };
        drop(database);
        let noted = std::mem::take(&mut *noting.noted.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Asked { answer, noted, head })
    }

    /// Whether the answer at the restore point before `at` must be that at `at` too.
    pub fn still_holds<T>(&self, asked: &Asked<T>, at: usize, changes: &mut Changes<'_>) -> Result<bool, QueryError> {
        let Some(changed) = changes.before(at)? else { return Ok(false) };
        if asked.noted.iter().any(|&page| page != PageNo(1) && changed.contains(page)) {
            return Ok(false);
        }
        if !changed.contains(PageNo(1)) {
            return Ok(true);
        }
        let pages = LazyPages::open(&self.cache, &self.walk.state(at))?;
        let mut head = vec![0; pages.page_size().bytes()];
        pages.read(PageNo(1), &mut head)?;
        Ok(are_same_but_for_counters(&asked.head, &head))
    }

    /// Asks at every restore point, as far as answers can have changed, and hands each to `take` with the restore point's position. Returns how often it was asked.
    pub fn ask_all<T>(
        &self,
        is_steady: bool,
        question: &dyn Fn(&Connection) -> rusqlite::Result<T>,
        take: &mut TakeAnswer<'_, T>,
    ) -> Result<usize, QueryError> {
        let mut changes = self.walk.changes();
        let mut last: Option<Asked<T>> = None;
        let mut times = 0;
        for at in 0..self.walk.moments().len() {
            self.monitor.check_cancelled()?;
            let holds = match &last {
                Some(asked) if is_steady => self.still_holds(asked, at, &mut changes)?,
                _ => false,
            };
            if !holds {
                last = Some(self.ask(at, question)?);
                times += 1;
            }
            if let Some(asked) = &last {
                take(at, &asked.answer)?;
            }
        }
        Ok(times)
    }
}

/// Pages that note which of them are read.
struct Noting<P> {
    pages: P,
    noted: Mutex<BTreeSet<PageNo>>,
}

impl<P: PageReader<Error = RepositoryError> + Send> PageReader for Noting<P> {
    type Error = RepositoryError;

    fn page_size(&self) -> PageSize {
        self.pages.page_size()
    }

    fn page_count(&self) -> PageCount {
        self.pages.page_count()
    }

    fn read(&self, first: PageNo, buffer: &mut [u8]) -> Result<(), RepositoryError> {
        let count = buffer.len().div_ceil(self.page_size().bytes()) as u32;
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.extend((first.0..first.0.saturating_add(count)).map(PageNo));
        drop(noted);
        self.pages.read(first, buffer)
    }

    fn will_read(&self, pages: &[PageNo]) {
        self.pages.will_read(pages);
    }
}
