//! What differs between two states of a database: objects of the schema, and rows, found from the pages that differ.
//!
//! ```text
//! changed pages ─ tree ─> dirty leaves ─ account ─> nothing is missed ─ rows ─> rows removed, added, changed ─ script ─> SQL
//! ```
//!
//! # Guarantees
//! * The answer is that of comparing all rows, provided that every page that is not among the changed ones holds the same bytes in both states. Where the pages do not explain
//!   themselves ([`account`]), all rows are compared.
//! * Only interior pages of tables, changed pages and the rows on them are read. Rows are streamed; what is kept grows with the number of changed leaves, not of rows.
//! * A damaged database leads to an error or an answer, not to a panic or an endless loop.
//!
//! Rows are told apart by their rowid, or by their primary key in a WITHOUT ROWID table. VACUUM may give new rowids to tables without an INTEGER PRIMARY KEY; such
//! rows count as removed and added, or changed. Generated columns follow from the others and are not compared.

pub mod account;
pub mod pages;
pub mod rows;
pub mod schema;
pub mod script;

pub mod tree;
pub mod value;

use std::error::Error;

use rusqlite::Connection;

use crate::base::page::{PageCount, PageNo};
use crate::base::page_set::PageSet;
use crate::sqlite::btree::{BtreeError, UsableSize};
use crate::sqlite::record::Value;

use account::{Account, Tree};
use pages::{Pages, usable_size};
use rows::{Columns, Side, Take, compare_all_keys, compare_keys, merge_ranges};
use schema::{Object, Schema, Storage, Table};
use tree::{Ground, Place, Walk};

/// Why states cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// Pages cannot be read.
    #[error("cannot read pages")]
    Pages(#[source] Box<dyn Error + Send + Sync>),
    /// SQLite says no.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// A page of a B-tree is damaged.
    #[error(transparent)]
    Btree(#[from] BtreeError),
    /// The database is damaged.
    #[error("the database is damaged: {0}")]
    Damaged(&'static str),
    /// A page number leads nowhere.
    #[error("the database is damaged: it refers to page {}, but has {} pages", page.0, count.0)]
    NoSuchPage {
        /// Which page.
        page: PageNo,
        /// How many there are.
        count: PageCount,
    },
    /// Whoever takes the rows cannot.
    #[error(transparent)]
    Taker(Box<dyn Error + Send + Sync>),
}

/// A state of a database.
#[derive(Clone, Copy)]
pub struct State<'a> {
    /// Its pages.
    pub pages: &'a dyn Pages,
    /// SQLite, reading it.
    pub connection: &'a Connection,
}

/// How a database stores text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8.
    Utf8,
    /// UTF-16, the low byte first.
    Utf16Le,
    /// UTF-16, the high byte first.
    Utf16Be,
}

impl Encoding {
    fn of(connection: &Connection) -> Result<Self, DiffError> {
        let name: String = connection.query_row("PRAGMA encoding", [], |row| row.get(0))?;
        Ok(match name.as_str() {
            "UTF-16le" => Self::Utf16Le,
            "UTF-16be" => Self::Utf16Be,
            _ => Self::Utf8,
        })
    }

    /// A value of a record as SQLite hands it out.
    pub fn decode(self, value: Value) -> Value {
        let units = |text: &[u8], of: fn([u8; 2]) -> u16| {
            text.chunks_exact(2).map(|unit| of([unit[0], unit[1]])).collect::<Vec<_>>()
        };
        let units = match (&value, self) {
            (Value::Text(text), Self::Utf16Le) => units(text, u16::from_le_bytes),
            (Value::Text(text), Self::Utf16Be) => units(text, u16::from_be_bytes),
            _ => return value,
        };
        Value::Text(String::from_utf16_lossy(&units).into_bytes())
    }
}

/// A change of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaChange {
    /// Only the second state has it.
    Created(Object),
    /// Only the first state has it.
    Dropped(Object),
    /// Another statement makes it now.
    Altered {
        /// As it was.
        from: Object,
        /// As it is.
        to: Object,
    },
}

/// Which rows of a table are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rows {
    /// Those with these rowids.
    Ranges(Vec<(i64, i64)>),
    /// Those whose keys stand on these pages, in each state.
    Keys([Vec<PageNo>; 2]),
    /// All.
    All,
    /// They are not comparable: a virtual table, or a table whose rowid no name leads to.
    Opaque,
}

/// A table of one state or of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePair {
    /// In each state.
    pub tables: [Option<Table>; 2],
    /// What is compared; nothing if its rows are opaque.
    pub columns: Columns,
    rows: Rows,
    /// Whether it is another table by the same name: all rows went and others came.
    is_replaced: bool,
}

impl TablePair {
    /// The table as it is, or was.
    pub fn table(&self) -> &Table {
        let [a, b] = &self.tables;
        b.as_ref().or(a.as_ref()).expect("BUG: one state has it")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.table().name
    }

    /// What the row of a change has: of a table that was replaced, rows of each state have their own columns.
    pub fn columns_of(&self, change: &rows::RowChange) -> Columns {
        let side = usize::from(matches!(change, rows::RowChange::Added(_)));
        let own = self.tables[side].as_ref().filter(|_| self.is_replaced);
        own.and_then(|table| Columns::of(table, table)).unwrap_or_else(|| self.columns.clone())
    }

    /// Whether its rows cannot be compared.
    pub fn is_opaque(&self) -> bool {
        self.rows == Rows::Opaque
    }

    /// Whether another statement makes it, or one state does not have it.
    pub fn is_redefined(&self) -> bool {
        let sql = |at: usize| self.tables[at].as_ref().map(|table| &table.sql);
        sql(0) != sql(1)
    }
}

/// How many rows differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Only in the second state.
    pub added: u64,
    /// Only in the first.
    pub removed: u64,
    /// In both, otherwise.
    pub changed: u64,
}

impl Counts {
    /// Whether no row differs.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// A comparison: what is to be read for it has been found out.
pub struct Diff<'a> {
    states: [State<'a>; 2],
    usable: [UsableSize; 2],
    encodings: [Encoding; 2],
    changed: PageSet,
    schemas: [Schema; 2],
    pairs: Vec<TablePair>,
}

/// Finds out what differs between states `a` and `b`; `changed` are the pages that may, `None` if that is not known.
pub fn diff<'a>(a: State<'a>, b: State<'a>, changed: Option<&PageSet>) -> Result<Diff<'a>, DiffError> {
    let states = [a, b];
    let schemas = [Schema::read(a.connection)?, Schema::read(b.connection)?];
    let counts = states.map(|state| state.pages.page_count().0);
    let beyond = PageSet::from_ranges([(counts[0].min(counts[1]).saturating_add(1), counts[0].max(counts[1]))]);
    let is_same_size = a.pages.page_size() == b.pages.page_size();
    let known = changed.filter(|_| is_same_size).map(|changed| changed.union(&beyond));
    let mut diff = Diff {
        states,
        usable: [usable_size(a.pages)?, usable_size(b.pages)?],
        encodings: [Encoding::of(a.connection)?, Encoding::of(b.connection)?],
        changed: known.clone().unwrap_or_default(),
        pairs: pair(&schemas),
        schemas,
    };
    // With most pages changed, finding those that did not is for nothing.
    let is_worthwhile = |known: &PageSet| known.len() < u64::from(counts[0].max(counts[1]).max(20)) * 3 / 4;
    let is_comparable = diff.usable[0] == diff.usable[1] && diff.encodings[0] == diff.encodings[1];
    if known.as_ref().is_some_and(is_worthwhile) && is_comparable {
        diff.narrow()?;
    }
    Ok(diff)
}

/// The tables of both schemas, in the order of the second's, then those that are gone.
fn pair(schemas: &[Schema; 2]) -> Vec<TablePair> {
    let [a, b] = schemas;
    let here = b.tables.iter().map(|table| [a.table(&table.name), Some(table)]);
    let gone = a.tables.iter().filter(|table| b.table(&table.name).is_none()).map(|table| [Some(table), None]);
    here.chain(gone).map(|tables| pair_of(tables.map(Option::<&Table>::cloned))).collect()
}

fn pair_of(tables: [Option<Table>; 2]) -> TablePair {
    let columns = |a: &Table, b: &Table| Columns::of(a, b).filter(|_| a.storage != Storage::Virtual);
    let (columns, is_replaced) = match &tables {
        [Some(a), Some(b)] if a.has_key_of(b) => (columns(a, b), false),
        [Some(a), Some(b)] => (columns(a, a).and(columns(b, b)), true),
        [Some(only), None] | [None, Some(only)] => (columns(only, only), false),
        [None, None] => (None, false),
    };
    let rows = if columns.is_some() { Rows::All } else { Rows::Opaque };
    let is_replaced = is_replaced && columns.is_some();
    let none = || Columns { key: Vec::new(), names: Vec::new() };
    TablePair { tables, columns: columns.unwrap_or_else(none), rows, is_replaced }
}

impl<'a> Diff<'a> {
    /// Both schemas.
    pub fn schemas(&self) -> &[Schema; 2] {
        &self.schemas
    }

    /// All tables, of both states. Whether rows differ is known when they are compared.
    pub fn tables(&self) -> &[TablePair] {
        &self.pairs
    }

    /// What changed in the schema: in the order of the second state's, then what is gone.
    pub fn schema_changes(&self) -> Vec<SchemaChange> {
        let [a, b] = &self.schemas;
        let mut changes = Vec::new();
        // What a constraint makes comes and goes with its table.
        for to in b.objects.iter().filter(|object| object.sql.is_some()) {
            match a.object(&to.kind, &to.name) {
                None => changes.push(SchemaChange::Created(to.clone())),
                Some(from) if from != to => changes.push(SchemaChange::Altered { from: from.clone(), to: to.clone() }),
                Some(_) => {}
            }
        }
        let gone = a.objects.iter().filter(|from| from.sql.is_some() && b.object(&from.kind, &from.name).is_none());
        changes.extend(gone.cloned().map(SchemaChange::Dropped));
        changes
    }

    /// Whether pages said which rows may differ; else all rows of all tables are compared.
    pub fn is_narrow(&self) -> bool {
        self.pairs.iter().any(|pair| matches!(pair.rows, Rows::Ranges(_) | Rows::Keys(_)))
    }

    fn ground(&self, at: usize) -> Ground<'_> {
        Ground { pages: self.states[at].pages, usable: self.usable[at], changed: &self.changed }
    }

    /// Finds the rows that are to be compared, from the changed pages.
    fn narrow(&mut self) -> Result<(), DiffError> {
        let Some(mut sides) = self.walk()? else { return Ok(()) };
        let grounds = [self.ground(0), self.ground(1)];
        let [a, b] = &mut sides;
        for (a, b) in a.iter_mut().zip(b.iter_mut()) {
            if let (Some(a), Some(b)) = (a, b)
                && a.is_table == b.is_table
            {
                a.walk.compare(grounds[0], &mut b.walk, grounds[1], a.is_table)?;
                if !a.is_table {
                    a.dirty_interiors = a.walk.dirty_interiors(grounds[0], &b.walk);
                    b.dirty_interiors = b.walk.dirty_interiors(grounds[1], &a.walk);
                }
            }
        }
        let [a, b] = sides;
        let [a, b] = [account::Side { ground: grounds[0], trees: a }, account::Side { ground: grounds[1], trees: b }];
        let Account::Complete(owners) = account::account(&a, &b)? else { return Ok(()) };
        let mut rows: Vec<Option<Rows>> = Vec::new();
        for (at, pair) in self.pairs.iter().enumerate() {
            // The first tree is the schema's.
            let trees = (a.trees[at + 1].as_ref(), b.trees[at + 1].as_ref());
            let owners = owners.iter().filter(|(position, _)| *position == at + 1).map(|(_, place)| *place);
            rows.push(narrow_rows(pair, trees, grounds, owners));
        }
        for (pair, rows) in self.pairs.iter_mut().zip(rows) {
            pair.rows = rows.unwrap_or_else(|| pair.rows.clone());
        }
        Ok(())
    }

    /// Walks all trees of both states: first that of the schema, then those of the tables; `None` if one is too large for that.
    fn walk(&self) -> Result<Option<[Vec<Option<Tree>>; 2]>, DiffError> {
        let mut sides = [Vec::new(), Vec::new()];
        for (at, side) in sides.iter_mut().enumerate() {
            let tables = self.pairs.iter().map(|pair| pair.tables[at].as_ref());
            let tables = tables.map(|table| table.filter(|table| table.root.0 != 0));
            let roots = tables.map(|table| table.map(|table| (table.root, table.storage == Storage::Rowid)));
            for root in std::iter::once(Some((PageNo(1), true))).chain(roots) {
                let Some((root, is_table)) = root else {
                    side.push(None);
                    continue;
                };
                let Some(walk) = Walk::through(self.ground(at), root, is_table)? else { return Ok(None) };
                side.push(Some(Tree { is_table, walk, dirty_interiors: Vec::new() }));
            }
        }
        Ok(Some(sides))
    }

    /// Compares the rows of a table and hands those that differ to `take`: by rowid, or, of a WITHOUT ROWID table, removed and changed ones first.
    pub fn compare(&self, pair: &TablePair, take: &mut Take<'_>) -> Result<(), DiffError> {
        let side = |at: usize| {
            let (connection, ground, encoding) = (self.states[at].connection, self.ground(at), self.encodings[at]);
            pair.tables[at].as_ref().map(|table| Side { connection, ground, encoding, table })
        };
        let sides = [side(0), side(1)];
        if pair.is_replaced {
            for (at, side) in sides.iter().enumerate() {
                let mut alone = [None, None];
                alone[at] = *side;
                let own = side.and_then(|side| Columns::of(side.table, side.table));
                compare_all(alone, &own.unwrap_or_else(|| pair.columns.clone()), take)?;
            }
            return Ok(());
        }
        match (&pair.rows, sides) {
            (Rows::Opaque, _) => Ok(()),
            (Rows::Ranges(ranges), _) => merge_ranges(sides, &pair.columns, ranges, take),
            (Rows::Keys([a, b]), [Some(side_a), Some(side_b)]) => {
                let keys = |take: &mut Take<'_>| compare_keys([side_a, side_b], &pair.columns, [a, b], take);
                // Rows cannot be taken back, so it is tried first.
                if keys(&mut |_| Ok(()))? { keys(take).map(|_| ()) } else { compare_all(sides, &pair.columns, take) }
            }
            _ => compare_all(sides, &pair.columns, take),
        }
    }

    /// How many rows of a table differ.
    pub fn count(&self, pair: &TablePair) -> Result<Counts, DiffError> {
        let mut counts = Counts::default();
        self.compare(pair, &mut |change| {
            match change {
                rows::RowChange::Removed(_) => counts.removed += 1,
                rows::RowChange::Added(_) => counts.added += 1,
                rows::RowChange::Changed { .. } => counts.changed += 1,
            }
            Ok(())
        })?;
        Ok(counts)
    }

    /// Hands all rows of the table in the second state to `take`, as added, with all columns that it has there.
    pub fn all_rows(&self, table: &Table, take: &mut Take<'_>) -> Result<(), DiffError> {
        let (connection, ground, encoding) = (self.states[1].connection, self.ground(1), self.encodings[1]);
        let Some(columns) = Columns::of(table, table) else { return Ok(()) };
        compare_all([None, Some(Side { connection, ground, encoding, table })], &columns, take)
    }
}

fn compare_all(sides: [Option<Side<'_>>; 2], columns: &Columns, take: &mut Take<'_>) -> Result<(), DiffError> {
    if sides.iter().flatten().all(|side| side.table.storage == Storage::Rowid) {
        merge_ranges(sides, columns, &[(i64::MIN, i64::MAX)], take)
    } else {
        compare_all_keys(sides, columns, take)
    }
}

/// The rows of a table that are to be compared; `None` if that stays as it is.
fn narrow_rows(
    pair: &TablePair,
    trees: (Option<&Tree>, Option<&Tree>),
    grounds: [Ground<'_>; 2],
    owners: impl Iterator<Item = Place>,
) -> Option<Rows> {
    let ([Some(table_a), Some(table_b)], (Some(a), Some(b))) = (&pair.tables, trees) else { return None };
    if pair.rows == Rows::Opaque || pair.is_replaced || !table_a.reads_like(table_b) {
        return None;
    }
    if a.is_table {
        let dirty = a.walk.dirty().iter().chain(b.walk.dirty()).copied().chain(owners);
        return Some(Rows::Ranges(merged(dirty.map(|place| (place.first, place.last)).collect())));
    }
    let keys = |tree: &Tree| {
        let leaves = tree.walk.dirty().iter().map(|leaf| leaf.page);
        leaves.chain(tree.dirty_interiors.iter().copied()).collect::<Vec<PageNo>>()
    };
    let (mut pages_a, mut pages_b) = (keys(a), keys(b));
    // Their leaves did not change, but the ends of keys may lie in overflow pages.
    let owners: Vec<PageNo> =
        owners.map(|place| place.page).filter(|page| !grounds[0].changed.contains(*page)).collect();
    pages_a.extend(&owners);
    pages_b.extend(owners);
    Some(Rows::Keys([pages_a, pages_b]))
}

/// Ranges of rowids, ascending and apart.
fn merged(mut ranges: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    ranges.retain(|(first, last)| first <= last);
    ranges.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}
