//! What a client remembers of checks: when it read which pack, and whether that was damaged. A local file, not an object.
//!
//! ```text
//! 0          8        8 + 41 n                  
//! | "CNTMchk1" | n records | BLAKE3 of all before |      record: pack (32) | time (i64) | 1 if it was damaged
//! ```

use std::collections::BTreeMap;

use crate::base::clock::UnixMicros;
use crate::base::id::ObjectHash;

const MAGIC: &[u8; 8] = b"CNTMchk1";
const RECORD_BYTES: usize = 41;
const HASH_BYTES: usize = 32;

/// The most packs that are remembered.
pub const MAX_CHECKED_PACKS: usize = 1 << 20;

/// A pack that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedPack {
    /// When.
    pub read: UnixMicros,
    /// Whether it was damaged then.
    pub is_damaged: bool,
}

/// By pack.
pub type CheckedPacks = BTreeMap<ObjectHash, CheckedPack>;

/// The file's content.
pub fn encode(packs: &CheckedPacks) -> Vec<u8> {
    let mut content = MAGIC.to_vec();
    for (pack, checked) in packs.iter().take(MAX_CHECKED_PACKS) {
        content.extend(pack.0);
        content.extend(checked.read.0.to_le_bytes());
        content.push(u8::from(checked.is_damaged));
    }
    let hash = blake3::hash(&content);
    content.extend(hash.as_bytes());
    content
}

/// What the file says; nothing if it is damaged.
pub fn parse(content: &[u8]) -> Option<CheckedPacks> {
    let (body, hash) = content.split_at_checked(content.len().checked_sub(HASH_BYTES)?)?;
    if blake3::hash(body).as_bytes() != hash {
        return None;
    }
    let records = body.strip_prefix(MAGIC)?;
    let is_whole = records.len().is_multiple_of(RECORD_BYTES) && records.len() / RECORD_BYTES <= MAX_CHECKED_PACKS;
    is_whole.then(|| records.chunks_exact(RECORD_BYTES).map(record).collect())
}

fn record(record: &[u8]) -> (ObjectHash, CheckedPack) {
    let (mut pack, mut time) = (ObjectHash([0; 32]), [0; 8]);
    pack.0.copy_from_slice(&record[..32]);
    time.copy_from_slice(&record[32..40]);
    (pack, CheckedPack { read: UnixMicros(i64::from_le_bytes(time)), is_damaged: record[40] != 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_comes_back_and_damage_is_nothing() {
        let checked = |read, is_damaged| CheckedPack { read: UnixMicros(read), is_damaged };
        let packs: CheckedPacks =
            [(ObjectHash([2; 32]), checked(-5, true)), (ObjectHash([1; 32]), checked(7, false))].into();
        let content = encode(&packs);
        assert_eq!(parse(&content).as_ref(), Some(&packs));
        assert_eq!(parse(&encode(&CheckedPacks::new())), Some(CheckedPacks::new()));
        for length in 0..content.len() {
            assert_eq!(parse(&content[..length]), None, "{length}");
        }
        for bit in 0..content.len() * 8 {
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&damaged), None, "{bit}");
        }
    }
}
