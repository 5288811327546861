//! The command, as a person runs it.

use std::io::Write;
use std::process::Stdio;

use crate::scratch::{Outcome, Scratch, execute, patch};

fn with_two_snapshots() -> Scratch {
    let scratch = Scratch::with_snapshot();
    execute(&scratch.path("a.db"), "DELETE FROM orders WHERE id > 150; PRAGMA user_version = 2;");
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    scratch
}

#[test]
fn every_state_answers() {
    let scratch = with_two_snapshots();
    let count = "SELECT count(*) FROM orders";
    let snapshots = scratch.json(&["snapshots"]);
    let first = snapshots["snapshots"][0]["id"].as_str().unwrap();
    for (arguments, expected) in [
        (vec!["query", count], "150"),
        (vec!["query", "latest", count], "150"),
        (vec!["query", &first[..8], count], "200"),
        (vec!["query", first, count], "200"),
        (vec!["query", "--commit", "1", count], "200"),
        (vec!["query", "--commit", "2", "--name", "a", count], "150"),
        (vec!["query", "--at", "1 second ago", "PRAGMA user_version"], ""),
    ] {
        let outcome = scratch.run(&arguments);
        // That long ago there may have been nothing.
        if expected.is_empty() {
            assert!(matches!(outcome.code, Some(0 | 1)), "{}", outcome.stderr);
        } else {
            assert_eq!(outcome.expect(0, &[]).stdout.lines().last(), Some(expected), "{arguments:?}");
        }
    }
}

#[test]
fn rows_come_in_every_format() {
    let scratch = Scratch::with_snapshot();
    let sql = "SELECT 1 AS n, 'a,b' AS t, NULL AS z, x'00ff' AS b, 0.5 AS r UNION ALL SELECT 2, 'c\"', '', x'', -1e300";
    for (format, expected) in [
        ("csv", "n,t,z,b,r\r\n1,\"a,b\",,00ff,0.5\r\n2,\"c\"\"\",,,-1e300\r\n"),
        (
            "table",
            "n  t    z     b        r\n-  ---  ----  -------  ------\n1  a,b  NULL  x'00ff'  0.5\n2  c\"         x''      -1e300\n",
        ),
        ("line", "n = 1\nt = a,b\nz = NULL\nb = x'00ff'\nr = 0.5\n\nn = 2\nt = c\"\nz = \nb = x''\nr = -1e300\n"),
    ] {
        assert_eq!(scratch.run(&["query", sql, "--format", format]).expect(0, &[]).stdout, expected, "{format}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&scratch.run(&["query", sql, "--format", "json"]).expect(0, &[]).stdout).unwrap();
    assert_eq!((&json[0]["b"]["blob"], &json[1]["t"]), (&"00ff".into(), &"c\"".into()));
    assert_eq!(scratch.json(&["query", sql])["rows"], json);
    assert_eq!(scratch.run(&["query", "SELECT 1 WHERE 0", "--format", "json"]).stdout, "[]\n");
}

#[test]
fn statements_come_from_arguments_files_and_input() {
    let scratch = Scratch::with_snapshot();
    let sql = "SELECT id FROM orders WHERE id = :id; SELECT :text || '!'";
    let parameters = ["--param", "id=7", "--param", ":text=007"];
    let expected = "id\r\n7\r\n:text || '!'\r\n007!\r\n";
    assert_eq!(scratch.run(&[&["query", sql][..], &parameters].concat()).expect(0, &[]).stdout, expected);
    std::fs::write(scratch.path("q.sql"), sql).unwrap();
    let from_file = scratch.run(&[&["query", "--file", "q.sql"][..], &parameters].concat());
    assert_eq!(from_file.expect(0, &[]).stdout, expected);
    let mut command = scratch.command();
    let mut child =
        command.args(["query"]).args(parameters).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    let from_input = Outcome::of("query from standard input".into(), child.wait_with_output().unwrap());
    assert_eq!(from_input.expect(0, &[]).stdout, expected);
}

#[test]
fn whatever_does_more_than_read_is_refused() {
    let scratch = Scratch::with_snapshot();
    for sql in [
        "DELETE FROM orders",
        "INSERT INTO orders VALUES (1, 2)",
        "CREATE TEMP TABLE t (a)",
        "ATTACH 'other.db' AS other",
        "ATTACH ':memory:' AS other",
        "VACUUM INTO 'copy.db'",
        "PRAGMA query_only = OFF",
        "PRAGMA hard_heap_limit = 0",
        "PRAGMA trusted_schema = ON",
        "PRAGMA user_version = 3",
        "PRAGMA temp_store_directory = '/tmp'",
        "SELECT 1; DROP TABLE orders",
    ] {
        scratch.run(&["query", sql]).expect(1, &["can only be read"]);
    }
    for sql in
        ["SELECT load_extension('x')", "SELECT writefile('x', 'y')", "SELECT nothing", "SELECT * FROM none", "SELEC"]
    {
        scratch.run(&["query", sql]).expect(1, &["error: "]);
    }
    for telling in ["PRAGMA table_info(orders)", "PRAGMA integrity_check", "PRAGMA user_version", "BEGIN; COMMIT"] {
        scratch.run(&["query", telling]).expect(0, &[]);
    }
    assert!(!scratch.path("copy.db").exists() && !scratch.path("other.db").exists());
}

#[test]
fn wrong_arguments_are_explained() {
    let scratch = Scratch::with_snapshot();
    for (arguments, words) in [
        (&["query", "SELECT", "1"][..], &["no snapshot's id", "into quotes"][..]),
        (&["query", "SELECT :a"], &[":a has no value", "--param"]),
        (&["query", "SELECT 1", "--param", "b=1"], &[":b"]),
        (&["query", "SELECT 1", "--param", "b"], &["NAME=VALUE"]),
        (&["query", "abcd", "SELECT 1", "--commit", "1"], &["one way only"]),
        (&["query", "SELECT 1", "--file", "q.sql"], &["--file"]),
        (&["query", "SELECT 1", "--memory-limit", "much"], &["256MiB"]),
    ] {
        scratch.run(arguments).expect(2, words);
    }
    scratch.run(&["query", "ffffffff", "SELECT 1"]).expect(1, &["no snapshot has an id"]);
    scratch.run(&["query", "--file", "none.sql"]).expect(1, &["none.sql"]);
}

#[test]
fn endless_and_greedy_queries_end() {
    let scratch = Scratch::with_snapshot();
    let endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    scratch.run(&["query", endless, "--time-limit", "1"]).expect(1, &["longer than 1 s", "--time-limit"]);
    let greedy =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM n ORDER BY randomblob(1000)";
    let limited = scratch.run(&["query", greedy, "--memory-limit", "16MiB", "--time-limit", "60"]);
    limited.expect(1, &["memory", "--memory-limit"]);
}

#[test]
fn a_damaged_pack_is_an_error_that_names_it() {
    let scratch = Scratch::with_snapshot();
    for name in scratch.objects().iter().filter(|name| name.starts_with("packs/")) {
        patch(&scratch.repository().join(name), |bytes| {
            let middle = bytes.len() / 3;
            bytes[middle..middle * 2].fill(0);
        });
    }
    scratch.run(&["query", "SELECT count(*), max(length(item)) FROM orders"]).expect(3, &["packs/"]);
}
