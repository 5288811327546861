//! The Python reader beside the specification restores what this program writes, byte for byte; so the pages suffice.

#[path = "reader/by_hand.rs"]
mod by_hand;
mod program;
#[path = "program/watch.rs"]
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use by_hand::{Hand, History, NAME, Step};
use continuum::base::id::ObjectHash;
use continuum::format::manifest::LayerKind;
use program::{Place, add_rows, format_spec, good, make_database, python};
use rusqlite::Connection;
use serde_json::Value;
use watch::Watch;

/// A database whose snapshots are kept beside copies of it.
struct Kept<'p> {
    place: &'p Place,
    path: PathBuf,
    /// Ids with the database as it was.
    images: Vec<(String, Vec<u8>)>,
}

impl<'p> Kept<'p> {
    fn new(place: &'p Place, page_size: u32) -> Self {
        let path = place.path("notes.db");
        make_database(&path, page_size, 300);
        Self { place, path, images: Vec::new() }
    }

    /// Changes the database.
    fn change(&self, sql: &str) {
        Connection::open(&self.path).expect("the database").execute_batch(sql).expect("a change");
    }

    /// Adds that many rows.
    fn grow(&self, first: u32, rows: u32) {
        add_rows(&Connection::open(&self.path).expect("the database"), first, rows);
    }

    /// Takes a snapshot; the strategy that was used.
    fn snapshot(&mut self, strategy: &str) -> String {
        let path = self.path.to_str().expect("a path of UTF-8");
        let taken = self.place.json(&["snapshot", "--strategy", strategy, path]);
        let taken = &taken["snapshots"][0];
        self.keep(&taken["id"]);
        taken["strategy"].as_str().expect("a strategy").to_owned()
    }

    /// Folds the layers of the last snapshot; how many there were, and are.
    fn compact(&mut self, options: &[&str]) -> [u64; 2] {
        let done = self.place.json(&[&["compact", "notes"], options].concat());
        self.keep(&done["id"]);
        ["layers_before", "layers_after"].map(|field| done[field].as_u64().expect("a number of layers"))
    }

    fn keep(&mut self, id: &Value) {
        let id = id.as_str().expect("an id").to_owned();
        self.images.push((id, std::fs::read(&self.path).expect("the database")));
    }

    /// Every snapshot is restored by both, and is the database that it was.
    fn check_snapshots(&self) {
        for (nth, (id, image)) in self.images.iter().enumerate() {
            assert!(self.place.read_by_python(id) == *image, "the reader restores another snapshot {nth}, {id}");
            assert!(self.place.restored(id) == *image, "the program restores another snapshot {nth}, {id}");
        }
    }

    /// Every state that the program lists is restored by both, and has the hash that is listed.
    fn check_log(&self) {
        let log = self.place.json(&["log", "notes"]);
        let points = log["points"].as_array().expect("a list of states");
        let commits: BTreeSet<(u64, &str)> = points.iter().map(|point| (commit(point), hash(point))).collect();
        assert!(commits.len() > 1);
        for (commit, hash) in commits {
            let number = commit.to_string();
            let read = self.restored_by(&number, |target| {
                self.place.reader(&["restore", "--commit", &number, target, "--database", "notes"]);
            });
            assert_eq!(hash, blake3::hash(&read).to_hex().as_str(), "the reader restores another commit {commit}");
            let restored = self.restored_by(&number, |target| {
                self.place.continuum(&["restore", "--commit", &number, "--name", "notes", "--to", target]);
            });
            assert!(read == restored, "the program restores another commit {commit}");
        }
    }

    /// The bytes of what `restore` makes at the path that it is given.
    fn restored_by(&self, name: &str, restore: impl FnOnce(&str)) -> Vec<u8> {
        let target = self.place.path(&format!("commit-{name}.db"));
        restore(target.to_str().expect("a path of UTF-8"));
        take(target.to_str().expect("a path of UTF-8"))
    }

    /// The reader lists the snapshots with the commits and strategies that the program says.
    fn check_list(&self) {
        let list = String::from_utf8(self.place.reader(&["list", "--database", "notes"])).expect("text");
        let fields = |line: &str| -> Vec<String> { line.split('\t').map(str::to_owned).collect() };
        let lines: Vec<Vec<String>> = list.lines().map(fields).collect();
        assert_eq!(lines.len(), self.images.len());
        let log = self.place.json(&["log", "notes"]);
        for point in log["points"].as_array().expect("a list of states") {
            let Some(id) = point["snapshot"].as_str() else { continue };
            let line = lines.iter().find(|line| line[0] == id[..8]).expect("the snapshot is listed");
            let kind = point["kind"].as_str().expect("a strategy");
            assert_eq!([&line[3], &line[4], &line[8]], [kind, &commit(point).to_string(), hash(point)], "{id}");
        }
    }
}

fn commit(point: &Value) -> u64 {
    point["commit"].as_u64().expect("a number")
}

fn hash(point: &Value) -> &str {
    point["blake3"].as_str().expect("a hash")
}

fn place(cipher: &str) -> Place {
    let place = Place::new();
    place.continuum(&["init", "--cipher", cipher, "--kdf-memory-mib", "1", "--kdf-passes", "1"]);
    place
}

/// A full, incrementals of a database that grows, shrinks and grows again, a differential, and compactions.
fn check_strategies(page_size: u32, cipher: &str) {
    let place = place(cipher);
    let mut kept = Kept::new(&place, page_size);
    assert_eq!(kept.snapshot("auto"), "full");
    kept.change("UPDATE note SET title = 'changed' WHERE id % 50 = 7");
    assert_eq!(kept.snapshot("incremental"), "incremental");
    kept.grow(1000, 40);
    assert_eq!(kept.snapshot("incremental"), "incremental");
    assert_eq!(kept.snapshot("incremental"), "incremental");
    // Pages are cut off and others take their place, so that what is below counts as zeros.
    kept.change("DELETE FROM note WHERE id > 150; VACUUM");
    assert_eq!(kept.snapshot("incremental"), "incremental");
    kept.grow(2000, 250);
    assert_eq!(kept.snapshot("incremental"), "incremental");
    kept.change("UPDATE note SET body = 'short' WHERE id BETWEEN 2000 AND 2020");
    assert_eq!(kept.snapshot("differential"), "differential");
    kept.change("UPDATE note SET title = 'again' WHERE id = 20");
    assert_eq!(kept.snapshot("incremental"), "incremental");
    kept.change("UPDATE note SET title = 'anew' WHERE id = 20; DELETE FROM note WHERE id > 2200; VACUUM");
    assert_eq!(kept.snapshot("incremental"), "incremental");
    let [before, after] = kept.compact(&[]);
    assert!(before > after && after > 1, "{before} layers became {after}");
    kept.change("UPDATE note SET title = 'once more' WHERE id < 9");
    assert_eq!(kept.snapshot("incremental"), "incremental");
    let [before, after] = kept.compact(&["--full"]);
    assert!(before > 1 && after == 1, "{before} layers became {after}");
    kept.change("UPDATE note SET title = 'at last' WHERE id = 1");
    assert_eq!(kept.snapshot("incremental"), "incremental");
    assert_eq!(kept.snapshot("full"), "full");
    kept.check_snapshots();
    kept.check_log();
    kept.check_list();
}

#[test]
fn reads_every_strategy_with_pages_of_512() {
    check_strategies(512, "aes-256-gcm");
}

#[test]
fn reads_every_strategy_with_pages_of_4096() {
    check_strategies(4096, "chacha20-poly1305");
}

#[test]
fn reads_every_strategy_with_pages_of_65536() {
    check_strategies(65_536, "aes-256-gcm");
}

/// More incrementals than a stack has layers, so that they are folded on the way; those around the fold are looked at.
#[test]
fn reads_incrementals_that_were_folded() {
    let place = place("aes-256-gcm");
    let mut kept = Kept::new(&place, 1024);
    kept.snapshot("full");
    for nth in 0..36 {
        match nth % 8 {
            3 => kept.change("DELETE FROM note WHERE id % 3 = 0; VACUUM"),
            5 => kept.grow(1000 * nth, 60),
            _ => kept.change(&format!("UPDATE note SET title = 'title {nth}' WHERE id % 40 = {nth}")),
        }
        assert_eq!(kept.snapshot("incremental"), "incremental");
    }
    kept.check_list();
    kept.images.drain(..29);
    kept.check_snapshots();
}

/// Everything that the format allows of deltas and journals, restored by both for each commit.
#[test]
fn reads_states_made_by_hand() {
    let place = place("aes-256-gcm");
    let hand = Hand::new(&place);
    let mut history = History::new(1, 20);
    let mut layers = vec![hand.image(&history)];
    hand.snapshot(&history, layers.clone());
    // Several steps a layer, one step a layer, and steps of several segments.
    for (steps, growth) in [(9, 12), (1, 12), (12, 30), (1, 30_000), (3, 30_000), (1, 30)] {
        let steps: Vec<Step> = (0..steps).map(|_| history.step(growth)).collect();
        layers.push(hand.delta(&steps));
        hand.snapshot(&history, layers.clone());
    }
    assert!(layers.iter().any(|layer| layer.kind == LayerKind::Delta && layer.segments.len() > 2));
    let base = hand.snapshot(&history, vec![hand.image(&history)]);
    hand.watch(2);
    let mut steps = |count| (0..count).map(|_| history.step(20)).collect::<Vec<Step>>();
    let (first, second, third, fourth, missing, fifth) = (steps(2), steps(1), steps(3), steps(1), steps(1), steps(1));
    let other = ObjectHash([7; 32]);
    hand.journal(1, 1, &[(base, &first)]);
    hand.journal(1, 3, &[(other, &fifth), (base, &first), (base, &second)]);
    hand.journal(2, 1, &[(base, &second), (base, &third)]);
    hand.journal(2, 9, &[(other, &missing), (base, &fourth)]);
    let last = missing[0].commit() - 1;
    for (commit, image) in history.states.iter().filter(|(commit, _)| *commit <= last) {
        let (commit, target) = (commit.to_string(), place.path("by-hand.db"));
        let target = target.to_str().expect("a path of UTF-8");
        place.reader(&["restore", "--commit", &commit, target]);
        assert!(take(target) == *image, "the reader restores another commit {commit}");
        let name = ["--name", NAME, "--integrity-check=false"];
        place.continuum(&[&["restore", "--commit", &commit, "--to", target], &name[..]].concat());
        assert!(take(target) == *image, "the program restores another commit {commit}");
    }
    // A gap, and a commit behind it.
    hand.journal(2, 10, &[(base, &fifth)]);
    let newest = &history.states[last as usize - 1].1;
    assert!(place.read_by_python("latest") == *newest, "the newest state is the last one before the gap");
    for commit in last + 1..=history.commit() {
        let (code, said) = refusal(&place, &commit.to_string());
        assert!(code == Some(3) && said.starts_with("reader: missing-journal: "), "commit {commit}: {said}");
    }
}

/// A watcher's commits are read from its journal after it was killed, and from the layer that another makes of them.
#[test]
fn reads_what_a_watcher_captures() {
    let place = place("aes-256-gcm");
    let kept = Kept::new(&place, 4096);
    let writer = Connection::open(&kept.path).expect("the database");
    writer.execute_batch("PRAGMA journal_mode = wal").expect("WAL mode");
    let watched = |first: u64| {
        let watch = Watch::new(&place, &kept.path);
        watch.await_commit("notes", first);
        for nth in first..first + 8 {
            writer.execute("UPDATE note SET title = 'watched' WHERE id = ?", [nth as i64]).expect("a change");
            sleep(Duration::from_millis(20));
        }
        watch.await_commit("notes", first + 8);
        watch
    };
    watched(1).kill();
    kept.check_log();
    assert!(place.read_by_python("latest") == place.restored("latest"), "the newest state is in the journal");
    let killed = journal_objects(&place);
    assert!(!killed.is_empty());
    watched(9).stop();
    kept.check_log();
    assert!(journal_objects(&place).is_subset(&killed), "a watcher that ends leaves nothing in its journal");
}

/// The paths of what is in journals.
fn journal_objects(place: &Place) -> BTreeSet<PathBuf> {
    let entries = |folder: &Path| folder.read_dir().into_iter().flatten().map(|entry| entry.expect("an entry").path());
    entries(&place.path("repository").join("journal")).flat_map(|writer| entries(&writer).collect::<Vec<_>>()).collect()
}

/// The bytes of a file that is not needed any more.
fn take(path: &str) -> Vec<u8> {
    let bytes = std::fs::read(path).expect("the restored file");
    std::fs::remove_file(path).expect("the restored file");
    bytes
}

/// Incrementals of a database in WAL mode that stays open: its file alone is not the state, so hashes are compared.
#[test]
fn reads_incrementals_from_a_wal() {
    let place = place("aes-256-gcm");
    let mut kept = Kept::new(&place, 4096);
    let writer = Connection::open(&kept.path).expect("the database");
    writer.execute_batch("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0").expect("WAL mode");
    kept.snapshot("full");
    for nth in 1..6 {
        add_rows(&writer, 1000 * nth, 5);
        writer.execute("UPDATE note SET title = 'title' WHERE id = ?", [nth]).expect("a change");
        if nth == 3 {
            writer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").expect("a checkpoint");
        }
        kept.snapshot("incremental");
    }
    kept.check_log();
    kept.check_list();
}

/// A state that nobody took is no state.
#[test]
fn says_that_there_is_no_such_commit() {
    let place = place("aes-256-gcm");
    Kept::new(&place, 4096).snapshot("full");
    for commit in ["0", "2", "77"] {
        let (code, said) = refusal(&place, commit);
        assert_eq!((code, said.contains("no state of commit")), (Some(2), true), "{said}");
    }
}

/// How the reader ends when it cannot restore a commit, and what it says.
fn refusal(place: &Place, commit: &str) -> (Option<i32>, String) {
    let target = place.path("refused.db");
    let mut command = python();
    command.arg(format_spec("reader.py")).arg(place.path("repository")).args(["restore", "--commit", commit]);
    let output = command.arg(&target).env("CONTINUUM_PASSWORD", program::PASSWORD).output().expect("the reader runs");
    assert!(!target.exists());
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

/// A repository of one cipher with databases of three page sizes, each in one snapshot a codec.
fn check_cipher(cipher: &str) {
    let place = place(cipher);
    let mut images = Vec::new();
    for page_size in [512, 4096, 65_536] {
        let path = place.path(&format!("pages-{page_size}.db"));
        make_database(&path, page_size, 300);
        for (nth, compression) in (1..).zip(["zstd", "lz4", "gzip", "none"]) {
            add_rows(&Connection::open(&path).expect("the database"), 1000 * nth, 200);
            let path_text = path.to_str().expect("a path of UTF-8");
            let taken = place.json(&["snapshot", "--compression", compression, path_text]);
            let id = taken["snapshots"][0]["id"].as_str().expect("an id").to_owned();
            images.push((id, std::fs::read(&path).expect("the database")));
        }
    }
    for (id, image) in images {
        assert!(place.read_by_python(&id) == image, "{cipher}: snapshot {id} differs from the database");
    }
}

#[test]
fn reads_aes_256_gcm() {
    check_cipher("aes-256-gcm");
}

#[test]
fn reads_chacha20_poly1305() {
    check_cipher("chacha20-poly1305");
}

#[test]
fn finds_the_newest_snapshot() {
    let place = Place::new();
    place.continuum(&["init", "--kdf-memory-mib", "1", "--kdf-passes", "1"]);
    let path = place.path("notes.db");
    make_database(&path, 1024, 10);
    place.continuum(&["snapshot".as_ref(), path.as_os_str()]);
    add_rows(&Connection::open(&path).expect("the database"), 1000, 10);
    place.continuum(&["snapshot".as_ref(), path.as_os_str()]);
    assert!(place.read_by_python("latest") == std::fs::read(&path).expect("the database"));
    assert!(place.restored("latest") == std::fs::read(&path).expect("the database"));
}

#[test]
fn satisfies_the_vectors() {
    let output = good(python().arg(format_spec("reader.py")).arg("vectors").arg(format_spec("vectors")));
    let output = String::from_utf8(output).expect("text");
    assert!(output.ends_with(" vectors ok\n"), "{output}");
}
