//! `index/<name>`: sorted, immutable segments that say where chunks are (`format-spec/index.md`).

use serde::{Deserialize, Serialize};

use crate::base::entropy::Entropy;
use crate::base::id::{ChunkId, ObjectHash};
use crate::crypto::secret::SecretKey;

use super::object::{self, ObjectType, SealContext};
use super::pack::{MAX_PACK_BYTES, PACK_HEADER_BYTES, PackedChunk, is_sealed_length, le_u32};
use super::{FormatError, cbor, ensure};

/// The most entries of a segment.
pub const MAX_SEGMENT_ENTRIES: usize = 65_536;
const MAX_SEGMENT_PACKS: usize = 65_536;
const RECORD_BYTES: usize = 44;

/// A pack that a segment lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedPack {
    /// Its name.
    pub name: ObjectHash,
    /// Its length in bytes.
    pub length: u64,
}

/// One entry: a chunk and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Position of the pack in the segment's list.
    pub pack: u32,
    /// The place.
    pub chunk: PackedChunk,
}

/// What a segment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexSegment {
    /// The packs.
    pub packs: Vec<ListedPack>,
    /// Ascending by chunk id.
    pub entries: Vec<IndexEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSegment {
    packs: Vec<ListedPack>,
    #[serde(with = "serde_bytes")]
    entries: Vec<u8>,
}

impl IndexSegment {
    /// Adds what a pack holds.
    pub fn add(&mut self, pack: ListedPack, chunks: &[PackedChunk]) {
        let position = self.packs.len() as u32;
        self.packs.push(pack);
        self.entries.extend(chunks.iter().map(|&chunk| IndexEntry { pack: position, chunk }));
    }

    /// The object: sorts the entries and seals them.
    pub fn seal(mut self, context: &SealContext, key: &SecretKey, entropy: &dyn Entropy) -> Vec<u8> {
        self.entries.sort_unstable_by_key(|entry| (entry.chunk.id, entry.pack, entry.chunk.offset));
        let mut entries = Vec::with_capacity(self.entries.len() * RECORD_BYTES);
        for IndexEntry { pack, chunk } in &self.entries {
            entries.extend(chunk.id.0);
            for number in [*pack, chunk.offset, chunk.length] {
                entries.extend(number.to_le_bytes());
            }
        }
        let cbor = cbor::encode(&WireSegment { packs: self.packs, entries });
        object::seal(ObjectType::IndexSegment, context, key, &[], &cbor, entropy)
    }

    /// Opens and checks an object.
    pub fn open(object: &[u8], context: &SealContext, key: &SecretKey) -> Result<Self, FormatError> {
        let cbor = object::open(object, ObjectType::IndexSegment, context, key, &[])?;
        let WireSegment { packs, entries } = cbor::decode(&cbor)?;
        ensure(packs.len() <= MAX_SEGMENT_PACKS, "more than 65,536 packs in a segment")?;
        ensure(packs.iter().all(|pack| pack.length <= MAX_PACK_BYTES), "a pack is longer than the limit")?;
        ensure(entries.len().is_multiple_of(RECORD_BYTES), "index entries are not whole")?;
        ensure(entries.len() / RECORD_BYTES <= MAX_SEGMENT_ENTRIES, "more than 65,536 entries in a segment")?;
        let entries = entries.chunks_exact(RECORD_BYTES).map(|record| parse_entry(record, &packs));
        let entries: Vec<IndexEntry> = entries.collect::<Result<_, _>>()?;
        ensure(entries.is_sorted_by_key(|entry| entry.chunk.id), "index entries are not in order")?;
        Ok(Self { packs, entries })
    }
}

fn parse_entry(record: &[u8], packs: &[ListedPack]) -> Result<IndexEntry, FormatError> {
    let (id, numbers) = record.split_at(32);
    let [pack, offset, length] = [0, 4, 8].map(|at| le_u32(&numbers[at..at + 4]));
    let listed =
        packs.get(pack as usize).ok_or_else(|| FormatError::malformed("an entry names a pack that is not listed"))?;
    let inside = offset as usize >= PACK_HEADER_BYTES && u64::from(offset) + u64::from(length) <= listed.length;
    ensure(inside && is_sealed_length(length), "an entry lies outside its pack")?;
    let mut chunk = PackedChunk { id: ChunkId([0; 32]), offset, length };
    chunk.id.0.copy_from_slice(id);
    Ok(IndexEntry { pack, chunk })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SeededEntropy;
    use crate::base::id::RepositoryId;
    use crate::crypto::aead::Suite;

    fn context() -> SealContext {
        SealContext { repository: RepositoryId([2; 16]), suite: Suite::Aes256Gcm, epoch: 1 }
    }

    fn round_trip(segment: IndexSegment) -> Result<IndexSegment, FormatError> {
        let key = SecretKey::from_bytes([1; 32]);
        IndexSegment::open(&segment.seal(&context(), &key, &SeededEntropy::new(1)), &context(), &key)
    }

    #[test]
    fn entries_come_back_sorted() {
        let chunk = |id: u8| PackedChunk { id: ChunkId([id; 32]), offset: 92, length: 30 };
        let mut segment = IndexSegment::default();
        segment.add(ListedPack { name: ObjectHash([9; 32]), length: 1000 }, &[chunk(3), chunk(1)]);
        segment.add(ListedPack { name: ObjectHash([8; 32]), length: 1000 }, &[chunk(2)]);
        let read = round_trip(segment).expect("BUG: it was just sealed");
        let order: Vec<(u8, u32)> = read.entries.iter().map(|entry| (entry.chunk.id.0[0], entry.pack)).collect();
        assert_eq!(order, [(1, 0), (2, 1), (3, 0)]);
    }

    #[test]
    fn places_outside_the_pack_are_refused() {
        for (offset, length) in [(91, 30), (92, 21), (980, 30), (u32::MAX, 30)] {
            let mut segment = IndexSegment::default();
            let chunk = PackedChunk { id: ChunkId([1; 32]), offset, length };
            segment.add(ListedPack { name: ObjectHash([9; 32]), length: 1000 }, &[chunk]);
            assert_eq!(round_trip(segment).map_err(|e| e.name()), Err("malformed"), "{offset} {length}");
        }
    }
}
