//! Objects of which another destination has a good copy.
//!
//! Most of that is what a sync does. It has no key, so of two copies of an entry that both look right it cannot tell which is: whoever has opened them can.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::id::ObjectHash;
use crate::format::journal::JournalObject;
use crate::format::key_slot::KeySlot;
use crate::format::name::ObjectName;
use crate::format::pack::MAX_PACK_BYTES;
use crate::format::timeline::TimelineEntry;
use crate::monitor::Monitor;
use crate::ops::sync::{self, KeepReplaced, SyncOptions};
use crate::repo::Repository;
use crate::store::Store;

use super::RepairError;

/// How the destinations differ, if there are several; all must answer.
pub fn compare(
    repository: &Repository,
    read_data: bool,
    monitor: &dyn Monitor,
) -> Result<Option<sync::Plan>, RepairError> {
    let stores = repository.store().copies();
    if stores.len() < 2 {
        return Ok(None);
    }
    let plan = sync::compare(&stores, options(repository, read_data), monitor)?;
    for destination in &plan.destinations {
        if let Some(error) = &destination.error {
            let (location, error) = (destination.location.clone(), error.clone());
            return Err(RepairError::DoesNotAnswer { location, error });
        }
    }
    if let Some(error) = plan.unread.first() {
        return Err(RepairError::DoesNotAnswer { location: repository.location(), error: error.clone() });
    }
    Ok(Some(plan))
}

/// How they are compared.
pub fn options(repository: &Repository, read_data: bool) -> SyncOptions {
    SyncOptions { read_data, is_inline: repository.environment().fetch_threads == 0, ..SyncOptions::default() }
}

/// Copies that were found damaged where others were good, and that the sync does not mend.
pub fn damaged(repository: &Repository, plan: Option<&sync::Plan>) -> Vec<(usize, ObjectName)> {
    let Some(plan) = plan else { return Vec::new() };
    let known: BTreeSet<&(usize, ObjectName)> = plan.wrong.iter().collect();
    let places = |location: &String| plan.destinations.iter().position(|found| found.location == *location);
    let damaged = repository.damaged_copies().list().into_iter();
    let damaged = damaged.filter_map(|(location, name)| Some((places(&location)?, name)));
    let conflicting = plan.conflicts.iter().flat_map(|conflict| damaged_of(repository, &conflict.name));
    let all: BTreeSet<(usize, ObjectName)> = damaged.chain(conflicting).collect();
    all.into_iter().filter(|copy| !known.contains(copy) && copy.1 != ObjectName::config()).collect()
}

/// Of copies that conflict, those that cannot be opened, if another can: without a key they looked alike, and nobody need have met the damaged one.
fn damaged_of(repository: &Repository, name: &ObjectName) -> Vec<(usize, ObjectName)> {
    let stores = repository.store().copies();
    let copies = stores.iter().enumerate().filter_map(|(at, store)| Some((at, store.read(name, MAX_PACK_BYTES).ok()?)));
    let (good, damaged): (Vec<_>, Vec<_>) = copies.partition(|(_, bytes)| opens(repository, name, bytes));
    if good.is_empty() { Vec::new() } else { damaged.into_iter().map(|(at, _)| (at, name.clone())).collect() }
}

/// Puts good bytes in the place of a damaged copy; says what went wrong.
pub fn mend(
    repository: &Repository,
    stores: &[Arc<dyn Store>],
    at: usize,
    name: &ObjectName,
    keep: &KeepReplaced<'_>,
) -> Result<(), String> {
    let others = stores.iter().enumerate().filter(|(other, _)| *other != at);
    let mut copies = others.filter_map(|(_, store)| store.read(name, MAX_PACK_BYTES).ok());
    let good = copies.find(|bytes| opens(repository, name, bytes));
    let good = good.ok_or_else(|| format!("{name}: the good copy that was there is gone"))?;
    sync::replace(stores, at, name, &good, keep)
}

/// Whether the bytes are the object of that name.
fn opens(repository: &Repository, name: &ObjectName, bytes: &[u8]) -> bool {
    let (context, keys) = (repository.config().seal_context(), repository.keys());
    if let Some(hash) = name.hash() {
        ObjectHash::of(bytes) == hash
    } else if let Some((database, sequence)) = name.timeline() {
        TimelineEntry::open(bytes, database, sequence, &context, keys).is_ok()
    } else if let Some((writer, sequence)) = name.journal_position() {
        JournalObject::open(bytes, writer, sequence, &context, keys).is_ok()
    } else {
        name.slot().is_some_and(|slot| KeySlot::parse(bytes, slot).is_ok())
    }
}
