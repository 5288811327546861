//! The connections of a restore of tables, and what their errors mean.
//!
//! # Guarantees
//! * No database is trusted: schemas call no functions but harmless ones, no extension is loaded, cells are checked, and nothing can be attached, dropped or altered by what is
//!   executed.
//! * Whatever runs, ends when the user wants it to.
//! * The past is only ever opened as a file that cannot be written to.
//!
//! An empty database in memory is each connection's `main`. A name without a database's is looked for there, then in the past and only then in the
//! new one: what a condition names is the past's.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, Params, Row};

use crate::monitor::{Cancelled, Monitor};
use crate::repo::RepositoryError;
use crate::sqlite::identifier::quoted;
use crate::vfs::{Failure, distrust};

use super::error::{TablesError, message};

/// The state that tables are taken from, as a database that SQLite can attach.
#[derive(Clone, Copy)]
pub struct Past<'a> {
    /// Its URI; read-only and immutable.
    pub uri: &'a str,
    /// Why its pages could not be read, if that happened since it was asked last.
    pub failure: &'a dyn Fn() -> Option<Failure>,
}

/// How the past is called in SQL.
pub const PAST: &str = "past";
/// How the database that is restored to is called in SQL.
pub const NEW: &str = "new";

/// After so many steps of SQLite's machine, it is looked at whether to go on.
const STEPS: i32 = 10_000;

/// A table that a statement uses, on behalf of a view or a trigger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// The innermost view or trigger.
    pub by: String,
    /// The table.
    pub table: String,
}

/// See the module documentation.
pub struct Work<'a> {
    /// SQLite.
    pub connection: Connection,
    past: Past<'a>,
    monitor: Arc<dyn Monitor>,
    /// What is written to; to be named when it is locked.
    target: Option<PathBuf>,
    uses: Arc<Mutex<Vec<Use>>>,
}

impl<'a> Work<'a> {
    /// A connection with the past attached, and nothing that could be written to.
    pub fn reading(past: Past<'a>, monitor: Arc<dyn Monitor>) -> Result<Self, TablesError> {
        let mut work = Self::unattached(past, monitor)?;
        // SQLite attaches only databases of the encoding that the first one has.
        let attached = work.attach(past.uri, PAST);
        if attached.is_err() && work.is_of_other_encoding() {
            for encoding in ["UTF-16le", "UTF-16be"] {
                work = Self::unattached(past, Arc::clone(&work.monitor))?;
                work.batch(&format!("PRAGMA main.encoding = '{encoding}'"), "set the encoding")?;
                if work.attach(past.uri, PAST).is_ok() {
                    return work.guarded();
                }
            }
        }
        attached?;
        work.guarded()
    }

    /// A connection with the past and a database to write to, which is opened as `uri`.
    pub fn writing(
        past: Past<'a>,
        monitor: Arc<dyn Monitor>,
        encoding: &str,
        target: &Path,
        uri: &str,
        busy_timeout: Duration,
    ) -> Result<Self, TablesError> {
        let mut work = Self::unattached(past, monitor)?;
        work.target = Some(target.to_owned());
        work.batch(&format!("PRAGMA main.encoding = {}", quoted(encoding)), "set the encoding")?;
        let waiting = work.connection.busy_timeout(busy_timeout);
        waiting.map_err(|error| work.explain(&error, "set the timeout", ""))?;
        work.attach(past.uri, PAST)?;
        if let Err(error) = work.attach(uri, NEW) {
            return Err(if matches!(&error, TablesError::Sqlite { message, .. } if message.contains("encoding")) {
                TablesError::Encoding { path: target.to_owned(), encoding: encoding.to_owned() }
            } else {
                error
            });
        }
        work.guarded()
    }

    fn unattached(past: Past<'a>, monitor: Arc<dyn Monitor>) -> Result<Self, TablesError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(":memory:", flags);
        let connection = connection.map_err(|error| TablesError::of_sqlite(&error, "open SQLite", ""))?;
        let mut work = Self { connection, past, monitor, target: None, uses: Arc::default() };
        work.harden().map_err(|error| work.explain(&error, "set up SQLite", ""))?;
        Ok(work)
    }

    fn harden(&mut self) -> rusqlite::Result<()> {
        distrust(&self.connection)?;
        // Rules of the databases are checked as a whole, before a commit: an insert alone must not cascade.
        self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, false)?;
        self.connection.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
        let monitor = Arc::clone(&self.monitor);
        self.connection.progress_handler(STEPS, Some(move || monitor.is_cancelled()))
    }

    fn guarded(mut self) -> Result<Self, TablesError> {
        let uses = Arc::clone(&self.uses);
        let guard = move |context: AuthContext<'_>| authorize(&context, &uses);
        let guarded = self.connection.authorizer(Some(guard));
        guarded.map_err(|error| self.explain(&error, "set up SQLite", ""))?;
        Ok(self)
    }

    fn attach(&self, uri: &str, name: &str) -> Result<(), TablesError> {
        let attached = self.connection.execute(&format!("ATTACH ?1 AS {name}"), [uri]);
        attached
            .map_err(|error| self.explain(&error, "open", if name == PAST { "the state" } else { "the database" }))?;
        // What SQLite reads first: whether it is a database, and its schema.
        let read = self.connection.query_row(&format!("SELECT count(*) FROM {name}.sqlite_schema"), [], |_| Ok(()));
        read.map_err(|error| self.explain(&error, "read", if name == PAST { "the state" } else { "the database" }))
    }

    fn is_of_other_encoding(&self) -> bool {
        let attached = self.connection.execute("ATTACH ?1 AS again", [self.past.uri]);
        attached.is_err_and(|error| message(&error).contains("encoding"))
    }

    /// Executes our own statements.
    pub fn batch(&self, sql: &str, doing: &str) -> Result<(), TablesError> {
        self.connection.execute_batch(sql).map_err(|error| self.explain(&error, doing, ""))
    }

    /// Executes a statement about `object`; returns how many rows it changed.
    pub fn execute(&self, sql: &str, parameters: impl Params, doing: &str, object: &str) -> Result<u64, TablesError> {
        let changed = self.connection.execute(sql, parameters);
        changed.map(|rows| rows as u64).map_err(|error| self.explain(&error, doing, object))
    }

    /// All rows of a query.
    pub fn rows<T>(
        &self,
        sql: &str,
        parameters: impl Params,
        doing: &str,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, TablesError> {
        let query = || self.connection.prepare(sql)?.query_map(parameters, row)?.collect::<Result<_, _>>();
        query().map_err(|error| self.explain(&error, doing, ""))
    }

    /// The number or text that a pragma tells.
    pub fn pragma<T: rusqlite::types::FromSql>(&self, schema: &str, name: &str) -> Result<T, TablesError> {
        let found = self.connection.pragma_query_value(Some(schema), name, |row| row.get(0));
        found.map_err(|error| self.explain(&error, "read", name))
    }

    /// What views and triggers use that a statement would set to work. `None` if SQLite cannot prepare it.
    pub fn uses_of(&self, sql: &str) -> Option<Vec<Use>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let prepared = self.connection.prepare(sql).is_ok();
        let uses = std::mem::take(&mut *self.uses.lock().unwrap_or_else(PoisonError::into_inner));
        prepared.then_some(uses)
    }

    /// What an error of SQLite means.
    pub fn explain(&self, error: &rusqlite::Error, doing: &str, object: &str) -> TablesError {
        if let Some(failure) = (self.past.failure)() {
            return match failure.downcast::<RepositoryError>() {
                Ok(error) => TablesError::Repository(*error),
                Err(other) => TablesError::Read(other),
            };
        }
        match (error.sqlite_error_code(), &self.target) {
            (Some(ErrorCode::OperationInterrupted), _) if self.monitor.is_cancelled() => Cancelled.into(),
            (Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), Some(path)) => TablesError::Busy(path.clone()),
            _ => TablesError::of_sqlite(error, doing, object),
        }
    }

    /// The user's wish to stop.
    pub fn check_cancelled(&self) -> Result<(), Cancelled> {
        self.monitor.check_cancelled()
    }
}

/// Lets nothing attach, drop or alter, and notes what views and triggers use.
fn authorize(context: &AuthContext<'_>, uses: &Mutex<Vec<Use>>) -> Authorization {
    let table = match context.action {
        AuthAction::Read { table_name, .. }
        | AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Delete { table_name } => table_name,
        AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::DropTable { .. }
        | AuthAction::DropIndex { .. }
        | AuthAction::DropTrigger { .. }
        | AuthAction::DropView { .. }
        | AuthAction::DropVtable { .. }
        | AuthAction::AlterTable { .. }
        | AuthAction::Analyze { .. }
        | AuthAction::Unknown { .. } => return Authorization::Deny,
        AuthAction::Function { function_name } if function_name.eq_ignore_ascii_case("load_extension") => {
            return Authorization::Deny;
        }
        _ => return Authorization::Allow,
    };
    if let Some(by) = context.accessor {
        let used = Use { by: by.to_owned(), table: table.to_owned() };
        let mut uses = uses.lock().unwrap_or_else(PoisonError::into_inner);
        // SQLite asks column by column.
        if uses.last() != Some(&used) {
            uses.push(used);
        }
    }
    Authorization::Allow
}
