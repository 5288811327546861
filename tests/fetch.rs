//! Restores fetch ahead: several requests at once and within a budget beside the caller, one after the other without threads.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod counted;

use std::fs;
use std::time::Instant;

use continuum::crypto::aead::Suite;
use continuum::monitor::Silent;
use continuum::ops::snapshot::Choice;
use counted::{CountedStore, StopAfter, environment, make, make_random_database, open, restore_last, take};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

#[test]
fn requests_overlap_within_the_budget_and_without_threads_do_not() {
    let (folder, store) = (TempDir::new().unwrap(), CountedStore::new());
    let database = folder.path().join("a.db");
    make_random_database(&database, 100);
    let repository = make(&store, Suite::Aes256Gcm, environment(None, 0));
    take(&repository, &database, Choice::Full, &Silent).unwrap();
    CountedStore::set(&store.latency_ms, 30);
    let mut took = Vec::new();
    for threads in [0, 8] {
        let repository = open(&store, environment(None, threads));
        let _ = [&store.most_at_once, &store.most_bytes_at_once, &store.requests].map(CountedStore::take);
        let (target, started) = (folder.path().join(format!("{threads}.db")), Instant::now());
        restore_last(&repository, &target, &Silent).unwrap();
        took.push(started.elapsed());
        assert!(fs::read(&target).unwrap() == fs::read(&database).unwrap());
        let at_once = CountedStore::take(&store.most_at_once);
        let (bytes, requests) = (CountedStore::take(&store.most_bytes_at_once), CountedStore::take(&store.requests));
        println!("{threads} threads: {requests} requests, {at_once} at once, {bytes} bytes, {:?}", took.last());
        assert!(bytes <= 64 * MIB && at_once <= threads.max(1) as u64, "{at_once} at once, {bytes} bytes");
        assert!(threads == 0 || at_once >= 4, "{at_once} at once");
        // Four or five for a pack of 16 MiB, and a few for the page map.
        assert!(requests <= 45, "{requests} requests");
    }
    assert!(took[1] < took[0], "{took:?}");
}

#[test]
fn the_wish_to_stop_does_not_wait_for_what_is_not_begun() {
    let (folder, store) = (TempDir::new().unwrap(), CountedStore::new());
    let database = folder.path().join("a.db");
    make_random_database(&database, 60);
    let repository = make(&store, Suite::Aes256Gcm, environment(None, 2));
    take(&repository, &database, Choice::Full, &Silent).unwrap();
    let _ = CountedStore::take(&store.requests);
    CountedStore::set(&store.latency_ms, 300);
    let started = Instant::now();
    restore_last(&repository, &folder.path().join("b.db"), &StopAfter::bytes(1)).unwrap_err();
    // A request for the page map, its pack's header, the first range.
    assert!(started.elapsed().as_millis() < 2500, "{:?}", started.elapsed());
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(CountedStore::take(&store.requests) < 12);
}

#[test]
fn segments_of_many_deltas_are_fetched_ahead_and_applied_in_order() {
    let (folder, store) = (TempDir::new().unwrap(), CountedStore::new());
    let (database, state) = (folder.path().join("a.db"), folder.path().join("state"));
    make_random_database(&database, 1);
    let repository = make(&store, Suite::Aes256Gcm, environment(Some(&state), 0));
    for round in 0..15 {
        let sql = format!("UPDATE t SET content = randomblob(4000) WHERE id % 50 = {}", round % 7);
        rusqlite::Connection::open(&database).unwrap().execute_batch(&sql).unwrap();
        take(&repository, &database, Choice::Incremental, &Silent).unwrap();
    }
    CountedStore::set(&store.latency_ms, 20);
    for threads in [0, 6] {
        let repository = open(&store, environment(None, threads));
        let _ = CountedStore::take(&store.most_at_once);
        let target = folder.path().join(format!("{threads}.db"));
        restore_last(&repository, &target, &Silent).unwrap();
        assert!(fs::read(&target).unwrap() == fs::read(&database).unwrap());
        let at_once = CountedStore::take(&store.most_at_once);
        assert_eq!(at_once > 3, threads > 0, "{at_once} at once with {threads} threads");
    }
}
