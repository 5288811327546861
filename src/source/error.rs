//! What can be wrong with a source.

use std::io;
use std::path::{Path, PathBuf};

use crate::sqlite::header::HeaderError;

/// Why a database could not be captured. Its restore points stay as they were.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be opened or read.
    #[error("{}: {action} failed", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A folder, a socket, a device.
    #[error("{}: not a file", .0.display())]
    NotAFile(PathBuf),
    /// A file of zero bytes.
    #[error("{}: the file is empty; SQLite has not written a database there yet", .0.display())]
    Empty(PathBuf),
    /// Not a SQLite database.
    #[error("{}: not captured", path.display())]
    Header {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: HeaderError,
    },
    /// Another process holds it exclusively.
    #[error("{}: locked by another process for longer than {waited_s} s", path.display())]
    Locked {
        /// Which database.
        path: PathBuf,
        /// How long this process waited.
        waited_s: u64,
    },
    /// SQLite refuses to read it.
    #[error("{}: SQLite cannot read the database", path.display())]
    Sqlite {
        /// Which database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Another file stands there now.
    #[error("{}: the file was replaced or removed while it was being opened", .0.display())]
    Replaced(PathBuf),
    /// The file ends before its last page.
    #[error("{}: truncated: page {page} lies beyond the end of the file", path.display())]
    Truncated {
        /// Which database.
        path: PathBuf,
        /// The first page that is missing.
        page: u32,
    },
    /// The WAL says that frames are committed which do not check out.
    #[error("{}-wal: frame {frame} is committed, but its checksum does not agree", path.display())]
    WalDamaged {
        /// Which database.
        path: PathBuf,
        /// Number of the frame, from 1.
        frame: u32,
    },
    /// A writer reset the WAL during the capture. Starting anew helps, and is needed at most once in a while.
    #[error("{}-wal: restarted by a writer during the capture", .0.display())]
    WalRestarted(PathBuf),
    /// The WAL index never came to rest.
    #[error("{}-shm: no stable header in {tries} tries", path.display())]
    WalUnstable {
        /// Which database.
        path: PathBuf,
        /// How often it was read.
        tries: u32,
    },
    /// Commits cannot have been captured: the WAL is not the one after the one that was captured.
    #[error("{}-wal: not the generation after the one that was captured; it was removed, or locks were lost", .0.display())]
    Gap(PathBuf),
    /// This process captures the same database already.
    #[error("{}: this process captures the database already", .0.display())]
    Busy(PathBuf),
}

impl SourceError {
    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}
