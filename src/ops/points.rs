//! Restore points: every state that can be restored, and how to find the one that a person means.
//!
//! Order is that of the timeline and, within a watcher's part of it, of the commits. Times are what a clock said then: a point is found by time as the newest
//! *in this order* that was captured by then, so a clock that jumped may make a choice odd, but never hides or reorders a state.

use std::sync::Arc;

use crate::base::clock::UnixMicros;
use crate::format::delta::{StepPart, StepState};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::stack_reader::{State, delta_parts};
use crate::repo::{Fault, RepositoryError};

use super::snapshots::{SelectError, Snapshot, select_snapshot};

/// Which state is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The newest of the database.
    Latest,
    /// The snapshot whose id begins so.
    Prefix(String),
    /// The state of that number.
    Commit(u64),
    /// The newest that was captured by then.
    At(UnixMicros),
}

/// A commit that a watcher captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The state that it led to.
    pub state: StepState,
    /// Pages that it changed.
    pub pages: u64,
    /// Bytes that it takes, before compression.
    pub bytes: u64,
}

/// A restore point in a listing.
#[derive(Clone, Debug)]
pub enum Point {
    /// A snapshot.
    Snapshot(Box<Snapshot>),
    /// A commit between two snapshots.
    Commit {
        /// The database's name.
        database: String,
        /// The commit.
        step: Step,
    },
}

/// Why there is no such state.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The choice.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<Fault> for FindError {
    fn from(fault: Fault) -> Self {
        Self::Repository(fault.into())
    }
}

/// A state and the database that it is of.
#[derive(Clone, Debug)]
pub struct Found {
    /// The database's name.
    pub database: String,
    /// The state.
    pub state: State,
}

/// The state that `selector` means among `snapshots`, which are those of the database named `name` if one is named, with what is only in journals.
pub fn find(
    reader: &ChunkReader,
    snapshots: Vec<Snapshot>,
    selector: &Selector,
    name: Option<&str>,
) -> Result<Found, FindError> {
    if let Selector::Prefix(prefix) = selector {
        let snapshot = select_snapshot(snapshots, prefix)?;
        return Ok(Found { database: snapshot.database.clone(), state: snapshot.state_without_journal() });
    }
    let mut databases: Vec<&str> = snapshots.iter().map(|snapshot| snapshot.database.as_str()).collect();
    databases.dedup();
    if databases.len() > 1 {
        return Err(SelectError::SeveralDatabases(databases.into_iter().map(str::to_owned).collect()).into());
    }
    let Some(last) = snapshots.last() else { return Err(SelectError::None(name.map(str::to_owned)).into()) };
    let database = last.database.clone();
    let found = match selector {
        Selector::Latest | Selector::Prefix(_) => Some(last.state()),
        Selector::Commit(commit) => of_commit(reader, &snapshots, *commit)?,
        Selector::At(time) => at(reader, &snapshots, *time)?,
    };
    match (found, selector) {
        (Some(state), _) => Ok(Found { database, state }),
        (None, Selector::Commit(commit)) => Err(SelectError::NoCommit { database, commit: *commit }.into()),
        (None, _) => Err(SelectError::NothingBefore { database }.into()),
    }
}

/// The state of that number, of one database's snapshots.
pub fn of_commit(reader: &ChunkReader, snapshots: &[Snapshot], commit: u64) -> Result<Option<State>, Fault> {
    for snapshot in snapshots {
        let state = snapshot.state();
        if snapshot.manifest.commit == commit {
            return Ok(Some(snapshot.state_without_journal()));
        }
        let in_layer =
            state.deltas().last().is_some_and(|layer| (layer.first_commit..=layer.last_commit).contains(&commit));
        let in_journal = snapshot.journal.iter().any(|part| part.state.commit == commit);
        if in_layer || in_journal {
            let found = steps(reader, snapshot)?.into_iter().find(|step| step.state.commit == commit);
            if let Some(step) = found {
                return Ok(Some(state.at_step(&step.state)));
            }
        }
    }
    Ok(None)
}

/// The newest state that was captured by then, of one database's snapshots.
pub fn at(reader: &ChunkReader, snapshots: &[Snapshot], time: UnixMicros) -> Result<Option<State>, Fault> {
    for snapshot in snapshots.iter().rev() {
        let state = snapshot.state();
        let steps = steps(reader, snapshot)?;
        let manifest = &snapshot.manifest;
        let beyond = |step: &&Step| step.state.commit > manifest.commit && step.state.captured <= time;
        if let Some(step) = steps.iter().rev().find(beyond) {
            return Ok(Some(state.at_step(&step.state)));
        }
        if manifest.captured <= time {
            return Ok(Some(snapshot.state_without_journal()));
        }
        if let Some(step) = steps.iter().rev().find(|step| step.state.captured <= time) {
            return Ok(Some(state.at_step(&step.state)));
        }
    }
    Ok(None)
}

/// All restore points of snapshots of one or more databases, in order.
pub fn list(reader: &ChunkReader, snapshots: Vec<Snapshot>) -> Result<Vec<Point>, Fault> {
    let mut points = Vec::new();
    let mut listed: Option<(String, u64)> = None;
    for snapshot in snapshots {
        let mut steps = steps(reader, &snapshot)?;
        // Layers are shared: a later snapshot may have the same newest one.
        if let Some((_, commit)) = listed.as_ref().filter(|(database, _)| *database == snapshot.database) {
            steps.retain(|step| step.state.commit > *commit);
        }
        listed = Some((snapshot.database.clone(), snapshot.manifest.commit));
        let (commit, database) = (snapshot.manifest.commit, snapshot.database.clone());
        let as_point = |step: &Step| Point::Commit { database: database.clone(), step: *step };
        let (before, after): (Vec<&Step>, Vec<&Step>) = steps.iter().partition(|step| step.state.commit < commit);
        points.extend(before.into_iter().map(as_point));
        points.push(Point::Snapshot(Box::new(snapshot)));
        points.extend(after.into_iter().filter(|step| step.state.commit > commit).map(as_point));
    }
    Ok(points)
}

/// The commits that the newest layer of a snapshot holds one by one, and those in the journal behind it.
pub fn steps(reader: &ChunkReader, snapshot: &Snapshot) -> Result<Vec<Step>, Fault> {
    let manifest = &snapshot.manifest;
    let mut steps: Vec<Step> = Vec::new();
    if let Some(layer) = manifest.layers.last().filter(|layer| layer.first_commit < layer.last_commit) {
        for (position, &chunk) in layer.segments.iter().enumerate() {
            let parts = delta_parts(reader, snapshot.id, manifest.page_size(), position, chunk)?;
            parts.iter().for_each(|part| add(&mut steps, part));
        }
    }
    snapshot.journal.iter().for_each(|part| add(&mut steps, part));
    Ok(steps)
}

fn add(steps: &mut Vec<Step>, part: &StepPart) {
    let (pages, bytes) = (part.records.len() as u64, part.record_bytes());
    match steps.last_mut() {
        Some(last) if last.state.commit == part.state.commit => {
            last.pages += pages;
            last.bytes += bytes;
        }
        _ => steps.push(Step { state: part.state, pages, bytes }),
    }
}

impl Snapshot {
    /// The newest state that stands on it: its own, or that of the last commit in the journal behind it.
    pub fn state(&self) -> State {
        let state = State { journal: Arc::clone(&self.journal), ..State::of_snapshot(self.id, &self.manifest) };
        match self.journal.last() {
            Some(last) => state.at_step(&last.state),
            None => state,
        }
    }

    /// Its own state.
    pub fn state_without_journal(&self) -> State {
        State::of_snapshot(self.id, &self.manifest)
    }
}
