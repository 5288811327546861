//! Every state of every database as a file, through FUSE: any program that reads files reads the past.
//!
//! ```text
//! kernel ── adapter ──> tree, inodes ──> catalog ──> timelines, journals, index
//!              └──────> reading ──> pages ──> chunks, kept decoded
//! ```
//!
//! # Invariants
//! * Nothing can be written, neither to the repository nor to anything else.
//! * A file's content never changes: an inode is a state, so what the kernel keeps of it stays right. `latest.db` becomes another file when there is a newer state; who has
//!   it open keeps what was opened.
//! * By default the header says that there is no WAL ([`WithoutWal`](crate::sqlite::without_wal::WithoutWal)), so that SQLite opens a file without writing beside it. With
//!   [`Content::Exact`] every byte is the image's, whose hash is the attribute `user.blake3`.
//! * Names from the repository are untrusted: [`names`]. So is its content: what cannot be read is an I/O error for the reader and a notice, never other bytes.
//! * Memory is bounded: chunks by the cache's limit, everything else by constants beside it; what the repository lists is in memory.
//! * A reader that goes on is read ahead of, and the kernel is given what comes next before it is asked for ([`sequence`]).
//! * When the destination is away, what is known and kept can be read; the rest fails within the time that requests are given, and works again once it is back.

mod adapter;
mod catalog;
mod inodes;
mod listing;
mod mounted;
mod names;
mod reading;
mod sequence;
mod tree;

use crate::base::clock::UnixMicros;

pub use mounted::{Ended, Mount, MountError, mount};

/// How times are read and written, which is the edge's business.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// What a person means by a text at some moment, if it is a time.
    pub parse: fn(&str, UnixMicros) -> Option<UnixMicros>,
    /// A time in a file name.
    pub file_name: fn(UnixMicros) -> String,
    /// A time for programs.
    pub exact: fn(UnixMicros) -> String,
}

/// What is read from files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Every byte as it is in the image.
    Exact,
    /// A database as if it had been used without a WAL.
    WithoutWal,
}

/// Who may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The user who mounts.
    Owner,
    /// Everybody on this machine.
    Everybody,
}

/// How to mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// The databases to show; all if none is named.
    pub names: Vec<String>,
    /// What is read from files.
    pub content: Content,
    /// Who may look.
    pub audience: Audience,
    /// Bytes of decoded chunks that are kept.
    pub cache_bytes: u64,
    /// How times are read and written.
    pub times: Times,
}
