//! For a store that cannot refuse to overwrite: a look before each creation.
//!
//! Between the look and the creation another writer may create the same object, and one of the two is then lost without a word. So only one may write at
//! a time, which nobody enforces: the repository's config says that it is so, and every command that writes says it again.

use std::ops::Range;
use std::sync::Arc;

use crate::base::clock::UnixMicros;
use crate::format::name::{Folder, ObjectName};

use super::super::object_lock::{Lock, Locked};
use super::super::{Creation, Listed, Store, StoreError};

/// See the module documentation.
pub struct SingleWriter(Arc<dyn Store>);

impl SingleWriter {
    /// Looks before each creation.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// Whether there are several destinations, and one has these very bytes.
    fn is_on_some(&self, name: &ObjectName, bytes: &[u8]) -> bool {
        !self.0.copies().is_empty() && self.0.read(name, bytes.len() as u64).is_ok_and(|there| there == bytes)
    }
}

impl Store for SingleWriter {
    fn location(&self) -> String {
        self.0.location()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        match self.0.read_range(name, 0..1) {
            // Every object has more bytes than none.
            Err(StoreError::NotFound { .. }) => self.0.create(name, bytes),
            // Of several destinations one may have it since an attempt that failed: the others are to get it, too.
            Ok(_) if self.is_on_some(name, bytes) => self.0.create(name, bytes),
            Ok(_) | Err(StoreError::Truncated { .. }) => Ok(Creation::Exists),
            Err(error) => Err(error),
        }
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.0.read(name, limit_bytes)
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.0.read_range(name, range)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        self.0.list(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.0.delete(name)
    }

    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        self.0.created(name)
    }

    fn locked(&self, name: &ObjectName) -> Result<Locked, StoreError> {
        self.0.locked(name)
    }

    fn lock(&self, name: &ObjectName, lock: Lock) -> Result<(), StoreError> {
        self.0.lock(name, lock)
    }

    fn remembered(&self, folder: Folder) -> Option<Vec<Listed>> {
        self.0.remembered(folder)
    }

    fn copies(&self) -> Vec<Arc<dyn Store>> {
        self.0.copies()
    }

    fn concurrency(&self) -> usize {
        self.0.concurrency()
    }
}
