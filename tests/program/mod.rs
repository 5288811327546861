//! The real binary and the Python reader, run on a repository in a temporary folder, and databases to back up.
//!
//! The reader reads folders, so these tests cannot be run on a server: see `CONTINUUM_TEST_STORE` in `whereabouts`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// What unlocks every repository of these tests.
pub const PASSWORD: &str = "frozen";

/// A temporary folder with a repository and the program's local state.
pub struct Place {
    folder: TempDir,
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        assert!(std::env::var_os("CONTINUUM_TEST_STORE").is_none(), "the Python reader needs a repository in a folder");
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    /// The path of something in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the program on the repository; its output must be good.
    pub fn continuum<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Vec<u8> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_continuum"));
        command.arg("--repository").arg(self.path("repository")).args(arguments);
        command.env("XDG_STATE_HOME", self.path("state")).env("CONTINUUM_CONFIG", "/dev/null");
        good(&mut command)
    }

    /// What `--json` prints.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.continuum(&[&["--json"], arguments].concat());
        serde_json::from_slice(&output).expect("--json prints JSON")
    }

    /// Restores with the program; the file's bytes.
    pub fn restored(&self, snapshot: &str) -> Vec<u8> {
        let target = self.path(&format!("{snapshot}.db"));
        self.continuum(&["restore".as_ref(), snapshot.as_ref(), "--to".as_ref(), target.as_os_str()]);
        std::fs::read(target).expect("the restored file")
    }

    /// Runs the Python reader on the repository; its output must be good.
    pub fn reader<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Vec<u8> {
        good(python().arg(format_spec("reader.py")).arg(self.path("repository")).args(arguments))
    }

    /// Restores with the Python reader; the file's bytes.
    pub fn read_by_python(&self, snapshot: &str) -> Vec<u8> {
        let target = self.path(&format!("{snapshot}.python.db"));
        self.reader(&["restore".as_ref(), snapshot.as_ref(), target.as_os_str()]);
        std::fs::read(target).expect("the restored file")
    }
}

/// A file of the format's specification.
pub fn format_spec(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("format-spec").join(name)
}

/// Python, with the modules that the reader needs.
pub fn python() -> Command {
    const MODULES: &str =
        "import blake3, cbor2, lz4.block, zstandard; from cryptography.hazmat.primitives.hpke import Suite";
    static FOUND: LazyLock<bool> = LazyLock::new(|| {
        let output = Command::new("python3").args(["-c", MODULES]).output();
        output.is_ok_and(|output| output.status.success())
    });
    assert!(
        *FOUND,
        "format-spec/reader.py needs python3 (3.11 or newer) and its packages: \
         pip install 'cryptography>=48' blake3 zstandard lz4 cbor2"
    );
    let mut command = Command::new("python3");
    command.arg("-B");
    command
}

/// The standard output of a command that succeeds.
pub fn good(command: &mut Command) -> Vec<u8> {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONTINUUM_") {
            command.env_remove(name);
        }
    }
    command.env("CONTINUUM_PASSWORD", PASSWORD);
    let Output { status, stdout, stderr } = command.output().expect("the command runs");
    assert!(status.success(), "{command:?}: {status}\n{}", String::from_utf8_lossy(&stderr));
    stdout
}

/// A database with pages of that size: text, integers and arrays of floats in `rows` rows, and a table that is free again.
pub fn make_database(path: &Path, page_size: u32, rows: u32) {
    let database = Connection::open(path).expect("a database");
    database
        .execute_batch(&format!(
            "PRAGMA page_size = {page_size};
             CREATE TABLE note (id INTEGER PRIMARY KEY, title TEXT, body TEXT, embedding BLOB);
             CREATE TABLE scratch (filler BLOB);
             INSERT INTO scratch VALUES (zeroblob(20000));
             DROP TABLE scratch;"
        ))
        .expect("tables");
    add_rows(&database, 1, rows);
}

/// Adds that many rows from `first` on.
pub fn add_rows(database: &Connection, first: u32, rows: u32) {
    let mut insert = database.prepare("INSERT INTO note VALUES (?, ?, ?, ?)").expect("a statement");
    database.execute_batch("BEGIN").expect("a transaction");
    for id in first..first + rows {
        let body = format!("Note {id} says that all is well, {}. ", id * 7919 % 1000).repeat(4);
        insert.execute((id, format!("note {id}"), body, embedding(id))).expect("a row");
    }
    database.execute_batch("COMMIT").expect("a transaction");
}

/// 256 floats between −1 and 1.
fn embedding(id: u32) -> Vec<u8> {
    let mut noise = [0; 1024];
    blake3::Hasher::new().update(&id.to_le_bytes()).finalize_xof().fill(&mut noise);
    let float =
        |word: &[u8]| f32::from(i16::from_le_bytes([word[0], word[1]])) / 32_768.0 * (1.0 + f32::from(word[2]) / 977.0);
    noise.chunks_exact(4).flat_map(|word| float(word).to_le_bytes()).collect()
}
