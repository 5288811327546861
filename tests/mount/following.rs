//! A mount beside others that go on writing.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::mounted::{Mounted, make_wal_database, snapshot, sqlite3, text};
use crate::scratch::{Scratch, execute};

#[test]
fn new_snapshots_appear_and_open_files_keep_their_state() {
    let scratch = Scratch::with_repository();
    make_wal_database(&scratch.path("a.db"), 3000);
    let first = snapshot(&scratch, &["a.db"]);
    let Some(mounted) = Mounted::new(&scratch, &["--exact"]) else { return };
    let latest = mounted.path("databases/a/latest.db");
    let (mut open, before) = (File::open(&latest).unwrap(), fs::metadata(&latest).unwrap());
    execute(&scratch.path("a.db"), "DELETE FROM orders WHERE id > 1000; PRAGMA wal_checkpoint; VACUUM");
    make_wal_database(&scratch.path("b.db"), 10);
    let second = snapshot(&scratch, &["a.db"]);
    snapshot(&scratch, &["b.db", "--tag", "new"]);
    mounted.wait_until("two databases", || mounted.names("databases") == ["a", "b"]);
    mounted.wait_until("another file", || fs::metadata(&latest).unwrap().ino() != before.ino());
    assert_eq!(mounted.names("databases/a/snapshots").len(), 2);
    assert_eq!(mounted.names("tags"), ["new"]);
    assert!(mounted.by_id(text(&second, "id")).exists());
    let hash = |file: &mut File| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        blake3::hash(&bytes).to_hex().to_string()
    };
    assert_eq!(hash(&mut open), text(&first, "blake3"));
    assert_eq!(hash(&mut File::open(&latest).unwrap()), text(&second, "blake3"));
    mounted.stop();
}

struct Watcher(Child);

impl Watcher {
    fn new(scratch: &Scratch) -> Self {
        let mut command = scratch.command();
        command.args(["watch", "a.db", "--flush-interval", "0.1", "--fold-interval", "3"]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_newest_file_follows_a_watcher() {
    let scratch = Scratch::with_repository();
    let database = scratch.path("a.db");
    make_wal_database(&database, 1000);
    let watcher = Watcher::new(&scratch);
    let Some(mounted) = Mounted::new(&scratch, &[]) else { return };
    let latest = mounted.path("databases/a/latest.db");
    mounted.wait_until("a first state", || latest.exists());
    let application = rusqlite::Connection::open(&database).unwrap();
    let mut open = Vec::new();
    for turn in 0..8 {
        application.execute("UPDATE orders SET item = 'turn ' || ? WHERE id = 5", [turn]).unwrap();
        let item = "SELECT item FROM orders WHERE id = 5";
        mounted.wait_until("the newest commit", || sqlite3(&latest, item) == format!("turn {turn}"));
        // Its journal is folded while it is open.
        open.push((File::open(&latest).unwrap(), fs::metadata(&latest).unwrap().len()));
        sleep(Duration::from_millis(200));
        assert_eq!(sqlite3(&mounted.path("databases/a/at/0 seconds ago/a.db"), item), format!("turn {turn}"));
    }
    for (turn, (file, bytes)) in open.iter().enumerate() {
        let mut content = vec![0; *bytes as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        let words = format!("turn {turn}");
        assert!(content.windows(words.len()).any(|window| window == words.as_bytes()), "{words}");
    }
    let points = scratch.json(&["log", "a"]);
    let points = points["points"].as_array().unwrap();
    assert!(points.len() >= 8);
    for point in points {
        let path = mounted.path(&format!("databases/a/at/{}/a.db", text(point, "captured")));
        assert_eq!(sqlite3(&path, "SELECT count(*) FROM orders"), "1000");
    }
    drop(application);
    watcher.stop();
    mounted.stop();
}

/// Who does not look costs nothing.
#[test]
fn an_idle_mount_asks_nothing() {
    let scratch = Scratch::with_snapshot();
    let requests = |idle: Duration| {
        let mut mounted = Mounted::new(&scratch, &["--verbose"])?;
        sleep(idle);
        mounted.signal(Signal::INT);
        assert!(mounted.ended().success());
        let said = mounted.said();
        let counts = said.lines().find(|line| line.contains(" LIST")).map(str::to_owned);
        Some(counts.unwrap_or_else(|| panic!("no counts: {said}")))
    };
    let Some(at_once) = requests(Duration::ZERO) else { return };
    assert_eq!(requests(Duration::from_secs(5)), Some(at_once));
}
