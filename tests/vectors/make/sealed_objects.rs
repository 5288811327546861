//! Sealed objects: the envelope, packs, index segments.

use ciborium::Value as Cbor;
use continuum::base::entropy::SeededEntropy;
use continuum::base::id::{ChunkId, ObjectHash, RepositoryId, to_hex};
use continuum::chunk::codec::{self, Compression};
use continuum::crypto::aead::{AeadKey, Nonce};
use continuum::crypto::secret::SecretKey;
use continuum::format::index::{IndexSegment, ListedPack};
use continuum::format::object::{self, ObjectType, SealContext};
use continuum::format::pack::{self, EncodedChunk, PackedChunk, SealedPack};
use serde_json::{Value, json};

use super::chunks::encoded;
use super::{
    CHACHA, CONTEXT, bytes, fails, flipped, header_faults, keyring, map, noise, object_input, ok, reversed, set, with,
    without, written,
};

fn sealed_input(context: &SealContext, kind: ObjectType, subkey: &SecretKey, binding: &[u8], object: &[u8]) -> Value {
    json!({
        "type": kind as u8,
        "repository": context.repository.to_string(),
        "suite": context.suite.code(),
        "epoch": context.epoch,
        "subkey": to_hex(subkey.expose()),
        "binding": to_hex(binding),
        "object": to_hex(object),
    })
}

/// A sealed object around any plaintext, padding included.
fn sealed_around(context: &SealContext, kind: ObjectType, subkey: &SecretKey, plaintext: &[u8]) -> Vec<u8> {
    let salt = [0x55; 32];
    let key = AeadKey::new(context.suite, &subkey.keyed_hash(&salt));
    let mut buffer = plaintext.to_vec();
    let tag = key.seal(Nonce::ONLY, &object::associated_data(kind, context, b"here"), &mut buffer);
    let header = object::header(kind, context.suite.code());
    [&header[..], &context.epoch.to_le_bytes(), &salt, &buffer, &tag].concat()
}

pub(super) fn sealed() -> Vec<Value> {
    use ObjectType::{IndexSegment, Journal, TimelineEntry};
    let subkey = SecretKey::from_bytes([0x66; 32]);
    let entropy = SeededEntropy::new(2);
    let mut all = Vec::new();
    for (context, kind) in
        [(CONTEXT, TimelineEntry), (CHACHA, TimelineEntry), (CONTEXT, IndexSegment), (CONTEXT, Journal)]
    {
        for length in [0, 1, 100, 300] {
            let object = object::seal(kind, &context, &subkey, b"here", &noise(8, length), &entropy);
            let name = format!("{} type {}, {length} bytes inside", context.suite, kind as u8);
            all.push(ok(&name, sealed_input(&context, kind, &subkey, b"here", &object)));
        }
    }
    let good = object::seal(TimelineEntry, &CONTEXT, &subkey, b"here", &[0xa0; 90], &entropy);
    let input = |object: &[u8]| sealed_input(&CONTEXT, TimelineEntry, &subkey, b"here", object);
    for (name, failure, object) in header_faults(&good).into_iter().chain(sealed_faults(&good)) {
        all.push(fails(name, failure, input(&object)));
    }
    for (name, expect, plaintext) in [
        ("no zeros after the mark", "ok", &[0xa0, 0x80][..]),
        ("more zeros than Padmé asks for", "ok", &[0xa0, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ("content that ends with a mark and zeros", "ok", &[0xa0, 0x80, 0, 0x80, 0]),
        ("zeros only", "bad-padding", &[0; 8]),
        ("another mark", "bad-padding", &[0xa0, 0x81, 0, 0]),
        ("no mark", "bad-padding", &[0xa0, 0xa0]),
    ] {
        let object = sealed_around(&CONTEXT, TimelineEntry, &subkey, plaintext);
        all.push(fails(name, expect, input(&object)));
    }
    let elsewhere = |name: &str, context: SealContext, kind, subkey: &SecretKey, binding: &[u8]| {
        fails(name, "not-authentic", sealed_input(&context, kind, subkey, binding, &good))
    };
    let other_repository = SealContext { repository: RepositoryId([0x23; 16]), ..CONTEXT };
    all.push(elsewhere("another repository", other_repository, TimelineEntry, &subkey, b"here"));
    all.push(elsewhere("another binding", CONTEXT, TimelineEntry, &subkey, b"there"));
    all.push(elsewhere("another subkey", CONTEXT, TimelineEntry, &SecretKey::from_bytes([0; 32]), b"here"));
    all.push(elsewhere("the config has another suite", CHACHA, TimelineEntry, &subkey, b"here"));
    let epoch_2 = SealContext { epoch: 2, ..CONTEXT };
    let object = object::seal(TimelineEntry, &epoch_2, &subkey, b"here", &[0xa0], &entropy);
    all.push(fails("another epoch than the config's, well sealed", "not-authentic", input(&object)));
    let object = object::seal(TimelineEntry, &CHACHA, &subkey, b"here", &[0xa0], &entropy);
    all.push(fails("another suite than the config's, well sealed", "not-authentic", input(&object)));
    all
}

fn sealed_faults(good: &[u8]) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let last = good.len() - 1;
    vec![
        ("suite 0", "unknown-suite", with(good, 6, 0)),
        ("suite 3", "unknown-suite", with(good, 6, 3)),
        ("suite altered", "not-authentic", with(good, 6, 2)),
        ("epoch altered", "not-authentic", with(good, 8, 2)),
        ("salt altered", "not-authentic", flipped(good, 20)),
        ("ciphertext altered", "not-authentic", flipped(good, 50)),
        ("tag altered", "not-authentic", flipped(good, last)),
        ("last byte missing", "not-authentic", good[..last].to_vec()),
        ("a byte more", "not-authentic", [good, b"\0"].concat()),
        ("nothing", "malformed", vec![]),
        ("shorter than a header", "malformed", good[..5].to_vec()),
        ("only a header", "malformed", good[..8].to_vec()),
        ("one byte shorter than a sealed object can be", "malformed", good[..60].to_vec()),
    ]
}

fn encoded_chunk(content: &[u8], compression: Compression) -> EncodedChunk {
    EncodedChunk { id: keyring().chunk_id(content), encoded: codec::encode(content, compression) }
}

fn pack_of(context: &SealContext, chunks: Vec<EncodedChunk>) -> SealedPack {
    let keys = keyring();
    pack::seal(chunks, context, keys.public(), &keys.footer, &SeededEntropy::new(3))
}

fn small_pack(context: &SealContext) -> SealedPack {
    let contents = [&b"first chunk"[..], &b"second ".repeat(30), &[0; 500], b"x"];
    let codecs = [Compression::None, Compression::Gzip(6), Compression::Lz4, Compression::Zstd(3)];
    pack_of(context, contents.iter().zip(codecs).map(|(content, codec)| encoded_chunk(content, codec)).collect())
}

/// The pack with another footer, well sealed, around these CBOR bytes.
fn with_footer(pack: &[u8], context: &SealContext, cbor: &[u8]) -> Vec<u8> {
    let body = &pack[..footer_start(pack)];
    let (keys, entropy) = (keyring(), SeededEntropy::new(4));
    let footer = object::seal(ObjectType::PackFooter, context, &keys.footer, &pack[12..44], cbor, &entropy);
    [body, &footer, &(footer.len() as u32).to_le_bytes()].concat()
}

fn footer_start(pack: &[u8]) -> usize {
    let (rest, length) = pack.split_last_chunk().expect("a trailer");
    rest.len() - u32::from_le_bytes(*length) as usize
}

fn records(chunks: &[PackedChunk]) -> Vec<u8> {
    let record =
        |chunk: &PackedChunk| [&chunk.id.0[..], &chunk.offset.to_le_bytes(), &chunk.length.to_le_bytes()].concat();
    chunks.iter().flat_map(record).collect()
}

pub(super) fn packs() -> Vec<Value> {
    let input = |object: &[u8]| object_input(&CONTEXT, object);
    let good = small_pack(&CONTEXT);
    let chacha = small_pack(&CHACHA).bytes;
    let mut all = vec![
        ok("four chunks, AES-256-GCM", input(&good.bytes)),
        ok("four chunks, ChaCha20-Poly1305", object_input(&CHACHA, &chacha)),
        ok("no chunks", input(&pack_of(&CONTEXT, Vec::new()).bytes)),
        fails("the config has another suite", "not-authentic", object_input(&CHACHA, &good.bytes)),
    ];
    let mut elsewhere = input(&good.bytes);
    elsewhere["repository"] = to_hex(&[0x23; 16]).into();
    all.push(fails("another repository", "not-authentic", elsewhere));
    for (name, failure, object) in header_faults(&good.bytes).into_iter().chain(pack_faults(&good)) {
        all.push(fails(name, failure, input(&object)));
    }
    for (name, expect, chunks) in footers(&good) {
        let cbor = written(&map(vec![("chunks", bytes(chunks))]));
        all.push(fails(name, expect, input(&with_footer(&good.bytes, &CONTEXT, &cbor))));
    }
    let unknown = map(vec![("chunks", bytes(records(&good.chunks))), ("gap", 0.into())]);
    all.push(fails("an unknown key", "malformed", input(&with_footer(&good.bytes, &CONTEXT, &written(&unknown)))));
    let one = |id: ChunkId, encoded: &[u8]| pack_of(&CONTEXT, vec![EncodedChunk { id, encoded: encoded.to_vec() }]);
    let id = keyring().chunk_id(b"abc");
    for (name, failure, encoded) in [
        ("other bytes than the id says", "wrong-chunk", encoded(0, 3, b"abd")),
        ("a chunk of an unknown codec", "unknown-encoding", encoded(9, 3, b"abc")),
        ("a chunk of another length", "malformed", encoded(0, 4, b"abc")),
        ("a chunk of no length", "too-large", encoded(0, 0, b"abc")),
    ] {
        all.push(fails(name, failure, input(&one(id, &encoded).bytes)));
    }
    all
}

fn pack_faults(good: &SealedPack) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let pack = &good.bytes;
    let (length, footer) = (pack.len(), footer_start(pack));
    let chunk = good.chunks[1].offset as usize;
    let huge = [&pack[..length - 4], &u32::MAX.to_le_bytes()].concat();
    let too_long = [&pack[..length - 4], &((length - 4 - 91) as u32).to_le_bytes()].concat();
    vec![
        ("suite 0", "unknown-suite", with(pack, 6, 0)),
        ("suite 3", "unknown-suite", with(pack, 6, 3)),
        ("epoch altered", "not-authentic", with(pack, 8, 2)),
        ("encapsulated key altered", "not-authentic", flipped(pack, 20)),
        ("encapsulated key of zeros", "not-authentic", [&pack[..12], &[0; 32], &pack[44..]].concat()),
        ("data key altered", "not-authentic", flipped(pack, 50)),
        ("a chunk altered", "not-authentic", flipped(pack, chunk)),
        ("footer altered", "not-authentic", flipped(pack, footer + 50)),
        ("epoch of the footer altered", "not-authentic", with(pack, footer + 8, 2)),
        ("a footer of another type", "wrong-type", with(pack, footer + 5, 5)),
        ("a footer longer than the pack", "malformed", huge),
        ("a footer that reaches into the pack's header", "malformed", too_long),
        ("nothing", "malformed", vec![]),
        ("only a header", "malformed", pack[..8].to_vec()),
        ("no trailer", "malformed", pack[..94].to_vec()),
        ("no room for a footer", "malformed", [&pack[..92], &200_u32.to_le_bytes()].concat()),
    ]
}

fn footers(good: &SealedPack) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let chunks = &good.chunks;
    let footer = footer_start(&good.bytes) as u32;
    let changed = |nth: usize, change: &dyn Fn(&mut PackedChunk)| {
        let mut chunks = chunks.clone();
        change(&mut chunks[nth]);
        records(&chunks)
    };
    let mut swapped = chunks.clone();
    swapped.swap(0, 1);
    vec![
        ("a footer that leaves a chunk out", "ok", records(&chunks[1..])),
        ("records of equal places", "malformed", records(&[chunks[0], chunks[0]])),
        ("records that are not ascending", "malformed", records(&swapped)),
        ("records that overlap", "malformed", changed(0, &|chunk| chunk.length = chunks[1].offset - chunk.offset + 1)),
        ("a record before 92", "malformed", changed(0, &|chunk| chunk.offset = 91)),
        ("a record that reaches into the footer", "malformed", changed(3, &|chunk| chunk.offset = footer - 21)),
        ("a record beyond the pack", "malformed", changed(3, &|chunk| chunk.offset = u32::MAX)),
        ("a record that is too short", "malformed", changed(1, &|chunk| chunk.length = 21)),
        ("a record that is too long", "malformed", changed(3, &|chunk| chunk.length = (4 << 20) + 22)),
        ("a record of another length", "not-authentic", changed(1, &|chunk| chunk.length -= 1)),
        ("a record with the id of another chunk", "not-authentic", changed(1, &|chunk| chunk.id = chunks[0].id)),
        ("records that are not whole", "malformed", records(chunks)[..79].to_vec()),
    ]
}

pub(super) fn index() -> Vec<Value> {
    let keys = keyring();
    let entropy = SeededEntropy::new(5);
    let chunk = |id: u8, offset: u32| PackedChunk { id: ChunkId([id; 32]), offset, length: 30 };
    let seal = |context: &SealContext, packs: &[&[PackedChunk]]| {
        let mut segment = IndexSegment::default();
        for (nth, chunks) in packs.iter().enumerate() {
            segment.add(ListedPack { name: ObjectHash([nth as u8; 32]), length: 1000 }, chunks);
        }
        segment.seal(context, &keys.index, &entropy)
    };
    let two: [&[PackedChunk]; 2] = [&[chunk(9, 92), chunk(1, 130)], &[chunk(5, 92), chunk(9, 130)]];
    let good = seal(&CONTEXT, &two);
    let mut all = vec![
        ok("two packs, a chunk in both", object_input(&CONTEXT, &good)),
        ok("ChaCha20-Poly1305", object_input(&CHACHA, &seal(&CHACHA, &two))),
        ok("empty", object_input(&CONTEXT, &seal(&CONTEXT, &[]))),
        fails("altered", "not-authentic", object_input(&CONTEXT, &flipped(&good, 60))),
        fails("the config has another suite", "not-authentic", object_input(&CHACHA, &good)),
    ];
    for (name, expect, cbor) in index_segments() {
        let cbor = written(&cbor);
        let object = object::seal(ObjectType::IndexSegment, &CONTEXT, &keys.index, &[], &cbor, &entropy);
        all.push(fails(name, expect, object_input(&CONTEXT, &object)));
    }
    all
}

fn index_segments() -> Vec<(&'static str, &'static str, Cbor)> {
    let pack = |length: u64| map(vec![("name", bytes([7; 32])), ("length", length.into())]);
    let entry = |id: u8, numbers: [u32; 3]| {
        let numbers = numbers.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
        [&[id; 32][..], &numbers].concat()
    };
    let segment = |length: u64, entries: &[Vec<u8>]| {
        map(vec![("packs", Cbor::Array(vec![pack(length)])), ("entries", bytes(entries.concat()))])
    };
    let one = |id, numbers| segment(1000, &[entry(id, numbers)]);
    let good = segment(1000, &[entry(1, [0, 92, 30]), entry(2, [0, 122, 30])]);
    vec![
        ("by hand", "ok", good.clone()),
        ("keys in another order", "ok", reversed(&good)),
        ("the same id twice", "ok", segment(1000, &[entry(1, [0, 92, 30]), entry(1, [0, 122, 30])])),
        ("the same entry twice", "ok", segment(1000, &[entry(1, [0, 92, 30]), entry(1, [0, 92, 30])])),
        ("a pack of the largest length", "ok", segment(64 << 20, &[])),
        ("a pack that is too long", "malformed", segment((64 << 20) + 1, &[])),
        ("ids out of order", "malformed", segment(1000, &[entry(2, [0, 92, 30]), entry(1, [0, 122, 30])])),
        ("a pack that is not listed", "malformed", one(1, [1, 92, 30])),
        ("a place before 92", "malformed", one(1, [0, 91, 30])),
        ("a place beyond the pack", "malformed", one(1, [0, 980, 30])),
        ("a place that overflows", "malformed", one(1, [0, u32::MAX, 30])),
        ("a length below 22", "malformed", one(1, [0, 92, 21])),
        ("a length above the limit", "malformed", segment(64 << 20, &[entry(1, [0, 92, (4 << 20) + 22])])),
        ("entries that are not whole", "malformed", segment(1000, &[entry(1, [0, 92, 30])[..43].to_vec()])),
        ("a name of 31 bytes", "malformed", {
            let short = map(vec![("name", bytes([7; 31])), ("length", 1000.into())]);
            set(&good, "packs", Cbor::Array(vec![short]))
        }),
        ("a missing key", "malformed", without(&good, "entries")),
        ("an unknown key", "malformed", set(&good, "comment", "hello".into())),
    ]
}
