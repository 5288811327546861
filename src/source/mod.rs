//! Capture of a live database: one consistent committed state, read without writing to it.
//!
//! The only lock ever taken is SQLite's own read lock, through a read-only connection of the bundled SQLite. Pages are then read
//! from the database file and its WAL directly, which is several times faster than through SQLite's pager.
//!
//! # Why the pages that are read belong to one state
//! * **Rollback journal.** The read transaction holds SHARED; no other process can write to the file until it ends.
//! * **WAL.** Pages of frames committed by a state at or after the pin come from the WAL, all others from the database file. While the pin is held, no
//!   checkpoint moves a page past it: a pin on a read mark ≥ 1 keeps every frame from that mark on out of the file and forbids a restart of the
//!   WAL; a pin on mark 0 (everything was checkpointed) keeps all later frames out of the file, but lets the WAL be restarted or cut once. Frames of
//!   the old generation may then vanish or be overwritten under us. A writer writes the new header before any new frame, so the salts are compared
//!   again after every read from the WAL, and a change starts the reading anew ([`SourceError::WalRestarted`], [`Pinned::map_wal`]). It cannot happen
//!   twice under the same pin: the new generation's frames cannot be checkpointed.
//!
//! # POSIX locks
//! Closing *any* descriptor of a file drops all of the process's POSIX locks on it, SQLite's too. The raw descriptors of a [`Capture`] are
//! therefore opened before the connection and closed after it, and a database can be captured only once at a time in a process.

mod capture;
mod changes;
mod error;
mod follow;
mod pinned;
pub mod wal_map;

pub use capture::{Capture, CaptureOptions, PinnedPages, looks_unchanged};
pub use changes::{Changes, Tier};
pub use error::SourceError;
pub use follow::{CommitFrames, Follower, Trimmed};
pub use pinned::{EarlierPages, Pinned};
