//! Random schemas, rows and merges from a seeded generator: the new database against the past, and merges against a model.

use std::collections::BTreeMap;

use continuum::ops::tables::{OnConflict, TablesError, Tally};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::{Place, execute, rows};

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % below
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.next(of.len() as u64) as usize]
    }

    fn value(&mut self) -> Value {
        match self.next(6) {
            0 => Value::Null,
            1 => Value::Integer(self.next(50) as i64 - 25),
            2 => Value::Integer(self.0 as i64),
            3 => Value::Real(self.next(1000) as f64 / 8.0),
            4 => Value::Text("äb'\"c".chars().cycle().take(self.next(300) as usize).collect()),
            _ => Value::Blob(self.0.to_le_bytes()[..self.next(9) as usize].to_vec()),
        }
    }
}

/// A table with columns `c0`, `c1`, …; the SQL and the columns that can be set.
fn random_table(random: &mut Random, name: &str) -> (String, Vec<String>) {
    let count = 1 + random.next(6) as usize;
    let mut parts = Vec::new();
    let mut stored = Vec::new();
    let key = random.next(5);
    let quote = random.one_of(&["\"", "`"]);
    for at in 0..count {
        let column = format!("c{at}");
        let mut declared =
            format!("{quote}{column}{quote} {}", random.one_of(&["", "INT", "TEXT", "BLOB", "REAL", "NUMERIC"]));
        if at == 0 && key == 1 {
            declared = format!("{column} INTEGER PRIMARY KEY{}", random.one_of(&["", " AUTOINCREMENT", " DESC"]));
        }
        if random.next(4) == 0 {
            declared += random.one_of(&[" COLLATE NOCASE", " DEFAULT 'a,)'", " COLLATE RTRIM", " /* , */"]);
        }
        parts.push(declared);
        stored.push(column);
    }
    for at in 0..random.next(3) {
        parts.push(format!("g{at} AS (coalesce(c0, 0) || '{at}') {}", random.one_of(&["", "STORED", "VIRTUAL"])));
    }
    let tail = match key {
        2 => {
            parts.push("PRIMARY KEY (c0)".to_owned());
            ""
        }
        3 => {
            parts.push(format!("PRIMARY KEY ({} DESC, c0)", stored[stored.len() - 1]).replace("c0 DESC, c0", "c0"));
            " WITHOUT ROWID"
        }
        _ => "",
    };
    (format!("CREATE TABLE {name} ({}){tail};", parts.join(", ")), stored)
}

fn random_past(random: &mut Random) -> (Place, Vec<String>) {
    let place =
        Place::new(&format!("PRAGMA page_size = {}; PRAGMA user_version = 1;", random.one_of(&[512, 1024, 4096])));
    let connection = Connection::open(place.path("past.db")).unwrap();
    let mut names = Vec::new();
    for number in 0..1 + random.next(5) {
        let name = format!("t{number}");
        let (sql, columns) = random_table(random, &name);
        connection.execute_batch(&sql).unwrap();
        for index in 0..random.next(3) {
            let column = &columns[random.next(columns.len() as u64) as usize];
            let more = random.one_of(&["", " DESC", ", c0", " COLLATE NOCASE"]);
            let only = random.one_of(&["", " WHERE c0 IS NOT NULL", " WHERE c0 > 3"]);
            connection
                .execute_batch(&format!("CREATE INDEX i{number}_{index} ON {name} ({column}{more}){only}"))
                .unwrap();
        }
        let parameters = vec!["?"; columns.len()].join(", ");
        let sql = format!("INSERT OR IGNORE INTO {name} ({}) VALUES ({parameters})", columns.join(", "));
        connection.execute_batch("BEGIN").unwrap();
        for _ in 0..random.one_of(&[0, 3, 40, 300]) {
            let values: Vec<Value> = columns.iter().map(|_| random.value()).collect();
            // One that does not fit its table is left out.
            let _ = connection.execute(&sql, params_from_iter(values));
        }
        connection.execute_batch("COMMIT").unwrap();
        if random.next(2) == 0 {
            connection.execute_batch(&format!("DELETE FROM {name} WHERE abs(random()) % 3 = 0")).unwrap();
        }
        names.push(name);
    }
    (place, names)
}

#[test]
fn any_tables_are_restored_as_they_were() {
    for seed in 1..=60 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let (place, names) = random_past(&mut random);
        let mut chosen: Vec<&str> = names.iter().map(String::as_str).collect();
        chosen.retain(|_| random.next(3) > 0);
        if chosen.is_empty() {
            chosen.push("t0");
        }
        let created = place.restore(&chosen, None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(created.findings, Vec::<String>::new(), "seed {seed}");
        assert_eq!(created.tables.len(), chosen.len());
        for name in &chosen {
            let without = rows(&place.path("past.db"), &format!("SELECT wr FROM pragma_table_list('{name}')"));
            let rowid = if without == [[Value::Integer(0)]] { "rowid, " } else { "" };
            let found = place.same(&format!("SELECT {rowid}* FROM {name}"));
            let restored = created.tables.iter().find(|table| table.name == *name).unwrap();
            assert_eq!(restored.rows, found.len() as u64, "seed {seed}");
            place.same(&format!(
                "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name = '{name}' AND sql IS NOT NULL ORDER BY name"
            ));
        }
    }
}

/// Values of a row by its key, as SQLite's `quote` writes them.
type Model = BTreeMap<i64, Vec<String>>;

fn model(place: &Place, file: &str) -> Model {
    let found = rows(&place.path(file), "SELECT k, quote(a), quote(b) FROM t");
    found
        .into_iter()
        .map(|row| match row.as_slice() {
            [Value::Integer(key), Value::Text(a), Value::Text(b)] => (*key, vec![a.clone(), b.clone()]),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn merges_do_what_a_model_does() {
    for seed in 1..=90_u64 {
        let mut random = Random(0x517c_c1b7_2722_0a95_u64.wrapping_mul(seed));
        let schema = random.one_of(&[
            "CREATE TABLE t (k INTEGER PRIMARY KEY, a, b)",
            "CREATE TABLE t (a, k INT NOT NULL PRIMARY KEY, b) WITHOUT ROWID",
            "CREATE TABLE t (b, a, k INT, PRIMARY KEY (k))",
        ]);
        let place = Place::new(schema);
        execute(&place.path("new.db"), schema);
        let chance = 1 + random.next(4);
        for file in ["past.db", "new.db"] {
            let connection = Connection::open(place.path(file)).unwrap();
            connection.execute_batch("BEGIN").unwrap();
            for key in 0..40 {
                // Often the same as in the other one.
                let mut same = Random((seed * 1000 + key as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let of = if random.next(10) < chance { &mut random } else { &mut same };
                let (a, b) = (of.value(), of.value());
                if random.next(3) > 0 {
                    connection.execute("INSERT INTO t (k, a, b) VALUES (?1, ?2, ?3)", (key, a, b)).unwrap();
                }
            }
            connection.execute_batch("COMMIT").unwrap();
        }
        let (past, there) = (model(&place, "past.db"), model(&place, "new.db"));
        let mode = random.one_of(&[OnConflict::Abort, OnConflict::Ignore, OnConflict::Replace]);
        let (mut expected, mut tally) = (there.clone(), Tally::default());
        for (key, values) in &past {
            match (there.get(key), mode) {
                (None, _) => tally.inserted += 1,
                (Some(old), _) if old == values => tally.equal += 1,
                (Some(_), OnConflict::Replace) => tally.replaced += 1,
                (Some(_), _) => {
                    tally.ignored += 1;
                    continue;
                }
            }
            expected.insert(*key, values.clone());
        }
        let merged = place.merge(&["t"], mode);
        if mode == OnConflict::Abort && tally.ignored > 0 {
            assert!(matches!(merged, Err(TablesError::Conflict { .. })), "seed {seed}: {merged:?}");
            assert_eq!(model(&place, "new.db"), there, "seed {seed}");
        } else {
            assert_eq!(merged.unwrap().tables[0].tally, tally, "seed {seed}, {mode:?}");
            assert_eq!(model(&place, "new.db"), expected, "seed {seed}, {mode:?}");
        }
    }
}
