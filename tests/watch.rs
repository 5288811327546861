//! Watched databases: every commit that was acknowledged to the application is a restore point, and every restore point is exactly a committed state.
//!
//! An application in another process writes a ledger (see [`ledger`]) while the real binary watches it; both are killed, checkpoints and VACUUM are run by
//! others, the repository goes away and comes back. `CONTINUUM_LIVE_SECONDS` says how long each run takes (default: 5); the ignored test `soak` makes
//! random runs for `CONTINUUM_SOAK_MINUTES`.

#[path = "watch/courtesy.rs"]
mod courtesy;
#[path = "watch/damage.rs"]
mod damage;
#[path = "watch/destination.rs"]
mod destination;
#[path = "watch/files.rs"]
mod files;
mod ledger;
#[path = "watch/points.rs"]
mod points;
#[path = "watch/run.rs"]
mod run;
#[path = "watch/soak.rs"]
mod soak;
mod support;
mod watcher;

use run::Run;

#[test]
fn a_ledger_with_a_long_wal() {
    let done = Run::new(1, 1000).carry_out();
    assert!(done.is_gapless, "nothing disturbed the watcher");
}

/// Whose WAL is restarted every few transactions.
#[test]
fn a_ledger_with_a_short_wal() {
    let done = Run { arguments: &["--fold-interval", "0.4"], ..Run::new(2, 5) }.carry_out();
    assert!(done.is_gapless, "nothing disturbed the watcher");
}

/// Folds follow one another, for long enough to fill the stack of layers, and restores meet them at every moment.
#[test]
fn a_ledger_that_is_folded_all_the_time() {
    let arguments = &["--fold-interval", "0.05", "--flush-interval", "0.05"];
    let calm = Run::new(3, 50);
    Run { arguments, turn_ms: 20, seconds: calm.seconds * 3.0, ..calm }.carry_out();
}

/// The watcher keeps the WAL short by checkpoints of its own.
#[test]
fn a_ledger_that_never_checkpoints() {
    let done = Run { arguments: &["--wal-limit", "1", "--fold-size", "1"], ..Run::new(4, 0) }.carry_out();
    assert!(done.is_gapless, "nothing disturbed the watcher");
    assert!(done.wal_bytes < 64 << 20, "the WAL has {} bytes", done.wal_bytes);
}

#[test]
fn a_ledger_checkpointed_by_others() {
    let interference = &["truncate", "passive", "restart", "full", "read", "reconnect"];
    Run { interference, ..Run::new(5, 100) }.carry_out();
}

#[test]
fn a_ledger_that_is_vacuumed() {
    Run { interference: &["vacuum", "truncate"], ..Run::new(6, 1000) }.carry_out();
}

#[test]
fn an_application_that_is_killed() {
    Run { kills_application: true, ..Run::new(7, 50) }.carry_out();
}

#[test]
fn a_watcher_that_is_killed() {
    let done = Run { kills_watcher: true, ..Run::new(8, 50) }.carry_out();
    assert!(done.watcher_kills > 0);
}

#[test]
fn a_watcher_and_an_application_that_are_killed() {
    let interference = &["truncate", "vacuum", "reconnect"];
    Run { kills_watcher: true, kills_application: true, interference, ..Run::new(9, 20) }.carry_out();
}
