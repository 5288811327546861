//! A mount in another process, and the programs that read from it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::scratch::Scratch;

/// How long to wait for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Unmounted and killed when it is dropped.
pub struct Mounted {
    pub child: Child,
    folder: PathBuf,
    said: PathBuf,
}

/// Whether anything can be mounted here; says so if not.
pub fn can_mount() -> bool {
    let opened = File::options().read(true).write(true).open("/dev/fuse");
    let may = geteuid().is_root() || Command::new("fusermount3").arg("-V").output().is_ok();
    let can = opened.is_ok() && may;
    if !can {
        eprintln!("SKIPPED: NOTHING CAN BE MOUNTED HERE (/dev/fuse: {:?}, root or fusermount3: {may})", opened.err());
    }
    can
}

impl Mounted {
    /// Mounts the repository, global options first, on a new folder; `None` where that is impossible.
    #[track_caller]
    pub fn new(scratch: &Scratch, options: &[&str]) -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let name = (1..).map(|number| format!("mnt-{number}")).find(|name| !scratch.path(name).exists()).unwrap();
        let (folder, said) = (scratch.path(&name), scratch.path(&format!("{name}.txt")));
        fs::create_dir(&folder).unwrap();
        let mut command = scratch.command();
        command.args(["--retry-for", "1", "mount"]).arg(&folder).args(options);
        let child = command.stdout(Stdio::null()).stderr(File::create(&said).unwrap()).spawn().unwrap();
        let mut mounted = Self { child, folder, said };
        mounted.wait_for_words("mounted on");
        Some(mounted)
    }

    /// A path in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Names in a folder of the mount, sorted.
    #[track_caller]
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The file of a snapshot.
    pub fn by_id(&self, id: &str) -> PathBuf {
        self.path(&format!("by-id/{id}.db"))
    }

    /// What it has said until now.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    /// Waits until it has said so.
    #[track_caller]
    pub fn wait_for_words(&mut self, words: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.said().contains(words) {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended before {words:?}: {}", self.said());
            assert!(Instant::now() < end, "no {words:?}: {}", self.said());
            sleep(Duration::from_millis(10));
        }
    }

    /// Waits until something holds.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "not yet {what}: {}", self.said());
            sleep(Duration::from_millis(100));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(!self.said().contains("panicked"), "{}", self.said());
                return status;
            }
            assert!(Instant::now() < end, "it does not end: {}", self.said());
            sleep(Duration::from_millis(10));
        }
    }

    /// Stops it; it must end well and leave an empty folder.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended();
        assert!(status.success(), "{status}: {}", self.said());
        assert!(!self.is_mounted());
        assert!(fs::read_dir(&self.folder).unwrap().next().is_none());
    }

    /// Whether anything is mounted there, alive or dead.
    pub fn is_mounted(&self) -> bool {
        let above = fs::metadata(self.folder.parent().unwrap()).unwrap();
        fs::metadata(&self.folder).map_or(true, |here| here.dev() != above.dev())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whatever of this is done already, or impossible.
        let _ = unmount(&self.folder, UnmountFlags::DETACH);
        if !geteuid().is_root() {
            let _ = Command::new("fusermount3").args(["-uzq", "--"]).arg(&self.folder).output();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The output of a program that succeeds.
#[track_caller]
pub fn good(command: &mut Command) -> String {
    let run = command.output();
    let Output { status, stdout, stderr } = run.unwrap_or_else(|error| {
        panic!("{command:?}: {error} (Debian: apt-get install sqlite3 sqlite3-tools python3)");
    });
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success() && stderr.is_empty(), "{command:?}: {status}\n{stderr}");
    String::from_utf8(stdout).unwrap()
}

/// What the stock shell prints.
#[track_caller]
pub fn sqlite3(database: &Path, sql: &str) -> String {
    good(Command::new("sqlite3").arg("-init").arg("/dev/null").arg("-batch").arg(database).arg(sql))
        .trim_end()
        .to_owned()
}

/// Makes a database in WAL mode.
pub fn make_wal_database(path: &Path, rows: u32) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             INSERT INTO orders SELECT i, hex(randomblob(100)) FROM n;"
        ))
        .unwrap();
}

/// Takes a snapshot of a database; its document.
#[track_caller]
pub fn snapshot(scratch: &Scratch, arguments: &[&str]) -> serde_json::Value {
    scratch.json(&[&["snapshot"], arguments].concat())["snapshots"][0].take()
}

/// A member of a document that is a text.
#[track_caller]
pub fn text<'a>(document: &'a serde_json::Value, member: &str) -> &'a str {
    document[member].as_str().unwrap_or_else(|| panic!("{member} in {document}"))
}
