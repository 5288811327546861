//! The commands that change something, each with a place in which it has something to do.
//!
//! A command that is added to the program gets its row here.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::place::{Place, State, hash_of};
use crate::tracer::Call;

/// A command to be disturbed.
pub struct Case {
    /// As it is called in reports.
    pub name: &'static str,
    /// Makes the place in which it runs. Databases are in the folder beside the place.
    pub prepare: fn(&Place),
    /// The command. Relative paths begin at the place.
    pub arguments: &'static [&'static str],
    /// Repositories that must be whole at every moment, if they are there.
    pub whole: &'static [&'static str],
    /// Repositories that must be whole when the command has succeeded.
    pub made: &'static [&'static str],
    /// What a second run may refuse with after a first one that had done all but end.
    pub refusal: Option<&'static str>,
    /// A question, and what is said to it once two runs have ended well.
    pub settled: Option<(&'static [&'static str], &'static str)>,
    /// What may stand at `target/a.db`.
    pub target: Target,
    /// Which calls may fail without the command failing.
    pub is_best_effort: fn(&Call) -> bool,
}

/// What may stand at `target/a.db` whenever the command is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing, or an acknowledged state.
    StateOrNothing,
    /// The same, or what stood there before; which is never lost, but may have been set aside.
    StateOrOld,
    /// Anything: the command says that it works in place.
    Anything,
}

/// What stands at `target/a.db` where something does.
pub const OLD_TARGET: &str = "what stood there before";

/// What this client remembers may get lost, and leftovers may stay for another day.
fn is_memory_or_tidying(call: &Call) -> bool {
    let path = call.path.to_string_lossy();
    let is_tidying = call.name == "unlink" && path.contains("/tmp/") || call.name == "openat" && path.ends_with("/tmp");
    let is_leftover = call.name == "unlink" && path.ends_with(".partial");
    is_tidying || is_leftover || path.contains("/state/") || path.contains("/cache/")
}

const SNAPSHOT: &[&str] = &["-r", "repository", "snapshot", "../databases/a.db"];

/// Stands for the id of the first snapshot in `repository`.
pub const FIRST_SNAPSHOT: &str = "<first snapshot>";

/// All but the last two, which can come back for so long as is named behind it.
const FORGET: &[&str] = &[
    "-r",
    "repository",
    "forget",
    "--keep-last",
    "2",
    "--min-count",
    "1",
    "--allow-odd-times",
    "--yes",
    "--grace",
    "7d",
];

/// Of a command that writes to `repository` alone.
const ON_REPOSITORY: Case = Case {
    name: "",
    prepare: with_snapshots,
    arguments: &[],
    whole: &["repository"],
    made: &["repository"],
    refusal: None,
    settled: None,
    target: Target::StateOrNothing,
    is_best_effort: is_memory_or_tidying,
};

/// See the module documentation.
pub const CASES: &[Case] = &[
    Case {
        name: "init",
        prepare: nothing,
        arguments: &["-r", "repository", "init", "--kdf-memory-mib", "1", "--kdf-passes", "1"],
        refusal: Some("already"),
        ..ON_REPOSITORY
    },
    Case { name: "snapshot, the first", prepare: with_repository, arguments: SNAPSHOT, ..ON_REPOSITORY },
    Case { name: "snapshot, incremental", prepare: with_change, arguments: SNAPSHOT, ..ON_REPOSITORY },
    Case {
        name: "snapshot, differential",
        prepare: with_change,
        arguments: &["-r", "repository", "snapshot", "--strategy", "differential", "../databases/a.db"],
        ..ON_REPOSITORY
    },
    Case {
        name: "snapshot, full again",
        prepare: with_change,
        arguments: &["-r", "repository", "snapshot", "--strategy", "full", "../databases/a.db"],
        ..ON_REPOSITORY
    },
    Case { name: "snapshot, folding a journal", prepare: with_journal, arguments: SNAPSHOT, ..ON_REPOSITORY },
    Case {
        name: "snapshot, to two",
        prepare: with_two_destinations,
        arguments: &["-r", "repository", "-r", "second", "snapshot", "../databases/a.db"],
        whole: &["repository+second"],
        made: &["repository+second"],
        settled: Some((&["-r", "repository", "-r", "second", "sync"], "every destination is whole")),
        // The other one has it, and this one is brought up to date later.
        is_best_effort: |_| true,
        ..ON_REPOSITORY
    },
    Case { name: "compact", arguments: &["-r", "repository", "compact", "a"], ..ON_REPOSITORY },
    Case { name: "compact, full", arguments: &["-r", "repository", "compact", "a", "--full"], ..ON_REPOSITORY },
    Case {
        name: "copy",
        prepare: with_other,
        arguments: &["-r", "repository", "copy", "--to", "other"],
        whole: &["repository", "other"],
        made: &["repository", "other"],
        ..ON_REPOSITORY
    },
    Case {
        name: "sync",
        arguments: &["-r", "repository", "-r", "second", "sync"],
        whole: &["repository"],
        made: &["repository", "second"],
        ..ON_REPOSITORY
    },
    Case { name: "forget", arguments: FORGET, ..ON_REPOSITORY },
    Case {
        name: "unforget",
        prepare: with_forgotten,
        arguments: &["-r", "repository", "unforget", "--all"],
        ..ON_REPOSITORY
    },
    Case {
        name: "hold",
        arguments: &["-r", "repository", "hold", FIRST_SNAPSHOT, "--reason", "trial"],
        ..ON_REPOSITORY
    },
    Case {
        name: "prune",
        prepare: with_forgotten,
        arguments: &["-r", "repository", "prune", "--min-age", "0h"],
        settled: Some((&["-r", "repository", "prune", "--min-age", "0h", "--dry-run"], "nothing to give up")),
        ..ON_REPOSITORY
    },
    Case {
        name: "repair, the index",
        prepare: without_index,
        arguments: &["-r", "repository", "repair", "--read-data", "--yes"],
        whole: &[],
        settled: Some((&["-r", "repository", "repair", "--read-data", "--yes"], "nothing to mend")),
        ..ON_REPOSITORY
    },
    Case {
        name: "repair, from another",
        prepare: with_one_damaged,
        arguments: &["-r", "repository", "-r", "second", "repair", "--read-data", "--yes"],
        whole: &["second"],
        made: &["repository+second"],
        settled: Some((&["-r", "repository", "-r", "second", "sync"], "every destination is whole")),
        ..ON_REPOSITORY
    },
    Case { name: "verify", arguments: &["-r", "repository", "verify"], ..ON_REPOSITORY },
    Case {
        name: "key add",
        arguments: &["-r", "repository", "key", "add", "--label", "b", "--kdf-memory-mib", "1", "--kdf-passes", "1"],
        ..ON_REPOSITORY
    },
    Case { name: "restore", arguments: &["-r", "repository", "restore", "--to", "target/a.db"], ..ON_REPOSITORY }
        .refusing("exists already"),
    Case {
        name: "restore, over a file",
        prepare: with_old_target,
        arguments: &["-r", "repository", "restore", "--force", "--to", "target/a.db"],
        target: Target::StateOrOld,
        ..ON_REPOSITORY
    },
    Case {
        name: "restore, in place",
        prepare: with_standing_database,
        arguments: &["-r", "repository", "restore", "--in-place", "--to", "target/a.db"],
        target: Target::Anything,
        ..ON_REPOSITORY
    },
];

impl Case {
    const fn refusing(self, words: &'static str) -> Self {
        Self { refusal: Some(words), ..self }
    }

    /// Whether what stands at the target of a disturbed command is as promised.
    pub fn check_target(&self, place: &Place, known: &std::collections::BTreeSet<State>) -> Result<(), String> {
        let target = place.path("target/a.db");
        let found = target.exists().then(|| hash_of(&target));
        let is_state = |hash: &String| known.iter().any(|state| state.root == *hash);
        let old = blake3::hash(OLD_TARGET.as_bytes()).to_hex().to_string();
        match (self.target, &found) {
            (Target::Anything, _) | (_, None) => {}
            (_, Some(hash)) if is_state(hash) => {}
            (Target::StateOrOld, Some(hash)) if *hash == old => {}
            (_, Some(hash)) => return Err(format!("target/a.db has the hash {hash}")),
        }
        let mut standing = fs::read_dir(place.path("target")).unwrap().flatten();
        if self.target == Target::StateOrOld && !standing.any(|entry| hash_of(&entry.path()) == old) {
            return Err("what stood at the target is gone".to_owned());
        }
        Ok(())
    }
}

fn database(place: &Place) -> PathBuf {
    place.root().parent().unwrap().join("databases/a.db")
}

/// Some 30 pages of random bytes, in rollback-journal mode.
fn make_database(place: &Place) -> Connection {
    fs::create_dir_all(database(place).parent().unwrap()).unwrap();
    let connection = Connection::open(database(place)).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, content BLOB);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
             INSERT INTO t SELECT i, randomblob(1000) FROM n;",
        )
        .unwrap();
    connection
}

/// Changes a few pages.
fn change(place: &Place, number: u32) {
    let connection = Connection::open(database(place)).unwrap();
    let sql = format!(
        "UPDATE t SET content = randomblob(1000) WHERE id % 31 = {number}; INSERT INTO t (content) VALUES (randomblob(3000));"
    );
    connection.execute_batch(&sql).unwrap();
}

fn init(place: &Place, repository: &str) {
    succeeds(place, &["-r", repository, "init", "--label", "a", "--kdf-memory-mib", "1", "--kdf-passes", "1"]);
}

#[track_caller]
fn succeeds(place: &Place, arguments: &[&str]) {
    place.run(arguments).unwrap();
}

fn nothing(place: &Place) {
    make_database(place);
}

fn with_repository(place: &Place) {
    make_database(place);
    init(place, "repository");
}

/// A full snapshot and two incremental ones.
fn with_snapshots(place: &Place) {
    with_repository(place);
    succeeds(place, SNAPSHOT);
    for number in 1..=2 {
        change(place, number);
        succeeds(place, SNAPSHOT);
    }
}

fn with_change(place: &Place) {
    with_snapshots(place);
    change(place, 3);
}

/// Five snapshots, of which one is a full one again, and the first three are forgotten, for good.
fn with_forgotten(place: &Place) {
    with_snapshots(place);
    change(place, 3);
    succeeds(place, &["-r", "repository", "snapshot", "--strategy", "full", "../databases/a.db"]);
    change(place, 4);
    succeeds(place, SNAPSHOT);
    let grace = FORGET.len() - 1;
    succeeds(place, &[&FORGET[..grace], &["0h"]].concat());
}

fn without_index(place: &Place) {
    with_snapshots(place);
    fs::remove_dir_all(place.path("repository/index")).unwrap();
}

/// Of two destinations one has a pack with a wrong byte, and lacks its index.
fn with_one_damaged(place: &Place) {
    with_two_destinations(place);
    succeeds(place, &["-r", "repository", "-r", "second", "snapshot", "../databases/a.db"]);
    fs::remove_dir_all(place.path("repository/index")).unwrap();
    let pack = place.files("repository/packs").remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    bytes[200] ^= 1;
    fs::write(&pack, bytes).unwrap();
}

fn with_two_destinations(place: &Place) {
    make_database(place);
    let both = ["-r", "repository", "-r", "second"];
    succeeds(place, &[&both[..], &["init", "--kdf-memory-mib", "1", "--kdf-passes", "1"]].concat());
    succeeds(place, &[&both[..], &["snapshot", "../databases/a.db"]].concat());
    change(place, 1);
}

fn with_other(place: &Place) {
    with_snapshots(place);
    init(place, "other");
}

fn with_old_target(place: &Place) {
    with_snapshots(place);
    fs::write(place.path("target/a.db"), OLD_TARGET).unwrap();
}

fn with_standing_database(place: &Place) {
    with_snapshots(place);
    fs::copy(database(place), place.path("target/a.db")).unwrap();
    let standing = Connection::open(place.path("target/a.db")).unwrap();
    standing.execute_batch("UPDATE t SET content = randomblob(1000) WHERE id % 5 = 0").unwrap();
}

/// Commits that a watcher captured before it was killed.
fn with_journal(place: &Place) {
    let connection = make_database(place);
    connection.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    init(place, "repository");
    let mut watcher = place.command(&["-r", "repository", "watch", "--flush-interval", "0.05", "../databases/a.db"]);
    let mut watcher = watcher.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    await_commits(place, 1, &mut watcher);
    for number in 1..=5 {
        connection.execute("UPDATE t SET content = randomblob(1000) WHERE id = ?", [number]).unwrap();
    }
    await_commits(place, 6, &mut watcher);
    watcher.kill().unwrap();
    watcher.wait().unwrap();
}

fn await_commits(place: &Place, count: usize, watcher: &mut Child) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !place.states("repository").is_ok_and(|states| states.len() >= count) {
        assert!(watcher.try_wait().unwrap().is_none(), "the watcher ended");
        assert!(Instant::now() < patience, "the watcher does not get on: {:?}", place.states("repository"));
        sleep(Duration::from_millis(20));
    }
}
