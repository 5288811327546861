//! A repository on three folders, `a`, `b` and `c`, of which the program is told all or some.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use crate::ledger::PATIENCE;
use crate::points::{self, Point};
use crate::support::{Repository, hash_of, text};

/// All of them, in the order in which the program is told.
pub const ALL: [&str; 3] = ["a", "b", "c"];

/// Options of `init` that make deriving the key cheap.
pub const CHEAP: [&str; 5] = ["init", "--kdf-memory-mib", "1", "--kdf-passes", "1"];

/// See the module documentation.
pub struct Three {
    pub repository: Repository,
}

impl Three {
    /// With an empty repository.
    pub fn new() -> Self {
        let three = Self { repository: Repository::on(&ALL) };
        three.run(&CHEAP).expect(0, &[]);
        three
    }

    /// With a database `app` of some snapshots, each of another state.
    pub fn with_snapshots(count: u32) -> Self {
        let three = Self::new();
        (0..count).for_each(|_| three.snapshot());
        three
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.repository.path(name)
    }

    /// The database that [`Self::snapshot`] changes.
    pub fn database(&self) -> PathBuf {
        self.path("app.db")
    }

    /// The program, told of these destinations.
    pub fn command(&self, names: &[&str], arguments: &[&str]) -> Command {
        let places: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        let named = places.iter().flat_map(|place| ["-r", text(place)]);
        let all: Vec<&str> = named.chain(arguments.iter().copied()).collect();
        self.repository.command_on(&all)
    }

    /// The program on these destinations, to its end.
    pub fn on(&self, names: &[&str], arguments: &[&str]) -> Outcome {
        Outcome::of(&mut self.command(names, arguments))
    }

    /// The program on all destinations, to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.on(&ALL, arguments)
    }

    /// The document that a command prints; it ends with `code`.
    #[track_caller]
    pub fn json(&self, names: &[&str], code: i32, arguments: &[&str]) -> Value {
        let outcome = self.on(names, &[arguments, &["--json"]].concat()).expect(code, &[]);
        serde_json::from_str(&outcome.stdout).expect("one JSON document")
    }

    /// Another state of the database.
    pub fn change(&self) {
        change(&self.database());
    }

    /// Another state of the database, and its snapshot on all destinations.
    #[track_caller]
    pub fn snapshot(&self) {
        self.snapshot_on(&ALL).expect(0, &[]);
    }

    /// Another state of the database, and the attempt to take a snapshot of it.
    pub fn snapshot_on(&self, names: &[&str]) -> Outcome {
        self.change();
        self.on(names, &["snapshot", text(&self.database())])
    }

    /// Restore points of a database, as these destinations list them.
    #[track_caller]
    pub fn points(&self, names: &[&str], database: &str) -> Vec<Point> {
        points::parse(&self.json(names, 0, &["log", database]))
    }

    /// Restores every one of these points from these destinations alone.
    #[track_caller]
    pub fn restore_all<'p>(&self, names: &[&str], database: &str, points: impl IntoIterator<Item = &'p Point>) {
        for point in points {
            self.restore(names, database, point);
        }
    }

    /// Restores a point from these destinations; what the program said.
    #[track_caller]
    pub fn restore(&self, names: &[&str], database: &str, point: &Point) -> Outcome {
        let target = self.path("restored.db");
        let _ = fs::remove_file(&target);
        let commit = point.commit.to_string();
        let arguments = ["restore", "--name", database, "--commit", &commit, "--to", text(&target)];
        let outcome = self.on(names, &arguments).expect(0, &[]);
        assert_eq!(hash_of(&target), point.blake3, "commit {commit} from {names:?}");
        outcome
    }

    /// All objects of a destination.
    pub fn objects(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let root = self.path(name);
        let mut objects = BTreeMap::new();
        collect(&root, &root, &mut objects);
        objects
    }

    /// The path of the first object of a destination whose name begins so.
    #[track_caller]
    pub fn object(&self, name: &str, prefix: &str) -> String {
        let objects = self.objects(name);
        objects.into_keys().find(|object| object.starts_with(prefix)).unwrap_or_else(|| panic!("no {prefix} in {name}"))
    }

    /// All destinations have the same objects, with the same bytes.
    #[track_caller]
    pub fn assert_same(&self) {
        let expected = self.objects("a");
        assert!(expected.contains_key("config"), "a is no repository");
        for name in &ALL[1..] {
            let found = self.objects(name);
            let names = |objects: &BTreeMap<String, Vec<u8>>| objects.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&found), names(&expected), "{name} and a");
            assert!(found == expected, "{name} and a have the same names and other bytes");
        }
    }

    /// Waits until all destinations have the same objects, which nobody writes any more.
    #[track_caller]
    pub fn wait_until_same(&self) {
        let end = Instant::now() + PATIENCE;
        while ALL[1..].iter().any(|name| self.objects(name) != self.objects("a")) {
            if Instant::now() > end {
                self.assert_same();
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// As when a disk is unmounted; with `leaves_folder`, its mount point stays.
    pub fn take_away(&self, name: &str, leaves_folder: bool) {
        fs::rename(self.path(name), self.path(&format!("{name}-away"))).expect("renamed");
        if leaves_folder {
            fs::create_dir(self.path(name)).expect("a new folder");
        }
    }

    /// It is there again; nobody may have written to its place meanwhile.
    #[track_caller]
    pub fn bring_back(&self, name: &str) {
        let place = self.path(name);
        if place.exists() {
            let left = fs::read_dir(&place).expect("a folder").next();
            assert!(left.is_none(), "something was written to the place of {name}: {left:?}");
            fs::remove_dir(&place).expect("an empty folder");
        }
        fs::rename(self.path(&format!("{name}-away")), place).expect("renamed back");
    }

    /// What `destinations --json` says of each.
    #[track_caller]
    pub fn destinations(&self, code: i32) -> Vec<Value> {
        self.json(&ALL, code, &["destinations"])["destinations"].as_array().expect("a list").clone()
    }

    /// Every destination has everything, by name and by bytes, and nothing waits for any.
    #[track_caller]
    pub fn assert_whole(&self) {
        for destination in self.destinations(0) {
            assert_eq!((&destination["lacking"], &destination["owed"]), (&0.into(), &0.into()), "{destination}");
        }
        let outcome = self.run(&["sync", "--read-data"]).expect(0, &[]);
        assert!(outcome.stdout.contains("every destination is whole"), "{}", outcome.all());
        self.assert_same();
    }
}

/// Another state of a database, which is made if it is not there.
pub fn change(database: &Path) {
    let connection = Connection::open(database).expect("it opens");
    let sql = "CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, body BLOB);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
         INSERT INTO note (body) SELECT randomblob(200) FROM n;";
    connection.execute_batch(sql).expect("rows");
}

fn collect(root: &Path, folder: &Path, objects: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let name = path.strip_prefix(root).expect("below").to_str().expect("UTF-8").to_owned();
        if path.is_dir() {
            collect(root, &path, objects);
        } else if !name.starts_with("tmp/")
            && let Ok(bytes) = fs::read(&path)
        {
            objects.insert(name, bytes);
        }
    }
}

/// How a command ended.
pub struct Outcome {
    pub what: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Of a command, run to its end.
    pub fn of(command: &mut Command) -> Self {
        let what = format!("{:?}", command.get_args().collect::<Vec<_>>());
        let output = command.output().expect("the binary runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { what, code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Everything that is known of it.
    pub fn all(&self) -> String {
        let Self { what, code, stdout, stderr } = self;
        format!("{what}: code {code:?}\nstdout: {stdout}\nstderr: {stderr}")
    }

    /// It ended so, with these words on standard error, and without a panic.
    #[track_caller]
    pub fn expect(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "exit code of {}", self.all());
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} expected in {}", self.all());
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.all());
        self
    }
}
