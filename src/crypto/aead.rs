//! Authenticated encryption: AES-256-GCM or ChaCha20-Poly1305 (RFC 8439), detached tags of 16 bytes.

use aes_gcm::aead::{AeadInOut, KeyInit, inout::InOutBuf};

use super::NotAuthentic;

/// Bytes of an authentication tag.
pub const TAG_BYTES: usize = 16;

/// The cipher that a repository was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// AES-256-GCM, the default.
    Aes256Gcm,
    /// ChaCha20-Poly1305, faster where a processor has no AES instructions.
    ChaCha20Poly1305,
}

impl Suite {
    /// The suite's number in headers and in the config.
    pub fn code(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    /// The suite with that number.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Aes256Gcm, Self::ChaCha20Poly1305].into_iter().find(|suite| suite.code() == code)
    }
}

impl std::fmt::Display for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        })
    }
}

/// A 96-bit nonce. Under one key, each nonce is used once.
#[derive(Clone, Copy, Debug)]
pub struct Nonce([u8; 12]);

impl Nonce {
    /// For keys that seal a single message.
    pub const ONLY: Self = Self([0; 12]);

    /// For the `slot`-th message under a key.
    pub fn counter(slot: u32) -> Self {
        let mut nonce = [0; 12];
        nonce[8..].copy_from_slice(&slot.to_le_bytes());
        Self(nonce)
    }
}

/// A key made ready for one suite.
pub struct AeadKey(Cipher);

enum Cipher {
    Aes(Box<aes_gcm::Aes256Gcm>),
    ChaCha(Box<chacha20poly1305::ChaCha20Poly1305>),
}

impl AeadKey {
    /// Expands `key` for `suite`.
    pub fn new(suite: Suite, key: &[u8; 32]) -> Self {
        Self(match suite {
            Suite::Aes256Gcm => Cipher::Aes(Box::new(aes_gcm::Aes256Gcm::new(key.into()))),
            Suite::ChaCha20Poly1305 => Cipher::ChaCha(Box::new(chacha20poly1305::ChaCha20Poly1305::new(key.into()))),
        })
    }

    /// Encrypts `buffer` in place and returns its tag.
    pub fn seal(&self, nonce: Nonce, associated_data: &[u8], buffer: &mut [u8]) -> [u8; TAG_BYTES] {
        let nonce = (&nonce.0).into();
        let buffer = InOutBuf::from(buffer);
        let tag = match &self.0 {
            Cipher::Aes(cipher) => cipher.encrypt_inout_detached(nonce, associated_data, buffer),
            Cipher::ChaCha(cipher) => cipher.encrypt_inout_detached(nonce, associated_data, buffer),
        };
        tag.expect("BUG: a message is far below the cipher's length limit").into()
    }

    /// Decrypts `sealed`, a ciphertext with its tag, in place; the plaintext is what remains before the tag.
    /// On failure the buffer's content is unspecified ciphertext and must not be used.
    pub fn open<'a>(
        &self,
        nonce: Nonce,
        associated_data: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a [u8], NotAuthentic> {
        let length = sealed.len().checked_sub(TAG_BYTES).ok_or(NotAuthentic)?;
        let (buffer, tag) = sealed.split_at_mut(length);
        let tag: [u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| NotAuthentic)?;
        let nonce = (&nonce.0).into();
        let in_place = InOutBuf::from(&mut *buffer);
        let opened = match &self.0 {
            Cipher::Aes(cipher) => cipher.decrypt_inout_detached(nonce, associated_data, in_place, &tag.into()),
            Cipher::ChaCha(cipher) => cipher.decrypt_inout_detached(nonce, associated_data, in_place, &tag.into()),
        };
        opened.map_err(|_| NotAuthentic)?;
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_was_sealed_in_the_same_context() {
        for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            let key = AeadKey::new(suite, &[7; 32]);
            let mut sealed = b"page".to_vec();
            let tag = key.seal(Nonce::counter(92), b"here", &mut sealed);
            sealed.extend(tag);
            let open = |key: &AeadKey, slot, context: &[u8], flip: Option<usize>| {
                let mut copy = sealed.clone();
                if let Some(at) = flip {
                    copy[at] ^= 1;
                }
                key.open(Nonce::counter(slot), context, &mut copy).map(<[u8]>::to_vec)
            };
            assert_eq!(open(&key, 92, b"here", None).as_deref(), Ok(&b"page"[..]));
            assert_eq!(open(&key, 93, b"here", None), Err(NotAuthentic));
            assert_eq!(open(&key, 92, b"there", None), Err(NotAuthentic));
            assert_eq!(open(&AeadKey::new(suite, &[8; 32]), 92, b"here", None), Err(NotAuthentic));
            for at in 0..sealed.len() {
                assert_eq!(open(&key, 92, b"here", Some(at)), Err(NotAuthentic), "byte {at}");
            }
        }
    }

    #[test]
    fn suites_have_the_names_that_commands_print() {
        let names = [Suite::Aes256Gcm, Suite::ChaCha20Poly1305].map(|suite| suite.to_string());
        assert_eq!(names, ["aes-256-gcm", "chacha20-poly1305"]);
    }

    #[test]
    fn a_message_shorter_than_a_tag_is_refused() {
        let key = AeadKey::new(Suite::Aes256Gcm, &[7; 32]);
        assert_eq!(key.open(Nonce::ONLY, b"", &mut [0; 15]), Err(NotAuthentic));
    }
}
