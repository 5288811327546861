//! The difference as SQL: a script that leads from the first state to the second, in one transaction.
//!
//! # Guarantees
//! * Run on the first state, it gives a database with the second's schema and rows, each with its rowid and each value the very same; where a statement cannot do that, a comment says so
//!   and so does a returned notice.
//! * Constraints that hold in the second state do not get in the way: rows go before others come, a row of a table with unique indexes is replaced instead of updated, foreign keys are
//!   off, unique indexes that are new come after the rows, and triggers on tables whose rows change are dropped before and made again at the end.
//!
//! Rows are streamed, twice for each table whose rows differ.

use std::collections::BTreeSet;

use crate::sqlite::identifier::quoted;
use crate::sqlite::record::Value;

use super::rows::{Columns, Row, RowChange};
use super::schema::{Object, Storage, Table};
use super::value::literal;
use super::{Diff, DiffError, SchemaChange, TablePair};

/// Takes the script, a statement or a comment at a time, each with its line end.
pub type Out<'a> = dyn FnMut(&str) -> Result<(), DiffError> + 'a;

/// Writes the script for all tables, or for the one named `only`; returns what it does not do.
pub fn write(diff: &Diff<'_>, only: Option<&str>, out: &mut Out<'_>) -> Result<Vec<String>, DiffError> {
    let mut script = Script { diff, only, out, notices: Vec::new(), dropped: BTreeSet::new(), has_changes: false };
    script.out("PRAGMA foreign_keys=OFF;\nBEGIN;\n")?;
    script.settings()?;
    script.drops()?;
    script.tables()?;
    script.rows()?;
    script.internal_tables()?;
    for kind in ["index", "view", "trigger"] {
        script.make(kind)?;
    }
    script.out("COMMIT;\n")?;
    Ok(script.notices)
}

struct Script<'d, 'o> {
    diff: &'d Diff<'d>,
    only: Option<&'d str>,
    out: &'o mut Out<'o>,
    notices: Vec<String>,
    /// What is no longer there at this point of the script: kind and name in lower case.
    dropped: BTreeSet<(String, String)>,
    has_changes: bool,
}

impl<'d> Script<'d, '_> {
    fn out(&mut self, text: &str) -> Result<(), DiffError> {
        (self.out)(text)
    }

    fn statement(&mut self, text: &str) -> Result<(), DiffError> {
        self.has_changes = true;
        (self.out)(&format!("{text};\n"))
    }

    fn notice(&mut self, text: String) -> Result<(), DiffError> {
        // A comment ends with its line.
        self.out(&format!("-- {}\n", text.replace(['\n', '\r'], " ")))?;
        self.notices.push(text);
        Ok(())
    }

    fn concerns(&self, table: &str) -> bool {
        self.only.is_none_or(|only| only.eq_ignore_ascii_case(table))
    }

    /// Whether an object belongs to the content of a virtual table.
    fn is_content(&self, object: &Object) -> bool {
        let owned = |table: &Table| table.owner.is_some();
        self.diff.schemas().iter().any(|schema| schema.table(&object.table).is_some_and(owned))
    }

    fn is_virtual(&self, object: &Object) -> bool {
        let is_virtual = |table: &Table| table.storage == Storage::Virtual;
        object.kind == "table"
            && self.diff.schemas().iter().any(|schema| schema.table(&object.name).is_some_and(is_virtual))
    }

    fn settings(&mut self) -> Result<(), DiffError> {
        if self.diff.encodings[0] != self.diff.encodings[1] {
            self.notice("the text encoding differs, which no statement changes".to_owned())?;
        }
        for pragma in ["user_version", "application_id"] {
            let ask = |at: usize| -> Result<i64, DiffError> {
                Ok(self.diff.states[at].connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))?)
            };
            let (from, to) = (ask(0)?, ask(1)?);
            if from != to && self.only.is_none() {
                self.statement(&format!("PRAGMA {pragma}={to}"))?;
            }
        }
        Ok(())
    }

    fn drops(&mut self) -> Result<(), DiffError> {
        for kind in ["trigger", "view", "index", "table"] {
            for change in self.diff.schema_changes() {
                let (SchemaChange::Dropped(object) | SchemaChange::Altered { from: object, .. }) = &change else {
                    continue;
                };
                if object.kind != kind || !self.concerns(&object.table) || self.is_content(object) {
                    continue;
                }
                let is_altered = matches!(change, SchemaChange::Altered { .. });
                if is_altered && self.is_virtual(object) {
                    self.notice(format!("the virtual table {} is declared otherwise, which is left out", object.name))?;
                } else if object.name.eq_ignore_ascii_case("sqlite_sequence") {
                    self.out("-- sqlite_sequence stays, empty\n")?;
                } else {
                    self.drop(object)?;
                }
            }
        }
        Ok(())
    }

    fn drop(&mut self, object: &Object) -> Result<(), DiffError> {
        self.statement(&format!("DROP {} IF EXISTS {}", object.kind.to_ascii_uppercase(), quoted(&object.name)))?;
        self.note_dropped(object);
        if object.kind == "table" || object.kind == "view" {
            let [before, _] = self.diff.schemas();
            let goes_along = |other: &&Object| other.table.eq_ignore_ascii_case(&object.name) && other.kind != "table";
            before.objects.iter().filter(goes_along).for_each(|other| self.note_dropped(other));
        }
        Ok(())
    }

    fn note_dropped(&mut self, object: &Object) {
        self.dropped.insert((object.kind.clone(), object.name.to_ascii_lowercase()));
    }

    /// Whether an object of the second state has to be made at the end of the script.
    fn is_missing(&self, object: &Object) -> bool {
        let was = self.diff.schemas()[0].object(&object.kind, &object.name);
        was != Some(object) || self.dropped.contains(&(object.kind.clone(), object.name.to_ascii_lowercase()))
    }

    fn tables(&mut self) -> Result<(), DiffError> {
        for object in self.missing("table") {
            if is_internal(&object.name) || self.is_content(&object) {
                continue;
            }
            if !self.is_virtual(&object) {
                self.statement(object.sql.as_deref().unwrap_or_default())?;
            } else if self.diff.schemas()[0].table(&object.name).is_none() {
                self.notice(format!("the virtual table {} is new and left out, its content included", object.name))?;
            }
        }
        Ok(())
    }

    fn missing(&self, kind: &str) -> Vec<Object> {
        let is_meant = |object: &&Object| {
            object.kind == kind && object.sql.is_some() && self.concerns(&object.table) && self.is_missing(object)
        };
        self.diff.schemas()[1].objects.iter().filter(is_meant).cloned().collect()
    }

    fn make(&mut self, kind: &str) -> Result<(), DiffError> {
        for object in self.missing(kind) {
            if !self.is_content(&object) {
                self.statement(object.sql.as_deref().unwrap_or_default())?;
            }
        }
        Ok(())
    }

    fn rows(&mut self) -> Result<(), DiffError> {
        let mut changed_owners = BTreeSet::new();
        for pair in self.diff.tables() {
            let [was, Some(table)] = &pair.tables else { continue };
            if let Some(owner) = &table.owner {
                if self.concerns(owner) && was.is_some() && !self.diff.count(pair)?.is_zero() {
                    changed_owners.insert(owner.clone());
                }
            } else if is_internal(&table.name) || table.storage == Storage::Virtual || !self.concerns(&table.name) {
                continue;
            } else if pair.is_opaque() {
                self.notice(format!("rows of {} cannot be told apart and are left out", table.name))?;
            } else if pair.is_redefined() {
                self.fill(table)?;
            } else {
                self.change_rows(pair, table)?;
            }
        }
        for owner in changed_owners {
            self.notice(format!("the content of the virtual table {owner} changed, which is left out"))?;
        }
        Ok(())
    }

    /// Inserts all rows that the second state has.
    fn fill(&mut self, table: &Table) -> Result<(), DiffError> {
        let Some(columns) = Columns::of(table, table) else { return Ok(()) };
        self.diff.all_rows(table, &mut |change| match change {
            RowChange::Added(row) => self.statement(&insert(table, &columns, &row)),
            _ => Ok(()),
        })
    }

    fn change_rows(&mut self, pair: &TablePair, table: &Table) -> Result<(), DiffError> {
        if self.diff.count(pair)?.is_zero() {
            return Ok(());
        }
        self.silence(table)?;
        let columns = &pair.columns;
        self.diff.compare(pair, &mut |change| match change {
            RowChange::Removed(row) => self.statement(&delete(table, &row)),
            RowChange::Changed { from, .. } if table.has_unique_index => self.statement(&delete(table, &from)),
            _ => Ok(()),
        })?;
        self.diff.compare(pair, &mut |change| match change {
            RowChange::Added(row) => self.statement(&insert(table, columns, &row)),
            RowChange::Changed { to, .. } if table.has_unique_index => self.statement(&insert(table, columns, &to)),
            RowChange::Changed { from, to } => self.statement(&update(table, columns, &from, &to)),
            RowChange::Removed(_) => Ok(()),
        })
    }

    /// Drops the triggers of a table that are still there.
    fn silence(&mut self, table: &Table) -> Result<(), DiffError> {
        let [before, _] = self.diff.schemas();
        let fires = |object: &&Object| object.kind == "trigger" && object.table.eq_ignore_ascii_case(&table.name);
        for trigger in before.objects.iter().filter(fires) {
            if !self.dropped.contains(&(trigger.kind.clone(), trigger.name.to_ascii_lowercase())) {
                self.drop(trigger)?;
            }
        }
        Ok(())
    }

    /// Tables that SQLite keeps for itself: statements above may have changed them, so they are written anew.
    fn internal_tables(&mut self) -> Result<(), DiffError> {
        let [before, after] = self.diff.schemas();
        let is_meant = |table: &&Table| is_internal(&table.name) && self.concerns(&table.name);
        let tables: Vec<&Table> = after.tables.iter().filter(is_meant).collect();
        let is_statistics = |table: &&Table| !table.name.eq_ignore_ascii_case("sqlite_sequence");
        if tables.iter().filter(|table| is_statistics(table)).any(|table| before.table(&table.name).is_none()) {
            self.statement("ANALYZE sqlite_schema")?;
        }
        let mut differs = self.has_changes;
        for pair in self.diff.tables().iter().filter(|pair| is_internal(pair.name()) && self.concerns(pair.name())) {
            differs |= !self.diff.count(pair)?.is_zero();
        }
        if !differs {
            return Ok(());
        }
        for table in tables {
            if !is_statistics(&table) && before.table(&table.name).is_none() {
                // Only such a table makes it.
                self.statement("CREATE TABLE continuum_counted (id INTEGER PRIMARY KEY AUTOINCREMENT)")?;
                self.statement("DROP TABLE continuum_counted")?;
            }
            self.statement(&format!("DELETE FROM {}", quoted(&table.name)))?;
            self.fill(table)?;
        }
        if after.table("sqlite_sequence").is_none() && before.table("sqlite_sequence").is_some() && self.only.is_none()
        {
            self.statement("DELETE FROM sqlite_sequence")?;
        }
        Ok(())
    }
}

/// Whether SQLite keeps the table for itself.
pub fn is_internal(name: &str) -> bool {
    name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
}

fn insert(table: &Table, columns: &Columns, row: &Row) -> String {
    let rowid = if table.storage == Storage::Rowid && !table.rowid_is_column { columns.key.first() } else { None };
    let names: Vec<String> = rowid.into_iter().chain(&columns.names).map(|name| quoted(name)).collect();
    let values = rowid.and(row.key.first()).into_iter().chain(&row.values).map(literal).collect::<Vec<_>>();
    format!("INSERT INTO {} ({}) VALUES ({})", quoted(&table.name), names.join(", "), values.join(", "))
}

fn delete(table: &Table, row: &Row) -> String {
    format!("DELETE FROM {} WHERE {}", quoted(&table.name), key_is(table, &row.key))
}

fn update(table: &Table, columns: &Columns, from: &Row, to: &Row) -> String {
    let pairs = columns.names.iter().zip(from.values.iter().zip(&to.values));
    let sets = pairs.filter(|(_, (from, to))| from != to);
    let sets: Vec<String> = sets.map(|(name, (_, to))| format!("{} = {}", quoted(name), literal(to))).collect();
    format!("UPDATE {} SET {} WHERE {}", quoted(&table.name), sets.join(", "), key_is(table, &from.key))
}

fn key_is(table: &Table, key: &[Value]) -> String {
    if let Some(rowid) = &table.rowid {
        return format!("{} = {}", quoted(rowid), key.first().map_or_else(|| "NULL".to_owned(), literal));
    }
    let collation =
        |at: usize| table.collations.get(at).map_or(String::new(), |name| format!(" COLLATE {}", quoted(name)));
    let parts = table.key_columns().zip(key).enumerate();
    let parts =
        parts.map(|(at, (column, value))| format!("{}{} = {}", quoted(&column.name), collation(at), literal(value)));
    parts.collect::<Vec<_>>().join(" AND ")
}
