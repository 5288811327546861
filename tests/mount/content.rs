//! What is read from a mount: what a restore gives, by programs that know nothing of us.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{getxattr, listxattr};

use crate::mounted::{Mounted, good, make_wal_database, snapshot, sqlite3, text};
use crate::scratch::{Scratch, execute, hash_of};

/// A database `a` in WAL mode with two snapshots, the first tagged; their documents.
fn two_snapshots() -> (Scratch, [serde_json::Value; 2]) {
    let scratch = Scratch::with_repository();
    make_wal_database(&scratch.path("a.db"), 3000);
    let first = snapshot(&scratch, &["a.db", "--tag", "nightly"]);
    execute(&scratch.path("a.db"), "UPDATE orders SET item = 'changed' WHERE id = 17");
    let second = snapshot(&scratch, &["a.db"]);
    (scratch, [first, second])
}

const ITEM: &str = "SELECT count(*), max(item = 'changed') FROM orders";

#[test]
fn sqlite_opens_every_kind_of_path_without_flags() {
    let (scratch, [first, second]) = two_snapshots();
    let Some(mounted) = Mounted::new(&scratch, &[]) else { return };
    let shown = mounted.names("databases/a/snapshots");
    assert_eq!(shown.len(), 2);
    let first_id = text(&first, "id");
    let first_name = shown.iter().find(|name| name.ends_with(&format!("-{}.db", &first_id[..8]))).unwrap();
    let captured = text(&first, "captured");
    let old = [
        format!("databases/a/snapshots/{first_name}"),
        format!("databases/a/at/{captured}/a.db"),
        format!("by-id/{first_id}.db"),
        format!("by-id/{}.db", &first_id[..6]),
        format!("tags/nightly/{}", mounted.names("tags/nightly")[0]),
    ];
    let new = [
        "databases/a/latest.db".to_owned(),
        "databases/a/at/0 seconds ago/a.db".to_owned(),
        format!("databases/a/at/{}/a.db", text(&second, "captured")),
        format!("by-id/{}.db", text(&second, "id")),
    ];
    let all = old.iter().map(|path| (path, "3000|0")).chain(new.iter().map(|path| (path, "3000|1")));
    for (path, expected) in all {
        assert_eq!(sqlite3(&mounted.path(path), ITEM), expected, "{path}");
        let python = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1])\n\
                      print(*c.execute(sys.argv[2]).fetchone(), sep='|')\n\
                      assert c.execute('PRAGMA integrity_check').fetchone()[0] == 'ok'";
        let printed = good(Command::new("python3").args(["-c", python]).arg(mounted.path(path)).arg(ITEM));
        assert_eq!(printed.trim_end(), expected, "{path}");
    }
    // A state is one file, wherever it is found.
    let number = |path: &String| fs::metadata(mounted.path(path)).unwrap().ino();
    assert!(old.iter().all(|path| number(path) == number(&old[0])) && number(&old[0]) != number(&new[0]));
    assert_eq!(mounted.names("databases/a"), ["at", "latest.db", "snapshots"]);
    assert_eq!(mounted.names("databases/a/snapshots"), shown);
    mounted.stop();
}

#[test]
fn sqldiff_tells_what_changed_between_two_states() {
    let (scratch, [first, second]) = two_snapshots();
    let Some(mounted) = Mounted::new(&scratch, &[]) else { return };
    let [first, second] = [first, second].map(|snapshot| mounted.by_id(text(&snapshot, "id")));
    let difference = good(Command::new("sqldiff").args([&first, &second]));
    assert_eq!(difference, "UPDATE orders SET item='changed' WHERE id=17;\n");
    assert_eq!(good(Command::new("sqldiff").args([&second, &mounted.path("databases/a/latest.db")])), "");
}

/// Restores a snapshot beside the repository.
fn restored(scratch: &Scratch, id: &str) -> Vec<u8> {
    let target = format!("{id}.restored");
    scratch.run(&["restore", id, "--to", &target]).expect(0, &[]);
    fs::read(scratch.path(&target)).unwrap()
}

fn attribute(path: &Path, name: &str) -> String {
    let mut value = [0; 256];
    let bytes = getxattr(path, name, &mut value).unwrap();
    String::from_utf8(value[..bytes].to_vec()).unwrap()
}

#[test]
fn files_are_what_a_restore_gives() {
    let (scratch, snapshots) = two_snapshots();
    let Some(exact) = Mounted::new(&scratch, &["--exact"]) else { return };
    let Some(mounted) = Mounted::new(&scratch, &["--cache-size", "1MiB"]) else { return };
    for snapshot in &snapshots {
        let id = text(snapshot, "id");
        let mut expected = restored(&scratch, id);
        assert_eq!(expected[18..20], [2, 2]);
        assert!(fs::read(exact.by_id(id)).unwrap() == expected);
        expected[18..20].fill(1);
        assert!(fs::read(mounted.by_id(id)).unwrap() == expected);
        for one in [&exact, &mounted] {
            assert_eq!(attribute(&one.by_id(id), "user.blake3"), text(snapshot, "blake3"));
            assert_eq!(attribute(&one.by_id(id), "user.continuum.captured"), text(snapshot, "captured"));
            assert_eq!(attribute(&one.by_id(id), "user.continuum.snapshot"), id);
            assert_eq!(attribute(&one.by_id(id), "user.continuum.commit"), snapshot["commit"].to_string());
        }
        assert_eq!(hash_of(&exact.by_id(id)), text(snapshot, "blake3"));
        let dump = |path: &Path| sqlite3(path, ".dump");
        assert!(dump(&mounted.by_id(id)) == dump(&scratch.path(&format!("{id}.restored"))));
    }
    let mut names = [0; 256];
    let bytes = listxattr(mounted.path("databases/a/latest.db"), &mut names).unwrap();
    assert_eq!(names[..bytes].split(|byte| *byte == 0).filter(|name| !name.is_empty()).count(), 4);
    assert!(getxattr(mounted.path("databases"), "user.blake3", &mut names).is_err());
    exact.stop();
    mounted.stop();
}

#[test]
fn files_of_every_page_size_are_what_a_restore_gives() {
    let scratch = Scratch::with_repository();
    let sizes = [512, 1024, 8192, 65_536];
    let ids = sizes.map(|size| {
        let name = format!("p{size}.db");
        execute(&scratch.path(&name), &format!("PRAGMA page_size = {size}"));
        let connection = rusqlite::Connection::open(scratch.path(&name)).unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA page_size = {size};
                 CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB);
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
                 INSERT INTO t SELECT i, randomblob(300) FROM n;"
            ))
            .unwrap();
        text(&snapshot(&scratch, &[&name]), "id").to_owned()
    });
    let Some(mounted) = Mounted::new(&scratch, &["--exact"]) else { return };
    for (id, size) in ids.iter().zip(sizes) {
        assert!(fs::read(mounted.by_id(id)).unwrap() == restored(&scratch, id), "{size}");
        assert_eq!(sqlite3(&mounted.path(&format!("databases/p{size}/latest.db")), "SELECT count(*) FROM t"), "2000");
    }
    mounted.stop();
}

/// Reads at random places, in a process of its own, and compares.
const RANDOM_READS: &str = "
import os, random, sys
shown, expected, seed = os.open(sys.argv[1], os.O_RDONLY), open(sys.argv[2], 'rb').read(), int(sys.argv[3])
draw = random.Random(seed)
for _ in range(400):
    at, size = draw.randrange(len(expected) + 10000), draw.choice([1, 100, 4096, 70000])
    found = os.pread(shown, size, at)
    assert found == expected[at:at + size], (at, size, len(found))
";

#[test]
fn several_processes_read_at_random() {
    let scratch = Scratch::with_repository();
    crate::scratch::make_database(&scratch.path("a.db"), 60_000);
    let id = text(&snapshot(&scratch, &["a.db"]), "id").to_owned();
    let expected = scratch.path("a.db");
    // Less than the file: chunks go and come again.
    let Some(mounted) = Mounted::new(&scratch, &["--cache-size", "1MiB"]) else { return };
    let readers: Vec<_> = (0..4)
        .map(|seed: u32| {
            let mut command = Command::new("python3");
            command.args(["-c", RANDOM_READS]).arg(mounted.by_id(&id)).arg(&expected).arg(seed.to_string());
            command.spawn().unwrap()
        })
        .collect();
    for mut reader in readers {
        assert!(reader.wait().unwrap().success());
    }
    assert!(!mounted.said().contains("notice"), "{}", mounted.said());
    mounted.stop();
}
