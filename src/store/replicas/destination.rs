//! One of several destinations: its store, how it does, and what it lacks.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use crate::base::clock::UnixMicros;
use crate::format::name::{Folder, ObjectName};
use crate::format::object::MAX_PLAIN_BYTES;

use super::super::object_lock::{Lock, Locked};
use super::super::{Creation, Listed, Store, StoreError, holds};
use super::backlog::{Backlog, Owed};
use super::health::Health;

const UNKNOWN: u8 = 0;
const PRESENT: u8 = 1;
const ABSENT: u8 = 2;

/// See the module documentation.
pub struct Destination {
    store: Arc<dyn Store>,
    /// How it does.
    pub health: Health,
    /// What it lacks.
    pub backlog: Backlog,
    /// Whether a thread brings it up to date.
    pub is_kept_up: AtomicBool,
    /// Why it could not be brought up to date, as it was said last.
    pub said: Mutex<String>,
    config: AtomicU8,
}

impl Destination {
    /// A destination whose backlog is kept under its `identity` in the local state's folder.
    pub fn new(store: Arc<dyn Store>, state: Option<&Path>, identity: &str, health: Health) -> Self {
        Self {
            store,
            health,
            backlog: Backlog::new(state, identity),
            is_kept_up: AtomicBool::new(false),
            said: Mutex::default(),
            config: AtomicU8::new(UNKNOWN),
        }
    }

    /// Whether there is a config, as far as anybody has looked.
    pub fn has_config(&self) -> Option<bool> {
        match self.config.load(Ordering::SeqCst) {
            UNKNOWN => None,
            config => Some(config == PRESENT),
        }
    }

    /// Looks whether there is a config.
    pub fn look_for_config(&self) -> Result<bool, StoreError> {
        match self.read(&ObjectName::config(), MAX_PLAIN_BYTES as u64) {
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
            Ok(_) => Ok(true),
        }
    }

    /// Creates or deletes.
    pub fn write(&self, owed: &Owed, bytes: &[u8]) -> Result<Creation, StoreError> {
        match owed {
            Owed::Create(name) => self.create(name, bytes),
            Owed::Delete(name) => self.delete(name).map(|()| Creation::New),
        }
    }

    /// Whether the object is there with these bytes.
    pub fn holds(&self, name: &ObjectName, bytes: &[u8]) -> Result<bool, StoreError> {
        holds(self, name, bytes)
    }

    fn note_config<T>(&self, name: &ObjectName, result: &Result<T, StoreError>) {
        if *name == ObjectName::config() {
            match result {
                Ok(_) => self.config.store(PRESENT, Ordering::SeqCst),
                Err(StoreError::NotFound { .. }) => self.config.store(ABSENT, Ordering::SeqCst),
                Err(_) => {}
            }
        }
    }
}

impl Store for Destination {
    fn location(&self) -> String {
        self.store.location()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        let created = self.health.timed(|| self.store.create(name, bytes));
        self.note_config(name, &created);
        created
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let read = self.health.timed(|| self.store.read(name, limit_bytes));
        self.note_config(name, &read);
        read
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.health.timed(|| self.store.read_range(name, range))
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        self.health.timed(|| self.store.list(folder))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.health.timed(|| self.store.delete(name))
    }

    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        self.health.timed(|| self.store.created(name))
    }

    fn locked(&self, name: &ObjectName) -> Result<Locked, StoreError> {
        self.health.timed(|| self.store.locked(name))
    }

    fn lock(&self, name: &ObjectName, lock: Lock) -> Result<(), StoreError> {
        self.health.timed(|| self.store.lock(name, lock))
    }

    fn answers(&self) -> bool {
        self.health.is_good()
    }

    fn concurrency(&self) -> usize {
        self.store.concurrency()
    }
}
