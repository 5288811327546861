//! Keys and ciphers: AEAD, password hashing, derived keys, sealing to a public key.
//!
//! Everything here is a pure function of its arguments; randomness is handed in. Primitives come from the
//! RustCrypto crates and from BLAKE3; this module only fixes how they are put together, as
//! `format-spec/keys.md` says.

pub mod aead;
pub mod data_key;
pub mod keys;
pub mod password;
pub mod secret;

/// A ciphertext, MAC or commitment that does not belong to its key and context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not authentic: it was damaged or altered, or belongs elsewhere")]
pub struct NotAuthentic;
