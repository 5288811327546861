//! Every page size × journal mode × auto-vacuum mode, and the shapes of databases that are special: a restored file is byte for byte
//! SQLite's own view of the source, and the source stays as it was.
//!
//! The databases are open in this process while the binary reads them, each with a transaction under way; see [`support`] for how
//! their files are read meanwhile.

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::Connection;
use serde_json::Value;

use support::{Repository, bytes_of, companion, hash_of};

const JOURNAL_MODES: [&str; 4] = ["wal", "delete", "truncate", "persist"];
const AUTO_VACUUM_MODES: [u32; 3] = [0, 1, 2];

/// SQLite's lock bytes begin here; the page that holds them is never used.
const LOCK_BYTE_OFFSET: u64 = 1 << 30;

#[test]
fn pages_of_512_bytes() {
    check_page_size(512);
}

#[test]
fn pages_of_1024_bytes() {
    check_page_size(1024);
}

#[test]
fn pages_of_2048_bytes() {
    check_page_size(2048);
}

#[test]
fn pages_of_4096_bytes() {
    check_page_size(4096);
}

#[test]
fn pages_of_8192_bytes() {
    check_page_size(8192);
}

#[test]
fn pages_of_16384_bytes() {
    check_page_size(16384);
}

#[test]
fn pages_of_32768_bytes() {
    check_page_size(32768);
}

#[test]
fn pages_of_65536_bytes() {
    check_page_size(65536);
}

fn check_page_size(page_size: u32) {
    let repository = Repository::new();
    for journal_mode in JOURNAL_MODES {
        for auto_vacuum in AUTO_VACUUM_MODES {
            let case = Case { page_size, journal_mode, auto_vacuum };
            let database = Database::create(&repository, &case.name(), case);
            let changes = database.fill();
            let unfinished = database.leave_transaction_open();
            let snapshot = database.check(&repository);
            assert_eq!(snapshot["page_size"], page_size);
            drop((changes, unfinished));
            database.check_after_checkpoint(&repository, &snapshot);
        }
    }
}

#[test]
fn full_text_indices() {
    for journal_mode in JOURNAL_MODES {
        let (repository, database) = alone(journal_mode);
        database.run(
            "CREATE VIRTUAL TABLE letters USING fts5(subject, body, tokenize = 'porter');
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
             INSERT INTO letters SELECT 'letter ' || i, hex(randomblob(40)) || ' word' || (i % 17) FROM n;
             DELETE FROM letters WHERE rowid % 3 = 0;
             INSERT INTO letters(letters) VALUES ('optimize');
             UPDATE letters SET body = 'rewritten ' || rowid WHERE rowid % 5 = 0;",
        );
        database.check(&repository);
        let restored = Connection::open(database.restored()).unwrap();
        restored.execute_batch("INSERT INTO letters(letters) VALUES ('integrity-check')").unwrap();
        let found: u32 = restored.query_row("SELECT count(*) FROM letters('rewritten')", [], |row| row.get(0)).unwrap();
        assert_eq!(found, 500 / 5 - 500 / 15);
    }
}

#[test]
fn spatial_indices() {
    for journal_mode in JOURNAL_MODES {
        let (repository, database) = alone(journal_mode);
        database.run(
            "CREATE VIRTUAL TABLE places USING rtree(id, west, east, south, north, +name TEXT);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             INSERT INTO places SELECT i, i % 97, i % 97 + 1, i % 89, i % 89 + 2, 'place ' || i FROM n;
             DELETE FROM places WHERE id % 4 = 0;",
        );
        database.check(&repository);
        let restored = Connection::open(database.restored()).unwrap();
        let checked: String = restored.query_row("SELECT rtreecheck('places')", [], |row| row.get(0)).unwrap();
        assert_eq!(checked, "ok");
    }
}

#[test]
fn databases_of_one_page() {
    for (journal_mode, statement) in [("wal", ""), ("delete", "VACUUM"), ("persist", "VACUUM")] {
        let (repository, database) = alone(journal_mode);
        database.run(statement);
        let snapshot = database.check(&repository);
        assert_eq!(snapshot["page_count"], 1, "{journal_mode}");
    }
}

/// The last connection to close takes the WAL with it.
#[test]
fn databases_that_nobody_has_open() {
    for journal_mode in JOURNAL_MODES {
        let (repository, mut database) = alone(journal_mode);
        database.run("CREATE TABLE t(a, b); INSERT INTO t VALUES (1, randomblob(100000)), (2, randomblob(300))");
        database.connection = Connection::open_in_memory().unwrap();
        assert!(!companion(&database.path, "-wal").exists());
        database.check(&repository);
    }
}

/// The file is still one page long, or none of its pages is current.
#[test]
fn databases_that_stand_in_the_wal() {
    let (repository, database) = alone("wal");
    database.run("CREATE TABLE t(a, b); INSERT INTO t VALUES (1, randomblob(100000)), (2, randomblob(300))");
    assert_eq!(database.path.metadata().unwrap().len(), 4096, "this case is about a file that lacks pages");
    let snapshot = database.check(&repository);
    database.check_after_checkpoint(&repository, &snapshot);
}

/// VACUUM in WAL mode: the state is shorter than the file until a checkpoint.
#[test]
fn databases_shorter_than_their_file() {
    let (repository, database) = alone("wal");
    database.run("CREATE TABLE t(a, b); INSERT INTO t VALUES (1, randomblob(400000)), (2, randomblob(5000))");
    database.run("PRAGMA wal_checkpoint(TRUNCATE)");
    database.run("DELETE FROM t WHERE a = 1; VACUUM");
    let snapshot = database.check(&repository);
    assert!(snapshot["image_bytes"].as_u64().unwrap() < database.path.metadata().unwrap().len());
    database.check_after_checkpoint(&repository, &snapshot);
}

/// The file ends before the lock page, and the WAL goes on behind it: the lock page is in neither.
#[test]
fn a_database_above_one_gibibyte() {
    let repository = Repository::new();
    let case = Case { page_size: 65536, journal_mode: "wal", auto_vacuum: 0 };
    let database = Database::create(&repository, "big", case);
    database.run("PRAGMA journal_mode = delete; PRAGMA synchronous = off; CREATE TABLE t(a, b)");
    for _ in 0..2 {
        database.run("INSERT INTO t VALUES (1, zeroblob(530 << 20)), (2, randomblob(100000))");
    }
    database.run("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; DELETE FROM t WHERE rowid = 4");
    assert!(database.path.metadata().unwrap().len() < LOCK_BYTE_OFFSET + 65536 * 1024);
    database.run("INSERT INTO t VALUES (3, randomblob(9 << 20)), (4, randomblob(1000))");
    let snapshot = repository.snapshot(&database.path, "big");
    assert!(snapshot["image_bytes"].as_u64().unwrap() > LOCK_BYTE_OFFSET + 65536);
    repository.restore(&snapshot, &database.restored());
    assert_eq!(hash_of(&database.restored()), snapshot["blake3"]);
    check_lock_page(&database.restored(), 65536);

    database.run("PRAGMA wal_checkpoint(TRUNCATE)");
    let again = repository.snapshot(&database.path, "big");
    assert_eq!((&again["new_chunks"], &again["blake3"]), (&Value::from(0), &snapshot["blake3"]));
    let path = database.path.clone();
    drop(database);
    assert_eq!(hash_of(&path), snapshot["blake3"]);
}

fn check_lock_page(path: &Path, page_size: usize) {
    let mut page = vec![0xff; page_size];
    File::open(path).unwrap().read_exact_at(&mut page, LOCK_BYTE_OFFSET).unwrap();
    assert!(page.iter().all(|&byte| byte == 0), "the lock page is not zeros");
}

/// A repository and an empty database of 4 KiB pages.
fn alone(journal_mode: &'static str) -> (Repository, Database) {
    let repository = Repository::new();
    let database = Database::create(&repository, "alone", Case { page_size: 4096, journal_mode, auto_vacuum: 0 });
    (repository, database)
}

/// How a database is made.
#[derive(Clone, Copy)]
struct Case {
    page_size: u32,
    journal_mode: &'static str,
    auto_vacuum: u32,
}

impl Case {
    fn name(&self) -> String {
        format!("{}-{}-{}", self.page_size, self.journal_mode, self.auto_vacuum)
    }

    fn is_wal(&self) -> bool {
        self.journal_mode == "wal"
    }
}

/// A database with a connection to it.
struct Database {
    case: Case,
    name: String,
    folder: PathBuf,
    path: PathBuf,
    connection: Connection,
}

impl Database {
    fn create(repository: &Repository, name: &str, case: Case) -> Self {
        let folder = repository.folder(name);
        let path = folder.join("source.db");
        let Case { page_size, journal_mode, auto_vacuum } = case;
        let connection = connect(&path);
        let settings = format!(
            "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum}; PRAGMA journal_mode = {journal_mode};"
        );
        connection.execute_batch(&settings).expect("a new database takes the settings");
        Self { case, name: name.to_owned(), folder, path, connection }
    }

    fn run(&self, statements: &str) {
        let done = self.connection.execute_batch(statements);
        done.unwrap_or_else(|error| panic!("{}: {error}: {statements}", self.name));
    }

    fn restored(&self) -> PathBuf {
        self.folder.join("restored.db")
    }

    /// Rows come and go, in both kinds of table and in an index. In WAL mode pages end up only in the file, only in the
    /// WAL, and in both with the file's older, newer than they were before a checkpoint that a reader had cut short.
    fn fill(&self) -> Option<Connection> {
        let overflow = self.case.page_size;
        self.run(&format!(
            "CREATE TABLE notes(id INTEGER PRIMARY KEY, kind INTEGER, body BLOB);
             CREATE INDEX notes_by_kind ON notes(kind, id);
             CREATE TABLE words(word TEXT PRIMARY KEY, uses INTEGER) WITHOUT ROWID;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
             INSERT INTO notes SELECT i, i % 7, randomblob(10 + (i * 37 % 11) * {overflow} / 4) FROM n;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
             INSERT INTO words SELECT hex(randomblob(12)), i FROM n;"
        ));
        let reader = self.case.is_wal().then(|| self.checkpoint_halfway());
        self.run(
            "DELETE FROM notes WHERE id % 3 = 0; DELETE FROM words WHERE uses % 2 = 0; PRAGMA incremental_vacuum(3)",
        );
        self.run(&format!("UPDATE notes SET kind = kind + 1, body = randomblob({overflow}) WHERE id % 5 = 0"));
        self.run("INSERT INTO notes(kind, body) VALUES (99, 'last')");
        reader
    }

    /// A checkpoint that stops at the state which a reader still reads. The reader is done afterwards, but stays.
    fn checkpoint_halfway(&self) -> Connection {
        let reader = connect(&self.path);
        reader.execute_batch("BEGIN").expect("a transaction");
        let _: i64 = reader.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).expect("a count");
        self.run("UPDATE notes SET kind = 50 WHERE id < 10; DELETE FROM notes WHERE id > 36");
        let (logged, moved): (i64, i64) = self
            .connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?)))
            .expect("a checkpoint");
        assert!(0 < moved && moved < logged, "{}: {moved} of {logged} frames were moved", self.name);
        reader.execute_batch("COMMIT").expect("the transaction ends");
        reader
    }

    /// Begins to write and does not end it. In WAL mode frames spill from a small cache into the WAL, behind those committed; else
    /// all is kept in memory, the journal apart.
    fn leave_transaction_open(&self) -> impl Drop + use<> {
        let writer = connect(&self.path);
        let begin = "BEGIN IMMEDIATE; UPDATE notes SET body = 'never committed' || randomblob(400), kind = -1";
        let wal_bytes = || companion(&self.path, "-wal").metadata().expect("the WAL is there").len();
        if self.case.is_wal() {
            let before = wal_bytes();
            writer.execute_batch(&format!("PRAGMA cache_size = 2; {begin}")).expect("an open transaction");
            assert!(wal_bytes() > before, "{}: nothing spilled", self.name);
        } else {
            writer.execute_batch(begin).expect("an open transaction");
        }
        Unfinished(writer)
    }

    /// The check of this file. Returns the snapshot.
    fn check(&self, repository: &Repository) -> Value {
        let before = self.source_files();
        let expected = self.view();
        let snapshot = repository.snapshot(&self.path, &self.name);
        repository.restore(&snapshot, &self.restored());
        self.compare(&expected, &bytes_of(&self.restored()));
        assert_eq!(hash_of(&self.restored()), snapshot["blake3"], "{}", self.name);
        // Which rollback journal an application uses is a setting of its connections; the file does not say.
        let recorded = if self.case.is_wal() { "wal" } else { "delete" };
        assert_eq!(snapshot["journal_mode"], recorded, "{}", self.name);
        let again = repository.snapshot(&self.path, &self.name);
        assert_eq!(again["new_chunks"], 0, "{}: the same state was stored twice", self.name);
        assert_eq!(again["blake3"], snapshot["blake3"], "{}", self.name);
        assert!(self.source_files() == before, "{}: the source was written to", self.name);
        snapshot
    }

    /// A checkpoint moves pages and changes none: the state that was stored is the state that is there.
    fn check_after_checkpoint(&self, repository: &Repository, snapshot: &Value) {
        self.run("PRAGMA wal_checkpoint(TRUNCATE)");
        let again = repository.snapshot(&self.path, &self.name);
        assert_eq!(again["blake3"], snapshot["blake3"], "{}", self.name);
        assert_eq!(again["new_chunks"], 0, "{}", self.name);
        self.compare(&bytes_of(&self.path), &bytes_of(&self.restored()));
    }

    /// Bytes and times of all that SQLite keeps of the database, its shared memory apart. An empty WAL says nothing: SQLite makes one for
    /// whoever reads first.
    fn source_files(&self) -> Vec<(&'static str, Vec<u8>, SystemTime)> {
        let kept = ["", "-wal", "-journal"].into_iter().filter_map(|suffix| {
            let path = companion(&self.path, suffix);
            let metadata = path.metadata().ok().filter(|metadata| suffix != "-wal" || metadata.len() > 0)?;
            Some((suffix, bytes_of(&path), metadata.modified().expect("files have times")))
        });
        kept.collect()
    }

    /// The database as SQLite sees it: a copy, into which SQLite has moved what the WAL holds.
    fn view(&self) -> Vec<u8> {
        let copy = self.folder.join("view.db");
        std::fs::write(&copy, bytes_of(&self.path)).expect("a copy");
        let wal = companion(&self.path, "-wal");
        if wal.exists() {
            std::fs::write(companion(&copy, "-wal"), bytes_of(&wal)).expect("a copy of the WAL");
            let connection = connect(&copy);
            let busy: i64 = connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
                .expect("the copy is a database");
            assert_eq!(busy, 0);
        }
        bytes_of(&copy)
    }

    fn compare(&self, expected: &[u8], found: &[u8]) {
        assert_eq!(found.len(), expected.len(), "{}: length", self.name);
        let page_bytes = self.case.page_size as usize;
        let pages = expected.chunks(page_bytes).zip(found.chunks(page_bytes));
        let wrong: Vec<usize> = pages.zip(1..).filter(|((a, b), _)| a != b).map(|(_, page)| page).collect();
        assert!(wrong.is_empty(), "{}: pages {wrong:?} differ from SQLite's view", self.name);
    }
}

/// A connection that checkpoints only when told.
fn connect(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("a connection");
    connection.pragma_update(None, "wal_autocheckpoint", 0).expect("a setting of the connection");
    connection
}

/// A transaction that is rolled back in the end.
struct Unfinished(Connection);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Closing would roll back too, but not say so.
        self.0.execute_batch("ROLLBACK").expect("the transaction is open until now");
    }
}
