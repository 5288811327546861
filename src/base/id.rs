//! Identifiers, each its own type with exactly one text form: lower-case hexadecimal.

use std::fmt;
use std::str::FromStr;

/// A text that is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: expected {digits} lower-case hexadecimal digits")]
pub struct ParseIdError {
    what: &'static str,
    digits: usize,
    text: String,
}

/// Two hexadecimal digits a byte.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// The bytes of lower-case hexadecimal `text`, or `None`.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                from_hex(text).and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| {
                    ParseIdError { what: $what, digits: $bytes * 2, text: text.to_owned() }
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                serde_bytes::deserialize(deserializer).map(Self)
            }
        }
    };
}

id!(
    /// A repository's random identity.
    RepositoryId, 16, "repository id"
);
id!(
    /// A chunk's identity: the keyed BLAKE3 hash of its bytes.
    ChunkId, 32, "chunk id"
);
id!(
    /// The BLAKE3 hash of a whole repository object.
    ObjectHash, 32, "object hash"
);
id!(
    /// A timeline's name: a keyed hash of the database's name, so that the store does not learn it.
    DatabaseId, 16, "database id"
);
id!(
    /// A key slot's random name.
    SlotId, 8, "key slot"
);
id!(
    /// The random name of a watcher's journal.
    WriterId, 16, "writer id"
);
id!(
    /// The BLAKE3 hash of a database image: what `b3sum` prints for the restored file.
    ImageRoot, 32, "image root"
);

impl ObjectHash {
    /// The hash of `object`.
    pub fn of(object: &[u8]) -> Self {
        Self(*blake3::hash(object).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_refuses_others() {
        let id = SlotId([0, 1, 2, 3, 0xab, 0xcd, 0xef, 0xff]);
        assert_eq!(id.to_string(), "00010203abcdefff");
        assert_eq!("00010203abcdefff".parse(), Ok(id));
        for wrong in ["", "00010203ABCDEFFF", "00010203abcdeff", "00010203abcdefff00", "0001020gabcdefff"] {
            assert!(wrong.parse::<SlotId>().is_err(), "{wrong}");
        }
    }
}
