//! Destinations in memory that fail as told, used through the library.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use continuum::base::clock::{Timer, UnixMicros};
use continuum::base::id::{DatabaseId, ObjectHash, WriterId};
use continuum::format::name::{Folder, ObjectName};
use continuum::format::object::{ObjectType, header};
use continuum::monitor::Silent;
use continuum::ops::sync::{SyncOptions, compare, execute};
use continuum::store::around::fault::{Fault, Faults};
use continuum::store::opendal::OpendalStore;
use continuum::store::replicas::{Options, Replicas, Waits};
use continuum::store::{Creation, Listed, Store, StoreError};

const WAITS: Waits = Waits {
    straggler: Duration::from_millis(50),
    catch_up: (Duration::from_millis(3), Duration::from_millis(20)),
    avoid: Duration::from_millis(30),
};
const LIMIT: u64 = 1 << 20;

fn memory() -> Arc<dyn Store> {
    Arc::new(OpendalStore::memory().expect("memory is always there"))
}

fn replicas(stores: Vec<Arc<dyn Store>>, state: Option<&Path>, waits: Waits) -> Replicas {
    let stores = stores.into_iter().enumerate().map(|(at, store)| (at.to_string(), store)).collect();
    let (timer, monitor) = (Arc::new(Machine(Instant::now())), Arc::new(Silent));
    let state = state.map(Path::to_owned);
    Replicas::new(stores, Options { tolerate: 1, state, waits, is_inline: false, timer, monitor })
}

/// This machine's timer.
struct Machine(Instant);

impl Timer for Machine {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn wait(&self, pause: Duration) {
        sleep(pause);
    }
}

/// A generator of numbers that are as good as random: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// An object that looks like one of its kind to who has no key.
fn object(kind: ObjectType, content: &str) -> Vec<u8> {
    let mut object = [&header(kind, 1), content.as_bytes()].concat();
    object.resize(128, 0);
    object
}

/// A writer of packs, index segments, timeline entries and journal objects, in the order in which the program writes them.
struct Writer {
    number: u8,
    written: u64,
    /// Objects that were acknowledged and not deleted since.
    acknowledged: BTreeMap<ObjectName, Vec<u8>>,
}

impl Writer {
    fn new(number: u8) -> Self {
        Self { number, written: 0, acknowledged: BTreeMap::new() }
    }

    fn pack(&self, n: u64) -> (ObjectName, Vec<u8>) {
        let bytes = format!("pack {n} of {}", self.number).into_bytes();
        (ObjectName::pack(ObjectHash::of(&bytes)), bytes)
    }

    fn index(&self, n: u64) -> (ObjectName, Vec<u8>) {
        let bytes = format!("index {n} of {}", self.number).into_bytes();
        (ObjectName::index(ObjectHash::of(&bytes)), bytes)
    }

    fn entry(&self, n: u64) -> (ObjectName, Vec<u8>) {
        let name = ObjectName::timeline_entry(DatabaseId([self.number; 16]), n);
        (name, object(ObjectType::TimelineEntry, &format!("entry {n}")))
    }

    fn journal(&self, n: u64) -> (ObjectName, Vec<u8>) {
        let name = ObjectName::journal(WriterId([self.number; 16]), n);
        (name, object(ObjectType::Journal, &format!("journal {n}")))
    }

    /// Like the program's, which tries again whatever may help, and takes an object that is there for its own only if it is.
    fn create(&mut self, store: &dyn Store, (name, bytes): (ObjectName, Vec<u8>)) {
        until_done(&format!("create {name}"), || match store.create(&name, &bytes) {
            Ok(Creation::New) => Ok(()),
            Ok(Creation::Exists) if store.read(&name, LIMIT).is_ok_and(|there| there == bytes) => Ok(()),
            Ok(Creation::Exists) => Err("another is there".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        self.acknowledged.insert(name, bytes);
    }

    fn delete(&mut self, store: &dyn Store, name: &ObjectName) {
        until_done(&format!("delete {name}"), || store.delete(name).map_err(|error| error.to_string()));
        self.acknowledged.remove(name);
    }

    /// A snapshot, with a journal object before it and that of the one before deleted.
    fn write(&mut self, store: &dyn Store) {
        self.written += 1;
        let n = self.written;
        self.create(store, self.journal(n));
        self.create(store, self.pack(n));
        self.create(store, self.index(n));
        self.create(store, self.entry(n));
        if n > 1 {
            self.delete(store, &self.journal(n - 1).0);
        }
    }

    /// An object that was acknowledged can be read, by who knows its bytes when he sees them.
    fn read(&self, store: &dyn Store, number: u64) {
        let at = number as usize % self.acknowledged.len().max(1);
        let Some((name, bytes)) = self.acknowledged.iter().nth(at) else { return };
        until_done(&format!("read {name}"), || {
            let right = |read: Result<Vec<u8>, StoreError>| match read {
                Err(error @ StoreError::NotFound { .. }) => panic!("acknowledged and gone: {error}"),
                read => read.is_ok_and(|read| read == *bytes),
            };
            let copies = || store.copies().iter().any(|copy| copy.read(name, LIMIT).is_ok_and(|read| read == *bytes));
            if right(store.read(name, LIMIT)) || copies() { Ok(()) } else { Err("no good copy".to_owned()) }
        });
    }

    /// No destination has an entry without the pack and the index segment that it needs, or without those before it.
    fn check_order(&self, destination: &dyn Store) {
        let has = |(name, _): (ObjectName, Vec<u8>)| destination.read(&name, LIMIT).is_ok();
        for n in (1..=self.written).filter(|&n| has(self.entry(n))) {
            assert!(has(self.pack(n)) && has(self.index(n)), "entry {n} of {} lacks what it needs", self.number);
            assert!(n == 1 || has(self.entry(n - 1)), "entry {n} of {} lacks the one before it", self.number);
        }
    }
}

fn until_done(what: &str, mut attempt: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + Duration::from_secs(30);
    while let Err(error) = attempt() {
        assert!(Instant::now() < end, "{what}: {error}");
        sleep(Duration::from_millis(2));
    }
}

/// Waits until nothing is lacking, and then compares everything.
fn check_end(replicas: &Replicas, destinations: &[Arc<dyn Store>], writers: &[&Writer]) {
    let lacks = || replicas.standings().iter().map(|standing| standing.owed).sum::<usize>();
    until_done("catching up", || {
        replicas.catch_up();
        if lacks() == 0 { Ok(()) } else { Err(format!("{:?}", replicas.standings())) }
    });
    let options = SyncOptions { read_data: true, ..SyncOptions::default() };
    let plan = compare(destinations, options, &Silent).expect("nobody cancels");
    let done = execute(destinations, &plan, &|_, _, _| Ok(()), &Silent).expect("nobody cancels");
    assert!(plan.conflicts.is_empty() && plan.lost.is_empty() && done.errors.is_empty(), "{plan:?} {done:?}");
    assert!(compare(destinations, options, &Silent).expect("nobody cancels").is_whole());
    for destination in destinations {
        for writer in writers {
            writer.check_order(&**destination);
            for (name, bytes) in &writer.acknowledged {
                assert_eq!(&destination.read(name, LIMIT).expect("it was acknowledged"), bytes, "{name}");
            }
        }
    }
}

/// Whatever fails, as long as at most one of three destinations is away at a time, what was acknowledged is there.
#[test]
fn random_faults() {
    const FAULTS: [Fault; 7] =
        [Fault::Before, Fault::After, Fault::Late, Fault::Short, Fault::Flipped, Fault::Refused, Fault::None];
    for seed in 0..24 {
        let mut random = Random(seed);
        let destinations: Vec<Arc<dyn Store>> = (0..3).map(|_| memory()).collect();
        let faults: Vec<Arc<Faults>> =
            destinations.iter().map(|store| Arc::new(Faults::new(Arc::clone(store), []))).collect();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = (seed % 2 == 0).then(|| folder.path());
        let stores = || faults.iter().map(|store| Arc::clone(store) as _).collect();
        let mut store = replicas(stores(), state, WAITS);
        let mut writer = Writer::new(1);
        for _ in 0..40 {
            match random.below(8) {
                0 => {
                    let away = random.below(3) as usize;
                    faults.iter().enumerate().for_each(|(at, faults)| faults.set_away(at == away));
                }
                1 => faults.iter().for_each(|faults| faults.set_away(false)),
                // The program ends, and the next one begins.
                2 if state.is_some() => store = replicas(stores(), state, WAITS),
                3 => store.keep_up(),
                _ => {}
            }
            for _ in 0..random.below(4) {
                faults[random.below(3) as usize].push(FAULTS[random.below(7) as usize]);
            }
            writer.write(&store);
            writer.read(&store, random.below(1000));
            for destination in &destinations {
                writer.check_order(&**destination);
            }
        }
        faults.iter().for_each(|faults| faults.set_away(false));
        while faults.iter().any(|faults| faults.list(Folder::Keys).is_err()) {}
        println!("seed {seed}");
        check_end(&store, &destinations, &[&writer]);
    }
}

/// Two processes share the local state, and so what each destination lacks.
#[test]
fn two_processes_on_one_machine() {
    let destinations: Vec<Arc<dyn Store>> = (0..3).map(|_| memory()).collect();
    let faults: Vec<Arc<Faults>> =
        destinations.iter().map(|store| Arc::new(Faults::new(Arc::clone(store), []))).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stop = AtomicU64::new(0);
    let run = |number: u8| {
        let stores = faults.iter().map(|store| Arc::clone(store) as _).collect();
        let store = replicas(stores, Some(folder.path()), WAITS);
        let mut writer = Writer::new(number);
        for n in 0..60 {
            writer.write(&store);
            writer.read(&store, n);
        }
        stop.fetch_add(1, Ordering::SeqCst);
        (store, writer)
    };
    let writers = thread::scope(|scope| {
        let threads = [1, 2].map(|number| scope.spawn(move || run(number)));
        let mut random = Random(7);
        while stop.load(Ordering::SeqCst) < 2 {
            let away = random.below(4) as usize;
            faults.iter().enumerate().for_each(|(at, faults)| faults.set_away(at == away));
            sleep(Duration::from_millis(random.below(15)));
        }
        threads.map(|thread| thread.join().expect("no panic"))
    });
    faults.iter().for_each(|faults| faults.set_away(false));
    let [(store, one), (_, other)] = writers;
    check_end(&store, &destinations, &[&one, &other]);
}

/// A destination that takes its time for writes, as long as it is told to.
struct Slow {
    store: Arc<dyn Store>,
    pause: Mutex<Duration>,
}

impl Slow {
    fn wait(&self) {
        let pause = *self.pause.lock().expect("no panic");
        sleep(pause);
    }
}

impl Store for Slow {
    fn location(&self) -> String {
        self.store.location()
    }
    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.wait();
        self.store.create(name, bytes)
    }
    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.store.read(name, limit_bytes)
    }
    fn read_range(&self, name: &ObjectName, range: std::ops::Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.store.read_range(name, range)
    }
    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        self.wait();
        self.store.list(folder)
    }
    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.wait();
        self.store.delete(name)
    }
    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        self.store.created(name)
    }
}

/// One that is slow holds up one write for as long as a straggler is waited for, even if it is the one that decides, and later ones not at all.
#[test]
fn a_slow_destination_holds_nothing_up() {
    let waits = Waits { straggler: Duration::from_millis(300), ..WAITS };
    for at in 0..3 {
        let slow = Arc::new(Slow { store: memory(), pause: Mutex::new(Duration::from_millis(2000)) });
        let mut destinations: Vec<Arc<dyn Store>> = vec![memory(), memory()];
        destinations.insert(at, Arc::clone(&slow) as _);
        let store = replicas(destinations.clone(), None, waits);
        let mut writer = Writer::new(1);
        let begun = Instant::now();
        writer.create(&store, writer.entry(1));
        let first = begun.elapsed();
        assert!(first >= waits.straggler && first < Duration::from_millis(1200), "the first took {first:?}");
        let begun = Instant::now();
        writer.delete(&store, &writer.entry(1).0);
        (0..20).for_each(|_| writer.write(&store));
        assert!(store.list(Folder::Timelines).expect("a list").len() == 20);
        let rest = begun.elapsed();
        assert!(rest < Duration::from_millis(1500), "the others took {rest:?}");
        assert!(store.standings()[at].owed > 20);
        *slow.pause.lock().expect("no panic") = Duration::ZERO;
        check_end(&store, &destinations, &[&writer]);
    }
}

/// As long as too few destinations are up to date, nothing is acknowledged; a write then brings them up to date by itself.
#[test]
fn a_write_that_needs_one_which_is_behind_brings_it_up_to_date() {
    let destinations: Vec<Arc<dyn Store>> = (0..3).map(|_| memory()).collect();
    let faults: Vec<Arc<Faults>> =
        destinations.iter().map(|store| Arc::new(Faults::new(Arc::clone(store), []))).collect();
    let stores = faults.iter().map(|store| Arc::clone(store) as _).collect();
    // No thread comes in time.
    let waits = Waits { catch_up: (Duration::from_secs(600), Duration::from_secs(600)), ..WAITS };
    let store = replicas(stores, None, waits);
    let mut writer = Writer::new(1);
    faults[2].set_away(true);
    (0..5).for_each(|_| writer.write(&store));
    faults[1].set_away(true);
    let (name, bytes) = writer.pack(100);
    for _ in 0..3 {
        let refused = store.create(&name, &bytes).expect_err("two of three are away");
        assert!(matches!(refused, StoreError::TooFew { reached: 1, needed: 2, .. }), "{refused:?}");
        let refused = store.create(&writer.entry(6).0, &writer.entry(6).1).expect_err("two of three are away");
        assert!(matches!(refused, StoreError::TooFew { needed: 2, .. }) && refused.is_temporary(), "{refused:?}");
    }
    faults[2].set_away(false);
    writer.create(&store, writer.entry(6));
    writer.written = 5;
    writer.check_order(&*destinations[2]);
    faults[1].set_away(false);
    check_end(&store, &destinations, &[&writer]);
}

/// Whoever continues a timeline may have read its last entry where only a writer that failed has left it, without any listing.
#[test]
fn an_entry_is_acknowledged_only_behind_one_that_is_on_enough_destinations() {
    let writer = Writer::new(1);
    let stores: [Arc<dyn Store>; 3] = [memory(), memory(), memory()];
    let put =
        |at: usize, (name, bytes): (ObjectName, Vec<u8>)| stores[at].create(&name, &bytes).expect("memory takes it");
    put(2, writer.entry(1));
    let (name, bytes) = writer.entry(2);
    let created = replicas(stores.to_vec(), None, WAITS).create(&name, &bytes);
    assert_eq!(created.expect("all answer"), Creation::New);
    assert!(stores.iter().all(|store| store.read(&writer.entry(1).0, LIMIT).is_ok()));
    put(0, (writer.entry(3).0, object(ObjectType::TimelineEntry, "another")));
    put(1, writer.entry(3));
    let (name, bytes) = writer.entry(4);
    let created = replicas(stores.to_vec(), None, WAITS).create(&name, &bytes);
    assert!(matches!(created, Err(StoreError::Conflict { .. })), "{created:?}");
}
