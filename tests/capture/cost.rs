//! What a delta costs: the change, not the database; and stacks of layers stay short.

use serde_json::Value;

use super::source::{Place, Taken, numbers, run};

/// Rows of 4,000 random bytes, one to a page: about 20 MiB.
const ROWS: u32 = 5000;
const INCREMENTALS: u32 = 100;
const MOST_LAYERS: u64 = 32;

#[test]
fn a_hundred_small_changes() {
    let place = Place::new();
    let writer = place.connect(1000);
    run(&writer, "PRAGMA journal_mode = wal; PRAGMA synchronous = off; CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)");
    run(&writer, &format!("{} INSERT INTO t SELECT i, randomblob(4000) FROM n", numbers(ROWS)));
    let full = place.snapshot_with("full");
    assert!(stored_bytes(&full) > 20_000_000, "{full}");
    let (mut sampled, mut most_bytes): (Vec<Taken>, u64) = (Vec::new(), 0);
    for number in 1..=INCREMENTALS {
        let row = number * 7919 % ROWS;
        run(&writer, &format!("UPDATE t SET b = randomblob(30) || substr(b, 31) WHERE a IN ({row}, {row} / 2)"));
        let is_sampled = number % 11 == 1 || number == INCREMENTALS;
        let taken = if is_sampled {
            place.take("incremental")
        } else {
            Taken { snapshot: place.snapshot_with("incremental"), view: Vec::new() }
        };
        let Taken { snapshot, .. } = &taken;
        assert_eq!(snapshot["strategy"], "incremental");
        let layers = snapshot["layers"].as_u64().expect("a number");
        assert!(layers <= MOST_LAYERS, "incremental {number} stands on {layers} layers");
        let stored = stored_bytes(snapshot);
        assert!(stored < 64 << 10, "incremental {number} stored {stored} bytes: {snapshot}");
        most_bytes = most_bytes.max(stored);
        if is_sampled {
            sampled.push(taken);
        }
    }
    let again = place.take("full");
    let share = stored_bytes(&again.snapshot) as f64 / stored_bytes(&full) as f64;
    println!(
        "incrementals store at most {most_bytes} bytes; a full after {INCREMENTALS} of them {:.1} %",
        share * 100.0
    );
    assert!(share < 0.3, "a full stored {:.1} % of the database", share * 100.0);
    assert_eq!(again.snapshot["blake3"], sampled[sampled.len() - 1].snapshot["blake3"]);
    for (number, taken) in sampled.iter().enumerate() {
        place.compare(taken, &format!("sample {number}"));
    }
    place.compare(&again, "the full");
}

/// Folded layers are what the next delta stands on.
#[test]
fn a_delta_after_a_compaction_stands_on_what_was_folded() {
    let (place, writer) = Place::with_wal();
    place.check("full", "the first");
    for row in 1..=5 {
        super::source::rewrite(&writer, row..=row);
        place.check("incremental", "a layer each");
    }
    for (arguments, layers) in
        [(&["compact", super::source::NAME][..], 3), (&["compact", super::source::NAME, "--full"], 2)]
    {
        let compacted = place.json(arguments);
        assert_eq!(compacted["layers_after"], layers - 1, "{compacted}");
        super::source::rewrite(&writer, 9..=9);
        let taken = place.check("incremental", "after a compaction");
        assert_eq!(taken["layers"], layers, "what was folded is not built upon: {taken}");
    }
}

fn stored_bytes(snapshot: &Value) -> u64 {
    let bytes = |name: &str| snapshot[name].as_u64().expect("a number");
    bytes("new_pack_bytes") + bytes("new_index_bytes")
}
