//! `keys/<slot>`: the root key wrapped by a password (`format-spec/keys.md`).

use std::collections::BTreeSet;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::base::clock::UnixMicros;
use crate::base::entropy::Entropy;
use crate::base::id::{RepositoryId, SlotId};
use crate::crypto::aead::{AeadKey, Nonce, Suite};
use crate::crypto::password::{self, Cost, PasswordError, SALT_BYTES};
use crate::crypto::secret::SecretKey;

use super::object::{self, ObjectType};
use super::{FormatError, cbor, ensure};

/// The longest label, in bytes of UTF-8.
pub const MAX_LABEL_BYTES: usize = 255;
/// How many epochs' root keys a slot may carry.
const MAX_ROOTS: usize = 16;

/// A slot that parses.
#[derive(Clone, Debug)]
pub struct KeySlot {
    /// Its name.
    pub slot: SlotId,
    /// When it was made, on its maker's clock.
    pub created: UnixMicros,
    /// What its maker called it.
    pub label: String,
    suite: Suite,
    cost: Cost,
    salt: [u8; SALT_BYTES],
    commitment: [u8; 32],
    wrapped: Vec<u8>,
}

/// Why a slot gave no root key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// The password is not this slot's, or the slot asks for too much.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The slot is damaged or was altered.
    #[error(transparent)]
    Format(#[from] FormatError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSlot {
    slot: SlotId,
    created: UnixMicros,
    label: String,
    kind: Kind,
    kdf: WireKdf,
    #[serde(with = "serde_bytes")]
    commitment: [u8; 32],
    #[serde(with = "serde_bytes")]
    wrapped: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Password,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireKdf {
    memory_kib: u64,
    passes: u64,
    lanes: u64,
    #[serde(with = "serde_bytes")]
    salt: [u8; SALT_BYTES],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePayload {
    role: Role,
    roots: Vec<WireRoot>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Role {
    Admin,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRoot {
    epoch: u64,
    #[serde(with = "serde_bytes")]
    root: [u8; 32],
}

/// What a new slot is made of, beside the password and the key.
#[derive(Clone, Debug)]
pub struct SlotOptions {
    /// What people call it.
    pub label: String,
    /// What guessing a password shall cost.
    pub cost: Cost,
    /// Cipher of the wrapping.
    pub suite: Suite,
    /// When it is made.
    pub created: UnixMicros,
}

impl KeySlot {
    /// Wraps `root` under `password` in a fresh slot.
    pub fn create(
        repository: RepositoryId,
        root: &SecretKey,
        password: &SecretString,
        options: SlotOptions,
        entropy: &dyn Entropy,
    ) -> Result<Self, PasswordError> {
        let (slot, salt) = (SlotId(entropy.bytes()), entropy.bytes());
        let derived = password::derive(password, &salt, options.cost)?;
        let roots = vec![WireRoot { epoch: 1, root: *root.expose() }];
        let mut payload = Zeroizing::new(cbor::encode(&WirePayload { role: Role::Admin, roots }));
        let key = AeadKey::new(options.suite, derived.key.expose());
        let tag = key.seal(Nonce::ONLY, &associated_data(options.suite, repository, slot), &mut payload);
        let wrapped = [payload.as_slice(), &tag].concat();
        let SlotOptions { label, cost, suite, created } = options;
        Ok(Self { slot, created, label, suite, cost, salt, commitment: derived.commitment, wrapped })
    }

    /// The object.
    pub fn to_object(&self) -> Vec<u8> {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let wire = WireSlot {
            slot: self.slot,
            created: self.created,
            label: self.label.clone(),
            kind: Kind::Password,
            kdf: WireKdf { memory_kib: memory_kib.into(), passes: passes.into(), lanes: lanes.into(), salt: self.salt },
            commitment: self.commitment,
            wrapped: self.wrapped.clone(),
        };
        object::plain(ObjectType::KeySlot, self.suite.code(), &cbor::encode(&wire))
    }

    /// Parses the object that stands under the name of `slot`.
    pub fn parse(bytes: &[u8], slot: SlotId) -> Result<Self, FormatError> {
        let (suite_code, cbor) = object::open_plain(bytes, ObjectType::KeySlot)?;
        let wire: WireSlot = cbor::decode(cbor)?;
        if wire.slot != slot {
            return Err(FormatError::WrongName);
        }
        ensure(wire.label.len() <= MAX_LABEL_BYTES, "label longer than 255 bytes")?;
        let WireKdf { memory_kib, passes, lanes, salt } = wire.kdf;
        Ok(Self {
            slot,
            created: wire.created,
            label: wire.label,
            suite: object::suite(suite_code)?,
            cost: Cost { memory_kib: capped(memory_kib), passes: capped(passes), lanes: capped(lanes) },
            salt,
            commitment: wire.commitment,
            wrapped: wire.wrapped,
        })
    }

    /// The root key, if `password` is the one that this slot was made with.
    pub fn open(&self, repository: RepositoryId, password: &SecretString) -> Result<SecretKey, SlotError> {
        let key = password::derive_committed(password, &self.salt, self.cost, &self.commitment)?;
        let mut buffer = Zeroizing::new(self.wrapped.clone());
        let data = associated_data(self.suite, repository, self.slot);
        let payload =
            AeadKey::new(self.suite, key.expose()).open(Nonce::ONLY, &data, &mut buffer).map_err(FormatError::from)?;
        let WirePayload { role: Role::Admin, roots } = cbor::decode(payload)?;
        ensure(roots.len() <= MAX_ROOTS, "more than 16 root keys")?;
        let epochs: BTreeSet<u64> = roots.iter().map(|root| root.epoch).collect();
        ensure(epochs.len() == roots.len(), "two root keys of one epoch")?;
        let root = roots.into_iter().find(|root| root.epoch == 1);
        let root = root.ok_or_else(|| FormatError::malformed("no root key of epoch 1"))?;
        Ok(SecretKey::from_bytes(root.root))
    }
}

/// A cost beyond u32 is beyond every ceiling, too.
fn capped(cost: u64) -> u32 {
    u32::try_from(cost).unwrap_or(u32::MAX)
}

fn associated_data(suite: Suite, repository: RepositoryId, slot: SlotId) -> Vec<u8> {
    let mut data = object::header(ObjectType::KeySlot, suite.code()).to_vec();
    data.extend(repository.0);
    data.extend(slot.0);
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SeededEntropy;

    const REPOSITORY: RepositoryId = RepositoryId([1; 16]);

    fn slot(cost: Cost) -> Result<KeySlot, PasswordError> {
        let options = SlotOptions { label: "laptop".into(), cost, suite: Suite::Aes256Gcm, created: UnixMicros(1) };
        let root = SecretKey::from_bytes([7; 32]);
        KeySlot::create(REPOSITORY, &root, &"secret".into(), options, &SeededEntropy::new(1))
    }

    fn cheap() -> KeySlot {
        slot(Cost { memory_kib: 8, passes: 1, lanes: 1 }).expect("BUG: cheap costs are allowed")
    }

    #[test]
    fn a_slot_opens_with_its_password_only() {
        let made = cheap();
        let read = KeySlot::parse(&made.to_object(), made.slot).expect("BUG: it was just made");
        assert_eq!(read.open(REPOSITORY, &"secret".into()).map(|k| *k.expose()), Ok([7; 32]));
        let wrong = read.open(REPOSITORY, &"Secret".into()).map(|_| ());
        assert_eq!(wrong, Err(SlotError::Password(PasswordError::Wrong)));
        let elsewhere = read.open(RepositoryId([2; 16]), &"secret".into()).map(|_| ());
        assert_eq!(elsewhere, Err(SlotError::Format(FormatError::NotAuthentic)));
    }

    #[test]
    fn a_slot_under_another_name_is_refused() {
        let made = cheap();
        assert_eq!(KeySlot::parse(&made.to_object(), SlotId([0; 8])).map(|_| ()), Err(FormatError::WrongName));
    }

    #[test]
    fn a_hostile_cost_is_refused_before_it_runs() {
        let mut made = cheap();
        made.cost = Cost { memory_kib: u32::MAX, passes: 1, lanes: 1 };
        let read = KeySlot::parse(&made.to_object(), made.slot).expect("BUG: it parses");
        let refused = read.open(REPOSITORY, &"secret".into()).map(|_| ());
        assert_eq!(refused, Err(SlotError::Password(PasswordError::Cost(made.cost))));
    }
}
