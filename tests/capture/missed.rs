//! Commits that tools which trust a surviving frame never see: made while nobody watched, and across restarts of the WAL.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use super::source::{NAME, Place, checkpoint, numbers, rewrite, run};
use crate::support::text;
use crate::watcher::Watcher;

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a watcher ended.
#[derive(Clone, Copy, Debug)]
enum End {
    Stopped,
    Killed,
}

#[test]
fn commits_after_a_watcher_was_stopped() {
    check_after_watcher(End::Stopped);
}

#[test]
fn commits_after_a_watcher_was_killed() {
    check_after_watcher(End::Killed);
}

/// The last frame that was captured survives, far behind the new generation that a single write began.
fn check_after_watcher(end: End) {
    for next in ["snapshot", "watch"] {
        let (place, writer) = Place::with_wal();
        let mut watcher = watch(&place);
        rewrite(&writer, 1..=20);
        wait_for_commit(&place, 2, &watcher);
        match end {
            End::Stopped => watcher.stop(),
            End::Killed => watcher.kill(),
        }
        let seen = place.salts();
        rewrite(&writer, 15..=35);
        rewrite(&writer, 36..=36);
        assert_eq!(checkpoint(&writer, "PASSIVE").0, 0);
        rewrite(&writer, 2..=2);
        assert_ne!(place.salts(), seen, "this case is about a WAL that was restarted");
        let what = format!("{end:?}, then {next}");
        if next == "snapshot" {
            let taken = place.check("incremental", &what);
            assert!(taken["tier"] == "scan" || taken["tier"] == "wal-rescue", "{what}: {taken}");
        } else {
            let view = place.view();
            let mut again = watch(&place);
            let said = again.said();
            assert!(said.contains("(scan") || said.contains("(wal-rescue"), "{what}: {said}");
            check_latest(&place, &view, &what);
            rewrite(&writer, 40..=40);
            let view = place.view();
            again.stop();
            check_latest(&place, &view, &what);
        }
    }
}

/// The journal of a killed watcher is not lost to what comes next, and every commit in it stays a restore point.
#[test]
fn commits_in_the_journal_of_a_killed_watcher() {
    let (place, writer) = Place::with_wal();
    let mut watcher = watch(&place);
    let mut views = Vec::new();
    for row in 1..=5 {
        rewrite(&writer, row..=row);
        views.push(place.view());
        wait_for_commit(&place, 1 + u64::from(row), &watcher);
    }
    watcher.kill();
    let check = |when: &str| {
        for (number, view) in (2..).zip(&views) {
            restore_and_compare(&place, &["--commit", &number.to_string()], view, &format!("{when}, commit {number}"));
        }
    };
    check("after the kill");
    rewrite(&writer, 30..=31);
    place.check("incremental", "after the kill");
    check("after a snapshot");
    let mut again = watch(&place);
    rewrite(&writer, 32..=32);
    let view = place.view();
    again.stop();
    check_latest(&place, &view, "watched again");
    check("watched again");
    assert_numbers_ascend(&place);
}

/// A state that comes back byte for byte after a kill is a new state with a new number: those in the journal keep theirs.
#[test]
fn a_state_that_comes_back_after_a_kill() {
    let (place, writer) = Place::with_wal();
    run(&writer, "CREATE TABLE switch(is_on INTEGER); INSERT INTO switch VALUES (0)");
    let mut watcher = watch(&place);
    let before = place.view();
    run(&writer, "UPDATE switch SET is_on = 1");
    wait_for_commit(&place, 2, &watcher);
    let on = place.view();
    run(&writer, "UPDATE switch SET is_on = 0");
    wait_for_commit(&place, 3, &watcher);
    assert!(place.view() == before && on != before, "this case is about a state that comes back");
    watcher.kill();
    let mut again = watch(&place);
    run(&writer, "UPDATE switch SET is_on = 2");
    let last = place.view();
    again.stop();
    check_latest(&place, &last, "after the kill");
    assert_numbers_ascend(&place);
    for (number, view) in [(1, &before), (2, &on), (3, &before)] {
        restore_and_compare(&place, &["--commit", &number.to_string()], view, &format!("commit {number}"));
    }
    let commits = commits(&place);
    let newest = commits.iter().max().expect("there are restore points");
    restore_and_compare(&place, &["--commit", &newest.to_string()], &last, "the last commit");
}

/// Scheduled incrementals of a database whose WAL restarts by itself: autocheckpoint has its default, and no connection ever ends.
#[test]
fn scheduled_incrementals_across_restarts_of_the_wal() {
    let place = Place::new();
    let writer = place.connect(1000);
    run(&writer, "PRAGMA journal_mode = wal; CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)");
    run(&writer, "PRAGMA synchronous = off");
    check_schedule(&place, &writer, 14);
}

fn check_schedule(place: &Place, writer: &Connection, rounds: u32) {
    let mut before: Option<(Option<Vec<u8>>, _)> = None;
    let mut restarts = 0;
    for round in 0..rounds {
        for _ in 0..(3 + round * 5 % 17) {
            run(writer, &format!("{} INSERT INTO t(b) SELECT randomblob(3500) FROM n", numbers(24)));
            rewrite(writer, round * 7 + 1..=round * 7 + 9);
        }
        let now = (place.salts(), place.file_facts());
        let taken = place.check("incremental", &format!("round {round}"));
        if let Some(before) = &before
            && before.0 != now.0
            && before.1 != now.1
        {
            restarts += 1;
            let tier = &taken["tier"];
            assert!(*tier == "scan" || *tier == "wal-rescue", "round {round}: the WAL was restarted, but {tier}");
        }
        before = Some(now);
    }
    assert!(restarts >= 2, "the WAL was restarted {restarts} times: this case is about restarts");
}

fn watch(place: &Place) -> Watcher {
    let arguments = [text(&place.path), "--flush-interval", "0.05", "--fold-interval", "600"];
    Watcher::attached(&place.repository, NAME, &arguments)
}

/// Waits until a commit can be restored.
#[track_caller]
pub fn wait_for_commit(place: &Place, commit: u64, watcher: &Watcher) {
    let end = Instant::now() + PATIENCE;
    while !commits(place).contains(&commit) {
        assert!(Instant::now() < end, "commit {commit} is not captured: {}", watcher.said());
        sleep(Duration::from_millis(20));
    }
}

/// The numbers of all restore points, in order.
pub fn commits(place: &Place) -> Vec<u64> {
    let mut log = place.json(&["log", NAME]);
    assert_eq!(log["faults"], Value::Array(Vec::new()));
    let points = log["points"].as_array_mut().expect("a list");
    points.iter().map(|point| point["commit"].as_u64().expect("a number")).collect()
}

/// The order of numbers is that of time, and one number means one state.
#[track_caller]
pub fn assert_numbers_ascend(place: &Place) {
    let log = place.json(&["log", NAME]);
    let points = log["points"].as_array().expect("a list");
    let states: Vec<(u64, &Value)> =
        points.iter().map(|point| (point["commit"].as_u64().expect("a number"), &point["blake3"])).collect();
    for pair in states.windows(2) {
        assert!(pair[0].0 <= pair[1].0, "the numbers go back: {states:?}");
        assert!(pair[0].0 < pair[1].0 || pair[0].1 == pair[1].1, "one number, two states: {states:?}");
    }
}

#[track_caller]
fn check_latest(place: &Place, view: &[u8], what: &str) {
    restore_and_compare(place, &["latest"], view, what);
}

#[track_caller]
fn restore_and_compare(place: &Place, point: &[&str], view: &[u8], what: &str) {
    let target = place.repository.path("point.db");
    let _ = std::fs::remove_file(&target);
    place.json(&[&["restore", "--to", text(&target)], point].concat());
    super::source::same_pages(view, &crate::support::bytes_of(&target), 4096, what);
}
