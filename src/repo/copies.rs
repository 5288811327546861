//! Reads objects from whichever destination has a good copy.
//!
//! A store of several destinations gives the copy that is nearest. Whether its bytes are right is known only here, where they are opened: if they are not, the
//! other destinations' copies are tried, and what was damaged where is remembered, to be said at the end. If there are no others, it is read once more: what was
//! damaged on its way is no damage to the repository.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::id::ObjectHash;
use crate::format::FormatError;
use crate::format::name::{Folder, ObjectName};
use crate::format::object::MAX_SEALED_BYTES;
use crate::store::lane::concurrently;
use crate::store::{Store, StoreError};

use super::{Fault, Repository};

/// How often a folder is listed to read all that it holds.
const MOST_LISTINGS: usize = 4;

/// Copies that could not be used although another one could: the destination, and the object.
#[derive(Clone, Debug, Default)]
pub struct DamagedCopies(Arc<Mutex<BTreeSet<(String, ObjectName)>>>);

impl DamagedCopies {
    /// What is known by now.
    pub fn list(&self) -> Vec<(String, ObjectName)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// They were mended.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn add(&self, location: String, name: &ObjectName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((location, name.clone()));
    }
}

/// The destinations, if there are several, that answered when they were asked last: one that did not is not waited for again.
pub fn several(store: &dyn Store) -> Vec<Arc<dyn Store>> {
    let copies = store.copies();
    if copies.len() < 2 { Vec::new() } else { copies.into_iter().filter(|copy| copy.answers()).collect() }
}

/// Reads a whole object of at most `limit_bytes` and opens it, from the first copy that can be opened.
pub fn read_whole<T>(
    store: &dyn Store,
    damaged: &DamagedCopies,
    name: &ObjectName,
    limit_bytes: usize,
    open: impl Fn(Vec<u8>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    from_any_copy(store, damaged, name, |store| {
        store.read(name, limit_bytes as u64).map_err(Fault::unreadable(name)).and_then(&open)
    })
}

/// Reads a sealed object that is named by its hash, compares that, and opens it.
pub fn read_named<T>(
    repository: &Repository,
    name: &ObjectName,
    open: impl Fn(&[u8]) -> Result<T, FormatError>,
) -> Result<T, Fault> {
    let hash = name.hash().ok_or_else(|| Fault::ForeignName { name: name.clone() })?;
    let Repository { store, damaged, .. } = repository;
    read_whole(&**store, damaged, name, MAX_SEALED_BYTES, |object| {
        let found = ObjectHash::of(&object);
        if found != hash {
            return Err(Fault::WrongHash { name: name.clone(), found });
        }
        open(&object).map_err(Fault::object(name))
    })
}

/// Reads all objects of a folder that are named by their hashes, as they are in one listing: what was replaced between the listing and the reading is in the next one. What is listed
/// again and again, and never there, is a fault.
pub fn read_folder<T: Send>(
    repository: &Repository,
    folder: Folder,
    open: impl Fn(&[u8]) -> Result<T, FormatError> + Sync,
) -> Result<BTreeMap<ObjectName, Result<T, Fault>>, StoreError> {
    let mut all: BTreeMap<ObjectName, Result<T, Fault>> = BTreeMap::new();
    for _ in 0..MOST_LISTINGS {
        let listed: BTreeSet<ObjectName> =
            repository.store().list(folder)?.into_iter().map(|listed| listed.name).collect();
        all.retain(|name, read| listed.contains(name) && read.is_ok());
        let missing: Vec<ObjectName> = listed.into_iter().filter(|name| !all.contains_key(name)).collect();
        // To open them takes longer than to read them from a folder.
        let width = repository.store().concurrency().max(repository.environment().fetch_threads);
        let read = concurrently(width, &missing, |name| read_named(repository, name, &open));
        all.extend(missing.into_iter().zip(read));
        if !all.values().any(|read| read.as_ref().is_err_and(Fault::is_absence)) {
            break;
        }
    }
    Ok(all)
}

/// Reads a part of an object and opens it, from the first copy that can be opened.
pub fn read_part<T>(
    store: &dyn Store,
    damaged: &DamagedCopies,
    name: &ObjectName,
    range: Range<u64>,
    open: impl Fn(Vec<u8>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    from_any_copy(store, damaged, name, |store| {
        store.read_range(name, range.clone()).map_err(Fault::unreadable(name)).and_then(&open)
    })
}

fn from_any_copy<T>(
    store: &dyn Store,
    damaged: &DamagedCopies,
    name: &ObjectName,
    read: impl Fn(&dyn Store) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let fault = match read(store) {
        Err(fault) => fault,
        good => return good,
    };
    let copies = store.copies();
    if copies.len() < 2 {
        let again = || read(copies.first().map_or(store, |copy| &**copy));
        return if matches!(fault, Fault::Unreadable { .. }) { Err(fault) } else { again() };
    }
    let mut bad = Vec::new();
    let (answering, others): (Vec<_>, Vec<_>) = copies.into_iter().partition(|copy| copy.answers());
    for copy in answering.into_iter().chain(others) {
        match read(&*copy) {
            Ok(found) => {
                bad.into_iter().for_each(|location| damaged.add(location, name));
                return Ok(found);
            }
            // One that is away or has none of it is behind, not damaged.
            Err(Fault::Unreadable { source, .. }) if !matches!(source, StoreError::Truncated { .. }) => {}
            Err(_) => bad.push(copy.location()),
        }
    }
    Err(fault)
}
