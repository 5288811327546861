//! A database under test, and snapshots of it beside what SQLite saw.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use serde_json::Value;

use crate::support::{Repository, bytes_of, companion, hash_of, text};

/// The database's name in the repository.
pub const NAME: &str = "source";

/// A repository, and a database beside it.
pub struct Place {
    pub repository: Repository,
    /// The database's file.
    pub path: PathBuf,
}

/// A snapshot, and SQLite's view of the database when it was taken.
pub struct Taken {
    pub snapshot: Value,
    pub view: Vec<u8>,
}

impl Deref for Place {
    type Target = Repository;

    fn deref(&self) -> &Repository {
        &self.repository
    }
}

impl Place {
    /// With nothing at the database's path.
    pub fn new() -> Self {
        let repository = Repository::new();
        let path = repository.folder("database").join("source.db");
        Self { repository, path }
    }

    /// With a database in WAL mode: 40 rows that take a page each. Checkpoints run only when told.
    pub fn with_wal() -> (Self, Connection) {
        let place = Self::new();
        let writer = place.connect(0);
        run(&writer, "PRAGMA journal_mode = wal; CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)");
        run(&writer, &format!("{} INSERT INTO t SELECT i, randomblob(3500) FROM n", numbers(40)));
        (place, writer)
    }

    /// The same with a rollback journal.
    pub fn with_rollback_journal() -> (Self, Connection) {
        let (place, writer) = Self::with_wal();
        run(&writer, "PRAGMA journal_mode = delete");
        (place, writer)
    }

    /// A connection to the database.
    pub fn connect(&self, autocheckpoint: u32) -> Connection {
        let connection = Connection::open(&self.path).expect("a connection");
        connection.pragma_update(None, "wal_autocheckpoint", autocheckpoint).expect("a setting of the connection");
        connection
    }

    /// The database as SQLite sees it: a copy, into which SQLite has moved what the WAL holds.
    pub fn view(&self) -> Vec<u8> {
        let copy = self.repository.path("view.db");
        for suffix in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(companion(&copy, suffix));
        }
        fs::write(&copy, bytes_of(&self.path)).expect("a copy");
        let wal = companion(&self.path, "-wal");
        if wal.exists() {
            fs::write(companion(&copy, "-wal"), bytes_of(&wal)).expect("a copy of the WAL");
            let connection = Connection::open(&copy).expect("the copy opens");
            assert_eq!(checkpoint(&connection, "TRUNCATE").0, 0);
        }
        bytes_of(&copy)
    }

    /// What the binary says of a snapshot with this strategy.
    pub fn snapshot_with(&self, strategy: &str) -> Value {
        let arguments = ["snapshot", text(&self.path), "--name", NAME, "--strategy", strategy];
        self.repository.json(&arguments)["snapshots"][0].take()
    }

    /// A snapshot with this strategy.
    pub fn take(&self, strategy: &str) -> Taken {
        let view = self.view();
        Taken { snapshot: self.snapshot_with(strategy), view }
    }

    /// A snapshot with this strategy, restored and compared; returns what the binary said of it.
    #[track_caller]
    pub fn check(&self, strategy: &str, what: &str) -> Value {
        let taken = self.take(strategy);
        self.compare(&taken, what);
        taken.snapshot
    }

    /// Restores a snapshot and compares it with SQLite's view.
    #[track_caller]
    pub fn compare(&self, taken: &Taken, what: &str) {
        let Taken { snapshot, view } = taken;
        let restored = self.repository.path("restored.db");
        self.repository.restore(snapshot, &restored);
        let page_size = snapshot["page_size"].as_u64().expect("a number") as usize;
        same_pages(view, &bytes_of(&restored), page_size, what);
        assert_eq!(hash_of(&restored), snapshot["blake3"], "{what}");
        fs::remove_file(&restored).expect("it is there");
    }

    /// Salts of the WAL's header; `None` without one.
    pub fn salts(&self) -> Option<Vec<u8>> {
        let wal = companion(&self.path, "-wal");
        let bytes = if wal.exists() { bytes_of(&wal) } else { Vec::new() };
        bytes.get(16..24).map(<[u8]>::to_vec)
    }

    /// Length and time of the database file.
    pub fn file_facts(&self) -> (u64, SystemTime) {
        let metadata = self.path.metadata().expect("it is there");
        (metadata.len(), metadata.modified().expect("files have times"))
    }

    /// The folder of local state.
    pub fn state(&self) -> PathBuf {
        self.repository.path("state")
    }

    /// A file of the page map's folder.
    pub fn map_file(&self, name: &str) -> PathBuf {
        let found = find(&self.state(), name);
        found.unwrap_or_else(|| panic!("no file {name:?} of local state"))
    }
}

/// Two images are the same, page by page.
#[track_caller]
pub fn same_pages(expected: &[u8], found: &[u8], page_size: usize, what: &str) {
    let pages = expected.chunks(page_size).zip(found.chunks(page_size));
    let wrong: Vec<usize> = pages.zip(1..).filter(|((a, b), _)| a != b).map(|(_, page)| page).collect();
    let lengths = (expected.len() / page_size, found.len() / page_size);
    assert!(wrong.is_empty() && expected.len() == found.len(), "{what}: pages {wrong:?} differ, lengths {lengths:?}");
}

/// Long enough for a file to count as left alone.
pub fn settle() {
    sleep(Duration::from_millis(3300));
}

/// Executes statements.
#[track_caller]
pub fn run(connection: &Connection, statements: &str) {
    let done = connection.execute_batch(statements);
    done.unwrap_or_else(|error| panic!("{error}: {statements}"));
}

/// Runs a checkpoint: busy, frames in the WAL, frames moved.
#[track_caller]
pub fn checkpoint(connection: &Connection, kind: &str) -> (i64, i64, i64) {
    let row = connection
        .query_row(&format!("PRAGMA wal_checkpoint({kind})"), [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    row.unwrap_or_else(|error| panic!("{error}: checkpoint {kind}"))
}

/// The numbers from 1 as a table `n(i)`, to be put before a statement.
pub fn numbers(count: u32) -> String {
    format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})")
}

/// Rewrites rows, each on a page of its own, in one transaction.
#[track_caller]
pub fn rewrite(connection: &Connection, rows: std::ops::RangeInclusive<u32>) {
    let (start, end) = rows.into_inner();
    run(connection, &format!("UPDATE t SET b = randomblob(3500) WHERE a BETWEEN {start} AND {end}"));
}

/// The database's files but its shared memory, in a new folder: what a crash of the machine leaves.
pub fn crash_image(path: &Path, folder: &Path) -> PathBuf {
    let image = folder.join("source.db");
    for suffix in ["", "-wal"] {
        fs::write(companion(&image, suffix), bytes_of(&companion(path, suffix))).expect("a copy");
    }
    image
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).ok()? {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|found| found == name) {
            return Some(path);
        }
    }
    None
}
