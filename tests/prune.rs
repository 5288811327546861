//! Forgotten snapshots go, their space comes back, and nothing that is needed is lost, whoever is at work meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod interrupted;
mod scratch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use continuum::base::clock::{Clock, JumpingTimer, SystemTimer, UnixMicros};
use continuum::base::entropy::OsEntropy;
use continuum::base::id::ObjectHash;
use continuum::chunk::codec::Compression;
use continuum::crypto::password::Cost;
use continuum::format::name::Folder;
use continuum::format::timeline::{Event, SnapshotRef};
use continuum::monitor::Silent;
use continuum::ops::check::{CheckOptions, check};
use continuum::ops::prune::{PruneError, PruneOptions, PrunePlan, PruneSummary, plan_prune, prune};
use continuum::ops::restore::{RestoreOptions, restore};
use continuum::ops::snapshot::{Choice, SnapshotOptions, SnapshotSummary, snapshot};
use continuum::ops::snapshots::snapshots;
use continuum::repo::chunk_reader::ChunkReader;
use continuum::repo::image_reader::pieces;
use continuum::repo::index::Index;
use continuum::repo::timeline::{self, Behind};
use continuum::repo::{self, Environment, InitOptions, Repository};
use continuum::source::CaptureOptions;
use continuum::store::Store;
use continuum::store::opendal::OpendalStore;
use continuum::store::state::LocalState;
use interrupted::Interrupted;
use scratch::{PASSWORD, execute, hash_of, make_database};
use tempfile::TempDir;

const HOUR: i64 = 3_600_000_000;

/// A clock that is set by hand.
struct SetClock(Mutex<i64>);

impl Clock for SetClock {
    fn now(&self) -> UnixMicros {
        UnixMicros(*self.0.lock().unwrap())
    }
}

/// A repository in memory and databases beside it.
struct World {
    folder: TempDir,
    store: Arc<dyn Store>,
    clock: Arc<SetClock>,
    /// BLAKE3 of the image of each snapshot.
    roots: Mutex<BTreeMap<ObjectHash, String>>,
}

impl World {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().unwrap());
        let clock = Arc::new(SetClock(Mutex::new(1_900_000_000_000_000)));
        let world = Self { folder, store, clock, roots: Mutex::default() };
        let cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let options = InitOptions { cost, ..InitOptions::default() };
        repo::init(Arc::clone(&world.store), &PASSWORD.into(), options, world.environment("init")).unwrap();
        world
    }

    fn environment(&self, client: &str) -> Environment {
        Environment {
            clock: Arc::clone(&self.clock) as _,
            entropy: Arc::new(OsEntropy),
            state: Some(LocalState::new(self.folder.path().join(client))),
            upload_threads: 0,
            fetch_threads: 0,
        }
    }

    fn open(&self, client: &str) -> Repository {
        self.open_at(Arc::clone(&self.store), client)
    }

    fn open_at(&self, store: Arc<dyn Store>, client: &str) -> Repository {
        repo::open(store, &PASSWORD.into(), self.environment(client)).unwrap()
    }

    fn database(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.db"))
    }

    fn make(&self, name: &str, rows: u32) {
        make_database(&self.database(name), rows);
    }

    fn change(&self, name: &str, modulus: u32) {
        execute(&self.database(name), &format!("UPDATE orders SET item = randomblob(100) WHERE id % {modulus} = 1"));
    }

    fn advance(&self, hours: i64) {
        *self.clock.0.lock().unwrap() += hours * HOUR;
    }

    fn snapshot(&self, name: &str, choice: Choice) -> SnapshotSummary {
        self.snapshot_by(&self.open("writer"), name, choice)
    }

    fn snapshot_by(&self, repository: &Repository, name: &str, choice: Choice) -> SnapshotSummary {
        self.advance(1);
        let options = SnapshotOptions {
            name: name.into(),
            choice,
            tags: Vec::new(),
            host: "host".into(),
            compression: Compression::default(),
            verify: true,
            capture: CaptureOptions::default(),
            take_over: false,
        };
        let summary = snapshot(repository, &self.database(name), &options, &Silent).unwrap();
        self.roots.lock().unwrap().insert(summary.id, hash_of(&self.database(name)));
        summary
    }

    /// Forgets snapshots without grace.
    fn forget(&self, name: &str, all: &[&SnapshotSummary]) {
        let until = self.clock.now();
        let snapshots = all.iter().map(|summary| SnapshotRef { sequence: summary.sequence, id: summary.id }).collect();
        self.append(name, Event::Forgotten { snapshots, until });
    }

    fn append(&self, name: &str, event: Event) {
        let repository = self.open("housekeeper");
        let (mut timeline, faults) = timeline::load(&repository, name).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        timeline.append(&repository, name, event, Behind::Anything).unwrap();
    }

    fn plan(&self, options: PruneOptions) -> PrunePlan {
        plan_prune(&self.open("collector"), options, &Silent).unwrap()
    }

    fn prune(&self) -> PruneSummary {
        self.prune_with(at_once())
    }

    fn prune_with(&self, options: PruneOptions) -> PruneSummary {
        let plan = self.plan(options);
        prune(&self.open("collector"), &plan, &SystemTimer::default(), &Silent).unwrap()
    }

    /// Everything is sound, and exactly these snapshots are there and restore to what they were.
    #[track_caller]
    fn expect(&self, expected: &[&SnapshotSummary]) {
        let repository = self.open("reader");
        let report = check(&repository, &CheckOptions::all_data(), &JumpingTimer::default(), &Silent).unwrap();
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        let (there, faults) = snapshots(&repository, None).unwrap();
        assert!(faults.is_empty(), "{faults:?}");
        let ids = |all: Vec<ObjectHash>| all.into_iter().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(
            ids(there.iter().map(|snapshot| snapshot.id).collect()),
            ids(expected.iter().map(|summary| summary.id).collect())
        );
        let reader = ChunkReader::new(&repository, &Index::load(&repository).unwrap().0);
        for snapshot in &there {
            let target = self.folder.path().join("restored.db");
            let _ = std::fs::remove_file(&target);
            let options = RestoreOptions { force: false, integrity_check: Some(false), aside_suffix: "aside".into() };
            restore(&reader, &snapshot.state(), &target, &options, &Silent).unwrap();
            assert_eq!(hash_of(&target), self.roots.lock().unwrap()[&snapshot.id]);
        }
    }

    fn stored_bytes(&self, folder: Folder) -> u64 {
        self.store.list(folder).unwrap().iter().map(|listed| listed.bytes).sum()
    }
}

/// Nothing is spared for being young.
fn at_once() -> PruneOptions {
    PruneOptions { min_age: Duration::ZERO, ..PruneOptions::default() }
}

#[test]
fn the_space_of_what_was_forgotten_comes_back() {
    let world = World::new();
    world.make("orders", 20_000);
    let all: Vec<SnapshotSummary> = (0..4)
        .map(|_| {
            world.change("orders", 2);
            world.snapshot("orders", Choice::Full)
        })
        .collect();
    let before = world.stored_bytes(Folder::Packs);
    world.forget("orders", &[&all[0], &all[1], &all[2]]);
    world.expect(&[&all[3]]);
    assert_eq!(world.plan(at_once()).due["orders"], 3);
    let summary = world.prune();
    assert_eq!(summary.gone_count, 3);
    world.expect(&[&all[3]]);
    // As much as a repository takes that never held the others.
    let fresh = World::new();
    std::fs::copy(world.database("orders"), fresh.database("orders")).unwrap();
    fresh.snapshot("orders", Choice::Full);
    let (now, alone) = (world.stored_bytes(Folder::Packs), fresh.stored_bytes(Folder::Packs));
    assert!(now * 10 <= alone * 11 && now < before / 2, "{now} bytes, {alone} alone, {before} before");
    assert!(world.plan(at_once()).is_empty(), "{:?}", world.plan(at_once()));
    // It goes on as if nothing had been.
    world.change("orders", 4000);
    let next = world.snapshot("orders", Choice::Auto);
    assert!(next.written.pack_bytes < 200_000, "{:?}", next.written);
    world.expect(&[&all[3], &next]);
}

#[test]
fn what_is_held_or_last_or_in_its_grace_stays() {
    let world = World::new();
    world.make("orders", 2_000);
    let all: Vec<SnapshotSummary> = (0..4)
        .map(|_| {
            world.change("orders", 2);
            world.snapshot("orders", Choice::Full)
        })
        .collect();
    let reference = |summary: &SnapshotSummary| SnapshotRef { sequence: summary.sequence, id: summary.id };
    world.append("orders", Event::Held { snapshot: reference(&all[0]), reason: "a court's order".into() });
    world.forget("orders", &[&all[0], &all[3]]);
    let until = UnixMicros(world.clock.now().0 + 24 * HOUR);
    world.append("orders", Event::Forgotten { snapshots: vec![reference(&all[1])], until });
    assert!(world.plan(at_once()).is_empty());
    // What comes continues the last one: it is not forgotten as long as it is the last.
    world.expect(&[&all[0], &all[2], &all[3]]);
    world.append("orders", Event::Unforgotten { snapshots: vec![reference(&all[3])] });
    world.advance(25);
    assert_eq!(world.plan(at_once()).due["orders"], 1);
    world.prune();
    world.append("orders", Event::Unforgotten { snapshots: vec![reference(&all[1])] });
    world.expect(&[&all[0], &all[2], &all[3]]);
    world.append("orders", Event::Released { snapshot: reference(&all[0]) });
    world.forget("orders", &[&all[0]]);
    world.prune();
    world.expect(&[&all[2], &all[3]]);
}

/// Entries that are gone are deleted behind stones only, which stay: no name that is free again can be taken for the end.
#[test]
fn what_is_gone_of_a_log_is_deleted_as_far_as_a_stone_stands_behind_it() {
    let world = World::new();
    world.make("orders", 2_000);
    let first = world.snapshot("orders", Choice::Full);
    world.change("orders", 2);
    let last = world.snapshot("orders", Choice::Full);
    for _ in 0..40 {
        world.append("orders", Event::Begun {});
    }
    world.forget("orders", &[&first]);
    world.prune();
    world.expect(&[&last]);
    let entries = world.store.list(Folder::Timelines).unwrap();
    let there: Vec<u64> = entries.iter().filter_map(|listed| Some(listed.name.timeline()?.1)).collect();
    // The log has 45 entries: begun, two snapshots, 40 that say nothing, what was forgotten, and what is gone.
    let expected: Vec<u64> = [last.sequence, 16].into_iter().chain(32..=45).collect();
    assert_eq!(there, expected);
}

/// What a snapshot counted on because another database had it is marked while it is at work.
#[test]
fn a_snapshot_notices_that_what_it_counts_on_is_deleted() {
    for moment in ["packs/", "index/", "timelines/"] {
        let world = Arc::new(World::new());
        world.make("orders", 20_000);
        let orders = world.snapshot("orders", Choice::Full);
        std::fs::copy(world.database("orders"), world.database("copy")).unwrap();
        world.change("copy", 50);
        world.change("orders", 1);
        let changed = world.snapshot("orders", Choice::Full);
        world.forget("orders", &[&orders]);
        let other = Arc::clone(&world);
        let happen = move || _ = other.prune();
        // The entry that begins the timeline is there before anything is counted on.
        world.append("copy", Event::Begun {});
        let store = Interrupted::new(Arc::clone(&world.store), moment, happen);
        let copy = world.snapshot_by(&world.open_at(Arc::new(store), "writer"), "copy", Choice::Full);
        // A segment that it wrote may list what was deleted meanwhile.
        world.prune();
        world.expect(&[&changed, &copy]);
    }
}

#[test]
fn a_reader_with_an_old_index_finds_what_was_put_elsewhere() {
    let world = World::new();
    world.make("orders", 20_000);
    let first = world.snapshot("orders", Choice::Full);
    execute(&world.database("orders"), "UPDATE orders SET item = randomblob(100) WHERE id < 2000");
    let second = world.snapshot("orders", Choice::Full);
    let repository = world.open("reader");
    let reader = ChunkReader::new(&repository, &Index::load(&repository).unwrap().0);
    let state = snapshots(&repository, None).unwrap().0.pop().unwrap().state();
    world.forget("orders", &[&first]);
    let summary = world.prune_with(PruneOptions { min_live_share: 1.0, ..at_once() });
    assert!(summary.written.chunk_count > 0, "{summary:?}");
    for piece in pieces(&reader, &state).unwrap() {
        reader.read(piece.chunk, &|| "the test".into()).unwrap();
    }
    world.expect(&[&second]);
}

#[test]
fn nothing_is_deleted_while_something_is_wrong() {
    let world = World::new();
    world.make("orders", 2_000);
    let first = world.snapshot("orders", Choice::Full);
    world.change("orders", 2);
    let second = world.snapshot("orders", Choice::Full);
    world.forget("orders", &[&first]);
    let plan = world.plan(at_once());
    let entry = world.store.list(Folder::Timelines).unwrap()[2].name.clone();
    let object = world.store.read(&entry, 1 << 20).unwrap();
    world.store.delete(&entry).unwrap();
    for damaged in [None, Some([&object[..60], &[object[60] ^ 1], &object[61..]].concat())] {
        if let Some(damaged) = damaged {
            world.store.create(&entry, &damaged).unwrap();
        }
        let repository = world.open("collector");
        let planned = plan_prune(&repository, at_once(), &Silent);
        assert!(matches!(planned, Err(PruneError::Damaged(_))), "{planned:?}");
        let packs = world.store.list(Folder::Packs).unwrap();
        let done = prune(&repository, &plan, &SystemTimer::default(), &Silent);
        assert!(matches!(done, Err(PruneError::Damaged(_))), "{done:?}");
        assert_eq!(world.store.list(Folder::Packs).unwrap(), packs);
    }
    world.store.delete(&entry).unwrap();
    world.store.create(&entry, &object).unwrap();
    world.prune();
    world.expect(&[&second]);
}

#[test]
fn what_an_interrupted_backup_has_left_goes_when_it_is_old() {
    let world = World::new();
    world.make("orders", 20_000);
    let store = Interrupted::new(Arc::clone(&world.store), "index/", || panic!("killed"));
    let repository = world.open_at(Arc::new(store), "writer");
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.snapshot_by(&repository, "orders", Choice::Full);
    }));
    assert!(killed.is_err() && world.stored_bytes(Folder::Packs) > 1 << 20);
    let kept = world.snapshot("orders", Choice::Full);
    let summary = world.prune();
    assert!(summary.deleted.count > 0);
    world.expect(&[&kept]);
}

#[test]
fn many_small_packs_and_segments_are_put_together() {
    let world = World::new();
    world.make("orders", 2_000);
    let all: Vec<SnapshotSummary> = (0..80)
        .map(|state| {
            world.change("orders", 100 + state);
            world.snapshot("orders", Choice::Auto)
        })
        .collect();
    let (packs, segments) = (world.store.list(Folder::Packs).unwrap(), world.store.list(Folder::Index).unwrap());
    assert!(packs.len() >= 80 && segments.len() >= 80);
    world.prune();
    let (packs, segments) = (world.store.list(Folder::Packs).unwrap(), world.store.list(Folder::Index).unwrap());
    assert!(packs.len() <= 3 && segments.len() <= 3, "{} packs, {} segments", packs.len(), segments.len());
    world.expect(&all.iter().collect::<Vec<_>>());
    assert!(world.plan(at_once()).is_empty());
}
