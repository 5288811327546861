//! Secret bytes: they print as `SecretKey(…)` and are wiped when dropped.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::base::entropy::Entropy;

/// 32 secret bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// Wraps bytes that are already secret.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A fresh random key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(entropy.bytes())
    }

    /// The bytes, for a cipher or a wrapping.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// BLAKE3's keyed mode.
    pub fn keyed_hash(&self, message: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, message).as_bytes()
    }

    /// A stream of bytes for one purpose.
    pub(super) fn derive(&self, purpose: &str) -> blake3::OutputReader {
        let context = format!("continuum 2026-11-24 {purpose} v1");
        let mut hasher = blake3::Hasher::new_derive_key(&context);
        hasher.update(&self.0);
        hasher.finalize_xof()
    }

    /// A key for one purpose.
    pub(super) fn subkey(&self, purpose: &str) -> Self {
        let mut key = [0; 32];
        self.derive(purpose).fill(&mut key);
        Self(key)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}
