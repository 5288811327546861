//! A watched application does not notice the watcher: nobody's lock is waited for, whatever the application does to its WAL.

use std::path::Path;
use std::thread::{sleep, spawn};
use std::time::Duration;

use rusqlite::Connection;

use crate::points::restore;
use crate::support::{Repository, companion, text};
use crate::watcher::Watcher;

/// Long enough for a watcher to have seen everything and to be idle.
const IDLE: Duration = Duration::from_millis(700);

/// A checkpoint that restarts the WAL waits for readers, with the write lock held: a watcher that stays pinned would hold up every writer.
#[test]
fn checkpoints_that_wait_for_readers_do_not_wait_for_the_watcher() {
    let (repository, writer, mut watcher) = watched();
    let database = repository.path("notes.db");
    let other = connect(&database, Duration::from_secs(5));
    for kind in ["PASSIVE", "FULL", "RESTART", "TRUNCATE", "RESTART", "TRUNCATE"] {
        note(&writer, kind);
        sleep(IDLE);
        let busy: i64 = other
            .query_row(&format!("PRAGMA wal_checkpoint({kind})"), [], |row| row.get(0))
            .expect("it is no error to be busy");
        assert_eq!(busy, 0, "{kind}: held up by the watcher until the busy timeout was over");
        if kind == "TRUNCATE" {
            let length = companion(&database, "-wal").metadata().expect("it is there").len();
            assert_eq!(length, 0, "the WAL was not cut");
        }
    }
    watcher.stop();
    let (restored, _) = restore(&repository, "notes", &["latest"], "restored.db");
    let count: i64 =
        connect(&restored, IDLE).query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).expect("a row");
    assert_eq!(count, 6);
}

/// A writer that gives up sooner than the checkpoint beside it still gets its turn.
#[test]
fn writers_do_not_wait_for_a_checkpoint_that_waits_for_the_watcher() {
    let (repository, writer, mut watcher) = watched();
    let database = repository.path("notes.db");
    writer.busy_timeout(Duration::from_secs(3)).expect("a setting of the connection");
    for round in 0..3 {
        note(&writer, "before");
        sleep(IDLE);
        let beside = database.clone();
        let checkpoint = spawn(move || {
            let other = connect(&beside, Duration::from_secs(10));
            other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)).expect("it ends")
        });
        sleep(Duration::from_millis(50));
        let committed = writer.execute("INSERT INTO notes VALUES ('beside')", []);
        let busy = checkpoint.join().expect("it does not panic");
        assert!(committed.is_ok(), "round {round}: {committed:?}, checkpoint busy: {busy}");
    }
    watcher.stop();
}

/// The application's last connection closes, and others come: the watcher's pins are nobody's business.
#[test]
fn connections_come_and_go() {
    let (repository, writer, mut watcher) = watched();
    let database = repository.path("notes.db");
    drop(writer);
    for round in 0..10 {
        let writer = connect(&database, Duration::from_secs(5));
        note(&writer, &format!("round {round}"));
        if round % 3 == 2 {
            sleep(IDLE);
        }
    }
    watcher.stop();
    let said = watcher.said();
    assert_eq!(said.matches("watching from commit").count(), 1, "nothing was lost: {said}");
    let (restored, _) = restore(&repository, "notes", &["latest"], "restored.db");
    let count: i64 =
        connect(&restored, IDLE).query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).expect("a row");
    assert_eq!(count, 10);
}

fn watched() -> (Repository, Connection, Watcher) {
    let repository = Repository::new();
    let database = repository.path("notes.db");
    let writer = connect(&database, Duration::from_secs(5));
    let made = writer.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE notes(text TEXT)");
    made.expect("a new database");
    let watcher = Watcher::attached(&repository, "notes", &[text(&database), "--flush-interval", "0.1"]);
    (repository, writer, watcher)
}

fn connect(path: &Path, busy_timeout: Duration) -> Connection {
    let connection = Connection::open(path).expect("a connection");
    connection.busy_timeout(busy_timeout).expect("a setting of the connection");
    connection
}

fn note(connection: &Connection, text: &str) {
    connection.execute("INSERT INTO notes VALUES (?)", [text]).expect("it is written");
}
