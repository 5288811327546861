//! Databases that were made to do harm: every query on them ends, with an answer or an error.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use continuum::base::clock::SystemTimer;
use continuum::base::entropy::{Entropy, SeededEntropy};
use continuum::base::page::{PageCount, PageNo, PageReader, PageSize};
use continuum::monitor::Silent;
use continuum::ops::query::{Database, Limits, QueryError, Rows};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

const PAGE_BYTES: usize = 1024;

/// An image in memory.
struct Image(Vec<u8>);

impl PageReader for Image {
    type Error = io::Error;

    fn page_size(&self) -> PageSize {
        PageSize::new(PAGE_BYTES as u32).unwrap()
    }

    fn page_count(&self) -> PageCount {
        PageCount((self.0.len() / PAGE_BYTES) as u32)
    }

    fn read(&self, first: PageNo, buffer: &mut [u8]) -> io::Result<()> {
        let start = (first.0 as usize - 1) * PAGE_BYTES;
        buffer.copy_from_slice(&self.0[start..start + buffer.len()]);
        Ok(())
    }
}

struct Dropped;

impl Rows for Dropped {
    fn begin(&mut self, _: &[String]) -> Result<(), String> {
        Ok(())
    }

    fn row(&mut self, _: &[ValueRef<'_>]) -> Result<(), String> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

fn open(image: Vec<u8>, time: Duration) -> Result<Database, QueryError> {
    let limits = Limits { time: Some(time), memory_bytes: 256 << 20 };
    Database::of(Arc::new(Image(image)), limits, Arc::new(SystemTimer::default()), Arc::new(Silent))
}

fn database(sql: &str) -> Vec<u8> {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("h.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(&format!("PRAGMA page_size = {PAGE_BYTES}; {sql}")).unwrap();
    drop(connection);
    std::fs::read(path).unwrap()
}

const SCHEMA: &str = "
    CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b BLOB);
    CREATE INDEX ta ON t (a);
    CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    CREATE VIRTUAL TABLE f USING fts5 (x);
    CREATE VIRTUAL TABLE r USING rtree (id, lo, hi);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
    INSERT INTO t SELECT i, 'text ' || i, zeroblob(i * 7) FROM n;
    INSERT INTO w SELECT a, b FROM t;
    INSERT INTO f SELECT a FROM t;
    INSERT INTO r SELECT id, id, id + 1 FROM t;";

const QUERIES: [&str; 7] = [
    "SELECT count(*), sum(length(a) + length(b)) FROM t",
    "SELECT * FROM t WHERE a = 'text 77'",
    "SELECT max(length(v)) FROM w",
    "SELECT * FROM f WHERE f MATCH 'text'",
    "SELECT * FROM r WHERE lo > 10 AND hi < 20",
    "PRAGMA integrity_check",
    "SELECT * FROM sqlite_schema",
];

#[test]
fn any_bytes_give_an_answer_or_an_error() {
    let image = database(SCHEMA);
    let entropy: Box<dyn Entropy> = Box::new(SeededEntropy::new(7));
    let random = |below: usize| u32::from_le_bytes(entropy.bytes()) as usize % below;
    let mut refused = 0;
    for _ in 0..150 {
        let mut image = image.clone();
        for _ in 0..=random(30) {
            // Mostly where pages begin: headers, pointers, the schema.
            let page = random(image.len() / PAGE_BYTES);
            let within = random(if random(3) > 0 { 40 } else { PAGE_BYTES });
            image[page * PAGE_BYTES + within] = random(256) as u8;
        }
        match open(image, Duration::from_secs(20)) {
            Ok(database) => {
                refused += QUERIES.iter().filter(|sql| database.run(sql, &[], &mut Dropped).is_err()).count();
            }
            Err(_) => refused += QUERIES.len(),
        }
    }
    assert!(refused > 100, "only {refused} of these queries noticed");
}

#[test]
fn views_without_end_and_schemas_that_call_functions_are_stopped() {
    let image = database(
        "CREATE VIEW endless AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n;
         CREATE TABLE t (a);
         CREATE TRIGGER fires AFTER INSERT ON t BEGIN SELECT load_extension('x'); END;
         CREATE VIEW extends AS SELECT load_extension('x');",
    );
    let database = open(image, Duration::from_millis(300)).unwrap();
    let outcome = database.run("SELECT count(*) FROM endless", &[], &mut Dropped);
    assert!(matches!(outcome, Err(QueryError::TimeLimit(_))), "{outcome:?}");
    assert!(matches!(database.run("SELECT * FROM extends", &[], &mut Dropped), Err(QueryError::Sqlite(_))));
    assert!(database.run("INSERT INTO t VALUES (1)", &[], &mut Dropped).is_err());
    // What follows works as before.
    database.run("SELECT * FROM t", &[], &mut Dropped).unwrap();
}
