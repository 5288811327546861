//! What has become of the snapshots of a timeline (`format-spec/timeline.md`, "What is a restore point").
//!
//! Pure: entries are replayed in order. What an entry says of snapshots that are not there, or gone, has no effect.

use std::collections::BTreeMap;

use crate::base::clock::UnixMicros;
use crate::base::id::ObjectHash;
use crate::format::timeline::{Event, Run, SnapshotRef, TimelineEntry};

/// What has become of one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// It is no restore point any more; collectors may take it from that time on.
    pub forgotten: Option<UnixMicros>,
    /// It cannot be forgotten, for this reason.
    pub held: Option<String>,
}

/// See the module documentation.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    snapshots: BTreeMap<u64, (ObjectHash, Standing)>,
    gone: Vec<Run>,
}

impl Standings {
    /// Takes in the next entry.
    pub fn apply(&mut self, id: ObjectHash, entry: &TimelineEntry) {
        match &entry.event {
            Event::Snapshot(_) => {
                self.snapshots.insert(entry.sequence, (id, Standing::default()));
            }
            Event::Forgotten { snapshots, until } => self.change(snapshots, |standing| {
                if standing.held.is_none() {
                    standing.forgotten = Some(*until);
                }
            }),
            Event::Unforgotten { snapshots } => self.change(snapshots, |standing| standing.forgotten = None),
            Event::Held { snapshot, reason } => self.change(std::slice::from_ref(snapshot), |standing| {
                *standing = Standing { forgotten: None, held: Some(reason.clone()) };
            }),
            Event::Released { snapshot } => {
                self.change(std::slice::from_ref(snapshot), |standing| standing.held = None);
            }
            Event::Collected { gone } => {
                self.gone.clone_from(gone);
                self.snapshots.retain(|&sequence, _| !is_in(gone, sequence));
            }
            Event::Begun {} | Event::WatchStarted(_) | Event::WatchEnded(_) => {}
        }
    }

    fn change(&mut self, named: &[SnapshotRef], change: impl Fn(&mut Standing)) {
        for SnapshotRef { sequence, id } in named {
            if let Some((_, standing)) = self.snapshots.get_mut(sequence).filter(|(found, _)| found == id) {
                change(standing);
            }
        }
    }

    /// What has become of the snapshot in this place; `None` if it is gone, or there is none.
    pub fn of(&self, sequence: u64) -> Option<&Standing> {
        self.snapshots.get(&sequence).map(|(_, standing)| standing)
    }

    /// The entries that are gone.
    pub fn gone(&self) -> &[Run] {
        &self.gone
    }

    /// Whether the entry in this place is gone.
    pub fn is_gone(&self, sequence: u64) -> bool {
        is_in(&self.gone, sequence)
    }
}

/// Whether one of the runs, which are in order, contains the entry.
pub fn is_in(runs: &[Run], sequence: u64) -> bool {
    runs.get(runs.partition_point(|run| run.last < sequence)).is_some_and(|run| run.contains(sequence))
}
