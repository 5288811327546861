//! Random runs until the time is over: `cargo xtask soak`.

use std::time::{Duration, Instant};

use crate::run::Run;

const INTERFERENCES: [&[&str]; 6] = [
    &[],
    &["truncate"],
    &["vacuum", "truncate"],
    &["passive", "full", "restart", "read"],
    &["reconnect", "read"],
    &["truncate", "passive", "restart", "full", "read", "reconnect", "vacuum"],
];

const OPTIONS: [&[&str]; 5] = [
    &[],
    &["--fold-interval", "0.1", "--flush-interval", "0.05"],
    &["--fold-interval", "300"],
    &["--fold-interval", "0.5", "--wal-limit", "1"],
    &["--fold-interval", "3", "--fold-size", "1", "--flush-interval", "1"],
];

#[test]
#[ignore = "takes as long as CONTINUUM_SOAK_MINUTES says"]
fn soak() {
    let number = |name: &str, default: f64| {
        std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number in the environment"))
    };
    let minutes = number("CONTINUUM_SOAK_MINUTES", 1.0);
    let mut seed = number("CONTINUUM_SEED", 1000.0) as u64;
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let (mut runs, mut restores, mut transactions, mut kills) = (0, 0, 0, 0);
    while Instant::now() < end {
        let run = random_run(seed);
        // The seed is printed before: a failure does not return.
        println!("seed {seed}: {run:?}");
        let done = run.carry_out();
        (runs, restores, transactions) = (runs + 1, restores + done.restores, transactions + done.transactions);
        kills += done.watcher_kills;
        seed += 1;
    }
    println!("soak: {runs} runs, {transactions} transactions, {kills} watchers killed, {restores} restores, all right");
    assert!(restores > 0);
}

fn random_run(seed: u64) -> Run {
    // Each choice has digits of its own of a hash of the seed.
    let hash = blake3::hash(&seed.to_le_bytes());
    let digit = |at: usize, end: usize| usize::from(hash.as_bytes()[at]) % end;
    Run {
        arguments: OPTIONS[digit(0, OPTIONS.len())],
        interference: INTERFERENCES[digit(1, INTERFERENCES.len())],
        kills_application: digit(2, 3) == 0,
        kills_watcher: digit(3, 2) == 0,
        turn_ms: [30, 100, 250][digit(4, 3)],
        seconds: 3.0 + digit(5, 10) as f64,
        ..Run::new(seed, [0, 3, 20, 100, 1000, 1000][digit(6, 6)])
    }
}
