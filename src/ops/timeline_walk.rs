//! The restore points of one database in order, any of which can be opened, and what may have changed from each to the next.
//!
//! From a captured commit to the next, these are the pages of its step; otherwise the layers of both states tell ([`changed_pages`]). Steps of one layer are read once.

use std::collections::BTreeMap;

use crate::base::clock::UnixMicros;
use crate::base::id::ObjectHash;
use crate::base::page::{PageNo, PageSize};
use crate::base::page_set::PageSet;
use crate::format::delta::{Change, Record, StepPart, StepState};
use crate::repo::Fault;
use crate::repo::changed_pages::{changed_pages, touched_by};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::stack_reader::{State, delta_parts};
use crate::sqlite::header::are_same_but_for_counters;

use super::points::{self, Step};
use super::snapshots::Snapshot;

/// A restore point.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The position of the snapshot whose layers hold it.
    snapshot: usize,
    /// The commit, if it is none of the snapshots.
    step: Option<StepState>,
    /// Its number in the timeline.
    pub commit: u64,
    /// When it was captured.
    pub captured: UnixMicros,
}

/// The restore points of a database.
pub struct TimelineWalk {
    reader: ChunkReader,
    snapshots: Vec<Snapshot>,
    moments: Vec<Moment>,
}

impl TimelineWalk {
    /// Lists the restore points of the snapshots of one database, those captured from `since` to `until`.
    pub fn list(
        reader: &ChunkReader,
        snapshots: Vec<Snapshot>,
        since: Option<UnixMicros>,
        until: Option<UnixMicros>,
    ) -> Result<Self, Fault> {
        let mut moments = Vec::new();
        let mut listed = None;
        for (position, snapshot) in snapshots.iter().enumerate() {
            let mut steps = points::steps(reader, snapshot)?;
            // Layers are shared: a later snapshot may have the same newest one.
            steps.retain(|step| listed.is_none_or(|commit| step.state.commit > commit));
            let commit = snapshot.manifest.commit;
            let moment = |Step { state, .. }: &Step| Moment {
                snapshot: position,
                step: Some(*state),
                commit: state.commit,
                captured: state.captured,
            };
            moments.extend(steps.iter().filter(|step| step.state.commit < commit).map(moment));
            moments.push(Moment { snapshot: position, step: None, commit, captured: snapshot.manifest.captured });
            moments.extend(steps.iter().filter(|step| step.state.commit > commit).map(moment));
            listed = moments.last().map(|moment| moment.commit);
        }
        moments.retain(|moment| {
            since.is_none_or(|since| moment.captured >= since) && until.is_none_or(|until| moment.captured <= until)
        });
        Ok(Self { reader: reader.clone(), snapshots, moments })
    }

    /// The restore points, oldest first.
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }

    /// The snapshot that is this restore point, if it is one.
    pub fn snapshot(&self, at: usize) -> Option<ObjectHash> {
        let moment = &self.moments[at];
        if moment.step.is_none() { Some(self.snapshots[moment.snapshot].id) } else { None }
    }

    /// The state of a restore point.
    pub fn state(&self, at: usize) -> State {
        let moment = &self.moments[at];
        let snapshot = &self.snapshots[moment.snapshot];
        match &moment.step {
            Some(step) => snapshot.state().at_step(step),
            None => snapshot.state_without_journal(),
        }
    }

    /// What may differ between each restore point and the one before it.
    pub fn changes(&self) -> Changes<'_> {
        Changes { walk: self, steps: BTreeMap::new(), of: None }
    }
}

/// See [`TimelineWalk::changes`].
pub struct Changes<'a> {
    walk: &'a TimelineWalk,
    /// Pages of the steps of one snapshot's newest layer and its journal, by commit, where the state before is that of the commit before.
    steps: BTreeMap<u64, PageSet>,
    /// The snapshot.
    of: Option<usize>,
}

impl Changes<'_> {
    /// The pages that may differ between the restore point `at`, which is not the first, and the one before it; `None` for all. Page 1 may be left out where only counters
    /// of its header differ.
    pub fn before(&mut self, at: usize) -> Result<Option<PageSet>, Fault> {
        let (before, moment) = (&self.walk.moments[at - 1], &self.walk.moments[at]);
        if before.commit + 1 == moment.commit {
            self.read_steps(moment.snapshot)?;
            if let Some(pages) = self.steps.get(&moment.commit) {
                return Ok(Some(pages.clone()));
            }
        }
        changed_pages(&self.walk.reader, &self.walk.state(at - 1), &self.walk.state(at))
    }

    fn read_steps(&mut self, position: usize) -> Result<(), Fault> {
        if self.of == Some(position) {
            return Ok(());
        }
        self.steps.clear();
        self.of = Some(position);
        let snapshot = &self.walk.snapshots[position];
        let (manifest, page_size) = (&snapshot.manifest, snapshot.manifest.page_size());
        if let [.., below, layer] = &manifest.layers[..] {
            let mut last = below.last_commit;
            for (position, &chunk) in layer.segments.iter().enumerate() {
                let parts = delta_parts(&self.walk.reader, snapshot.id, page_size, position, chunk)?;
                parts.iter().for_each(|part| self.add(part, &mut last));
            }
        }
        let mut last = manifest.commit;
        snapshot.journal.iter().for_each(|part| self.add(part, &mut last));
        Ok(())
    }

    /// Adds a part of the step after commit `last`, or of that one.
    fn add(&mut self, part: &StepPart, last: &mut u64) {
        let commit = part.state.commit;
        let follows = commit == *last + 1;
        let mut pages = touched_by(part, u32::MAX);
        if self.is_head_the_same(part) {
            pages = PageSet::from_ranges(pages.ranges().map(|(first, last)| (first.max(2), last)));
        }
        match self.steps.get_mut(&commit) {
            Some(found) => *found = found.union(&pages),
            None if follows => {
                self.steps.insert(commit, pages);
            }
            None => {}
        }
        *last = commit;
    }

    /// Whether the step changes nothing of page 1 but counters.
    fn is_head_the_same(&self, part: &StepPart) -> bool {
        let Some(Record { page: PageNo(1), change: Change::Xor(difference) }) = part.records.first() else {
            return false;
        };
        let page_size = self.of.map(|position| self.walk.snapshots[position].manifest.page_size());
        let mut mask = vec![0; page_size.map_or(0, PageSize::bytes)];
        difference.apply(&mut mask);
        are_same_but_for_counters(&mask, &vec![0; mask.len()])
    }
}
