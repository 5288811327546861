//! A scratch place for tests of the program: a temporary folder with its own state, password and repository, and the
//! program run inside it. The repository may be on a server instead (see [`whereabouts`]).

#![allow(dead_code, reason = "each test binary uses a part of it")]

#[path = "../whereabouts/mod.rs"]
mod whereabouts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;
use whereabouts::Whereabouts;

/// The password that [`Scratch::run`] gives.
pub const PASSWORD: &str = "correct horse";
/// Options of `init` and `key add` that make deriving the key cheap.
pub const CHEAP: [&str; 4] = ["--kdf-memory-mib", "1", "--kdf-passes", "1"];

/// See the module documentation.
pub struct Scratch {
    folder: TempDir,
    repository: Whereabouts,
}

impl Scratch {
    /// An empty place.
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let repository = Whereabouts::new(folder.path().join("repository"));
        Self { folder, repository }
    }

    /// A place with a repository and, in `a.db`, a small database with one snapshot.
    pub fn with_snapshot() -> Self {
        let scratch = Self::with_repository();
        make_database(&scratch.path("a.db"), 200);
        scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
        scratch
    }

    /// A place with a repository.
    pub fn with_repository() -> Self {
        let scratch = Self::new();
        scratch.run(&[&["init"][..], &CHEAP].concat()).expect(0, &[]);
        scratch
    }

    /// A path inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The repository's folder, for tests that look inside.
    #[track_caller]
    pub fn repository(&self) -> PathBuf {
        self.repository.folder().to_owned()
    }

    /// The program, with this place as its world: nothing of the caller's environment but PATH and what a server asks for.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_continuum"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("CONTINUUM_PASSWORD", PASSWORD)
            .env("CONTINUUM_REPOSITORY", self.repository.name())
            .envs(whereabouts::credentials())
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        finish(self.command().args(arguments))
    }

    /// Runs with `--json` and parses what it prints.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let outcome = self.run(&[&["--json"], arguments].concat()).expect(0, &[]);
        serde_json::from_str(&outcome.stdout).unwrap()
    }

    /// Names of all objects, sorted.
    #[track_caller]
    pub fn objects(&self) -> Vec<String> {
        let mut names = Vec::new();
        let repository = self.repository();
        collect(&repository, &repository, &mut names);
        names.retain(|name| !name.starts_with("tmp/"));
        names.sort();
        names
    }

    /// The first object whose name begins so.
    #[track_caller]
    pub fn object(&self, prefix: &str) -> String {
        self.objects().into_iter().find(|name| name.starts_with(prefix)).unwrap()
    }

    /// Names of the files in a folder inside, sorted.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn collect(root: &Path, folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, names);
        } else {
            names.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

/// Runs a command to its end.
pub fn finish(command: &mut Command) -> Outcome {
    Outcome::of(format!("{:?}", command.get_args()), command.output().unwrap())
}

/// How a command ended.
pub struct Outcome {
    /// The arguments, for messages.
    pub what: String,
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// From the output of the command that `what` describes.
    pub fn of(what: String, output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { what, code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Panics unless the command ended so, with these words on standard error, and without a panic of its own.
    #[track_caller]
    pub fn expect(self, code: i32, words: &[&str]) -> Self {
        let Self { what, stdout, stderr, .. } = &self;
        let all = format!("{what}: code {:?}\nstdout: {stdout}\nstderr: {stderr}", self.code);
        assert_eq!(self.code, Some(code), "exit code of {all}");
        for word in words {
            assert!(stderr.contains(word), "{word:?} expected in {all}");
        }
        assert!(!stderr.contains("panicked"), "{all}");
        self
    }
}

/// Makes a database of `rows` rows, in rollback-journal mode: its file is its image.
pub fn make_database(path: &Path, rows: u32) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(&format!(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, item BLOB);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO orders SELECT i, randomblob(100) FROM n;"
        ))
        .unwrap();
}

/// Executes SQL in a database.
pub fn execute(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// The BLAKE3 hash of a file.
pub fn hash_of(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path).unwrap()).unwrap();
    hasher.finalize().to_hex().to_string()
}

/// `init` with a cheap key.
pub fn init(scratch: &Scratch, more: &[&str]) -> Outcome {
    scratch.run(&[&["init"], &CHEAP[..], more].concat())
}

/// Changes a file's content.
pub fn patch(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}
