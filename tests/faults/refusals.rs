//! Credentials that expire while a job runs: asking again is no help, so it ends at once and says why.

use std::time::{Duration, Instant};

use continuum::format::name::Folder;

use crate::proxy::{Fault, Rule};
use crate::server::{BEGUN, Server, assert_restores, change_database, make_database};
use crate::support::text;

/// Far less than what passes is tried again for, however busy the machine is.
const AT_ONCE: Duration = Duration::from_secs(15);

#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn credentials_that_expire_during_a_snapshot() {
    let server = Server::new();
    let repository = server.repository("retry-for = 120\n");
    let database = repository.path("a.db");
    make_database(&database, 1000);
    repository.init().expect_success();
    let first = repository.snapshot(&database, "a");
    // Amazon says 400, others 403.
    for (round, fault) in [Fault::BadRequest("ExpiredToken"), Fault::Forbidden("ExpiredToken")].into_iter().enumerate()
    {
        change_database(&database, 70_000);
        server.proxy.set_rules([Rule::always(fault, "PUT", "").after(1 + round), gone_with(fault)]);
        let begun = Instant::now();
        let finished = repository.run(&["snapshot", text(&database), "--name", "a"]);
        let took = begun.elapsed();
        let said = finished.said();
        assert_eq!(finished.output.status.code(), Some(1), "{said}");
        assert!(took < AT_ONCE, "{took:?}: {said}");
        for words in ["ExpiredToken: The provided token has expired", "these credentials"] {
            assert!(said.contains(words), "{words:?} expected in {said}");
        }
        println!("{said}");
        server.proxy.set_rules([]);
        assert_eq!(server.count(Folder::Timelines), BEGUN + 1 + round);
        assert_restores(&repository, &first, &format!("{round}.db"));
        let next = repository.snapshot(&database, "a");
        assert_restores(&repository, &next, &format!("{round}-next.db"));
        repository.run(&["check", "--read-data"]).expect_success();
    }
}

#[test]
#[ignore = "needs an S3 server: cargo xtask test --only s3"]
fn credentials_that_are_not_there_or_wrong() {
    let server = Server::new();
    let repository = server.repository("retry-for = 120\n");
    repository.init().expect_success();
    for (key, words) in [(None, "there are no credentials"), (Some("wrong"), "SignatureDoesNotMatch")] {
        let mut command = repository.command(&["snapshots"]);
        // Nobody else is asked for credentials either.
        command.env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_EC2_METADATA_DISABLED", "true");
        if let Some(key) = key {
            command.env("AWS_SECRET_ACCESS_KEY", key);
        }
        let begun = Instant::now();
        let output = command.output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words) && said.contains("these credentials"), "{words:?} expected in {said}");
        assert!(begun.elapsed() < AT_ONCE, "{:?}: {said}", begun.elapsed());
    }
}

/// From then on, nothing else is allowed either.
fn gone_with(fault: Fault) -> Rule {
    Rule::always(fault, "GET", "").after(50)
}
