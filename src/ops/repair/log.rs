//! What is taken out of the log of a database, by an entry that says that it is gone. Pure, but for [`amend`].
//!
//! Snapshots that cannot be restored, and places whose entry is lost: the entry behind them says which hash was there last. The last snapshot stays, and what is held.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::id::{DatabaseId, ObjectHash};
use crate::format::FormatError;
use crate::format::timeline::{Event, MAX_NAMED, Run};
use crate::ops::prune::gone::merge;
use crate::repo::timeline::{self, Behind, Timeline};
use crate::repo::{Fault, Repository, RepositoryError};

use super::affected::Affected;

/// How often the end of a timeline is read anew because others append to it.
pub(super) const MOST_APPENDS: usize = 100;

/// What is taken out of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChange {
    /// The database's name.
    pub name: String,
    /// The same.
    pub database: DatabaseId,
    /// Snapshots, by place.
    pub snapshots: BTreeMap<u64, ObjectHash>,
    /// Places whose entry is lost.
    pub lost: Vec<Run>,
}

impl LogChange {
    /// Whether the snapshot is taken out.
    pub fn drops(&self, affected: &Affected) -> bool {
        self.database == affected.timeline && self.snapshots.contains_key(&affected.sequence)
    }

    /// Whether the place is among those whose entry is lost.
    pub fn closes(&self, database: DatabaseId, sequence: u64) -> bool {
        self.database == database && self.lost.iter().any(|run| run.contains(sequence))
    }
}

/// What is to be taken out of which log. One that a newer program has written to is left alone.
pub fn changes(timelines: &[Timeline], affected: &[Affected], faults: &[Fault]) -> Vec<LogChange> {
    let newer = written_by_newer(faults);
    let change = |timeline: &Timeline| {
        let name = timeline.entries.last()?.entry.database.clone();
        let of_it = affected.iter().filter(|affected| affected.timeline == timeline.database);
        let dropped = of_it.filter(|affected| !affected.is_last && !affected.is_held);
        let snapshots = dropped.map(|affected| (affected.sequence, affected.id)).collect::<BTreeMap<_, _>>();
        let lost = lost_entries(timeline);
        let is_needed = !(snapshots.is_empty() && lost.is_empty());
        is_needed.then_some(LogChange { name, database: timeline.database, snapshots, lost })
    };
    timelines.iter().filter(|timeline| !newer.contains(&timeline.database)).filter_map(change).collect()
}

/// Logs with entries that say so of themselves, unless the next one continues something else: then they were damaged.
pub(super) fn written_by_newer(faults: &[Fault]) -> BTreeSet<DatabaseId> {
    let breaks: BTreeSet<(DatabaseId, u64)> = faults
        .iter()
        .filter_map(|fault| match fault {
            Fault::BrokenChain { name } => name.timeline(),
            _ => None,
        })
        .collect();
    let newer = faults.iter().filter_map(|fault| match fault {
        Fault::Object { name, source: FormatError::NewerVersion(_) } => name.timeline(),
        _ => None,
    });
    newer
        .filter(|(database, sequence)| !breaks.contains(&(*database, sequence + 1)))
        .map(|(database, _)| database)
        .collect()
}

/// Places without an entry that can be read and that the log does not say to be gone, up to the next entry that can.
pub fn lost_entries(timeline: &Timeline) -> Vec<Run> {
    let entries = timeline.entries.iter().map(|recorded| (recorded.entry.sequence, recorded.entry.previous));
    // Whoever appends next continues the last object, whatever it is.
    let end = timeline.end().map(|(sequence, hash)| (sequence + 1, hash));
    let (mut lost, mut next) = (Vec::new(), 1);
    for (sequence, previous) in entries.chain(end) {
        while let Some(run) = timeline.gone().iter().find(|run| run.first == next && run.last < sequence) {
            next = run.last + 1;
        }
        if next < sequence {
            lost.push(Run { first: next, last: sequence - 1, last_id: previous });
        }
        next = next.max(sequence + 1);
    }
    lost
}

/// What the next entry says to be gone.
fn gone_with(timeline: &Timeline, change: &LogChange) -> Vec<Run> {
    let lost = if change.lost.is_empty() { Vec::new() } else { lost_entries(timeline) };
    let is_covered = |run: &Run| lost.iter().any(|lost| lost.first <= run.first && run.last <= lost.last);
    let runs: Vec<Run> =
        timeline.gone().iter().copied().filter(|run| !is_covered(run)).chain(lost.iter().copied()).collect();
    let last = timeline.last().map(|(id, _)| id);
    let still = timeline.kept().filter(|kept| kept.standing.held.is_none() && Some(kept.id) != last);
    let still = still.filter(|kept| change.snapshots.get(&kept.sequence) == Some(&kept.id));
    merge(&runs, &still.map(|kept| (kept.sequence, kept.id)).collect())
}

/// Takes it out, behind whatever others have appended meanwhile; returns how many snapshots went.
pub fn amend(repository: &Repository, change: &LogChange) -> Result<usize, RepositoryError> {
    let mut appends = 0;
    loop {
        appends += 1;
        let (mut timeline, _) = timeline::load(repository, &change.name)?;
        let before = timeline.kept().count();
        let gone = gone_with(&timeline, change);
        // More than an entry can say stay, for the next time.
        if gone == timeline.gone() || gone.len() > MAX_NAMED {
            return Ok(0);
        }
        match timeline.append(repository, &change.name, Event::Collected { gone }, Behind::Nothing) {
            Ok(_) => return Ok(before - timeline.kept().count()),
            Err(RepositoryError::Fenced { .. }) if appends < MOST_APPENDS => {}
            Err(error) => return Err(error),
        }
    }
}
