//! What a snapshot is made of: layer segments, which show the rules for CBOR too, and timeline entries.

use ciborium::Value as Cbor;
use continuum::base::entropy::SeededEntropy;
use continuum::base::id::to_hex;
use continuum::format::object::{self, ObjectType, SealContext};
use serde_json::{Value, json};

use super::{
    CHACHA, CONTEXT, ZEROS, bytes, fails, keyring, map, object_input, ok, reversed, set, with, without, written,
};

fn runs(records: &[[u32; 3]]) -> Vec<u8> {
    records.iter().flatten().flat_map(|number| number.to_le_bytes()).collect()
}

fn segment(first_page: u32, page_count: u32, chunks: &[u8], records: &[[u32; 3]]) -> Cbor {
    map(vec![
        ("first_page", first_page.into()),
        ("page_count", page_count.into()),
        ("chunks", bytes(chunks)),
        ("runs", bytes(runs(records))),
    ])
}

pub(super) fn layer() -> Vec<Value> {
    let input = |cbor: &[u8], position: u32, pages: u32| json!({ "segment": to_hex(cbor), "position": position, "page_count": pages });
    let ids = [[0xaa; 32], [0xbb; 32]].concat();
    let mixed = written(&segment(1, 10, &ids, &[[4, 0, 7], [3, ZEROS, 0], [2, 1, 0], [1, 0, 11]]));
    let full = written(&segment(1, 65_536, &ids, &[[65_536, 1, 0]]));
    let third = written(&segment(131_073, 5, &[], &[[5, ZEROS, 0]]));
    let mut all = vec![
        ok("chunks and zeros", input(&mixed, 0, 10)),
        ok("a full segment, followed by another", input(&full, 0, 65_537)),
        ok("a full segment, the last one", input(&full, 0, 65_536)),
        ok("the third segment", input(&third, 2, 131_077)),
        fails("the position of another segment", "malformed", input(&third, 1, 131_077)),
        fails("an image of more pages", "malformed", input(&mixed, 0, 11)),
    ];
    for (name, failure, cbor) in layer_segments() {
        all.push(fails(name, failure, input(&written(&cbor), 0, 10)));
    }
    for (name, failure, cbor) in cbor_faults() {
        all.push(fails(name, failure, input(&cbor, 0, 10)));
    }
    all
}

fn layer_segments() -> Vec<(&'static str, &'static str, Cbor)> {
    let of = |records: &[[u32; 3]]| segment(1, 10, &[0xaa; 32], records);
    let good = of(&[[10, 0, 0]]);
    vec![
        ("a chunk that no run uses", "ok", segment(1, 10, &[0xaa; 64], &[[10, 0, 0]])),
        ("a run of no pages", "malformed", of(&[[10, 0, 0], [0, 0, 0]])),
        ("a run of no zeros", "malformed", of(&[[0, ZEROS, 0], [10, 0, 0]])),
        ("a chunk that is not listed", "malformed", of(&[[10, 1, 0]])),
        ("too few pages", "malformed", of(&[[9, 0, 0]])),
        ("too many pages", "malformed", of(&[[10, 0, 0], [1, 0, 0]])),
        ("pages that overflow", "malformed", of(&[[u32::MAX, 0, 0], [11, 0, 0]])),
        ("no runs", "malformed", of(&[])),
        ("zeros that begin inside a chunk", "malformed", of(&[[10, ZEROS, 1]])),
        ("another first page", "malformed", segment(2, 10, &[0xaa; 32], &[[10, 0, 0]])),
        ("first page 0", "malformed", segment(0, 10, &[0xaa; 32], &[[10, 0, 0]])),
        ("another page count", "malformed", segment(1, 9, &[0xaa; 32], &[[9, 0, 0]])),
        ("ids that are not whole", "malformed", segment(1, 10, &[0xaa; 33], &[[10, 0, 0]])),
        ("runs that are not whole", "malformed", set(&good, "runs", bytes(&runs(&[[10, 0, 0]])[..11]))),
        ("CBOR: keys in another order", "ok", reversed(&good)),
        ("CBOR: a missing key", "malformed", without(&good, "chunks")),
        ("CBOR: an unknown key", "malformed", set(&good, "comment", "hello".into())),
        ("CBOR: a key in other letters", "malformed", set(&without(&good, "runs"), "Runs", bytes(runs(&[[10, 0, 0]])))),
        ("CBOR: a float", "malformed", set(&good, "first_page", Cbor::Float(1.0))),
        ("CBOR: a tag", "malformed", set(&good, "first_page", Cbor::Tag(1, Box::new(1.into())))),
        ("CBOR: a negative number", "malformed", set(&good, "first_page", (-1).into())),
        ("CBOR: true for a number", "malformed", set(&good, "first_page", Cbor::Bool(true))),
        ("CBOR: null for bytes", "malformed", set(&good, "chunks", Cbor::Null)),
        ("CBOR: text for bytes", "malformed", set(&good, "chunks", "a".repeat(32).into())),
        ("CBOR: an array for bytes", "malformed", set(&good, "chunks", Cbor::Array(vec![0xaa.into(); 32]))),
        ("CBOR: bytes for a number", "malformed", set(&good, "first_page", bytes([1]))),
        ("CBOR: an array for the map", "malformed", {
            Cbor::Array(good.as_map().expect("a map").iter().map(|(_, value)| value.clone()).collect())
        }),
        ("CBOR: numbers as keys", "malformed", keyed_by(&good, |nth, _| nth.into())),
        ("CBOR: bytes as keys", "malformed", keyed_by(&good, |_, key| bytes(key))),
    ]
}

fn keyed_by(map: &Cbor, key_of: fn(u32, &str) -> Cbor) -> Cbor {
    let fields = map.as_map().expect("a map").iter().zip(0..);
    Cbor::Map(fields.map(|((key, value), nth)| (key_of(nth, key.as_text().expect("text")), value.clone())).collect())
}

fn cbor_faults() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let good = written(&segment(1, 10, &[0xaa; 32], &[[10, 0, 0]]));
    let spliced = |from: usize, to: usize, bytes: &[u8]| [&good[..from], bytes, &good[to..]].concat();
    // The map's head, the key `first_page` with its head, then the number 1.
    let number = 1 + 11;
    let rest = &good[1..];
    let duplicate = [&[0xa5][..], rest, &good[1..=number]].concat();
    let nested = [&[0xa5][..], rest, &[0x61, b'x'], &[0x81; 40], &[0x01]].concat();
    vec![
        ("CBOR: a number in two bytes", "ok", spliced(number, number + 1, &[0x18, 1])),
        ("CBOR: a number in nine bytes", "ok", spliced(number, number + 1, &[0x1b, 0, 0, 0, 0, 0, 0, 0, 1])),
        ("CBOR: a length in five bytes", "ok", spliced(0, 1, &[0xba, 0, 0, 0, 4])),
        ("CBOR: nothing", "malformed", vec![]),
        ("CBOR: bytes after it", "malformed", [&good[..], &[0]].concat()),
        ("CBOR: the last byte missing", "malformed", good[..good.len() - 1].to_vec()),
        ("CBOR: a duplicate key", "malformed", duplicate),
        ("CBOR: a deeply nested unknown key", "malformed", nested),
        ("CBOR: a map of indefinite length", "malformed", [&spliced(0, 1, &[0xbf])[..], &[0xff]].concat()),
        ("CBOR: a key of indefinite length", "malformed", {
            [&[0xa4, 0x7f][..], &good[1..number], &[0xff], &good[number..]].concat()
        }),
        (
            "CBOR: a string longer than the input",
            "malformed",
            spliced(1, 2, &[0x7b, 255, 255, 255, 255, 255, 255, 255, 255]),
        ),
        (
            "CBOR: a map longer than the input",
            "malformed",
            spliced(0, 1, &[0xbb, 255, 255, 255, 255, 255, 255, 255, 255]),
        ),
        ("CBOR: a reserved length", "malformed", spliced(number, number + 1, &[0x1c])),
        ("CBOR: a number that is cut off", "malformed", [&good[..number], &[0x1b, 0, 0]].concat()),
        ("CBOR: a key that is no UTF-8", "malformed", with(&good, 2, 0xff)),
        ("CBOR: a simple value", "malformed", spliced(number, number + 1, &[0xf8, 0x20])),
    ]
}

fn manifest() -> Cbor {
    let segments = Cbor::Array(vec![bytes([0x77; 32])]);
    let image = map(vec![("kind", "image".into()), ("page_count", 3.into()), ("segments", segments)]);
    map(vec![
        ("strategy", "full".into()),
        ("tags", Cbor::Array(vec!["daily".into(), "büro".into()])),
        ("host", "host".into()),
        ("source", "/data/orders.db".into()),
        ("captured", 1_764_000_000_000_000_u64.into()),
        ("tool", "continuum 0.1.0".into()),
        ("journal_mode", "wal".into()),
        ("page_size", 4096.into()),
        ("page_count", 3.into()),
        ("root", bytes([0x88; 32])),
        ("layers", Cbor::Array(vec![image])),
        ("added", 12_288.into()),
    ])
}

fn entry_of(manifest: Cbor) -> Cbor {
    map(vec![
        ("sequence", 1.into()),
        ("previous", bytes([0; 32])),
        ("database", "orders".into()),
        ("recorded", 1_764_000_000_500_000_u64.into()),
        ("event", map(vec![("snapshot", manifest)])),
    ])
}

pub(super) fn timeline() -> Vec<Value> {
    let mut all = Vec::new();
    let input = |context: &SealContext, name: &str, sequence: u64, cbor: &Cbor| {
        let keys = keyring();
        let database = keys.database_id(name);
        let binding = [&database.0[..], &sequence.to_le_bytes()].concat();
        let entropy = SeededEntropy::new(6);
        let kind = ObjectType::TimelineEntry;
        let object = object::seal(kind, context, &keys.timeline, &binding, &written(cbor), &entropy);
        let mut input = object_input(context, &object);
        input["database_id"] = database.to_string().into();
        input["sequence"] = sequence.into();
        input
    };
    let good = entry_of(manifest());
    let mut moved = input(&CONTEXT, "orders", 1, &good);
    moved["sequence"] = 2.into();
    all.push(fails("under another sequence", "not-authentic", moved));
    let mut moved = input(&CONTEXT, "orders", 1, &good);
    moved["database_id"] = keyring().database_id("others").to_string().into();
    all.push(fails("under another database", "not-authentic", moved));
    all.push(ok("ChaCha20-Poly1305", input(&CHACHA, "orders", 1, &good)));
    all.push(fails("another sequence inside", "wrong-name", input(&CONTEXT, "orders", 2, &good)));
    all.push(fails("another database inside", "wrong-name", input(&CONTEXT, "others", 1, &good)));
    for name in ["x", "Aufträge 2026", "..x", &"x".repeat(255)] {
        let entry = set(&good, "database", name.into());
        let title = format!("a database of {} bytes called {}", name.len(), &name[..name.len().min(5)]);
        all.push(ok(&title, input(&CONTEXT, name, 1, &entry)));
    }
    for name in ["", ".", "..", "a/b", "a\nb", "a\0b", "a\u{7f}b", "a\u{85}b", &"x".repeat(256)] {
        let entry = set(&good, "database", name.into());
        let title = format!("a database called {:?}", &name[..name.len().min(5)]);
        all.push(fails(&title, "malformed", input(&CONTEXT, name, 1, &entry)));
    }
    for (name, expect, entry) in entries(&good) {
        all.push(fails(name, expect, input(&CONTEXT, "orders", 1, &entry)));
    }
    for (name, expect, manifest) in manifests().into_iter().chain(layer_stacks()) {
        all.push(fails(name, expect, input(&CONTEXT, "orders", 1, &entry_of(manifest))));
    }
    let last = set(&set(&good, "sequence", u64::MAX.into()), "previous", bytes([9; 32]));
    all.push(ok("the largest sequence", input(&CONTEXT, "orders", u64::MAX, &last)));
    all
}

fn entries(good: &Cbor) -> Vec<(&'static str, &'static str, Cbor)> {
    let event = |fields: Vec<(&str, Cbor)>| set(good, "event", map(fields));
    vec![
        ("a snapshot", "ok", good.clone()),
        ("keys in another order", "ok", reversed(good)),
        ("recorded before 1970", "ok", set(good, "recorded", i64::MIN.into())),
        ("recorded beyond 64 bits", "malformed", set(good, "recorded", (1_u64 << 63).into())),
        ("a previous of 31 bytes", "malformed", set(good, "previous", bytes([0; 31]))),
        ("another event", "malformed", event(vec![("deletion", manifest())])),
        ("no event", "malformed", event(vec![])),
        ("two events", "malformed", event(vec![("snapshot", manifest()), ("deletion", 1.into())])),
        ("an event without content", "malformed", set(good, "event", "snapshot".into())),
        ("a missing key", "malformed", without(good, "recorded")),
        ("an unknown key", "malformed", set(good, "comment", "hello".into())),
    ]
}

fn manifests() -> Vec<(&'static str, &'static str, Cbor)> {
    let with = |field: &str, value: Cbor| set(&manifest(), field, value);
    let tags = |count: usize, tag: &str| with("tags", Cbor::Array(vec![tag.into(); count]));
    vec![
        ("manifest: keys in another order", "ok", reversed(&manifest())),
        ("manifest: pages of 512", "ok", with("page_size", 512.into())),
        ("manifest: pages of 65536", "ok", with("page_size", 65_536.into())),
        ("manifest: pages of 256", "malformed", with("page_size", 256.into())),
        ("manifest: pages of 131072", "malformed", with("page_size", 131_072.into())),
        ("manifest: pages of 1000", "malformed", with("page_size", 1000.into())),
        ("manifest: pages of 1, as SQLite's header writes 65536", "malformed", with("page_size", 1.into())),
        ("manifest: 64 tags", "ok", tags(64, "tag")),
        ("manifest: 65 tags", "malformed", tags(65, "tag")),
        ("manifest: no tags", "ok", tags(0, "tag")),
        ("manifest: an empty tag", "malformed", tags(1, "")),
        ("manifest: a tag of 255 bytes", "ok", tags(1, &"x".repeat(255))),
        ("manifest: a tag of 256 bytes", "malformed", tags(1, &"x".repeat(256))),
        ("manifest: a tag with a control character", "malformed", tags(1, "a\tb")),
        ("manifest: a host of 4097 bytes", "malformed", with("host", "x".repeat(4097).into())),
        ("manifest: a source of 4097 bytes", "malformed", with("source", "x".repeat(4097).into())),
        ("manifest: a tool of 4097 bytes", "malformed", with("tool", "x".repeat(4097).into())),
        ("manifest: a journal mode of 4097 bytes", "malformed", with("journal_mode", "x".repeat(4097).into())),
        ("manifest: empty texts", "ok", set(&set(&with("host", "".into()), "source", "".into()), "tool", "".into())),
        ("manifest: another strategy", "malformed", with("strategy", "delta".into())),
        ("manifest: a root of 20 bytes", "malformed", with("root", bytes([8; 20]))),
        ("manifest: added as many as can be", "ok", with("added", u64::MAX.into())),
        ("manifest: a negative number added", "malformed", with("added", (-1).into())),
        ("manifest: bytes for text", "malformed", with("host", bytes(*b"host"))),
        ("manifest: a strategy as a map", "malformed", with("strategy", map(vec![("full", Cbor::Null)]))),
        ("manifest: a missing key", "malformed", without(&manifest(), "added")),
        ("manifest: an unknown key", "malformed", with("comment", "hello".into())),
    ]
}

fn layer_stacks() -> Vec<(&'static str, &'static str, Cbor)> {
    let layer = |kind: &str, page_count: u32, segments: usize| {
        let segments = Cbor::Array(vec![bytes([0x77; 32]); segments]);
        map(vec![("kind", kind.into()), ("page_count", page_count.into()), ("segments", segments)])
    };
    let with = |page_count: u32, layers: Vec<Cbor>| {
        set(&set(&manifest(), "page_count", page_count.into()), "layers", Cbor::Array(layers))
    };
    vec![
        ("manifest: 65,536 pages in one segment", "ok", with(65_536, vec![layer("image", 65_536, 1)])),
        ("manifest: 65,537 pages in two segments", "ok", with(65_537, vec![layer("image", 65_537, 2)])),
        ("manifest: 65,537 pages in one segment", "malformed", with(65_537, vec![layer("image", 65_537, 1)])),
        ("manifest: a segment too many", "malformed", with(65_536, vec![layer("image", 65_536, 2)])),
        ("manifest: no segments", "malformed", with(3, vec![layer("image", 3, 0)])),
        ("manifest: no pages", "malformed", with(0, vec![layer("image", 0, 0)])),
        ("manifest: too many pages", "malformed", with(u32::MAX, vec![layer("image", u32::MAX, 1)])),
        ("manifest: an image of other pages", "malformed", with(3, vec![layer("image", 4, 1)])),
        ("manifest: no layers", "malformed", with(3, vec![])),
        ("manifest: two images", "malformed", with(3, vec![layer("image", 3, 1), layer("image", 3, 1)])),
        ("manifest: a layer of another kind", "malformed", with(3, vec![layer("delta", 3, 1)])),
        ("manifest: an unknown key of a layer", "malformed", with(3, vec![set(&layer("image", 3, 1), "x", 1.into())])),
    ]
}
