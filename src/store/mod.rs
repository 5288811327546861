//! Where objects are kept: the [`Store`] trait and the destinations that implement it.
//!
//! # What a store guarantees
//! * [`create`](Store::create) is atomic and durable: once it returns, the object is there whole and survives a power loss; before,
//!   nobody sees it. An object that exists is never overwritten, and of two creators exactly one is told [`Creation::New`].
//! * [`list`](Store::list) shows every object whose creation has returned.
//! * Errors name the object and what was tried.
//!
//! A store knows nothing of what it holds: no keys, no format beyond names.

pub mod around;
pub mod connect;
pub mod lane;
pub mod leftovers;
pub mod local;
pub mod object_lock;
pub mod opendal;
pub mod page_map;
pub mod place;
pub mod probe;
pub mod replicas;
pub mod sftp;
pub mod state;
mod transport;

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::UnixMicros;
use crate::format::name::{Folder, ObjectName};

use object_lock::{Lock, Locked};

/// What became of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The object is there now.
    New,
    /// An object of that name was there already and was left alone.
    Exists,
}

/// An object that a listing shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: ObjectName,
    /// Its length.
    pub bytes: u64,
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{location}: {name} does not exist")]
    NotFound {
        /// Which store.
        location: String,
        /// Which object.
        name: ObjectName,
    },
    /// The object is shorter than the range that was asked for.
    #[error("{location}: {name} is truncated: bytes {} to {} do not exist", range.start, range.end)]
    Truncated {
        /// Which store.
        location: String,
        /// Which object.
        name: ObjectName,
        /// What was asked for.
        range: Range<u64>,
    },
    /// The operating system or the service refused.
    #[error("{location}: {action} {name} failed")]
    Io {
        /// Which store.
        location: String,
        /// What was tried: "read", "create" …
        action: &'static str,
        /// Object or folder.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The service is away, busy or slow. What was asked may have been done; asking again may help.
    #[error("{location}: {action} {name} failed for now")]
    Unavailable {
        /// Which store.
        location: String,
        /// What was tried.
        action: &'static str,
        /// Object or folder.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It was tried again and again, until the time was up.
    #[error("gave up after {attempts} attempts in {:.0} s", after.as_secs_f64())]
    GaveUp {
        /// How often it was tried.
        attempts: u32,
        /// For how long.
        after: Duration,
        /// What happened last.
        source: Box<StoreError>,
    },
    /// Two destinations hold different objects of one name.
    #[error("{first} and {second} hold different objects named {name}")]
    Conflict {
        /// Which object.
        name: ObjectName,
        /// A destination that holds one.
        first: String,
        /// A destination that holds another.
        second: String,
    },
    /// Too few of several destinations did what was asked.
    #[error("{action} {name}: {reached} of {needed} destinations that are needed did it")]
    TooFew {
        /// What was tried.
        action: &'static str,
        /// Object or folder.
        name: String,
        /// How many did.
        reached: usize,
        /// How many must.
        needed: usize,
        /// Why one of the others did not.
        source: Box<StoreError>,
    },
}

impl StoreError {
    /// Whether asking again may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::TooFew { source, .. } => source.is_temporary(),
            Self::NotFound { .. }
            | Self::Truncated { .. }
            | Self::Io { .. }
            | Self::GaveUp { .. }
            | Self::Conflict { .. } => false,
        }
    }

    /// Whether it tells of the way to the store, not of what the store holds: it did not answer, or did not let us in.
    pub fn is_about_access(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::GaveUp { .. } => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::TooFew { source, .. } => source.is_about_access(),
            Self::NotFound { .. } | Self::Truncated { .. } | Self::Conflict { .. } => false,
        }
    }
}

/// A place that keeps objects.
pub trait Store: Send + Sync {
    /// The place, as a person would recognise it; without secrets.
    fn location(&self) -> String;

    /// Creates an object unless one of that name exists.
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError>;

    /// A whole object, if it is not longer than `limit_bytes`; a longer one is an error.
    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError>;

    /// Exactly these bytes of an object.
    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError>;

    /// All objects of a folder and below, sorted by name. Files whose names no object can have are left out.
    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError>;

    /// Deletes an object; one that does not exist is no error.
    fn delete(&self, name: &ObjectName) -> Result<(), StoreError>;

    /// When an object was created, on the store's clock; `None` if the store cannot tell.
    fn created(&self, _name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        Ok(None)
    }

    /// Whether nobody can delete the object's bytes, and until when. A store of several answers for none of them.
    fn locked(&self, _name: &ObjectName) -> Result<Locked, StoreError> {
        Ok(Locked::Unsupported)
    }

    /// Lets nobody delete the object's bytes, where that is [supported](Self::locked).
    fn lock(&self, name: &ObjectName, _lock: Lock) -> Result<(), StoreError> {
        Err(unlockable(self.location(), name))
    }

    /// The objects of a folder that this client remembers, without asking. There may be more by now. `None` if it remembers nothing, or need not,
    /// because listing costs no request.
    fn remembered(&self, _folder: Folder) -> Option<Vec<Listed>> {
        None
    }

    /// The single stores that hold copies of every object, if there are several: for a reader that was given a damaged copy.
    fn copies(&self) -> Vec<Arc<dyn Store>> {
        Vec::new()
    }

    /// Whether it answered when it was asked last. One that does not is asked last, for it may take long.
    fn answers(&self) -> bool {
        true
    }

    /// How many requests it is worth to have under way at once; 0 for a store in this process or machine, which has no round trips.
    fn concurrency(&self) -> usize {
        0
    }
}

/// Whether a store has the object with these bytes.
fn holds(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<bool, StoreError> {
    match store.read(name, bytes.len() as u64) {
        Ok(there) => Ok(there == bytes),
        // Longer than ours.
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::InvalidData => Ok(false),
        Err(error) => Err(error),
    }
}

/// The error where there are no locks.
fn unlockable(location: String, name: &ObjectName) -> StoreError {
    let source = io::Error::new(io::ErrorKind::Unsupported, "objects cannot be locked there");
    StoreError::Io { location, action: "lock", name: name.to_string(), source }
}

/// The error for an object that is longer than its kind may be.
fn too_long(bytes: u64, limit_bytes: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("object of {bytes} bytes: at most {limit_bytes} expected"))
}
