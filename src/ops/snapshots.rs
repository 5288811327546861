//! Lists snapshots, and finds the one that a person means.

use crate::base::id::ObjectHash;
use crate::format::manifest::Manifest;
use crate::format::timeline::Event;
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
}

/// Which snapshot is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The newest of the database.
    Latest,
    /// The one whose id begins so.
    Prefix(String),
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
    /// `latest` of which database?
    #[error("the repository holds several databases: {}", .0.join(", "))]
    SeveralDatabases(Vec<String>),
}

fn of_database(name: &Option<String>) -> String {
    name.as_ref().map_or_else(|| " yet".to_owned(), |name| format!(" of a database named {name:?}"))
}

/// The snapshots of all databases, or of the one of that `name`, by database and sequence, and what is wrong with their
/// timelines. One damaged entry does not hide the others.
pub fn snapshots(repository: &Repository, name: Option<&str>) -> Result<(Vec<Snapshot>, Vec<Fault>), RepositoryError> {
    let (timelines, faults) = match name {
        None => timeline::load_all(repository)?,
        Some(name) => {
            let (timeline, faults) = timeline::load(repository, name)?;
            (vec![timeline], faults)
        }
    };
    let recorded = timelines.into_iter().flat_map(|timeline| timeline.entries);
    let mut snapshots: Vec<Snapshot> = recorded
        .map(|recorded| {
            let Event::Snapshot(manifest) = recorded.entry.event;
            Snapshot { id: recorded.id, database: recorded.entry.database, sequence: recorded.entry.sequence, manifest }
        })
        .collect();
    snapshots.sort_by(|a, b| (&a.database, a.sequence).cmp(&(&b.database, b.sequence)));
    Ok((snapshots, faults))
}

/// The snapshot that `selector` means, among `snapshots`, which are those of the database named `name` if one is named.
pub fn select(mut snapshots: Vec<Snapshot>, selector: &Selector, name: Option<&str>) -> Result<Snapshot, SelectError> {
    match selector {
        Selector::Latest => latest(snapshots, name),
        Selector::Prefix(prefix) => {
            snapshots.retain(|snapshot| snapshot.id.to_string().starts_with(prefix));
            match snapshots.len() {
                0 => Err(SelectError::NoMatch(prefix.clone())),
                1 => Ok(snapshots.remove(0)),
                count => Err(SelectError::Ambiguous { prefix: prefix.clone(), count }),
            }
        }
    }
}

fn latest(snapshots: Vec<Snapshot>, name: Option<&str>) -> Result<Snapshot, SelectError> {
    let mut databases: Vec<String> = snapshots.iter().map(|snapshot| snapshot.database.clone()).collect();
    databases.dedup();
    if databases.len() > 1 {
        return Err(SelectError::SeveralDatabases(databases));
    }
    snapshots.into_iter().max_by_key(|snapshot| snapshot.sequence).ok_or(SelectError::None(name.map(str::to_owned)))
}
