//! Mends what is damaged, as far as anything good is left of it, and says exactly what is lost.
//!
//! [`plan_repair`] looks and writes nothing; [`repair`] does what was planned. In this order:
//!
//! 1. Objects of which another destination has a good copy get that ([`copies`]).
//! 2. Packs that no readable index segment lists are listed anew, from their footers; segments that cannot be read are deleted after that.
//! 3. Packs with damaged chunks are given up: good chunks of them that are needed go to new packs, a tombstone says that nobody shall rely on them any more, and the index no
//!    longer lists them. A later prune deletes them. Chunks that are lost are then in no index segment, so that whoever comes across their content stores it anew.
//! 4. Chunks that are lost are looked for in the live source ([`source`]).
//! 5. What is lost for good affects restore points ([`affected`]). At the user's word these are taken out of the log, so that collectors can work again ([`log`]).
//! 6. So are entries of the log that are lost; they may have been restore points.
//! 7. The log says what is damaged and stays, so that nothing is made from that ([`mark`]).
//! 8. Tombstones that cannot be read are replaced by such that name what nothing needs.
//!
//! # Invariants
//! * No pack is deleted. What is good stays reachable at every moment: what replaces something is there before that goes.
//! * A kill at any moment leaves work for the next repair, no other damage. A repair of a sound repository does nothing.
//! * Nothing is given up because it cannot be reached: every destination must answer.

pub mod affected;
mod copies;
mod execute;
pub mod log;
mod mark;
mod packs;
pub mod source;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::base::id::{ChunkId, ObjectHash};
use crate::format::FormatError;
use crate::format::index::ListedPack;
use crate::format::name::{Folder, ObjectName};
use crate::format::pack::PackedChunk;
use crate::monitor::{Cancelled, Monitor};
use crate::repo::index::{Index, Place};
use crate::repo::{Fault, Repository, RepositoryError};
use crate::store::StoreError;

use super::check::structure::{self, Structure};
use super::sync;
use affected::Affected;
pub use execute::{RepairSummary, repair};
use log::LogChange;
use mark::Mark;
use packs::{Found, find_bad};
use source::{FromSource, Source};

/// How to repair.
#[derive(Clone, Copy, Debug, Default)]
pub struct RepairOptions {
    /// Read every pack, to find damage that only that shows. Else those are read that an earlier check has found damaged.
    pub read_data: bool,
    /// Take restore points out of the log that cannot be restored, and entries of the log that are lost.
    pub drop_affected: bool,
}

/// Why nothing, or not everything, was mended.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A destination cannot be looked at: what seems lost may be there.
    #[error("{location} cannot be looked at, and what seems lost may be there: {error}")]
    DoesNotAnswer {
        /// Which destination.
        location: String,
        /// Why.
        error: String,
    },
    /// An object cannot be reached: that is no damage.
    #[error("nothing is given up because it cannot be reached")]
    Unreachable(#[source] Fault),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<StoreError> for RepairError {
    fn from(error: StoreError) -> Self {
        Self::Repository(error.into())
    }
}

impl From<Fault> for RepairError {
    fn from(fault: Fault) -> Self {
        if fault.is_damage() { Self::Repository(fault.into()) } else { Self::Unreachable(fault) }
    }
}

impl From<Cancelled> for RepairError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Repository(cancelled.into())
    }
}

/// A pack that is given up.
#[derive(Debug)]
pub struct GivenUp {
    /// Which.
    pub pack: ObjectHash,
    /// What is wrong with it.
    pub why: Fault,
    /// Needed chunks of it that are good, and stand nowhere else.
    pub carried_count: usize,
    /// Needed chunks of it that are lost, unless the source has them.
    pub lost_count: usize,
}

/// What is to be done.
#[derive(Debug, Default)]
pub struct RepairPlan {
    options: RepairOptions,
    /// How the destinations differ, if there are several.
    pub destinations: Option<sync::Plan>,
    /// Copies that only whoever has the key sees to be damaged, where another destination's is good: the destination's place among all, and the object.
    pub copies: Vec<(usize, ObjectName)>,
    /// Packs that are listed anew, and what is in them.
    relisted: Vec<(ListedPack, Vec<PackedChunk>)>,
    /// Index segments that cannot be used: deleted.
    pub segments: Vec<ObjectName>,
    /// Packs that are given up.
    pub given_up: Vec<GivenUp>,
    /// Of these, those that the index lists.
    unlisted: BTreeSet<ObjectHash>,
    /// Where good chunks of them are.
    carried: Vec<Place>,
    /// The index, with what is listed anew.
    index: Index,
    /// Lost chunks that the live source has.
    from_source: Vec<FromSource>,
    /// Lost chunks of deltas and page maps, which the source cannot give: a database has no such bytes.
    pub not_in_source_count: usize,
    /// Chunks that are lost for good.
    pub lost_count: usize,
    /// Restore points that cannot be restored.
    pub affected: Vec<Affected>,
    /// Snapshots that can.
    pub whole_count: usize,
    /// What is taken out of which log.
    pub log: Vec<LogChange>,
    /// What is said in which log of what is damaged then.
    pub marks: Vec<Mark>,
    /// Tombstones that cannot be used: replaced.
    pub tombstones: Vec<ObjectName>,
    /// What their replacement names.
    unneeded: BTreeSet<ObjectHash>,
    /// Verifications that cannot be used: deleted.
    pub verifications: Vec<ObjectName>,
    /// What is wrong and not mended.
    pub remains: Vec<Fault>,
}

impl RepairPlan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.destinations.as_ref().is_none_or(sync::Plan::has_nothing_to_do)
            && self.copies.is_empty()
            && self.relisted.is_empty()
            && self.segments.is_empty()
            && self.given_up.is_empty()
            && self.from_source.is_empty()
            && self.log.is_empty()
            && self.marks.is_empty()
            && self.tombstones.is_empty()
            && self.verifications.is_empty()
    }

    /// Whether everything is well once it is done.
    pub fn mends_all(&self) -> bool {
        let dropped = |affected: &Affected| self.log.iter().any(|change| change.drops(affected));
        let is_decided = |plan: &sync::Plan| self.conflicts(plan).next().is_none();
        self.remains.is_empty()
            && self.affected.iter().all(dropped)
            && self.destinations.as_ref().is_none_or(is_decided)
    }

    /// Conflicts between destinations that nobody but the user can decide.
    pub fn conflicts<'a>(&self, plan: &'a sync::Plan) -> impl Iterator<Item = &'a sync::Conflict> {
        let known: HashSet<ObjectName> = self.copies.iter().map(|(_, name)| name.clone()).collect();
        plan.conflicts.iter().filter(move |conflict| !known.contains(&conflict.name))
    }

    /// How many packs are listed anew.
    pub fn relisted_count(&self) -> usize {
        self.relisted.len()
    }

    /// How many lost chunks the live source has.
    pub fn from_source_count(&self) -> usize {
        self.from_source.len()
    }

    /// Good chunks that are carried over from packs that are given up.
    pub fn carried_count(&self) -> usize {
        self.carried.len()
    }
}

/// Looks what is damaged, and what can be mended.
pub fn plan_repair(
    repository: &Repository,
    options: RepairOptions,
    sources: &[Source<'_>],
    monitor: &dyn Monitor,
) -> Result<RepairPlan, RepairError> {
    let destinations = copies::compare(repository, options.read_data, monitor)?;
    let mut structure = structure::look(repository, monitor)?;
    let mut faults = std::mem::take(&mut structure.faults);
    if let Some(at) = faults.iter().position(|fault| !fault.is_damage()) {
        return Err(RepairError::Unreachable(faults.swap_remove(at)));
    }
    let bad = find_bad(repository, &structure, &faults, options.read_data, monitor)?;
    let mut plan = RepairPlan { options, destinations, ..RepairPlan::default() };
    plan.segments = unusable(&faults, Folder::Index);
    plan.tombstones = unusable(&faults, Folder::Tombstones);
    plan.verifications = unusable(&faults, Folder::Verifications);
    plan.relist(repository, &mut structure, &bad, &mut faults, monitor)?;
    let Found { carried, lost, homes } = packs::find_homes(&structure, &bad, monitor)?;
    plan.index = structure.index.clone();
    plan.give_up(&structure, bad, &carried, &lost);
    plan.look_into_sources(repository, &structure, lost, &faults, sources)?;
    if !plan.tombstones.is_empty() {
        let given_up: HashSet<ObjectHash> = plan.given_up.iter().map(|given_up| given_up.pack).collect();
        let is_unneeded = |pack: &ObjectHash| !homes.contains(pack) && !given_up.contains(pack);
        plan.unneeded = structure.packs.keys().copied().filter(is_unneeded).collect();
    }
    if options.drop_affected {
        plan.log = log::changes(&structure.timelines, &plan.affected, &faults);
    }
    plan.marks = mark::marks(&structure.timelines, &plan.affected, &plan.log, &faults);
    plan.copies = copies::damaged(repository, plan.destinations.as_ref());
    plan.remains = faults.into_iter().filter(|fault| !plan.mends(fault)).collect();
    Ok(plan)
}

/// Objects of a folder that nobody can use.
fn unusable(faults: &[Fault], folder: Folder) -> Vec<ObjectName> {
    let names = faults.iter().filter(|fault| fault.is_unusable()).filter_map(Fault::name);
    names.filter(|name| name.as_str().starts_with(&folder.prefix()) && name.hash().is_some()).cloned().collect()
}

impl RepairPlan {
    /// Lists packs anew if something may be in them that nothing lists.
    fn relist(
        &mut self,
        repository: &Repository,
        structure: &mut Structure,
        bad: &BTreeMap<ObjectHash, Fault>,
        faults: &mut Vec<Fault>,
        monitor: &dyn Monitor,
    ) -> Result<(), RepairError> {
        let has_lost = structure.reachable.lost().next().is_some();
        if self.segments.is_empty() && !has_lost {
            return Ok(());
        }
        let mut unlisted = structure.unlisted();
        unlisted.retain(|pack| !bad.contains_key(&pack.name));
        self.relisted = packs::read_footers(repository, unlisted, monitor)?;
        if !self.relisted.is_empty() {
            // What was missing may be there now; what is still missing is said by what it affects.
            let is_of_chunks = |fault: &Fault| {
                matches!(fault, Fault::MissingChunk { .. } | Fault::MoreMissingChunks { .. } | Fault::Layer { .. })
            };
            faults.retain(|fault| !is_of_chunks(fault));
            let index = structure.index.extended(&self.relisted);
            faults.extend(structure.look_again_with(repository, index, monitor)?);
        }
        Ok(())
    }

    fn give_up(
        &mut self,
        structure: &Structure,
        bad: BTreeMap<ObjectHash, Fault>,
        carried: &[Place],
        lost: &BTreeMap<ChunkId, Option<ObjectHash>>,
    ) {
        let listed: HashSet<ObjectHash> = structure.index.packs().into_iter().map(|pack| pack.name).collect();
        for (pack, why) in bad {
            let is_known = structure.tombstones().surely_names(pack) && !listed.contains(&pack);
            if is_known {
                continue;
            }
            if listed.contains(&pack) {
                self.unlisted.insert(pack);
            }
            let carried_count = carried.iter().filter(|place| place.pack.name == pack).count();
            let lost_count = lost.values().filter(|from| **from == Some(pack)).count();
            self.given_up.push(GivenUp { pack, why, carried_count, lost_count });
        }
        self.carried = carried.to_vec();
    }

    /// Looks for lost chunks in the sources, and says what the rest affects.
    fn look_into_sources(
        &mut self,
        repository: &Repository,
        structure: &Structure,
        lost: BTreeMap<ChunkId, Option<ObjectHash>>,
        faults: &[Fault],
        sources: &[Source<'_>],
    ) -> Result<(), RepairError> {
        let mut lost: HashSet<ChunkId> = lost.into_keys().collect();
        if !lost.is_empty() {
            self.from_source = source::find(repository, structure, &lost, sources)?;
            self.from_source.iter().for_each(|found| _ = lost.remove(&found.chunk));
        }
        self.lost_count = lost.len();
        // Authentic, and yet no page map or delta: whoever wrote it had the key.
        lost.extend(faults.iter().filter_map(|fault| match fault {
            Fault::Layer { chunk, .. } => Some(*chunk),
            _ => None,
        }));
        let kept = structure.timelines.iter().map(|timeline| timeline.kept().count()).sum::<usize>();
        self.affected = affected::find(structure, &lost)?;
        self.whole_count = kept - self.affected.len();
        self.not_in_source_count = affected::segments(structure).filter(|segment| lost.contains(segment)).count();
        Ok(())
    }

    /// Whether a fault is gone once the plan is done, or is said by what it affects.
    fn mends(&self, fault: &Fault) -> bool {
        let Some(name) = fault.name() else {
            return !matches!(fault, Fault::MissingJournal { .. } | Fault::NoKeySlot | Fault::ShortChunk { .. });
        };
        let is_given_up = |hash: ObjectHash| self.given_up.iter().any(|given_up| given_up.pack == hash);
        self.segments.contains(name)
            || self.tombstones.contains(name)
            || self.verifications.contains(name)
            || (name.is_pack() && name.hash().is_some_and(is_given_up))
            || name.timeline().is_some_and(|(database, sequence)| {
                let lost = match fault {
                    // It continues what was there before the entry was damaged.
                    Fault::BrokenChain { .. } => sequence - 1,
                    Fault::MissingEntry { .. } => sequence,
                    // It was damaged, or its log would not be closed.
                    Fault::Object { source: FormatError::NewerVersion(_), .. } => sequence,
                    _ if fault.is_unusable() => sequence,
                    _ => return false,
                };
                self.log.iter().any(|change| change.closes(database, lost))
            })
    }
}
