//! A destination that goes and comes back, and one that is damaged.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::mounted::{Mounted, make_wal_database, snapshot, sqlite3, text};
use crate::scratch::{Scratch, execute, patch};

fn is_io_error<T: std::fmt::Debug>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::IO))
}

#[test]
fn a_destination_goes_away_and_comes_back() {
    let scratch = Scratch::with_repository();
    make_wal_database(&scratch.path("a.db"), 3000);
    let first = snapshot(&scratch, &["a.db"]);
    execute(&scratch.path("a.db"), "UPDATE orders SET item = upper(item) || 'x'");
    let second = snapshot(&scratch, &["a.db"]);
    let Some(mut mounted) = Mounted::new(&scratch, &[]) else { return };
    let (read, unread) = (mounted.by_id(text(&first, "id")), mounted.by_id(text(&second, "id")));
    let content = fs::read(&read).unwrap();
    let open = File::open(&unread).unwrap();
    let (here, elsewhere) = (scratch.repository(), scratch.path("elsewhere"));
    fs::rename(&here, &elsewhere).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let began = Instant::now();
    // What is known is listed, what was read can be read, the rest is an error.
    assert_eq!(mounted.names("databases/a/snapshots").len(), 2);
    assert!(fs::read(&read).unwrap() == content);
    let mut buffer = vec![0; 4096];
    assert!(is_io_error(open.read_exact_at(&mut buffer, 40 * 4096)));
    assert!(is_io_error(fs::read(&unread)));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    mounted.wait_for_words("what was known before is shown");
    mounted.wait_for_words("a, commit 2: ");
    fs::rename(&elsewhere, &here).unwrap();
    open.read_exact_at(&mut buffer, 40 * 4096).unwrap();
    assert_eq!(sqlite3(&unread, "SELECT count(*) FROM orders WHERE item LIKE '%x'"), "3000");
    make_wal_database(&scratch.path("b.db"), 10);
    snapshot(&scratch, &["b.db"]);
    mounted.wait_until("the new database", || mounted.names("databases") == ["a", "b"]);
    mounted.wait_for_words("answers again");
    assert_eq!(sqlite3(&mounted.path("databases/b/latest.db"), "SELECT count(*) FROM orders"), "10");
    mounted.stop();
}

#[test]
fn what_is_damaged_is_an_error_and_nothing_else_is() {
    let scratch = Scratch::with_repository();
    make_wal_database(&scratch.path("a.db"), 3000);
    let first = snapshot(&scratch, &["a.db"]);
    let pack = scratch.object("packs/");
    make_wal_database(&scratch.path("b.db"), 3000);
    snapshot(&scratch, &["b.db"]);
    patch(&scratch.repository().join(pack), |bytes| bytes[200..].iter_mut().for_each(|byte| *byte ^= 1));
    let Some(mut mounted) = Mounted::new(&scratch, &[]) else { return };
    assert!(is_io_error(fs::read(mounted.by_id(text(&first, "id")))));
    mounted.wait_for_words("a, commit 1: ");
    assert_eq!(sqlite3(&mounted.path("databases/b/latest.db"), "SELECT count(*) FROM orders"), "3000");
    mounted.stop();
}

/// Which state is the newest cannot be told then; each snapshot that is there can be read.
#[test]
fn a_damaged_timeline_shows_its_snapshots_and_no_newest_state() {
    let scratch = Scratch::with_repository();
    for name in ["a.db", "b.db"] {
        make_wal_database(&scratch.path(name), 100);
    }
    let first = snapshot(&scratch, &["a.db"]);
    execute(&scratch.path("a.db"), "DELETE FROM orders WHERE id = 1");
    let before = scratch.objects();
    snapshot(&scratch, &["a.db"]);
    let added = scratch.objects().into_iter().find(|name| name.starts_with("timelines/") && !before.contains(name));
    snapshot(&scratch, &["b.db"]);
    patch(&scratch.repository().join(added.unwrap()), |bytes| bytes[60] ^= 1);
    let Some(mut mounted) = Mounted::new(&scratch, &[]) else { return };
    assert!(is_io_error(fs::metadata(mounted.path("databases/a/latest.db"))));
    assert!(is_io_error(fs::metadata(mounted.path("databases/a/at/0 seconds ago"))));
    mounted.wait_for_words("the timeline of a is damaged");
    assert_eq!(mounted.names("databases/a/snapshots").len(), 1);
    let count = "SELECT count(*) FROM orders";
    assert_eq!(sqlite3(&mounted.by_id(text(&first, "id")), count), "100");
    assert_eq!(sqlite3(&mounted.path("databases/b/latest.db"), count), "100");
    mounted.stop();
}
