//! Databases that were made to do harm: an error, never more than what was asked for.

use std::sync::Arc;

use continuum::monitor::{Event, Monitor};
use continuum::ops::tables::{OnConflict, TablesError, merge_into};
use rusqlite::types::Value;

use crate::{Place, choice, execute, rows};

fn crafted(sql: &str, craft: &str) -> Place {
    let place = Place::new(sql);
    execute(&place.path("past.db"), &format!("PRAGMA writable_schema = ON; {craft}; PRAGMA writable_schema = RESET;"));
    place
}

#[test]
fn a_statement_that_is_not_what_its_row_says() {
    for craft in [
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE t AS SELECT 1 AS a' WHERE name = 't'",
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE victim (a)' WHERE name = 't'",
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (a); DROP TABLE victim' WHERE name = 't'",
        "UPDATE sqlite_schema SET sql = 'CREATE TEMP TABLE t (a)' WHERE name = 't'",
        "UPDATE sqlite_schema SET sql = 'ATTACH ''x'' AS t' WHERE name = 't'",
        "UPDATE sqlite_schema SET sql = 'CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END; DELETE FROM victim' WHERE name = 'r'",
        "UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON t (a); DELETE FROM victim' WHERE name = 'i'",
        "UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON victim (a)' WHERE name = 'i'",
        "UPDATE sqlite_schema SET sql = 'CREATE VIEW t AS SELECT 1' WHERE name = 't'",
        "UPDATE sqlite_schema SET sql = NULL WHERE name = 't'",
        "UPDATE sqlite_schema SET sql = x'ff00ff' WHERE name = 't'",
        "UPDATE sqlite_schema SET tbl_name = 'victim' WHERE name = 'i'",
        "UPDATE sqlite_schema SET rootpage = 1 WHERE name = 't'",
        "UPDATE sqlite_schema SET rootpage = 4000000000 WHERE name = 't'",
        "UPDATE sqlite_schema SET rootpage = -1 WHERE name = 't'",
    ] {
        let sql = "CREATE TABLE t (a); CREATE INDEX i ON t (a); CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END; INSERT INTO t VALUES (1);";
        let place = crafted(sql, craft);
        // What SQLite makes of it is its matter; other tables of a database it is merged into stay.
        execute(&place.path("new.db"), "CREATE TABLE victim (a); INSERT INTO victim VALUES (42);");
        let merged = place.merge(&["t"], OnConflict::Replace);
        let names = rows(&place.path("new.db"), "SELECT name FROM sqlite_schema ORDER BY name");
        if let Err(error) = &merged {
            assert_eq!(names, [[Value::Text("victim".into())]], "{craft}: {error}");
        }
        assert_eq!(rows(&place.path("new.db"), "SELECT a FROM victim"), [[Value::Integer(42)]], "{craft}");
        assert_eq!(rows(&place.path("new.db"), "PRAGMA integrity_check"), [[Value::Text("ok".into())]], "{craft}");
    }
}

#[test]
fn views_and_triggers_that_call_themselves() {
    let place = crafted(
        "CREATE TABLE t (a); CREATE VIEW v AS SELECT 1 AS a; CREATE VIEW w AS SELECT * FROM v;
         CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO t VALUES (1); END; PRAGMA recursive_triggers = ON;",
        "UPDATE sqlite_schema SET sql = 'CREATE VIEW v AS SELECT * FROM w' WHERE name = 'v'",
    );
    let created = place.restore(&["t", "v"], None).unwrap();
    let missing: Vec<String> = created.missing.iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["view v needs w"]);
}

#[test]
fn damaged_pages() {
    let make = "PRAGMA page_size = 512; CREATE TABLE t (id INTEGER PRIMARY KEY, a); CREATE INDEX i ON t (a);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO t SELECT i, hex(randomblob(20)) FROM n;";
    let place = Place::new(make);
    let good = std::fs::read(place.path("past.db")).unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..60 {
        let mut bytes = good.clone();
        for _ in 0..8 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = 512 + (seed as usize >> 8) % (bytes.len() - 512);
            bytes[at] = seed as u8;
        }
        std::fs::write(place.path("past.db"), &bytes).unwrap();
        match place.restore(&["t"], None) {
            Ok(_) => {
                let check = rows(&place.path("new.db"), "PRAGMA integrity_check");
                assert_eq!(check, [[Value::Text("ok".into())]]);
                std::fs::remove_file(place.path("new.db")).unwrap();
            }
            Err(_) => assert!(!place.path("new.db").exists()),
        }
    }
}

/// Wants to stop at once.
struct Impatient;

impl Monitor for Impatient {
    fn event(&self, _: Event) {}

    fn is_cancelled(&self) -> bool {
        true
    }
}

#[test]
fn a_view_or_condition_that_never_ends_can_be_stopped() {
    let place = Place::new("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1);");
    let endless =
        "id IN (WITH RECURSIVE n (i) AS (SELECT 5 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0)";
    execute(&place.path("new.db"), "CREATE TABLE t (id INTEGER PRIMARY KEY);");
    let options = continuum::ops::tables::MergeOptions {
        on_conflict: OnConflict::Abort,
        triggers: true,
        busy_timeout: std::time::Duration::ZERO,
    };
    let monitor: Arc<dyn Monitor> = Arc::new(Impatient);
    let merged = place
        .with_past(|past| merge_into(past, &choice(&["t"], Some(endless)), &place.path("new.db"), &options, &monitor));
    assert!(matches!(merged, Err(TablesError::Cancelled(_))), "{merged:?}");
}
