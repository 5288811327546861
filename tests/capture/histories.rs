//! Random histories: what SQLite can do to a file, a snapshot after each step, and all of them restored in the end.
//!
//! `CONTINUUM_HISTORIES` says how many histories each test makes (default: 8), `CONTINUUM_SEED` with which seed they begin.

use std::fs;

use rusqlite::Connection;
use serde_json::Value;

use super::source::{NAME, Place, Taken, checkpoint, numbers};

const STEPS: u32 = 10;

#[test]
fn histories_with_pages_of_512_bytes() {
    histories(512);
}

#[test]
fn histories_with_pages_of_1024_bytes() {
    histories(1024);
}

#[test]
fn histories_with_pages_of_4096_bytes() {
    histories(4096);
}

#[test]
fn histories_with_pages_of_65536_bytes() {
    histories(65536);
}

fn histories(page_size: u32) {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number in the environment"))
    };
    let first = number("CONTINUUM_SEED", 1);
    for seed in first..first + number("CONTINUUM_HISTORIES", 8) {
        History::begin(seed, page_size).check();
    }
}

/// xorshift64.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % u64::from(end)) as u32
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u32) as usize]
    }
}

struct History {
    rng: Rng,
    place: Place,
    wal: bool,
    page_size: u32,
    /// `None` only while nobody is connected.
    writer: Option<Connection>,
    other: Option<Connection>,
    taken: Vec<Taken>,
    /// Everything that was done, for the message of a failure.
    done: Vec<String>,
}

impl History {
    fn begin(seed: u64, page_size: u32) -> Self {
        let mut rng = Rng::new(seed ^ u64::from(page_size) << 32);
        let (wal, auto_vacuum) = (!rng.one_in(4), rng.below(3));
        let done = vec![format!("seed {seed}, pages of {page_size}")];
        let place = Place::new();
        let mut history = Self { rng, place, wal, page_size, writer: None, other: None, taken: Vec::new(), done };
        history.connect();
        history.run(&format!("PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum}"));
        history.set_journal_mode();
        history.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB, c INTEGER); CREATE INDEX t_by_c ON t(c)");
        history.insert(30);
        history
    }

    fn check(mut self) {
        for _ in 0..STEPS {
            for _ in 0..=self.rng.below(3) {
                self.step();
            }
            self.snapshot();
        }
        let what = self.done.join("\n  ");
        let numbers: Vec<u64> = self.taken.iter().map(|taken| number(&taken.snapshot, "commit")).collect();
        for (pair, numbers) in self.taken.windows(2).zip(numbers.windows(2)) {
            // A state that comes back may have its number or a new one, but the order of numbers is that of time.
            assert!(numbers[0] <= numbers[1], "numbers {numbers:?} go back: {what}");
            if numbers[0] == numbers[1] {
                assert_eq!(pair[0].snapshot["blake3"], pair[1].snapshot["blake3"], "one number, two states: {what}");
            }
        }
        for (number, taken) in self.taken.iter().enumerate() {
            self.place.compare(taken, &format!("snapshot {number} of {what}"));
        }
        self.place.run(&["check", "--read-data"]).expect_success();
    }

    fn writer(&self) -> &Connection {
        self.writer.as_ref().expect("somebody is connected")
    }

    /// Executes statements; that SQLite refuses because of a lock is part of a history.
    fn run(&mut self, statements: &str) {
        self.done.push(statements.to_owned());
        let done = self.writer().execute_batch(statements);
        done.unwrap_or_else(|error| panic!("{error}: {}", self.done.join("\n  ")));
    }

    fn connect(&mut self) {
        let autocheckpoint = self.rng.pick(&[0, 0, 3, 17, 1000]);
        self.done.push(format!("connect, autocheckpoint {autocheckpoint}"));
        let connection = self.place.connect(autocheckpoint);
        let settings = "PRAGMA synchronous = off; PRAGMA cache_size = 10; PRAGMA mmap_size = 0";
        connection.execute_batch(settings).expect("settings of the connection");
        if self.rng.one_in(4) {
            let limit = self.rng.pick(&[0, 32, 32 + 10 * (24 + self.page_size), 100_000]);
            self.done.push(format!("journal_size_limit {limit}"));
            connection.pragma_update(None, "journal_size_limit", limit).expect("a setting of the connection");
        }
        self.writer = Some(connection);
    }

    /// The last one to close takes the WAL with it.
    fn disconnect(&mut self) {
        self.done.push("all disconnect".to_owned());
        (self.writer, self.other) = (None, None);
    }

    fn set_journal_mode(&mut self) {
        let mode = if self.wal { "wal" } else { self.rng.pick(&["delete", "truncate", "persist"]) };
        self.run(&format!("PRAGMA journal_mode = {mode}"));
    }

    fn insert(&mut self, most: u32) {
        let (rows, bytes) = (1 + self.rng.below(most), self.rng.pick(&[10, 300, 1000, 9000]));
        self.run(&format!(
            "{} INSERT INTO t(b, c) SELECT randomblob(abs(random()) % {bytes} + 1), abs(random()) % 50 FROM n",
            numbers(rows)
        ));
    }

    fn step(&mut self) {
        let (c, modulus) = (self.rng.below(50), 2 + self.rng.below(9));
        match self.rng.below(20) {
            0..=2 => self.insert(40),
            3..=5 => self.run(&format!("UPDATE t SET b = randomblob(length(b)) WHERE c = {c}")),
            6 => self.run(&format!("UPDATE t SET c = c + 1, b = substr(b, 1, 200) WHERE a % {modulus} = 0")),
            7 => self.run(&format!("DELETE FROM t WHERE a % {modulus} = 0")),
            8 => self.run("DELETE FROM t WHERE a > 5; VACUUM"),
            9 => self.run("VACUUM"),
            10 => self.run(&format!("PRAGMA incremental_vacuum({modulus})")),
            11 => self.run(&format!("DELETE FROM t WHERE c < {c}; PRAGMA incremental_vacuum")),
            12 => self.run("BEGIN; UPDATE t SET b = randomblob(900), c = -1; DELETE FROM t WHERE a % 2; ROLLBACK"),
            13..=15 if self.wal => self.checkpoint_elsewhere(),
            13 | 14 => self.run("UPDATE t SET b = b WHERE a = 1"),
            15 => self.done.push("nothing".to_owned()),
            16 | 17 => {
                self.disconnect();
                self.connect();
            }
            18 => self.change_kind(),
            _ => {
                // As if to be read by nobody but us.
                self.disconnect();
                self.snapshot();
                self.connect();
            }
        }
    }

    /// By a process's other connection; its pragma is a process's like any other.
    fn checkpoint_elsewhere(&mut self) {
        let kind = self.rng.pick(&["PASSIVE", "PASSIVE", "TRUNCATE", "RESTART", "FULL"]);
        self.done.push(format!("checkpoint {kind}"));
        let place = &self.place;
        let other = self.other.get_or_insert_with(|| place.connect(0));
        checkpoint(other, kind);
    }

    fn change_kind(&mut self) {
        self.other = None;
        if self.rng.one_in(3) {
            // Page sizes change with a rollback journal only.
            self.page_size = self.rng.pick(&[512, 1024, 4096, 65536]);
            let page_size = self.page_size;
            self.run(&format!("PRAGMA journal_mode = delete; PRAGMA page_size = {page_size}; VACUUM"));
        } else {
            self.wal = !self.wal;
        }
        self.set_journal_mode();
    }

    fn snapshot(&mut self) {
        if self.rng.one_in(10) && self.place.state().exists() {
            self.done.push("local state is lost".to_owned());
            fs::remove_dir_all(self.place.state()).expect("there is state");
        }
        let strategy = self.rng.pick(&["auto", "auto", "incremental", "incremental", "differential", "full"]);
        let taken = self.place.take(strategy);
        let of = |name: &str| taken.snapshot[name].to_string();
        self.done.push(format!(
            "SNAPSHOT {}: {strategy}, became {}, {}, commit {}, layers {}",
            self.taken.len(),
            of("strategy"),
            of("tier"),
            of("commit"),
            of("layers")
        ));
        assert!(number(&taken.snapshot, "layers") <= 32);
        if self.rng.one_in(4) {
            let full = self.place.snapshot_with("full");
            self.done.push("a full of the same state".to_owned());
            assert_eq!(full["blake3"], taken.snapshot["blake3"], "a full differs: {}", self.done.join("\n  "));
            assert_eq!(full["commit"], taken.snapshot["commit"], "the same state: {}", self.done.join("\n  "));
            self.taken.push(Taken { snapshot: full, view: taken.view.clone() });
        }
        self.taken.push(taken);
        if self.rng.one_in(6) {
            self.compact();
        }
    }

    /// Folds layers; the new snapshot must restore as the one before it.
    fn compact(&mut self) {
        let full = self.rng.one_in(2);
        self.done.push(format!("compact, full: {full}"));
        let arguments = ["compact", NAME, "--full"];
        let compacted = self.place.json(&arguments[..if full { 3 } else { 2 }]);
        let last = self.taken.last().expect("there was a snapshot");
        if !compacted["id"].is_null() {
            let mut snapshot = last.snapshot.clone();
            snapshot["id"] = compacted["id"].clone();
            let view = last.view.clone();
            self.taken.push(Taken { snapshot, view });
        }
    }
}

fn number(document: &Value, name: &str) -> u64 {
    document[name].as_u64().expect("a number")
}
