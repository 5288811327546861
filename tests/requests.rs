//! What a repository on a remote store costs in requests: counted at the store, below the cache.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod scratch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use continuum::base::clock::SystemClock;
use continuum::base::entropy::OsEntropy;
use continuum::chunk::codec::Compression;
use continuum::crypto::password::Cost;
use continuum::daemon::watch::{DatabaseOptions, WatchOptions, watch};
use continuum::format::name::Folder;
use continuum::monitor::{Event, Monitor, Silent};
use continuum::ops::snapshot::{Choice, SnapshotError, SnapshotOptions, SnapshotSummary, snapshot};
use continuum::repo::chunk_writer::EncodeOptions;
use continuum::repo::{self, Environment, Fault, InitOptions, Repository, RepositoryError};
use continuum::source::CaptureOptions;
use continuum::store::Store;
use continuum::store::around::cache::Cache;
use continuum::store::around::meter::{Call, Counts, Meter};
use continuum::store::opendal::OpendalStore;
use continuum::store::state::LocalState;
use opendal::{Operator, services};
use scratch::{PASSWORD, execute, make_database};
use tempfile::TempDir;

/// A repository in memory, and clients of it, each with its own state and cache.
struct World {
    folder: TempDir,
    meter: Arc<Meter>,
}

impl World {
    fn new() -> Self {
        // As if each request went over a network.
        let operator = Operator::new(services::Memory::default()).unwrap();
        let memory = Arc::new(OpendalStore::new(operator, "memory:".into(), Duration::from_secs(30)));
        let world = Self { folder: TempDir::new().unwrap(), meter: Arc::new(Meter::recording(memory)) };
        let cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let options = InitOptions { cost, ..InitOptions::default() };
        repo::init(Arc::clone(&world.meter) as _, &PASSWORD.into(), options, world.environment("a")).unwrap();
        make_database(&world.database(), 20_000);
        world
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("orders.db")
    }

    fn environment(&self, client: &str) -> Environment {
        Environment {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            state: Some(LocalState::new(self.folder.path().join(client).join("state"))),
            upload_threads: 0,
            fetch_threads: 0,
        }
    }

    fn open(&self, client: &str) -> Repository {
        let cache = self.folder.path().join(client).join("cache");
        let store = Arc::new(Cache::new(Arc::clone(&self.meter) as _, cache));
        repo::open(store, &PASSWORD.into(), self.environment(client)).unwrap()
    }

    /// What a scheduled snapshot asks, from opening the repository on.
    fn snapshot(&self, client: &str) -> Result<(SnapshotSummary, Vec<Call>), SnapshotError> {
        self.meter.take_calls();
        let summary = snapshot(&self.open(client), &self.database(), &options(), &Silent)?;
        Ok((summary, self.meter.take_calls()))
    }

    fn change(&self, item: &str) {
        execute(&self.database(), &format!("UPDATE orders SET item = '{item}' WHERE id % 4000 = 7"));
    }
}

fn options() -> SnapshotOptions {
    SnapshotOptions {
        name: "orders".into(),
        choice: Choice::Auto,
        tags: Vec::new(),
        host: "host".into(),
        compression: Compression::default(),
        verify: true,
        capture: CaptureOptions::default(),
        take_over: false,
    }
}

fn count(calls: &[Call], action: &str) -> usize {
    calls.iter().filter(|call| call.action == action).count()
}

#[test]
fn a_small_incremental_is_three_puts_and_no_listing() {
    let world = World::new();
    world.snapshot("a").unwrap();
    for state in 0..5 {
        world.change(&format!("state {state}"));
        let (summary, calls) = world.snapshot("a").unwrap();
        assert!(summary.changed_pages > 0 && summary.changed_pages < 20);
        let puts = calls.iter().filter(|call| call.action == "create").map(|call| call.name.split('/').next().unwrap());
        assert_eq!(puts.collect::<Vec<_>>(), ["packs", "index", "timelines"], "{calls:#?}");
        assert_eq!((count(&calls, "list"), count(&calls, "delete")), (0, 0), "{calls:#?}");
        // The config, the key slot, the newest entry known, the one after it, and twice, before and after the snapshot is appended, the first stone behind; and the chunks that
        // changed pages are compared with.
        let reads = calls.iter().filter(|call| call.action == "read" && !call.name.starts_with("packs/"));
        assert_eq!(reads.count(), 6, "{calls:#?}");
    }
    let (summary, calls) = world.snapshot("a").unwrap();
    assert_eq!((summary.changed_pages, count(&calls, "create"), count(&calls, "list")), (0, 1, 0), "{calls:#?}");
}

#[test]
fn what_another_client_adds_is_seen_and_only_the_index_listed_for_it() {
    let world = World::new();
    world.snapshot("a").unwrap();
    world.change("by a");
    world.snapshot("a").unwrap();
    world.change("by b");
    world.snapshot("b").unwrap();
    world.change("by a again");
    let (summary, calls) = world.snapshot("a").unwrap();
    let listed: Vec<&str> = calls.iter().filter(|call| call.action == "list").map(|call| call.name.as_str()).collect();
    assert_eq!((summary.sequence, listed), (5, vec!["tombstones/", "index/"]), "{calls:#?}");
    let (_, calls) = world.snapshot("a").unwrap();
    assert_eq!(count(&calls, "list"), 0, "{calls:#?}");
}

#[test]
fn the_cache_hides_no_rollback() {
    let world = World::new();
    for state in 0..3 {
        world.change(&format!("state {state}"));
        world.snapshot("a").unwrap();
    }
    let newest = world.meter.list(Folder::Timelines).unwrap().pop().unwrap();
    world.meter.delete(&newest.name).unwrap();
    world.change("after the rollback");
    let refused = world.snapshot("a").err();
    let is_told = |error: &SnapshotError| {
        matches!(error, SnapshotError::Repository(RepositoryError::Fault(Fault::RolledBack { .. })))
    };
    assert!(refused.as_ref().is_some_and(is_told), "{refused:?}");
}

#[test]
fn an_index_that_lacks_a_chunk_is_listed_anew() {
    let world = World::new();
    world.snapshot("a").unwrap();
    world.change("once");
    world.snapshot("a").unwrap();
    // The cache loses the segment that lists the image.
    let index = world.folder.path().join("a/cache/index");
    let segments = std::fs::read_dir(&index).unwrap().map(|entry| entry.unwrap().path());
    let largest = segments.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    std::fs::remove_file(largest).unwrap();
    world.change("twice");
    let (_, calls) = world.snapshot("a").unwrap();
    // The tombstones, then the index.
    assert_eq!(count(&calls, "list"), 2, "{calls:#?}");
}

/// Says stop when told.
struct Stoppable(AtomicBool);

impl Monitor for Stoppable {
    fn event(&self, _: Event) {}

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn an_idle_watch_asks_nothing() {
    let world = World::new();
    execute(&world.database(), "PRAGMA journal_mode = wal");
    let repository = world.open("a");
    let watch_options = WatchOptions {
        flush_interval: Duration::from_millis(100),
        fold_interval: Duration::from_millis(300),
        fold_bytes: 16 << 20,
        spool_bytes: 64 << 20,
        encode: EncodeOptions::default(),
    };
    let database = DatabaseOptions {
        path: world.database(),
        snapshot: options(),
        wal_limit_bytes: 4 << 20,
        scan_interval: Duration::from_millis(100),
    };
    let monitor = Stoppable(AtomicBool::new(false));
    let mut quiet: Option<(Instant, Counts)> = None;
    watch(&repository, vec![database], watch_options, &monitor, &mut |status| {
        if status.databases[0].activity != "following" {
            return;
        }
        let now = world.meter.counts();
        match &quiet {
            None => quiet = Some((Instant::now(), now)),
            Some((since, before)) => {
                assert_eq!(*before, now, "requests of an idle watch");
                monitor.0.store(since.elapsed() > Duration::from_secs(3), Ordering::SeqCst);
            }
        }
    })
    .unwrap();
    assert!(quiet.is_some());
}
