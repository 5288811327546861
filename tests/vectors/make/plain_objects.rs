//! Plain objects: the envelope, configs, key slots.

use ciborium::Value as Cbor;
use continuum::base::clock::UnixMicros;
use continuum::base::entropy::SeededEntropy;
use continuum::base::id::{SlotId, to_hex};
use continuum::chunk::cutter::CutterSizes;
use continuum::crypto::aead::{AeadKey, Nonce, Suite};
use continuum::crypto::keys::Keyring;
use continuum::crypto::password::{self, Cost};
use continuum::crypto::secret::SecretKey;
use continuum::format::config::Config;
use continuum::format::key_slot::{KeySlot, SlotOptions};
use continuum::format::object::{self, ObjectType, SealContext};
use serde_json::{Value, json};

use super::{
    CHACHA, CONTEXT, REPOSITORY, ROOT, bytes, fails, flipped, header_faults, keyring, map, ok, reversed, set, with,
    without, written,
};

/// A plain object whose hash agrees, around any beginning.
fn hashed(content: &[u8]) -> Vec<u8> {
    [content, blake3::hash(content).as_bytes()].concat()
}

pub(super) fn plain() -> Vec<Value> {
    let input = |object: &[u8]| json!({ "type": 1, "object": to_hex(object) });
    let content = [&object::header(ObjectType::Config, 0)[..], &[0x81, 0x05]].concat();
    let good = hashed(&content);
    let slot = hashed(&[&object::header(ObjectType::KeySlot, 2)[..], &[0xa0]].concat());
    let mut all = vec![
        ok("type config", input(&good)),
        ok("type key slot", json!({ "type": 2, "object": to_hex(&slot) })),
        fails("a key slot in the place of a config", "wrong-type", input(&slot)),
        fails("nothing", "malformed", input(b"")),
        fails("shorter than a header", "malformed", input(&good[..7])),
        fails("no room for a hash", "malformed", input(&good[..20])),
        fails("one byte shorter than a header and a hash", "malformed", input(&good[..39])),
        fails("content altered", "bad-checksum", input(&flipped(&good, 9))),
        fails("hash altered", "bad-checksum", input(&flipped(&good, good.len() - 1))),
        fails("suite altered", "bad-checksum", input(&with(&good, 6, 1))),
        fails("last byte missing", "bad-checksum", input(&good[..good.len() - 1])),
        fails("a byte more", "bad-checksum", input(&[&good[..], b"\0"].concat())),
    ];
    for (name, failure, content) in header_faults(&content) {
        all.push(fails(name, failure, input(&hashed(&content))));
    }
    all
}

pub(super) fn config() -> Vec<Value> {
    let keys = keyring();
    let made = |context: SealContext, cutter: CutterSizes| Config {
        repository: REPOSITORY,
        created: UnixMicros(1_764_000_000_000_000),
        epoch: 1,
        suite: context.suite,
        public_key: keys.public().to_bytes(),
        cutter,
        single_writer: false,
    };
    let input = |object: &[u8]| json!({ "root": to_hex(&ROOT), "object": to_hex(object) });
    let good = made(CONTEXT, CutterSizes::default()).to_object(&keys);
    let smallest = CutterSizes { minimum: 4 << 10, average: 16 << 10, maximum: 32 << 10 };
    let other = Keyring::new(SecretKey::from_bytes([0x12; 32]));
    let mut all = vec![
        ok("AES-256-GCM", input(&good)),
        ok("ChaCha20-Poly1305, smallest cutter sizes", input(&made(CHACHA, smallest).to_object(&keys))),
        fails("damaged", "bad-checksum", input(&flipped(&good, 60))),
        fails("another root key", "not-authentic", input(&made(CONTEXT, smallest).to_object(&other))),
        fails("a suite in the header", "unknown-suite", input(&hashed(&with(&good[..good.len() - 32], 6, 1)))),
    ];
    all.extend(config_bodies(&keys).into_iter().map(|(name, failure, body)| {
        let body = written(&body);
        let mac = keys.config_mac(&body);
        fails(name, failure, input(&object::plain(ObjectType::Config, 0, &config_of(&body, &mac))))
    }));
    let body = written(&config_body(&keys));
    let mac = keys.config_mac(&body);
    let object = |cbor: &[u8]| input(&object::plain(ObjectType::Config, 0, cbor));
    all.push(fails("mac altered", "not-authentic", object(&config_of(&body, &flipped(&mac, 31)))));
    all.push(fails("body altered", "not-authentic", object(&config_of(&flipped(&body, 20), &mac))));
    all.push(fails("a mac of 31 bytes", "malformed", object(&config_of(&body, &mac[..31]))));
    all.push(fails("bytes after the CBOR", "malformed", object(&[config_of(&body, &mac), vec![0]].concat())));
    all
}

fn config_of(body: &[u8], mac: &[u8]) -> Vec<u8> {
    written(&map(vec![("body", bytes(body)), ("mac", bytes(mac))]))
}

fn config_body(keys: &Keyring) -> Cbor {
    map(vec![
        ("repository", bytes(REPOSITORY.0)),
        ("created", 1_764_000_000_000_000_u64.into()),
        ("epoch", 1.into()),
        ("suite", 1.into()),
        ("public_key", bytes(keys.public().to_bytes())),
        ("cutter", sizes(32 << 10, 128 << 10, 512 << 10)),
    ])
}

fn sizes(minimum: u64, average: u64, maximum: u64) -> Cbor {
    map(vec![("minimum", minimum.into()), ("average", average.into()), ("maximum", maximum.into())])
}

fn config_bodies(keys: &Keyring) -> Vec<(&'static str, &'static str, Cbor)> {
    let good = config_body(keys);
    let cutter = |minimum, average, maximum| set(&good, "cutter", sizes(minimum, average, maximum));
    let (kib, mib) = (1 << 10, 1 << 20);
    vec![
        ("keys in another order", "ok", reversed(&good)),
        ("made before 1970", "ok", set(&good, "created", (-1).into())),
        ("largest cutter sizes", "ok", cutter(256 * kib, 512 * kib, mib)),
        ("minimum too small", "malformed", cutter(2 * kib, 128 * kib, 512 * kib)),
        ("minimum is 0", "malformed", cutter(0, 128 * kib, 512 * kib)),
        ("minimum above half the average", "malformed", cutter(128 * kib, 128 * kib, 512 * kib)),
        ("average above half the maximum", "malformed", cutter(32 * kib, 128 * kib, 128 * kib)),
        ("average too small", "malformed", cutter(4 * kib, 8 * kib, 512 * kib)),
        ("average too large", "malformed", cutter(256 * kib, mib, 2 * mib)),
        ("maximum too large", "malformed", cutter(32 * kib, 128 * kib, 2 * mib)),
        ("minimum is no power of two", "malformed", cutter(33 * kib, 128 * kib, 512 * kib)),
        ("average is no power of two", "malformed", cutter(32 * kib, 129 * kib, 512 * kib)),
        ("maximum is no power of two", "malformed", cutter(32 * kib, 128 * kib, 513 * kib)),
        ("epoch 0", "malformed", set(&good, "epoch", 0.into())),
        ("epoch 2", "malformed", set(&good, "epoch", 2.into())),
        ("epoch true", "malformed", set(&good, "epoch", true.into())),
        ("suite 0 in the body", "unknown-suite", set(&good, "suite", 0.into())),
        ("suite 3 in the body", "unknown-suite", set(&good, "suite", 3.into())),
        ("suite 257 in the body", "unknown-suite", set(&good, "suite", 257.into())),
        ("another public key", "not-authentic", set(&good, "public_key", bytes([9; 32]))),
        ("a repository id of 15 bytes", "malformed", set(&good, "repository", bytes([2; 15]))),
        ("a missing key", "malformed", without(&good, "created")),
        ("an unknown key", "malformed", set(&good, "comment", "hello".into())),
        ("a single writer", "ok", set(&good, "single_writer", true.into())),
        ("no single writer, said", "malformed", set(&good, "single_writer", false.into())),
        ("a single writer by number", "malformed", set(&good, "single_writer", 1.into())),
        ("a single writer null", "malformed", set(&good, "single_writer", Cbor::Null)),
    ]
}

const SLOT: SlotId = SlotId([0x33; 8]);
const CHEAP: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

pub(super) fn key_slot() -> Vec<Value> {
    let input = |object: &[u8], slot: SlotId, password: &str| {
        json!({
            "object": to_hex(object), "slot": slot.to_string(), "repository": REPOSITORY.to_string(), "password": password
        })
    };
    let mut all = Vec::new();
    for (suite, cost) in [(Suite::Aes256Gcm, CHEAP), (Suite::ChaCha20Poly1305, Cost { passes: 2, lanes: 3, ..CHEAP })] {
        let options = SlotOptions { label: "büro".into(), cost, suite, created: UnixMicros(5) };
        let root = SecretKey::from_bytes(ROOT);
        let made = KeySlot::create(REPOSITORY, &root, &"pässword".into(), options, &SeededEntropy::new(1));
        let made = made.expect("cheap costs are allowed");
        let object = made.to_object();
        all.push(ok(&format!("a slot as it is written, {suite}"), input(&object, made.slot, "pässword")));
        all.push(fails(&format!("wrong password, {suite}"), "wrong-password", input(&object, made.slot, "password")));
        all.push(fails(&format!("empty password, {suite}"), "wrong-password", input(&object, made.slot, "")));
        all.push(fails(&format!("another name, {suite}"), "wrong-name", input(&object, SLOT, "pässword")));
        all.push(fails(
            &format!("damaged, {suite}"),
            "bad-checksum",
            input(&flipped(&object, 30), made.slot, "pässword"),
        ));
        let mut elsewhere = input(&object, made.slot, "pässword");
        elsewhere["repository"] = to_hex(&[0x23; 16]).into();
        all.push(fails(&format!("another repository, {suite}"), "not-authentic", elsewhere));
    }
    for (name, failure, slot) in slots() {
        all.push(fails(name, failure, input(&object::plain(ObjectType::KeySlot, 1, &written(&slot)), SLOT, "secret")));
    }
    for (name, failure, payload) in payloads() {
        let slot = slot_around(&payload, CHEAP);
        all.push(fails(name, failure, input(&object::plain(ObjectType::KeySlot, 1, &written(&slot)), SLOT, "secret")));
    }
    let good = object::plain(ObjectType::KeySlot, 1, &written(&slot_around(&written(&payload()), CHEAP)));
    let content = &good[..good.len() - 32];
    for suite in [0, 3] {
        let object = hashed(&with(content, 6, suite));
        all.push(fails(&format!("suite {suite}"), "unknown-suite", input(&object, SLOT, "secret")));
    }
    all.push(fails("the other suite", "not-authentic", input(&hashed(&with(content, 6, 2)), SLOT, "secret")));
    all
}

fn payload() -> Cbor {
    map(vec![("role", "admin".into()), ("roots", Cbor::Array(vec![epoch_root(1)]))])
}

fn epoch_root(epoch: u32) -> Cbor {
    map(vec![("epoch", epoch.into()), ("root", bytes(ROOT))])
}

/// A slot of the password `secret` that wraps any payload.
fn slot_around(payload: &[u8], cost: Cost) -> Cbor {
    let salt = [0x44; 32];
    let derived = password::derive(&"secret".into(), &salt, CHEAP).expect("cheap costs are allowed");
    let data = [&object::header(ObjectType::KeySlot, 1)[..], &REPOSITORY.0, &SLOT.0].concat();
    let mut wrapped = payload.to_vec();
    let tag = AeadKey::new(Suite::Aes256Gcm, derived.key.expose()).seal(Nonce::ONLY, &data, &mut wrapped);
    wrapped.extend(tag);
    let Cost { memory_kib, passes, lanes } = cost;
    let kdf = vec![
        ("memory_kib", memory_kib.into()),
        ("passes", passes.into()),
        ("lanes", lanes.into()),
        ("salt", bytes(salt)),
    ];
    map(vec![
        ("slot", bytes(SLOT.0)),
        ("created", 5.into()),
        ("label", "by hand".into()),
        ("kind", "password".into()),
        ("kdf", map(kdf)),
        ("commitment", bytes(derived.commitment)),
        ("wrapped", bytes(wrapped)),
    ])
}

fn slots() -> Vec<(&'static str, &'static str, Cbor)> {
    let payload = written(&payload());
    let good = slot_around(&payload, CHEAP);
    let cost = |cost: Cost| slot_around(&payload, cost);
    let wrapped = |change: fn(&mut Vec<u8>)| {
        let Some((_, Cbor::Bytes(mut wrapped))) = good.as_map().and_then(|map| map.last()).cloned() else {
            panic!("the last field is the wrapped key");
        };
        change(&mut wrapped);
        set(&good, "wrapped", bytes(wrapped))
    };
    vec![
        ("by hand", "ok", good.clone()),
        ("keys in another order", "ok", reversed(&good)),
        ("another label", "ok", set(&good, "label", "x".repeat(255).into())),
        ("a label of 256 bytes", "malformed", set(&good, "label", "x".repeat(256).into())),
        ("another kind", "malformed", set(&good, "kind", "token".into())),
        ("memory beyond the limit", "kdf-too-costly", cost(Cost { memory_kib: (1 << 20) + 1, ..CHEAP })),
        ("memory of 4 TiB", "kdf-too-costly", cost(Cost { memory_kib: u32::MAX, ..CHEAP })),
        ("memory of 2^32 KiB", "kdf-too-costly", set(&good, "kdf", slot_kdf(1 << 32, 32))),
        ("memory below 8 KiB a lane", "kdf-too-costly", cost(Cost { memory_kib: 31, passes: 1, lanes: 4 })),
        ("17 passes", "kdf-too-costly", cost(Cost { passes: 17, ..CHEAP })),
        ("no passes", "kdf-too-costly", cost(Cost { passes: 0, ..CHEAP })),
        ("17 lanes", "kdf-too-costly", cost(Cost { memory_kib: 1024, passes: 1, lanes: 17 })),
        ("no lanes", "kdf-too-costly", cost(Cost { lanes: 0, ..CHEAP })),
        ("another commitment", "wrong-password", set(&good, "commitment", bytes([7; 32]))),
        ("wrapped key altered", "not-authentic", wrapped(|bytes| bytes[3] ^= 1)),
        ("tag altered", "not-authentic", wrapped(|bytes| *bytes.last_mut().expect("a tag") ^= 1)),
        ("wrapped key truncated", "not-authentic", wrapped(|bytes| bytes.truncate(40))),
        ("wrapped key shorter than a tag", "not-authentic", wrapped(|bytes| bytes.truncate(15))),
        ("a salt of 31 bytes", "malformed", set(&good, "kdf", slot_kdf(64, 31))),
        ("a name of 7 bytes", "malformed", set(&good, "slot", bytes([0x33; 7]))),
        ("a missing key", "malformed", without(&good, "label")),
        ("an unknown key", "malformed", set(&good, "comment", "hello".into())),
    ]
}

fn slot_kdf(memory_kib: u64, salt_bytes: usize) -> Cbor {
    let salt = bytes(vec![0x44; salt_bytes]);
    map(vec![("memory_kib", memory_kib.into()), ("passes", 1.into()), ("lanes", 1.into()), ("salt", salt)])
}

fn payloads() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let good = payload();
    let roots = |epochs: &[u32]| {
        written(&set(&good, "roots", Cbor::Array(epochs.iter().map(|&epoch| epoch_root(epoch)).collect())))
    };
    vec![
        ("root keys of two epochs", "ok", roots(&[1, 2])),
        ("16 root keys", "ok", roots(&(1..=16).collect::<Vec<_>>())),
        ("17 root keys", "malformed", roots(&(1..=17).collect::<Vec<_>>())),
        ("no root keys", "malformed", roots(&[])),
        ("no root key of epoch 1", "malformed", roots(&[2])),
        ("two root keys of one epoch", "malformed", roots(&[1, 1])),
        ("another role", "malformed", written(&set(&good, "role", "writer".into()))),
        ("an unknown key in the payload", "malformed", written(&set(&good, "comment", "hello".into()))),
        ("bytes after the payload", "malformed", [written(&good), vec![0]].concat()),
    ]
}
