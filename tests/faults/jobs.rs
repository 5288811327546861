//! Whole jobs of the real binary while a share of all requests is spoiled, and what only they can notice.

use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use continuum::format::name::Folder;

use crate::proxy::{Fault, Rule, Seen};
use crate::server::{BEGUN, Server, assert_restores, change_database, make_database, spoil};
use crate::support::{Repository, hash_of, text};

/// Of all requests, so many are spoiled.
const SHARE: f64 = 0.15;

const PATIENT: &str = "timeout = 2\nretry-for = 60\n";

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

fn check_jobs(seed: u64) {
    let server = Server::new();
    let repository = server.repository(PATIENT);
    let database = repository.path("a.db");
    make_database(&database, 3000);
    server.proxy.set_rules(spoil(SHARE, seed));
    repository.init().expect_success();
    let mut snapshots = Vec::new();
    for _ in 0..3 {
        snapshots.push(repository.snapshot(&database, "a"));
        change_database(&database, 200);
    }
    for (number, snapshot) in snapshots.iter().enumerate() {
        assert_restores(&repository, snapshot, &format!("{number}.db"));
    }
    repository.run(&["check", "--read-data"]).expect_success();
    let seen = server.proxy.seen();
    let spoiled = seen.iter().filter(|seen| seen.fault != Fault::None).count();
    println!("seed {seed}: {spoiled} of {} requests were spoiled", seen.len());
    assert!(spoiled >= 5, "{spoiled} of {}", seen.len());
    // What the faults have left behind on this machine does no harm.
    server.proxy.set_rules([]);
    repository.run(&["check", "--read-data"]).expect_success();
    let listed = repository.json(&["snapshots"]);
    let listed = listed["snapshots"].as_array().expect("a list");
    let ids = |all: &[serde_json::Value]| all.iter().map(|one| one["id"].to_string()).collect::<Vec<_>>();
    assert_eq!(ids(listed), ids(&snapshots), "every snapshot once, in order");
    assert_eq!(server.count(Folder::Timelines), BEGUN + snapshots.len());
    assert_eq!(server.count(Folder::Keys), 1);
    assert_eq!(server.count(Folder::Probes), 0);
}

#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn jobs_under_a_share_of_faults() {
    check_jobs(1);
}

#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn jobs_under_another_share_of_faults() {
    check_jobs(2);
}

/// The entry is there, but the answer was lost: whoever wrote it is not told that another did.
#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn a_lost_answer_to_an_entry_is_met_as_our_own_success() {
    let server = Server::new();
    let repository = server.repository(PATIENT);
    let database = repository.path("a.db");
    make_database(&database, 100);
    repository.init().expect_success();
    for fault in [Fault::LostAnswer, Fault::CutAnswer, Fault::HalfAnswer, Fault::Drip] {
        server.proxy.set_rules([Rule::always(fault, "PUT", "/timelines/").times(1)]);
        repository.snapshot(&database, "a");
        change_database(&database, 10);
    }
    // The look at what is there is spoiled as well.
    let lost = Rule::always(Fault::LostAnswer, "PUT", "/timelines/").times(1);
    let spoiled = Rule::always(Fault::TooLong, "GET", "0006?").times(1);
    server.proxy.set_rules([lost, spoiled.after(1)]);
    repository.snapshot(&database, "a");
    assert_eq!(server.count(Folder::Timelines), BEGUN + 5);
    let put = |seen: &&Seen| seen.method == "PUT" && seen.target.contains("/timelines/");
    let answers: Vec<_> = server.proxy.seen().iter().filter(put).map(|seen| seen.status).collect();
    assert_eq!(answers.iter().filter(|status| **status == Some(412)).count(), 5, "{answers:?}");
    repository.run(&["check", "--read-data"]).expect_success();
}

/// While our request hangs, somebody else writes the entry: now it is another's, and we are told.
#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn an_entry_that_another_wrote_meanwhile_is_not_taken_for_ours() {
    let server = Server::new();
    let repository = server.repository("timeout = 6\nretry-for = 60\n");
    let database = repository.path("a.db");
    make_database(&database, 100);
    repository.init().expect_success();
    let other = Repository::at(server.url.clone());
    let database_of_other = other.path("b.db");
    make_database(&database_of_other, 100);
    server.proxy.set_rules([Rule::always(Fault::Hang, "PUT", "/timelines/").after(BEGUN).times(1)]);
    let mut ours = repository.command(&["snapshot", text(&database), "--name", "a"]);
    let ours = ours.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let end = Instant::now() + PATIENCE;
    while !server.proxy.seen().iter().any(|seen| seen.fault == Fault::Hang) {
        assert!(Instant::now() < end, "no entry was written");
        sleep(Duration::from_millis(10));
    }
    let theirs = other.snapshot(&database_of_other, "a");
    let output = ours.wait_with_output().expect("a child of ours");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("another writer has extended this database's timeline meanwhile"), "{said}");
    assert_eq!(server.count(Folder::Timelines), BEGUN + 1);
    assert_restores(&repository, &theirs, "theirs.db");
    let again = repository.snapshot(&database, "a");
    assert_restores(&repository, &again, "again.db");
    assert_eq!(server.count(Folder::Timelines), BEGUN + 2);
}

/// A service that says 200 to everything, and does nothing, is not believed; nothing that it says is taken for a repository without snapshots.
#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn a_200_that_is_none_is_not_believed() {
    let server = Server::new();
    let repository = server.repository("timeout = 2\nretry-for = 1\n");
    let database = repository.path("a.db");
    make_database(&database, 100);
    repository.init().expect_success();
    let snapshot = repository.snapshot(&database, "a");
    change_database(&database, 100);
    let elsewhere = Repository::at(server.url.clone());
    for fault in [Fault::ErrorBody, Fault::Page, Fault::Words] {
        // Lists are the requests with a query of that name.
        server.proxy.set_rules([Rule::always(fault, "GET", "list-type")]);
        for arguments in [&["snapshots"][..], &["restore", "latest", "--to", "x.db"], &["check"]] {
            let finished = elsewhere.run(&[arguments, &["--retry-for", "1"]].concat());
            assert_eq!(finished.output.status.code(), Some(1), "{fault:?} {arguments:?}: {}", finished.said());
        }
        server.proxy.set_rules([Rule::always(fault, "PUT", "")]);
        let finished = repository.run(&["snapshot", text(&database), "--name", "a"]);
        assert_eq!(finished.output.status.code(), Some(1), "{fault:?}: {}", finished.said());
        let words = match fault {
            Fault::ErrorBody => "InternalError",
            Fault::Page => "a web page came instead of an answer",
            _ => "no ETag",
        };
        assert!(finished.said().contains(words), "{fault:?}: {}", finished.said());
        server.proxy.set_rules([]);
        assert_restores(&repository, &snapshot, &format!("{fault:?}.db"));
    }
    let again = repository.snapshot(&database, "a");
    assert_restores(&repository, &again, "again.db");
    repository.run(&["check", "--read-data"]).expect_success();
    assert_eq!(server.count(Folder::Timelines), BEGUN + 2);
}

/// Nobody is told of damage because a service is away or does not let him in.
#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn a_service_that_is_away_is_not_called_damaged() {
    let server = Server::new();
    let repository = server.repository("timeout = 2\nretry-for = 1\n");
    let database = repository.path("a.db");
    make_database(&database, 100);
    repository.init().expect_success();
    repository.snapshot(&database, "a");
    for part in ["/config", "/keys/", "/index/", "/timelines/", "/packs/"] {
        for (fault, words) in [(Fault::SlowDown, "SlowDown"), (Fault::Forbidden("ExpiredToken"), "ExpiredToken")] {
            server.proxy.set_rules([Rule::always(fault, "GET", part)]);
            // No cache: everything is asked for.
            let fresh = server.repository("timeout = 2\nretry-for = 1\n");
            for arguments in [&["restore", "latest", "--to", "x.db"][..], &["check", "--read-data"]] {
                let finished = fresh.run(arguments);
                let all = format!("{part} {fault:?} {arguments:?}: {} {}", finished.output.status, finished.said());
                assert_eq!(finished.output.status.code(), Some(1), "{all}");
                assert!(finished.said().contains(words) && !finished.said().contains("damage"), "{all}");
            }
        }
    }
}

/// Objects that arrive wrong are noticed: what passes is fetched again, what lasts is an error, and never a file with other bytes.
#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn what_arrives_wrong_is_noticed() {
    let server = Server::new();
    let repository = server.repository("timeout = 2\nretry-for = 1\n");
    let database = repository.path("a.db");
    make_database(&database, 2000);
    repository.init().expect_success();
    let snapshot = repository.snapshot(&database, "a");
    for part in ["/config", "/keys/", "/index/", "/timelines/", "/packs/"] {
        // No cache: everything is asked for.
        let fresh = server.repository("timeout = 2\nretry-for = 1\n");
        let spoiled = |times| Rule::always(Fault::TooLong, "GET", part).times(times);
        server.proxy.set_rules([spoiled(1)]);
        fresh.run(&["check", "--read-data"]).expect_success();
        server.proxy.set_rules([spoiled(1)]);
        assert_restores(&fresh, &snapshot, "once.db");
        server.proxy.set_rules([spoiled(usize::MAX)]);
        let fresh = server.repository("timeout = 2\nretry-for = 1\n");
        let target = fresh.path("never.db");
        let finished = fresh.run(&["restore", "latest", "--to", text(&target)]);
        assert!(!finished.output.status.success() && !target.exists(), "{part}: {}", finished.said());
        println!("{part}: {}", finished.said());
        server.proxy.set_rules([]);
        assert_restores(&fresh, &snapshot, "afterwards.db");
    }
    assert_eq!(snapshot["blake3"], hash_of(&database));
}
