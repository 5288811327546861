//! The end of a run: trouble stops, what was late arrives, and then everything must be as if nothing had happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use continuum::format::name::ObjectName;
use continuum::ops::check::{CheckOptions, CheckReport, check};
use continuum::ops::snapshot::Choice;
use continuum::ops::snapshots::snapshots;
use continuum::repo::stack_reader::State;
use continuum::repo::timeline;

use crate::actor::{collect, restore, take_snapshot};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::mirroring::{check_each, converge};
use crate::random::Random;
use crate::repairing::{mend, mend_copy};
use crate::store::SimulatedTimer;
use crate::world::World;

/// Ends a run.
pub fn end(machine: &Machine, random: &mut Random) -> Result<(), Failure> {
    let world = &machine.world;
    world.calm_down();
    if let Some(mirror) = &world.plan.mirror {
        converge(machine, mirror)?;
    }
    for database in &world.databases {
        take_snapshot(machine, database, Choice::Auto, true)?;
    }
    for _ in 0..2 {
        collect(machine, 1.0, &mut || {})?;
    }
    world.with_truth(|truth| truth.garbage());
    check_all(machine, random.chance(400))?;
    restore_all(machine)?;
    if let Some(mirror) = &world.plan.mirror {
        // Nothing failed since.
        world.require_same().map_err(unexpected)?;
        check_each(machine, mirror)?;
    }
    if world.plan.damages {
        damage(machine, random)?;
    }
    Ok(())
}

/// What check finds.
pub fn check_as(machine: &Machine, options: &CheckOptions) -> Result<CheckReport, Failure> {
    let timer = SimulatedTimer { world: Arc::clone(&machine.world), actor: machine.actor };
    Ok(check(&machine.repository(), options, &timer, &machine.monitor())?)
}

/// Nothing is wrong.
pub fn check_all(machine: &Machine, read_data: bool) -> Result<(), Failure> {
    let options = if read_data { CheckOptions::all_data() } else { CheckOptions::default() };
    let report = check_as(machine, &options)?;
    match report.faults.into_iter().next() {
        Some(fault) => Err(unexpected(format!("in the end, check finds: {}", fault.describe()))),
        None => Ok(()),
    }
}

/// A reader sees exactly the snapshots that there are, and restores each, forgotten ones too.
pub fn restore_all(machine: &Machine) -> Result<(), Failure> {
    let repository = machine.repository();
    let (points, faults) = snapshots(&repository, None)?;
    let (timelines, found) = timeline::load_all(&repository)?;
    if let Some(fault) = faults.into_iter().chain(found).next() {
        return Err(unexpected(format!("in the end, a reader finds: {}", fault.describe())));
    }
    let (mut seen, mut expected) = (BTreeMap::new(), BTreeMap::new());
    let mut states = Vec::new();
    for kept in timelines.iter().flat_map(|timeline| timeline.kept()) {
        let is_point = points.iter().any(|point| point.id == kept.id);
        seen.insert(kept.id, (is_point, kept.standing.held.is_some()));
        states.push(State::of_snapshot(kept.id, kept.manifest));
    }
    machine.world.with_truth(|truth| {
        for line in truth.timelines().values() {
            for kept in line.snapshots().values() {
                // The last one counts as not forgotten.
                let is_point = kept.standing.forgotten.is_none() || line.last_snapshot() == Some(kept.id);
                expected.insert(kept.id, (is_point, kept.standing.is_held));
            }
        }
        if seen == expected || truth.is_blind() {
            Ok(())
        } else {
            Err(format!("a reader sees {seen:?}, not {expected:?}"))
        }
    });
    restore(&repository, &states)
}

/// Damages one object: check must say so if anything needs it, and repair mends it.
fn damage(machine: &Machine, random: &mut Random) -> Result<(), Failure> {
    let world = &machine.world;
    let names: Vec<ObjectName> =
        world.names().into_iter().filter(|name| name.hash().is_some() || name.timeline().is_some()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let name = random.pick(&names);
    if let Some(mirror) = &world.plan.mirror {
        let Some(how) = world.plan.repair else { return Ok(()) };
        spoil(world, random.below(mirror.destinations as u64) as usize, name, random);
        return mend_copy(machine, how, mirror);
    }
    let was = world.read(0, name).map(|bytes| bytes.to_vec()).unwrap_or_default();
    let what = spoil(world, 0, name, random);
    let is = world.read(0, name);
    let is_needed = world.with_truth(|truth| Ok(truth.depends_on(name))).unwrap_or(false);
    let report = check_as(machine, &CheckOptions::all_data())?;
    if is_needed && report.faults.is_empty() {
        return Err(unexpected(format!("{name} was {what}, and check finds nothing")));
    }
    match world.plan.repair {
        Some(how) => mend(machine, how, name, &was, is.as_ref().map(|bytes| bytes.as_slice())),
        None => Ok(()),
    }
}

/// Damages an object of one destination; says how.
fn spoil(world: &World, place: usize, name: &ObjectName, random: &mut Random) -> &'static str {
    let mut bytes = world.read(place, name).map(|bytes| bytes.to_vec()).unwrap_or_default();
    let what = match random.below(3) {
        0 => {
            world.damage(place, name, None);
            "deleted"
        }
        1 => {
            bytes.pop();
            world.damage(place, name, Some(bytes));
            "truncated"
        }
        _ => {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
            world.damage(place, name, Some(bytes));
            "changed"
        }
    };
    world.note(|| format!("{name} is {what}"));
    what
}

fn unexpected(text: String) -> Failure {
    Failure { text, is_expected: false }
}
