//! Runs SQL on a state in the repository.
//!
//! # Guarantees
//! * Statements only read. Whatever would write, attach, or change how SQLite works is refused when it is prepared, before it does anything.
//! * A query ends: at its time limit, its memory limit, or when the user wants it to stop. The memory limit is SQLite's own and holds for all of its connections in this process.
//! * When a page cannot be read, the error is the repository's, with its cause.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Batch, Connection, ErrorCode, Statement};

use crate::base::clock::Timer;
use crate::base::page::PageReader;
use crate::monitor::{Cancelled, Monitor};
use crate::repo::chunk_cache::ChunkCache;
use crate::repo::lazy_pages::LazyPages;
use crate::repo::stack_reader::State;
use crate::repo::{Fault, RepositoryError};
use crate::sqlite::without_wal::WithoutWal;
use crate::vfs::View;

/// After so many steps of SQLite's machine, it is looked at whether to go on.
const STEPS: i32 = 10_000;

/// Pragmas that only tell something, with or without an argument.
const TELLING: [&str; 24] = [
    "application_id",
    "auto_vacuum",
    "collation_list",
    "compile_options",
    "data_version",
    "database_list",
    "encoding",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "page_size",
    "pragma_list",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// Of these, the ones that set something when they have an argument.
const SETTING: [&str; 6] = ["application_id", "auto_vacuum", "encoding", "page_size", "user_version", "page_count"];

/// How much a query may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long one statement may take; `None` for as long as it takes.
    pub time: Option<Duration>,
    /// Bytes that SQLite may allocate.
    pub memory_bytes: u64,
}

impl Limits {
    /// So many seconds, 0 for as long as it takes.
    pub fn of_seconds(seconds: u64, memory_bytes: u64) -> Self {
        Self { time: (seconds > 0).then(|| Duration::from_secs(seconds)), memory_bytes }
    }
}

/// Why a query gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// SQLite does not take the statement, or the database is damaged.
    #[error("{0}")]
    Sqlite(String),
    /// It would do more than read.
    #[error("a state in the repository can only be read: {statement:?}")]
    Writes {
        /// The statement.
        statement: String,
    },
    /// It took too long.
    #[error("the query took longer than {} s", .0.as_secs_f64())]
    TimeLimit(Duration),
    /// It needs too much.
    #[error("the query needs more than {0} bytes of memory")]
    MemoryLimit(u64),
    /// A parameter is not in the statement, or one of the statement has no value.
    #[error("{0}")]
    Parameter(String),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The user.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Whoever takes the rows.
    #[error("{0}")]
    Sink(String),
}

impl From<Fault> for QueryError {
    fn from(fault: Fault) -> Self {
        Self::Repository(fault.into())
    }
}

/// Takes the rows of statements.
pub trait Rows {
    /// A statement that gives rows of these columns begins.
    fn begin(&mut self, columns: &[String]) -> Result<(), String>;

    /// A row.
    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<(), String>;

    /// The statement has no more.
    fn end(&mut self) -> Result<(), String>;
}

/// A state that SQL can be run on.
pub struct Database {
    connection: Connection,
    view: View,
    limits: Limits,
    timer: Arc<dyn Timer>,
    /// When the statement that runs has to be done, in microseconds of the timer.
    deadline: Arc<AtomicU64>,
    monitor: Arc<dyn Monitor>,
}

impl Database {
    /// Opens a state.
    pub fn open(
        cache: &ChunkCache,
        state: &State,
        limits: Limits,
        timer: Arc<dyn Timer>,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Self, QueryError> {
        let pages = Arc::new(LazyPages::open(cache, state)?);
        Self::of(Arc::new(WithoutWal(pages)), limits, timer, monitor)
    }

    /// Opens any pages.
    pub fn of<P>(
        pages: Arc<P>,
        limits: Limits,
        timer: Arc<dyn Timer>,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Self, QueryError>
    where
        P: PageReader + Send + Sync + 'static,
        P::Error: std::error::Error + Send + Sync + 'static,
    {
        let view = View::new(pages).map_err(|error| QueryError::Sqlite(error.to_string()))?;
        let connection =
            view.connect().map_err(|error| unread(&view).unwrap_or(QueryError::Sqlite(message(&error))))?;
        let deadline = Arc::new(AtomicU64::new(u64::MAX));
        let mut database = Self { connection, view, limits, timer, deadline, monitor };
        database.guard().map_err(|error| database.explain(&error))?;
        Ok(database)
    }

    /// The connection, for what needs more than statements.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn guard(&mut self) -> rusqlite::Result<()> {
        self.connection.execute_batch(&format!("PRAGMA hard_heap_limit = {}", self.limits.memory_bytes))?;
        let (timer, deadline) = (Arc::clone(&self.timer), Arc::clone(&self.deadline));
        let monitor = Arc::clone(&self.monitor);
        let stop =
            move || monitor.is_cancelled() || timer.elapsed().as_micros() as u64 > deadline.load(Ordering::Relaxed);
        self.connection.progress_handler(STEPS, Some(stop))?;
        self.connection.authorizer(Some(authorize))
    }

    /// Runs statements, one after the other. Each takes those of `parameters`, by name without the sign, that it has; one that none of them has is an error.
    pub fn run(&self, sql: &str, parameters: &[(String, Value)], rows: &mut dyn Rows) -> Result<(), QueryError> {
        let mut batch = Batch::new(&self.connection, sql);
        let mut unused: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
        loop {
            self.begin();
            let Some(mut statement) = batch.next().map_err(|error| self.explain_of(&error, sql))? else { break };
            if !statement.readonly() {
                return Err(QueryError::Writes { statement: shortened(sql) });
            }
            bind(&mut statement, parameters, &mut unused)?;
            self.step(&mut statement, rows)?;
        }
        match unused.first() {
            Some(name) => Err(QueryError::Parameter(format!("no statement has the parameter :{name}"))),
            None => Ok(()),
        }
    }

    /// Starts the time limit anew.
    pub fn begin(&self) {
        let end = self.limits.time.map_or(u64::MAX, |time| (self.timer.elapsed() + time).as_micros() as u64);
        self.deadline.store(end, Ordering::Relaxed);
    }

    fn step(&self, statement: &mut Statement<'_>, rows: &mut dyn Rows) -> Result<(), QueryError> {
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        if columns.is_empty() {
            return Ok(());
        }
        rows.begin(&columns).map_err(QueryError::Sink)?;
        let mut found = statement.raw_query();
        while let Some(row) = found.next().map_err(|error| self.explain(&error))? {
            let values = (0..columns.len()).map(|at| row.get_ref(at)).collect::<rusqlite::Result<Vec<_>>>();
            rows.row(&values.map_err(|error| self.explain(&error))?).map_err(QueryError::Sink)?;
        }
        rows.end().map_err(QueryError::Sink)
    }

    /// What an error of SQLite means that came from this SQL.
    fn explain_of(&self, error: &rusqlite::Error, sql: &str) -> QueryError {
        match error.sqlite_error_code() {
            Some(ErrorCode::AuthorizationForStatementDenied | ErrorCode::ReadOnly) => {
                QueryError::Writes { statement: shortened(sql) }
            }
            _ => self.explain(error),
        }
    }

    /// Why a page could not be read, if that has happened.
    pub fn unread(&self) -> Option<QueryError> {
        self.view.failure().map(|failure| match failure.downcast::<RepositoryError>() {
            Ok(error) => QueryError::Repository(*error),
            Err(other) => QueryError::Sqlite(other.to_string()),
        })
    }

    /// What an error of SQLite means.
    pub fn explain(&self, error: &rusqlite::Error) -> QueryError {
        if let Some(unread) = unread(&self.view) {
            return unread;
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) if self.monitor.is_cancelled() => Cancelled.into(),
            Some(ErrorCode::OperationInterrupted) => QueryError::TimeLimit(self.limits.time.unwrap_or_default()),
            Some(ErrorCode::OutOfMemory) => QueryError::MemoryLimit(self.limits.memory_bytes),
            _ => QueryError::Sqlite(message(error)),
        }
    }
}

/// Why a page could not be read, if that is what happened.
fn unread(view: &View) -> Option<QueryError> {
    Some(match view.failure()?.downcast::<RepositoryError>() {
        Ok(error) => QueryError::Repository(*error),
        Err(other) => QueryError::Sqlite(other.to_string()),
    })
}

/// SQLite's words, without what the library adds.
fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

fn shortened(sql: &str) -> String {
    let mut text: String = sql.trim().chars().take(60).collect();
    if text.len() < sql.trim().len() {
        text.push('…');
    }
    text
}

fn bind(
    statement: &mut Statement<'_>,
    parameters: &[(String, Value)],
    unused: &mut Vec<&str>,
) -> Result<(), QueryError> {
    for position in 1..=statement.parameter_count() {
        let sign = statement.parameter_name(position).unwrap_or("?").to_owned();
        let name = sign.trim_start_matches([':', '@', '$', '?']);
        let name = if name.is_empty() { position.to_string() } else { name.to_owned() };
        let found = parameters.iter().find(|(given, _)| *given == name);
        let (_, value) = found.ok_or_else(|| QueryError::Parameter(format!("the parameter {sign} has no value")))?;
        unused.retain(|unused| *unused != name);
        let bound = statement.raw_bind_parameter(position, value);
        bound.map_err(|error| QueryError::Parameter(format!("{sign}: {error}")))?;
    }
    Ok(())
}

/// Writes are refused by the statement's own word, by SQLite and by the file; a virtual table may prepare some for itself and never use them.
fn authorize(context: AuthContext<'_>) -> Authorization {
    let allowed = match context.action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } | AuthAction::Unknown { .. } => false,
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let name = pragma_name.to_ascii_lowercase();
            TELLING.contains(&name.as_str()) && (pragma_value.is_none() || !SETTING.contains(&name.as_str()))
        }
        _ => true,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}
