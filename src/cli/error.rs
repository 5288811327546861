//! Errors at the edge: exit codes, and the hint that says what to do next.

use std::error::Error;
use std::io;

use serde_json::json;

use crate::format::FormatError;
use crate::format::name::ObjectName;
use crate::monitor::Cancelled;
use crate::ops::copy::CopyError;
use crate::ops::diff::DiffError;
use crate::ops::forget::ForgetError;
use crate::ops::points::FindError;
use crate::ops::prune::PruneError;
use crate::ops::query::QueryError;
use crate::ops::repair::RepairError;
use crate::ops::restore::RestoreError;
use crate::ops::snapshot::SnapshotError;
use crate::ops::snapshots::SelectError;
use crate::ops::tables::TablesError;
use crate::ops::verify::VerifyError;
use crate::repo::{Fault, RepositoryError};
use crate::serve::mount::MountError;
use crate::source::SourceError;
use crate::sqlite::header::HeaderError;
use crate::store::StoreError;
use crate::store::place::PlaceError;

use super::rows::shown;

/// Done.
pub const DONE: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// Damage, loss or manipulation was found.
pub const DAMAGE: u8 = 3;
/// No key slot opens with the password.
pub const WRONG_PASSWORD: u8 = 4;
/// Stopped by the user.
pub const INTERRUPTED: u8 = 130;

/// Why a command ends with a code other than 0.
#[derive(Debug)]
pub struct CliError {
    error: Box<dyn Error + Send + Sync>,
    code: u8,
    hint: Option<String>,
}

impl CliError {
    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { error: message.into().into(), code: USAGE, hint: None }
    }

    /// Something failed, and a text says what.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { error: message.into().into(), code: FAILED, hint: None }
    }

    /// With what to do next.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Prints error, causes and hint to standard error.
    pub fn print(&self, json: bool) {
        let mut causes = Vec::new();
        let mut source = self.error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        let message = self.error.to_string();
        if json {
            let document = json!({
                "format": "continuum.error/1", "message": message, "causes": causes,
                "hint": self.hint, "exit_code": self.code,
            });
            eprintln!("{document}");
            return;
        }
        // A message may have names and texts of a database.
        let message = message.lines().map(shown).collect::<Vec<_>>().join("\n");
        eprintln!("error: {message}");
        // A wrapper that only forwards has its cause's words; say them once.
        let mut last = &message;
        for cause in causes.iter().filter(|cause| **cause != message) {
            if cause != last {
                eprintln!("  because: {cause}");
            }
            last = cause;
        }
        if let Some(hint) = &self.hint {
            eprintln!("hint: {hint}");
        }
    }
}

impl From<RepositoryError> for CliError {
    fn from(error: RepositoryError) -> Self {
        let (code, hint) = repository_advice(&error);
        Self { error: error.into(), code, hint }
    }
}

/// The exit code, and what to do next.
fn repository_advice(error: &RepositoryError) -> (u8, Option<String>) {
    match error {
            RepositoryError::NotARepository { location } => {
                (FAILED, Some(format!("make one with `continuum -r {location} init`, or name the right place")))
            }
            RepositoryError::AlreadyExists { .. } => {
                (FAILED, Some("choose an empty place, or use the repository as it is".into()))
            }
            RepositoryError::WrongPassword { .. } => (WRONG_PASSWORD, None),
            RepositoryError::Fault(Fault::Unreadable { source, .. }) if source.is_about_access() => {
                (FAILED, store_hint(source))
            }
            RepositoryError::Fault(fault) => (DAMAGE, fault_hint(fault)),
            RepositoryError::Fenced { .. } => (
                FAILED,
                Some(
                    "nothing is lost; run the snapshot again, and let one process at a time back up a database".into(),
                ),
            ),
            RepositoryError::Collected => {
                (FAILED, Some("nothing is lost; run it again when no prune is at work".into()))
            }
            RepositoryError::BeingCaptured { .. } => (
                FAILED,
                Some("`continuum status` shows a watcher; a watched database needs no scheduled snapshots".into()),
            ),
            RepositoryError::WatchedElsewhere { .. } => (
                FAILED,
                Some("stop that watcher first; if its machine is gone for good, --take-over ends its part and goes on from here".into()),
            ),
            RepositoryError::DamagedBase { .. } => (
                DAMAGE,
                Some("take a snapshot of the live database: it will be a full one, in which what is lost is stored anew".into()),
            ),
            RepositoryError::LocalState(_) => {
                (FAILED, Some("$XDG_STATE_HOME/continuum (~/.local/state/continuum) must be writable for this user".into()))
            }
            RepositoryError::Cancelled(_) => (INTERRUPTED, None),
            RepositoryError::NoSlots { .. } => {
                (DAMAGE, Some("restore the folder `keys` from a copy of the repository".into()))
            }
            RepositoryError::Store(error @ StoreError::Conflict { .. }) => (DAMAGE, store_hint(error)),
            RepositoryError::Store(error) => (FAILED, store_hint(error)),
            RepositoryError::Unfaithful(_) => {
                (FAILED, Some("test this machine's memory before trusting it with data".into()))
            }
            RepositoryError::Password { .. } | RepositoryError::LastSlot { .. } | RepositoryError::PartialIndex => (FAILED, None),
        }
}

fn fault_hint(fault: &Fault) -> Option<String> {
    match fault {
        Fault::Object { source: FormatError::NewerVersion(_), .. } => Some("use a newer continuum".into()),
        Fault::Forked { .. } => Some("`continuum sync` shows what differs and how to decide".into()),
        Fault::RolledBack { .. } => Some(
            "if you know why, e.g. the repository was replaced by an older copy, remove this repository's heads from the local state \
             ($XDG_STATE_HOME/continuum) to accept it as it is now"
                .into(),
        ),
        _ => Some("`continuum check --read-data` lists all damage, `continuum repair` mends what can be mended; other snapshots may be intact".into()),
    }
}

fn store_hint(error: &StoreError) -> Option<String> {
    let source = match error {
        StoreError::Io { source, .. } => source,
        StoreError::GaveUp { source, .. } => return store_hint(source),
        StoreError::TooFew { .. } => {
            return Some("a destination that is gone for good is left out: name only the others with -r".into());
        }
        StoreError::Conflict { name, .. } if *name == ObjectName::config() => {
            return Some("these are two repositories: name only destinations of one of them".into());
        }
        StoreError::Conflict { .. } => {
            return Some("`continuum sync` shows what differs and how to decide".into());
        }
        _ => return None,
    };
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("make room and run the command again; what is stored is intact".into())
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some("the destination must be writable for this user or these credentials".into())
        }
        _ => None,
    }
}

impl From<PruneError> for CliError {
    fn from(error: PruneError) -> Self {
        let (code, hint) = match error {
            PruneError::Repository(error) => return error.into(),
            PruneError::Damaged(_) => {
                (DAMAGE, "`continuum check` lists all faults; `continuum repair` mends what can be mended")
            }
            PruneError::Behind { .. } => (FAILED, "`continuum sync` brings every destination up to date"),
        };
        Self { error: error.into(), code, hint: Some(hint.into()) }
    }
}

impl From<RepairError> for CliError {
    fn from(error: RepairError) -> Self {
        let hint = match error {
            RepairError::Repository(error) => return error.into(),
            RepairError::DoesNotAnswer { .. } => {
                "repair when every destination answers; one that is gone for good is left out: name only the others with -r"
            }
            RepairError::Unreachable(_) => "repair when the repository can be read whole",
        };
        Self { error: error.into(), code: FAILED, hint: Some(hint.to_owned()) }
    }
}

impl From<PlaceError> for CliError {
    fn from(error: PlaceError) -> Self {
        let hint = error.hint.clone();
        Self { error: error.into(), code: USAGE, hint }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        RepositoryError::from(error).into()
    }
}

impl From<SourceError> for CliError {
    fn from(error: SourceError) -> Self {
        let hint = match &error {
            SourceError::Locked { .. } => Some(
                "the application may use PRAGMA locking_mode=EXCLUSIVE or hold a long write transaction; \
                 wait longer with --busy-timeout, or let it close the database",
            ),
            SourceError::Header { source: HeaderError::NotSqlite, .. } => {
                Some("if the database is encrypted (SQLCipher, SEE), it cannot be captured page by page")
            }
            SourceError::Truncated { .. } | SourceError::WalDamaged { .. } => {
                Some("the source is damaged; its earlier snapshots are untouched")
            }
            SourceError::WalRestarted(_) | SourceError::Replaced(_) | SourceError::WalUnstable { .. } => {
                Some("run the command again")
            }
            _ => None,
        };
        Self { error: error.into(), code: FAILED, hint: hint.map(str::to_owned) }
    }
}

impl From<SnapshotError> for CliError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Source(error) => error.into(),
            SnapshotError::Repository(error) => error.into(),
        }
    }
}

impl From<RestoreError> for CliError {
    fn from(error: RestoreError) -> Self {
        let (code, hint) = match &error {
            RestoreError::Repository(_) => match error {
                RestoreError::Repository(error) => return error.into(),
                _ => (FAILED, None),
            },
            RestoreError::Unfinished { source, .. } => (
                restore_code(source),
                Some("run the same command again: it continues with what is there; or delete that file"),
            ),
            RestoreError::BeingRestored(_) => {
                (FAILED, Some("wait for it to end, or stop it and run the command again"))
            }
            RestoreError::ForeignPartial(_) => (FAILED, Some("move it away, or restore to another folder")),
            RestoreError::Exists(_) => (
                FAILED,
                Some("choose another target, or use --force to set aside what stands there; nothing is deleted"),
            ),
            RestoreError::NothingThere(_) => (FAILED, Some("leave out --in-place to make a new file")),
            RestoreError::InUse(_) => {
                (FAILED, Some("stop the application first, or restore to another file and let it switch over"))
            }
            RestoreError::WrongRoot { .. } => (DAMAGE, Some("`continuum check --read-data` looks for the damage")),
            RestoreError::Integrity(_) | RestoreError::Sqlite(_) => (
                DAMAGE,
                Some(
                    "the bytes are those that were captured, so the source was damaged already; \
                      --integrity-check=false restores it as it was, an older snapshot may be intact",
                ),
            ),
            RestoreError::Folder(_) | RestoreError::Io { .. } => (FAILED, None),
        };
        Self { error: error.into(), code, hint: hint.map(str::to_owned) }
    }
}

/// The exit code for a restore that can be continued.
fn restore_code(cause: &RestoreError) -> u8 {
    match cause {
        RestoreError::Repository(RepositoryError::Cancelled(_)) => INTERRUPTED,
        RestoreError::WrongRoot { .. } => DAMAGE,
        _ => FAILED,
    }
}

impl From<CopyError> for CliError {
    fn from(error: CopyError) -> Self {
        let (code, hint) = match &error {
            CopyError::SameRepository { .. } => (USAGE, Some("name another one with --to".to_owned())),
            CopyError::Select(error) => (FAILED, Some(select_hint(error).to_owned())),
            CopyError::Watched { .. } => {
                (FAILED, Some("a database has one writer: stop the watcher, or copy to a third repository".to_owned()))
            }
            CopyError::OtherHistory { .. } => (
                FAILED,
                Some(
                    "the destination's snapshots of it are not copies of these: copy to another repository, or the other databases with --name"
                        .to_owned(),
                ),
            ),
            CopyError::Source(error) | CopyError::Destination(error) => repository_advice(error),
            CopyError::Cancelled(_) => {
                (INTERRUPTED, Some("what is copied stays; the same command again goes on after it".to_owned()))
            }
        };
        Self { error: error.into(), code, hint }
    }
}

impl From<SelectError> for CliError {
    fn from(error: SelectError) -> Self {
        let hint = select_hint(&error).to_owned();
        Self { error: error.into(), code: FAILED, hint: Some(hint) }
    }
}

fn select_hint(error: &SelectError) -> &'static str {
    match error {
        SelectError::SeveralDatabases(_) => "name one with --name, or give a snapshot's id",
        SelectError::Ambiguous { .. } => "give more digits of the id",
        SelectError::NoCommit { .. } | SelectError::NothingBefore { .. } => "`continuum log` lists all restore points",
        SelectError::None(_) | SelectError::NoMatch(_) => {
            "`continuum snapshots` lists what is there, with --forgotten also what can be brought back"
        }
    }
}

impl From<ForgetError> for CliError {
    fn from(error: ForgetError) -> Self {
        let hint = match error {
            ForgetError::Select(error) => return error.into(),
            ForgetError::Repository(RepositoryError::Fenced { .. }) => {
                "others write to this database's timeline all the time; run the command again"
            }
            ForgetError::Repository(error) => return error.into(),
            ForgetError::Held { .. } => "`continuum hold --release` lets it be forgotten",
            ForgetError::Newest { .. } => "take another snapshot of the database first",
            ForgetError::AlreadyForgotten { .. } | ForgetError::NotForgotten { .. } => {
                "`continuum snapshots --forgotten` lists what is forgotten"
            }
            ForgetError::NotHeld { .. } => "`continuum snapshots` shows what is held",
            ForgetError::Gone { .. } => "what is forgotten can be brought back as long as no prune has passed",
            ForgetError::Changed { .. } => "nothing of it was forgotten; run the command again",
        };
        Self { error: error.into(), code: FAILED, hint: Some(hint.to_owned()) }
    }
}

impl From<VerifyError> for CliError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Repository(error) => error.into(),
            VerifyError::Scratch(_) | VerifyError::Folder { .. } => {
                let hint = Some("--scratch names a folder with room for the whole database".to_owned());
                Self { error: error.into(), code: FAILED, hint }
            }
        }
    }
}

impl From<QueryError> for CliError {
    fn from(error: QueryError) -> Self {
        let (code, hint) = match &error {
            QueryError::Repository(_) => match error {
                QueryError::Repository(error) => return error.into(),
                _ => (FAILED, None),
            },
            QueryError::Cancelled(_) => (INTERRUPTED, None),
            QueryError::Sqlite(text) if text.contains("no such table") => {
                (FAILED, Some("`SELECT name FROM sqlite_schema` lists what there is"))
            }
            QueryError::Writes { .. } => (FAILED, Some("restore the state to a file and change that")),
            QueryError::TimeLimit(_) => (FAILED, Some("--time-limit gives it longer")),
            QueryError::MemoryLimit(_) => (FAILED, Some("--memory-limit gives it more")),
            QueryError::Parameter(_) => (USAGE, Some("--param NAME=VALUE gives :NAME a value")),
            QueryError::Sqlite(_) | QueryError::Sink(_) => (FAILED, None),
        };
        Self { error: error.into(), code, hint: hint.map(str::to_owned) }
    }
}

impl From<TablesError> for CliError {
    fn from(error: TablesError) -> Self {
        let hint = tables_hint(&error);
        let code = match error {
            TablesError::Files(error) => return error.into(),
            TablesError::Repository(error) => return error.into(),
            TablesError::Cancelled(_) => INTERRUPTED,
            TablesError::Condition { .. } | TablesError::ConditionFor(_) => USAGE,
            TablesError::Sqlite { damaged: true, .. } => DAMAGE,
            _ => FAILED,
        };
        Self { error: error.into(), code, hint }
    }
}

/// What to do next.
fn tables_hint(error: &TablesError) -> Option<String> {
    Some(match error {
        TablesError::NoSuchTable { similar, .. } if !similar.is_empty() => format!("{} is meant?", similar.join(", or ")),
        TablesError::Refused { .. } => "restore the whole state to a file and take it from there".to_owned(),
        TablesError::Unknown { .. } => {
            "restore the whole state to a file and let the application open it: it brings that along".to_owned()
        }
        TablesError::Condition { .. } => {
            "one expression on the table's columns: text stands in single quotes, --where \"name = 'Ada'\"".to_owned()
        }
        TablesError::ConditionFor(_) => "name one table with --tables".to_owned(),
        TablesError::OtherTable { .. } => "restore to a new database with --to, and carry the rows over by hand".to_owned(),
        TablesError::Conflict { .. } => {
            "nothing was changed; --on-conflict ignore keeps such rows, --on-conflict replace gives them the values that they had".to_owned()
        }
        TablesError::Unfit { .. } => "nothing was changed; --where can leave the row out".to_owned(),
        TablesError::Orphans(_) => "restore the tables that are referred to as well".to_owned(),
        TablesError::Busy(_) => "nothing was changed; wait longer with --busy-timeout".to_owned(),
        TablesError::Encoding { .. } => "restore to a new database with --to".to_owned(),
        TablesError::NothingThere(_) => "--to makes a new database".to_owned(),
        _ => return None,
    })
}

impl From<DiffError> for CliError {
    fn from(error: DiffError) -> Self {
        let DiffError::Pages(cause) = error else {
            let (code, hint) = match &error {
                DiffError::Damaged(_) | DiffError::Btree(_) | DiffError::NoSuchPage { .. } => (
                    DAMAGE,
                    Some("the bytes are those that were captured; `continuum verify` checks a state".to_owned()),
                ),
                _ => (FAILED, None),
            };
            return Self { error: error.into(), code, hint };
        };
        match cause.downcast::<RepositoryError>() {
            Ok(error) => Self::from(*error),
            Err(cause) => Self { error: cause, code: FAILED, hint: None },
        }
    }
}

impl From<MountError> for CliError {
    fn from(error: MountError) -> Self {
        let error = match error {
            MountError::Repository(error) => return error.into(),
            error => error,
        };
        let hint = match &error {
            MountError::Folder { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("make the folder first".to_owned())
            }
            MountError::NotEmpty { .. } => Some("choose an empty folder".to_owned()),
            MountError::Mounted { path } => Some(format!("`umount {path}`, or choose another folder")),
            MountError::Dead { path } => Some(format!("`fusermount3 -u {path}`, or as root `umount {path}`, frees it")),
            MountError::Device(_) => Some(
                "the kernel's module fuse must be loaded (`modprobe fuse`); a container must be given /dev/fuse"
                    .to_owned(),
            ),
            MountError::NoHelper => Some("install fuse3 (Debian: apt-get install fuse3), or run as root".to_owned()),
            MountError::NoOthers { .. } => {
                Some("write `user_allow_other` into /etc/fuse.conf, or leave out --allow-other".to_owned())
            }
            MountError::Folder { .. } | MountError::Refused { .. } | MountError::Repository(_) => None,
        };
        Self { error: error.into(), code: FAILED, hint }
    }
}

impl From<FindError> for CliError {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Select(error) => error.into(),
            FindError::Repository(error) => error.into(),
        }
    }
}

impl From<Fault> for CliError {
    fn from(fault: Fault) -> Self {
        RepositoryError::from(fault).into()
    }
}

impl From<Cancelled> for CliError {
    fn from(error: Cancelled) -> Self {
        Self { error: error.into(), code: INTERRUPTED, hint: None }
    }
}
