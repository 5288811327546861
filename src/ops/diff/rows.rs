//! Compares the rows of one table, streaming: SQLite decodes them, values are compared by type and bytes.
//!
//! Rows of a table with rowids are merged by rowid, over ranges of rowids. Rows of a WITHOUT ROWID table are looked up by key, each key that stands on a dirty page: rows of
//! the first state in the second, then what the second has beyond that. So collations and their order are SQLite's business.

use std::ops::Range;

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row as SqlRow, Rows, Statement, ToSql, params_from_iter};

use crate::base::page::PageNo;
use crate::sqlite::btree::{BtreePage, Cell};
use crate::sqlite::identifier::quoted;
use crate::sqlite::record::{Prefix, Value, first_values};

use super::pages::{for_each_page, read_page};
use super::schema::{Column, Table};
use super::tree::Ground;
use super::{DiffError, Encoding};

/// A key that is longer than that is not read from pages: all rows are compared then.
const MAX_KEY_BYTES: u64 = 1 << 20;

/// A row, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What tells it from others: the rowid, or the primary key of a WITHOUT ROWID table.
    pub key: Vec<Value>,
    /// Values of the columns that are compared, in the order of [`Columns::names`].
    pub values: Vec<Value>,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// Only the first state has it.
    Removed(Row),
    /// Only the second has it.
    Added(Row),
    /// Both have it, with other values.
    Changed {
        /// As it was.
        from: Row,
        /// As it is.
        to: Row,
    },
}

/// Takes differences as they are found.
pub type Take<'a> = dyn FnMut(RowChange) -> Result<(), DiffError> + 'a;

/// What of a table is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// What the key is called.
    pub key: Vec<String>,
    /// The columns: those that both states have.
    pub names: Vec<String>,
}

impl Columns {
    /// What the tables of both states have in common, as the first names it; `None` if rows cannot be told apart.
    pub fn of(table: &Table, other: &Table) -> Option<Self> {
        let names = |columns: &mut dyn Iterator<Item = &Column>| columns.map(|column| column.name.clone()).collect();
        let key: Vec<String> = match &table.rowid {
            Some(rowid) => vec![rowid.clone()],
            None => names(&mut table.key_columns()),
        };
        let names = names(&mut table.columns.iter().filter(|column| other.column(&column.name).is_some()));
        if key.is_empty() { None } else { Some(Self { key, names }) }
    }

    fn select(&self, table: &Table, tail: &str) -> String {
        // The other state's table may call the rowid otherwise.
        let key = table.rowid.as_ref().map_or(&self.key[..], std::slice::from_ref);
        let columns: Vec<String> = key.iter().chain(&self.names).map(|name| quoted(name)).collect();
        format!("SELECT {} FROM main.{} {tail}", columns.join(", "), quoted(&table.name))
    }

    fn values(&self) -> Range<usize> {
        self.key.len()..self.key.len() + self.names.len()
    }

    fn row(&self, row: &SqlRow<'_>) -> Result<Row, DiffError> {
        let take =
            |range: Range<usize>| range.map(|at| Ok(owned(row.get_ref(at)?))).collect::<Result<Vec<_>, DiffError>>();
        Ok(Row { key: take(0..self.key.len())?, values: take(self.values())? })
    }

    fn differ(&self, a: &SqlRow<'_>, b: &SqlRow<'_>) -> Result<bool, DiffError> {
        for at in self.values() {
            if !are_same(a.get_ref(at)?, b.get_ref(at)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A value of a row, to keep.
pub fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(real) => Value::Real(real),
        ValueRef::Text(text) => Value::Text(text.to_vec()),
        ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
    }
}

fn are_same(a: ValueRef<'_>, b: ValueRef<'_>) -> bool {
    match (a, b) {
        (ValueRef::Real(a), ValueRef::Real(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

/// A value as an argument of a statement.
pub struct Argument<'a>(pub &'a Value);

impl<'a> Argument<'a> {
    /// As SQLite takes it.
    pub fn value(&self) -> ValueRef<'a> {
        match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(integer) => ValueRef::Integer(*integer),
            Value::Real(real) => ValueRef::Real(*real),
            Value::Text(text) => ValueRef::Text(text),
            Value::Blob(blob) => ValueRef::Blob(blob),
        }
    }
}

impl ToSql for Argument<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.value()))
    }
}

/// A table in one state.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// Answers for the state.
    pub connection: &'a Connection,
    /// Its pages.
    pub ground: Ground<'a>,
    /// How text is stored.
    pub encoding: Encoding,
    /// The table.
    pub table: &'a Table,
}

/// Compares the rows whose rowids lie in these ranges, which ascend. An absent side has no rows.
pub fn merge_ranges(
    sides: [Option<Side<'_>>; 2],
    columns: &Columns,
    ranges: &[(i64, i64)],
    take: &mut Take<'_>,
) -> Result<(), DiffError> {
    let [mut a, mut b] = [by_rowid(sides[0], columns)?, by_rowid(sides[1], columns)?];
    for &(first, last) in ranges {
        let mut a = Ascending::begin(a.as_mut(), first, last)?;
        let mut b = Ascending::begin(b.as_mut(), first, last)?;
        loop {
            let (in_a, in_b) = (a.row(), b.row());
            match (in_a, in_b) {
                (None, None) => break,
                (Some((key_a, row_a)), Some((key_b, row_b))) if key_a == key_b => {
                    if columns.differ(row_a, row_b)? {
                        take(RowChange::Changed { from: columns.row(row_a)?, to: columns.row(row_b)? })?;
                    }
                    a.advance()?;
                    b.advance()?;
                }
                (Some((key_a, row)), other) if other.is_none_or(|(key_b, _)| key_a < key_b) => {
                    take(RowChange::Removed(columns.row(row)?))?;
                    a.advance()?;
                }
                (_, Some((_, row))) => {
                    take(RowChange::Added(columns.row(row)?))?;
                    b.advance()?;
                }
                (Some(_), None) => unreachable!("BUG: such a row is taken above"),
            }
        }
    }
    Ok(())
}

fn by_rowid<'a>(side: Option<Side<'a>>, columns: &Columns) -> Result<Option<Statement<'a>>, DiffError> {
    let Some(side) = side else { return Ok(None) };
    let rowid = quoted(side.table.rowid.as_deref().unwrap_or("rowid"));
    let tail = format!("NOT INDEXED WHERE {rowid} BETWEEN ?1 AND ?2 ORDER BY {rowid}");
    Ok(Some(side.connection.prepare(&columns.select(side.table, &tail))?))
}

/// Rows whose rowids ascend: a damaged database whose rows come round again ends in an error.
struct Ascending<'s> {
    rows: Option<Rows<'s>>,
    key: i64,
}

impl<'s> Ascending<'s> {
    fn begin(statement: Option<&'s mut Statement<'_>>, first: i64, last: i64) -> Result<Self, DiffError> {
        let rows = statement.map(|statement| statement.query([first, last])).transpose()?;
        let mut begun = Self { rows, key: 0 };
        begun.step()?;
        Ok(begun)
    }

    fn step(&mut self) -> Result<(), DiffError> {
        if let Some(rows) = &mut self.rows {
            rows.advance()?;
            if let Some(row) = rows.get() {
                self.key = row.get(0)?;
            }
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), DiffError> {
        let before = self.key;
        self.step()?;
        let ascends = self.row().is_none_or(|(key, _)| key > before);
        if ascends { Ok(()) } else { Err(DiffError::Damaged("rowids do not ascend")) }
    }

    fn row(&self) -> Option<(i64, &SqlRow<'s>)> {
        self.rows.as_ref().and_then(|rows| rows.get()).map(|row| (self.key, row))
    }
}

/// Looks rows up by their primary key.
struct Lookup<'a> {
    statement: Option<Statement<'a>>,
}

impl<'a> Lookup<'a> {
    fn prepare(side: Option<Side<'a>>, columns: &Columns) -> Result<Self, DiffError> {
        let Some(side) = side else { return Ok(Self { statement: None }) };
        let tail = format!("WHERE {}", key_equals(side.table));
        Ok(Self { statement: Some(side.connection.prepare(&columns.select(side.table, &tail))?) })
    }

    fn find<T>(
        &mut self,
        key: &[Value],
        found: impl FnOnce(Option<&SqlRow<'_>>) -> Result<T, DiffError>,
    ) -> Result<T, DiffError> {
        let Some(statement) = &mut self.statement else { return found(None) };
        let mut rows = statement.query(params_from_iter(key.iter().map(Argument)))?;
        found(rows.next()?)
    }
}

/// The condition that finds a row of a WITHOUT ROWID table by its key.
pub fn key_equals(table: &Table) -> String {
    let collation =
        |at: usize| table.collations.get(at).map_or(String::new(), |name| format!(" COLLATE {}", quoted(name)));
    let conditions = table
        .key_columns()
        .enumerate()
        .map(|(at, column)| format!("{}{} = ?{}", quoted(&column.name), collation(at), at + 1));
    conditions.collect::<Vec<_>>().join(" AND ")
}

/// Compares the rows whose keys stand on these pages of each state; `false` if the pages do not lead to all rows that they hold, so that
/// all must be compared. Nothing has been taken then, or some; whoever collects must begin anew.
pub fn compare_keys(
    sides: [Side<'_>; 2],
    columns: &Columns,
    pages: [&[PageNo]; 2],
    take: &mut Take<'_>,
) -> Result<bool, DiffError> {
    let [mut a, mut b] = [Lookup::prepare(Some(sides[0]), columns)?, Lookup::prepare(Some(sides[1]), columns)?];
    let mut is_complete = true;
    for (side, number) in sides.iter().zip(0..) {
        for_each_page(side.ground.pages, pages[number], |at, bytes| {
            for_each_key(side, pages[number][at], bytes, &mut |key| {
                let Some(key) = key.filter(|_| is_complete) else {
                    is_complete = false;
                    return Ok(());
                };
                let found = if number == 0 {
                    a.find(key, |row_a| b.find(key, |row_b| compare(columns, row_a, row_b, take)))?
                } else {
                    b.find(key, |row_b| a.find(key, |row_a| add(columns, row_a, row_b, take)))?
                };
                is_complete &= found;
                Ok(())
            })
        })?;
    }
    Ok(is_complete)
}

fn compare(
    columns: &Columns,
    a: Option<&SqlRow<'_>>,
    b: Option<&SqlRow<'_>>,
    take: &mut Take<'_>,
) -> Result<bool, DiffError> {
    let Some(a) = a else { return Ok(false) };
    match b {
        None => take(RowChange::Removed(columns.row(a)?))?,
        Some(b) if columns.differ(a, b)? => take(RowChange::Changed { from: columns.row(a)?, to: columns.row(b)? })?,
        Some(_) => {}
    }
    Ok(true)
}

fn add(
    columns: &Columns,
    a: Option<&SqlRow<'_>>,
    b: Option<&SqlRow<'_>>,
    take: &mut Take<'_>,
) -> Result<bool, DiffError> {
    let Some(b) = b else { return Ok(false) };
    if a.is_none() {
        take(RowChange::Added(columns.row(b)?))?;
    }
    Ok(true)
}

/// Compares all rows of a WITHOUT ROWID table.
pub fn compare_all_keys(sides: [Option<Side<'_>>; 2], columns: &Columns, take: &mut Take<'_>) -> Result<(), DiffError> {
    for (number, side) in sides.iter().enumerate() {
        let Some(side) = side else { continue };
        let mut others = Lookup::prepare(sides[1 - number], columns)?;
        let mut statement = side.connection.prepare(&columns.select(side.table, ""))?;
        let mut rows = statement.query([])?;
        let mut left = most_rows(side.ground);
        while let Some(row) = rows.next()? {
            left = left.checked_sub(1).ok_or(DiffError::Damaged("a table has more rows than fit into its pages"))?;
            let key = columns.row_key(row)?;
            if number == 0 {
                others.find(&key, |other| compare(columns, Some(row), other, take))?;
            } else {
                others.find(&key, |other| add(columns, other, Some(row), take))?;
            }
        }
    }
    Ok(())
}

/// A cell takes two bytes in the list of cells, and two more.
fn most_rows(ground: Ground<'_>) -> u64 {
    u64::from(ground.pages.page_count().0) * (ground.usable.bytes() as u64 / 4)
}

impl Columns {
    fn row_key(&self, row: &SqlRow<'_>) -> Result<Vec<Value>, DiffError> {
        (0..self.key.len()).map(|at| Ok(owned(row.get_ref(at)?))).collect()
    }
}

/// Takes a key, or `None` for one that is not known.
type TakeKey<'t> = dyn FnMut(Option<&[Value]>) -> Result<(), DiffError> + 't;

/// Hands the keys of a page's cells to `take`; `None` for one that is too long or cannot be read.
fn for_each_key(side: &Side<'_>, page: PageNo, bytes: &[u8], take: &mut TakeKey<'_>) -> Result<(), DiffError> {
    let btree = BtreePage::parse(page, bytes, side.ground.usable)?;
    if btree.kind().is_table() {
        return Err(DiffError::Damaged("a page is of another kind of B-tree"));
    }
    for number in 0..btree.cell_count() {
        let key = read_key(side, &btree.cell(number)?)?;
        take(key.as_deref())?;
    }
    Ok(())
}

fn read_key(side: &Side<'_>, cell: &Cell<'_>) -> Result<Option<Vec<Value>>, DiffError> {
    let mut bytes = cell.local.to_vec();
    let mut next = cell.overflow;
    loop {
        let needed = match first_values(&bytes, side.table.primary_key.len()) {
            Prefix::Values(values) => {
                return Ok(Some(values.into_iter().map(|value| side.encoding.decode(value)).collect()));
            }
            Prefix::Needs(bytes) => bytes,
            Prefix::Damaged => return Ok(None),
        };
        if needed > cell.payload_bytes.min(MAX_KEY_BYTES) {
            return Ok(None);
        }
        let Some(page) = next.filter(|page| page.0 != 0) else { return Ok(None) };
        let overflow = read_page(side.ground.pages, page)?;
        next = Some(PageNo(u32::from_be_bytes([overflow[0], overflow[1], overflow[2], overflow[3]])));
        bytes.extend(&overflow[4..side.ground.usable.bytes()]);
        bytes.truncate(usize::try_from(cell.payload_bytes).unwrap_or(usize::MAX));
    }
}
