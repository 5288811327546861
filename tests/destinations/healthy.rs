//! Three destinations, all well.

use std::fs;

use crate::ledger::Ledger;
use crate::support::{hash_of, text};
use crate::three::{ALL, Three};
use crate::watcher::Watcher;

#[test]
fn every_command_on_three_destinations() {
    let three = Three::with_snapshots(3);
    three.assert_same();
    let listed = three.json(&ALL, 0, &["snapshots"]);
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(3));
    three.run(&["restore", "latest", "--to", text(&three.path("latest.db"))]).expect(0, &[]);
    assert_eq!(hash_of(&three.path("latest.db")), hash_of(&three.database()));
    three.run(&["check", "--read-data"]).expect(0, &[]);
    three.run(&["key", "list"]).expect(0, &[]);
    three.run(&["compact", "app", "--full"]).expect(0, &[]);
    let stats = three.run(&["stats"]).expect(0, &[]);
    assert!(!stats.stderr.contains("notice"), "{}", stats.all());
    let points = three.points(&ALL, "app");
    for name in ALL {
        three.restore_all(&[name], "app", &points);
        three.on(&[name], &["check", "--read-data"]).expect(0, &[]);
    }
    three.assert_whole();
}

#[test]
fn a_watch_on_three_destinations() {
    let three = Three::new();
    let ledger = Ledger::new(three.path("ledger.db"), 21);
    let mut application = ledger.run("wal", 100);
    ledger.wait_for_ack(5);
    let arguments = [text(&ledger.database), "--flush-interval", "0.1", "--fold-interval", "0.5"];
    let mut watcher = Watcher::attached(&three.repository, "ledger", &arguments);
    ledger.wait_for_ack(ledger.last_ack() + 100);
    let status = watcher.status(&three.repository).expect("the watcher runs");
    assert!(status["databases"][0]["acknowledged"].as_u64() > Some(0), "{status}");
    let acked = ledger.last_ack();
    watcher.stop();
    application.kill();
    three.assert_whole();
    let points = three.points(&ALL, "ledger");
    assert!(ALL.iter().all(|name| three.points(&[name], "ledger") == points));
    let last = points.last().expect("points");
    for name in ALL {
        three.restore(&[name], "ledger", last);
        assert!(ledger.lengths(&[three.path("restored.db")])[0] >= acked);
    }
}

/// Where the program was told of the places by other words, what one lacks is known as well.
#[test]
fn places_are_known_by_any_name() {
    let three = Three::with_snapshots(1);
    three.take_away("c", false);
    three.snapshot_on(&ALL).expect(0, &["is behind"]);
    three.bring_back("c");
    let mut command = three.repository.command_on(&["-r", "a", "-r", "./b", "-r", "c", "snapshots"]);
    let outcome = crate::three::Outcome::of(command.current_dir(three.path("."))).expect(0, &["c has caught up"]);
    assert!(!outcome.stderr.contains("lacks"), "{}", outcome.all());
    three.assert_same();
    let mut command = three.repository.command_on(&["-r", "a", "-r", "./a", "snapshots"]);
    crate::three::Outcome::of(command.current_dir(three.path("."))).expect(2, &["is named twice"]);
}

#[test]
fn two_repositories_are_not_mixed() {
    let three = Three::with_snapshots(1);
    fs::rename(three.path("c"), three.path("kept")).expect("renamed");
    three.on(&["c"], &crate::three::CHEAP).expect(0, &[]);
    let (ours, theirs) = (three.objects("a"), three.objects("c"));
    for names in [&["a", "c"][..], &["c", "a"], &ALL] {
        three.snapshot_on(names).expect(3, &["different objects named config", "two repositories"]);
        three.on(names, &["watch", text(&three.database())]).expect(3, &["two repositories"]);
        three.on(names, &["snapshots"]).expect(3, &["two repositories"]);
        for more in [&["sync"][..], &["sync", "--prefer", text(&three.path("a"))], &["destinations"]] {
            let outcome = three.on(names, more).expect(3, &[]);
            assert!(outcome.stdout.contains("CONFLICT: config"), "{}", outcome.all());
        }
    }
    assert!(three.objects("a") == ours && three.objects("b") == ours && three.objects("c") == theirs);
}
