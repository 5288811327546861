//! The commands on a real repository with snapshots and watched commits: at every restore point they say what the restored file holds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value, json};

use crate::scratch::Scratch;

/// A row of `t`, as JSON; `None` if the table or the row is absent.
type Row = Option<Value>;

fn rows(path: &Path) -> BTreeMap<i64, Value> {
    let connection = Connection::open(path).unwrap();
    let is_there = "SELECT 1 FROM sqlite_schema WHERE name = 't'";
    if connection.query_row(is_there, [], |_| Ok(())).optional().unwrap().is_none() {
        return BTreeMap::new();
    }
    let mut statement = connection.prepare("SELECT id, v FROM t").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
    rows.unwrap().map(Result::unwrap).map(|(id, v)| (id, json!({ "id": id, "v": v }))).collect()
}

struct Watching(Child);

impl Watching {
    fn start(scratch: &Scratch) -> Self {
        let said = scratch.path("watch.txt");
        let mut command = scratch.command();
        command.args(["watch", "a.db", "--flush-interval", "0.05"]).stdout(Stdio::null());
        let child = command.stderr(fs::File::create(&said).unwrap()).spawn().unwrap();
        let begun = Instant::now();
        while !fs::read_to_string(&said).unwrap().contains("watching from commit") {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", fs::read_to_string(&said).unwrap());
            sleep(Duration::from_millis(20));
        }
        Self(child)
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

/// A repository with snapshots and watched commits of a database with many other rows.
fn repository(journal_mode: &str) -> Scratch {
    let scratch = Scratch::with_repository();
    let database = Connection::open(scratch.path("a.db")).unwrap();
    let run = |sql: &str| database.execute_batch(sql).unwrap();
    run(&format!("PRAGMA journal_mode = {journal_mode}; CREATE TABLE other (x); INSERT INTO other VALUES (1);"));
    let snapshot = || scratch.json(&["snapshot", "a.db"]);
    snapshot();
    run("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
         INSERT INTO t SELECT i, printf('%.*c', i % 90, 'x') FROM n;
         UPDATE t SET v = hex(zeroblob(6000)) WHERE id = 42;");
    snapshot();
    run("UPDATE t SET v = 'small' WHERE id = 1500");
    snapshot();
    // A watcher sees each commit in a WAL; of a rollback journal only what it finds every few seconds.
    let watching = (journal_mode == "WAL").then(|| Watching::start(&scratch));
    for commit in 0..30 {
        match commit {
            // Only an overflow page changes.
            5 => run("UPDATE t SET v = substr(v, 1, 11999) || 'Z' WHERE id = 42"),
            11 => run("DELETE FROM t WHERE id = 42"),
            17 => run("INSERT INTO t VALUES (42, 'back')"),
            20 => run("CREATE TABLE more (y); INSERT INTO more VALUES (7)"),
            _ => run(&format!("UPDATE t SET v = 'commit {commit}' WHERE id = {}", 2000 + 31 * commit)),
        }
        match &watching {
            Some(_) => sleep(Duration::from_millis(15)),
            None => drop(snapshot()),
        }
    }
    watching.into_iter().for_each(Watching::stop);
    run("UPDATE t SET v = 'last' WHERE id = 42");
    snapshot();
    run("VACUUM");
    snapshot();
    drop(database);
    scratch
}

/// The commits of all restore points, and what each restored file holds.
fn restored(scratch: &Scratch) -> Vec<(u64, BTreeMap<i64, Value>)> {
    let log = scratch.json(&["log", "a"]);
    let mut commits: Vec<u64> =
        log["points"].as_array().unwrap().iter().map(|point| point["commit"].as_u64().unwrap()).collect();
    commits.dedup();
    let restore = |&commit: &u64| {
        let name = format!("restored-{commit}.db");
        scratch.json(&["restore", "--commit", &commit.to_string(), "--to", &name]);
        (commit, rows(&scratch.path(&name)))
    };
    commits.iter().map(restore).collect()
}

fn check(journal_mode: &str) {
    let scratch = repository(journal_mode);
    let points = restored(&scratch);
    assert!(points.len() > 30, "only {} restore points", points.len());
    check_history(&scratch, &points);
    check_when(&scratch, &points);
    for (from, to) in [(0, 1), (1, 2), (1, points.len() - 1), (3, 9), (9, 3), (6, 20), (2, points.len() - 3), (8, 8)] {
        let last = points.len() - 1;
        check_diff(&scratch, &points[from.min(last)], &points[to.min(last)]);
    }
}

fn check_history(scratch: &Scratch, points: &[(u64, BTreeMap<i64, Value>)]) {
    let mut expected: Vec<(u64, Row)> = Vec::new();
    for (commit, rows) in points {
        let row = rows.get(&42).cloned();
        if expected.last().is_none_or(|(_, last)| *last != row) {
            expected.push((*commit, row));
        }
    }
    let told = scratch.json(&["history", "a", "--table", "T", "--key", "42"]);
    let version = |version: &Value| (version["commit"].as_u64().unwrap(), version.get("row").cloned());
    let found: Vec<(u64, Row)> = told["versions"].as_array().unwrap().iter().map(version).collect();
    let short = |versions: &[(u64, Row)]| {
        versions.iter().map(|(commit, row)| (*commit, format!("{row:.40?}"))).collect::<Vec<_>>()
    };
    assert!(found == expected, "{:?} told for {:?}", short(&found), short(&expected));
    let lookups = told["lookups"].as_u64().unwrap();
    assert!(lookups < 14, "looked up {lookups} times: {told:.300}");
}

fn check_when(scratch: &Scratch, points: &[(u64, BTreeMap<i64, Value>)]) {
    let answer = |rows: &BTreeMap<i64, Value>| match (rows.is_empty(), rows.contains_key(&42)) {
        (true, _) => "unanswerable",
        (_, true) => "true",
        (_, false) => "false",
    };
    let flips: Vec<(u64, u64)> = points
        .windows(2)
        .filter(|pair| answer(&pair[0].1) != answer(&pair[1].1))
        .map(|pair| (pair[0].0, pair[1].0))
        .collect();
    let condition = "EXISTS (SELECT 1 FROM t WHERE id = 42)";
    let found = |arguments: &[&str]| {
        let told = scratch.json(&[&["when", "a", condition], arguments].concat());
        let side = |change: &Value, name: &str| change[name]["commit"].as_u64().unwrap();
        let changes = told["changes"].as_array().unwrap();
        changes.iter().map(|change| (side(change, "before"), side(change, "after"))).collect::<Vec<_>>()
    };
    assert_eq!(found(&["--all"]), flips);
    let [one] = found(&[])[..] else { panic!("bisection finds one") };
    assert!(flips.contains(&one), "{one:?} of {flips:?}");
    scratch.run(&["when", "a", "1; SELECT 2"]).expect(2, &["no condition"]);
    scratch.run(&["when", "a", "none = 1"]).expect(1, &["no such column"]);
    scratch.run(&["when", "a", "1", "--since", "2100-01-01"]).expect(1, &["no restore point"]);
}

fn check_diff(scratch: &Scratch, a: &(u64, BTreeMap<i64, Value>), b: &(u64, BTreeMap<i64, Value>)) {
    let (from, to) = (format!("commit:{}", a.0), format!("commit:{}", b.0));
    let told = scratch.json(&["diff", &from, &to, "--rows", "--table", "t"]);
    let mut found: BTreeMap<i64, (Row, Row)> = BTreeMap::new();
    for table in told["tables"].as_array().unwrap() {
        for row in table["rows"].as_array().unwrap() {
            let side = |name: &str| Some(row[name].clone()).filter(|side| !side.is_null());
            found.insert(row["key"]["id"].as_i64().unwrap(), (side("from"), side("to")));
        }
    }
    let mut expected = BTreeMap::new();
    for id in a.1.keys().chain(b.1.keys()) {
        let pair = (a.1.get(id).cloned(), b.1.get(id).cloned());
        if pair.0 != pair.1 {
            expected.insert(*id, pair);
        }
    }
    let ids = |rows: &BTreeMap<i64, (Row, Row)>| rows.keys().copied().collect::<Vec<_>>();
    assert!(found == expected, "{from} to {to}: {:?} told for {:?}", ids(&found), ids(&expected));
}

#[test]
fn every_restore_point_of_a_database_with_a_wal() {
    check("WAL");
}

#[test]
fn every_restore_point_of_a_database_with_a_rollback_journal() {
    check("DELETE");
}

#[test]
fn wrong_questions_are_explained() {
    let scratch = Scratch::with_snapshot();
    scratch.run(&["diff", "nothing"]).expect(2, &["names no state", "commit:N"]);
    scratch.run(&["diff", "commit:x"]).expect(2, &["a number expected"]);
    scratch.run(&["diff", "commit:7"]).expect(1, &["number 7", "continuum log"]);
    scratch.run(&["diff", "latest", "--table", "none"]).expect(1, &["neither state", "none"]);
    scratch.run(&["--json", "diff", "latest", "--format", "sql"]).expect(2, &["exclude each other"]);
    let same = scratch.run(&["diff", "latest", "latest"]).expect(0, &[]);
    assert!(same.stdout.contains("no differences"), "{}", same.stdout);
    scratch.run(&["history", "a", "--table", "none", "--key", "1"]).expect(1, &["no restore point has a table"]);
    scratch.run(&["history", "a", "--table", "orders", "--key", "1", "--key", "2"]).expect(2, &["1 column: id"]);
    scratch.run(&["history", "b", "--table", "orders", "--key", "1"]).expect(1, &["no snapshot", "\"b\""]);
    scratch.run(&["when", "a", " "]).expect(2, &["empty"]);
    let absent = scratch.json(&["history", "a", "--table", "orders", "--key", "-5"]);
    assert_eq!(absent["versions"][0]["version"], "absent");
}
