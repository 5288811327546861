//! What the bytes of an object show without any key.

use super::FormatError;
use super::name::ObjectName;
use super::object::{self, ObjectType};
use crate::base::id::ObjectHash;

/// Whether these bytes cannot be the object of that name: a pack or index segment has another hash, a config or key slot another checksum, a timeline entry or
/// journal object no proper beginning and length. What was altered with care, and what is sealed in the last two, is seen only by who has the keys.
pub fn shows_damage(name: &ObjectName, bytes: &[u8]) -> bool {
    if let Some(hash) = name.hash() {
        return ObjectHash::of(bytes) != hash;
    }
    // What a later version of the program wrote is not ours to judge.
    look_at(name, bytes).is_err_and(|error| !matches!(error, FormatError::NewerVersion(_)))
}

/// What is seen without any key of an object whose name is no hash.
pub fn look_at(name: &ObjectName, bytes: &[u8]) -> Result<(), FormatError> {
    if *name == ObjectName::config() {
        object::open_plain(bytes, ObjectType::Config).map(|_| ())
    } else if name.slot().is_some() {
        object::open_plain(bytes, ObjectType::KeySlot).map(|_| ())
    } else if name.timeline().is_some() {
        object::require_sealed(bytes, ObjectType::TimelineEntry)
    } else if name.journal_position().is_some() {
        object::require_sealed(bytes, ObjectType::Journal)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SeededEntropy;
    use crate::base::id::{DatabaseId, RepositoryId, SlotId};
    use crate::crypto::aead::Suite;
    use crate::crypto::secret::SecretKey;
    use object::SealContext;

    #[test]
    fn damage_shows_as_far_as_it_can() {
        let context = SealContext { repository: RepositoryId([1; 16]), suite: Suite::Aes256Gcm, epoch: 1 };
        let (key, entropy) = (SecretKey::from_bytes([2; 32]), SeededEntropy::new(1));
        let sealed = object::seal(ObjectType::TimelineEntry, &context, &key, &[], &[7; 100], &entropy);
        let entry = ObjectName::timeline_entry(DatabaseId([3; 16]), 1);
        let objects = [
            (ObjectName::pack(ObjectHash::of(b"pack")), b"pack".to_vec(), 2),
            (ObjectName::config(), object::plain(ObjectType::Config, 0, b"cbor"), 20),
            (ObjectName::key_slot(SlotId([4; 8])), object::plain(ObjectType::KeySlot, 1, b"cbor"), 9),
            (entry, sealed, 0),
        ];
        for (name, bytes, flipped) in objects {
            assert!(!shows_damage(&name, &bytes), "{name}");
            let mut damaged = bytes.clone();
            damaged[flipped] ^= 1;
            assert!(shows_damage(&name, &damaged) && shows_damage(&name, &bytes[..bytes.len() - 1]), "{name}");
            assert!(shows_damage(&name, &[]), "{name}");
        }
    }
}
