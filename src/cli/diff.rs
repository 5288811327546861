//! `continuum diff`

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use rusqlite::types::ValueRef;
use serde_json::{Value as Json, json};

use crate::base::clock::SystemTimer;
use crate::monitor::{Event, Monitor};
use crate::ops::diff::rows::{Argument, Columns, Row, RowChange};
use crate::ops::diff::{Counts, Diff, DiffError, SchemaChange, State, TablePair, diff, script};
use crate::ops::query::{Database, Limits};
use crate::repo::changed_pages::changed_pages;
use crate::repo::chunk_cache::ChunkCache;
use crate::repo::lazy_pages::LazyPages;
use crate::sqlite::record::Value;
use crate::sqlite::without_wal::WithoutWal;

use super::error::{CliError, DONE};
use super::query::CACHE_BYTES;
use super::rows::{cell, json_of, shown};
use super::selection::{SelectedPair, select_pair};
use super::session::Session;
use super::units::{self, Bytes};
use super::{output, time};

/// Options of `diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
A and B are states of one database: a snapshot's id or the beginning of one, `latest`, `commit:N` as `continuum log` lists them, or `at:TIME`.
Only pages that differ are compared, and nothing is restored. Rows are told apart by their rowid or, WITHOUT ROWID, by their primary key.

Examples:
  continuum -r /backup/repo diff 1a2b3c4d                              # from that snapshot to the newest state
  continuum -r /backup/repo diff --name orders at:yesterday latest --rows
  continuum -r /backup/repo diff commit:4710 commit:4711 --table orders --rows
  continuum -r /backup/repo diff latest 1a2b3c4d --format sql > undo.sql   # statements that lead back")]
pub struct DiffArguments {
    /// The state that changes are told from
    a: String,
    /// The state that they lead to
    #[arg(default_value = "latest")]
    b: String,
    /// The database's name, where the repository holds several
    #[arg(long)]
    name: Option<String>,
    /// Only this table
    #[arg(long)]
    table: Option<String>,
    /// Print the rows, not only how many
    #[arg(long)]
    rows: bool,
    /// How differences are printed
    #[arg(long, value_enum, default_value = "text")]
    format: DiffFormat,
    /// How long the comparison may take, in seconds; 0 for as long as it takes
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    time_limit: u64,
    /// How much memory SQLite may take, beside the pages that are kept
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, default_value = "256MiB")]
    memory_limit: Bytes,
}

/// How differences are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DiffFormat {
    /// For people
    Text,
    /// Statements that lead from A to B
    Sql,
}

/// Says what differs between two states.
pub fn run(session: &Session, arguments: &DiffArguments) -> Result<u8, CliError> {
    if session.json() && arguments.format == DiffFormat::Sql {
        return Err(CliError::usage("--json and --format sql exclude each other".to_owned()));
    }
    let repository = session.open()?;
    let monitor = session.monitor();
    let pair = select_pair(&arguments.a, &arguments.b, arguments.name.as_deref(), &repository, &monitor)?;
    let changed = changed_pages(&pair.reader, &pair.states[0], &pair.states[1])?;
    let cache = ChunkCache::new(pair.reader.clone(), CACHE_BYTES);
    let limits = Limits::of_seconds(arguments.time_limit, arguments.memory_limit.0);
    let open = |at: usize| -> Result<_, CliError> {
        let pages = Arc::new(LazyPages::open(&cache, &pair.states[at])?);
        let (timer, shown) = (Arc::new(SystemTimer::default()), Arc::new(WithoutWal(Arc::clone(&pages))));
        let database = Database::of(shown, limits, timer, session.monitor())?;
        database.begin();
        Ok((pages, database))
    };
    let opened = [open(0)?, open(1)?];
    let state = |at: usize| State { pages: &*opened[at].0, connection: opened[at].1.connection() };
    let explain = |error: DiffError| match &error {
        DiffError::Sqlite(cause) => {
            // Either of them may have failed.
            let unread = opened.iter().find_map(|(_, database)| database.unread());
            CliError::from(unread.unwrap_or_else(|| opened[0].1.explain(cause)))
        }
        _ => CliError::from(error),
    };
    let found = diff(state(0), state(1), changed.as_ref()).map_err(explain)?;
    if let Some(table) = &arguments.table
        && found.schemas().iter().all(|schema| schema.table(table).is_none())
    {
        return Err(CliError::failed(format!("neither state has a table named {table:?}"))
            .with_hint("`continuum diff` without --table names the tables that differ"));
    }
    let printed = match arguments.format {
        DiffFormat::Sql => print_script(&found, arguments, &pair, &monitor),
        DiffFormat::Text if session.json() => print_json(&found, arguments, &pair),
        DiffFormat::Text => print_text(&found, arguments, &pair, session.quiet()),
    };
    printed.map_err(explain)?;
    Ok(DONE)
}

fn taker(error: io::Error) -> DiffError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        // A reader that went away, as `head` does.
        std::process::exit(i32::from(super::error::FAILED));
    }
    DiffError::Taker(Box::new(error))
}

fn name_of(pair: &SelectedPair, at: usize) -> String {
    let state = &pair.states[at];
    format!(
        "commit {} (snapshot {:.8}, {})",
        state.commit,
        state.snapshot.to_string(),
        time::local_millis(state.captured)
    )
}

fn print_script(
    found: &Diff<'_>,
    arguments: &DiffArguments,
    pair: &SelectedPair,
    monitor: &dyn Monitor,
) -> Result<(), DiffError> {
    let mut out = BufWriter::new(io::stdout());
    writeln!(out, "-- {}: from {} to {}", shown(&pair.database), name_of(pair, 0), name_of(pair, 1)).map_err(taker)?;
    let notices =
        script::write(found, arguments.table.as_deref(), &mut |text| out.write_all(text.as_bytes()).map_err(taker))?;
    out.flush().map_err(taker)?;
    notices.into_iter().for_each(|notice| monitor.event(Event::Notice(notice)));
    Ok(())
}

/// The tables that are told of: a virtual table's content is told of with it, unless it is named.
fn told<'d>(found: &'d Diff<'_>, arguments: &'d DiffArguments) -> impl Iterator<Item = &'d TablePair> {
    found.tables().iter().filter(|pair| match &arguments.table {
        Some(only) => pair.name().eq_ignore_ascii_case(only),
        None => pair.table().owner.is_none(),
    })
}

/// Whether the content of a virtual table changed.
fn is_content_changed(found: &Diff<'_>, name: &str) -> Result<bool, DiffError> {
    let owned = found.tables().iter().filter(|pair| pair.table().owner.as_deref() == Some(name));
    for pair in owned {
        if !found.count(pair)?.is_zero() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn schema_changes(found: &Diff<'_>, arguments: &DiffArguments) -> Vec<SchemaChange> {
    let mut changes = found.schema_changes();
    changes.retain(|change| {
        let (SchemaChange::Created(object) | SchemaChange::Dropped(object) | SchemaChange::Altered { to: object, .. }) =
            change;
        let is_content =
            found.schemas().iter().any(|schema| schema.table(&object.table).is_some_and(|table| table.owner.is_some()));
        arguments.table.as_ref().map_or(!is_content, |only| object.table.eq_ignore_ascii_case(only))
    });
    changes
}

fn print_text(found: &Diff<'_>, arguments: &DiffArguments, pair: &SelectedPair, quiet: bool) -> Result<(), DiffError> {
    let mut out = BufWriter::new(io::stdout());
    if !quiet {
        writeln!(out, "{}\n  from  {}\n  to    {}", shown(&pair.database), name_of(pair, 0), name_of(pair, 1))
            .map_err(taker)?;
    }
    let changes = schema_changes(found, arguments);
    for change in &changes {
        out.write_all(schema_line(change).as_bytes()).map_err(taker)?;
    }
    let (mut lines, mut same, mut opaque) = (Vec::new(), 0u64, Vec::new());
    for table in told(found, arguments) {
        if table.is_opaque() {
            if is_content_changed(found, table.name())? {
                opaque.push(format!("{}: the content of this virtual table changed", shown(table.name())));
            } else {
                same += 1;
            }
            continue;
        }
        let counts = if arguments.rows { print_rows(found, table, &mut out)? } else { found.count(table)? };
        if counts.is_zero() {
            same += 1;
        } else {
            let count = |number: u64| if number == 0 { String::new() } else { output::count(number) };
            lines.push(vec![shown(table.name()), count(counts.added), count(counts.removed), count(counts.changed)]);
        }
    }
    let is_nothing = lines.is_empty() && changes.is_empty() && opaque.is_empty();
    if !lines.is_empty() {
        let table = output::table(&["table", "added", "removed", "changed"], &lines, &[1, 2, 3]);
        out.write_all(table.as_bytes()).map_err(taker)?;
    }
    for line in opaque {
        writeln!(out, "{line}").map_err(taker)?;
    }
    if is_nothing {
        writeln!(out, "no differences").map_err(taker)?;
    }
    if !quiet && same > 0 {
        writeln!(out, "{} without differences", output::plural(same, "table")).map_err(taker)?;
    }
    out.flush().map_err(taker)
}

fn schema_line(change: &SchemaChange) -> String {
    let sql = |sql: &Option<String>| shown(sql.as_deref().unwrap_or_default());
    match change {
        SchemaChange::Created(object) => format!("+ {} {}: {}\n", object.kind, shown(&object.name), sql(&object.sql)),
        SchemaChange::Dropped(object) => format!("- {} {}: {}\n", object.kind, shown(&object.name), sql(&object.sql)),
        SchemaChange::Altered { from, to } => {
            format!("~ {} {}:\n    - {}\n    + {}\n", to.kind, shown(&to.name), sql(&from.sql), sql(&to.sql))
        }
    }
}

/// So much of a value is printed.
const MOST_CHARACTERS: usize = 60;

/// A value for people, shortened.
pub fn short(value: &Value) -> String {
    if let Value::Blob(bytes) = value
        && bytes.len() > MOST_CHARACTERS / 2
    {
        let start = cell(ValueRef::Blob(&bytes[..MOST_CHARACTERS / 2 - 6]));
        return format!("{}…' ({} bytes)", start.trim_end_matches('\''), output::count(bytes.len() as u64));
    }
    let whole = cell(reference(value));
    if whole.chars().count() <= MOST_CHARACTERS {
        return whole;
    }
    whole.chars().take(MOST_CHARACTERS - 1).chain(['…']).collect()
}

fn reference(value: &Value) -> ValueRef<'_> {
    Argument(value).value()
}

/// A value as JSON.
pub fn json_value(value: &Value) -> Json {
    json_of(reference(value))
}

/// Prints the rows of a table that differ, below its name.
fn print_rows(found: &Diff<'_>, table: &TablePair, out: &mut dyn Write) -> Result<Counts, DiffError> {
    let mut counts = Counts::default();
    found.compare(table, &mut |change| {
        if counts.is_zero() {
            writeln!(out, "{}", shown(table.name())).map_err(taker)?;
        }
        let columns = table.columns_of(&change);
        let line = match &change {
            RowChange::Removed(row) => {
                counts.removed += 1;
                format!("  - {}", describe(&columns, row))
            }
            RowChange::Added(row) => {
                counts.added += 1;
                format!("  + {}", describe(&columns, row))
            }
            RowChange::Changed { from, to } => {
                counts.changed += 1;
                format!("  ~ {}", describe_change(&columns, from, to))
            }
        };
        writeln!(out, "{line}").map_err(taker)
    })?;
    Ok(counts)
}

fn describe_key(columns: &Columns, row: &Row) -> String {
    let parts = columns.key.iter().zip(&row.key).map(|(name, value)| format!("{}={}", shown(name), short(value)));
    parts.collect::<Vec<_>>().join(" ")
}

fn describe(columns: &Columns, row: &Row) -> String {
    let others = columns.names.iter().zip(&row.values).filter(|(name, _)| !columns.key.contains(name));
    let others = others.map(|(name, value)| format!("  {}={}", shown(name), short(value)));
    describe_key(columns, row) + &others.collect::<String>()
}

fn describe_change(columns: &Columns, from: &Row, to: &Row) -> String {
    let pairs = columns.names.iter().zip(from.values.iter().zip(&to.values)).filter(|(_, (from, to))| from != to);
    let pairs = pairs.map(|(name, (from, to))| {
        let (mut old, mut new) = (short(from), short(to));
        if old == new {
            // They differ beyond what is printed, or in their type.
            (old, new) = (format!("{} {old}", kind(from)), format!("{} {new}", kind(to)));
        }
        format!("  {}: {old} → {new}", shown(name))
    });
    describe_key(columns, to) + &pairs.collect::<String>()
}

/// Type and, where it has one, length.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(_) => "integer".to_owned(),
        Value::Real(_) => "real".to_owned(),
        Value::Text(text) => format!("text of {} bytes, blake3 {:.8},", text.len(), blake3::hash(text).to_hex()),
        Value::Blob(blob) => format!("blob of {} bytes, blake3 {:.8},", blob.len(), blake3::hash(blob).to_hex()),
    }
}

/// One document, written as it comes: rows are not kept.
fn print_json(found: &Diff<'_>, arguments: &DiffArguments, pair: &SelectedPair) -> Result<(), DiffError> {
    let mut out = BufWriter::new(io::stdout());
    let state = |at: usize| {
        let state = &pair.states[at];
        json!({ "snapshot": state.snapshot.to_string(), "commit": state.commit, "captured": time::utc(state.captured) })
    };
    let changes: Vec<Json> = schema_changes(found, arguments).iter().map(schema_document).collect();
    let head = format!(
        "{{\"format\":\"continuum.diff/1\",\"database\":{},\"from\":{},\"to\":{},\"schema\":{},\"tables\":[",
        json!(pair.database),
        state(0),
        state(1),
        json!(changes)
    );
    out.write_all(head.as_bytes()).map_err(taker)?;
    let (mut same, mut comma) = (0, "");
    for table in told(found, arguments) {
        let counts = found.count(table)?;
        let is_changed = table.is_opaque() && is_content_changed(found, table.name())?;
        if counts.is_zero() && !is_changed {
            same += 1;
            continue;
        }
        let Counts { added, removed, changed } = counts;
        let counts = match table.is_opaque() {
            true => "\"added\":null,\"removed\":null,\"changed\":null".to_owned(),
            false => format!("\"added\":{added},\"removed\":{removed},\"changed\":{changed}"),
        };
        write!(out, "{comma}{{\"name\":{},{counts}", json!(table.name())).map_err(taker)?;
        if arguments.rows && !table.is_opaque() {
            write!(out, ",\"rows\":[").map_err(taker)?;
            let mut comma = "";
            found.compare(table, &mut |change| {
                let document = row_document(&table.columns_of(&change), &change);
                write!(out, "{}{document}", std::mem::replace(&mut comma, ",")).map_err(taker)
            })?;
            write!(out, "]").map_err(taker)?;
        }
        write!(out, "}}").map_err(taker)?;
        comma = ",";
    }
    writeln!(out, "],\"same_tables\":{same}}}").map_err(taker)?;
    out.flush().map_err(taker)
}

fn schema_document(change: &SchemaChange) -> Json {
    let (object, from, to) = match change {
        SchemaChange::Created(object) => (object, None, object.sql.as_ref()),
        SchemaChange::Dropped(object) => (object, object.sql.as_ref(), None),
        SchemaChange::Altered { from, to } => (to, from.sql.as_ref(), to.sql.as_ref()),
    };
    json!({ "kind": object.kind, "name": object.name, "table": object.table, "from": from, "to": to })
}

fn row_document(columns: &Columns, change: &RowChange) -> Json {
    let object = |names: &[String], values: &[Value]| {
        Json::Object(names.iter().cloned().zip(values.iter().map(json_value)).collect())
    };
    let row = |row: &Row| object(&columns.names, &row.values);
    let (key, from, to) = match change {
        RowChange::Removed(from) => (&from.key, row(from), Json::Null),
        RowChange::Added(to) => (&to.key, Json::Null, row(to)),
        RowChange::Changed { from, to } => (&to.key, row(from), row(to)),
    };
    json!({ "key": object(&columns.key, key), "from": from, "to": to })
}
