//! Why chosen tables were not restored.

use std::fmt;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::monitor::Cancelled;
use crate::ops::restore::RestoreError;
use crate::repo::RepositoryError;

/// Rows of one table that refer to missing rows of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphans {
    /// Whose rows.
    pub table: String,
    /// Where they refer to.
    pub parent: String,
    /// How many.
    pub rows: u64,
}

impl fmt::Display for Orphans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, refer) = if self.rows == 1 { ("row", "refers") } else { ("rows", "refer") };
        write!(f, "{} {rows} of {} {refer} to rows of {} that are not there", self.rows, self.table, self.parent)
    }
}

/// Why nothing was restored, or nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// The state has no such table.
    #[error("the state has no table or view {name:?}{}", listed(there))]
    NoSuchTable {
        /// What was asked for.
        name: String,
        /// What it may be instead.
        similar: Vec<String>,
        /// What there is.
        there: Vec<String>,
    },
    /// It could not be done right.
    #[error("{object} cannot be restored apart: {reason}")]
    Refused {
        /// What, e.g. `table orders`.
        object: String,
        /// Why.
        reason: String,
    },
    /// The condition is no single expression that only reads.
    #[error("--where {condition:?}: {reason}")]
    Condition {
        /// What was given.
        condition: String,
        /// What is wrong.
        reason: String,
    },
    /// A condition is for one table.
    #[error("--where chooses rows of one table, and this is {0}")]
    ConditionFor(String),
    /// It was declared with something that the application brings along.
    #[error("{object} needs the {kind} {name:?}, which is the application's own and unknown here")]
    Unknown {
        /// What, e.g. `index by_name`.
        object: String,
        /// E.g. `collation`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// The table in the database to restore into is another one.
    #[error("table {table}: the database to restore into has another one: {reason}")]
    OtherTable {
        /// Which.
        table: String,
        /// What differs.
        reason: String,
    },
    /// A row is there already, with other values.
    #[error("table {table}: the row with {key} is there already, and differs in {}", columns.join(", "))]
    Conflict {
        /// Which table.
        table: String,
        /// Its key, as text.
        key: String,
        /// Which columns differ.
        columns: Vec<String>,
    },
    /// A row breaks a rule of the database that it should come into.
    #[error("table {table}: the row with {key} does not fit into the database: {reason}")]
    Unfit {
        /// Which table.
        table: String,
        /// Its key, as text.
        key: String,
        /// SQLite's words.
        reason: String,
    },
    /// Rows would refer to rows that are not there.
    #[error("foreign keys would be violated: {}; nothing was changed", .0.iter().map(Orphans::to_string).collect::<Vec<_>>().join("; "))]
    Orphans(Vec<Orphans>),
    /// There is nothing to restore into.
    #[error("{}: there is no database to restore into", .0.display())]
    NothingThere(PathBuf),
    /// Others have the database.
    #[error("{}: another connection holds the database's lock", .0.display())]
    Busy(PathBuf),
    /// The database is written in another encoding than the state.
    #[error("{}: its text encoding is not the state's {encoding}, and SQLite cannot attach the one to the other", path.display())]
    Encoding {
        /// The database to restore into.
        path: PathBuf,
        /// The state's.
        encoding: String,
    },
    /// SQLite cannot.
    #[error("{doing}: {message}")]
    Sqlite {
        /// What was done.
        doing: String,
        /// SQLite's words.
        message: String,
        /// Whether it finds a database damaged.
        damaged: bool,
    },
    /// The files.
    #[error(transparent)]
    Files(#[from] RestoreError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The state cannot be read.
    #[error("the state cannot be read")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The user.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// So many names are listed in a message.
const LISTED: usize = 20;

fn listed(there: &[String]) -> String {
    match there {
        [] => "; it has none at all".to_owned(),
        few if few.len() <= LISTED => format!("; it has {}", few.join(", ")),
        many => format!("; it has {} and {} more", many[..LISTED].join(", "), many.len() - LISTED),
    }
}

impl TablesError {
    pub(super) fn refused(object: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self::Refused { object: object.to_string(), reason: reason.into() }
    }

    /// What an error of SQLite means, met while `doing` something with `object`. Neither locks nor the user's wish are looked at.
    pub(super) fn of_sqlite(error: &rusqlite::Error, doing: &str, object: &str) -> Self {
        const UNKNOWN: [(&str, &str); 6] = [
            ("no such collation sequence: ", "collation"),
            ("no such function: ", "function"),
            ("unsafe use of ", "function"),
            ("no such tokenizer: ", "tokenizer"),
            ("unknown tokenizer: ", "tokenizer"),
            ("no such module: ", "module"),
        ];
        let message = message(error);
        let unknown = UNKNOWN.iter().find_map(|(words, kind)| {
            let (_, name) = message.split_once(words)?;
            Some((*kind, name.trim_end_matches("()").to_owned()))
        });
        let code = error.sqlite_error_code();
        match unknown {
            Some((kind, name)) => Self::Unknown { object: object.to_owned(), kind, name },
            None => Self::Sqlite {
                doing: if object.is_empty() { doing.to_owned() } else { format!("{doing} {object}") },
                message,
                damaged: matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)),
            },
        }
    }
}

/// SQLite's words, without what the library adds.
pub(super) fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}
