//! What queries fetch, counted at the store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use continuum::base::clock::SystemTimer;
use continuum::base::entropy::{Entropy, SeededEntropy};
use continuum::base::page::{PageNo, PageReader};
use continuum::crypto::aead::Suite;
use continuum::monitor::Silent;
use continuum::ops::query::{Database, Limits, Rows};
use continuum::ops::snapshot::Choice;
use continuum::ops::snapshots::snapshots;
use continuum::repo::chunk_cache::ChunkCache;
use continuum::repo::chunk_reader::ChunkReader;
use continuum::repo::index::Index;
use continuum::repo::lazy_pages::LazyPages;
use continuum::repo::stack_reader::State;
use continuum::repo::{Environment, Repository};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use tempfile::TempDir;

use crate::counted::{CountedStore, environment, make, take};

/// A repository in memory with a snapshot of 40 MiB that do not shrink, of which the table `small` is a twentieth.
struct World {
    _folder: TempDir,
    store: Arc<CountedStore>,
    repository: Repository,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a.db");
        make_tables(&path);
        let store = CountedStore::new();
        // Cut points come from the key: the same ones each time.
        let entropy = Arc::new(SeededEntropy::new(1));
        let repository = make(&store, Suite::Aes256Gcm, Environment { entropy, ..environment(None, 4) });
        take(&repository, &path, Choice::Full, &Silent).unwrap();
        Self { _folder: folder, store, repository }
    }

    /// A new cache, and the newest state.
    fn open(&self, limit_bytes: u64) -> (ChunkCache, State) {
        let (found, _) = snapshots(&self.repository, None).unwrap();
        let index = Index::load_reporting(&self.repository, &Silent).unwrap();
        let reader = ChunkReader::new(&self.repository, &index);
        CountedStore::set(&self.store.pack_bytes, 0);
        CountedStore::set(&self.store.requests, 0);
        (ChunkCache::new(reader, limit_bytes), found.last().unwrap().state())
    }

    fn stored_bytes(&self) -> u64 {
        let objects = self.store.copy();
        objects.iter().filter(|(name, _)| name.starts_with("packs/")).map(|(_, object)| object.len() as u64).sum()
    }

    /// Bytes that a query fetches from packs, with a cold cache.
    fn fetched_by(&self, sql: &str, expected: &str) -> u64 {
        let (cache, state) = self.open(64 << 20);
        assert_eq!(answer(&cache, &state, sql), expected);
        CountedStore::take(&self.store.pack_bytes)
    }
}

fn make_tables(path: &Path) {
    let mut connection = Connection::open(path).unwrap();
    let entropy = SeededEntropy::new(2);
    let transaction = connection.transaction().unwrap();
    for (table, rows) in [("before", 15_000), ("small", 2000), ("after", 23_000)] {
        transaction.execute_batch(&format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, content BLOB)")).unwrap();
        let mut insert = transaction.prepare(&format!("INSERT INTO {table} (content) VALUES (?1)")).unwrap();
        let mut content = vec![0; 1000];
        for _ in 0..rows {
            entropy.fill(&mut content);
            insert.execute([&content]).unwrap();
        }
    }
    transaction.commit().unwrap();
}

#[derive(Default)]
struct LastValue(String);

impl Rows for LastValue {
    fn begin(&mut self, _: &[String]) -> Result<(), String> {
        Ok(())
    }

    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<(), String> {
        self.0 = values.iter().map(|value| format!("{:?}", value.as_i64())).collect();
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

fn answer(cache: &ChunkCache, state: &State, sql: &str) -> String {
    let limits = Limits { time: Some(Duration::from_secs(60)), memory_bytes: 64 << 20 };
    let timer = Arc::new(SystemTimer::default());
    let database = Database::open(cache, state, limits, timer, Arc::new(Silent)).unwrap();
    let mut rows = LastValue::default();
    database.run(sql, &[], &mut rows).unwrap();
    rows.0
}

#[test]
fn queries_fetch_what_they_touch() {
    let world = World::new();
    let stored = world.stored_bytes();
    assert!(stored > 38 << 20, "{stored}");
    let lookup = world.fetched_by("SELECT length(content) FROM after WHERE id = 12345", "Ok(1000)");
    assert!(lookup <= 1 << 20, "a lookup fetched {lookup} bytes");
    let table = world.fetched_by("SELECT sum(length(content)) FROM small", "Ok(2000000)");
    assert!(table * 100 <= stored * 8, "a table of 5 % fetched {table} of {stored} bytes");
    let all = "SELECT (SELECT sum(length(content)) FROM before) + (SELECT sum(length(content)) FROM after)";
    let scanned = world.fetched_by(all, "Ok(38000000)");
    assert!(scanned <= stored * 102 / 100, "a scan fetched {scanned} of {stored} bytes");
}

#[test]
fn what_is_cached_is_not_fetched_again() {
    let world = World::new();
    let (cache, state) = world.open(64 << 20);
    let sql = "SELECT sum(length(content)) FROM small";
    answer(&cache, &state, sql);
    let before = CountedStore::take(&world.store.requests);
    answer(&cache, &state, sql);
    // Opening a state reads its page map.
    let again = CountedStore::take(&world.store.requests);
    assert!(before > 5 && again <= 2, "{before} requests, then {again}");
}

#[test]
fn readers_side_by_side_get_the_right_pages_from_a_small_cache() {
    let world = World::new();
    let (cache, state) = world.open(1 << 20);
    let pages = LazyPages::open(&cache, &state).unwrap();
    let page_bytes = pages.page_size().bytes();
    let mut whole = vec![0; page_bytes * pages.page_count().0 as usize];
    pages.read(PageNo(1), &mut whole).unwrap();
    assert_eq!(blake3::hash(&whole).as_bytes(), &state.root.0);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (pages, whole) = (&pages, &whole);
            scope.spawn(move || {
                let mut buffer = vec![0; page_bytes];
                for i in 0..800_usize {
                    let page = (i * 7919 + thread * 104_729) % pages.page_count().0 as usize;
                    if i % 50 == 0 {
                        let ahead: Vec<PageNo> = (page as u32 + 1..page as u32 + 200).map(PageNo).collect();
                        pages.will_read(&ahead);
                    }
                    pages.read(PageNo(page as u32 + 1), &mut buffer).unwrap();
                    assert_eq!(buffer, whole[page * page_bytes..(page + 1) * page_bytes]);
                }
            });
        }
    });
    assert!(world.store.most_at_once.load(Ordering::SeqCst) <= 4 + 4 + 1);
}

#[test]
fn readers_that_push_out_what_others_are_fetching_get_the_right_pages() {
    let world = World::new();
    let (cache, state) = world.open(100 << 10);
    let pages = LazyPages::open(&cache, &state).unwrap();
    let page_bytes = pages.page_size().bytes();
    // Pages of a few chunks, each of which alone is about what the cache holds.
    let wanted: Vec<PageNo> = (0..12).map(|at| PageNo(100 + 40 * at)).collect();
    let read = |page: PageNo| {
        let mut buffer = vec![0; page_bytes];
        pages.read(page, &mut buffer).unwrap();
        buffer
    };
    let expected: Vec<Vec<u8>> = wanted.iter().map(|&page| read(page)).collect();
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let (pages, wanted, expected, read) = (&pages, &wanted, &expected, &read);
            scope.spawn(move || {
                for i in 0..400_usize {
                    let at = (i * 5 + thread % 3) % wanted.len();
                    if i % 3 == 0 {
                        pages.will_read(&wanted[at..]);
                    }
                    assert_eq!(read(wanted[at]), expected[at]);
                }
            });
        }
    });
}
