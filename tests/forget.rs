//! Forgetting on real repositories: what the program and the library keep, say, refuse and bring back, and that nobody else is disturbed.

#[path = "forget/history.rs"]
mod history;
mod program;

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use continuum::format::manifest::Strategy::{Continuous, Full, Incremental};
use continuum::format::timeline::{Event, Run};
use continuum::monitor::Silent;
use continuum::ops::forget::{
    ForgetError, ForgetOptions, ForgetPlan, Obstacle, What, forget, hold, plan_forget, release, unforget,
};
use continuum::policy::refusal::Allowed;
use continuum::policy::retention::{Among, Policy, Reach, Rule};
use continuum::repo::timeline::{self, Behind};
use history::History;
use jiff::tz::TimeZone;
use rusqlite::Connection;
use serde_json::Value;

const DAY: i64 = 24;

/// Ids of restore points as `snapshots` lists them.
fn listed(history: &History, options: &[&str]) -> Vec<String> {
    let document = history.json(&[&["snapshots", "--name", "notes"], options].concat());
    let list = document["snapshots"].as_array().expect("a list").iter();
    list.map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
}

fn picked(ids: &[String], positions: &[usize]) -> Vec<String> {
    positions.iter().map(|&at| ids[at].clone()).collect()
}

/// What a document of `forget` says of the database.
fn notes(document: &Value) -> &Value {
    let databases = document["databases"].as_array().expect("a list");
    databases.iter().find(|database| database["database"] == "notes").expect("the database")
}

/// What was forgotten of it.
fn forgotten(document: &Value) -> Vec<String> {
    let snapshots = notes(document)["snapshots"].as_array().expect("a list").iter();
    let dropped = snapshots.filter(|snapshot| snapshot["keep"] == false);
    dropped.map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn what_a_policy_does_not_keep_is_hidden_and_comes_back() {
    let history = History::new();
    let ids = history.add("notes", Full, &[9 * DAY, 3 * DAY, 3 * DAY - 1, 2 * DAY, DAY, 1]);
    let policy = ["forget", "--keep-last", "2", "--keep-daily", "0", "--min-count", "1"];
    let document = history.json(&[&policy[..], &["--yes"]].concat());
    assert_eq!(forgotten(&document), ids[..4]);
    assert_eq!(notes(&document)["forgotten"], 4);
    assert_eq!(listed(&history, &[]), ids[4..]);
    assert_eq!(listed(&history, &["--forgotten"]), ids);
    let log = history.json(&["log", "notes"]);
    assert_eq!(log["points"].as_array().map(Vec::len), Some(2));
    // Again: there is nothing more.
    assert_eq!(notes(&history.json(&[&policy[..], &["--yes"]].concat()))["forget"], 0);

    let short = history.refused(&["restore", &ids[0][..12], "--to", &history.target("short.db")]);
    assert!(short.code == 1 && short.text.contains("no snapshot has an id that begins"), "{short:?}");
    let whole = history.run(&["restore", &ids[0], "--to", &history.target("whole.db")]);
    assert!(whole.text.contains("is forgotten, and may be gone after"), "{whole:?}");
    assert!(history.is_original("whole.db"));

    let back = history.json(&["unforget", &ids[1][..12], &ids[3]]);
    assert_eq!(back["databases"][0]["snapshots"].as_array().map(Vec::len), Some(2));
    assert_eq!(listed(&history, &[]), picked(&ids, &[1, 3, 4, 5]));
    let again = history.refused(&["unforget", &ids[1]]);
    assert!(again.code == 1 && again.text.contains("is not forgotten"), "{again:?}");
    history.run(&["unforget", "--all", "--name", "notes"]);
    assert_eq!(listed(&history, &[]), ids);
    assert!(history.run(&["unforget", "--all"]).output.contains("nothing is forgotten"));
    history.run(&["check"]);
}

#[test]
fn nothing_is_written_without_a_yes() {
    let history = History::new();
    let ids = history.add("notes", Full, &[3 * DAY, 2 * DAY, DAY, 1]);
    let entries = history.entries("notes");
    let policy = ["forget", "--keep-last", "1", "--min-count", "1"];
    let shown = history.run(&[&policy[..], &["--dry-run"]].concat());
    assert!(shown.output.contains("notes: keep 1, forget 3"), "{shown:?}");
    for id in &ids {
        assert!(shown.output.contains(&id[..8]), "{shown:?}");
    }
    assert!(shown.output.contains("newest, last 1, minimum count"), "{shown:?}");
    for json in [&[][..], &["--json"]] {
        let asked = history.refused(&[&policy[..], json].concat());
        assert!(asked.code == 2 && asked.text.contains("--yes"), "{asked:?}");
    }
    assert_eq!(history.entries("notes"), entries);
    history.run(&[&policy[..], &["-y", "--grace", "36h"]].concat());
    assert_eq!(history.entries("notes").len(), entries.len() + 1);
    let until = &history.json(&["snapshots", "--forgotten"])["snapshots"];
    let until = until.as_array().expect("a list").iter().find(|snapshot| snapshot["id"] == *ids[0]);
    let until = until.and_then(|snapshot| snapshot["forgotten_until"].as_str()).expect("a time");
    let until: jiff::Timestamp = until.parse().expect("a time");
    let hours = (until.as_second() - history.now() / 1_000_000) as f64 / 3600.0;
    assert!((35.9..=36.0).contains(&hours), "{hours} hours");
}

#[test]
fn the_default_keeps_each_strategy_for_its_own_time() {
    let history = History::new();
    let continuous = [40 * DAY, 29 * DAY, 10 * DAY + 3, 10 * DAY, 5 * DAY, 30, 2];
    let mut ids = history.add("notes", Full, &[60 * DAY]);
    ids.extend(history.add("notes", Continuous, &continuous[..4]));
    ids.extend(history.add("notes", Incremental, &[8 * DAY, 6 * DAY]));
    ids.extend(history.add("notes", Continuous, &continuous[4..]));
    let document = history.json(&["forget", "--yes"]);
    // 40 days are too many for all, 8 for an incremental; of one day the latest is kept, if those two are of one day.
    let dropped = forgotten(&document);
    assert!(dropped.contains(&ids[1]) && dropped.contains(&ids[5]), "{document}");
    let rest = [0, 2, 4, 6, 7, 8, 9];
    assert!(picked(&ids, &rest).iter().all(|id| !dropped.contains(id)), "{document}");
    let reasons = &notes(&document)["snapshots"][0]["reasons"];
    assert_eq!(reasons[0], "full last 12");
}

#[test]
fn what_is_held_stays() {
    let history = History::new();
    let ids = history.add("notes", Full, &[3 * DAY, 2 * DAY, DAY, 1]);
    history.run(&["hold", &ids[0][..16], "--reason", "court\u{1b}[31m"]);
    let held = history.run(&["snapshots"]).output;
    assert!(held.contains("held: court\\u{1b}[31m"), "{held}");
    assert_eq!(history.json(&["snapshots", "--name", "notes"])["snapshots"][0]["held"], "court\u{1b}[31m");
    let named = history.refused(&["forget", &ids[0], "--yes"]);
    assert!(named.code == 1 && named.text.contains("is held") && named.text.contains("hold --release"), "{named:?}");
    history.run(&["forget", "--keep-last", "1", "--min-count", "1", "--yes"]);
    assert_eq!(listed(&history, &[]), picked(&ids, &[0, 3]));
    // What is forgotten comes back when it is held.
    let back = history.json(&["hold", &ids[1]]);
    assert_eq!((&back["came_back"], &back["held"]), (&Value::Bool(true), &Value::from("")));
    assert_eq!(listed(&history, &[]), picked(&ids, &[0, 1, 3]));
    history.run(&["hold", "--release", &ids[0]]);
    let twice = history.refused(&["hold", "--release", &ids[0]]);
    assert!(twice.code == 1 && twice.text.contains("is not held"), "{twice:?}");
    history.run(&["forget", &ids[0], "--yes"]);
    assert_eq!(listed(&history, &[]), picked(&ids, &[1, 3]));
    let unknown = history.refused(&["hold", "ffffffffffffffff"]);
    assert!(unknown.code == 1 && unknown.text.contains("no snapshot has an id"), "{unknown:?}");
}

#[test]
fn exactly_what_is_named_is_forgotten() {
    let history = History::new();
    let ids = history.add("notes", Full, &[3 * DAY, 2 * DAY, DAY, 1]);
    let others = history.add("others", Full, &[2 * DAY, 1]);
    let newest = history.refused(&["forget", &ids[0], &ids[3], "--yes"]);
    assert!(newest.code == 1 && newest.text.contains("is the newest of notes"), "{newest:?}");
    assert_eq!(listed(&history, &[]), ids);
    history.run(&["forget", &ids[2], &others[0], &ids[0], &ids[2], "--yes"]);
    assert_eq!(listed(&history, &[]), picked(&ids, &[1, 3]));
    let again = history.refused(&["forget", &ids[0], "--yes"]);
    assert!(again.code == 1 && again.text.contains("is forgotten already"), "{again:?}");
    let both = history.refused(&["forget", &ids[1], "--keep-last", "3"]);
    assert!(both.code == 2, "{both:?}");
}

#[test]
fn a_policy_that_keeps_nothing_is_refused() {
    let history = History::new();
    let ids = history.add("notes", Full, &[3 * DAY, 2 * DAY, DAY, 1]);
    for line in ["--keep-last 0", "--keep-daily 0 --keep-within 0s --min-count 1"] {
        let refused = history.refused(&[&["forget", "--yes"], &line.split(' ').collect::<Vec<_>>()[..]].concat());
        assert!(refused.code == 2 && refused.text.contains("would keep nothing"), "{refused:?}");
    }
    assert_eq!(listed(&history, &[]), ids);
}

#[test]
fn nothing_is_forgotten_before_a_newer_one_is_verified() {
    let history = History::new();
    let ids = history.add("notes", Full, &[4 * DAY, 3 * DAY, 2 * DAY, DAY, 1]);
    let policy = ["forget", "--keep-last", "1", "--min-count", "1", "--only-verified", "--yes"];
    assert_eq!(forgotten(&history.json(&policy)), Vec::<String>::new());
    history.run(&["verify", &ids[2]]);
    assert_eq!(forgotten(&history.json(&policy)), ids[..2]);
    history.run(&["verify", "latest", "--name", "notes"]);
    assert_eq!(forgotten(&history.json(&policy)), ids[2..4]);
}

#[test]
fn odd_times_stop_one_database_and_not_the_others() {
    let history = History::new();
    let odd = history.add("notes", Full, &[3 * DAY, 2 * DAY, -1]);
    let back = history.add("others", Full, &[3 * DAY, 2 * DAY, 5 * DAY, 1]);
    let good = history.add("right", Full, &[3 * DAY, 2 * DAY, 1]);
    let policy = ["forget", "--keep-last", "1", "--min-count", "1", "--yes"];
    let refused = history.refused(&policy);
    assert_eq!(refused.code, 1);
    for part in [&odd[2][..8], &back[2][..8], "later than now", "before an earlier snapshot", "--allow-odd-times"] {
        assert!(refused.text.contains(part), "{part}: {refused:?}");
    }
    assert_eq!(listed(&history, &[]), odd);
    let right = history.json(&["snapshots", "--name", "right"]);
    assert_eq!(right["snapshots"].as_array().map(Vec::len), Some(1), "{good:?}");
    history.run(&[&policy[..], &["--allow-odd-times"]].concat());
    assert_eq!(listed(&history, &[]), odd[2..]);
}

#[test]
fn too_many_at_once_are_refused() {
    let history = History::new();
    let hours: Vec<i64> = (1..=12).rev().collect();
    let ids = history.add("notes", Full, &hours);
    let policy = ["forget", "--keep-last", "2", "--min-count", "1", "--yes"];
    let refused = history.refused(&policy);
    assert!(
        refused.code == 1 && refused.text.contains("10 of 12 snapshots would be forgotten, more than 75%"),
        "{refused:?}"
    );
    assert_eq!(listed(&history, &[]), ids);
    history.run(&[&policy[..], &["--max-share", "90%"]].concat());
    assert_eq!(listed(&history, &[]), ids[10..]);
}

#[test]
fn options_come_from_the_configuration_file() {
    let history = History::new();
    let ids = history.add("notes", Full, &[3 * DAY, 2 * DAY, DAY, 1]);
    let file = history.place.path("continuum.toml");
    fs::write(&file, "[forget]\nkeep-last = 2\nmin-count = 1\ngrace = '2h'\nyes = true\n").expect("a file");
    history.run(&["--config", file.to_str().expect("a path of UTF-8"), "forget"]);
    assert_eq!(listed(&history, &[]), ids[2..]);
}

#[test]
fn snapshots_that_are_named_go_before_a_policy_of_the_configuration_file() {
    let history = History::new();
    let ids = history.add("notes", Full, &[3 * DAY, 2 * DAY, DAY, 1]);
    let file = history.place.path("continuum.toml");
    fs::write(&file, "[forget]\nkeep-full = 1\nkeep-daily = '7d'\n").expect("a file");
    history.run(&["--config", file.to_str().expect("a path of UTF-8"), "forget", &ids[1], "--yes"]);
    assert_eq!(listed(&history, &[]), picked(&ids, &[0, 2, 3]));
}

#[test]
fn each_strategy_can_have_rules_of_its_own() {
    let history = History::new();
    let fulls = history.add("notes", Full, &[9 * DAY, 8 * DAY, 7 * DAY]);
    let others = history.add("notes", Incremental, &[6 * DAY, 5 * DAY, 4 * DAY, DAY]);
    let file = history.place.path("continuum.toml");
    fs::write(&file, "[forget]\nkeep-full = 1\nkeep-incremental = '2d, daily:108h'\nmin-count = 1\n").expect("a file");
    let policy = ["--config", file.to_str().expect("a path of UTF-8"), "forget", "--yes"];
    let document = history.json(&policy);
    assert_eq!(forgotten(&document), [&fulls[..2], &others[..2]].concat());
    // One that is named on the command line takes the place of what the file says of it, and of nothing else.
    history.run(&["unforget", "--all"]);
    assert_eq!(
        forgotten(&history.json(&[&policy[..], &["--keep-full", "2"]].concat())),
        [&fulls[..1], &others[..2]].concat()
    );
}

#[test]
fn a_damaged_timeline_is_left_alone() {
    let history = History::new();
    let ids = history.add("notes", Full, &[3 * DAY, 2 * DAY, DAY, 1]);
    history.add("others", Full, &[3 * DAY, 2 * DAY, 1]);
    let entries = history.entries("notes");
    let damaged = history.timeline_folder("notes").join(&entries[1]);
    let mut bytes = fs::read(&damaged).expect("the entry");
    bytes[100] ^= 1;
    fs::write(&damaged, bytes).expect("the entry can be written");
    let policy = ["forget", "--keep-last", "1", "--min-count", "1", "--yes"];
    let refused = history.refused(&policy);
    assert!(refused.code == 3 && refused.text.contains("refused: notes: its timeline is damaged"), "{refused:?}");
    assert_eq!(history.entries("notes"), entries);
    assert_eq!(history.entries("others").len(), 4);
    history.run_to(3, &["forget", &ids[0], "--yes"]);
    assert_eq!(history.entries("notes").len(), entries.len() + 1);
}

fn by_count(count: u32) -> ForgetOptions {
    let rule = Rule { among: Among::All, one_per: None, reach: Reach::Count(count) };
    let policy = Policy { rules: vec![rule], min_count: 1, ..Policy::empty() };
    let what = What::ByPolicy { policy, zone: TimeZone::UTC, allowed: Allowed::default() };
    ForgetOptions { what, name: Some("notes".to_owned()), grace: 0 }
}

#[test]
fn a_plan_that_has_become_wrong_is_not_carried_out() {
    let history = History::new();
    let ids = history.add("notes", Full, &[6 * DAY, 5 * DAY, 4 * DAY, 3 * DAY]);
    let repository = history.open();
    let plan = || plan_forget(&repository, &by_count(2), &Silent).expect("a plan");
    let carry_out = |plan: &ForgetPlan| {
        let mut done = 0;
        forget(&repository, plan, &Silent, |part| done += part.snapshots.len()).map(|()| done)
    };
    let is_changed = |outcome: Result<usize, ForgetError>| matches!(outcome, Err(ForgetError::Changed { .. }));
    let old = plan();
    hold(&repository, &ids[1], "").expect("it is held");
    assert!(is_changed(carry_out(&old)));
    let old = plan();
    release(&repository, &ids[1]).expect("it is released");
    assert!(is_changed(carry_out(&old)));
    let old = plan();
    assert_eq!(carry_out(&plan()).expect("it is forgotten"), 2);
    assert!(is_changed(carry_out(&old)));
    unforget(&repository, &[], Some("notes")).expect("they come back");
    // Something new does not change what was decided, and stays.
    let old = plan();
    let newer = history.add("notes", Full, &[2 * DAY, DAY]);
    assert_eq!(carry_out(&old).expect("it is forgotten"), 2);
    assert_eq!(listed(&history, &[]), [&ids[2..], &newer].concat());
}

#[test]
fn a_plan_says_what_stands_in_its_way() {
    let history = History::new();
    history.add("notes", Full, &[3 * DAY, 2 * DAY, -1]);
    let plan = plan_forget(&history.open(), &by_count(1), &Silent).expect("a plan");
    assert!(matches!(plan.databases[0].obstacles[..], [Obstacle::Refused(_)]));
    assert_eq!((plan.count(), plan.databases[0].dropped().count()), (0, 2));
    let missing = plan_forget(&history.open(), &ForgetOptions { name: Some("none".into()), ..by_count(1) }, &Silent);
    assert!(matches!(missing, Err(ForgetError::Select(_))));
}

/// What a collector has taken is gone: for the program and for the Python reader; the rest is there.
#[test]
fn what_is_gone_is_no_gap() {
    let history = History::new();
    let ids = history.add("notes", Full, &[5 * DAY, 4 * DAY, 3 * DAY, 2 * DAY, 1]);
    history.run(&["forget", &ids[0], &ids[1], &ids[2], "--yes"]);
    let repository = history.open();
    let (mut timeline, faults) = timeline::load(&repository, "notes").expect("the timeline");
    assert!(faults.is_empty());
    let run = |first: usize, last: usize| {
        let place = |at: usize| timeline.kept().find(|kept| kept.id.to_string() == ids[at]).expect("it is kept");
        Run { first: place(first).sequence, last: place(last).sequence, last_id: place(last).id }
    };
    let gone = vec![run(0, 1)];
    timeline.append(&repository, "notes", Event::Collected { gone: gone.clone() }, Behind::Nothing).expect("an entry");
    for _ in 0..2 {
        assert_eq!(listed(&history, &["--forgotten"]), ids[2..]);
        let list =
            |options: &[&str]| String::from_utf8(history.place.reader(&[&["list"], options].concat())).expect("text");
        let read = list(&["--database", "notes", "--forgotten"]);
        let found: Vec<&str> = read.lines().filter_map(|line| line.get(..8)).collect();
        assert_eq!(found, ids[2..].iter().map(|id| &id[..8]).collect::<Vec<_>>());
        assert!(read.lines().next().is_some_and(|line| line.contains("\tforgotten 20")), "{read}");
        assert_eq!(list(&["--database", "notes"]).lines().count(), 2);
        history.run(&["check"]);
        // With the entries, and then without.
        for sequence in gone[0].first..=gone[0].last {
            let _ = fs::remove_file(history.timeline_folder("notes").join(format!("{sequence:016x}")));
        }
    }
    assert!(history.place.read_by_python(&ids[2]) == history.original());
    assert!(history.place.restored(&ids[2]) == history.original());
    let gone = history.refused(&["unforget", &ids[0]]);
    assert!(gone.code == 1 && gone.text.contains("no snapshot has an id"), "{gone:?}");
}

/// A watcher goes on behind what others append, and loses nothing.
#[test]
fn a_watcher_is_not_disturbed() {
    let history = History::new();
    let ids = history.add("notes", Full, &[3 * DAY, 2 * DAY, DAY]);
    let path = history.database();
    let database = Connection::open(&path).expect("the database");
    database.execute_batch("PRAGMA journal_mode = WAL").expect("WAL");
    let mut command = history.command(&["watch", "--name", "notes", "--flush-interval", "0.1", "--fold-interval", "1"]);
    let mut watcher =
        command.arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the watcher starts");
    let points = || history.json(&["log", "notes"])["points"].as_array().map_or(0, Vec::len);
    let await_points = |count: usize| {
        let begun = Instant::now();
        while points() < count {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} of {count} points", points());
            sleep(Duration::from_millis(100));
        }
    };
    let commit = |nth: u32| {
        database.execute("UPDATE note SET title = ?1 WHERE id = 1", [format!("title {nth}")]).expect("a commit");
    };
    await_points(4);
    for nth in 0..5 {
        commit(nth);
    }
    await_points(ids.len() + 6);
    history.run(&["forget", &ids[0], &ids[1], "--yes"]);
    for nth in 5..10 {
        commit(nth);
    }
    await_points(ids.len() + 6 - 2 + 5);
    let folded = history.entries("notes").len();
    for nth in 10..13 {
        commit(nth);
        sleep(Duration::from_millis(1500));
    }
    let pid = rustix::process::Pid::from_child(&watcher);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the watcher is there");
    assert!(watcher.wait().expect("the watcher ends").success());
    assert!(history.entries("notes").len() > folded, "it folds behind what was forgotten");
    let kinds = history.json(&["log", "notes"]);
    let commits: Vec<u64> =
        kinds["points"].as_array().expect("a list").iter().filter_map(|point| point["commit"].as_u64()).collect();
    let newest = commits.iter().max().copied().expect("commits");
    assert!((newest - 12..=newest).all(|commit| commits.contains(&commit)), "{commits:?}");
    history.run(&["check", "--read-data"]);
}
