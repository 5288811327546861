//! Restores tables to a new database.
//!
//! It is written beside the target without a journal on disk, for it can be made again; checked by SQLite, synced, and only then renamed. A kill leaves a partial file that the
//! next run begins anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::UnixMicros;
use crate::base::id::ImageRoot;
use crate::monitor::Monitor;
use crate::ops::partial::{self, Partial};
use crate::ops::restore::{INTEGRITY_CHECK_LIMIT_BYTES, RestoreError, publish, standing_files};
use crate::ops::restore_error::io_error;
use crate::sqlite::uri::uri_of;

use super::carry::{carry_rows, make, with_foreign_keys};
use super::connection::{NEW, Past, Work};
use super::error::{Orphans, TablesError};
use super::orphans::Orphanage;
use super::plan::{Choice, Missing, Plan, plan};

/// How to restore to a new database.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Set aside what stands at the target instead of refusing.
    pub force: bool,
    /// Appended, after a dot, to names of files that are set aside.
    pub aside_suffix: String,
    /// Run SQLite's whole integrity check; by default up to [`INTEGRITY_CHECK_LIMIT_BYTES`], beyond that the quick one.
    pub integrity_check: Option<bool>,
    /// What a clock says.
    pub now: UnixMicros,
}

/// A table that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTable {
    /// Its name.
    pub name: String,
    /// How many rows it has got.
    pub rows: u64,
    /// Its indexes.
    pub indexes: Vec<String>,
    /// Its triggers.
    pub triggers: Vec<String>,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Created {
    /// The tables.
    pub tables: Vec<CreatedTable>,
    /// The views.
    pub views: Vec<String>,
    /// What they need and do not have.
    pub missing: Vec<Missing>,
    /// Rows that refer to rows that were not restored.
    pub orphans: Vec<Orphans>,
    /// What SQLite's check says about rows that were so in the state already, e.g. against a rule that came later.
    pub findings: Vec<String>,
    /// Length of the new database.
    pub bytes: u64,
    /// Files that were set aside, with their new names.
    pub set_aside: Vec<(PathBuf, PathBuf)>,
}

/// So many findings are kept.
const FINDINGS: u32 = 20;

/// SQLite's cache while the database is made.
const CACHE_KIB: u32 = 32 << 10;

/// Restores what is chosen to a new database at `target`.
pub fn restore_to(
    past: Past<'_>,
    choice: &Choice,
    target: &Path,
    options: &CreateOptions,
    monitor: &Arc<dyn Monitor>,
) -> Result<Created, TablesError> {
    let standing = standing_files(target)?;
    if !options.force
        && let Some(path) = standing.first()
    {
        return Err(RestoreError::Exists(path.clone()).into());
    }
    let plan = plan(&Work::reading(past, Arc::clone(monitor))?, choice, &[])?;
    let partial = Partial::claim(target, name_of(choice))?;
    partial::remove_stale(target, &partial, options.now);
    let done = fill(past, &plan, &partial, options, monitor).and_then(|mut created| {
        created.set_aside = publish(&partial, target, &standing, &options.aside_suffix)?;
        Ok(created)
    });
    if done.is_err() {
        partial.remove();
    }
    done
}

/// Stands for the image's root in the partial's name.
fn name_of(choice: &Choice) -> ImageRoot {
    let mut hasher = blake3::Hasher::new_derive_key("continuum 2026-11 restore of tables");
    for name in choice.tables.iter().chain(&choice.condition) {
        hasher.update(name.as_bytes()).update(&[0]);
    }
    ImageRoot(*hasher.finalize().as_bytes())
}

fn fill(
    past: Past<'_>,
    plan: &Plan,
    partial: &Partial,
    options: &CreateOptions,
    monitor: &Arc<dyn Monitor>,
) -> Result<Created, TablesError> {
    let path = partial.path();
    partial.file().set_len(0).map_err(io_error(path, "empty"))?;
    // Nobody else has it, as the partial's own lock makes sure. SQLite's locks would go with any other descriptor that is closed.
    let uri = uri_of(path, "mode=rw&nolock=1");
    let work = Work::writing(past, Arc::clone(monitor), &plan.properties.encoding, path, &uri, Duration::ZERO)?;
    let created = write(&work, plan, options)?;
    drop(work);
    partial.file().sync_all().map_err(io_error(path, "sync"))?;
    let bytes = partial.file().metadata().map_err(io_error(path, "read"))?.len();
    Ok(Created { bytes, ..created })
}

fn write(work: &Work, plan: &Plan, options: &CreateOptions) -> Result<Created, TablesError> {
    let properties = &plan.properties;
    // Rows are carried over as they are: a rule that they break, they broke before.
    let sql = format!(
        "PRAGMA {NEW}.page_size = {}; PRAGMA {NEW}.auto_vacuum = {}; PRAGMA {NEW}.journal_mode = MEMORY; PRAGMA {NEW}.synchronous = OFF;
         PRAGMA {NEW}.cache_size = -{CACHE_KIB}; PRAGMA ignore_check_constraints = ON; BEGIN;
         PRAGMA {NEW}.user_version = {}; PRAGMA {NEW}.application_id = {};",
        properties.page_size, properties.auto_vacuum, properties.user_version, properties.application_id,
    );
    work.batch(&sql, "set up the new database")?;
    let mut tables = Vec::new();
    for table in &plan.tables {
        make(work, &table.object)?;
        let rows = carry_rows(work, table, plan.condition.as_deref())?;
        let names = |objects: &[super::schema::Object]| objects.iter().map(|object| object.name.clone()).collect();
        let (indexes, triggers) = (names(&table.indexes), names(&table.triggers));
        tables.push(CreatedTable { name: table.object.name.clone(), rows, indexes, triggers });
    }
    for index in plan.tables.iter().flat_map(|table| &table.indexes) {
        make(work, index)?;
    }
    for view in &plan.views {
        make(work, &view.0)?;
    }
    let of_views = plan.views.iter().flat_map(|(_, triggers)| triggers);
    for trigger in plan.tables.iter().flat_map(|table| &table.triggers).chain(of_views) {
        make(work, trigger)?;
    }
    work.batch("COMMIT; PRAGMA ignore_check_constraints = OFF", "commit")?;
    let children: Vec<String> = with_foreign_keys(work)?.into_iter().map(|(table, _)| table).collect();
    let orphans = Orphanage::of(work, &children)?;
    let unchecked = orphans.unchecked.values().cloned();
    let findings = check(work, options.integrity_check)?.into_iter().chain(unchecked).collect();
    let views = plan.views.iter().map(|(view, _)| view.name.clone()).collect();
    let missing = plan.missing.clone();
    Ok(Created { tables, views, missing, orphans: orphans.all(), findings, bytes: 0, set_aside: Vec::new() })
}

/// What SQLite's check of the new database says.
fn check(work: &Work, whole: Option<bool>) -> Result<Vec<String>, TablesError> {
    let bytes = u64::from(work.pragma::<u32>(NEW, "page_count")?) * u64::from(work.pragma::<u32>(NEW, "page_size")?);
    let whole = whole.unwrap_or(bytes <= INTEGRITY_CHECK_LIMIT_BYTES);
    let check = if whole { "integrity_check" } else { "quick_check" };
    let sql = format!("PRAGMA {NEW}.{check}({FINDINGS})");
    let found = work.rows(&sql, [], "check the new database", |row| row.get::<_, String>(0))?;
    Ok(found.into_iter().filter(|finding| finding != "ok").collect())
}
