//! Every version of one row that restore points keep.
//!
//! The row is looked up at the oldest restore point, and again wherever one of the pages that the lookup read has changed ([`super::ask`]). Being absent is a version too. The answer is
//! that of looking at every restore point.

use rusqlite::Connection;
use rusqlite::params_from_iter;

use crate::sqlite::identifier::quoted;
use crate::sqlite::record::Value;

use super::ask::Asker;
use super::diff::rows::{Argument, owned};
use super::diff::schema::{Column, Storage, Table};
use super::query::QueryError;

/// A row at a restore point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// There is no such table.
    NoTable,
    /// The table has another key, of these columns.
    OtherKey(Vec<String>),
    /// The table has no such row.
    Absent,
    /// It is there, with these columns.
    Row(Vec<(String, Value)>),
    /// SQLite cannot tell.
    Unknown(String),
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Restore points.
    pub points: usize,
    /// At how many of them the row was looked up.
    pub lookups: usize,
}

/// Hands each version of the row to `take`, oldest first, with the position of the restore point at which it appears.
pub fn history(
    asker: &Asker<'_>,
    table: &str,
    key: &[String],
    take: &mut dyn FnMut(usize, &Version) -> Result<(), QueryError>,
) -> Result<Asked, QueryError> {
    let mut last: Option<Version> = None;
    let lookups = asker.ask_all(true, &|connection| look_up(connection, table, key), &mut |at, answer| {
        let version = match answer {
            Ok(version) => version.clone(),
            Err(text) => Version::Unknown(text.clone()),
        };
        if last.as_ref() != Some(&version) {
            take(at, &version)?;
            last = Some(version);
        }
        Ok(())
    })?;
    Ok(Asked { points: asker.walk.moments().len(), lookups })
}

/// The row with that key, each of its values given as text.
pub fn look_up(connection: &Connection, table: &str, key: &[String]) -> rusqlite::Result<Version> {
    let Some(table) = Table::find(connection, table)? else { return Ok(Version::NoTable) };
    let columns = key_columns(&table);
    if columns.len() != key.len() {
        return Ok(Version::OtherKey(columns.into_iter().map(|(name, _)| name).collect()));
    }
    let mut arguments = Vec::new();
    let mut conditions = Vec::new();
    for ((name, affinity), text) in columns.iter().zip(key) {
        let readings = readings(text, *affinity);
        let first = arguments.len() + 1;
        let places: Vec<String> = (first..first + readings.len()).map(|place| format!("?{place}")).collect();
        conditions.push(format!("{} IN ({})", quoted(name), places.join(", ")));
        arguments.extend(readings);
    }
    let sql = format!("SELECT * FROM main.{} WHERE {}", quoted(&table.name), conditions.join(" AND "));
    let mut statement = connection.prepare(&sql)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut rows = statement.query(params_from_iter(arguments.iter().map(Argument)))?;
    let Some(row) = rows.next()? else { return Ok(Version::Absent) };
    let values = names.into_iter().enumerate().map(|(at, name)| Ok((name, owned(row.get_ref(at)?))));
    Ok(Version::Row(values.collect::<rusqlite::Result<_>>()?))
}

/// How a column takes text that it is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Affinity {
    /// As a number if it is one, or it is text; SQLite knows.
    Known,
    /// As it is, so that a number must be given as one.
    None,
}

/// The columns that tell rows apart: those of the primary key, or the rowid.
fn key_columns(table: &Table) -> Vec<(String, Affinity)> {
    let of = |column: &Column| {
        let declared = column.declared.to_ascii_uppercase();
        let is_known = !declared.is_empty() && !declared.contains("BLOB") && declared != "ANY";
        (column.name.clone(), if is_known { Affinity::Known } else { Affinity::None })
    };
    let keys: Vec<(String, Affinity)> = table.key_columns().map(of).collect();
    match &table.rowid {
        Some(rowid) if keys.is_empty() && table.storage == Storage::Rowid => vec![(rowid.clone(), Affinity::Known)],
        None if keys.is_empty() => vec![("rowid".to_owned(), Affinity::Known)],
        _ => keys,
    }
}

/// What a key given as text can mean: `x'…'` is a blob.
fn readings(text: &str, affinity: Affinity) -> Vec<Value> {
    let digits = text.strip_prefix("x'").or_else(|| text.strip_prefix("X'")).and_then(|rest| rest.strip_suffix('\''));
    if let Some(blob) = digits.and_then(from_hex) {
        return vec![Value::Blob(blob)];
    }
    let mut readings = vec![Value::Text(text.as_bytes().to_vec())];
    if affinity == Affinity::None {
        readings.extend(text.parse().ok().map(Value::Integer));
        readings.extend(text.parse().ok().filter(|real: &f64| text.contains('.') && real.is_finite()).map(Value::Real));
    }
    readings
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2 && !pair.starts_with('+'))?;
        u8::from_str_radix(pair, 16).ok()
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_every_kind_of_key() {
        let connection = Connection::open_in_memory().expect("a database");
        connection
            .execute_batch(
                "CREATE TABLE a (id INTEGER PRIMARY KEY, v); INSERT INTO a VALUES (7, 'x'), (-3, 'y');
                 CREATE TABLE b (k TEXT PRIMARY KEY, v); INSERT INTO b VALUES ('007', 1);
                 CREATE TABLE c (x, y TEXT, v, PRIMARY KEY (y, x)) WITHOUT ROWID; INSERT INTO c VALUES (1, 'n', 2), (x'0aff', 'b', 3);
                 CREATE TABLE d (v); INSERT INTO d VALUES ('only');",
            )
            .expect("tables");
        let check = |table: &str, key: &[&str], expected: Option<Value>| {
            let key: Vec<String> = key.iter().map(|&part| part.to_owned()).collect();
            let found = look_up(&connection, table, &key).expect("an answer");
            let value = match found {
                Version::Row(columns) => columns.into_iter().find(|(name, _)| name == "v").map(|(_, value)| value),
                _ => None,
            };
            assert_eq!(value, expected, "{table} {key:?}");
        };
        let text = |text: &str| Some(Value::Text(text.as_bytes().to_vec()));
        check("a", &["7"], text("x"));
        check("A", &["-3"], text("y"));
        check("a", &["8"], None);
        check("b", &["007"], Some(Value::Integer(1)));
        check("b", &["7"], None);
        check("c", &["n", "1"], Some(Value::Integer(2)));
        check("c", &["b", "x'0AFF'"], Some(Value::Integer(3)));
        check("d", &["1"], text("only"));
        assert_eq!(look_up(&connection, "none", &[]), Ok(Version::NoTable));
        assert_eq!(look_up(&connection, "c", &["n".to_owned()]), Ok(Version::OtherKey(vec!["y".into(), "x".into()])));
    }
}
