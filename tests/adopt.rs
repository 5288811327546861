//! Packs that a killed upload has left are used again; what the store made of them decides nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod counted;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use continuum::base::clock::JumpingTimer;
use continuum::crypto::aead::Suite;
use continuum::monitor::{Event, Monitor, Silent};
use continuum::ops::check::{CheckOptions, check};
use continuum::ops::snapshot::{Choice, SnapshotError};
use continuum::repo::{Repository, RepositoryError};
use counted::{CountedStore, StopAfter, environment, make, make_random_database, open, restore_last, take};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// What was said.
#[derive(Default)]
struct Notices(Mutex<Vec<String>>);

impl Monitor for Notices {
    fn event(&self, event: Event) {
        if let Event::Notice(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

/// A repository in which a snapshot of a database of 80 MiB failed after three packs.
struct Setup {
    folder: TempDir,
    store: Arc<CountedStore>,
    uploaded: u64,
}

impl Setup {
    fn new() -> Self {
        let (folder, store) = (TempDir::new().unwrap(), CountedStore::new());
        let mut setup = Self { folder, store, uploaded: 0 };
        make_random_database(&setup.database(), 80);
        let state = setup.folder.path().join("state");
        let repository = make(&setup.store, Suite::Aes256Gcm, environment(Some(&state), 0));
        CountedStore::set(&setup.store.full_after_bytes, 50 * MIB);
        let failed = take(&repository, &setup.database(), Choice::Auto, &Silent).unwrap_err();
        assert!(matches!(failed, SnapshotError::Repository(RepositoryError::Store(_))), "{failed:?}");
        CountedStore::set(&setup.store.full_after_bytes, 0);
        setup.uploaded = CountedStore::take(&setup.store.created_pack_bytes);
        assert!(setup.store.names("index/").is_empty() && setup.store.names("packs/").len() == 3);
        setup
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("a.db")
    }

    fn repository(&self, threads: usize) -> Repository {
        open(&self.store, environment(Some(&self.folder.path().join("state")), threads))
    }

    /// Takes the snapshot; returns the bytes of new packs, and what was said.
    fn goes_on(&self, threads: usize) -> (u64, Vec<String>) {
        let (repository, notices) = (self.repository(threads), Notices::default());
        let taken = take(&repository, &self.database(), Choice::Auto, &notices).unwrap();
        let target = self.folder.path().join("restored.db");
        restore_last(&repository, &target, &Silent).unwrap();
        assert!(fs::read(&target).unwrap() == fs::read(self.database()).unwrap());
        fs::remove_file(&target).unwrap();
        (taken.written.pack_bytes, notices.0.into_inner().unwrap())
    }
}

#[test]
fn packs_of_a_failed_snapshot_are_used() {
    for threads in [0, 4] {
        let setup = Setup::new();
        let _ = (CountedStore::take(&setup.store.requests), CountedStore::take(&setup.store.pack_bytes));
        let (added, notices) = setup.goes_on(threads);
        assert!(setup.uploaded + added < 83 * MIB, "{added} after {}", setup.uploaded);
        assert!(notices.len() == 1 && notices[0].contains("3 packs"), "{notices:?}");
        let report = check(&setup.repository(0), &CheckOptions::all_data(), &JumpingTimer::default(), &Silent).unwrap();
        assert!(report.faults.is_empty() && report.unlisted_packs == (0, 0), "{report:?}");
    }
}

#[test]
fn footers_are_read_by_range() {
    let setup = Setup::new();
    let _ = (CountedStore::take(&setup.store.requests), CountedStore::take(&setup.store.pack_bytes));
    take(&setup.repository(0), &setup.database(), Choice::Auto, &Silent).unwrap();
    let (requests, read) = (CountedStore::take(&setup.store.requests), CountedStore::take(&setup.store.pack_bytes));
    assert!(requests == 6 && read < MIB, "{requests} requests, {read} bytes");
}

#[test]
fn an_interruption_lists_what_is_stored() {
    let (folder, store) = (TempDir::new().unwrap(), CountedStore::new());
    let (database, state) = (folder.path().join("a.db"), folder.path().join("state"));
    make_random_database(&database, 80);
    let repository = make(&store, Suite::Aes256Gcm, environment(Some(&state), 2));
    let stopped = take(&repository, &database, Choice::Auto, &StopAfter::bytes(60 * MIB)).unwrap_err();
    assert!(matches!(stopped, SnapshotError::Repository(RepositoryError::Cancelled(_))), "{stopped:?}");
    assert_eq!(store.names("index/").len(), 1);
    let report = check(&repository, &CheckOptions::all_data(), &JumpingTimer::default(), &Silent).unwrap();
    assert!(report.faults.is_empty() && report.unlisted_packs == (0, 0), "{report:?}");
    assert!(report.pack_count >= 2 && report.snapshot_count == 0);
    let uploaded = CountedStore::take(&store.created_pack_bytes);
    let taken = take(&repository, &database, Choice::Auto, &Silent).unwrap();
    assert!(uploaded + taken.written.pack_bytes < 83 * MIB);
}

#[test]
fn what_does_not_authenticate_is_ignored_and_said() {
    let sound = Setup::new();
    let packs = sound.store.names("packs/");
    type Spoil = fn(&mut Vec<u8>);
    let spoils: [(&str, Spoil); 7] = [
        ("header", |pack| pack[50] ^= 1),
        ("footer", |pack| {
            let at = pack.len() - 100;
            pack[at] ^= 1;
        }),
        ("trailer", |pack| {
            let at = pack.len() - 1;
            pack[at] ^= 1;
        }),
        ("cut short", |pack| pack.truncate(5_000_000)),
        ("cut to nothing", |pack| pack.truncate(3)),
        ("empty", Vec::clear),
        ("grown", |pack| pack.resize(65 << 20, 7)),
    ];
    for (what, spoil) in spoils {
        let mut spoiled = Vec::new();
        sound.store.patch(|objects| {
            let pack = objects.get_mut(&packs[1]).unwrap();
            spoiled = pack.clone();
            spoil(pack);
        });
        let before: Vec<(String, Vec<u8>)> = sound.store.copy();
        let (added, notices) = sound.goes_on(2);
        assert!(added > 40 * MIB && added < 55 * MIB, "{what}: {added} added");
        assert!(
            notices.iter().any(|text| text.contains(&packs[1]) && text.contains("not used")),
            "{what}: {notices:?}"
        );
        assert!(notices.iter().any(|text| text.contains("2 packs")), "{what}: {notices:?}");
        sound.store.patch(|objects| {
            *objects = before.into_iter().collect();
            objects.insert(packs[1].clone(), spoiled);
        });
        fs::remove_dir_all(sound.folder.path().join("state")).unwrap();
    }
}

#[test]
fn a_small_snapshot_does_not_look_for_packs() {
    let setup = Setup::new();
    let small = setup.folder.path().join("b.db");
    make_random_database(&small, 2);
    let notices = Notices::default();
    take(&setup.repository(0), &small, Choice::Auto, &notices).unwrap();
    assert!(notices.0.into_inner().unwrap().is_empty());
}
