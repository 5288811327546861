//! `continuum sync`, and `continuum destinations`, which only looks.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use crate::base::id::ObjectHash;
use crate::format::damage::shows_damage;
use crate::format::name::ObjectName;
use crate::ops::sync::{Destination, Done, Plan, SyncOptions, compare, execute};
use crate::repo;
use crate::repo::timeline::forget_head;
use crate::store::place::Place;
use crate::store::replicas::Standing;
use crate::store::{Store, StoreError};

use super::error::{CliError, DAMAGE, DONE, FAILED};
use super::output;
use super::session::{self, Session, xdg_folder};

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
    let options = SyncOptions { read_data: arguments.read_data, prefer, is_inline: false };
    let plan = compare(&stores, options, &monitor)?;
    let done = if arguments.dry_run {
        Done::default()
    } else {
        let kept = conflict_folder();
        let replaced = Mutex::new(Vec::new());
        let keep = |at: usize, name: &ObjectName, bytes: &[u8]| {
            replaced.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), ObjectHash::of(bytes)));
            keep_replaced(kept.as_ref(), at, name, bytes)
        };
        let done = execute(&stores, &plan, &keep, &monitor)?;
        forget_heads(session, &replaced.into_inner().unwrap_or_else(PoisonError::into_inner));
        if let Some(replicas) = &connected.replicas {
            // What waited for a destination without a repository is there now.
            replicas.catch_up();
        }
        done
    };
    if session.json() {
        let mut document = plan_document(&plan);
        document["dry_run"] = arguments.dry_run.into();
        document["copied"] = done.copied.into();
        document["copied_bytes"] = done.copied_bytes.into();
        document["replaced"] = done.replaced.into();
        document["removed"] = done.removed.into();
        document["errors"] = done.errors.clone().into();
        session.print_json("continuum.sync/1", document);
    } else {
        output::print(&describe_plan(&plan, &[]));
        for error in plan.unread.iter().chain(&done.errors) {
            eprintln!("error: {error}");
        }
        if !session.quiet() {
            output::line(match (arguments.dry_run, plan.is_whole()) {
                (_, true) => "every destination is whole".to_owned(),
                (true, _) => format!("{} would be written", output::bytes(plan.bytes())),
                (false, _) => format!(
                    "{} written, {}; {} of them in place of damaged ones{}",
                    output::plural(done.copied, "object"),
                    output::bytes(done.copied_bytes),
                    done.replaced,
                    if done.removed > 0 {
                        format!("; {} behind a fork taken away", done.removed)
                    } else {
                        String::new()
                    },
                ),
            });
        }
    }
    Ok(code(&plan, &done))
}

fn code(plan: &Plan, done: &Done) -> u8 {
    if !plan.conflicts.is_empty() || !plan.lost.is_empty() {
        DAMAGE
    } else if !done.errors.is_empty()
        || !plan.unread.is_empty()
        || plan.destinations.iter().any(|destination| destination.error.is_some())
    {
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
        stores.push(Arc::clone(&connected.store));
    }
    let answer = |store: &Arc<dyn Store>| {
        let begun = Instant::now();
        let config = store.read(&ObjectName::config(), 1 << 20);
        config.map(|_| begun.elapsed().as_secs_f64() * 1e3)
    };
    let answers: Vec<Result<f64, StoreError>> = stores.iter().map(answer).collect();
    let plan = compare(&stores, SyncOptions::default(), &session.monitor())?;
    let standings = connected.replicas.as_ref().map(|replicas| replicas.standings()).unwrap_or_default();
    if session.json() {
        let mut document = plan_document(&plan);
        for (at, answer) in answers.iter().enumerate() {
            document["destinations"][at]["latency_ms"] = answer.as_ref().ok().copied().into();
            document["destinations"][at]["owed"] = standings.get(at).map_or(0, |standing| standing.owed).into();
        }
        session.print_json("continuum.destinations/1", document);
    } else {
        let answer = |answer: &Result<f64, StoreError>| match answer {
            Ok(ms) => format!("{ms:.1} ms"),
            Err(StoreError::NotFound { .. }) => "no config".to_owned(),
            Err(_) => String::new(),
        };
        output::print(&describe_plan(&plan, &answers.iter().map(answer).collect::<Vec<_>>()));
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

/// Where copies are kept that were replaced.
pub fn conflict_folder() -> Option<PathBuf> {
    xdg_folder("XDG_STATE_HOME", ".local/state").map(|folder| folder.join("replaced"))
}

/// The user has decided what the timelines are: that an entry is not what this client has seen is no news.
fn forget_heads(session: &Session, replaced: &[(ObjectName, ObjectHash)]) {
    let Some(state) = session::environment().state.filter(|_| !replaced.is_empty()) else { return };
    let Some((repository, _)) = session.store().ok().and_then(|store| repo::require_config(&*store).ok()) else {
        return;
    };
    for (name, hash) in replaced {
        forget_head(&state, repository, name, *hash);
    }
}

/// Nothing is deleted for good that might have been right.
pub fn keep_replaced(folder: Option<&PathBuf>, at: usize, name: &ObjectName, bytes: &[u8]) -> io::Result<()> {
    // What shows its damage was not right.
    if shows_damage(name, bytes) {
        return Ok(());
    }
    let folder = folder.ok_or_else(|| io::Error::other("no place for local state"))?;
    let hash = &blake3::hash(bytes).to_hex()[..16];
    let path = folder.join(format!("{}-{at}-{hash}", name.as_str().replace('/', "-")));
    fs::create_dir_all(folder)?;
    fs::write(path, bytes)
}

/// How destinations differ.
pub fn plan_document(plan: &Plan) -> Value {
    let destinations = plan.destinations.iter().enumerate().map(|(at, destination)| {
        let wrong = plan.wrong.iter().filter(|(place, _)| *place == at).map(|(_, name)| name.to_string());
        json!({
            "location": destination.location,
            "error": destination.error,
            "objects": destination.object_count,
            "bytes": destination.bytes,
            "lacking": destination.lacking,
            "lacking_entries": destination.lacking_entries,
            "wrong": wrong.collect::<Vec<_>>(),
        })
    });
    let conflicts = plan
        .conflicts
        .iter()
        .map(|conflict| json!({ "name": conflict.name.to_string(), "locations": conflict.locations }));
    json!({
        "destinations": destinations.collect::<Vec<_>>(),
        "conflicts": conflicts.collect::<Vec<_>>(),
        "unread": plan.unread,
        "lost": plan.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn describe_plan(plan: &Plan, latencies: &[String]) -> String {
    let standing =
        |at: usize, destination: &Destination| match (&destination.error, destination.lacking, plan.wrong_at(at)) {
            (Some(error), ..) => format!("DOES NOT ANSWER: {error}"),
            (None, 0, 0) => "whole".to_owned(),
            (None, lacking, wrong) => {
                let lacks = (lacking > 0).then(|| {
                    let objects = output::plural(lacking, "object");
                    match destination.lacking_entries {
                        0 => format!("lacks {objects}"),
                        entries => format!("lacks {objects}, with {}", output::plural(entries, "restore point")),
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
            standing(at, destination),
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
    for (at, name) in &plan.wrong {
        text += &format!("WRONG: {}: {name}\n", plan.destinations[*at].location);
    }
    for conflict in &plan.conflicts {
        let locations = conflict.locations.join(" and ");
        text += &format!("CONFLICT: {}: different on {locations}; decide with --prefer PLACE\n", conflict.name);
    }
    for name in &plan.lost {
        text += &format!("LOST: no destination has a good copy of {name}\n");
    }
    text
}
