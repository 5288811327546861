//! The root key and what is derived from it (`format-spec/keys.md`).

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::base::id::{ChunkId, DatabaseId};

use super::data_key::{PrivateKey, PublicKey};
use super::secret::SecretKey;

/// The 256 words that key the cutter: cut points tell a reader of the store nothing about the content
/// (ePrint 2025/532, 2025/558).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct GearTable {
    /// One word for each byte value.
    pub words: [u64; 256],
    /// Each word doubled: FastCDC takes two bytes a step.
    pub doubled: [u64; 256],
}

impl GearTable {
    fn derive(root: &SecretKey) -> Self {
        let mut stream = root.derive("cutter");
        let words = std::array::from_fn(|_| {
            let mut word = [0; 8];
            stream.fill(&mut word);
            u64::from_le_bytes(word)
        });
        Self { words, doubled: words.map(|word| word << 1) }
    }
}

impl fmt::Debug for GearTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GearTable(…)")
    }
}

/// All keys of one epoch, derived once when a repository is opened.
#[derive(Clone, Debug)]
pub struct Keyring {
    root: SecretKey,
    config: SecretKey,
    chunk_id: SecretKey,
    database_id: SecretKey,
    private: PrivateKey,
    /// Keys the cutter.
    pub gear: Box<GearTable>,
    /// Seals pack footers.
    pub footer: SecretKey,
    /// Seals index segments.
    pub index: SecretKey,
    /// Seals timeline entries.
    pub timeline: SecretKey,
    /// Seals journals.
    pub journal: SecretKey,
    /// Seals verifications.
    pub verification: SecretKey,
    /// Seals tombstones.
    pub tombstone: SecretKey,
}

impl Keyring {
    /// Derives everything from the root key.
    pub fn new(root: SecretKey) -> Self {
        Self {
            config: root.subkey("config mac"),
            chunk_id: root.subkey("chunk id"),
            database_id: root.subkey("database id"),
            private: PrivateKey::from_bytes(root.subkey("x25519").expose()),
            gear: Box::new(GearTable::derive(&root)),
            footer: root.subkey("pack footer"),
            index: root.subkey("index"),
            timeline: root.subkey("timeline"),
            journal: root.subkey("journal"),
            verification: root.subkey("verification"),
            tombstone: root.subkey("tombstone"),
            root,
        }
    }

    /// The root, to be wrapped in another slot.
    pub fn root(&self) -> &SecretKey {
        &self.root
    }

    /// The MAC of a config's body.
    pub fn config_mac(&self, body: &[u8]) -> [u8; 32] {
        self.config.keyed_hash(body)
    }

    /// The identity of a chunk with these bytes.
    pub fn chunk_id(&self, bytes: &[u8]) -> ChunkId {
        ChunkId(self.chunk_id.keyed_hash(bytes))
    }

    /// The timeline that belongs to a database's name.
    pub fn database_id(&self, name: &str) -> DatabaseId {
        let hash = self.database_id.keyed_hash(name.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        DatabaseId(id)
    }

    /// Opens packs' data keys.
    pub fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// What packs' data keys are sealed to.
    pub fn public(&self) -> &PublicKey {
        self.private.public()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let keys = Keyring::new(SecretKey::from_bytes([0xab; 32]));
        let text = format!("{keys:?}");
        assert!(!text.contains("171") && !text.contains("ab,"), "{text}");
        for part in ["root: SecretKey(…)", "private: PrivateKey(…)", "gear: GearTable(…)"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn every_purpose_has_its_own_key() {
        let keys = Keyring::new(SecretKey::from_bytes([1; 32]));
        let all = [
            &keys.config,
            &keys.chunk_id,
            &keys.database_id,
            &keys.footer,
            &keys.index,
            &keys.timeline,
            &keys.journal,
            &keys.verification,
            &keys.tombstone,
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                assert_ne!(a.expose(), b.expose());
            }
        }
    }
}
