//! What a command runs with: global options, the destination, the environment that the core is handed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value};

use crate::base::clock::SystemClock;
use crate::base::entropy::OsEntropy;
use crate::repo::{self, Environment, Repository};
use crate::store::Store;
use crate::store::local::LocalStore;
use crate::store::state::LocalState;

use super::GlobalOptions;
use super::error::CliError;
use super::progress::{self, TerminalMonitor, Verbosity};
use super::{output, password};

/// Packs are sealed and written by this many threads beside the ones that compress.
const UPLOAD_THREADS: usize = 2;

/// Ranges of packs are fetched by this many threads: enough for a destination that takes its time for each.
const FETCH_THREADS: usize = 8;

/// See the module documentation.
pub struct Session {
    options: GlobalOptions,
    started: Instant,
}

impl Session {
    /// Begins a command.
    pub fn new(options: GlobalOptions) -> Result<Self, CliError> {
        let caught = progress::catch_signals();
        caught.map_err(|error| CliError::failed(format!("cannot catch signals: {error}")))?;
        Ok(Self { options, started: Instant::now() })
    }

    /// Seconds since the command began.
    pub fn elapsed_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Whether to print JSON.
    pub fn json(&self) -> bool {
        self.options.json
    }

    /// Whether to leave out what was not asked for.
    pub fn quiet(&self) -> bool {
        self.options.quiet
    }

    /// Prints a document: an object whose first member names its format.
    pub fn print_json(&self, format: &str, document: Value) {
        let mut all = Map::new();
        all.insert("format".into(), format.into());
        if let Value::Object(members) = document {
            all.extend(members);
        }
        output::line(Value::Object(all).to_string());
    }

    /// Shows progress as the options say.
    pub fn monitor(&self) -> TerminalMonitor {
        TerminalMonitor::new(match &self.options {
            GlobalOptions { quiet: true, .. } | GlobalOptions { json: true, .. } => Verbosity::Quiet,
            GlobalOptions { verbose: true, .. } => Verbosity::Verbose,
            _ => Verbosity::Normal,
        })
    }

    /// Where the repository is.
    pub fn store(&self) -> Result<Arc<dyn Store>, CliError> {
        let Some(place) = &self.options.repository else {
            return Err(CliError::usage("no repository named").with_hint("use -r PLACE or set CONTINUUM_REPOSITORY"));
        };
        place_to_store(place)
    }

    /// The repository, opened with its password.
    pub fn open(&self) -> Result<Repository, CliError> {
        let store = self.store()?;
        // A place that holds no repository is said before a password is asked for.
        repo::require_config(&*store)?;
        Ok(repo::open(store, &password::current()?, environment())?)
    }
}

/// The store at a place that a person names.
pub fn place_to_store(place: &str) -> Result<Arc<dyn Store>, CliError> {
    let path = match place.split_once("://") {
        None => place,
        Some(("file", path)) => path,
        Some((scheme, _)) => {
            return Err(CliError::usage(format!(
                "{place}: destinations of the kind {scheme:?} are not supported; name a folder"
            )));
        }
    };
    if path.is_empty() {
        return Err(CliError::usage("the repository's name is empty"));
    }
    Ok(Arc::new(LocalStore::new(PathBuf::from(path))))
}

/// The machine's clock, entropy and state.
pub fn environment() -> Environment {
    Environment {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        state: state_folder().map(LocalState::new),
        upload_threads: UPLOAD_THREADS,
        fetch_threads: FETCH_THREADS,
    }
}

/// This machine's name.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `$XDG_STATE_HOME/continuum`, or `~/.local/state/continuum` (XDG Base Directory Specification 0.8; relative paths do not count).
fn state_folder() -> Option<PathBuf> {
    let absolute = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    base.map(|base| base.join("continuum"))
}
