//! Vectors of `verification.md`.

use ciborium::Value as Cbor;
use continuum::base::entropy::SeededEntropy;
use continuum::format::object::{self, ObjectType, SealContext};
use serde_json::Value;

use super::{CHACHA, CONTEXT, bytes, fails, keyring, map, object_input, ok, reversed, set, without, written};

fn input(context: &SealContext, cbor: &Cbor) -> Value {
    let (key, entropy) = (&keyring().verification, SeededEntropy::new(9));
    object_input(context, &object::seal(ObjectType::Verification, context, key, &[], &written(cbor), &entropy))
}

fn check(kind: &str, outcome: &str) -> Cbor {
    map(vec![("kind", kind.into()), ("outcome", outcome.into()), ("detail", "3 pages".into())])
}

fn record() -> Cbor {
    map(vec![
        ("database", "orders".into()),
        ("snapshot", bytes([0x33; 32])),
        ("root", bytes([0x44; 32])),
        ("checks", Cbor::Array(vec![check("hashes", "passed")])),
    ])
}

fn around(records: Vec<Cbor>) -> Cbor {
    map(vec![
        ("recorded", 1_764_000_000_000_000_u64.into()),
        ("host", "backup".into()),
        ("tool", "continuum 0.1.0".into()),
        ("records", Cbor::Array(records)),
    ])
}

pub(super) fn verification() -> Vec<Value> {
    let good = around(vec![record()]);
    let whole = set(&set(&record(), "sha256", bytes([0x55; 32])), "restore_micros", 1_500_000.into());
    let checks = |checks: Vec<Cbor>| around(vec![set(&record(), "checks", Cbor::Array(checks))]);
    let kinds = ["hashes", "schema", "data", "integrity", "restore"];
    let of = |field: &str, value: Cbor| around(vec![set(&record(), field, value)]);
    let mut all = vec![
        ok("AES-256-GCM", input(&CONTEXT, &good)),
        ok("ChaCha20-Poly1305", input(&CHACHA, &good)),
        ok("keys in another order", input(&CONTEXT, &reversed(&good))),
        ok("all members", input(&CONTEXT, &around(vec![whole, record()]))),
    ];
    for outcome in ["passed", "failed", "skipped"] {
        let every = kinds.map(|kind| check(kind, outcome)).to_vec();
        all.push(ok(&format!("all kinds, {outcome}"), input(&CONTEXT, &checks(every))));
    }
    for (name, cbor) in [
        ("no records", around(Vec::new())),
        ("4,097 records", around(vec![record(); 4097])),
        ("no checks", checks(Vec::new())),
        ("17 checks", checks(vec![check("data", "passed"); 17])),
        ("another kind", checks(vec![check("taste", "passed")])),
        ("another outcome", checks(vec![check("data", "maybe")])),
        ("a detail of 4,097 bytes", checks(vec![set(&check("data", "passed"), "detail", "x".repeat(4097).into())])),
        ("a database called a/b", of("database", "a/b".into())),
        ("a short snapshot id", of("snapshot", bytes([1; 31]))),
        ("a short SHA-256", of("sha256", bytes([1; 31]))),
        ("a negative time to restore", of("restore_micros", (-1).into())),
        ("an unknown member of a record", of("comment", 1.into())),
        ("a host of 4,097 bytes", set(&good, "host", "x".repeat(4097).into())),
        ("an unknown key", set(&good, "comment", 1.into())),
        ("a missing key", without(&good, "tool")),
    ] {
        all.push(fails(name, "malformed", input(&CONTEXT, &cbor)));
    }
    let mut moved = input(&CONTEXT, &good);
    moved["epoch"] = 2.into();
    all.push(fails("the config has another epoch", "not-authentic", moved));
    all
}
