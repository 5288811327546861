//! Repositories that were written once and stay readable for ever: `tests/frozen/`, by this program and by the
//! Python reader.
//!
//! `cargo test --test frozen -- --ignored make_frozen` made them; it makes those that are not there yet, and replaces none. A later format gets folders beside them.

mod program;
#[path = "program/watch.rs"]
mod watch;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use program::{PASSWORD, Place, add_rows, make_database};
use rusqlite::Connection;
use serde_json::{Map, Value, json};
use watch::Watch;

/// What a snapshot must still say. Times and hosts are left to the manifest.
const FIELDS: &[&str] =
    &["id", "database", "sequence", "strategy", "tags", "page_size", "page_count", "image_bytes", "blake3"];

fn frozen(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen").join(name)
}

/// What a state must still say. Times and sizes are left to the log.
const STATE_FIELDS: &[&str] = &["database", "commit", "kind", "page_count", "blake3"];

/// A copy of a frozen repository to work on, and its snapshots and states as expected.
fn thaw(name: &str) -> (Place, Vec<Value>, Vec<Value>) {
    let place = Place::new();
    copy(&frozen(name), &place.path("repository"));
    let expected = std::fs::read(frozen("expected.json")).expect("what is expected");
    let expected: Value = serde_json::from_slice(&expected).expect("JSON");
    assert_eq!(expected["password"], PASSWORD);
    let expected = &expected["repositories"][name];
    let list = |field: &str| expected[field].as_array().expect("a list").clone();
    (place, list("snapshots"), list("states"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// The repository's snapshots with the fields of [`FIELDS`], in the order of their ids.
fn listed(place: &Place) -> Vec<Value> {
    let mut snapshots = list(place, "snapshots", "snapshots", FIELDS);
    snapshots.sort_by_key(|snapshot| id(snapshot).to_owned());
    snapshots
}

/// The repository's states with the fields of [`STATE_FIELDS`], in the order of the log.
fn states(place: &Place) -> Vec<Value> {
    list(place, "log", "points", STATE_FIELDS)
}

/// What a command lists, with these fields.
fn list(place: &Place, command: &str, member: &str, fields: &[&str]) -> Vec<Value> {
    let listing = place.json(&[command]);
    assert_eq!(listing["faults"], json!([]));
    let chosen = |item: &Value| -> Value {
        fields.iter().map(|&field| (field.to_owned(), item[field].clone())).collect::<Map<_, _>>().into()
    };
    listing[member].as_array().expect("a list").iter().map(chosen).collect()
}

fn id(snapshot: &Value) -> &str {
    snapshot["id"].as_str().expect("an id")
}

fn check_program(name: &str) {
    let (place, expected, expected_states) = thaw(name);
    assert_eq!(listed(&place), expected);
    assert_eq!(states(&place), expected_states);
    for snapshot in &expected {
        check_image(snapshot, &place.restored(id(snapshot)));
    }
    check_states(&place, &expected_states, |database, commit, target| {
        place.continuum(&["restore", "--commit", commit, "--name", database, "--to", target]);
    });
    place.continuum(&["check", "--read-data"]);
}

fn check_reader(name: &str) {
    let (place, expected, expected_states) = thaw(name);
    let list = String::from_utf8(place.reader(&["list"])).expect("text");
    assert_eq!(list.lines().count(), expected.len());
    for snapshot in &expected {
        let root = snapshot["blake3"].as_str().expect("a hash");
        let line = list.lines().find(|line| line.starts_with(&id(snapshot)[..8])).expect("the snapshot is listed");
        assert!(line.ends_with(root), "{line}");
        check_image(snapshot, &place.read_by_python(id(snapshot)));
    }
    check_states(&place, &expected_states, |database, commit, target| {
        place.reader(&["restore", "--commit", commit, target, "--database", database]);
    });
}

/// Restores each state by its number with `restore`, which gets the database, the number and the path to restore to.
fn check_states(place: &Place, states: &[Value], restore: impl Fn(&str, &str, &str)) {
    for (nth, state) in states.iter().enumerate() {
        let target = place.path(&format!("state-{nth}.db"));
        let database = state["database"].as_str().expect("a name");
        restore(database, &state["commit"].to_string(), target.to_str().expect("a path of UTF-8"));
        check_image(state, &std::fs::read(target).expect("the restored file"));
    }
}

/// The image of a snapshot or a state has the hash that is expected.
fn check_image(expected: &Value, image: &[u8]) {
    assert_eq!(expected["blake3"], blake3::hash(image).to_hex().as_str(), "{expected}");
}

#[test]
fn version_1_is_read() {
    check_program("v1");
}

#[test]
fn version_1_with_chacha20_poly1305_is_read() {
    check_program("v1-chacha");
}

#[test]
fn version_1_after_forget_hold_and_prune_is_read() {
    check_program("v1-lifecycle");
}

#[test]
fn version_1_is_read_by_python() {
    check_reader("v1");
}

#[test]
fn version_1_with_chacha20_poly1305_is_read_by_python() {
    check_reader("v1-chacha");
}

#[test]
fn version_1_after_forget_hold_and_prune_is_read_by_python() {
    check_reader("v1-lifecycle");
}

/// A snapshot of a database, tagged with how it is taken.
fn take_snapshot(place: &Place, path: &Path, strategy: &str, codec: &str) {
    let path = path.to_str().expect("a path of UTF-8");
    let options = ["--strategy", strategy, "--compression", codec, "--tag", strategy, "--tag", codec];
    let taken = place.json(&[&["snapshot"], &options[..], &[path]].concat());
    assert_eq!(taken["snapshots"][0]["strategy"], strategy);
}

fn change(path: &Path, sql: &str) {
    Connection::open(path).expect("the database").execute_batch(sql).expect("a change");
}

/// Snapshots of every strategy and with every codec, of a database that grows and shrinks.
fn freeze_snapshots(place: &Place, name: &str, rows: u32) {
    let path = place.path(&format!("{name}.db"));
    make_database(&path, 4096, rows);
    take_snapshot(place, &path, "full", "zstd");
    change(&path, "UPDATE note SET title = 'changed' WHERE id = 3");
    take_snapshot(place, &path, "incremental", "gzip");
    add_rows(&Connection::open(&path).expect("the database"), 1000, rows / 4);
    take_snapshot(place, &path, "incremental", "lz4");
    change(&path, "DELETE FROM note WHERE id > 1001; VACUUM");
    take_snapshot(place, &path, "incremental", "none");
    change(&path, "UPDATE note SET title = 'again' WHERE id = 5");
    take_snapshot(place, &path, "differential", "zstd");
    add_rows(&Connection::open(&path).expect("the database"), 2000, rows / 8);
    take_snapshot(place, &path, "incremental", "zstd");
    place.continuum(&["compact", name]);
    change(&path, "UPDATE note SET title = 'anew' WHERE id = 6");
    take_snapshot(place, &path, "incremental", "zstd");
    place.continuum(&["compact", name, "--full"]);
}

/// Commits that one watcher captured and folded, and others that one captured which was killed.
fn freeze_commits(place: &Place, name: &str, rows: u32) {
    let path = place.path(&format!("{name}.db"));
    make_database(&path, 1024, rows);
    let writer = Connection::open(&path).expect("the database");
    writer.execute_batch("PRAGMA journal_mode = wal").expect("WAL mode");
    let watched = |first: u32| {
        let watch = Watch::new(place, &path);
        watch.await_commit(name, first.into());
        for nth in first..first + 3 {
            writer.execute("UPDATE note SET title = 'watched' WHERE id = ?", [nth]).expect("a change");
            // Commits that follow each other at once may be captured as one.
            sleep(Duration::from_millis(200));
        }
        watch.await_commit(name, u64::from(first) + 3);
        watch
    };
    watched(1).stop();
    watched(4).kill();
}

/// What forget, hold and prune leave: snapshots that are gone with their packs and entries, tombstones, one that is forgotten, one that is held.
fn freeze_lifecycle(place: &Place, name: &str) {
    let path = place.path(&format!("{name}.db"));
    make_database(&path, 4096, 12);
    for nth in 0..20 {
        change(&path, &format!("UPDATE note SET title = 'round {nth}' WHERE id = {}", nth % 12 + 1));
        take_snapshot(place, &path, if nth % 5 == 0 { "full" } else { "incremental" }, "zstd");
    }
    let taken = listed(place);
    let oldest = taken.iter().min_by_key(|snapshot| snapshot["sequence"].as_u64()).map(id).expect("some were taken");
    place.continuum(&["hold", oldest, "--reason", "an audit"]);
    let forget = ["forget", "--name", name, "--min-count", "1", "--max-share", "100%", "--yes"];
    place.continuum(&[&forget[..], &["--keep-last", "4", "--grace", "0"]].concat());
    place.continuum(&["prune", "--min-age", "0", "--repack-below", "95%"]);
    place.continuum(&[&forget[..], &["--keep-last", "2", "--grace", "36500d"]].concat());
}

#[test]
#[ignore = "writes the repositories that are not there yet"]
fn make_frozen() {
    let written =
        std::fs::read(frozen("expected.json")).map(|text| serde_json::from_slice::<Value>(&text).expect("JSON"));
    let mut expected = written.unwrap_or_else(|_| json!({ "password": PASSWORD, "repositories": {} }));
    for (name, cipher) in [("v1", "aes-256-gcm"), ("v1-chacha", "chacha20-poly1305"), ("v1-lifecycle", "aes-256-gcm")] {
        // They are never replaced.
        if frozen(name).exists() {
            continue;
        }
        let place = Place::new();
        place.continuum(&["init", "--cipher", cipher, "--kdf-memory-mib", "1", "--kdf-passes", "1"]);
        match name {
            "v1" => {
                freeze_snapshots(&place, "notes", 60);
                freeze_commits(&place, "watched", 8);
            }
            "v1-chacha" => freeze_snapshots(&place, "tiny", 16),
            _ => freeze_lifecycle(&place, "kept"),
        }
        copy(&place.path("repository"), &frozen(name));
        expected["repositories"][name] = json!({ "snapshots": listed(&place), "states": states(&place) });
    }
    let text = serde_json::to_string_pretty(&expected).expect("JSON") + "\n";
    std::fs::write(frozen("expected.json"), text).expect("the file can be written");
}
