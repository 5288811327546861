//! Pages of a state for the comparison, whatever they are read from.

use std::error::Error;

use crate::base::page::{PageCount, PageNo, PageReader, PageSize};
use crate::sqlite::btree::UsableSize;

use super::DiffError;

/// Pages that are read in one go, in bytes.
const BATCH_BYTES: usize = 1 << 20;

/// A [`PageReader`] whose error is any error.
pub trait Pages: Sync {
    /// Size of a page.
    fn page_size(&self) -> PageSize;
    /// Pages of the state.
    fn page_count(&self) -> PageCount;
    /// Fills `buffer`, whole pages, with the pages from `first` on; all of them exist.
    fn read(&self, first: PageNo, buffer: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>>;
    /// Says which pages will be read soon.
    fn will_read(&self, pages: &[PageNo]);
}

impl<P> Pages for P
where
    P: PageReader,
    P::Error: Error + Send + Sync + 'static,
{
    fn page_size(&self) -> PageSize {
        PageReader::page_size(self)
    }

    fn page_count(&self) -> PageCount {
        PageReader::page_count(self)
    }

    fn read(&self, first: PageNo, buffer: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        PageReader::read(self, first, buffer).map_err(Into::into)
    }

    fn will_read(&self, pages: &[PageNo]) {
        PageReader::will_read(self, pages);
    }
}

/// A page; an error if there is none of that number.
pub fn read_page(pages: &dyn Pages, page: PageNo) -> Result<Vec<u8>, DiffError> {
    if page.0 == 0 || page.0 > pages.page_count().0 {
        return Err(DiffError::NoSuchPage { page, count: pages.page_count() });
    }
    let mut buffer = vec![0; pages.page_size().bytes()];
    pages.read(page, &mut buffer).map_err(DiffError::Pages)?;
    Ok(buffer)
}

/// Reads pages, in this order and a batch at a time, and hands each to `take`.
pub fn for_each_page(
    pages: &dyn Pages,
    wanted: &[PageNo],
    mut take: impl FnMut(usize, &[u8]) -> Result<(), DiffError>,
) -> Result<(), DiffError> {
    let batch = (BATCH_BYTES / pages.page_size().bytes()).max(1);
    for (number, some) in wanted.chunks(batch).enumerate() {
        pages.will_read(some);
        for (at, &page) in some.iter().enumerate() {
            take(number * batch + at, &read_page(pages, page)?)?;
        }
    }
    Ok(())
}

/// How many bytes of each page hold content.
pub fn usable_size(pages: &dyn Pages) -> Result<UsableSize, DiffError> {
    UsableSize::of(pages.page_size(), &read_page(pages, PageNo(1))?)
        .ok_or(DiffError::Damaged("page 1 reserves too much of each page"))
}
