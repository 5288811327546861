//! What a restore of tables will do, before it does anything.
//!
//! A [`Plan`] is made from the past alone. It has every table with what belongs to it, in an order in which they can be made, and names what they depend on and do not get. What
//! cannot be done right is refused here, as far as the past's own words say so.

use std::collections::BTreeSet;
use std::fmt;

use rusqlite::config::DbConfig;
use rusqlite::types::Value;

use crate::sqlite::identifier::quoted;

use super::connection::{PAST, Work};
use super::error::TablesError;
use super::schema::{self, Object, Schema};
use super::sql::{self, Kind};

/// Which tables, and which rows.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Tables and views.
    pub tables: Vec<String>,
    /// An expression that is true for the rows to restore; for one table only.
    pub condition: Option<String>,
}

/// What the database as a whole is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Properties {
    /// Bytes of a page.
    pub page_size: u32,
    /// `UTF-8`, `UTF-16le` or `UTF-16be`.
    pub encoding: String,
    /// 0, 1 for full or 2 for incremental.
    pub auto_vacuum: u32,
    /// The application's own number for its schema.
    pub user_version: i32,
    /// Which application's file it is.
    pub application_id: i32,
}

/// How the rows of a table are carried over.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// An ordinary table's: one by one; with their rowid, by this name, if it has one.
    Stored {
        /// A name of the rowid that no column has.
        rowid: Option<&'static str>,
    },
    /// A virtual table's that can be read and written like rows.
    Virtual {
        /// How it calls a row's number, if it has it apart.
        rowid: Option<&'static str>,
        /// Settings of a full-text index, by name.
        settings: Vec<(String, Value)>,
    },
    /// A full-text index on the rows of this table, which is made anew.
    Rebuilt {
        /// Where its content is.
        content: String,
        /// Settings of the index, by name.
        settings: Vec<(String, Value)>,
    },
}

/// A table, with what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// As the schema has it.
    pub object: Object,
    /// Columns whose values are carried over: generated ones are not.
    pub columns: Vec<String>,
    /// Of these, the declared primary key.
    pub key: Vec<String>,
    /// How its rows are carried over.
    pub rows: Rows,
    /// Indexes that were made by a statement of their own.
    pub indexes: Vec<Object>,
    /// Triggers.
    pub triggers: Vec<Object>,
    /// The highest number that AUTOINCREMENT has given.
    pub counter: Option<i64>,
}

/// Something that is restored, and needs something that is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// What needs it, e.g. `foreign key of orders`.
    pub object: String,
    /// A table or view.
    pub needs: String,
    /// Whether the state has it, so that it can be restored too.
    pub is_there: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} needs {}", self.object, self.needs)?;
        if self.is_there { Ok(()) } else { f.write_str(", which the state does not have either") }
    }
}

/// See the module documentation.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What the database is like.
    pub properties: Properties,
    /// Tables: those that others are made of come first.
    pub tables: Vec<Table>,
    /// Views with their triggers.
    pub views: Vec<(Object, Vec<Object>)>,
    /// What is needed and neither chosen nor `present`.
    pub missing: Vec<Missing>,
    /// Which rows.
    pub condition: Option<String>,
}

/// Plans a restore of what is chosen, to a database that has the tables and views `present` already.
pub fn plan(work: &Work, choice: &Choice, present: &[String]) -> Result<Plan, TablesError> {
    let schema = Schema::read(work)?;
    let chosen = find(&schema, &choice.tables)?;
    if let Some(condition) = &choice.condition {
        check_condition(work, condition, &chosen)?;
    }
    let there: BTreeSet<String> = chosen
        .iter()
        .map(|object| object.name.to_ascii_lowercase())
        .chain(present.iter().map(|name| name.to_ascii_lowercase()))
        .collect();
    let (mut tables, mut views, mut missing) = (Vec::new(), Vec::new(), BTreeSet::new());
    for object in chosen {
        let triggers: Vec<Object> = schema.of_table(&object.name, Kind::Trigger).cloned().collect();
        missing.extend(needs(work, &schema, object, &triggers)?);
        if object.kind == Kind::View {
            views.push((object.clone(), triggers));
        } else {
            tables.push(table(work, &schema, object, triggers)?);
        }
    }
    // A full-text index is made when its content is there.
    tables.sort_by_key(|table| matches!(table.rows, Rows::Rebuilt { .. }));
    check_content(&tables, &there)?;
    missing.retain(|missing| !there.contains(&missing.needs.to_ascii_lowercase()));
    let missing = missing.into_iter().collect();
    Ok(Plan { properties: properties(work)?, tables, views, missing, condition: choice.condition.clone() })
}

/// What the past is like.
pub fn properties(work: &Work) -> Result<Properties, TablesError> {
    Ok(Properties {
        page_size: work.pragma(PAST, "page_size")?,
        encoding: work.pragma(PAST, "encoding")?,
        auto_vacuum: work.pragma(PAST, "auto_vacuum")?,
        user_version: work.pragma(PAST, "user_version")?,
        application_id: work.pragma(PAST, "application_id")?,
    })
}

/// So alike must a name be to be named instead, from 0 to 1.
const SIMILARITY: f64 = 0.75;

/// What is chosen, once each, in the order of the schema.
fn find<'a>(schema: &'a Schema, names: &[String]) -> Result<Vec<&'a Object>, TablesError> {
    let mut chosen = BTreeSet::new();
    for name in names {
        if schema::is_internal(name) {
            return Err(TablesError::refused(format!("table {name}"), "SQLite keeps it for itself"));
        }
        let Some(object) = schema.find(name) else { return Err(no_such_table(schema, name)) };
        if let Some(owner) = schema.owner_of_shadow(name) {
            let reason = format!("it holds data of the virtual table {0}: restore {0}", owner.name);
            return Err(TablesError::refused(format!("table {name}"), reason));
        }
        chosen.insert(object.name.as_str());
    }
    Ok(schema.objects.iter().filter(|object| object.has_rows() && chosen.contains(object.name.as_str())).collect())
}

fn no_such_table(schema: &Schema, name: &str) -> TablesError {
    let there = schema.names();
    let wanted = name.to_lowercase();
    let mut alike: Vec<(f64, &String)> =
        there.iter().map(|there| (strsim::jaro_winkler(&wanted, &there.to_lowercase()), there)).collect();
    alike.retain(|(likeness, _)| *likeness > SIMILARITY);
    alike.sort_by(|(left, _), (right, _)| right.total_cmp(left));
    let similar = alike.into_iter().take(3).map(|(_, there)| there.clone()).collect();
    TablesError::NoSuchTable { name: name.to_owned(), similar, there }
}

/// The condition as it stands in a statement. A comment at its end must not hide what follows.
pub fn clause(condition: Option<&str>) -> String {
    condition.map_or_else(String::new, |condition| format!(" WHERE ({condition}\n)"))
}

fn check_condition(work: &Work, condition: &str, chosen: &[&Object]) -> Result<(), TablesError> {
    let table = match chosen {
        [table] if table.kind != Kind::View => table,
        [view] => return Err(TablesError::ConditionFor(format!("the view {}", view.name))),
        several => return Err(TablesError::ConditionFor(format!("{} of them", several.len()))),
    };
    let wrong = |reason: String| TablesError::Condition { condition: condition.to_owned(), reason };
    sql::check_condition(condition).map_err(wrong)?;
    let sql = format!("SELECT 1 FROM {PAST}.{}{}", quoted(&table.name), clause(Some(condition)));
    // Text in double quotes is a name, and no string if there is no such column.
    let strings = |allowed| work.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, allowed);
    let prepared = strings(false).and_then(|_| work.connection.prepare(&sql));
    strings(true).map_err(|error| work.explain(&error, "set up SQLite", ""))?;
    match prepared {
        Ok(statement) if statement.readonly() && statement.parameter_count() == 0 => Ok(()),
        Ok(_) => Err(wrong("it does more than choose rows".to_owned())),
        Err(error) => match work.explain(&error, "", "") {
            TablesError::Sqlite { message, damaged: false, .. } => Err(wrong(message)),
            TablesError::Unknown { kind, name, .. } => Err(wrong(format!("there is no {kind} {name:?} here"))),
            other => Err(other),
        },
    }
}

fn table(work: &Work, schema: &Schema, object: &Object, triggers: Vec<Object>) -> Result<Table, TablesError> {
    let all = schema::columns(work, PAST, &object.name)?;
    let rows = match object.kind {
        Kind::VirtualTable => virtual_rows(work, object)?,
        _ if schema.is_without_rowid(&object.name) => Rows::Stored { rowid: None },
        _ => {
            let is_free = |name: &&str| !all.iter().any(|column| column.name.eq_ignore_ascii_case(name));
            Rows::Stored { rowid: ["rowid", "_rowid_", "oid"].into_iter().find(is_free) }
        }
    };
    let key = schema::key_of(&all);
    let columns: Vec<String> = all.into_iter().filter(|column| column.is_stored).map(|column| column.name).collect();
    if columns.is_empty() {
        return Err(TablesError::refused(object.describe(), "it has no column that could be carried over"));
    }
    let indexes = schema.of_table(&object.name, Kind::Index).filter(|index| index.sql.is_some()).cloned().collect();
    let counter = counter(work, schema, &object.name)?;
    Ok(Table { object: object.clone(), columns, key, rows, indexes, triggers, counter })
}

fn counter(work: &Work, schema: &Schema, table: &str) -> Result<Option<i64>, TablesError> {
    if schema.find("sqlite_sequence").is_none() {
        return Ok(None);
    }
    let sql = format!("SELECT max(seq) FROM {PAST}.sqlite_sequence WHERE name = ?1 AND typeof(seq) = 'integer'");
    Ok(work.rows(&sql, [table], "read sqlite_sequence", |row| row.get(0))?.into_iter().next().flatten())
}

fn virtual_rows(work: &Work, object: &Object) -> Result<Rows, TablesError> {
    let refused = |reason: &str| Err(TablesError::refused(object.describe(), reason));
    let Some((module, arguments)) = object.sql.as_deref().and_then(sql::module) else {
        return refused("its stored SQL is not as SQLite stores it");
    };
    let options: Vec<(String, String)> = arguments.iter().filter_map(|argument| sql::option(argument)).collect();
    let option = |name: &str| options.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    match module.to_ascii_lowercase().as_str() {
        "rtree" | "rtree_i32" => Ok(Rows::Virtual { rowid: None, settings: Vec::new() }),
        "fts5" if option("locale").is_some_and(|value| value != "0") => {
            refused("it keeps a locale with each text, which cannot be read out of it")
        }
        "fts5" => match option("content") {
            None => Ok(Rows::Virtual { rowid: Some("rowid"), settings: settings(work, object)? }),
            Some("") => {
                refused("it is a full-text index without content, so what it was made of cannot be read out of it")
            }
            Some(content) => Ok(Rows::Rebuilt { content: content.to_owned(), settings: settings(work, object)? }),
        },
        other => {
            refused(&format!("it is a virtual table of the module {other:?}, whose data only that module can copy"))
        }
    }
}

/// What was set in a full-text index after it was made.
fn settings(work: &Work, object: &Object) -> Result<Vec<(String, Value)>, TablesError> {
    let config = quoted(&format!("{}_config", object.name));
    let sql = format!("SELECT k, v FROM {PAST}.{config} WHERE k <> 'version' AND typeof(k) = 'text' ORDER BY k");
    work.rows(&sql, [], "read the settings of a full-text index", |row| Ok((row.get(0)?, row.get(1)?)))
}

fn check_content(tables: &[Table], there: &BTreeSet<String>) -> Result<(), TablesError> {
    for table in tables {
        if let Rows::Rebuilt { content, .. } = &table.rows
            && !there.contains(&content.to_ascii_lowercase())
        {
            let reason = format!("it is a full-text index on {content}: restore both");
            return Err(TablesError::refused(table.object.describe(), reason));
        }
    }
    Ok(())
}

/// What a table or view and its triggers refer to.
fn needs(work: &Work, schema: &Schema, object: &Object, triggers: &[Object]) -> Result<Vec<Missing>, TablesError> {
    let missing = |of: String, needs: &str| {
        let found = schema.find(needs);
        Missing { object: of, needs: found.map_or(needs, |found| &found.name).to_owned(), is_there: found.is_some() }
    };
    let mut all = Vec::new();
    if object.kind == Kind::Table {
        let sql = format!("PRAGMA {PAST}.foreign_key_list({})", quoted(&object.name));
        let parents = work.rows(&sql, [], "read the foreign keys of a table", |row| row.get::<_, String>("table"))?;
        all.extend(parents.iter().map(|parent| missing(format!("foreign key of {}", object.name), parent)));
    }
    if object.kind == Kind::View {
        all.extend(used_by_view(work, schema, object).iter().map(|used| missing(object.describe(), used)));
    }
    for (trigger, used) in used_by_triggers(work, schema, object, triggers)? {
        all.extend(used.iter().map(|used| missing(trigger.describe(), used)));
    }
    all.retain(|missing| !missing.needs.eq_ignore_ascii_case(&object.name) && !schema::is_internal(&missing.needs));
    // What a module keeps for itself comes with its virtual table.
    all.retain(|missing| schema.owner_of_shadow(&missing.needs).is_none());
    Ok(all)
}

/// Tables and views that a view reads, through other views too.
fn used_by_view(work: &Work, schema: &Schema, view: &Object) -> BTreeSet<String> {
    match work.uses_of(&format!("SELECT * FROM {PAST}.{}", quoted(&view.name))) {
        Some(uses) => uses.into_iter().flat_map(|used| [used.by, used.table]).collect(),
        None => mentioned(schema, view),
    }
}

fn used_by_triggers<'a>(
    work: &Work,
    schema: &Schema,
    object: &Object,
    triggers: &'a [Object],
) -> Result<Vec<(&'a Object, BTreeSet<String>)>, TablesError> {
    if triggers.is_empty() {
        return Ok(Vec::new());
    }
    let name = quoted(&object.name);
    let columns = schema::columns(work, PAST, &object.name)?;
    let same = columns.iter().filter(|column| column.is_stored).map(|column| quoted(&column.name));
    let same: Vec<String> = same.map(|column| format!("{column} = {column}")).collect();
    let mut statements =
        vec![format!("INSERT INTO {PAST}.{name} DEFAULT VALUES"), format!("DELETE FROM {PAST}.{name}")];
    if !same.is_empty() {
        statements.push(format!("UPDATE {PAST}.{name} SET {}", same.join(", ")));
    }
    let uses: Option<Vec<_>> = statements.iter().map(|statement| work.uses_of(statement)).collect();
    let Some(uses) = uses else {
        return Ok(triggers.iter().map(|trigger| (trigger, mentioned(schema, trigger))).collect());
    };
    let of = |trigger: &'a Object| {
        let own = uses.iter().flatten().filter(|used| used.by == trigger.name).map(|used| used.table.clone());
        // What a view reads is noted for the view.
        let views = uses.iter().flatten().map(|used| &used.by);
        let is_view = |by: &&String| schema.find(by).is_some_and(|found| found.kind == Kind::View);
        let sql = trigger.sql.as_deref().unwrap_or_default();
        let views = views.filter(is_view).filter(|by| sql::mentions(sql, by)).cloned();
        (trigger, own.chain(views).collect())
    };
    Ok(triggers.iter().map(of).collect())
}

/// Tables and views whose names occur in the statement that made it.
fn mentioned(schema: &Schema, object: &Object) -> BTreeSet<String> {
    let sql = object.sql.as_deref().unwrap_or_default();
    let others = schema.objects.iter().filter(|other| other.has_rows());
    others.filter(|other| sql::mentions(sql, &other.name)).map(|other| other.name.clone()).collect()
}
