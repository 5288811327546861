//! The options of `check`: a share of the packs, footers, no key.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod scratch;

use scratch::{Outcome, Scratch, execute, make_database, patch};

/// Panics unless these words were shown on standard output.
fn expect_shown(outcome: &Outcome, words: &[&str]) {
    words.iter().for_each(|word| assert!(outcome.stdout.contains(word), "{word:?} expected in {}", outcome.stdout));
}

/// A repository with several packs.
fn several_packs() -> Scratch {
    let scratch = Scratch::with_repository();
    make_database(&scratch.path("a.db"), 2000);
    for turn in 0..6 {
        execute(
            &scratch.path("a.db"),
            &format!("CREATE TABLE t{turn} (x); INSERT INTO t{turn} VALUES (randomblob(30000));"),
        );
        scratch.run(&["snapshot", "a.db", "--strategy", "full"]).expect(0, &[]);
    }
    scratch
}

#[test]
fn a_share_a_day_goes_through_all_packs() {
    let scratch = several_packs();
    let packs = scratch.json(&["check"])["packs"].as_u64().unwrap();
    assert!(packs >= 6);
    let mut never = packs;
    for run in 0..packs {
        let checked = scratch.json(&["check", "--read-data-subset", "1b"]);
        assert_eq!((checked["read_packs"].as_u64(), checked["cut_short"].as_bool()), (Some(1), Some(false)), "{run}");
        never -= 1;
        assert_eq!(checked["never_read_packs"].as_u64(), Some(never));
    }
    let again = scratch.run(&["check", "--read-data-subset", "5%"]).expect(0, &[]);
    expect_shown(&again, &["all packs were read within the last"]);
    let all = scratch.json(&["check", "--read-data-subset", "3/3"]);
    assert_eq!(all["read_packs"].as_u64(), Some(packs));
    let cut = scratch.run(&["check", "--read-data", "--max-duration", "0"]).expect(0, &[]);
    expect_shown(&cut, &["time was up"]);
    scratch.run(&["check", "--max-duration", "10m"]).expect(2, &["--read-data"]);
    scratch.run(&["check", "--read-data-subset", "much"]).expect(2, &["an amount like"]);
}

#[test]
fn footers_show_damage_at_the_ends_of_packs() {
    let scratch = several_packs();
    expect_shown(&scratch.run(&["check", "--footers"]).expect(0, &[]), &["no damage found"]);
    let pack = scratch.object("packs/");
    patch(&scratch.repository().join(&pack), |bytes| {
        let at = bytes.len() - 60;
        bytes[at] ^= 1;
    });
    scratch.run(&["check"]).expect(0, &[]);
    scratch.run(&["check", "--footers"]).expect(3, &[&pack]);
}

#[test]
fn a_mirror_without_a_key_finds_what_hashes_show() {
    let scratch = several_packs();
    let keyless = || {
        let mut command = scratch.command();
        command.args(["check", "--keyless"]).env_remove("CONTINUUM_PASSWORD");
        scratch::finish(&mut command)
    };
    expect_shown(&keyless().expect(0, &[]), &["no damage found", "not seen without a key"]);
    for prefix in ["packs/", "index/", "keys/", "timelines/", "config"] {
        let name = scratch.object(prefix);
        let path = scratch.repository().join(&name);
        patch(&path, |bytes| bytes[1] ^= 1);
        keyless().expect(3, &[&name]);
        patch(&path, |bytes| bytes[1] ^= 1);
    }
    std::fs::write(scratch.repository().join("index/note"), b"note").unwrap();
    keyless().expect(3, &["index/note"]);
}
