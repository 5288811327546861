//! Names from the repository, which may be anything, as names of files.

use crate::mounted::{Mounted, make_wal_database, snapshot, sqlite3};
use crate::scratch::Scratch;

#[test]
fn names_from_the_repository_are_made_safe() {
    let scratch = Scratch::with_repository();
    make_wal_database(&scratch.path("a.db"), 50);
    let long = "ö".repeat(127);
    let names = ["...", ".hidden", "100%", "%2Ehidden", "a b — ö", "latest.db", &long, &format!("{long}x")];
    for name in names {
        snapshot(&scratch, &["a.db", "--name", name, "--tag", "../../etc", "--tag", ".", "--tag", "a b"]);
    }
    let Some(mounted) = Mounted::new(&scratch, &[]) else { return };
    let shown = mounted.names("databases");
    assert_eq!(shown.len(), names.len());
    for name in ["%2E..", "%2Ehidden", "100%25", "%252Ehidden", "a b — ö", "latest.db"] {
        assert!(shown.contains(&name.to_owned()), "{name} in {shown:?}");
    }
    assert_eq!(shown.iter().filter(|name| name.starts_with("öööööööööö") && name.len() <= 150).count(), 2);
    for name in &shown {
        for path in ["latest.db".to_owned(), format!("at/0 seconds ago/{name}.db")] {
            let path = mounted.path(&format!("databases/{name}/{path}"));
            assert_eq!(sqlite3(&path, "SELECT count(*) FROM orders"), "50", "{path:?}");
        }
        assert_eq!(mounted.names(&format!("databases/{name}/snapshots")).len(), 1);
    }
    let tags = mounted.names("tags");
    assert_eq!(tags, ["%2E", "%2E.%2F..%2Fetc", "a b"]);
    for tag in &tags {
        let files = mounted.names(&format!("tags/{tag}"));
        assert_eq!(files.len(), names.len());
        assert_eq!(sqlite3(&mounted.path(&format!("tags/{tag}/{}", files[0])), "SELECT count(*) FROM orders"), "50");
    }
    mounted.stop();
}

#[test]
fn only_the_databases_that_are_named_are_shown() {
    let scratch = Scratch::with_repository();
    make_wal_database(&scratch.path("a.db"), 50);
    for name in ["a", "b", "c"] {
        snapshot(&scratch, &["a.db", "--name", name]);
    }
    let Some(mounted) = Mounted::new(&scratch, &["--name", "b"]) else { return };
    assert_eq!((mounted.names("databases"), mounted.names("by-id").len()), (vec!["b".to_owned()], 1));
    let Some(both) = Mounted::new(&scratch, &["--name", "b", "--name", "a", "--name", "x"]) else { return };
    assert_eq!(both.names("databases"), ["a", "b"]);
    assert!(both.said().contains("no snapshot of a database named \"x\" yet"), "{}", both.said());
}

#[test]
fn times_that_mean_nothing_are_not_there() {
    let scratch = Scratch::with_repository();
    make_wal_database(&scratch.path("a.db"), 50);
    let taken = snapshot(&scratch, &["a.db"]);
    let Some(mounted) = Mounted::new(&scratch, &[]) else { return };
    assert!(mounted.names("databases/a/at").is_empty());
    for path in ["at/3 days ago/a.db", "at/soon", "at/1970-01-01", "at/0 seconds ago/b.db", "latest.db-wal", "x"] {
        assert!(!mounted.path(&format!("databases/a/{path}")).exists(), "{path}");
    }
    let id = taken["id"].as_str().unwrap();
    for path in [&id[..3], "ffff", &format!("{id}0"), ""] {
        assert!(!mounted.by_id(path).exists() || id.starts_with("ffff"), "{path}");
    }
    assert!(mounted.by_id(&id[..4]).exists());
    assert_eq!(mounted.names("databases/a/at/0 seconds ago"), ["a.db"]);
}
