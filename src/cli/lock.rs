//! `continuum lock`

use clap::Args;
use serde_json::{Value, json};

use crate::ops::lock::{LockOptions, LockPlan, PlacePlan, lock, plan_lock};
use crate::store::object_lock::LockMode;

use super::error::{CliError, DONE};
use super::session::Session;
use super::units::{self, Span};
use super::{output, time};

/// Options of `lock`.
#[derive(Debug, Args)]
#[command(after_help = "\
For buckets with object lock (S3, and services that speak it). What is locked keeps its bytes until the time is over, whoever deletes or overwrites the object: that hides it, and \
RUNBOOK.md says how to get it back. Locked are the packs and entries that restore points need, and all index segments, key slots, tombstones and verifications.

Run it as often as backups: what was stored since is locked by the next run, or at once if the bucket has a default retention. A lock of which less than --for is left becomes one of that and \
a quarter. A lock cannot be taken back: what is pruned costs room until its lock ends.

Examples:
  continuum -r s3://bucket/repo lock --dry-run
  continuum -r s3://bucket/repo lock
  continuum -r s3://bucket/repo lock --for 90d --compliance")]
pub struct LockArguments {
    /// Everything stays for so long from now at least
    #[arg(long = "for", value_name = "SPAN", default_value = "30d", value_parser = units::span)]
    least: Span,
    /// Locks that nobody can end early, not the account's owner either [default: who has the permission to bypass governance can]
    #[arg(long)]
    compliance: bool,
    /// Show what would be locked, and lock nothing
    #[arg(long)]
    dry_run: bool,
}

/// Locks what restore points need.
pub fn run(session: &Session, arguments: &LockArguments) -> Result<u8, CliError> {
    if arguments.least.0.is_zero() {
        return Err(CliError::usage("--for 0 locks nothing").with_hint("say for how long, e.g. --for 30d"));
    }
    let mode = if arguments.compliance { LockMode::Compliance } else { LockMode::Governance };
    let (repository, monitor) = (session.open()?, session.monitor());
    let plan = plan_lock(&repository, LockOptions { least: arguments.least.0, mode }, &monitor)?;
    if !plan.places.iter().any(|place| place.is_supported) {
        let locations: Vec<&str> = plan.places.iter().map(|place| place.location.as_str()).collect();
        return Err(CliError::failed(format!("no object can be locked at {}", locations.join(", ")))
            .with_hint("object lock is a property of an S3 bucket, which is switched on when the bucket is made"));
    }
    let done = if arguments.dry_run { None } else { Some(lock(&plan, &monitor)?) };
    if session.json() {
        session.print_json("continuum.lock/1", document(&plan, done));
    } else if !session.quiet() {
        plan.places.iter().for_each(|place| output::line(describe(place)));
        let until = time::local(plan.lock.until);
        output::line(match done {
            Some(0) => "every lock lasts long enough".to_owned(),
            Some(count) => format!("locked {} until {until}", output::plural(count as u64, "object")),
            None => format!("would be locked until {until}"),
        });
    }
    Ok(DONE)
}

fn describe(place: &PlacePlan) -> String {
    let PlacePlan { location, needed, to_lock, .. } = place;
    if !place.is_supported {
        return format!("{location}: objects cannot be locked there");
    }
    format!(
        "{location}: {} needed, {}; {} not locked for long enough, {}",
        output::plural(needed.count as u64, "object"),
        output::bytes(needed.bytes),
        output::count(to_lock.count as u64),
        output::bytes(to_lock.bytes),
    )
}

fn document(plan: &LockPlan, done: Option<usize>) -> Value {
    let place = |place: &PlacePlan| {
        json!({
            "location": place.location,
            "supported": place.is_supported,
            "needed": place.needed.count,
            "needed_bytes": place.needed.bytes,
            "to_lock": place.to_lock.count,
            "to_lock_bytes": place.to_lock.bytes,
        })
    };
    json!({
        "until": time::utc(plan.lock.until),
        "mode": if plan.lock.mode == LockMode::Compliance { "compliance" } else { "governance" },
        "destinations": plan.places.iter().map(place).collect::<Vec<_>>(),
        "locked": done,
    })
}
