//! A bucket with object lock: what restore points need is there again after somebody who has the bucket's keys has deleted everything.
//!
//! `cargo xtask test --only s3` runs these: they need its server.

mod support;

use std::process::Command;

use serde_json::Value;
use support::{Repository, text};

/// Beside the bucket of all other tests (`tests/servers/prepare.py`).
fn lockable() -> String {
    let base = std::env::var("CONTINUUM_TEST_STORE").expect("the URL of an S3 server");
    let (bucket, rest) =
        base.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).expect("a bucket and a prefix");
    let (_, query) = rest.split_once('?').expect("an endpoint");
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("random bytes");
    format!("s3://{bucket}-locked/t-{:016x}?{query}", u64::from_le_bytes(random))
}

/// What `tests/servers/versions.py` says of doing that there.
fn versions(action: &str, url: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/versions.py");
    let output = Command::new("python3").args([script, action, url]).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A repository there, of a database that is not there yet, and its URL.
fn repository() -> (Repository, String) {
    let url = lockable();
    let repository = Repository::at(url.clone());
    repository.init().expect_success();
    (repository, url)
}

fn snapshot(repository: &Repository, sql: &str) {
    let database = repository.path("notes.db");
    rusqlite::Connection::open(&database).and_then(|it| it.execute_batch(sql)).expect("SQL");
    repository.snapshot(&database, "notes");
}

fn restores(repository: &Repository) {
    let target = repository.path("revived.db");
    repository.run(&["restore", "latest", "--to", text(&target)]).expect_success();
    let content = |path| {
        let rows = "SELECT group_concat(a || hex(b)) FROM t";
        rusqlite::Connection::open(path)?.query_row(rows, [], |row| row.get::<_, String>(0))
    };
    assert_eq!(content(target), content(repository.path("notes.db")));
}

#[test]
#[ignore = "needs an S3 server with object lock"]
fn what_is_locked_comes_back_when_everything_was_deleted() {
    let (repository, url) = repository();
    snapshot(&repository, "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, randomblob(90000));");
    snapshot(&repository, "INSERT INTO t VALUES (2, randomblob(90000));");
    let plan = repository.json(&["lock", "--for", "1h", "--dry-run"]);
    assert!(plan["destinations"][0]["to_lock"].as_u64() > Some(5), "{plan}");
    assert_eq!(plan["locked"], Value::Null);
    let done = repository.json(&["lock", "--for", "1h"]);
    assert_eq!(done["locked"], plan["destinations"][0]["to_lock"]);
    assert_eq!(repository.json(&["lock", "--for", "1h"])["locked"], 0, "all locks last long enough");
    assert_eq!(repository.json(&["lock", "--for", "2h"])["locked"], done["locked"], "and are made longer");

    let before = versions("count", &url);
    let said = versions("destroy", &url);
    assert_eq!(versions("count", &url).trim(), "0", "{said}");
    assert_ne!(repository.run(&["snapshots"]).output.status.code(), Some(0), "nothing is left");
    assert!(said.contains(&format!("; {} versions", done["locked"])), "{said}");
    versions("revive", &url);
    assert_eq!(versions("count", &url), before);
    repository.run(&["check", "--read-data"]).expect_success();
    restores(&repository);
}

#[test]
#[ignore = "needs an S3 server with object lock"]
fn prune_hides_what_is_locked_and_new_packs_are_locked_by_the_next_run() {
    let (repository, url) = repository();
    snapshot(&repository, "CREATE TABLE t (a, b); INSERT INTO t VALUES (1, randomblob(90000));");
    repository.run(&["lock", "--for", "1h"]).expect_success();
    snapshot(&repository, "DELETE FROM t; VACUUM; INSERT INTO t VALUES (2, randomblob(90000));");
    let forget = ["forget", "--keep-last", "1", "--min-count", "1", "--max-share", "100%", "--grace", "0", "--yes"];
    repository.run(&forget).expect_success();
    let pruned = repository.json(&["prune", "--min-age", "0"]);
    assert!(pruned["done"]["deleted"]["count"].as_u64() > Some(0), "{pruned}");
    repository.run(&["check", "--read-data"]).expect_success();
    assert!(repository.json(&["lock", "--for", "1h"])["locked"].as_u64() > Some(0), "what came after the first run");
    versions("destroy", &url);
    versions("revive", &url);
    repository.run(&["check", "--read-data"]).expect_success();
    restores(&repository);
}

#[test]
#[ignore = "needs an S3 server with object lock"]
fn elsewhere_it_is_said_that_nothing_can_be_locked() {
    let bucket = Repository::new();
    let folder = Repository::on(&["folder"]);
    folder.init().expect_success();
    for repository in [bucket, folder] {
        let finished = repository.run(&["lock", "--for", "1d"]);
        let said = String::from_utf8_lossy(&finished.output.stderr);
        assert_eq!(finished.output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("no object can be locked at") && said.contains("hint: object lock is a property"),
            "{said}"
        );
    }
}
