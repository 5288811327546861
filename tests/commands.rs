//! Each command's good path, from the real program: its JSON, its codecs, its ciphers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod scratch;

use std::fs;
use std::process::Command;

use scratch::{CHEAP, Scratch, execute, finish, hash_of, init, make_database, patch};

#[test]
fn every_codec_and_cipher_restores_what_was_captured() {
    for cipher in ["aes-256-gcm", "chacha20-poly1305"] {
        let scratch = Scratch::new();
        init(&scratch, &["--cipher", cipher]).expect(0, &[]);
        let codecs =
            [("zstd", Some("19")), ("zstd", None), ("lz4", None), ("gzip", Some("1")), ("gzip", None), ("none", None)];
        for (i, (codec, level)) in codecs.into_iter().enumerate() {
            let database = scratch.path("a.db");
            let _ = fs::remove_file(&database);
            make_database(&database, 2000);
            let text = format!("UPDATE orders SET item = 'text of the row ' || id || ' {i}' WHERE id % 3 > 0");
            execute(&database, &text);
            let mut arguments = vec!["snapshot", "a.db", "--compression", codec];
            if let Some(level) = level {
                arguments.extend(["--compression-level", level]);
            }
            if i % 2 == 0 {
                arguments.push("--no-verify");
            }
            scratch.run(&arguments).expect(0, &[]);
            let target = format!("{i}.db");
            scratch.run(&["restore", "--to", &target]).expect(0, &[]);
            finish(Command::new("cmp").args([database, scratch.path(&target)])).expect(0, &[]);
        }
        scratch.run(&["check", "--read-data"]).expect(0, &[]);
    }
}

/// Whether a document has these members and names its format.
#[track_caller]
fn expect_document(text: &str, format: &str, members: &[&str]) -> serde_json::Value {
    let document: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(document["format"], format);
    expect_members(&document, &[&["format"], members].concat());
    document
}

#[track_caller]
fn expect_members(object: &serde_json::Value, expected: &[&str]) {
    let mut expected = expected.to_vec();
    let mut found: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

/// Members of a snapshot that was taken.
const TAKEN: [&str; 23] = [
    "id",
    "database",
    "sequence",
    "commit",
    "lineage",
    "strategy",
    "tier",
    "reasons",
    "changed_pages",
    "layers",
    "source",
    "captured",
    "tags",
    "journal_mode",
    "page_size",
    "page_count",
    "image_bytes",
    "blake3",
    "new_chunks",
    "new_packs",
    "new_pack_bytes",
    "new_index_bytes",
    "seconds",
];

/// Members of a snapshot in a listing.
const LISTED: [&str; 19] = [
    "id",
    "database",
    "sequence",
    "strategy",
    "captured",
    "host",
    "source",
    "tags",
    "tool",
    "journal_mode",
    "page_size",
    "page_count",
    "image_bytes",
    "blake3",
    "added_bytes",
    "verified",
    "forgotten_until",
    "held",
    "damaged",
];

#[test]
fn json_is_as_documented() {
    let scratch = Scratch::new();
    let run = |arguments: &[&str]| scratch.run(&[&["--json"], arguments].concat()).expect(0, &[]).stdout;
    let init = run(&[&["init"], &CHEAP[..]].concat());
    expect_document(&init, "continuum.init/1", &["repository", "location", "cipher", "single_writer"]);
    make_database(&scratch.path("a.db"), 100);

    let taken = expect_document(&run(&["snapshot", "a.db", "--tag", "t"]), "continuum.snapshot/1", &["snapshots"]);
    let taken = &taken["snapshots"][0];
    expect_members(taken, &TAKEN);
    let list = expect_document(&run(&["snapshots"]), "continuum.snapshots/1", &["snapshots", "faults"]);
    let listed = &list["snapshots"][0];
    expect_members(listed, &LISTED);
    for member in ["id", "database", "sequence", "captured", "blake3", "tags", "image_bytes"] {
        assert_eq!(taken[member], listed[member], "{member}");
    }
    assert_eq!(listed["blake3"], hash_of(&scratch.path("a.db")));

    let members = [
        "snapshot",
        "database",
        "commit",
        "captured",
        "target",
        "bytes",
        "written_bytes",
        "resumed_bytes",
        "blake3",
        "integrity_checked",
        "set_aside",
        "seconds",
    ];
    let restored = expect_document(&run(&["restore", "--to", "b.db"]), "continuum.restore/1", &members);
    assert_eq!(restored["blake3"], listed["blake3"]);
    let members = [
        "faults",
        "damaged_copies",
        "snapshots",
        "packs",
        "chunks",
        "read_packs",
        "read_bytes",
        "cut_short",
        "never_read_packs",
        "oldest_read",
        "unlisted_packs",
        "unlisted_pack_bytes",
        "given_up_packs",
        "given_up_pack_bytes",
    ];
    expect_document(&run(&["check", "--read-data"]), "continuum.check/1", &members);
    let members = [
        "databases",
        "chunks",
        "packs",
        "pack_bytes",
        "index_bytes",
        "timeline_bytes",
        "journal_bytes",
        "stored_bytes",
        "image_bytes",
    ];
    let stats = expect_document(&run(&["stats"]), "continuum.stats/1", &members);
    expect_members(&stats["databases"][0], &["name", "snapshots", "image_bytes", "latest_bytes"]);

    let add = [&["--json", "key", "add"], &CHEAP[..]].concat();
    let added = finish(scratch.command().args(add).env("CONTINUUM_NEW_PASSWORD", "second")).expect(0, &[]);
    let added = expect_document(&added.stdout, "continuum.key-add/1", &["slot"]);
    let slots = expect_document(&run(&["key", "list"]), "continuum.key-list/1", &["slots"]);
    expect_members(&slots["slots"][0], &["slot", "kind", "created", "label"]);
    let removed = run(&["key", "remove", added["slot"].as_str().unwrap()]);
    assert_eq!(expect_document(&removed, "continuum.key-remove/1", &["slot"])["slot"], added["slot"]);
    expect_document(&run(&["demo"]), "continuum.demo/1", &["snapshots", "blake3", "seconds"]);
    expect_document(&run(&["version"]), "continuum.version/1", &["version", "repository_format", "sqlite"]);
}

#[test]
fn failures_are_json_too() {
    let scratch = Scratch::with_snapshot();
    let members = ["message", "causes", "hint", "exit_code"];
    for (arguments, code) in [
        (&["restore", "zz", "--to", "c.db"][..], 1),
        (&["snapshot", "absent"], 1),
        (&["snapshot", "a.db", "--name", "/"], 2),
        (&["-r", "absent", "check"], 1),
        (&["snapshot"], 2),
    ] {
        let failed = scratch.run(&[&["--json"], arguments].concat()).expect(code, &[]);
        let document = expect_document(failed.stderr.trim_end(), "continuum.error/1", &members);
        assert_eq!((document["exit_code"].as_i64(), failed.stdout.as_str()), (Some(code.into()), ""));
    }
    // Damage is in the document as well as in the exit code.
    let pack = scratch.object("packs/");
    patch(&scratch.repository().join(&pack), |bytes| bytes[100] ^= 1);
    let checked = scratch.run(&["--json", "check", "--read-data"]).expect(3, &[]);
    let document: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    assert!(document["faults"].as_array().unwrap().iter().any(|fault| fault.as_str().unwrap().contains(&pack)));
}

#[test]
fn the_demo_runs_with_and_without_a_database() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("tmp")).unwrap();
    make_database(&scratch.path("a.db"), 500);
    let hash = hash_of(&scratch.path("a.db"));
    for arguments in [&["demo"][..], &["demo", "a.db"]] {
        let outcome = finish(scratch.command().env("TMPDIR", scratch.path("tmp")).args(arguments)).expect(0, &[]);
        assert!(outcome.stdout.contains("Done in"), "{}", outcome.stdout);
        assert_eq!(scratch.files("tmp"), [""; 0], "the demo cleans up");
    }
    assert_eq!(hash_of(&scratch.path("a.db")), hash, "a named database is only read");
    assert_eq!(scratch.files(""), ["a.db", "tmp"], "no state, no repository");
    scratch.run(&["demo", "absent.db"]).expect(1, &["absent.db: open failed"]);
}

#[test]
fn completions_versions_and_help_need_no_repository() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(scratch.run(&["completions", shell]).expect(0, &[]).stdout.contains("continuum"));
    }
    assert!(scratch.run(&["version"]).expect(0, &[]).stdout.contains("repository format 1"));
    for command in
        ["init", "snapshot", "snapshots", "restore", "check", "stats", "key", "demo", "completions", "version"]
    {
        assert!(scratch.run(&[command, "--help"]).expect(0, &[]).stdout.contains("Usage"));
    }
    assert_eq!(scratch.files(""), [""; 0]);
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let scratch = Scratch::with_snapshot();
    let program = env!("CARGO_BIN_EXE_continuum");
    for command in
        ["snapshots", "stats", "key list", "version", "completions bash", "check", "--json snapshots", "--help"]
    {
        // The reader has ended for certain before the program writes.
        let line = format!("sh -c 'sleep 0.2; exec \"{program}\" {command}' | true");
        let environment = scratch.command();
        let variables = environment.get_envs().filter_map(|(name, value)| Some((name, value?)));
        finish(Command::new("sh").args(["-c", &line]).env_clear().envs(variables)).expect(0, &[]);
    }
}
