//! Rows of the past, one by one, matched by primary key with those of a table that exists.
//!
//! A row that is there with the same values, type by type and byte by byte, is equal and left alone. One that differs is a conflict. None is ever deleted: a row that breaks another rule than that of the
//! primary key, such as that of a UNIQUE index, stops the restore, or is left out where conflicts are ignored.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, Statement};

use crate::sqlite::identifier::quoted;

use super::connection::{NEW, PAST, Work};
use super::error::{TablesError, message};
use super::plan::{Table, clause};
use super::sql::list;

/// What to do with a row that is there already and has other values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Stop, and change nothing at all.
    #[default]
    Abort,
    /// Keep the row that is there.
    Ignore,
    /// Give it the values that it had in the past.
    Replace,
}

/// How many rows met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Were not there.
    pub inserted: u64,
    /// Were there with other values, and have the past's now.
    pub replaced: u64,
    /// Were there with other values, or another row had a value that is unique, and were left as they are.
    pub ignored: u64,
    /// Were there with the same values.
    pub equal: u64,
}

/// How a row of the past stands to the table.
enum Standing {
    Absent,
    Equal,
    /// Positions of the columns that differ.
    Differs(Vec<usize>),
}

/// A value as it is, without a copy.
struct Raw<'a>(ValueRef<'a>);

impl ToSql for Raw<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

/// The statements for a table.
struct Matcher<'a> {
    work: &'a Work<'a>,
    table: &'a Table,
    /// Positions of the key's columns.
    key: Vec<usize>,
    find: Statement<'a>,
    insert: Statement<'a>,
    /// Sets every column but the key's.
    update: Option<Statement<'a>>,
    /// Sets the key too: one that is equal by its collation may have other bytes.
    update_all: Statement<'a>,
}

/// Merges a table's rows into the one that exists.
pub fn merge_rows(
    work: &Work,
    table: &Table,
    condition: Option<&str>,
    on_conflict: OnConflict,
) -> Result<Tally, TablesError> {
    let explain = |error: rusqlite::Error| work.explain(&error, "merge", &table.object.describe());
    let name = quoted(&table.object.name);
    let columns = list(table.columns.iter().map(String::as_str));
    let sql = format!("SELECT {columns} FROM {PAST}.{name}{}", clause(condition));
    let mut source = work.connection.prepare(&sql).map_err(explain)?;
    let mut rows = source.query([]).map_err(explain)?;
    let mut matcher = Matcher::new(work, table, on_conflict).map_err(explain)?;
    let mut tally = Tally::default();
    while let Some(row) = rows.next().map_err(explain)? {
        let values: Result<Vec<_>, _> = (0..table.columns.len()).map(|at| row.get_ref(at)).collect();
        matcher.merge(&values.map_err(explain)?, on_conflict, &mut tally)?;
    }
    Ok(tally)
}

impl<'a> Matcher<'a> {
    fn new(work: &'a Work<'a>, table: &'a Table, on_conflict: OnConflict) -> rusqlite::Result<Self> {
        let is_key = |column: &String| table.key.contains(column);
        let position = |name: &String| table.columns.iter().position(|column| column == name);
        let key: Vec<usize> = table.key.iter().filter_map(position).collect();
        let name = quoted(&table.object.name);
        let parameter = |at: usize| format!("?{}", at + 1);
        let equals: Vec<String> =
            key.iter().map(|&at| format!("{} = {}", quoted(&table.columns[at]), parameter(at))).collect();
        let equals = equals.join(" AND ");
        let set = |wanted: &dyn Fn(&String) -> bool| {
            let all = table.columns.iter().enumerate().filter(|(_, column)| wanted(column));
            all.map(|(at, column)| format!("{} = {}", quoted(column), parameter(at))).collect::<Vec<_>>().join(", ")
        };
        let columns = list(table.columns.iter().map(String::as_str));
        let parameters = (0..table.columns.len()).map(parameter).collect::<Vec<_>>().join(", ");
        let leave = if on_conflict == OnConflict::Ignore { " ON CONFLICT DO NOTHING" } else { "" };
        let prepare = |sql: String| work.connection.prepare(&sql);
        let others = set(&|column| !is_key(column));
        let update = (!others.is_empty()).then(|| prepare(format!("UPDATE {NEW}.{name} SET {others} WHERE {equals}")));
        Ok(Self {
            work,
            table,
            find: prepare(format!("SELECT {columns} FROM {NEW}.{name} WHERE {equals}"))?,
            insert: prepare(format!("INSERT INTO {NEW}.{name} ({columns}) VALUES ({parameters}){leave}"))?,
            update: update.transpose()?,
            update_all: prepare(format!("UPDATE {NEW}.{name} SET {} WHERE {equals}", set(&|_| true)))?,
            key,
        })
    }

    fn merge(
        &mut self,
        values: &[ValueRef<'_>],
        on_conflict: OnConflict,
        tally: &mut Tally,
    ) -> Result<(), TablesError> {
        if self.key.iter().any(|&at| values[at] == ValueRef::Null) {
            let reason = "a part of its primary key is NULL, so it cannot be matched".to_owned();
            return Err(self.unfit(values, reason));
        }
        let standing = self.look_up(values).map_err(|error| self.explain(&error, values))?;
        let columns = match (standing, on_conflict) {
            (Standing::Equal, _) => {
                tally.equal += 1;
                return Ok(());
            }
            (Standing::Absent, _) => {
                let inserted = execute(&mut self.insert, values).map_err(|error| self.explain(&error, values))?;
                tally.inserted += inserted;
                // A unique value was taken, or a trigger did not want it.
                tally.ignored += u64::from(inserted == 0);
                return Ok(());
            }
            (Standing::Differs(columns), _) => columns,
        };
        match on_conflict {
            OnConflict::Abort => return Err(self.conflict(values, &columns)),
            OnConflict::Ignore => tally.ignored += 1,
            OnConflict::Replace => {
                let of_key = columns.iter().any(|at| self.key.contains(at));
                let update = self.update.as_mut().filter(|_| !of_key).unwrap_or(&mut self.update_all);
                let replaced = execute(update, values).map_err(|error| self.explain(&error, values))?;
                tally.replaced += replaced;
                tally.ignored += u64::from(replaced == 0);
            }
        }
        Ok(())
    }

    fn look_up(&mut self, values: &[ValueRef<'_>]) -> rusqlite::Result<Standing> {
        bind(&mut self.find, values)?;
        let mut found = self.find.raw_query();
        let Some(row) = found.next()? else { return Ok(Standing::Absent) };
        let mut differing = Vec::new();
        for (at, value) in values.iter().enumerate() {
            if !is_same(row.get_ref(at)?, *value) {
                differing.push(at);
            }
        }
        Ok(if differing.is_empty() { Standing::Equal } else { Standing::Differs(differing) })
    }

    fn conflict(&self, values: &[ValueRef<'_>], columns: &[usize]) -> TablesError {
        TablesError::Conflict {
            table: self.table.object.name.clone(),
            key: self.key_text(values),
            columns: columns.iter().map(|&at| self.table.columns[at].clone()).collect(),
        }
    }

    fn unfit(&self, values: &[ValueRef<'_>], reason: String) -> TablesError {
        TablesError::Unfit { table: self.table.object.name.clone(), key: self.key_text(values), reason }
    }

    fn explain(&self, error: &rusqlite::Error, values: &[ValueRef<'_>]) -> TablesError {
        let rule = matches!(error.sqlite_error_code(), Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch));
        if rule {
            return self.unfit(values, message(error));
        }
        self.work.explain(error, "merge", &self.table.object.describe())
    }

    fn key_text(&self, values: &[ValueRef<'_>]) -> String {
        let parts = self.key.iter().map(|&at| format!("{} {}", self.table.columns[at], text_of(values[at])));
        parts.collect::<Vec<_>>().join(", ")
    }
}

fn bind(statement: &mut Statement<'_>, values: &[ValueRef<'_>]) -> rusqlite::Result<()> {
    // A statement may leave out the last ones.
    for (at, value) in values.iter().enumerate().take(statement.parameter_count()) {
        statement.raw_bind_parameter(at + 1, Raw(*value))?;
    }
    Ok(())
}

fn execute(statement: &mut Statement<'_>, values: &[ValueRef<'_>]) -> rusqlite::Result<u64> {
    bind(statement, values)?;
    statement.raw_execute().map(|rows| rows as u64)
}

/// Whether two values are the same, type and bytes.
fn is_same(left: ValueRef<'_>, right: ValueRef<'_>) -> bool {
    match (left, right) {
        (ValueRef::Real(left), ValueRef::Real(right)) => left.to_bits() == right.to_bits(),
        (left, right) => left == right,
    }
}

/// So many characters of a value are shown.
const SHOWN: usize = 40;

fn text_of(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) => {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN)]);
            let short: String = text.chars().take(SHOWN).collect();
            let more = if bytes.len() > short.len() { "…" } else { "" };
            format!("{short:?}{more}")
        }
        ValueRef::Blob(bytes) => {
            let hex: String = bytes.iter().take(SHOWN / 2).map(|byte| format!("{byte:02x}")).collect();
            format!("x'{hex}'{}", if bytes.len() > SHOWN / 2 { "…" } else { "" })
        }
    }
}
