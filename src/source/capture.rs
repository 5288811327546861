//! A pinned state of a database, as pages.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use crate::base::clock::UnixMicros;
use crate::base::page::{PageCount, PageNo, PageReader, PageSize};
use crate::format::position::{FileFacts, Position, WalPosition};
use crate::sqlite::header::{DatabaseHeader, HEADER_BYTES};
use crate::sqlite::wal::Salts;

use super::changes::{self, Changes, Now};
use super::error::SourceError;
use super::pinned::{EarlierPages, Pinned};
use super::wal_map::{self, Mapped, WalMap, read_up_to};

/// How often a WAL index that is being changed is read before giving up, with [`RETRY_PAUSE`] in between: a writer
/// holds it for microseconds.
const WAL_TRIES: u32 = 1000;
const RETRY_PAUSE: Duration = Duration::from_millis(2);

/// How to capture.
#[derive(Clone, Copy, Debug)]
pub struct CaptureOptions {
    /// How long to wait for a lock that another process holds.
    pub busy_timeout: Duration,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(10) }
    }
}

/// One committed state, pinned until it is dropped.
///
/// Fields are dropped in order: the connection first, then the descriptors (see the module documentation).
pub struct Capture {
    connection: Connection,
    pages: PinnedPages,
    journal_mode: String,
    recovered: bool,
    claim: Claim,
}

/// The pages of a pinned state. Threads may read them at once.
pub struct PinnedPages {
    path: PathBuf,
    wal: Option<WalSource>,
    file: File,
    page_size: PageSize,
    page_count: PageCount,
}

pub(super) struct WalSource {
    pub(super) wal: File,
    pub(super) shm: File,
    pub(super) map: Option<WalMap>,
    /// Without a map: the salts of the generation to come, or zeros.
    pub(super) next_salts: Salts,
}

/// A file that was left alone for so long cannot change again without its times showing it: kernels stamp files every few milliseconds, and some file systems every
/// two seconds.
const SETTLED_MICROS: i64 = 3_000_000;

impl Capture {
    /// Opens a database and pins its newest committed state.
    pub fn open(path: &Path, options: CaptureOptions) -> Result<Self, SourceError> {
        let path = std::fs::canonicalize(path).map_err(SourceError::io(path, "open"))?;
        let (file, claim) = open_file(&path)?;
        let (connection, recovered) = pin(&path, options)?;
        check_same_file(&path, &file)?;
        let sqlite = |source| SourceError::Sqlite { path: path.clone(), source };
        let journal_mode: String = pragma(&connection, "journal_mode").map_err(sqlite)?;
        let page_size: u32 = pragma(&connection, "page_size").map_err(sqlite)?;
        let page_count: u32 = pragma(&connection, "page_count").map_err(sqlite)?;
        let wal = if journal_mode == "wal" { open_wal(&path)? } else { None };
        let page_size = PageSize::new(page_size).expect("BUG: SQLite knows its own page sizes");
        let pages = PinnedPages { path, wal, file, page_size, page_count: PageCount(page_count) };
        let mut capture = Self { connection, pages, journal_mode, recovered, claim };
        capture.map_wal()?;
        Ok(capture)
    }

    /// The committed frames of the WAL, if there are any.
    pub(super) fn wal_map(&self) -> Option<&WalMap> {
        self.pages.wal.as_ref()?.map.as_ref()
    }

    pub(super) fn wal_mut(&mut self) -> Option<&mut WalSource> {
        self.pages.wal.as_mut()
    }

    pub(super) fn set_page_count(&mut self, page_count: PageCount) {
        self.pages.page_count = page_count;
    }

    /// Lets another connection, which has a pin, hold the state.
    pub(super) fn swap_connection(&mut self, other: &mut Connection) {
        std::mem::swap(&mut self.connection, other);
    }

    /// Device and inode of the file.
    pub fn identity(&self) -> (u64, u64) {
        self.claim.0
    }

    /// Size of a page.
    pub fn page_size(&self) -> PageSize {
        self.pages.page_size
    }

    /// Whether the database is in WAL mode.
    pub fn has_wal(&self) -> bool {
        self.pages.wal.is_some()
    }

    /// Ends the read transaction.
    pub fn finish(self) -> Result<(), SourceError> {
        let ended = self.connection.execute_batch("ROLLBACK");
        ended.map_err(|source| SourceError::Sqlite { path: self.pages.path.clone(), source })
    }
}

impl Pinned for Capture {
    type Pages = PinnedPages;

    fn pages(&self) -> &PinnedPages {
        &self.pages
    }

    fn path(&self) -> &Path {
        &self.pages.path
    }

    fn journal_mode(&self) -> &str {
        &self.journal_mode
    }

    fn recovered(&self) -> bool {
        self.recovered
    }

    fn file_facts(&self, now: UnixMicros) -> Result<FileFacts, SourceError> {
        let PinnedPages { path, file, .. } = &self.pages;
        let metadata = file.metadata().map_err(SourceError::io(path, "read"))?;
        let mut header = [0; HEADER_BYTES];
        read_up_to(file, &mut header, 0).map_err(SourceError::io(path, "read"))?;
        let (modified_ns, changed_ns) = times(&metadata);
        Ok(FileFacts {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns,
            changed_ns,
            change_counter: u32::from_be_bytes([header[24], header[25], header[26], header[27]]),
            settled: now.0.saturating_sub(changed_ns / 1000) > SETTLED_MICROS,
        })
    }

    fn wal_position(&self) -> Option<WalPosition> {
        let source = self.pages.wal.as_ref()?;
        let next = WalPosition { salts: source.next_salts.0, frames: 0, checksum: (0, 0) };
        source.map.as_ref().map(WalMap::position).or((next.salts != [0; 8]).then_some(next))
    }

    fn changes_since(&self, then: &Position, file: FileFacts) -> Result<Changes, SourceError> {
        let PinnedPages { path, wal, page_size, .. } = &self.pages;
        let wal = wal.as_ref().map(|source| (&source.wal, source.map.as_ref()));
        let now = Now { file, page_size: page_size.get(), wal, position: self.wal_position() };
        changes::changes_since(then, &now).map_err(SourceError::io(path, "read the WAL of"))
    }

    fn map_wal(&mut self) -> Result<(), SourceError> {
        let pages = &mut self.pages;
        let Some(source) = &mut pages.wal else { return Ok(()) };
        (source.map, source.next_salts) = map_frames(&pages.path, &source.wal, &source.shm)?;
        match &source.map {
            Some(map) if map.page_size() != pages.page_size => Err(SourceError::WalRestarted(pages.path.clone())),
            Some(map) => {
                pages.page_count = map.page_count();
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl PageReader for PinnedPages {
    type Error = SourceError;

    fn page_size(&self) -> PageSize {
        self.page_size
    }

    fn page_count(&self) -> PageCount {
        self.page_count
    }

    fn read(&self, first: PageNo, buffer: &mut [u8]) -> Result<(), SourceError> {
        let length = read_up_to(&self.file, buffer, self.page_size.offset_of(first))
            .map_err(SourceError::io(&self.path, "read"))?;
        self.check_complete(first, buffer.len(), length)?;
        buffer[length..].fill(0);
        if let Some(WalSource { wal, map: Some(map), .. }) = &self.wal {
            let stable = map.overlay(wal, first, buffer).map_err(SourceError::io(&self.path, "read the WAL of"))?;
            if !stable {
                return Err(SourceError::WalRestarted(self.path.clone()));
            }
        }
        self.clear_lock_page(first, buffer);
        Ok(())
    }
}

impl EarlierPages for PinnedPages {
    fn frames_before(&self, then: &WalPosition) -> HashMap<PageNo, u32> {
        match &self.wal {
            Some(WalSource { map: Some(map), .. }) if map.position().salts == then.salts => {
                map.frames_before(then.frames)
            }
            _ => HashMap::new(),
        }
    }

    fn read_candidate(&self, page: PageNo, frame: Option<u32>, buffer: &mut [u8]) -> Result<bool, SourceError> {
        let read = match (frame, &self.wal) {
            (None, _) => {
                read_up_to(&self.file, buffer, self.page_size.offset_of(page)).map(|length| length == buffer.len())
            }
            (Some(frame), Some(WalSource { wal, map: Some(map), .. })) => map.read_frame(wal, frame, buffer),
            (Some(_), _) => Ok(false),
        };
        read.map_err(SourceError::io(&self.path, "read"))
    }
}

impl PinnedPages {
    /// Pages that the file is too short for must stand in the WAL.
    fn check_complete(&self, first: PageNo, wanted: usize, length: usize) -> Result<(), SourceError> {
        let page_bytes = self.page_size.bytes();
        let held = |page: PageNo| match &self.wal {
            Some(WalSource { map: Some(map), .. }) => map.holds(page),
            _ => false,
        };
        let missing = (length - length % page_bytes..wanted)
            .step_by(page_bytes)
            .map(|offset| PageNo(first.0 + (offset / page_bytes) as u32))
            .find(|&page| page != self.page_size.lock_page() && !held(page));
        match missing {
            Some(page) => Err(SourceError::Truncated { path: self.path.clone(), page: page.0 }),
            None => Ok(()),
        }
    }

    fn clear_lock_page(&self, first: PageNo, buffer: &mut [u8]) {
        let page_bytes = self.page_size.bytes();
        if let Some(index) = self.page_size.lock_page().0.checked_sub(first.0)
            && let Some(page) = buffer.chunks_exact_mut(page_bytes).nth(index as usize)
        {
            page.fill(0);
        }
    }
}

/// Times of the last change of the content, and of content or attributes, in nanoseconds.
fn times(metadata: &Metadata) -> (i64, i64) {
    let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    (nanoseconds(metadata.mtime(), metadata.mtime_nsec()), nanoseconds(metadata.ctime(), metadata.ctime_nsec()))
}

/// Whether the file system proves that the file at `path` was left alone since `then`. The file is not opened.
pub fn looks_unchanged(path: &Path, then: &FileFacts) -> bool {
    // A file that changed just before may change again without its times showing it.
    then.settled
        && std::fs::metadata(path).is_ok_and(|now| {
            (now.dev(), now.ino(), now.len()) == (then.device, then.inode, then.bytes)
                && times(&now) == (then.modified_ns, then.changed_ns)
        })
}

/// Files, by device and inode, that this process captures right now.
static CLAIMED: LazyLock<Mutex<HashSet<(u64, u64)>>> = LazyLock::new(Mutex::default);

/// The right of this process to capture a file; given back when dropped.
struct Claim((u64, u64));

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Claims the file before it is opened: a second descriptor, closed again, would drop the first capture's locks.
fn open_file(path: &Path) -> Result<(File, Claim), SourceError> {
    let metadata = std::fs::metadata(path).map_err(SourceError::io(path, "open"))?;
    let kind = metadata.file_type();
    if kind.is_dir() || kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device() {
        return Err(SourceError::NotAFile(path.to_owned()));
    }
    if metadata.len() == 0 {
        return Err(SourceError::Empty(path.to_owned()));
    }
    let identity = (metadata.dev(), metadata.ino());
    if !CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).insert(identity) {
        return Err(SourceError::Busy(path.to_owned()));
    }
    let claim = Claim(identity);
    let file = File::open(path).map_err(SourceError::io(path, "open"))?;
    let mut header = [0; HEADER_BYTES];
    let length = read_up_to(&file, &mut header, 0).map_err(SourceError::io(path, "read"))?;
    DatabaseHeader::parse(&header[..length]).map_err(|source| SourceError::Header { path: path.to_owned(), source })?;
    Ok((file, claim))
}

/// Opens a connection and begins a read transaction. Also says whether a crashed process's transaction was rolled back.
fn pin(path: &Path, options: CaptureOptions) -> Result<(Connection, bool), SourceError> {
    match begin_at(path, OpenFlags::SQLITE_OPEN_READ_ONLY, options) {
        Err(error) if error.sqlite_extended_error_code() == Some(ffi::SQLITE_READONLY_ROLLBACK) => {
            // A hot journal: any reader must roll it back before it can read, and SQLite does so for a connection that may write.
            let connection = begin_at(path, OpenFlags::SQLITE_OPEN_READ_WRITE, options);
            connection.map(|connection| (connection, true)).map_err(|error| pin_error(path, options, error))
        }
        pinned => pinned.map(|connection| (connection, false)).map_err(|error| pin_error(path, options, error)),
    }
}

fn begin_at(path: &Path, access: OpenFlags, options: CaptureOptions) -> rusqlite::Result<Connection> {
    let connection = connect(path, access, options)?;
    begin(&connection)?;
    Ok(connection)
}

/// Opens a connection that never checkpoints on behalf of the application, not even as the last one to close.
pub(super) fn connect(path: &Path, access: OpenFlags, options: CaptureOptions) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.busy_timeout(options.busy_timeout)?;
    Ok(connection)
}

/// Begins a read transaction.
pub(super) fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN")?;
    // BEGIN alone takes no lock; reading does. This pragma reads the header and does not parse the schema.
    let _: i64 = pragma(connection, "user_version")?;
    Ok(())
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

fn pin_error(path: &Path, options: CaptureOptions, error: rusqlite::Error) -> SourceError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            SourceError::Locked { path, waited_s: options.busy_timeout.as_secs() }
        }
        _ => SourceError::Sqlite { path, source: error },
    }
}

fn check_same_file(path: &Path, file: &File) -> Result<(), SourceError> {
    let opened = file.metadata().map_err(SourceError::io(path, "open"))?;
    match std::fs::metadata(path) {
        Ok(now) if (now.dev(), now.ino()) == (opened.dev(), opened.ino()) => Ok(()),
        _ => Err(SourceError::Replaced(path.to_owned())),
    }
}

/// The WAL and its index, which the connection has made sure exist.
fn open_wal(path: &Path) -> Result<Option<WalSource>, SourceError> {
    let open = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        File::open(&path).map_err(SourceError::io(&path, "open"))
    };
    Ok(Some(WalSource { wal: open("-wal")?, shm: open("-shm")?, map: None, next_salts: Salts([0; 8]) }))
}

/// The committed frames; without any, the salts of the generation to come.
pub(super) fn map_frames(path: &Path, wal: &File, shm: &File) -> Result<(Option<WalMap>, Salts), SourceError> {
    let mut damaged = None;
    for _ in 0..WAL_TRIES {
        match wal_map::map(wal, shm).map_err(SourceError::io(path, "read the WAL of"))? {
            Mapped::Empty(salts) => return Ok((None, salts)),
            Mapped::Frames(map) => return Ok((Some(map), Salts([0; 8]))),
            // A restart between reading the index and the frames looks like damage once, not twice.
            Mapped::Damaged { frame } if damaged == Some(frame) => {
                return Err(SourceError::WalDamaged { path: path.to_owned(), frame });
            }
            Mapped::Damaged { frame } => damaged = Some(frame),
            Mapped::Unstable => {}
        }
        std::thread::sleep(RETRY_PAUSE);
    }
    Err(SourceError::WalUnstable { path: path.to_owned(), tries: WAL_TRIES })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_sqlite_has_no_wal_reset_bug() {
        // Fixed in 3.51.3: earlier versions could lose commits when a checkpoint and a WAL reset raced.
        assert!(rusqlite::version_number() >= 3_051_003, "{}", rusqlite::version());
    }

    #[test]
    fn a_database_is_captured_once_at_a_time_and_again_after_that() {
        let folder = tempfile::tempdir().expect("BUG: a temporary folder");
        let path = folder.path().join("a.db");
        Connection::open(&path).and_then(|c| c.execute_batch("CREATE TABLE t (a)")).expect("BUG: a database");
        let capture = Capture::open(&path, CaptureOptions::default()).expect("BUG: it can be captured");
        let second = Capture::open(&path, CaptureOptions::default());
        assert!(matches!(second, Err(SourceError::Busy(_))));
        capture.finish().expect("BUG: it ends");
        assert!(Capture::open(&path, CaptureOptions::default()).is_ok());
    }
}
