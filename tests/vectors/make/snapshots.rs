//! What a snapshot is made of: layer segments, which show the rules for CBOR too, and timeline entries.

use ciborium::Value as Cbor;
use continuum::base::entropy::SeededEntropy;
use continuum::base::id::to_hex;
use continuum::format::object::{self, ObjectType, SealContext};
use serde_json::{Value, json};

use super::{
    CHACHA, CONTEXT, ZEROS, bytes, events, fails, keyring, map, object_input, ok, reversed, set, with, without, written,
};

fn runs(records: &[[u32; 3]]) -> Vec<u8> {
    records.iter().flatten().flat_map(|number| number.to_le_bytes()).collect()
}

/// Records of chunks: a byte that fills the id, and the pages of the chunk.
fn chunks(records: &[(u8, u32)]) -> Vec<u8> {
    records.iter().flat_map(|&(id, pages)| [&[id; 32][..], &pages.to_le_bytes()].concat()).collect()
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
    let listed = chunks(&[(0xaa, 12), (0xbb, 65_536)]);
    let mixed = written(&segment(1, 10, &listed, &[[4, 0, 7], [3, ZEROS, 0], [2, 1, 0], [1, 0, 11]]));
    let full = written(&segment(1, 65_536, &listed, &[[65_536, 1, 0]]));
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
    let listed = chunks(&[(0xaa, 10)]);
    let of = |records: &[[u32; 3]]| segment(1, 10, &listed, records);
    let of_pages = |pages: u32, records: &[[u32; 3]]| segment(1, 10, &chunks(&[(0xaa, pages)]), records);
    let good = of(&[[10, 0, 0]]);
    vec![
        ("a chunk that no run uses", "ok", segment(1, 10, &chunks(&[(0xaa, 10), (0xbb, 0)]), &[[10, 0, 0]])),
        ("pages of a chunk in another order", "ok", of(&[[3, 0, 7], [5, 0, 2], [2, 0, 0]])),
        ("some pages of a chunk", "ok", of_pages(8192, &[[9, 0, 100], [1, 0, 8191]])),
        ("the same page of a chunk twice", "ok", of(&[[5, 0, 5], [5, 0, 5]])),
        ("a run past the pages of its chunk", "malformed", of_pages(9, &[[10, 0, 0]])),
        ("a run that begins behind the pages of its chunk", "malformed", of_pages(10, &[[9, 0, 0], [1, 0, 10]])),
        ("a run that ends one page too far", "malformed", of_pages(20, &[[10, 0, 11]])),
        ("a page in a chunk that overflows", "malformed", of_pages(10, &[[10, 0, u32::MAX]])),
        ("a run of a chunk of no pages", "malformed", of_pages(0, &[[10, 0, 0]])),
        ("a run of no pages", "malformed", of(&[[10, 0, 0], [0, 0, 0]])),
        ("a run of no zeros", "malformed", of(&[[0, ZEROS, 0], [10, 0, 0]])),
        ("a chunk that is not listed", "malformed", of(&[[10, 1, 0]])),
        ("too few pages", "malformed", of(&[[9, 0, 0]])),
        ("too many pages", "malformed", of(&[[10, 0, 0], [1, 0, 0]])),
        ("pages that overflow", "malformed", of(&[[u32::MAX, 0, 0], [11, 0, 0]])),
        ("no runs", "malformed", of(&[])),
        ("zeros that begin inside a chunk", "malformed", of(&[[10, ZEROS, 1]])),
        ("another first page", "malformed", segment(2, 10, &listed, &[[10, 0, 0]])),
        ("first page 0", "malformed", segment(0, 10, &listed, &[[10, 0, 0]])),
        ("another page count", "malformed", segment(1, 9, &listed, &[[9, 0, 0]])),
        ("chunks that are not whole", "malformed", segment(1, 10, &[&listed[..], &[0xbb]].concat(), &[[10, 0, 0]])),
        ("ids without pages", "malformed", segment(1, 10, &[0xaa; 32], &[[10, 0, 0]])),
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
        ("CBOR: text for bytes", "malformed", set(&good, "chunks", "a".repeat(36).into())),
        ("CBOR: an array for bytes", "malformed", set(&good, "chunks", Cbor::Array(vec![0xaa.into(); 36]))),
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
    let good = written(&segment(1, 10, &chunks(&[(0xaa, 10)]), &[[10, 0, 0]]));
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

fn layer_of(kind: &str, commits: [u64; 2], page_counts: [u32; 2], segments: usize) -> Cbor {
    map(vec![
        ("kind", kind.into()),
        ("first_commit", commits[0].into()),
        ("last_commit", commits[1].into()),
        ("page_count", page_counts[0].into()),
        ("low_page_count", page_counts[1].into()),
        ("record_bytes", if kind == "image" { 0 } else { 300 }.into()),
        ("segments", Cbor::Array(vec![bytes([0x77; 32]); segments])),
    ])
}

/// An image of the first commit.
fn image(page_count: u32, segments: usize) -> Cbor {
    layer_of("image", [1, 1], [page_count; 2], segments)
}

fn delta(commits: [u64; 2]) -> Cbor {
    layer_of("delta", commits, [3, 3], 1)
}

fn manifest() -> Cbor {
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
        ("commit", 1.into()),
        ("lineage", 1.into()),
        ("layers", Cbor::Array(vec![image(3, 1)])),
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
    for (name, expect, event) in watches() {
        all.push(fails(name, expect, input(&CONTEXT, "orders", 1, &set(&good, "event", event))));
    }
    for (name, expect, event) in events::events() {
        let entry = set(&set(&good, "event", event), "sequence", events::SEQUENCE.into());
        all.push(fails(name, expect, input(&CONTEXT, "orders", events::SEQUENCE, &entry)));
    }
    for (name, expect, manifest) in manifests().into_iter().chain(images()).chain(layer_stacks()).chain(layers()) {
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
        ("two known events", "malformed", event(vec![("snapshot", manifest()), ("watch_ended", watch())])),
        ("an event without content", "malformed", set(good, "event", "snapshot".into())),
        ("a missing key", "malformed", without(good, "recorded")),
        ("an unknown key", "malformed", set(good, "comment", "hello".into())),
    ]
}

fn watch() -> Cbor {
    map(vec![("writer", bytes([0x99; 16])), ("host", "host".into())])
}

fn watches() -> Vec<(&'static str, &'static str, Cbor)> {
    let started = |watch: Cbor| map(vec![("watch_started", watch)]);
    let ended = |watch: Cbor| map(vec![("watch_ended", watch)]);
    vec![
        ("watch: started", "ok", started(watch())),
        ("watch: ended", "ok", ended(watch())),
        ("watch: keys in another order", "ok", started(reversed(&watch()))),
        ("watch: no host", "ok", ended(set(&watch(), "host", "".into()))),
        ("watch: a host of 4096 bytes", "ok", started(set(&watch(), "host", "x".repeat(4096).into()))),
        (
            "watch: started on a host of 4097 bytes",
            "malformed",
            started(set(&watch(), "host", "x".repeat(4097).into())),
        ),
        ("watch: ended on a host of 4097 bytes", "malformed", ended(set(&watch(), "host", "x".repeat(4097).into()))),
        ("watch: a writer of 15 bytes", "malformed", started(set(&watch(), "writer", bytes([0x99; 15])))),
        ("watch: a writer as text", "malformed", started(set(&watch(), "writer", "9".repeat(16).into()))),
        ("watch: a missing key", "malformed", ended(without(&watch(), "host"))),
        ("watch: an unknown key", "malformed", ended(set(&watch(), "comment", "hello".into()))),
        ("watch: another event of it", "malformed", map(vec![("watch_paused", watch())])),
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
        ("manifest: a differential", "ok", with("strategy", "differential".into())),
        ("manifest: an incremental", "ok", with("strategy", "incremental".into())),
        ("manifest: a continuous one", "ok", with("strategy", "continuous".into())),
        ("manifest: a compaction", "ok", with("strategy", "compaction".into())),
        ("manifest: another strategy", "malformed", with("strategy", "delta".into())),
        ("manifest: a strategy in other letters", "malformed", with("strategy", "Full".into())),
        ("manifest: another lineage", "ok", with("lineage", 77.into())),
        ("manifest: a negative lineage", "malformed", with("lineage", (-1).into())),
        ("manifest: no lineage", "malformed", without(&manifest(), "lineage")),
        ("manifest: no commit", "malformed", without(&manifest(), "commit")),
        ("manifest: a root of 20 bytes", "malformed", with("root", bytes([8; 20]))),
        ("manifest: added as many as can be", "ok", with("added", u64::MAX.into())),
        ("manifest: a negative number added", "malformed", with("added", (-1).into())),
        ("manifest: bytes for text", "malformed", with("host", bytes(*b"host"))),
        ("manifest: a strategy as a map", "malformed", with("strategy", map(vec![("full", Cbor::Null)]))),
        ("manifest: a missing key", "malformed", without(&manifest(), "added")),
        ("manifest: an unknown key", "malformed", with("comment", "hello".into())),
    ]
}

fn with_layers(commit: u64, page_count: u32, layers: Vec<Cbor>) -> Cbor {
    let manifest = set(&set(&manifest(), "commit", commit.into()), "page_count", page_count.into());
    set(&manifest, "layers", Cbor::Array(layers))
}

fn images() -> Vec<(&'static str, &'static str, Cbor)> {
    let with = |page_count: u32, image: Cbor| with_layers(1, page_count, vec![image]);
    vec![
        ("image: 65,536 pages in one segment", "ok", with(65_536, image(65_536, 1))),
        ("image: 65,537 pages in two segments", "ok", with(65_537, image(65_537, 2))),
        ("image: 65,537 pages in one segment", "malformed", with(65_537, image(65_537, 1))),
        ("image: a segment too many", "malformed", with(65_536, image(65_536, 2))),
        ("image: no segments", "malformed", with(3, image(3, 0))),
        ("image: no pages", "malformed", with(0, image(0, 0))),
        ("image: too many pages", "malformed", with(u32::MAX, image(u32::MAX, 1))),
        ("image: other pages than the manifest's", "malformed", with(3, image(4, 1))),
        ("image: a low page count above", "malformed", with(3, layer_of("image", [1, 1], [3, 4], 1))),
        ("image: commit 0", "malformed", with_layers(0, 3, vec![layer_of("image", [0, 0], [3, 3], 1)])),
        ("image: a later commit than the manifest's", "malformed", with(3, layer_of("image", [2, 2], [3, 3], 1))),
    ]
}

fn layer_stacks() -> Vec<(&'static str, &'static str, Cbor)> {
    let with = |commit: u64, layers: Vec<Cbor>| with_layers(commit, 3, layers);
    let stack = |deltas: u64| {
        let deltas = (2..2 + deltas).map(|commit| delta([commit; 2]));
        std::iter::once(image(3, 1)).chain(deltas).collect::<Vec<_>>()
    };
    vec![
        ("layers: an image and a delta", "ok", with(2, stack(1))),
        ("layers: 32", "ok", with(32, stack(31))),
        ("layers: 33", "malformed", with(33, stack(32))),
        ("layers: none", "malformed", with(1, vec![])),
        ("layers: two images", "malformed", with(1, vec![image(3, 1), image(3, 1)])),
        ("layers: an image between", "malformed", with(2, vec![image(3, 1), image(3, 1), delta([2, 2])])),
        ("layers: a delta first", "malformed", with(2, vec![delta([1, 1]), delta([2, 2])])),
        ("layers: only a delta", "malformed", with(1, vec![delta([1, 1])])),
        ("layers: of another kind", "malformed", with(3, vec![image(3, 1), layer_of("tree", [2, 3], [3, 3], 1)])),
        ("layers: the last one leads to an earlier commit", "malformed", with(3, stack(1))),
        ("layers: the last one leads to a later commit", "malformed", with(2, stack(2))),
        ("layers: the last one leads to other pages", "malformed", with_layers(2, 4, stack(1))),
        ("layers: an image of other pages, below", "ok", with(2, vec![image(70_000, 2), delta([2, 2])])),
        ("layers: an image of other segments, below", "malformed", with(2, vec![image(70_000, 1), delta([2, 2])])),
        ("layers: a map", "malformed", set(&manifest(), "layers", map(vec![("image", image(3, 1))]))),
    ]
}

fn layers() -> Vec<(&'static str, &'static str, Cbor)> {
    let with = |commit: u64, page_count: u32, delta: Cbor| with_layers(commit, page_count, vec![image(3, 1), delta]);
    let of = |commits: [u64; 2], page_counts: [u32; 2]| layer_of("delta", commits, page_counts, 1);
    let changed = |field: &str, value: Cbor| with(2, 3, set(&delta([2, 2]), field, value));
    let most = u32::MAX - 1;
    vec![
        ("delta: several commits", "ok", with(9, 3, delta([2, 9]))),
        ("delta: the largest commit", "ok", with(u64::MAX, 3, delta([2, u64::MAX]))),
        ("delta: several segments", "ok", with(2, 3, layer_of("delta", [2, 2], [3, 3], 5))),
        ("delta: no segments", "malformed", with(2, 3, layer_of("delta", [2, 2], [3, 3], 0))),
        ("delta: first commit 0", "malformed", with(2, 3, delta([0, 2]))),
        ("delta: commit 0", "malformed", with(0, 3, delta([0, 0]))),
        ("delta: first commit after the last", "malformed", with(2, 3, delta([3, 2]))),
        ("delta: fewer pages on the way", "ok", with(2, 3, of([2, 2], [3, 2]))),
        ("delta: no pages on the way", "ok", with(2, 3, of([2, 2], [3, 0]))),
        ("delta: a low page count above", "malformed", with(2, 3, of([2, 2], [3, 4]))),
        ("delta: no pages", "malformed", with(2, 0, of([2, 2], [0, 0]))),
        ("delta: as many pages as can be", "ok", with(2, most, of([2, 2], [most, 3]))),
        ("delta: too many pages", "malformed", with(2, u32::MAX, of([2, 2], [u32::MAX, 3]))),
        ("delta: too many pages, below", "malformed", {
            with_layers(3, 3, vec![image(3, 1), of([2, 2], [u32::MAX, 3]), delta([3, 3])])
        }),
        ("delta: as many bytes of records as can be", "ok", changed("record_bytes", u64::MAX.into())),
        ("delta: a negative number of bytes", "malformed", changed("record_bytes", (-1).into())),
        ("delta: a segment of 31 bytes", "malformed", changed("segments", Cbor::Array(vec![bytes([0x77; 31])]))),
        ("delta: keys in another order", "ok", with(2, 3, reversed(&delta([2, 2])))),
        ("delta: a missing key", "malformed", with(2, 3, without(&delta([2, 2]), "record_bytes"))),
        ("delta: an unknown key", "malformed", changed("x", 1.into())),
    ]
}
