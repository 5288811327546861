//! Merges tables into a database that exists and that others may be using.
//!
//! # Guarantees
//! * One transaction of SQLite's: a kill, an error or the user's wish to stop leave the database as it was. Its settings stay, its journal mode too.
//! * A table that is not there is made, with its indexes and triggers. One that is must have the same columns and the same primary key.
//! * Triggers of the database fire as for any insert or update, unless they are turned off, and are named. Cascades of foreign keys don't, for nothing is deleted.
//! * Foreign keys are checked before the commit, in every table that this can have touched: what was violated before may stay so, nothing new may be.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;

use crate::monitor::Monitor;
use crate::sqlite::uri::uri_of;

use super::carry::{carry_rows, make, present, with_foreign_keys};
use super::connection::{NEW, Past, Work};
use super::error::TablesError;
use super::orphans::Orphanage;
use super::plan::{Choice, Missing, Plan, Rows, Table, plan, properties};
use super::rows::{OnConflict, Tally, merge_rows};
use super::schema::{self, Object};
use super::sql::{self, Kind};

/// How to merge.
#[derive(Clone, Copy, Debug)]
pub struct MergeOptions {
    /// What to do with rows that are there and differ.
    pub on_conflict: OnConflict,
    /// Whether triggers fire.
    pub triggers: bool,
    /// How long to wait for other connections' locks.
    pub busy_timeout: Duration,
}

/// A table that was merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedTable {
    /// Its name.
    pub name: String,
    /// Whether it was made.
    pub is_new: bool,
    /// What became of its rows.
    pub tally: Tally,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The tables.
    pub tables: Vec<MergedTable>,
    /// Views that were made.
    pub views: Vec<String>,
    /// What they need and the database does not have.
    pub missing: Vec<Missing>,
    /// Triggers of tables that rows were merged into; they fired if rows were inserted or replaced.
    pub triggers: Vec<String>,
    /// Tables whose foreign keys SQLite cannot check, and why.
    pub unchecked: Vec<String>,
}

/// Merges what is chosen into the database at `target`.
pub fn merge_into(
    past: Past<'_>,
    choice: &Choice,
    target: &Path,
    options: &MergeOptions,
    monitor: &Arc<dyn Monitor>,
) -> Result<Merged, TablesError> {
    if !target.is_file() {
        return Err(TablesError::NothingThere(target.to_owned()));
    }
    let encoding = properties(&Work::reading(past, Arc::clone(monitor))?)?.encoding;
    let uri = uri_of(target, "mode=rw");
    let work = Work::writing(past, Arc::clone(monitor), &encoding, target, &uri, options.busy_timeout)?;
    let triggers = work.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, options.triggers);
    triggers.map_err(|error| work.explain(&error, "set up SQLite", ""))?;
    // What needs the repository only is done before anybody is kept waiting.
    let plan = plan(&work, choice, &present(&work)?)?;
    work.batch("BEGIN IMMEDIATE", "begin")?;
    let merged = merge_in_transaction(&work, &plan, options)?;
    work.check_cancelled()?;
    work.batch("COMMIT", "commit")?;
    Ok(merged)
}

fn merge_in_transaction(work: &Work, plan: &Plan, options: &MergeOptions) -> Result<Merged, TablesError> {
    let there: BTreeSet<String> = present(work)?.into_iter().map(|name| name.to_ascii_lowercase()).collect();
    let is_there = |object: &Object| there.contains(&object.name.to_ascii_lowercase());
    let (old, new): (Vec<&Table>, Vec<&Table>) = plan.tables.iter().partition(|table| is_there(&table.object));
    let mut triggers = Vec::new();
    for table in &old {
        check_same(work, table)?;
        if options.triggers {
            triggers.extend(triggers_of(work, &table.object.name)?);
        }
    }
    let touched = |parents: &[String], name: &str| {
        let of_plan = |name: &str| plan.tables.iter().any(|table| table.object.name.eq_ignore_ascii_case(name));
        // A trigger may write to any table.
        !triggers.is_empty() || of_plan(name) || parents.iter().any(|parent| of_plan(parent))
    };
    let children = |work| -> Result<Vec<String>, TablesError> {
        let all = with_foreign_keys(work)?.into_iter();
        Ok(all.filter(|(name, parents)| touched(parents, name)).map(|(name, _)| name).collect())
    };
    let before = Orphanage::of(work, &children(work)?)?;
    let condition = plan.condition.as_deref();
    let mut tables = Vec::new();
    for table in &plan.tables {
        let name = table.object.name.clone();
        if is_there(&table.object) {
            let tally = merge_rows(work, table, condition, options.on_conflict)?;
            tables.push(MergedTable { name, is_new: false, tally });
            continue;
        }
        make(work, &table.object)?;
        // Before the rows: to sort them for an index would take room that the transaction cannot promise.
        for index in &table.indexes {
            make(work, index)?;
        }
        let inserted = carry_rows(work, table, condition)?;
        tables.push(MergedTable { name, is_new: true, tally: Tally { inserted, ..Tally::default() } });
    }
    let views = make_views(work, plan)?;
    for trigger in new.iter().flat_map(|table| &table.triggers) {
        make(work, trigger)?;
    }
    let after = Orphanage::of(work, &children(work)?)?;
    let orphans = after.since(&before);
    if !orphans.is_empty() {
        return Err(TablesError::Orphans(orphans));
    }
    let unchecked = after.unchecked.into_values().collect();
    Ok(Merged { tables, views, missing: plan.missing.clone(), triggers, unchecked })
}

/// Views that are not there are made; those that are must be the same.
fn make_views(work: &Work, plan: &Plan) -> Result<Vec<String>, TablesError> {
    let mut made = Vec::new();
    for (view, triggers) in &plan.views {
        let sql =
            format!("SELECT sql FROM {NEW}.sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE");
        let found =
            work.rows(&sql, [&view.name], "read the schema of the database", |row| row.get::<_, Option<String>>(0))?;
        match found.into_iter().next() {
            Some(sql) if sql == view.sql => {}
            Some(_) => {
                let reason = "it is made by another statement".to_owned();
                return Err(TablesError::OtherTable { table: view.name.clone(), reason });
            }
            None => {
                make(work, view)?;
                for trigger in triggers {
                    make(work, trigger)?;
                }
                made.push(view.name.clone());
            }
        }
    }
    Ok(made)
}

fn triggers_of(work: &Work, table: &str) -> Result<Vec<String>, TablesError> {
    let sql = format!(
        "SELECT name FROM {NEW}.sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE ORDER BY name"
    );
    work.rows(&sql, [table], "read the schema of the database", |row| row.get(0))
}

/// Whether the table of the database is the past's: an ordinary one with a primary key, and the same columns.
fn check_same(work: &Work, table: &Table) -> Result<(), TablesError> {
    let object = &table.object;
    if !matches!(table.rows, Rows::Stored { .. }) {
        let reason = "it is there already, and rows of a virtual table are not matched; an index on a table follows that table's triggers";
        return Err(TablesError::refused(object.describe(), reason));
    }
    if table.key.is_empty() {
        let reason = "it is there already and has no primary key, so its rows cannot be matched";
        return Err(TablesError::refused(object.describe(), reason));
    }
    let other = |reason: String| Err(TablesError::OtherTable { table: object.name.clone(), reason });
    let sql = format!(
        "SELECT type, sql FROM {NEW}.sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE"
    );
    let found = work.rows(&sql, [&object.name], "read the schema of the database", |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?))
    })?;
    let is_ordinary = found.iter().any(|(kind, sql)| kind == "table" && sql.as_deref().and_then(sql::module).is_none());
    if !is_ordinary {
        return other(format!("it is no {}", Kind::Table.name()));
    }
    let columns = schema::columns(work, NEW, &object.name)?;
    let lower = |names: &[String]| names.iter().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>();
    let stored: Vec<String> =
        columns.iter().filter(|column| column.is_stored).map(|column| column.name.clone()).collect();
    let lacking = |names: &[String], others: &[String]| {
        let others = lower(others);
        let lacking = names.iter().filter(|name| !others.contains(&name.to_ascii_lowercase()));
        lacking.cloned().collect::<Vec<_>>().join(", ")
    };
    let (only_past, only_there) = (lacking(&table.columns, &stored), lacking(&stored, &table.columns));
    let mut differences = Vec::new();
    if !only_past.is_empty() {
        differences.push(format!("only the state's has {only_past}"));
    }
    if !only_there.is_empty() {
        differences.push(format!("only the database's has {only_there}"));
    }
    let key = schema::key_of(&columns);
    if differences.is_empty() && lower(&key) != lower(&table.key) {
        differences.push(format!("its primary key is ({}), the state's ({})", key.join(", "), table.key.join(", ")));
    }
    if differences.is_empty() { Ok(()) } else { other(differences.join("; ")) }
}
