//! Which pages of a pinned state stand in the WAL, and where.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::base::page::{PageCount, PageNo, PageSize};
use crate::format::position::WalPosition;
use crate::sqlite::wal::{Checksum, FRAME_HEADER_BYTES, Frame, FrameChain, Salts, WAL_HEADER_BYTES, WalHeader};
use crate::sqlite::wal_index::{WAL_INDEX_HEADER_BYTES, WalIndexHeader, WalIndexState};

/// Bytes of frames read at a time while the chain is followed.
const SCAN_BYTES: usize = 1 << 20;

/// The committed frames of one generation of the WAL.
#[derive(Clone, Debug)]
pub struct WalMap {
    header: WalHeader,
    /// Behind the last committed frame.
    chain: FrameChain,
    /// The page of each committed frame.
    pages: Vec<PageNo>,
    /// The last committed frame of each page, from 0.
    frames: HashMap<PageNo, u32>,
    commits: Vec<CommitMark>,
}

/// A commit in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitMark {
    /// How many frames there are with it.
    pub end: u32,
    /// The database's size after it.
    pub page_count: PageCount,
    /// Of its last frame.
    checksum: Checksum,
}

/// What an attempt to map the WAL found.
#[derive(Debug)]
pub enum Mapped {
    /// The WAL holds no committed frame: every page is in the database file. The next generation will have these salts, unless they are zeros.
    Empty(Salts),
    /// Some pages are in the WAL.
    Frames(WalMap),
    /// A writer was in the middle of something: try again.
    Unstable,
    /// A frame that the index calls committed does not continue the chain.
    Damaged {
        /// Its number, from 1.
        frame: u32,
    },
}

/// Maps the frames that `shm` says are committed. The caller holds a read transaction.
pub fn map(wal: &File, shm: &File) -> io::Result<Mapped> {
    let Some(index) = read_index(shm)? else { return Ok(Mapped::Unstable) };
    if index.max_frame == 0 {
        return Ok(Mapped::Empty(index.salts));
    }
    let header = match read_header(wal)? {
        Some(header) if header.salts == index.salts => header,
        _ => return Ok(Mapped::Unstable),
    };
    let mut map = WalMap::new(header);
    let damaged = map.extend(wal, index.max_frame)?;
    let unchanged = read_index(shm)?.is_some_and(|now| now.salts == index.salts);
    Ok(match damaged {
        _ if !unchanged => Mapped::Unstable,
        Some(frame) => Mapped::Damaged { frame },
        None if map.pages.is_empty() => Mapped::Empty(index.salts),
        None => Mapped::Frames(map),
    })
}

/// What the WAL index says, if nobody is changing it right now.
pub fn read_index(shm: &File) -> io::Result<Option<WalIndexHeader>> {
    let mut bytes = [0; WAL_INDEX_HEADER_BYTES];
    let length = read_up_to(shm, &mut bytes, 0)?;
    Ok(match WalIndexState::parse(&bytes[..length]) {
        WalIndexState::Stable(header) => Some(header),
        WalIndexState::Uninitialised | WalIndexState::Changing => None,
    })
}

/// The WAL's header, if it is intact.
pub fn read_header(wal: &File) -> io::Result<Option<WalHeader>> {
    let mut bytes = [0; WAL_HEADER_BYTES];
    let length = read_up_to(wal, &mut bytes, 0)?;
    Ok(WalHeader::parse(&bytes[..length]))
}

/// Why a walk along the frames ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkEnd {
    /// At the frame that was asked for.
    Limit,
    /// The next frame is there, and does not continue the chain.
    Broken,
    /// The file ends before the next frame does.
    EndOfFile,
}

/// Hands the frames from `first` on, as far as they continue `chain`, to `accept`.
pub fn walk(
    wal: &File,
    header: &WalHeader,
    chain: &mut FrameChain,
    frames: std::ops::Range<u32>,
    mut accept: impl FnMut(u32, Frame, &FrameChain),
) -> io::Result<WalkEnd> {
    let frame_bytes = header.frame_bytes();
    let frames_a_read = (SCAN_BYTES / frame_bytes).max(1) as u32;
    let mut buffer = Vec::new();
    let mut next = frames.start;
    while next < frames.end {
        let wanted = frames_a_read.min(frames.end - next) as usize * frame_bytes;
        buffer.resize(wanted, 0);
        let length = read_up_to(wal, &mut buffer, header.frame_offset(next))?;
        for bytes in buffer[..length].chunks_exact(frame_bytes) {
            let Some(frame) = chain.accept(bytes) else { return Ok(WalkEnd::Broken) };
            accept(next, frame, chain);
            next += 1;
        }
        if length < wanted {
            return Ok(WalkEnd::EndOfFile);
        }
    }
    Ok(WalkEnd::Limit)
}

impl WalMap {
    fn new(header: WalHeader) -> Self {
        let chain = FrameChain::new(header);
        Self { header, chain, pages: Vec::new(), frames: HashMap::new(), commits: Vec::new() }
    }

    /// Follows the chain to frame `max_frame`, which the index says is committed. Returns the number, from 1, of a frame that does not continue it.
    pub fn extend(&mut self, wal: &File, max_frame: u32) -> io::Result<Option<u32>> {
        let mut chain = self.chain;
        let mut pending = Vec::new();
        let (header, range) = (self.header, self.frame_count()..max_frame);
        let end = walk(wal, &header, &mut chain, range, |_, frame, chain| {
            pending.push(frame.page);
            if frame.commit_pages > 0 {
                self.commit(&mut pending, PageCount(frame.commit_pages), *chain);
            }
        })?;
        Ok((end != WalkEnd::Limit).then(|| self.frame_count() + pending.len() as u32 + 1))
    }

    fn commit(&mut self, pending: &mut Vec<PageNo>, page_count: PageCount, chain: FrameChain) {
        for page in pending.drain(..) {
            self.frames.insert(page, self.pages.len() as u32);
            self.pages.push(page);
        }
        self.commits.push(CommitMark { end: self.pages.len() as u32, page_count, checksum: chain.checksum() });
        self.chain = chain;
    }

    /// Overwrites those pages of `buffer`, which begins with page `first`, that stand in the WAL. `false` if the WAL was restarted or cut
    /// meanwhile: what was read then is worth nothing.
    pub fn overlay(&self, wal: &File, first: PageNo, buffer: &mut [u8]) -> io::Result<bool> {
        let page_bytes = self.header.page_size.bytes();
        for (i, page) in buffer.chunks_exact_mut(page_bytes).enumerate() {
            if let Some(&frame) = self.frames.get(&PageNo(first.0 + i as u32))
                && !self.read_frame(wal, frame, page)?
            {
                return Ok(false);
            }
        }
        self.is_current(wal)
    }

    /// Reads the page of a frame. `false` if the file ends before it: a checkpoint that finds everything in the database file already may cut
    /// the WAL under a pin on mark 0.
    pub fn read_frame(&self, wal: &File, frame: u32, page: &mut [u8]) -> io::Result<bool> {
        let offset = self.header.frame_offset(frame) + FRAME_HEADER_BYTES as u64;
        Ok(read_up_to(wal, page, offset)? == page.len())
    }

    /// Whether the file still holds this generation.
    pub fn is_current(&self, wal: &File) -> io::Result<bool> {
        Ok(read_header(wal)?.is_some_and(|now| now.salts == self.header.salts))
    }

    /// Whether that page stands in the WAL.
    pub fn holds(&self, page: PageNo) -> bool {
        self.frames.contains_key(&page)
    }

    /// The page of each committed frame.
    pub fn pages(&self) -> &[PageNo] {
        &self.pages
    }

    /// The commits, in order.
    pub fn commits(&self) -> &[CommitMark] {
        &self.commits
    }

    /// The last frame of each page among the first `frame_count` frames.
    pub fn frames_before(&self, frame_count: u32) -> HashMap<PageNo, u32> {
        self.pages.iter().take(frame_count as usize).zip(0..).map(|(&page, frame)| (page, frame)).collect()
    }

    /// How many committed frames there are.
    pub fn frame_count(&self) -> u32 {
        self.pages.len() as u32
    }

    /// The database's size after the last commit.
    pub fn page_count(&self) -> PageCount {
        self.commits.last().map_or(PageCount(0), |commit| commit.page_count)
    }

    /// The WAL's header.
    pub fn header(&self) -> &WalHeader {
        &self.header
    }

    /// The size of the pages in its frames.
    pub fn page_size(&self) -> PageSize {
        self.header.page_size
    }

    /// How far it reaches.
    pub fn position(&self) -> WalPosition {
        self.position_at(self.frame_count())
    }

    /// The position right behind a commit that has so many frames with it.
    pub fn position_at(&self, frames: u32) -> WalPosition {
        let mark = self.commits.binary_search_by_key(&frames, |commit| commit.end).ok().map(|at| &self.commits[at]);
        let Checksum(first, second) = mark.map_or(Checksum(0, 0), |commit| commit.checksum);
        WalPosition {
            salts: self.header.salts.0,
            frames: if mark.is_some() { frames } else { 0 },
            checksum: (first, second),
        }
    }
}

/// Reads until the buffer is full or the file ends.
pub fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
