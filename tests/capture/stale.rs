//! Local state and facts of the file system that are old, torn or false: a snapshot believes nothing that it cannot prove.

use std::fs;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;

use super::missed::assert_numbers_ascend;
use super::source::{Place, checkpoint, crash_image, rewrite, run, settle};
use crate::support::{companion, text};

const MAP_FILES: [&str; 3] = ["leaves", "blocks", "position"];

#[test]
fn an_old_copy_of_the_local_state() {
    let (place, writer) = Place::with_wal();
    place.check("auto", "the first");
    let kept = place.path("kept");
    copy(&place.state(), &kept);
    for round in 0..4 {
        rewrite(&writer, round * 9 + 1..=round * 9 + 9);
        if round % 2 == 1 {
            checkpoint(&writer, "PASSIVE");
        }
        place.check("incremental", "meanwhile");
        fs::remove_dir_all(place.state()).expect("it is there");
        copy(&kept, &place.state());
        for strategy in ["incremental", "differential"] {
            rewrite(&writer, 40..=40);
            place.check(strategy, &format!("{strategy} with old state, round {round}"));
        }
    }
    assert_numbers_ascend(&place);
}

/// The database is what it was when the state was copied, but newer snapshots lie in between.
#[test]
fn an_old_copy_of_the_local_state_of_a_database_that_went_back() {
    let (place, writer) = Place::with_wal();
    run(&writer, "CREATE TABLE switch(is_on INTEGER); INSERT INTO switch VALUES (0)");
    let first = place.take("auto");
    let kept = place.path("kept");
    copy(&place.state(), &kept);
    run(&writer, "UPDATE switch SET is_on = 1");
    place.check("incremental", "switched on");
    run(&writer, "UPDATE switch SET is_on = 0");
    fs::remove_dir_all(place.state()).expect("it is there");
    copy(&kept, &place.state());
    let again = place.take("incremental");
    assert!(again.view == first.view, "this case is about a state that comes back");
    place.compare(&again, "switched off");
    assert_numbers_ascend(&place);
    run(&writer, "UPDATE switch SET is_on = 2");
    place.check("incremental", "switched again");
    assert_numbers_ascend(&place);
}

#[test]
fn torn_page_maps() {
    let (place, writer) = Place::with_wal();
    run(&writer, "INSERT INTO t(b) SELECT randomblob(3500) FROM t, (SELECT 1 UNION SELECT 2 UNION SELECT 3)");
    place.check("auto", "the first");
    for (number, file) in MAP_FILES.iter().enumerate() {
        let path = place.map_file(file);
        let length = fs::metadata(&path).expect("it is there").len() as usize;
        let flips = [0, length / 3, length / 2, length - 1].map(Tear::Flip);
        for tear in flips.into_iter().chain([Tear::Cut(0), Tear::Cut(length / 2), Tear::Cut(length - 1), Tear::Remove])
        {
            let row = 1 + number as u32;
            rewrite(&writer, row..=row + 2);
            tear.apply(&place.map_file(file));
            place.check("incremental", &format!("{file}: {tear:?}"));
        }
    }
}

/// A crash can leave any of the files newer than the others.
#[test]
fn page_maps_of_which_a_part_is_old() {
    let (place, writer) = Place::with_wal();
    place.check("auto", "the first");
    for parts in 1..7_u32 {
        let old: Vec<Vec<u8>> =
            MAP_FILES.iter().map(|file| fs::read(place.map_file(file)).expect("it is there")).collect();
        rewrite(&writer, parts..=parts + 12);
        place.check("incremental", "newer");
        for (number, old) in old.iter().enumerate().filter(|(number, _)| parts >> number & 1 == 1) {
            fs::write(place.map_file(MAP_FILES[number]), old).expect("it can be written");
        }
        if parts % 2 == 0 {
            checkpoint(&writer, "PASSIVE");
        }
        rewrite(&writer, parts..=parts);
        place.check("incremental", &format!("old parts: {parts:03b}"));
    }
}

#[test]
fn another_database_in_its_place() {
    for same_inode in [false, true] {
        let (place, writer) = Place::with_wal();
        drop(writer);
        settle();
        let first = place.check("auto", "the first");
        let other = place.path("other.db");
        fs::copy(&place.path, &other).expect("a copy");
        let connection = Connection::open(&other).expect("a database");
        run(&connection, "UPDATE t SET b = randomblob(3500) WHERE a IN (3, 30)");
        drop(connection);
        if same_inode {
            fs::write(&place.path, fs::read(&other).expect("it is there")).expect("written over");
        } else {
            fs::rename(&other, &place.path).expect("renamed");
        }
        let taken = place.check("incremental", &format!("another one, same inode: {same_inode}"));
        assert_eq!(taken["tier"], "scan");
        assert_eq!(taken["lineage"] != first["lineage"], !same_inode, "a new file is a new lineage: {taken}");
        let writer = place.connect(0);
        rewrite(&writer, 8..=9);
        place.check("incremental", "and on");
    }
}

/// After a crash of the application the WAL stays; somebody tidies up and removes it. The commits in it are gone.
#[test]
fn a_removed_wal() {
    let (place, writer) = Place::with_wal();
    checkpoint(&writer, "TRUNCATE");
    rewrite(&writer, 1..=10);
    let crashed = Place { path: crash_image(&place.path, &place.repository.folder("crashed")), ..Place::new() };
    let before = crashed.check("auto", "with its WAL");
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(companion(&crashed.path, suffix)).expect("it is there");
    }
    let after = crashed.check("incremental", "without its WAL");
    assert_ne!(after["blake3"], before["blake3"], "this case is about commits that are gone");
    let writer = crashed.connect(0);
    for row in [1, 20] {
        rewrite(&writer, row..=row + 10);
        crashed.check("incremental", "and on");
    }
    assert_numbers_ascend(&crashed);
}

/// Files and WAL are put back to an earlier copy, which has the same generation with fewer frames, and go on from there another way.
#[test]
fn a_wal_that_went_back() {
    for more in [0, 1, 30] {
        let (place, writer) = Place::with_wal();
        let folder = place.repository.folder("early");
        let early = crash_image(&place.path, &folder);
        rewrite(&writer, 1..=10);
        let crashed = Place { path: crash_image(&place.path, &place.repository.folder("crashed")), ..Place::new() };
        crashed.check("auto", "the first");
        for suffix in ["", "-wal"] {
            let bytes = fs::read(companion(&early, suffix)).expect("a copy");
            fs::write(companion(&crashed.path, suffix), bytes).expect("put back");
        }
        fs::remove_file(companion(&crashed.path, "-shm")).expect("it is there");
        let writer = crashed.connect(0);
        for row in 1..=more {
            rewrite(&writer, row..=row);
        }
        let taken = crashed.check("incremental", &format!("{more} commits on another way"));
        assert_eq!(taken["tier"], "scan", "{more} commits on another way");
        assert_numbers_ascend(&crashed);
    }
}

/// A page changes behind SQLite's back: same length, same change counter, and the time of the last change is put back.
#[test]
fn a_time_that_was_put_back() {
    let (place, writer) = Place::with_rollback_journal();
    run(&writer, "CREATE TABLE mark(text TEXT); INSERT INTO mark VALUES ('the text that is changed')");
    drop(writer);
    settle();
    place.check("auto", "the first");
    place.check("incremental", "settled");
    let reference = place.path("reference");
    fs::write(&reference, "").expect("a file");
    touch(&place.path, &reference);
    let mut bytes = fs::read(&place.path).expect("nobody is connected");
    let mark = b"the text that is changed";
    let at = bytes.windows(mark.len()).position(|window| window == mark).expect("the text is there");
    bytes[at] = b'T';
    let facts = place.file_facts();
    fs::write(&place.path, &bytes).expect("written over");
    touch(&reference, &place.path);
    assert_eq!(place.file_facts(), facts, "this case is about a time that lies");
    assert_eq!(place.check("incremental", "changed in place")["tier"], "scan");
    // By SQLite, too.
    let writer = place.connect(0);
    rewrite(&writer, 4..=4);
    drop(writer);
    touch(&reference, &place.path);
    assert_eq!(place.file_facts(), facts);
    assert_eq!(place.check("incremental", "changed by SQLite")["tier"], "scan");
}

/// Gives `target` the time of `reference`.
fn touch(reference: &Path, target: &Path) {
    let status = Command::new("touch").args(["-r", text(reference), text(target)]).status();
    assert!(status.expect("touch runs").success());
}

#[derive(Debug)]
enum Tear {
    Flip(usize),
    Cut(usize),
    Remove,
}

impl Tear {
    fn apply(&self, path: &Path) {
        let mut bytes = fs::read(path).expect("it is there");
        match self {
            Self::Flip(at) => bytes[*at] ^= 0x10,
            Self::Cut(length) => bytes.truncate(*length),
            Self::Remove => return fs::remove_file(path).expect("it is there"),
        }
        fs::write(path, bytes).expect("it can be written");
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", text(from), text(to)]).status();
    assert!(status.expect("cp runs").success());
}
