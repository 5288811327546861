//! What a repair finds while a watcher runs: nothing that comes after is made from what is damaged.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::Value;

use crate::points::restore;
use crate::support::{Repository, text};
use crate::watcher::Watcher;

#[test]
fn a_repair_has_found_damage_in_what_a_watcher_continues() {
    let repository = Repository::new();
    let database = repository.path("notes.db");
    let writer = Connection::open(&database).expect("a connection");
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
                INSERT INTO notes SELECT hex(randomblob(500)) FROM n";
    let made = writer.execute_batch(&format!("PRAGMA journal_mode = wal; CREATE TABLE notes(text TEXT); {rows}"));
    made.expect("a new database");
    let note = || _ = writer.execute("INSERT INTO notes VALUES ('x')", []).expect("it is written");
    let arguments = [text(&database), "--flush-interval", "0.1", "--fold-interval", "0.3"];
    let mut watcher = Watcher::attached(&repository, "notes", &arguments);
    spoil(&largest(&repository.root().join("packs")));
    let repaired = repository.run(&["repair", "--read-data", "--yes", "--json"]);
    assert_eq!(repaired.output.status.code(), Some(3), "{}", repaired.said());
    // The watcher hears of it with its next fold.
    note();
    watcher.wait_for_words("a repair has found damage");
    watcher.wait_for_times("watching from commit", 2);
    note();
    watcher.stop();
    let (restored, _) = restore(&repository, "notes", &["latest"], "restored.db");
    let restored = Connection::open(restored).expect("a connection");
    let count: i64 = restored.query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).expect("a row");
    assert_eq!(count, 502);
    let listed = repository.json(&["snapshots"]);
    let listed = listed["snapshots"].as_array().expect("a list");
    let is_damaged: Vec<bool> = listed.iter().map(|snapshot| snapshot["damaged"] == Value::Bool(true)).collect();
    assert!(is_damaged[0] && is_damaged.last() == Some(&false), "{is_damaged:?}");
    assert!(is_damaged.is_sorted_by(|before, after| before >= after), "{is_damaged:?}");
    repository.run(&["repair", "--read-data", "--drop-affected", "--yes"]).expect_success();
    repository.run(&["check", "--read-data"]).expect_success();
}

fn largest(folder: &Path) -> PathBuf {
    let folders = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let files = files.map(|entry| entry.expect("an entry").path());
    files.max_by_key(|file| file.metadata().expect("it is there").len()).expect("a pack")
}

fn spoil(file: &Path) {
    let mut bytes = fs::read(file).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(file).expect("it is there");
    fs::write(file, bytes).expect("it can be written");
}
