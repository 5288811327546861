//! Lists snapshots, and finds the one that a person means.

use std::sync::Arc;

use crate::base::id::ObjectHash;
use crate::format::delta::StepPart;
use crate::format::manifest::Manifest;
use crate::repo::journal::Journals;
use crate::repo::standing::Standing;
use crate::repo::{Fault, Repository, RepositoryError, timeline};

/// A snapshot in the repository.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its id.
    pub id: ObjectHash,
    /// Its database's name.
    pub database: String,
    /// Its place in the database's timeline.
    pub sequence: u64,
    /// What it says.
    pub manifest: Manifest,
    /// Whether it is forgotten, or held.
    pub standing: Standing,
    /// Whether a repair has found that something that it needs is lost.
    pub is_damaged: bool,
    /// Later commits that are in a watcher's journal only.
    pub journal: Arc<Vec<StepPart>>,
}

/// Why no snapshot, or not a single one, is meant.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectError {
    /// The repository, or the database, has none.
    #[error("no snapshot{}", of_database(.0))]
    None(Option<String>),
    /// No id begins so.
    #[error("no snapshot has an id that begins with {0:?}")]
    NoMatch(String),
    /// Several do.
    #[error("{count} snapshots have ids that begin with {prefix:?}")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many match.
        count: usize,
    },
    /// No state has that number.
    #[error("{database} has no state with the number {commit}")]
    NoCommit {
        /// The database's name.
        database: String,
        /// What was asked for.
        commit: u64,
    },
    /// The first state is later.
    #[error("{database} has no state that was captured by then")]
    NothingBefore {
        /// The database's name.
        database: String,
    },
    /// Which database?
    #[error("the repository holds several databases: {}", .0.join(", "))]
    SeveralDatabases(Vec<String>),
}

fn of_database(name: &Option<String>) -> String {
    name.as_ref().map_or_else(|| " yet".to_owned(), |name| format!(" of a database named {name:?}"))
}

/// The snapshots of all databases, or of the one of that `name`, that are restore points, by database and sequence, and what is wrong with their
/// timelines. One damaged entry does not hide the others.
pub fn snapshots(repository: &Repository, name: Option<&str>) -> Result<(Vec<Snapshot>, Vec<Fault>), RepositoryError> {
    let (mut snapshots, faults) = snapshots_and_forgotten(repository, name)?;
    snapshots.retain(|snapshot| snapshot.standing.forgotten.is_none());
    Ok((snapshots, faults))
}

/// As [`snapshots`], with those that are forgotten and not gone.
pub fn snapshots_and_forgotten(
    repository: &Repository,
    name: Option<&str>,
) -> Result<(Vec<Snapshot>, Vec<Fault>), RepositoryError> {
    // Journals first: what a watcher folds and deletes meanwhile is in the timelines that are read after them.
    let (journals, mut faults) = Journals::load(repository)?;
    let (timelines, found) = match name {
        None => timeline::load_all(repository)?,
        Some(name) => {
            let (timeline, faults) = timeline::load(repository, name)?;
            (vec![timeline], faults)
        }
    };
    faults.extend(found);
    let mut snapshots = Vec::new();
    for timeline in timelines {
        let watched = timeline.open_watch().is_some();
        let newest = timeline.last().map(|(id, _)| id);
        for kept in timeline.kept() {
            let (journal, fault) = match watched && Some(kept.id) == newest {
                true => journals.steps_behind(kept.id, kept.manifest),
                false => Default::default(),
            };
            faults.extend(fault);
            let (id, database, sequence) = (kept.id, timeline.name().to_owned(), kept.sequence);
            let (manifest, standing, is_damaged) = (kept.manifest.clone(), kept.standing.clone(), kept.is_damaged);
            snapshots.push(Snapshot { id, database, sequence, manifest, standing, is_damaged, journal });
        }
    }
    snapshots.sort_by(|a, b| (&a.database, a.sequence).cmp(&(&b.database, b.sequence)));
    Ok((snapshots, faults))
}

/// The snapshot whose id begins with `prefix`.
pub fn select_snapshot(mut snapshots: Vec<Snapshot>, prefix: &str) -> Result<Snapshot, SelectError> {
    snapshots.retain(|snapshot| snapshot.id.to_string().starts_with(prefix));
    match snapshots.len() {
        0 => Err(SelectError::NoMatch(prefix.to_owned())),
        1 => Ok(snapshots.remove(0)),
        count => Err(SelectError::Ambiguous { prefix: prefix.to_owned(), count }),
    }
}
