//! Clear refusals, and nothing left behind.

use crate::{Place, execute};

/// Makes a past in which a stored statement was written over, as an application with functions and collations of its own could have made it.
fn past_with(sql: &str, from: &str, to: &str) -> Place {
    let place = Place::new(sql);
    execute(
        &place.path("past.db"),
        &format!(
            "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}'); PRAGMA writable_schema = RESET;"
        ),
    );
    place
}

#[track_caller]
fn check(place: &Place, tables: &[&str], words: &[&str]) {
    let refusal = place.refusal(tables, None);
    for word in words {
        assert!(refusal.contains(word), "{word:?} expected in {refusal:?}");
    }
}

#[test]
fn names_that_are_not_there() {
    let place =
        Place::new("CREATE TABLE concepts (a); CREATE TABLE entities (a); CREATE VIRTUAL TABLE f USING fts5(a);");
    check(&place, &["concept"], &["no table or view \"concept\"", "it has concepts, entities, f"]);
    check(&place, &["entities", "sqlite_schema"], &["sqlite_schema", "SQLite keeps it for itself"]);
    check(&place, &["f_data"], &["f_data", "data of the virtual table f: restore f"]);
    check(&Place::new("PRAGMA user_version = 1;"), &["a"], &["it has none at all"]);
    let error = place.restore(&["concpets"], None).unwrap_err();
    assert!(
        matches!(&error, continuum::ops::tables::TablesError::NoSuchTable { similar, .. } if similar == &["concepts"]),
        "{error:?}"
    );
}

#[test]
fn collations_and_functions_of_the_application() {
    let place = past_with("CREATE TABLE t (a COLLATE NOCASE);", "NOCASE", "german");
    check(&place, &["t"], &["table t needs the collation \"german\""]);
    let place = past_with("CREATE TABLE t (a); CREATE INDEX i ON t (a COLLATE RTRIM);", "RTRIM", "german");
    check(&place, &["t"], &["index i needs the collation \"german\""]);
    for (sql, object) in [
        ("CREATE TABLE t (a CHECK (lower(a)));", "table t"),
        ("CREATE TABLE t (a, b AS (lower(a)));", "table t"),
        ("CREATE TABLE t (a); CREATE INDEX i ON t (lower(a));", "index i"),
        ("CREATE TABLE t (a); CREATE INDEX i ON t (a) WHERE lower(a);", "index i"),
    ] {
        let place = past_with(sql, "lower", "app_lower");
        check(&place, &["t"], &[&format!("{object} needs the function \"app_lower\"")]);
    }
}

#[test]
fn virtual_tables_that_cannot_be_copied() {
    let place = Place::new(
        "CREATE VIRTUAL TABLE empty USING fts5(a, content = '');
         CREATE VIRTUAL TABLE old USING fts4(a);
         CREATE VIRTUAL TABLE odd USING fts5(a, tokenize = 'porter');
         CREATE VIRTUAL TABLE tongues USING fts5(a, locale = 1);",
    );
    check(&place, &["empty"], &["empty", "without content"]);
    check(&place, &["old"], &["old", "module \"fts4\""]);
    check(&place, &["tongues"], &["tongues", "locale"]);
    execute(
        &place.path("past.db"),
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, 'porter', 'app_words') WHERE name = 'odd';
         INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING vec0(e float[3])');
         PRAGMA writable_schema = RESET;",
    );
    check(&place, &["odd"], &["odd", "app_words"]);
    check(&place, &["v"], &["v", "module \"vec0\""]);
}

#[test]
fn conditions_that_are_none() {
    let place =
        Place::new("CREATE TABLE t (a); CREATE TABLE u (a); CREATE VIEW v AS SELECT 1; INSERT INTO t VALUES (1);");
    for (condition, words) in [
        ("", "empty"),
        ("1; DROP TABLE u", "semicolon"),
        ("1) OR (1", "parenthesis"),
        ("a = 'x", "quote is not closed"),
        ("a /* x", "comment is not closed"),
        ("a = ?1", "parameter ?1"),
        ("b = 1", "no such column: b"),
        ("a = \"Ada\"", "no such column"),
        ("a IN (SELECT a FROM nowhere)", "no such table"),
        ("a IN (INSERT INTO t VALUES (2) RETURNING a)", "syntax error"),
        ("load_extension('x')", "load_extension"),
        ("app(a)", "function \"app\""),
        ("a = 1 ORDER BY a", "syntax error"),
        ("a UNION SELECT 1", "syntax error"),
    ] {
        let refusal = place.refusal(&["t"], Some(condition));
        assert!(refusal.contains("--where") && refusal.contains(words), "{words:?} expected in {refusal:?}");
    }
    assert!(place.refusal(&["t", "u"], Some("a = 1")).contains("one table"));
    assert!(place.refusal(&["v"], Some("1")).contains("one table"));
}

#[test]
fn what_stands_at_the_target() {
    let place = Place::new("CREATE TABLE t (a);");
    std::fs::write(place.path("new.db"), "precious").unwrap();
    assert!(place.restore(&["t"], None).unwrap_err().to_string().contains("exists already"));
    assert_eq!(std::fs::read(place.path("new.db")).unwrap(), b"precious");
}
