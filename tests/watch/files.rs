//! Files that appear, vanish and are replaced under a watcher; databases without a WAL; several databases and their configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::ledger::{Ledger, PATIENCE};
use crate::points::{self, Point, assert_in_order, assert_kept, restore, spread};
use crate::support::{Repository, companion, text};
use crate::watcher::Watcher;

const NAME: &str = "notes";

const SOON: [&str; 4] = ["--flush-interval", "0.05", "--scan-interval", "0.2"];

#[test]
fn a_database_that_appears_later() {
    let (repository, path) = place();
    let mut watcher = Watcher::start(&repository, &[&[text(&path)], &SOON[..]].concat());
    watcher.wait_for_words("notes.db");
    let writer = database(&path, "wal", "one");
    watcher.wait_for_words("notes: watching from commit");
    note(&writer, "two");
    wait_for_notes(&repository, &["one", "two"], &mut watcher);
    note(&writer, "three");
    watcher.stop();
    assert_eq!(latest(&repository), ["one", "two", "three"]);
}

#[test]
fn a_database_that_vanishes_and_comes_back() {
    let (repository, path) = place();
    let writer = database(&path, "wal", "one");
    let mut watcher = watch(&repository, &path);
    note(&writer, "two");
    wait_for_notes(&repository, &["one", "two"], &mut watcher);
    note(&writer, "last words");
    drop(writer);
    // The file's number is not free for the one that comes after it.
    fs::hard_link(&path, path.with_extension("kept")).expect("a second name");
    remove(&path);
    watcher.wait_for_words("No such file");
    let before = points::list(&repository, NAME);
    assert_eq!(latest(&repository), ["one", "two", "last words"], "committed before the file was removed");
    let writer = database(&path, "wal", "another");
    watcher.wait_for_times("notes: watching from commit", 2);
    note(&writer, "life");
    wait_for_notes(&repository, &["another", "life"], &mut watcher);
    watcher.stop();
    check_new_lineage(&repository, &before);
}

/// Stopping stores what is left, also if layers have to be folded for that.
#[test]
fn a_watcher_that_is_stopped_on_a_full_stack_of_layers() {
    let (repository, path) = place();
    let writer = database(&path, "wal", "0");
    for number in 1..=32 {
        note(&writer, &number.to_string());
        let taken = repository.snapshot(&path, NAME);
        assert!(number < 32 || taken["layers"] == 32, "this case is about a full stack: {taken}");
    }
    for number in 33..=35 {
        let mut watcher = watch(&repository, &path);
        note(&writer, &number.to_string());
        watcher.stop();
        assert_eq!(latest(&repository).last(), Some(&number.to_string()));
    }
    assert_in_order(&points::list(&repository, NAME));
}

#[test]
fn a_database_that_is_replaced_by_renaming() {
    let (repository, path) = place();
    let writer = database(&path, "wal", "one");
    let mut watcher = watch(&repository, &path);
    note(&writer, "last words");
    wait_for_notes(&repository, &["one", "last words"], &mut watcher);
    let before = points::list(&repository, NAME);
    drop(writer);
    let other = repository.path("other.db");
    drop(database(&other, "wal", "another"));
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(companion(&path, suffix));
    }
    fs::rename(&other, &path).expect("renamed");
    watcher.wait_for_times("notes: watching from commit", 2);
    let writer = Connection::open(&path).expect("a database");
    note(&writer, "life");
    wait_for_notes(&repository, &["another", "life"], &mut watcher);
    watcher.stop();
    check_new_lineage(&repository, &before);
}

fn check_new_lineage(repository: &Repository, before: &[Point]) {
    let log = points::list(repository, NAME);
    assert_in_order(&log);
    assert_kept(before, &log);
    let lineages: Vec<u64> = log.iter().filter_map(|point| point.lineage).collect();
    assert!(lineages.is_sorted() && lineages[0] < lineages[lineages.len() - 1], "another file: {lineages:?}");
    let last = before.last().expect("there were points").commit.to_string();
    let (restored, _) = restore(repository, NAME, &["--commit", &last], "before.db");
    assert_eq!(notes(&restored).last().map(String::as_str), Some("last words"));
}

#[test]
fn a_database_with_a_rollback_journal() {
    let (repository, path) = place();
    let writer = database(&path, "delete", "one");
    let mut watcher = watch(&repository, &path);
    for text in ["two", "three"] {
        note(&writer, text);
        wait_for_last_note(&repository, text, &mut watcher);
    }
    // It changes its mode under the watcher, and back.
    writer.execute_batch("PRAGMA journal_mode = wal").expect("nobody reads");
    note(&writer, "four");
    wait_for_last_note(&repository, "four", &mut watcher);
    watcher.wait_for_times("notes: watching from commit", 2);
    note(&writer, "five");
    wait_for_last_note(&repository, "five", &mut watcher);
    watcher.stop();
    assert_eq!(latest(&repository), ["one", "two", "three", "four", "five"]);
    assert_in_order(&points::list(&repository, NAME));
}

/// Every snapshot of it is a committed state, and the last one is the last.
#[test]
fn a_ledger_with_a_rollback_journal() {
    let repository = Repository::new();
    let ledger = Ledger::new(repository.path("ledger.db"), 21);
    let mut application = ledger.run("delete", 1000);
    ledger.wait_for_ack(5);
    let arguments = [&[text(&ledger.database)], &SOON[..]].concat();
    let mut watcher = Watcher::attached(&repository, "ledger", &arguments);
    sleep(Duration::from_secs(4));
    assert!(application.is_running() && watcher.is_running(), "{}", watcher.said());
    application.kill();
    let acked = ledger.last_ack();
    watcher.stop();
    let log = points::list(&repository, "ledger");
    assert_in_order(&log);
    let restored: Vec<PathBuf> = spread(&log, 30)
        .iter()
        .map(|point| {
            restore(&repository, "ledger", &["--commit", &point.commit.to_string()], &format!("{}.db", point.commit)).0
        })
        .collect();
    let lengths = ledger.lengths(&restored);
    assert!(lengths.is_sorted() && lengths.len() > 3, "{lengths:?}");
    assert!(
        lengths.last() >= Some(&acked),
        "{acked} was acknowledged before the watcher was stopped: {lengths:?}, {}",
        watcher.said()
    );
}

/// One journal for all of them, and one that cannot be attached does not keep the others from being captured.
#[test]
fn several_databases_of_a_configuration() {
    let repository = Repository::new();
    let paths = ["a.db", "b.db", "missing.db"].map(|name| repository.path(name));
    let writers = [database(&paths[0], "wal", "of a"), database(&paths[1], "wal", "of b")];
    let listed: Vec<String> = paths.iter().zip(["first", "second", "third"]).map(entry).collect();
    let config = repository.path("continuum.toml");
    fs::write(&config, listed.concat()).expect("a file");
    let mut watcher =
        Watcher::attached(&repository, "second", &["--config", text(&config), "--flush-interval", "0.05"]);
    watcher.wait_for_words("first: watching from commit");
    for number in 0..20 {
        writers.iter().for_each(|writer| note(writer, &format!("note {number}")));
    }
    watcher.kill();
    drop(writers);
    let mut watcher = Watcher::attached(&repository, "second", &["--config", text(&config)]);
    watcher.wait_for_words("first: watching from commit");
    watcher.stop();
    for (name, first) in [("first", "of a"), ("second", "of b")] {
        let (restored, _) = restore(&repository, name, &["latest"], "restored.db");
        let notes = notes(&restored);
        assert_eq!((notes[0].as_str(), notes.len(), notes[20].as_str()), (first, 21, "note 19"), "{name}");
        assert_in_order(&points::list(&repository, name));
    }
}

fn entry((path, name): (&PathBuf, &str)) -> String {
    format!("[[database]]\npath = {:?}\nname = {name:?}\n", text(path))
}

fn place() -> (Repository, PathBuf) {
    let repository = Repository::new();
    let path = repository.folder("database").join("notes.db");
    (repository, path)
}

fn watch(repository: &Repository, path: &Path) -> Watcher {
    Watcher::attached(repository, NAME, &[&[text(path)], &SOON[..]].concat())
}

/// A database with one note, made beside its place, so that it appears whole.
fn database(path: &Path, journal_mode: &str, first: &str) -> Connection {
    let made = path.with_extension("made");
    let connection = Connection::open(&made).expect("a new database");
    let statements = format!("CREATE TABLE notes(text TEXT); INSERT INTO notes VALUES ('{first}')");
    connection.execute_batch(&statements).expect("a table");
    drop(connection);
    fs::rename(&made, path).expect("renamed");
    let connection = Connection::open(path).expect("it is there");
    connection.busy_timeout(PATIENCE).expect("a setting of the connection");
    let set = connection.execute_batch(&format!("PRAGMA journal_mode = {journal_mode}"));
    set.expect("nobody reads");
    connection
}

#[track_caller]
fn note(connection: &Connection, text: &str) {
    connection.execute("INSERT INTO notes VALUES (?)", [text]).expect("it is written");
}

fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(companion(path, suffix));
    }
    assert!(!path.exists());
}

fn notes(database: &Path) -> Vec<String> {
    let connection = Connection::open(database).expect("a restored database");
    let mut statement = connection.prepare("SELECT text FROM notes ORDER BY rowid").expect("a table");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

fn latest(repository: &Repository) -> Vec<String> {
    notes(&restore(repository, NAME, &["latest"], "latest.db").0)
}

#[track_caller]
fn wait_for_notes(repository: &Repository, expected: &[&str], watcher: &mut Watcher) {
    wait_for(repository, watcher, &|found| found == expected);
}

#[track_caller]
fn wait_for_last_note(repository: &Repository, expected: &str, watcher: &mut Watcher) {
    wait_for(repository, watcher, &|found| found.last().is_some_and(|last| last == expected));
}

#[track_caller]
fn wait_for(repository: &Repository, watcher: &mut Watcher, is_it: &dyn Fn(&[String]) -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = latest(repository);
        if is_it(&found) {
            return;
        }
        assert!(watcher.is_running(), "the watcher ended: {}", watcher.said());
        assert!(Instant::now() < end, "`latest` stays at {found:?}: {}", watcher.said());
        sleep(Duration::from_millis(50));
    }
}
