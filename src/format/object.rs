//! What objects have in common: the header, and the plain and the sealed envelope (`format-spec/README.md`).

use crate::base::entropy::Entropy;
use crate::base::id::RepositoryId;
use crate::base::units::padme;
use crate::crypto::aead::{AeadKey, Nonce, Suite, TAG_BYTES};
use crate::crypto::secret::SecretKey;

use super::{FormatError, ensure};

/// The format version that is written, and the newest that is read.
pub const VERSION: u8 = 1;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 8;
/// The most that a sealed object takes.
pub const MAX_SEALED_BYTES: usize = 16 << 20;
/// The most that a plain object takes.
pub const MAX_PLAIN_BYTES: usize = 64 << 10;

const MAGIC: &[u8; 4] = b"CNTM";
const CHECKSUM_BYTES: usize = 32;
const SALT_OFFSET: usize = 12;
const BODY_OFFSET: usize = 44;
const PADDING_MARK: u8 = 0x80;

/// Bytes that a sealed object has beyond its CBOR and its padding.
const SEALED_OVERHEAD_BYTES: usize = BODY_OFFSET + 1 + TAG_BYTES;

/// What an object is. The number stands in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectType {
    /// `config`.
    Config = 1,
    /// `keys/<slot>`.
    KeySlot = 2,
    /// `packs/<xx>/<name>`.
    Pack = 3,
    /// The footer inside a pack.
    PackFooter = 4,
    /// `index/<name>`.
    IndexSegment = 5,
    /// `timelines/<database>/<sequence>`.
    TimelineEntry = 6,
    /// No object: associated data of sealed chunks.
    Chunk = 7,
    /// `journal/<writer>/<sequence>`.
    Journal = 8,
    /// `verifications/<name>`.
    Verification = 9,
    /// `tombstones/<name>`.
    Tombstone = 10,
}

/// What every sealed byte of a repository is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealContext {
    /// Whose object it is.
    pub repository: RepositoryId,
    /// The repository's cipher suite.
    pub suite: Suite,
    /// Of the root key.
    pub epoch: u32,
}

/// The eight bytes that every object begins with.
pub fn header(kind: ObjectType, suite_code: u8) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(MAGIC);
    header[4..].copy_from_slice(&[VERSION, kind as u8, suite_code, 0]);
    header
}

/// Checks the header and returns its suite code.
pub fn parse_header(object: &[u8], expected: ObjectType) -> Result<u8, FormatError> {
    let header = object.get(..HEADER_BYTES).ok_or_else(|| FormatError::malformed("shorter than a header"))?;
    if !header.starts_with(MAGIC) {
        return Err(FormatError::BadMagic);
    }
    match header[4] {
        VERSION => {}
        0 => return Err(FormatError::malformed("format version 0")),
        newer => return Err(FormatError::NewerVersion(newer)),
    }
    if header[5] != expected as u8 {
        return Err(FormatError::WrongType { expected: expected as u8, found: header[5] });
    }
    ensure(header[7] == 0, "reserved byte is not zero")?;
    Ok(header[6])
}

/// The suite that an encrypted object's header names.
pub fn suite(code: u8) -> Result<Suite, FormatError> {
    Suite::from_code(code).ok_or(FormatError::UnknownSuite(code))
}

/// A plain object around `cbor`.
pub fn plain(kind: ObjectType, suite_code: u8, cbor: &[u8]) -> Vec<u8> {
    let mut object = header(kind, suite_code).to_vec();
    object.extend(cbor);
    let checksum = blake3::hash(&object);
    object.extend(checksum.as_bytes());
    object
}

/// The suite code and the CBOR of a plain object.
pub fn open_plain(object: &[u8], kind: ObjectType) -> Result<(u8, &[u8]), FormatError> {
    bounded(object, MAX_PLAIN_BYTES)?;
    let suite_code = parse_header(object, kind)?;
    ensure(object.len() >= HEADER_BYTES + CHECKSUM_BYTES, "shorter than a plain object")?;
    let (body, checksum) =
        object.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(|| FormatError::malformed("shorter than a checksum"))?;
    if blake3::hash(body) != *checksum {
        return Err(FormatError::BadChecksum);
    }
    let cbor = body.get(HEADER_BYTES..).ok_or_else(|| FormatError::malformed("shorter than a header"))?;
    Ok((suite_code, cbor))
}

/// Associated data: header, repository, epoch, binding.
pub fn associated_data(kind: ObjectType, context: &SealContext, binding: &[u8]) -> Vec<u8> {
    let mut data = header(kind, context.suite.code()).to_vec();
    data.extend(context.repository.0);
    data.extend(context.epoch.to_le_bytes());
    data.extend(binding);
    data
}

/// What binds an object of a sequence to its place: the 16 bytes that name the sequence, and its number in it.
pub fn sequence_binding(name: [u8; 16], sequence: u64) -> [u8; 24] {
    let mut binding = [0; 24];
    binding[..16].copy_from_slice(&name);
    binding[16..].copy_from_slice(&sequence.to_le_bytes());
    binding
}

/// The length of a sealed object around `cbor_bytes` bytes of CBOR.
pub fn sealed_bytes(cbor_bytes: usize) -> usize {
    padme((cbor_bytes + SEALED_OVERHEAD_BYTES) as u64) as usize
}

/// Seals `cbor` under a key derived from `subkey` and a fresh salt.
pub fn seal(
    kind: ObjectType,
    context: &SealContext,
    subkey: &SecretKey,
    binding: &[u8],
    cbor: &[u8],
    entropy: &dyn Entropy,
) -> Vec<u8> {
    let salt: [u8; 32] = entropy.bytes();
    let mut object = header(kind, context.suite.code()).to_vec();
    object.extend(context.epoch.to_le_bytes());
    object.extend(salt);
    object.extend(cbor);
    object.push(PADDING_MARK);
    object.resize(sealed_bytes(cbor.len()) - TAG_BYTES, 0);
    let data = associated_data(kind, context, binding);
    let key = AeadKey::new(context.suite, &subkey.keyed_hash(&salt));
    let tag = key.seal(Nonce::ONLY, &data, &mut object[BODY_OFFSET..]);
    object.extend(tag);
    object
}

/// The CBOR of a sealed object.
pub fn open(
    object: &[u8],
    kind: ObjectType,
    context: &SealContext,
    subkey: &SecretKey,
    binding: &[u8],
) -> Result<Vec<u8>, FormatError> {
    bounded(object, MAX_SEALED_BYTES)?;
    let suite_code = suite(parse_header(object, kind)?)?;
    ensure(object.len() >= SEALED_OVERHEAD_BYTES, "shorter than a sealed object")?;
    let (head, sealed) = object.split_at(BODY_OFFSET);
    let same_context = suite_code == context.suite && head[HEADER_BYTES..SALT_OFFSET] == context.epoch.to_le_bytes();
    if !same_context {
        return Err(FormatError::NotAuthentic);
    }
    let key = AeadKey::new(context.suite, &subkey.keyed_hash(&head[SALT_OFFSET..]));
    let mut buffer = sealed.to_vec();
    let length = key.open(Nonce::ONLY, &associated_data(kind, context, binding), &mut buffer)?.len();
    buffer.truncate(length);
    strip_padding(&mut buffer)?;
    Ok(buffer)
}

/// Checks what a sealed object shows without its key.
pub fn require_sealed(object: &[u8], kind: ObjectType) -> Result<(), FormatError> {
    bounded(object, MAX_SEALED_BYTES)?;
    parse_header(object, kind)?;
    let length = object.len();
    ensure(length >= SEALED_OVERHEAD_BYTES && padme(length as u64) == length as u64, "no length of a sealed object")
}

fn strip_padding(plaintext: &mut Vec<u8>) -> Result<(), FormatError> {
    let mark = plaintext.iter().rposition(|&byte| byte != 0).ok_or(FormatError::BadPadding)?;
    if plaintext[mark] != PADDING_MARK {
        return Err(FormatError::BadPadding);
    }
    plaintext.truncate(mark);
    Ok(())
}

fn bounded(object: &[u8], limit: usize) -> Result<(), FormatError> {
    if object.len() > limit {
        return Err(FormatError::TooLarge { found: object.len() as u64, limit: limit as u64 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SeededEntropy;

    fn context() -> SealContext {
        SealContext { repository: RepositoryId([1; 16]), suite: Suite::Aes256Gcm, epoch: 1 }
    }

    fn sealed(cbor: &[u8]) -> Vec<u8> {
        let key = SecretKey::from_bytes([2; 32]);
        seal(ObjectType::IndexSegment, &context(), &key, b"here", cbor, &SeededEntropy::new(1))
    }

    fn opened(object: &[u8], binding: &[u8]) -> Result<Vec<u8>, FormatError> {
        open(object, ObjectType::IndexSegment, &context(), &SecretKey::from_bytes([2; 32]), binding)
    }

    #[test]
    fn a_sealed_object_opens_in_its_place_and_hides_its_length() {
        for length in [0, 1, 100, 1000, 1001] {
            let cbor = vec![0x80; length];
            let object = sealed(&cbor);
            assert_eq!(object.len() as u64, padme(object.len() as u64));
            assert_eq!(opened(&object, b"here"), Ok(cbor));
            assert_eq!(opened(&object, b"there"), Err(FormatError::NotAuthentic));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let (object, plain) = (sealed(b"cbor"), plain(ObjectType::Config, 0, b"cbor"));
        for at in 0..object.len() * 8 {
            let mut copy = object.clone();
            copy[at / 8] ^= 1 << (at % 8);
            assert!(opened(&copy, b"here").is_err(), "bit {at}");
        }
        for at in 0..plain.len() * 8 {
            let mut copy = plain.clone();
            copy[at / 8] ^= 1 << (at % 8);
            assert!(open_plain(&copy, ObjectType::Config).is_err(), "bit {at}");
        }
        for length in 0..object.len() {
            assert!(opened(&object[..length], b"here").is_err(), "length {length}");
        }
        for length in 0..plain.len() {
            assert!(open_plain(&plain[..length], ObjectType::Config).is_err(), "length {length}");
        }
    }

    #[test]
    fn newer_versions_and_other_types_are_named() {
        let mut object = plain(ObjectType::Config, 0, b"");
        assert_eq!(open_plain(&object, ObjectType::KeySlot).map_err(|e| e.name()), Err("wrong-type"));
        object[4] = 2;
        assert_eq!(open_plain(&object, ObjectType::Config), Err(FormatError::NewerVersion(2)));
        object[0] = 0;
        assert_eq!(open_plain(&object, ObjectType::Config), Err(FormatError::BadMagic));
    }
}
