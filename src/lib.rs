//! Keeps every committed state of SQLite databases restorable: a content-addressed, deduplicating, encrypted chunk store made for
//! SQLite.
//!
//! # Bird's eye
//!
//! A *snapshot* pins one committed state of a live database by SQLite's own read lock, reads its pages from the database file and
//! the WAL, cuts them into *chunks* at page boundaries, and stores the chunks that the *repository* does not have yet: compressed,
//! encrypted, gathered into *packs*. An *index* says which pack holds which chunk. A *layer* maps pages to chunks; a
//! *manifest* names the layer and the BLAKE3 hash of the whole image; an entry of the database's *timeline* holds the manifest, and only this
//! entry makes the snapshot exist. A *restore* goes the same way back and is accepted only if the file's hash is the manifest's.
//!
//! ```text
//! live database ─ source ─> pages ─ chunk ─> chunks ─ crypto, format ─> packs, index, timeline ─ store ─> destination
//! ```
//!
//! # Code map
//!
//! | where | what |
//! |---|---|
//! | [`base`] | ids, page numbers, clock and entropy as arguments |
//! | [`sqlite`] | SQLite's file formats: header, WAL, WAL index |
//! | [`crypto`] | AEAD, derived keys, passwords, sealing to a public key |
//! | [`chunk`] | cutting at page boundaries, compression |
//! | [`format`](mod@format) | every persisted byte, as `format-spec/` says |
//! | [`monitor`] | events: progress, notices, the wish to stop |
//! | [`policy`] | which snapshots are kept, and what that promises |
//! | [`store`] | the `Store` trait; local folder, OpenDAL; local state |
//! | [`source`] | capture of a live database |
//! | [`vfs`] | SQLite reading any pages, read-only |
//! | [`repo`] | opening, packing, index, timelines, reading images |
//! | [`ops`] | snapshot, restore, of tables too; query, diff, history, when, verify; log, compact, copy, sync, forget, prune, check, repair, stats |
//! | [`daemon`] | `watch`: every commit, as it happens |
//! | [`serve`] | what other programs use while it runs: `mount` |
//! | [`cli`] | commands, output, exit codes, hints |
//!
//! # Invariants
//!
//! 1. The source is never written to; no lock is taken beyond SQLite's read lock ([`source`]).
//! 2. A snapshot is exactly one committed state; a restored file is byte for byte SQLite's view of it ([`source`], [`ops::restore`]).
//! 3. Objects are immutable; packs, then index, then timeline entry: a kill at any moment leaves the old or the new state
//!    ([`repo`], [`repo::chunk_writer`]).
//! 4. What comes from a repository or a database is untrusted: bounded before it is allocated, authenticated before it is used; it can cause an
//!    error, never a panic or wrong bytes ([`format`](mod@format)).
//! 5. Time and randomness are arguments; the core has no clock, threads, sockets or environment ([`base`], [`store::lane`]).
//! 6. Secrets do not print and are wiped when dropped ([`crypto::secret`]).
//!
//! # Layers
//!
//! Imports go downward only; `cargo xtask tidy` checks it.
//!
//! ```text
//! cli
//! daemon  serve
//! ops
//! repo
//! store   source   vfs    I/O; siblings don't import each other
//! monitor policy
//! format                  pure from here on, and policy
//! chunk   crypto   sqlite
//! base
//! ```

pub mod base;
pub mod chunk;
pub mod cli;
pub mod crypto;
pub mod daemon;
pub mod format;
pub mod monitor;
pub mod ops;
pub mod policy;
pub mod repo;
pub mod serve;
pub mod source;
pub mod sqlite;
pub mod store;
pub mod vfs;
