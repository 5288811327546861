//! What a command runs with: global options, the destination, the environment that the core is handed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::base::clock::{SystemClock, SystemTimer};
use crate::base::entropy::OsEntropy;
use crate::monitor::{Event, Monitor};
use crate::repo::{self, Environment, Repository};
use crate::store::Store;
use crate::store::around::cache::Cache;
use crate::store::around::limit::Limits;
use crate::store::around::meter::{Counts, Meter};
use crate::store::connect::{Connected, Reach, Use, connect_all};
use crate::store::place::Place;
use crate::store::replicas::{Replicas, Standing};
use crate::store::state::LocalState;

use super::GlobalOptions;
use super::error::CliError;
use super::progress::{self, TerminalMonitor, Verbosity};
use super::{output, password};

/// Packs are sealed and written by this many threads beside the ones that compress, to a folder and over a network.
const UPLOAD_THREADS: (usize, usize) = (2, 4);

/// Ranges of packs are fetched by this many threads: enough for a destination that takes its time for each.
const FETCH_THREADS: usize = 8;

/// See the module documentation.
pub struct Session {
    options: GlobalOptions,
    started: Instant,
    monitor: Arc<TerminalMonitor>,
    connected: OnceLock<Connected>,
    opened: OnceLock<Repository>,
    /// Other repositories on several destinations.
    others: Mutex<Vec<(Arc<Replicas>, Repository)>>,
}

impl Session {
    /// Begins a command.
    pub fn new(options: GlobalOptions) -> Result<Self, CliError> {
        let caught = progress::catch_signals();
        caught.map_err(|error| CliError::failed(format!("cannot catch signals: {error}")))?;
        let monitor = Arc::new(TerminalMonitor::new(match &options {
            GlobalOptions { quiet: true, .. } | GlobalOptions { json: true, .. } => Verbosity::Quiet,
            GlobalOptions { verbose: true, .. } => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }));
        let (connected, opened, others) = (OnceLock::new(), OnceLock::new(), Mutex::default());
        Ok(Self { options, started: Instant::now(), monitor, connected, opened, others })
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

    /// Whether to show everything.
    pub fn verbose(&self) -> bool {
        self.options.verbose
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
    pub fn monitor(&self) -> Arc<TerminalMonitor> {
        Arc::clone(&self.monitor)
    }

    /// The places of the repository.
    pub fn places(&self) -> Result<Vec<Place>, CliError> {
        let places = &self.options.repository;
        if places.is_empty() {
            return Err(CliError::usage("no repository named").with_hint(
                "use -r PLACE, set CONTINUUM_REPOSITORY, or write `repository` into the configuration file",
            ));
        }
        parse_places(places)
    }

    /// The places as one text, the same from whatever folder the program is run.
    pub fn whereabouts(&self) -> Result<String, CliError> {
        Ok(self.places()?.iter().map(Place::identity).collect::<Vec<_>>().join(", "))
    }

    /// Where the repository is.
    pub fn store(&self) -> Result<Arc<dyn Store>, CliError> {
        Ok(Arc::clone(&self.connected()?.store))
    }

    /// The destinations.
    pub fn connected(&self) -> Result<&Connected, CliError> {
        if self.connected.get().is_none() {
            let connected = self.connect(&self.places()?)?;
            let _ = self.connected.set(connected);
        }
        Ok(self.connected.get().expect("BUG: it was set"))
    }

    /// Connects to places, as the options say.
    pub fn connect(&self, places: &[Place]) -> Result<Connected, CliError> {
        let GlobalOptions { timeout, retry_for, tolerate, limit_upload, limit_download, limit_requests, .. } =
            self.options;
        let options = Use {
            reach: Reach { timeout: Duration::from_secs(timeout), variable: &|name| std::env::var(name).ok() },
            retry: Duration::from_secs(retry_for),
            tolerate,
            limits: Limits {
                upload_bytes_a_second: limit_upload.map_or(0, |rate| rate.0),
                download_bytes_a_second: limit_download.map_or(0, |rate| rate.0),
                requests: limit_requests,
            },
            state: xdg_folder("XDG_STATE_HOME", ".local/state"),
            timer: Arc::new(SystemTimer::default()),
            entropy: Arc::new(OsEntropy),
            monitor: Arc::clone(&self.monitor) as _,
        };
        connect_all(places, options).map_err(|error| CliError::failed(error.to_string()))
    }

    /// The repository, opened with its password.
    pub fn open(&self) -> Result<Repository, CliError> {
        self.open_with(!self.options.no_cache)
    }

    /// The same, for work that looks at what the destinations hold, not at what this machine has kept of it.
    pub fn open_uncached(&self) -> Result<Repository, CliError> {
        self.open_with(false)
    }

    fn open_with(&self, use_cache: bool) -> Result<Repository, CliError> {
        let repository = self.open_through(self.store()?, password::current, use_cache)?;
        if let Some(replicas) = &self.connected()?.replicas {
            replicas.keep_up();
        }
        let _ = self.opened.set(repository.clone());
        Ok(repository)
    }

    /// Another repository than that of the command.
    pub fn open_other(
        &self,
        places: &[String],
        password: impl FnOnce() -> Result<SecretString, CliError>,
    ) -> Result<Repository, CliError> {
        let connected = self.connect(&parse_places(places)?)?;
        let repository = self.open_through(Arc::clone(&connected.store), password, !self.options.no_cache)?;
        if let Some(replicas) = connected.replicas {
            replicas.keep_up();
            self.others.lock().unwrap_or_else(PoisonError::into_inner).push((replicas, repository.clone()));
        }
        Ok(repository)
    }

    fn open_through(
        &self,
        mut store: Arc<dyn Store>,
        password: impl FnOnce() -> Result<SecretString, CliError>,
        use_cache: bool,
    ) -> Result<Repository, CliError> {
        // A place that holds no repository is said before a password is asked for.
        let (id, empty) = repo::require_config(&*store)?;
        for location in empty {
            let text = format!(
                "{location} holds no repository: if a disk belongs there, mount it; else `continuum sync` makes it a whole copy"
            );
            self.monitor.event(Event::Notice(text));
        }
        let environment = fitting_environment(&*store);
        let cache = xdg_folder("XDG_CACHE_HOME", ".cache").filter(|_| use_cache && store.concurrency() > 0);
        if let Some(cache) = cache {
            store = Arc::new(Cache::new(store, cache.join(id.to_string())));
        }
        let repository = repo::open(store, &password()?, environment)?;
        if repository.config().single_writer {
            self.monitor.event(Event::Notice(SINGLE_WRITER.into()));
        }
        Ok(repository)
    }

    /// What is to be done and said when the command has done its part: destinations that are behind get another chance, and copies that were found damaged are named.
    pub fn finish(&self) {
        let Some(connected) = self.connected.get() else { return };
        if let Some(replicas) = &connected.replicas {
            self.finish_with(replicas, self.opened.get());
        }
        for (replicas, opened) in self.others.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            self.finish_with(replicas, Some(opened));
        }
        if self.options.verbose {
            for meter in &connected.meters {
                eprintln!("{}", describe_counts(meter));
            }
        }
    }

    fn finish_with(&self, replicas: &Replicas, opened: Option<&Repository>) {
        if opened.is_some() {
            replicas.catch_up();
        }
        let standings = replicas.standings();
        let damaged = opened.map(|opened| opened.damaged_copies().list()).unwrap_or_default();
        let damaged = damaged.into_iter().map(|(location, name)| {
            format!(
                "{location}: {name} is damaged, another destination's copy is good; `continuum sync --read-data` mends it"
            )
        });
        let texts = standings.iter().filter_map(describe_standing).chain(damaged);
        texts.for_each(|text| self.monitor.event(Event::Notice(text)));
    }
}

/// Destinations, each of which is named once.
fn parse_places(places: &[String]) -> Result<Vec<Place>, CliError> {
    let places = places.iter().map(|place| Ok(Place::parse(place)?)).collect::<Result<Vec<_>, CliError>>()?;
    let identities: Vec<String> = places.iter().map(Place::identity).collect();
    let twice = identities.iter().enumerate().find(|(at, identity)| identities[..*at].contains(identity));
    if let Some((_, twice)) = twice {
        return Err(CliError::usage(format!("{twice} is named twice")));
    }
    Ok(places)
}

/// What is to be said of a destination, if it is not whole.
fn describe_standing(standing: &Standing) -> Option<String> {
    let Standing { location, owed, is_absent, lacking } = standing;
    let objects = |count: usize| output::plural(count as u64, "object");
    match (is_absent, owed, lacking.as_slice()) {
        // That was said when the repository was opened.
        (true, ..) => None,
        (false, 0, []) => None,
        (false, 0, [first, ..]) => Some(format!(
            "{location} lacks {}, among them {first}, which another destination has; `continuum sync` mends it",
            objects(lacking.len())
        )),
        (false, ..) => Some(format!(
            "{location} lacks {}; it is brought up to date once it answers, or by `continuum sync`",
            objects(*owed)
        )),
    }
}

const SINGLE_WRITER: &str =
    "this destination cannot refuse to overwrite: let only one process at a time write to the repository";

fn describe_counts(meter: &Meter) -> String {
    let Counts { creates, reads, lists, deletes, uploaded_bytes, downloaded_bytes } = meter.counts();
    format!(
        "{}: {creates} PUT ({}), {reads} GET ({}), {lists} LIST, {deletes} DELETE",
        meter.location(),
        output::bytes(uploaded_bytes),
        output::bytes(downloaded_bytes),
    )
}

/// The machine's environment, with threads that fit the destinations.
pub fn fitting_environment(store: &dyn Store) -> Environment {
    let upload_threads = if store.concurrency() > 0 { UPLOAD_THREADS.1 } else { UPLOAD_THREADS.0 };
    Environment { upload_threads, ..environment() }
}

/// The machine's clock, entropy and state.
pub fn environment() -> Environment {
    Environment {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        state: xdg_folder("XDG_STATE_HOME", ".local/state").map(LocalState::new),
        upload_threads: UPLOAD_THREADS.0,
        fetch_threads: FETCH_THREADS,
    }
}

/// This machine's name.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// `continuum` in a folder of the user.
pub fn xdg_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    user_folder(variable, below_home).map(|base| base.join("continuum"))
}

/// The folder that a variable names, or else one in the home folder (XDG Base Directory Specification 0.8; relative paths do not count).
pub fn user_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}
