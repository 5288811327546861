//! Choosing a state and restoring it: by number, by time, in place; what `log` and `compact` say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod scratch;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::Arc;

use continuum::base::clock::{FixedClock, UnixMicros};
use continuum::base::entropy::OsEntropy;
use continuum::chunk::codec::Compression;
use continuum::monitor::Silent;
use continuum::ops::snapshot::{Choice, SnapshotOptions, snapshot};
use continuum::repo::{self, Environment};
use continuum::source::CaptureOptions;
use continuum::store::local::LocalStore;
use continuum::store::state::LocalState;
use rusqlite::Connection;
use scratch::{PASSWORD, Scratch, execute, finish, hash_of, make_database};

/// A place with three states of `a.db`, and the hash of each.
fn three_states() -> (Scratch, Vec<String>) {
    let scratch = Scratch::with_repository();
    let database = scratch.path("a.db");
    make_database(&database, 3000);
    let mut hashes = Vec::new();
    for state in 0..3 {
        execute(&database, &format!("UPDATE orders SET item = 'changed {state}' WHERE id = {}", 10 + state));
        let taken = scratch.json(&["snapshot", "a.db"]);
        assert_eq!(taken["snapshots"][0]["blake3"], hash_of(&database));
        hashes.push(hash_of(&database));
    }
    (scratch, hashes)
}

#[test]
fn states_are_found_by_number_and_by_time() {
    let (scratch, hashes) = three_states();
    let log = scratch.json(&["log", "a"]);
    let points = log["points"].as_array().unwrap();
    assert_eq!(points.iter().map(|point| point["commit"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    for (i, hash) in hashes.iter().enumerate() {
        let (commit, to) = ((i + 1).to_string(), format!("{i}.db"));
        let restored = scratch.json(&["restore", "--commit", &commit, "--to", &to]);
        assert_eq!((restored["blake3"].as_str(), hash_of(&scratch.path(&to))), (Some(hash.as_str()), hash.clone()));
        let at = points[i]["captured"].as_str().unwrap();
        let restored = scratch.json(&["restore", "--at", at, "--to", &format!("at-{i}.db")]);
        assert_eq!(restored["blake3"], *hash);
    }
    let since = points[1]["captured"].as_str().unwrap();
    assert_eq!(scratch.json(&["log", "--since", since])["points"].as_array().unwrap().len(), 2);
    scratch.run(&["restore", "--at", "3 days ago", "--to", "x.db"]).expect(1, &["captured by then", "log"]);
    scratch.run(&["restore", "--commit", "4", "--to", "x.db"]).expect(1, &["number 4", "log"]);
    scratch.run(&["restore", "--at", "soon", "--to", "x.db"]).expect(2, &["10 minutes ago"]);
    scratch.run(&["restore", "--at", "1 day", "--commit", "1", "--to", "x.db"]).expect(2, &["cannot be used with"]);
    scratch.run(&["log", "b"]).expect(1, &["\"b\""]);
}

#[test]
fn in_place_writes_only_what_differs_and_keeps_the_file() {
    let (scratch, hashes) = three_states();
    let database = scratch.path("a.db");
    let inode = fs::metadata(&database).unwrap().ino();
    let restored = scratch.json(&["restore", "--commit", "1", "--in-place", "--to", "a.db"]);
    assert_eq!((hash_of(&database), fs::metadata(&database).unwrap().ino()), (hashes[0].clone(), inode));
    let written = restored["written_bytes"].as_u64().unwrap();
    assert!(written > 0 && written <= 4 * 4096, "{written} of {}", restored["bytes"]);
    // A database that grew, and one that shrank.
    execute(&database, "INSERT INTO orders (item) SELECT item FROM orders");
    scratch.json(&["restore", "latest", "--in-place", "--to", "a.db"]);
    assert_eq!(hash_of(&database), hashes[2]);
    execute(&database, "DELETE FROM orders WHERE id > 10; VACUUM");
    scratch.json(&["restore", "latest", "--in-place", "--to", "a.db"]);
    assert_eq!(hash_of(&database), hashes[2]);
    scratch.run(&["restore", "latest", "--in-place", "--to", "none.db"]).expect(1, &["no database", "--in-place"]);
}

#[test]
fn in_place_is_refused_while_a_process_has_the_database_open() {
    let (scratch, hashes) = three_states();
    let database = scratch.path("a.db");
    let connection = Connection::open(&database).unwrap();
    connection.execute_batch("PRAGMA journal_mode = wal; DELETE FROM orders WHERE id = 1").unwrap();
    // Other processes copy and compare: closing a descriptor of our own would drop the connection's locks.
    let before = scratch.path("before");
    finish(Command::new("cp").args([&database, &before])).expect(0, &[]);
    scratch
        .run(&["restore", "--commit", "1", "--in-place", "--to", "a.db"])
        .expect(1, &["open", "stop the application"]);
    finish(Command::new("cmp").args([&database, &before])).expect(0, &[]);
    // What a crash leaves in the WAL belongs to the old state: it is set aside.
    finish(Command::new("cp").args([scratch.path("a.db-wal"), scratch.path("kept")])).expect(0, &[]);
    drop(connection);
    fs::rename(scratch.path("kept"), scratch.path("a.db-wal")).unwrap();
    let restored = scratch.json(&["restore", "--commit", "1", "--in-place", "--to", "a.db"]);
    assert_eq!((hash_of(&database), restored["set_aside"].as_array().unwrap().len()), (hashes[0].clone(), 1));
    let rows: i64 =
        Connection::open(&database).unwrap().query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 3000);
}

#[test]
fn compaction_keeps_every_state_and_shortens_the_stack() {
    let (scratch, hashes) = three_states();
    let folded = scratch.json(&["compact", "a"]);
    assert_eq!((folded["layers_before"].as_u64(), folded["layers_after"].as_u64()), (Some(3), Some(2)));
    let full = scratch.json(&["compact", "a", "--full"]);
    assert_eq!((full["layers_before"].as_u64(), full["layers_after"].as_u64()), (Some(2), Some(1)));
    assert!(scratch.json(&["compact", "a", "--full"])["id"].is_null());
    for (i, id) in [&folded["id"], &full["id"]].into_iter().enumerate() {
        let restored = scratch.json(&["restore", id.as_str().unwrap(), "--to", &format!("{i}.db")]);
        assert_eq!(restored["blake3"], hashes[2]);
    }
    for (i, hash) in hashes.iter().enumerate() {
        let restored = scratch.json(&["restore", "--commit", &(i + 1).to_string(), "--to", &format!("c{i}.db")]);
        assert_eq!(restored["blake3"], *hash);
    }
    scratch.run(&["compact", "b"]).expect(1, &["\"b\""]);
    scratch.run(&["check", "--read-data"]).expect(0, &[]);
}

#[test]
fn a_clock_that_jumps_hides_and_reorders_nothing() {
    let scratch = Scratch::with_repository();
    let database = scratch.path("a.db");
    make_database(&database, 100);
    let store = Arc::new(LocalStore::new(scratch.repository()));
    let state = Some(LocalState::new(scratch.path("clock-state")));
    let times = [UnixMicros(100), UnixMicros(50), UnixMicros(200)];
    for (i, time) in times.into_iter().enumerate() {
        execute(&database, &format!("UPDATE orders SET item = 'at {i}' WHERE id = 3"));
        let environment = Environment {
            clock: Arc::new(FixedClock(time)),
            entropy: Arc::new(OsEntropy),
            state: state.clone(),
            upload_threads: 0,
            fetch_threads: 0,
        };
        let repository = repo::open(store.clone(), &PASSWORD.into(), environment).unwrap();
        let options = SnapshotOptions {
            name: "a".into(),
            choice: Choice::Auto,
            tags: Vec::new(),
            host: "host".into(),
            compression: Compression::default(),
            verify: true,
            capture: CaptureOptions::default(),
            take_over: false,
        };
        snapshot(&repository, &database, &options, &Silent).unwrap();
    }
    let log = scratch.json(&["log", "a"]);
    let commits: Vec<_> = log["points"].as_array().unwrap().iter().map(|point| point["commit"].as_u64()).collect();
    assert_eq!(commits, [Some(1), Some(2), Some(3)]);
    for (time, commit) in [("00:00:00.00006", 2), ("00:00:00.0001", 2), ("00:00:00.00015", 2), ("00:00:01", 3)] {
        let at = format!("1970-01-01T{time}Z");
        let restored = scratch.json(&["restore", "--at", &at, "--to", &format!("{}.db", time.replace(':', "-"))]);
        assert_eq!(restored["commit"], commit, "{at}");
    }
    scratch.run(&["restore", "--at", "1970-01-01T00:00:00.00004Z", "--to", "x.db"]).expect(1, &["captured by then"]);
    assert_eq!(scratch.json(&["restore", "latest", "--to", "last.db"])["commit"], 3);
}

/// Pages that a database loses and gains again may be zeros without ever having been written: the last page of a blob of zeros is one.
#[test]
fn pages_that_come_back_as_zeros_are_not_what_they_were() {
    for after in [&["snapshot", "a.db", "--strategy", "differential"][..], &["snapshot", "a.db", "--strategy", "full"]]
    {
        check_zeros_that_come_back(after);
    }
    check_zeros_that_come_back(&["compact", "a"]);
    check_zeros_that_come_back(&["compact", "a", "--full"]);
}

/// A database shrinks and grows by pages of zeros, an incremental snapshot each; then `after` is run, and its snapshot restored.
fn check_zeros_that_come_back(after: &[&str]) {
    let scratch = Scratch::with_repository();
    let database = scratch.path("a.db");
    let insert = |blob: &str| {
        format!(
            "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 40)
             INSERT INTO b SELECT value, {blob} FROM n;"
        )
    };
    let steps = [
        format!(
            "PRAGMA page_size = 4096; CREATE TABLE b (id INTEGER PRIMARY KEY, blob); {}",
            insert("randomblob(8000)")
        ),
        "DELETE FROM b; VACUUM".to_owned(),
        insert("zeroblob(8000)"),
    ];
    for sql in &steps {
        execute(&database, sql);
        scratch.json(&["snapshot", "a.db", "--strategy", "incremental"]);
    }
    scratch.json(after);
    scratch.run(&["restore", "latest", "--to", "restored.db"]).expect(0, &[]);
    assert_eq!(hash_of(&scratch.path("restored.db")), hash_of(&database), "{after:?}");
}
