//! Destinations that were rolled back, or that two machines wrote to at once.

use std::fs;
use std::path::Path;

use crate::support::text;
use crate::three::{ALL, Outcome, Three, change};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copied");
        }
    }
}

/// One destination is replaced by an older copy of itself: nothing is lost, it is said, and nothing forks.
#[test]
fn one_is_rolled_back() {
    for (name, syncs_first) in [("a", true), ("b", false), ("c", false), ("a", false)] {
        let three = Three::with_snapshots(2);
        copy(&three.path(name), &three.path("older"));
        three.snapshot();
        three.snapshot();
        fs::remove_dir_all(three.path(name)).expect("it is there");
        fs::rename(three.path("older"), three.path(name)).expect("renamed");
        let at = ALL.iter().position(|other| *other == name).expect("one of them");
        assert_eq!(three.destinations(0)[at]["lacking_entries"], 2);
        let said = three.run(&["destinations"]).expect(0, &[]).stdout;
        assert!(said.contains("with 2 restore points"), "{said}");
        // Who saw the newer head does not believe the old one alone.
        three.snapshot_on(&[name]).expect(3, &["rolled back"]);
        if syncs_first {
            three.run(&["sync"]).expect(0, &[]);
        }
        three.snapshot();
        let points = three.points(&ALL, "app");
        assert_eq!(points.len(), 5);
        three.restore_all(&ALL, "app", &points);
        three.run(&["sync"]).expect(0, &[]);
        three.restore_all(&[name], "app", &points);
        three.assert_whole();
    }
}

/// Two machines that each see another one of two destinations.
fn forked(longer: bool) -> Three {
    let three = Three::new();
    fs::remove_dir_all(three.path("c")).expect("it is there");
    three.snapshot_on(&["a", "b"]).expect(0, &[]);
    for (sees, hidden, machine) in [("a", "b", "state"), ("b", "a", "other-state")] {
        three.take_away(hidden, false);
        for _ in 0..if longer && sees == "b" { 3 } else { 1 } {
            let database = three.database();
            change(&database);
            let mut command = three.command(&["a", "b"], &["snapshot", text(&database)]);
            Outcome::of(command.env("XDG_STATE_HOME", three.path(machine))).expect(0, &[text(&three.path(hidden))]);
        }
        three.bring_back(hidden);
    }
    three
}

/// Seen together, the fork is said by every command, nothing is written until somebody decides, and what is decided against is kept.
#[test]
fn two_machines_wrote_at_once() {
    for (preferred, longer) in [("a", false), ("b", false), ("a", true), ("b", true)] {
        let three = forked(longer);
        println!("{preferred} is preferred, {}", if longer { "b is longer" } else { "both have one entry" });
        let both = ["a", "b"];
        three.snapshot_on(&both).expect(3, &["hold different", "continuum sync"]);
        three.on(&both, &["check"]).expect(3, &[]);
        let outcome = three.on(&both, &["sync"]).expect(3, &[]);
        assert!(
            outcome.stdout.contains("CONFLICT: timelines/") && outcome.stdout.contains("--prefer"),
            "{}",
            outcome.all()
        );
        let expected = three.objects(preferred);
        three.on(&both, &["sync", "--prefer", text(&three.path(preferred))]).expect(0, &[]);
        let entries = |name| {
            three.objects(name).into_iter().filter(|(name, _)| name.starts_with("timelines/")).collect::<Vec<_>>()
        };
        assert_eq!(entries("a"), entries("b"));
        assert!(entries("a").iter().all(|(name, bytes)| expected.get(name) == Some(bytes)));
        let kept = fs::read_dir(three.path("state/continuum/replaced")).expect("what was replaced is kept").count();
        assert_eq!(kept, if longer && preferred == "a" { 3 } else { 1 });
        let again = three.on(&both, &["sync", "--read-data"]).expect(0, &[]);
        assert!(again.stdout.contains("every destination is whole"), "{}", again.all());
        let points = three.points(&both, "app");
        assert_eq!(points.len(), if longer && preferred == "b" { 4 } else { 2 });
        three.restore_all(&both, "app", &points);
        three.on(&both, &["check", "--read-data"]).expect(0, &[]);
        // This machine goes on; the other one, if it was decided against, asks for a decision of its own.
        three.snapshot_on(&both).expect(0, &[]);
        let mut command = three.command(&both, &["snapshot", text(&three.database())]);
        let other = Outcome::of(command.env("XDG_STATE_HOME", three.path("other-state")));
        let _ = if preferred == "b" { other.expect(0, &[]) } else { other.expect(3, &["rolled back or altered"]) };
        let points = three.points(&["b"], "app");
        three.restore_all(&["a"], "app", &points);
    }
}
