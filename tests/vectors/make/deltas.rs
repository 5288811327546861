//! Deltas: segments with their records, by the program's writer and by hand, and the journals that hold such segments.

use ciborium::Value as Cbor;
use continuum::base::clock::UnixMicros;
use continuum::base::entropy::SeededEntropy;
use continuum::base::id::{ImageRoot, WriterId, to_hex};
use continuum::base::page::PageNo;
use continuum::chunk::codec::{self, Compression};
use continuum::format::delta::{Change, DeltaBuilder, Record, StepState};
use continuum::format::object::{self, ObjectType, SealContext};
use serde_json::{Value, json};

use super::chunks::encoded;
use super::{
    CHACHA, CONTEXT, bytes, fails, flipped, keyring, map, noise, object_input, ok, reversed, set, with, without,
    written,
};

const ZERO: u64 = 0;
const PLAIN: u64 = 1;
const XOR: u64 = 2;

/// Bytes of a page, where nothing else is said.
const PAGE: usize = 512;

/// What a page holds below, again and again.
const BELOW: &[u8] = b"below!!";

/// The most pages of a state.
const MOST: u32 = u32::MAX - 1;

/// LEB128.
fn number(mut number: u64) -> Vec<u8> {
    let mut bytes = vec![number as u8 & 0x7f];
    number >>= 7;
    while number > 0 {
        *bytes.last_mut().expect("a byte") |= 0x80;
        bytes.push(number as u8 & 0x7f);
        number >>= 7;
    }
    bytes
}

/// LEB128 of that many bytes, more than are needed.
fn long_number(value: u64, length: usize) -> Vec<u8> {
    let mut bytes = number(value);
    while bytes.len() < length {
        *bytes.last_mut().expect("a byte") |= 0x80;
        bytes.push(0);
    }
    bytes
}

/// A record: how far its page is from the one before, its kind, its content.
fn record(distance: u64, kind: u64, content: &[u8]) -> Vec<u8> {
    [&number(distance << 2 | kind), content].concat()
}

/// Differences: bytes that are equal, then bytes that differ, and so on; the rest of the page is equal.
fn differences(page_bytes: usize, runs: &[(usize, &[u8])]) -> Vec<u8> {
    let (mut output, mut done) = (Vec::new(), 0);
    for (equal, differing) in runs {
        output.extend([number(*equal as u64), number(differing.len() as u64), differing.to_vec()].concat());
        done += equal + differing.len();
    }
    if done < page_bytes {
        output.extend(number((page_bytes - done) as u64));
    }
    output
}

/// A step to `commit`, of 100 pages, 50 on the way.
fn step(commit: u64, record_count: u64) -> Cbor {
    map(vec![
        ("commit", commit.into()),
        ("captured", 1_764_000_000_000_000_u64.into()),
        ("page_count", 100.into()),
        ("low_page_count", 50.into()),
        ("root", bytes([0x88; 32])),
        ("more", false.into()),
        ("record_count", record_count.into()),
    ])
}

fn unfinished(step: &Cbor) -> Cbor {
    set(step, "more", true.into())
}

fn segment(steps: Vec<Cbor>, records: &[Vec<u8>]) -> Cbor {
    map(vec![("steps", Cbor::Array(steps)), ("records", bytes(records.concat()))])
}

/// A segment of one step with these records.
fn one_step(records: &[Vec<u8>]) -> Cbor {
    segment(vec![step(7, records.len() as u64)], records)
}

pub(super) fn delta() -> Vec<Value> {
    let below = to_hex(BELOW);
    let input = |page_size: usize, segment: &[u8]| {
        let segment = to_hex(segment);
        json!({ "page_size": page_size, "below": below, "segment": segment })
    };
    let mut all = vec![
        ok("as it is written, pages of 512", input(512, &built(512))),
        ok("as it is written, pages of 4096", input(4096, &built(4096))),
        fails("pages of another size", "malformed", input(1024, &built(512))),
    ];
    let large = [record(2, XOR, &differences(65_536, &[(65_534, b"xy")])), record(1, XOR, &differences(65_536, &[]))];
    all.push(ok("pages of 65536", input(65_536, &written(&one_step(&large)))));
    for (name, expect, cbor) in steps().into_iter().chain(cbor()) {
        all.push(fails(name, expect, input(PAGE, &written(&cbor))));
    }
    for (name, expect, records) in pages().into_iter().chain(contents()).chain(numbers()) {
        all.push(fails(name, expect, input(PAGE, &written(&one_step(&records)))));
    }
    // The key `more`, then its value.
    let good = written(&one_step(&[]));
    let more = good.windows(5).position(|window| window == b"\x64more").expect("a key") + 5;
    let two_bytes = [&good[..more], &[0xf8, 0x14], &good[more + 1..]].concat();
    all.push(fails("CBOR: false in two bytes", "malformed", input(PAGE, &two_bytes)));
    all.push(fails("CBOR: undefined for false", "malformed", input(PAGE, &with(&good, more, 0xf7))));
    all.push(fails("CBOR: null for false", "malformed", input(PAGE, &with(&good, more, 0xf6))));
    all
}

/// Two steps by the program's writer.
fn built(page_bytes: usize) -> Vec<u8> {
    let below: Vec<u8> = BELOW.iter().copied().cycle().take(page_bytes).collect();
    let changed = with(&with(&below, 100, 0), 300, 1);
    let mut builder = DeltaBuilder::default();
    let pages = [(1, vec![0; page_bytes]), (3, changed), (4, noise(9, page_bytes)), (90, below.clone())];
    for (commit, count) in [(7, 4), (8, 2)] {
        let (captured, root) = (UnixMicros(1_764_000_000_000_000), ImageRoot([0x88; 32]));
        builder.begin(&StepState { commit, captured, page_count: 100, low_page_count: 80, root });
        for (page, content) in &pages[..count] {
            let old = (*page < 4).then_some(&below[..]);
            let change = Change::between(old, content).expect("another content");
            let full = builder.push(&Record { page: PageNo(*page), change });
            assert!(full.is_none());
        }
    }
    builder.finish().expect("steps")
}

fn steps() -> Vec<(&'static str, &'static str, Cbor)> {
    let zero = || record(5, ZERO, &[]);
    let counts = |page_count: u64, low: u64| {
        segment(vec![set(&set(&step(7, 0), "page_count", page_count.into()), "low_page_count", low.into())], &[])
    };
    vec![
        ("a step without records", "ok", one_step(&[])),
        ("pages are counted anew in each step", "ok", segment(vec![step(7, 1), step(8, 1)], &[zero(), zero()])),
        ("commits between are folded", "ok", segment(vec![step(7, 0), step(9, 0)], &[])),
        ("captured before 1970", "ok", segment(vec![set(&step(7, 0), "captured", i64::MIN.into())], &[])),
        ("the largest commit", "ok", segment(vec![step(u64::MAX, 0)], &[])),
        ("the rest follows", "ok", segment(vec![step(7, 1), unfinished(&step(8, 0))], &[zero()])),
        ("only the beginning of a step", "ok", segment(vec![unfinished(&step(7, 1))], &[zero()])),
        ("more before the last step", "malformed", segment(vec![unfinished(&step(7, 0)), step(8, 0)], &[])),
        ("no steps", "malformed", segment(vec![], &[])),
        ("one page", "ok", counts(1, 1)),
        ("no pages on the way", "ok", counts(1, 0)),
        ("as many pages as can be", "ok", counts(MOST.into(), MOST.into())),
        ("no pages", "malformed", counts(0, 0)),
        ("too many pages", "malformed", counts(u32::MAX.into(), 1)),
        ("pages beyond 32 bits", "malformed", counts((1 << 32) + 1, 1)),
        ("a low page count above", "malformed", counts(5, 6)),
        ("fewer records than counted", "malformed", segment(vec![step(7, 2)], &[zero()])),
        ("more records than bytes", "malformed", segment(vec![step(7, u32::MAX.into())], &[zero()])),
        ("a count of records beyond 32 bits", "malformed", segment(vec![step(7, (1 << 32) + 1)], &[zero()])),
        ("bytes after the last record", "malformed", segment(vec![step(7, 1)], &[zero(), zero()])),
        ("records of no step", "malformed", segment(vec![step(7, 0)], &[zero()])),
    ]
}

fn cbor() -> Vec<(&'static str, &'static str, Cbor)> {
    let good = one_step(&[]);
    let changed = |field: &str, value: Cbor| segment(vec![set(&step(7, 0), field, value)], &[]);
    vec![
        ("CBOR: keys in another order", "ok", reversed(&segment(vec![reversed(&step(7, 0))], &[]))),
        ("CBOR: a missing key", "malformed", without(&good, "records")),
        ("CBOR: an unknown key", "malformed", set(&good, "comment", "hello".into())),
        ("CBOR: a missing key of a step", "malformed", segment(vec![without(&step(7, 0), "more")], &[])),
        ("CBOR: an unknown key of a step", "malformed", changed("comment", "hello".into())),
        ("CBOR: a number for false", "malformed", changed("more", 0.into())),
        ("CBOR: a root of 31 bytes", "malformed", changed("root", bytes([0x88; 31]))),
        ("CBOR: a negative commit", "malformed", changed("commit", (-1).into())),
        ("CBOR: captured beyond 64 bits", "malformed", changed("captured", (1_u64 << 63).into())),
        ("CBOR: text for records", "malformed", set(&good, "records", "".into())),
    ]
}

fn pages() -> Vec<(&'static str, &'static str, Vec<Vec<u8>>)> {
    let zero = |distance: u64| record(distance, ZERO, &[]);
    let xor = |distance: u64| record(distance, XOR, &differences(PAGE, &[(0, b"abc")]));
    vec![
        ("neighbouring pages", "ok", vec![zero(1), zero(1), zero(1)]),
        ("the last page", "ok", vec![zero(100)]),
        ("a page beyond the last", "malformed", vec![zero(101)]),
        ("a page beyond the last, in steps", "malformed", vec![zero(100), zero(1)]),
        ("a page beyond 32 bits", "malformed", vec![zero((1 << 32) + 5)]),
        ("pages whose sum overflows 64 bits", "malformed", vec![zero(5), zero(u64::MAX >> 2), zero(4)]),
        ("page 0", "malformed", vec![zero(0)]),
        ("the same page twice", "malformed", vec![zero(5), zero(0)]),
        ("the last page on the way, against its bytes", "ok", vec![xor(50)]),
        ("a page beyond those on the way, against zeros", "ok", vec![xor(51)]),
    ]
}

fn contents() -> Vec<(&'static str, &'static str, Vec<Vec<u8>>)> {
    let one = |kind: u64, content: &[u8]| vec![record(5, kind, content)];
    let xor = |content: &[&[u8]]| vec![record(5, XOR, &content.concat())];
    let of = |runs: &[(usize, &[u8])]| vec![record(5, XOR, &differences(PAGE, runs))];
    let page = noise(10, PAGE);
    vec![
        ("zero", "ok", one(ZERO, &[])),
        ("plain", "ok", one(PLAIN, &page)),
        ("plain zeros", "ok", one(PLAIN, &[0; PAGE])),
        ("each kind", "ok", vec![record(1, ZERO, &[]), record(1, PLAIN, &page), of(&[(1, b"x")]).concat()]),
        ("plain, a byte short", "malformed", one(PLAIN, &page[1..])),
        ("plain, a byte long", "malformed", one(PLAIN, &[&page[..], &[0]].concat())),
        ("plain, nothing", "malformed", one(PLAIN, &[])),
        ("kind 3", "malformed", one(3, &page)),
        ("xor of one byte", "ok", of(&[(77, b"x")])),
        ("xor of the first byte", "ok", of(&[(0, b"x")])),
        ("xor of the last byte", "ok", of(&[(511, b"x")])),
        ("xor of the whole page", "ok", of(&[(0, &page)])),
        ("xor of the whole page in two runs", "ok", of(&[(0, &page[..200]), (0, &page[200..])])),
        ("xor of zeros", "ok", of(&[(9, &[0; 9])])),
        ("xor of nothing", "ok", of(&[])),
        ("xor of several runs", "ok", of(&[(3, b"abc"), (1, b"d"), (200, &page[..100])])),
        ("xor of no bytes after those that are equal", "malformed", xor(&[&number(5), &number(0), &number(507)])),
        ("xor without content", "malformed", xor(&[])),
        ("xor of more equal bytes than the page has", "malformed", xor(&[&number(513)])),
        ("xor of more bytes than the page has", "malformed", xor(&[&number(500), &number(13), &[1; 13]])),
        ("xor that ends before the page does", "malformed", xor(&[&number(500), &number(11), &[1; 11]])),
        ("xor that goes on behind the page", "malformed", xor(&[&number(500), &number(12), &[1; 12], &number(0)])),
        ("xor with bytes that are cut off", "malformed", xor(&[&number(500), &number(12), &[1; 11]])),
        ("xor with a length that is cut off", "malformed", xor(&[&number(500)])),
        ("xor of 2^64 - 1 equal bytes", "malformed", xor(&[&number(u64::MAX)])),
        ("xor of 2^64 - 1 bytes", "malformed", xor(&[&number(1), &number(u64::MAX), &[1; 12]])),
        ("xor of 2^64 bytes in all", "malformed", xor(&[&number(2), &number(u64::MAX - 1), &[1; 12]])),
    ]
}

fn numbers() -> Vec<(&'static str, &'static str, Vec<Vec<u8>>)> {
    let head = |bytes: Vec<u8>| vec![bytes];
    vec![
        ("LEB128: the largest of one byte", "ok", vec![record(31, XOR, &differences(PAGE, &[(127, b"x")]))]),
        ("LEB128: the smallest of two bytes", "ok", vec![record(32, XOR, &differences(PAGE, &[(128, b"x")]))]),
        ("LEB128: more bytes than needed", "ok", head(long_number(5 << 2, 3))),
        ("LEB128: ten bytes", "ok", head(long_number(5 << 2, 10))),
        ("LEB128: eleven bytes", "malformed", head(long_number(5 << 2, 11))),
        ("LEB128: 65 bits", "malformed", head([&[0x94][..], &[0x80; 8], &[0x02]].concat())),
        ("LEB128: 70 bits", "malformed", head(vec![0xff; 10])),
        ("LEB128: a number that is cut off", "malformed", head(vec![0x94])),
        ("LEB128: lengths of more bytes than needed", "ok", {
            vec![record(5, XOR, &[long_number(511, 5), long_number(1, 4), vec![9]].concat())]
        }),
        ("LEB128: a length of eleven bytes", "malformed", {
            vec![record(5, XOR, &[long_number(511, 11), number(1), vec![9]].concat())]
        }),
    ]
}

const WRITER: WriterId = WriterId([0x99; 16]);

fn part(segment: &Cbor) -> Cbor {
    part_of(codec::encode(&written(segment), Compression::None))
}

/// A part of commit 7.
fn part_of(segment: Vec<u8>) -> Cbor {
    map(vec![
        ("database", "orders".into()),
        ("base", bytes([0xcc; 32])),
        ("first_commit", 7.into()),
        ("last_commit", 7.into()),
        ("segment", bytes(segment)),
    ])
}

fn journal_input(context: &SealContext, sequence: u64, parts: Vec<Cbor>) -> Value {
    journal_around(context, sequence, &map(vec![("parts", Cbor::Array(parts))]))
}

fn journal_around(context: &SealContext, sequence: u64, cbor: &Cbor) -> Value {
    let binding = [&WRITER.0[..], &sequence.to_le_bytes()].concat();
    let (keys, entropy) = (keyring(), SeededEntropy::new(11));
    let object = object::seal(ObjectType::Journal, context, &keys.journal, &binding, &written(cbor), &entropy);
    let mut input = object_input(context, &object);
    input["writer"] = WRITER.to_string().into();
    input["sequence"] = sequence.into();
    input["page_size"] = PAGE.into();
    input["below"] = to_hex(BELOW).into();
    input
}

pub(super) fn journal() -> Vec<Value> {
    let good = part(&one_step(&[record(5, ZERO, &[])]));
    let one = || vec![good.clone()];
    let moved = |field: &str, value: Value| {
        let mut input = journal_input(&CONTEXT, 1, one());
        input[field] = value;
        input
    };
    let mut all = vec![
        ok("AES-256-GCM", journal_input(&CONTEXT, 1, one())),
        ok("ChaCha20-Poly1305", journal_input(&CHACHA, 1, one())),
        ok("the largest sequence", journal_input(&CONTEXT, u64::MAX, one())),
        fails("under another sequence", "not-authentic", moved("sequence", 2.into())),
        fails("under another writer", "not-authentic", moved("writer", to_hex(&[0x98; 16]).into())),
        fails("in another repository", "not-authentic", moved("repository", to_hex(&[0x23; 16]).into())),
        fails("the config has another suite", "not-authentic", moved("suite", 2.into())),
    ];
    let input = journal_input(&CONTEXT, 1, one());
    let object = continuum::base::id::from_hex(input["object"].as_str().expect("text")).expect("hexadecimal");
    all.push(fails("altered", "not-authentic", moved("object", to_hex(&flipped(&object, 60)).into())));
    all.push(fails("another type", "wrong-type", moved("object", to_hex(&with(&object, 5, 6)).into())));
    for (name, expect, parts) in parts(&good) {
        all.push(fails(name, expect, journal_input(&CONTEXT, 1, parts)));
    }
    for (name, expect, segment) in segments() {
        all.push(fails(name, expect, journal_input(&CONTEXT, 1, vec![part_of(segment)])));
    }
    let parts = map(vec![("parts", Cbor::Array(one()))]);
    all.push(fails("an unknown key", "malformed", journal_around(&CONTEXT, 1, &set(&parts, "comment", 1.into()))));
    all.push(fails("a missing key", "malformed", journal_around(&CONTEXT, 1, &without(&parts, "parts"))));
    all
}

fn parts(good: &Cbor) -> Vec<(&'static str, &'static str, Vec<Cbor>)> {
    let one = |field: &str, value: Cbor| vec![set(good, field, value)];
    let commits = |part: &Cbor, first: u64, last: u64| {
        vec![set(&set(part, "first_commit", first.into()), "last_commit", last.into())]
    };
    let several = part(&segment(vec![step(7, 0), step(8, 1), step(9, 0)], &[record(5, ZERO, &[])]));
    let others = set(good, "database", "others".into());
    vec![
        ("no parts", "ok", vec![]),
        ("parts of two databases", "ok", vec![good.clone(), others, good.clone()]),
        ("keys in another order", "ok", vec![reversed(good)]),
        ("several commits", "ok", commits(&several, 7, 9)),
        ("an earlier first commit than the steps'", "malformed", commits(&several, 6, 9)),
        ("a later first commit than the steps'", "malformed", commits(&several, 8, 9)),
        ("an earlier last commit than the steps'", "malformed", commits(&several, 7, 8)),
        ("a later last commit than the steps'", "malformed", commits(&several, 7, 10)),
        ("first commit 0", "malformed", commits(&part(&segment(vec![step(0, 0), step(7, 0)], &[])), 0, 7)),
        ("commits out of order", "malformed", commits(&part(&segment(vec![step(8, 0), step(7, 0)], &[])), 8, 7)),
        ("a database without a name", "malformed", one("database", "".into())),
        ("a database called ..", "malformed", one("database", "..".into())),
        ("a database called a/b", "malformed", one("database", "a/b".into())),
        ("a name with a control character", "malformed", one("database", "a\u{85}b".into())),
        ("a name of 256 bytes", "malformed", one("database", "x".repeat(256).into())),
        ("a base of 31 bytes", "malformed", one("base", bytes([0xcc; 31]))),
        ("a missing key of a part", "malformed", vec![without(good, "base")]),
        ("an unknown key of a part", "malformed", one("comment", 1.into())),
        ("a fault in the second part", "malformed", vec![good.clone(), set(good, "last_commit", 8.into())]),
    ]
}

fn segments() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let good = written(&one_step(&[record(5, PLAIN, &[7; PAGE])]));
    let plain = |segment: &Cbor| codec::encode(&written(segment), Compression::None);
    let damaged = codec::encode(&good, Compression::Zstd(3));
    vec![
        ("segment: zstd", "ok", codec::encode(&good, Compression::Zstd(3))),
        ("segment: LZ4", "ok", codec::encode(&good, Compression::Lz4)),
        ("segment: gzip", "ok", codec::encode(&good, Compression::Gzip(6))),
        ("segment: nothing", "malformed", vec![]),
        ("segment: an unknown codec", "unknown-encoding", encoded(9, good.len(), &good)),
        ("segment: no length", "too-large", encoded(0, 0, &[])),
        ("segment: a length beyond the limit", "too-large", encoded(0, (4 << 20) + 1, &good)),
        ("segment: another length", "malformed", encoded(0, good.len() + 1, &good)),
        ("segment: a frame that is cut off", "malformed", damaged[..damaged.len() - 1].to_vec()),
        ("segment: an unfinished step", "malformed", plain(&segment(vec![unfinished(&step(7, 0))], &[]))),
        ("segment: no steps", "malformed", plain(&segment(vec![], &[]))),
        ("segment: a record of kind 3", "malformed", plain(&one_step(&[record(5, 3, &[])]))),
        ("segment: bytes after it", "malformed", encoded(0, good.len() + 1, &[&good[..], &[0]].concat())),
    ]
}
