//! The repository is away for a while: nothing that is acknowledged meanwhile is lost, and when it is back, everything is caught up.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::ledger::{Ledger, PATIENCE};
use crate::points::{self, assert_in_order, assert_kept, restore, spread};
use crate::support::{Repository, text};
use crate::watcher::Watcher;

const NAME: &str = "ledger";

/// How long it is away: longer than several flushes and folds.
const AWAY: Duration = Duration::from_secs(3);

/// As when a network file system is gone.
#[test]
fn a_repository_that_is_renamed_away() {
    check_away(&[], |root| {
        let away = root.with_file_name("away");
        fs::rename(root, &away).expect("renamed");
        Box::new(move |root| {
            assert!(!root.exists(), "the watcher made a repository of its own: {:?}", tree(root));
            fs::rename(away, root).expect("renamed back");
        })
    });
}

/// As when a disk is not mounted: the mount point is an empty folder.
#[test]
fn a_repository_that_is_not_mounted() {
    check_away(&[], |root| {
        let away = root.with_file_name("away");
        fs::rename(root, &away).expect("renamed");
        fs::create_dir(root).expect("a new folder");
        Box::new(move |root| {
            assert_eq!(tree(root), [] as [PathBuf; 0], "the watcher wrote to the mount point");
            fs::remove_dir(root).expect("an empty folder");
            fs::rename(away, root).expect("renamed back");
        })
    });
}

/// Nothing can be created in the repository.
#[test]
fn a_repository_that_takes_nothing() {
    let block = |root: &Path| {
        let folders = ["tmp", "journal", "timelines", "packs", "index"].map(|name| root.join(name));
        for folder in folders.iter().filter(|folder| folder.exists()) {
            fs::rename(folder, folder.with_extension("kept")).expect("renamed");
            fs::write(folder, "in the way").expect("a file");
        }
        Box::new(move |_: &Path| {
            for folder in folders.iter().filter(|folder| folder.is_file()) {
                fs::remove_file(folder).expect("it is there");
                fs::rename(folder.with_extension("kept"), folder).expect("renamed back");
            }
        }) as Box<dyn FnOnce(&Path)>
    };
    check_away(&[], block);
}

/// More is written than may wait: the database is let go, and caught up with later.
#[test]
fn a_repository_that_is_away_for_longer_than_can_wait() {
    check_away(&["--spool-limit", "1"], |root| {
        fs::rename(root.join("tmp"), root.join("kept")).expect("renamed");
        fs::write(root.join("tmp"), "in the way").expect("a file");
        Box::new(|root| {
            fs::remove_file(root.join("tmp")).expect("it is there");
            fs::rename(root.join("kept"), root.join("tmp")).expect("renamed back");
        })
    });
}

/// Told to stop while the database is let go, though the repository is back: stopping stores everything committed before, or says that it does not.
#[test]
fn a_watcher_that_is_stopped_while_the_database_is_let_go() {
    let repository = Repository::new();
    let (tmp, kept) = (repository.root().join("tmp"), repository.root().join("kept"));
    let ledger = Ledger::new(repository.path("ledger.db"), 12);
    let mut application = ledger.run("wal", 100);
    ledger.wait_for_ack(5);
    let arguments = [text(&ledger.database), "--flush-interval", "0.1", "--spool-limit", "1"];
    let mut watcher = Watcher::attached(&repository, NAME, &arguments);
    fs::rename(&tmp, &kept).expect("renamed");
    fs::write(&tmp, "in the way").expect("a file");
    watcher.wait_for_words("let go");
    ledger.wait_for_ack(ledger.last_ack() + 50);
    fs::remove_file(&tmp).expect("it is there");
    fs::rename(&kept, &tmp).expect("renamed back");
    let acked = ledger.last_ack();
    watcher.stop();
    application.kill();
    let (restored, _) = restore(&repository, NAME, &["latest"], "latest.db");
    let length = ledger.lengths(&[restored])[0];
    assert!(
        length >= acked,
        "{acked} was acknowledged, {length} is stored, and all was said to be: {}",
        watcher.said()
    );
}

/// `take_away` returns what brings it back.
fn check_away(options: &[&str], take_away: impl FnOnce(&Path) -> Box<dyn FnOnce(&Path)>) {
    let repository = Repository::new();
    let root = repository.root().to_owned();
    let ledger = Ledger::new(repository.path("ledger.db"), 11);
    let mut application = ledger.run("wal", 100);
    ledger.wait_for_ack(5);
    let arguments = [&[text(&ledger.database), "--flush-interval", "0.1", "--fold-interval", "1"], options].concat();
    let mut watcher = Watcher::attached(&repository, NAME, &arguments);
    ledger.wait_for_ack(ledger.last_ack() + 100);
    let listed = points::list(&repository, NAME);
    let bring_back = take_away(&root);
    let before = ledger.last_ack();
    sleep(AWAY);
    assert!(watcher.is_running(), "the watcher ended: {}", watcher.said());
    let acked = ledger.last_ack();
    if root.join("config").exists() {
        // `status` asks the repository for its name.
        let status = watcher.status(&repository).expect("the watcher runs");
        assert!(status["destination_error"].is_string(), "nobody is told: {status}");
    }
    assert!(acked > before + 50, "the application was held up: {before} to {acked}");
    bring_back(&root);
    wait_for_latest(&repository, &ledger, acked, &mut watcher);
    let acked = ledger.last_ack();
    watcher.stop();
    application.kill();
    let log = points::list(&repository, NAME);
    assert_in_order(&log);
    assert_kept(&listed, &log);
    let restored: Vec<PathBuf> = spread(&log, 20)
        .iter()
        .map(|point| {
            restore(&repository, NAME, &["--commit", &point.commit.to_string()], &format!("{}.db", point.commit)).0
        })
        .collect();
    let lengths = ledger.lengths(&restored);
    assert!(lengths.is_sorted(), "{lengths:?}");
    assert!(
        lengths.last() >= Some(&acked),
        "{acked} was acknowledged, but {lengths:?} were captured: {}",
        watcher.said()
    );
    repository.run(&["check", "--read-data"]).expect_success();
}

fn wait_for_latest(repository: &Repository, ledger: &Ledger, acked: u64, watcher: &mut Watcher) {
    let end = Instant::now() + PATIENCE;
    loop {
        let (restored, _) = restore(repository, NAME, &["latest"], "latest.db");
        let length = ledger.lengths(&[restored])[0];
        if length >= acked {
            return;
        }
        assert!(watcher.is_running(), "the watcher ended: {}", watcher.said());
        assert!(Instant::now() < end, "`latest` stays at {length} of {acked}: {}", watcher.said());
        sleep(Duration::from_millis(200));
    }
}

/// Everything below a folder that exists.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        found.push(path.clone());
        found.extend(tree(&path));
    }
    found
}
