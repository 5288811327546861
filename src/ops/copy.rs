//! Copies snapshots to another repository, which has other keys.
//!
//! A copy has the root, commit number, time, tags, host and strategy of its original, and layers of the same shape; its id is another one, for an id is the hash of an encrypted
//! object. Copies are appended oldest first, each after its chunks are durable, so an interruption leaves whole snapshots, and copying again goes on after them.
//!
//! # What is copied
//! A timeline only grows: a snapshot is copied if it comes, in the source's order, after all those that the destination has, and if its number is not below theirs. Others
//! are left out and said. A destination that has another state under a number that the source uses has another history and is refused, as is one that a watcher is writing to.

use crate::base::id::{ImageRoot, ObjectHash};
use crate::format::manifest::{Layer, Manifest};
use crate::format::timeline::Event;
use crate::monitor::{self, Cancelled, Monitor};
use crate::repo::chunk_copy::{Carried, CarryError, ChunkCopier};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::chunk_writer::{ChunkWriter, EncodeOptions, Written};
use crate::repo::index::Index;
use crate::repo::memory::Memory;
use crate::repo::timeline::{self, Behind, Timeline};
use crate::repo::{Fault, Repository, RepositoryError, unlisted_packs};

use super::delta::ADOPTION_BYTES;
use super::snapshots::{SelectError, Snapshot, select_snapshot, snapshots};

/// Which snapshots to copy.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// Ids or the beginnings of ids; all snapshots without any.
    pub snapshots: Vec<String>,
    /// Only those of the database of that name.
    pub name: Option<String>,
}

/// What is to be done, and what not.
#[derive(Debug, Default)]
pub struct CopyPlan {
    databases: Vec<DatabasePlan>,
    /// Snapshots that the destination has.
    pub present_count: usize,
    /// Snapshots that the destination cannot take, because it has later ones.
    pub left_out: Vec<Snapshot>,
    /// What is wrong with the source's timelines.
    pub faults: Vec<Fault>,
}

/// The part of one database.
#[derive(Debug)]
struct DatabasePlan {
    name: String,
    copies: Vec<Snapshot>,
    /// Snapshots on both sides, oldest first.
    present: Vec<Present>,
    timeline: Timeline,
}

#[derive(Debug)]
struct Present {
    ids: (ObjectHash, ObjectHash),
    source: Vec<Layer>,
    destination: Vec<Layer>,
}

impl Present {
    fn carried(&self) -> Carried<'_> {
        Carried { ids: self.ids, source: &self.source, destination: &self.destination }
    }
}

/// A snapshot that was copied.
#[derive(Clone, Debug)]
pub struct Copied {
    /// The original.
    pub original: Snapshot,
    /// Its id in the destination.
    pub id: ObjectHash,
}

/// What was done.
#[derive(Debug, Default)]
pub struct CopySummary {
    /// In the order of copying.
    pub copied: Vec<Copied>,
    /// What was stored.
    pub written: Written,
    /// Bytes of chunks that were read from the source.
    pub read_bytes: u64,
}

/// Why not everything was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Both are the same, or copies of the same.
    #[error("source and destination are the same repository: {location}")]
    SameRepository {
        /// Where the destination is.
        location: String,
    },
    /// What is asked for is not there.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// A watcher writes there.
    #[error("{database}: is watched by a process on {host}, into the destination")]
    Watched {
        /// The database's name.
        database: String,
        /// Where the watcher runs.
        host: String,
    },
    /// The destination's database is not a copy of the source's.
    #[error("{database}: state {commit} is {found} in the destination, and {expected} in the source")]
    OtherHistory {
        /// The database's name.
        database: String,
        /// The number of the state.
        commit: u64,
        /// What it is in the source.
        expected: ImageRoot,
        /// What it is in the destination.
        found: ImageRoot,
    },
    /// The source.
    #[error("the source of the copy cannot be read")]
    Source(#[source] RepositoryError),
    /// The destination.
    #[error("the destination of the copy cannot be used")]
    Destination(#[source] RepositoryError),
    /// The user wants to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn from_source(error: impl Into<RepositoryError>) -> CopyError {
    match error.into() {
        RepositoryError::Cancelled(cancelled) => cancelled.into(),
        error => CopyError::Source(error),
    }
}

fn from_destination(error: impl Into<RepositoryError>) -> CopyError {
    match error.into() {
        RepositoryError::Cancelled(cancelled) => cancelled.into(),
        error => CopyError::Destination(error),
    }
}

impl From<CarryError> for CopyError {
    fn from(error: CarryError) -> Self {
        match error {
            CarryError::Source(error) => from_source(error),
            CarryError::Destination(error) => from_destination(error),
        }
    }
}

impl CopyPlan {
    /// What is to be copied, in this order.
    pub fn copies(&self) -> impl Iterator<Item = &Snapshot> {
        self.databases.iter().flat_map(|database| &database.copies)
    }
}

/// Compares both sides. Nothing is written.
pub fn plan_copy(
    source: &Repository,
    destination: &Repository,
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<CopyPlan, CopyError> {
    if source.config().repository == destination.config().repository {
        return Err(CopyError::SameRepository { location: destination.location() });
    }
    let (all, faults) = snapshots(source, options.name.as_deref()).map_err(from_source)?;
    let chosen = choose(&all, options)?;
    let mut plan = CopyPlan { faults, ..CopyPlan::default() };
    for of_database in all.chunk_by(|a, b| a.database == b.database) {
        let wanted = |snapshot: &Snapshot| chosen.as_ref().is_none_or(|chosen| chosen.contains(&snapshot.id));
        if of_database.iter().any(wanted) {
            plan_database(&mut plan, destination, of_database, &wanted, monitor)?;
        }
    }
    Ok(plan)
}

/// The ids that are asked for; `None` for all.
fn choose(all: &[Snapshot], options: &CopyOptions) -> Result<Option<Vec<ObjectHash>>, SelectError> {
    if all.is_empty() {
        return Err(SelectError::None(options.name.clone()));
    }
    if options.snapshots.is_empty() {
        return Ok(None);
    }
    let select = |prefix: &String| select_snapshot(all.to_vec(), &prefix.to_ascii_lowercase()).map(|found| found.id);
    options.snapshots.iter().map(select).collect::<Result<_, _>>().map(Some)
}

/// Adds the part of a database with these snapshots, in the order of its timeline.
fn plan_database(
    plan: &mut CopyPlan,
    destination: &Repository,
    snapshots: &[Snapshot],
    wanted: &dyn Fn(&Snapshot) -> bool,
    monitor: &dyn Monitor,
) -> Result<(), CopyError> {
    let name = snapshots[0].database.clone();
    let (timeline, faults) = timeline::load(destination, &name).map_err(from_destination)?;
    Fault::report(faults, monitor);
    if let Some(watch) = timeline.open_watch() {
        return Err(CopyError::Watched { database: name, host: watch.host.clone() });
    }
    require_same_history(&name, snapshots, &timeline)?;
    let in_destination = |manifest: &Manifest| timeline.snapshots().find(|(_, other)| is_copy(manifest, other));
    let found: Vec<_> = snapshots.iter().map(|snapshot| in_destination(&snapshot.manifest)).collect();
    // What the destination has forgotten is not copied again.
    let is_forgotten = |manifest: &Manifest| timeline.kept().any(|kept| is_copy(manifest, kept.manifest));
    let last_present = found.iter().rposition(Option::is_some);
    let mut last_commit = timeline.last_commit();
    let mut part =
        DatabasePlan { name: name.clone(), copies: Vec::new(), present: Vec::new(), timeline: timeline.clone() };
    for (position, (snapshot, found)) in snapshots.iter().zip(found).enumerate() {
        if let Some((id, copy)) = found {
            plan.present_count += usize::from(wanted(snapshot));
            let (source, destination) = (snapshot.manifest.layers.clone(), copy.layers.clone());
            part.present.push(Present { ids: (snapshot.id, id), source, destination });
        } else if wanted(snapshot) && is_forgotten(&snapshot.manifest) {
            plan.present_count += 1;
        } else if wanted(snapshot) {
            let is_later = last_present.is_none_or(|last| position > last) && snapshot.manifest.commit >= last_commit;
            if is_later {
                last_commit = snapshot.manifest.commit;
                part.copies.push(snapshot.clone());
            } else {
                plan.left_out.push(snapshot.clone());
            }
        }
        if !snapshot.journal.is_empty() && wanted(snapshot) {
            let text = format!("{name}: commits that only a watcher's journal has are copied after its next fold");
            monitor.event(monitor::Event::Notice(text));
        }
    }
    plan.databases.push(part);
    Ok(())
}

/// Fails if a number means one state on one side and another on the other side.
fn require_same_history(name: &str, snapshots: &[Snapshot], timeline: &Timeline) -> Result<(), CopyError> {
    for other in timeline.kept().map(|kept| kept.manifest) {
        let same_number = |snapshot: &&Snapshot| snapshot.manifest.commit == other.commit;
        if let Some(snapshot) = snapshots.iter().find(same_number)
            && snapshot.manifest.root != other.root
        {
            let (expected, found) = (snapshot.manifest.root, other.root);
            return Err(CopyError::OtherHistory { database: name.to_owned(), commit: other.commit, expected, found });
        }
    }
    Ok(())
}

/// Whether two manifests say the same, but for what a copy has of its own. A compaction of a state differs from the state's first snapshot in its layers only.
fn is_copy(a: &Manifest, b: &Manifest) -> bool {
    let shape = |layer: &Layer| {
        (layer.kind, layer.first_commit, layer.last_commit, layer.page_count, layer.record_bytes, layer.segments.len())
    };
    (a.commit, a.root, a.captured, a.strategy) == (b.commit, b.root, b.captured, b.strategy)
        && a.layers.iter().map(shape).eq(b.layers.iter().map(shape))
}

/// Does what was planned. What is copied until an error stays, and is told to `each`.
pub fn copy(
    source: &Repository,
    destination: &Repository,
    mut plan: CopyPlan,
    monitor: &dyn Monitor,
    mut each: impl FnMut(&Copied),
) -> Result<CopySummary, CopyError> {
    let mut summary = CopySummary::default();
    // After the timelines, which need what it lists.
    let index = Index::load_reporting(source, monitor).map_err(from_source)?;
    let reader = ChunkReader::new(source, &index);
    for database in plan.databases.iter_mut().filter(|database| !database.copies.is_empty()) {
        database.timeline.begin(destination, &database.name).map_err(from_destination)?;
    }
    let there = Index::load_for_writing(destination, monitor).map_err(from_destination)?;
    let mut writer = ChunkWriter::new(destination, &there, EncodeOptions::default());
    let image_bytes = plan.copies().map(|snapshot| snapshot.manifest.image_bytes()).max().unwrap_or(0);
    if image_bytes >= ADOPTION_BYTES {
        unlisted_packs::adopt(destination, &mut writer, monitor).map_err(from_destination)?;
    }
    for database in plan.databases.into_iter().filter(|database| !database.copies.is_empty()) {
        let carried = copy_database(destination, &reader, &mut writer, database, monitor, |copied| {
            each(&copied);
            summary.copied.push(copied);
        });
        match carried {
            Ok(read_bytes) => summary.read_bytes += read_bytes,
            Err(error) => {
                // A destination that just failed is not asked again.
                if !matches!(error, CopyError::Destination(_)) {
                    writer.list_stored();
                }
                return Err(error);
            }
        }
    }
    summary.written = writer.finish().map_err(from_destination)?;
    Ok(summary)
}

/// Copies the snapshots of one database; returns how many bytes were read.
fn copy_database<'r>(
    destination: &'r Repository,
    reader: &ChunkReader,
    writer: &mut ChunkWriter<'r>,
    mut database: DatabasePlan,
    monitor: &dyn Monitor,
    mut done: impl FnMut(Copied),
) -> Result<u64, CopyError> {
    // Nobody else on this machine writes to this timeline meanwhile; elsewhere, the timeline's own fence tells.
    let _claim = Memory::claim(destination, &database.name).map_err(from_destination)?;
    let there = ChunkReader::new(destination, writer.index());
    let mut written_before = writer.settle().map_err(from_destination)?.pack_bytes;
    let mut copier = ChunkCopier::new(reader, writer, destination);
    learn(&mut copier, &database, &there);
    for original in database.copies {
        monitor.check_cancelled()?;
        let layers = copier.carry(original.id, &original.manifest.layers, monitor)?;
        let written = copier.settle().map_err(from_destination)?;
        let added = written.pack_bytes - written_before;
        written_before = written.pack_bytes;
        let manifest = Manifest { layers, added, ..original.manifest.clone() };
        let (event, stand) = (Event::Snapshot(manifest), copier.stand());
        let id = database.timeline.append(destination, &database.name, event, Behind::Housekeeping(Some(&stand)));
        done(Copied { id: id.map_err(from_destination)?, original });
    }
    Ok(copier.read_bytes())
}

/// Tells what was copied before: all its layers, and the chunks of the last image, which a new one shares most with.
fn learn(copier: &mut ChunkCopier<'_, '_>, database: &DatabasePlan, there: &ChunkReader) {
    for present in &database.present {
        copier.learn_layers(&present.carried());
    }
    let mut images = database.copies.iter().filter_map(|snapshot| snapshot.manifest.layers.first());
    if images.any(|image| !copier.has(image))
        && let Some(last) = database.present.last()
    {
        copier.learn_image(&last.carried(), there);
    }
}
