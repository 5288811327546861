//! Damage, loss and exchange of every object, down to the bit: it is found, it is named, and never does a restore give
//! wrong bytes.
//!
//! A tiny repository in memory (three snapshots, two key slots) is damaged in one place at a time, and each time opened
//! and checked with all data: every bit of every object flipped, every object cut to every shorter length, extended, deleted, exchanged with every
//! other and copied over it. Snapshots are restored from every sixteenth flip and from all other damage.
//!
//! Two losses leave nothing that could name the object: a deleted index segment shows in the chunks that it listed, and a
//! deleted key slot is what `key remove` does, so it is no damage as long as another slot is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use continuum::base::clock::{FixedClock, JumpingTimer, UnixMicros};
use continuum::base::entropy::SeededEntropy;
use continuum::base::id::ObjectHash;
use continuum::chunk::codec::Compression;
use continuum::chunk::cutter::CutterSizes;
use continuum::crypto::password::Cost;
use continuum::format::name::{Folder, ObjectName};
use continuum::monitor::Silent;
use continuum::ops::check::{CheckOptions, check};
use continuum::ops::restore::{RestoreOptions, restore};
use continuum::ops::snapshot::{Choice, SnapshotOptions, snapshot};
use continuum::ops::snapshots::snapshots;
use continuum::repo::chunk_reader::ChunkReader;
use continuum::repo::index::Index;
use continuum::repo::{self, Environment, InitOptions, RepositoryError};
use continuum::source::CaptureOptions;
use continuum::store::state::LocalState;
use continuum::store::{Creation, Listed, Store, StoreError};
use rayon::prelude::*;
use rusqlite::Connection;
use secrecy::SecretString;
use tempfile::TempDir;

type Objects = BTreeMap<String, Vec<u8>>;

const PASSWORDS: [&str; 2] = ["first", "second"];

/// Objects in memory, to be damaged at will.
struct MemoryStore(Mutex<Objects>);

impl MemoryStore {
    fn new(objects: Objects) -> Arc<Self> {
        Arc::new(Self(Mutex::new(objects)))
    }

    fn objects(&self) -> Objects {
        self.0.lock().unwrap().clone()
    }
}

impl Store for MemoryStore {
    fn location(&self) -> String {
        "memory".into()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        let mut objects = self.0.lock().unwrap();
        if objects.contains_key(name.as_str()) {
            return Ok(Creation::Exists);
        }
        objects.insert(name.to_string(), bytes.to_vec());
        Ok(Creation::New)
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let objects = self.0.lock().unwrap();
        let object = objects.get(name.as_str());
        let object = object.ok_or_else(|| StoreError::NotFound { location: self.location(), name: name.clone() })?;
        if object.len() as u64 > limit_bytes {
            let source = std::io::Error::other("too long");
            return Err(StoreError::Io { location: self.location(), action: "read", name: name.to_string(), source });
        }
        Ok(object.clone())
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let object = self.read(name, u64::MAX)?;
        let part = object.get(range.start as usize..range.end as usize).map(<[u8]>::to_vec);
        part.ok_or_else(|| StoreError::Truncated { location: self.location(), name: name.clone(), range })
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let (objects, prefix) = (self.0.lock().unwrap(), folder.prefix());
        let inside = objects.iter().filter(|(name, _)| name.starts_with(&prefix));
        let listed = |(name, object): (&String, &Vec<u8>)| Listed {
            name: ObjectName::from_listing(name.clone()),
            bytes: object.len() as u64,
        };
        Ok(inside.map(listed).collect())
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.0.lock().unwrap().remove(name.as_str());
        Ok(())
    }
}

/// A sound repository, and what it holds.
struct Sound {
    objects: Objects,
    images: BTreeMap<ObjectHash, Vec<u8>>,
    environment: Environment,
    folder: TempDir,
}

/// What a look at a damaged repository gave: every error and fault, with causes.
struct Findings {
    texts: Vec<String>,
    opened: bool,
}

impl Sound {
    fn new() -> Self {
        let folder = scratch_folder();
        let environment = Environment {
            clock: Arc::new(FixedClock(UnixMicros(1_764_000_000_000_000))),
            entropy: Arc::new(SeededEntropy::new(7)),
            state: Some(LocalState::new(folder.path().join("state"))),
            upload_threads: 0,
            fetch_threads: 0,
        };
        let store = MemoryStore::new(Objects::new());
        let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let cutter = CutterSizes { minimum: 4 << 10, average: 16 << 10, maximum: 32 << 10 };
        let options = InitOptions { cost, cutter, ..InitOptions::default() };
        let repository = repo::init(store.clone(), &PASSWORDS[0].into(), options, environment.clone()).unwrap();
        repo::add_password(&repository, &PASSWORDS[1].into(), "second".into(), cost).unwrap();
        let database = folder.path().join("a.db");
        let mut images = BTreeMap::new();
        for change in CHANGES {
            Connection::open(&database).unwrap().execute_batch(change).unwrap();
            let summary = snapshot(&repository, &database, &snapshot_options(), &Silent).unwrap();
            images.insert(summary.id, fs::read(&database).unwrap());
        }
        Self { objects: store.objects(), images, environment, folder }
    }

    fn names(&self, prefix: &str) -> Vec<&String> {
        self.objects.keys().filter(|name| name.starts_with(prefix)).collect()
    }

    /// The repository after `damage`.
    fn after(&self, damage: impl FnOnce(&mut Objects)) -> Objects {
        let mut objects = self.objects.clone();
        damage(&mut objects);
        objects
    }

    fn open(&self, objects: Objects, password: &str) -> Result<repo::Repository, RepositoryError> {
        let password = SecretString::from(password);
        repo::open(MemoryStore::new(objects), &password, self.environment.clone())
    }

    /// Opens and checks.
    fn look(&self, objects: Objects, password: &str) -> Findings {
        let report = match self.open(objects, password) {
            Ok(repository) => check(&repository, &CheckOptions::all_data(), &JumpingTimer::default(), &Silent),
            Err(error) => return Findings { texts: vec![with_causes(&error)], opened: false },
        };
        let texts = match report {
            Ok(report) => report.faults.iter().map(|fault| with_causes(fault)).collect(),
            Err(error) => vec![with_causes(&error)],
        };
        Findings { texts, opened: true }
    }

    /// Panics unless a look at the damage names one of `names`; with every password if a key slot is damaged, as only then
    /// it matters which.
    fn expect_named(&self, objects: &Objects, names: &[&str], what: &str) {
        let passwords = if what.contains("keys/") { &PASSWORDS[..] } else { &PASSWORDS[..1] };
        for password in passwords {
            let Findings { texts, .. } = self.look(objects.clone(), password);
            let named = texts.iter().any(|text| names.iter().any(|name| text.contains(name)));
            assert!(named, "{what}, password {password:?}: {names:?} expected in {texts:#?}");
        }
    }

    /// Restores every snapshot that is listed: each fails or is right. Returns how many are right.
    fn expect_no_wrong_bytes(&self, objects: Objects, what: &str) -> usize {
        let Ok(repository) = self.open(objects, PASSWORDS[0]) else { return 0 };
        let Ok((found, _)) = snapshots(&repository, None) else { return 0 };
        let Ok((index, _)) = Index::load(&repository) else { return 0 };
        let reader = ChunkReader::new(&repository, &index);
        let folder = TempDir::new_in(self.folder.path()).unwrap();
        let options = RestoreOptions { force: false, integrity_check: Some(false), aside_suffix: String::new() };
        let mut right = 0;
        for snapshot in found {
            let target = folder.path().join(snapshot.id.to_string());
            let restored = restore(&reader, &snapshot.state(), &target, &options, &Silent);
            match (restored, fs::read(&target)) {
                (Ok(_), Ok(bytes)) => {
                    assert_eq!(Some(&bytes), self.images.get(&snapshot.id), "{what}: wrong bytes");
                    right += 1;
                }
                (Err(_), Err(_)) => {}
                (restored, _) => panic!("{what}: {restored:?}, but the target says otherwise"),
            }
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), right, "{what}: something was left behind");
        right
    }
}

/// Every step is one snapshot: text that shrinks to a small pack, several chunks, another chunk changed each time.
const CHANGES: [&str; 3] = [
    "PRAGMA page_size = 512;
     CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT);
     WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
     INSERT INTO t SELECT i, 'the text of a row that is like the others' FROM n;",
    "UPDATE t SET text = 'another text' WHERE id = 7;",
    "UPDATE t SET text = 'a third text' WHERE id = 390; DELETE FROM t WHERE id = 200;",
];

fn snapshot_options() -> SnapshotOptions {
    SnapshotOptions {
        name: "a".into(),
        choice: Choice::Auto,
        tags: vec!["tag".into()],
        host: "host".into(),
        compression: Compression::default(),
        verify: true,
        capture: CaptureOptions::default(),
        take_over: false,
    }
}

/// In memory where the machine offers that: thousands of files are synced.
fn scratch_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    TempDir::new_in(&base).or_else(|_| TempDir::new()).unwrap()
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// The files of the local state, to see that looking at damage never changes them; but for the one that says which packs were read.
fn state(sound: &Sound) -> Vec<(PathBuf, Vec<u8>)> {
    fn collect(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                collect(&path, files);
            } else if !path.ends_with("checked") {
                files.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    let mut files = Vec::new();
    collect(&sound.folder.path().join("state"), &mut files);
    files.sort();
    files
}

/// Runs a test on a sound repository and prints how long it took.
fn on_sound(title: &str, test: impl FnOnce(&Sound) -> usize) {
    let started = Instant::now();
    let sound = Sound::new();
    let before = state(&sound);
    let heads = before.iter().filter(|(path, _)| path.parent().is_some_and(|folder| folder.ends_with("heads")));
    assert_eq!(heads.count(), 1, "one head is remembered");
    let cases = test(&sound);
    assert_eq!(state(&sound), before, "damage must not change what is remembered");
    println!("{title}: {cases} cases in {:.1} s", started.elapsed().as_secs_f64());
}

#[test]
fn the_sound_repository_is_sound() {
    on_sound("sound", |sound| {
        let count = |prefix| sound.names(prefix).len();
        assert_eq!((count("config"), count("keys/"), count("timelines/")), (1, 2, 4));
        assert!(count("packs/") >= 3 && count("index/") >= 3);
        for password in PASSWORDS {
            let Findings { texts, opened } = sound.look(sound.objects.clone(), password);
            assert!(opened && texts.is_empty(), "{texts:#?}");
        }
        assert_eq!(sound.expect_no_wrong_bytes(sound.objects.clone(), "sound"), 3);
        for (name, object) in &sound.objects {
            println!("{name}: {} bytes", object.len());
        }
        1
    });
}

/// Flips every bit of the objects whose names begin so.
fn flip_every_bit(prefix: &str) {
    on_sound(&format!("bits of {prefix}"), |sound| {
        let names = sound.names(prefix).into_iter();
        let bits: Vec<_> =
            names.flat_map(|name| (0..sound.objects[name].len() * 8).map(move |bit| (name, bit))).collect();
        bits.par_iter().for_each(|&(name, bit)| {
            let what = format!("{name}: bit {bit} flipped");
            let objects = sound.after(|objects| objects.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8));
            sound.expect_named(&objects, &[name], &what);
            // One bit of every other byte, and another each time.
            if bit % 16 == (bit / 16) % 16 {
                sound.expect_no_wrong_bytes(objects, &what);
            }
        });
        bits.len()
    });
}

#[test]
fn every_flipped_bit_of_the_config_is_found() {
    flip_every_bit("config");
}

#[test]
fn every_flipped_bit_of_key_slots_is_found() {
    flip_every_bit("keys/");
}

#[test]
fn every_flipped_bit_of_packs_is_found() {
    flip_every_bit("packs/");
}

#[test]
fn every_flipped_bit_of_index_segments_is_found() {
    flip_every_bit("index/");
}

#[test]
fn every_flipped_bit_of_timeline_entries_is_found() {
    flip_every_bit("timelines/");
}

#[test]
fn every_truncation_and_extension_is_found() {
    on_sound("lengths", |sound| {
        let lengths = |(name, object): (&'_ String, &Vec<u8>)| {
            let name = name.clone();
            (0..object.len()).chain(object.len() + 1..object.len() + 3).map(move |length| (name.clone(), length))
        };
        let cases: Vec<(String, usize)> = sound.objects.iter().flat_map(lengths).collect();
        cases.par_iter().for_each(|(name, length)| {
            let what = format!("{name}: cut or extended to {length} bytes");
            let objects = sound.after(|objects| objects.get_mut(name).unwrap().resize(*length, 0));
            sound.expect_named(&objects, &[name], &what);
            sound.expect_no_wrong_bytes(objects, &what);
        });
        cases.len()
    });
}

#[test]
fn every_deleted_object_is_missed() {
    on_sound("deletions", |sound| {
        for name in sound.objects.keys() {
            let what = format!("{name}: deleted");
            let objects = sound.after(|objects| _ = objects.remove(name));
            let right = sound.expect_no_wrong_bytes(objects.clone(), &what);
            match name.split('/').next().unwrap() {
                "keys" => {
                    let looks = PASSWORDS.map(|password| sound.look(objects.clone(), password));
                    assert_eq!(looks.iter().filter(|look| look.opened).count(), 1, "{what}");
                    for Findings { texts, opened } in looks {
                        assert_eq!(texts.is_empty(), opened, "{what}: {texts:#?}");
                        assert!(opened || texts[0].contains("wrong password"), "{what}: {texts:#?}");
                    }
                }
                "index" => {
                    sound.expect_named(&objects, &["is in no index segment"], &what);
                    assert!(right < 3, "{what}");
                }
                _ => sound.expect_named(&objects, &[name], &what),
            }
        }
        sound.objects.len()
    });
}

#[test]
fn deleting_a_whole_kind_is_missed() {
    on_sound("kinds", |sound| {
        for (prefix, expected) in [
            ("keys/", "no usable key slot"),
            ("packs/", "is missing"),
            ("index/", "is in no index segment"),
            ("timelines/", "rolled back"),
        ] {
            let objects = sound.after(|objects| objects.retain(|name, _| !name.starts_with(prefix)));
            sound.expect_named(&objects, &[expected], prefix);
            assert_eq!(sound.expect_no_wrong_bytes(objects, prefix), 0);
        }
        4
    });
}

#[test]
fn every_exchange_of_two_objects_is_found() {
    on_sound("exchanges", |sound| {
        let names: Vec<&String> = sound.objects.keys().collect();
        let pairs: Vec<(&String, &String)> =
            (0..names.len()).flat_map(|i| names[..i].iter().map(|&a| (a, names[i])).collect::<Vec<_>>()).collect();
        pairs.par_iter().for_each(|&(a, b)| {
            let what = format!("{a} and {b} exchanged");
            let objects = sound.after(|objects| {
                objects.insert(a.clone(), sound.objects[b].clone());
                objects.insert(b.clone(), sound.objects[a].clone());
            });
            sound.expect_named(&objects, &[a, b], &what);
            sound.expect_no_wrong_bytes(objects, &what);
        });
        pairs.len()
    });
}

#[test]
fn every_copy_of_an_object_over_another_is_found() {
    on_sound("copies", |sound| {
        for (from, object) in &sound.objects {
            for to in sound.objects.keys().filter(|&to| to != from) {
                let what = format!("{from} copied over {to}");
                let objects = sound.after(|objects| _ = objects.insert(to.clone(), object.clone()));
                sound.expect_named(&objects, &[to], &what);
                sound.expect_no_wrong_bytes(objects, &what);
            }
        }
        sound.objects.len() * (sound.objects.len() - 1)
    });
}

#[test]
fn names_that_no_object_has_are_found() {
    on_sound("foreign names", |sound| {
        let names = ["keys/note.txt", "packs/note.txt", "packs/00/note", "index/note.txt", "timelines/note.txt"];
        for name in names {
            let objects = sound.after(|objects| _ = objects.insert(name.into(), b"note".to_vec()));
            sound.expect_named(&objects, &[name], name);
            assert_eq!(sound.expect_no_wrong_bytes(objects, name), 3);
        }
        names.len()
    });
}

/// One damaged snapshot does not take the others with it.
#[test]
fn what_is_intact_can_be_restored_beside_damage() {
    on_sound("neighbours", |sound| {
        let entries = sound.names("timelines/");
        for name in &entries {
            let objects = sound.after(|objects| objects.get_mut(*name).unwrap()[100] ^= 1);
            // The first entry is no snapshot.
            let intact = if name.ends_with("0001") { 3 } else { 2 };
            assert_eq!(sound.expect_no_wrong_bytes(objects, name), intact);
        }
        let slots = sound.names("keys/");
        let garbled = sound.after(|objects| objects.insert(slots[0].clone(), vec![0; 40]).map(|_| ()).unwrap());
        let opened = PASSWORDS.iter().filter(|password| sound.open(garbled.clone(), password).is_ok()).count();
        assert_eq!(opened, 1, "the other slot opens");
        entries.len() + 1
    });
}
