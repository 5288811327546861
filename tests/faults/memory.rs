//! Memory stays bounded: a slow destination holds up the reading of the database, and an answer that does not end is not awaited.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::proxy::{Fault, Rule};
use crate::server::{Server, make_database};
use crate::support::{Repository, text};

/// For a database of 100 MiB.
const MOST_MEBIBYTES: u64 = 300;

/// Of what a service answers, so much is more than enough.
const MOST_FOR_AN_ANSWER_MEBIBYTES: u64 = 200;

/// Runs the binary to its end: what it said, whether it ended well, and the most memory that it had, in MiB.
fn run(repository: &Repository, arguments: &[&str]) -> (String, bool, u64) {
    let said = repository.path("said.txt");
    let file = std::fs::File::create(&said).expect("a new file");
    let mut command = repository.command(arguments);
    let mut child = command.stdout(Stdio::null()).stderr(file).spawn().expect("the binary runs");
    let mut most = 0;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break status;
        }
        most = most.max(peak_mebibytes(&child).unwrap_or(0));
        sleep(Duration::from_millis(3));
    };
    (std::fs::read_to_string(said).expect("what it said"), status.success(), most)
}

fn peak_mebibytes(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(PathBuf::from(format!("/proc/{}/status", child.id()))).ok()?;
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(kibibytes.trim().trim_end_matches(" kB").parse::<u64>().ok()? >> 10)
}

#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn a_snapshot_to_a_store_that_is_slow_and_fails() {
    let server = Server::new();
    let repository = server.repository("timeout = 2\nretry-for = 120\n");
    let database = repository.path("a.db");
    make_database(&database, 100 << 10);
    repository.init().expect_success();
    // The first attempt to store a pack fails, and the second now and then.
    let first = Rule::share(0.99, 5, &[Fault::SlowDown, Fault::CutRequest, Fault::LostAnswer, Fault::HalfAnswer]);
    let later = Rule { share: 1.0, ..Rule::always(Fault::SlowDown, "PUT", "/packs/") };
    server.proxy.set_rules([Rule { method: "PUT", part: "/packs/".into(), ..first }, later.after(4).times(3)]);
    let (said, is_good, most) = run(&repository, &["snapshot", text(&database), "--name", "a"]);
    println!("{most} MiB, {} requests", server.proxy.seen().len());
    assert!(is_good, "{said}");
    assert!(most > 0 && most < MOST_MEBIBYTES, "{most} MiB");
    let spoiled = server.proxy.seen().iter().filter(|seen| seen.fault != Fault::None).count();
    assert!(spoiled >= 7, "{spoiled} requests were spoiled");
    server.proxy.set_rules([]);
    repository.run(&["check", "--read-data"]).expect_success();
}

#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn answers_without_end() {
    let server = Server::new();
    let repository = server.repository("timeout = 5\nretry-for = 2\n");
    let database = repository.path("a.db");
    make_database(&database, 500);
    repository.init().expect_success();
    repository.snapshot(&database, "a");
    let target = repository.path("restored.db");
    for (method, part, arguments) in [
        ("GET", "/config", &["snapshots"][..]),
        ("GET", "list-type", &["snapshots"]),
        ("GET", "/packs/", &["restore", "latest", "--to", text(&target)]),
        ("PUT", "", &["snapshot", text(&database), "--name", "b"]),
    ] {
        server.proxy.set_rules([Rule::always(Fault::Endless, method, part)]);
        let fresh = server.repository("timeout = 5\nretry-for = 2\n");
        let (said, is_good, most) = run(&fresh, arguments);
        println!("{method} {part}: {most} MiB, {said}");
        assert!(!is_good, "{method} {part}: it takes that for an answer");
        // None was seen of one that ended at once.
        assert!(most < MOST_FOR_AN_ANSWER_MEBIBYTES, "{method} {part}: {most} MiB: {said}");
        let spoiled = server.proxy.seen().iter().filter(|seen| seen.fault == Fault::Endless).count();
        assert!(spoiled > 0, "{method} {part}: it was not asked");
    }
}
