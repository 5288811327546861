//! Pages of one or two states, kept as they were read.
//!
//! A chunk holds dozens of pages. Whoever comes back to a page here and a page there, as a comparison of two states does, would decode chunks again and again: so the pages are kept,
//! up to a limit. Of two states, the second gets from the first what is the same in both.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::page::{PageCount, PageNo, PageReader, PageSize};
use crate::base::page_set::PageSet;

/// See the module documentation.
pub struct KeptPages<P> {
    pages: P,
    limit_bytes: usize,
    kept: Mutex<HashMap<PageNo, Box<[u8]>>>,
    /// Another state, and the pages in which it may differ.
    twin: Option<(Arc<KeptPages<P>>, PageSet)>,
}

impl<P: PageReader> KeptPages<P> {
    /// Keeps up to `limit_bytes` of these pages.
    pub fn new(pages: P, limit_bytes: usize) -> Self {
        Self { pages, limit_bytes, kept: Mutex::default(), twin: None }
    }

    /// Likewise; pages that are not in `changed` are those of `twin`, a state with pages of the same size.
    pub fn beside(twin: Arc<Self>, changed: PageSet, pages: P, limit_bytes: usize) -> Self {
        Self { twin: Some((twin, changed)), ..Self::new(pages, limit_bytes) }
    }

    /// The state that has this page, if it is not this one.
    fn elsewhere(&self, page: PageNo) -> Option<&Self> {
        let (twin, changed) = self.twin.as_ref()?;
        (!changed.contains(page) && page.0 <= twin.pages.page_count().0).then_some(&**twin)
    }

    fn read_one(&self, page: PageNo, buffer: &mut [u8]) -> Result<(), P::Error> {
        if let Some(other) = self.elsewhere(page) {
            return other.read_one(page, buffer);
        }
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = lock().get(&page) {
            buffer.copy_from_slice(kept);
            return Ok(());
        }
        self.pages.read(page, buffer)?;
        let mut kept = lock();
        if kept.len() * buffer.len() < self.limit_bytes {
            kept.insert(page, buffer.into());
        }
        Ok(())
    }
}

impl<P: PageReader + Send> PageReader for KeptPages<P> {
    type Error = P::Error;

    fn page_size(&self) -> PageSize {
        self.pages.page_size()
    }

    fn page_count(&self) -> PageCount {
        self.pages.page_count()
    }

    fn read(&self, first: PageNo, buffer: &mut [u8]) -> Result<(), P::Error> {
        let page_bytes = self.page_size().bytes();
        let pages = (first.0..).map(PageNo).zip(buffer.chunks_mut(page_bytes));
        pages.into_iter().try_for_each(|(page, buffer)| self.read_one(page, buffer))
    }

    fn will_read(&self, pages: &[PageNo]) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_absent = |page: &&PageNo| !kept.contains_key(page);
        let (other, own): (Vec<PageNo>, Vec<PageNo>) =
            pages.iter().filter(is_absent).partition(|page| self.elsewhere(**page).is_some());
        drop(kept);
        if let Some((twin, _)) = self.twin.as_ref().filter(|_| !other.is_empty()) {
            twin.will_read(&other);
        }
        if !own.is_empty() {
            self.pages.will_read(&own);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Pages that are full of one number, and count how often they are read.
    struct Numbered(u8, AtomicU32);

    impl PageReader for Numbered {
        type Error = std::convert::Infallible;

        fn page_size(&self) -> PageSize {
            PageSize::new(512).expect("BUG: a page size")
        }

        fn page_count(&self) -> PageCount {
            PageCount(9)
        }

        fn read(&self, _: PageNo, buffer: &mut [u8]) -> Result<(), Self::Error> {
            self.1.fetch_add(1, Ordering::Relaxed);
            buffer.fill(self.0);
            Ok(())
        }
    }

    #[test]
    fn a_page_is_read_once_and_shared() {
        let first = Arc::new(KeptPages::new(Numbered(1, AtomicU32::new(0)), 4 * 512));
        let changed = PageSet::from_ranges([(3, 4)]);
        let second = KeptPages::beside(Arc::clone(&first), changed, Numbered(2, AtomicU32::new(0)), 4 * 512);
        let mut buffer = [0; 4 * 512];
        for _ in 0..3 {
            second.read(PageNo(1), &mut buffer).expect("pages");
            assert_eq!(buffer.chunks(512).map(|page| page[0]).collect::<Vec<_>>(), [1, 1, 2, 2]);
            first.read(PageNo(1), &mut buffer).expect("pages");
            assert_eq!(buffer, [1; 4 * 512]);
        }
        let reads = |pages: &KeptPages<Numbered>| pages.pages.1.load(Ordering::Relaxed);
        assert_eq!((reads(&first), reads(&second)), (4, 2));
    }
}
