//! Copies in another repository are the states that they are copies of, share what they shared, and are made once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod counted;
mod support;
mod watcher;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use continuum::crypto::aead::Suite;
use continuum::monitor::{Monitor, Silent};
use continuum::ops::copy::{CopyError, CopyOptions, copy, plan_copy};
use continuum::ops::snapshot::Choice;
use counted::{CountedStore, StopAfter};
use rusqlite::Connection;
use serde_json::Value;
use support::{Finished, Repository, hash_of, text};
use tempfile::TempDir;
use watcher::Watcher;

const MIB: u64 = 1 << 20;

/// A source, and an empty destination with another password and cipher.
struct Pair(Repository);

impl Pair {
    fn new() -> Self {
        let pair = Self(Repository::new());
        let init = ["init", "--kdf-memory-mib", "1", "--kdf-passes", "1", "--cipher", "chacha20-poly1305"];
        pair.at_destination(&init).expect_success();
        pair
    }

    fn destination(&self) -> String {
        text(&self.0.path("destination")).to_owned()
    }

    fn at_destination(&self, arguments: &[&str]) -> Finished {
        let mut command = self.0.command(arguments);
        command.env("CONTINUUM_REPOSITORY", self.destination()).env("CONTINUUM_PASSWORD", "another horse");
        Finished::of(arguments, command.output().unwrap())
    }

    fn json_at_destination(&self, arguments: &[&str]) -> Value {
        let output = self.at_destination(&[arguments, &["--json"]].concat()).expect_success();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn copy_command(&self, arguments: &[&str]) -> Command {
        let destination = self.destination();
        let mut command = self.0.command(&[&["copy", "--to", &destination], arguments].concat());
        command.env("CONTINUUM_TO_PASSWORD", "another horse");
        command
    }

    fn copy(&self, arguments: &[&str]) -> Value {
        let output = self.copy_command(arguments).arg("--json").output().unwrap();
        let output = Finished::of(arguments, output).expect_success();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Fails with that code and those words.
    #[track_caller]
    fn copy_fails(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let output = self.copy_command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} expected in {said}");
    }

    /// Bytes of the packs on one side.
    fn pack_bytes(&self, side: &str) -> u64 {
        fn bytes(folder: &Path) -> u64 {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| if entry.path().is_dir() { bytes(&entry.path()) } else { length(&entry.path()) }).sum()
        }
        fn length(path: &Path) -> u64 {
            fs::metadata(path).map_or(0, |metadata| metadata.len())
        }
        bytes(&self.0.path(side).join("packs"))
    }

    /// How many entries the timelines on one side have.
    fn entries(&self, side: &str) -> usize {
        let folders = fs::read_dir(self.0.path(side).join("timelines")).into_iter().flatten().flatten();
        folders.map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten().count()).sum()
    }

    /// Both sides list the same states, but for ids and what was added, and every state of the destination restores.
    #[track_caller]
    fn is_equal(&self) {
        let known = |document: &Value, list: &str| {
            let mut all = document[list].as_array().unwrap().clone();
            for one in &mut all {
                let members = one.as_object_mut().unwrap();
                // A timeline numbers its entries, and the source has some that are no snapshots.
                for own in ["id", "snapshot", "sequence", "added_bytes"] {
                    members.remove(own);
                }
                // For a snapshot, what it added.
                if members.get("kind").is_some_and(|kind| kind != "commit") {
                    members.remove("bytes");
                }
            }
            all
        };
        for (command, list) in [("snapshots", "snapshots"), ("log", "points")] {
            let (here, there) = (self.0.json(&[command]), self.json_at_destination(&[command]));
            assert_eq!(known(&here, list), known(&there, list), "{command}");
        }
        let snapshots = self.json_at_destination(&["snapshots"]);
        for snapshot in snapshots["snapshots"].as_array().unwrap() {
            self.restores(&[snapshot["id"].as_str().unwrap()], snapshot);
        }
        let points = self.json_at_destination(&["log"]);
        for point in points["points"].as_array().unwrap().iter().filter(|point| point["kind"] == "commit") {
            let commit = point["commit"].to_string();
            self.restores(&["--commit", &commit, "--name", point["database"].as_str().unwrap()], point);
        }
        self.at_destination(&["check", "--read-data"]).expect_success();
    }

    #[track_caller]
    fn restores(&self, which: &[&str], expected: &Value) {
        let target = self.0.path("restored.db");
        self.json_at_destination(&[&["restore", "--to", text(&target)], which].concat());
        assert_eq!(expected["blake3"], hash_of(&target), "{which:?}");
        fs::remove_file(&target).unwrap();
    }
}

fn execute(database: &Path, sql: &str) {
    Connection::open(database).unwrap().execute_batch(sql).unwrap();
}

/// Makes a database of about so many MiB that do not shrink.
fn make_database(path: &Path, mib: u64) {
    execute(
        path,
        &format!(
            "PRAGMA journal_mode = WAL; PRAGMA page_size = 4096;
             CREATE TABLE t (id INTEGER PRIMARY KEY, content BLOB);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
             INSERT INTO t SELECT i, randomblob(4000) FROM n;",
            mib * 250
        ),
    );
}

fn change(id: u64) -> String {
    format!("UPDATE t SET content = randomblob(4000) WHERE id = {id}")
}

#[test]
fn every_kind_of_snapshot_is_copied_once() {
    let pair = Pair::new();
    let (orders, notes) = (pair.0.path("orders.db"), pair.0.path("notes.db"));
    make_database(&orders, 6);
    make_database(&notes, 1);
    let take = |strategy: &str| {
        pair.0.json(&["snapshot", text(&orders), "--strategy", strategy, "--tag", strategy, "--tag", "all"]);
    };
    take("full");
    pair.0.json(&["snapshot", text(&notes)]);
    execute(&orders, &change(7));
    take("incremental");
    execute(&orders, "DELETE FROM t WHERE id > 1400; VACUUM; INSERT INTO t VALUES (5000, zeroblob(50000))");
    take("differential");
    watch(&pair, &orders);
    pair.0.json(&["compact", "orders"]);
    pair.0.json(&["compact", "orders", "--full"]);
    execute(&orders, &change(900));
    take("full");

    let dry = pair.copy(&["--dry-run"]);
    assert_eq!((dry["snapshots"].as_array().unwrap().len(), dry["new_pack_bytes"].as_u64()), (9, Some(0)), "{dry}");
    assert!(pair.json_at_destination(&["snapshots"])["snapshots"].as_array().unwrap().is_empty());

    let copied = pair.copy(&[]);
    assert_eq!(copied["snapshots"].as_array().unwrap().len(), 9, "{copied}");
    let (here, there) = (pair.pack_bytes("repository"), pair.pack_bytes("destination"));
    assert!(there <= here + here / 16, "{there} bytes of packs from {here}");
    assert!(copied["read_bytes"].as_u64().unwrap() <= here, "{copied}");
    pair.is_equal();

    let again = pair.copy(&[]);
    assert_eq!((again["already_there"].as_u64(), again["new_packs"].as_u64()), (Some(9), Some(0)), "{again}");
    assert_eq!((again["read_bytes"].as_u64(), again["left_out"].as_array().unwrap().len()), (Some(0), 0), "{again}");

    // Later snapshots read and add what is new in them, a full one too.
    for strategy in ["incremental", "full"] {
        execute(&orders, &change(33));
        take(strategy);
        let more = pair.copy(&["--name", "orders"]);
        assert_eq!(more["snapshots"].as_array().unwrap().len(), 1, "{more}");
        assert!(more["read_bytes"].as_u64().unwrap() < MIB && more["new_pack_bytes"].as_u64().unwrap() < MIB, "{more}");
    }
    pair.is_equal();
    // What is in the destination can be gone on with there.
    execute(&notes, "INSERT INTO t VALUES (9000, zeroblob(5000))");
    let taken = pair.json_at_destination(&["snapshot", text(&notes)]);
    assert_eq!(taken["snapshots"][0]["commit"], 2);
}

/// Captures a few commits one by one.
fn watch(pair: &Pair, database: &Path) {
    let connection = Connection::open(database).unwrap();
    let mut watcher = Watcher::attached(&pair.0, "orders", &[text(database)]);
    for id in 20..26 {
        connection.execute_batch(&change(id)).unwrap();
        std::thread::sleep(Duration::from_millis(120));
    }
    drop(connection);
    watcher.stop();
}

#[test]
fn chosen_snapshots_are_copied_and_older_ones_left_out_after_them() {
    let pair = Pair::new();
    let database = pair.0.path("orders.db");
    make_database(&database, 1);
    let mut ids = Vec::new();
    for id in 1..5 {
        execute(&database, &change(id));
        ids.push(pair.0.snapshot(&database, "orders")["id"].as_str().unwrap().to_owned());
    }
    let copied = pair.copy(&[&ids[1][..12], &ids[2]]);
    assert_eq!(copied["snapshots"].as_array().unwrap().len(), 2, "{copied}");
    let rest = pair.copy(&[]);
    assert_eq!(rest["snapshots"][0]["id"], ids[3].as_str());
    assert_eq!(
        (rest["already_there"].as_u64(), rest["left_out"][0]["id"].as_str()),
        (Some(2), Some(&*ids[0])),
        "{rest}"
    );
    let listed = pair.json_at_destination(&["snapshots"]);
    let commits: Vec<_> = pair.json_at_destination(&["log"])["points"].as_array().unwrap().clone();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 3);
    assert_eq!(commits.iter().map(|point| point["commit"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(3), Some(4)]);
    for snapshot in listed["snapshots"].as_array().unwrap() {
        pair.restores(&[snapshot["id"].as_str().unwrap()], snapshot);
    }
    pair.copy_fails(&["abcdef0123"], 1, &["no snapshot has an id"]);
    pair.copy_fails(&["--name", "others"], 1, &["\"others\""]);
}

#[test]
fn what_cannot_be_right_is_refused() {
    let pair = Pair::new();
    let database = pair.0.path("orders.db");
    make_database(&database, 1);
    pair.0.snapshot(&database, "orders");
    let repository = text(&pair.0.path("repository")).to_owned();
    let run = |command: &mut Command, code: i32, words: &[&str]| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} expected in {said}");
    };
    let mut same = pair.0.command(&["copy", "--to", &repository]);
    run(same.env("CONTINUUM_TO_PASSWORD", "correct horse"), 2, &["same repository"]);
    let absent = text(&pair.0.path("absent")).to_owned();
    run(&mut pair.0.command(&["copy", "--to", &absent]), 1, &["absent: not a continuum repository", "init"]);
    run(pair.copy_command(&[]).env("CONTINUUM_TO_PASSWORD", "wrong"), 4, &["destination: wrong password"]);
    let mut unasked = pair.copy_command(&[]);
    run(
        unasked.env_remove("CONTINUUM_TO_PASSWORD").stdin(std::process::Stdio::null()),
        2,
        &["CONTINUUM_TO_PASSWORD_FILE"],
    );
    let mut by_command = pair.copy_command(&["--dry-run"]);
    by_command.env_remove("CONTINUUM_TO_PASSWORD").env("CONTINUUM_TO_PASSWORD_COMMAND", "echo another horse");
    run(&mut by_command, 0, &[]);

    // Another database of the same name.
    let other = pair.0.path("other.db");
    make_database(&other, 1);
    pair.at_destination(&["snapshot", text(&other), "--name", "orders"]).expect_success();
    pair.copy_fails(&[], 1, &["orders: state 1 is", "hint: "]);
}

#[test]
fn a_watched_destination_is_refused() {
    let pair = Pair::new();
    let database = pair.0.path("orders.db");
    make_database(&database, 1);
    pair.0.snapshot(&database, "orders");
    let mut command = pair.0.command(&["watch", text(&database)]);
    command.env("CONTINUUM_REPOSITORY", pair.destination()).env("CONTINUUM_PASSWORD", "another horse");
    let mut watching = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    // The log begins, has a snapshot, and then a watcher.
    while pair.entries("destination") < 3 {
        assert!(Instant::now() < patience, "nobody watches");
        std::thread::sleep(Duration::from_millis(20));
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
    pair.copy_fails(&[], 1, &["orders: is watched by a process on", "into the destination"]);
}

#[test]
fn a_killed_copy_is_gone_on_with() {
    let pair = Pair::new();
    let database = pair.0.path("orders.db");
    make_database(&database, 100);
    pair.0.snapshot(&database, "orders");
    execute(&database, &change(3));
    pair.0.snapshot(&database, "orders");
    let total = pair.pack_bytes("repository");
    let mut child = pair.copy_command(&[]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while pair.pack_bytes("destination") < 40 * MIB {
        assert!(Instant::now() < patience, "the copy does not get on");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let uploaded = pair.pack_bytes("destination");
    assert!(pair.json_at_destination(&["snapshots"])["snapshots"].as_array().unwrap().is_empty());
    let copied = pair.copy(&[]);
    let added = copied["new_pack_bytes"].as_u64().unwrap();
    assert!(uploaded + added < total + total / 32, "{uploaded} and {added} of {total}");
    assert_eq!(copied["snapshots"].as_array().unwrap().len(), 2, "{copied}");
    pair.is_equal();
}

#[test]
fn an_interrupted_copy_lists_what_it_has_stored() {
    let folder = TempDir::new().unwrap();
    let database = folder.path().join("a.db");
    make_database(&database, 70);
    let stores = [CountedStore::new(), CountedStore::new()];
    let [source, destination] = [Suite::Aes256Gcm, Suite::ChaCha20Poly1305].map(|suite| {
        let store = &stores[usize::from(suite == Suite::ChaCha20Poly1305)];
        counted::make(store, suite, counted::environment(None, 2))
    });
    counted::take(&source, &database, Choice::Full, &Silent).unwrap();
    let total = CountedStore::take(&stores[0].created_pack_bytes);
    let copy_all = |monitor: &dyn Monitor| {
        let plan = plan_copy(&source, &destination, &CopyOptions::default(), monitor).unwrap();
        copy(&source, &destination, plan, monitor, |_| ())
    };
    let stopped = copy_all(&StopAfter::bytes(50 * MIB)).unwrap_err();
    assert!(matches!(stopped, CopyError::Cancelled(_)), "{stopped:?}");
    assert_eq!(stores[1].names("index/").len(), 1);
    let uploaded = CountedStore::take(&stores[1].created_pack_bytes);
    assert!(uploaded > 30 * MIB);
    let summary = copy_all(&Silent).unwrap();
    assert!(uploaded + summary.written.pack_bytes < total + total / 32);
    counted::restore_last(&destination, &folder.path().join("b.db"), &Silent).unwrap();
    assert!(fs::read(&database).unwrap() == fs::read(folder.path().join("b.db")).unwrap());
}

#[test]
fn damage_in_the_source_ends_the_copy_before_it() {
    let pair = Pair::new();
    let database = pair.0.path("orders.db");
    make_database(&database, 1);
    pair.0.snapshot(&database, "orders");
    let packs = |pair: &Pair| {
        let output = Command::new("find").arg(pair.0.path("repository/packs")).args(["-type", "f"]).output().unwrap();
        let names = String::from_utf8(output.stdout).unwrap();
        names.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = packs(&pair);
    execute(&database, "INSERT INTO t SELECT id + 5000, randomblob(4000) FROM t WHERE id <= 100");
    pair.0.snapshot(&database, "orders");
    let new = packs(&pair).into_iter().find(|name| !before.contains(name)).unwrap();
    let mut bytes = fs::read(&new).unwrap();
    bytes[2000..400_000].fill(7);
    fs::write(&new, bytes).unwrap();
    pair.copy_fails(&[], 3, &["source of the copy cannot be read", "hint: "]);
    let listed = pair.json_at_destination(&["snapshots"]);
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1);
    pair.restores(&["latest"], &listed["snapshots"][0]);
}
