//! What differs between two states: the answer from changed pages is that of comparing all rows, over random histories of random databases, and for damaged databases it is an
//! error or an answer.
//!
//! `CONTINUUM_DIFF_SEEDS` says how many histories are made (default: 40).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "diff/histories.rs"]
mod histories;
#[path = "diff/oracle.rs"]
mod oracle;
#[path = "diff/program.rs"]
mod program;
mod scratch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use continuum::base::clock::SystemTimer;
use continuum::base::page::{PageCount, PageNo, PageReader, PageSize};
use continuum::base::page_set::PageSet;
use continuum::monitor::Silent;
use continuum::ops::diff::rows::RowChange;
use continuum::ops::diff::{Diff, DiffError, State, diff, script};
use continuum::ops::query::{Database, Limits};
use continuum::sqlite::header::DatabaseHeader;
use continuum::sqlite::record::Value;
use continuum::sqlite::without_wal::WithoutWal;
use histories::History;
use oracle::Keyed;
use rusqlite::Connection;
use tempfile::TempDir;

/// A database file in memory.
pub struct FilePages {
    bytes: Vec<u8>,
    page_size: PageSize,
}

impl FilePages {
    fn new(bytes: Vec<u8>) -> Self {
        let page_size = DatabaseHeader::parse(&bytes).unwrap().page_size;
        Self { bytes, page_size }
    }

    fn page(&self, page: PageNo) -> &[u8] {
        let start = self.page_size.offset_of(page) as usize;
        &self.bytes[start..start + self.page_size.bytes()]
    }
}

impl PageReader for FilePages {
    type Error = std::io::Error;

    fn page_size(&self) -> PageSize {
        self.page_size
    }

    fn page_count(&self) -> PageCount {
        PageCount((self.bytes.len() / self.page_size.bytes()) as u32)
    }

    fn read(&self, first: PageNo, buffer: &mut [u8]) -> Result<(), std::io::Error> {
        let start = self.page_size.offset_of(first) as usize;
        let found = self.bytes.get(start..start + buffer.len());
        buffer.copy_from_slice(found.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A state that SQL can be run on.
struct Opened {
    pages: Arc<FilePages>,
    database: Database,
}

impl Opened {
    fn new(bytes: Vec<u8>) -> Self {
        let pages = Arc::new(FilePages::new(bytes));
        let limits = Limits { time: Some(Duration::from_secs(20)), memory_bytes: 1 << 30 };
        let shown = Arc::new(WithoutWal(Arc::clone(&pages)));
        let database = Database::of(shown, limits, Arc::new(SystemTimer::default()), Arc::new(Silent)).unwrap();
        Self { pages, database }
    }

    fn state(&self) -> State<'_> {
        State { pages: &*self.pages, connection: self.database.connection() }
    }
}

/// The pages that differ.
fn changed_pages(a: &FilePages, b: &FilePages) -> Option<PageSet> {
    (a.page_size == b.page_size).then(|| {
        let count = a.page_count().0.min(b.page_count().0);
        PageSet::from_pages((1..=count).map(PageNo).filter(|&page| a.page(page) != b.page(page)))
    })
}

/// A row of each state, by its key.
type RowPairs = BTreeMap<Keyed, [Option<Vec<Value>>; 2]>;

/// All differences, by table and key, as the comparison under test tells them.
fn differences(diff: &Diff<'_>) -> Result<BTreeMap<String, RowPairs>, DiffError> {
    let mut all: BTreeMap<String, BTreeMap<Keyed, _>> = BTreeMap::new();
    for pair in diff.tables() {
        let mut rows = BTreeMap::new();
        diff.compare(pair, &mut |change| {
            let (key, values) = match change {
                RowChange::Removed(row) => (row.key, [Some(row.values), None]),
                RowChange::Added(row) => (row.key, [None, Some(row.values)]),
                RowChange::Changed { from, to } => (to.key, [Some(from.values), Some(to.values)]),
            };
            let key = Keyed::of(pair.table(), &key);
            assert!(rows.insert(key, values).is_none(), "a row of {} is told twice", pair.name());
            Ok(())
        })?;
        if !rows.is_empty() {
            all.insert(pair.name().to_ascii_lowercase(), rows);
        }
    }
    Ok(all)
}

fn seeds() -> u64 {
    std::env::var("CONTINUUM_DIFF_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40)
}

#[test]
fn pages_tell_what_comparing_all_rows_tells() {
    let mut narrow = 0;
    for seed in 0..seeds() {
        let folder = TempDir::new().unwrap();
        let mut history = History::begin(seed, &folder.path().join("a.db"));
        for step in 0..4 {
            let before = history.image();
            history.go_on();
            let (a, b) = (Opened::new(before), Opened::new(history.image()));
            let changed = changed_pages(&a.pages, &b.pages);
            let told = diff(a.state(), b.state(), changed.as_ref());
            let diff = told.unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
            narrow += usize::from(diff.is_narrow());
            let expected = oracle::differences(a.database.connection(), b.database.connection());
            let found = differences(&diff).unwrap();
            oracle::assert_same(&found, &expected, &format!("seed {seed}, step {step}: {:?}", history.done()));
        }
    }
    assert!(narrow as u64 > seeds() * 2, "only {narrow} comparisons were narrow");
}

/// The end of a key lies in an overflow page: that page changes alone, and yet it is another row.
#[test]
fn a_key_whose_end_changes_is_another_row() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.db");
    let connection = Connection::open(&path).unwrap();
    let sql = "PRAGMA page_size = 1024; CREATE TABLE t (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
         INSERT INTO t SELECT printf('%05d', i) || hex(zeroblob(700)) || 'A', i FROM n";
    connection.execute_batch(sql).unwrap();
    let before = std::fs::read(&path).unwrap();
    connection.execute_batch("UPDATE t SET k = lower(k) WHERE v = 77").unwrap();
    let (a, b) = (Opened::new(before), Opened::new(std::fs::read(&path).unwrap()));
    let changed = changed_pages(&a.pages, &b.pages);
    let diff = diff(a.state(), b.state(), changed.as_ref()).unwrap();
    assert!(diff.is_narrow());
    let expected = oracle::differences(a.database.connection(), b.database.connection());
    assert_eq!(expected["t"].len(), 2);
    oracle::assert_same(&differences(&diff).unwrap(), &expected, "a long key");
}

#[test]
fn damaged_databases_give_an_error_or_an_answer() {
    let mut answers = [0; 2];
    for seed in 0..seeds() * 2 {
        let folder = TempDir::new().unwrap();
        let mut history = History::begin(seed % 20, &folder.path().join("a.db"));
        let before = history.image();
        history.go_on();
        let mut after = history.image();
        let mut random = histories::Random::new(seed);
        let page_bytes = FilePages::new(after.clone()).page_size.bytes();
        for _ in 0..1 + random.below(6) {
            // Where B-trees keep what leads elsewhere: the beginning of a page.
            let page = random.below((after.len() / page_bytes) as u64) as usize;
            let within = if random.below(2) == 0 { random.below(16) } else { random.below(page_bytes as u64) } as usize;
            let at = page * page_bytes + within;
            if at >= 100 {
                after[at] = random.below(256) as u8;
            }
        }
        let (a, b) = (Opened::new(before), Opened::new(after));
        let changed = changed_pages(&a.pages, &b.pages);
        for (from, to) in [(&a, &b), (&b, &a)] {
            from.database.begin();
            to.database.begin();
            let told = diff(from.state(), to.state(), changed.as_ref())
                .and_then(|diff| diff.tables().iter().try_for_each(|pair| diff.count(pair).map(|_| ())));
            answers[usize::from(told.is_ok())] += 1;
        }
    }
    assert!(answers.iter().all(|&count| count > 0), "errors and answers: {answers:?}");
}

/// The script, run on the first state, gives the second: its schema and all its rows, but for what it says that it leaves out.
#[test]
fn the_script_leads_from_one_state_to_the_other() {
    let mut whole = 0;
    for seed in 0..seeds() {
        let folder = TempDir::new().unwrap();
        let mut history = History::begin(seed + 1000, &folder.path().join("a.db"));
        for step in 0..3 {
            let before = history.image();
            history.go_on();
            let what = format!("seed {seed}, step {step}: {:?}", history.done());
            let (a, b) = (Opened::new(before.clone()), Opened::new(history.image()));
            let changed = changed_pages(&a.pages, &b.pages);
            let diff = diff(a.state(), b.state(), changed.as_ref()).unwrap();
            let mut sql = String::new();
            let notices = script::write(&diff, None, &mut |text| {
                sql += text;
                Ok(())
            });
            let notices = notices.unwrap();
            let target = folder.path().join("target.db");
            std::fs::write(&target, before).unwrap();
            let target = Connection::open(&target).unwrap();
            let done = target.execute_batch(&sql);
            done.unwrap_or_else(|error| panic!("{what}: {error}\n{}", sql.chars().take(3000).collect::<String>()));
            if notices.is_empty() {
                whole += 1;
                assert_eq!(oracle::schema(&target), oracle::schema(b.database.connection()), "{what}");
            }
            let mut left = oracle::differences(&target, b.database.connection());
            left.retain(|table, _| notices.is_empty() || !table.starts_with("words"));
            let left: Vec<String> =
                left.into_iter().map(|(table, rows)| format!("{table}: {} rows", rows.len())).collect();
            assert!(left.is_empty(), "{what}: {left:?}");
        }
    }
    assert!(whole > seeds(), "only {whole} scripts were whole");
}
