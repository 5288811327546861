//! Accounts for every changed page, so that no difference is missed.
//!
//! The walks through the B-trees find the leaves that changed. A row may differ although its leaf does not: its end lies in overflow pages, and these may be written alone
//! (by `sqlite3_blob_write`, or by an UPDATE that keeps what the leaf holds). So each changed page must be explained: as a page of a walked tree, of an index, of the
//! free list, as a pointer map, or as an overflow page of a row that is compared anyway. If some are not, the chains of all other rows are followed until these
//! pages have owners, whose leaves are compared too. If even then the account does not come out, every row of every table is compared.
//!
//! The first page in which a chain differs is in that chain in both states, so a page that is no overflow page in one of them explains itself.

use std::collections::HashSet;

use crate::base::page::PageNo;
use crate::sqlite::btree::{BtreePage, PageKind, type_byte};

use super::DiffError;
use super::pages::{for_each_page, read_page};
use super::tree::{Ground, Place, Walk};

/// An overflow page begins with the number of the next, so with fewer pages than this its first byte is 0 or 1 and it cannot look like a page of a B-tree.
const MAX_TELLABLE_PAGES: u32 = 0x0200_0000;

/// So many changed pages are read of one state, then of the other.
const BATCH_PAGES: usize = 128;

/// A tree of one state, with what was found of it.
pub struct Tree {
    /// Whether it is a table's with rowids.
    pub is_table: bool,
    /// The walk.
    pub walk: Walk,
    /// Interior pages that hold rows and are dirty.
    pub dirty_interiors: Vec<PageNo>,
}

/// One state.
pub struct Side<'a> {
    /// Its pages.
    pub ground: Ground<'a>,
    /// The trees of its tables; absent ones have not got this table.
    pub trees: Vec<Option<Tree>>,
}

/// What the account says.
#[derive(Debug, PartialEq, Eq)]
pub enum Account {
    /// Rows that differ lie in dirty leaves, or in these further leaves of the second state's trees, by the tree's position.
    Complete(Vec<(usize, Place)>),
    /// It does not come out.
    Doubt,
}

/// Accounts for the changed pages, after both sides' walks have been compared.
pub fn account(a: &Side<'_>, b: &Side<'_>) -> Result<Account, DiffError> {
    let (Some(free_a), Some(free_b)) = (free_pages(a.ground)?, free_pages(b.ground)?) else {
        return Ok(Account::Doubt);
    };
    let (mut known_a, mut known_b) = (known_pages(a), known_pages(b));
    known_a.extend(free_a);
    known_b.extend(free_b);
    known_a.extend(pointer_maps(a.ground)?);
    known_b.extend(pointer_maps(b.ground)?);
    let [sorted, other] = Sorted::of_both([(a.ground, &known_a), (b.ground, &known_b)])?;
    if sorted.has_strangers || other.has_strangers {
        return Ok(Account::Doubt);
    }
    let mut open: HashSet<PageNo> = sorted.chained.intersection(&other.chained).copied().collect();
    for (side, indexes) in [(b, &other.indexes), (a, &sorted.indexes)] {
        if !open.is_empty() && explain(side, indexes, &mut open)? == Budget::Spent {
            return Ok(Account::Doubt);
        }
    }
    find_owners(b, open)
}

/// Pages of walked trees that changed.
fn known_pages(side: &Side<'_>) -> HashSet<PageNo> {
    let trees = side.trees.iter().flatten();
    let lock_page = side.ground.pages.page_size().lock_page();
    trees.flat_map(|tree| tree.walk.changed_pages(side.ground.changed)).chain([lock_page]).collect()
}

/// Changed pages by what they look like, but for known ones.
#[derive(Default)]
struct Sorted {
    /// Could be overflow pages.
    chained: HashSet<PageNo>,
    /// Look like pages of an index.
    indexes: Vec<PageNo>,
    /// Some look like pages of a table that no tree has.
    has_strangers: bool,
}

impl Sorted {
    /// Sorts the changed pages of both states, a few at a time, for a page of one state often lies where the other's does.
    fn of_both(sides: [(Ground<'_>, &HashSet<PageNo>); 2]) -> Result<[Self; 2], DiffError> {
        let mut sorted = [Self::default(), Self::default()];
        let changed: Vec<PageNo> = sides[0].0.changed.pages().collect();
        for some in changed.chunks(BATCH_PAGES) {
            for ((ground, known), sorted) in sides.iter().zip(&mut sorted) {
                let count = ground.pages.page_count().0;
                let there: Vec<PageNo> = some.iter().copied().take_while(|page| page.0 <= count).collect();
                for_each_page(ground.pages, &there, |at, bytes| {
                    sorted.take(there[at], known, bytes, count < MAX_TELLABLE_PAGES);
                    Ok(())
                })?;
            }
        }
        Ok(sorted)
    }

    fn take(&mut self, page: PageNo, known: &HashSet<PageNo>, bytes: &[u8], tellable: bool) {
        if known.contains(&page) {
            return;
        }
        let kind = type_byte(page, bytes).and_then(PageKind::of);
        if kind.is_none() || !tellable {
            self.chained.insert(page);
        }
        match kind {
            Some(kind) if kind.is_table() => self.has_strangers |= tellable,
            Some(_) => self.indexes.push(page),
            None => {}
        }
    }
}

/// The pages of the free list that changed; `None` if the list is damaged.
fn free_pages(ground: Ground<'_>) -> Result<Option<HashSet<PageNo>>, DiffError> {
    let head = read_page(ground.pages, PageNo(1))?;
    let number =
        |bytes: &[u8], at: usize| bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let (mut next, mut free, mut trunks) = (number(&head, 32), HashSet::new(), HashSet::new());
    while next != 0 {
        let trunk = PageNo(next);
        if next > ground.pages.page_count().0 || !trunks.insert(trunk) {
            return Ok(None);
        }
        let bytes = read_page(ground.pages, trunk)?;
        let leaves = number(&bytes, 4) as usize;
        if leaves > ground.usable.bytes() / 4 - 2 {
            return Ok(None);
        }
        let pages = (0..leaves).map(|at| PageNo(number(&bytes, 8 + 4 * at))).chain([trunk]);
        free.extend(pages.filter(|page| ground.changed.contains(*page)));
        next = number(&bytes, 0);
    }
    Ok(Some(free))
}

/// The pointer maps that changed: page 2 and every so many pages after it, in databases with auto_vacuum (file format §1.8).
fn pointer_maps(ground: Ground<'_>) -> Result<Vec<PageNo>, DiffError> {
    let head = read_page(ground.pages, PageNo(1))?;
    if head.get(52..56).is_none_or(|root| root == [0; 4]) {
        return Ok(Vec::new());
    }
    let (period, lock_page) = (ground.usable.bytes() as u32 / 5 + 1, ground.pages.page_size().lock_page());
    // A map that would be the lock page is the page after it.
    let is_map = |page: &PageNo| {
        let at_place = |page: u32| page >= 2 && (page - 2).is_multiple_of(period);
        at_place(page.0) || (page.0 == lock_page.0 + 1 && at_place(lock_page.0))
    };
    Ok(ground.changed.pages().take_while(|page| *page <= PageNo(ground.pages.page_count().0)).filter(is_map).collect())
}

/// Whether following chains came to its end.
#[derive(Debug, PartialEq, Eq)]
enum Budget {
    Left,
    /// More pages were in chains than the database has: it is damaged.
    Spent,
}

/// The start of a chain, and how many pages it has.
type Chain = (PageNo, u64);

/// Takes from `open` the overflow pages of rows on dirty pages, and of entries of changed index pages.
fn explain(side: &Side<'_>, indexes: &[PageNo], open: &mut HashSet<PageNo>) -> Result<Budget, DiffError> {
    let mut chains = Vec::new();
    for_each_page(side.ground.pages, indexes, |at, bytes| {
        // What only looks like a page of an index explains nothing.
        let mut found = Vec::new();
        if chains_of(side.ground, indexes[at], bytes, &mut found).is_ok() {
            chains.append(&mut found);
        }
        Ok(())
    })?;
    let mut pages: Vec<PageNo> = Vec::new();
    for tree in side.trees.iter().flatten() {
        pages.extend(tree.walk.dirty().iter().map(|leaf| leaf.page).chain(tree.dirty_interiors.iter().copied()));
    }
    for_each_page(side.ground.pages, &pages, |at, bytes| chains_of(side.ground, pages[at], bytes, &mut chains))?;
    let mut steps = 0;
    for chain in chains {
        if open.is_empty() {
            break;
        }
        follow(side.ground, chain, &mut steps, |page| {
            open.remove(&page);
        })?;
        if steps > u64::from(side.ground.pages.page_count().0) {
            return Ok(Budget::Spent);
        }
    }
    Ok(Budget::Left)
}

fn chains_of(ground: Ground<'_>, page: PageNo, bytes: &[u8], chains: &mut Vec<Chain>) -> Result<(), DiffError> {
    let btree = BtreePage::parse(page, bytes, ground.usable)?;
    for number in 0..btree.cell_count() {
        let cell = btree.cell(number)?;
        if let Some(first) = cell.overflow {
            let rest = cell.payload_bytes - cell.local.len() as u64;
            chains.push((first, rest.div_ceil(ground.usable.overflow_bytes() as u64)));
        }
    }
    Ok(())
}

fn follow(
    ground: Ground<'_>,
    (first, length): Chain,
    steps: &mut u64,
    mut take: impl FnMut(PageNo),
) -> Result<(), DiffError> {
    let count = u64::from(ground.pages.page_count().0);
    let (mut page, mut left) = (first, length);
    while page.0 != 0 && left > 0 && *steps <= count {
        *steps += 1;
        take(page);
        left -= 1;
        if left > 0 {
            let bytes = read_page(ground.pages, page)?;
            page = PageNo(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        }
    }
    Ok(())
}

/// The leaves, among those that are not dirty, whose rows own the pages that are still open. What no row owns belongs to an index that did not change.
fn find_owners(side: &Side<'_>, mut open: HashSet<PageNo>) -> Result<Account, DiffError> {
    let (mut owners, mut steps) = (Vec::new(), 0);
    for (position, tree) in side.trees.iter().enumerate() {
        let Some(tree) = tree.as_ref().filter(|_| !open.is_empty()) else { continue };
        let mut take = |leaves: Vec<Place>| {
            if open.is_empty() {
                return Ok(());
            }
            let pages: Vec<PageNo> = leaves.iter().map(|leaf| leaf.page).collect();
            for_each_page(side.ground.pages, &pages, |at, bytes| {
                if open.is_empty() || steps > u64::from(side.ground.pages.page_count().0) {
                    return Ok(());
                }
                let mut chains = Vec::new();
                chains_of(side.ground, pages[at], bytes, &mut chains)?;
                let before = open.len();
                for chain in chains {
                    follow(side.ground, chain, &mut steps, |page| {
                        open.remove(&page);
                    })?;
                }
                if open.len() < before {
                    owners.push((position, leaves[at]));
                }
                Ok(())
            })
        };
        tree.walk.for_each_leaf(side.ground, tree.is_table, &mut take)?;
        if !tree.is_table {
            let interiors: Vec<PageNo> = tree.walk.interiors().collect();
            take(interiors.into_iter().map(|page| Place { page, first: 0, last: 0 }).collect())?;
        }
    }
    Ok(if steps > u64::from(side.ground.pages.page_count().0) { Account::Doubt } else { Account::Complete(owners) })
}
