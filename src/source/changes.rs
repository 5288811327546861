//! Which pages of a pinned state can differ from an earlier capture: proved cheaply where possible.
//!
//! # The tiers
//! 1. **Unchanged.** The same file with the same facts, or the same generation of the WAL with the same last frame.
//! 2. **WAL tail.** The generation is the one that was captured and its last captured frame is still there with its checksum: everything committed since is in the frames
//!    behind it. Or: everything captured was in the database file, which has not been written to since: everything committed since is in the WAL.
//! 3. **WAL rescue.** The WAL was restarted exactly once (the first salt is one more), the last captured frame has not been overwritten, and the old generation's tail behind it
//!    ends at bytes that do not continue it. Everything since is in that tail and in the new generation. A tail that ends where the file ends proves
//!    nothing: `journal_size_limit` may have cut it.
//! 4. **Scan.** Anything may differ: every page is compared.
//!
//! A tier gives a superset of the pages that changed, or a reason why it cannot. It never assumes. The caller holds the pin meanwhile, and compares what it gets
//! with the page map, so a superset costs time only.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;

use crate::base::page::PageNo;
use crate::format::position::{FileFacts, Position, WalPosition};
use crate::sqlite::wal::{Checksum, FRAME_HEADER_BYTES, FrameChain, Salts, WalHeader, frame_marks};

use super::wal_map::{self, WalMap, WalkEnd, read_up_to};

/// How completeness was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Nothing was committed since.
    Unchanged,
    /// The WAL's frames since then.
    WalTail,
    /// The end of the generation that was captured, and the one after it.
    WalRescue,
    /// Every page has to be compared.
    Scan,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unchanged => "unchanged",
            Self::WalTail => "wal-tail",
            Self::WalRescue => "wal-rescue",
            Self::Scan => "scan",
        })
    }
}

/// What may have changed since an earlier capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// How that is known.
    pub tier: Tier,
    /// The pages, for the tiers that know them.
    pub pages: BTreeSet<PageNo>,
    /// Why no cheaper tier could prove completeness.
    pub reasons: Vec<&'static str>,
    /// Whether the source lacks commits that were captured: its history was rolled back.
    pub rewound: bool,
}

impl Changes {
    fn proved(tier: Tier, pages: BTreeSet<PageNo>, reasons: Vec<&'static str>) -> Self {
        let tier = if pages.is_empty() { Tier::Unchanged } else { tier };
        Self { tier, pages, reasons, rewound: false }
    }

    /// Everything may have changed, for that reason.
    pub fn unknown(reason: &'static str) -> Self {
        Self::unproved(Vec::new(), reason)
    }

    /// Everything may have changed, for that reason on top of others.
    fn unproved(mut reasons: Vec<&'static str>, reason: &'static str) -> Self {
        reasons.push(reason);
        Self { tier: Tier::Scan, pages: BTreeSet::new(), reasons, rewound: false }
    }
}

/// What is known of the pinned state.
pub(super) struct Now<'a> {
    pub(super) file: FileFacts,
    pub(super) page_size: u32,
    /// The WAL and its committed frames.
    pub(super) wal: Option<(&'a File, Option<&'a WalMap>)>,
    /// How far the state reaches in the WAL.
    pub(super) position: Option<WalPosition>,
}

/// What may have changed since `then`.
pub(super) fn changes_since(then: &Position, now: &Now<'_>) -> io::Result<Changes> {
    if !then.file.same_file(&now.file) {
        return Ok(Changes::unknown("another file stands at the path"));
    }
    if then.page_size != now.page_size {
        return Ok(Changes::unknown("the page size has changed"));
    }
    let mut reasons = Vec::new();
    let captured_in_file = then.wal.is_none_or(|wal| wal.frames == 0);
    if captured_in_file && then.file.prove_unchanged(&now.file) {
        let map = now.wal.and_then(|(_, map)| map);
        let pages = map.map(|map| map.pages().iter().copied().collect()).unwrap_or_default();
        return Ok(Changes::proved(Tier::WalTail, pages, reasons));
    }
    if captured_in_file {
        reasons.push("the database file was written to since, or just before, the last capture");
    }
    let (Some(wal_then), Some((wal, map)), Some(wal_now)) = (then.wal, now.wal, now.position) else {
        return Ok(Changes::unproved(reasons, "no WAL connects this state with the last capture"));
    };
    let salts = (Salts(wal_then.salts), Salts(wal_now.salts));
    if salts.0 == salts.1 {
        return tail(&wal_then, wal, map, reasons);
    }
    if salts.1.restarts_since(salts.0) != 1 {
        return Ok(Changes::unproved(reasons, "the WAL was restarted more than once, or made anew"));
    }
    match rescue(&wal_then, wal, map)? {
        Ok(pages) => Ok(Changes::proved(Tier::WalRescue, pages, reasons)),
        Err(reason) => Ok(Changes::unproved(reasons, reason)),
    }
}

/// The frames behind the captured ones in the same generation.
fn tail(then: &WalPosition, wal: &File, map: Option<&WalMap>, reasons: Vec<&'static str>) -> io::Result<Changes> {
    let pages = map.map_or(&[][..], WalMap::pages);
    let header = map.map(WalMap::header);
    let intact = match header {
        Some(header) if then.frames > 0 && then.frames as usize <= pages.len() => is_intact(then, wal, header)?,
        _ => then.frames == 0,
    };
    if !intact {
        let unproved =
            Changes::unproved(reasons, "the WAL lacks frames that were captured: its history was rolled back");
        return Ok(Changes { rewound: true, ..unproved });
    }
    let pages = pages[then.frames as usize..].iter().copied().collect();
    Ok(Changes::proved(Tier::WalTail, pages, reasons))
}

/// Whether the last captured frame still stands in its slot.
fn is_intact(then: &WalPosition, wal: &File, header: &WalHeader) -> io::Result<bool> {
    let Some(last) = then.frames.checked_sub(1) else { return Ok(false) };
    let mut bytes = [0; FRAME_HEADER_BYTES];
    let length = read_up_to(wal, &mut bytes, header.frame_offset(last))?;
    let expected = (Salts(then.salts), Checksum(then.checksum.0, then.checksum.1));
    Ok(length == FRAME_HEADER_BYTES && frame_marks(&bytes) == expected)
}

/// The tail of the captured generation and all of the next one; or why they prove nothing.
fn rescue(then: &WalPosition, wal: &File, map: Option<&WalMap>) -> io::Result<Result<BTreeSet<PageNo>, &'static str>> {
    // Until the new generation's first frame is written, the file has the old one's header.
    let Some(header) = map.map(|map| *map.header()).or(wal_map::read_header(wal)?) else {
        return Ok(Err("the WAL was restarted and cut"));
    };
    if !is_intact(then, wal, &header)? {
        return Ok(Err("the WAL was restarted, and frames that were captured last have been overwritten"));
    }
    let mut chain = FrameChain::resume(header, Salts(then.salts), Checksum(then.checksum.0, then.checksum.1));
    let (mut pages, mut pending) = (BTreeSet::new(), Vec::new());
    let end = wal_map::walk(wal, &header, &mut chain, then.frames..u32::MAX, |_, frame, _| {
        pending.push(frame.page);
        if frame.commit_pages > 0 {
            pages.extend(pending.drain(..));
        }
    })?;
    if end != WalkEnd::Broken {
        return Ok(Err("the WAL was restarted, and its earlier generation may have been cut"));
    }
    // Frames are written in order: what precedes the tail still stands, so the tail stood while it was read.
    if !is_intact(then, wal, &header)? {
        return Ok(Err("the WAL was restarted, and frames that were captured last have been overwritten"));
    }
    pages.extend(map.into_iter().flat_map(WalMap::pages));
    Ok(Ok(pages))
}
