//! Chunks: where an image is cut, and how a chunk's bytes are encoded.
//!
//! Pure: bytes in, bytes out. A chunk decodes to at most [`MAX_CHUNK_BYTES`], which is checked before
//! anything is allocated.

pub mod codec;
pub mod cutter;
mod split;

/// The most that a chunk decodes to.
pub const MAX_CHUNK_BYTES: usize = 4 << 20;
