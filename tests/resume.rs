//! A restore that did not finish is gone on with: what is right on disk is not fetched again, what is wrong never comes out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod counted;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use continuum::base::id::ImageRoot;
use continuum::crypto::aead::Suite;
use continuum::monitor::Silent;
use continuum::ops::restore::{RestoreError, RestoreOptions, restore, restore_in_place};
use continuum::ops::snapshot::Choice;
use continuum::ops::snapshots::snapshots;
use continuum::repo::Repository;
use continuum::repo::chunk_reader::ChunkReader;
use continuum::repo::index::Index;
use counted::{CountedStore, StopAfter, environment, make, make_random_database, restore_last, take};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A database that fills several packs, with a snapshot of it.
struct Setup {
    folder: TempDir,
    store: Arc<CountedStore>,
    repository: Repository,
    /// What restoring all of it reads.
    pack_bytes: u64,
}

impl Setup {
    fn new(mib: u32) -> Self {
        let (folder, store) = (TempDir::new().unwrap(), CountedStore::new());
        let state = folder.path().join("state");
        let repository = make(&store, Suite::Aes256Gcm, environment(Some(&state), 2));
        let database = folder.path().join("a.db");
        make_random_database(&database, mib);
        take(&repository, &database, Choice::Full, &Silent).unwrap();
        fs::create_dir(folder.path().join("target")).unwrap();
        let mut setup = Self { folder, store, repository, pack_bytes: 0 };
        setup.pack_bytes = setup.restores(0);
        setup
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("a.db")
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target/b.db")
    }

    fn files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.folder.path().join("target")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// The file that was left.
    fn partial(&self) -> PathBuf {
        let files = self.files();
        let name = files[0].file_name().unwrap().to_str().unwrap();
        assert!(files.len() == 1 && name.starts_with(".b.db.continuum-") && name.ends_with(".partial"), "{files:?}");
        files[0].clone()
    }

    /// Restores, finding so many bytes at least; returns how many bytes of packs it read. The target is removed again.
    #[track_caller]
    fn restores(&self, found_at_least: u64) -> u64 {
        let _ = CountedStore::take(&self.store.pack_bytes);
        let summary = restore_last(&self.repository, &self.target(), &Silent).unwrap();
        assert!(fs::read(self.target()).unwrap() == fs::read(self.database()).unwrap());
        assert_eq!(self.files(), [self.target()]);
        assert!(summary.resumed_bytes >= found_at_least, "{} bytes", summary.resumed_bytes);
        assert!(found_at_least > 0 || summary.resumed_bytes == 0, "{} bytes", summary.resumed_bytes);
        fs::remove_file(self.target()).unwrap();
        CountedStore::take(&self.store.pack_bytes)
    }

    /// Fails after so many bytes, and leaves them.
    #[track_caller]
    fn is_stopped_after(&self, bytes: u64) {
        let stopped = restore_last(&self.repository, &self.target(), &StopAfter::bytes(bytes)).unwrap_err();
        assert!(matches!(stopped, RestoreError::Unfinished { .. }), "{stopped:?}");
    }
}

#[test]
fn what_an_interrupted_restore_wrote_is_not_fetched_again() {
    let setup = Setup::new(48);
    setup.is_stopped_after(30 * MIB);
    setup.partial();
    let read = setup.restores(28 * MIB);
    assert!(read < setup.pack_bytes / 2, "{read} of {}", setup.pack_bytes);
    // Once more, in three steps; what is found counts twice, as compared and as restored.
    setup.is_stopped_after(16 * MIB);
    setup.is_stopped_after(56 * MIB);
    let read = setup.restores(34 * MIB);
    assert!(read < setup.pack_bytes / 2, "{read} of {}", setup.pack_bytes);
}

#[test]
fn a_destination_that_goes_away_leaves_what_came() {
    let setup = Setup::new(48);
    CountedStore::set(&setup.store.fails_after_bytes, 30 * MIB);
    let _ = CountedStore::take(&setup.store.pack_bytes);
    let failed = restore_last(&setup.repository, &setup.target(), &Silent).unwrap_err();
    assert!(matches!(failed, RestoreError::Unfinished { .. }), "{failed:?}");
    CountedStore::set(&setup.store.fails_after_bytes, 0);
    let read = setup.restores(8 * MIB);
    assert!(read < setup.pack_bytes - 8 * MIB, "{read} of {}", setup.pack_bytes);
}

#[test]
fn wrong_bytes_in_what_was_left_are_fetched_again() {
    let setup = Setup::new(20);
    // Everything is written, and being proved.
    setup.is_stopped_after(21 * MIB);
    let partial = File::options().write(true).open(setup.partial()).unwrap();
    partial.write_all_at(&[1; 5000], 3 * MIB).unwrap();
    partial.write_all_at(&[0; 5000], 9 * MIB).unwrap();
    partial.set_len(30 * MIB).unwrap();
    partial.write_all_at(&[1; 5000], 29 * MIB).unwrap();
    let read = setup.restores(16 * MIB);
    assert!(read < 3 * MIB, "{read}");
    for (length, found) in [(0, 0), (1, 0), (15 * MIB, 14 * MIB)] {
        setup.is_stopped_after(21 * MIB);
        File::options().write(true).open(setup.partial()).unwrap().set_len(length).unwrap();
        setup.restores(found);
    }
}

#[test]
fn a_wrong_root_and_damage_leave_nothing() {
    let setup = Setup::new(4);
    let (found, _) = snapshots(&setup.repository, None).unwrap();
    let index = Index::load_reporting(&setup.repository, &Silent).unwrap();
    let reader = ChunkReader::new(&setup.repository, &index);
    let options = RestoreOptions { force: false, integrity_check: Some(true), aside_suffix: "aside".into() };
    let mut state = found[0].state();
    state.root = ImageRoot([7; 32]);
    let wrong = restore(&reader, &state, &setup.target(), &options, &Silent).unwrap_err();
    assert!(matches!(wrong, RestoreError::WrongRoot { .. }), "{wrong:?}");
    assert!(setup.files().is_empty());
    let pack = setup.store.names("packs/").remove(0);
    setup.store.patch(|objects| objects.get_mut(&pack).unwrap()[2_000_000] ^= 1);
    let damaged = restore_last(&setup.repository, &setup.target(), &Silent).unwrap_err();
    assert!(matches!(damaged, RestoreError::Repository(_)), "{damaged:?}");
    assert!(setup.files().is_empty());
}

/// Deltas write over pages of the image, over its zeros and beyond its end: what they left must not be taken for the image.
#[test]
fn what_deltas_wrote_is_made_anew() {
    let setup = Setup::new(8);
    let change = |sql: &str| {
        rusqlite::Connection::open(setup.database()).unwrap().execute_batch(sql).unwrap();
    };
    // Freed pages become zeros.
    change(
        "PRAGMA secure_delete = ON; CREATE TABLE z (id INTEGER PRIMARY KEY, blob);
         INSERT INTO z VALUES (1, randomblob(3000000)); DELETE FROM z;",
    );
    take(&setup.repository, &setup.database(), Choice::Full, &Silent).unwrap();
    for sql in [
        "INSERT INTO z VALUES (1, randomblob(2000000))",
        "UPDATE t SET content = randomblob(4000) WHERE id % 100 = 1",
        "PRAGMA secure_delete = ON; DELETE FROM z WHERE id = 1; INSERT INTO z VALUES (2, randomblob(100000))",
        "INSERT INTO z VALUES (3, randomblob(1500000))",
    ] {
        change(sql);
        take(&setup.repository, &setup.database(), Choice::Incremental, &Silent).unwrap();
    }
    let bytes = fs::metadata(setup.database()).unwrap().len();
    // Little, part of the image, all of it and the deltas.
    for (stop, found) in [(1, 0), (5 * MIB, MIB), (12 * MIB, MIB), (12 * MIB + bytes / 2, MIB)] {
        setup.is_stopped_after(stop);
        let _ = CountedStore::take(&setup.store.pack_bytes);
        let summary = restore_last(&setup.repository, &setup.target(), &Silent).unwrap();
        assert!(fs::read(setup.target()).unwrap() == fs::read(setup.database()).unwrap(), "after {stop}");
        assert!(summary.resumed_bytes >= found, "{} bytes after {stop}", summary.resumed_bytes);
        fs::remove_file(setup.target()).unwrap();
    }
}

#[test]
fn in_place_goes_on_too() {
    let setup = Setup::new(20);
    let (found, _) = snapshots(&setup.repository, None).unwrap();
    let index = Index::load_reporting(&setup.repository, &Silent).unwrap();
    let reader = ChunkReader::new(&setup.repository, &index);
    let options = RestoreOptions { force: false, integrity_check: Some(true), aside_suffix: "aside".into() };
    let in_place = |target: &Path, stop: u64| {
        restore_in_place(&reader, &found[0].state(), target, &options, &StopAfter::bytes(stop))
    };
    fs::copy(setup.database(), setup.target()).unwrap();
    let sql = "UPDATE t SET content = randomblob(4000) WHERE id % 100 = 1";
    rusqlite::Connection::open(setup.target()).unwrap().execute_batch(sql).unwrap();
    let before = fs::read(setup.target()).unwrap();
    let stopped = in_place(&setup.target(), 15 * MIB).unwrap_err();
    assert!(matches!(stopped, RestoreError::Unfinished { .. }), "{stopped:?}");
    assert!(fs::read(setup.target()).unwrap() == before);
    let summary = in_place(&setup.target(), u64::MAX).unwrap();
    assert!(summary.resumed_bytes > 10 * MIB && summary.written_bytes < 2 * MIB, "{summary:?}");
    assert!(fs::read(setup.target()).unwrap() == fs::read(setup.database()).unwrap());
    assert_eq!(setup.files(), [setup.target()]);
}
