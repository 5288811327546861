//! `continuum restore --tables`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};
use serde_json::{Value, json};

use crate::monitor::Monitor;
use crate::ops::tables::{
    Choice, CreateOptions, Created, MergeOptions, Merged, Missing, OnConflict, Past, merge_into, restore_to,
};
use crate::repo::chunk_cache::ChunkCache;
use crate::repo::lazy_pages::LazyPages;
use crate::repo::stack_reader::State;
use crate::sqlite::without_wal::WithoutWal;
use crate::vfs::View;

use super::error::{CliError, DONE};
use super::query::CACHE_BYTES;
use super::rows::shown;
use super::selection::Selected;
use super::session::Session;
use super::{output, time};

const HEADING: &str = "Chosen tables";

/// Options of `restore` that choose tables.
#[derive(Debug, Args)]
pub struct TableArguments {
    /// Restore these tables and views only, with their indexes and triggers
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', help_heading = HEADING)]
    pub tables: Vec<String>,
    /// Only the rows for which this SQL expression is true; for one table
    #[arg(long = "where", value_name = "EXPR", requires = "tables", help_heading = HEADING)]
    condition: Option<String>,
    /// Merge into this database, in one transaction, instead of making a new one; rows are matched by primary key
    #[arg(long, value_name = "PATH", requires = "tables", value_hint = ValueHint::FilePath, help_heading = HEADING,
          conflicts_with_all = ["to", "force", "in_place", "integrity_check"])]
    pub into: Option<PathBuf>,
    /// What to do with rows that are there and have other values [default: abort]
    #[arg(long, value_enum, value_name = "WHAT", requires = "into", conflicts_with = "to", help_heading = HEADING)]
    on_conflict: Option<Conflicts>,
    /// Don't let the triggers of that database fire; what they keep up to date, such as a full-text index, must be mended then
    #[arg(long, requires = "into", conflicts_with = "to", help_heading = HEADING)]
    no_triggers: bool,
    /// How long to wait for a lock of that database, in seconds [default: 5]
    #[arg(long, value_name = "SECONDS", requires = "into", conflicts_with = "to", help_heading = HEADING)]
    busy_timeout: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Conflicts {
    /// Change nothing at all
    Abort,
    /// Keep what is there
    Ignore,
    /// Give such rows the values that they had
    Replace,
}

/// How else the new database is made.
#[derive(Clone, Copy, Debug)]
pub struct NewDatabase<'a> {
    /// Where.
    pub to: &'a Path,
    /// Set aside what stands there.
    pub force: bool,
    /// Run the whole integrity check.
    pub integrity_check: Option<bool>,
}

/// Restores tables of a state, to a new database if one is described.
pub fn run(
    session: &Session,
    selected: Selected,
    arguments: &TableArguments,
    new: Option<NewDatabase<'_>>,
) -> Result<u8, CliError> {
    let Selected { reader, database, state } = selected;
    let now = reader.repository().environment().clock.now();
    let before_s = session.elapsed_s();
    let cache = ChunkCache::new(reader, CACHE_BYTES);
    let pages = LazyPages::open(&cache, &state)?;
    let view = View::new(Arc::new(WithoutWal(Arc::new(pages)))).map_err(|error| CliError::failed(error.to_string()))?;
    let (uri, failure) = (view.uri(), || view.failure());
    let past = Past { uri: &uri, failure: &failure };
    let choice = Choice { tables: arguments.tables.clone(), condition: arguments.condition.clone() };
    let monitor: Arc<dyn Monitor> = session.monitor();
    let (target, mut document, text) = match (&arguments.into, new) {
        (Some(into), _) => {
            let options = merge_options(arguments);
            let merged = merge_into(past, &choice, into, &options, &monitor)?;
            (into.as_path(), merge_document(&merged), describe_merge(&merged))
        }
        (None, Some(NewDatabase { to, force, integrity_check })) => {
            let aside_suffix = format!("replaced-{}", time::compact(now));
            let options = CreateOptions { force, aside_suffix, integrity_check, now };
            let created = restore_to(past, &choice, to, &options, &monitor)?;
            (to, new_document(&created), describe_new(&created))
        }
        (None, None) => return Err(CliError::usage("neither --to nor --into is given")),
    };
    let seconds = session.elapsed_s() - before_s;
    if session.json() {
        let about = state_document(&state, &database, target, seconds);
        document.as_object_mut().into_iter().for_each(|document| document.extend(about.clone()));
        session.print_json("continuum.restore-tables/1", document);
    } else if !session.quiet() {
        let head = format!(
            "restored into {} from commit {} of {database} (snapshot {:.8}), captured {}, in {seconds:.1} s\n",
            target.display(),
            state.commit,
            state.snapshot.to_string(),
            time::local(state.captured),
        );
        output::print(&(head + &text));
    }
    Ok(DONE)
}

fn merge_options(arguments: &TableArguments) -> MergeOptions {
    let on_conflict = match arguments.on_conflict {
        None | Some(Conflicts::Abort) => OnConflict::Abort,
        Some(Conflicts::Ignore) => OnConflict::Ignore,
        Some(Conflicts::Replace) => OnConflict::Replace,
    };
    let busy_timeout = Duration::from_secs(arguments.busy_timeout.unwrap_or(5).into());
    MergeOptions { on_conflict, triggers: !arguments.no_triggers, busy_timeout }
}

fn state_document(state: &State, database: &str, target: &Path, seconds: f64) -> serde_json::Map<String, Value> {
    let members = [
        ("snapshot", json!(state.snapshot.to_string())),
        ("database", json!(database)),
        ("commit", json!(state.commit)),
        ("captured", json!(time::utc(state.captured))),
        ("target", json!(target.display().to_string())),
        ("seconds", json!(seconds)),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn missing_document(missing: &[Missing]) -> Vec<Value> {
    let one = |Missing { object, needs, is_there }: &Missing| json!({ "object": object, "needs": needs, "in_state": is_there });
    missing.iter().map(one).collect()
}

fn new_document(created: &Created) -> Value {
    let table = |table: &crate::ops::tables::CreatedTable| json!({ "name": table.name, "is_new": true, "inserted": table.rows, "replaced": 0, "ignored": 0, "equal": 0, "indexes": table.indexes, "triggers": table.triggers });
    let orphan = |orphans: &crate::ops::tables::Orphans| json!({ "table": orphans.table, "parent": orphans.parent, "rows": orphans.rows });
    let aside =
        |(from, to): &(PathBuf, PathBuf)| json!({ "from": from.display().to_string(), "to": to.display().to_string() });
    json!({
        "merged": false,
        "tables": created.tables.iter().map(table).collect::<Vec<_>>(),
        "views": created.views,
        "missing": missing_document(&created.missing),
        "orphans": created.orphans.iter().map(orphan).collect::<Vec<_>>(),
        "findings": created.findings,
        "bytes": created.bytes,
        "set_aside": created.set_aside.iter().map(aside).collect::<Vec<_>>(),
    })
}

fn merge_document(merged: &Merged) -> Value {
    let table = |table: &crate::ops::tables::MergedTable| json!({ "name": table.name, "is_new": table.is_new, "inserted": table.tally.inserted, "replaced": table.tally.replaced, "ignored": table.tally.ignored, "equal": table.tally.equal });
    json!({
        "merged": true,
        "tables": merged.tables.iter().map(table).collect::<Vec<_>>(),
        "views": merged.views,
        "missing": missing_document(&merged.missing),
        "active_triggers": merged.triggers,
        "findings": merged.unchecked,
    })
}

fn describe_new(created: &Created) -> String {
    let mut text = String::new();
    for (from, to) in &created.set_aside {
        text += &format!("  set aside {} as {}\n", from.display(), to.display());
    }
    for table in &created.tables {
        let mut line = format!("  table   {}: {}", shown(&table.name), output::plural(table.rows, "row"));
        for (names, noun) in [(&table.indexes, "index"), (&table.triggers, "trigger")] {
            if !names.is_empty() {
                line += &format!(", {noun} {}", shown(&names.join(", ")));
            }
        }
        text += &(line + "\n");
    }
    text += &lines("view   ", created.views.iter().cloned());
    text += &lines("missing", created.missing.iter().map(Missing::to_string));
    text += &lines("orphans", created.orphans.iter().map(ToString::to_string));
    text += &lines("SQLite ", created.findings.iter().cloned());
    text
}

fn describe_merge(merged: &Merged) -> String {
    let mut text = String::new();
    for table in &merged.tables {
        let tally = table.tally;
        let parts = [
            (tally.inserted, "inserted"),
            (tally.replaced, "replaced"),
            (tally.ignored, "ignored"),
            (tally.equal, "already equal"),
        ];
        let parts = parts.iter().filter(|(rows, what)| *rows > 0 || *what == "inserted");
        let parts: Vec<String> = parts.map(|(rows, what)| format!("{} {what}", output::count(*rows))).collect();
        let new = if table.is_new { " (new)" } else { "" };
        text += &format!("  table   {}{new}: {}\n", shown(&table.name), parts.join(", "));
    }
    text += &lines("view   ", merged.views.iter().cloned());
    if !merged.triggers.is_empty() {
        let names = shown(&merged.triggers.join(", "));
        text += &format!("  active  {names}: triggers, which fired for what was changed\n");
    }
    text += &lines("missing", merged.missing.iter().map(Missing::to_string));
    text += &lines("SQLite ", merged.unchecked.iter().cloned());
    text
}

fn lines(label: &str, texts: impl Iterator<Item = String>) -> String {
    texts.map(|text| format!("  {label} {}\n", shown(&text))).collect()
}
