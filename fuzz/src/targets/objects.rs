//! Objects of a repository. Keys and identity are those of `format-spec/vectors`, so that the vectors are seeds.

use std::sync::LazyLock;

use continuum::base::entropy::SeededEntropy;
use continuum::base::id::{ChunkId, RepositoryId, SlotId, WriterId};
use continuum::base::page::PageSize;
use continuum::crypto::aead::Suite;
use continuum::crypto::keys::Keyring;
use continuum::crypto::secret::SecretKey;
use continuum::format::config::UntrustedConfig;
use continuum::format::damage::shows_damage;
use continuum::format::index::IndexSegment;
use continuum::format::journal::JournalObject;
use continuum::format::key_slot::KeySlot;
use continuum::format::name::ObjectName;
use continuum::format::object::{self, ObjectType, SealContext};
use continuum::format::pack::{self, PACK_HEADER_BYTES, PackReader};
use continuum::format::timeline::TimelineEntry;
use continuum::format::tombstone::Tombstone;
use continuum::format::verification::Verification;
use continuum::format::{FormatError, cbor};

static KEYS: LazyLock<Keyring> = LazyLock::new(|| Keyring::new(SecretKey::from_bytes([0x11; 32])));

const CONTEXT: SealContext = SealContext { repository: RepositoryId([0x22; 16]), suite: Suite::Aes256Gcm, epoch: 1 };

const WRITER: WriterId = WriterId([0x99; 16]);

fn entropy() -> SeededEntropy {
    SeededEntropy::new(1)
}

/// Opens the bytes as an object, and as the content of one; what that is comes back from its own object.
fn check<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    kind: ObjectType,
    subkey: &SecretKey,
    binding: &[u8],
    open: impl Fn(&[u8]) -> Result<T, FormatError>,
    seal: impl Fn(T) -> Vec<u8>,
) {
    // No bytes open by chance: the key is in nobody's hands but ours.
    let _ = open(bytes);
    let _ = object::require_sealed(bytes, kind);
    let sealed = object::seal(kind, &CONTEXT, subkey, binding, bytes, &entropy());
    if sealed.len() > 16 << 20 {
        return;
    }
    if let Ok(value) = open(&sealed) {
        let again = seal(value);
        let opened = open(&again).expect("what was sealed opens");
        assert_eq!(seal(opened), again);
    }
}

pub fn index_segment(bytes: &[u8]) {
    let open = |object: &[u8]| IndexSegment::open(object, &CONTEXT, &KEYS.index);
    let seal = |segment: IndexSegment| segment.seal(&CONTEXT, &KEYS.index, &entropy());
    check(bytes, ObjectType::IndexSegment, &KEYS.index, &[], open, seal);
}

pub fn tombstone(bytes: &[u8]) {
    let open = |object: &[u8]| Tombstone::open(object, &CONTEXT, &KEYS.tombstone);
    let seal = |tombstone: Tombstone| tombstone.seal(&CONTEXT, &KEYS.tombstone, &entropy());
    check(bytes, ObjectType::Tombstone, &KEYS.tombstone, &[], open, seal);
}

pub fn verification(bytes: &[u8]) {
    let open = |object: &[u8]| Verification::open(object, &CONTEXT, &KEYS.verification);
    let seal = |verification: Verification| verification.seal(&CONTEXT, &KEYS.verification, &entropy());
    check(bytes, ObjectType::Verification, &KEYS.verification, &[], open, seal);
}

pub fn timeline_entry(bytes: &[u8]) {
    // The place that the content itself names, so that its checks are reached.
    let named = cbor::decode::<TimelineEntry>(bytes).ok();
    let (name, sequence) = named.map_or_else(|| ("orders".to_owned(), 1), |entry| (entry.database, entry.sequence));
    let database = KEYS.database_id(&name);
    let binding = object::sequence_binding(database.0, sequence);
    let open = |object: &[u8]| TimelineEntry::open(object, database, sequence, &CONTEXT, &KEYS);
    let seal = |entry: TimelineEntry| entry.seal(&CONTEXT, &KEYS, &entropy());
    check(bytes, ObjectType::TimelineEntry, &KEYS.timeline, &binding, open, seal);
}

pub fn journal(bytes: &[u8]) {
    let open = |object: &[u8]| {
        let journal = JournalObject::open(object, WRITER, 1, &CONTEXT, &KEYS)?;
        for part in &journal.parts {
            for bytes in [512, 4096] {
                let _ = part.steps(PageSize::new(bytes).expect("a page size"));
            }
        }
        Ok(journal)
    };
    let seal = |journal: JournalObject| journal.seal(WRITER, 1, &CONTEXT, &KEYS, &entropy());
    let binding = object::sequence_binding(WRITER.0, 1);
    check(bytes, ObjectType::Journal, &KEYS.journal, &binding, open, seal);
}

/// The content is the body: its MAC is made here, as whoever has the key can.
pub fn config(bytes: &[u8]) {
    let _ = UntrustedConfig::parse(bytes);
    let wire = |body: &[u8]| {
        let mut wire = vec![0xa2, 0x64];
        wire.extend(b"body\x59");
        wire.extend((body.len() as u16).to_be_bytes());
        wire.extend(body);
        wire.extend(b"\x63mac\x58\x20");
        wire.extend(KEYS.config_mac(body));
        object::plain(ObjectType::Config, 0, &wire)
    };
    let _ = UntrustedConfig::parse(&object::plain(ObjectType::Config, 0, bytes));
    if bytes.len() > u16::MAX.into() {
        return;
    }
    if let Ok(config) = UntrustedConfig::parse(&wire(bytes)).and_then(|config| config.verify(&KEYS)) {
        let again = UntrustedConfig::parse(&config.to_object(&KEYS)).and_then(|again| again.verify(&KEYS));
        assert_eq!(again, Ok(config));
    }
}

/// The first bytes are the slot's name. Its cost is only compared with the limits: running it is the password's business.
pub fn key_slot(bytes: &[u8]) {
    let Some((name, content)) = bytes.split_first_chunk() else { return };
    let _ = KeySlot::parse(bytes, SlotId(*name));
    for suite in [1, 2] {
        let object = object::plain(ObjectType::KeySlot, suite, content);
        if let Ok(slot) = KeySlot::parse(&object, SlotId(*name)) {
            let again = slot.to_object();
            let parsed = KeySlot::parse(&again, SlotId(*name)).expect("what was encoded parses");
            assert_eq!(parsed.to_object(), again);
        }
    }
}

/// A pack around a footer with that content, and the bytes as a pack.
pub fn pack(bytes: &[u8]) {
    static EMPTY: LazyLock<pack::SealedPack> =
        LazyLock::new(|| pack::seal(Vec::new(), &CONTEXT, KEYS.public(), &KEYS.footer, &entropy()));
    let _ = PackReader::open(bytes, &CONTEXT, &KEYS);
    let reader = PackReader::open(&EMPTY.bytes, &CONTEXT, &KEYS).expect("it was just sealed");
    let _ = reader.footer(bytes, &KEYS);
    let _ = reader.footer_at_end(bytes, bytes.len() as u64 + 1000, &KEYS);
    let _ = reader.chunk(ChunkId([0; 32]), 92, &mut bytes.to_vec(), &KEYS);
    let encapsulated = &EMPTY.bytes[12..44];
    let footer = object::seal(ObjectType::PackFooter, &CONTEXT, &KEYS.footer, encapsulated, bytes, &entropy());
    let chunks = vec![0; 1 << 12];
    let length = (footer.len() as u32).to_le_bytes();
    let whole = [&EMPTY.bytes[..PACK_HEADER_BYTES], &chunks, &footer, &length].concat();
    if let Ok(chunks) = reader.footer(&whole, &KEYS) {
        let end = (PACK_HEADER_BYTES + (1 << 12)) as u64;
        let mut before = PACK_HEADER_BYTES as u64;
        for chunk in chunks {
            assert!(before <= chunk.offset.into());
            before = u64::from(chunk.offset) + u64::from(chunk.length);
        }
        assert!(before <= end);
    }
}

/// A name from a listing, and bytes under it.
pub fn object_name(bytes: &[u8]) {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let name = ObjectName::from_listing(String::from_utf8_lossy(&bytes[..end]).into_owned());
    let _ = shows_damage(&name, bytes.get(end + 1..).unwrap_or_default());
    if let Some((database, sequence)) = name.timeline() {
        assert_eq!(ObjectName::timeline_entry(database, sequence), name);
    }
    if let Some((writer, sequence)) = name.journal_position() {
        assert_eq!(ObjectName::journal(writer, sequence), name);
    }
    if let Some(slot) = name.slot() {
        assert_eq!(ObjectName::key_slot(slot), name);
    }
    if let Some(hash) = name.hash() {
        let kinds = [ObjectName::pack, ObjectName::index, ObjectName::verification, ObjectName::tombstone];
        assert!(kinds.iter().any(|kind| kind(hash) == name));
    }
}
