//! `continuum sync`, and `continuum destinations`, which only looks.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use crate::format::name::ObjectName;
use crate::ops::sync::{Destination, Done, Plan, SyncOptions, compare, execute};
use crate::store::place::Place;
use crate::store::replicas::Standing;

use super::error::{CliError, DAMAGE, DONE, FAILED};
use super::output;
use super::session::{Session, xdg_folder};

/// Options of `sync`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs no password: objects are compared by name, length and, where the name is a hash, by hash. A new, empty destination becomes a whole one.

Examples:
  continuum -r /backup/repo -r s3://bucket/repo sync
  continuum -r /backup/repo -r s3://bucket/repo sync --read-data
  continuum -r /backup/repo -r s3://bucket/repo sync --dry-run")]
pub struct SyncArguments {
    /// Read every copy, to find damage that a listing does not show
    #[arg(long)]
    read_data: bool,
    /// Show what would be copied, and copy nothing
    #[arg(long)]
    dry_run: bool,
    /// Where two destinations hold different objects of one name, believe this one
    #[arg(long, value_name = "PLACE")]
    prefer: Option<String>,
}

/// Makes every destination whole.
pub fn run(session: &Session, arguments: &SyncArguments) -> Result<u8, CliError> {
    let places = several(session)?;
    let prefer = arguments.prefer.as_deref().map(Place::parse).transpose()?;
    let prefer = match prefer {
        None => None,
        Some(place) => Some(places.iter().position(|other| *other == place).ok_or_else(|| {
            CliError::usage(format!("--prefer {place}: none of the destinations")).with_hint("name it as with -r")
        })?),
    };
    let connected = session.connected()?;
    if let Some(replicas) = connected.replicas.as_ref().filter(|_| !arguments.dry_run) {
        replicas.catch_up();
    }
    let stores = connected.store.copies();
    let monitor = session.monitor();
    let options = SyncOptions { read_data: arguments.read_data, prefer };
    let plan = compare(&stores, options, &monitor)?;
    let done = if arguments.dry_run {
        Done::default()
    } else {
        let kept = conflict_folder();
        let keep = |at: usize, name: &ObjectName, bytes: &[u8]| keep_replaced(kept.as_ref(), at, name, bytes);
        execute(&stores, &plan, &keep, &monitor)?
    };
    if session.json() {
        let mut document = plan_document(&plan);
        document["dry_run"] = arguments.dry_run.into();
        document["copied"] = done.copied.into();
        document["copied_bytes"] = done.copied_bytes.into();
        document["replaced"] = done.replaced.into();
        document["errors"] = done.errors.clone().into();
        session.print_json("continuum.sync/1", document);
    } else {
        output::print(&describe_plan(&plan, &[]));
        for error in &done.errors {
            eprintln!("error: {error}");
        }
        if !session.quiet() {
            output::line(match (arguments.dry_run, plan.is_whole()) {
                (_, true) => "every destination is whole".to_owned(),
                (true, _) => format!("{} would be written", output::bytes(plan.bytes())),
                (false, _) => format!(
                    "{} written, {}; {} of them in place of damaged ones",
                    output::plural(done.copied, "object"),
                    output::bytes(done.copied_bytes),
                    done.replaced
                ),
            });
        }
    }
    Ok(code(&plan, &done))
}

fn code(plan: &Plan, done: &Done) -> u8 {
    if !plan.conflicts.is_empty() || !plan.lost.is_empty() {
        DAMAGE
    } else if !done.errors.is_empty() || plan.destinations.iter().any(|destination| destination.error.is_some()) {
        FAILED
    } else {
        DONE
    }
}

/// Shows the destinations: whether they answer, how fast, and what each lacks.
pub fn destinations(session: &Session) -> Result<u8, CliError> {
    session.places()?;
    let connected = session.connected()?;
    let mut stores = connected.store.copies();
    if stores.is_empty() {
        stores.push(std::sync::Arc::clone(&connected.store));
    }
    let latency_ms: Vec<Option<f64>> = stores
        .iter()
        .map(|store| {
            let begun = Instant::now();
            let answer = store.read(&ObjectName::config(), 1 << 20);
            answer.is_ok().then(|| begun.elapsed().as_secs_f64() * 1e3)
        })
        .collect();
    let plan = compare(&stores, SyncOptions::default(), &session.monitor())?;
    let standings = connected.replicas.as_ref().map(|replicas| replicas.standings()).unwrap_or_default();
    if session.json() {
        let mut document = plan_document(&plan);
        for (at, latency) in latency_ms.iter().enumerate() {
            document["destinations"][at]["latency_ms"] = (*latency).into();
            document["destinations"][at]["owed"] = standings.get(at).map_or(0, |standing| standing.owed).into();
        }
        session.print_json("continuum.destinations/1", document);
    } else {
        let latency = |latency: &Option<f64>| latency.map_or("no config".to_owned(), |ms| format!("{ms:.1} ms"));
        output::print(&describe_plan(&plan, &latency_ms.iter().map(latency).collect::<Vec<_>>()));
        for Standing { location, owed, .. } in standings.iter().filter(|standing| standing.owed > 0) {
            output::line(format!("{location}: {} wait for it on this machine", output::plural(*owed as u64, "write")));
        }
    }
    Ok(code(&plan, &Done::default()))
}

fn several(session: &Session) -> Result<Vec<Place>, CliError> {
    let places = session.places()?;
    if places.len() < 2 {
        return Err(CliError::usage("one destination alone is always in sync").with_hint("name each with its own -r"));
    }
    Ok(places)
}

fn conflict_folder() -> Option<PathBuf> {
    xdg_folder("XDG_STATE_HOME", ".local/state").map(|folder| folder.join("replaced"))
}

/// Nothing is deleted for good that might have been right.
fn keep_replaced(folder: Option<&PathBuf>, at: usize, name: &ObjectName, bytes: &[u8]) -> io::Result<()> {
    // A pack or index segment with another hash than its name is nothing but damaged.
    if name.hash().is_some() {
        return Ok(());
    }
    let folder = folder.ok_or_else(|| io::Error::other("no place for local state"))?;
    let hash = &blake3::hash(bytes).to_hex()[..16];
    let path = folder.join(format!("{}-{at}-{hash}", name.as_str().replace('/', "-")));
    fs::create_dir_all(folder)?;
    fs::write(path, bytes)
}

fn plan_document(plan: &Plan) -> Value {
    let destinations = plan.destinations.iter().map(|destination| {
        json!({
            "location": destination.location,
            "error": destination.error,
            "objects": destination.object_count,
            "bytes": destination.bytes,
            "lacking": destination.lacking,
            "lacking_entries": destination.lacking_entries,
            "wrong": destination.wrong,
        })
    });
    let conflicts = plan
        .conflicts
        .iter()
        .map(|conflict| json!({ "name": conflict.name.to_string(), "locations": conflict.locations }));
    json!({
        "destinations": destinations.collect::<Vec<_>>(),
        "conflicts": conflicts.collect::<Vec<_>>(),
        "lost": plan.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn describe_plan(plan: &Plan, latencies: &[String]) -> String {
    let standing = |destination: &Destination| match (&destination.error, destination.lacking, destination.wrong) {
        (Some(error), ..) => format!("DOES NOT ANSWER: {error}"),
        (None, 0, 0) => "whole".to_owned(),
        (None, lacking, wrong) => {
            let lacks = (lacking > 0).then(|| match destination.lacking_entries {
                0 => format!("lacks {}", output::plural(lacking, "object")),
                entries => {
                    format!(
                        "lacks {}, with {}",
                        output::plural(lacking, "object"),
                        output::plural(entries, "restore point")
                    )
                }
            });
            let wrong = (wrong > 0).then(|| format!("{} damaged", output::plural(wrong, "object")));
            lacks.into_iter().chain(wrong).collect::<Vec<_>>().join(", ")
        }
    };
    let rows = plan.destinations.iter().enumerate().map(|(at, destination)| {
        let mut row = vec![
            destination.location.clone(),
            output::count(destination.object_count),
            output::bytes(destination.bytes),
            standing(destination),
        ];
        if let Some(latency) = latencies.get(at) {
            row.insert(3, latency.clone());
        }
        row
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let mut header = vec!["destination", "objects", "size", "state"];
    if !latencies.is_empty() {
        header.insert(3, "answers in");
    }
    let mut text = output::table(&header, &rows, &[1, 2, 3].map(|column| column.min(header.len() - 2)));
    for conflict in &plan.conflicts {
        let locations = conflict.locations.join(" and ");
        text += &format!("CONFLICT: {}: different on {locations}; decide with --prefer PLACE\n", conflict.name);
    }
    for name in &plan.lost {
        text += &format!("LOST: no destination has a good copy of {name}\n");
    }
    text
}
