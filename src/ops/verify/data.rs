//! Looks at random rows of each table: storage classes against what the columns declare, every value readable, and the row found by each index.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};

use crate::base::entropy::Entropy;
use crate::format::verification::{Check, CheckKind};
use crate::sqlite::identifier::quoted;

use super::super::query::{Database, QueryError};
use super::{Subject, VerifyError, check as checked, checked_but, is_of_application, judged, named};

/// The most tables and indexes that are looked at.
const MAX_OBJECTS: usize = 10_000;
/// Collations that SQLite has.
const COLLATIONS: [&str; 3] = ["BINARY", "NOCASE", "RTRIM"];

pub struct Table {
    /// Its name.
    pub name: String,
    is_strict: bool,
    /// The name by which the rowid can be read, unless there is none.
    rowid: Option<&'static str>,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    declared: String,
}

struct Index {
    name: String,
    /// Columns of the table, by position.
    keys: Vec<usize>,
}

pub fn check(subject: &Subject<'_>, database: &Database) -> Result<Check, VerifyError> {
    let tables = match judged(tables(database.connection()).map_err(|error| database.explain(&error)))? {
        Ok(tables) => tables,
        Err(fault) => return Ok(checked(CheckKind::Data, Err(fault))),
    };
    let (mut wrong, mut foreign, mut rows) = (Vec::new(), Vec::new(), 0);
    for table in &tables {
        match judged(sample(subject, database, table))? {
            Ok(found) => {
                rows += found.rows;
                wrong.extend(found.wrong);
                foreign.extend(found.foreign);
            }
            Err(fault) if is_of_application(&fault) => foreign.push(format!("{}: {fault}", table.name)),
            Err(fault) => wrong.push(format!("{}: {fault}", table.name)),
        }
    }
    if !wrong.is_empty() {
        return Ok(checked(CheckKind::Data, Err(named(&wrong))));
    }
    let text = format!("{rows} rows of {} tables and their index entries", tables.len());
    Ok(checked_but(CheckKind::Data, text, &foreign))
}

/// Tables that are B-trees of their own.
pub fn tables(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let sql = format!(
        "SELECT name, wr, strict FROM pragma_table_list
         WHERE schema = 'main' AND type IN ('table', 'shadow') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' LIMIT {MAX_OBJECTS}"
    );
    let mut statement = connection.prepare(&sql)?;
    let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let found: Vec<(String, bool, bool)> = found.collect::<rusqlite::Result<_>>()?;
    found
        .into_iter()
        .map(|(name, is_without_rowid, is_strict)| {
            let columns = columns(connection, &name)?;
            let is_free = |alias: &&str| !columns.iter().any(|column| column.name.eq_ignore_ascii_case(alias));
            let rowid = ["rowid", "_rowid_", "oid"].into_iter().filter(|_| !is_without_rowid).find(is_free);
            Ok(Table { name, is_strict, rowid, columns })
        })
        .collect()
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    // Hidden columns of kind 1 cannot be read.
    let mut statement =
        connection.prepare("SELECT name, type FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid")?;
    let found = statement.query_map([table], |row| Ok(Column { name: row.get(0)?, declared: row.get(1)? }))?;
    found.collect()
}

/// What was looked at in a table.
#[derive(Default)]
struct Sample {
    rows: u32,
    wrong: Vec<String>,
    /// Indexes that need the application.
    foreign: Vec<String>,
}

fn sample(subject: &Subject<'_>, database: &Database, table: &Table) -> Result<Sample, QueryError> {
    let connection = database.connection();
    let explain = |error: rusqlite::Error| database.explain(&error);
    let mut sample = Sample::default();
    let indexes = indexes(connection, table, &mut sample.foreign).map_err(explain)?;
    let wanted = subject.options.sample_rows;
    let mut look = |row: &Row<'_>| -> rusqlite::Result<()> {
        sample.rows += 1;
        sample.wrong.extend(examine(connection, table, &indexes, row)?);
        Ok(())
    };
    let names: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
    let (names, name) = (names.join(", "), quoted(&table.name));
    let Some(rowid) = table.rowid else {
        let mut statement =
            connection.prepare(&format!("SELECT {names} FROM {name} LIMIT {wanted}")).map_err(explain)?;
        let mut rows = statement.query([]).map_err(explain)?;
        while let Some(row) = rows.next().map_err(explain)? {
            look(row).map_err(explain)?;
        }
        return Ok(sample);
    };
    let ends = connection.query_row(&format!("SELECT min({rowid}), max({rowid}) FROM {name}"), [], |row| {
        Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?))
    });
    let Some((least, most)) = ends.map_err(explain)? else { return Ok(sample) };
    let sql = format!("SELECT {names}, {rowid} FROM {name} WHERE {rowid} >= ?1 ORDER BY {rowid} LIMIT 1");
    let mut statement = connection.prepare(&sql).map_err(explain)?;
    let entropy = &*subject.cache.reader().repository().environment().entropy;
    for at in random_between(entropy, least, most, wanted) {
        let mut rows = statement.query([at]).map_err(explain)?;
        if let Some(row) = rows.next().map_err(explain)? {
            look(row).map_err(explain)?;
        }
    }
    Ok(sample)
}

fn random_between(entropy: &dyn Entropy, least: i64, most: i64, count: u32) -> Vec<i64> {
    let span = (i128::from(most) - i128::from(least) + 1).max(1);
    (0..count)
        .map(|_| {
            let random = i128::from(u64::from_le_bytes(entropy.bytes()));
            (i128::from(least) + random % span) as i64
        })
        .collect()
}

/// Indexes that hold every row under plain columns, in an order that SQLite knows.
fn indexes(connection: &Connection, table: &Table, foreign: &mut Vec<String>) -> rusqlite::Result<Vec<Index>> {
    let mut statement = connection.prepare("SELECT name, origin FROM pragma_index_list(?1) WHERE partial = 0")?;
    let found = statement.query_map([&table.name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let found: Vec<(String, String)> = found.collect::<rusqlite::Result<_>>()?;
    let mut indexes = Vec::new();
    for (name, origin) in found {
        // The primary key of a table without rowid is the table.
        if table.rowid.is_none() && origin == "pk" {
            continue;
        }
        let mut statement =
            connection.prepare("SELECT name, coll FROM pragma_index_xinfo(?1) WHERE key = 1 ORDER BY seqno")?;
        let keys = statement.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let keys: Vec<(Option<String>, Option<String>)> = keys.collect::<rusqlite::Result<_>>()?;
        let is_foreign = |collation: &str| !COLLATIONS.iter().any(|known| collation.eq_ignore_ascii_case(known));
        if let Some(collation) = keys.iter().filter_map(|(_, collation)| collation.as_deref()).find(|c| is_foreign(c)) {
            foreign.push(format!("index {name}: collation {collation}"));
            continue;
        }
        let key = |(column, _): (Option<String>, Option<String>)| {
            let column = column?;
            table.columns.iter().position(|found| found.name == column)
        };
        if let Some(keys) = keys.into_iter().map(key).collect::<Option<Vec<usize>>>() {
            indexes.push(Index { name, keys });
        }
    }
    Ok(indexes)
}

/// What is wrong with a row, whose values are the table's columns and then its rowid, if it has one.
fn examine(connection: &Connection, table: &Table, indexes: &[Index], row: &Row<'_>) -> rusqlite::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for (at, column) in table.columns.iter().enumerate() {
        let value = row.get_ref(at)?;
        if !fits(value, &column.declared, table.is_strict) {
            let kind = value.data_type().to_string().to_ascii_lowercase();
            wrong.push(format!("{}.{} holds {kind} and is declared {}", table.name, column.name, column.declared));
        }
    }
    for index in indexes {
        if !is_found(connection, table, index, row)? {
            wrong.push(format!("a row of {} is not in the index {}", table.name, index.name));
        }
    }
    Ok(wrong)
}

fn is_found(connection: &Connection, table: &Table, index: &Index, row: &Row<'_>) -> rusqlite::Result<bool> {
    let mut terms: Vec<String> =
        index.keys.iter().map(|&at| format!("{} IS ?", quoted(&table.columns[at].name))).collect();
    let mut values: Vec<Value> = index.keys.iter().map(|&at| row.get(at)).collect::<rusqlite::Result<_>>()?;
    if let Some(rowid) = table.rowid {
        terms.push(format!("{rowid} IS ?"));
        values.push(row.get(table.columns.len())?);
    }
    let (name, index) = (quoted(&table.name), quoted(&index.name));
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {name} INDEXED BY {index} WHERE {})", terms.join(" AND "));
    connection.prepare(&sql)?.query_row(params_from_iter(values), |row| row.get(0))
}

/// Whether SQLite could have stored such a value in a column of that declaration (<https://sqlite.org/datatype3.html> §3.1,
/// <https://sqlite.org/stricttables.html>).
fn fits(value: ValueRef<'_>, declared: &str, is_strict: bool) -> bool {
    let declared = declared.to_ascii_uppercase();
    if is_strict {
        return matches!(
            (declared.as_str(), value),
            (_, ValueRef::Null)
                | ("ANY", _)
                | ("INT" | "INTEGER", ValueRef::Integer(_))
                | ("REAL", ValueRef::Real(_))
                | ("TEXT", ValueRef::Text(_))
                | ("BLOB", ValueRef::Blob(_))
        );
    }
    let has_text_affinity =
        !declared.contains("INT") && ["CHAR", "CLOB", "TEXT"].iter().any(|word| declared.contains(word));
    !(has_text_affinity && matches!(value, ValueRef::Integer(_) | ValueRef::Real(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_bound_what_can_be_stored() {
        let (number, text) = (ValueRef::Integer(1), ValueRef::Text(b"x"));
        for (value, declared, is_strict, expected) in [
            (number, "TEXT", false, false),
            (number, "VARCHAR(20)", false, false),
            (number, "CHARINT", false, true),
            (text, "INTEGER", false, true),
            (text, "INTEGER", true, false),
            (number, "ANY", true, true),
            (ValueRef::Null, "BLOB", true, true),
            (number, "REAL", true, false),
        ] {
            assert_eq!(fits(value, declared, is_strict), expected, "{value:?} in {declared}");
        }
    }

    #[test]
    fn rowids_are_drawn_from_the_whole_range() {
        let entropy = crate::base::entropy::SeededEntropy::new(1);
        let drawn = random_between(&entropy, i64::MIN, i64::MAX, 50);
        assert!(drawn.iter().any(|&rowid| rowid < 0) && drawn.iter().any(|&rowid| rowid > 0));
        assert!(random_between(&entropy, 7, 7, 3).iter().all(|&rowid| rowid == 7));
    }
}
