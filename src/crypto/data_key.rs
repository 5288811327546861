//! A pack's data key and its sealing to the repository's X25519 public key: HPKE (RFC 9180), base mode,
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
//!
//! A writer needs the public key only, so what it wrote it cannot read again.
//!
//! To open a data key costs two multiplications on the curve, about a tenth of a millisecond; those that were opened last are remembered, for all who read with the same private key.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use zeroize::Zeroizing;

use crate::base::entropy::Entropy;

use super::NotAuthentic;
use super::secret::SecretKey;

/// Bytes of the encapsulated key.
pub const ENCAPSULATED_BYTES: usize = 32;
/// Bytes of a sealed data key: 32 and a tag of 16.
pub const SEALED_KEY_BYTES: usize = 48;

type HpkePrivate = <X25519HkdfSha256 as Kem>::PrivateKey;
type HpkePublic = <X25519HkdfSha256 as Kem>::PublicKey;
type HpkeEncapsulated = <X25519HkdfSha256 as Kem>::EncappedKey;

/// So many opened data keys are remembered.
const MOST_OPENED: usize = 1024;

/// The repository's X25519 private key: whoever holds it reads every pack.
#[derive(Clone)]
pub struct PrivateKey {
    key: HpkePrivate,
    public: PublicKey,
    opened: Arc<Mutex<Opened>>,
}

/// Data keys by what they were opened from.
type Opened = HashMap<blake3::Hash, SecretKey>;

/// What data keys are sealed to.
#[derive(Clone)]
pub struct PublicKey(HpkePublic);

/// A data key as it stands in a pack.
#[derive(Clone, Copy, Debug)]
pub struct SealedDataKey {
    /// HPKE's encapsulated key.
    pub encapsulated: [u8; ENCAPSULATED_BYTES],
    /// HPKE's ciphertext.
    pub sealed: [u8; SEALED_KEY_BYTES],
}

impl PrivateKey {
    pub(super) fn from_bytes(bytes: &[u8; 32]) -> Self {
        let key = HpkePrivate::from_bytes(bytes).expect("BUG: any 32 bytes are an X25519 private key");
        let public = PublicKey(X25519HkdfSha256::sk_to_pk(&key));
        Self { key, public, opened: Arc::default() }
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Opens a data key sealed under the same `info`.
    pub fn open(&self, info: &[u8], key: &SealedDataKey) -> Result<SecretKey, NotAuthentic> {
        let from = blake3::Hasher::new().update(&key.encapsulated).update(&key.sealed).update(info).finalize();
        let opened = || self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = opened().get(&from) {
            return Ok(known.clone());
        }
        let data_key = self.open_anew(info, key)?;
        let mut opened = opened();
        if opened.len() >= MOST_OPENED {
            opened.clear();
        }
        opened.insert(from, data_key.clone());
        Ok(data_key)
    }

    fn open_anew(&self, info: &[u8], key: &SealedDataKey) -> Result<SecretKey, NotAuthentic> {
        let encapsulated = HpkeEncapsulated::from_bytes(&key.encapsulated).map_err(|_| NotAuthentic)?;
        let opened = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.key,
            &encapsulated,
            info,
            &key.sealed,
            &[],
        );
        let opened = Zeroizing::new(opened.map_err(|_| NotAuthentic)?);
        let bytes: [u8; 32] = opened.as_slice().try_into().map_err(|_| NotAuthentic)?;
        Ok(SecretKey::from_bytes(bytes))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl PublicKey {
    /// The bytes that stand in the config.
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&self.0.to_bytes());
        bytes
    }

    /// Seals `key` under `info`.
    pub fn seal(&self, info: &[u8], key: &SecretKey, entropy: &dyn Entropy) -> SealedDataKey {
        let (encapsulated, sealed) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &self.0,
            info,
            key.expose(),
            &[],
            &mut EntropyRng(entropy),
        )
        .expect("BUG: sealing 32 bytes to a public key derived from a private one cannot fail");
        let mut data_key = SealedDataKey { encapsulated: [0; ENCAPSULATED_BYTES], sealed: [0; SEALED_KEY_BYTES] };
        data_key.encapsulated.copy_from_slice(&encapsulated.to_bytes());
        data_key.sealed.copy_from_slice(&sealed);
        data_key
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", crate::base::id::to_hex(&self.to_bytes()))
    }
}

/// [`Entropy`] as the random generator that HPKE asks for.
struct EntropyRng<'a>(&'a dyn Entropy);

impl TryRng for EntropyRng<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.0.bytes()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.0.bytes()))
    }

    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(buffer);
        Ok(())
    }
}

impl TryCryptoRng for EntropyRng<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SeededEntropy;

    #[test]
    fn a_data_key_opens_with_the_private_key_and_the_same_info() {
        let private = PrivateKey::from_bytes(&[9; 32]);
        let key = SecretKey::from_bytes([5; 32]);
        let sealed = private.public().seal(b"info", &key, &SeededEntropy::new(1));
        assert_eq!(private.open(b"info", &sealed).map(|k| *k.expose()), Ok([5; 32]));
        assert!(private.open(b"other", &sealed).is_err());
        assert!(private.open(b"info", &SealedDataKey { encapsulated: [7; 32], ..sealed }).is_err());
        assert!(private.open(b"info", &SealedDataKey { sealed: [7; 48], ..sealed }).is_err());
        assert_eq!(private.open(b"info", &sealed).map(|k| *k.expose()), Ok([5; 32]));
        assert!(PrivateKey::from_bytes(&[8; 32]).open(b"info", &sealed).is_err());
    }

    #[test]
    fn no_two_keys_are_sealed_with_the_same_randomness() {
        let (private, key) = (PrivateKey::from_bytes(&[9; 32]), SecretKey::from_bytes([5; 32]));
        let seal = |entropy: &SeededEntropy| private.public().seal(b"info", &key, entropy).encapsulated;
        let entropy = SeededEntropy::new(1);
        let (first, second) = (seal(&entropy), seal(&entropy));
        assert!(first != second && first == seal(&SeededEntropy::new(1)));
    }

    #[test]
    fn the_generator_is_the_entropy() {
        let (entropy, same): (_, &dyn Entropy) = (SeededEntropy::new(1), &SeededEntropy::new(1));
        let mut generator = EntropyRng(&entropy);
        let Ok(word) = generator.try_next_u32();
        let Ok(long) = generator.try_next_u64();
        assert_eq!((word, long), (u32::from_le_bytes(same.bytes()), u64::from_le_bytes(same.bytes())));
        let (mut filled, mut expected) = ([0; 40], [0; 40]);
        let Ok(()) = generator.try_fill_bytes(&mut filled);
        same.fill(&mut expected);
        assert_eq!(filled, expected);
    }

    #[test]
    fn of_a_private_key_nothing_is_printed() {
        let private = PrivateKey::from_bytes(&[9; 32]);
        let public = crate::base::id::to_hex(&private.public().to_bytes());
        let printed = (format!("{private:?}"), format!("{:?}", private.public()));
        assert_eq!(printed, ("PrivateKey(…)".to_owned(), format!("PublicKey({public})")));
    }

    #[test]
    fn not_all_that_were_opened_are_remembered() {
        let private = PrivateKey::from_bytes(&[9; 32]);
        let key = |nth: u8| SecretKey::from_bytes([nth; 32]);
        let sealed = |nth: u8| private.public().seal(b"info", &key(nth), &SeededEntropy::new(nth.into()));
        let first = sealed(1);
        private.opened.lock().unwrap().extend((0..MOST_OPENED).map(|nth| (blake3::hash(&nth.to_le_bytes()), key(0))));
        for (sealed, nth) in [(&first, 1), (&sealed(2), 2), (&first, 1)] {
            assert_eq!(private.open(b"info", sealed).map(|k| *k.expose()), Ok([nth; 32]));
        }
        assert_eq!(private.opened.lock().unwrap().len(), 2);
    }
}
