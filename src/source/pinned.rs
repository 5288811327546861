//! What a snapshot needs of its source. A [`Capture`](super::Capture) is one; a simulation has others, without SQLite and files.

use std::collections::HashMap;
use std::path::Path;

use crate::base::clock::UnixMicros;
use crate::base::page::{PageNo, PageReader};
use crate::format::position::{FileFacts, Position, WalPosition};

use super::changes::Changes;
use super::error::SourceError;

/// One committed state of a database, which stays as it is, and what is known of the file that it stands in.
pub trait Pinned {
    /// Its pages.
    type Pages: EarlierPages;

    /// The pages of the state.
    fn pages(&self) -> &Self::Pages;

    /// The real path, links resolved.
    fn path(&self) -> &Path;

    /// As SQLite names it.
    fn journal_mode(&self) -> &str;

    /// Whether SQLite had to roll back a transaction that a crashed process left behind.
    fn recovered(&self) -> bool;

    /// What the file system and SQLite say of the database file. `now` is the time, to tell whether later changes must show in them.
    fn file_facts(&self, now: UnixMicros) -> Result<FileFacts, SourceError>;

    /// How far the state reaches in the WAL; `None` if the WAL has no generation.
    fn wal_position(&self) -> Option<WalPosition>;

    /// Which pages may differ from an earlier capture, and how that is known.
    fn changes_since(&self, then: &Position, file: FileFacts) -> Result<Changes, SourceError>;

    /// Finds out which pages stand in the WAL, now and again after [`SourceError::WalRestarted`]; the pinned state may thereby become a newer
    /// one, of another page count.
    fn map_wal(&mut self) -> Result<(), SourceError>;
}

/// Pages of a pinned state, and what may still stand there of earlier states.
pub trait EarlierPages: PageReader<Error = SourceError> {
    /// The last frame of each page among the frames captured at `then`, if the WAL still has that generation.
    fn frames_before(&self, then: &WalPosition) -> HashMap<PageNo, u32>;

    /// Reads one page as it stands in a frame of the WAL, or, without one, in the database file: a candidate for what the page was earlier. `false` if
    /// there is none. Proving it is up to the caller.
    fn read_candidate(&self, page: PageNo, frame: Option<u32>, buffer: &mut [u8]) -> Result<bool, SourceError>;
}
