//! Takes a snapshot of a live database: full, differential or incremental.
//!
//! Order: pin the state, find out which pages can have changed, store an image or a delta, list its chunks in the index, append the timeline entry. Only the
//! last step makes the snapshot exist; a failure or kill before it leaves at most packs that nothing refers to. What this client remembers is written
//! after that: a memory is never ahead of the repository.
//!
//! # What a delta is against
//! The state that the page map describes, which is that of a snapshot in the timeline: the map's root is the manifest's. Whatever the tier of
//! [`crate::source::Changes`], only pages whose hash differs from the map are stored, so every tier gives the same delta.
//!
//! # Damage
//! Of a snapshot that a repair has found damaged nothing is taken over unseen: what comes next is a full (`format-spec/timeline.md`, "What is damaged"). A repair that
//! says so while a snapshot is being made is met when that is to be appended; then it is made anew.

use std::collections::HashSet;
use std::path::Path;

use crate::base::clock::UnixMicros;
use crate::base::id::{ChunkId, ObjectHash};
use crate::chunk::codec::Compression;
use crate::format::delta::StepState;
use crate::format::manifest::{Manifest, Strategy};
use crate::format::position::Position;
use crate::format::timeline::Event;
use crate::monitor::{self, Monitor};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::chunk_writer::{ChunkWriter, EncodeOptions, Written};
use crate::repo::index::Index;
use crate::repo::memory::Memory;
use crate::repo::timeline::{Behind, Stand, Timeline};
use crate::repo::{Repository, RepositoryError, TOOL, timeline};
use crate::source::{Capture, CaptureOptions, Pinned, SourceError, Tier};
use crate::store::page_map::PageMap;

use super::delta::{self, Plan, Stored};
pub use super::delta::{Choice, SnapshotError};
use super::fold::{Fold, adopt, append_anew};

/// How to take a snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// The database's name in the repository; valid by [`crate::format::name::is_database_name`].
    pub name: String,
    /// What to store.
    pub choice: Choice,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// This machine's name.
    pub host: String,
    /// How chunks are encoded.
    pub compression: Compression,
    /// Whether what was encoded is decoded and compared before it is uploaded.
    pub verify: bool,
    /// How the source is opened.
    pub capture: CaptureOptions,
    /// End the part of a watcher elsewhere that did not end by itself.
    pub take_over: bool,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct SnapshotSummary {
    /// The new snapshot.
    pub id: ObjectHash,
    /// Its place in the timeline.
    pub sequence: u64,
    /// What it says.
    pub manifest: Manifest,
    /// What was stored for it.
    pub written: Written,
    /// How completeness was proved.
    pub tier: Tier,
    /// Why no cheaper tier could.
    pub reasons: Vec<&'static str>,
    /// Pages that differ from the state that it was compared with; all of them if it was compared with none.
    pub changed_pages: u32,
}

/// A snapshot, and what is to be remembered of it.
#[derive(Debug)]
pub struct Taken {
    /// What was done.
    pub summary: SnapshotSummary,
    /// Where the capture was.
    pub position: Position,
    /// The page map of the state, if there is local state.
    pub map: Option<PageMap>,
    /// The database's timeline with the snapshot.
    pub timeline: Timeline,
}

/// Takes a snapshot of the database at `source`.
pub fn snapshot(
    repository: &Repository,
    source: &Path,
    options: &SnapshotOptions,
    monitor: &dyn Monitor,
) -> Result<SnapshotSummary, SnapshotError> {
    let mut capture = Capture::open(source, options.capture)?;
    let memory = Memory::claim(repository, &options.name)?;
    let taken = snapshot_pinned(repository, &mut capture, memory.as_ref(), options, monitor)?;
    capture.finish()?;
    Ok(taken.summary)
}

/// Takes a snapshot of a pinned state, which stays pinned.
pub fn snapshot_pinned(
    repository: &Repository,
    capture: &mut impl Pinned,
    memory: Option<&Memory>,
    options: &SnapshotOptions,
    monitor: &dyn Monitor,
) -> Result<Taken, SnapshotError> {
    if capture.recovered() {
        let text =
            format!("{}: SQLite rolled back a transaction that a crashed process had left", capture.path().display());
        monitor.event(monitor::Event::Notice(text));
    }
    let mut timeline = timeline::load_for_writing(repository, &options.name, monitor)?;
    // Better now than after everything is stored.
    timeline.require_end().map_err(RepositoryError::from)?;
    let encode = EncodeOptions { compression: options.compression, verify: options.verify };
    let fold = Fold { repository, name: &options.name, encode, monitor };
    adopt(&fold, &mut timeline, memory, options.take_over)?;
    // Before anything is looked for or stored.
    timeline.begin(repository, &options.name)?;
    let captured = repository.environment().clock.now();
    let remembers = memory.is_some_and(|memory| memory.load().is_some());
    type Attempt = Result<(Stored, Written, Stand), SnapshotError>;
    let mut attempt = |timeline: &Timeline, choice: Choice, index: Index| -> Attempt {
        let reader = ChunkReader::new(repository, &index);
        let mut writer = ChunkWriter::new(repository, &index, encode);
        let reader = &reader;
        let plan = Plan { repository, reader, timeline, memory, choice, captured, monitor };
        match store(&plan, &mut writer, capture) {
            Ok(stored) => {
                let written = writer.settle()?;
                let stand = writer.stand(stored.base);
                Ok((stored, written, stand))
            }
            // A store that just failed is not asked again.
            Err(error @ SnapshotError::Repository(RepositoryError::Store(_))) => Err(error),
            Err(error) => {
                writer.list_stored();
                Err(error)
            }
        }
    };
    let (mut stored, mut known) = (None, HashSet::new());
    let (id, manifest) = append_anew(&mut timeline, repository, &options.name, |timeline, is_first| {
        known.clone_from(timeline.damaged());
        let choice = delta::choose(timeline, memory, options.choice);
        if choice != options.choice {
            let text = "the last snapshot is damaged: what of it is lost is stored anew, in a full snapshot";
            monitor.event(monitor::Event::Notice(format!("{}: {text}", options.name)));
        }
        let last = timeline.last().map(|(_, last)| &last.layers[..]);
        let layers = last.filter(|_| is_first && remembers && choice != Choice::Full);
        let (made, written, stand) =
            Index::with(repository, layers, monitor, SnapshotError::misses_chunk, &mut |index| {
                attempt(timeline, choice, index)
            })?;
        let manifest = manifest(&made, &written, captured, options);
        stored = Some((made, written));
        Ok::<_, SnapshotError>((manifest, stand))
    })?;
    let (stored, written) = stored.expect("BUG: what was appended was stored");
    if manifest.strategy == Strategy::Full && *timeline.damaged() == known {
        say_whole(repository, &options.name, &mut timeline, &manifest)?;
    }
    remember(timeline, (id, manifest), stored, written, memory)
}

/// What of a full that was just appended was known to be lost is whole again, for it is all in the index: the log is told so.
fn say_whole(
    repository: &Repository,
    name: &str,
    timeline: &mut Timeline,
    manifest: &Manifest,
) -> Result<(), RepositoryError> {
    if !timeline.is_damaged(manifest) {
        return Ok(());
    }
    let whole: HashSet<&ChunkId> = manifest.layers.iter().flat_map(|layer| &layer.segments).collect();
    let damaged = timeline.damaged().iter().filter(|segment| !whole.contains(segment));
    let mut segments: Vec<ChunkId> = damaged.copied().collect();
    segments.sort_unstable();
    match timeline.append(repository, name, Event::Damaged { segments }, Behind::Nothing) {
        // Where others have appended something, the next snapshot is a full again, and says it then.
        Ok(_) | Err(RepositoryError::Fenced { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Stores the pinned state. Should a writer restart the WAL meanwhile, which it can do once under a pin, the state after that is stored instead; what
/// is stored already is not stored again.
fn store(plan: &Plan<'_>, writer: &mut ChunkWriter<'_>, capture: &mut impl Pinned) -> Result<Stored, SnapshotError> {
    match delta::store(plan, writer, capture) {
        Err(SnapshotError::Source(SourceError::WalRestarted(_))) => {
            capture.map_wal()?;
            delta::store(plan, writer, capture)
        }
        stored => stored,
    }
}

fn manifest(stored: &Stored, written: &Written, captured: UnixMicros, options: &SnapshotOptions) -> Manifest {
    let StepState { commit, page_count, root, .. } = stored.state;
    Manifest {
        strategy: stored.strategy,
        tags: options.tags.clone(),
        host: options.host.clone(),
        source: stored.source.clone(),
        captured,
        tool: TOOL.to_owned(),
        journal_mode: stored.journal_mode.clone(),
        page_size: stored.page_size,
        page_count,
        root,
        commit,
        lineage: stored.lineage,
        layers: stored.layers.clone(),
        added: written.pack_bytes,
    }
}

fn remember(
    timeline: Timeline,
    (id, manifest): (ObjectHash, Manifest),
    stored: Stored,
    written: Written,
    memory: Option<&Memory>,
) -> Result<Taken, SnapshotError> {
    let sequence = timeline.kept().rev().find(|kept| kept.id == id).map_or(0, |kept| kept.sequence);
    let Manifest { page_size, page_count, root, .. } = manifest;
    let position = Position { entry: id, page_size, page_count, root, file: stored.file, wal: stored.wal };
    let mut map = stored.map;
    if let (Some(memory), Some(map)) = (memory, &mut map) {
        memory.save(&position, map)?;
    }
    let Stored { tier, reasons, changed_pages, .. } = stored;
    let summary = SnapshotSummary { id, sequence, manifest, written, tier, reasons, changed_pages };
    Ok(Taken { summary, position, map, timeline })
}
