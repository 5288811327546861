//! B-tree pages: kind, cells, children, payloads (SQLite file format §1.6 and §1.7).
//!
//! A page is looked at as it is, untrusted: a cell that does not lie in its page, or a page of another kind, is an error that names the page. Page numbers and payload
//! lengths are handed out as they stand; whoever follows them bounds them by the number of pages.

use crate::base::page::{PageNo, PageSize};

use super::{be_u32, varint};

/// What a B-tree page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageKind {
    /// Children and the rowids that part them.
    TableInterior,
    /// Rows.
    TableLeaf,
    /// Children and the entries that part them.
    IndexInterior,
    /// Entries of an index, or rows of a WITHOUT ROWID table.
    IndexLeaf,
}

impl PageKind {
    /// The kind that a page's type byte says, if it is one.
    pub fn of(byte: u8) -> Option<Self> {
        match byte {
            0x02 => Some(Self::IndexInterior),
            0x05 => Some(Self::TableInterior),
            0x0a => Some(Self::IndexLeaf),
            0x0d => Some(Self::TableLeaf),
            _ => None,
        }
    }

    /// Whether it has children.
    pub fn is_interior(self) -> bool {
        matches!(self, Self::TableInterior | Self::IndexInterior)
    }

    /// Whether its keys are rowids.
    pub fn is_table(self) -> bool {
        matches!(self, Self::TableInterior | Self::TableLeaf)
    }
}

/// Why a page cannot be read as a page of a B-tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("page {} is damaged: {what}", page.0)]
pub struct BtreeError {
    /// Which page.
    pub page: PageNo,
    /// What is wrong.
    pub what: &'static str,
}

/// Bytes of each page that hold content: all but the reserved ones at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsableSize(usize);

impl UsableSize {
    /// What the header, the first 100 bytes of page 1, says. SQLite refuses less than 480 bytes.
    pub fn of(page_size: PageSize, header: &[u8]) -> Option<Self> {
        let usable = page_size.bytes().checked_sub(usize::from(*header.get(20)?))?;
        (usable >= 480).then_some(Self(usable))
    }

    /// In bytes.
    pub fn bytes(self) -> usize {
        self.0
    }

    /// Bytes of payload in an overflow page.
    pub fn overflow_bytes(self) -> usize {
        self.0 - 4
    }
}

/// The type byte of a page: on page 1 it stands behind the database header.
pub fn type_byte(page: PageNo, bytes: &[u8]) -> Option<u8> {
    bytes.get(header_offset(page)).copied()
}

fn header_offset(page: PageNo) -> usize {
    if page.0 == 1 { super::header::HEADER_BYTES } else { 0 }
}

/// A page of a B-tree.
#[derive(Clone, Copy, Debug)]
pub struct BtreePage<'a> {
    page: PageNo,
    /// Without the reserved bytes.
    bytes: &'a [u8],
    kind: PageKind,
    cells: usize,
    pointers: usize,
}

/// A cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// The child to its left, on interior pages.
    pub left_child: Option<PageNo>,
    /// The rowid, in table B-trees.
    pub rowid: Option<i64>,
    /// All bytes of its payload; 0 on interior pages of tables.
    pub payload_bytes: u64,
    /// The bytes of the payload that lie in this page.
    pub local: &'a [u8],
    /// The page with the next ones.
    pub overflow: Option<PageNo>,
}

/// A child of an interior page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// Its page.
    pub page: PageNo,
    /// The greatest rowid below it, in table B-trees; `None` for the last child.
    pub last_rowid: Option<i64>,
}

impl<'a> BtreePage<'a> {
    /// Looks at a page.
    pub fn parse(page: PageNo, bytes: &'a [u8], usable: UsableSize) -> Result<Self, BtreeError> {
        let damaged = |what| BtreeError { page, what };
        let at = header_offset(page);
        let kind = type_byte(page, bytes).and_then(PageKind::of).ok_or_else(|| damaged("no page of a B-tree"))?;
        let bytes = bytes.get(..usable.bytes()).ok_or_else(|| damaged("too short"))?;
        let cells = usize::from(be_u16(bytes, at + 3).ok_or_else(|| damaged("too short"))?);
        let pointers = at + if kind.is_interior() { 12 } else { 8 };
        if pointers + 2 * cells > bytes.len() {
            return Err(damaged("it cannot hold so many cells"));
        }
        Ok(Self { page, bytes, kind, cells, pointers })
    }

    /// What it is.
    pub fn kind(&self) -> PageKind {
        self.kind
    }

    /// How many cells it has.
    pub fn cell_count(&self) -> usize {
        self.cells
    }

    /// A cell, from 0.
    pub fn cell(&self, number: usize) -> Result<Cell<'a>, BtreeError> {
        self.find_cell(number).ok_or(BtreeError { page: self.page, what: "a cell does not lie in its page" })
    }

    fn find_cell(&self, number: usize) -> Option<Cell<'a>> {
        let start = usize::from(be_u16(self.bytes, self.pointers + 2 * number)?);
        let mut rest = self.bytes.get(start..).filter(|_| start >= self.pointers + 2 * self.cells)?;
        let left_child = if self.kind.is_interior() { Some(PageNo(take_u32(&mut rest)?)) } else { None };
        if self.kind == PageKind::TableInterior {
            let rowid = varint::take(&mut rest)?;
            return Some(Cell { left_child, rowid: Some(rowid), payload_bytes: 0, local: &[], overflow: None });
        }
        // A negative length is nonsense.
        let payload_bytes = u64::try_from(varint::take(&mut rest)?).ok()?;
        let rowid = if self.kind == PageKind::TableLeaf { Some(varint::take(&mut rest)?) } else { None };
        let local_bytes = self.local_bytes(payload_bytes);
        let local = rest.get(..local_bytes)?;
        rest = &rest[local_bytes..];
        let overflow = if local_bytes as u64 == payload_bytes { None } else { Some(PageNo(take_u32(&mut rest)?)) };
        Some(Cell { left_child, rowid, payload_bytes, local, overflow })
    }

    /// How much of a payload lies in the page itself: X, M and K of §1.6.
    fn local_bytes(&self, payload_bytes: u64) -> usize {
        let usable = self.bytes.len();
        let most = if self.kind.is_table() { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
        if payload_bytes <= most as u64 {
            return payload_bytes as usize;
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let fitting = least + ((payload_bytes - least as u64) % (usable as u64 - 4)) as usize;
        if fitting <= most { fitting } else { least }
    }

    /// The children, from left to right; none of a leaf.
    pub fn children(&self) -> Result<Vec<Child>, BtreeError> {
        if !self.kind.is_interior() {
            return Ok(Vec::new());
        }
        let mut children = Vec::with_capacity(self.cells + 1);
        for number in 0..self.cells {
            let cell = self.cell(number)?;
            children.push(Child { page: cell.left_child.unwrap_or(PageNo(0)), last_rowid: cell.rowid });
        }
        let last = be_u32(self.bytes, self.pointers - 4).unwrap_or(0);
        children.push(Child { page: PageNo(last), last_rowid: None });
        Ok(children)
    }
}

fn be_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let number = be_u32(rest, 0)?;
    *rest = &rest[4..];
    Some(number)
}
