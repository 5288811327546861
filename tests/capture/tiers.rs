//! What proves which pages changed: each tier is reached by a history that allows it, and by none that does not.

use rusqlite::Connection;

use super::source::{Place, checkpoint, numbers, rewrite, run, settle};
use crate::support::companion;

/// Bytes of a frame with a page of 4 KiB, and of the header before the first.
const FRAME_BYTES: u64 = 24 + 4096;
const HEADER_BYTES: u64 = 32;

#[test]
fn unchanged_in_wal_mode() {
    let (place, writer) = Place::with_wal();
    place.check("auto", "the first");
    assert_eq!(place.check("incremental", "the same")["tier"], "unchanged");
    run(&writer, "BEGIN IMMEDIATE; UPDATE t SET b = zeroblob(3500)");
    let same = place.check("incremental", "under an open transaction");
    assert_eq!(same["tier"], "unchanged");
    run(&writer, "ROLLBACK");
    let same = place.check("incremental", "after a rollback");
    assert_eq!((&same["tier"], same["changed_pages"].as_u64()), (&"unchanged".into(), Some(0)));
}

#[test]
fn unchanged_with_a_rollback_journal() {
    let (place, writer) = Place::with_rollback_journal();
    let early = place.check("auto", "the first");
    assert_eq!(early["tier"], "scan");
    settle();
    assert_eq!(place.check("incremental", "of a file that was not settled")["tier"], "scan");
    assert_eq!(place.check("incremental", "of a file that was settled")["tier"], "unchanged");
    rewrite(&writer, 7..=7);
    let changed = place.check("incremental", "changed");
    assert_eq!((&changed["tier"], &changed["strategy"]), (&"scan".into(), &"incremental".into()));
}

#[test]
fn the_tail_of_a_wal() {
    let (place, writer) = Place::with_wal();
    place.check("auto", "the first");
    for row in 1..5 {
        rewrite(&writer, row..=row + 3);
        rewrite(&writer, row..=row);
        assert_eq!(place.check("incremental", "a tail")["tier"], "wal-tail");
    }
    // Moving pages into the file is no reason to read them all.
    rewrite(&writer, 9..=9);
    checkpoint(&writer, "PASSIVE");
    assert_eq!(place.check("incremental", "checkpointed")["tier"], "wal-tail");
}

#[test]
fn a_wal_over_a_file_that_was_settled() {
    let (place, writer) = Place::with_wal();
    checkpoint(&writer, "TRUNCATE");
    settle();
    place.check("auto", "everything in the file");
    rewrite(&writer, 3..=5);
    assert_eq!(place.check("incremental", "a WAL over it")["tier"], "wal-tail");
}

#[test]
fn a_wal_made_anew_over_a_file_that_was_settled() {
    let (place, writer) = Place::with_wal();
    drop(writer);
    settle();
    place.check("auto", "everything in the file, nobody connected");
    assert_eq!(place.check("incremental", "the same")["tier"], "unchanged");
    let writer = place.connect(0);
    rewrite(&writer, 3..=5);
    assert_eq!(place.check("incremental", "a WAL over it")["tier"], "wal-tail");
}

#[test]
fn the_end_of_a_generation_and_the_next_one() {
    let (place, writer) = wal_with_old_frames();
    // The unseen tail, and one commit in the generation after it.
    rewrite(&writer, 20..=30);
    checkpoint(&writer, "PASSIVE");
    rewrite(&writer, 2..=2);
    let rescued = place.check("incremental", "rescued");
    assert_eq!(rescued["tier"], "wal-rescue", "{rescued}");
    // Again, from the rescued position.
    checkpoint(&writer, "PASSIVE");
    rewrite(&writer, 1..=1);
    let (again, proved) = (place.check("incremental", "again"), ["wal-rescue", "scan"]);
    assert!(proved.iter().any(|tier| again["tier"] == *tier), "{again}");
}

/// A generation began of which no frame is committed.
#[test]
fn the_end_of_a_generation_and_none_after_it() {
    let (place, writer) = wal_with_old_frames();
    rewrite(&writer, 20..=30);
    checkpoint(&writer, "PASSIVE");
    let seen = place.salts();
    run(&writer, "PRAGMA cache_size = 2; BEGIN; UPDATE t SET b = randomblob(3500) WHERE a < 8; ROLLBACK");
    assert_ne!(place.salts(), seen, "this case is about frames that spilled into a new generation");
    assert_eq!(place.check("incremental", "restarted")["tier"], "wal-rescue");
    rewrite(&writer, 1..=1);
    assert_eq!(place.check("incremental", "and on")["tier"], "wal-tail");
}

/// `RESTART` waits for readers; it is the next writer that restarts the WAL.
#[test]
fn a_generation_that_may_be_restarted() {
    let (place, writer) = wal_with_old_frames();
    rewrite(&writer, 20..=30);
    assert_eq!(checkpoint(&place.connect(0), "RESTART").0, 0);
    assert_eq!(place.check("incremental", "not restarted yet")["tier"], "wal-tail");
}

#[test]
fn a_generation_in_between_that_nobody_saw() {
    let (place, writer) = wal_with_old_frames();
    for row in [25, 26] {
        rewrite(&writer, row..=row);
        checkpoint(&writer, "PASSIVE");
    }
    rewrite(&writer, 2..=2);
    assert_eq!(place.check("incremental", "two restarts")["tier"], "scan");
}

#[test]
fn frames_that_were_overwritten() {
    let (place, writer) = wal_with_old_frames();
    rewrite(&writer, 20..=30);
    checkpoint(&writer, "PASSIVE");
    rewrite(&writer, 1..=25);
    assert_eq!(place.check("incremental", "a longer generation")["tier"], "scan");
}

/// `journal_size_limit` cuts the unseen tail where a frame ends, so that what is left looks whole.
#[test]
fn a_tail_that_was_cut() {
    for (frames, more) in [(18, 0), (20, 0), (12, 0), (11, 0), (15, 12), (15, 24), (15, FRAME_BYTES - 1)] {
        let (place, writer) = wal_with_old_frames();
        for row in 20..=30 {
            rewrite(&writer, row..=row);
        }
        checkpoint(&writer, "PASSIVE");
        let length = HEADER_BYTES + frames * FRAME_BYTES + more;
        writer.pragma_update(None, "journal_size_limit", length as i64).expect("a setting of the connection");
        rewrite(&writer, 2..=2);
        let wal = companion(&place.path, "-wal");
        assert_eq!(wal.metadata().expect("it is there").len(), length, "SQLite cuts the WAL");
        let what = format!("cut after {frames} frames and {more} bytes");
        assert_eq!(place.check("incremental", &what)["tier"], "scan", "{what}");
        rewrite(&writer, 4..=4);
        assert_eq!(place.check("incremental", &what)["tier"], "wal-tail", "{what}");
    }
}

/// A database of which a generation of the WAL was captured up to frame 11 or so, with frames of an earlier one far behind it.
fn wal_with_old_frames() -> (Place, Connection) {
    let (place, writer) = Place::with_wal();
    for _ in 0..3 {
        rewrite(&writer, 1..=40);
    }
    checkpoint(&writer, "PASSIVE");
    rewrite(&writer, 1..=10);
    place.check("auto", "the first");
    (place, writer)
}

#[test]
fn other_strategies_are_complete_by_the_same_proofs() {
    let (place, writer) = Place::with_wal();
    place.check("full", "the first");
    for strategy in ["differential", "incremental", "differential", "auto", "full", "differential"] {
        rewrite(&writer, 5..=8);
        run(&writer, &format!("{} INSERT INTO t(b) SELECT randomblob(100) FROM n", numbers(5)));
        let taken = place.check(strategy, strategy);
        let expected = if strategy == "full" { "scan" } else { "wal-tail" };
        assert_eq!(taken["tier"], expected, "{strategy}");
        let recorded = if strategy == "auto" { "incremental" } else { strategy };
        assert_eq!(taken["strategy"], recorded);
    }
}
