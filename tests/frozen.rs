//! Repositories that were written once and stay readable for ever: `tests/frozen/`, by this program and by the
//! Python reader.
//!
//! `cargo test --test frozen -- --ignored make_frozen` made them; it refuses to replace one. A later format gets folders beside them.

mod program;

use std::path::{Path, PathBuf};

use program::{PASSWORD, Place, add_rows, make_database};
use rusqlite::Connection;
use serde_json::{Map, Value, json};

/// What a snapshot must still say. Times and hosts are left to the manifest.
const FIELDS: &[&str] =
    &["id", "database", "sequence", "strategy", "tags", "page_size", "page_count", "image_bytes", "blake3"];

fn frozen(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen").join(name)
}

/// A copy of a frozen repository to work on, and its snapshots as expected.
fn thaw(name: &str) -> (Place, Vec<Value>) {
    let place = Place::new();
    copy(&frozen(name), &place.path("repository"));
    let expected = std::fs::read(frozen("expected.json")).expect("what is expected");
    let expected: Value = serde_json::from_slice(&expected).expect("JSON");
    assert_eq!(expected["password"], PASSWORD);
    (place, expected["repositories"][name].as_array().expect("a list of snapshots").clone())
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
    let listing = place.json(&["snapshots"]);
    assert_eq!(listing["faults"], json!([]));
    let fields = |snapshot: &Value| -> Value {
        FIELDS.iter().map(|&field| (field.to_owned(), snapshot[field].clone())).collect::<Map<_, _>>().into()
    };
    let mut snapshots: Vec<Value> = listing["snapshots"].as_array().expect("a list").iter().map(fields).collect();
    snapshots.sort_by_key(|snapshot| id(snapshot).to_owned());
    snapshots
}

fn id(snapshot: &Value) -> &str {
    snapshot["id"].as_str().expect("an id")
}

fn check_program(name: &str) {
    let (place, expected) = thaw(name);
    assert_eq!(listed(&place), expected);
    for snapshot in &expected {
        let image = place.restored(id(snapshot));
        assert_eq!(snapshot["blake3"], blake3::hash(&image).to_hex().as_str());
    }
    place.continuum(&["check", "--read-data"]);
}

fn check_reader(name: &str) {
    let (place, expected) = thaw(name);
    let list = String::from_utf8(place.reader(&["list"])).expect("text");
    assert_eq!(list.lines().count(), expected.len());
    for snapshot in &expected {
        let root = snapshot["blake3"].as_str().expect("a hash");
        let line = list.lines().find(|line| line.starts_with(&id(snapshot)[..8])).expect("the snapshot is listed");
        assert!(line.ends_with(root), "{line}");
        assert_eq!(root, blake3::hash(&place.read_by_python(id(snapshot))).to_hex().as_str());
    }
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
fn version_1_is_read_by_python() {
    check_reader("v1");
}

#[test]
fn version_1_with_chacha20_poly1305_is_read_by_python() {
    check_reader("v1-chacha");
}

/// Snapshots of a database that grows, one a codec.
fn take_snapshots(place: &Place, name: &str, rows: u32, codecs: &[&str]) {
    let path = place.path(&format!("{name}.db"));
    make_database(&path, 4096, rows);
    for (nth, codec) in (1..).zip(codecs) {
        place.continuum(&[
            "snapshot".as_ref(),
            "--tag".as_ref(),
            codec.as_ref(),
            "--compression".as_ref(),
            codec.as_ref(),
            path.as_os_str(),
        ]);
        add_rows(&Connection::open(&path).expect("the database"), 1000 * nth, rows / 4);
    }
}

#[test]
#[ignore = "writes the repositories"]
fn make_frozen() {
    assert!(!frozen("expected.json").exists(), "frozen repositories are never replaced");
    let mut expected = Map::new();
    for (name, cipher) in [("v1", "aes-256-gcm"), ("v1-chacha", "chacha20-poly1305")] {
        let place = Place::new();
        place.continuum(&["init", "--cipher", cipher, "--kdf-memory-mib", "1", "--kdf-passes", "1"]);
        if name == "v1" {
            take_snapshots(&place, "notes", 60, &["zstd", "gzip", "lz4"]);
            take_snapshots(&place, "second", 8, &["zstd"]);
        } else {
            take_snapshots(&place, "tiny", 8, &["zstd"]);
        }
        copy(&place.path("repository"), &frozen(name));
        expected.insert(name.to_owned(), listed(&place).into());
    }
    let expected = json!({ "password": PASSWORD, "repositories": expected });
    let text = serde_json::to_string_pretty(&expected).expect("JSON") + "\n";
    std::fs::write(frozen("expected.json"), text).expect("the file can be written");
}
