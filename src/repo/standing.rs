//! What has become of the snapshots of a timeline (`format-spec/timeline.md`, "What is a restore point").
//!
//! Pure: entries are replayed in order. What an entry says of snapshots that are not there, or gone, has no effect. The last snapshot is not forgotten
//! as long as it is the last: journals continue it, and the newest commits are in them.

use std::collections::{BTreeMap, HashSet};

use crate::base::clock::UnixMicros;
use crate::base::id::{ChunkId, ObjectHash};
use crate::format::manifest::Manifest;
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
    /// The last snapshot, as it counts.
    last: Option<(u64, Standing)>,
    /// Segments of layers that are lost, or need a chunk that is.
    damaged: HashSet<ChunkId>,
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
            Event::Held { snapshot, reason } => self.change([snapshot], |standing| {
                *standing = Standing { forgotten: None, held: Some(reason.clone()) };
            }),
            Event::Released { snapshot } => {
                self.change([snapshot], |standing| standing.held = None);
            }
            Event::Damaged { segments } => self.damaged = segments.iter().copied().collect(),
            Event::Collected { gone } => {
                self.gone.clone_from(gone);
                self.snapshots.retain(|&sequence, _| !is_in(gone, sequence));
            }
            Event::Begun {} | Event::WatchStarted(_) | Event::WatchEnded(_) => {}
        }
        self.last = self
            .snapshots
            .last_key_value()
            .map(|(&sequence, (_, standing))| (sequence, Standing { forgotten: None, held: standing.held.clone() }));
    }

    fn change<'a>(&mut self, named: impl IntoIterator<Item = &'a SnapshotRef>, change: impl Fn(&mut Standing)) {
        for SnapshotRef { sequence, id } in named {
            if let Some((_, standing)) = self.snapshots.get_mut(sequence).filter(|(found, _)| found == id) {
                change(standing);
            }
        }
    }

    /// What has become of the snapshot in this place; `None` if it is gone, or there is none.
    pub fn of(&self, sequence: u64) -> Option<&Standing> {
        match &self.last {
            Some((last, standing)) if *last == sequence => Some(standing),
            _ => self.snapshots.get(&sequence).map(|(_, standing)| standing),
        }
    }

    /// Segments that are known to be damaged.
    pub fn damaged(&self) -> &HashSet<ChunkId> {
        &self.damaged
    }

    /// Whether a snapshot with this manifest is.
    pub fn is_damaged(&self, manifest: &Manifest) -> bool {
        let mut segments = manifest.layers.iter().flat_map(|layer| &layer.segments);
        !self.damaged.is_empty() && segments.any(|segment| self.damaged.contains(segment))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ImageRoot;
    use crate::format::manifest::{Layer, LayerKind, Strategy};
    use crate::format::timeline::NO_ENTRY;

    fn id(sequence: u64) -> ObjectHash {
        ObjectHash([sequence as u8; 32])
    }

    fn named(sequence: u64) -> SnapshotRef {
        SnapshotRef { sequence, id: id(sequence) }
    }

    fn snapshot() -> Event {
        let image = Layer {
            kind: LayerKind::Image,
            first_commit: 1,
            last_commit: 1,
            page_count: 1,
            low_page_count: 1,
            record_bytes: 0,
            segments: vec![ChunkId([1; 32])],
        };
        Event::Snapshot(Manifest {
            strategy: Strategy::Full,
            tags: Vec::new(),
            host: String::new(),
            source: String::new(),
            captured: UnixMicros(0),
            tool: String::new(),
            journal_mode: String::new(),
            page_size: 4096,
            page_count: 1,
            root: ImageRoot([1; 32]),
            commit: 1,
            lineage: 1,
            layers: vec![image],
            added: 0,
        })
    }

    fn forget(sequences: &[u64]) -> Event {
        Event::Forgotten { snapshots: sequences.iter().copied().map(named).collect(), until: UnixMicros(9) }
    }

    fn bring_back(sequence: u64) -> Event {
        Event::Unforgotten { snapshots: vec![named(sequence)] }
    }

    fn hold(sequence: u64) -> Event {
        Event::Held { snapshot: named(sequence), reason: String::new() }
    }

    fn release(sequence: u64) -> Event {
        Event::Released { snapshot: named(sequence) }
    }

    fn damage(segments: &[u8]) -> Event {
        Event::Damaged { segments: segments.iter().map(|&byte| ChunkId([byte; 32])).collect() }
    }

    fn collect(first: u64, last: u64) -> Event {
        Event::Collected { gone: vec![Run { first, last, last_id: id(last) }] }
    }

    /// What three snapshots, then these events, come to.
    fn replay(events: Vec<Event>) -> Standings {
        let mut standings = Standings::default();
        let all = std::iter::repeat_n(snapshot(), 3).chain(events);
        for (event, sequence) in all.zip(1..) {
            let (database, recorded) = ("orders".to_owned(), UnixMicros(0));
            let entry = TimelineEntry { sequence, previous: NO_ENTRY, database, recorded, event };
            standings.apply(id(sequence), &entry);
        }
        standings
    }

    /// What becomes of the three: `f`orgotten, `h`eld, `g`one or `-`, in order.
    fn check(events: Vec<Event>, expected: &str) {
        let standings = replay(events);
        let letter = |sequence| match standings.of(sequence) {
            None => 'g',
            Some(Standing { forgotten: Some(_), held: None }) => 'f',
            Some(Standing { forgotten: None, held: Some(_) }) => 'h',
            Some(Standing { forgotten: None, held: None }) => '-',
            Some(Standing { forgotten: Some(_), held: Some(_) }) => '!',
        };
        assert_eq!((1..=3).map(letter).collect::<String>(), expected);
    }

    #[test]
    fn snapshots_are_forgotten_and_come_back() {
        check(vec![], "---");
        check(vec![forget(&[1, 2])], "ff-");
        check(vec![forget(&[1, 2]), bring_back(2)], "f--");
        check(vec![bring_back(1), forget(&[1])], "f--");
    }

    #[test]
    fn what_is_held_is_not_forgotten() {
        check(vec![hold(1), forget(&[1, 2])], "hf-");
        check(vec![forget(&[1, 2]), hold(1)], "hf-");
        check(vec![hold(1), forget(&[1]), release(1)], "---");
        check(vec![hold(1), release(1), forget(&[1])], "f--");
        check(vec![hold(1), bring_back(1)], "h--");
    }

    #[test]
    fn the_last_is_not_forgotten_until_it_is_not_the_last() {
        check(vec![forget(&[1, 2, 3])], "ff-");
        check(vec![forget(&[3]), snapshot()], "--f");
        check(vec![forget(&[3]), bring_back(3), snapshot()], "---");
        check(vec![forget(&[3]), hold(3), snapshot()], "--h");
    }

    #[test]
    fn what_is_gone_stays_gone() {
        check(vec![forget(&[1]), collect(1, 1), bring_back(1), hold(1)], "g--");
        check(vec![collect(1, 2)], "gg-");
        let standings = replay(vec![collect(1, 2)]);
        assert_eq!((1..=4).map(|sequence| standings.is_gone(sequence)).collect::<Vec<_>>(), [true, true, false, false]);
    }

    #[test]
    fn what_was_said_last_of_damage_counts() {
        let Event::Snapshot(manifest) = snapshot() else { panic!("BUG: it is a snapshot") };
        let check = |events: Vec<Event>, expected: bool| assert_eq!(replay(events).is_damaged(&manifest), expected);
        check(vec![], false);
        check(vec![damage(&[1])], true);
        check(vec![damage(&[2])], false);
        check(vec![damage(&[2, 1]), snapshot()], true);
        check(vec![damage(&[1]), damage(&[2])], false);
        check(vec![damage(&[1]), damage(&[])], false);
        check(vec![damage(&[1]), forget(&[1]), collect(1, 1)], true);
        let named = HashSet::from([ChunkId([3; 32]), ChunkId([2; 32])]);
        assert_eq!(*replay(vec![damage(&[1]), damage(&[2, 3])]).damaged(), named);
    }

    #[test]
    fn an_id_that_does_not_fit_means_none() {
        let other = SnapshotRef { sequence: 1, id: id(2) };
        check(vec![Event::Forgotten { snapshots: vec![other], until: UnixMicros(9) }, forget(&[7])], "---");
    }
}
