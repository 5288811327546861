//! What a mount does not do.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;

use rustix::io::Errno;

use crate::mounted::{Mounted, can_mount};
use crate::scratch::Scratch;

fn is_read_only<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::ROFS))
}

#[test]
fn nothing_can_be_written() {
    let scratch = Scratch::with_snapshot();
    let Some(mounted) = Mounted::new(&scratch, &["--allow-other"]) else { return };
    let latest = mounted.path("databases/a/latest.db");
    let before = fs::read(&latest).unwrap();
    assert!(is_read_only(File::options().write(true).open(&latest)));
    assert!(is_read_only(File::options().read(true).write(true).open(&latest)));
    assert!(is_read_only(File::create(mounted.path("databases/a/new.db"))));
    assert!(is_read_only(fs::create_dir(mounted.path("databases/new"))));
    assert!(is_read_only(fs::remove_file(&latest)));
    assert!(is_read_only(fs::rename(&latest, mounted.path("databases/a/other.db"))));
    assert!(is_read_only(std::os::unix::fs::symlink("x", mounted.path("y"))));
    assert!(is_read_only(fs::set_permissions(&latest, Permissions::from_mode(0o600))));
    assert!(fs::read(&latest).unwrap() == before);
    mounted.stop();
}

#[test]
fn only_the_owner_may_read_unless_others_are_let() {
    let scratch = Scratch::with_snapshot();
    for (options, file, folder) in [(&[][..], 0o400, 0o500), (&["--allow-other"], 0o444, 0o555)] {
        let Some(mounted) = Mounted::new(&scratch, options) else { return };
        let mode = |name: &str| fs::metadata(mounted.path(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("databases/a/latest.db"), mode("databases/a")), (file, folder));
        mounted.stop();
    }
}

#[test]
fn folders_that_cannot_be_mounted_on_are_named() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::with_snapshot();
    fs::create_dir(scratch.path("full")).unwrap();
    fs::write(scratch.path("full/file"), "x").unwrap();
    scratch.run(&["mount", "nowhere"]).expect(1, &["nowhere: cannot be mounted on", "make the folder first"]);
    scratch.run(&["mount", "a.db"]).expect(1, &["a.db: cannot be mounted on", "directory"]);
    scratch.run(&["mount", "full"]).expect(1, &["full: the folder is not empty", "choose an empty folder"]);
    scratch.run(&["mount", "full", "--cache-size", "much"]).expect(2, &["a size like 256MiB"]);
    scratch.run(&["mount"]).expect(2, &["DIR"]);
    let Some(mounted) = Mounted::new(&scratch, &[]) else { return };
    let folder = mounted.path("");
    let folder = folder.to_str().unwrap().trim_end_matches('/');
    scratch.run(&["mount", folder]).expect(1, &["something is mounted there already", "umount"]);
    mounted.stop();
}
