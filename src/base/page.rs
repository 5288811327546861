//! Page numbers, page counts and page sizes of SQLite databases, as types that cannot be confused.

/// Byte offset of SQLite's lock page region: the page that holds it never carries data
/// (SQLite file format §1.7, "The Lock-Byte Page").
pub const LOCK_BYTE: u64 = 1 << 30;

/// A page's number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageNo(pub u32);

/// How many pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageCount(pub u32);

/// A page's size in bytes: a power of two from 512 to 65,536.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// `bytes` as a page size, if it is one.
    pub fn new(bytes: u32) -> Option<Self> {
        (bytes.is_power_of_two() && (512..=65_536).contains(&bytes)).then_some(Self(bytes))
    }

    /// In bytes.
    pub fn bytes(self) -> usize {
        self.0 as usize
    }

    /// In bytes, as the format writes it.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The byte offset of a page in the database file.
    pub fn offset_of(self, page: PageNo) -> u64 {
        (u64::from(page.0) - 1) * u64::from(self.0)
    }

    /// The page that holds SQLite's lock bytes.
    pub fn lock_page(self) -> PageNo {
        PageNo((LOCK_BYTE / u64::from(self.0)) as u32 + 1)
    }

    /// The length in bytes of a database of `count` pages.
    pub fn image_bytes(self, count: PageCount) -> u64 {
        u64::from(count.0) * u64::from(self.0)
    }
}

/// One state of a database, as pages. A live database is one, and so is a snapshot.
pub trait PageReader: Sync {
    /// Why pages cannot be read.
    type Error: Send;

    /// Size of a page.
    fn page_size(&self) -> PageSize;

    /// Pages of the state.
    fn page_count(&self) -> PageCount;

    /// Fills `buffer`, whole pages, with the pages from `first` on; all of them exist.
    fn read(&self, first: PageNo, buffer: &mut [u8]) -> Result<(), Self::Error>;

    /// Says that these pages will be read soon, the first one first. A hint: nobody waits, nothing fails.
    fn will_read(&self, _pages: &[PageNo]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sqlite_page_sizes_are_page_sizes() {
        for good in [512, 1024, 4096, 65_536] {
            assert_eq!(PageSize::new(good).map(PageSize::get), Some(good));
        }
        for bad in [0, 1, 256, 513, 131_072] {
            assert_eq!(PageSize::new(bad), None);
        }
    }

    #[test]
    fn the_lock_page_holds_the_lock_byte() {
        for size in [512, 4096, 65_536] {
            let size = PageSize::new(size).expect("BUG: a page size");
            let first = size.offset_of(size.lock_page());
            assert!(first <= LOCK_BYTE && LOCK_BYTE < first + size.bytes() as u64);
        }
    }
}
