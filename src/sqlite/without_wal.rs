//! A database image as SQLite opens it without a WAL beside it.

use std::sync::Arc;

use crate::base::page::{PageCount, PageNo, PageReader, PageSize};

/// Where the header keeps the write and the read version (SQLite file format §1.3): 1 is a rollback journal, 2 a WAL.
const VERSIONS: std::ops::Range<usize> = 18..20;

/// Pages of which nothing but the journal mode is shown otherwise: as a rollback journal.
pub struct WithoutWal<P>(pub Arc<P>);

impl<P: PageReader + Send> PageReader for WithoutWal<P> {
    type Error = P::Error;

    fn page_size(&self) -> PageSize {
        self.0.page_size()
    }

    fn page_count(&self) -> PageCount {
        self.0.page_count()
    }

    fn read(&self, first: PageNo, buffer: &mut [u8]) -> Result<(), P::Error> {
        self.0.read(first, buffer)?;
        if first == PageNo(1)
            && let Some(versions) = buffer.get_mut(VERSIONS)
        {
            versions.fill(1);
        }
        Ok(())
    }

    fn will_read(&self, pages: &[PageNo]) {
        self.0.will_read(pages);
    }
}
