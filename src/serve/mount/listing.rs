//! What there is to show, as it was when the repository was read: databases, their snapshots and tags, under the file names that they have.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::base::clock::UnixMicros;
use crate::base::id::{ImageRoot, ObjectHash};
use crate::ops::snapshots::Snapshot;
use crate::repo::stack_reader::State;

use super::Times;
use super::names::{MAX_BYTES, file_name, tell_apart};

/// The ending of every file.
const ENDING: &str = ".db";

/// Digits of an id that a file name shows, unless they are not enough to tell two apart.
const SHORT_ID_DIGITS: usize = 8;

/// A prefix of an id of fewer digits names no file.
const MIN_PREFIX_DIGITS: usize = 4;

/// Bytes of a database's name as it is shown: a time and an id go into the same file name, and `at/<time>/<name>.db` in the folder of that name stays shorter than the
/// 512 bytes of a path that SQLite opens.
const NAME_BYTES: usize = 150;

/// A state as a file. Its content never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFile {
    /// The database's name.
    pub database: String,
    /// The state's number.
    pub commit: u64,
    /// BLAKE3 of its image.
    pub root: ImageRoot,
    /// The snapshot whose layers it is read from.
    pub snapshot: ObjectHash,
    /// When it was captured.
    pub captured: UnixMicros,
    /// Bytes of the image.
    pub bytes: u64,
}

impl StateFile {
    /// The file of a state.
    pub fn of(database: &str, state: &State) -> Self {
        Self {
            database: database.to_owned(),
            commit: state.commit,
            root: state.root,
            snapshot: state.snapshot,
            captured: state.captured,
            bytes: state.image_bytes(),
        }
    }

    fn of_snapshot(snapshot: &Snapshot) -> Arc<Self> {
        let Snapshot { id, database, manifest, .. } = snapshot;
        let (commit, root, captured, bytes) =
            (manifest.commit, manifest.root, manifest.captured, manifest.image_bytes());
        Arc::new(Self { database: database.clone(), commit, root, snapshot: *id, captured, bytes })
    }
}

/// One database.
pub struct Database {
    /// Its name.
    pub name: String,
    /// In the order of the timeline; there is one.
    pub snapshots: Vec<Snapshot>,
    /// Entries of its timeline or journal are damaged or missing: its newest state, or that of a time, may be another than it seems.
    pub is_doubtful: bool,
    files: BTreeMap<String, Arc<StateFile>>,
}

impl Database {
    fn new(snapshots: Vec<Snapshot>, is_doubtful: bool, times: &Times) -> Self {
        let name = snapshots.first().map(|first| first.database.clone()).unwrap_or_default();
        let files = snapshots.iter().map(|snapshot| {
            let time = (times.file_name)(snapshot.manifest.captured);
            let id = snapshot.id.to_string();
            let named = |id: &str| format!("{time}-{id}{ENDING}");
            (named(&id[..SHORT_ID_DIGITS]), named(&id), StateFile::of_snapshot(snapshot))
        });
        let files = tell_apart(files);
        Self { name, snapshots, is_doubtful, files }
    }

    /// Its newest state, journals included.
    pub fn latest(&self) -> Option<StateFile> {
        self.snapshots.last().map(|snapshot| StateFile::of(&self.name, &snapshot.state()))
    }

    /// When its newest snapshot was captured.
    pub fn newest(&self) -> UnixMicros {
        self.snapshots.last().map_or(UnixMicros(0), |snapshot| snapshot.manifest.captured)
    }
}

/// See the module documentation.
#[derive(Default)]
pub struct Listing {
    /// By file name.
    databases: BTreeMap<String, Database>,
    /// The file names by name.
    file_names: HashMap<String, String>,
    by_id: BTreeMap<String, Arc<StateFile>>,
    /// By file name; then by file name.
    tags: BTreeMap<String, BTreeMap<String, Arc<StateFile>>>,
}

impl Listing {
    /// A listing of snapshots, which come by database and in the order of their timelines. `is_doubtful` says so of a database's name.
    pub fn new(snapshots: Vec<Snapshot>, is_doubtful: impl Fn(&str) -> bool, times: &Times) -> Self {
        let mut listing = Self { tags: tags(&snapshots, times), ..Self::default() };
        listing.by_id = snapshots.iter().map(|one| (one.id.to_string(), StateFile::of_snapshot(one))).collect();
        let mut by_name: BTreeMap<String, Vec<Snapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            by_name.entry(snapshot.database.clone()).or_default().push(snapshot);
        }
        for (name, snapshots) in by_name {
            let shown = file_name(&name, NAME_BYTES);
            let is_doubtful = is_doubtful(&name);
            listing.databases.insert(shown.clone(), Database::new(snapshots, is_doubtful, times));
            listing.file_names.insert(name, shown);
        }
        listing
    }

    /// The database of that name.
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.get(self.file_names.get(name)?)
    }

    /// The database that is shown so.
    pub fn shown(&self, file_name: &str) -> Option<&Database> {
        self.databases.get(file_name)
    }

    /// The databases as they are shown.
    pub fn databases(&self) -> impl Iterator<Item = (&str, &Database)> {
        self.databases.iter().map(|(shown, database)| (shown.as_str(), database))
    }

    /// Whether a file of a database is called that where its folder does not say which database it is.
    pub fn is_own_file(&self, database: &str, file_name: &str) -> bool {
        let shown = self.file_names.get(database);
        shown.is_some_and(|shown| file_name.strip_suffix(ENDING) == Some(shown))
    }

    /// What [`is_own_file`](Self::is_own_file) accepts.
    pub fn own_file(&self, database: &str) -> Option<String> {
        self.file_names.get(database).map(|shown| format!("{shown}{ENDING}"))
    }

    /// The snapshots of a database as files.
    pub fn snapshot_files(&self, database: &str) -> Option<&BTreeMap<String, Arc<StateFile>>> {
        self.database(database).map(|database| &database.files)
    }

    /// All snapshots, by their ids.
    pub fn ids(&self) -> impl Iterator<Item = (String, &Arc<StateFile>)> {
        self.by_id.iter().map(|(id, file)| (format!("{id}{ENDING}"), file))
    }

    /// The snapshot that a file name means: an id, or enough of its beginning.
    pub fn by_id(&self, file_name: &str) -> Option<&Arc<StateFile>> {
        let prefix = file_name.strip_suffix(ENDING).filter(|prefix| prefix.len() >= MIN_PREFIX_DIGITS)?;
        let mut found = self.by_id.range(prefix.to_owned()..).take_while(|(id, _)| id.starts_with(prefix));
        let (_, file) = found.next()?;
        found.next().is_none().then_some(file)
    }

    /// The tags as they are shown.
    pub fn tags(&self) -> impl Iterator<Item = &String> {
        self.tags.keys()
    }

    /// The snapshots of a tag that is shown so.
    pub fn tagged(&self, tag: &str) -> Option<&BTreeMap<String, Arc<StateFile>>> {
        self.tags.get(tag)
    }

    /// When the newest snapshot of all was captured.
    pub fn newest(&self) -> UnixMicros {
        self.databases.values().map(Database::newest).max().unwrap_or(UnixMicros(0))
    }
}

fn tags(snapshots: &[Snapshot], times: &Times) -> BTreeMap<String, BTreeMap<String, Arc<StateFile>>> {
    let mut tagged: BTreeMap<&str, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        let mut tags: Vec<&str> = snapshot.manifest.tags.iter().map(String::as_str).collect();
        tags.sort_unstable();
        tags.dedup();
        tags.into_iter().for_each(|tag| tagged.entry(tag).or_default().push(snapshot));
    }
    let files = |snapshots: Vec<&Snapshot>| {
        tell_apart(snapshots.into_iter().map(|snapshot| {
            let time = (times.file_name)(snapshot.manifest.captured);
            let name = file_name(&snapshot.database, NAME_BYTES);
            let id = snapshot.id.to_string();
            let named = |id: &str| format!("{time}-{name}-{id}{ENDING}");
            (named(&id[..SHORT_ID_DIGITS]), named(&id), StateFile::of_snapshot(snapshot))
        }))
    };
    tagged.into_iter().map(|(tag, snapshots)| (file_name(tag, MAX_BYTES), files(snapshots))).collect()
}
