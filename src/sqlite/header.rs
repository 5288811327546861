//! The database header: the first 100 bytes of page 1 (SQLite file format §1.3).

use crate::base::page::{PageCount, PageSize};

use super::be_u32;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 100;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseHeader {
    /// Size of a page.
    pub page_size: PageSize,
    /// Whether readers and writers use a WAL (read and write version 2).
    pub is_wal: bool,
    /// Incremented when a rollback-mode transaction commits.
    pub change_counter: u32,
    /// Size in pages; stale in files written before SQLite 3.7.0.
    pub page_count: PageCount,
}

/// Parts of the header that change with commits and tell nothing of the content: change counter, page count and free list; version-valid-for and the version
/// of the library that wrote last.
const COUNTERS: [std::ops::Range<usize>; 2] = [24..40, 92..100];

/// Whether two versions of page 1 differ in nothing but the header's counters.
pub fn are_same_but_for_counters(a: &[u8], b: &[u8]) -> bool {
    let is_counter = |at: usize| COUNTERS.iter().any(|range| range.contains(&at));
    a.len() == b.len() && a.iter().zip(b).enumerate().all(|(at, (a, b))| a == b || is_counter(at))
}

/// Why a file is no SQLite database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Shorter than a header.
    #[error("too short for a SQLite database: {0} bytes")]
    TooShort(usize),
    /// Another kind of file, or an encrypted database.
    #[error("not a SQLite database: the file does not begin with \"SQLite format 3\"")]
    NotSqlite,
    /// A page size that SQLite does not know.
    #[error("page size {0} is no SQLite page size")]
    PageSize(u32),
}

impl DatabaseHeader {
    /// Parses the first bytes of a database file.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() < HEADER_BYTES {
            return Err(HeaderError::TooShort(bytes.len()));
        }
        if !bytes.starts_with(MAGIC) {
            return Err(HeaderError::NotSqlite);
        }
        let raw_size = match u32::from(u16::from_be_bytes([bytes[16], bytes[17]])) {
            1 => 65_536,
            other => other,
        };
        Ok(Self {
            page_size: PageSize::new(raw_size).ok_or(HeaderError::PageSize(raw_size))?,
            is_wal: bytes[18] == 2 || bytes[19] == 2,
            change_counter: be_u32(bytes, 24).unwrap_or(0),
            page_count: PageCount(be_u32(bytes, 28).unwrap_or(0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(page_size: [u8; 2]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16..18].copy_from_slice(&page_size);
        bytes[28..32].copy_from_slice(&7u32.to_be_bytes());
        bytes
    }

    #[test]
    fn reads_page_size_and_count() {
        let parsed = DatabaseHeader::parse(&header([0, 1])).expect("BUG: a header");
        assert_eq!((parsed.page_size.get(), parsed.page_count, parsed.is_wal), (65_536, PageCount(7), false));
        assert_eq!(DatabaseHeader::parse(&header([2, 0])).map(|h| h.page_size.get()), Ok(512));
    }

    #[test]
    fn refuses_what_is_no_database() {
        assert_eq!(DatabaseHeader::parse(b""), Err(HeaderError::TooShort(0)));
        assert_eq!(DatabaseHeader::parse(&[0; 100]), Err(HeaderError::NotSqlite));
        assert_eq!(DatabaseHeader::parse(&header([3, 0])), Err(HeaderError::PageSize(768)));
    }
}
