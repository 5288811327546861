//! Seeds of the fuzz targets: contents of the vectors' objects, as short as they come, and files of SQLite.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use continuum::base::id::{RepositoryId, from_hex};
use continuum::crypto::aead::Suite;
use continuum::crypto::keys::Keyring;
use continuum::crypto::secret::SecretKey;
use continuum::format::object::{self, ObjectType, SealContext};
use rusqlite::Connection;
use serde_json::Value;

/// Longer seeds slow the fuzzer down and say no more.
const MAX_BYTES: usize = 700;

/// Of each target so many, the shortest of those that are accepted and of those that are not.
const MOST: usize = 8;

/// Seeds by target.
pub fn make() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let mut seeds = BTreeMap::new();
    for (subject, target, kind) in [
        ("index", "index_segment", ObjectType::IndexSegment),
        ("journal", "journal", ObjectType::Journal),
        ("timeline", "timeline_entry", ObjectType::TimelineEntry),
        ("verification", "verification", ObjectType::Verification),
        ("tombstone", "tombstone", ObjectType::Tombstone),
    ] {
        seeds.insert(target, contents(subject, kind));
    }
    seeds.insert("config", of(&vectors("config"), |vector| Some(config_body(hex(vector, "object")?[8..].to_vec()))));
    seeds.insert(
        "key_slot",
        of(&vectors("key_slot"), |vector| {
            let object = hex(vector, "object")?;
            Some([hex(vector, "slot")?, object.get(8..object.len().checked_sub(32)?)?.to_vec()].concat())
        }),
    );
    seeds.insert("pack", contents("pack", ObjectType::PackFooter));
    seeds.insert("chunk", of(&vectors("chunk"), |vector| hex(vector, "encoded")));
    seeds.insert(
        "delta_segment",
        of(&vectors("delta"), |vector| {
            let power = vector["page_size"].as_u64()?.trailing_zeros() - 9;
            Some([vec![power as u8], hex(vector, "segment")?].concat())
        }),
    );
    seeds.insert(
        "layer_segment",
        of(&vectors("layer"), |vector| {
            let number = |name: &str| Some((vector[name].as_u64()? as u32).to_be_bytes());
            Some([&number("page_count")?[..], &number("position")?, &hex(vector, "segment")?].concat())
        }),
    );
    seeds.extend(other());
    seeds
}

fn vectors(subject: &str) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("format-spec/vectors/{subject}.json"));
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    serde_json::from_str::<Value>(&text).unwrap()["vectors"].as_array().unwrap().clone()
}

fn hex(vector: &Value, name: &str) -> Option<Vec<u8>> {
    from_hex(vector[name].as_str()?)
}

/// The shortest of what `content` makes of the vectors.
fn of(vectors: &[Value], content: impl Fn(&Value) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let (accepted, refused): (Vec<&Value>, Vec<&Value>) = vectors.iter().partition(|vector| vector["expect"] == "ok");
    let shortest = |vectors: Vec<&Value>| {
        let mut made: Vec<Vec<u8>> =
            vectors.into_iter().filter_map(&content).filter(|made| made.len() <= MAX_BYTES).collect();
        made.sort_by_key(Vec::len);
        made.dedup();
        made.truncate(MOST);
        made
    };
    [shortest(accepted), shortest(refused)].concat()
}

/// What is behind the seals of a subject's objects.
fn contents(subject: &str, kind: ObjectType) -> Vec<Vec<u8>> {
    of(&vectors(subject), |vector| {
        let array = |name: &str| -> Option<[u8; 16]> { hex(vector, name)?.try_into().ok() };
        let keys = Keyring::new(SecretKey::from_bytes(hex(vector, "root")?.try_into().ok()?));
        let suite = if vector["suite"] == 1 { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 };
        let context = SealContext { repository: RepositoryId(array("repository")?), suite, epoch: 1 };
        let mut bytes = hex(vector, "object")?;
        let sequence = vector["sequence"].as_u64().unwrap_or_default();
        let (key, binding) = match kind {
            ObjectType::IndexSegment => (&keys.index, Vec::new()),
            ObjectType::Verification => (&keys.verification, Vec::new()),
            ObjectType::Tombstone => (&keys.tombstone, Vec::new()),
            ObjectType::Journal => (&keys.journal, object::sequence_binding(array("writer")?, sequence).to_vec()),
            ObjectType::TimelineEntry => {
                (&keys.timeline, object::sequence_binding(array("database_id")?, sequence).to_vec())
            }
            _ => {
                let binding = bytes.get(12..44)?.to_vec();
                let end = bytes.len().checked_sub(4)?;
                let length = u32::from_le_bytes(bytes[end..].try_into().ok()?) as usize;
                bytes = bytes.get(end.checked_sub(length)?..end)?.to_vec();
                (&keys.footer, binding)
            }
        };
        object::open(&bytes, kind, &context, key, &binding).ok()
    })
}

/// The body inside a config's CBOR: `{body: bstr, mac: bstr}` with one or two bytes of length.
fn config_body(wire: Vec<u8>) -> Vec<u8> {
    match wire.get(6) {
        Some(0x58) => wire.get(8..8 + usize::from(wire[7])).unwrap_or_default().to_vec(),
        Some(0x59) => wire.get(9..9 + usize::from(u16::from_be_bytes([wire[7], wire[8]]))).unwrap_or_default().to_vec(),
        _ => wire,
    }
}

/// Seeds that no vector gives.
fn other() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA page_size = 512; PRAGMA journal_mode = wal; CREATE TABLE t (a, b UNIQUE); INSERT INTO t VALUES (1, 'x'), (x'ff', 2.5), (NULL, zeroblob(700));",
        )
        .unwrap();
    let wal = fs::read(folder.path().join("a.db-wal")).unwrap();
    let index = fs::read(folder.path().join("a.db-shm")).unwrap()[..100].to_vec();
    drop(connection);
    let pages = fs::read(&path).unwrap();
    let page = |number: usize| [&[0][..], &pages[(number - 1) * 512..number * 512]].concat();
    let record = [5, 6, 1, 17, 0, 7, 9, 0xfe, b'a', b'b', 0x3f, 0xf8, 0, 0, 0, 0, 0, 0];
    let names = [
        "config",
        "keys/1a0d12016999e476",
        "timelines/2241d777b687afb2ae31744059a92151/0000000000000001",
        "journal/99999999999999999999999999999999/0000000000000001",
        "probe/00000000000000000000000000000000",
        "index/3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0dd31467e3377b7ae",
        "packs/3a/3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0dd31467e3377b7ae",
    ];
    let map = [&[0][..], &[0, 0, 0, 2], &[7; 32], &[1; 64]].concat();
    let segment = [blake3::hash(b"segment").as_bytes(), &b"segment"[..]].concat();
    BTreeMap::from([
        ("sqlite_btree", (1..=4).map(page).collect::<Vec<_>>()),
        ("sqlite_header", vec![pages[..100].to_vec()]),
        ("sqlite_names", vec![b"a\"b".to_vec(), b"//a b?c#%\xff".to_vec(), b"orders".to_vec()]),
        ("sqlite_record", vec![record.to_vec(), vec![1, 2, 10], vec![2, 0x81, 0]]),
        ("wal", vec![wal[..(32 + 2 * 536)].to_vec()]),
        ("wal_index", vec![index.clone(), vec![0; 100]]),
        ("wal_map", vec![[&index[..], &wal].concat()]),
        ("varint", vec![vec![0x85, 0x80, 0x00, 0xff, 0x7f], vec![0xff; 10]]),
        ("object_name", names.iter().map(|name| [name.as_bytes(), &[0], b"CNTM\x01\x01\x00\x00"].concat()).collect()),
        ("position", vec![position_content()]),
        ("page_map", vec![map]),
        ("cache", vec![segment, b"short".to_vec()]),
        ("configuration", vec![
            b"repository = \"/backup/repo\"\n[snapshot]\ntag = [\"nightly\"]\n[[database]]\npath = \"a.db\"\nname = \"a\"\n".to_vec(),
            b"quiet = true\n[watch]\nflush-interval = 0.2\n[key.add]\nkdf-passes = 0x3\n".to_vec(),
        ]),
    ])
}

fn position_content() -> Vec<u8> {
    use continuum::base::id::{ImageRoot, ObjectHash};
    use continuum::format::position::{FileFacts, Position, WalPosition};
    let file =
        FileFacts { device: 1, inode: 2, bytes: 3, modified_ns: -4, changed_ns: 5, change_counter: 6, settled: true };
    let wal = Some(WalPosition { salts: *b"saltsalt", frames: 7, checksum: (8, 9) });
    let position =
        Position { entry: ObjectHash([1; 32]), page_size: 512, page_count: 3, root: ImageRoot([2; 32]), file, wal };
    let mut bytes = position.encode();
    bytes.truncate(bytes.len() - 32);
    bytes
}
