//! Locks objects against deletion, where a destination can: what restore points need stays for a time, whoever asks for its deletion, with the keys of the service too.
//!
//! Locked are the config, the key slots, all index segments, tombstones and verifications, and of packs and timelines what restore points need. If it cannot be told what
//! they need, all packs and entries are. Journals are not: what is in them is folded within minutes.
//!
//! A lock is made longer when less of it is left than was asked for, and then by a quarter more, so that not every object is asked for every day.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::UnixMicros;
use crate::format::name::{Folder, ObjectName};
use crate::monitor::{Event, Monitor};
use crate::repo::{Repository, RepositoryError};
use crate::store::lane::concurrently;
use crate::store::object_lock::{Lock, LockMode, Locked};
use crate::store::{Listed, Store, StoreError};

use super::prune::{PruneError, Tally, needed_objects};

/// Objects that are asked for between two looks whether to stop.
const BATCH: usize = 256;

/// What is locked for as long as anything is.
const ALWAYS: [Folder; 4] = [Folder::Keys, Folder::Index, Folder::Tombstones, Folder::Verifications];

/// How long, and how.
#[derive(Clone, Copy, Debug)]
pub struct LockOptions {
    /// Everything is locked for so long from now at least.
    pub least: Duration,
    /// Who may end locks early.
    pub mode: LockMode,
}

/// What is to be locked.
pub struct LockPlan {
    /// The locks that are to be made.
    pub lock: Lock,
    /// By destination.
    pub places: Vec<PlacePlan>,
}

/// What is to be locked on one destination.
pub struct PlacePlan {
    /// The destination.
    pub location: String,
    /// Whether objects can be locked there.
    pub is_supported: bool,
    /// Objects that restore points need there.
    pub needed: Tally,
    /// Those whose locks end too early, or that have none.
    pub to_lock: Tally,
    names: Vec<ObjectName>,
    store: Arc<dyn Store>,
}

/// Looks what is needed, and how long it is locked.
pub fn plan_lock(
    repository: &Repository,
    options: LockOptions,
    monitor: &dyn Monitor,
) -> Result<LockPlan, RepositoryError> {
    let now = repository.environment().clock.now();
    let after = |span: Duration| UnixMicros(now.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)));
    let needed = match needed_objects(repository, monitor) {
        Ok(needed) => Some(needed),
        Err(PruneError::Repository(error)) => return Err(error),
        Err(damage) => {
            monitor.event(Event::Notice(format!(
                "all packs are locked, for it cannot be told which are needed: {damage}"
            )));
            None
        }
    };
    let copies = repository.store().copies();
    let stores = if copies.len() < 2 { vec![repository.shared_store()] } else { copies };
    let plan = |store| plan_place(store, needed.as_ref(), after(options.least), monitor);
    let places = stores.into_iter().map(plan).collect::<Result<_, _>>()?;
    Ok(LockPlan { lock: Lock { until: after(options.least * 5 / 4), mode: options.mode }, places })
}

fn plan_place(
    store: Arc<dyn Store>,
    needed: Option<&BTreeSet<ObjectName>>,
    least: UnixMicros,
    monitor: &dyn Monitor,
) -> Result<PlacePlan, RepositoryError> {
    let mut place = PlacePlan {
        location: store.location(),
        is_supported: store.locked(&ObjectName::config())? != Locked::Unsupported,
        needed: Tally::default(),
        to_lock: Tally::default(),
        names: Vec::new(),
        store: Arc::clone(&store),
    };
    if !place.is_supported {
        return Ok(place);
    }
    let mut there = vec![Listed { name: ObjectName::config(), bytes: 0 }];
    for folder in ALWAYS {
        there.extend(store.list(folder)?);
    }
    for folder in [Folder::Packs, Folder::Timelines] {
        let listed = store.list(folder)?.into_iter();
        there.extend(listed.filter(|listed| needed.is_none_or(|needed| needed.contains(&listed.name))));
    }
    there.iter().for_each(|listed| place.needed.add(listed.bytes));
    for batch in there.chunks(BATCH) {
        monitor.check_cancelled()?;
        let found = concurrently(store.concurrency(), batch, |listed| store.locked(&listed.name));
        for (listed, locked) in batch.iter().zip(found) {
            let is_long_enough = match locked {
                Ok(Locked::Until(until)) => until >= least,
                Ok(Locked::No | Locked::Unsupported) => false,
                // Deleted since it was listed.
                Err(StoreError::NotFound { .. }) => true,
                Err(error) => return Err(error.into()),
            };
            if !is_long_enough {
                place.to_lock.add(listed.bytes);
                place.names.push(listed.name.clone());
            }
        }
    }
    Ok(place)
}

/// Locks what is planned. Returns how many objects were.
pub fn lock(plan: &LockPlan, monitor: &dyn Monitor) -> Result<usize, RepositoryError> {
    let mut count = 0;
    for place in &plan.places {
        for batch in place.names.chunks(BATCH) {
            monitor.check_cancelled()?;
            for done in concurrently(place.store.concurrency(), batch, |name| place.store.lock(name, plan.lock)) {
                match done {
                    Ok(()) => count += 1,
                    Err(StoreError::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(count)
}
