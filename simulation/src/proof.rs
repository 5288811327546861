//! What must hold once nobody else is at work and nothing fails: check finds nothing, and a reader sees and restores exactly what there is.

use std::collections::BTreeMap;
use std::sync::Arc;

use continuum::ops::check::{CheckOptions, CheckReport, check};
use continuum::ops::snapshots::snapshots;
use continuum::repo::stack_reader::State;
use continuum::repo::timeline;

use crate::actor::restore;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::store::SimulatedTimer;

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
        Some(fault) => Err(Failure::unexpected(format!("in the end, check finds: {}", fault.describe()))),
        None => Ok(()),
    }
}

/// A reader sees exactly the snapshots that there are, and restores each, forgotten ones too.
pub fn restore_all(machine: &Machine) -> Result<(), Failure> {
    let repository = machine.repository();
    let (points, faults) = snapshots(&repository, None)?;
    let (timelines, found) = timeline::load_all(&repository)?;
    if let Some(fault) = faults.into_iter().chain(found).next() {
        return Err(Failure::unexpected(format!("in the end, a reader finds: {}", fault.describe())));
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
