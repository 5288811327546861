//! `timelines/<database>/<sequence>`: the append-only, hash-chained log of one database (`format-spec/timeline.md`).

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixMicros;
use crate::base::entropy::Entropy;
use crate::base::id::{DatabaseId, ObjectHash};
use crate::crypto::keys::Keyring;

use super::manifest::Manifest;
use super::name::is_database_name;
use super::object::{self, ObjectType, SealContext};
use super::{FormatError, cbor, ensure};

/// What an entry records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A snapshot was taken.
    Snapshot(Manifest),
}

/// An entry of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimelineEntry {
    /// Its number, from 1, without gaps.
    pub sequence: u64,
    /// Hash of the entry object before it; zeros for the first.
    pub previous: ObjectHash,
    /// The database's name.
    pub database: String,
    /// When it was written, on the writer's clock.
    pub recorded: UnixMicros,
    /// What happened.
    pub event: Event,
}

/// `previous` of the first entry.
pub const NO_ENTRY: ObjectHash = ObjectHash([0; 32]);

impl TimelineEntry {
    /// The object.
    pub fn seal(&self, context: &SealContext, keys: &Keyring, entropy: &dyn Entropy) -> Vec<u8> {
        let binding = binding(keys.database_id(&self.database), self.sequence);
        object::seal(ObjectType::TimelineEntry, context, &keys.timeline, &binding, &cbor::encode(self), entropy)
    }

    /// Opens and checks the object that stands under the name of `database` and `sequence`.
    pub fn open(
        object: &[u8],
        database: DatabaseId,
        sequence: u64,
        context: &SealContext,
        keys: &Keyring,
    ) -> Result<Self, FormatError> {
        let binding = binding(database, sequence);
        let cbor = object::open(object, ObjectType::TimelineEntry, context, &keys.timeline, &binding)?;
        let entry: Self = cbor::decode(&cbor)?;
        if entry.sequence != sequence || keys.database_id(&entry.database) != database {
            return Err(FormatError::WrongName);
        }
        ensure(is_database_name(&entry.database), "no name of a database")?;
        let Event::Snapshot(manifest) = &entry.event;
        manifest.validate()?;
        Ok(entry)
    }
}

fn binding(database: DatabaseId, sequence: u64) -> [u8; 24] {
    let mut binding = [0; 24];
    binding[..16].copy_from_slice(&database.0);
    binding[16..].copy_from_slice(&sequence.to_le_bytes());
    binding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SeededEntropy;
    use crate::base::id::{ChunkId, ImageRoot, RepositoryId};
    use crate::crypto::aead::Suite;
    use crate::crypto::secret::SecretKey;
    use crate::format::manifest::{Layer, LayerKind, Strategy};

    fn entry() -> TimelineEntry {
        let image = Layer { kind: LayerKind::Image, page_count: 3, segments: vec![ChunkId([4; 32])] };
        let manifest = Manifest {
            strategy: Strategy::Full,
            tags: vec!["daily".into()],
            host: "host".into(),
            source: "/data/orders.db".into(),
            captured: UnixMicros(5),
            tool: "continuum".into(),
            journal_mode: "wal".into(),
            page_size: 4096,
            page_count: 3,
            root: ImageRoot([6; 32]),
            layers: vec![image],
            added: 7,
        };
        TimelineEntry {
            sequence: 1,
            previous: NO_ENTRY,
            database: "orders".into(),
            recorded: UnixMicros(8),
            event: Event::Snapshot(manifest),
        }
    }

    fn round_trip(entry: &TimelineEntry, sequence: u64) -> Result<TimelineEntry, FormatError> {
        let keys = Keyring::new(SecretKey::from_bytes([1; 32]));
        let context = SealContext { repository: RepositoryId([2; 16]), suite: Suite::Aes256Gcm, epoch: 1 };
        let object = entry.seal(&context, &keys, &SeededEntropy::new(1));
        TimelineEntry::open(&object, keys.database_id("orders"), sequence, &context, &keys)
    }

    #[test]
    fn an_entry_opens_in_its_own_place_only() {
        assert_eq!(round_trip(&entry(), 1), Ok(entry()));
        assert_eq!(round_trip(&entry(), 2), Err(FormatError::NotAuthentic));
        let other = TimelineEntry { database: "others".into(), ..entry() };
        assert_eq!(round_trip(&other, 1), Err(FormatError::NotAuthentic));
    }

    #[test]
    fn hostile_manifests_are_refused() {
        let check = |change: fn(&mut Manifest)| {
            let mut entry = entry();
            let Event::Snapshot(manifest) = &mut entry.event;
            change(manifest);
            round_trip(&entry, 1).map_err(|e| e.name()).map(|_| ())
        };
        assert_eq!(check(|_| {}), Ok(()));
        let changes: [fn(&mut Manifest); 7] = [
            |m| m.page_size = 100,
            |m| m.page_count = 0,
            |m| m.page_count = u32::MAX,
            |m| m.layers.clear(),
            |m| m.layers[0].page_count = 4,
            |m| m.layers[0].segments.clear(),
            |m| m.tags = vec![String::new()],
        ];
        for change in changes {
            assert_eq!(check(change), Err("malformed"));
        }
    }
}
