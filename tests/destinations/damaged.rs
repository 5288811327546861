//! Objects of a destination are damaged, cut off or deleted.

use std::fs;
use std::path::Path;

use crate::ledger::Ledger;
use crate::points::Point;
use crate::support::text;
use crate::three::{ALL, Three};
use crate::watcher::Watcher;

/// The kinds of objects.
const KINDS: [&str; 6] = ["packs/", "index/", "timelines/", "keys/", "journal/", "config"];

/// What is done to an object.
const DAMAGES: [&str; 4] = ["bits are flipped", "the beginning is zeroed", "it is cut off", "it is deleted"];

fn damage(path: &Path, how: &str) {
    match how {
        "it is deleted" => fs::remove_file(path).expect("it is there"),
        "it is cut off" => change(path, |bytes| bytes.truncate(bytes.len() / 2)),
        "the beginning is zeroed" => change(path, |bytes| bytes[..4].fill(0)),
        _ => change(path, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
        }),
    }
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("it is there");
    change(&mut bytes);
    fs::write(path, bytes).expect("written");
}

/// A repository with objects of all kinds, and its restore points: of `app`, snapshots; of `ledger`, commits in a journal that is not folded.
fn with_all_kinds() -> (Three, Vec<Point>, Vec<Point>) {
    let three = Three::with_snapshots(2);
    let ledger = Ledger::new(three.path("ledger.db"), 51);
    let mut application = ledger.run("wal", 100);
    ledger.wait_for_ack(5);
    let arguments = [text(&ledger.database), "--flush-interval", "0.1", "--fold-interval", "600"];
    let mut watcher = Watcher::attached(&three.repository, "ledger", &arguments);
    ledger.wait_for_ack(ledger.last_ack() + 40);
    application.kill();
    std::thread::sleep(std::time::Duration::from_millis(600));
    watcher.kill();
    let (app, ledger) = (three.points(&ALL, "app"), three.points(&ALL, "ledger"));
    assert!(app.len() == 2 && ledger.len() > 5);
    three.wait_until_same();
    (three, app, ledger)
}

/// Damage on one destination never keeps anything from being restored; `sync --read-data` finds and mends it, and then finds nothing.
#[test]
fn on_one_destination() {
    let (three, app, ledger) = with_all_kinds();
    let whole = three.objects("a");
    for (number, kind) in KINDS.iter().enumerate() {
        for what in DAMAGES {
            let name = ALL[number % 3];
            let object = three.object(name, kind);
            damage(&three.path(name).join(&object), what);
            let context = format!("{object} of {name}: {what}");
            println!("{context}");
            three.restore(&ALL, "app", &app[0]);
            three.restore(&ALL, "ledger", &ledger[ledger.len() - 1]);
            let place = three.path(name).display().to_string();
            let is_deleted = what == "it is deleted";
            let planned = three.run(&["sync", "--read-data", "--dry-run"]).expect(0, &[]);
            let said = if is_deleted { "lacks 1 object".to_owned() } else { format!("WRONG: {place}: {object}") };
            assert!(planned.stdout.contains(&said), "{context}: {}", planned.all());
            let done = three.json(&ALL, 0, &["sync", "--read-data"]);
            assert_eq!(
                (&done["copied"], &done["replaced"]),
                (&1.into(), &u64::from(!is_deleted).into()),
                "{context}: {done}"
            );
            let again = three.run(&["sync", "--read-data"]).expect(0, &[]);
            assert!(again.stdout.contains("every destination is whole"), "{context}: {}", again.all());
            assert!(three.objects(name) == whole, "{context}: the mended copy is another");
        }
    }
    three.run(&["check", "--read-data"]).expect(0, &[]);
}

/// Damage on two destinations is said by whoever reads it, names both, and is mended from the third. Of what only keys can tell from another, most copies
/// being right would be chance: here the user decides.
#[test]
fn on_two_destinations() {
    let (three, app, ledger) = with_all_kinds();
    let whole = three.objects("c");
    for kind in KINDS {
        let object = three.object("a", kind);
        let places = ["a", "b"].map(|name| three.path(name).join(&object));
        change(&places[0], |bytes| *bytes.last_mut().expect("not empty") ^= 1);
        change(&places[1], |bytes| bytes[20] ^= 2);
        println!("{object}");
        let restore = |names: &[&str]| {
            let said = three.restore(names, "app", &app[0]).stderr;
            said + &three.restore(names, "ledger", &ledger[ledger.len() - 1]).stderr
        };
        let mut said = String::new();
        for _ in 0..20 {
            said += &restore(&ALL);
            if said.contains("is damaged, another destination's copy is good") {
                break;
            }
        }
        // A pack's end is padding, which nobody reads.
        if kind != "packs/" {
            assert!(said.contains(&object), "nobody said that {object} is damaged: {said}");
            assert!(["a", "b"].iter().any(|name| said.contains(text(&three.path(name)))), "{said}");
        }
        three.run(&["check", "--read-data"]).code.filter(|code| [0, 3].contains(code)).expect("it goes on");
        let undecidable = ["timelines/", "journal/"].contains(&kind);
        let prefer = ["sync", "--read-data", "--prefer", text(&three.path("c"))].map(str::to_owned);
        if undecidable {
            let outcome = three.run(&["sync", "--read-data"]).expect(3, &[]);
            assert!(outcome.stdout.contains(&format!("CONFLICT: {object}")), "{}", outcome.all());
        }
        let arguments: Vec<&str> = prefer.iter().map(String::as_str).take(if undecidable { 4 } else { 2 }).collect();
        three.run(&arguments).expect(0, &[]);
        assert!(ALL.iter().all(|name| three.objects(name) == whole), "{object} is not mended");
    }
    three.assert_whole();
}

/// What is damaged everywhere is lost, and everything else is not.
#[test]
fn on_all_destinations() {
    let (three, app, _) = with_all_kinds();
    for kind in ["packs/", "index/"] {
        let object = three.object("a", kind);
        let kept = fs::read(three.path("a").join(&object)).expect("it is there");
        for name in ALL {
            change(&three.path(name).join(&object), |bytes| bytes[20] ^= 1);
        }
        let outcome = three.run(&["sync", "--read-data"]).expect(3, &[]);
        assert!(
            outcome.stdout.contains(&format!("LOST: no destination has a good copy of {object}")),
            "{}",
            outcome.all()
        );
        three.run(&["check", "--read-data"]).expect(3, &[]);
        fs::write(three.path("b").join(&object), kept).expect("written");
        three.run(&["sync", "--read-data"]).expect(0, &[]);
        three.assert_whole();
    }
    three.restore_all(&ALL, "app", &app);
}

/// Every object of a destination is damaged.
#[test]
fn a_destination_of_which_nothing_is_good() {
    let (three, app, ledger) = with_all_kinds();
    let whole = three.objects("a");
    for object in three.objects("b").into_keys() {
        change(&three.path("b").join(object), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    }
    three.restore_all(&ALL, "app", &app);
    three
        .restore(&ALL, "ledger", &ledger[ledger.len() - 1])
        .expect(0, &["config is damaged, another destination's copy is good"]);
    three.snapshot_on(&ALL).expect(0, &[]);
    three.run(&["sync", "--read-data"]).expect(0, &[]);
    three.assert_whole();
    assert!(whole.iter().all(|(name, bytes)| three.objects("b").get(name) == Some(bytes)));
}
