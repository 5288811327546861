//! Rows that refer to rows that are not there.
//!
//! [`Orphanage`] is what SQLite's `foreign_key_check` finds in a database: which rows, so that two of them can be compared. How many it holds is bounded.

use std::collections::{BTreeMap, HashMap};

use crate::sqlite::identifier::quoted;

use super::connection::{NEW, Work};
use super::error::{Orphans, TablesError, message};

/// Beyond so many, they are not compared row by row.
const LIMIT: usize = 1_000_000;

/// See the module documentation.
#[derive(Default)]
pub struct Orphanage {
    /// How often a row of a table is found with a parent: once a foreign key, and rows without a rowid all together.
    rows: HashMap<(u32, Option<i64>), u64>,
    /// Table, parent and the number of the foreign key.
    keys: BTreeMap<(String, String, i64), u32>,
    /// Tables whose foreign keys SQLite cannot check, and why.
    pub unchecked: BTreeMap<String, String>,
    overflown: bool,
}

impl Orphanage {
    /// What there is in these tables of the new database.
    pub fn of(work: &Work, tables: &[String]) -> Result<Self, TablesError> {
        let mut found = Self::default();
        for table in tables {
            found.add(work, table)?;
        }
        Ok(found)
    }

    fn add(&mut self, work: &Work, table: &str) -> Result<(), TablesError> {
        let explain = |error: rusqlite::Error| work.explain(&error, "check foreign keys of", &format!("table {table}"));
        let sql = format!("PRAGMA {NEW}.foreign_key_check({})", quoted(table));
        let mut statement = work.connection.prepare(&sql).map_err(explain)?;
        let mut rows = statement.query([]).map_err(explain)?;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(()),
                // The parent has no key to refer to: SQLite's word for it is "mismatch".
                Err(error) if message(&error).contains("mismatch") => {
                    self.unchecked.insert(table.to_owned(), message(&error));
                    return Ok(());
                }
                Err(error) => return Err(explain(error)),
            };
            let entry = || Ok::<_, rusqlite::Error>((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            let (table, rowid, parent, key): (String, Option<i64>, String, i64) = entry().map_err(explain)?;
            let next = self.keys.len() as u32;
            let key = *self.keys.entry((table, parent, key)).or_insert(next);
            // The last ones are counted all together.
            let rowid = rowid.filter(|_| self.rows.len() < LIMIT);
            self.overflown |= self.rows.len() >= LIMIT;
            *self.rows.entry((key, rowid)).or_default() += 1;
        }
    }

    /// Those that `before` does not have.
    pub fn since(&self, before: &Self) -> Vec<Orphans> {
        let mut found = Vec::new();
        for ((table, parent, number), key) in &self.keys {
            let earlier = before.keys.get(&(table.clone(), parent.clone(), *number));
            let of_key = |all: &Self, key: u32| -> u64 {
                all.rows.iter().filter(|((of, _), _)| *of == key).map(|(_, count)| count).sum()
            };
            let added = match earlier {
                None => of_key(self, *key),
                Some(old) if self.overflown || before.overflown => {
                    of_key(self, *key).saturating_sub(of_key(before, *old))
                }
                Some(old) => {
                    let rows = self.rows.iter().filter(|((of, _), _)| of == key);
                    let was = |rowid: Option<i64>| before.rows.get(&(*old, rowid)).copied().unwrap_or(0);
                    rows.map(|((_, rowid), count)| count.saturating_sub(was(*rowid))).sum()
                }
            };
            if added > 0 {
                found.push(Orphans { table: table.clone(), parent: parent.clone(), rows: added });
            }
        }
        found
    }

    /// All of them.
    pub fn all(&self) -> Vec<Orphans> {
        self.since(&Self::default())
    }
}
