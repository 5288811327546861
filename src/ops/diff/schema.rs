//! What a schema says of its tables: how rows are stored, which columns they have, and what tells one row from another.
//!
//! SQLite reads the schema; nothing is parsed here.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::base::page::PageNo;

use super::DiffError;

/// An object of the schema, as `sqlite_schema` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// "table", "index", "view" or "trigger".
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The table that it belongs to.
    pub table: String,
    /// The statement that makes it; none for indexes that a constraint makes.
    pub sql: Option<String>,
}

/// How a table's rows are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// By rowid.
    Rowid,
    /// By primary key.
    WithoutRowid,
    /// By a module, in shadow tables or elsewhere.
    Virtual,
}

/// A column that is stored: generated ones follow from these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its declared type.
    pub declared: String,
    /// What stands for it in rows that are older than the column.
    pub default: Option<String>,
    /// Its position among those that are stored.
    pub position: usize,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The statement that makes it.
    pub sql: String,
    /// Where its B-tree begins.
    pub root: PageNo,
    /// How rows are stored.
    pub storage: Storage,
    /// The virtual table that stores its content here.
    pub owner: Option<String>,
    /// Columns that are stored.
    pub columns: Vec<Column>,
    /// Positions, among `columns`, of the primary key's, in its order. A WITHOUT ROWID table is stored by it.
    pub primary_key: Vec<usize>,
    /// The collations that a WITHOUT ROWID table's primary key is ordered by.
    pub collations: Vec<String>,
    /// How SQL calls the rowid: by its column's name, or by one that no column hides.
    pub rowid: Option<String>,
    /// Whether the rowid is a column.
    pub rowid_is_column: bool,
    /// Whether an index beside that of the primary key is unique.
    pub has_unique_index: bool,
}

/// A schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// All objects.
    pub objects: Vec<Object>,
    /// Its tables, in the schema's order.
    pub tables: Vec<Table>,
}

impl Schema {
    /// Reads it.
    pub fn read(connection: &Connection) -> Result<Self, DiffError> {
        let mut schema = Self::default();
        let kinds = table_kinds(connection, None)?;
        let mut statement = connection.prepare("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let object = Object { kind: row.get(0)?, name: row.get(1)?, table: row.get(2)?, sql: row.get(4)? };
            if object.kind == "table" {
                let root: Option<i64> = row.get(3)?;
                let root = PageNo(root.and_then(|root| u32::try_from(root).ok()).unwrap_or(0));
                let kind = kinds.get(&object.name.to_ascii_lowercase());
                schema.tables.push(table(connection, &object, root, kind)?);
            }
            schema.objects.push(object);
        }
        schema.find_owners(&kinds);
        Ok(schema)
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }

    /// The object of that kind and name.
    pub fn object(&self, kind: &str, name: &str) -> Option<&Object> {
        self.objects.iter().find(|object| object.kind == kind && object.name.eq_ignore_ascii_case(name))
    }

    fn find_owners(&mut self, kinds: &HashMap<String, TableKind>) {
        let is_virtual = |table: &&Table| table.storage == Storage::Virtual;
        let owners: Vec<String> = self.tables.iter().filter(is_virtual).map(|table| table.name.clone()).collect();
        for table in &mut self.tables {
            let name = table.name.to_ascii_lowercase();
            if kinds.get(&name).is_some_and(|kind| kind.is_shadow) {
                let owns = |owner: &&String| name.starts_with(&format!("{}_", owner.to_ascii_lowercase()));
                table.owner = owners.iter().filter(owns).max_by_key(|owner| owner.len()).cloned();
            }
        }
    }
}

/// What `PRAGMA table_list` says.
struct TableKind {
    is_virtual: bool,
    is_shadow: bool,
    without_rowid: bool,
}

impl Table {
    /// The table of that name, if there is one.
    pub fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare(
            "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE type = 'table' AND lower(name) = lower(?1)",
        )?;
        let mut rows = statement.query([name])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let object = Object { kind: row.get(0)?, name: row.get(1)?, table: row.get(2)?, sql: row.get(3)? };
        let kind = table_kinds(connection, Some(&object.name))?.into_values().next();
        table(connection, &object, PageNo(1), kind.as_ref()).map(Some)
    }
}

/// Of all tables, or of one.
fn table_kinds(connection: &Connection, name: Option<&str>) -> rusqlite::Result<HashMap<String, TableKind>> {
    let from = if name.is_some() { "pragma_table_list(?1)" } else { "pragma_table_list" };
    let sql = format!("SELECT lower(name), type, wr FROM {from} WHERE schema = 'main'");
    let mut statement = connection.prepare(&sql)?;
    let kinds = statement.query_map(rusqlite::params_from_iter(name), |row| {
        let kind: String = row.get(1)?;
        let (is_virtual, is_shadow) = (kind == "virtual", kind == "shadow");
        Ok((row.get(0)?, TableKind { is_virtual, is_shadow, without_rowid: row.get(2)? }))
    })?;
    kinds.collect()
}

fn table(connection: &Connection, object: &Object, root: PageNo, kind: Option<&TableKind>) -> rusqlite::Result<Table> {
    let storage = match kind {
        Some(TableKind { is_virtual: true, .. }) => Storage::Virtual,
        None if root.0 == 0 => Storage::Virtual,
        Some(TableKind { without_rowid: true, .. }) => Storage::WithoutRowid,
        _ => Storage::Rowid,
    };
    let mut table = Table {
        name: object.name.clone(),
        sql: object.sql.clone().unwrap_or_default(),
        root,
        storage,
        owner: None,
        columns: Vec::new(),
        primary_key: Vec::new(),
        collations: Vec::new(),
        rowid: None,
        rowid_is_column: false,
        has_unique_index: false,
    };
    if storage != Storage::Virtual {
        read_columns(connection, &mut table)?;
    }
    Ok(table)
}

fn read_columns(connection: &Connection, table: &mut Table) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare("SELECT name, type, dflt_value, pk, hidden FROM pragma_table_xinfo(?1, 'main')")?;
    let mut rows = statement.query([&table.name])?;
    let (mut key, mut names) = (Vec::new(), Vec::new());
    let mut position = 0;
    while let Some(row) = rows.next()? {
        let (name, pk, hidden): (String, u32, u32) = (row.get(0)?, row.get(3)?, row.get(4)?);
        names.push(name.to_ascii_lowercase());
        // 2: generated when it is read; 3: generated and stored.
        if hidden == 0 {
            if pk > 0 {
                key.push((pk, table.columns.len()));
            }
            let (declared, default) = (row.get(1)?, row.get(2)?);
            table.columns.push(Column { name, declared, default, position });
        }
        position += usize::from(hidden != 2);
    }
    key.sort_unstable();
    table.primary_key = key.into_iter().map(|(_, at)| at).collect();
    let has_key_index = read_indexes(connection, table)?;
    if table.storage == Storage::Rowid {
        match table.primary_key[..] {
            [only] if !has_key_index && table.columns[only].declared.eq_ignore_ascii_case("integer") => {
                table.rowid = Some(table.columns[only].name.clone());
                table.rowid_is_column = true;
            }
            _ => {
                let is_free = |name: &&str| !names.iter().any(|taken| taken == name);
                table.rowid = ["rowid", "oid", "_rowid_"].into_iter().find(is_free).map(str::to_owned);
            }
        }
    }
    Ok(())
}

/// What the indexes say; whether one of them is the primary key's.
fn read_indexes(connection: &Connection, table: &mut Table) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare("SELECT name, origin, \"unique\" FROM pragma_index_list(?1, 'main')")?;
    let indexes = statement.query_map([&table.name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let indexes: Vec<(String, String, bool)> = indexes.collect::<Result<_, _>>()?;
    let is_stored_by_key = table.storage == Storage::WithoutRowid;
    let counts = |(_, origin, unique): &(String, String, bool)| *unique && !(is_stored_by_key && origin == "pk");
    table.has_unique_index = indexes.iter().any(counts);
    let key_index = indexes.iter().find(|(_, origin, _)| origin == "pk");
    if let Some((name, ..)) = key_index.filter(|_| is_stored_by_key) {
        let mut statement = connection.prepare("SELECT coll FROM pragma_index_xinfo(?1, 'main') WHERE key")?;
        let collations = statement.query_map([name], |row| row.get(0))?;
        table.collations = collations.collect::<Result<_, _>>()?;
    }
    Ok(key_index.is_some())
}

impl Table {
    /// Whether a page of rows means the same in both: columns that both have lie at the same place, with the same type and the same default.
    pub fn reads_like(&self, other: &Self) -> bool {
        if self.sql == other.sql {
            return true;
        }
        let alike = |column: &Column| {
            let there = other.column(&column.name).map(|at| &other.columns[at]);
            there.is_none_or(|there| {
                (there.position, &there.declared, &there.default)
                    == (column.position, &column.declared, &column.default)
            })
        };
        // The order of a WITHOUT ROWID table has collations, which are not looked at here.
        self.storage == Storage::Rowid
            && other.storage == Storage::Rowid
            && self.rowid_column() == other.rowid_column()
            && self.columns.iter().all(alike)
    }

    /// Whether a row of one can be told to be a row of the other.
    pub fn has_key_of(&self, other: &Self) -> bool {
        let names =
            |table: &Self| table.key_columns().map(|column| column.name.to_ascii_lowercase()).collect::<Vec<_>>();
        match (self.storage, other.storage) {
            (Storage::Rowid, Storage::Rowid) => self.rowid.is_some() && other.rowid.is_some(),
            (Storage::WithoutRowid, Storage::WithoutRowid) => names(self) == names(other),
            _ => false,
        }
    }

    fn rowid_column(&self) -> Option<usize> {
        self.primary_key.first().copied().filter(|_| self.rowid_is_column).map(|at| self.columns[at].position)
    }

    /// The columns of the primary key, in its order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.primary_key.iter().map(|&at| &self.columns[at])
    }

    /// The position of a column among those that are stored.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
    }
}
