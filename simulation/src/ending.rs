//! The end of a run: trouble stops, what was late arrives, and then everything must be as if nothing had happened.

use continuum::format::name::ObjectName;
use continuum::ops::check::CheckOptions;
use continuum::ops::snapshot::Choice;

use crate::actor::{collect, take_snapshot};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::mirroring::{check_each, converge};
use crate::proof::{check_all, check_as, restore_all};
use crate::random::Random;
use crate::repairing::{mend, mend_copy};
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
        world.require_same().map_err(Failure::unexpected)?;
        check_each(machine, mirror)?;
    }
    if world.plan.damages {
        damage(machine, random)?;
    }
    Ok(())
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
        return Err(Failure::unexpected(format!("{name} was {what}, and check finds nothing")));
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
