//! Kills at any moment leave the old or the new state, whole; interruptions end cleanly.
//!
//! The program works on a database of some tens of MiB in a child process that is killed after a delay which a seeded
//! generator chooses; what is left is checked with all data, and what had been stored is restored and compared by hash.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod scratch;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use scratch::{Outcome, Scratch, execute, hash_of};

/// Rows of 4,000 random bytes, one to a page: about 21 MiB.
const ROWS: u32 = 5200;
const SNAPSHOT_KILLS: u64 = 25;
const RESTORE_KILLS: u64 = 15;

/// Delays up to a little more than the work takes when it is left alone, from a seeded generator (xorshift64).
struct Delays {
    seed: u64,
    longest: Duration,
}

impl Delays {
    fn after_timing(seed: u64, work: impl FnOnce()) -> Self {
        let started = Instant::now();
        work();
        Self { seed, longest: started.elapsed().mul_f64(1.4) }
    }

    fn next(&mut self) -> Duration {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.longest.mul_f64((self.seed >> 11) as f64 / (1u64 << 53) as f64)
    }
}

fn make_large_database(path: &Path) {
    execute(
        path,
        &format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, content BLOB);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
             INSERT INTO t SELECT i, randomblob(4000) FROM n;"
        ),
    );
}

fn with_large_database() -> Scratch {
    let scratch = Scratch::with_repository();
    make_large_database(&scratch.path("a.db"));
    scratch
}

fn start(scratch: &Scratch, arguments: &[&str]) -> Child {
    scratch.command().args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Ids of all snapshots with the hashes of their images.
fn recorded(scratch: &Scratch) -> BTreeMap<String, String> {
    let document = scratch.json(&["snapshots"]);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let snapshots = document["snapshots"].as_array().unwrap().iter();
    snapshots.map(|snapshot| (text(&snapshot["id"]), text(&snapshot["blake3"]))).collect()
}

fn restores_equal(scratch: &Scratch, snapshots: &BTreeMap<String, String>) {
    for (id, hash) in snapshots {
        scratch.run(&["restore", id, "--to", "restored.db"]).expect(0, &[]);
        assert_eq!(hash_of(&scratch.path("restored.db")), *hash);
        fs::remove_file(scratch.path("restored.db")).unwrap();
    }
}

/// Waits for a line of `--verbose` that begins so; what the program says afterwards is left in the reader.
fn wait_for_line(child: &mut Child, begin: &str) -> BufReader<std::process::ChildStderr> {
    let mut reader = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with(begin) {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the program ended before {begin:?}");
    }
    reader
}

/// Sends SIGINT once the phase that prints `begin` has started, and returns how the program ended.
fn interrupt(scratch: &Scratch, arguments: &[&str], begin: &str) -> Outcome {
    let mut child = start(scratch, &[arguments, &["--verbose"]].concat());
    let mut reader = wait_for_line(&mut child, begin);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut stderr = String::new();
    reader.read_to_string(&mut stderr).unwrap();
    let code = child.wait().unwrap().code();
    Outcome { what: format!("interrupted {arguments:?}"), code, stdout: String::new(), stderr }
}

#[test]
fn killed_snapshots_leave_the_old_state_or_the_new() {
    let scratch = with_large_database();
    let database = scratch.path("a.db");
    let mut delays = Delays::after_timing(0x5eed, || _ = scratch.run(&["snapshot", "a.db"]).expect(0, &[]));
    let mut known = recorded(&scratch);
    let (mut killed, mut completed) = (0, 0);
    for round in 1..=SNAPSHOT_KILLS {
        execute(&database, &format!("UPDATE t SET content = randomblob(4000) WHERE id % 5 = {}", round % 5));
        let hash = hash_of(&database);
        let mut child = start(&scratch, &["snapshot", "a.db"]);
        sleep(delays.next());
        child.kill().unwrap();
        let done = child.wait().unwrap().success();
        scratch.run(&["check", "--read-data"]).expect(0, &[]);
        let now = recorded(&scratch);
        let new: Vec<&String> = now.iter().filter(|(id, _)| !known.contains_key(*id)).map(|(_, hash)| hash).collect();
        assert!(known.keys().all(|id| now.contains_key(id)), "round {round}: a snapshot is gone");
        assert!(new.is_empty() || new == [&hash], "round {round}: a snapshot of another state");
        assert!(!done || new.len() == 1, "round {round}: the program said that it was done");
        (killed, completed) = if new.is_empty() { (killed + 1, completed) } else { (killed, completed + 1) };
        known = now;
        if round % 5 == 0 {
            restores_equal(&scratch, &known);
        }
    }
    println!("snapshots: {killed} killed before the entry, {completed} after it or done");
    assert!(killed > 0, "no kill came early enough to test anything");
    scratch.run(&["snapshot", "a.db", "--name", "a", "--tag", "last"]).expect(0, &[]);
    let last = recorded(&scratch);
    assert_eq!(last.len(), known.len() + 1);
    assert!(last.values().any(|hash| *hash == hash_of(&database)));
    restores_equal(&scratch, &last);
    scratch.run(&["check", "--read-data"]).expect(0, &[]);
}

/// Bytes of all packs.
fn pack_bytes(scratch: &Scratch) -> u64 {
    let packs = scratch.objects().into_iter().filter(|name| name.starts_with("packs/"));
    packs.map(|name| fs::metadata(scratch.repository().join(name)).map_or(0, |found| found.len())).sum()
}

/// Fewer packs than a segment lists are stored when the kill comes, so none is listed.
#[test]
fn a_killed_upload_is_gone_on_with() {
    let scratch = Scratch::with_repository();
    let database = scratch.path("a.db");
    execute(
        &database,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, content BLOB);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 27000)
         INSERT INTO t SELECT i, randomblob(4000) FROM n;",
    );
    let total = fs::metadata(&database).unwrap().len();
    let mut child = start(&scratch, &["snapshot", "a.db"]);
    let patience = Instant::now() + Duration::from_secs(60);
    while pack_bytes(&scratch) < 48 << 20 {
        assert!(Instant::now() < patience, "the snapshot does not get on");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let uploaded = pack_bytes(&scratch);
    assert!(recorded(&scratch).is_empty() && scratch.objects().iter().all(|name| !name.starts_with("index/")));
    let taken = scratch.json(&["snapshot", "a.db"])["snapshots"][0].take();
    let added = taken["new_pack_bytes"].as_u64().unwrap();
    println!("{total} bytes: {uploaded} before the kill, {added} after it");
    assert!(added < total + (total >> 6) - uploaded, "{added} added, {uploaded} were there");
    restores_equal(&scratch, &recorded(&scratch));
    let checked = scratch.json(&["check", "--read-data"]);
    assert_eq!(checked["unlisted_packs"], 0);
}

#[test]
fn killed_restores_never_show_half_a_file() {
    let scratch = with_large_database();
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    let hash = hash_of(&scratch.path("a.db"));
    fs::create_dir(scratch.path("target")).unwrap();
    let target = scratch.path("target/a.db");
    let mut delays = Delays::after_timing(0xbad5eed, || {
        scratch.run(&["restore", "--to", "target/a.db"]).expect(0, &[]);
    });
    fs::remove_file(&target).unwrap();
    let (mut absent, mut whole) = (0, 0);
    for round in 1..=RESTORE_KILLS {
        let mut child = start(&scratch, &["restore", "--to", "target/a.db"]);
        sleep(delays.next());
        child.kill().unwrap();
        let done = child.wait().unwrap().success();
        if target.exists() {
            assert_eq!(hash_of(&target), hash, "round {round}: half a file");
            fs::remove_file(&target).unwrap();
            whole += 1;
        } else {
            assert!(!done, "round {round}: the program said that it was done");
            absent += 1;
        }
        // What a killed restore leaves is one file, which the next one goes on with.
        let left = scratch.files("target");
        assert!(left.len() <= 1 && left.iter().all(|name| is_partial(name)), "round {round}: {left:?}");
    }
    println!("restores: {absent} times no file, {whole} times the whole file");
    assert!(absent > 0, "no kill came early enough to test anything");
    scratch.run(&["restore", "--to", "target/a.db"]).expect(0, &[]);
    assert_eq!(hash_of(&target), hash);
    assert_eq!(scratch.files("target"), ["a.db"]);
}

fn is_partial(name: &str) -> bool {
    name.starts_with(".a.db.continuum-") && name.ends_with(".partial")
}

/// Waits until so many bytes of the restore's unfinished file are on disk.
fn wait_for_partial(scratch: &Scratch, bytes: u64) {
    let allocated = || {
        let names = scratch.files("target").into_iter().filter(|name| is_partial(name));
        names
            .map(|name| fs::metadata(scratch.path("target").join(name)).map_or(0, |found| found.blocks() * 512))
            .sum::<u64>()
    };
    let patience = Instant::now() + Duration::from_secs(60);
    while allocated() < bytes {
        assert!(Instant::now() < patience, "the restore does not get on");
    }
}

#[test]
fn a_killed_restore_is_gone_on_with() {
    let scratch = with_large_database();
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    fs::create_dir(scratch.path("target")).unwrap();
    let arguments = ["restore", "--to", "target/a.db"];
    let mut child = start(&scratch, &arguments);
    wait_for_partial(&scratch, 8 << 20);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(scratch.files("target").iter().all(|name| is_partial(name)), "the kill came too late");
    let restored = scratch.json(&arguments);
    assert!(restored["resumed_bytes"].as_u64().unwrap() > 7 << 20, "{restored}");
    assert_eq!(hash_of(&scratch.path("target/a.db")), hash_of(&scratch.path("a.db")));
    assert_eq!(scratch.files("target"), ["a.db"]);
}

#[test]
fn a_killed_restore_in_place_is_gone_on_with() {
    let scratch = with_large_database();
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    let hash = hash_of(&scratch.path("a.db"));
    fs::create_dir(scratch.path("target")).unwrap();
    fs::copy(scratch.path("a.db"), scratch.path("target/a.db")).unwrap();
    execute(&scratch.path("target/a.db"), "UPDATE t SET content = randomblob(4000)");
    let arguments = ["restore", "--to", "target/a.db", "--in-place"];
    let mut child = start(&scratch, &arguments);
    wait_for_partial(&scratch, 8 << 20);
    child.kill().unwrap();
    child.wait().unwrap();
    let restored = scratch.json(&arguments);
    assert!(restored["resumed_bytes"].as_u64().unwrap() > 7 << 20, "{restored}");
    assert_eq!(hash_of(&scratch.path("target/a.db")), hash);
    assert_eq!(scratch.files("target"), ["a.db"]);
}

#[test]
fn two_restores_of_the_same_do_not_mix() {
    let scratch = with_large_database();
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    fs::create_dir(scratch.path("target")).unwrap();
    let arguments = ["restore", "--to", "target/a.db"];
    let mut child = start(&scratch, &arguments);
    wait_for_partial(&scratch, 1);
    kill_process(Pid::from_child(&child), Signal::STOP).unwrap();
    scratch.run(&arguments).expect(1, &["another process is restoring", "hint: wait"]);
    kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(hash_of(&scratch.path("target/a.db")), hash_of(&scratch.path("a.db")));
}

#[test]
fn an_interrupted_snapshot_leaves_no_entry() {
    let scratch = with_large_database();
    interrupt(&scratch, &["snapshot", "a.db"], "reading").expect(130, &["interrupted"]);
    assert!(recorded(&scratch).is_empty());
    assert!(fs::read_dir(scratch.repository().join("tmp")).unwrap().next().is_none(), "temporary files are removed");
    scratch.run(&["check", "--read-data"]).expect(0, &[]);
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    restores_equal(&scratch, &recorded(&scratch));
}

#[test]
fn an_interrupted_restore_says_how_to_go_on() {
    let scratch = with_large_database();
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    fs::create_dir(scratch.path("target")).unwrap();
    let arguments = ["restore", "--to", "target/a.db"];
    let words = ["did not finish", "a.db.continuum-", "because: interrupted", "hint: run the same command again"];
    interrupt(&scratch, &arguments, "proving").expect(130, &words);
    let left = scratch.files("target");
    assert!(left.len() == 1 && is_partial(&left[0]), "{left:?}");
    let restored = scratch.json(&arguments);
    assert!(restored["resumed_bytes"].as_u64().unwrap() > 20 << 20, "{restored}");
    assert_eq!(scratch.files("target"), ["a.db"]);
}

#[test]
fn a_restore_that_is_interrupted_at_once_leaves_a_partial_at_most() {
    let scratch = with_large_database();
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    fs::create_dir(scratch.path("target")).unwrap();
    interrupt(&scratch, &["restore", "--to", "target/a.db"], "restoring").expect(130, &["interrupted"]);
    let left = scratch.files("target");
    assert!(left.len() <= 1 && left.iter().all(|name| is_partial(name)), "{left:?}");
    scratch.run(&["restore", "--to", "target/a.db"]).expect(0, &[]);
}

#[test]
fn an_interrupted_check_says_so() {
    let scratch = with_large_database();
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    interrupt(&scratch, &["check", "--read-data"], "checking data").expect(130, &["interrupted"]);
}

#[test]
fn an_interrupted_command_does_not_replace_the_target() {
    let scratch = with_large_database();
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    fs::create_dir(scratch.path("target")).unwrap();
    fs::write(scratch.path("target/a.db"), "precious").unwrap();
    interrupt(&scratch, &["restore", "--to", "target/a.db", "--force"], "restoring").expect(130, &["interrupted"]);
    assert_eq!(fs::read_to_string(scratch.path("target/a.db")).unwrap(), "precious");
    assert!(scratch.files("target").iter().all(|name| name == "a.db" || is_partial(name)));
}
