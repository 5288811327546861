//! `continuum prune`

use clap::Args;
use serde_json::{Value, json};

use crate::base::clock::SystemTimer;
use crate::ops::prune::{PruneOptions, PrunePlan, PruneSummary, Tally, plan_prune, prune};

use super::error::{CliError, DONE};
use super::output;
use super::session::Session;
use super::units::{self, Bytes, Share, Span};

/// Options of `prune`.
#[derive(Debug, Args)]
#[command(after_help = "\
Snapshots that were forgotten go when their grace is over; `continuum forget` decides which. Backups, watchers and other prunes may run at the same time; a prune that was \
stopped goes on with the next one. What is written anew is there before anything is deleted; on a full disk --max-repack 0 deletes at once what nothing needs.

Examples:
  continuum -r /backup/repo prune --dry-run
  continuum -r /backup/repo prune
  continuum -r /backup/repo prune --max-repack 10GiB")]
pub struct PruneArguments {
    /// Show what would be deleted and written anew, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Write packs anew of which a smaller share is needed
    #[arg(long, value_name = "SHARE", default_value = "80%", value_parser = units::share)]
    repack_below: Share,
    /// Write at most so much anew, the emptiest packs first; 0 for nothing
    #[arg(long, value_name = "SIZE", value_parser = units::bytes_or_none)]
    max_repack: Option<Bytes>,
    /// Leave packs that nothing needs and that are younger: a backup that is at work may have stored them
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = units::span)]
    min_age: Span,
}

/// Prunes.
pub fn run(session: &Session, arguments: &PruneArguments) -> Result<u8, CliError> {
    let repository = session.open()?;
    let monitor = session.monitor();
    let options = PruneOptions {
        min_live_share: arguments.repack_below.0,
        max_repack_bytes: arguments.max_repack.map_or(u64::MAX, |bytes| bytes.0),
        min_age: arguments.min_age.0,
        ..PruneOptions::default()
    };
    let plan = plan_prune(&repository, options, &monitor)?;
    if !session.json() && !session.quiet() {
        output::print(&describe(&plan));
    }
    let done = if arguments.dry_run || plan.is_empty() {
        None
    } else {
        Some(prune(&repository, &plan, &SystemTimer::default(), &monitor)?)
    };
    if session.json() {
        session.print_json("continuum.prune/1", document(&plan, done.as_ref(), arguments.dry_run));
    } else if !session.quiet() {
        output::line(match &done {
            Some(done) => describe_done(done),
            None if plan.is_empty() => "nothing to give up".to_owned(),
            None => format!("about {} would come back", output::bytes(plan.freed_bytes())),
        });
    }
    Ok(DONE)
}

fn describe(plan: &PrunePlan) -> String {
    let row = |what: &str, tally: &Tally| {
        vec![what.to_owned(), output::count(tally.count as u64), output::bytes(tally.bytes)]
    };
    let mut rows = vec![row("all", &plan.packs), row("not needed", &plan.unneeded)];
    let some = [
        ("given up by an earlier prune", &plan.pending),
        ("partly needed, written anew", &plan.repacked),
        ("not needed, but young", &plan.young),
    ];
    rows.extend(some.iter().filter(|(_, tally)| tally.count > 0).map(|(what, tally)| row(what, tally)));
    let mut text = output::table(&["packs", "count", "size"], &rows, &[1, 2]);
    for (database, count) in &plan.due {
        text += &format!("{database}: {} forgotten long enough\n", output::plural(*count as u64, "snapshot"));
    }
    if plan.young.count > 0 {
        text += "what is young may be of a backup that is at work; --min-age 0 gives it up, too\n";
    }
    if plan.unused_bytes > 0 {
        text += &format!(
            "{} stay that nothing needs, in packs of which most is needed\n",
            output::bytes(plan.unused_bytes)
        );
    }
    text
}

fn describe_done(done: &PruneSummary) -> String {
    let mut text = format!(
        "{} deleted, {}; {} written anew",
        output::plural(done.deleted.count as u64, "pack"),
        output::bytes(done.deleted.bytes),
        output::bytes(done.written.pack_bytes),
    );
    if done.gone_count > 0 {
        text += &format!("; {} gone", output::plural(done.gone_count as u64, "forgotten snapshot"));
    }
    if done.locked.count > 0 {
        let (packs, bytes) = (output::plural(done.locked.count as u64, "pack"), output::bytes(done.locked.bytes));
        text += &format!("; {packs}, {bytes}, are locked by the store: a later prune deletes them");
    }
    text
}

fn document(plan: &PrunePlan, done: Option<&PruneSummary>, dry_run: bool) -> Value {
    let tally = |tally: &Tally| json!({ "count": tally.count, "bytes": tally.bytes });
    json!({
        "dry_run": dry_run,
        "plan": {
            "snapshots_due": plan.due,
            "packs": tally(&plan.packs),
            "unneeded": tally(&plan.unneeded),
            "repacked": tally(&plan.repacked),
            "pending": tally(&plan.pending),
            "young": tally(&plan.young),
            "carried_bytes": plan.carried_bytes,
            "unused_bytes": plan.unused_bytes,
            "freed_bytes": plan.freed_bytes(),
            "segments": plan.segment_count,
            "leftovers": plan.leftover_count,
        },
        "done": done.map(|done| json!({
            "snapshots_gone": done.gone_count,
            "deleted": tally(&done.deleted),
            "locked": tally(&done.locked),
            "new_packs": done.written.pack_count,
            "new_pack_bytes": done.written.pack_bytes,
            "segments": done.segment_count,
            "leftovers": done.leftover_count,
        })),
    })
}
