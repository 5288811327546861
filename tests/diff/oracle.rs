//! Compares all rows of two databases, by brute force and by other means than the program's.

use std::collections::BTreeMap;

use continuum::ops::diff::rows::owned;
use continuum::ops::diff::schema::{Storage, Table};
use continuum::sqlite::record::Value;
use rusqlite::Connection;

/// What tells a row from others, so that it can be sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keyed(Vec<String>);

impl Keyed {
    /// Of a key that a comparison told.
    pub fn of(table: &Table, key: &[Value]) -> Self {
        let ignores_case = |at: usize| {
            table.storage == Storage::WithoutRowid && table.collations.get(at).is_some_and(|name| name == "NOCASE")
        };
        Self(key.iter().enumerate().map(|(at, value)| Self::part(value, ignores_case(at))).collect())
    }

    fn part(value: &Value, ignores_case: bool) -> String {
        match value {
            Value::Text(text) if ignores_case => format!("{:?}", Value::Text(text.to_ascii_lowercase())),
            // A number is a key, however it is stored.
            Value::Real(real) => format!("{:?}", Value::Integer(*real as i64)),
            other => format!("{other:?}"),
        }
    }
}

type Differences = BTreeMap<String, BTreeMap<Keyed, [Option<Vec<Value>>; 2]>>;
type Rows = BTreeMap<Keyed, BTreeMap<String, Value>>;

/// All rows of a database by table and key, by column.
struct Content {
    rows: Rows,
    columns: Vec<String>,
}

fn content(connection: &Connection) -> BTreeMap<String, Content> {
    let mut statement =
        connection.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND rootpage > 0").unwrap();
    let tables = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let tables: Vec<(String, String)> = tables.map(Result::unwrap).collect();
    tables.into_iter().map(|(name, sql)| (name.to_ascii_lowercase(), read(connection, &name, &sql))).collect()
}

fn read(connection: &Connection, name: &str, sql: &str) -> Content {
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    let mut statement = connection.prepare("SELECT name, pk, hidden FROM pragma_table_xinfo(?)").unwrap();
    let columns = statement.query_map([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let columns: Vec<(String, i64, i64)> = columns.map(Result::unwrap).collect();
    let stored: Vec<String> =
        columns.iter().filter(|(_, _, hidden)| *hidden == 0).map(|(name, _, _)| name.clone()).collect();
    let quote = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    let without_rowid = sql.to_ascii_uppercase().contains("WITHOUT ROWID");
    let keys: Vec<String> = if without_rowid {
        let mut keys: Vec<&(String, i64, i64)> = columns.iter().filter(|(_, pk, _)| *pk > 0).collect();
        keys.sort_by_key(|(_, pk, _)| *pk);
        keys.iter().map(|(name, _, _)| quote(name)).collect()
    } else {
        vec![if name == "rowid" { "_rowid_".to_owned() } else { "rowid".to_owned() }]
    };
    let all: Vec<String> = keys.iter().cloned().chain(stored.iter().map(quote)).collect();
    let mut statement = connection.prepare(&format!("SELECT {} FROM {quoted}", all.join(", "))).unwrap();
    let mut found = statement.query([]).unwrap();
    let mut rows = Rows::new();
    while let Some(row) = found.next().unwrap() {
        let value = |at: usize| owned(row.get_ref(at).unwrap());
        let key = (0..keys.len()).map(|at| Keyed::part(&value(at), name == "composite" && at == 0)).collect();
        let values = stored.iter().enumerate().map(|(at, name)| (name.clone(), value(keys.len() + at))).collect();
        rows.insert(Keyed(key), values);
    }
    Content { rows, columns: stored }
}

/// All differences, by table and key.
pub fn differences(a: &Connection, b: &Connection) -> Differences {
    let (a, b) = (content(a), content(b));
    let mut all = Differences::new();
    for name in a.keys().chain(b.keys()) {
        let differing = compare(a.get(name), b.get(name));
        if !differing.is_empty() {
            all.insert(name.clone(), differing);
        }
    }
    all
}

fn compare(a: Option<&Content>, b: Option<&Content>) -> BTreeMap<Keyed, [Option<Vec<Value>>; 2]> {
    let own = a.or(b).unwrap();
    let has = |content: Option<&Content>, name: &String| {
        content.is_none_or(|content| content.columns.iter().any(|other| other.eq_ignore_ascii_case(name)))
    };
    let common: Vec<&String> = own.columns.iter().filter(|name| has(a, name) && has(b, name)).collect();
    let values = |row: &BTreeMap<String, Value>| common.iter().map(|name| row[*name].clone()).collect::<Vec<_>>();
    let (none, mut differing) = (Rows::new(), BTreeMap::new());
    let (rows_a, rows_b) = (a.map_or(&none, |content| &content.rows), b.map_or(&none, |content| &content.rows));
    for key in rows_a.keys().chain(rows_b.keys()) {
        let pair = [rows_a.get(key).map(values), rows_b.get(key).map(values)];
        if pair[0] != pair[1] {
            differing.insert(key.clone(), pair);
        }
    }
    differing
}

/// Fails with the first difference between what was told and what is.
pub fn assert_same(told: &Differences, is: &Differences, what: &str) {
    for (table, rows) in is {
        let empty = BTreeMap::new();
        let found = told.get(table).unwrap_or(&empty);
        for (key, expected) in rows {
            let shown = |rows| format!("{rows:?}").chars().take(300).collect::<String>();
            let found = found.get(key);
            assert!(
                found == Some(expected),
                "{what}: the row {key:?} of {table}: {} told for {}",
                shown(found),
                shown(Some(expected))
            );
        }
    }
    for (table, rows) in told {
        for key in rows.keys() {
            let known = is.get(table).is_some_and(|rows| rows.contains_key(key));
            assert!(known, "{what}: the row {key:?} of {table} does not differ");
        }
    }
}

/// What there is, but for what SQLite keeps for itself.
pub fn schema(connection: &Connection) -> Vec<(String, String, Option<String>)> {
    let sql = "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 1, 2";
    let mut statement = connection.prepare(sql).unwrap();
    let objects = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    objects.map(Result::unwrap).collect()
}
