//! Which pages of a pinned state stand in the WAL, and where.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::base::page::{PageCount, PageNo, PageSize};
use crate::sqlite::wal::{FRAME_HEADER_BYTES, FrameChain, WAL_HEADER_BYTES, WalHeader};
use crate::sqlite::wal_index::{WAL_INDEX_HEADER_BYTES, WalIndexHeader, WalIndexState};

/// Bytes of frames read at a time while the chain is followed.
const SCAN_BYTES: usize = 1 << 20;

/// The committed frames of one generation of the WAL.
#[derive(Debug)]
pub struct WalMap {
    header: WalHeader,
    frames: HashMap<PageNo, u32>,
    /// The database's size after the last commit.
    pub page_count: PageCount,
}

/// What an attempt to map the WAL found.
#[derive(Debug)]
pub enum Mapped {
    /// The WAL holds no committed frame: every page is in the database file.
    Empty,
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
        return Ok(Mapped::Empty);
    }
    let header = match read_header(wal)? {
        Some(header) if header.salts == index.salts => header,
        _ => return Ok(Mapped::Unstable),
    };
    let scanned = scan(wal, header, index.max_frame)?;
    let unchanged = read_index(shm)?.is_some_and(|now| now.salts == index.salts);
    Ok(if unchanged { scanned } else { Mapped::Unstable })
}

fn read_index(shm: &File) -> io::Result<Option<WalIndexHeader>> {
    let mut bytes = [0; WAL_INDEX_HEADER_BYTES];
    let length = read_up_to(shm, &mut bytes, 0)?;
    Ok(match WalIndexState::parse(&bytes[..length]) {
        WalIndexState::Stable(header) => Some(header),
        WalIndexState::Uninitialised | WalIndexState::Changing => None,
    })
}

fn read_header(wal: &File) -> io::Result<Option<WalHeader>> {
    let mut bytes = [0; WAL_HEADER_BYTES];
    let length = read_up_to(wal, &mut bytes, 0)?;
    Ok(WalHeader::parse(&bytes[..length]))
}

fn scan(wal: &File, header: WalHeader, max_frame: u32) -> io::Result<Mapped> {
    let frame_bytes = header.frame_bytes();
    let frames_a_read = (SCAN_BYTES / frame_bytes).max(1) as u32;
    let mut buffer = vec![0; frames_a_read as usize * frame_bytes];
    let mut chain = FrameChain::new(header);
    let (mut frames, mut pending) = (HashMap::new(), Vec::new());
    let mut page_count = None;
    let mut next = 0;
    while next < max_frame {
        let wanted = frames_a_read.min(max_frame - next) as usize * frame_bytes;
        let length = read_up_to(wal, &mut buffer[..wanted], header.frame_offset(next))?;
        for bytes in buffer[..wanted].chunks_exact(frame_bytes) {
            let accepted = if length == wanted { chain.accept(bytes) } else { None };
            let Some(frame) = accepted else { return Ok(Mapped::Damaged { frame: next + 1 }) };
            pending.push((frame.page, next));
            next += 1;
            if frame.commit_pages > 0 {
                frames.extend(pending.drain(..));
                page_count = Some(PageCount(frame.commit_pages));
            }
        }
    }
    Ok(match page_count {
        Some(page_count) => Mapped::Frames(WalMap { header, frames, page_count }),
        None => Mapped::Empty,
    })
}

impl WalMap {
    /// Overwrites those pages of `buffer`, which begins with page `first`, that stand in the WAL. `false` if the WAL was restarted or cut
    /// meanwhile: what was read then is worth nothing.
    pub fn overlay(&self, wal: &File, first: PageNo, buffer: &mut [u8]) -> io::Result<bool> {
        let page_bytes = self.header.page_size.bytes();
        for (i, page) in buffer.chunks_exact_mut(page_bytes).enumerate() {
            if let Some(&frame) = self.frames.get(&PageNo(first.0 + i as u32)) {
                let offset = self.header.frame_offset(frame) + FRAME_HEADER_BYTES as u64;
                // A checkpoint that finds everything in the database file already may cut the WAL under a pin on mark 0.
                if read_up_to(wal, page, offset)? < page_bytes {
                    return Ok(false);
                }
            }
        }
        Ok(read_header(wal)?.is_some_and(|now| now.salts == self.header.salts))
    }

    /// Whether that page stands in the WAL.
    pub fn holds(&self, page: PageNo) -> bool {
        self.frames.contains_key(&page)
    }

    /// The size of the pages in its frames.
    pub fn page_size(&self) -> PageSize {
        self.header.page_size
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
