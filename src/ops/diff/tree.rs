//! Where two states of one B-tree can hold different rows, found from its interior pages.
//!
//! A leaf holds the same cells in both if it is a leaf of the tree in both, under the same number, and is none of the changed pages. All others are *dirty*; a row that
//! differs in what its leaf holds of it lies in a dirty leaf of one state or the other. Leaves themselves are not read here.
//!
//! Most interior pages are the same in both, and then so are their children. Only children of interior pages that are not shared are compared one by one, so memory
//! grows with what changed and with the number of interior pages, which is bounded.

use std::collections::HashSet;

use crate::base::page::PageNo;
use crate::base::page_set::PageSet;
use crate::sqlite::btree::{BtreePage, PageKind, UsableSize};

use super::DiffError;
use super::pages::{Pages, for_each_page, read_page};

/// A tree with more interior pages than that is not walked: its rows number billions.
const MAX_INTERIORS: usize = 1 << 24;
/// With more dirty leaves than that, all rows are compared.
const MAX_PLACES: usize = 1 << 21;
/// SQLite's own limit is 20 levels.
const MAX_LEVELS: usize = 20;

/// A page of a tree and the rowids that can be below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which page.
    pub page: PageNo,
    /// The least rowid.
    pub first: i64,
    /// The greatest.
    pub last: i64,
}

/// What a walk through one state's tree found.
#[derive(Debug, Default)]
pub struct Walk {
    /// All interior pages.
    interiors: HashSet<PageNo>,
    /// Interior pages whose children are leaves.
    bottoms: Vec<Place>,
    /// The only page, if it is a leaf.
    only: Option<PageNo>,
    /// Leaves that are known to differ; afterwards all dirty leaves.
    dirty: Vec<Place>,
    /// Leaves that did not change, below pages that did.
    loose: Vec<Place>,
}

/// What a walk needs to know.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The state.
    pub pages: &'a dyn Pages,
    /// Its pages' usable size.
    pub usable: UsableSize,
    /// Pages that may differ from the other state's.
    pub changed: &'a PageSet,
}

impl Walk {
    /// Walks the tree; `None` if it is too large to keep account of it. `is_table` says which kind its pages must be of.
    pub fn through(ground: Ground<'_>, root: PageNo, is_table: bool) -> Result<Option<Self>, DiffError> {
        let mut walk = Self::default();
        if kind(ground, root, is_table)?.is_interior() {
            let mut level = vec![Place { page: root, first: i64::MIN, last: i64::MAX }];
            for _ in 0..MAX_LEVELS {
                let above_leaves = is_above_leaves(ground, level[0].page, is_table)?;
                level = walk.take_level(ground, level, is_table, above_leaves)?;
                if walk.is_too_large() {
                    return Ok(None);
                }
                if level.is_empty() {
                    return Ok(Some(walk));
                }
            }
            return Err(DiffError::Damaged("a B-tree has too many levels"));
        }
        walk.only = Some(root);
        walk.sort_in(ground, Place { page: root, first: i64::MIN, last: i64::MAX }, true);
        Ok(Some(walk))
    }

    fn is_too_large(&self) -> bool {
        self.interiors.len() > MAX_INTERIORS || self.dirty.len() + self.loose.len() > MAX_PLACES
    }

    /// Takes note of interior pages of one level; gives the pages of the next, unless those are leaves.
    fn take_level(
        &mut self,
        ground: Ground<'_>,
        level: Vec<Place>,
        is_table: bool,
        above_leaves: bool,
    ) -> Result<Vec<Place>, DiffError> {
        let mut next = Vec::new();
        let pages: Vec<PageNo> = level.iter().map(|place| place.page).collect();
        for_each_page(ground.pages, &pages, |at, bytes| {
            if self.is_too_large() || next.len() > MAX_INTERIORS {
                return Ok(());
            }
            if !self.interiors.insert(level[at].page) {
                return Err(DiffError::Damaged("a page is in a B-tree twice"));
            }
            let children = children(ground, level[at], bytes, is_table)?;
            if above_leaves {
                let is_loose = ground.changed.contains(level[at].page);
                children.into_iter().for_each(|child| self.sort_in(ground, child, is_loose));
            } else {
                next.extend(children);
            }
            Ok(())
        })?;
        if above_leaves {
            self.bottoms.extend(level);
        }
        Ok(next)
    }

    fn sort_in(&mut self, ground: Ground<'_>, leaf: Place, is_loose: bool) {
        if ground.changed.contains(leaf.page) {
            self.dirty.push(leaf);
        } else if is_loose {
            self.loose.push(leaf);
        }
    }

    /// Completes the dirty leaves, now that the other state's tree has been walked.
    pub fn compare(
        &mut self,
        ground: Ground<'_>,
        other: &mut Self,
        others: Ground<'_>,
        is_table: bool,
    ) -> Result<(), DiffError> {
        self.loosen(ground, other, is_table)?;
        other.loosen(others, self, is_table)?;
        let here: HashSet<PageNo> = self.loose.iter().map(|leaf| leaf.page).collect();
        let there: HashSet<PageNo> = other.loose.iter().map(|leaf| leaf.page).collect();
        self.dirty.extend(self.loose.drain(..).filter(|leaf| !there.contains(&leaf.page)));
        other.dirty.extend(other.loose.drain(..).filter(|leaf| !here.contains(&leaf.page)));
        Ok(())
    }

    /// Adds the leaves below interior pages that did not change and yet are not in the other tree.
    fn loosen(&mut self, ground: Ground<'_>, other: &Self, is_table: bool) -> Result<(), DiffError> {
        let is_alone = |place: &&Place| !ground.changed.contains(place.page) && !other.interiors.contains(&place.page);
        let alone: Vec<Place> = self.bottoms.iter().filter(is_alone).copied().collect();
        let pages: Vec<PageNo> = alone.iter().map(|place| place.page).collect();
        for_each_page(ground.pages, &pages, |at, bytes| {
            let children = children(ground, alone[at], bytes, is_table)?;
            self.loose.extend(children.into_iter().filter(|leaf| !ground.changed.contains(leaf.page)));
            Ok(())
        })
    }

    /// Dirty leaves. Those that did not change count only after [`Self::compare`].
    pub fn dirty(&self) -> &[Place] {
        &self.dirty
    }

    /// Interior pages that changed or are not in the other tree: in an index B-tree, they hold rows too.
    pub fn dirty_interiors(&self, ground: Ground<'_>, other: &Self) -> Vec<PageNo> {
        let is_dirty = |page: &&PageNo| ground.changed.contains(**page) || !other.interiors.contains(page);
        let mut dirty: Vec<PageNo> = self.interiors.iter().filter(is_dirty).copied().collect();
        dirty.sort_unstable();
        dirty
    }

    /// Pages that changed and are known to be of this tree.
    pub fn changed_pages<'a>(&'a self, changed: &'a PageSet) -> impl Iterator<Item = PageNo> + 'a {
        let pages = self.interiors.iter().copied().chain(self.dirty.iter().map(|leaf| leaf.page));
        pages.filter(|page| changed.contains(*page))
    }

    /// All interior pages.
    pub fn interiors(&self) -> impl Iterator<Item = PageNo> + '_ {
        self.interiors.iter().copied()
    }

    /// Hands the leaves to `take`, those below one interior page at a time.
    pub fn for_each_leaf(
        &self,
        ground: Ground<'_>,
        is_table: bool,
        mut take: impl FnMut(Vec<Place>) -> Result<(), DiffError>,
    ) -> Result<(), DiffError> {
        if let Some(page) = self.only {
            take(vec![Place { page, first: i64::MIN, last: i64::MAX }])?;
        }
        let pages: Vec<PageNo> = self.bottoms.iter().map(|place| place.page).collect();
        for_each_page(ground.pages, &pages, |at, bytes| take(children(ground, self.bottoms[at], bytes, is_table)?))
    }
}

fn kind(ground: Ground<'_>, page: PageNo, is_table: bool) -> Result<PageKind, DiffError> {
    let bytes = read_page(ground.pages, page)?;
    let kind = BtreePage::parse(page, &bytes, ground.usable)?.kind();
    if kind.is_table() == is_table { Ok(kind) } else { Err(DiffError::Damaged("a page is of another kind of B-tree")) }
}

/// Whether the children of an interior page are leaves. SQLite's trees are balanced, so this holds for its whole level.
fn is_above_leaves(ground: Ground<'_>, page: PageNo, is_table: bool) -> Result<bool, DiffError> {
    let bytes = read_page(ground.pages, page)?;
    let children = BtreePage::parse(page, &bytes, ground.usable)?.children()?;
    let first = children.first().ok_or(DiffError::Damaged("an interior page is a leaf"))?;
    Ok(!kind(ground, first.page, is_table)?.is_interior())
}

fn children(ground: Ground<'_>, place: Place, bytes: &[u8], is_table: bool) -> Result<Vec<Place>, DiffError> {
    let page = BtreePage::parse(place.page, bytes, ground.usable)?;
    if !page.kind().is_interior() || page.kind().is_table() != is_table {
        return Err(DiffError::Damaged("a page is of another kind of B-tree"));
    }
    let (mut first, mut places) = (place.first, Vec::with_capacity(page.cell_count() + 1));
    for child in page.children()? {
        let last = child.last_rowid.unwrap_or(place.last);
        places.push(Place { page: child.page, first, last });
        first = last.saturating_add(1);
    }
    Ok(places)
}
