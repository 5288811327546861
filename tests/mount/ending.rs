//! How a mount ends: by signals, by others, and by a kill.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use crate::mounted::{Mounted, PATIENCE, good};
use crate::scratch::Scratch;

#[test]
fn a_signal_unmounts_although_a_file_is_open() {
    let scratch = Scratch::with_snapshot();
    for signal in [Signal::INT, Signal::TERM] {
        let Some(mut mounted) = Mounted::new(&scratch, &[]) else { return };
        let open = File::open(mounted.path("databases/a/latest.db")).unwrap();
        open.read_exact_at(&mut [0; 100], 0).unwrap();
        let mut reader = Command::new("sh");
        reader.args(["-c", "exec 3< \"$1\"; exec sleep 100", "sh"]).arg(mounted.path("databases/a/latest.db"));
        let mut reader = reader.spawn().unwrap();
        sleep(Duration::from_millis(200));
        mounted.signal(signal);
        assert!(mounted.ended().success(), "{}", mounted.said());
        assert!(mounted.said().contains("while some program has files of it open"), "{}", mounted.said());
        assert!(!mounted.is_mounted());
        // The reader lives; it has what the kernel kept, and errors for the rest.
        assert!(reader.try_wait().unwrap().is_none());
        reader.kill().unwrap();
        reader.wait().unwrap();
        drop(open);
    }
}

#[test]
fn a_signal_unmounts_what_nobody_uses() {
    let scratch = Scratch::with_snapshot();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let Some(mut mounted) = Mounted::new(&scratch, &["--foreground"]) else { return };
        fs::read(mounted.path("databases/a/latest.db")).unwrap();
        mounted.signal(signal);
        assert!(mounted.ended().success());
        assert!(mounted.said().contains("unmounted") && !mounted.said().contains("open"), "{}", mounted.said());
        assert!(!mounted.is_mounted());
    }
}

#[test]
fn somebody_else_unmounts() {
    let scratch = Scratch::with_snapshot();
    let Some(mut mounted) = Mounted::new(&scratch, &[]) else { return };
    let program = if rustix::process::geteuid().is_root() { "umount" } else { "fusermount3" };
    let arguments: &[&str] = if program == "umount" { &[] } else { &["-u"] };
    good(Command::new(program).args(arguments).arg(mounted.path("")));
    assert!(mounted.ended().success());
    assert!(mounted.said().contains("was unmounted"), "{}", mounted.said());
}

/// What a killed mount leaves is named, with what to do.
#[test]
fn a_killed_mount_leaves_a_place_that_can_be_freed() {
    let scratch = Scratch::with_snapshot();
    let Some(mut mounted) = Mounted::new(&scratch, &[]) else { return };
    mounted.child.kill().unwrap();
    mounted.child.wait().unwrap();
    let folder = mounted.path("");
    let end = std::time::Instant::now() + PATIENCE;
    while fs::read_dir(&folder).is_ok() && std::time::Instant::now() < end {
        sleep(Duration::from_millis(10));
    }
    scratch
        .run(&["mount", folder.to_str().unwrap()])
        .expect(1, &["a mount stands there whose process has ended", "fusermount3 -u "]);
    drop(mounted);
    assert!(fs::read_dir(&folder).unwrap().next().is_none());
}
