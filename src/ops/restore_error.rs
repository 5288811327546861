//! Why a restore failed, and what its errors name.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::id::ImageRoot;
use crate::repo::{Fault, RepositoryError};
use crate::store::StoreError;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Something stands at the target.
    #[error("{}: exists already", .0.display())]
    Exists(PathBuf),
    /// There is nothing to restore into.
    #[error("{}: there is no database to restore into", .0.display())]
    NothingThere(PathBuf),
    /// Somebody has the target open.
    #[error("{}: another process has the database open", .0.display())]
    InUse(PathBuf),
    /// The target is a folder.
    #[error("{}: is a folder", .0.display())]
    Folder(PathBuf),
    /// A file operation failed.
    #[error("{}: {action} failed", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Another process, or another thread, does the same.
    #[error("{}: another process is restoring this state to this place right now", .0.display())]
    BeingRestored(PathBuf),
    /// Under the name of the unfinished file stands something else.
    #[error("{}: is no private file of this user, so it cannot be the unfinished file of this restore", .0.display())]
    ForeignPartial(PathBuf),
    /// It ended too early, and the next run can go on.
    #[error("the restore did not finish; what it has is kept in {}", partial.display())]
    Unfinished {
        /// The unfinished file.
        partial: PathBuf,
        /// Why.
        source: Box<RestoreError>,
    },
    /// The image that came out is not the one that was captured.
    #[error("the restored image has the hash {found}, the snapshot says {expected}; it was discarded")]
    WrongRoot {
        /// What the manifest says.
        expected: ImageRoot,
        /// What the file has.
        found: ImageRoot,
    },
    /// SQLite finds the database inconsistent. Its bytes are those that were captured: the source was damaged already.
    #[error("SQLite's integrity check of the restored database failed: {0}; it was discarded")]
    Integrity(String),
    /// SQLite cannot check the database.
    #[error("SQLite cannot check the restored database; it was discarded")]
    Sqlite(#[source] rusqlite::Error),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<Fault> for RestoreError {
    fn from(fault: Fault) -> Self {
        Self::Repository(fault.into())
    }
}

impl RestoreError {
    /// Whether the next run may succeed where this one did not, with what is there: the user stopped it, or the store did not answer.
    pub(super) fn can_continue(&self) -> bool {
        match self {
            Self::Repository(RepositoryError::Cancelled(_)) => true,
            Self::Repository(
                RepositoryError::Store(source) | RepositoryError::Fault(Fault::Unreadable { source, .. }),
            ) => matches!(source, StoreError::Io { .. }) || source.is_about_access(),
            _ => false,
        }
    }
}

/// The error of a file operation.
pub(super) fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::Io { path, action, source }
}

/// The folder that a file is in.
pub(super) fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
