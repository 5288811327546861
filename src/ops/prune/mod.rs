//! Gives back the space of what no snapshot needs, beside writers and other collectors (`format-spec/collection.md`, "A collector").
//!
//! [`plan_prune`] looks and writes nothing; [`prune`] does what was planned. Between the two, and at any moment of the second, others may write: what was planned only says which
//! packs are to be given up and which entries are due. What may be deleted is decided anew after the fence.
//!
//! # Invariants
//! * Nothing is deleted while something is wrong with a timeline, or a chunk that is needed stands nowhere.
//! * A pack is deleted only if a tombstone names it that was there before the fence, and after every chunk that is needed stands in another one that no tombstone names, on every destination.
//! * A kill at any moment leaves a repository in which everything is restorable; the next run goes on.

mod execute;
pub(super) mod gone;
mod look;
pub(super) mod segments;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::base::clock::UnixMicros;
use crate::base::id::ObjectHash;
use crate::format::name::ObjectName;
use crate::monitor::{Cancelled, Event, Monitor};
use crate::repo::reachable::PackUse;
use crate::repo::{Fault, Repository, RepositoryError};
use crate::store::lane::concurrently;
use crate::store::{Store, StoreError};

pub use execute::{PruneSummary, prune};
use look::{Look, look};

/// Packs that are shorter are worth to be put together, if there are many.
const SMALL_PACK_BYTES: u64 = 4 << 20;

/// Small packs are put together when there are so many bytes of them: about a pack, so that a chunk is rewritten seldom …
const SMALL_BYTES: u64 = 16 << 20;

/// … or so many.
const SMALL_COUNT: usize = 64;

/// What to give up.
#[derive(Clone, Copy, Debug)]
pub struct PruneOptions {
    /// Packs of which a smaller share is needed are written anew, from 0 to 1.
    pub min_live_share: f64,
    /// At most so many bytes are written anew; the emptiest packs come first.
    pub max_repack_bytes: u64,
    /// Packs that nothing needs and that are younger are left: they may be of a backup at work, which would have to store them again.
    pub min_age: Duration,
    /// How long a listing may lag behind what was written; nothing for every store that is known to be in use.
    pub list_lag: Duration,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            min_live_share: 0.8,
            max_repack_bytes: u64::MAX,
            min_age: Duration::from_secs(24 * 3600),
            list_lag: Duration::ZERO,
        }
    }
}

/// Why nothing, or not everything, was deleted.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// Something is damaged or missing that says what is needed.
    #[error("nothing is deleted while something is wrong: {}", describe(.0))]
    Damaged(Vec<Fault>),
    /// A destination lacks what would be relied upon.
    #[error(
        "{location} lacks {count} objects that others have, {example} among them: nothing is deleted before it has them"
    )]
    Behind {
        /// Which destination.
        location: String,
        /// How many it lacks.
        count: usize,
        /// One of them.
        example: ObjectName,
    },
    /// The repository.
    #[error(transparent)]
    Repository(RepositoryError),
}

impl From<RepositoryError> for PruneError {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Fault(fault) => fault.into(),
            error => Self::Repository(error),
        }
    }
}

impl From<Fault> for PruneError {
    fn from(fault: Fault) -> Self {
        if fault.is_damage() { Self::Damaged(vec![fault]) } else { Self::Repository(fault.into()) }
    }
}

impl From<StoreError> for PruneError {
    fn from(error: StoreError) -> Self {
        Self::Repository(error.into())
    }
}

impl From<Cancelled> for PruneError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Repository(cancelled.into())
    }
}

fn describe(faults: &[Fault]) -> String {
    let first = faults.first().map(Fault::describe).unwrap_or_default();
    if faults.len() > 1 { format!("{first}, and {} more faults", faults.len() - 1) } else { first }
}

/// Packs of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub count: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What is to be given up.
#[derive(Debug, Default)]
pub struct PrunePlan {
    options: PruneOptions,
    /// When it was made: what is due by then goes.
    now: UnixMicros,
    /// Packs that are given up.
    bury: Vec<ObjectHash>,
    /// Whether the index still lists packs that an earlier run has given up.
    lists_buried: bool,
    /// Forgotten snapshots whose time is over, by database.
    pub due: BTreeMap<String, usize>,
    /// All packs that are there.
    pub packs: Tally,
    /// Those in which nothing is needed.
    pub unneeded: Tally,
    /// Those that are written anew.
    pub repacked: Tally,
    /// Bytes of chunks that are carried over from these.
    pub carried_bytes: u64,
    /// Those that an earlier run has given up and not deleted yet.
    pub pending: Tally,
    /// Those that nothing needs and that are too young.
    pub young: Tally,
    /// Bytes that are not needed in packs that stay.
    pub unused_bytes: u64,
    /// Index segments that list packs that are given up, or that are put together.
    pub segment_count: usize,
    /// Entries, journal objects and verifications that say nothing any more.
    pub leftover_count: usize,
}

impl PrunePlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.bury.is_empty()
            && self.due.is_empty()
            && self.pending.count == 0
            && self.segment_count == 0
            && self.leftover_count == 0
    }

    /// Bytes that will come back, about.
    pub fn freed_bytes(&self) -> u64 {
        (self.unneeded.bytes + self.repacked.bytes + self.pending.bytes).saturating_sub(self.carried_bytes)
    }

    /// Whether packs are given up, or are still listed, or snapshots are due: only then the log has to be written to.
    fn needs_fence(&self) -> bool {
        !self.bury.is_empty() || !self.due.is_empty() || self.pending.count > 0 || self.lists_buried
    }
}

/// Packs and entries that restore points need, forgotten ones too that can still be brought back.
pub fn needed_objects(repository: &Repository, monitor: &dyn Monitor) -> Result<BTreeSet<ObjectName>, PruneError> {
    Ok(look(repository, Some(repository.environment().clock.now()), monitor)?.needed())
}

/// Looks what can be given up.
pub fn plan_prune(
    repository: &Repository,
    options: PruneOptions,
    monitor: &dyn Monitor,
) -> Result<PrunePlan, PruneError> {
    if repository.config().single_writer {
        let text =
            "this store does not refuse to overwrite: nothing else may write to the repository while it is pruned";
        monitor.event(Event::Notice(text.to_owned()));
    }
    let now = repository.environment().clock.now();
    let look = look(repository, Some(now), monitor)?;
    look::require_on_all(repository, look.needed())?;
    let mut plan = PrunePlan { options, now, ..PrunePlan::default() };
    for timeline in &look.timelines {
        let due = gone::due(timeline, now).count();
        if due > 0 {
            plan.due.insert(timeline.name().to_owned(), due);
        }
    }
    choose_packs(repository, &look, &mut plan)?;
    plan.lists_buried = look.index.iter().any(|place| look.tombstones().surely_names(place.pack.name));
    let buried = |pack| look.tombstones().surely_names(pack) || plan.bury.contains(&pack);
    plan.segment_count = segments::to_replace(repository, &buried)?;
    plan.leftover_count = look.leftovers().count();
    Ok(plan)
}

/// Which packs are given up.
fn choose_packs(repository: &Repository, look: &Look, plan: &mut PrunePlan) -> Result<(), PruneError> {
    let uses = look.reachable.packs();
    let (mut unneeded, mut worth, mut small) = (Vec::new(), Vec::new(), Vec::new());
    for (&pack, &bytes) in &look.packs {
        plan.packs.add(bytes);
        let found = uses.get(&pack).copied().unwrap_or_default();
        if look.tombstones().surely_names(pack) {
            plan.pending.add(bytes);
            plan.carried_bytes += found.needed_bytes;
        } else if found.needed_count == 0 {
            unneeded.push((pack, bytes));
        } else if (found.needed_bytes as f64) < plan.options.min_live_share * found.chunk_bytes as f64 {
            worth.push((pack, bytes, found));
        } else if bytes < SMALL_PACK_BYTES {
            small.push((pack, bytes, found));
        } else {
            plan.unused_bytes += found.chunk_bytes - found.needed_bytes;
        }
    }
    let store = repository.store();
    let young = concurrently(store.concurrency(), &unneeded, |&(pack, _)| is_young(store, pack, plan));
    for ((pack, bytes), young) in unneeded.into_iter().zip(young) {
        if young? {
            plan.young.add(bytes);
        } else {
            plan.unneeded.add(bytes);
            plan.bury.push(pack);
        }
    }
    // The emptiest first.
    let share = |found: &PackUse| found.needed_bytes as f64 / found.chunk_bytes.max(1) as f64;
    worth.sort_by(|(a_name, _, a), (b_name, _, b)| share(a).total_cmp(&share(b)).then(a_name.cmp(b_name)));
    let small_bytes: u64 = small.iter().map(|(_, bytes, _)| bytes).sum();
    if small_bytes >= SMALL_BYTES || small.len() >= SMALL_COUNT {
        worth.append(&mut small);
    }
    for (_, _, found) in small {
        plan.unused_bytes += found.chunk_bytes - found.needed_bytes;
    }
    for (pack, bytes, found) in worth {
        if plan.repacked.bytes + bytes <= plan.options.max_repack_bytes {
            plan.repacked.add(bytes);
            plan.carried_bytes += found.needed_bytes;
            plan.bury.push(pack);
        } else {
            plan.unused_bytes += found.chunk_bytes - found.needed_bytes;
        }
    }
    Ok(())
}

/// Whether a pack may be of a backup that is at work. Only a matter of economy.
fn is_young(store: &dyn Store, pack: ObjectHash, plan: &PrunePlan) -> Result<bool, StoreError> {
    if plan.options.min_age.is_zero() {
        return Ok(false);
    }
    let created = match store.created(&ObjectName::pack(pack)) {
        Err(StoreError::NotFound { .. }) => return Ok(false),
        created => created?,
    };
    let min_age = i64::try_from(plan.options.min_age.as_micros()).unwrap_or(i64::MAX);
    Ok(created.is_some_and(|created| created.0 > plan.now.0.saturating_sub(min_age)))
}
