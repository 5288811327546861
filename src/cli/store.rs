//! `continuum store`: what a destination can do.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::base::clock::{Clock, SystemClock};
use crate::base::entropy::OsEntropy;
use crate::store::place::Place;
use crate::store::probe::{Finding, probe};

use super::error::{CliError, DONE, FAILED};
use super::output;
use super::session::Session;

/// What to do with a destination.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Find out what a destination can do, by trying it
    Test(TestArguments),
}

/// Options of `store test`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes a few objects under `probe/`, the largest of 16 MiB, and deletes them again. What is in a repository there is not touched.

Examples:
  continuum store test s3://bucket/repo
  continuum store test 's3://bucket/repo?endpoint=http://127.0.0.1:9000'
  continuum store test sftp://backup@host/srv/repo")]
pub struct TestArguments {
    /// The destination
    #[arg(value_name = "PLACE")]
    place: String,
}

/// Runs a command.
pub fn run(session: &Session, command: &StoreCommand) -> Result<u8, CliError> {
    let StoreCommand::Test(arguments) = command;
    let connected = session.connect(&[Place::parse(&arguments.place)?])?;
    let findings = probe(&*connected.store, &OsEntropy, SystemClock.now())?;
    let fit = findings.iter().all(|finding| finding.good || finding.dispensable);
    let several = findings.iter().all(|finding| finding.good || !finding.coordinates);
    if session.json() {
        let findings = findings
            .iter()
            .map(|finding| json!({ "ability": finding.ability, "good": finding.good, "seen": finding.seen }));
        let document = json!({
            "location": connected.store.location(), "fit": fit, "several_writers": several, "findings": findings.collect::<Vec<_>>(),
        });
        session.print_json("continuum.store-test/1", document);
    } else {
        output::print(&describe(&findings));
        output::line(match (fit, several) {
            (false, _) => "NOT FIT to hold a repository",
            (true, false) => "fit for a repository that ONE process at a time writes to; `init` records that",
            (true, true) => "fit for a repository",
        });
    }
    Ok(if fit { DONE } else { FAILED })
}

fn describe(findings: &[Finding]) -> String {
    let row = |finding: &Finding| {
        let verdict = if finding.good { "ok" } else { "NO" };
        let seen = if finding.seen == "yes" { String::new() } else { finding.seen.clone() };
        vec![verdict.to_owned(), finding.ability.to_owned(), seen]
    };
    output::table(&["", "ability", "seen"], &findings.iter().map(row).collect::<Vec<_>>(), &[])
}
