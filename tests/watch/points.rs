//! Restore points as `continuum log` lists them, restored.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Repository, hash_of, text};

/// A restore point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    pub commit: u64,
    pub blake3: String,
    pub captured: String,
    /// The snapshot's id, if it is one.
    pub snapshot: Option<String>,
    pub lineage: Option<u64>,
}

/// All restore points of a database, in order.
#[track_caller]
pub fn list(repository: &Repository, name: &str) -> Vec<Point> {
    parse(&repository.json(&["log", name]))
}

/// The restore points that `log --json` printed; nothing may be wrong with them.
#[track_caller]
pub fn parse(log: &Value) -> Vec<Point> {
    assert_eq!(log["faults"], Value::Array(Vec::new()));
    let points = log["points"].as_array().expect("a list");
    let word = |point: &Value, name: &str| point[name].as_str().map(str::to_owned);
    let point = |point: &Value| Point {
        commit: point["commit"].as_u64().expect("a number"),
        blake3: word(point, "blake3").expect("a hash"),
        captured: word(point, "captured").expect("a time"),
        snapshot: word(point, "snapshot"),
        lineage: point["lineage"].as_u64(),
    };
    points.iter().map(point).collect()
}

/// Numbers never go back, and one number is one state.
#[track_caller]
pub fn assert_in_order(points: &[Point]) {
    for pair in points.windows(2) {
        assert!(pair[0].commit <= pair[1].commit, "the numbers go back: {pair:?}");
        assert!(
            pair[0].commit < pair[1].commit || pair[0].blake3 == pair[1].blake3,
            "one number, two states: {pair:?}"
        );
    }
}

/// Every point of `before` is still there, as it was.
#[track_caller]
pub fn assert_kept(before: &[Point], now: &[Point]) {
    for point in before {
        let kept = now.iter().any(|other| other.commit == point.commit && other.blake3 == point.blake3);
        assert!(kept, "a restore point that was listed is gone: {point:?}");
    }
}

/// Restores by these arguments to a file of this name, and returns what the binary said.
#[track_caller]
pub fn restore(repository: &Repository, name: &str, arguments: &[&str], target: &str) -> (PathBuf, Value) {
    let target = repository.path(target);
    let _ = std::fs::remove_file(&target);
    let with = ["--to", text(&target), "--integrity-check=true"];
    // An id names its database.
    let named: &[&str] =
        if arguments[0].starts_with("--") || arguments[0] == "latest" { &["--name", name] } else { &[] };
    let said = repository.json(&[&["restore"][..], arguments, named, &with].concat());
    assert_eq!(said["blake3"], hash_of(&target), "{arguments:?}");
    (target, said)
}

/// At most `most` of the items, evenly spread; the last is among them.
pub fn spread<T>(items: &[T], most: usize) -> Vec<&T> {
    let step = items.len().div_ceil(most).max(1);
    let mut picked: Vec<&T> = items.iter().rev().step_by(step).collect();
    picked.reverse();
    picked
}
