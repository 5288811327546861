//! Keeps index segments, verifications and timeline entries of a remote store on this machine.
//!
//! # What holds
//! * Objects are immutable, so a copy never becomes stale; but the store may have lost, or have been given, another one. So of each timeline the newest
//!   entry known is always read from the store: a repository that was rolled back or exchanged cannot hide behind the cache. Listings always ask.
//! * A file of the cache begins with the BLAKE3 hash of the rest. One that is damaged is as good as none.
//! * What was damaged on its way from the store is not kept, where the name tells. Else whoever finds that a copy cannot be used takes the object from the store:
//!   [`Store::copies`] has it.
//! * The cache holds what the store holds, sealed. Losing it costs requests. What a listing no longer shows is removed.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::clock::UnixMicros;
use crate::base::id::{DatabaseId, ObjectHash};
use crate::format::name::{Folder, ObjectName};

use super::super::object_lock::{Lock, Locked};
use super::super::{Creation, Listed, Store, StoreError};

const HASH_BYTES: usize = 32;

/// See the module documentation.
pub struct Cache {
    store: Arc<dyn Store>,
    folder: PathBuf,
    /// The newest entry of each timeline that there is a copy of; looked for when it is needed.
    newest: Mutex<HashMap<DatabaseId, u64>>,
}

impl Cache {
    /// Keeps copies in `folder`, which nothing else uses, and which belongs to this repository alone.
    pub fn new(store: Arc<dyn Store>, folder: PathBuf) -> Self {
        Self { store, folder, newest: Mutex::default() }
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.folder.join(name.as_str())
    }

    fn get(&self, name: &ObjectName) -> Option<Vec<u8>> {
        let mut content = fs::read(self.path(name)).ok()?;
        if content.len() < HASH_BYTES {
            return None;
        }
        let object = content.split_off(HASH_BYTES);
        (blake3::hash(&object).as_bytes() == content.as_slice()).then_some(object)
    }

    /// Best effort.
    fn put(&self, name: &ObjectName, object: &[u8]) {
        let write = || -> io::Result<()> {
            let path = self.path(name);
            let folder = path.parent().unwrap_or(&self.folder);
            fs::create_dir_all(folder)?;
            let mut temporary = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
            temporary.write_all(blake3::hash(object).as_bytes())?;
            temporary.write_all(object)?;
            temporary.persist(path).map_err(|error| error.error)?;
            if let Some((database, sequence)) = name.timeline() {
                self.known_newest().entry(database).and_modify(|newest| *newest = sequence.max(*newest));
            }
            Ok(())
        };
        let _ = write();
    }

    /// Whether a copy may stand for the object.
    fn serves(&self, name: &ObjectName) -> bool {
        match name.timeline() {
            // Only if a later entry is known, which is then read from the store.
            Some((database, sequence)) => sequence < self.newest(database),
            None => is_kept(name),
        }
    }

    fn newest(&self, database: DatabaseId) -> u64 {
        let last = || Some(self.kept(Folder::Timeline(database)).last()?.name.timeline()?.1);
        *self.known_newest().entry(database).or_insert_with(|| last().unwrap_or(0))
    }

    fn known_newest(&self) -> MutexGuard<'_, HashMap<DatabaseId, u64>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of the copies in a folder, sorted.
    fn kept(&self, folder: Folder) -> Vec<Listed> {
        let prefix = folder.prefix();
        let mut kept = Vec::new();
        let mut folders = vec![prefix.trim_end_matches('/').to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.folder.join(&folder)).into_iter().flatten().flatten() {
                let Ok(file) = entry.file_name().into_string() else { continue };
                let name = format!("{folder}/{file}");
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => folders.push(name),
                    Ok(metadata) if !file.starts_with('.') => {
                        let bytes = metadata.len().saturating_sub(HASH_BYTES as u64);
                        kept.push(Listed { name: ObjectName::from_listing(name), bytes });
                    }
                    _ => {}
                }
            }
        }
        kept.sort_by(|a, b| a.name.cmp(&b.name));
        kept
    }
}

/// Whether objects of that kind are kept.
fn is_kept(name: &ObjectName) -> bool {
    name.timeline().is_some() || name.hash().is_some_and(|hash| *name != ObjectName::pack(hash))
}

impl Store for Cache {
    fn location(&self) -> String {
        self.store.location()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        let creation = self.store.create(name, bytes)?;
        if creation == Creation::New && is_kept(name) {
            self.put(name, bytes);
        }
        Ok(creation)
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        if self.serves(name)
            && let Some(object) = self.get(name)
            && object.len() as u64 <= limit_bytes
        {
            return Ok(object);
        }
        let object = self.store.read(name, limit_bytes)?;
        if is_kept(name) && name.hash().is_none_or(|hash| hash == ObjectHash::of(&object)) {
            self.put(name, &object);
        }
        Ok(object)
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.store.read_range(name, range)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let listed = self.store.list(folder)?;
        self.known_newest().clear();
        for kept in self.kept(folder) {
            if listed.binary_search_by(|there| there.name.cmp(&kept.name)).is_err() {
                let _ = fs::remove_file(self.path(&kept.name));
            }
        }
        Ok(listed)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.known_newest().clear();
        let _ = fs::remove_file(self.path(name));
        self.store.delete(name)
    }

    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        self.store.created(name)
    }

    fn locked(&self, name: &ObjectName) -> Result<Locked, StoreError> {
        self.store.locked(name)
    }

    fn lock(&self, name: &ObjectName, lock: Lock) -> Result<(), StoreError> {
        self.store.lock(name, lock)
    }

    fn remembered(&self, folder: Folder) -> Option<Vec<Listed>> {
        Some(self.kept(folder)).filter(|kept| !kept.is_empty())
    }

    fn copies(&self) -> Vec<Arc<dyn Store>> {
        let copies = self.store.copies();
        if copies.is_empty() { vec![Arc::clone(&self.store)] } else { copies }
    }

    fn concurrency(&self) -> usize {
        self.store.concurrency()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::around::meter::Meter;
    use crate::store::opendal::OpendalStore;

    fn cache() -> (tempfile::TempDir, Arc<Meter>, Cache) {
        let folder = tempfile::tempdir().expect("BUG: a temporary folder");
        let memory = Arc::new(OpendalStore::memory().expect("BUG: memory is always there"));
        let meter = Arc::new(Meter::new(memory));
        let cache = Cache::new(Arc::clone(&meter) as _, folder.path().join("cache"));
        (folder, meter, cache)
    }

    #[test]
    fn segments_are_read_once_and_a_damaged_copy_counts_for_nothing() {
        let (_folder, meter, cache) = cache();
        let name = ObjectName::index(ObjectHash::of(b"segment"));
        cache.create(&name, b"segment").expect("BUG: created");
        assert_eq!(cache.read(&name, 99).expect("BUG: there"), b"segment");
        assert_eq!(meter.counts().reads, 0);
        fs::write(cache.path(&name), b"too short").expect("BUG: the cache's file");
        assert_eq!(cache.read(&name, 99).expect("BUG: there"), b"segment");
        assert_eq!(cache.read(&name, 99).expect("BUG: there"), b"segment");
        assert_eq!(meter.counts().reads, 1);
        cache.store.delete(&name).expect("BUG: deleted");
        assert!(cache.list(Folder::Index).expect("BUG: listed").is_empty());
        assert!(cache.remembered(Folder::Index).is_none() && cache.read(&name, 99).is_err());
    }

    #[test]
    fn what_was_damaged_on_its_way_is_not_kept() {
        let (_folder, meter, cache) = cache();
        let name = ObjectName::index(ObjectHash::of(b"segment"));
        meter.create(&name, b"damaged").expect("BUG: created");
        assert_eq!(cache.read(&name, 99).expect("BUG: there"), b"damaged");
        assert!(cache.remembered(Folder::Index).is_none());
        assert_eq!(cache.copies().len(), 1, "who was given a bad copy can ask the store itself");
    }

    #[test]
    fn the_newest_entry_of_a_timeline_is_always_asked_for() {
        let (_folder, meter, cache) = cache();
        let entry = |sequence| ObjectName::timeline_entry(DatabaseId([1; 16]), sequence);
        for sequence in 1..=3 {
            cache.create(&entry(sequence), b"entry").expect("BUG: created");
        }
        for sequence in 1..=3 {
            cache.read(&entry(sequence), 99).expect("BUG: there");
        }
        assert_eq!(meter.counts().reads, 1);
        // Also where entries between them are gone.
        cache.delete(&entry(2)).expect("BUG: deleted");
        cache.read(&entry(1), 99).expect("BUG: there");
        assert_eq!(meter.counts().reads, 1);
        cache.store.delete(&entry(3)).expect("BUG: deleted");
        assert!(cache.read(&entry(3), 99).is_err(), "an entry that is gone is not served");
    }
}
