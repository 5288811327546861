//! A set of page numbers, kept as ranges: what two states may differ in.
//!
//! Its memory grows with the number of gaps, not with the number of pages, so "all from page 7 on" costs as much as one page.

use super::page::PageNo;

/// See the module documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageSet {
    /// First and last page of each range; ascending, apart by at least one page.
    ranges: Vec<(u32, u32)>,
}

impl PageSet {
    /// The pages of these ranges (first and last), in whatever order they are. Empty ranges, whose last page lies before the first, are none.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut ranges: Vec<(u32, u32)> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self { ranges: merged }
    }

    /// These pages.
    pub fn from_pages(pages: impl IntoIterator<Item = PageNo>) -> Self {
        Self::from_ranges(pages.into_iter().map(|page| (page.0, page.0)))
    }

    /// The pages of both.
    pub fn union(&self, other: &Self) -> Self {
        Self::from_ranges(self.ranges.iter().chain(&other.ranges).copied())
    }

    /// Whether the page is one of them.
    pub fn contains(&self, page: PageNo) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= page.0);
        after.checked_sub(1).is_some_and(|at| self.ranges[at].1 >= page.0)
    }

    /// How many pages.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// First and last page of each range, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.ranges.iter().copied()
    }

    /// The pages, ascending.
    pub fn pages(&self) -> impl Iterator<Item = PageNo> + '_ {
        self.ranges.iter().flat_map(|&(first, last)| first..=last).map(PageNo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_are_found() {
        let set = PageSet::from_ranges([(7, 9), (1, 2), (3, 3), (20, 10), (9, 12)]);
        assert_eq!(set.pages().map(|page| page.0).collect::<Vec<_>>(), [1, 2, 3, 7, 8, 9, 10, 11, 12]);
        assert_eq!(set.len(), 9);
        let inside: Vec<u32> = (0..15).filter(|&page| set.contains(PageNo(page))).collect();
        assert_eq!(inside, [1, 2, 3, 7, 8, 9, 10, 11, 12]);
        let all = set.union(&PageSet::from_pages([PageNo(4), PageNo(u32::MAX)]));
        assert!(all.contains(PageNo(4)) && all.contains(PageNo(u32::MAX)) && !all.contains(PageNo(5)));
        assert!(PageSet::default().is_empty() && !all.is_empty());
    }
}
