//! Counts what is asked of a store, and for tests writes it down.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::clock::UnixMicros;
use crate::format::name::{Folder, ObjectName};

use super::super::object_lock::{Lock, Locked};
use super::super::{Creation, Listed, Store, StoreError};

/// What was asked so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Creations.
    pub creates: u64,
    /// Reads, of whole objects and of ranges.
    pub reads: u64,
    /// Listings.
    pub lists: u64,
    /// Deletions.
    pub deletes: u64,
    /// Bytes handed to creations.
    pub uploaded_bytes: u64,
    /// Bytes that reads gave.
    pub downloaded_bytes: u64,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// "create", "read", "list" or "delete".
    pub action: &'static str,
    /// Object or folder.
    pub name: String,
    /// Bytes sent or got.
    pub bytes: u64,
}

/// See the module documentation.
pub struct Meter {
    store: Arc<dyn Store>,
    creates: AtomicU64,
    reads: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    uploaded_bytes: AtomicU64,
    downloaded_bytes: AtomicU64,
    calls: Option<Mutex<Vec<Call>>>,
}

impl Meter {
    /// Counts.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            creates: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            deletes: AtomicU64::new(0),
            uploaded_bytes: AtomicU64::new(0),
            downloaded_bytes: AtomicU64::new(0),
            calls: None,
        }
    }

    /// Counts, and writes every request down.
    pub fn recording(store: Arc<dyn Store>) -> Self {
        Self { calls: Some(Mutex::default()), ..Self::new(store) }
    }

    /// The sums so far.
    pub fn counts(&self) -> Counts {
        Counts {
            creates: self.creates.load(Ordering::Relaxed),
            reads: self.reads.load(Ordering::Relaxed),
            lists: self.lists.load(Ordering::Relaxed),
            deletes: self.deletes.load(Ordering::Relaxed),
            uploaded_bytes: self.uploaded_bytes.load(Ordering::Relaxed),
            downloaded_bytes: self.downloaded_bytes.load(Ordering::Relaxed),
        }
    }

    /// What was written down since the last call.
    pub fn take_calls(&self) -> Vec<Call> {
        let calls = self.calls.as_ref().map(|calls| calls.lock().unwrap_or_else(PoisonError::into_inner));
        calls.map(|mut calls| std::mem::take(&mut *calls)).unwrap_or_default()
    }

    fn count(&self, counter: &AtomicU64, action: &'static str, name: impl ToString, bytes: u64) {
        counter.fetch_add(1, Ordering::Relaxed);
        if let Some(calls) = &self.calls {
            let call = Call { action, name: name.to_string(), bytes };
            calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
        }
    }

    fn count_read(&self, name: &ObjectName, read: &Result<Vec<u8>, StoreError>) {
        let bytes = read.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.downloaded_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.count(&self.reads, "read", name, bytes);
    }
}

impl Store for Meter {
    fn location(&self) -> String {
        self.store.location()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.uploaded_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.count(&self.creates, "create", name, bytes.len() as u64);
        self.store.create(name, bytes)
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let read = self.store.read(name, limit_bytes);
        self.count_read(name, &read);
        read
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let read = self.store.read_range(name, range);
        self.count_read(name, &read);
        read
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        self.count(&self.lists, "list", folder.prefix(), 0);
        self.store.list(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.count(&self.deletes, "delete", name, 0);
        self.store.delete(name)
    }

    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        self.store.created(name)
    }

    fn locked(&self, name: &ObjectName) -> Result<Locked, StoreError> {
        self.count(&self.reads, "read lock", name, 0);
        self.store.locked(name)
    }

    fn lock(&self, name: &ObjectName, lock: Lock) -> Result<(), StoreError> {
        self.count(&self.creates, "lock", name, 0);
        self.store.lock(name, lock)
    }

    fn remembered(&self, folder: Folder) -> Option<Vec<Listed>> {
        self.store.remembered(folder)
    }

    fn copies(&self) -> Vec<Arc<dyn Store>> {
        self.store.copies()
    }

    fn concurrency(&self) -> usize {
        self.store.concurrency()
    }
}
