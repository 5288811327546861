//! `packs/<xx>/<name>`: sealed chunks, shuffled and padded, and a sealed footer (`format-spec/pack.md`).
//!
//! ```text
//! 0        8       12             44           92                     L-4-f      L-4      L
//! | header | epoch | encapsulated | sealed key | chunks and a gap ... | footer f | u32 f |
//! ```
//!
//! A chunk's slot is its byte offset; offsets within a pack are unique, and a pack's data key is used for one pack, so nonces
//! are unique too. The order of chunks is random and the length padded: lengths leak content (ePrint 2025/532).

use serde::{Deserialize, Serialize};

use crate::base::entropy::Entropy;
use crate::base::id::{ChunkId, ObjectHash};
use crate::base::units::padme;
use crate::chunk::MAX_CHUNK_BYTES;
use crate::chunk::codec;
use crate::crypto::aead::{AeadKey, Nonce, TAG_BYTES};
use crate::crypto::data_key::{ENCAPSULATED_BYTES, PublicKey, SEALED_KEY_BYTES, SealedDataKey};
use crate::crypto::keys::Keyring;
use crate::crypto::secret::SecretKey;

use super::object::{self, ObjectType, SealContext};
use super::{FormatError, cbor, ensure};

/// Bytes before the first chunk.
pub const PACK_HEADER_BYTES: usize = 92;
/// The most that a pack takes.
pub const MAX_PACK_BYTES: u64 = 64 << 20;
/// The most chunks that a pack holds.
pub const MAX_PACK_CHUNKS: usize = 65_536;
/// The most that a sealed chunk takes.
pub const MAX_SEALED_CHUNK_BYTES: usize = codec::HEADER_BYTES + MAX_CHUNK_BYTES + TAG_BYTES;
/// Bytes after the footer.
pub const TRAILER_BYTES: usize = 4;

const MIN_SEALED_CHUNK_BYTES: usize = codec::HEADER_BYTES + 1 + TAG_BYTES;
const RECORD_BYTES: usize = 40;
const EPOCH_OFFSET: usize = object::HEADER_BYTES;
const KEY_OFFSET: usize = EPOCH_OFFSET + 4;

/// A chunk that waits to be packed: encoded, not yet sealed.
#[derive(Clone, Debug)]
pub struct EncodedChunk {
    /// Identity of the decoded bytes.
    pub id: ChunkId,
    /// What [`codec::encode`] made of them.
    pub encoded: Vec<u8>,
}

/// Where a chunk stands in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedChunk {
    /// Identity of the decoded bytes.
    pub id: ChunkId,
    /// Byte offset in the pack; also the slot.
    pub offset: u32,
    /// Bytes, tag included.
    pub length: u32,
}

/// A finished pack.
#[derive(Debug)]
pub struct SealedPack {
    /// Its name.
    pub hash: ObjectHash,
    /// The object.
    pub bytes: Vec<u8>,
    /// What is in it, by ascending offset.
    pub chunks: Vec<PackedChunk>,
}

/// What a pack takes that holds `chunk_count` chunks of together `encoded_bytes` encoded bytes, before padding.
pub fn unpadded_bytes(chunk_count: usize, encoded_bytes: usize) -> usize {
    PACK_HEADER_BYTES + encoded_bytes + chunk_count * TAG_BYTES + footer_bytes(chunk_count) + TRAILER_BYTES
}

fn footer_bytes(chunk_count: usize) -> usize {
    object::sealed_bytes(encode_footer(&vec![0; chunk_count * RECORD_BYTES]).len())
}

/// Seals `chunks` into a pack: at most [`MAX_PACK_CHUNKS`], at most [`MAX_PACK_BYTES`] altogether.
pub fn seal(
    mut chunks: Vec<EncodedChunk>,
    context: &SealContext,
    public: &PublicKey,
    footer_key: &SecretKey,
    entropy: &dyn Entropy,
) -> SealedPack {
    let mut random = RandomStream::new(entropy);
    random.shuffle(&mut chunks);
    let encoded_bytes = chunks.iter().map(|chunk| chunk.encoded.len()).sum();
    let unpadded = unpadded_bytes(chunks.len(), encoded_bytes);
    let total = padme(unpadded as u64) as usize;
    let gap_before = random.below(chunks.len() + 1);

    let key = SecretKey::generate(entropy);
    let sealed_key = public.seal(&key_info(context), &key, entropy);
    let cipher = AeadKey::new(context.suite, key.expose());
    let mut bytes = Vec::with_capacity(total);
    write_header(&mut bytes, context, &sealed_key);
    let mut packed = Vec::with_capacity(chunks.len());
    for (i, chunk) in chunks.into_iter().enumerate() {
        if i == gap_before {
            random.append(&mut bytes, total - unpadded);
        }
        packed.push(append_chunk(&mut bytes, &cipher, context, chunk));
    }
    if gap_before == packed.len() {
        random.append(&mut bytes, total - unpadded);
    }
    append_footer(&mut bytes, &packed, context, footer_key, &sealed_key, entropy);
    debug_assert_eq!(bytes.len(), total);
    SealedPack { hash: ObjectHash::of(&bytes), bytes, chunks: packed }
}

fn write_header(bytes: &mut Vec<u8>, context: &SealContext, key: &SealedDataKey) {
    bytes.extend(object::header(ObjectType::Pack, context.suite.code()));
    bytes.extend(context.epoch.to_le_bytes());
    bytes.extend(key.encapsulated);
    bytes.extend(key.sealed);
}

fn append_chunk(bytes: &mut Vec<u8>, cipher: &AeadKey, context: &SealContext, chunk: EncodedChunk) -> PackedChunk {
    let offset = bytes.len();
    bytes.extend(&chunk.encoded);
    let slot = offset as u32;
    let data = chunk_data(context, slot, chunk.id);
    let tag = cipher.seal(Nonce::counter(slot), &data, &mut bytes[offset..]);
    bytes.extend(tag);
    PackedChunk { id: chunk.id, offset: slot, length: (bytes.len() - offset) as u32 }
}

fn append_footer(
    bytes: &mut Vec<u8>,
    chunks: &[PackedChunk],
    context: &SealContext,
    footer_key: &SecretKey,
    sealed_key: &SealedDataKey,
    entropy: &dyn Entropy,
) {
    let mut records = Vec::with_capacity(chunks.len() * RECORD_BYTES);
    for chunk in chunks {
        records.extend(chunk.id.0);
        records.extend(chunk.offset.to_le_bytes());
        records.extend(chunk.length.to_le_bytes());
    }
    let binding = &sealed_key.encapsulated;
    let footer = object::seal(ObjectType::PackFooter, context, footer_key, binding, &encode_footer(&records), entropy);
    bytes.extend(&footer);
    bytes.extend((footer.len() as u32).to_le_bytes());
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFooter {
    #[serde(with = "serde_bytes")]
    chunks: Vec<u8>,
}

fn encode_footer(records: &[u8]) -> Vec<u8> {
    cbor::encode(&WireFooter { chunks: records.to_vec() })
}

fn key_info(context: &SealContext) -> Vec<u8> {
    let mut info = b"continuum 2026-11-24 pack data key v1".to_vec();
    info.extend(object::associated_data(ObjectType::Pack, context, &[]));
    info
}

fn chunk_data(context: &SealContext, slot: u32, id: ChunkId) -> Vec<u8> {
    let mut binding = [0; 36];
    binding[..4].copy_from_slice(&slot.to_le_bytes());
    binding[4..].copy_from_slice(&id.0);
    object::associated_data(ObjectType::Chunk, context, &binding)
}

/// A chunk that was opened and has the id that it should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedChunk {
    /// What [`codec::encode`] had made of it.
    pub encoded: Vec<u8>,
    /// Its bytes.
    pub decoded: Vec<u8>,
}

/// A pack whose data key has been opened.
pub struct PackReader {
    context: SealContext,
    encapsulated: [u8; ENCAPSULATED_BYTES],
    cipher: AeadKey,
}

impl PackReader {
    /// From a pack's first [`PACK_HEADER_BYTES`] bytes.
    pub fn open(head: &[u8], context: &SealContext, keys: &Keyring) -> Result<Self, FormatError> {
        let suite = object::suite(object::parse_header(head, ObjectType::Pack)?)?;
        ensure(head.len() >= PACK_HEADER_BYTES, "shorter than a pack's header")?;
        if suite != context.suite || head[EPOCH_OFFSET..KEY_OFFSET] != context.epoch.to_le_bytes() {
            return Err(FormatError::NotAuthentic);
        }
        let mut key = SealedDataKey { encapsulated: [0; ENCAPSULATED_BYTES], sealed: [0; SEALED_KEY_BYTES] };
        let (encapsulated, sealed) = head[KEY_OFFSET..PACK_HEADER_BYTES].split_at(ENCAPSULATED_BYTES);
        key.encapsulated.copy_from_slice(encapsulated);
        key.sealed.copy_from_slice(sealed);
        let data_key = keys.private().open(&key_info(context), &key)?;
        let cipher = AeadKey::new(context.suite, data_key.expose());
        Ok(Self { context: *context, encapsulated: key.encapsulated, cipher })
    }

    /// The encoded bytes of the chunk that stands at `offset`, in place.
    pub fn authenticate<'a>(&self, id: ChunkId, offset: u32, sealed: &'a mut [u8]) -> Result<&'a [u8], FormatError> {
        let data = chunk_data(&self.context, offset, id);
        Ok(self.cipher.open(Nonce::counter(offset), &data, sealed)?)
    }

    /// The decoded bytes of the chunk that stands at `offset`; `sealed` is overwritten.
    pub fn chunk(&self, id: ChunkId, offset: u32, sealed: &mut [u8], keys: &Keyring) -> Result<Vec<u8>, FormatError> {
        decode(id, self.authenticate(id, offset, sealed)?, keys)
    }

    /// The chunk that stands at `offset`, as it was encoded and decoded.
    pub fn open_chunk(
        &self,
        id: ChunkId,
        offset: u32,
        mut sealed: Vec<u8>,
        keys: &Keyring,
    ) -> Result<OpenedChunk, FormatError> {
        let encoded_bytes = self.authenticate(id, offset, &mut sealed)?.len();
        sealed.truncate(encoded_bytes);
        Ok(OpenedChunk { decoded: decode(id, &sealed, keys)?, encoded: sealed })
    }

    /// What the footer of `pack`, the whole object, says is in it.
    pub fn footer(&self, pack: &[u8], keys: &Keyring) -> Result<Vec<PackedChunk>, FormatError> {
        self.footer_at_end(pack, pack.len() as u64, keys)
    }

    /// What the footer of a pack of `pack_bytes` says is in it. `end` is the end of the pack, with all of the footer at least.
    pub fn footer_at_end(&self, end: &[u8], pack_bytes: u64, keys: &Keyring) -> Result<Vec<PackedChunk>, FormatError> {
        let footer_bytes = footer_bytes_at_end(end, pack_bytes)?;
        let footer_end = end.len() - TRAILER_BYTES;
        let footer = footer_end.checked_sub(footer_bytes as usize).map(|start| &end[start..footer_end]);
        let footer = footer.ok_or_else(|| FormatError::malformed("the footer is cut short"))?;
        let cbor = object::open(footer, ObjectType::PackFooter, &self.context, &keys.footer, &self.encapsulated)?;
        let WireFooter { chunks } = cbor::decode(&cbor)?;
        parse_records(&chunks, pack_bytes - TRAILER_BYTES as u64 - footer_bytes)
    }
}

fn decode(id: ChunkId, encoded: &[u8], keys: &Keyring) -> Result<Vec<u8>, FormatError> {
    let decoded = codec::decode(encoded)?;
    if keys.chunk_id(&decoded) == id { Ok(decoded) } else { Err(FormatError::WrongChunk) }
}

/// The length of the footer of a pack of `pack_bytes`, as the `end` of the pack says. It fits into the pack.
pub fn footer_bytes_at_end(end: &[u8], pack_bytes: u64) -> Result<u64, FormatError> {
    if pack_bytes > MAX_PACK_BYTES {
        return Err(FormatError::TooLarge { found: pack_bytes, limit: MAX_PACK_BYTES });
    }
    let trailer = end.last_chunk::<TRAILER_BYTES>();
    let trailer = trailer.ok_or_else(|| FormatError::malformed("shorter than a pack's trailer"))?;
    let footer_bytes = u64::from(u32::from_le_bytes(*trailer));
    let around = (PACK_HEADER_BYTES + TRAILER_BYTES) as u64;
    ensure(footer_bytes + around <= pack_bytes, "the footer does not fit into the pack")?;
    Ok(footer_bytes)
}

fn parse_records(records: &[u8], footer_offset: u64) -> Result<Vec<PackedChunk>, FormatError> {
    ensure(records.len().is_multiple_of(RECORD_BYTES), "footer records are not whole")?;
    ensure(records.len() / RECORD_BYTES <= MAX_PACK_CHUNKS, "more than 65,536 chunks in a pack")?;
    let mut end = PACK_HEADER_BYTES as u64;
    let mut chunks = Vec::with_capacity(records.len() / RECORD_BYTES);
    for record in records.chunks_exact(RECORD_BYTES) {
        let (id, place) = record.split_at(32);
        let mut chunk = PackedChunk { id: ChunkId([0; 32]), offset: le_u32(&place[..4]), length: le_u32(&place[4..]) };
        chunk.id.0.copy_from_slice(id);
        ensure(is_sealed_length(chunk.length), "length of a sealed chunk outside the limits")?;
        ensure(u64::from(chunk.offset) >= end, "chunks of a pack overlap or are not in order")?;
        end = u64::from(chunk.offset) + u64::from(chunk.length);
        ensure(end <= footer_offset, "a chunk lies outside the pack")?;
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// Whether a sealed chunk may be that long.
pub fn is_sealed_length(length: u32) -> bool {
    (MIN_SEALED_CHUNK_BYTES..=MAX_SEALED_CHUNK_BYTES).contains(&(length as usize))
}

pub(super) fn le_u32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

/// Random numbers and filler for one pack, stretched from 32 bytes of entropy.
struct RandomStream(blake3::OutputReader);

impl RandomStream {
    fn new(entropy: &dyn Entropy) -> Self {
        Self(blake3::Hasher::new_keyed(&entropy.bytes()).finalize_xof())
    }

    /// Uniform below `bound` but for a bias of `bound` / 2^64.
    fn below(&mut self, bound: usize) -> usize {
        let mut word = [0; 8];
        self.0.fill(&mut word);
        ((u128::from(u64::from_le_bytes(word)) * bound as u128) >> 64) as usize
    }

    /// Fisher and Yates.
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    fn append(&mut self, bytes: &mut Vec<u8>, count: usize) {
        let start = bytes.len();
        bytes.resize(start + count, 0);
        self.0.fill(&mut bytes[start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SeededEntropy;
    use crate::base::id::RepositoryId;
    use crate::chunk::codec::Compression;
    use crate::crypto::aead::Suite;

    fn keys() -> Keyring {
        Keyring::new(SecretKey::from_bytes([1; 32]))
    }

    fn context() -> SealContext {
        SealContext { repository: RepositoryId([2; 16]), suite: Suite::Aes256Gcm, epoch: 1 }
    }

    fn contents(count: u8) -> Vec<Vec<u8>> {
        (0..count).map(|i| vec![i; 100 + usize::from(i) * 37]).collect()
    }

    fn pack(count: u8) -> SealedPack {
        let keys = keys();
        let encode = |bytes: Vec<u8>| EncodedChunk {
            id: keys.chunk_id(&bytes),
            encoded: codec::encode(&bytes, Compression::None),
        };
        let chunks = contents(count).into_iter().map(encode).collect();
        seal(chunks, &context(), keys.public(), &keys.footer, &SeededEntropy::new(3))
    }

    #[test]
    fn every_chunk_opens_at_the_place_that_the_footer_says() {
        for count in [0, 1, 20] {
            let (pack, keys) = (pack(count), keys());
            assert_eq!(padme(pack.bytes.len() as u64), pack.bytes.len() as u64);
            let reader = PackReader::open(&pack.bytes, &context(), &keys).expect("BUG: it was just sealed");
            assert_eq!(reader.footer(&pack.bytes, &keys), Ok(pack.chunks.clone()));
            let pack_bytes = pack.bytes.len() as u64;
            let needed = footer_bytes_at_end(&pack.bytes, pack_bytes).expect("BUG: it fits") as usize + TRAILER_BYTES;
            let at_end = |kept: usize| reader.footer_at_end(&pack.bytes[pack.bytes.len() - kept..], pack_bytes, &keys);
            assert_eq!(at_end(needed), Ok(pack.chunks.clone()));
            assert!(at_end(needed - 1).is_err() && at_end(3).is_err());
            let mut opened: Vec<Vec<u8>> = pack
                .chunks
                .iter()
                .map(|chunk| {
                    let range = chunk.offset as usize..(chunk.offset + chunk.length) as usize;
                    let sealed = &pack.bytes[range];
                    let opened = reader.open_chunk(chunk.id, chunk.offset, sealed.to_vec(), &keys);
                    let opened = opened.expect("BUG: it opens");
                    assert_eq!(opened.encoded, codec::encode(&opened.decoded, Compression::None));
                    let decoded = reader.chunk(chunk.id, chunk.offset, &mut sealed.to_vec(), &keys);
                    assert_eq!(decoded.as_ref(), Ok(&opened.decoded));
                    opened.decoded
                })
                .collect();
            opened.sort();
            assert_eq!(opened, contents(count));
        }
    }

    #[test]
    fn a_chunk_opens_under_its_own_id_and_offset_only() {
        let (pack, keys) = (pack(2), keys());
        let reader = PackReader::open(&pack.bytes, &context(), &keys).expect("BUG: it was just sealed");
        let (a, b) = (pack.chunks[0], pack.chunks[1]);
        let sealed = pack.bytes[a.offset as usize..(a.offset + a.length) as usize].to_vec();
        for (id, offset) in [(b.id, a.offset), (a.id, b.offset)] {
            assert_eq!(reader.chunk(id, offset, &mut sealed.clone(), &keys), Err(FormatError::NotAuthentic));
        }
    }

    #[test]
    fn records_that_do_not_fit_are_refused() {
        let record = |offset: u32, length: u32| [&[0; 32][..], &offset.to_le_bytes(), &length.to_le_bytes()].concat();
        let check = |records: Vec<u8>| parse_records(&records, 1000).map(|chunks| chunks.len());
        assert_eq!(check([record(92, 22), record(114, 22)].concat()), Ok(2));
        for wrong in [
            record(91, 22),
            record(92, 21),
            record(990, 22),
            [record(114, 22), record(92, 22)].concat(),
            [record(92, 23), record(114, 22)].concat(),
            vec![0; 39],
            record(u32::MAX, u32::MAX),
        ] {
            assert!(check(wrong.clone()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn chunks_are_shuffled() {
        let pack = pack(20);
        let lengths: Vec<u32> = pack.chunks.iter().map(|chunk| chunk.length).collect();
        assert!(!lengths.is_sorted());
    }
}
