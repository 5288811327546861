//! Several destinations: the project's own `Replicas` and `sync` over simulated destinations, each with its own objects, outages and late effects.
//!
//! # What is promised
//! With N destinations of which `tolerate` may fail, what was acknowledged stands on N − `tolerate` of them. Here these are always a majority: two destinations of which none may fail, or three of which one may. So
//! at most one of two entries in the same place of a timeline is acknowledged, whoever wrote to which destinations, and an entry *is one* in the truth ([`crate::world`]) from the moment on at which so many have it.
//! Anything else is there as long as any destination has it: what must not be lost must not be lost on all of them together.
//!
//! * Any destination may be away for a while, or fail, and lacks what it missed until whoever noted that, or a sync, brings it.
//! * Where one may fail, one loses everything once, or is rolled back to an earlier state, at a moment at which the others have all that was acknowledged. Nobody is told.
//!
//! When faults stop, a sync makes all destinations equal, whatever happened, and each of them alone is a whole repository.

use std::sync::{Arc, Mutex, PoisonError};

use continuum::base::id::ObjectHash;
use continuum::format::name::ObjectName;
use continuum::ops::check::{CheckOptions, check};
use continuum::ops::sync::{Plan, SyncOptions, compare, execute};
use continuum::repo::timeline::forget_head;
use continuum::repo::{Repository, RepositoryError};
use continuum::store::Store;

use crate::failure::Failure;
use crate::machine::Machine;
use crate::plan::{Mirror, Role};
use crate::store::{SimulatedStore, SimulatedTimer};

/// So often destinations are compared until they are equal: what a sync mends may show what else differs.
const MOST_SYNCS: usize = 4;

/// Makes destinations whole once, as far as that can be done without asking anybody.
pub fn sync(machine: &Machine, mirror: &Mirror, options: SyncOptions) -> Result<Plan, Failure> {
    let replicas = machine.replicas(mirror);
    replicas.catch_up();
    let (stores, monitor) = (replicas.copies(), machine.monitor());
    let plan = compare(&stores, options, &monitor).map_err(RepositoryError::from)?;
    let replaced = Mutex::new(Vec::new());
    let keep = |_: usize, name: &ObjectName, bytes: &[u8]| {
        replaced.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), ObjectHash::of(bytes)));
        Ok(())
    };
    let done = execute(&stores, &plan, &keep, &monitor).map_err(RepositoryError::from)?;
    machine.world.note(|| format!("  synced {done:?}"));
    let repository = machine.repository();
    if let Some(state) = &repository.environment().state {
        for (name, hash) in replaced.into_inner().unwrap_or_else(PoisonError::into_inner) {
            forget_head(state, repository.config().repository, &name, hash);
        }
    }
    replicas.catch_up();
    match done.errors.into_iter().next() {
        Some(text) => Err(Failure::unexpected(text)),
        None => Ok(plan),
    }
}

/// In the end: destinations become equal, whatever happened.
pub fn converge(machine: &Machine, mirror: &Mirror) -> Result<(), Failure> {
    let machine = &machine.as_role(Role::Mirrorer);
    let mut prefer = None;
    for _ in 0..MOST_SYNCS {
        let plan = sync(machine, mirror, SyncOptions { read_data: true, prefer, is_inline: true })?;
        if plan.is_whole() {
            return machine.world.require_same().map_err(Failure::unexpected);
        }
        // Both sides of a fork were never acknowledged: either may be chosen.
        prefer = if plan.conflicts.is_empty() { None } else { Some(0) };
    }
    Err(Failure::unexpected(format!("{MOST_SYNCS} syncs do not make the destinations equal")))
}

/// Each destination alone is a repository in which nothing is wrong.
pub fn check_each(machine: &Machine, mirror: &Mirror) -> Result<(), Failure> {
    for place in 0..mirror.destinations {
        let Machine { world, actor, role, .. } = machine;
        let store = Arc::new(SimulatedStore::new(world, *actor, *role, place));
        let repository: Repository = world.repository.through(store, machine.repository().environment().clone());
        let timer = SimulatedTimer { world: Arc::clone(world), actor: *actor };
        let report = check(&repository, &CheckOptions::all_data(), &timer, &machine.monitor())?;
        if let Some(fault) = report.faults.into_iter().next() {
            let text = format!("in the end, check finds at destination {place}: {}", fault.describe());
            return Err(Failure::unexpected(text));
        }
    }
    Ok(())
}
