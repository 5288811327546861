//! A repository of two databases in memory, with snapshots of all kinds, to be damaged at will; and its images, to compare.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use continuum::base::clock::{FixedClock, JumpingTimer, UnixMicros};
use continuum::base::entropy::OsEntropy;
use continuum::base::id::ObjectHash;
use continuum::chunk::cutter::CutterSizes;
use continuum::crypto::password::Cost;
use continuum::format::name::{Folder, ObjectName};
use continuum::monitor::Silent;
use continuum::ops::check::{CheckOptions, CheckReport, check};
use continuum::ops::compact::compact;
use continuum::ops::prune::{PruneOptions, plan_prune, prune};
use continuum::ops::repair::source::Source;
use continuum::ops::repair::{RepairOptions, RepairPlan, RepairSummary, plan_repair, repair};
use continuum::ops::restore::{RestoreOptions, restore};
use continuum::ops::snapshot::{Choice, SnapshotOptions, snapshot};
use continuum::ops::snapshots::snapshots;
use continuum::repo::chunk_reader::ChunkReader;
use continuum::repo::chunk_writer::EncodeOptions;
use continuum::repo::index::Index;
use continuum::repo::{self, Environment, InitOptions, Repository};
use continuum::source::CaptureOptions;
use continuum::store::state::LocalState;
use continuum::store::{Creation, Listed, Store, StoreError};
use rusqlite::Connection;
use tempfile::TempDir;

pub type Objects = BTreeMap<String, Vec<u8>>;

/// Objects in memory. With a budget of writes it fails once that is used up.
pub struct Memory {
    name: &'static str,
    objects: Mutex<Objects>,
    /// Writes that succeed yet; negative for no end.
    pub writes_left: AtomicI64,
}

impl Memory {
    pub fn new(name: &'static str, objects: Objects) -> Arc<Self> {
        Arc::new(Self { name, objects: Mutex::new(objects), writes_left: AtomicI64::new(-1) })
    }

    pub fn objects(&self) -> Objects {
        self.objects.lock().unwrap().clone()
    }

    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.objects.lock().unwrap().keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    pub fn patch(&self, change: impl FnOnce(&mut Objects)) {
        change(&mut self.objects.lock().unwrap());
    }

    fn spend(&self, action: &'static str, name: &ObjectName) -> Result<(), StoreError> {
        let left = self.writes_left.load(Ordering::SeqCst);
        if left == 0 {
            let source = std::io::Error::other("killed here");
            return Err(StoreError::Io { location: self.location(), action, name: name.to_string(), source });
        }
        if left > 0 {
            self.writes_left.store(left - 1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn get(&self, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
        let object = self.objects.lock().unwrap().get(name.as_str()).cloned();
        object.ok_or_else(|| StoreError::NotFound { location: self.location(), name: name.clone() })
    }
}

impl Store for Memory {
    fn location(&self) -> String {
        self.name.into()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.spend("create", name)?;
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(name.as_str()) {
            return Ok(Creation::Exists);
        }
        objects.insert(name.to_string(), bytes.to_vec());
        Ok(Creation::New)
    }

    fn read(&self, name: &ObjectName, _limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.get(name)
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let part = self.get(name)?.get(range.start as usize..range.end as usize).map(<[u8]>::to_vec);
        part.ok_or_else(|| StoreError::Truncated { location: self.location(), name: name.clone(), range })
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let prefix = folder.prefix();
        let objects = self.objects();
        let inside = objects.into_iter().filter(|(name, _)| name.starts_with(&prefix));
        Ok(inside
            .map(|(name, object)| Listed { name: ObjectName::from_listing(name), bytes: object.len() as u64 })
            .collect())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.spend("delete", name)?;
        self.objects.lock().unwrap().remove(name.as_str());
        Ok(())
    }
}

/// Two destinations, the first asked first.
pub struct Pair(pub [Arc<Memory>; 2]);

impl Store for Pair {
    fn location(&self) -> String {
        "both".into()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.0[1].create(name, bytes)?;
        self.0[0].create(name, bytes)
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.0[0].read(name, limit_bytes).or_else(|_| self.0[1].read(name, limit_bytes))
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.0[0].read_range(name, range.clone()).or_else(|_| self.0[1].read_range(name, range))
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let mut all: BTreeMap<ObjectName, u64> = BTreeMap::new();
        for store in &self.0 {
            for listed in store.list(folder)? {
                let bytes = all.entry(listed.name).or_default();
                *bytes = listed.bytes.max(*bytes);
            }
        }
        Ok(all.into_iter().map(|(name, bytes)| Listed { name, bytes }).collect())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.0.iter().try_for_each(|store| store.delete(name))
    }

    fn copies(&self) -> Vec<Arc<dyn Store>> {
        self.0.iter().map(|store| Arc::clone(store) as _).collect()
    }
}

/// What to do with a database between its snapshots.
const CHANGES: [(Choice, &str); 4] = [
    (Choice::Auto, "SELECT 1"),
    (Choice::Auto, "UPDATE t SET text = hex(randomblob(40)) WHERE id % 97 = 0;"),
    (Choice::Differential, "UPDATE t SET text = hex(randomblob(40)) WHERE id % 89 = 0; DELETE FROM t WHERE id = 500;"),
    (Choice::Full, "UPDATE t SET text = hex(randomblob(40)) WHERE id BETWEEN 100 AND 160;"),
];

/// A sound repository, and what it holds.
pub struct World {
    pub folder: TempDir,
    pub objects: Objects,
    /// BLAKE3 of each snapshot's image.
    pub roots: BTreeMap<ObjectHash, blake3::Hash>,
}

impl World {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = Memory::new("memory", Objects::new());
        let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let cutter = CutterSizes { minimum: 4 << 10, average: 16 << 10, maximum: 32 << 10 };
        let options = InitOptions { cost, cutter, ..InitOptions::default() };
        let mut world = Self { folder, objects: Objects::new(), roots: BTreeMap::new() };
        let environment = world.environment(true);
        let repository = repo::init(store.clone(), &"password".into(), options, environment).unwrap();
        for name in ["a", "b"] {
            let connection = Connection::open(world.database(name)).unwrap();
            let make = "PRAGMA page_size = 512;
                CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT);
                WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
                INSERT INTO t SELECT i, hex(randomblob(40)) FROM n;";
            connection.execute_batch(make).unwrap();
        }
        for (choice, change) in CHANGES {
            for name in ["a", "b"] {
                world.execute(name, change);
                world.take(&repository, name, choice);
            }
        }
        let silent = &Silent;
        world.execute("a", "UPDATE t SET text = 'the last' WHERE id = 999;");
        world.take(&repository, "a", Choice::Auto);
        let folded = compact(&repository, "a", true, "host", EncodeOptions::default(), silent).unwrap().unwrap();
        let last = world.hash("a");
        world.roots.insert(folded.id.unwrap(), last);
        world.objects = store.objects();
        world
    }

    /// The world of a client; with a memory, that of the one that made the repository.
    pub fn environment(&self, remembers: bool) -> Environment {
        Environment {
            clock: Arc::new(FixedClock(UnixMicros(1_764_000_000_000_000))),
            entropy: Arc::new(OsEntropy),
            state: remembers.then(|| LocalState::new(self.folder.path().join("state"))),
            upload_threads: 0,
            fetch_threads: 0,
        }
    }

    pub fn database(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.db"))
    }

    pub fn execute(&self, name: &str, sql: &str) {
        Connection::open(self.database(name)).unwrap().execute_batch(sql).unwrap();
    }

    fn hash(&self, name: &str) -> blake3::Hash {
        blake3::hash(&fs::read(self.database(name)).unwrap())
    }

    pub fn take(&mut self, repository: &Repository, name: &str, choice: Choice) -> ObjectHash {
        let options = SnapshotOptions {
            name: name.into(),
            choice,
            tags: Vec::new(),
            host: "host".into(),
            compression: Default::default(),
            verify: true,
            capture: CaptureOptions::default(),
            take_over: false,
        };
        let id = snapshot(repository, &self.database(name), &options, &Silent).unwrap().id;
        self.roots.insert(id, self.hash(name));
        id
    }

    /// A store that holds the sound repository after some damage.
    pub fn damaged(&self, damage: impl FnOnce(&mut Objects)) -> Arc<Memory> {
        let store = Memory::new("memory", self.objects.clone());
        store.patch(damage);
        store
    }

    /// One in which a chunk is lost that the last snapshot of `a` needs.
    pub fn with_a_lost_chunk(&self) -> Arc<Memory> {
        let flipped = |(name, at): (&String, usize)| {
            self.damaged(|objects| {
                let object = objects.get_mut(name).unwrap();
                let at = object.len() * at / 16;
                object[at] ^= 1;
            })
        };
        let is_wanted = |store: &Arc<Memory>| {
            let planned = plan(&self.open(store.clone(), false), KEEP);
            let of_last = planned.affected.iter().filter(|affected| affected.is_last && affected.database == "a");
            planned.lost_count == 1 && of_last.count() == 1
        };
        let packs = self.objects.keys().filter(|name| name.starts_with("packs/"));
        let places = packs.flat_map(|name| (1..16).map(move |at| (name, at)));
        places.map(flipped).find(is_wanted).expect("one of the chunks of its image")
    }

    pub fn open(&self, store: Arc<dyn Store>, remembers: bool) -> Repository {
        repo::open(store, &"password".into(), self.environment(remembers)).unwrap()
    }

    /// A pack that holds chunks of an image: the first of database `a`, which is the largest.
    pub fn image_pack(&self) -> String {
        let packs = self.objects.iter().filter(|(name, _)| name.starts_with("packs/"));
        packs.max_by_key(|(name, object)| (object.len(), name.as_str())).unwrap().0.clone()
    }

    /// Snapshots that are listed, and those that can be restored: exactly as they were, else it panics.
    pub fn restorable(&self, repository: &Repository, what: &str) -> (BTreeSet<ObjectHash>, BTreeSet<ObjectHash>) {
        let (found, _) = snapshots(repository, None).unwrap();
        let (index, _) = Index::load(repository).unwrap();
        let reader = ChunkReader::new(repository, &index);
        let folder = TempDir::new_in(self.folder.path()).unwrap();
        let options = RestoreOptions { force: false, integrity_check: Some(false), aside_suffix: String::new() };
        let mut restored = BTreeSet::new();
        for snapshot in &found {
            let target = folder.path().join(snapshot.id.to_string());
            if restore(&reader, &snapshot.state(), &target, &options, &Silent).is_ok() {
                let hash = blake3::hash(&fs::read(&target).unwrap());
                assert_eq!(hash, self.roots[&snapshot.id], "{what}: snapshot {}", snapshot.id);
                restored.insert(snapshot.id);
            }
        }
        (found.into_iter().map(|snapshot| snapshot.id).collect(), restored)
    }

    /// Snapshots that the logs say to be damaged.
    pub fn said_damaged(&self, repository: &Repository) -> BTreeSet<ObjectHash> {
        let (found, _) = snapshots(repository, None).unwrap();
        found.into_iter().filter(|snapshot| snapshot.is_damaged).map(|snapshot| snapshot.id).collect()
    }

    /// What a check with all data finds.
    pub fn check(&self, repository: &Repository) -> CheckReport {
        check(repository, &CheckOptions::all_data(), &JumpingTimer::default(), &Silent).unwrap()
    }
}

pub const DROP: RepairOptions = RepairOptions { read_data: true, drop_affected: true };
pub const KEEP: RepairOptions = RepairOptions { read_data: true, drop_affected: false };

pub fn plan(repository: &Repository, options: RepairOptions) -> RepairPlan {
    plan_repair(repository, options, &[], &Silent).unwrap()
}

pub fn mend(repository: &Repository, plan: &RepairPlan, sources: &[Source<'_>]) -> RepairSummary {
    let done = repair(repository, plan, sources, &|_, _, _| Ok(()), &Silent).unwrap();
    assert!(done.errors.is_empty(), "{:?}", done.errors);
    done
}

pub fn plan_and_mend(repository: &Repository, options: RepairOptions) -> RepairPlan {
    let plan = plan(repository, options);
    mend(repository, &plan, &[]);
    plan
}

/// Prunes as hard as it can; returns how many packs were deleted.
pub fn prune_all(repository: &Repository) -> usize {
    let options = PruneOptions { min_live_share: 1.0, min_age: std::time::Duration::ZERO, ..PruneOptions::default() };
    let plan = plan_prune(repository, options, &Silent).unwrap();
    prune(repository, &plan, &JumpingTimer::default(), &Silent).unwrap().deleted.count
}

/// Damages an object in one of three ways.
pub fn spoil(objects: &mut Objects, name: &str, how: &str) {
    let object = objects.get_mut(name).unwrap();
    let length = object.len();
    match how {
        "deleted" => _ = objects.remove(name),
        "cut" => object.truncate(length / 2),
        "front" => object[60] ^= 1,
        "middle" => object[length / 2] ^= 1,
        "end" => object[length - 20] ^= 1,
        other => panic!("{other}"),
    }
}
