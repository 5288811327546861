//! The ledger application of `load/ledger_app.py`, run as another process, and what tells whether a database is exactly one of its committed states.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use crate::support::{companion, text};

/// How long to wait for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The database of a ledger application.
pub struct Ledger {
    /// Its file.
    pub database: PathBuf,
    /// Of what the transactions do.
    pub seed: String,
}

impl Ledger {
    /// A ledger whose transactions follow from `seed`.
    pub fn new(database: PathBuf, seed: u64) -> Self {
        Self { database, seed: seed.to_string() }
    }

    /// Starts the application; it goes on where the database ends.
    pub fn run(&self, journal_mode: &str, autocheckpoint: u32) -> Load {
        Load::start(
            "ledger_app.py",
            &["run", text(&self.database), &self.seed, journal_mode, &autocheckpoint.to_string()],
        )
    }

    /// The acknowledged transactions, from 1, with the ledger's hash after each.
    pub fn acks(&self) -> Vec<(u64, String)> {
        let lines = std::fs::read_to_string(companion(&self.database, ".acks")).unwrap_or_default();
        let complete = lines.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let parse = |line: &str| {
            let (seq, hash) = line.split_once(' ').expect("two words a line");
            (seq.parse().expect("a number"), hash.to_owned())
        };
        complete.map(parse).collect()
    }

    /// The last acknowledged transaction.
    pub fn last_ack(&self) -> u64 {
        self.acks().last().map_or(0, |(seq, _)| *seq)
    }

    /// Waits until the transaction is acknowledged.
    #[track_caller]
    pub fn wait_for_ack(&self, seq: u64) {
        let end = Instant::now() + PATIENCE;
        while self.last_ack() < seq {
            assert!(Instant::now() < end, "the application does not write: {} of {seq}", self.last_ack());
            sleep(Duration::from_millis(2));
        }
    }

    /// The last transaction of each database, after every row of both tables was found right: no state but a committed one passes.
    pub fn lengths(&self, databases: &[PathBuf]) -> Vec<u64> {
        let mut command = program("ledger_app.py");
        let output = command.args(["verify", &self.seed]).args(databases).output().expect("python3 runs");
        assert!(output.status.success(), "no committed state: {}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).expect("numbers");
        lines.lines().map(|line| line.parse().expect("a number")).collect()
    }

    /// The ledger has the hashes that were acknowledged, whatever `verify` thinks they should be.
    pub fn check_hashes(&self, database: &Path) {
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("it opens");
        let mut statement = connection.prepare("SELECT hash FROM ledger WHERE seq = ?").expect("a ledger");
        let last: i64 = connection.query_row("SELECT max(seq) FROM ledger", [], |row| row.get(0)).expect("a row");
        for (seq, hash) in self.acks().into_iter().filter(|(seq, _)| *seq as i64 <= last) {
            let found: String = statement.query_row([seq as i64], |row| row.get(0)).expect("every acknowledged row");
            assert_eq!(found, hash, "transaction {seq}");
        }
    }
}

/// A program of `load/`, killed when it is dropped.
pub struct Load {
    /// The process.
    pub child: Child,
}

impl Load {
    /// Starts it.
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = program(name);
        let child = command.args(arguments).stdout(Stdio::null()).spawn().expect("python3 runs");
        Self { child }
    }

    /// Whether it has not ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of `load/`, to be given arguments.
pub fn program(name: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/load").join(name)).stdin(Stdio::null());
    command
}
