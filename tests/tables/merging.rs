//! Merges into databases that exist.

use std::time::Duration;

use continuum::ops::tables::{MergeOptions, OnConflict, TablesError, Tally};
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::{Place, choice, dump, execute, rows};

const PAST: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, twice AS (id * 2), note);
    INSERT INTO t (id, name, note) VALUES (1, 'same', NULL), (2, 'past', 2.0), (3, 'only past', x'00');";
const THERE: &str = "CREATE TABLE t (note, id INTEGER PRIMARY KEY, twice AS (id * 2), name TEXT);
    INSERT INTO t (id, name, note) VALUES (1, 'same', NULL), (2, 'there', 2), (4, 'only there', 'x');";

fn place() -> Place {
    let place = Place::new(PAST);
    execute(&place.path("new.db"), THERE);
    place
}

fn names(place: &Place) -> Vec<String> {
    let found = rows(&place.path("new.db"), "SELECT name FROM t ORDER BY id");
    found.into_iter().map(|row| format!("{:?}", row[0]).replace("Text(\"", "").replace("\")", "")).collect()
}

#[test]
fn abort_names_the_row_and_changes_nothing() {
    let place = place();
    let before = dump(&place.path("new.db"));
    let error = place.merge(&["t"], OnConflict::Abort).unwrap_err();
    assert_eq!(error.to_string(), "table t: the row with id 2 is there already, and differs in name, note");
    assert_eq!(dump(&place.path("new.db")), before);
    execute(&place.path("new.db"), "DELETE FROM t WHERE id = 2");
    let merged = place.merge(&["t"], OnConflict::Abort).unwrap();
    assert_eq!(merged.tables[0].tally, Tally { inserted: 2, equal: 1, ..Tally::default() });
}

#[test]
fn ignore_keeps_and_replace_gives_back() {
    let there = place();
    let merged = there.merge(&["t"], OnConflict::Ignore).unwrap();
    assert_eq!(merged.tables[0].tally, Tally { inserted: 1, ignored: 1, equal: 1, replaced: 0 });
    assert_eq!(names(&there), ["same", "there", "only past", "only there"]);
    let there = place();
    let merged = there.merge(&["t"], OnConflict::Replace).unwrap();
    assert_eq!(merged.tables[0].tally, Tally { inserted: 1, replaced: 1, equal: 1, ignored: 0 });
    assert_eq!(names(&there), ["same", "past", "only past", "only there"]);
    let again = there.merge(&["t"], OnConflict::Abort).unwrap();
    assert_eq!(again.tables[0].tally, Tally { equal: 3, ..Tally::default() });
}

#[test]
fn a_table_that_is_not_there_is_made() {
    let place = Place::new(
        "CREATE TABLE u (id INTEGER PRIMARY KEY AUTOINCREMENT, a); CREATE INDEX by_a ON u (a); INSERT INTO u VALUES (7, 'x'); DELETE FROM u; INSERT INTO u VALUES (3, 'y');
         CREATE TABLE loose (a); INSERT INTO loose (rowid, a) VALUES (5, 1);
         CREATE TRIGGER r AFTER INSERT ON u BEGIN DELETE FROM loose; END;
         CREATE VIEW v AS SELECT a FROM u; CREATE VIRTUAL TABLE f USING fts5(a); INSERT INTO f VALUES ('word');",
    );
    execute(&place.path("new.db"), "PRAGMA journal_mode = WAL; CREATE TABLE other (a);");
    let merged = place.merge(&["u", "loose", "v", "f"], OnConflict::Abort).unwrap();
    assert!(merged.tables.iter().all(|table| table.is_new) && merged.views == ["v"] && merged.missing.is_empty());
    for sql in [
        "SELECT rowid, * FROM loose",
        "SELECT * FROM u",
        "SELECT * FROM sqlite_sequence",
        "SELECT rowid FROM f WHERE f MATCH 'word'",
        "SELECT sql FROM sqlite_schema WHERE name IN ('u', 'by_a', 'r', 'v', 'loose', 'f') ORDER BY name",
    ] {
        place.same(sql);
    }
    assert_eq!(rows(&place.path("new.db"), "PRAGMA journal_mode"), [[Value::Text("wal".into())]]);
    let refused = place.merge(&["loose"], OnConflict::Replace).unwrap_err().to_string();
    assert!(refused.contains("no primary key"), "{refused}");
    let refused = place.merge(&["f"], OnConflict::Replace).unwrap_err().to_string();
    assert!(refused.contains("virtual table"), "{refused}");
    assert!(place.merge(&["v", "u"], OnConflict::Abort).is_ok());
}

#[test]
fn tables_that_are_others() {
    let check = |there: &str, words: &str| {
        let place = Place::new("CREATE TABLE t (a PRIMARY KEY, b, c);");
        execute(&place.path("new.db"), there);
        let refused = place.merge(&["t"], OnConflict::Replace).unwrap_err().to_string();
        assert!(refused.contains(words), "{words:?} expected in {refused:?}");
    };
    check("CREATE TABLE t (a PRIMARY KEY, b, d, e);", "only the state's has c; only the database's has d, e");
    check("CREATE TABLE t (a, b, c, PRIMARY KEY (b, a));", "its primary key is (b, a), the state's (a)");
    check("CREATE TABLE t (a PRIMARY KEY, b, c AS (b));", "only the state's has c");
    check("CREATE VIEW T AS SELECT 1 AS a, 2 AS b, 3 AS c;", "it is no table");
    check("CREATE VIRTUAL TABLE t USING fts5(a, b, c);", "it is no table");
    check("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (a PRIMARY KEY, b, c);", "text encoding");
    let place = Place::new("CREATE TABLE t (a PRIMARY KEY);");
    assert!(matches!(place.merge(&["t"], OnConflict::Abort), Err(TablesError::NothingThere(_))));
    assert!(!place.path("new.db").exists());
    std::fs::write(place.path("new.db"), "no database at all ".repeat(100)).unwrap();
    assert!(matches!(place.merge(&["t"], OnConflict::Abort), Err(TablesError::Sqlite { damaged: true, .. })));
}

#[test]
fn no_row_is_deleted_for_a_unique_value() {
    let make = || {
        let place = Place::new(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, mail UNIQUE); INSERT INTO t VALUES (1, 'a'), (2, 'b');",
        );
        execute(
            &place.path("new.db"),
            "CREATE TABLE t (id INTEGER PRIMARY KEY, mail UNIQUE); INSERT INTO t VALUES (9, 'b');",
        );
        place
    };
    for mode in [OnConflict::Abort, OnConflict::Replace] {
        let place = make();
        let error = place.merge(&["t"], mode).unwrap_err().to_string();
        assert_eq!(
            error,
            "table t: the row with id 2 does not fit into the database: UNIQUE constraint failed: t.mail"
        );
        assert_eq!(rows(&place.path("new.db"), "SELECT id FROM t"), [[Value::Integer(9)]]);
    }
    let place = make();
    let merged = place.merge(&["t"], OnConflict::Ignore).unwrap();
    assert_eq!(merged.tables[0].tally, Tally { inserted: 1, ignored: 1, ..Tally::default() });
}

#[test]
fn keys_by_their_collation_and_keys_of_null() {
    let place = Place::new(
        "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO t VALUES ('Ab', 1);",
    );
    execute(
        &place.path("new.db"),
        "CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO t VALUES ('aB', 1);",
    );
    let error = place.merge(&["t"], OnConflict::Abort).unwrap_err().to_string();
    assert_eq!(error, "table t: the row with k \"Ab\" is there already, and differs in k");
    place.merge(&["t"], OnConflict::Replace).unwrap();
    place.same("SELECT * FROM t");
    let place = Place::new("CREATE TABLE t (k TEXT PRIMARY KEY); INSERT INTO t VALUES (NULL);");
    execute(&place.path("new.db"), "CREATE TABLE t (k TEXT PRIMARY KEY);");
    let error = place.merge(&["t"], OnConflict::Ignore).unwrap_err().to_string();
    assert!(error.contains("primary key is NULL"), "{error}");
}

#[test]
fn triggers_fire_and_are_named_or_are_turned_off() {
    let place = Place::new(
        "CREATE TABLE docs (id INTEGER PRIMARY KEY, body); INSERT INTO docs VALUES (1, 'wolves'), (2, 'dogs');",
    );
    let there = "CREATE TABLE docs (id INTEGER PRIMARY KEY, body); CREATE TABLE log (what);
         CREATE VIRTUAL TABLE f USING fts5(body, content = docs, content_rowid = id);
         CREATE TRIGGER added AFTER INSERT ON docs BEGIN INSERT INTO f (rowid, body) VALUES (new.id, new.body); INSERT INTO log VALUES ('in'); END;
         CREATE TRIGGER changed AFTER UPDATE ON docs BEGIN INSERT INTO f (f, rowid, body) VALUES ('delete', old.id, old.body);
           INSERT INTO f (rowid, body) VALUES (new.id, new.body); INSERT INTO log VALUES ('up'); END;
         CREATE TRIGGER removed AFTER DELETE ON docs BEGIN SELECT raise(FAIL, 'deleted'); END;
         INSERT INTO docs VALUES (1, 'cats');";
    execute(&place.path("new.db"), there);
    let merged = place.merge(&["docs"], OnConflict::Replace).unwrap();
    assert_eq!(merged.triggers, ["added", "changed", "removed"]);
    let found = |word: &str| rows(&place.path("new.db"), &format!("SELECT rowid FROM f WHERE f MATCH '{word}'")).len();
    assert_eq!((found("cats"), found("wolves"), found("dogs")), (0, 1, 1));
    execute(
        &place.path("new.db"),
        "INSERT INTO f (f, rank) VALUES ('integrity-check', 1); DROP TRIGGER removed; DELETE FROM docs; DELETE FROM log;",
    );
    let options = MergeOptions { on_conflict: OnConflict::Abort, triggers: false, busy_timeout: Duration::ZERO };
    let merged = place.merge_with(&choice(&["docs"], Some("id = 2")), &options).unwrap();
    assert_eq!((merged.triggers.len(), merged.tables[0].tally.inserted), (0, 1));
    assert_eq!(rows(&place.path("new.db"), "SELECT count(*) FROM log"), [[Value::Integer(0)]]);
}

#[test]
fn new_violations_of_foreign_keys_stop_it_and_old_ones_stay() {
    let schema = "CREATE TABLE parents (id INTEGER PRIMARY KEY, code UNIQUE);
         CREATE TABLE children (id INTEGER PRIMARY KEY, parent REFERENCES parents ON DELETE CASCADE, code REFERENCES parents (code));";
    let place = Place::new(&format!(
        "{schema} INSERT INTO parents VALUES (1, 'a'), (2, 'b'); INSERT INTO children VALUES (10, 1, NULL), (11, 2, NULL);"
    ));
    let there = format!(
        "PRAGMA foreign_keys = OFF; {schema} INSERT INTO parents VALUES (1, 'z'); INSERT INTO children VALUES (90, 77, NULL), (91, 1, 'z');"
    );
    execute(&place.path("new.db"), &there);
    let before = dump(&place.path("new.db"));
    let error = place.merge(&["children"], OnConflict::Abort).unwrap_err().to_string();
    assert!(error.contains("1 row of children refers to rows of parents that are not there"), "{error}");
    assert_eq!(dump(&place.path("new.db")), before);
    // Another value of what a row is referred to by.
    let error = place.merge(&["parents"], OnConflict::Replace).unwrap_err().to_string();
    assert!(error.contains("1 row of children refers"), "{error}");
    assert_eq!(dump(&place.path("new.db")), before);
    execute(&place.path("new.db"), "UPDATE children SET code = NULL");
    place.merge(&["children", "parents"], OnConflict::Replace).unwrap();
    assert_eq!(rows(&place.path("new.db"), "SELECT id FROM children ORDER BY id").len(), 4);
}

#[test]
fn a_database_that_others_use() {
    for mode in ["delete", "wal"] {
        let place = place();
        execute(&place.path("new.db"), &format!("PRAGMA journal_mode = {mode}"));
        let other = Connection::open(place.path("new.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE; UPDATE t SET note = 'mine' WHERE id = 4;").unwrap();
        let error = place.merge(&["t"], OnConflict::Replace).unwrap_err();
        assert!(matches!(&error, TablesError::Busy(path) if *path == place.path("new.db")), "{error:?}");
        other.execute_batch("COMMIT").unwrap();
        place.merge(&["t"], OnConflict::Replace).unwrap();
        let seen: String = other
            .query_row("SELECT name || (SELECT note FROM t WHERE id = 4) FROM t WHERE id = 2", [], |row| row.get(0))
            .unwrap();
        assert_eq!(seen, "pastmine");
        assert_eq!(rows(&place.path("new.db"), "PRAGMA journal_mode"), [[Value::Text(mode.into())]]);
    }
}
