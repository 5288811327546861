//! Backups, a watcher, forget and prune at work together, on whatever store the tests run on: nothing that is kept is lost, and the space comes back.
//!
//! Twenty seconds, or as many as `CONTINUUM_TOGETHER_SECONDS` says.

mod ledger;
mod support;
mod watcher;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ledger::Ledger;
use serde_json::Value;
use support::{Finished, Repository, text};
use watcher::Watcher;

/// Keeps little, and spares nothing for its age.
const FORGET: &[&str] =
    &["forget", "--keep-last", "4", "--min-count", "1", "--max-share", "100%", "--grace", "0", "--yes"];
const PRUNE: &[&str] = &["prune", "--min-age", "0", "--repack-below", "95%"];

const STRATEGIES: [&str; 4] = ["auto", "full", "differential", "incremental"];

/// What was done.
#[derive(Debug, Default)]
struct Done {
    snapshots: AtomicUsize,
    forgets: AtomicUsize,
    prunes: AtomicUsize,
    deleted: AtomicUsize,
    restores: AtomicUsize,
    vanished: AtomicUsize,
}

#[test]
fn backups_watchers_forget_and_prune_at_once() {
    let seconds = std::env::var("CONTINUUM_TOGETHER_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20.0);
    let repository = Repository::new();
    let watched = Ledger::new(repository.path("watched.db"), 71);
    let snapped = Ledger::new(repository.path("snapped.db"), 72);
    let mut loads = [watched.run("wal", 100), snapped.run("wal", 1000)];
    watched.wait_for_ack(1);
    snapped.wait_for_ack(1);
    let fast = ["--fold-interval", "1", "--flush-interval", "0.1"];
    let arguments = [&[text(&watched.database), "--name", "watched"], &fast[..]].concat();
    let mut watcher = Watcher::attached(&repository, "watched", &arguments);
    let (done, stop) = (Done::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let workers = [
            scope.spawn(|| repeat(&stop, || take_snapshot(&repository, &snapped, &done))),
            scope.spawn(|| repeat(&stop, || keep_house(&repository, &done))),
            scope.spawn(|| repeat(&stop, || look_back(&repository, [&watched, &snapped], &done))),
        ];
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < end && !workers.iter().any(|worker| worker.is_finished()) {
            thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(watcher.is_running(), "{}", watcher.said());
    loads.iter_mut().for_each(|load| load.kill());
    watcher.stop();
    take_snapshot(&repository, &snapped, &done);
    println!("{seconds} s: {done:?}, {} and {} transactions", watched.last_ack(), snapped.last_ack());
    assert!(done.snapshots.load(Ordering::SeqCst) >= 3 && done.deleted.load(Ordering::SeqCst) >= 3, "{done:?}");
    for (name, ledger) in [("watched", &watched), ("snapped", &snapped)] {
        let target = repository.path(&format!("{name}-last.db"));
        repository.run(&["restore", "latest", "--name", name, "--to", text(&target)]).expect_success();
        assert!(ledger.lengths(&[target])[0] >= ledger.last_ack(), "{name}: an acknowledged transaction is missing");
    }
    settle(&repository, [&watched, &snapped]);
}

/// With nobody else at work: everything that is kept is whole, and takes hardly more room than in a repository that never held anything else.
fn settle(repository: &Repository, ledgers: [&Ledger; 2]) {
    for command in [FORGET, PRUNE, PRUNE] {
        repository.run(command).expect_success();
    }
    repository.run(&["check", "--read-data"]).expect_success();
    for snapshot in snapshots(repository) {
        assert!(is_committed(repository, &snapshot, ledgers), "{snapshot} is gone");
    }
    let place = repository.path("fresh");
    let on = |arguments: &[&str]| {
        let all = [&["-r", text(&place)], arguments].concat();
        let output = repository.command_on(&all).output().expect("the binary runs");
        Finished::of(&all, output).expect_success()
    };
    on(&["init", "--kdf-memory-mib", "1", "--kdf-passes", "1"]);
    let copy =
        repository.command(&["copy", "--to", text(&place)]).env("CONTINUUM_TO_PASSWORD", "correct horse").output();
    Finished::of(&["copy"], copy.expect("the binary runs")).expect_success();
    on(PRUNE);
    let stored = |document: Value| document["stored_bytes"].as_u64().expect("a number");
    let alone = stored(serde_json::from_slice(&on(&["stats", "--json"]).stdout).expect("one JSON document"));
    let now = stored(repository.json(&["stats"]));
    println!("{now} bytes stored, {alone} in a fresh repository: {:.3}", now as f64 / alone as f64);
    assert!(
        now * 10 <= alone * 11,
        "{now} bytes are stored, {alone} in a fresh repository with the same restore points"
    );
}

fn repeat(stop: &AtomicBool, mut work: impl FnMut()) {
    while !stop.load(Ordering::SeqCst) {
        work();
    }
}

fn take_snapshot(repository: &Repository, ledger: &Ledger, done: &Done) {
    let strategy = STRATEGIES[done.snapshots.fetch_add(1, Ordering::SeqCst) % STRATEGIES.len()];
    let before = ledger.last_ack();
    let arguments = ["snapshot", text(&ledger.database), "--name", "snapped", "--strategy", strategy];
    let taken = repository.json(&arguments);
    let id = taken["snapshots"][0]["id"].as_str().expect("an id").to_owned();
    if done.snapshots.load(Ordering::SeqCst).is_multiple_of(5) {
        let target = repository.path(&format!("taken-{id}.db"));
        repository.run(&["restore", &id, "--to", text(&target)]).expect_success();
        assert!(ledger.lengths(&[target])[0] >= before, "an acknowledged transaction is missing");
    }
}

fn keep_house(repository: &Repository, done: &Done) {
    repository.run(FORGET).expect_success();
    done.forgets.fetch_add(1, Ordering::SeqCst);
    let pruned = repository.json(PRUNE);
    done.prunes.fetch_add(1, Ordering::SeqCst);
    let deleted = pruned["done"]["deleted"]["count"].as_u64().unwrap_or(0);
    done.deleted.fetch_add(deleted as usize, Ordering::SeqCst);
}

/// Restores a snapshot that is listed: a committed state, or gone meanwhile.
fn look_back(repository: &Repository, ledgers: [&Ledger; 2], done: &Done) {
    let all = snapshots(repository);
    let at = done.restores.fetch_add(1, Ordering::SeqCst);
    let snapshot = &all[at % all.len()];
    if !is_committed(repository, snapshot, ledgers) {
        done.vanished.fetch_add(1, Ordering::SeqCst);
        let is_listed = snapshots(repository).iter().any(|there| there["id"] == snapshot["id"]);
        assert!(!is_listed, "{snapshot} is listed and cannot be restored");
    }
}

fn snapshots(repository: &Repository) -> Vec<Value> {
    repository.json(&["snapshots"])["snapshots"].as_array().expect("a list").clone()
}

/// Whether a snapshot restores; if so, it is exactly a committed state.
fn is_committed(repository: &Repository, snapshot: &Value, [watched, snapped]: [&Ledger; 2]) -> bool {
    let id = snapshot["id"].as_str().expect("an id");
    let target = repository.path(&format!("back-{id}-{:?}.db", thread::current().id()));
    // With what SQLite may have left beside it, when it was looked at before.
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", target.display()));
    }
    let restored = repository.run(&["restore", id, "--to", text(&target)]);
    if !restored.output.status.success() {
        return false;
    }
    let ledger = if snapshot["database"] == "watched" { watched } else { snapped };
    ledger.lengths(std::slice::from_ref(&target));
    ledger.check_hashes(&target);
    let _ = std::fs::remove_file(&target);
    true
}
