//! Every persisted byte of a repository, as `format-spec/` says it.
//!
//! Pure: objects are built from values and parsed into values. What comes from outside is untrusted until its header,
//! checksum or tag, lengths and cross-references have been checked; only then it becomes one of the types here. Every length is bounded
//! before it is used for an allocation. serde stands on the wire types of this folder only.

pub mod cbor;
pub mod checked;
pub mod config;
pub mod damage;
pub mod delta;
pub mod index;
pub mod journal;
pub mod key_slot;
pub mod layer;
pub mod manifest;
pub mod name;
pub mod object;
pub mod pack;
pub mod position;
pub mod timeline;
pub mod tombstone;
pub mod varint;
pub mod verification;

use crate::chunk::codec::DecodeError;
use crate::crypto::NotAuthentic;

/// Why bytes are not the object they should be. Each variant is one named failure of the specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another kind of file.
    #[error("is no continuum object: it does not begin with \"CNTM\"")]
    BadMagic,
    /// Written by a later version of the tool.
    #[error("has format version {0}, newer than the version {current} that this program reads", current = object::VERSION)]
    NewerVersion(u8),
    /// An object of another type.
    #[error("is an object of type {found}, expected type {expected}")]
    WrongType {
        /// What the place asks for.
        expected: u8,
        /// What stands there.
        found: u8,
    },
    /// A cipher suite of the future, or damage.
    #[error("has the unknown cipher suite {0}")]
    UnknownSuite(u8),
    /// A plain object was damaged.
    #[error("is damaged: its checksum does not agree")]
    BadChecksum,
    /// A sealed object was damaged or altered, or belongs elsewhere.
    #[error("is not authentic: it was damaged or altered, or belongs elsewhere")]
    NotAuthentic,
    /// Sealed properly, but padded wrongly.
    #[error("has no padding mark")]
    BadPadding,
    /// Longer than its kind may be.
    #[error("is too large: {found} bytes, at most {limit} expected")]
    TooLarge {
        /// In bytes.
        found: u64,
        /// In bytes.
        limit: u64,
    },
    /// Shorter than its kind can be, or its parts do not fit together.
    #[error("is malformed: {0}")]
    Malformed(String),
    /// The content says that it belongs under another name.
    #[error("is not the object that its name says")]
    WrongName,
    /// A chunk's encoding is of the future, or damaged.
    #[error(transparent)]
    Chunk(DecodeError),
    /// A chunk decoded to other bytes than its id says.
    #[error("decodes to other bytes than its id says")]
    WrongChunk,
}

impl FormatError {
    /// The failure's name in the specification and in the vectors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BadMagic => "bad-magic",
            Self::NewerVersion(_) => "newer-version",
            Self::WrongType { .. } => "wrong-type",
            Self::UnknownSuite(_) => "unknown-suite",
            Self::BadChecksum => "bad-checksum",
            Self::NotAuthentic => "not-authentic",
            Self::BadPadding => "bad-padding",
            Self::TooLarge { .. } | Self::Chunk(DecodeError::TooLarge(_)) => "too-large",
            Self::Malformed(_) | Self::Chunk(DecodeError::Malformed) => "malformed",
            Self::WrongName => "wrong-name",
            Self::Chunk(DecodeError::UnknownEncoding(_)) => "unknown-encoding",
            Self::WrongChunk => "wrong-chunk",
        }
    }

    fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }
}

impl From<NotAuthentic> for FormatError {
    fn from(_: NotAuthentic) -> Self {
        Self::NotAuthentic
    }
}

impl From<DecodeError> for FormatError {
    fn from(error: DecodeError) -> Self {
        Self::Chunk(error)
    }
}

/// Refuses with [`FormatError::Malformed`] unless `holds`.
fn ensure(holds: bool, what: &str) -> Result<(), FormatError> {
    if holds { Ok(()) } else { Err(FormatError::malformed(what)) }
}
