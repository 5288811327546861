//! What the past says about itself: its tables, views, indexes and triggers, and what kind of table each is.

use std::collections::HashMap;

use crate::sqlite::identifier::quoted;

use super::connection::{PAST, Work};
use super::error::TablesError;
use super::sql::{self, Kind};

/// A table, view, index or trigger, as `sqlite_schema` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The table or view that it belongs to; its own name if it is one.
    pub table: String,
    /// What created it; `None` for an index that SQLite makes by itself.
    pub sql: Option<String>,
}

impl Object {
    /// As a person says it.
    pub fn describe(&self) -> String {
        format!("{} {}", self.kind.name(), self.name)
    }

    /// Whether it is a table or a view.
    pub fn has_rows(&self) -> bool {
        matches!(self.kind, Kind::Table | Kind::VirtualTable | Kind::View)
    }
}

/// What a column of a table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its place in the primary key, from 1; 0 if it is not in it.
    pub key: u32,
    /// Whether its value is stored as it is given: neither generated nor a virtual table's handle.
    pub is_stored: bool,
}

/// See the module documentation.
pub struct Schema {
    /// In the order in which they were created.
    pub objects: Vec<Object>,
    /// Of tables, by name: whether it has no rowid, and whether it is a shadow of a virtual table.
    traits: HashMap<String, (bool, bool)>,
}

impl Schema {
    /// Reads the past's.
    pub fn read(work: &Work) -> Result<Self, TablesError> {
        let sql = format!("SELECT type, name, tbl_name, sql FROM {PAST}.sqlite_schema ORDER BY rowid");
        let rows = work.rows(&sql, [], "read the schema of the state", |row| {
            let text = |at: usize| Ok::<_, rusqlite::Error>(row.get_ref(at)?.as_str().ok().map(str::to_owned));
            Ok((text(0)?, text(1)?, text(2)?, text(3)?))
        })?;
        let mut objects = Vec::new();
        for (kind, name, table, sql) in rows {
            let is_virtual = sql.as_deref().is_some_and(|sql| sql::module(sql).is_some());
            let kind = match kind.as_deref() {
                Some("table") if is_virtual => Kind::VirtualTable,
                Some("table") => Kind::Table,
                Some("index") => Kind::Index,
                Some("trigger") => Kind::Trigger,
                Some("view") => Kind::View,
                _ => continue,
            };
            let (Some(name), Some(table)) = (name, table) else {
                return Err(TablesError::refused("this state", format!("the name of a {} is no text", kind.name())));
            };
            objects.push(Object { kind, name, table, sql });
        }
        Ok(Self { objects, traits: read_traits(work)? })
    }

    /// The table or view of that name, which SQLite takes in any case.
    pub fn find(&self, name: &str) -> Option<&Object> {
        self.objects.iter().find(|object| object.has_rows() && object.name.eq_ignore_ascii_case(name))
    }

    /// What of that kind belongs to a table or view.
    pub fn of_table<'a>(&'a self, table: &'a str, kind: Kind) -> impl Iterator<Item = &'a Object> {
        self.objects.iter().filter(move |object| object.kind == kind && object.table.eq_ignore_ascii_case(table))
    }

    /// Names of tables and views that a person may mean.
    pub fn names(&self) -> Vec<String> {
        let all = self.objects.iter().filter(|object| object.has_rows());
        let own = all.filter(|object| !is_internal(&object.name) && self.owner_of_shadow(&object.name).is_none());
        own.map(|object| object.name.clone()).collect()
    }

    /// Whether a table has no rowid.
    pub fn is_without_rowid(&self, name: &str) -> bool {
        self.traits.get(&name.to_ascii_lowercase()).is_some_and(|(without_rowid, _)| *without_rowid)
    }

    /// The virtual table whose data the table holds, if it does.
    pub fn owner_of_shadow(&self, name: &str) -> Option<&Object> {
        let (_, is_shadow) = self.traits.get(&name.to_ascii_lowercase())?;
        let virtual_tables = self.objects.iter().filter(|object| *is_shadow && object.kind == Kind::VirtualTable);
        let owns = |object: &&Object| {
            let begin = name.get(..object.name.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(&object.name))
                && name[object.name.len()..].starts_with('_')
        };
        virtual_tables.filter(owns).max_by_key(|object| object.name.len())
    }
}

/// Whether SQLite keeps the name for itself.
pub fn is_internal(name: &str) -> bool {
    name.get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case("sqlite_"))
}

fn read_traits(work: &Work) -> Result<HashMap<String, (bool, bool)>, TablesError> {
    let sql = format!("SELECT name, type, wr FROM {PAST}.pragma_table_list WHERE schema = '{PAST}'");
    let rows = work.rows(&sql, [], "read the schema of the state", |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?))
    })?;
    let traits = rows
        .into_iter()
        .map(|(name, kind, without_rowid)| (name.to_ascii_lowercase(), (without_rowid, kind == "shadow")));
    Ok(traits.collect())
}

/// The columns of a table or view of an attached database.
pub fn columns(work: &Work, schema: &str, table: &str) -> Result<Vec<Column>, TablesError> {
    let sql = format!("PRAGMA {schema}.table_xinfo({})", quoted(table));
    let found = work.rows(&sql, [], "read the columns of a table", |row| {
        let (name, key, hidden) = (row.get("name")?, row.get("pk")?, row.get::<_, u32>("hidden")?);
        Ok(Column { name, key, is_stored: hidden == 0 })
    })?;
    Ok(found)
}

/// The names of the columns of the primary key, in its order.
pub fn key_of(columns: &[Column]) -> Vec<String> {
    let mut key: Vec<&Column> = columns.iter().filter(|column| column.key > 0).collect();
    key.sort_by_key(|column| column.key);
    key.into_iter().map(|column| column.name.clone()).collect()
}
