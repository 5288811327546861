//! A repository with snapshots of any age: each is one that the program took, with other times and strategies, so all can be restored.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use continuum::base::clock::{Clock, FixedClock, SystemClock, UnixMicros};
use continuum::base::entropy::OsEntropy;
use continuum::format::manifest::{Manifest, Strategy};
use continuum::format::timeline::Event;
use continuum::repo::timeline::{self, Behind};
use continuum::repo::{self, Environment, Repository};
use continuum::store::local::LocalStore;
use serde_json::Value;

use super::program::{PASSWORD, Place, make_database};

const HOUR: i64 = 3_600_000_000;

/// See the module documentation.
pub struct History {
    pub place: Place,
    manifest: Manifest,
}

/// What a run of the program said.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// On standard output.
    pub output: String,
    /// On standard error.
    pub text: String,
}

impl History {
    /// One without any snapshot but the model of all others, which is of a database named `model`.
    pub fn new() -> Self {
        let place = Place::new();
        place.continuum(&["init", "--kdf-memory-mib", "1", "--kdf-passes", "1"]);
        make_database(&place.path("notes.db"), 1024, 20);
        fs::copy(place.path("notes.db"), place.path("original.db")).expect("a copy");
        let original = place.path("original.db");
        place.continuum(&["snapshot", "--name", "model", original.to_str().expect("a path of UTF-8")]);
        let repository = open(&place, SystemClock.now());
        let (timeline, _) = timeline::load(&repository, "model").expect("the timeline");
        let manifest = timeline.last().expect("a snapshot").1.clone();
        Self { place, manifest }
    }

    /// The database that a watcher can follow.
    pub fn database(&self) -> PathBuf {
        self.place.path("notes.db")
    }

    /// Now, in microseconds.
    pub fn now(&self) -> i64 {
        SystemClock.now().0
    }

    /// Adds snapshots that are so many hours old; their ids.
    pub fn add(&self, name: &str, strategy: Strategy, hours: &[i64]) -> Vec<String> {
        let now = self.now();
        let add = |hours: &i64| {
            let captured = UnixMicros(now - hours * HOUR);
            let repository = open(&self.place, captured);
            let (mut timeline, _) = timeline::load(&repository, name).expect("the timeline");
            let manifest = Manifest { strategy, captured, ..self.manifest.clone() };
            let id = timeline.append(&repository, name, Event::Snapshot(manifest), Behind::Nothing);
            id.expect("an entry").to_string()
        };
        hours.iter().map(add).collect()
    }

    /// The repository, opened by the library.
    pub fn open(&self) -> Repository {
        open(&self.place, SystemClock.now())
    }

    /// The folder of a database's timeline.
    pub fn timeline_folder(&self, name: &str) -> PathBuf {
        let database = self.open().keys().database_id(name);
        self.place.path("repository").join("timelines").join(database.to_string())
    }

    /// Names of a timeline's entries.
    pub fn entries(&self, name: &str) -> Vec<String> {
        let folder = fs::read_dir(self.timeline_folder(name)).expect("the folder");
        let mut names: Vec<String> =
            folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("ASCII")).collect();
        names.sort();
        names
    }

    /// The program on the repository.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_continuum"));
        command.arg("--repository").arg(self.place.path("repository")).args(arguments);
        command.env("XDG_STATE_HOME", self.place.path("state")).env("XDG_CACHE_HOME", self.place.path("cache"));
        if !arguments.contains(&"--config") {
            command.env("CONTINUUM_CONFIG", "/dev/null");
        }
        command.env("CONTINUUM_PASSWORD", PASSWORD).stdin(std::process::Stdio::null());
        command
    }

    /// Runs the program, which must end with that code.
    pub fn run_to(&self, code: i32, arguments: &[&str]) -> Said {
        let Output { status, stdout, stderr } = self.command(arguments).output().expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let said = Said { code: status.code().expect("an exit code"), output: text(stdout), text: text(stderr) };
        assert!(said.code == code || code < 0 && said.code > 0, "{arguments:?}: {said:?}");
        said
    }

    /// Runs the program, which must succeed.
    pub fn run(&self, arguments: &[&str]) -> Said {
        self.run_to(0, arguments)
    }

    /// Runs the program, which must not succeed.
    pub fn refused(&self, arguments: &[&str]) -> Said {
        self.run_to(-1, arguments)
    }

    /// The document of a run that must succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.place.json(arguments)
    }

    /// A place to restore to.
    pub fn target(&self, name: &str) -> String {
        self.place.path(name).to_str().expect("a path of UTF-8").to_owned()
    }

    /// The database as every snapshot that was added has it.
    pub fn original(&self) -> Vec<u8> {
        fs::read(self.place.path("original.db")).expect("the database")
    }

    /// Whether a restored file is that.
    pub fn is_original(&self, name: &str) -> bool {
        fs::read(self.place.path(name)).expect("the restored file") == self.original()
    }
}

fn open(place: &Place, now: UnixMicros) -> Repository {
    let store = Arc::new(LocalStore::new(place.path("repository")));
    let (clock, entropy) = (Arc::new(FixedClock(now)), Arc::new(OsEntropy));
    let environment = Environment { clock, entropy, state: None, upload_threads: 0, fetch_threads: 0 };
    repo::open(store, &PASSWORD.into(), environment).expect("the repository opens")
}
