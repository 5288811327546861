//! A watched ledger while a share of all requests is spoiled.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use continuum::format::name::Folder;

use crate::ledger::Ledger;
use crate::points::{self, assert_in_order, assert_kept, restore, spread};
use crate::proxy::Fault;
use crate::server::{Server, spoil};
use crate::support::text;
use crate::watcher::Watcher;

const NAME: &str = "ledger";

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(6);

#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn a_ledger_is_watched_under_a_share_of_faults() {
    let server = Server::new();
    let repository = server.repository("timeout = 1\nretry-for = 60\n");
    repository.init().expect_success();
    let ledger = Ledger::new(repository.path("ledger.db"), 21);
    let mut application = ledger.run("wal", 100);
    ledger.wait_for_ack(5);
    server.proxy.set_rules(spoil(0.15, 3));
    let arguments = [text(&ledger.database), "--flush-interval", "0.1", "--fold-interval", "1"];
    let mut watcher = Watcher::attached(&repository, NAME, &arguments);
    sleep(WATCHED / 2);
    let early = points::list(&repository, NAME);
    sleep(WATCHED / 2);
    let acked = ledger.last_ack();
    // Stopping stores everything, and is spoiled, too.
    watcher.stop();
    application.kill();
    let seen = server.proxy.seen();
    let spoiled = seen.iter().filter(|seen| seen.fault != Fault::None).count();
    println!("{spoiled} of {} requests were spoiled; {acked} transactions", seen.len());
    assert!(spoiled >= 5, "{spoiled} of {}", seen.len());
    server.proxy.set_rules([]);
    let log = points::list(&repository, NAME);
    assert_in_order(&log);
    assert_kept(&early, &log);
    let restored: Vec<PathBuf> = spread(&log, 6)
        .iter()
        .map(|point| {
            let (path, said) =
                restore(&repository, NAME, &["--commit", &point.commit.to_string()], &format!("{}.db", point.commit));
            assert_eq!(said["blake3"], *point.blake3);
            path
        })
        .collect();
    let lengths = ledger.lengths(&restored);
    assert!(lengths.is_sorted(), "{lengths:?}");
    assert!(lengths.last() >= Some(&acked), "{acked} was acknowledged, but {lengths:?} are stored: {}", watcher.said());
    repository.run(&["check", "--read-data"]).expect_success();
    assert_eq!(server.count(Folder::Journals), 0, "the journal is not folded: {}", watcher.said());
}
