//! One of three destinations is destroyed for good.

use std::fs;

use crate::ledger::Ledger;
use crate::points::{self, spread};
use crate::support::text;
use crate::three::{ALL, Three};
use crate::watcher::Watcher;

/// Every restore point restores from the rest together and from each of the rest alone, and a new destination in its place becomes as good as the others.
#[test]
fn every_restore_point_restores_from_the_rest() {
    for name in ["a", "b"] {
        let three = Three::with_snapshots(3);
        let ledger = Ledger::new(three.path("ledger.db"), 41);
        let mut application = ledger.run("wal", 100);
        ledger.wait_for_ack(5);
        let arguments = [text(&ledger.database), "--flush-interval", "0.1", "--fold-interval", "0.5"];
        let mut watcher = Watcher::attached(&three.repository, "ledger", &arguments);
        ledger.wait_for_ack(ledger.last_ack() + 60);
        watcher.stop();
        application.kill();
        fs::remove_dir_all(three.path(name)).expect("it is there");
        let rest: Vec<&str> = ALL.into_iter().filter(|other| *other != name).collect();
        let app = three.points(&rest, "app");
        let commits = points::list(&three.repository, "ledger");
        assert!(app.len() == 3 && commits.len() > 20);
        for names in [&rest[..], &rest[..1], &rest[1..], &ALL] {
            three.restore_all(names, "app", &app);
            three.restore_all(names, "ledger", spread(&commits, 5));
        }
        // Work goes on.
        three.snapshot_on(&ALL).expect(0, &["holds no repository"]);
        three.on(&rest, &["check", "--read-data"]).expect(0, &[]);
        assert!(
            !three.path(name).exists(),
            "nothing may be written to a place that is perhaps a disk which is not mounted"
        );
        three.run(&["sync"]).expect(0, &[]);
        three.assert_whole();
        let app = three.points(&[name], "app");
        assert_eq!(app.len(), 4);
        three.restore_all(&[name], "app", &app);
        three.restore_all(&[name], "ledger", spread(&commits, 5));
        three.on(&[name], &["check", "--read-data"]).expect(0, &[]);
        three.snapshot();
        three.assert_whole();
    }
}

/// A sync that is repeated, or that finds the destination half filled, ends the same.
#[test]
fn a_new_destination_is_filled_while_a_watch_runs() {
    let three = Three::with_snapshots(2);
    fs::remove_dir_all(three.path("c")).expect("it is there");
    let ledger = Ledger::new(three.path("ledger.db"), 42);
    let mut application = ledger.run("wal", 100);
    ledger.wait_for_ack(5);
    let arguments = [text(&ledger.database), "--flush-interval", "0.1", "--fold-interval", "0.5"];
    let mut watcher = Watcher::attached(&three.repository, "ledger", &arguments);
    ledger.wait_for_ack(ledger.last_ack() + 30);
    three.run(&["sync"]).expect(0, &[]);
    watcher.wait_for_words("has caught up");
    ledger.wait_for_ack(ledger.last_ack() + 30);
    let acked = ledger.last_ack();
    watcher.stop();
    application.kill();
    three.run(&["sync"]).expect(0, &[]);
    three.assert_whole();
    let last = three.points(&["c"], "ledger").pop().expect("points");
    three.restore(&["c"], "ledger", &last);
    assert!(ledger.lengths(&[three.path("restored.db")])[0] >= acked);
}
