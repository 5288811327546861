//! Vectors of `tombstone.md`. Its limit is left to unit tests: the vector would have megabytes.

use ciborium::Value as Cbor;
use continuum::base::entropy::SeededEntropy;
use continuum::base::id::to_hex;
use continuum::format::object::{self, ObjectType, SealContext};
use serde_json::Value;

use super::{CHACHA, CONTEXT, bytes, fails, flipped, header_faults, keyring, map, object_input, ok, set, written};

fn sealed(context: &SealContext, cbor: &Cbor) -> Vec<u8> {
    let (key, entropy) = (&keyring().tombstone, SeededEntropy::new(10));
    object::seal(ObjectType::Tombstone, context, key, &[], &written(cbor), &entropy)
}

/// A tombstone of packs whose names are these numbers, and nothing else in front.
fn naming(packs: impl IntoIterator<Item = u32>) -> Cbor {
    let name = |number: u32| bytes([&[0; 28][..], &number.to_be_bytes()].concat());
    map(vec![("packs", Cbor::Array(packs.into_iter().map(name).collect()))])
}

pub(super) fn tombstone() -> Vec<Value> {
    let input = |cbor: &Cbor| object_input(&CONTEXT, &sealed(&CONTEXT, cbor));
    let good = naming([3, 4, 900]);
    let mut all = vec![
        ok("AES-256-GCM", input(&good)),
        ok("ChaCha20-Poly1305", object_input(&CHACHA, &sealed(&CHACHA, &good))),
        ok("one pack", input(&naming([0]))),
    ];
    for (name, cbor) in [
        ("no packs", naming([])),
        ("packs out of order", naming([3, 900, 4])),
        ("a pack twice", naming([3, 3])),
        ("a name of 31 bytes", map(vec![("packs", Cbor::Array(vec![bytes([1; 31])]))])),
        ("a name of 33 bytes", map(vec![("packs", Cbor::Array(vec![bytes([1; 33])]))])),
        ("names in one string", map(vec![("packs", bytes([1; 64]))])),
        ("an unknown key", set(&good, "reason", "old".into())),
        ("a missing key", map(vec![])),
    ] {
        all.push(fails(name, "malformed", input(&cbor)));
    }
    let object = sealed(&CONTEXT, &good);
    for (name, failure, object) in header_faults(&object) {
        all.push(fails(name, failure, object_input(&CONTEXT, &object)));
    }
    all.push(fails("damaged", "not-authentic", object_input(&CONTEXT, &flipped(&object, object.len() - 1))));
    let mut moved = input(&good);
    moved["epoch"] = 2.into();
    all.push(fails("the config has another epoch", "not-authentic", moved));
    let mut elsewhere = input(&good);
    elsewhere["repository"] = to_hex(&[0x23; 16]).into();
    all.push(fails("of another repository", "not-authentic", elsewhere));
    all
}
