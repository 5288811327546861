//! Lets SQLite itself read any pages: a query on a state in a repository fetches just the pages that it touches.
//!
//! # Guarantees
//! * Nothing is written anywhere: the file is read-only and immutable, temporary data stays in memory, and nothing else can be attached.
//! * The database is not trusted: its schema calls no functions but harmless ones, nothing in it is executed beside what the query asks for (no triggers fire, for nothing is
//!   written), no extension is loaded, cells are checked. Time and memory are bounded by whoever runs the query (`ops::query`).
//! * A page that cannot be read is an error of the query, never zeros; [`View::failure`] says why.

mod ffi;
mod read_ahead;

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use crate::base::page::{PageNo, PageReader};

use read_ahead::ReadAhead;

/// Why a page could not be read.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Pages that SQLite can open, as long as this lives. Connections that are open stay so.
pub struct View {
    number: u64,
    failure: Arc<Mutex<Option<Failure>>>,
}

struct Pages<P> {
    pages: Arc<P>,
    ahead: Mutex<ReadAhead>,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl View {
    /// Makes pages known to SQLite. A database in WAL mode is opened through [`WithoutWal`](crate::sqlite::without_wal::WithoutWal).
    pub fn new<P>(pages: Arc<P>) -> Result<Self, rusqlite::Error>
    where
        P: PageReader + Send + Sync + 'static,
        P::Error: Error + Send + Sync + 'static,
    {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let failure = Arc::default();
        let image = Arc::new(Pages { pages, ahead: Mutex::default(), failure: Arc::clone(&failure) });
        let code = ffi::add(number, image);
        code.map_err(|code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))?;
        Ok(Self { number, failure })
    }

    /// The name by which a connection of this process that takes URIs can open or attach it.
    pub fn uri(&self) -> String {
        format!("file:/{}?vfs={}&mode=ro&immutable=1", self.number, ffi::NAME.to_string_lossy())
    }

    /// A connection that can only read it.
    pub fn connect(&self) -> Result<Connection, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(self.uri(), flags)?;
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        connection.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
        distrust(&connection)?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA temp_store = MEMORY;")?;
        Ok(connection)
    }

    /// Why a page could not be read, if that has happened since this was asked last.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        ffi::remove(self.number);
    }
}

/// Makes a connection wary of what a database holds (<https://sqlite.org/security.html>).
pub fn distrust(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false)?;
    connection.execute_batch("PRAGMA cell_size_check = ON;")
}

impl<P> ffi::Image for Pages<P>
where
    P: PageReader + Send + Sync,
    P::Error: Error + Send + Sync + 'static,
{
    fn length(&self) -> u64 {
        self.pages.page_size().image_bytes(self.pages.page_count())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Option<()> {
        let page_bytes = self.pages.page_size().bytes();
        let (first, skip) = ((offset / page_bytes as u64) as u32 + 1, (offset % page_bytes as u64) as usize);
        if skip == 0 && buffer.len() == page_bytes {
            self.read_page(PageNo(first), buffer)?;
            self.look_ahead(PageNo(first), buffer);
            return Some(());
        }
        // A part of the header, as SQLite reads it when it opens a file, or of several pages.
        let mut page = vec![0; page_bytes];
        let (mut number, mut skip, mut rest) = (first, skip, buffer);
        while !rest.is_empty() {
            self.read_page(PageNo(number), &mut page)?;
            let (part, tail) = rest.split_at_mut(rest.len().min(page_bytes - skip));
            part.copy_from_slice(&page[skip..skip + part.len()]);
            (number, skip, rest) = (number + 1, 0, tail);
        }
        Some(())
    }
}

impl<P> Pages<P>
where
    P: PageReader,
    P::Error: Error + Send + Sync + 'static,
{
    fn read_page(&self, page: PageNo, buffer: &mut [u8]) -> Option<()> {
        match self.pages.read(page, buffer) {
            Ok(()) => Some(()),
            Err(error) => {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.into());
                None
            }
        }
    }

    fn look_ahead(&self, page: PageNo, bytes: &[u8]) {
        // Another connection that is just doing this needs no second guess.
        let Ok(mut ahead) = self.ahead.try_lock() else { return };
        let peek = |page| {
            let mut bytes = vec![0; self.pages.page_size().bytes()];
            self.pages.read(page, &mut bytes).ok().map(|()| bytes)
        };
        let foreseen = ahead.note(page, bytes, self.pages.page_count(), peek);
        if !foreseen.is_empty() {
            self.pages.will_read(&foreseen);
        }
    }
}
