//! Foresees which pages SQLite reads next.
//!
//! An interior page of a B-tree lists its children in the order of their keys (SQLite file format §1.6), and a scan reads them in that order, wherever in the file they
//! lie. So the pages of one table are read ahead, not its neighbours in the file: once a few children of a page were read one after the other, those behind them are
//! foreseen, twice as many each time, over the borders of interior pages too. Lookups and short ranges foresee nothing.
//!
//! Everything here is a guess about untrusted pages: what is malformed foresees nothing.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::base::page::{PageCount, PageNo};

/// Interior pages that are remembered.
const MAX_NODES: usize = 64;
/// The first pages that are foreseen, once two fewer than that were read in order.
const FIRST_PAGES: usize = 4;
/// The most bytes that are foreseen.
const MOST_BYTES: usize = 8 << 20;
/// So often, in pages, it is looked at what comes after the page's own children.
const LOOK_PAGES: usize = 16;

/// See the module documentation.
#[derive(Default)]
pub struct ReadAhead {
    nodes: HashMap<PageNo, Node>,
    /// Oldest first.
    order: VecDeque<PageNo>,
    /// Of each child of a remembered page: the page, and the child's position.
    parents: HashMap<PageNo, (PageNo, usize)>,
    /// Interior pages that were foreseen and not read yet.
    asked: HashSet<PageNo>,
}

/// An interior page.
struct Node {
    children: Vec<PageNo>,
    /// The child that was read last.
    at: Option<usize>,
    /// How many pages to foresee; 0 until a scan shows.
    window: usize,
    /// Children before this one were foreseen.
    foreseen: usize,
}

impl ReadAhead {
    /// Notes that SQLite reads a page of a database of `count` pages; returns the pages that it will read soon. `peek` gives an interior page that was foreseen.
    pub fn note(
        &mut self,
        page: PageNo,
        bytes: &[u8],
        count: PageCount,
        peek: impl FnOnce(PageNo) -> Option<Vec<u8>>,
    ) -> Vec<PageNo> {
        if !self.nodes.contains_key(&page) {
            self.remember(page, bytes, count);
        }
        let Some(&(parent, position)) = self.parents.get(&page) else { return Vec::new() };
        let most = (MOST_BYTES / bytes.len().max(512)).max(FIRST_PAGES);
        let Some(node) = self.nodes.get_mut(&parent) else { return Vec::new() };
        match node.at.replace(position) {
            Some(before) if before + 1 == position => node.window = (node.window * 2).clamp(1, most),
            Some(before) if before == position => return Vec::new(),
            // The first child of a page that a scan has come to.
            None if position == 0 && node.window > 0 => {}
            _ => (node.window, node.foreseen) = (0, position + 1),
        }
        let mut found = node.foresee(position);
        let rest = node.children.len() - position - 1;
        if rest < node.window && position.is_multiple_of(LOOK_PAGES) {
            let (wanted, window) = (node.window - rest, node.window);
            found.extend(self.look_beyond(parent, (wanted, window), count, peek));
        }
        found
    }

    /// Foresees pages below the siblings of an interior page: so many are wanted, with that window. A sibling that is not known is foreseen itself first, and read the next time.
    fn look_beyond(
        &mut self,
        page: PageNo,
        (mut wanted, window): (usize, usize),
        count: PageCount,
        peek: impl FnOnce(PageNo) -> Option<Vec<u8>>,
    ) -> Vec<PageNo> {
        let mut found = Vec::new();
        let Some(&(above, at)) = self.parents.get(&page) else { return found };
        let siblings = self.nodes.get(&above).and_then(|above| above.children.get(at + 1..)).unwrap_or_default();
        let siblings: Vec<PageNo> = siblings[..siblings.len().min(MAX_NODES / 2)].to_vec();
        let mut peek = Some(peek);
        for sibling in siblings {
            if wanted == 0 {
                break;
            }
            if !self.nodes.contains_key(&sibling) {
                if self.asked.insert(sibling) {
                    found.push(sibling);
                    wanted = wanted.saturating_sub(window / 8);
                    continue;
                }
                let Some(bytes) = peek.take().and_then(|peek| peek(sibling)) else { break };
                self.asked.remove(&sibling);
                self.remember(sibling, &bytes, count);
            }
            let Some(node) = self.nodes.get_mut(&sibling) else { break };
            if node.foreseen == 0 {
                found.extend(&node.children);
                (node.foreseen, node.window) = (node.children.len(), window);
            }
            wanted = wanted.saturating_sub(node.children.len());
        }
        found
    }

    fn remember(&mut self, page: PageNo, bytes: &[u8], count: PageCount) {
        let Some(children) = children(page, bytes, count) else { return };
        if self.asked.len() >= MAX_NODES {
            self.asked.clear();
        }
        if self.order.len() >= MAX_NODES {
            self.forget_oldest();
        }
        self.parents.extend(children.iter().enumerate().map(|(position, &child)| (child, (page, position))));
        self.nodes.insert(page, Node { children, at: None, window: 0, foreseen: 0 });
        self.order.push_back(page);
    }

    /// Forgets the oldest page that no other one that is remembered lies below: a scan goes on from page to page through what is above them.
    fn forget_oldest(&mut self) {
        let above: HashSet<PageNo> =
            self.nodes.keys().filter_map(|page| self.parents.get(page)).map(|(parent, _)| *parent).collect();
        let Some(at) = self.order.iter().position(|page| !above.contains(page)) else { return };
        if let Some(oldest) = self.order.remove(at) {
            self.nodes.remove(&oldest);
            self.parents.retain(|_, (parent, _)| *parent != oldest);
        }
    }
}

impl Node {
    /// The children behind `position` that are to be foreseen now: none while enough were.
    fn foresee(&mut self, position: usize) -> Vec<PageNo> {
        let from = self.foreseen.max(position + 1);
        let to = (position + 1 + self.window).min(self.children.len());
        if self.window < FIRST_PAGES || from > position + 1 + self.window / 2 || from >= to {
            return Vec::new();
        }
        self.foreseen = to;
        self.children[from..to].to_vec()
    }
}

/// The children of an interior page, in the order of their keys; `None` for any other page.
fn children(page: PageNo, bytes: &[u8], count: PageCount) -> Option<Vec<PageNo>> {
    let header = bytes.get(if page.0 == 1 { 100 } else { 0 }..)?;
    if !matches!(header.first()?, 0x02 | 0x05) {
        return None;
    }
    let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let cells = u16::from_be_bytes(header.get(3..5)?.try_into().ok()?) as usize;
    let pointers = header.get(12..12 + 2 * cells)?;
    let left = pointers.chunks_exact(2).filter_map(|at| number(u16::from_be_bytes([at[0], at[1]]) as usize));
    let right = u32::from_be_bytes(header.get(8..12)?.try_into().ok()?);
    let known = |child: &u32| (2..=count.0).contains(child);
    Some(left.chain([right]).filter(known).map(PageNo).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: PageCount = PageCount(10_000);

    fn interior(children: &[u32]) -> Vec<u8> {
        let (last, cells) = children.split_last().expect("BUG: it has children");
        let mut page = vec![0; 4096];
        page[0] = 0x05;
        page[3..5].copy_from_slice(&(cells.len() as u16).to_be_bytes());
        page[8..12].copy_from_slice(&last.to_be_bytes());
        for (i, child) in cells.iter().enumerate() {
            let at = 2048 + 5 * i;
            page[12 + 2 * i..14 + 2 * i].copy_from_slice(&(at as u16).to_be_bytes());
            page[at..at + 4].copy_from_slice(&child.to_be_bytes());
        }
        page
    }

    #[test]
    fn a_scan_is_foreseen_in_key_order_over_borders() {
        let first: Vec<u32> = (100..300).rev().collect();
        let second: Vec<u32> = (500..700).collect();
        let (root, leaf) = (interior(&[3, 4]), vec![0x0d; 4096]);
        let pages = HashMap::from([(2, root), (3, interior(&first)), (4, interior(&second))]);
        let mut ahead = ReadAhead::default();
        let mut foreseen = Vec::new();
        let order = [2, 3].into_iter().chain(first.iter().copied()).chain([4]).chain(second.iter().copied());
        for (at, page) in order.clone().enumerate() {
            let bytes = pages.get(&page).unwrap_or(&leaf);
            // All but the first few have been foreseen before they are read.
            assert!(at < 6 || foreseen.contains(&PageNo(page)), "{page} at {at}");
            foreseen.extend(ahead.note(PageNo(page), bytes, COUNT, |page| pages.get(&page.0).cloned()));
        }
        let mut once = foreseen.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), foreseen.len());
        assert!(foreseen.iter().all(|page| order.clone().any(|read| read == page.0)));
    }

    #[test]
    fn a_long_scan_is_foreseen_to_its_end() {
        let below = |number: u32| (1000 + 50 * number..1050 + 50 * number).collect::<Vec<u32>>();
        let interiors: Vec<u32> = (10..160).collect();
        let mut pages = HashMap::from([(2, interior(&interiors))]);
        pages.extend(interiors.iter().zip(0..).map(|(&page, number)| (page, interior(&below(number)))));
        let leaf = vec![0x0d; 4096];
        let order = interiors.iter().zip(0..).flat_map(|(&page, number)| [page].into_iter().chain(below(number)));
        let (mut ahead, mut foreseen) = (ReadAhead::default(), HashSet::new());
        for (at, page) in [2].into_iter().chain(order).enumerate() {
            let bytes = pages.get(&page).unwrap_or(&leaf);
            let is_known = foreseen.len();
            assert!(at < 6 || foreseen.contains(&PageNo(page)), "{page} at {at}");
            // Far ahead of the reader, but for the beginning and the end.
            assert!(!(1000..6000).contains(&at) || is_known > at + 500, "{is_known} at {at}");
            foreseen.extend(ahead.note(PageNo(page), bytes, COUNT, |page| pages.get(&page.0).cloned()));
        }
    }

    #[test]
    fn lookups_foresee_nothing() {
        let children: Vec<u32> = (100..300).collect();
        let mut ahead = ReadAhead::default();
        for leaf in [150, 120, 299, 100, 100, 150] {
            for page in [(2, interior(&children)), (leaf, vec![0x0d; 4096])] {
                assert_eq!(ahead.note(PageNo(page.0), &page.1, COUNT, |_| None), []);
            }
        }
    }

    #[test]
    fn malformed_pages_foresee_nothing() {
        for bytes in [vec![], vec![0x05; 3], vec![0x05; 512], vec![0x02; 65_536]] {
            let mut ahead = ReadAhead::default();
            assert_eq!(ahead.note(PageNo(2), &bytes, COUNT, |_| None), []);
            assert_eq!(ahead.note(PageNo(1), &bytes, COUNT, |_| None), []);
        }
        assert_eq!(children(PageNo(2), &interior(&[0, 1, 7, 10_001]), COUNT), Some(vec![PageNo(7)]));
    }
}
