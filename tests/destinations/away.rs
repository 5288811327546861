//! One of three destinations is away for a while, or two are.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::ledger::{Ledger, PATIENCE};
use crate::points::spread;
use crate::support::text;
use crate::three::{ALL, CHEAP, Outcome, Three};
use crate::watcher::Watcher;

/// Work goes on, and the next command that finds the destination there again brings it up to date.
#[test]
fn one_is_away_for_some_snapshots() {
    for (name, leaves_folder) in [("a", false), ("b", true), ("c", false), ("a", true)] {
        let three = Three::with_snapshots(1);
        three.take_away(name, leaves_folder);
        let place = three.path(name);
        let behind = format!("{} is behind", place.display());
        three.snapshot_on(&ALL).expect(0, &[&behind]);
        for _ in 0..2 {
            three.snapshot_on(&ALL).expect(0, &[text(&place)]);
        }
        let others: Vec<&str> = ALL.into_iter().filter(|other| *other != name).collect();
        let points = three.points(&others, "app");
        assert_eq!(points.len(), 4);
        three.restore_all(&ALL, "app", &points);
        let said = &three.destinations(0)[ALL.iter().position(|other| *other == name).expect("one of them")];
        assert!(said["owed"].as_u64() > Some(3), "{said}");
        assert!(said["lacking_entries"].as_u64() > Some(2), "{said}");
        three.bring_back(name);
        let outcome = three.run(&["snapshots"]).expect(0, &["has caught up"]);
        assert!(!outcome.stderr.contains("lacks"), "{}", outcome.all());
        three.assert_whole();
        three.restore_all(&[name], "app", &points);
    }
}

/// A watcher goes on, and brings the destination up to date by itself when it is there again.
#[test]
fn one_is_away_during_a_watch() {
    for (name, leaves_folder, seed) in [("a", false, 31), ("c", true, 32)] {
        let three = Three::with_snapshots(1);
        let ledger = Ledger::new(three.path("ledger.db"), seed);
        let mut application = ledger.run("wal", 100);
        ledger.wait_for_ack(5);
        let arguments = [text(&ledger.database), "--flush-interval", "0.1", "--fold-interval", "0.7"];
        let mut watcher = Watcher::attached(&three.repository, "ledger", &arguments);
        ledger.wait_for_ack(ledger.last_ack() + 20);
        three.take_away(name, leaves_folder);
        let before = ledger.last_ack();
        let begun = Instant::now();
        watcher.wait_for_words("is behind");
        wait_for_acknowledged(&three, &mut watcher, 100);
        three.snapshot();
        sleep(Duration::from_secs(2).saturating_sub(begun.elapsed()));
        three.snapshot();
        assert!(ledger.last_ack() > before + 50, "the application was held up");
        let status = watcher.status(&three.repository).expect("the watcher runs");
        assert!(status["destination_error"].is_null(), "{status}");
        assert!(status["folds"].as_u64() > Some(0), "{status}");
        three.bring_back(name);
        watcher.wait_for_words("has caught up");
        let acked = ledger.last_ack();
        watcher.stop();
        application.kill();
        // Nothing but the watcher has mended it.
        three.assert_same();
        three.assert_whole();
        let points = three.points(&[name], "ledger");
        three.restore_all(&[name], "ledger", spread(&points, 6));
        assert!(ledger.lengths(&[three.path("restored.db")])[0] >= acked);
        assert_eq!(three.points(&[name], "app").len(), 3);
    }
}

/// A watcher that begins while a destination is away.
#[test]
fn a_watch_that_begins_while_one_is_away() {
    let three = Three::with_snapshots(1);
    three.take_away("b", false);
    let ledger = Ledger::new(three.path("ledger.db"), 33);
    let mut application = ledger.run("wal", 100);
    ledger.wait_for_ack(5);
    let arguments = [text(&ledger.database), "--flush-interval", "0.1", "--fold-interval", "0.7"];
    let mut watcher = Watcher::attached(&three.repository, "ledger", &arguments);
    wait_for_acknowledged(&three, &mut watcher, 20);
    three.bring_back("b");
    watcher.wait_for_words("has caught up");
    watcher.stop();
    application.kill();
    three.assert_same();
    three.assert_whole();
}

/// A watcher is killed while a destination is away, and the next one goes on.
#[test]
fn a_watcher_is_killed_while_one_is_away() {
    let three = Three::with_snapshots(1);
    let ledger = Ledger::new(three.path("ledger.db"), 34);
    let mut application = ledger.run("wal", 100);
    ledger.wait_for_ack(5);
    let arguments = [text(&ledger.database), "--flush-interval", "0.1", "--fold-interval", "0.5"];
    let mut watcher = Watcher::attached(&three.repository, "ledger", &arguments);
    three.take_away("a", false);
    watcher.wait_for_words("is behind");
    wait_for_acknowledged(&three, &mut watcher, 30);
    watcher.kill();
    let mut watcher = Watcher::attached(&three.repository, "ledger", &arguments);
    three.bring_back("a");
    watcher.wait_for_words("has caught up");
    watcher.kill();
    let mut watcher = Watcher::attached(&three.repository, "ledger", &arguments);
    let acked = ledger.last_ack();
    watcher.stop();
    application.kill();
    // A write that was under way when the watcher was killed may be on some destinations only.
    three.run(&["sync"]).expect(0, &[]);
    three.assert_whole();
    let last = three.points(&["a"], "ledger").pop().expect("points");
    three.restore(&["a"], "ledger", &last);
    assert!(ledger.lengths(&[three.path("restored.db")])[0] >= acked);
}

/// Copies to a repository on several destinations reach each of them, too.
#[test]
fn one_is_away_for_a_copy() {
    let three = Three::new();
    three.on(&["source"], &CHEAP).expect(0, &[]);
    let places = ALL.map(|name| three.path(name).display().to_string());
    let copy = || {
        three.snapshot_on(&["source"]).expect(0, &[]);
        let to = places.iter().flat_map(|place| ["--to", place]);
        let mut command = three.command(&["source"], &["copy"]);
        Outcome::of(command.args(to).env("CONTINUUM_TO_PASSWORD", "correct horse"))
    };
    copy().expect(0, &[]);
    three.assert_same();
    three.take_away("b", true);
    copy().expect(0, &["is behind", &places[1]]);
    three.bring_back("b");
    copy().expect(0, &["has caught up"]);
    three.assert_whole();
    assert_eq!(three.points(&["b"], "app").len(), 3);
}

/// With two of three away nothing is acknowledged; when they are back, all is well.
#[test]
fn two_are_away() {
    let three = Three::with_snapshots(1);
    let before = three.objects("a");
    ["b", "c"].into_iter().for_each(|name| three.take_away(name, false));
    let begun = Instant::now();
    three.change();
    three
        .run(&["--retry-for", "2", "snapshot", text(&three.database())])
        .expect(1, &["1 of 2 destinations that are needed", "hint: "]);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(three.objects("a").len(), before.len(), "something was written that could not be acknowledged");
    ["b", "c"].into_iter().for_each(|name| three.bring_back(name));
    three.snapshot();
    three.assert_whole();
    assert_eq!(three.points(&["c"], "app").len(), 2);
}

/// With two of three away, a watcher acknowledges nothing; when they are back, it goes on by itself.
#[test]
fn two_are_away_during_a_watch() {
    let three = Three::new();
    let ledger = Ledger::new(three.path("ledger.db"), 35);
    let mut application = ledger.run("wal", 100);
    ledger.wait_for_ack(5);
    let options = ["--flush-interval", "0.1", "--fold-interval", "0.7", "--retry-for", "1"];
    let arguments = [&[text(&ledger.database)], &options[..]].concat();
    let mut watcher = Watcher::attached(&three.repository, "ledger", &arguments);
    wait_for_acknowledged(&three, &mut watcher, 10);
    ["a", "b"].into_iter().for_each(|name| three.take_away(name, false));
    let destination_error = || watcher.status(&three.repository).map(|mut status| status["destination_error"].take());
    let end = Instant::now() + PATIENCE;
    while !destination_error().is_some_and(|error| error.is_string()) {
        assert!(Instant::now() < end, "nobody is told: {}", watcher.said());
        sleep(Duration::from_millis(50));
    }
    let stands = watcher_acknowledged(&three, &watcher);
    sleep(Duration::from_millis(2500));
    assert_eq!(watcher_acknowledged(&three, &watcher), stands, "acknowledged by one of three");
    assert!(destination_error().is_some_and(|error| error.is_string()));
    ["a", "b"].into_iter().for_each(|name| three.bring_back(name));
    let acked = ledger.last_ack();
    wait_for_acknowledged(&three, &mut watcher, 20);
    watcher.stop();
    application.kill();
    three.run(&["snapshots"]).expect(0, &[]);
    three.assert_whole();
    for name in ALL {
        let last = three.points(&[name], "ledger").pop().expect("points");
        three.restore(&[name], "ledger", &last);
        assert!(ledger.lengths(&[three.path("restored.db")])[0] >= acked);
    }
}

/// The commit that is acknowledged.
fn watcher_acknowledged(three: &Three, watcher: &Watcher) -> u64 {
    let status = watcher.status(&three.repository);
    status.and_then(|status| status["databases"][0]["acknowledged"].as_u64()).unwrap_or(0)
}

/// Waits until so many more commits are acknowledged.
#[track_caller]
fn wait_for_acknowledged(three: &Three, watcher: &mut Watcher, more: u64) {
    let wanted = watcher_acknowledged(three, watcher) + more;
    let end = Instant::now() + PATIENCE;
    while watcher_acknowledged(three, watcher) < wanted {
        assert!(
            watcher.is_running() && Instant::now() < end,
            "commit {wanted} is not acknowledged: {}",
            watcher.said()
        );
        sleep(Duration::from_millis(100));
    }
}
