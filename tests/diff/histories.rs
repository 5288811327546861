//! Random databases and what happens to them.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

/// A small generator of random numbers (SplitMix64).
pub struct Random(u64);

impl Random {
    /// One that always gives the same for a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len() as u64) as usize]
    }

    fn text(&mut self, most: u64) -> String {
        let length = self.below(most + 1);
        (0..length).map(|_| *self.pick(&['a', 'B', 'c', 'ü', '\'', ' ', '9', '"'])).collect()
    }

    /// A condition that one of so many rows meets, of tables with columns `a` and `b`.
    fn chance(&mut self, one_of: u64) -> String {
        let (x, y, z) = (self.below(97), self.below(97), self.below(97));
        format!("(length(quote(a)) * {x} + length(quote(b)) * {y} + unicode(quote(a)) + {z}) % {one_of} = 0")
    }

    fn blob(&mut self, most: u64) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.next() as u8).collect()
    }
}

const TABLES: [(&str, &str); 11] = [
    ("bag", "CREATE TABLE bag (a, b)"),
    (
        "item",
        "CREATE TABLE item (id INTEGER PRIMARY KEY, a TEXT, b BLOB, g INT AS (length(b)) VIRTUAL, h AS (a || 'x') STORED, z REAL DEFAULT 1.5);
         CREATE INDEX item_a ON item (a); CREATE INDEX item_b ON item (b, g)",
    ),
    ("named", "CREATE TABLE named (a TEXT PRIMARY KEY, b BLOB UNIQUE)"),
    ("strict", "CREATE TABLE strict (id INTEGER PRIMARY KEY, a ANY, b BLOB) STRICT"),
    ("counted", "CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, a, b)"),
    ("keyed", "CREATE TABLE keyed (a TEXT PRIMARY KEY, b BLOB) WITHOUT ROWID"),
    ("composite", "CREATE TABLE composite (b, n INT, a TEXT COLLATE NOCASE, v REAL, PRIMARY KEY (a DESC, n)) WITHOUT ROWID"),
    ("wide", "CREATE TABLE wide (a BLOB PRIMARY KEY, b, g AS (b) VIRTUAL) WITHOUT ROWID"),
    ("rowid", "CREATE TABLE rowid (rowid TEXT, oid INT, a, b)"),
    ("odd \"name\"", "CREATE TABLE \"odd \"\"name\"\"\" (\"a b\" INTEGER PRIMARY KEY, \"select\", a, b); CREATE VIEW odd_view AS SELECT a FROM \"odd \"\"name\"\"\""),
    ("words", "CREATE VIRTUAL TABLE words USING fts5(a, b)"),
];

/// See the module documentation.
pub struct History {
    path: PathBuf,
    connection: Connection,
    random: Random,
    done: Vec<String>,
    /// Tables that are there.
    tables: Vec<&'static str>,
}

impl History {
    /// A new database with some content.
    pub fn begin(seed: u64, path: &Path) -> Self {
        let mut random = Random::new(seed);
        let connection = Connection::open(path).unwrap();
        let page_size = random.pick(&[512, 512, 1024, 1024, 4096, 8192, 65_536]);
        let (vacuum, encoding) = (random.below(3), random.pick(&["UTF-8", "UTF-8", "UTF-16le", "UTF-16be"]));
        let setting = format!(
            "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {vacuum}; PRAGMA encoding = '{encoding}'; PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY;"
        );
        connection.execute_batch(&setting).unwrap();
        let mut history = Self { path: path.to_owned(), connection, random, done: vec![setting], tables: Vec::new() };
        for (name, sql) in TABLES {
            if history.random.below(3) > 0 {
                history.execute(sql);
                history.tables.push(name);
            }
        }
        if history.tables.contains(&"item") {
            history.execute("CREATE TRIGGER item_added AFTER INSERT ON item WHEN new.id > 1000000000 BEGIN DELETE FROM item WHERE id = new.id; END");
        }
        let rows = [30, 300, 2000][history.random.below(3) as usize];
        for table in history.tables.clone() {
            history.insert(table, rows);
        }
        history
    }

    /// Something happens.
    pub fn go_on(&mut self) {
        self.done.clear();
        self.connection.execute_batch("BEGIN").unwrap();
        let edits = 1 + self.random.below(5);
        for _ in 0..edits {
            self.edit();
        }
        self.connection.execute_batch("COMMIT").unwrap();
        if self.random.below(12) == 0 {
            self.execute("VACUUM");
        }
        if self.random.below(6) == 0 {
            self.execute("PRAGMA incremental_vacuum(3)");
        }
    }

    /// What has happened since the last state.
    pub fn done(&self) -> &[String] {
        &self.done
    }

    /// The database file.
    pub fn image(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    fn execute(&mut self, sql: &str) {
        self.connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        self.done.push(sql.to_owned());
    }

    fn edit(&mut self) {
        if self.tables.is_empty() {
            return self.change_schema();
        }
        let table = *self.random.pick(&self.tables.clone());
        let quoted = format!("\"{}\"", table.replace('"', "\"\""));
        match self.random.below(16) {
            0..4 => {
                let rows = self.random.below(20);
                self.insert(table, rows);
            }
            4..7 => self.rewrite_ends(table, &quoted),
            7..9 => {
                let text = self.random.text(30);
                let one_of = 1 + self.random.below(200);
                let chance = self.random.chance(one_of);
                let value = text.replace('\'', "''");
                self.execute(
                    &format!("UPDATE OR IGNORE {quoted} SET b = '{value}' || (length(a) % 10) WHERE {chance}")
                        .replace("SET b = '", if table == "strict" { "SET a = '" } else { "SET b = '" }),
                );
            }
            9..11 => {
                let one_of = 1 + self.random.below(300);
                let chance = self.random.chance(one_of);
                self.execute(&format!("DELETE FROM {quoted} WHERE {chance}"));
            }
            11 => {
                let (one_of, up) = (1 + self.random.below(100), self.random.below(2));
                let chance = self.random.chance(one_of);
                self.execute(&format!(
                    "UPDATE OR IGNORE {quoted} SET a = {}(a) WHERE typeof(a) = 'text' AND {chance}",
                    ["upper", "lower"][up as usize]
                ));
            }
            12 if table == "item" || table == "strict" => {
                let chance = self.random.chance(40);
                self.execute(&format!("UPDATE OR IGNORE {quoted} SET id = id + length(a) % 50 WHERE {chance}"));
            }
            13 => self.execute("ANALYZE"),
            14 => self.change_schema(),
            _ => {}
        }
    }

    fn change_schema(&mut self) {
        match self.random.below(6) {
            0 => {
                let (name, sql) = *self.random.pick(&TABLES);
                if self.tables.contains(&name) {
                    self.execute(&format!(
                        "DROP TABLE \"{}\"; DROP VIEW IF EXISTS odd_view",
                        name.replace('"', "\"\"")
                    ));
                    self.tables.retain(|table| *table != name);
                } else {
                    self.execute(sql);
                    self.tables.push(name);
                    self.insert(name, 40);
                }
            }
            1 if self.tables.contains(&"bag") => {
                let name = format!("more_{}", self.random.below(1_000_000_000));
                self.execute(&format!("ALTER TABLE bag ADD COLUMN {name} INT DEFAULT 7"));
            }
            2 if self.tables.contains(&"keyed") => {
                let name = format!("more_{}", self.random.below(1_000_000_000));
                self.execute(&format!("ALTER TABLE keyed ADD COLUMN {name} TEXT DEFAULT 'x'"));
            }
            3 if self.tables.contains(&"bag") => {
                let name = format!("bag_{}", self.random.below(1_000_000_000));
                self.execute(&format!("CREATE INDEX {name} ON bag (b)"));
            }
            4 if self.tables.contains(&"bag") => {
                self.execute("ALTER TABLE bag RENAME COLUMN a TO was; ALTER TABLE bag RENAME COLUMN b TO a; ALTER TABLE bag RENAME COLUMN was TO b");
            }
            _ => {
                let name = format!("view_{}", self.random.below(1_000_000_000));
                self.execute(&format!("CREATE VIEW {name} AS SELECT 1"));
            }
        }
    }

    fn insert(&mut self, table: &str, rows: u64) {
        self.done.push(format!("{rows} rows into {table}"));
        let inside = !self.connection.is_autocommit();
        if !inside {
            self.connection.execute_batch("BEGIN").unwrap();
        }
        let quoted = table.replace('"', "\"\"");
        for _ in 0..rows {
            let most = *self.random.pick(&[5, 40, 40, 300, 3000]);
            let key = if table == "wide" || table == "keyed" { most } else { 40 };
            let (text, blob) = (self.random.text(key), self.random.blob(most));
            let sql = match table {
                "wide" => {
                    let key = self.random.blob(key);
                    let sql = "INSERT OR IGNORE INTO wide (a, b) VALUES (?, ?)";
                    self.connection.execute(sql, params![key, blob]).unwrap();
                    continue;
                }
                "composite" => {
                    let sql = "INSERT OR IGNORE INTO composite (a, n, b, v) VALUES (?, ?, ?, ?)";
                    let (n, v) = (self.random.below(50) as i64, self.random.below(1000) as f64 / 4.0);
                    self.connection.execute(sql, params![text, n, blob, v]).unwrap();
                    continue;
                }
                "item" | "strict" if self.random.below(2) == 0 => {
                    let sql = format!("INSERT OR IGNORE INTO {table} (id, a, b) VALUES (?, ?, ?)");
                    let id = self.random.below(10_000) as i64 - 300;
                    self.connection.execute(&sql, params![id, text, blob]).unwrap();
                    continue;
                }
                "words" => {
                    let sql = "INSERT INTO words (a, b) VALUES (?, ?)";
                    self.connection.execute(sql, params![text, text]).unwrap();
                    continue;
                }
                _ => format!("INSERT OR IGNORE INTO \"{quoted}\" (a, b) VALUES (?, ?)"),
            };
            self.connection.execute(&sql, params![text, blob]).unwrap();
        }
        if !inside {
            self.connection.execute_batch("COMMIT").unwrap();
        }
    }

    /// Changes the last bytes of long blobs and nothing else, as an incremental write does: only overflow pages change.
    fn rewrite_ends(&mut self, table: &str, quoted: &str) {
        if table == "words" {
            return;
        }
        let one_of = 1 + self.random.below(60);
        let chance = self.random.chance(one_of);
        let one = if self.random.below(2) == 0 { " LIMIT 1" } else { "" };
        let key = match table {
            "keyed" | "wide" => "a",
            "composite" => return,
            "rowid" => "_rowid_",
            _ => "rowid",
        };
        let sql =
            format!("SELECT {key}, b FROM {quoted} WHERE typeof(b) = 'blob' AND length(b) > 500 AND {chance}{one}");
        let mut statement = self.connection.prepare(&sql).unwrap();
        let rows =
            statement.query_map([], |row| Ok((row.get::<_, rusqlite::types::Value>(0)?, row.get::<_, Vec<u8>>(1)?)));
        let rows: Vec<_> = rows.unwrap().map(Result::unwrap).collect();
        drop(statement);
        self.done.push(format!("{} ends in {table}", rows.len()));
        for (key_value, mut blob) in rows {
            let length = blob.len();
            blob[length - 1] ^= 0x55;
            let sql = format!("UPDATE OR IGNORE {quoted} SET b = ? WHERE {key} = ?");
            self.connection.execute(&sql, params![blob, key_value]).unwrap();
        }
    }
}
