//! The program: tables of a state in a repository, to a new database and into one that is used or killed meanwhile.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::scratch::{Scratch, execute};
use crate::{dump, rows};

const SHOP: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer REFERENCES customers, item TEXT);
    CREATE INDEX by_customer ON orders (customer);
    INSERT INTO customers VALUES (1, 'Ada'), (2, 'Bob');
    INSERT INTO orders VALUES (10, 1, 'tea'), (11, 2, 'milk'), (12, 1, 'bread');";

fn shop() -> Scratch {
    let scratch = Scratch::with_repository();
    execute(&scratch.path("shop.db"), SHOP);
    scratch.run(&["snapshot", "shop.db"]).expect(0, &[]);
    scratch
}

#[test]
fn to_a_new_database() {
    let scratch = shop();
    let outcome =
        scratch.run(&["restore", "--tables", "orders", "--where", "customer = 1", "--to", "new.db"]).expect(0, &[]);
    for words in
        ["orders: 2 rows, index by_customer", "missing foreign key of orders needs customers", "orphans 2 rows"]
    {
        assert!(outcome.stdout.contains(words), "{words:?} expected in {}", outcome.stdout);
    }
    assert_eq!(rows(&scratch.path("new.db"), "SELECT id FROM orders").len(), 2);
    scratch.run(&["restore", "--tables", "orders", "--to", "new.db"]).expect(1, &["exists already", "--force"]);
    let document = scratch.json(&["restore", "latest", "--tables", "orders,customers", "--to", "new.db", "--force"]);
    assert_eq!(document["format"], "continuum.restore-tables/1");
    assert_eq!(document["tables"][1]["inserted"], 3);
    assert_eq!(document["missing"].as_array().unwrap().len() + document["orphans"].as_array().unwrap().len(), 0);
    assert_eq!(document["set_aside"].as_array().unwrap().len(), 1);
    assert_eq!(dump(&scratch.path("new.db")), dump(&scratch.path("shop.db")));
}

#[test]
fn into_the_database_that_it_came_from() {
    let scratch = shop();
    let live = Connection::open(scratch.path("shop.db")).unwrap();
    live.execute_batch("DELETE FROM orders WHERE id = 10; UPDATE orders SET item = 'beer' WHERE id = 12").unwrap();
    let merge = ["restore", "--tables", "orders", "--into", "shop.db"];
    let refused = scratch.run(&merge).expect(1, &["id 12", "differs in item", "--on-conflict"]);
    assert!(refused.stdout.is_empty());
    scratch.run(&[&merge[..], &["--on-conflict", "replace"]].concat()).expect(0, &[]);
    let items: String = live
        .query_row("SELECT group_concat(item) FROM (SELECT item FROM orders ORDER BY id)", [], |row| row.get(0))
        .unwrap();
    assert_eq!(items, "tea,milk,bread");
    let document = scratch.json(&merge);
    assert_eq!((&document["merged"], &document["tables"][0]["equal"]), (&true.into(), &3.into()));
}

#[test]
fn what_the_command_line_refuses() {
    let scratch = shop();
    for (arguments, code, words) in [
        (&["--to", "x.db", "--where", "1"][..], 2, &["--tables"][..]),
        (&["--into", "shop.db"], 2, &["--tables"]),
        (&["--tables", "orders"], 2, &["--to"]),
        (&["--tables", "orders", "--to", "x.db", "--into", "shop.db"], 2, &["cannot be used with"]),
        (&["--tables", "orders", "--to", "x.db", "--in-place"], 2, &["cannot be used with"]),
        (&["--tables", "orders", "--to", "x.db", "--on-conflict", "replace"], 2, &["cannot be used with"]),
        (&["--tables", "order", "--to", "x.db"], 1, &["no table or view \"order\"", "orders is meant?"]),
        (
            &["--tables", "orders", "--to", "x.db", "--where", "1); DROP TABLE orders; --"],
            2,
            &["parenthesis", "one expression"],
        ),
        (&["--tables", "orders", "--into", "nowhere.db"], 1, &["no database to restore into"]),
        (&["--tables", "", "--to", "x.db"], 1, &["no table or view"]),
    ] {
        scratch.run(&[&["restore"], arguments].concat()).expect(code, words);
    }
    assert!(!scratch.path("x.db").exists() && !scratch.path("nowhere.db").exists());
}

#[test]
fn a_damaged_repository_is_said() {
    let scratch = Scratch::with_repository();
    execute(
        &scratch.path("a.db"),
        "CREATE TABLE t (a); WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO t SELECT randomblob(4000) FROM n;",
    );
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    for name in scratch.objects().into_iter().filter(|name| name.starts_with("packs/")) {
        let path = scratch.repository().join(name);
        crate::scratch::patch(&path, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    }
    scratch.run(&["restore", "--tables", "t", "--to", "x.db"]).expect(3, &["check"]);
    assert!(!scratch.path("x.db").exists());
}

#[test]
fn killed_in_the_middle_of_a_merge() {
    let scratch = Scratch::with_repository();
    let fill = |rows: u32| {
        format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a); WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) INSERT INTO t SELECT i, hex(randomblob(100)) FROM n;"
        )
    };
    execute(&scratch.path("a.db"), &fill(60_000));
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    for mode in ["delete", "wal"] {
        let _ = std::fs::remove_file(scratch.path("b.db"));
        execute(&scratch.path("b.db"), &format!("PRAGMA journal_mode = {mode}; {}", fill(30_000)));
        let before = dump(&scratch.path("b.db"));
        let merge = ["restore", "--tables", "t", "--into", "b.db", "--on-conflict", "replace"];
        std::fs::copy(scratch.path("b.db"), scratch.path("c.db")).unwrap();
        let started = Instant::now();
        scratch.run(&["restore", "--tables", "t", "--into", "c.db", "--on-conflict", "replace"]).expect(0, &[]);
        let (longest, after) = (started.elapsed(), dump(&scratch.path("c.db")));
        std::fs::remove_file(scratch.path("c.db")).unwrap();
        for kill in 1..=8_u32 {
            let mut child = scratch.command().args(merge).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            sleep(longest.mul_f64(f64::from(kill) / 9.0));
            child.kill().unwrap();
            child.wait().unwrap();
            let found = dump(&scratch.path("b.db"));
            assert_eq!(rows(&scratch.path("b.db"), "PRAGMA integrity_check").len(), 1);
            if found == after {
                break;
            }
            assert!(found == before, "{mode}, kill {kill}");
        }
        scratch.run(&merge).expect(0, &[]);
        assert!(dump(&scratch.path("b.db")) == after);
    }
}

#[test]
fn a_live_writer_beside() {
    let scratch = Scratch::with_repository();
    execute(&scratch.path("a.db"), "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, a); CREATE TABLE live (n);
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO t SELECT i, hex(i) FROM n;");
    scratch.run(&["snapshot", "a.db"]).expect(0, &[]);
    let writer = Connection::open(scratch.path("a.db")).unwrap();
    writer.busy_timeout(Duration::from_secs(20)).unwrap();
    writer.execute_batch("DELETE FROM t WHERE id % 2").unwrap();
    let mut child = scratch
        .command()
        .args(["restore", "--tables", "t", "--into", "a.db", "--busy-timeout", "20"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut written = 0;
    let status = loop {
        writer.execute("INSERT INTO live VALUES (?1)", [written]).unwrap();
        written += 1;
        sleep(Duration::from_millis(2));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success());
    let counts = rows(&scratch.path("a.db"), "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM live)");
    assert_eq!(format!("{counts:?}"), format!("[[Integer(20000), Integer({written})]]"));
}
