//! What the tests that run the real binary share: a repository in a temporary folder or on a server (see [`whereabouts`]), and ways to
//! look at files whose databases may be open.
//!
//! Closing any descriptor of a file drops all of a process's POSIX locks on it. A test that holds a connection therefore reads the
//! database's files only through [`bytes_of`], which lets another process do it.

#![allow(dead_code, reason = "each test binary uses its part of this")]

#[path = "../whereabouts/mod.rs"]
pub mod whereabouts;

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use whereabouts::Whereabouts;

/// A repository, and room for databases and local state: beside it, if it is in a folder. All that is in folders is gone when it is dropped.
pub struct Repository {
    folder: TempDir,
    place: Whereabouts,
    /// If there are several, named with `-r`.
    destinations: Vec<String>,
}

impl Repository {
    /// Makes a repository whose password costs little to check.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let place = Whereabouts::new(folder.path().join("repository"));
        let repository = Self { folder, place, destinations: Vec::new() };
        repository.init().expect_success();
        repository
    }

    /// A URL at which no repository is yet.
    pub fn at(url: String) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            place: Whereabouts::Url(url),
            destinations: Vec::new(),
        }
    }

    /// `init` with a password that costs little to check.
    pub fn init(&self) -> Finished {
        self.run(&["init", "--kdf-memory-mib", "1", "--kdf-passes", "1"])
    }

    /// Room for a repository on several destinations, which is not made yet: URLs, or folders beside the databases.
    pub fn on(destinations: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let name = |name: &&str| match name.contains("://") {
            true => (*name).to_owned(),
            false => text(&folder.path().join(name)).to_owned(),
        };
        let destinations = destinations.iter().map(name).collect();
        Self { place: Whereabouts::Folder(folder.path().join("none")), folder, destinations }
    }

    /// The destinations, if there are several.
    pub fn destinations(&self) -> &[String] {
        &self.destinations
    }

    /// A path beside the repository.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The repository's folder, for tests that look inside or take it away.
    #[track_caller]
    pub fn root(&self) -> &Path {
        self.place.folder()
    }

    /// A new folder beside the repository.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir(&path).expect("a new folder");
        path
    }

    /// The binary with arguments, away from the settings of whoever runs the tests.
    pub fn command(&self, arguments: &[&str]) -> Command {
        if !self.destinations.is_empty() {
            let named = self.destinations.iter().flat_map(|destination| ["-r", destination]);
            return self.command_on(&named.chain(arguments.iter().copied()).collect::<Vec<_>>());
        }
        let mut command = self.command_on(arguments);
        command.env("CONTINUUM_REPOSITORY", self.place.name());
        command
    }

    /// The same, but the arguments say where the repository is.
    pub fn command_on(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_continuum"));
        command
            .args(arguments)
            .env_remove("CONTINUUM_REPOSITORY")
            .env("CONTINUUM_PASSWORD", "correct horse")
            .env("HOME", self.path("home"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("XDG_CONFIG_HOME", self.path("config"));
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let output = self.command(arguments).output().expect("the binary runs");
        Finished { command: arguments.join(" "), output }
    }

    /// Runs a command that must succeed, and returns its document.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat()).expect_success();
        serde_json::from_slice(&output.stdout).expect("one JSON document")
    }

    /// Takes a snapshot and returns what `snapshot --json` says of it.
    pub fn snapshot(&self, database: &Path, name: &str) -> Value {
        self.json(&["snapshot", text(database), "--name", name])["snapshots"][0].take()
    }

    /// Restores a snapshot, lets SQLite check it, and returns what `restore --json` says.
    pub fn restore(&self, snapshot: &Value, target: &Path) -> Value {
        let id = snapshot["id"].as_str().expect("a snapshot has an id");
        let restored = self.json(&["restore", id, "--to", text(target), "--integrity-check=true"]);
        assert_eq!(restored["integrity_checked"], true);
        assert_eq!(restored["blake3"], snapshot["blake3"], "restore and snapshot name different hashes");
        restored
    }
}

/// A run of the binary that has ended.
pub struct Finished {
    command: String,
    /// Exit status, standard output and standard error.
    pub output: Output,
}

impl Finished {
    /// Of a command with these arguments.
    pub fn of(arguments: &[&str], output: Output) -> Self {
        Self { command: arguments.join(" "), output }
    }

    /// What it said on standard error.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// The output of a run that must have succeeded.
    #[track_caller]
    pub fn expect_success(self) -> Output {
        let Self { command, output } = self;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`continuum {command}` ended with {}: {errors}", output.status);
        output
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have UTF-8 names")
}

/// The path of a database's companion, such as `-wal`.
pub fn companion(database: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(suffix);
    name.into()
}

/// A file's bytes, read by another process (see the module documentation).
pub fn bytes_of(path: &Path) -> Vec<u8> {
    let output = Command::new("cat").arg(path).output().expect("cat runs");
    assert!(output.status.success(), "cat {}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A file's BLAKE3 hash as the binary prints it. For files that this process has no connection to.
pub fn hash_of(path: &Path) -> String {
    let mut file = File::open(path).expect("the file opens");
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 4 << 20];
    loop {
        match file.read(&mut buffer).expect("the file is readable") {
            0 => return hasher.finalize().to_hex().to_string(),
            length => hasher.update_rayon(&buffer[..length]),
        };
    }
}
