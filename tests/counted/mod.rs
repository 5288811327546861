//! A repository at the library's level on a store that counts, dawdles and fails on request.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use continuum::base::clock::SystemClock;
use continuum::base::entropy::OsEntropy;
use continuum::chunk::codec::Compression;
use continuum::crypto::aead::Suite;
use continuum::crypto::password::Cost;
use continuum::format::name::{Folder, ObjectName};
use continuum::monitor::{Event, Monitor, Silent};
use continuum::ops::restore::{RestoreError, RestoreOptions, RestoreSummary, restore};
use continuum::ops::snapshot::{Choice, SnapshotError, SnapshotOptions, SnapshotSummary, snapshot};
use continuum::ops::snapshots::snapshots;
use continuum::repo::chunk_reader::ChunkReader;
use continuum::repo::index::Index;
use continuum::repo::{self, Environment, InitOptions, Repository};
use continuum::source::CaptureOptions;
use continuum::store::state::LocalState;
use continuum::store::{Creation, Listed, Store, StoreError};

/// Objects in memory, and what was done with them.
#[derive(Default)]
pub struct CountedStore {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Bytes of packs that were read.
    pub pack_bytes: AtomicU64,
    /// Requests for ranges.
    pub requests: AtomicU64,
    /// Bytes of packs that were created.
    pub created_pack_bytes: AtomicU64,
    /// Every read of a pack takes so long.
    pub latency_ms: AtomicU64,
    /// Nothing more can be read from packs once so many bytes were; 0 for no end.
    pub fails_after_bytes: AtomicU64,
    /// Nothing more can be created once so many bytes of packs were; 0 for no end.
    pub full_after_bytes: AtomicU64,
    /// No object can be created.
    pub is_full: AtomicBool,
    now: AtomicU64,
    now_bytes: AtomicU64,
    /// The most requests at once.
    pub most_at_once: AtomicU64,
    /// The most bytes asked for at once.
    pub most_bytes_at_once: AtomicU64,
}

impl CountedStore {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Sets a number.
    pub fn set(number: &AtomicU64, value: u64) {
        number.store(value, Ordering::SeqCst);
    }

    /// Reads a number and sets it to zero.
    pub fn take(number: &AtomicU64) -> u64 {
        number.swap(0, Ordering::SeqCst)
    }

    /// Names of all objects that begin so.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.objects.lock().unwrap().keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    /// All objects.
    pub fn copy(&self) -> Vec<(String, Vec<u8>)> {
        self.objects.lock().unwrap().clone().into_iter().collect()
    }

    /// Changes the objects.
    pub fn patch(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) {
        change(&mut self.objects.lock().unwrap());
    }

    fn io_error(&self, action: &'static str, name: &ObjectName) -> StoreError {
        let source = std::io::Error::other("the destination went away");
        StoreError::Io { location: self.location(), action, name: name.to_string(), source }
    }

    fn part(&self, name: &ObjectName, range: &Range<u64>) -> Result<Vec<u8>, StoreError> {
        let objects = self.objects.lock().unwrap();
        let object = objects.get(name.as_str());
        let object = object.ok_or_else(|| StoreError::NotFound { location: self.location(), name: name.clone() })?;
        let part = object.get(range.start as usize..range.end as usize).map(<[u8]>::to_vec);
        let (location, name, range) = (self.location(), name.clone(), range.clone());
        part.ok_or(StoreError::Truncated { location, name, range })
    }
}

impl Store for CountedStore {
    fn location(&self) -> String {
        "memory".into()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        let is_pack = name.as_str().starts_with("packs/");
        let full_after = self.full_after_bytes.load(Ordering::SeqCst);
        let created = self.created_pack_bytes.load(Ordering::SeqCst);
        if self.is_full.load(Ordering::SeqCst) || (full_after > 0 && created + bytes.len() as u64 > full_after) {
            return Err(self.io_error("create", name));
        }
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(name.as_str()) {
            return Ok(Creation::Exists);
        }
        objects.insert(name.to_string(), bytes.to_vec());
        if is_pack {
            self.created_pack_bytes.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        }
        Ok(Creation::New)
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let bytes = self.objects.lock().unwrap().get(name.as_str()).cloned();
        let bytes = bytes.ok_or_else(|| StoreError::NotFound { location: self.location(), name: name.clone() })?;
        assert!(bytes.len() as u64 <= limit_bytes);
        Ok(bytes)
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let bytes = range.end - range.start;
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        let now_bytes = self.now_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        self.most_bytes_at_once.fetch_max(now_bytes, Ordering::SeqCst);
        self.requests.fetch_add(1, Ordering::SeqCst);
        sleep(Duration::from_millis(self.latency_ms.load(Ordering::SeqCst)));
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.now_bytes.fetch_sub(bytes, Ordering::SeqCst);
        let read = self.pack_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let fails_after = self.fails_after_bytes.load(Ordering::SeqCst);
        if fails_after > 0 && read > fails_after {
            return Err(self.io_error("read", name));
        }
        self.part(name, &range)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let (objects, prefix) = (self.objects.lock().unwrap(), folder.prefix());
        let inside = objects.iter().filter(|(name, _)| name.starts_with(&prefix));
        let listed = |(name, object): (&String, &Vec<u8>)| Listed {
            name: ObjectName::from_listing(name.clone()),
            bytes: object.len() as u64,
        };
        Ok(inside.map(listed).collect())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.objects.lock().unwrap().remove(name.as_str());
        Ok(())
    }
}

/// Wants to stop once so many bytes were gone through.
pub struct StopAfter {
    bytes: u64,
    seen: AtomicU64,
}

impl StopAfter {
    pub fn bytes(bytes: u64) -> Self {
        Self { bytes, seen: AtomicU64::new(0) }
    }
}

impl Monitor for StopAfter {
    fn event(&self, event: Event) {
        if let Event::Advanced(bytes) = event {
            self.seen.fetch_add(bytes, Ordering::SeqCst);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.seen.load(Ordering::SeqCst) >= self.bytes
    }
}

/// The world of a repository, with so many threads of each kind.
pub fn environment(state: Option<&Path>, threads: usize) -> Environment {
    Environment {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        state: state.map(|folder| LocalState::new(folder.to_owned())),
        upload_threads: threads.min(2),
        fetch_threads: threads,
    }
}

/// A new repository.
pub fn make(store: &Arc<CountedStore>, suite: Suite, environment: Environment) -> Repository {
    let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
    let options = InitOptions { suite: Some(suite), cost, ..InitOptions::default() };
    repo::init(store.clone(), &"password".into(), options, environment).unwrap()
}

/// The repository as another process opens it.
pub fn open(store: &Arc<CountedStore>, environment: Environment) -> Repository {
    repo::open(store.clone(), &"password".into(), environment).unwrap()
}

/// Takes a snapshot of the database named `a`.
pub fn take(
    repository: &Repository,
    database: &Path,
    choice: Choice,
    monitor: &dyn Monitor,
) -> Result<SnapshotSummary, SnapshotError> {
    let options = SnapshotOptions {
        name: "a".into(),
        choice,
        tags: vec!["tag".into()],
        host: "host".into(),
        compression: Compression::None,
        verify: true,
        capture: CaptureOptions::default(),
        take_over: false,
    };
    snapshot(repository, database, &options, monitor)
}

/// Restores the newest snapshot.
pub fn restore_last(
    repository: &Repository,
    target: &Path,
    monitor: &dyn Monitor,
) -> Result<RestoreSummary, RestoreError> {
    let (found, faults) = snapshots(repository, None).unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    let index = Index::load_reporting(repository, &Silent).unwrap();
    let reader = ChunkReader::new(repository, &index);
    let options = RestoreOptions { force: false, integrity_check: Some(true), aside_suffix: "aside".into() };
    restore(&reader, &found.last().unwrap().state(), target, &options, monitor)
}

/// Makes a database of about so many MiB that do not shrink.
pub fn make_random_database(path: &Path, mib: u32) {
    let rows = mib * 250;
    rusqlite::Connection::open(path)
        .unwrap()
        .execute_batch(&format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, content BLOB);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO t SELECT i, randomblob(4000) FROM n;"
        ))
        .unwrap();
}
