//! One of several destinations: its store, how it does, and what it lacks.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::clock::UnixMicros;
use crate::base::id::{DatabaseId, ObjectHash};
use crate::format::name::{Folder, ObjectName};
use crate::format::object::{MAX_PLAIN_BYTES, MAX_SEALED_BYTES};

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
    /// Of each timeline the last entry that was read here, in all forms that it had.
    seen: Mutex<HashMap<DatabaseId, (u64, Vec<ObjectHash>)>>,
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
            seen: Mutex::default(),
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

    /// Reads an entry, of which nobody makes use.
    pub fn look_at(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        self.health.timed(|| self.store.read(name, MAX_SEALED_BYTES as u64))
    }

    /// What an entry was when it was read here; nothing if a later one was read since.
    pub fn seen(&self, database: DatabaseId, sequence: u64) -> Vec<ObjectHash> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&database).filter(|(last, _)| *last == sequence).map(|(_, forms)| forms.clone()).unwrap_or_default()
    }

    fn note_seen(&self, name: &ObjectName, bytes: &[u8]) {
        let Some((database, sequence)) = name.timeline() else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, forms) = seen.entry(database).or_default();
        if sequence > *last {
            (*last, *forms) = (sequence, Vec::new());
        }
        let hash = ObjectHash::of(bytes);
        if sequence == *last && !forms.contains(&hash) {
            forms.push(hash);
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
        if let Ok(bytes) = &read {
            self.note_seen(name, bytes);
        }
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
