//! Which entries of a timeline go. Pure.

use std::collections::{BTreeMap, HashSet};

use crate::base::clock::UnixMicros;
use crate::base::id::ObjectHash;
use crate::format::timeline::{Event, MAX_NAMED, Run};
use crate::repo::timeline::{Kept, Timeline};

/// Forgotten snapshots whose time is over. The last snapshot is never among them: what comes is made from it, and numbers go on from its own.
pub fn due(timeline: &Timeline, now: UnixMicros) -> impl Iterator<Item = Kept<'_>> {
    let last = timeline.last().map(|(id, _)| id);
    let is_due = move |kept: &Kept<'_>| {
        let is_over = kept.standing.forgotten.is_some_and(|until| until <= now);
        is_over && kept.standing.held.is_none() && Some(kept.id) != last
    };
    timeline.kept().filter(is_due)
}

/// All entries that are gone once `due` snapshots are, for the next entry to say: those that were before, these, and entries that say nothing any more.
pub fn runs(timeline: &Timeline, now: UnixMicros) -> Vec<Run> {
    let due: HashSet<u64> = due(timeline, now).map(|kept| kept.sequence).collect();
    let kept: HashSet<u64> =
        timeline.kept().map(|kept| kept.sequence).filter(|sequence| !due.contains(sequence)).collect();
    let is_named = |sequence: &u64| kept.contains(sequence);
    let last_watch = timeline
        .entries
        .iter()
        .rposition(|recorded| matches!(recorded.entry.event, Event::WatchStarted(_) | Event::WatchEnded(_)));
    let is_damaged = |event: &Event| matches!(event, Event::Damaged { .. });
    let last_damaged = timeline.entries.iter().rposition(|recorded| is_damaged(&recorded.entry.event));
    let says_nothing = |at: usize, event: &Event| match event {
        Event::Snapshot(_) => false,
        Event::Begun {} | Event::Collected { .. } => true,
        Event::WatchStarted(_) | Event::WatchEnded(_) => Some(at) != last_watch,
        Event::Damaged { .. } => Some(at) != last_damaged,
        Event::Forgotten { snapshots, .. } | Event::Unforgotten { snapshots } => {
            !snapshots.iter().any(|named| is_named(&named.sequence))
        }
        Event::Held { snapshot, .. } | Event::Released { snapshot } => !is_named(&snapshot.sequence),
    };
    let mut ids: BTreeMap<u64, ObjectHash> = BTreeMap::new();
    for (at, recorded) in timeline.entries.iter().enumerate() {
        let sequence = recorded.entry.sequence;
        if due.contains(&sequence) || says_nothing(at, &recorded.entry.event) {
            ids.insert(sequence, recorded.id);
        }
    }
    let merged = merge(timeline.gone(), &ids);
    // More than an entry can say stay forgotten.
    if merged.len() <= MAX_NAMED { merged } else { timeline.gone().to_vec() }
}

/// Runs and single entries as runs that do not touch.
pub fn merge(runs: &[Run], entries: &BTreeMap<u64, ObjectHash>) -> Vec<Run> {
    let single = |(&sequence, &id): (&u64, &ObjectHash)| Run { first: sequence, last: sequence, last_id: id };
    let mut all: Vec<Run> = runs.iter().copied().chain(entries.iter().map(single)).collect();
    all.sort_unstable_by_key(|run| run.first);
    let mut merged: Vec<Run> = Vec::new();
    for run in all {
        match merged.last_mut() {
            Some(before) if before.last + 1 == run.first => (before.last, before.last_id) = (run.last, run.last_id),
            _ => merged.push(run),
        }
    }
    merged
}
