//! Follows a live database in WAL mode: every commit, in order, none missed.
//!
//! # Rolling pins
//! Two connections take turns: the new pin is taken, *then* everything committed is read to the end, *then* the old pin is released. Whatever read mark SQLite
//! grants, no frame can be overwritten before it was read:
//! * A pin on a mark ≥ 1 forbids a restart of the WAL.
//! * A pin on mark 0 was taken when everything was in the database file, and everything up to there had been read. It allows one restart, before any further frame, and
//!   then blocks all backfill: the new generation cannot be restarted before the pin is gone.
//!
//! So when the salts have changed under a pin, the old generation had been read whole, and generations between it and the new one had no frames: checkpoints restart an empty WAL, too.
//! Salts that are not a few restarts away show that the protocol was broken, by a removed `-wal` or by lost locks: that is a
//! [`SourceError::Gap`], never silence.
//!
//! # Keeping the WAL short
//! While somebody is pinned the WAL cannot restart, so a busy writer lets it grow. Beyond a limit, [`Follower::trim`] runs a *passive* checkpoint, which waits for nobody and
//! keeps nobody waiting, right after a pin was taken: if nothing was committed in between, everything is in the database file, the next pin is on mark
//! 0, and the next writer restarts the WAL.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;

use rusqlite::{Connection, OpenFlags};

use crate::base::page::{PageCount, PageNo, PageSize};
use crate::format::position::WalPosition;
use crate::sqlite::wal::Salts;

use super::capture::{Capture, CaptureOptions, WalSource, begin, connect, map_frames};
use super::error::SourceError;
use super::pinned::{EarlierPages, Pinned};
use super::wal_map;

/// So often an empty WAL may be restarted between two looks at it.
const EMPTY_RESTARTS: u32 = 1024;

/// Whether a generation with the salts `now` can be a later one of the same WAL, without the frames of another in between. Salts of zeros: there was none yet.
fn may_follow(now: Salts, before: Salts) -> bool {
    before == Salts([0; 8]) || now == before || (1..=EMPTY_RESTARTS).contains(&now.restarts_since(before))
}

/// See the module documentation.
pub struct Follower {
    /// The connection whose turn is next.
    spare: Connection,
    /// Runs checkpoints; made when the first one is needed.
    checkpointer: Option<Connection>,
    options: CaptureOptions,
    /// Frames of the current generation that were handed out.
    given: u32,
    /// The last of these frames of each page.
    latest: HashMap<PageNo, u32>,
    /// Frames when the pin was taken.
    pinned_frames: u32,
    /// Whether everything is in the database file.
    backfilled: bool,
    /// Whether everything was in the database file when the pin was taken: it is on mark 0 then, and keeps nobody from restarting the WAL.
    pinned_backfilled: bool,
    /// The same of the pin that is being taken.
    next_backfilled: bool,
    /// While both pins are held: frames that must be handed out before the old one is released.
    release_at: Option<u32>,
    /// Closed last: its descriptors must outlive the connections.
    capture: Capture,
}

/// A commit: its frames in the current generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitFrames {
    /// The first.
    pub start: u32,
    /// One past the last.
    pub end: u32,
    /// Pages of the database after it.
    pub page_count: PageCount,
}

/// What a passive checkpoint did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trimmed {
    /// Everything was in the database file: the WAL can restart.
    Whole,
    /// Somebody committed meanwhile, or reads an older state.
    Partly,
}

impl Follower {
    /// Follows from the state that `capture` pins on.
    pub fn new(capture: Capture, options: CaptureOptions) -> Result<Self, SourceError> {
        let path = capture.path().to_owned();
        let sqlite = |source| SourceError::Sqlite { path: path.clone(), source };
        let spare = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, options).map_err(sqlite)?;
        let given = capture.wal_position().map_or(0, |position| position.frames);
        let latest = capture.wal_map().map(|map| map.frames_before(given)).unwrap_or_default();
        Ok(Self {
            spare,
            checkpointer: None,
            options,
            given,
            latest,
            pinned_frames: given,
            backfilled: false,
            pinned_backfilled: false,
            next_backfilled: false,
            release_at: None,
            capture,
        })
    }

    /// The pinned state.
    pub fn capture(&mut self) -> &mut Capture {
        &mut self.capture
    }

    /// Size of a page.
    pub fn page_size(&self) -> PageSize {
        self.capture.page_size()
    }

    /// How far commits were handed out; `None` if the WAL has no generation.
    pub fn given_position(&self) -> Option<WalPosition> {
        match self.capture.wal_map() {
            Some(map) => Some(map.position_at(self.given)),
            None => self.capture.wal_position(),
        }
    }

    /// Whether the path still leads to the file that is followed.
    pub fn is_in_place(&self) -> bool {
        let followed = self.capture.identity();
        std::fs::metadata(self.capture.path()).is_ok_and(|now| (now.dev(), now.ino()) == followed)
    }

    /// Bytes of the WAL's committed frames.
    pub fn wal_bytes(&self) -> u64 {
        let map = self.capture.wal_map();
        map.map_or(0, |map| map.header().frame_offset(map.frame_count()))
    }

    /// Commits that were not handed out yet, in order. Cheap when there are none: 100 bytes are read. Their frames stay where they are at least until
    /// [`release`](Self::release), or, without a [`repin`](Self::repin), for as long as the pin.
    pub fn new_commits(&mut self) -> Result<Vec<CommitFrames>, SourceError> {
        let path = self.capture.path().to_owned();
        let io = || SourceError::io(&path, "read the WAL of");
        let Some(WalSource { wal, shm, map, next_salts }) = self.capture.wal_mut() else { return Ok(Vec::new()) };
        let Some(index) = wal_map::read_index(shm).map_err(io())? else { return Ok(Vec::new()) };
        self.backfilled = index.backfilled >= index.max_frame;
        let current = map.as_ref().map_or(*next_salts, |map| map.header().salts);
        let mut restarted = false;
        match map {
            Some(map) if index.salts == current => {
                if index.max_frame > map.frame_count()
                    && let Some(frame) = map.extend(wal, index.max_frame).map_err(io())?
                {
                    return Err(SourceError::WalDamaged { path, frame });
                }
            }
            _ if index.max_frame == 0 => {
                // Restarted, and nothing written yet.
                return if may_follow(index.salts, current) { Ok(Vec::new()) } else { Err(SourceError::Gap(path)) };
            }
            _ => {
                if !may_follow(index.salts, current) {
                    return Err(SourceError::Gap(path));
                }
                (*map, *next_salts) = map_frames(&path, wal, shm)?;
                restarted = true;
            }
        }
        if restarted {
            self.given = 0;
            self.latest.clear();
            self.pinned_frames = 0;
            self.release_at = self.release_at.map(|_| 0);
        }
        let Some(map) = self.capture.wal_map() else { return Ok(Vec::new()) };
        let mut commits = Vec::new();
        let mut start = self.given;
        let known = map.commits().partition_point(|commit| commit.end <= self.given);
        for commit in &map.commits()[known..] {
            commits.push(CommitFrames { start, end: commit.end, page_count: commit.page_count });
            start = commit.end;
        }
        Ok(commits)
    }

    /// The pages of a commit, ascending, each with its last frame.
    pub fn pages_of(&self, commit: &CommitFrames) -> Vec<(PageNo, u32)> {
        let Some(map) = self.capture.wal_map() else { return Vec::new() };
        let frames = (commit.start..commit.end).map(|frame| (map.pages()[frame as usize], frame));
        let last: std::collections::BTreeMap<PageNo, u32> = frames.collect();
        last.into_iter().filter(|(page, _)| page.0 <= commit.page_count.0).collect()
    }

    /// Reads a page of a frame.
    pub fn read_frame(&self, frame: u32, page: &mut [u8]) -> Result<(), SourceError> {
        let read = self.capture.pages().read_candidate(PageNo(1), Some(frame), page)?;
        if read { Ok(()) } else { Err(SourceError::Gap(self.capture.path().to_owned())) }
    }

    /// Reads a page as it was before the commits that are still to be [`accept`](Self::accept)ed: a candidate, to be proved by its hash.
    pub fn read_before(&self, page: PageNo, buffer: &mut [u8]) -> Result<bool, SourceError> {
        self.capture.pages().read_candidate(page, self.latest.get(&page).copied(), buffer)
    }

    /// Counts a commit, the next one, as handed out.
    pub fn accept(&mut self, commit: &CommitFrames) {
        for (page, frame) in self.pages_of(commit) {
            self.latest.insert(page, frame);
        }
        self.given = commit.end;
        self.capture.set_page_count(commit.page_count);
    }

    /// Whether the pin keeps checkpoints from proceeding: frames were committed since it was taken, or everything is in the database file by now, and
    /// somebody may wait to restart the WAL.
    pub fn lags(&self) -> bool {
        self.given > self.pinned_frames || (self.backfilled && !self.pinned_backfilled && self.given > 0)
    }

    /// Takes the new pin, beside the old one, unless that was done before. The caller then hands out [`new_commits`](Self::new_commits) and calls
    /// [`release`](Self::release).
    pub fn repin(&mut self) -> Result<(), SourceError> {
        if self.release_at.is_some() {
            return Ok(());
        }
        let path = self.capture.path().to_owned();
        let before = self.backfilled;
        begin(&self.spare).map_err(|source| SourceError::Sqlite { path, source })?;
        self.new_commits()?;
        self.next_backfilled = before && self.backfilled;
        self.release_at = Some(self.capture.wal_position().map_or(0, |position| position.frames));
        Ok(())
    }

    /// Releases the old pin, if everything committed before [`repin`](Self::repin) was handed out. Returns whether it did.
    pub fn release(&mut self) -> Result<bool, SourceError> {
        if self.release_at.is_none_or(|release_at| self.given < release_at) {
            return Ok(false);
        }
        self.release_at = None;
        let path = self.capture.path().to_owned();
        self.capture.swap_connection(&mut self.spare);
        self.pinned_frames = self.given;
        self.pinned_backfilled = self.next_backfilled;
        self.spare.execute_batch("ROLLBACK").map_err(|source| SourceError::Sqlite { path, source })?;
        Ok(true)
    }

    /// Bytes of committed frames that were not handed out yet.
    pub fn backlog_bytes(&self) -> u64 {
        let map = self.capture.wal_map();
        map.map_or(0, |map| u64::from(map.frame_count() - self.given) * map.header().frame_bytes() as u64)
    }

    /// Runs a passive checkpoint, up to the pin.
    pub fn trim(&mut self) -> Result<Trimmed, SourceError> {
        let path = self.capture.path().to_owned();
        let sqlite = |source| SourceError::Sqlite { path: path.clone(), source };
        if self.checkpointer.is_none() {
            let connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE, self.options).map_err(sqlite)?;
            connection.execute_batch("PRAGMA wal_autocheckpoint = 0").map_err(sqlite)?;
            self.checkpointer = Some(connection);
        }
        let connection = self.checkpointer.as_ref().expect("BUG: it was made above");
        let row = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        match row {
            Ok((0, frames, moved)) if frames == moved => Ok(Trimmed::Whole),
            Ok(_) => Ok(Trimmed::Partly),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => Ok(Trimmed::Partly),
            Err(source) => Err(sqlite(source)),
        }
    }
}
