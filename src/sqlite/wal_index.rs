//! The header of the WAL-index (`-shm`), which says how much of the WAL is committed and published
//! (SQLite WAL format §5, "WAL-Index Format"; its integers are in the machine's byte order).

use super::ne_u32;
use super::wal::Salts;

/// Bytes of both copies of the header.
const COPIES_BYTES: usize = 96;

/// Bytes to read: both copies of the header, and how much of the WAL is in the database file.
pub const WAL_INDEX_HEADER_BYTES: usize = COPIES_BYTES + 4;

/// What both copies of the header agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalIndexHeader {
    /// How many frames of the WAL are committed; 0 when it has been reset.
    pub max_frame: u32,
    /// Of the generation that the index describes.
    pub salts: Salts,
    /// How many of these frames checkpoints have moved into the database file.
    pub backfilled: u32,
}

/// What the first bytes of a WAL-index say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalIndexState {
    /// Both copies agree.
    Stable(WalIndexHeader),
    /// Nobody has initialised it yet.
    Uninitialised,
    /// The copies differ: a writer is between the two. Read again.
    Changing,
}

impl WalIndexState {
    /// Parses the two copies.
    pub fn parse(bytes: &[u8]) -> Self {
        let (Some(copies), Some(backfilled)) = (bytes.get(..COPIES_BYTES), ne_u32(bytes, COPIES_BYTES)) else {
            return Self::Uninitialised;
        };
        let (first, second) = copies.split_at(48);
        if first != second {
            return Self::Changing;
        }
        if first[12] == 0 {
            return Self::Uninitialised;
        }
        let mut salts = [0; 8];
        salts.copy_from_slice(&first[32..40]);
        Self::Stable(WalIndexHeader { max_frame: ne_u32(first, 16).unwrap_or(0), salts: Salts(salts), backfilled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_copies_must_agree() {
        let mut copy = [0u8; 48];
        copy[12] = 1;
        copy[16..20].copy_from_slice(&5u32.to_ne_bytes());
        copy[32..40].copy_from_slice(b"saltsalt");
        let mut bytes = [&copy[..], &copy, &3u32.to_ne_bytes()].concat();
        let stable = WalIndexHeader { max_frame: 5, salts: Salts(*b"saltsalt"), backfilled: 3 };
        assert_eq!(WalIndexState::parse(&bytes), WalIndexState::Stable(stable));
        bytes[60] ^= 1;
        assert_eq!(WalIndexState::parse(&bytes), WalIndexState::Changing);
        assert_eq!(WalIndexState::parse(&[0; 100]), WalIndexState::Uninitialised);
        assert_eq!(WalIndexState::parse(&[0; 10]), WalIndexState::Uninitialised);
    }
}
