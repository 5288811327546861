//! Forgets snapshots, brings them back, and holds them: each a plan or a choice first, then an entry of the timeline (`format-spec/collection.md`).
//!
//! What it guarantees:
//! * Only what a plan names is forgotten, and only if nothing that the plan was made from has changed: neither what is a restore point nor what is held. What was added since
//!   stays.
//! * What is held is never forgotten, nor the newest snapshot of a database.
//! * A timeline that is damaged is left alone, unless its snapshots are named one by one.
//! * Nothing is deleted here: until its time is over, what is forgotten can be restored by its id, and brought back.

use std::collections::HashSet;

use jiff::tz::TimeZone;

use crate::base::clock::UnixMicros;
use crate::base::id::{DatabaseId, ObjectHash};
use crate::format::manifest::{Manifest, Strategy};
use crate::format::timeline::{Event, MAX_NAMED, SnapshotRef};
use crate::monitor::{Cancelled, Monitor};
use crate::policy::refusal::{Allowed, Refusal, refusals};
use crate::policy::retention::{Candidate, Kind, Policy, Reason, decide};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::index::Index;
use crate::repo::reachable::Reachable;
use crate::repo::timeline::{self, Behind, Kept, Timeline};
use crate::repo::verifications::{self, Verifications};
use crate::repo::{Fault, Repository, RepositoryError};
use crate::store::StoreError;

use super::snapshots::SelectError;

/// How often a plan is compared anew with a timeline that others extend meanwhile.
const MOST_ATTEMPTS: usize = 16;

/// What is to be forgotten.
#[derive(Clone, Debug)]
pub enum What {
    /// What a policy does not keep.
    ByPolicy {
        /// The policy.
        policy: Policy,
        /// Whose calendar counts.
        zone: TimeZone,
        /// What is done although it looks wrong.
        allowed: Allowed,
    },
    /// The snapshots whose ids begin so.
    Named(Vec<String>),
}

/// What is planned.
#[derive(Clone, Debug)]
pub struct ForgetOptions {
    /// Which snapshots.
    pub what: What,
    /// Only those of the database of this name.
    pub name: Option<String>,
    /// So long they can be brought back at least, in microseconds.
    pub grace: i64,
}

/// What is to be forgotten, and what is kept.
#[derive(Debug)]
pub struct ForgetPlan {
    /// One by one, in the order of their names.
    pub databases: Vec<DatabasePlan>,
    /// Until then what is forgotten can be brought back.
    pub until: UnixMicros,
    /// Bytes that will come back when that is over: of chunks that no restore point needs but those that will be forgotten. `None` if damage keeps them from being counted.
    pub freed_bytes: Option<u64>,
    /// What is wrong with timelines and verifications.
    pub faults: Vec<Fault>,
}

/// The part of a plan that is about one database.
#[derive(Debug)]
pub struct DatabasePlan {
    /// The database's name.
    pub name: String,
    /// Its restore points, or only those that were named; in the order of the timeline.
    pub rows: Vec<Row>,
    /// Why the plan is not carried out.
    pub obstacles: Vec<Obstacle>,
    /// The restore points that it was made from; `None` if its snapshots were named.
    basis: Option<Vec<(SnapshotRef, bool)>>,
}

/// A snapshot of a plan.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which.
    pub snapshot: SnapshotRef,
    /// When it was captured.
    pub captured: UnixMicros,
    /// How it was taken.
    pub strategy: Strategy,
    /// Words that people gave it.
    pub tags: Vec<String>,
    /// Why it is kept; nothing for one that is to be forgotten.
    pub reasons: Vec<Reason>,
}

/// Why nothing of a database is forgotten.
#[derive(Clone, Debug, PartialEq)]
pub enum Obstacle {
    /// Its timeline is damaged: what cannot be read may be what should be kept.
    Damaged,
    /// What the policy goes by looks wrong.
    Refused(Refusal),
}

/// Snapshots that were forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// The database's name.
    pub database: String,
    /// Which.
    pub snapshots: Vec<SnapshotRef>,
}

/// Why snapshots were not forgotten, brought back or held.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// No snapshot is meant, or several.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// It must be released first.
    #[error("snapshot {id} is held{}", .reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
    Held {
        /// Which.
        id: ObjectHash,
        /// Why, if that was said.
        reason: Option<String>,
    },
    /// What comes after it is made from it.
    #[error("snapshot {id} is the newest of {database}")]
    Newest {
        /// Which.
        id: ObjectHash,
        /// The database's name.
        database: String,
    },
    /// It is forgotten already.
    #[error("snapshot {id} is forgotten already")]
    AlreadyForgotten {
        /// Which.
        id: ObjectHash,
    },
    /// There is nothing to bring back.
    #[error("snapshot {id} is not forgotten")]
    NotForgotten {
        /// Which.
        id: ObjectHash,
    },
    /// There is nothing to release.
    #[error("snapshot {id} is not held")]
    NotHeld {
        /// Which.
        id: ObjectHash,
    },
    /// A collector was faster.
    #[error("snapshot {id} has just been deleted by a prune")]
    Gone {
        /// Which.
        id: ObjectHash,
    },
    /// Somebody forgot, brought back, held or released snapshots since the plan was made.
    #[error("{database}: other snapshots are kept now than when the plan was made")]
    Changed {
        /// The database's name.
        database: String,
    },
}

impl From<StoreError> for ForgetError {
    fn from(error: StoreError) -> Self {
        Self::Repository(error.into())
    }
}

impl From<Cancelled> for ForgetError {
    fn from(error: Cancelled) -> Self {
        Self::Repository(error.into())
    }
}

impl Row {
    fn new(kept: &Kept<'_>, reasons: Vec<Reason>) -> Self {
        let Manifest { captured, strategy, tags, .. } = kept.manifest;
        Self { snapshot: kept.reference(), captured: *captured, strategy: *strategy, tags: tags.clone(), reasons }
    }

    /// Whether it is to be forgotten.
    pub fn is_dropped(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl DatabasePlan {
    /// What is to be forgotten, whether or not something stands in the way.
    pub fn dropped(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.is_dropped())
    }

    /// What will be forgotten.
    pub fn to_forget(&self) -> Vec<SnapshotRef> {
        if self.obstacles.is_empty() { self.dropped().map(|row| row.snapshot).collect() } else { Vec::new() }
    }
}

impl ForgetPlan {
    /// How many snapshots will be forgotten.
    pub fn count(&self) -> usize {
        self.databases.iter().map(|database| database.to_forget().len()).sum()
    }
}

/// Decides what is forgotten. Nothing is written.
pub fn plan_forget(
    repository: &Repository,
    options: &ForgetOptions,
    monitor: &dyn Monitor,
) -> Result<ForgetPlan, ForgetError> {
    let now = repository.environment().clock.now();
    // Of all databases: they share chunks.
    let (timelines, mut faults) = timeline::load_all(repository)?;
    let own = of_database(repository, &timelines, &mut faults, options.name.as_deref())?;
    let mut databases = match &options.what {
        What::Named(prefixes) => plan_named(&own, prefixes)?,
        What::ByPolicy { policy, zone, allowed } => {
            let (verified, wrong) = verifications::load(repository)?;
            let damaged: Vec<DatabaseId> = faults.iter().filter_map(Fault::of_timeline).collect();
            faults.extend(wrong);
            let plan = |timeline: &Timeline| {
                let mut plan = plan_by_policy(timeline, policy, zone, *allowed, &verified, now)?;
                plan.obstacles.extend(damaged.contains(&timeline.database).then_some(Obstacle::Damaged));
                Some(plan)
            };
            own.iter().filter_map(|timeline| plan(timeline)).collect()
        }
    };
    databases.sort_by(|a, b| a.name.cmp(&b.name));
    let freed_bytes = freed_bytes(repository, &timelines, &databases, &mut faults, monitor)?;
    Ok(ForgetPlan { databases, until: UnixMicros(now.0.saturating_add(options.grace)), freed_bytes, faults })
}

/// The timelines that are meant: all, or the one of the database of that name, which must have a snapshot; then faults of others do not matter.
fn of_database<'t>(
    repository: &Repository,
    timelines: &'t [Timeline],
    faults: &mut Vec<Fault>,
    name: Option<&str>,
) -> Result<Vec<&'t Timeline>, ForgetError> {
    let Some(name) = name else { return Ok(timelines.iter().collect()) };
    let database = repository.keys().database_id(name);
    faults.retain(|fault| fault.of_timeline() == Some(database));
    let own: Vec<&Timeline> = timelines.iter().filter(|timeline| timeline.database == database).collect();
    if faults.is_empty() && own.iter().all(|timeline| timeline.last().is_none()) {
        return Err(SelectError::None(Some(name.to_owned())).into());
    }
    Ok(own)
}

fn freed_bytes(
    repository: &Repository,
    timelines: &[Timeline],
    databases: &[DatabasePlan],
    faults: &mut Vec<Fault>,
    monitor: &dyn Monitor,
) -> Result<Option<u64>, ForgetError> {
    let dropped: HashSet<ObjectHash> =
        databases.iter().flat_map(DatabasePlan::to_forget).map(|snapshot| snapshot.id).collect();
    if dropped.is_empty() {
        return Ok(Some(0));
    }
    let (index, wrong) = Index::load(repository)?;
    faults.extend(wrong);
    let (reader, mut reachable) = (ChunkReader::new(repository, &index), Reachable::new(&index));
    let mut kept_bytes = 0;
    for counts_dropped in [false, true] {
        kept_bytes = reachable.needed_bytes();
        let points = timelines.iter().flat_map(restore_points);
        for point in points.filter(|point| dropped.contains(&point.id) == counts_dropped) {
            monitor.check_cancelled()?;
            match reachable.add(&reader, point.id, &point.manifest.layers) {
                Err(fault) if fault.is_damage() => {
                    faults.push(fault);
                    return Ok(None);
                }
                added => added.map_err(RepositoryError::from)?,
            }
        }
    }
    Ok(Some(reachable.needed_bytes() - kept_bytes))
}

/// `None` for a database without restore points.
fn plan_by_policy(
    timeline: &Timeline,
    policy: &Policy,
    zone: &TimeZone,
    allowed: Allowed,
    verified: &Verifications,
    now: UnixMicros,
) -> Option<DatabasePlan> {
    let points: Vec<Kept<'_>> = restore_points(timeline).collect();
    points.last()?;
    let candidate = |point: &Kept<'_>| Candidate {
        sequence: point.sequence,
        captured: point.manifest.captured,
        recorded: point.recorded,
        kind: Kind::of(point.manifest),
        tags: point.manifest.tags.clone(),
        is_held: point.standing.held.is_some(),
        is_verified: verified.is_passed(point.id, point.manifest),
        is_damaged: point.is_damaged,
    };
    let candidates: Vec<Candidate> = points.iter().map(candidate).collect();
    let decisions = decide(&candidates, policy, now, zone);
    let refusals = refusals(&candidates, &decisions, allowed, now);
    let rows = points.iter().zip(decisions).map(|(point, decision)| Row::new(point, decision.reasons)).collect();
    let obstacles = refusals.into_iter().map(Obstacle::Refused).collect();
    Some(DatabasePlan { name: timeline.name().to_owned(), rows, obstacles, basis: Some(basis(timeline)) })
}

fn restore_points(timeline: &Timeline) -> impl DoubleEndedIterator<Item = Kept<'_>> {
    timeline.kept().filter(|kept| kept.standing.forgotten.is_none())
}

/// What a plan by policy is made from: the restore points, and whether each is held.
fn basis(timeline: &Timeline) -> Vec<(SnapshotRef, bool)> {
    restore_points(timeline).map(|point| (point.reference(), point.standing.held.is_some())).collect()
}

fn plan_named(timelines: &[&Timeline], prefixes: &[String]) -> Result<Vec<DatabasePlan>, ForgetError> {
    let mut databases: Vec<DatabasePlan> = Vec::new();
    for prefix in prefixes {
        let (timeline, kept) = select(timelines.iter().copied(), prefix)?;
        require_forgettable(timeline, &kept)?;
        let row = Row::new(&kept, Vec::new());
        match databases.iter_mut().find(|database| database.name == timeline.name()) {
            Some(database) if database.rows.iter().any(|other| other.snapshot == row.snapshot) => {}
            Some(database) => database.rows.push(row),
            None => {
                let (name, obstacles) = (timeline.name().to_owned(), Vec::new());
                databases.push(DatabasePlan { name, rows: vec![row], obstacles, basis: None });
            }
        }
    }
    databases.iter_mut().for_each(|database| database.rows.sort_by_key(|row| row.snapshot));
    Ok(databases)
}

/// The snapshot that is not gone and whose id begins so, with its timeline.
fn select<'t>(
    timelines: impl IntoIterator<Item = &'t Timeline>,
    prefix: &str,
) -> Result<(&'t Timeline, Kept<'t>), SelectError> {
    let all = timelines.into_iter().flat_map(|timeline| timeline.kept().map(move |kept| (timeline, kept)));
    let mut found: Vec<_> = all.filter(|(_, kept)| kept.id.to_string().starts_with(prefix)).collect();
    match found.len() {
        0 => Err(SelectError::NoMatch(prefix.to_owned())),
        1 => Ok(found.remove(0)),
        count => Err(SelectError::Ambiguous { prefix: prefix.to_owned(), count }),
    }
}

fn require_forgettable(timeline: &Timeline, kept: &Kept<'_>) -> Result<(), ForgetError> {
    let (id, database) = (kept.id, timeline.name().to_owned());
    if let Some(reason) = &kept.standing.held {
        return Err(ForgetError::Held { id, reason: Some(reason.clone()).filter(|reason| !reason.is_empty()) });
    }
    if kept.standing.forgotten.is_some() {
        return Err(ForgetError::AlreadyForgotten { id });
    }
    if timeline.last().is_some_and(|(last, _)| last == id) {
        return Err(ForgetError::Newest { id, database });
    }
    Ok(())
}

/// Does what was planned, database by database; what was done until an error stays, and is told to `each`.
pub fn forget(
    repository: &Repository,
    plan: &ForgetPlan,
    monitor: &dyn Monitor,
    mut each: impl FnMut(Forgotten),
) -> Result<(), ForgetError> {
    for database in &plan.databases {
        let snapshots = database.to_forget();
        if snapshots.is_empty() {
            continue;
        }
        monitor.check_cancelled()?;
        forget_in(repository, database, &snapshots, plan.until)?;
        each(Forgotten { database: database.name.clone(), snapshots });
    }
    Ok(())
}

/// Appends what is forgotten of one database, behind a log that was looked at as a whole.
fn forget_in(
    repository: &Repository,
    database: &DatabasePlan,
    snapshots: &[SnapshotRef],
    until: UnixMicros,
) -> Result<(), ForgetError> {
    let entry = |part: &[SnapshotRef]| Event::Forgotten { snapshots: part.to_vec(), until };
    let mut parts = snapshots.chunks(MAX_NAMED);
    let Some(first) = parts.next() else { return Ok(()) };
    let mut attempts = 1..=MOST_ATTEMPTS;
    let mut timeline = loop {
        let (mut timeline, faults) = timeline::load(repository, &database.name)?;
        require_unchanged(database, &timeline, faults)?;
        match timeline.append(repository, &database.name, entry(first), Behind::Nothing) {
            Ok(_) => break timeline,
            // A watcher's fold, or another's housekeeping: does the plan still hold?
            Err(RepositoryError::Fenced { .. }) if attempts.next().is_some() => {}
            Err(error) => return Err(error.into()),
        }
    };
    for part in parts {
        timeline.append(repository, &database.name, entry(part), Behind::Anything)?;
    }
    Ok(())
}

/// Fails if the plan would be another one now, but for snapshots that were added.
fn require_unchanged(database: &DatabasePlan, timeline: &Timeline, faults: Vec<Fault>) -> Result<(), ForgetError> {
    let Some(basis_then) = &database.basis else {
        for row in &database.rows {
            let kept = timeline.kept().find(|kept| kept.id == row.snapshot.id);
            require_forgettable(timeline, &kept.ok_or(ForgetError::Gone { id: row.snapshot.id })?)?;
        }
        return Ok(());
    };
    if let Some(fault) = faults.into_iter().next() {
        return Err(RepositoryError::from(fault).into());
    }
    let mut basis_now = basis(timeline);
    let last = basis_then.last().map_or(0, |(snapshot, _)| snapshot.sequence);
    basis_now.retain(|(snapshot, _)| snapshot.sequence <= last);
    if basis_now == *basis_then { Ok(()) } else { Err(ForgetError::Changed { database: database.name.clone() }) }
}

/// Brings back the snapshots whose ids begin so; with none named, all that are forgotten, or those of the database of that name.
pub fn unforget(
    repository: &Repository,
    prefixes: &[String],
    name: Option<&str>,
) -> Result<Vec<Forgotten>, ForgetError> {
    // What cannot be read cannot be restored either; a log that cannot be extended says so.
    let (mut timelines, mut faults) = timeline::load_all(repository)?;
    let own: Vec<DatabaseId> =
        of_database(repository, &timelines, &mut faults, name)?.iter().map(|timeline| timeline.database).collect();
    timelines.retain(|timeline| own.contains(&timeline.database));
    let mut chosen: Vec<ObjectHash> = Vec::new();
    for prefix in prefixes {
        let (_, kept) = select(&timelines, prefix)?;
        if kept.standing.forgotten.is_none() {
            return Err(ForgetError::NotForgotten { id: kept.id });
        }
        chosen.push(kept.id);
    }
    let mut back = Vec::new();
    for timeline in &mut timelines {
        let is_chosen =
            |kept: &Kept<'_>| kept.standing.forgotten.is_some() && (prefixes.is_empty() || chosen.contains(&kept.id));
        let snapshots: Vec<SnapshotRef> = timeline.kept().filter(is_chosen).map(|kept| kept.reference()).collect();
        if snapshots.is_empty() {
            continue;
        }
        let database = timeline.name().to_owned();
        for part in snapshots.chunks(MAX_NAMED) {
            let event = Event::Unforgotten { snapshots: part.to_vec() };
            timeline.append(repository, &database, event, Behind::Anything)?;
        }
        require_there(timeline, &snapshots)?;
        back.push(Forgotten { database, snapshots });
    }
    Ok(back)
}

/// Fails if a collector has taken one before the entry that is about it.
fn require_there(timeline: &Timeline, snapshots: &[SnapshotRef]) -> Result<(), ForgetError> {
    let points: HashSet<ObjectHash> = restore_points(timeline).map(|point| point.id).collect();
    match snapshots.iter().find(|snapshot| !points.contains(&snapshot.id)) {
        Some(&SnapshotRef { id, .. }) => Err(ForgetError::Gone { id }),
        None => Ok(()),
    }
}

/// A snapshot that was held or released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldSnapshot {
    /// Which.
    pub id: ObjectHash,
    /// The database's name.
    pub database: String,
    /// It was forgotten, and is no more.
    pub came_back: bool,
}

/// Keeps the snapshot whose id begins so from being forgotten, and brings it back if it is.
pub fn hold(repository: &Repository, prefix: &str, reason: &str) -> Result<HeldSnapshot, ForgetError> {
    change(repository, prefix, |kept| Ok(Event::Held { snapshot: kept.reference(), reason: reason.to_owned() }))
}

/// Lets the snapshot whose id begins so be forgotten again.
pub fn release(repository: &Repository, prefix: &str) -> Result<HeldSnapshot, ForgetError> {
    change(repository, prefix, |kept| {
        let snapshot = kept.reference();
        let held = kept.standing.held.as_ref();
        held.map(|_| Event::Released { snapshot }).ok_or(ForgetError::NotHeld { id: kept.id })
    })
}

fn change(
    repository: &Repository,
    prefix: &str,
    event: impl FnOnce(&Kept<'_>) -> Result<Event, ForgetError>,
) -> Result<HeldSnapshot, ForgetError> {
    // Damage elsewhere does not matter: what cannot be extended says so.
    let (timelines, _) = timeline::load_all(repository)?;
    let (timeline, kept) = select(&timelines, prefix)?;
    let (event, snapshot) = (event(&kept)?, kept.reference());
    let came_back = kept.standing.forgotten.is_some();
    let (database, mut timeline) = (timeline.name().to_owned(), timeline.clone());
    timeline.append(repository, &database, event, Behind::Anything)?;
    require_there(&timeline, &[snapshot])?;
    Ok(HeldSnapshot { id: snapshot.id, database, came_back })
}
