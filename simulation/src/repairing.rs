//! Repair of what was damaged at the end of a run: it says exactly what is lost, and afterwards everything is as if only that had never been.
//!
//! Where a pack, an index segment or a tombstone is damaged, the truth knows which snapshots cannot be restored any more. Where an entry of the log is, what the log then says is for the
//! specification to tell; here it is only asked that all is well afterwards, and that what a reader then sees is restored exactly.

use std::collections::BTreeSet;

use continuum::base::id::ObjectHash;
use continuum::format::FormatError;
use continuum::format::name::ObjectName;
use continuum::ops::check::CheckOptions;
use continuum::ops::forget::release;
use continuum::ops::repair::source::Source;
use continuum::ops::repair::{RepairOptions, RepairPlan, plan_repair, repair};
use continuum::ops::snapshot::Choice;
use continuum::repo::stack_reader::State;
use continuum::repo::timeline::Kept;
use continuum::repo::{Fault, timeline};
use continuum::source::Pinned;

use crate::actor::{collect, restore, take_snapshot};
use crate::database::PinnedDatabase;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::mirroring::check_each;
use crate::plan::{Mirror, Repair, Role};
use crate::proof::{check_all, check_as, restore_all};

/// Repairs the repository after `name`, whose bytes were `was`, was damaged, and `is` now what is left of it.
pub fn mend(machine: &Machine, how: Repair, name: &ObjectName, was: &[u8], is: Option<&[u8]>) -> Result<(), Failure> {
    let world = &machine.world;
    let Some(lost) = world.with_truth(|truth| truth.suffer(name, was, is)) else { return Ok(()) };
    forget_heads(machine)?;
    let plan = mend_once(machine, how)?;
    let affected: BTreeSet<ObjectHash> = plan.affected.iter().map(|affected| affected.id).collect();
    world.with_truth(|truth| {
        // A source gives back what it still has.
        let is_right = if how.has_sources { affected.is_subset(&lost) } else { affected == lost };
        if is_right || truth.is_blind() {
            Ok(())
        } else {
            Err(format!("repair says that {affected:?} cannot be restored, not {lost:?}"))
        }
    });
    require_restorable_but(machine, &affected)?;
    let is_clean = check_as(machine, &CheckOptions::all_data())?.faults.is_empty();
    if is_clean != plan.mends_all() {
        let (is_well, remains) = (plan.mends_all(), &plan.remains);
        return Err(Failure::unexpected(format!(
            "repair says of all being well: {is_well}, {remains:?}; check says: {is_clean}"
        )));
    }
    if plan.remains.iter().any(|fault| matches!(fault, Fault::Object { source: FormatError::NewerVersion(_), .. })) {
        // It says that a newer program has written it: that log is left alone.
        return Ok(());
    }
    if !is_clean {
        let remaining: Vec<ObjectHash> =
            plan.affected.iter().filter(|affected| affected.is_held).map(|affected| affected.id).collect();
        for id in remaining {
            release(&machine.repository(), &id.to_string())?;
        }
    }
    require_marked(machine, &affected)?;
    // What is damaged and last must not become the base of the next one.
    for database in &world.databases {
        take_snapshot(machine, database, Choice::Auto, true)?;
    }
    if !is_clean {
        // What was last, or held, can be taken out of the log now.
        mend_once(machine, how)?;
    }
    check_all(machine, true)?;
    for _ in 0..2 {
        collect(machine, 1.0, &mut || {})?;
    }
    world.with_truth(|truth| if truth.is_blind() { Ok(()) } else { truth.garbage() });
    check_all(machine, true)?;
    restore_all(machine)
}

/// Repairs the repository after a copy on one of several destinations was damaged: the others have it, so nothing is lost.
pub fn mend_copy(machine: &Machine, how: Repair, mirror: &Mirror) -> Result<(), Failure> {
    let plan = mend_once(machine, how)?;
    if !(plan.affected.is_empty() && plan.given_up.is_empty() && plan.log.is_empty() && plan.mends_all()) {
        return Err(Failure::unexpected(format!("a copy was damaged, and repair plans {plan:?}")));
    }
    machine.world.require_same().map_err(Failure::unexpected)?;
    check_each(machine, mirror)?;
    restore_all(machine)
}

/// Accepts logs whose end is not what this machine has seen: nobody has it any more.
fn forget_heads(machine: &Machine) -> Result<(), Failure> {
    let repository = machine.repository();
    let (_, faults) = timeline::load_all(&repository)?;
    let Some(state) = &repository.environment().state else { return Ok(()) };
    for fault in faults {
        if let Fault::RolledBack { name, seen } = fault {
            timeline::forget_head(state, repository.config().repository, &name, seen);
        }
    }
    Ok(())
}

/// Plans a repair and does it; another one then has nothing to do. Returns what was planned.
fn mend_once(machine: &Machine, how: Repair) -> Result<RepairPlan, Failure> {
    let pinned: Vec<(String, PinnedDatabase)> =
        machine.world.databases.iter().map(|database| (database.name().to_owned(), database.pin())).collect();
    let chosen = pinned.iter().filter(|_| how.has_sources);
    let sources: Vec<Source<'_>> =
        chosen.map(|(database, pinned)| Source { database: database.clone(), pages: pinned.pages() }).collect();
    let options = RepairOptions { read_data: true, drop_affected: true };
    let machine = &machine.as_role(Role::Repairer);
    let (repository, monitor) = (machine.repository(), machine.monitor());
    let plan = plan_repair(&repository, options, &sources, &monitor)?;
    let summary = repair(&repository, &plan, &sources, &|_, _, _| Ok(()), &monitor)?;
    machine.world.note(|| format!("  repaired {summary:?}"));
    if let Some(error) = summary.errors.first() {
        return Err(Failure::unexpected(format!("repair fails: {error}")));
    }
    let again = plan_repair(&machine.repository(), options, &sources, &monitor)?;
    if !again.is_empty() {
        return Err(Failure::unexpected(format!("a second repair has something to do: {again:?}")));
    }
    Ok(plan)
}

/// The logs say of those snapshots that are affected and still there, and of no others, that they are damaged.
fn require_marked(machine: &Machine, affected: &BTreeSet<ObjectHash>) -> Result<(), Failure> {
    let (timelines, _) = timeline::load_all(&machine.repository())?;
    for kept in timelines.iter().flat_map(|timeline| timeline.kept()) {
        if kept.is_damaged != affected.contains(&kept.id) {
            let Kept { id, is_damaged, .. } = kept;
            return Err(Failure::unexpected(format!("the log says of snapshot {id} being damaged: {is_damaged}")));
        }
    }
    Ok(())
}

/// A reader restores every snapshot exactly, but for those that are affected and still there, of which none can be.
fn require_restorable_but(machine: &Machine, affected: &BTreeSet<ObjectHash>) -> Result<(), Failure> {
    let repository = machine.repository();
    let (timelines, _) = timeline::load_all(&repository)?;
    for kept in timelines.iter().flat_map(|timeline| timeline.kept()) {
        let restored = restore(&repository, &[State::of_snapshot(kept.id, kept.manifest)]);
        match restored {
            Ok(()) if affected.contains(&kept.id) => {
                return Err(Failure::unexpected(format!(
                    "snapshot {} is restored, and repair says that it is affected",
                    kept.id
                )));
            }
            Err(failure) if !affected.contains(&kept.id) => return Err(failure),
            _ => {}
        }
    }
    Ok(())
}
