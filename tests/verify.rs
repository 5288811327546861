//! `continuum verify`: what it finds, what it keeps, and what it does not mistake for damage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod scratch;

use std::fs;
use std::os::unix::fs::FileExt;

use rusqlite::Connection;
use scratch::{Scratch, execute, patch};
use serde_json::Value;

const SCHEMA: &str = "
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer REFERENCES customers, total REAL, note TEXT, picture BLOB);
    CREATE INDEX by_note ON orders (note COLLATE NOCASE, total);
    CREATE TABLE settings (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
    CREATE VIEW dear AS SELECT * FROM orders WHERE total > 100;
    CREATE TRIGGER checks BEFORE INSERT ON orders BEGIN SELECT raise(ABORT, 'no') WHERE new.total < 0; END;
    CREATE VIRTUAL TABLE words USING fts5 (note);
    INSERT INTO customers VALUES (1, 'Ada'), (2, 'Bob');
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
    INSERT INTO orders SELECT i, 1 + i % 2, i / 3.0, 'Note ' || i, zeroblob(i % 10 * 1000) FROM n;
    INSERT INTO settings VALUES ('a', 1), ('b', x'00');
    INSERT INTO words SELECT note FROM orders;";

fn with_database() -> Scratch {
    let scratch = Scratch::with_repository();
    execute(&scratch.path("a.db"), SCHEMA);
    scratch
}

/// Takes a snapshot.
fn take(scratch: &Scratch) {
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
}

/// What became of each check, by its kind.
fn outcomes(record: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = record["checks"].as_array().unwrap();
    checks.iter().map(|check| (text(&check["kind"]), text(&check["outcome"]))).collect()
}

/// Verifies, and expects this exit code; the documents of the snapshots.
#[track_caller]
fn verify(scratch: &Scratch, more: &[&str], code: i32) -> Vec<Value> {
    let outcome = scratch.run(&[&["--json", "verify"], more].concat()).expect(code, &[]);
    serde_json::from_str::<Value>(&outcome.stdout).unwrap()["verified"].as_array().unwrap().clone()
}

#[track_caller]
fn expect(record: &Value, kind: &str, outcome: &str, words: &str) {
    let found = record["checks"].as_array().unwrap().iter().find(|check| check["kind"] == kind).unwrap();
    assert_eq!(found["outcome"], outcome, "{record:#}");
    assert!(found["detail"].as_str().unwrap().contains(words), "{words:?} expected in {record:#}");
}

#[test]
fn a_sound_snapshot_is_proved_and_shown_so() {
    let scratch = with_database();
    take(&scratch);
    assert!(scratch.json(&["snapshots"])["snapshots"][0]["verified"].is_null());
    let records = verify(&scratch, &["--sha256", "--restore", "--scratch", "."], 0);
    let kinds = ["hashes", "schema", "data", "integrity", "restore"];
    assert_eq!(outcomes(&records[0]), kinds.map(|kind| (kind.to_owned(), "passed".to_owned())));
    expect(&records[0], "schema", "passed", "1 triggers, 1 views");
    // Hashes that others compute.
    scratch.run(&["restore", "--to", "restored.db"]).expect(0, &[]);
    let sum = std::process::Command::new("sha256sum").arg(scratch.path("restored.db")).output().unwrap();
    assert_eq!(String::from_utf8(sum.stdout).unwrap().split(' ').next(), records[0]["sha256"].as_str());
    let shown = &scratch.json(&["snapshots"])["snapshots"][0]["verified"];
    assert_eq!((&shown["passed"], outcomes(shown).len()), (&true.into(), 5));
    assert!(shown["restore_seconds"].as_f64().unwrap() > 0.0);
    assert!(scratch.run(&["snapshots"]).stdout.contains("restored"));
    let left: Vec<String> = scratch.files("").into_iter().filter(|name| name.contains("verify")).collect();
    assert_eq!(left, [""; 0]);
    scratch.run(&["check", "--read-data"]).expect(0, &[]);
}

#[test]
fn snapshots_are_chosen_and_compared_with_the_one_verified_before() {
    let scratch = with_database();
    take(&scratch);
    assert_eq!(verify(&scratch, &[], 0).len(), 1);
    execute(&scratch.path("a.db"), "DROP VIEW dear; CREATE TABLE new (a)");
    take(&scratch);
    execute(&scratch.path("b.db"), "CREATE TABLE t (a)");
    scratch.run(&["snapshot", "b.db"]).expect(0, &[]);
    let records = verify(&scratch, &["--no-record"], 0);
    assert_eq!(records.len(), 2);
    expect(&records[0], "schema", "passed", "-view dear; +table new");
    assert_eq!(verify(&scratch, &["--all", "--no-record"], 0).len(), 3);
    assert_eq!(verify(&scratch, &["--since", "1 hour ago", "--name", "a", "--no-record"], 0).len(), 2);
    assert_eq!(verify(&scratch, &["--all", "--unverified"], 0).len(), 2);
    assert_eq!(verify(&scratch, &["--all", "--unverified"], 0).len(), 0);
    scratch.run(&["verify", "--name", "none"]).expect(1, &["none"]);
    scratch.run(&["verify", "ffff"]).expect(1, &["ffff"]);
    scratch.run(&["verify", "--scratch", "."]).expect(2, &["--restore"]);
    scratch.run(&["verify", "--restore", "--scratch", "nowhere"]).expect(1, &["nowhere", "--scratch"]);
}

/// The byte offset of the root page of an object.
fn root_offset(scratch: &Scratch, name: &str) -> u64 {
    let connection = Connection::open(scratch.path("a.db")).unwrap();
    let root: u32 =
        connection.query_row("SELECT rootpage FROM sqlite_schema WHERE name = ?1", [name], |row| row.get(0)).unwrap();
    let page_bytes: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    u64::from((root - 1) * page_bytes)
}

#[test]
fn damage_that_the_source_had_is_found() {
    let scratch = with_database();
    let offset = root_offset(&scratch, "sqlite_autoindex_customers_1");
    let file = fs::OpenOptions::new().write(true).open(scratch.path("a.db")).unwrap();
    // An index without entries.
    file.write_all_at(&[0x0a, 0, 0, 0, 0, 0, 0, 0], offset).unwrap();
    drop(file);
    take(&scratch);
    let records = verify(&scratch, &[], 3);
    expect(&records[0], "hashes", "passed", "as captured");
    expect(&records[0], "data", "failed", "not in the index sqlite_autoindex_customers_1");
    expect(&records[0], "integrity", "failed", "integrity_check");
    assert!(scratch.run(&["snapshots"]).stdout.contains("FAILED"));
}

#[test]
fn values_that_no_declaration_allows_are_found() {
    let scratch = with_database();
    execute(
        &scratch.path("a.db"),
        "CREATE TABLE plain (a ANY); INSERT INTO plain VALUES ('text');
         PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE TABLE plain (a INTEGER) STRICT' WHERE name = 'plain';",
    );
    take(&scratch);
    let records = verify(&scratch, &[], 3);
    expect(&records[0], "data", "failed", "plain.a holds text and is declared INTEGER");
}

#[test]
fn damage_in_the_repository_is_found_and_named() {
    let scratch = with_database();
    take(&scratch);
    let pack = scratch.object("packs/");
    patch(&scratch.repository().join(&pack), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 4096].fill(0);
    });
    let records = verify(&scratch, &["--restore"], 3);
    expect(&records[0], "hashes", "failed", &pack);
    expect(&records[0], "restore", "failed", &pack);
    // A destination that is away is no damage, and leaves no record.
    let count = scratch.objects().len();
    fs::rename(scratch.repository(), scratch.path("away")).unwrap();
    scratch.run(&["verify", "--retry-for", "0"]).expect(1, &["repository"]);
    fs::rename(scratch.path("away"), scratch.repository()).unwrap();
    assert_eq!(scratch.objects().len(), count);
}

#[test]
fn what_needs_the_application_is_skipped_and_said() {
    let scratch = with_database();
    let connection = Connection::open(scratch.path("a.db")).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE german (name TEXT);
             CREATE VIEW computed AS SELECT price(total) FROM orders;
             PRAGMA writable_schema = ON;
             UPDATE sqlite_schema SET sql = 'CREATE TABLE german (name TEXT COLLATE german)' WHERE name = 'german';",
        )
        .unwrap();
    drop(connection);
    execute(&scratch.path("a.db"), "INSERT INTO german VALUES ('ä')");
    take(&scratch);
    let records = verify(&scratch, &[], 0);
    expect(&records[0], "schema", "skipped", "no such function: price");
    assert_eq!(outcomes(&records[0])[0].1, "passed");
}

#[test]
fn orphans_are_counted_and_no_damage() {
    let scratch = with_database();
    execute(&scratch.path("a.db"), "PRAGMA foreign_keys = OFF; DELETE FROM customers WHERE id = 2");
    take(&scratch);
    expect(&verify(&scratch, &[], 0)[0], "integrity", "passed", "1000 rows without the row that a foreign key names");
}

#[test]
fn records_cannot_be_altered_or_forged() {
    let scratch = with_database();
    take(&scratch);
    verify(&scratch, &[], 0);
    let name = scratch.object("verifications/");
    let whole = fs::read(scratch.repository().join(&name)).unwrap();
    for at in [0, 5, 20, whole.len() / 2, whole.len() - 1] {
        patch(&scratch.repository().join(&name), |bytes| bytes[at] ^= 1);
        scratch.run(&["check"]).expect(3, &[&name]);
        let listed = scratch.run(&["--json", "snapshots"]).expect(3, &[]);
        assert!(serde_json::from_str::<Value>(&listed.stdout).unwrap()["snapshots"][0]["verified"].is_null());
        fs::write(scratch.repository().join(&name), &whole).unwrap();
    }
    // Under the right name for its bytes, and still not by somebody with the keys.
    let mut forged = whole.clone();
    *forged.last_mut().unwrap() ^= 1;
    let forged_name = format!("verifications/{}", blake3::hash(&forged).to_hex());
    fs::write(scratch.repository().join(&forged_name), forged).unwrap();
    scratch.run(&["check"]).expect(3, &[&forged_name]);
}
