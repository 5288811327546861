//! `continuum query`

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueHint};
use rusqlite::types::{Value, ValueRef};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::json;

use crate::base::clock::SystemTimer;
use crate::ops::query::{Database, Limits, QueryError, Rows};
use crate::repo::chunk_cache::ChunkCache;

use super::error::{CliError, DONE};
use super::rows::{RowFormat, RowPrinter, object};
use super::selection::{Selected, Selection};
use super::session::Session;
use super::units::{self, Bytes};
use super::{output, time};

/// Chunks that are kept decoded while a state is read.
pub const CACHE_BYTES: u64 = 256 << 20;

/// Options of `query`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is restored: only the pages that the query touches are fetched. Without SQL, statements are read from a prompt or from standard input.
Parameters are named in SQL as :name; a value that reads as a number is one.

Examples:
  continuum -r /backup/repo query \"SELECT count(*) FROM orders\"
  continuum -r /backup/repo query --at \"1 hour ago\" --name orders \"SELECT * FROM orders WHERE id = :id\" --param id=42
  continuum -r /backup/repo query 1a2b3c4d --format csv \"SELECT * FROM orders\" > orders.csv
  continuum -r /backup/repo query latest              # a prompt: .tables, .schema, .quit")]
pub struct QueryArguments {
    /// A snapshot's id or the beginning of it, or `latest`, which is the default; then SQL
    #[arg(value_name = "SNAPSHOT] [SQL", num_args = 0..=2)]
    words: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Run the statements of this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// A value for a parameter
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    param: Vec<(String, Value)>,
    /// How rows are printed [default: table on a terminal, else csv]
    #[arg(long, value_enum)]
    format: Option<RowFormat>,
    /// How long a statement may take, in seconds; 0 for as long as it takes
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    time_limit: u64,
    /// How much memory a query may take, beside the pages that are kept
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, default_value = "256MiB")]
    memory_limit: Bytes,
}

/// Runs SQL on a state.
pub fn run(session: &Session, arguments: &QueryArguments) -> Result<u8, CliError> {
    let (snapshot, sql) = split_words(&arguments.words)?;
    let sql = match (&arguments.file, sql) {
        (Some(_), Some(_)) => return Err(CliError::usage("SQL is given, and --file".to_owned())),
        (Some(path), None) => Some(
            fs::read_to_string(path)
                .map_err(|error| CliError::failed(format!("cannot read {}: {error}", path.display())))?,
        ),
        (None, sql) => sql.map(str::to_owned),
    };
    let repository = session.open()?;
    let monitor = session.monitor();
    let Selected { reader, database: name, state } = arguments.selection.select(snapshot, &repository, &monitor)?;
    let limits = Limits::of_seconds(arguments.time_limit, arguments.memory_limit.0);
    let cache = ChunkCache::new(reader, CACHE_BYTES);
    let database = Database::open(&cache, &state, limits, Arc::new(SystemTimer::default()), monitor)?;
    if session.json() {
        let mut collected = Collected::default();
        database.run(&sql.map_or_else(read_input, Ok)?, &arguments.param, &mut collected)?;
        let Collected { columns, rows } = collected;
        let (snapshot, captured) = (state.snapshot.to_string(), time::utc(state.captured));
        let document = json!({ "snapshot": snapshot, "database": name, "commit": state.commit, "captured": captured, "columns": columns, "rows": rows });
        session.print_json("continuum.query/1", document);
        return Ok(DONE);
    }
    let is_terminal = io::stdout().is_terminal();
    let format = arguments.format.unwrap_or(if is_terminal { RowFormat::Table } else { RowFormat::Csv });
    let mut printer = RowPrinter::new(format);
    match sql {
        Some(sql) => database.run(&sql, &arguments.param, &mut printer)?,
        None if io::stdin().is_terminal() => {
            let captured = time::local(state.captured);
            output::line(format!(
                "{name}, commit {}, captured {captured}. Read only; .help lists commands.",
                state.commit
            ));
            prompt(&database, &arguments.param, format)?;
        }
        None => database.run(&read_input()?, &arguments.param, &mut printer)?,
    }
    Ok(DONE)
}

/// The snapshot and the SQL among up to two words. A single one is SQL unless it can be the name of a snapshot.
fn split_words(words: &[String]) -> Result<(Option<&str>, Option<&str>), CliError> {
    match words {
        [] => Ok((None, None)),
        [word] if is_snapshot(word) => Ok((Some(word), None)),
        [sql] => Ok((None, Some(sql))),
        [snapshot, sql, ..] if is_snapshot(snapshot) => Ok((Some(snapshot), Some(sql))),
        [first, ..] => Err(CliError::usage(format!("{first:?} is no snapshot's id"))
            .with_hint("put the whole statement into quotes: continuum query latest \"SELECT …\"")),
    }
}

fn is_snapshot(word: &str) -> bool {
    word == "latest" || (!word.is_empty() && word.len() <= 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn read_input() -> Result<String, CliError> {
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| CliError::failed(format!("cannot read statements: {error}")))?;
    Ok(text)
}

fn parameter(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE expected")?;
    let name = name.trim_start_matches([':', '@', '$']);
    if name.is_empty() {
        return Err("NAME=VALUE expected".to_owned());
    }
    Ok((name.to_owned(), value_of(value)))
}

/// A number if the text is exactly how it is written, so that `007` stays what it is.
pub fn value_of(text: &str) -> Value {
    if let Ok(number) = text.parse::<i64>()
        && number.to_string() == text
    {
        return Value::Integer(number);
    }
    match text.parse::<f64>() {
        Ok(number) if text.contains('.') && number.is_finite() => Value::Real(number),
        _ => Value::Text(text.to_owned()),
    }
}

const TABLES: &str = "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name";
const SCHEMA: &str = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY tbl_name, type DESC, name";
const HELP: &str = "  .tables   what there is\n  .schema   how it is declared\n  .quit     leave; so does Ctrl-D\nStatements end with a semicolon.";

fn prompt(database: &Database, parameters: &[(String, Value)], format: RowFormat) -> Result<(), CliError> {
    let mut editor = DefaultEditor::new().map_err(|error| CliError::failed(error.to_string()))?;
    let mut statement = String::new();
    loop {
        let line = match editor.readline(if statement.is_empty() { "continuum> " } else { "      ...> " }) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                statement.clear();
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(CliError::failed(error.to_string())),
        };
        let mut printer = RowPrinter::new(format);
        let outcome = match line.trim() {
            "" if statement.is_empty() => continue,
            ".quit" | ".exit" => return Ok(()),
            ".help" => {
                output::line(HELP);
                continue;
            }
            ".tables" => database.run(TABLES, &[], &mut printer),
            ".schema" => database.run(SCHEMA, &[], &mut RowPrinter::new(RowFormat::Csv)),
            text if statement.is_empty() && text.starts_with('.') => {
                eprintln!("error: no such command: {text}; .help lists them");
                continue;
            }
            text => {
                statement += text;
                statement.push('\n');
                if !text.ends_with(';') {
                    continue;
                }
                let _ = editor.add_history_entry(statement.trim());
                database.run(&std::mem::take(&mut statement), parameters, &mut printer)
            }
        };
        match outcome {
            Ok(()) => {}
            Err(QueryError::Cancelled(cancelled)) => return Err(cancelled.into()),
            Err(error) => CliError::from(error).print(false),
        }
    }
}

/// The rows of the last statement that gives any.
#[derive(Default)]
struct Collected {
    columns: Vec<String>,
    rows: Vec<serde_json::Value>,
}

impl Rows for Collected {
    fn begin(&mut self, columns: &[String]) -> Result<(), String> {
        (self.columns, self.rows) = (columns.to_vec(), Vec::new());
        Ok(())
    }

    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<(), String> {
        self.rows.push(object(&self.columns, values));
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}
