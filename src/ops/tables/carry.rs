//! Makes the planned tables in the new database and carries their rows over.
//!
//! A stored statement is executed only after it was taken apart ([`sql::qualified`]), and what SQLite then has stored for it must be the same text. Triggers are
//! made last by whoever calls this, so that none fires for what is carried over.

use crate::sqlite::identifier::quoted;

use super::connection::{NEW, PAST, Work};
use super::error::TablesError;
use super::plan::{Rows, Table, clause};
use super::schema::Object;
use super::sql::{self, list};

/// Makes a table, an index, a trigger or a view as it was in the past.
pub fn make(work: &Work, object: &Object) -> Result<(), TablesError> {
    let Some(sql) = &object.sql else { return Ok(()) };
    let qualified = sql::qualified(sql, object.kind, &object.name, NEW);
    let qualified = qualified.map_err(|reason| TablesError::refused(object.describe(), reason))?;
    work.execute(&qualified, [], "make", &object.describe())?;
    let stored = format!("SELECT sql FROM {NEW}.sqlite_schema WHERE name = ?1 AND tbl_name = ?2");
    let made = work
        .rows(&stored, [&object.name, &object.table], "read the new schema", |row| row.get::<_, Option<String>>(0))?;
    if made.iter().flatten().any(|made| made == sql) {
        return Ok(());
    }
    Err(TablesError::refused(object.describe(), "what its stored SQL makes is something else"))
}

/// Carries a table's rows over into one that was just made; returns how many.
pub fn carry_rows(work: &Work, table: &Table, condition: Option<&str>) -> Result<u64, TablesError> {
    let name = quoted(&table.object.name);
    let (rowid, settings) = match &table.rows {
        Rows::Stored { rowid } => (*rowid, &[][..]),
        Rows::Virtual { rowid, settings } => (*rowid, settings.as_slice()),
        Rows::Rebuilt { settings, .. } => (None, settings.as_slice()),
    };
    for (setting, value) in settings {
        let sql = format!("INSERT INTO {NEW}.{name} ({name}, rank) VALUES (?1, ?2)");
        work.execute(&sql, (setting, value), "set up", &table.object.describe())?;
    }
    if let Rows::Rebuilt { .. } = table.rows {
        let sql = format!("INSERT INTO {NEW}.{name} ({name}) VALUES ('rebuild')");
        work.execute(&sql, [], "make the index of", &table.object.describe())?;
        let sql = format!("SELECT count(*) FROM {NEW}.{name}");
        let rows = work.rows(&sql, [], "count rows", |row| row.get::<_, i64>(0))?;
        return Ok(rows.first().map_or(0, |rows| rows.unsigned_abs()));
    }
    let columns = list(rowid.into_iter().chain(table.columns.iter().map(String::as_str)));
    let is_stored = matches!(table.rows, Rows::Stored { .. });
    // In the order of the table, not in that of an index that happens to have all columns; unless the condition can use one.
    let order = if is_stored && condition.is_none() { " NOT INDEXED" } else { "" };
    let sql =
        format!("INSERT INTO {NEW}.{name} ({columns}) SELECT {columns} FROM {PAST}.{name}{order}{}", clause(condition));
    let rows = work.execute(&sql, [], "carry over the rows of", &table.object.describe())?;
    set_counter(work, table)?;
    Ok(rows)
}

fn set_counter(work: &Work, table: &Table) -> Result<(), TablesError> {
    let counts = table.object.sql.as_deref().is_some_and(|sql| sql::mentions(sql, "AUTOINCREMENT"));
    let Some(counter) = table.counter.filter(|_| counts) else { return Ok(()) };
    let (name, object) = (&table.object.name, table.object.describe());
    let update = format!("UPDATE {NEW}.sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1");
    if work.execute(&update, (name, counter), "set the counter of", &object)? == 0 {
        let insert = format!("INSERT INTO {NEW}.sqlite_sequence (name, seq) VALUES (?1, ?2)");
        work.execute(&insert, (name, counter), "set the counter of", &object)?;
    }
    Ok(())
}

/// Names of tables and views that the new database has.
pub fn present(work: &Work) -> Result<Vec<String>, TablesError> {
    let sql = format!("SELECT name FROM {NEW}.sqlite_schema WHERE type IN ('table', 'view')");
    work.rows(&sql, [], "read the schema of the database", |row| row.get(0))
}

/// Names of tables of the new database that have foreign keys.
pub fn with_foreign_keys(work: &Work) -> Result<Vec<(String, Vec<String>)>, TablesError> {
    let sql =
        format!("SELECT name FROM {NEW}.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'");
    let tables: Vec<String> = work.rows(&sql, [], "read the schema of the database", |row| row.get(0))?;
    let mut found = Vec::new();
    for table in tables {
        let sql = format!("PRAGMA {NEW}.foreign_key_list({})", quoted(&table));
        let parents = work.rows(&sql, [], "read the foreign keys of a table", |row| row.get("table"))?;
        if !parents.is_empty() {
            found.push((table, parents));
        }
    }
    Ok(found)
}
