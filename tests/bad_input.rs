//! What the program says to bad input, and how it ends: exit codes and the essential words on standard error, from the real
//! program.
//!
//! Some of it needs a right that the machine may not give (mounting a small file system, not being root); such a part is
//! skipped with a line that says so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod scratch;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ciborium::Value;
use scratch::{CHEAP, Outcome, PASSWORD, Scratch, execute, finish, hash_of, init, make_database, patch};

/// Bytes of an object's header, and of the checksum at the end of a plain one.
const HEADER_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 32;

/// A command line, the exit code that it ends with, and words of its standard error.
type Case<'a> = (&'a [&'a str], i32, &'a [&'a str]);

fn check(scratch: &Scratch, cases: &[Case]) {
    for (arguments, code, words) in cases {
        scratch.run(arguments).expect(*code, words);
    }
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Makes the checksum at the end of a plain object agree with what is before it.
fn fix_checksum(object: &mut Vec<u8>) {
    object.truncate(object.len() - CHECKSUM_BYTES);
    object.extend(blake3::hash(object).as_bytes());
}

// The repository and its passwords.

#[test]
fn a_wrong_password_is_said_in_the_same_words_everywhere() {
    let scratch = Scratch::with_snapshot();
    let repository = scratch.repository().display().to_string();
    let expected = format!("error: {repository}: wrong password\n");
    for arguments in [
        &["snapshots"][..],
        &["snapshot", "a.db"],
        &["restore", "--to", "b.db"],
        &["check"],
        &["stats"],
        &["key", "list"],
        &["key", "add"],
        &["key", "remove", "00"],
    ] {
        for password in ["wrong", "", "correct horse ", "Correct horse"] {
            let outcome = finish(scratch.command().args(arguments).env("CONTINUUM_PASSWORD", password)).expect(4, &[]);
            assert_eq!(outcome.stderr, expected);
        }
    }
    assert!(!scratch.path("b.db").exists());
}

#[test]
fn passwords_come_from_variable_file_or_command() {
    let scratch = Scratch::with_snapshot();
    fs::write(scratch.path("password"), format!("{PASSWORD}\n")).unwrap();
    fs::write(scratch.path("empty"), "").unwrap();
    let with = |variable: &str, value: &str| {
        finish(scratch.command().env_remove("CONTINUUM_PASSWORD").env(variable, value).arg("snapshots"))
    };
    with("CONTINUUM_PASSWORD_FILE", "password").expect(0, &[]);
    with("CONTINUUM_PASSWORD_FILE", "absent").expect(1, &["CONTINUUM_PASSWORD_FILE: cannot read absent"]);
    with("CONTINUUM_PASSWORD_FILE", "empty").expect(4, &["wrong password"]);
    with("CONTINUUM_PASSWORD_COMMAND", "cat password").expect(0, &[]);
    with("CONTINUUM_PASSWORD_COMMAND", "exit 7").expect(1, &["CONTINUUM_PASSWORD_COMMAND", "exit status: 7"]);
    with("CONTINUUM_PASSWORD_COMMAND", "printf '\\377'").expect(1, &["CONTINUUM_PASSWORD_COMMAND", "no UTF-8"]);
    with("UNRELATED", "").expect(2, &["no terminal", "CONTINUUM_PASSWORD_FILE"]);
}

#[test]
fn init_refuses_an_empty_password_and_a_missing_one() {
    let scratch = Scratch::new();
    let init = |password: Option<&str>| {
        let mut command = scratch.command();
        command.arg("init").args(CHEAP).env_remove("CONTINUUM_PASSWORD");
        if let Some(password) = password {
            command.env("CONTINUUM_PASSWORD", password);
        }
        finish(&mut command)
    };
    init(Some("")).expect(2, &["an empty password"]);
    init(None).expect(2, &["no terminal", "hint: set CONTINUUM_PASSWORD"]);
    assert!(!scratch.repository().exists(), "nothing was made");
}

#[test]
fn places_that_are_no_repository_are_refused() {
    let scratch = Scratch::with_snapshot();
    fs::create_dir(scratch.path("empty")).unwrap();
    for place in ["empty", "absent"] {
        let hint = format!("hint: make one with `continuum -r {place} init`");
        check(
            &scratch,
            &[
                (&["-r", place, "snapshots"], 1, &["not a continuum repository", place, &hint]),
                (&["-r", place, "snapshot", "a.db"], 1, &["not a continuum repository"]),
                (&["-r", place, "restore", "--to", "b.db"], 1, &["not a continuum repository"]),
                (&["-r", place, "check"], 1, &["not a continuum repository"]),
                (&["-r", place, "stats"], 1, &["not a continuum repository"]),
                (&["-r", place, "key", "list"], 1, &["not a continuum repository"]),
            ],
        );
    }
    assert!(!scratch.path("absent").exists());
    check(
        &scratch,
        &[
            (&["-r", "", "snapshots"], 2, &["name is empty"]),
            (&["-r", "ftp://host/x", "snapshots"], 2, &["ftp", "not supported", "hint: name a folder"]),
            (&["-r", "s3:bucket/x", "snapshots"], 2, &["no URL", "hint: write s3://"]),
            (&["-r", "s3://key:hunter2@bucket/x", "snapshots"], 2, &["secret", "hint: credentials come from"]),
            (&["-r", "here", "-r", "here", "snapshots"], 2, &["here is named twice"]),
            (&["-r", "here", "sync"], 2, &["one destination alone"]),
            (&["-r", "a.db", "snapshots"], 1, &["a.db"]),
        ],
    );
    finish(scratch.command().env_remove("CONTINUUM_REPOSITORY").arg("snapshots"))
        .expect(2, &["no repository named", "hint: use -r PLACE"]);
}

#[test]
fn init_twice_is_refused_and_changes_nothing() {
    let scratch = Scratch::with_snapshot();
    let before = scratch.objects();
    init(&scratch, &[]).expect(1, &["a repository exists there already", "hint: "]);
    assert_eq!(scratch.objects(), before);
}

#[test]
fn of_two_inits_at_once_exactly_one_wins() {
    for _ in 0..10 {
        let scratch = Scratch::new();
        let start = || {
            let mut command = scratch.command();
            command.arg("init").args(CHEAP).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let children = [start(), start(), start()];
        let outcomes = children.map(|child| Outcome::of("init".into(), child.wait_with_output().unwrap()));
        let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|outcome| outcome.code == Some(0));
        assert_eq!(won.len(), 1);
        for outcome in lost {
            outcome.expect(1, &["a repository exists there already"]);
        }
        scratch.run(&["check", "--read-data"]).expect(0, &[]);
        assert_eq!(scratch.json(&["key", "list"])["slots"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_newer_format_asks_for_a_newer_program() {
    let scratch = Scratch::with_snapshot();
    patch(&scratch.path("repository/config"), |config| {
        config[4] = 2;
        fix_checksum(config);
    });
    for arguments in [&["snapshots"][..], &["check"], &["snapshot", "a.db"], &["restore", "--to", "b.db"]] {
        scratch.run(arguments).expect(3, &["config", "format version 2, newer than the version 1", "newer continuum"]);
    }
}

/// The entry of a CBOR map.
fn entry<'a>(map: &'a mut Value, key: &str) -> &'a mut Value {
    let entries = map.as_map_mut().unwrap();
    &mut entries.iter_mut().find(|(name, _)| name.as_text() == Some(key)).unwrap().1
}

#[test]
fn costs_of_a_slot_beyond_the_ceiling_are_refused_before_they_are_paid() {
    for (field, value) in [("memory_kib", 4 << 20), ("passes", 1000), ("lanes", 1000), ("memory_kib", 0), ("passes", 0)]
    {
        let scratch = Scratch::with_snapshot();
        let slot = scratch.object("keys/");
        patch(&scratch.repository().join(&slot), |object| {
            let body = object[HEADER_BYTES..object.len() - CHECKSUM_BYTES].to_vec();
            let mut slot: Value = ciborium::from_reader(&body[..]).unwrap();
            let mut again = Vec::new();
            ciborium::into_writer(&slot, &mut again).unwrap();
            assert_eq!(again, body, "the encoding is the canonical one");
            *entry(entry(&mut slot, "kdf"), field) = Value::Integer(value.into());
            object.truncate(HEADER_BYTES);
            ciborium::into_writer(&slot, &mut *object).unwrap();
            object.extend([0; CHECKSUM_BYTES]);
            fix_checksum(object);
        });
        scratch.run(&["snapshots"]).expect(1, &[&slot, "no key", "because: key derivation cost outside the limits"]);
    }
}

#[test]
fn keys_are_added_listed_and_removed() {
    let scratch = Scratch::with_snapshot();
    let slots = || -> Vec<(String, String)> {
        let document = scratch.json(&["key", "list"]);
        let text = |slot: &serde_json::Value, member: &str| slot[member].as_str().unwrap().to_owned();
        document["slots"].as_array().unwrap().iter().map(|slot| (text(slot, "slot"), text(slot, "label"))).collect()
    };
    let first = slots()[0].0.clone();
    check(
        &scratch,
        &[
            (&["key", "remove", &first], 1, &[&first, "is the last one"]),
            (&["key", "remove", "zz"], 1, &["no key slot begins with \"zz\"", "key list"]),
            (&["key", "add", "--label", &"x".repeat(256)], 2, &["--label", "255"]),
            (&["key", "add", "--kdf-memory-mib", "1025"], 2, &["1025"]),
        ],
    );
    let add = |password: &str| {
        let arguments = [&["key", "add", "--label", "office"], &CHEAP[..]].concat();
        finish(scratch.command().args(arguments).env("CONTINUUM_NEW_PASSWORD", password))
    };
    add("").expect(2, &["an empty password"]);
    finish(scratch.command().args(["key", "add"])).expect(2, &["no terminal"]);
    add("second").expect(0, &[]);
    assert_eq!(slots().len(), 2);
    scratch.run(&["key", "remove", ""]).expect(1, &["2 key slots begin with", "more digits"]);
    let with_second =
        |arguments: &[&str]| finish(scratch.command().args(arguments).env("CONTINUUM_PASSWORD", "second"));
    with_second(&["check"]).expect(0, &[]);
    with_second(&["key", "remove", &first[..12]]).expect(0, &[]);
    scratch.run(&["check"]).expect(4, &["wrong password"]);
    with_second(&["restore", "--to", "b.db"]).expect(0, &[]);
    assert_eq!(hash_of(&scratch.path("b.db")), hash_of(&scratch.path("a.db")));
    let last = scratch.object("keys/").replace("keys/", "");
    with_second(&["key", "remove", &last]).expect(1, &["is the last one"]);
}

// Damage.

fn damage(path: &Path, what: &str) {
    let middle = fs::metadata(path).unwrap().len() as usize / 2;
    match what {
        "missing" => fs::remove_file(path).unwrap(),
        "empty" => patch(path, Vec::clear),
        "halved" => patch(path, |bytes| bytes.truncate(middle)),
        "flipped" => patch(path, |bytes| bytes[middle] ^= 4),
        other => panic!("{other}"),
    }
}

#[test]
fn damage_of_each_kind_is_named() {
    for kind in ["config", "keys/", "packs/", "index/", "timelines/"] {
        for what in ["missing", "empty", "halved", "flipped"] {
            let scratch = Scratch::with_snapshot();
            let name = scratch.object(kind);
            damage(&scratch.repository().join(&name), what);
            let (code, word) = match (kind, what) {
                ("config", "missing") => (1, "not a continuum repository (it has no config)"),
                ("keys/", "missing") => (3, "no usable key slot"),
                ("index/", "missing") => (3, "is in no index segment"),
                _ => (3, name.as_str()),
            };
            scratch.run(&["check", "--read-data"]).expect(code, &[word]);
            let restored = scratch.run(&["restore", "latest", "--to", "b.db"]);
            if kind == "packs/" && what == "flipped" && restored.code == Some(0) {
                // The bit was one of the filler between the chunks, which a restore does not read.
                assert_eq!(hash_of(&scratch.path("b.db")), hash_of(&scratch.path("a.db")));
                continue;
            }
            restored.expect(code, &[word]);
            assert!(!scratch.path("b.db").exists(), "{name} {what}: a target");
            assert_eq!(scratch.files(""), ["a.db", "repository", "state"], "{name} {what}: something was left");
        }
    }
}

#[test]
fn a_repository_put_back_to_an_older_copy_is_noticed() {
    let scratch = Scratch::with_snapshot();
    let copy = |from: &str, to: &str| finish(Command::new("cp").arg("-a").args([scratch.path(from), scratch.path(to)]));
    copy("repository", "older").expect(0, &[]);
    execute(&scratch.path("a.db"), "DELETE FROM orders WHERE id = 3");
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    fs::rename(scratch.repository(), scratch.path("newer")).unwrap();
    copy("older", "repository").expect(0, &[]);
    check(
        &scratch,
        &[
            (&["check"], 3, &["rolled back or altered"]),
            (&["snapshots"], 3, &["rolled back or altered"]),
            (&["snapshot", "a.db"], 3, &["rolled back or altered", "hint: "]),
            (&["restore", "--to", "b.db"], 3, &["rolled back or altered", "hint: "]),
        ],
    );
    assert!(!scratch.path("b.db").exists());
    let listed = scratch.run(&["--json", "snapshots"]).expect(3, &[]);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let id = listed["snapshots"][0]["id"].as_str().unwrap();
    scratch.run(&["restore", id, "--to", "b.db"]).expect(0, &["notice: ", "rolled back or altered"]);
    fs::remove_dir_all(scratch.path("state")).unwrap();
    scratch.run(&["check"]).expect(0, &[]);
}

// Sources.

#[test]
fn sources_that_are_no_databases_are_refused() {
    let scratch = Scratch::with_snapshot();
    let before = scratch.objects();
    fs::write(scratch.path("text"), "no database ".repeat(1000)).unwrap();
    fs::write(scratch.path("short"), "SQLite format 3\0").unwrap();
    fs::write(scratch.path("zero"), "").unwrap();
    fs::create_dir(scratch.path("folder")).unwrap();
    std::os::unix::fs::symlink("nowhere", scratch.path("dangling")).unwrap();
    finish(Command::new("mkfifo").arg(scratch.path("fifo"))).expect(0, &[]);
    fs::copy(scratch.path("a.db"), scratch.path("half")).unwrap();
    patch(&scratch.path("half"), |bytes| bytes.truncate(bytes.len() / 2));
    fs::copy(scratch.path("a.db"), scratch.path("page_size")).unwrap();
    patch(&scratch.path("page_size"), |bytes| bytes[16..18].copy_from_slice(&[3, 0]));
    check(
        &scratch,
        &[
            (&["snapshot", "text"], 1, &["text", "not a SQLite database", "SQLCipher"]),
            (&["snapshot", "short"], 1, &["short", "too short for a SQLite database: 16 bytes"]),
            (&["snapshot", "zero"], 1, &["zero", "the file is empty"]),
            (&["snapshot", "absent"], 1, &["absent: open failed", "No such file"]),
            (&["snapshot", "dangling"], 1, &["dangling: open failed", "No such file"]),
            (&["snapshot", "folder"], 1, &["folder: not a file"]),
            (&["snapshot", "fifo"], 1, &["fifo: not a file"]),
            (&["snapshot", "/dev/null"], 1, &["/dev/null: not a file"]),
            (&["snapshot", "half"], 1, &["half"]),
            (&["snapshot", "page_size"], 1, &["page size 768"]),
        ],
    );
    assert_eq!(scratch.objects().len(), before.len(), "no snapshot of any");
    if is_root() {
        println!("skipped: an unreadable file (root reads everything)");
    } else {
        fs::copy(scratch.path("a.db"), scratch.path("secret")).unwrap();
        fs::set_permissions(scratch.path("secret"), fs::Permissions::from_mode(0o000)).unwrap();
        scratch.run(&["snapshot", "secret"]).expect(1, &["secret", "ermission denied"]);
    }
    scratch.run(&["snapshot", "absent", "a.db", "zero"]).expect(1, &["absent: open failed", "zero"]);
    assert_eq!(scratch.json(&["snapshots"])["snapshots"].as_array().unwrap().len(), 2, "a failure keeps no other away");
}

/// A process that runs a Python script until its standard input is closed; it has printed a line when this returns.
fn python(script: &str, arguments: &[PathBuf]) -> Option<Child> {
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    Some(child).filter(|_| line.starts_with("ready"))
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_database_that_is_locked_exclusively_is_said_to_be() {
    let script = "import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute('PRAGMA locking_mode = EXCLUSIVE')
connection.execute('BEGIN EXCLUSIVE')
connection.execute('UPDATE orders SET item = 1 WHERE id = 1')
print('ready', flush=True)
sys.stdin.read()
connection.execute('ROLLBACK')";
    let scratch = Scratch::with_snapshot();
    let before = scratch.objects();
    make_database(&scratch.path("wal.db"), 50);
    execute(&scratch.path("wal.db"), "PRAGMA journal_mode = wal");
    for database in ["a.db", "wal.db"] {
        let Some(holder) = python(script, &[scratch.path(database)]) else {
            println!("skipped: a locked database (there is no python3)");
            return;
        };
        scratch.run(&["snapshot", database, "--busy-timeout", "1"]).expect(
            1,
            &[database, "locked by another process for longer than 1 s", "locking_mode=EXCLUSIVE", "--busy-timeout"],
        );
        end(holder);
    }
    assert_eq!(scratch.objects(), before);
    scratch.run(&["snapshot", "a.db", "wal.db"]).expect(0, &[]);
}

// Destinations.

/// A small file system in memory, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let options = format!("size={size}");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).stderr(Stdio::null());
        let mounted = command.status().is_ok_and(|status| status.success());
        mounted.then_some(Self(path))
    }

    fn make_read_only(&self) {
        finish(Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0)).expect(0, &[]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_fails_cleanly_and_leaves_what_was_stored() {
    let scratch = Scratch::new();
    let Some(_disk) = SmallDisk::mount(scratch.path("disk"), "3m") else {
        println!("skipped: a full disk (mounting is not permitted)");
        return;
    };
    make_database(&scratch.path("small.db"), 100);
    make_database(&scratch.path("large.db"), 60_000);
    let place = ["-r", "disk/repository"];
    let run = |arguments: &[&str]| scratch.run(&[&place, arguments].concat());
    run(&[&["init"], &CHEAP[..]].concat()).expect(0, &[]);
    run(&["snapshot", "small.db"]).expect(0, &[]);
    run(&["snapshot", "large.db"]).expect(1, &["packs/", "No space left", "hint: make room"]);
    run(&["check", "--read-data"]).expect(0, &[]);
    run(&["restore", "--name", "small", "--to", "b.db"]).expect(0, &[]);
    assert_eq!(hash_of(&scratch.path("b.db")), hash_of(&scratch.path("small.db")));
    assert!(scratch.files("disk/repository/tmp").is_empty(), "temporary files are removed");

    // The other way: the target's disk is full.
    let scratch = Scratch::with_repository();
    let Some(_disk) = SmallDisk::mount(scratch.path("disk"), "1m") else { return };
    make_database(&scratch.path("large.db"), 30_000);
    scratch.run(&["snapshot", "large.db"]).expect(0, &[]);
    scratch.run(&["restore", "--to", "disk/large.db"]).expect(1, &["disk", "No space left"]);
    assert_eq!(scratch.files("disk"), [""; 0], "nothing is left on the full disk");
}

#[test]
fn a_target_that_cannot_be_written_is_said_to_be() {
    let scratch = Scratch::with_snapshot();
    scratch.run(&["restore", "--to", "absent/b.db"]).expect(1, &["absent: create a file in failed", "No such file"]);
    scratch.run(&["restore", "--to", "a.db/b.db"]).expect(1, &["a.db"]);
    if let Some(disk) = SmallDisk::mount(scratch.path("disk"), "1m") {
        disk.make_read_only();
        scratch.run(&["restore", "--to", "disk/b.db"]).expect(1, &["disk: create a file in failed", "Read-only"]);
        scratch.run(&["-r", "disk/repository", "init"]).expect(1, &["disk/repository", "Read-only", "hint: "]);
    } else {
        println!("skipped: a read-only file system (mounting is not permitted)");
    }
    if is_root() {
        println!("skipped: a folder without write permission (root writes everywhere)");
    } else {
        fs::create_dir(scratch.path("closed")).unwrap();
        fs::set_permissions(scratch.path("closed"), fs::Permissions::from_mode(0o500)).unwrap();
        scratch.run(&["restore", "--to", "closed/b.db"]).expect(1, &["closed", "ermission denied"]);
    }
}

#[test]
fn a_standing_target_is_refused_or_set_aside_but_never_deleted() {
    for standing in
        [&["b.db"][..], &["b.db", "b.db-wal"], &["b.db-wal"], &["b.db-journal"], &["b.db", "b.db-shm", "b.db-wal"]]
    {
        let scratch = Scratch::with_snapshot();
        fs::create_dir(scratch.path("target")).unwrap();
        for name in standing {
            fs::write(scratch.path("target").join(name), name).unwrap();
        }
        let first = format!("target/{}: exists already", standing[0]);
        scratch.run(&["restore", "--to", "target/b.db"]).expect(1, &[&first, "--force"]);
        assert_eq!(scratch.files("target"), standing);
        let document = scratch.json(&["restore", "--to", "target/b.db", "--force"]);
        assert_eq!(hash_of(&scratch.path("target/b.db")), hash_of(&scratch.path("a.db")));
        let aside = document["set_aside"].as_array().unwrap();
        assert_eq!(aside.len(), standing.len());
        for moved in aside {
            let name = |member: &str| PathBuf::from(moved[member].as_str().unwrap());
            let was = name("from").file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(fs::read_to_string(scratch.path("").join(name("to"))).unwrap(), was);
        }
        assert_eq!(scratch.files("target").len(), standing.len() + 1);
        execute(&scratch.path("target/b.db"), "SELECT count(*) FROM orders");
    }
    let scratch = Scratch::with_snapshot();
    fs::create_dir(scratch.path("folder")).unwrap();
    scratch.run(&["restore", "--to", "folder"]).expect(1, &["folder: is a folder"]);
    scratch.run(&["restore", "--to", "folder", "--force"]).expect(1, &["folder: is a folder"]);
    std::os::unix::fs::symlink("nowhere", scratch.path("link")).unwrap();
    scratch.run(&["restore", "--to", "link"]).expect(1, &["link: exists already"]);
    assert!(!scratch.path("nowhere").exists());
    scratch.run(&["restore"]).expect(2, &["--to"]);
}

// Arguments.

#[test]
fn snapshots_that_are_not_meant_are_not_restored() {
    let scratch = Scratch::with_repository();
    scratch.run(&["restore", "--to", "x.db"]).expect(1, &["no snapshot yet"]);
    make_database(&scratch.path("a.db"), 10);
    make_database(&scratch.path("b.db"), 10);
    scratch.run(&["snapshot", "a.db", "b.db"]).expect(0, &[]);
    check(
        &scratch,
        &[
            (&["restore", "zz", "--to", "x.db"], 1, &["no snapshot has an id that begins with \"zz\"", "hint: "]),
            (&["restore", "latest", "--to", "x.db"], 1, &["several databases: a, b", "--name"]),
            (&["restore", "", "--to", "x.db"], 1, &["2 snapshots have ids that begin with", "more digits"]),
            (&["restore", "--name", "c", "--to", "x.db"], 1, &["no snapshot of a database named \"c\""]),
        ],
    );
    assert!(!scratch.path("x.db").exists());
    scratch.run(&["restore", "--name", "b", "--to", "x.db"]).expect(0, &[]);
    assert_eq!(hash_of(&scratch.path("x.db")), hash_of(&scratch.path("b.db")));
}

#[test]
fn bad_options_are_refused_before_anything_is_done() {
    let scratch = Scratch::with_snapshot();
    let before = scratch.objects();
    fs::create_dir(scratch.path("folder")).unwrap();
    let long = "x".repeat(256);
    let many: Vec<&str> = ["snapshot", "a.db"].into_iter().chain(["--tag", "t"].repeat(65)).collect();
    let levels = "--compression-level";
    check(
        &scratch,
        &[
            (&[], 2, &["Usage"]),
            (&["unknown"], 2, &["unknown"]),
            (&["snapshot"], 2, &["no database named"]),
            (&["snapshot", "a.db", "--name", "a/b"], 2, &["\"a/b\"", "no name for a database"]),
            (&["snapshot", "a.db", "--name", ""], 2, &["no name for a database", "--name"]),
            (&["snapshot", "a.db", "--name", ".."], 2, &["no name for a database"]),
            (&["snapshot", "a.db", "--name", "a\nb"], 2, &["no name for a database"]),
            (&["snapshot", "a.db", "--name", &long], 2, &["no name for a database"]),
            (&["snapshot", "a.db", "b.db", "--name", "x"], 2, &["--name names one database"]),
            (&["snapshot", "a.db", "folder/a.db"], 2, &["would both be named \"a\"", "--name"]),
            (&["snapshot", "a.db", "--tag", ""], 2, &["--tag"]),
            (&["snapshot", "a.db", "--tag", &long], 2, &["--tag"]),
            (&["snapshot", "a.db", "--tag", "a\tb"], 2, &["--tag"]),
            (&many, 2, &["--tag: at most 64"]),
            (&["snapshot", "a.db", levels, "0"], 2, &["1 to 19"]),
            (&["snapshot", "a.db", levels, "20"], 2, &["1 to 19"]),
            (&["snapshot", "a.db", "--compression", "gzip", levels, "10"], 2, &["1 to 9"]),
            (&["snapshot", "a.db", "--compression", "lz4", levels, "1"], 2, &["no levels"]),
            (&["snapshot", "a.db", "--compression", "none", levels, "1"], 2, &["no levels"]),
            (&["snapshot", "a.db", "--compression", "brotli"], 2, &["brotli", "zstd"]),
            (&["snapshot", "a.db", "--strategy", "magic"], 2, &["magic"]),
            (&["snapshot", "a.db", "--busy-timeout", "-1"], 2, &["-1"]),
            (&["snapshot", "a.db", "--quiet", "--verbose"], 2, &["--quiet"]),
            (&["init", "--cipher", "rot13"], 2, &["rot13"]),
            (&["init", "--kdf-passes", "0"], 2, &["0"]),
            (&["init", "--kdf-passes", "17"], 2, &["17"]),
            (&["completions", "tcsh"], 2, &["tcsh"]),
        ],
    );
    assert_eq!(scratch.objects(), before);
}

/// Runs a script with the limits of open files that it sets, in which `$CONTINUUM` is the program.
fn limited(scratch: &Scratch, script: &str) -> Outcome {
    let program = scratch.command();
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(scratch.path("")).env("CONTINUUM", program.get_program());
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    finish(&mut shell)
}

#[test]
fn a_watcher_of_more_databases_than_it_may_open_is_refused_and_a_soft_limit_is_raised() {
    let scratch = Scratch::with_repository();
    let names: Vec<String> = (0..12).map(|i| format!("w{i}.db")).collect();
    for name in &names {
        make_database(&scratch.path(name), 5);
        execute(&scratch.path(name), "PRAGMA journal_mode = wal");
    }
    limited(&scratch, "ulimit -n 100; exec \"$CONTINUUM\" watch w*.db").expect(1, &["12 databases need", "ulimit -n"]);
    let script = "ulimit -Sn 100; timeout -s TERM 6 \"$CONTINUUM\" watch w*.db; exit 0";
    let watched = limited(&scratch, script).expect(0, &["watching from commit 1"]);
    assert_eq!(watched.stderr.matches("watching from commit 1").count(), names.len(), "{}", watched.stderr);
}
