//! `tombstones/<name>`: packs that are being deleted (`format-spec/tombstone.md`).

use serde::{Deserialize, Serialize};

use crate::base::entropy::Entropy;
use crate::base::id::ObjectHash;
use crate::crypto::secret::SecretKey;

use super::object::{self, ObjectType, SealContext};
use super::{FormatError, cbor, ensure};

/// The most packs that one names.
pub const MAX_TOMBSTONE_PACKS: usize = 65_536;

/// See the module documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// Names of packs, ascending.
    pub packs: Vec<ObjectHash>,
}

impl Tombstone {
    /// The object.
    pub fn seal(&self, context: &SealContext, key: &SecretKey, entropy: &dyn Entropy) -> Vec<u8> {
        object::seal(ObjectType::Tombstone, context, key, &[], &cbor::encode(self), entropy)
    }

    /// Opens and checks an object.
    pub fn open(object: &[u8], context: &SealContext, key: &SecretKey) -> Result<Self, FormatError> {
        let tombstone: Self = cbor::decode(&object::open(object, ObjectType::Tombstone, context, key, &[])?)?;
        ensure((1..=MAX_TOMBSTONE_PACKS).contains(&tombstone.packs.len()), "none or too many packs")?;
        ensure(tombstone.packs.is_sorted_by(|a, b| a < b), "packs are not ascending")?;
        Ok(tombstone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SeededEntropy;
    use crate::base::id::RepositoryId;
    use crate::crypto::aead::Suite;

    #[test]
    fn packs_come_back_and_only_in_order() {
        let (key, entropy) = (SecretKey::from_bytes([1; 32]), SeededEntropy::new(1));
        let context = SealContext { repository: RepositoryId([2; 16]), suite: Suite::Aes256Gcm, epoch: 1 };
        let name = |number: u32| ObjectHash(std::array::from_fn(|i| if i < 4 { number.to_be_bytes()[i] } else { 0 }));
        let many: Vec<u32> = (0..=MAX_TOMBSTONE_PACKS as u32).collect();
        let few = [(&[7][..], true), (&[1, 2, 9], true), (&[], false), (&[2, 1], false), (&[3, 3], false)];
        for (names, fits) in few.into_iter().chain([(&many[1..], true), (&many, false)]) {
            let tombstone = Tombstone { packs: names.iter().copied().map(name).collect() };
            let opened = Tombstone::open(&tombstone.seal(&context, &key, &entropy), &context, &key);
            assert_eq!(opened.map_err(|error| error.name()), if fits { Ok(tombstone) } else { Err("malformed") });
        }
    }
}
