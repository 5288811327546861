//! The right result, kind by kind.

use rusqlite::types::Value;

use crate::{Place, execute, rows};

/// The stored SQL of what has this name is the past's.
#[track_caller]
fn same_schema(place: &Place, names: &[&str]) {
    for name in names {
        let found = place.same(&format!("SELECT type, tbl_name, sql FROM sqlite_schema WHERE name = '{name}'"));
        assert_eq!(found.len(), 1, "{name}");
    }
}

#[test]
fn a_table_comes_with_its_rows_indexes_and_triggers() {
    let place = Place::new(
        "PRAGMA page_size = 1024; PRAGMA auto_vacuum = 2; PRAGMA user_version = 7; PRAGMA application_id = 4711;
         CREATE TABLE concepts (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE NOT NULL DEFAULT ('x;' || ')'), weight REAL, data);
         CREATE UNIQUE INDEX by_name ON concepts (name) WHERE weight > 0;
         CREATE INDEX \"by \"\"data\" ON concepts (data DESC, abs(weight));
         CREATE TABLE log (text);
         CREATE TRIGGER noted AFTER INSERT ON concepts BEGIN INSERT INTO log VALUES (CASE WHEN new.id > 1 THEN 'a' END); END;
         INSERT INTO concepts VALUES (5, 'a', 1.5, x'00ff'), (-3, 'b', NULL, 'text'), (9, 'C', 1e300, 12), (10, 'ü', -0.0, 1.0);
         CREATE TABLE other (a);",
    );
    let created = place.restore(&["CONCEPTS", "concepts"], None).unwrap();
    assert_eq!(created.tables.len(), 1);
    assert_eq!((created.tables[0].name.as_str(), created.tables[0].rows), ("concepts", 4));
    assert_eq!(created.tables[0].indexes, ["by_name", "by \"data"]);
    let missing: Vec<String> = created.missing.iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["trigger noted needs log"]);
    assert!(created.findings.is_empty() && created.orphans.is_empty());
    same_schema(&place, &["concepts", "by_name", "by \"data", "noted"]);
    place.same("SELECT rowid, *, typeof(weight), typeof(data) FROM concepts ORDER BY id");
    for pragma in ["page_size", "auto_vacuum", "user_version", "application_id", "encoding"] {
        place.same(&format!("PRAGMA {pragma}"));
    }
    assert_eq!(rows(&place.path("new.db"), "PRAGMA integrity_check"), [[Value::Text("ok".into())]]);
    assert_eq!(rows(&place.path("new.db"), "SELECT count(*) FROM sqlite_schema"), [[Value::Integer(4)]]);
    let mut names: Vec<_> = place.path("").read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["new.db", "past.db"]);
}

#[test]
fn rowids_stay() {
    let place = Place::new(
        "CREATE TABLE plain (a); INSERT INTO plain (rowid, a) VALUES (7, 'x'), (-2, 'y'), (9223372036854775807, 'z');
         CREATE INDEX covering ON plain (a);
         CREATE TABLE taken (rowid, _rowid_, a); INSERT INTO taken (oid, a) VALUES (70, 'x'), (20, 'y');
         CREATE TABLE all_taken (rowid, _rowid_, oid); INSERT INTO all_taken VALUES (1, 2, 3), (4, 5, 6);",
    );
    place.restore(&["plain", "taken", "all_taken"], None).unwrap();
    place.same("SELECT rowid, a FROM plain ORDER BY 1");
    place.same("SELECT oid, * FROM taken ORDER BY 1");
    place.same("SELECT * FROM all_taken ORDER BY 1");
}

#[test]
fn without_rowid_strict_and_generated() {
    let place = Place::new(
        "CREATE TABLE pairs (a TEXT, b INT, c, PRIMARY KEY (b DESC, a COLLATE NOCASE)) WITHOUT ROWID;
         INSERT INTO pairs VALUES ('x', 1, 'one'), ('y', 1, NULL), ('x', 2, 3.5);
         CREATE TABLE exact (id INTEGER PRIMARY KEY, n INT, r REAL, t TEXT, b BLOB, x ANY) STRICT;
         INSERT INTO exact VALUES (1, 2, 3, '4', x'05', '6'), (2, NULL, NULL, NULL, NULL, 7.5);
         CREATE TABLE sums (a INT, twice INT AS (a * 2), b INT, total INT AS (a + b) STORED, label TEXT GENERATED ALWAYS AS (upper(b)) VIRTUAL);
         INSERT INTO sums (a, b) VALUES (1, 2), (3, NULL);
         CREATE INDEX by_twice ON sums (twice);",
    );
    let created = place.restore(&["pairs", "exact", "sums"], None).unwrap();
    assert_eq!(created.findings, Vec::<String>::new());
    same_schema(&place, &["pairs", "exact", "sums", "by_twice"]);
    place.same("SELECT * FROM pairs ORDER BY b, a");
    place.same("SELECT *, typeof(x), typeof(r) FROM exact ORDER BY id");
    place.same("SELECT rowid, * FROM sums ORDER BY 1");
}

#[test]
fn the_number_of_autoincrement_stays() {
    let place = Place::new(
        "CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, a);
         INSERT INTO counted (a) VALUES (1), (2), (3); DELETE FROM counted WHERE id > 1;
         CREATE TABLE emptied (id INTEGER PRIMARY KEY AUTOINCREMENT);
         INSERT INTO emptied VALUES (41); DELETE FROM emptied;
         CREATE TABLE plain (a);",
    );
    place.restore(&["counted", "emptied", "plain"], None).unwrap();
    place.same("SELECT * FROM sqlite_sequence ORDER BY name");
    execute(&place.path("new.db"), "INSERT INTO counted (a) VALUES (4)");
    assert_eq!(rows(&place.path("new.db"), "SELECT max(id) FROM counted"), [[Value::Integer(4)]]);
}

#[test]
fn rows_of_a_condition() {
    let place = Place::new(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, author TEXT, text TEXT); CREATE INDEX by_author ON notes (author);
         INSERT INTO notes VALUES (1, 'Ada', 'a)'), (2, 'Bob', 'b'), (3, 'Ada', 'c'), (4, NULL, 'd');
         CREATE TABLE wanted (note); INSERT INTO wanted VALUES (2), (4);",
    );
    for (condition, ids) in [
        ("author = 'Ada'", vec![1, 3]),
        ("text = 'a)' -- that one", vec![1]),
        ("id IN (SELECT note FROM wanted)", vec![2, 4]),
        ("rowid > 3 OR author /* who */ IS 'Bob'", vec![2, 4]),
        ("0", vec![]),
    ] {
        let created = place.restore(&["notes"], Some(condition)).unwrap();
        assert_eq!(created.tables[0].rows, ids.len() as u64, "{condition}");
        let found = rows(&place.path("new.db"), "SELECT id FROM notes ORDER BY id");
        let expected: Vec<Vec<Value>> = ids.into_iter().map(|id| vec![Value::Integer(id)]).collect();
        assert_eq!(found, expected, "{condition}");
        std::fs::remove_file(place.path("new.db")).unwrap();
    }
}

#[test]
fn a_full_text_index_with_its_own_content() {
    let place = Place::new(
        "CREATE VIRTUAL TABLE docs USING fts5(title, body, tag UNINDEXED, tokenize = 'porter unicode61', prefix = '2 3');
         INSERT INTO docs (rowid, title, body, tag) VALUES (3, 'one', 'running wolves', 'x'), (8, 'two', 'sleeping dogs', NULL);
         INSERT INTO docs (docs, rank) VALUES ('rank', 'bm25(10.0, 5.0)'), ('pgsz', 1000), ('secure-delete', 1);",
    );
    let created = place.restore(&["docs"], None).unwrap();
    assert_eq!((created.tables[0].rows, created.findings.len(), created.missing.len()), (2, 0, 0));
    same_schema(&place, &["docs"]);
    place.same("SELECT rowid, * FROM docs ORDER BY rowid");
    place.same("SELECT * FROM docs_config WHERE k <> 'version' ORDER BY k");
    let found = place.same("SELECT rowid FROM docs WHERE docs MATCH 'run' ORDER BY rank");
    assert_eq!(found.len(), 1);
    execute(&place.path("new.db"), "INSERT INTO docs (docs) VALUES ('integrity-check')");
}

#[test]
fn a_full_text_index_on_a_table_is_made_anew() {
    let place = Place::new(
        "CREATE TABLE documents (id INTEGER PRIMARY KEY, body TEXT);
         CREATE VIRTUAL TABLE found USING fts5(body, content = 'documents', content_rowid = 'id');
         CREATE TRIGGER added AFTER INSERT ON documents BEGIN INSERT INTO found (rowid, body) VALUES (new.id, new.body); END;
         INSERT INTO documents VALUES (4, 'wolves run'), (6, 'dogs sleep');",
    );
    assert!(place.refusal(&["found"], None).contains("full-text index on documents: restore both"));
    let created = place.restore(&["found", "documents"], None).unwrap();
    assert!(created.missing.is_empty(), "{:?}", created.missing);
    same_schema(&place, &["documents", "found", "added"]);
    assert_eq!(place.same("SELECT rowid FROM found WHERE found MATCH 'dogs'").len(), 1);
    let more =
        "INSERT INTO documents VALUES (9, 'more dogs'); INSERT INTO found (found, rank) VALUES ('integrity-check', 1);";
    execute(&place.path("new.db"), more);
    assert_eq!(rows(&place.path("new.db"), "SELECT rowid FROM found WHERE found MATCH 'dogs'").len(), 2);
}

#[test]
fn trees_of_rectangles() {
    let place = Place::new(
        "CREATE VIRTUAL TABLE areas USING rtree(id, x0, x1, y0, y1, +label TEXT);
         CREATE VIRTUAL TABLE cells USING rtree_i32(id, a, b);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO areas SELECT i, i * 0.37, i * 0.37 + 1.1, -i / 3.0, i, 'area ' || i FROM n;
         INSERT INTO cells VALUES (1, 5, 6), (9, -7, 70);",
    );
    let created = place.restore(&["areas", "cells"], None).unwrap();
    assert_eq!(created.findings, Vec::<String>::new());
    same_schema(&place, &["areas", "cells"]);
    place.same("SELECT * FROM areas ORDER BY id");
    place.same("SELECT id FROM areas WHERE x0 > 20 AND y1 < 90 ORDER BY id");
    place.same("SELECT * FROM cells ORDER BY id");
}

#[test]
fn views_and_what_they_read() {
    let place = Place::new(
        "CREATE TABLE a (x); CREATE TABLE b (x); CREATE TABLE c (x); INSERT INTO a VALUES (1);
         CREATE VIEW inner_view AS SELECT x FROM b;
         CREATE VIEW outer_view (y) AS SELECT a.x FROM a JOIN inner_view ON a.x = inner_view.x;
         CREATE TRIGGER instead INSTEAD OF INSERT ON outer_view BEGIN INSERT INTO c VALUES (new.y); END;
         CREATE VIEW odd AS SELECT app_function(x) FROM c;",
    );
    let created = place.restore(&["a", "outer_view", "odd"], None).unwrap();
    assert_eq!(created.views, ["outer_view", "odd"]);
    let missing: Vec<String> = created.missing.iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        ["trigger instead needs c", "view odd needs c", "view outer_view needs b", "view outer_view needs inner_view"]
    );
    same_schema(&place, &["outer_view", "instead", "odd"]);
}

#[test]
fn foreign_keys_to_what_is_not_restored_are_named() {
    let place = Place::new(
        "CREATE TABLE customers (id INTEGER PRIMARY KEY);
         CREATE TABLE orders (id INTEGER PRIMARY KEY, customer REFERENCES customers ON DELETE CASCADE, parent REFERENCES orders);
         INSERT INTO customers VALUES (1), (2); INSERT INTO orders VALUES (1, 1, NULL), (2, 2, 1), (3, NULL, 2);",
    );
    let created = place.restore(&["orders"], None).unwrap();
    assert_eq!(created.missing[0].to_string(), "foreign key of orders needs customers");
    assert_eq!(created.orphans[0].to_string(), "2 rows of orders refer to rows of customers that are not there");
    std::fs::remove_file(place.path("new.db")).unwrap();
    let created = place.restore(&["orders", "customers"], None).unwrap();
    assert!(created.missing.is_empty() && created.orphans.is_empty());
}

#[test]
fn rows_that_break_a_rule_already_are_kept_and_named() {
    let place = Place::new(
        "CREATE TABLE checked (a CHECK (a > 0)); PRAGMA ignore_check_constraints = ON; INSERT INTO checked VALUES (-1);",
    );
    let created = place.restore(&["checked"], None).unwrap();
    assert_eq!(created.findings, ["CHECK constraint failed in checked"]);
    place.same("SELECT * FROM checked");
}

#[test]
fn other_text_encodings() {
    for encoding in ["UTF-16le", "UTF-16be"] {
        let place = Place::new(&format!(
            "PRAGMA encoding = '{encoding}'; CREATE TABLE t (a TEXT PRIMARY KEY); INSERT INTO t VALUES ('grün'), ('日本');"
        ));
        place.restore(&["t"], Some("a <> 'x'")).unwrap();
        place.same("SELECT * FROM t ORDER BY a");
        place.same("PRAGMA encoding");
    }
}

#[test]
fn odd_names() {
    let place = Place::new(
        "CREATE TABLE \"select \"\"x\"\" ; --\" (\"a b\" INT, [c]]d] , `e``f`, 'g''h', \"group\" PRIMARY KEY);
         INSERT INTO \"select \"\"x\"\" ; --\" VALUES (1, 2, 3, 4, 5);
         CREATE TABLE 名前 (値 TEXT); INSERT INTO 名前 VALUES ('あ');"
            .replace("[c]]d]", "[c d]")
            .as_str(),
    );
    place.restore(&["select \"x\" ; --", "名前"], None).unwrap();
    place.same("SELECT * FROM \"select \"\"x\"\" ; --\"");
    place.same("SELECT * FROM 名前");
}
