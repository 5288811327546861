//! Events of `timeline.md` that say what has become of snapshots and entries. Their limits of 65,536 are left to unit tests: the vectors would have megabytes.

use ciborium::Value as Cbor;

use super::{bytes, map, reversed, set, without};

/// The place of the entry that they stand in.
pub(super) const SEQUENCE: u64 = 20;

type Case = (&'static str, &'static str, Cbor);

fn reference(sequence: u64) -> Cbor {
    map(vec![("sequence", sequence.into()), ("id", bytes([0x66; 32]))])
}

fn references(count: u64) -> Cbor {
    Cbor::Array((1..=count).map(reference).collect())
}

fn run(first: u64, last: u64) -> Cbor {
    map(vec![("first", first.into()), ("last", last.into()), ("last_id", bytes([0x67; 32]))])
}

fn event(name: &str, content: Cbor) -> Cbor {
    map(vec![(name, content)])
}

fn forgotten(snapshots: Cbor) -> Cbor {
    map(vec![("snapshots", snapshots), ("until", 1_764_000_000_000_000_u64.into())])
}

fn held(reason: &str) -> Cbor {
    map(vec![("snapshot", reference(7)), ("reason", reason.into())])
}

pub(super) fn events() -> Vec<Case> {
    let begun = |content: Cbor| event("begun", content);
    let mut all = vec![
        ("begun", "ok", begun(map(vec![]))),
        ("begun: an unknown key", "malformed", begun(map(vec![("host", "host".into())]))),
        ("begun: not a map", "malformed", begun(Cbor::Array(vec![]))),
        ("begun: an event without content", "malformed", "begun".into()),
    ];
    all.extend(forgetting());
    all.extend(holding());
    all.extend(damage());
    all.extend(collecting());
    all
}

fn forgetting() -> Vec<Case> {
    let of = |content: Cbor| event("forgotten", content);
    let one = |snapshot: Cbor| of(forgotten(Cbor::Array(vec![snapshot])));
    let good = forgotten(references(2));
    let back = |snapshots: Cbor| event("unforgotten", map(vec![("snapshots", snapshots)]));
    vec![
        ("forgotten: two", "ok", of(good.clone())),
        ("forgotten: keys in another order", "ok", of(reversed(&good))),
        ("forgotten: until before 1970", "ok", of(set(&good, "until", i64::MIN.into()))),
        ("forgotten: until beyond 64 bits", "malformed", of(set(&good, "until", (1_u64 << 63).into()))),
        ("forgotten: the same twice, and a later one", "ok", {
            of(forgotten(Cbor::Array(vec![reference(3), reference(3), reference(u64::MAX)])))
        }),
        ("forgotten: none", "malformed", of(forgotten(references(0)))),
        ("forgotten: no until", "malformed", of(without(&good, "until"))),
        ("forgotten: an unknown key", "malformed", of(set(&good, "reason", "old".into()))),
        ("forgotten: an id of 31 bytes", "malformed", one(set(&reference(3), "id", bytes([1; 31])))),
        ("forgotten: a negative sequence", "malformed", one(set(&reference(3), "sequence", (-1).into()))),
        ("forgotten: no id", "malformed", one(without(&reference(3), "id"))),
        ("forgotten: an unknown key of a snapshot", "malformed", one(set(&reference(3), "name", "x".into()))),
        ("unforgotten: one", "ok", back(references(1))),
        ("unforgotten: none", "malformed", back(references(0))),
        ("unforgotten: an until", "malformed", event("unforgotten", good)),
    ]
}

fn holding() -> Vec<Case> {
    let released = |content: Cbor| event("released", content);
    let good = map(vec![("snapshot", reference(7))]);
    vec![
        ("held", "ok", event("held", held("litigation"))),
        ("held: no reason", "ok", event("held", held(""))),
        ("held: a reason of 4096 bytes", "ok", event("held", held(&"x".repeat(4096)))),
        ("held: a reason of 4097 bytes", "malformed", event("held", held(&"x".repeat(4097)))),
        ("held: a missing reason", "malformed", event("held", good.clone())),
        ("held: several snapshots", "malformed", event("held", set(&held("x"), "snapshot", references(2)))),
        ("held: an unknown key", "malformed", event("held", set(&held("x"), "until", 1.into()))),
        ("released", "ok", released(good.clone())),
        ("released: with a reason", "malformed", released(held("x"))),
        ("released: no snapshot", "malformed", released(without(&good, "snapshot"))),
    ]
}

fn damage() -> Vec<Case> {
    let of = |segments: Cbor| event("damaged", map(vec![("segments", segments)]));
    let segments = |count: u8| Cbor::Array((1..=count).map(|nth| bytes([nth; 32])).collect());
    let good = map(vec![("segments", segments(2))]);
    vec![
        ("damaged: two", "ok", of(segments(2))),
        ("damaged: nothing any more", "ok", of(segments(0))),
        ("damaged: the same twice", "ok", of(Cbor::Array(vec![bytes([3; 32]), bytes([3; 32])]))),
        ("damaged: an id of 31 bytes", "malformed", of(Cbor::Array(vec![bytes([3; 31])]))),
        ("damaged: a text", "malformed", of(Cbor::Array(vec!["x".into()]))),
        ("damaged: no segments", "malformed", event("damaged", without(&good, "segments"))),
        ("damaged: an unknown key", "malformed", event("damaged", set(&good, "until", 1.into()))),
    ]
}

fn collecting() -> Vec<Case> {
    let of = |runs: Vec<Cbor>| event("collected", map(vec![("gone", Cbor::Array(runs))]));
    vec![
        ("collected: nothing", "ok", of(vec![])),
        ("collected: runs of one and of several", "ok", of(vec![run(1, 1), run(3, 9), run(11, SEQUENCE - 1)])),
        ("collected: itself", "malformed", of(vec![run(1, SEQUENCE)])),
        ("collected: a later entry", "malformed", of(vec![run(SEQUENCE + 1, SEQUENCE + 1)])),
        ("collected: entry 0", "malformed", of(vec![run(0, 3)])),
        ("collected: a run that ends before it begins", "malformed", of(vec![run(3, 2)])),
        ("collected: runs that touch", "malformed", of(vec![run(1, 2), run(3, 4)])),
        ("collected: runs that overlap", "malformed", of(vec![run(1, 4), run(3, 6)])),
        ("collected: runs out of order", "malformed", of(vec![run(5, 6), run(1, 2)])),
        ("collected: a run twice", "malformed", of(vec![run(1, 2), run(1, 2)])),
        ("collected: a run to the largest number", "malformed", of(vec![run(1, u64::MAX), run(3, 4)])),
        ("collected: a hash of 31 bytes", "malformed", of(vec![set(&run(1, 2), "last_id", bytes([1; 31]))])),
        ("collected: no hash", "malformed", of(vec![without(&run(1, 2), "last_id")])),
        ("collected: an unknown key", "malformed", of(vec![set(&run(1, 2), "first_id", bytes([1; 32]))])),
    ]
}
