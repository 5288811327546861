//! Makes the vectors: objects by the program's own writers, and faults by hand, one fault a vector.

mod chunks;
mod deltas;
mod events;
mod plain_objects;
mod sealed_objects;
mod snapshots;
mod tombstones;
mod verifications;

use ciborium::Value as Cbor;
use continuum::base::entropy::{Entropy, SeededEntropy};
use continuum::base::id::{RepositoryId, to_hex};
use continuum::crypto::aead::Suite;
use continuum::crypto::keys::Keyring;
use continuum::crypto::secret::SecretKey;
use continuum::format::object::SealContext;
use serde_json::{Value, json};

const ROOT: [u8; 32] = [0x11; 32];
const REPOSITORY: RepositoryId = RepositoryId([0x22; 16]);
const CONTEXT: SealContext = SealContext { repository: REPOSITORY, suite: Suite::Aes256Gcm, epoch: 1 };
const CHACHA: SealContext = SealContext { suite: Suite::ChaCha20Poly1305, ..CONTEXT };
const ZEROS: u32 = u32::MAX;

/// All vectors of a subject, successes without their decoded values.
pub fn vectors(subject: &str) -> Vec<Value> {
    match subject {
        "padme" => padme(),
        "keys" => keys(),
        "cutter" => cutter(),
        "chunk" => chunks::chunk(),
        "plain" => plain_objects::plain(),
        "config" => plain_objects::config(),
        "key_slot" => plain_objects::key_slot(),
        "sealed" => sealed_objects::sealed(),
        "pack" => sealed_objects::packs(),
        "index" => sealed_objects::index(),
        "layer" => snapshots::layer(),
        "timeline" => snapshots::timeline(),
        "delta" => deltas::delta(),
        "journal" => deltas::journal(),
        "verification" => verifications::verification(),
        "tombstone" => tombstones::tombstone(),
        _ => panic!("unknown subject {subject}"),
    }
}

fn about(subject: &str) -> &'static str {
    match subject {
        "padme" => "README.md: the padded length",
        "keys" => "keys.md: what is derived from a root key, for some bytes and a database's name",
        "cutter" => {
            "cutter.md: lengths of all chunks of an image; the image is the first `period` bytes of BLAKE3's extended \
             output of `seed`, repeated up to `length` bytes"
        }
        "chunk" => "chunk.md: an encoded chunk, without its keyed id",
        "plain" => "README.md: a plain object of the type asked for",
        "config" => "config.md: a config and the root key of its repository",
        "key_slot" => "keys.md: a key slot, its name, the repository, and a password",
        "sealed" => "README.md: a sealed object; suite and epoch are those of the config",
        "pack" => "pack.md: a whole pack, all its chunks to be read; suite and epoch are those of the config",
        "index" => "index.md: an index segment; suite and epoch are those of the config",
        "layer" => {
            "layer.md: a decoded layer segment of an image of `page_count` pages, at `position` from 0; and the rules \
             for CBOR, as a segment is neither sealed nor checked before"
        }
        "timeline" => "timeline.md, manifest.md: an entry under the name of its database and sequence",
        "delta" => {
            "delta.md: a decoded delta segment; each record with the hash of the page that it makes of a page that holds \
             the bytes of `below`, repeated, or zeros if its number is above the step's `low_page_count`"
        }
        "verification" => "verification.md: a verification; suite and epoch are those of the config",
        "tombstone" => "tombstone.md: a tombstone; suite and epoch are those of the config",
        _ => {
            "journal.md: a journal object under the name of its writer and sequence, its segments decoded as in the \
             vectors of delta; suite and epoch are those of the config"
        }
    }
}

/// The file: one vector a line.
pub fn document(subject: &str, vectors: &[Value]) -> String {
    let lines: Vec<String> = vectors.iter().map(Value::to_string).collect();
    let head = format!("\"subject\": {},\n\"about\": {},", json!(subject), json!(about(subject)));
    format!("{{\n\"format\": \"continuum.vectors/1\",\n{head}\n\"vectors\": [\n{}\n]\n}}\n", lines.join(",\n"))
}

fn ok(name: &str, inputs: Value) -> Value {
    fails(name, "ok", inputs)
}

fn fails(name: &str, failure: &str, mut inputs: Value) -> Value {
    inputs["name"] = name.into();
    inputs["expect"] = failure.into();
    inputs
}

fn keyring() -> Keyring {
    Keyring::new(SecretKey::from_bytes(ROOT))
}

/// `count` bytes that repeat with each run.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    SeededEntropy::new(seed).fill(&mut bytes);
    bytes
}

fn with(bytes: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at] = byte;
    changed
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    with(bytes, at, bytes[at] ^ 1)
}

// CBOR by hand.

fn map(fields: Vec<(&str, Cbor)>) -> Cbor {
    Cbor::Map(fields.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

fn bytes(content: impl Into<Vec<u8>>) -> Cbor {
    Cbor::Bytes(content.into())
}

fn written(value: &Cbor) -> Vec<u8> {
    let mut cbor = Vec::new();
    ciborium::into_writer(value, &mut cbor).expect("memory takes all");
    cbor
}

/// The map with one field set to another value, or appended.
fn set(map: &Cbor, field: &str, value: Cbor) -> Cbor {
    let mut fields = map.as_map().expect("a map").clone();
    match fields.iter_mut().find(|(key, _)| key.as_text() == Some(field)) {
        Some((_, old)) => *old = value,
        None => fields.push((field.into(), value)),
    }
    Cbor::Map(fields)
}

fn without(map: &Cbor, field: &str) -> Cbor {
    Cbor::Map(map.as_map().expect("a map").iter().filter(|(key, _)| key.as_text() != Some(field)).cloned().collect())
}

fn reversed(map: &Cbor) -> Cbor {
    Cbor::Map(map.as_map().expect("a map").iter().rev().cloned().collect())
}

fn padme() -> Vec<Value> {
    let lengths = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 255, 256, 257, 1000, 4095, 4097, 65_537];
    let large = [1_000_001, 16_777_215, 16_777_216, 67_108_863, 67_108_864];
    lengths.into_iter().chain(large).map(|length: u64| ok(&length.to_string(), json!({ "length": length }))).collect()
}

fn keys() -> Vec<Value> {
    let of = |name: &str, root: [u8; 32], content: &[u8], database: &str| {
        ok(name, json!({ "root": to_hex(&root), "bytes": to_hex(content), "database": database }))
    };
    vec![
        of("a root of zeros", [0; 32], b"page", "orders"),
        of("another root", ROOT, b"page", "orders"),
        of("other bytes and a name beyond ASCII", ROOT, &[0; 4096], "Aufträge 2026"),
    ]
}

fn cutter() -> Vec<Value> {
    let default = [32 << 10, 128 << 10, 512 << 10];
    let of = |name: &str, sizes: [u32; 3], page_size: u32, period: u32, length: u32| {
        let [minimum, average, maximum] = sizes;
        let sizes = json!({ "minimum": minimum, "average": average, "maximum": maximum });
        let data = json!({ "seed": to_hex(name.as_bytes()), "period": period, "length": length });
        ok(name, json!({ "root": to_hex(&ROOT), "sizes": sizes, "page_size": page_size, "data": data }))
    };
    let (mib, all) = (1 << 20, 2 << 20);
    vec![
        of("pages of 4096", default, 4096, all, all),
        of("pages of 512", default, 512, all, all),
        of("pages of 65536, larger than the minimum", default, 65_536, all, all),
        of("smallest sizes", [4 << 10, 16 << 10, 32 << 10], 1024, mib, mib),
        of("largest average", [256 << 10, 512 << 10, mib], 4096, 2 * all, 2 * all),
        of("an average of 64 KiB", [8 << 10, 64 << 10, 256 << 10], 8192, mib, mib),
        of("repeating data, cut at the maximum", default, 4096, 16, 5 * (512 << 10) / 2),
        of("repeating pages", default, 4096, 40_960, mib),
        of("no longer than the minimum", default, 4096, 32_768, 32_768),
        of("one page", default, 512, 512, 512),
    ]
}

/// Each rule of the header broken once, in an object that `finish` makes of its beginning.
fn header_faults(object: &[u8]) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    vec![
        ("another magic", "bad-magic", with(object, 0, b'c')),
        ("version 2", "newer-version", with(object, 4, 2)),
        ("version 255", "newer-version", with(object, 4, 255)),
        ("version 0", "malformed", with(object, 4, 0)),
        ("another type", "wrong-type", with(object, 5, object[5] ^ 4)),
        ("type 0", "wrong-type", with(object, 5, 0)),
        ("byte 7 is not zero", "malformed", with(object, 7, 1)),
    ]
}

fn object_input(context: &SealContext, object: &[u8]) -> Value {
    json!({
        "root": to_hex(&ROOT),
        "repository": context.repository.to_string(),
        "suite": context.suite.code(),
        "epoch": context.epoch,
        "object": to_hex(object),
    })
}
