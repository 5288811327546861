//! Snapshots of databases that other processes write to at the same time, or were killed while writing to: each restored one is exactly
//! a committed state, and one of those that were current while the snapshot was taken.
//!
//! The writers are the programs in `load/`; `CONTINUUM_LIVE_SECONDS` says for how long they write (default: 8). This process never opens their
//! databases, only what was restored.

mod ledger;
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use continuum::base::page::{PageNo, PageReader};
use continuum::source::{Capture, CaptureOptions, Pinned, SourceError};
use rusqlite::Connection;
use serde_json::Value;

use ledger::{Load, program};
use support::{Repository, companion, text};

/// How many states are restored at most, spread over all that were stored.
const MOST_RESTORED: usize = 60;

#[test]
fn transfers_between_accounts_keep_their_sum() {
    let repository = Repository::new();
    let database = repository.path("bank.db");
    open_bank(&database);
    let seconds = (live_duration().as_secs_f64() * 1.5).to_string();
    let mut writers: Vec<Program> = [(1, "20"), (2, "200"), (3, "1000")]
        .map(|(seed, autocheckpoint): (u32, _)| {
            Program::start("bank_writer.py", &[text(&database), &seed.to_string(), &seconds, autocheckpoint])
        })
        .into();
    let mut snapshots = Vec::new();
    while writers.iter_mut().any(Program::is_running) {
        snapshots.push(repository.snapshot(&database, "bank"));
    }
    let committed: Vec<String> = writers.iter_mut().map(Program::last_line).collect();
    let mut states: Vec<&Value> = snapshots.iter().map(|snapshot| &snapshot["blake3"]).collect();
    states.dedup();
    println!("bank: {} snapshots of {} states, commits: {}", snapshots.len(), states.len(), committed.join(", "));
    assert!(states.len() > 1, "the database did not change");
    for (number, snapshot) in spread(&snapshots).enumerate() {
        let restored = repository.path(&format!("bank-{number}.db"));
        repository.restore(snapshot, &restored);
        let connection = Connection::open(&restored).unwrap();
        let query = "SELECT count(*), sum(balance) FROM accounts";
        let found: (i64, i64) = connection.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(found, (300, 30000), "snapshot {number}");
    }
}

fn open_bank(database: &Path) {
    let bank = Connection::open(database).expect("a new database");
    let opened = bank.execute_batch(
        "PRAGMA page_size = 512; PRAGMA journal_mode = wal;
         CREATE TABLE accounts(id INTEGER PRIMARY KEY, balance INTEGER, padding BLOB);
         WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 299)
         INSERT INTO accounts SELECT i, 100, randomblob(50) FROM n;",
    );
    opened.expect("300 accounts of 100 each");
}

/// SQLite cuts a WAL of which nothing is left to move although a reader has a transaction open. It is cut at other moments of a
/// snapshot.
#[test]
fn a_wal_cut_short_under_a_snapshot() {
    let repository = Repository::new();
    let database = repository.path("rounds.db");
    let mut writer = Program::start("truncating_writer.py", &[text(&database)]);
    writer.wait_for_line("ready");
    // What does not change is stored by this one, so that all others take about as long as the next.
    repository.snapshot(&database, "rounds");
    let started = Instant::now();
    repository.snapshot(&database, "rounds");
    let (mut cut_count, mut snapshot_duration) = (0, started.elapsed());
    let end = Instant::now() + live_duration();
    for number in 0.. {
        if Instant::now() > end {
            println!("rounds: {number} snapshots, the WAL was cut under {cut_count}");
            break;
        }
        writer.step();
        writer.wait_for_line("checkpointed");
        let started = Instant::now();
        let arguments = ["snapshot", text(&database), "--name", "rounds", "--json"];
        let mut snapshot = repository.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        sleep(snapshot_duration * (number * 7 % 20) / 20);
        writer.step();
        let was_cut = writer.line() == "cut";
        cut_count += u32::from(was_cut && snapshot.try_wait().unwrap().is_none());
        let output = snapshot.wait_with_output().unwrap();
        assert!(output.status.success(), "snapshot {number} ended with {}", output.status);
        snapshot_duration = started.elapsed();
        let taken: Value = serde_json::from_slice(&output.stdout).unwrap();
        let restored = repository.path(&format!("rounds-{number}.db"));
        repository.restore(&taken["snapshots"][0], &restored);
        let connection = Connection::open(&restored).unwrap();
        let query = "SELECT count(*), count(DISTINCT round) FROM rounds";
        let found: (i64, i64) = connection.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(found, (50, 1), "snapshot {number} mixes states");
    }
}

/// Whose WAL is restarted every few transactions.
#[test]
fn a_ledger_with_a_short_wal() {
    check_running_ledger("wal", 10);
}

#[test]
fn a_ledger_with_a_long_wal() {
    check_running_ledger("wal", 1000);
}

#[test]
fn a_ledger_with_a_rollback_journal() {
    check_running_ledger("delete", 1000);
}

fn check_running_ledger(journal_mode: &'static str, autocheckpoint: u32) {
    let repository = Repository::new();
    let ledger = Ledger { autocheckpoint, ..Ledger::new(&repository, journal_mode) };
    let mut app = ledger.run(None);
    ledger.wait_for_ack(10);
    let end = Instant::now() + live_duration();
    let mut taken = Vec::new();
    while Instant::now() < end {
        taken.push(ledger.snapshot(&repository));
        assert!(app.is_running(), "the application ended by itself");
    }
    app.kill();
    let last = ledger.last_ack();
    println!("{journal_mode} ledger, autocheckpoint {autocheckpoint}: {} snapshots, {last} transactions", taken.len());
    assert!(last > taken[0].acked_before, "the ledger did not grow");
    ledger.verify(&repository, &taken);
}

#[test]
fn a_killed_ledger_in_wal_mode() {
    check_killed_ledger("wal");
}

#[test]
fn a_killed_ledger_with_a_rollback_journal() {
    check_killed_ledger("delete");
}

/// Killed at any moment, again and again; the application goes on where the state that the kill left ends.
fn check_killed_ledger(journal_mode: &'static str) {
    let repository = Repository::new();
    let ledger = Ledger::new(&repository, journal_mode);
    let mut taken = Vec::new();
    let end = Instant::now() + live_duration();
    let mut hot_journals = 0;
    while Instant::now() < end {
        let mut app = ledger.run(None);
        ledger.wait_for_ack(ledger.last_ack() + 5 + taken.len() as u64 % 7);
        sleep(Duration::from_micros(taken.len() as u64 * 1709 % 20_011));
        app.kill();
        hot_journals += usize::from(companion(&ledger.database, "-journal").exists());
        taken.push(ledger.snapshot(&repository));
    }
    println!("{journal_mode} ledger: {} kills, {hot_journals} journals were left", taken.len());
    ledger.verify(&repository, &taken);
}

/// The file holds pages of a transaction that will never be committed.
#[test]
fn a_ledger_killed_with_a_hot_journal() {
    let (repository, ledger) = killed_in_transaction("delete");
    let journal = companion(&ledger.database, "-journal");
    assert!(journal.metadata().unwrap().len() > 512, "this case is about a journal that must be rolled back");
    let restored = repository.path("latest.db");
    let taken = repository.run(&["snapshot", text(&ledger.database), "--name", "ledger"]).expect_success();
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(said.contains("rolled back a transaction"), "{said:?}");
    repository.json(&["restore", "--to", text(&restored), "--integrity-check=true"]);
    assert_eq!(ledger.lengths(&[restored]), [ledger.last_ack()]);
}

/// The WAL holds frames of a transaction that will never be committed; nothing need be written to see that.
#[test]
fn a_ledger_killed_with_unfinished_frames() {
    let (repository, ledger) = killed_in_transaction("wal");
    let files = || ["", "-wal"].map(|suffix| std::fs::read(companion(&ledger.database, suffix)).unwrap());
    let before = files();
    // As after a crash of the machine: the WAL's index is rebuilt.
    for index in ["kept", "gone"] {
        if index == "gone" {
            std::fs::remove_file(companion(&ledger.database, "-shm")).unwrap();
        }
        let taken = ledger.snapshot(&repository);
        assert!(files() == before, "index {index}: the source was written to");
        let restored = repository.path(&format!("{index}.db"));
        repository.restore(&taken.snapshot, &restored);
        assert_eq!(ledger.lengths(&[restored]), [ledger.last_ack()]);
    }
}

fn killed_in_transaction(journal_mode: &'static str) -> (Repository, Ledger) {
    let repository = Repository::new();
    let ledger = Ledger::new(&repository, journal_mode);
    let mut app = ledger.run(Some(60));
    app.wait_for_line("hanging");
    app.kill();
    assert_eq!(ledger.last_ack(), 59);
    (repository, ledger)
}

/// A ledger, and how its application runs.
struct Ledger {
    ledger: ledger::Ledger,
    journal_mode: &'static str,
    autocheckpoint: u32,
}

/// A snapshot, and what was acknowledged before and after it was taken.
struct Taken {
    snapshot: Value,
    acked_before: u64,
    acked_after: u64,
}

impl std::ops::Deref for Ledger {
    type Target = ledger::Ledger;

    fn deref(&self) -> &ledger::Ledger {
        &self.ledger
    }
}

impl Ledger {
    fn new(repository: &Repository, journal_mode: &'static str) -> Self {
        Self { ledger: ledger::Ledger::new(repository.path("ledger.db"), 1), journal_mode, autocheckpoint: 50 }
    }

    fn run(&self, hang_at: Option<u32>) -> Program {
        let (autocheckpoint, hang_at) = (self.autocheckpoint.to_string(), hang_at.map(|seq| seq.to_string()));
        let mut arguments = vec!["run", text(&self.database), &self.seed, self.journal_mode, &autocheckpoint];
        arguments.extend(hang_at.as_deref());
        Program::start("ledger_app.py", &arguments)
    }

    fn snapshot(&self, repository: &Repository) -> Taken {
        let acked_before = self.last_ack();
        let snapshot = repository.snapshot(&self.database, "ledger");
        Taken { snapshot, acked_before, acked_after: self.last_ack() }
    }

    /// Restores the snapshots and checks each: it is the state after some transaction, no older than what was acknowledged before it was
    /// taken, and no newer than the one transaction that may have been committed but not acknowledged after it.
    fn verify(&self, repository: &Repository, taken: &[Taken]) {
        let taken: Vec<&Taken> = spread(taken).collect();
        let restored: Vec<PathBuf> = (0..taken.len()).map(|number| repository.path(&format!("{number}.db"))).collect();
        for (Taken { snapshot, .. }, target) in taken.iter().zip(&restored) {
            repository.restore(snapshot, target);
        }
        for (number, (Taken { acked_before, acked_after, .. }, last)) in
            taken.iter().zip(self.lengths(&restored)).enumerate()
        {
            let allowed = *acked_before..=acked_after + 1;
            assert!(allowed.contains(&last), "snapshot {number} ends at {last}, but {allowed:?} was current");
        }
        self.check_hashes(restored.last().expect("at least one snapshot"));
    }
}

/// A program of `load/` that is talked with.
struct Program {
    load: Load,
    lines: BufReader<std::process::ChildStdout>,
}

impl Program {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = program(name);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { load: Load { child }, lines }
    }

    fn is_running(&mut self) -> bool {
        self.load.is_running()
    }

    fn kill(&mut self) {
        self.load.kill();
    }

    /// What it printed, once it has ended well.
    fn last_line(&mut self) -> String {
        let status = self.load.child.wait().expect("a child of ours");
        assert!(status.success(), "a writer ended with {status}");
        self.lines.by_ref().lines().last().expect("a line").expect("text")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    fn wait_for_line(&mut self, wanted: &str) {
        assert_eq!(self.line(), wanted);
    }

    /// Lets a program that waits for a line go on.
    fn step(&mut self) {
        self.load.child.stdin.as_mut().expect("a pipe").write_all(b"\n").expect("the program reads");
    }
}

fn live_duration() -> Duration {
    let seconds = std::env::var("CONTINUUM_LIVE_SECONDS").ok();
    let seconds = seconds.map_or(8, |text| text.parse().expect("CONTINUUM_LIVE_SECONDS is a number of seconds"));
    Duration::from_secs(seconds)
}

/// At most [`MOST_RESTORED`] of the items, evenly spread; the last is among them.
fn spread<T>(items: &[T]) -> impl Iterator<Item = &T> {
    let step = items.len().div_ceil(MOST_RESTORED).max(1);
    items.iter().rev().step_by(step)
}

/// Cuts the WAL when told to, while everything in it has been checkpointed already.
const CUTTER: &str = "
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in ['pragma journal_mode=wal', 'create table t(a)', 'insert into t values(randomblob(20000))', 'pragma wal_checkpoint(passive)']:
    c.execute(statement)
print('ready', flush=True)
input()
print(c.execute('pragma wal_checkpoint(truncate)').fetchone()[0], flush=True)
input()
";

#[test]
fn a_wal_that_is_cut_under_the_pin_is_noticed_and_mapped_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.db");
    let mut writer = Command::new("python3")
        .args(["-c", CUTTER])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let mut capture = Capture::open(&path, CaptureOptions::default()).unwrap();
    writer.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "0", "the checkpoint was not refused");
    let mut page = vec![0; capture.pages().page_size().bytes()];
    let read = capture.pages().read(PageNo(1), &mut page);
    assert!(matches!(read, Err(SourceError::WalRestarted(_))), "{read:?}");
    capture.map_wal().unwrap();
    capture.pages().read(PageNo(1), &mut page).unwrap();
    assert_eq!(page[..page.len()], std::fs::read(&path).unwrap()[..page.len()]);
    capture.finish().unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
}
