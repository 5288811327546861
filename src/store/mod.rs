//! Where objects are kept: the [`Store`] trait and the destinations that implement it.
//!
//! # What a store guarantees
//! * [`create`](Store::create) is atomic and durable: once it returns, the object is there whole and survives a power loss; before,
//!   nobody sees it. An object that exists is never overwritten, and of two creators exactly one is told [`Creation::New`].
//! * [`list`](Store::list) shows every object whose creation has returned.
//! * Errors name the object and what was tried.
//!
//! A store knows nothing of what it holds: no keys, no format beyond names.

pub mod lane;
pub mod local;
pub mod opendal;
pub mod page_map;
pub mod state;

use std::io;
use std::ops::Range;

use crate::format::name::{Folder, ObjectName};

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
}

/// The error for an object that is longer than its kind may be.
fn too_long(bytes: u64, limit_bytes: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("object of {bytes} bytes: at most {limit_bytes} expected"))
}
