//! A ledger that is written to and watched for some seconds, with what may happen to either; then dozens of its restore points are restored.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::ledger::{Ledger, Load};
use crate::points::{self, Point, assert_in_order, assert_kept, restore, spread};
use crate::support::{Repository, companion, text};
use crate::watcher::Watcher;

const NAME: &str = "ledger";

/// A commit is in the repository after the flush interval and a moment, altogether less than a second. Noisy machines get more.
const LONGEST_LAG: Duration = Duration::from_secs(3);

/// Turns after which everything has happened once.
const ROUND: u32 = 6;

/// What happens.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub seed: u64,
    pub autocheckpoint: u32,
    /// Options of `watch`.
    pub arguments: &'static [&'static str],
    /// Actions of `interfering.py`.
    pub interference: &'static [&'static str],
    pub kills_application: bool,
    pub kills_watcher: bool,
    /// How long to wait between two looks at the repository.
    pub turn_ms: u64,
    pub seconds: f64,
}

/// What was found, all of it right.
#[derive(Debug, Default)]
pub struct Done {
    pub restores: usize,
    pub transactions: u64,
    pub watcher_kills: u32,
    /// Of the watcher, while it ran.
    pub statuses: u32,
    /// Each transaction since the watcher attached has a number of its own.
    pub is_gapless: bool,
    /// The WAL in the end.
    pub wal_bytes: u64,
}

/// A moment, and what was acknowledged before and after it.
struct Mark {
    time: Timestamp,
    acked_before: u64,
    acked_after: u64,
}

impl Run {
    /// A run that nothing disturbs.
    pub fn new(seed: u64, autocheckpoint: u32) -> Self {
        let seconds = std::env::var("CONTINUUM_LIVE_SECONDS").ok();
        let seconds = seconds.map_or(5.0, |text| text.parse().expect("CONTINUUM_LIVE_SECONDS is a number of seconds"));
        Self {
            seed,
            autocheckpoint,
            arguments: &[],
            interference: &[],
            kills_application: false,
            kills_watcher: false,
            turn_ms: 150,
            seconds,
        }
    }

    /// Carries it out, and checks everything.
    pub fn carry_out(self) -> Done {
        let repository = Repository::new();
        let ledger = Ledger::new(repository.path("ledger.db"), self.seed);
        let application = ledger.run("wal", self.autocheckpoint);
        ledger.wait_for_ack(5);
        let watcher = self.watch(&repository, &ledger);
        let disturber = self.disturb(&ledger);
        let mut going = Going {
            run: self,
            repository,
            ledger,
            application,
            watcher,
            _disturber: disturber,
            marks: Vec::new(),
            listed: Vec::new(),
            latest: 0,
            done: Done::default(),
        };
        going.go();
        let acked = going.stop();
        going.verify(acked);
        println!("{self:?}: {:?}", going.done);
        going.done
    }

    fn watch(&self, repository: &Repository, ledger: &Ledger) -> Watcher {
        let defaults = [text(&ledger.database), "--flush-interval", "0.2"];
        let mut arguments = defaults.to_vec();
        if self.arguments.contains(&"--flush-interval") {
            arguments.truncate(1);
        }
        if !self.arguments.contains(&"--fold-interval") {
            arguments.extend(["--fold-interval", "1.5"]);
        }
        arguments.extend(self.arguments);
        Watcher::attached(repository, NAME, &arguments)
    }

    fn disturb(&self, ledger: &Ledger) -> Option<Load> {
        let seed = self.seed.to_string();
        let arguments = [&[text(&ledger.database), &seed, "0.15"], self.interference].concat();
        (!self.interference.is_empty()).then(|| Load::start("interfering.py", &arguments))
    }
}

struct Going {
    run: Run,
    repository: Repository,
    ledger: Ledger,
    application: Load,
    watcher: Watcher,
    _disturber: Option<Load>,
    marks: Vec<Mark>,
    /// Every list of restore points that was seen.
    listed: Vec<Vec<Point>>,
    /// The last transaction of what `latest` restored last.
    latest: u64,
    done: Done,
}

impl Going {
    fn go(&mut self) {
        let started = Instant::now();
        let end = started + Duration::from_secs_f64(self.run.seconds);
        // On a slow machine a round takes longer than the time that is given: everything happens once at least.
        for turn in (1..).take_while(|&turn| turn <= ROUND || Instant::now() <= end) {
            sleep(Duration::from_millis(self.run.turn_ms));
            self.mark();
            match turn % ROUND {
                1 => self.listed.push(points::list(&self.repository, NAME)),
                4 => self.check_status(),
                2 | 5 => self.check_latest(),
                3 if self.run.kills_application => self.restart_application(),
                0 if self.run.kills_watcher => self.restart_watcher(),
                _ => {}
            }
            assert!(self.application.is_running(), "the application ended by itself");
            assert!(self.watcher.is_running(), "the watcher ended by itself: {}", self.watcher.said());
        }
    }

    fn mark(&mut self) {
        let acked_before = self.ledger.last_ack();
        let time = Timestamp::now();
        self.marks.push(Mark { time, acked_before, acked_after: self.ledger.last_ack() });
    }

    /// What `status` calls acknowledged is a restore point.
    fn check_status(&mut self) {
        let Some(status) = self.watcher.status(&self.repository) else { return };
        let acknowledged = status["databases"][0]["acknowledged"].as_u64().expect("a number");
        let log = points::list(&self.repository, NAME);
        assert!(
            log.iter().any(|point| point.commit == acknowledged),
            "commit {acknowledged} is acknowledged, but not listed"
        );
        self.listed.push(log);
        self.done.statuses += 1;
    }

    /// `latest` never goes back, and lags only a moment behind the application.
    fn check_latest(&mut self) {
        let wanted = self
            .marks
            .iter()
            .rev()
            .find(|mark| mark.time.duration_until(Timestamp::now()).unsigned_abs() > LONGEST_LAG);
        let wanted = wanted.map_or(0, |mark| mark.acked_before);
        let (restored, said) = restore(&self.repository, NAME, &["latest"], "latest.db");
        let now = self.ledger.last_ack();
        let length = self.ledger.lengths(&[restored])[0];
        self.done.restores += 1;
        assert!(length >= self.latest, "`latest` went back from {} to {length}: {said}", self.latest);
        assert!(length <= now + 1, "`latest` is a transaction that was not committed: {length} of {now}");
        assert!(length >= wanted, "`latest` is {length}, long after {wanted}: {}", self.watcher.said());
        self.latest = length;
    }

    fn restart_application(&mut self) {
        self.application.kill();
        self.application = self.ledger.run("wal", self.run.autocheckpoint);
        self.ledger.wait_for_ack(self.ledger.last_ack() + 1);
    }

    fn restart_watcher(&mut self) {
        self.listed.push(points::list(&self.repository, NAME));
        self.watcher.kill();
        self.done.watcher_kills += 1;
        self.check_latest();
        sleep(Duration::from_millis(self.run.seed * 37 % 300));
        self.watcher = self.run.watch(&self.repository, &self.ledger);
    }

    /// Ends the watcher while the application goes on; what was acknowledged before.
    fn stop(&mut self) -> u64 {
        let acked = self.ledger.last_ack();
        self.done.wal_bytes = companion(&self.ledger.database, "-wal").metadata().map_or(0, |metadata| metadata.len());
        self.watcher.stop();
        self.application.kill();
        acked
    }

    fn verify(&mut self, acked: u64) {
        let log = points::list(&self.repository, NAME);
        assert_in_order(&log);
        self.listed.iter().for_each(|listed| assert_kept(listed, &log));
        let chosen = self.choose(&log);
        let restored: Vec<(PathBuf, serde_json::Value)> = chosen
            .iter()
            .enumerate()
            .map(|(number, (arguments, _))| {
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                restore(&self.repository, NAME, &arguments, &format!("{number}.db"))
            })
            .collect();
        let paths: Vec<PathBuf> = restored.iter().map(|(path, _)| path.clone()).collect();
        let lengths = self.ledger.lengths(&paths);
        let mut by_number: Vec<(u64, u64)> = Vec::new();
        for (((arguments, expected), (_, said)), length) in chosen.iter().zip(&restored).zip(&lengths) {
            expected.check(arguments, said, *length);
            by_number.push((said["commit"].as_u64().expect("a number"), *length));
        }
        by_number.sort_unstable();
        let (first, last) = (by_number[0], by_number[by_number.len() - 1]);
        assert!(by_number.is_sorted_by_key(|(_, length)| *length), "states out of order: {by_number:?}");
        assert!(last.1 >= acked, "{acked} was acknowledged before the watcher was stopped, but {last:?} is the last");
        assert!(last.1 > first.1, "the ledger did not grow");
        let is_calm = !self.run.kills_watcher && !self.run.kills_application;
        assert!(self.done.statuses > 0 || !is_calm, "no status of the watcher was seen");
        self.ledger.check_hashes(&paths[paths.len() - 1]);
        self.repository.run(&["check", "--read-data"]).expect_success();
        self.done.restores += restored.len();
        self.done.transactions = last.1;
        self.done.is_gapless = last.0 - first.0 == last.1 - first.1;
    }

    /// What to restore, and what must be found: commits far apart and a row of neighbours, snapshots, and times; the newest state comes last.
    fn choose(&self, log: &[Point]) -> Vec<(Vec<String>, Expected)> {
        let mut chosen = Vec::new();
        let middle = log.len() / 2;
        let row = &log[middle..(middle + 8).min(log.len())];
        for point in spread(log, 16).into_iter().chain(row).chain([&log[0]]) {
            let by_commit = vec!["--commit".to_owned(), point.commit.to_string()];
            chosen.push((by_commit, Expected::State(point.blake3.clone())));
        }
        let snapshots: Vec<&Point> = log.iter().filter(|point| point.snapshot.is_some()).collect();
        for point in spread(&snapshots, 8) {
            let id = point.snapshot.clone().expect("it is a snapshot");
            chosen.push((vec![id], Expected::State(point.blake3.clone())));
        }
        for mark in spread(&self.marks, 8) {
            // A transaction may be committed but not acknowledged, and one more may begin while the time is read.
            let long_before =
                |other: &&Mark| other.time.duration_until(mark.time) > LONGEST_LAG.try_into().expect("short");
            let least = self.marks.iter().rev().find(long_before).map_or(0, |mark| mark.acked_before);
            let by_time = vec!["--at".to_owned(), mark.time.to_string()];
            chosen.push((by_time, Expected::Between(least, mark.acked_after + 1)));
        }
        let last = log.last().expect("there are points");
        chosen.push((vec!["latest".to_owned()], Expected::State(last.blake3.clone())));
        chosen
    }
}

/// What a restore must give, besides a committed state.
enum Expected {
    State(String),
    /// Transactions.
    Between(u64, u64),
}

impl Expected {
    #[track_caller]
    fn check(&self, arguments: &[String], said: &serde_json::Value, length: u64) {
        match self {
            Self::State(blake3) => assert_eq!(said["blake3"], **blake3, "{arguments:?}"),
            Self::Between(least, most) => {
                assert!((least..=most).contains(&&length), "{arguments:?}: {length}, not {least} to {most}");
            }
        }
    }
}
