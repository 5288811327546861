//! `continuum repair`

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::format::name::ObjectName;
use crate::monitor::{Event, Monitor};
use crate::ops::repair::affected::Affected;
use crate::ops::repair::source::{Captured, LivePages, Source};
use crate::ops::repair::{RepairOptions, RepairPlan, RepairSummary, plan_repair, repair};
use crate::repo::Fault;
use crate::source::{Capture, CaptureOptions};

use super::error::{CliError, DAMAGE, DONE, FAILED};
use super::session::Session;
use super::{output, sync, time};

/// So many packs and restore points are shown; `--json` has all.
const MOST_ROWS: usize = 20;

/// Options of `repair`.
#[derive(Debug, Args)]
#[command(after_help = "\
What another destination has is taken from there; the index is made anew from the packs; good chunks of damaged packs go to new packs; lost chunks of an image are taken from the \
live database, if its pages are still the same. What is lost for good affects restore points, which are named, with how much of each is lost; the log says so, too, and nothing is \
made from them any more. No pack is deleted: a later `continuum prune` does that.

Ends with 0 when everything is well after it, with 3 when something remains.

Examples:
  continuum -r /backup/repo repair --dry-run
  continuum -r /backup/repo repair --read-data --source orders=/var/lib/app/orders.db
  continuum -r /backup/repo -r s3://bucket/repo repair --read-data --yes
  continuum -r /backup/repo repair --drop-affected --yes")]
pub struct RepairArguments {
    /// Show what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Read every pack, to find all damage; else only those are read that `check --read-data` has found damaged on this machine
    #[arg(long)]
    read_data: bool,
    /// A live database from which lost pages can be taken, and its name in the repository; may be given several times
    #[arg(long, value_name = "NAME=PATH", value_parser = named_path)]
    source: Vec<(String, PathBuf)>,
    /// Take restore points that cannot be restored, and entries that are lost, out of the log, so that prune works again; never the last snapshot of a database, nor one that is held
    #[arg(long)]
    drop_affected: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.to_owned(), path.into())),
        _ => Err("a database's name and its file expected, like orders=/var/lib/app/orders.db".to_owned()),
    }
}

/// Repairs.
pub fn run(session: &Session, arguments: &RepairArguments) -> Result<u8, CliError> {
    let repository = session.open_uncached()?;
    let monitor = session.monitor();
    let captured = arguments
        .source
        .iter()
        .map(|(name, path)| Ok((name.clone(), Captured::new(Capture::open(path, CaptureOptions::default())?))));
    let captured: Vec<(String, Captured<Capture>)> = captured.collect::<Result<_, CliError>>()?;
    let sources: Vec<Source<'_>> = captured
        .iter()
        .map(|(database, pages)| Source { database: database.clone(), pages: pages as &dyn LivePages })
        .collect();
    let options = RepairOptions { read_data: arguments.read_data, drop_affected: arguments.drop_affected };
    let plan = plan_repair(&repository, options, &sources, &monitor)?;
    if !session.json() && (!session.quiet() || !plan.mends_all()) {
        output::print(&describe(&plan));
    }
    let done = if arguments.dry_run || plan.is_empty() {
        None
    } else {
        let may_ask = !session.json() && std::io::stdin().is_terminal();
        let is_wanted = arguments.yes || (may_ask && confirm()?);
        if !is_wanted {
            return Err(unconfirmed(may_ask));
        }
        warn(&plan, &monitor);
        let folder = sync::conflict_folder();
        let keep = |at: usize, name: &ObjectName, bytes: &[u8]| sync::keep_replaced(folder.as_ref(), at, name, bytes);
        Some(repair(&repository, &plan, &sources, &keep, &monitor)?)
    };
    if session.json() {
        session.print_json("continuum.repair/1", document(&plan, done.as_ref(), arguments.dry_run));
    } else {
        done.iter().flat_map(|done| &done.errors).for_each(|error| eprintln!("error: {error}"));
        if !session.quiet() {
            output::line(match &done {
                Some(done) => describe_done(done),
                None if plan.is_empty() && plan.mends_all() => "nothing to mend".to_owned(),
                None if plan.is_empty() => "nothing more can be mended".to_owned(),
                None => "nothing was written".to_owned(),
            });
        }
    }
    Ok(match &done {
        Some(done) if !done.errors.is_empty() => FAILED,
        None if arguments.dry_run && !plan.is_empty() => DAMAGE,
        _ if plan.mends_all() => DONE,
        _ => DAMAGE,
    })
}

fn confirm() -> Result<bool, CliError> {
    let mut stderr = std::io::stderr();
    let asked = write!(stderr, "Mend this? [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    let answered = asked.and_then(|()| std::io::stdin().read_line(&mut answer));
    answered.map_err(|error| CliError::failed(format!("no answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn unconfirmed(was_asked: bool) -> CliError {
    let error = CliError::failed("nothing was mended");
    if was_asked { error } else { error.with_hint("--yes does it without asking, --dry-run shows the plan") }
}

fn warn(plan: &RepairPlan, monitor: &dyn Monitor) {
    if !plan.tombstones.is_empty() {
        let text =
            "a tombstone that cannot be read is replaced: no prune that began before may still run, on any machine";
        monitor.event(Event::Notice(text.to_owned()));
    }
}

fn describe(plan: &RepairPlan) -> String {
    let mut text = describe_destinations(plan);
    let mut say = |count: usize, noun: &str, what: &str| {
        if count > 0 {
            text += &format!("{} {what}\n", output::plural(count as u64, noun));
        }
    };
    say(plan.segments.len(), "index segment", "cannot be used: deleted, once its packs are listed anew");
    say(plan.relisted_count(), "pack", "in no index segment: listed anew");
    say(plan.given_up.len(), "pack", "damaged or missing: given up");
    say(
        plan.carried_count(),
        "good chunk",
        "that snapshots need, in packs that are given up: carried over to new ones",
    );
    say(plan.from_source_count(), "lost chunk", "found in the live source: stored anew");
    say(plan.not_in_source_count, "lost chunk", "of deltas or page maps, which no source can give");
    say(plan.lost_count, "chunk", "lost for good");
    say(plan.tombstones.len(), "tombstone", "cannot be read: replaced by one that names all packs that nothing needs");
    say(plan.verifications.len(), "verification", "cannot be read: deleted");
    for given_up in plan.given_up.iter().take(MOST_ROWS) {
        text += &format!("GIVEN UP: {}\n", given_up.why.describe());
    }
    text += &describe_affected(plan);
    for change in &plan.log {
        let lost: u64 = change.lost.iter().map(|run| run.last - run.first + 1).sum();
        if lost > 0 {
            text += &format!("{}: {} lost: taken out of the log\n", change.name, entries(lost));
        }
    }
    for mark in &plan.marks {
        text += &match mark.segments.len() {
            0 => format!("{}: nothing is damaged any more: noted in its log\n", mark.name),
            _ => {
                format!("{}: what is lost is noted in its log, so that no later snapshot is made from it\n", mark.name)
            }
        };
    }
    for fault in &plan.remains {
        text += &format!("REMAINS: {}\n", fault.describe());
    }
    text
}

fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{} entries", output::count(count)) }
}

fn describe_destinations(plan: &RepairPlan) -> String {
    let Some(destinations) = &plan.destinations else { return String::new() };
    let mut text = String::new();
    for (at, destination) in destinations.destinations.iter().enumerate() {
        let of_key = plan.copies.iter().filter(|(place, _)| *place == at).count() as u64;
        let (lacking, wrong) = (destination.lacking, destinations.wrong_at(at) + of_key);
        if lacking + wrong > 0 {
            let objects = output::plural(lacking, "object");
            text += &format!("{}: lacks {objects}, {wrong} damaged\n", destination.location);
        }
    }
    for conflict in plan.conflicts(destinations) {
        let locations = conflict.locations.join(" and ");
        text += &format!(
            "CONFLICT: {}: different on {locations}; `continuum sync --prefer PLACE` decides\n",
            conflict.name
        );
    }
    text
}

fn describe_affected(plan: &RepairPlan) -> String {
    if plan.affected.is_empty() {
        return String::new();
    }
    let row = |affected: &Affected| {
        vec![
            format!("{:.8}", affected.id.to_string()),
            affected.database.clone(),
            time::local(affected.captured),
            affected.strategy.to_string(),
            describe_loss(affected),
            fate(plan, affected).to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = plan.affected.iter().take(MOST_ROWS).map(row).collect();
    let mut text = output::table(&["affected", "database", "captured", "strategy", "lost", "then"], &rows, &[]);
    if plan.affected.len() > MOST_ROWS {
        text += &format!("and {} more\n", output::count((plan.affected.len() - MOST_ROWS) as u64));
    }
    let commits: u64 = plan.affected.iter().map(|affected| affected.commit_count).sum();
    if commits > 0 {
        text += &format!("with up to {} captured in them\n", output::plural(commits, "commit"));
    }
    text += &format!("{} whole\n", output::plural(plan.whole_count as u64, "other snapshot"));
    let last = plan.affected.iter().filter(|affected| affected.is_last);
    for affected in last {
        text += &format!(
            "{0}: its last snapshot is affected: run repair with --source {0}=PATH, or take a snapshot once this is done, which will be a full one, and repair again\n",
            affected.database
        );
    }
    text
}

/// What of a snapshot is lost.
fn describe_loss(affected: &Affected) -> String {
    let Affected { lost_pages, unknown_pages, page_count, .. } = *affected;
    let of = output::plural(page_count.into(), "page");
    let (lost, unknown) = (output::count(lost_pages.into()), output::count(unknown_pages.into()));
    match (lost_pages, unknown_pages) {
        (_, 0) => format!("{lost} of {of}"),
        (0, _) => format!("unknown, up to {unknown} of {of}"),
        _ => format!("{lost}, and up to {unknown} more, of {of}"),
    }
}

fn fate(plan: &RepairPlan, affected: &Affected) -> &'static str {
    if plan.log.iter().any(|change| change.drops(affected)) {
        "dropped"
    } else if affected.is_last {
        "stays: the last"
    } else if affected.is_held {
        "stays: held"
    } else {
        "stays"
    }
}

fn describe_done(done: &RepairSummary) -> String {
    let mut parts = Vec::new();
    let mut say = |count: u64, noun: &str, what: &str| {
        if count > 0 {
            parts.push(format!("{} {what}", output::plural(count, noun)));
        }
    };
    say(done.copied_count, "object", "copied between destinations");
    say(done.relisted_count as u64, "pack", "listed anew");
    say(done.given_up_count as u64, "pack", "given up");
    say(done.carried_count as u64, "chunk", "carried over");
    say(done.from_source_count as u64, "chunk", "taken from the source");
    say(done.segment_count as u64, "index segment", "deleted or replaced");
    say(done.dropped_count as u64, "snapshot", "taken out of the log");
    say(done.marked_count as u64, "log", "changed to say what is damaged");
    say(done.tombstone_count as u64, "tombstone", "replaced");
    say(done.verification_count as u64, "verification", "deleted");
    say(done.written.pack_bytes, "byte", "written in new packs");
    if parts.is_empty() { "done".to_owned() } else { format!("done: {}", parts.join(", ")) }
}

fn document(plan: &RepairPlan, done: Option<&RepairSummary>, dry_run: bool) -> Value {
    let names = |names: &[ObjectName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let given_up = plan.given_up.iter().map(|given_up| {
        json!({
            "pack": given_up.pack.to_string(),
            "why": given_up.why.describe(),
            "carried_chunks": given_up.carried_count,
            "lost_chunks": given_up.lost_count,
        })
    });
    let affected = plan.affected.iter().map(|affected| {
        json!({
            "snapshot": affected.id.to_string(),
            "database": affected.database,
            "sequence": affected.sequence,
            "captured": time::utc(affected.captured),
            "page_count": affected.page_count,
            "lost_pages": affected.lost_pages,
            "unknown_pages": affected.unknown_pages,
            "commits": affected.commit_count,
            "last": affected.is_last,
            "held": affected.is_held,
            "dropped": plan.log.iter().any(|change| change.drops(affected)),
        })
    });
    let destinations = plan.destinations.as_ref();
    json!({
        "dry_run": dry_run,
        "plan": {
            "destinations": destinations.map(sync::plan_document),
            "copies": plan.copies.iter().map(|(at, name)| json!({ "destination": at, "name": name.to_string() })).collect::<Vec<_>>(),
            "relisted_packs": plan.relisted_count(),
            "segments": names(&plan.segments),
            "given_up": given_up.collect::<Vec<_>>(),
            "carried_chunks": plan.carried_count(),
            "chunks_from_source": plan.from_source_count(),
            "lost_chunks": plan.lost_count,
            "affected": affected.collect::<Vec<_>>(),
            "whole_snapshots": plan.whole_count,
            "lost_entries": plan.log.iter().flat_map(|change| &change.lost).map(|run| run.last - run.first + 1).sum::<u64>(),
            "marked": plan.marks.iter().map(|mark| json!({ "database": mark.name, "segments": mark.segments.len() })).collect::<Vec<_>>(),
            "tombstones": names(&plan.tombstones),
            "verifications": names(&plan.verifications),
            "remains": plan.remains.iter().map(Fault::describe).collect::<Vec<_>>(),
            "mends_all": plan.mends_all(),
        },
        "done": done.map(|done| json!({
            "copied": done.copied_count,
            "relisted_packs": done.relisted_count,
            "given_up_packs": done.given_up_count,
            "carried_chunks": done.carried_count,
            "chunks_from_source": done.from_source_count,
            "new_packs": done.written.pack_count,
            "new_pack_bytes": done.written.pack_bytes,
            "segments": done.segment_count,
            "dropped_snapshots": done.dropped_count,
            "marked_databases": done.marked_count,
            "tombstones": done.tombstone_count,
            "verifications": done.verification_count,
            "errors": done.errors,
        })),
    })
}
