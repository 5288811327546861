//! How commands are told which state of which database is meant.

use clap::Args;

use crate::base::clock::UnixMicros;
use crate::monitor::{Event, Monitor};
use crate::ops::points::{self, Found, Selector};
use crate::ops::snapshots::{Snapshot, snapshots_and_forgotten};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::index::Index;
use crate::repo::stack_reader::State;
use crate::repo::{Fault, Repository, RepositoryError};

use super::error::CliError;
use super::time;

/// Options that choose a state, beside a snapshot's id.
#[derive(Clone, Debug, Default, Args)]
pub struct Selection {
    /// The newest state that was captured by then: a time, a date, or like "10 minutes ago"
    #[arg(long, value_name = "TIME", conflicts_with = "commit")]
    at: Option<String>,
    /// The state of that number, as `continuum log` lists it
    #[arg(long, value_name = "N")]
    commit: Option<u64>,
    /// The database's name, where the repository holds several
    #[arg(long)]
    name: Option<String>,
}

/// A state, and what reads it.
pub struct Selected {
    /// Reads its chunks.
    pub reader: ChunkReader,
    /// The name of its database.
    pub database: String,
    /// The state.
    pub state: State,
}

impl Selection {
    /// What is asked for, `snapshot` being an id, the beginning of one, or `latest`.
    pub fn selector(&self, snapshot: Option<&str>, repository: &Repository) -> Result<Selector, CliError> {
        if snapshot.is_some() && (self.at.is_some() || self.commit.is_some()) {
            return Err(CliError::usage("a snapshot is named, and --at or --commit".to_owned())
                .with_hint("name the state in one way only"));
        }
        Ok(match (&self.at, self.commit, snapshot.unwrap_or("latest")) {
            (Some(text), _, _) => {
                let now = repository.environment().clock.now();
                Selector::At(time::parse(text, now).map_err(|error| CliError::usage(format!("--at {error}")))?)
            }
            (_, Some(commit), _) => Selector::Commit(commit),
            (_, _, "latest") => Selector::Latest,
            (_, _, prefix) => Selector::Prefix(prefix.to_ascii_lowercase()),
        })
    }

    /// Finds the state that is asked for.
    pub fn select(
        &self,
        snapshot: Option<&str>,
        repository: &Repository,
        monitor: &dyn Monitor,
    ) -> Result<Selected, CliError> {
        let selector = self.selector(snapshot, repository)?;
        let name = self.name.as_deref();
        let found = candidates(repository, name, std::slice::from_ref(&selector), monitor)?;
        // The index after the timelines: it has all that they need, whoever writes meanwhile.
        let index = Index::load_reporting(repository, monitor).map_err(RepositoryError::from)?;
        let reader = ChunkReader::new(repository, &index);
        let Found { database, state } = points::find(&reader, found, &selector, name)?;
        Ok(Selected { reader, database, state })
    }
}

/// Two states of one database.
pub struct SelectedPair {
    /// Reads their chunks.
    pub reader: ChunkReader,
    /// The name of their database.
    pub database: String,
    /// The states.
    pub states: [State; 2],
}

/// Finds the states that two words name: ids or beginnings of ids, `latest`, `commit:N` or `at:TIME`.
pub fn select_pair(
    a: &str,
    b: &str,
    name: Option<&str>,
    repository: &Repository,
    monitor: &dyn Monitor,
) -> Result<SelectedPair, CliError> {
    let now = repository.environment().clock.now();
    let selectors = [word_selector(a, now)?, word_selector(b, now)?];
    let snapshots = candidates(repository, name, &selectors, monitor)?;
    // The index after the timelines: it has all that they need, whoever writes meanwhile.
    let index = Index::load_reporting(repository, monitor).map_err(RepositoryError::from)?;
    let reader = ChunkReader::new(repository, &index);
    // A snapshot's id says which database is meant.
    let is_id = |selector: &&Selector| matches!(selector, Selector::Prefix(_));
    let mut name = name.map(str::to_owned);
    if let (None, Some(selector)) = (&name, selectors.iter().find(is_id)) {
        name = Some(points::find(&reader, snapshots.clone(), selector, None)?.database);
    }
    let of_database = |snapshot: &&Snapshot| name.as_ref().is_none_or(|name| *name == snapshot.database);
    let own: Vec<Snapshot> = snapshots.iter().filter(of_database).cloned().collect();
    let find = |selector: &Selector| {
        let from = if is_id(&selector) { snapshots.clone() } else { own.clone() };
        points::find(&reader, from, selector, name.as_deref())
    };
    let (a, b) = (find(&selectors[0])?, find(&selectors[1])?);
    if a.database != b.database {
        let message = format!("these are states of two databases, {} and {}", a.database, b.database);
        return Err(CliError::usage(message).with_hint("`continuum log` lists states with their databases"));
    }
    Ok(SelectedPair { reader, database: a.database, states: [a.state, b.state] })
}

fn word_selector(word: &str, now: UnixMicros) -> Result<Selector, CliError> {
    if let Some(number) = word.strip_prefix("commit:") {
        let number = number.parse().map_err(|_| CliError::usage(format!("{word:?}: a number expected")))?;
        return Ok(Selector::Commit(number));
    }
    if let Some(text) = word.strip_prefix("at:") {
        return Ok(Selector::At(time::parse(text, now).map_err(|error| CliError::usage(format!("at:{error}")))?));
    }
    let is_id = word.len() <= 64 && !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    match word {
        "latest" => Ok(Selector::Latest),
        _ if is_id => Ok(Selector::Prefix(word.to_ascii_lowercase())),
        _ => Err(CliError::usage(format!("{word:?} names no state")).with_hint(
            "a snapshot's id or its beginning, latest, commit:N, or at:TIME; a database is named with --name",
        )),
    }
}

/// The snapshots of one database, for commands that look at all of its restore points. Damage in its timeline is refused: a point that is meant may be missing.
pub fn whole_timeline(
    name: &str,
    repository: &Repository,
    monitor: &dyn Monitor,
) -> Result<(ChunkReader, Vec<Snapshot>), CliError> {
    let snapshots = candidates(repository, Some(name), &[Selector::Latest], monitor)?;
    if snapshots.is_empty() {
        return Err(CliError::failed(format!("no snapshot of a database named {name:?}"))
            .with_hint("`continuum snapshots` lists what is there"));
    }
    let index = Index::load_reporting(repository, monitor).map_err(RepositoryError::from)?;
    Ok((ChunkReader::new(repository, &index), snapshots))
}

/// The snapshots that a state is looked for in. Damage elsewhere in the timelines is said and does not keep a state from being found by id or number. `latest` and a
/// time are refused: a state that they mean may be missing. A snapshot that is forgotten is there only for its whole id.
fn candidates(
    repository: &Repository,
    name: Option<&str>,
    selectors: &[Selector],
    monitor: &dyn Monitor,
) -> Result<Vec<Snapshot>, CliError> {
    let (mut found, mut faults) = snapshots_and_forgotten(repository, name)?;
    let is_named =
        |id: &str| selectors.iter().any(|selector| matches!(selector, Selector::Prefix(prefix) if prefix == id));
    found.retain(|snapshot| snapshot.standing.forgotten.is_none() || is_named(&snapshot.id.to_string()));
    for (snapshot, until) in found.iter().filter_map(|snapshot| Some((snapshot, snapshot.standing.forgotten?))) {
        let text = format!("snapshot {} is forgotten, and may be gone after {}", snapshot.id, time::local(until));
        monitor.event(Event::Notice(text));
    }
    let needs_all = |selector: &Selector| matches!(selector, Selector::Latest | Selector::At(_));
    if selectors.iter().any(needs_all) && !faults.is_empty() {
        let error = CliError::from(RepositoryError::from(faults.remove(0)));
        return Err(error.with_hint(
            "the timeline is damaged, so the state that is meant may be missing: choose a snapshot that `continuum snapshots` lists, by its id",
        ));
    }
    for fault in faults.iter().map(Fault::describe) {
        monitor.event(Event::Notice(fault));
    }
    Ok(found)
}
