//! One process captures a database at a time; the right to it ends with the process, however that ends.

use super::missed::{assert_numbers_ascend, commits, wait_for_commit};
use super::source::{NAME, Place, rewrite};
use crate::support::text;
use crate::watcher::Watcher;

#[test]
fn a_watched_database_is_captured_by_its_watcher_only() {
    let (place, writer) = Place::with_wal();
    let arguments = [text(&place.path), "--flush-interval", "0.05"];
    let mut watcher = Watcher::attached(&place.repository, NAME, &arguments);
    rewrite(&writer, 1..=3);
    let refused = [
        &["snapshot", text(&place.path)][..],
        &["snapshot", text(&place.path), "--strategy", "full"],
        &["compact", NAME],
        &["watch", text(&place.path)],
    ];
    for arguments in refused {
        let output = place.repository.run(arguments).output;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(NAME) && said.contains("continuum status"), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    assert!(watcher.is_running(), "{}", watcher.said());
    // Reading is for everybody.
    assert!(!commits(&place).is_empty());
    watcher.stop();
    place.check("incremental", "after the watcher's end");
}

#[test]
fn a_killed_watcher_keeps_nobody_from_capturing() {
    let (place, writer) = Place::with_wal();
    let arguments = [text(&place.path), "--flush-interval", "0.05"];
    let mut watcher = Watcher::attached(&place.repository, NAME, &arguments);
    for row in 1..=6 {
        rewrite(&writer, row..=row);
    }
    wait_for_commit(&place, 7, &watcher);
    watcher.kill();
    let journaled = commits(&place);
    rewrite(&writer, 9..=9);
    let taken = place.check("incremental", "after the kill");
    assert_eq!(taken["commit"], 8);
    let now = commits(&place);
    assert!(journaled.iter().all(|commit| now.contains(commit)), "{journaled:?} were journaled, left are {now:?}");
    assert_numbers_ascend(&place);
    place.run(&["check", "--read-data"]).expect_success();
}
