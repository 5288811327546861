//! `continuum history`

use std::fmt::Write as _;
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value as Json, json};

use crate::base::clock::SystemTimer;
use crate::ops::ask::Asker;
use crate::ops::history::{Version, history};
use crate::ops::query::{Limits, QueryError};
use crate::ops::timeline_walk::TimelineWalk;
use crate::repo::Repository;
use crate::repo::chunk_cache::ChunkCache;
use crate::sqlite::record::Value;

use super::diff::{json_value, short};
use super::error::{CliError, DONE};
use super::query::CACHE_BYTES;
use super::rows::shown;
use super::selection::whole_timeline;
use super::session::Session;
use super::units::{self, Bytes};
use super::{output, time};

/// What commands that look at many restore points take.
#[derive(Debug, Args)]
pub struct Span {
    /// From the restore points captured then or later: a time, a date, or like "10 minutes ago"
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Up to those captured by then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// How long one look at a restore point may take, in seconds; 0 for as long as it takes
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    time_limit: u64,
    /// How much memory a look may take, beside the pages that are kept
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, default_value = "256MiB")]
    memory_limit: Bytes,
}

/// The restore points of a database, and what is needed to ask at them.
pub struct Asking {
    /// The restore points.
    pub walk: TimelineWalk,
    cache: ChunkCache,
    limits: Limits,
}

impl Span {
    /// Finds the restore points of a database.
    pub fn open(&self, database: &str, repository: &Repository, session: &Session) -> Result<Asking, CliError> {
        let now = repository.environment().clock.now();
        let moment = |option: &str, text: &Option<String>| {
            let parse =
                |text: &String| time::parse(text, now).map_err(|error| CliError::usage(format!("--{option} {error}")));
            text.as_ref().map(parse).transpose()
        };
        let (since, until) = (moment("since", &self.since)?, moment("until", &self.until)?);
        let (reader, snapshots) = whole_timeline(database, repository, &session.monitor())?;
        let walk = TimelineWalk::list(&reader, snapshots, since, until)?;
        if walk.moments().is_empty() {
            return Err(CliError::failed(format!("{database} has no restore point in that time"))
                .with_hint("`continuum log` lists all restore points"));
        }
        let limits = Limits::of_seconds(self.time_limit, self.memory_limit.0);
        Ok(Asking { walk, cache: ChunkCache::new(reader, CACHE_BYTES), limits })
    }
}

impl Asking {
    /// Asks at them.
    pub fn asker(&self, session: &Session) -> Asker<'_> {
        Asker {
            walk: &self.walk,
            cache: self.cache.clone(),
            limits: self.limits,
            timer: Arc::new(SystemTimer::default()),
            monitor: session.monitor(),
        }
    }

    /// A restore point as a document.
    pub fn document(&self, at: usize) -> Map<String, Json> {
        let moment = &self.walk.moments()[at];
        let snapshot = self.walk.snapshot(at).map(|id| id.to_string());
        let members = json!({ "commit": moment.commit, "captured": time::utc(moment.captured), "snapshot": snapshot });
        let Json::Object(members) = members else { return Map::new() };
        members
    }

    /// A restore point for people.
    pub fn name(&self, at: usize) -> String {
        let moment = &self.walk.moments()[at];
        let snapshot = self.walk.snapshot(at).map(|id| format!(", snapshot {:.8}", id.to_string()));
        format!("{}  commit {}{}", time::local_millis(moment.captured), moment.commit, snapshot.unwrap_or_default())
    }
}

/// Options of `history`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every restore point counts; only those are looked at where a page changed that the row was found through. The key is the primary key, or the rowid where there is none; \
x'0a0b' is a blob.

Examples:
  continuum -r /backup/repo history orders --table customers --key 42
  continuum -r /backup/repo history orders --table stock --key berlin --key 1704 --since yesterday")]
pub struct HistoryArguments {
    /// The database's name in the repository
    #[arg(value_name = "DATABASE")]
    database: String,
    /// The row's table
    #[arg(long)]
    table: String,
    /// The row's key; several times for a key of several columns
    #[arg(long, required = true, allow_hyphen_values = true)]
    key: Vec<String>,
    #[command(flatten)]
    span: Span,
}

/// Lists the versions of a row.
pub fn run(session: &Session, arguments: &HistoryArguments) -> Result<u8, CliError> {
    let repository = session.open()?;
    let asking = arguments.span.open(&arguments.database, &repository, session)?;
    let mut versions: Vec<(usize, Version)> = Vec::new();
    let asked = history(&asking.asker(session), &arguments.table, &arguments.key, &mut |at, version| {
        versions.push((at, version.clone()));
        Ok(())
    })?;
    refuse(arguments, &versions)?;
    if session.json() {
        let versions: Vec<Json> = versions.iter().map(|(at, version)| document(&asking, *at, version)).collect();
        let document = json!({
            "database": arguments.database, "table": arguments.table, "key": arguments.key,
            "versions": versions, "points": asked.points, "lookups": asked.lookups,
        });
        session.print_json("continuum.history/1", document);
        return Ok(DONE);
    }
    output::print(&describe(&asking, &versions));
    if !session.quiet() {
        let (points, lookups) = (asked.points as u64, asked.lookups as u64);
        let count = versions.len() as u64;
        output::line(format!(
            "{} at {}; the row was looked up at {}",
            output::plural(count, "version"),
            output::plural(points, "restore point"),
            output::count(lookups)
        ));
    }
    Ok(DONE)
}

/// Says what is wrong with the question, if that is why there is no row.
fn refuse(arguments: &HistoryArguments, versions: &[(usize, Version)]) -> Result<(), CliError> {
    if versions.iter().all(|(_, version)| *version == Version::NoTable) {
        return Err(CliError::failed(format!("no restore point has a table named {:?}", arguments.table)).with_hint(
            format!(
                "`continuum query --name {} \"SELECT name FROM sqlite_schema\"` lists what there is",
                arguments.database
            ),
        ));
    }
    let is_row = |version: &Version| matches!(version, Version::Row(_) | Version::Absent);
    if versions.iter().any(|(_, version)| is_row(version)) {
        return Ok(());
    }
    for (_, version) in versions.iter().rev() {
        match version {
            Version::OtherKey(columns) => {
                let message = format!(
                    "the key of {} has {}: {}",
                    arguments.table,
                    output::plural(columns.len() as u64, "column"),
                    columns.join(", ")
                );
                return Err(CliError::usage(message).with_hint("give --key once for each of them, in this order"));
            }
            Version::Unknown(text) => return Err(QueryError::Sqlite(text.clone()).into()),
            _ => {}
        }
    }
    Ok(())
}

fn document(asking: &Asking, at: usize, version: &Version) -> Json {
    let mut members = asking.document(at);
    let (kind, more) = match version {
        Version::NoTable => ("no-table", None),
        Version::OtherKey(columns) => ("other-key", Some(("columns", json!(columns)))),
        Version::Absent => ("absent", None),
        Version::Row(columns) => {
            let row = columns.iter().map(|(name, value)| (name.clone(), json_value(value))).collect();
            ("row", Some(("row", Json::Object(row))))
        }
        Version::Unknown(text) => ("unknown", Some(("error", json!(text)))),
    };
    members.insert("version".to_owned(), kind.into());
    members.extend(more.map(|(name, value)| (name.to_owned(), value)));
    Json::Object(members)
}

fn describe(asking: &Asking, versions: &[(usize, Version)]) -> String {
    let mut text = String::new();
    let mut before: Option<&[(String, Value)]> = None;
    for (at, version) in versions {
        let what = match version {
            Version::NoTable => "no such table".to_owned(),
            Version::OtherKey(columns) => format!("another key: {}", shown(&columns.join(", "))),
            Version::Absent if before.is_some() => "gone".to_owned(),
            Version::Absent => "absent".to_owned(),
            Version::Row(_) if before.is_some() => "changed".to_owned(),
            Version::Row(_) => "there".to_owned(),
            Version::Unknown(error) => format!("unknown: {}", shown(error)),
        };
        let _ = writeln!(text, "{}  {what}", asking.name(*at));
        let columns = if let Version::Row(columns) = version { Some(&columns[..]) } else { None };
        columns.unwrap_or_default().iter().for_each(|(name, value)| {
            let old = before.and_then(|before| before.iter().find(|(other, _)| other == name));
            let _ = match (old, before) {
                (Some((_, old)), _) if old == value => Ok(()),
                (Some((_, old)), _) => writeln!(text, "    {}: {} → {}", shown(name), short(old), short(value)),
                (None, Some(_)) => writeln!(text, "    {}: new, {}", shown(name), short(value)),
                (None, None) => writeln!(text, "    {}: {}", shown(name), short(value)),
            };
        });
        before = columns;
    }
    text
}
