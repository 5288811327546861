//! The tree: which folders and files there are, and which of them a name means. It knows nothing of FUSE.
//!
//! ```text
//! databases/<name>/latest.db                      the newest state, a watcher's newest commits included
//! databases/<name>/snapshots/<time>-<id>.db
//! databases/<name>/at/<time>/<name>.db            the newest state that was captured by then; found when it is asked for, never listed
//! by-id/<id>.db                                   or enough digits of it
//! tags/<tag>/<time>-<name>-<id>.db
//! ```

use std::sync::Arc;

use crate::base::clock::UnixMicros;

use super::listing::{Listing, StateFile};

/// The newest state's file.
const LATEST: &str = "latest.db";

/// A folder or a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// What is mounted.
    Root,
    /// `databases`
    Databases,
    /// `by-id`
    ById,
    /// `tags`
    Tags,
    /// A tag, as it is shown.
    Tag(String),
    /// The folder of the database of that name.
    Database(String),
    /// Its `snapshots`.
    Snapshots(String),
    /// Its `at`.
    Moments(String),
    /// A time in it, as it was typed, and the state that it means.
    Moment(String, Arc<StateFile>),
    /// A state.
    File(Arc<StateFile>),
}

/// For how long a name means what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Until the snapshot is deleted.
    Lasting,
    /// Until there is a newer state, or it is later.
    Passing,
}

/// Finds states by time.
pub trait States {
    /// Why a state cannot be told.
    type Failure;

    /// The newest state of a database.
    fn latest(&self, database: &str) -> Result<Option<Arc<StateFile>>, Self::Failure>;

    /// The newest state of a database that was captured by the time that a person typed.
    fn at(&self, database: &str, text: &str) -> Result<Option<Arc<StateFile>>, Self::Failure>;
}

impl Node {
    /// What tells it from every other node: the number of its inode is made of this, so a state is the same inode wherever it is found.
    pub fn identity(&self) -> String {
        match self {
            Self::Root => "/".to_owned(),
            Self::Databases => "databases".to_owned(),
            Self::ById => "by-id".to_owned(),
            Self::Tags => "tags".to_owned(),
            Self::Tag(tag) => format!("tag\0{tag}"),
            Self::Database(name) => format!("database\0{name}"),
            Self::Snapshots(name) => format!("snapshots\0{name}"),
            Self::Moments(name) => format!("at\0{name}"),
            Self::Moment(text, file) => format!("moment\0{}\0{text}", file.database),
            Self::File(file) => format!("state\0{}\0{}\0{}", file.database, file.commit, file.root),
        }
    }

    /// The state, if it is a file.
    pub fn file(&self) -> Option<&Arc<StateFile>> {
        match self {
            Self::File(file) => Some(file),
            _ => None,
        }
    }

    /// What `name` means in this folder.
    pub fn lookup<S: States>(
        &self,
        name: &str,
        listing: &Listing,
        states: &S,
    ) -> Result<Option<(Self, Validity)>, S::Failure> {
        let lasting = |node: Self| Some((node, Validity::Lasting));
        let file = |file: &Arc<StateFile>| Some((Self::File(Arc::clone(file)), Validity::Lasting));
        Ok(match (self, name) {
            (Self::Root, "databases") => lasting(Self::Databases),
            (Self::Root, "by-id") => lasting(Self::ById),
            (Self::Root, "tags") => lasting(Self::Tags),
            (Self::Databases, _) => {
                listing.shown(name).and_then(|database| lasting(Self::Database(database.name.clone())))
            }
            (Self::Database(database), LATEST) => {
                states.latest(database)?.map(|file| (Self::File(file), Validity::Passing))
            }
            (Self::Database(database), "snapshots") => lasting(Self::Snapshots(database.clone())),
            (Self::Database(database), "at") => lasting(Self::Moments(database.clone())),
            (Self::Snapshots(database), _) => {
                listing.snapshot_files(database).and_then(|files| files.get(name)).and_then(file)
            }
            (Self::Moments(database), _) => {
                states.at(database, name)?.map(|file| (Self::Moment(name.to_owned(), file), Validity::Passing))
            }
            (Self::Moment(_, found), _) if listing.is_own_file(&found.database, name) => {
                Some((Self::File(Arc::clone(found)), Validity::Passing))
            }
            // More digits may be needed some day.
            (Self::ById, _) => listing.by_id(name).map(|file| (Self::File(Arc::clone(file)), Validity::Passing)),
            (Self::Tags, _) => listing.tagged(name).and_then(|_| lasting(Self::Tag(name.to_owned()))),
            (Self::Tag(tag), _) => listing.tagged(tag).and_then(|files| files.get(name)).and_then(file),
            (Self::Root | Self::Database(_) | Self::Moment(..) | Self::File(_), _) => None,
        })
    }

    /// What this folder lists: names and nodes.
    pub fn entries(&self, listing: &Listing) -> Vec<(String, Self)> {
        let named = |name: &str, node: Self| (name.to_owned(), node);
        let file = |(name, file): (&String, &Arc<StateFile>)| (name.clone(), Self::File(Arc::clone(file)));
        match self {
            Self::Root => {
                vec![named("by-id", Self::ById), named("databases", Self::Databases), named("tags", Self::Tags)]
            }
            Self::Databases => {
                listing.databases().map(|(name, found)| named(name, Self::Database(found.name.clone()))).collect()
            }
            Self::Database(name) => {
                let mut entries =
                    vec![named("at", Self::Moments(name.clone())), named("snapshots", Self::Snapshots(name.clone()))];
                let latest = listing.database(name).and_then(|database| database.latest());
                entries.extend(latest.map(|latest| named(LATEST, Self::File(Arc::new(latest)))));
                entries
            }
            Self::Snapshots(name) => listing.snapshot_files(name).into_iter().flatten().map(file).collect(),
            // Any time can be typed.
            Self::Moments(_) => Vec::new(),
            Self::Moment(_, found) => {
                let own = listing.own_file(&found.database);
                own.map(|name| (name, Self::File(Arc::clone(found)))).into_iter().collect()
            }
            Self::ById => listing.ids().map(|(name, found)| (name, Self::File(Arc::clone(found)))).collect(),
            Self::Tags => listing.tags().map(|tag| named(tag, Self::Tag(tag.clone()))).collect(),
            Self::Tag(tag) => listing.tagged(tag).into_iter().flatten().map(file).collect(),
            Self::File(_) => Vec::new(),
        }
    }

    /// The time of a folder or file: when the newest thing in it was captured.
    pub fn time(&self, listing: &Listing) -> UnixMicros {
        match self {
            Self::File(file) | Self::Moment(_, file) => file.captured,
            Self::Database(name) | Self::Snapshots(name) | Self::Moments(name) => {
                listing.database(name).map_or(UnixMicros(0), |database| database.newest())
            }
            Self::Root | Self::Databases | Self::ById | Self::Tags | Self::Tag(_) => listing.newest(),
        }
    }
}
