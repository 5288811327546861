//! What a client remembers of a database's last capture, so that the next one costs the change and not the database.
//!
//! This is local state, no repository object: it is a memory, not a truth. Everything in it is checked before it is relied upon, and losing it costs one
//! full read.

use serde::{Deserialize, Serialize};

use crate::base::id::{ImageRoot, ObjectHash};

use super::{FormatError, cbor, ensure};

/// Which file a path led to, and what the file system said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// Of the device.
    pub device: u64,
    /// On the device.
    pub inode: u64,
    /// In bytes.
    pub bytes: u64,
    /// Time of the last change of the content, nanoseconds.
    pub modified_ns: i64,
    /// Time of the last change of content or attributes, nanoseconds.
    pub changed_ns: i64,
    /// SQLite's file change counter.
    pub change_counter: u32,
    /// Whether the file had been left alone for long enough that any later change must show in these facts.
    pub settled: bool,
}

impl FileFacts {
    /// Whether both are the same file, changed or not.
    pub fn same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether `now` proves that the file has not changed since these facts were taken.
    pub fn prove_unchanged(&self, now: &Self) -> bool {
        self.settled && Self { settled: true, ..*now } == *self
    }
}

/// How far a generation of the WAL was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalPosition {
    /// Names the generation.
    #[serde(with = "serde_bytes")]
    pub salts: [u8; 8],
    /// Frames captured.
    pub frames: u32,
    /// The checksum of the last of them, which the next one continues; zeros when there is none.
    pub checksum: (u32, u32),
}

/// A captured state: which entry of the timeline it is, and where in the source it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The timeline entry of the snapshot.
    pub entry: ObjectHash,
    /// Bytes of a page.
    pub page_size: u32,
    /// Pages of the state.
    pub page_count: u32,
    /// BLAKE3 of the image.
    pub root: ImageRoot,
    /// The database file when it was captured.
    pub file: FileFacts,
    /// The WAL then; `None` if it had no generation.
    pub wal: Option<WalPosition>,
}

impl Position {
    /// The bytes that are kept.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = cbor::encode(self);
        let checksum = blake3::hash(&bytes);
        bytes.extend(checksum.as_bytes());
        bytes
    }

    /// Parses what was kept.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let (body, checksum) =
            bytes.split_last_chunk::<32>().ok_or_else(|| FormatError::malformed("shorter than a checksum"))?;
        ensure(blake3::hash(body) == *checksum, "a position's checksum does not agree")?;
        cbor::decode(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_and_damage_is_noticed() {
        let file = FileFacts {
            device: 1,
            inode: 2,
            bytes: 3,
            modified_ns: -4,
            changed_ns: 5,
            change_counter: 6,
            settled: true,
        };
        let wal = Some(WalPosition { salts: *b"saltsalt", frames: 7, checksum: (8, 9) });
        let position =
            Position { entry: ObjectHash([1; 32]), page_size: 512, page_count: 3, root: ImageRoot([2; 32]), file, wal };
        let bytes = position.encode();
        assert_eq!(Position::parse(&bytes), Ok(position));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Position::parse(&damaged).is_err(), "byte {at}");
        }
        assert!(file.prove_unchanged(&FileFacts { settled: false, ..file }));
        assert!(!FileFacts { settled: false, ..file }.prove_unchanged(&file));
        assert!(!file.prove_unchanged(&FileFacts { modified_ns: 0, ..file }));
    }
}
