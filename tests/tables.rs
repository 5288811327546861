//! Restores of chosen tables: the right result or a clear refusal, for every kind of table that SQLite has.
//!
//! Most run the library on plain files in the place of a state; the program, with a state in a repository, is [`program`].

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "tables/hostile.rs"]
mod hostile;
#[path = "tables/kinds.rs"]
mod kinds;
#[path = "tables/merging.rs"]
mod merging;
#[path = "tables/program.rs"]
mod program;
#[path = "tables/random.rs"]
mod random;
#[path = "tables/refusals.rs"]
mod refusals;
mod scratch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use continuum::base::clock::UnixMicros;
use continuum::monitor::{Monitor, Silent};
use continuum::ops::tables::{
    Choice, CreateOptions, Created, MergeOptions, Merged, OnConflict, Past, TablesError, merge_into, restore_to,
};
use continuum::sqlite::uri::uri_of;
use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};
use tempfile::TempDir;

/// A past, and a place for what is made of it.
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// A past that this SQL makes.
    pub fn new(sql: &str) -> Self {
        let place = Self { folder: TempDir::new().unwrap() };
        execute(&place.path("past.db"), sql);
        place
    }

    /// A path inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Restores to `new.db`.
    pub fn restore(&self, tables: &[&str], condition: Option<&str>) -> Result<Created, TablesError> {
        let options =
            CreateOptions { force: false, aside_suffix: "old".into(), integrity_check: None, now: UnixMicros(0) };
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        self.with_past(|past| restore_to(past, &choice(tables, condition), &self.path("new.db"), &options, &monitor))
    }

    /// Merges into `new.db`.
    pub fn merge(&self, tables: &[&str], on_conflict: OnConflict) -> Result<Merged, TablesError> {
        let options = MergeOptions { on_conflict, triggers: true, busy_timeout: Duration::from_millis(50) };
        self.merge_with(&choice(tables, None), &options)
    }

    /// Merges with options.
    pub fn merge_with(&self, choice: &Choice, options: &MergeOptions) -> Result<Merged, TablesError> {
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        self.with_past(|past| merge_into(past, choice, &self.path("new.db"), options, &monitor))
    }

    /// Calls with the past.
    pub fn with_past<R>(&self, then: impl FnOnce(Past<'_>) -> R) -> R {
        let uri = uri_of(&self.path("past.db"), "mode=ro&immutable=1");
        then(Past { uri: &uri, failure: &|| None })
    }

    /// What the restore refuses with, as text; nothing may be left.
    #[track_caller]
    pub fn refusal(&self, tables: &[&str], condition: Option<&str>) -> String {
        let error = self.restore(tables, condition).unwrap_err();
        let mut names: Vec<_> =
            self.folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["past.db"], "after {error}");
        error.to_string()
    }

    /// Rows of a query on the past and on the new database, which must be the same.
    #[track_caller]
    pub fn same(&self, sql: &str) -> Vec<Vec<Value>> {
        let past = rows(&self.path("past.db"), sql);
        assert_eq!(rows(&self.path("new.db"), sql), past, "{sql}");
        past
    }
}

/// Tables, and a condition.
pub fn choice(tables: &[&str], condition: Option<&str>) -> Choice {
    Choice { tables: tables.iter().map(|&name| name.to_owned()).collect(), condition: condition.map(str::to_owned) }
}

/// Executes SQL in a database that nobody has open afterwards.
#[track_caller]
pub fn execute(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// Rows of a query.
#[track_caller]
pub fn rows(path: &Path, sql: &str) -> Vec<Vec<Value>> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let width = statement.column_count();
    // Text may be anything but UTF-8 where a blob was made text.
    let value = |value: ValueRef<'_>| match value {
        ValueRef::Text(bytes) => {
            String::from_utf8(bytes.to_vec()).map_or_else(|_| Value::Blob(bytes.to_vec()), Value::Text)
        }
        other => other.try_into().unwrap(),
    };
    let found = statement.query_map([], |row| (0..width).map(|at| row.get_ref(at).map(value)).collect());
    found.unwrap().collect::<Result<_, _>>().unwrap()
}

/// A whole database as text: its schema and all rows of its ordinary tables, in an order that does not depend on how it was made.
#[track_caller]
pub fn dump(path: &Path) -> String {
    let connection = Connection::open(path).unwrap();
    let mut schema: Vec<String> = Vec::new();
    let mut statement =
        connection.prepare("SELECT type, name, coalesce(sql, '') FROM sqlite_schema ORDER BY 1, 2").unwrap();
    let mut found = statement.query([]).unwrap();
    let mut tables: Vec<String> = Vec::new();
    while let Some(row) = found.next().unwrap() {
        let (kind, name, sql): (String, String, String) =
            (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
        if kind == "table" {
            tables.push(name.clone());
        }
        schema.push(format!("{kind} {name} {sql}"));
    }
    for table in tables {
        let mut lines: Vec<String> =
            rows(path, &format!("SELECT * FROM \"{table}\"")).iter().map(|row| format!("{table} {row:?}")).collect();
        lines.sort();
        schema.extend(lines);
    }
    schema.join("\n")
}
