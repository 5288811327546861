//! What must hold of one timeline (`format-spec/timeline.md`, "What is a restore point"), from its entries alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use continuum::base::id::{ChunkId, ImageRoot, ObjectHash, WriterId};
use continuum::base::page::PageSize;
use continuum::format::manifest::Manifest;
use continuum::format::timeline::{Event, Run, SnapshotRef, TimelineEntry};

use crate::failure::Verdict;

/// See the module documentation.
#[derive(Default)]
pub struct Line {
    /// All that ever were, those that are gone, too.
    entries: BTreeMap<u64, (ObjectHash, TimelineEntry)>,
    gone: Vec<Run>,
    snapshots: BTreeMap<u64, Snapshot>,
    /// Commits that a watcher knows to be durable, by number, behind the last snapshot.
    waiting: BTreeMap<u64, (ObjectHash, ImageRoot)>,
    /// Commits that newest layers of snapshots hold one by one.
    folded: HashSet<(u64, ImageRoot)>,
}

/// A snapshot that is not gone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its id.
    pub id: ObjectHash,
    /// What it says.
    pub manifest: Manifest,
    /// Every chunk that it needs.
    pub needs: Vec<ChunkId>,
    /// What has become of it.
    pub standing: Standing,
    /// Whether it cannot be restored, because of damage.
    pub is_lost: bool,
}

/// What has become of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Until when it is kept at least.
    pub forgotten: Option<i64>,
    /// Whether it cannot be forgotten.
    pub is_held: bool,
}

impl Line {
    /// Takes in the next entry; returns what is no longer needed, once for each snapshot that needed it.
    pub fn append(
        &mut self,
        id: ObjectHash,
        entry: TimelineEntry,
        needs: Vec<ChunkId>,
        clock: i64,
    ) -> Result<Vec<ChunkId>, String> {
        let (sequence, database) = (entry.sequence, entry.database.clone());
        let last = self.entries.last_key_value().map_or(0, |(&last, _)| last);
        if sequence != last + 1 {
            return Err(format!("entry {sequence} of {database} was written, behind {last}"));
        }
        let previous = self.entries.last_key_value().map_or(ObjectHash([0; 32]), |(_, (id, _))| *id);
        if previous != entry.previous {
            return Err(format!("entry {sequence} of {database} does not continue the one before"));
        }
        let mut released = Vec::new();
        match &entry.event {
            Event::Snapshot(manifest) => {
                let snapshot =
                    Snapshot { id, manifest: manifest.clone(), needs, standing: Standing::default(), is_lost: false };
                self.snapshots.insert(sequence, snapshot);
                self.waiting.clear();
            }
            Event::Collected { gone } => {
                released =
                    self.collect(gone, clock).map_err(|what| format!("entry {sequence} of {database}: {what}"))?;
            }
            event => change_standings(&mut self.snapshots, event),
        }
        self.entries.insert(sequence, (id, entry));
        Ok(released)
    }

    fn collect(&mut self, gone: &[Run], clock: i64) -> Result<Vec<ChunkId>, String> {
        let is_gone = |sequence: u64| gone.iter().any(|run| run.contains(sequence));
        if let Some(run) = self.gone.iter().find(|run| !(run.first..=run.last).all(is_gone)) {
            return Err(format!("entries {} to {} come back", run.first, run.last));
        }
        for run in gone {
            if self.entries.get(&run.last).is_none_or(|(id, _)| *id != run.last_id) {
                return Err(format!("the hash of entry {} is another", run.last));
            }
        }
        let last = self.snapshots.last_key_value().map(|(&last, _)| last);
        let (watch, damaged) = (self.open_watch(), self.damaged().map(<[ChunkId]>::to_vec));
        let mut released = Vec::new();
        for (&sequence, snapshot) in self.snapshots.iter().filter(|(sequence, _)| is_gone(**sequence)) {
            let Standing { forgotten, is_held } = snapshot.standing;
            let may_go = snapshot.is_lost || forgotten.is_some_and(|until| until <= clock);
            if is_held || !may_go || Some(sequence) == last {
                return Err(format!(
                    "snapshot {sequence} is gone, although it is the last, held, or not forgotten for long enough: {:?} at {clock}",
                    snapshot.standing
                ));
            }
            released.extend(snapshot.needs.iter().filter(|_| !snapshot.is_lost));
        }
        self.snapshots.retain(|&sequence, _| !is_gone(sequence));
        self.gone = gone.to_vec();
        // What is gone counts for nothing: neither a hold nor an announcement may be lost by that.
        let mut anew = self.snapshots.clone();
        anew.values_mut().for_each(|snapshot| snapshot.standing = Standing::default());
        for (_, (_, entry)) in self.entries.iter().filter(|(sequence, _)| !is_gone(**sequence)) {
            change_standings(&mut anew, &entry.event);
        }
        for (sequence, snapshot) in &self.snapshots {
            if snapshot.standing != anew[sequence].standing {
                return Err(format!(
                    "snapshot {sequence} was {:?} and is {:?} now",
                    snapshot.standing, anew[sequence].standing
                ));
            }
        }
        if watch != self.open_watch() {
            return Err(format!("{watch:?} watched, and now {:?} does", self.open_watch()));
        }
        if damaged.as_deref() != self.damaged() {
            return Err("what was said last of damage is gone".to_owned());
        }
        Ok(released)
    }

    fn open_watch(&self) -> Option<WriterId> {
        self.entries.iter().rev().filter(|(sequence, _)| !self.is_gone(**sequence)).find_map(|(_, (_, entry))| {
            match &entry.event {
                Event::WatchStarted(watch) => Some(Some(watch.writer)),
                Event::WatchEnded(_) => Some(None),
                _ => None,
            }
        })?
    }

    /// What was said last of damage.
    fn damaged(&self) -> Option<&[ChunkId]> {
        let kept = self.entries.iter().rev().filter(|(sequence, _)| !self.is_gone(**sequence));
        kept.map(|(_, (_, entry))| &entry.event).find_map(|event| match event {
            Event::Damaged { segments } => Some(&segments[..]),
            _ => None,
        })
    }

    /// Whether the entry is gone.
    pub fn is_gone(&self, sequence: u64) -> bool {
        self.gone.iter().any(|run| run.contains(sequence))
    }

    /// Snapshots that are not gone, by sequence.
    pub fn snapshots(&self) -> &BTreeMap<u64, Snapshot> {
        &self.snapshots
    }

    /// Snapshots that need a lost chunk can no longer be restored, and may be taken out of the log. Returns what is no longer needed, once for each of them.
    pub fn lose(&mut self, is_lost: &dyn Fn(&ChunkId) -> bool, affected: &mut BTreeSet<ObjectHash>) -> Vec<ChunkId> {
        let mut released = Vec::new();
        for snapshot in self.snapshots.values_mut().filter(|snapshot| snapshot.needs.iter().any(is_lost)) {
            snapshot.is_lost = true;
            affected.insert(snapshot.id);
            released.extend(&snapshot.needs);
        }
        released
    }

    /// A snapshot that needs the chunk.
    pub fn who_needs(&self, chunk: ChunkId) -> Option<String> {
        let (sequence, snapshot) =
            self.snapshots.iter().find(|(_, snapshot)| !snapshot.is_lost && snapshot.needs.contains(&chunk))?;
        let database = &self.entries[sequence].1.database;
        Some(format!("snapshot {sequence} of {database} ({})", snapshot.id))
    }

    /// The id of the last snapshot.
    pub fn last_snapshot(&self) -> Option<ObjectHash> {
        self.snapshots.last_key_value().map(|(_, snapshot)| snapshot.id)
    }

    /// Of the last snapshot.
    pub fn page_size(&self) -> Option<PageSize> {
        self.snapshots.last_key_value().map(|(_, snapshot)| snapshot.manifest.page_size())
    }

    /// Fails unless that snapshot is there, or was rightly collected since, with that image.
    pub fn acknowledge(&self, id: ObjectHash, root: ImageRoot) -> Verdict {
        let entry = self.entries.values().find(|(found, _)| *found == id).map(|(_, entry)| entry);
        match entry.map(|entry| &entry.event) {
            Some(Event::Snapshot(manifest)) if manifest.root == root => Ok(()),
            Some(_) => Err(format!("snapshot {id} was acknowledged, and is of another image")),
            None => Err(format!("snapshot {id} was acknowledged and is not in the log")),
        }
    }

    /// A commit behind the last snapshot, which is durable.
    pub fn wait_for(&mut self, base: ObjectHash, commit: u64, root: ImageRoot) {
        self.waiting.insert(commit, (base, root));
    }

    /// Whether such a commit is only in a journal.
    pub fn waits_for(&self, base: ObjectHash, commit: u64) -> bool {
        self.waiting.get(&commit).is_some_and(|(found, _)| *found == base)
    }

    /// Fails unless these commits, which a new snapshot holds, are all that wait.
    pub fn require_folded(&self, commits: &[(u64, ImageRoot)]) -> Verdict {
        let missing = self.waiting.iter().find(|&(&commit, &(_, root))| !commits.contains(&(commit, root)));
        match missing {
            Some((commit, _)) => Err(format!("it hides commit {commit}, which was acknowledged")),
            None => Ok(()),
        }
    }

    /// Remembers commits that a snapshot holds.
    pub fn add_commits(&mut self, commits: &[(u64, ImageRoot)]) {
        self.folded.extend(commits);
    }

    /// Whether a snapshot holds, or held, that commit.
    pub fn holds_commit(&self, commit: u64, root: ImageRoot) -> bool {
        self.folded.contains(&(commit, root))
    }

    /// Entries that are gone.
    pub fn gone(&self) -> &[Run] {
        &self.gone
    }
}

fn change_standings(snapshots: &mut BTreeMap<u64, Snapshot>, event: &Event) {
    let mut change = |reference: &SnapshotRef, change: &dyn Fn(&mut Standing)| {
        if let Some(snapshot) = snapshots.get_mut(&reference.sequence).filter(|found| found.id == reference.id) {
            change(&mut snapshot.standing);
        }
    };
    match event {
        Event::Forgotten { snapshots, until } => snapshots.iter().for_each(|reference| {
            change(reference, &|standing| {
                if !standing.is_held {
                    standing.forgotten = Some(until.0);
                }
            });
        }),
        Event::Unforgotten { snapshots } => {
            snapshots.iter().for_each(|reference| change(reference, &|standing| standing.forgotten = None));
        }
        Event::Held { snapshot, .. } => {
            change(snapshot, &|standing| *standing = Standing { forgotten: None, is_held: true });
        }
        Event::Released { snapshot } => change(snapshot, &|standing| standing.is_held = false),
        Event::Begun {}
        | Event::Snapshot(_)
        | Event::WatchStarted(_)
        | Event::WatchEnded(_)
        | Event::Damaged { .. }
        | Event::Collected { .. } => {}
    }
}
