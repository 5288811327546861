//! Stores a pinned state, as an image or as a delta against an earlier snapshot.

use std::collections::HashMap;
use std::sync::OnceLock;

use rayon::prelude::*;

use crate::base::clock::UnixMicros;
use crate::base::id::{ChunkId, ImageRoot, ObjectHash};
use crate::base::image_tree::{Leaves, NodeHash};
use crate::base::page::{PageNo, PageReader, PageSize};
use crate::format::delta::StepState;
use crate::format::layer::{Run, RunContent};
use crate::format::manifest::{Layer, LayerKind, Manifest, Strategy};
use crate::format::position::{FileFacts, Position, WalPosition};
use crate::monitor::{Event, Monitor};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::chunk_writer::ChunkWriter;
use crate::repo::delta_writer::{self, Below, write_delta};
use crate::repo::image_writer::{Extent, new_bytes, plan, write_image};
use crate::repo::index::Index;
use crate::repo::memory::Memory;
use crate::repo::page_scan::{ChangedLeaf, compare_pages, scan};
use crate::repo::stack_reader::{StackReader, State};
use crate::repo::timeline::{Kept, Timeline};
use crate::repo::{Fault, ImageError, Repository, RepositoryError, unlisted_packs};
use crate::source::{Changes, EarlierPages, Pinned, SourceError, Tier};
use crate::store::page_map::{PageMap, PageMapBuilder};

/// Bytes of an earlier state that are read at a time to make its page map anew.
const BATCH_BYTES: usize = 8 << 20;

/// Packs that an interrupted backup has left are looked for when so much is to be stored. A smaller image could not save more than a few of them.
pub const ADOPTION_BYTES: u64 = 64 << 20;

/// What to store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// What changed since the last restore point; everything if there is none, or if most of it changed.
    #[default]
    Auto,
    /// Every page, read anew.
    Full,
    /// What changed since the last full.
    Differential,
    /// What changed since the last restore point of any kind.
    Incremental,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl SnapshotError {
    /// Whether a chunk was not to be found.
    pub fn misses_chunk(&self) -> bool {
        matches!(self, Self::Repository(error) if error.misses_chunk())
    }
}

impl From<ImageError<SourceError>> for SnapshotError {
    fn from(error: ImageError<SourceError>) -> Self {
        match error {
            ImageError::Source(error) => error.into(),
            ImageError::Repository(error) => error.into(),
        }
    }
}

/// What a capture is stored with.
pub struct Plan<'a> {
    /// Where to.
    pub repository: &'a Repository,
    /// Reads what is there.
    pub reader: &'a ChunkReader,
    /// Of the database.
    pub timeline: &'a Timeline,
    /// What this client remembers.
    pub memory: Option<&'a Memory>,
    /// What to store.
    pub choice: Choice,
    /// When the state was pinned.
    pub captured: UnixMicros,
    /// Hears of progress, and says when to stop.
    pub monitor: &'a dyn Monitor,
}

/// What was stored.
pub struct Stored {
    /// The snapshot that layers or chunks were taken over from.
    pub base: Option<ObjectHash>,
    /// The source's path.
    pub source: String,
    /// The source's journal mode.
    pub journal_mode: String,
    /// In bytes.
    pub page_size: u32,
    /// The state.
    pub state: StepState,
    /// As what.
    pub strategy: Strategy,
    /// Of the source.
    pub lineage: u32,
    /// For the manifest.
    pub layers: Vec<Layer>,
    /// How completeness was proved.
    pub tier: Tier,
    /// Why no cheaper tier could.
    pub reasons: Vec<&'static str>,
    /// Pages that differ from the earlier state.
    pub changed_pages: u32,
    /// The page map of the state.
    pub map: Option<PageMap>,
    /// The source's file.
    pub file: FileFacts,
    /// The source's WAL.
    pub wal: Option<WalPosition>,
}

/// An earlier state that a capture can be compared with.
struct Earlier {
    state: State,
    map: PageMap,
    /// Where the capture was; unknown when the map was read from the repository.
    position: Option<Position>,
}

/// A capture compared with an earlier state.
struct Compared {
    earlier: Earlier,
    changes: Changes,
    leaves: Vec<ChangedLeaf>,
}

/// Stores the state that `capture` pins.
pub fn store(plan: &Plan<'_>, writer: &mut ChunkWriter<'_>, capture: &impl Pinned) -> Result<Stored, SnapshotError> {
    let file = capture.file_facts(plan.captured)?;
    let last = plan.timeline.last().map(|(_, manifest)| manifest);
    let earlier = match last {
        Some(last) if last.page_size == capture.pages().page_size().get() => find_earlier(plan),
        _ => None,
    };
    let lineage = last.map_or(1, |last| last.lineage);
    let Some(earlier) = earlier else {
        let reason = if last.is_none() { "the first snapshot" } else { "no earlier state to compare with" };
        let resized = last.is_some_and(|last| last.page_size != capture.pages().page_size().get());
        let lineage = lineage + u32::from(resized);
        return store_whole(plan, writer, capture, Step { file, lineage }, reason);
    };
    let changes = match &earlier.position {
        Some(position) => capture.changes_since(position, file)?,
        None => Changes::unknown("no local state: the page map was made anew from the repository"),
    };
    let replaced = earlier.position.is_some_and(|position| !position.file.same_file(&file));
    let lineage = lineage + u32::from(replaced || changes.rewound);
    let compared = compare(plan, earlier, changes, capture)?;
    let pages = capture.pages().page_count().0;
    let most = u64::from(compared.changed_pages(capture)) * 2 > u64::from(pages);
    let choice = if replaced || (plan.choice == Choice::Auto && most) { Choice::Full } else { plan.choice };
    let step = Step { file, lineage };
    match choice {
        Choice::Full => store_image(plan, writer, capture, compared, step),
        Choice::Differential => store_differential(plan, writer, capture, compared, step),
        Choice::Auto | Choice::Incremental => store_incremental(plan, writer, capture, compared, step),
    }
}

/// What is known of a capture from its source.
#[derive(Clone, Copy)]
struct Step {
    file: FileFacts,
    lineage: u32,
}

impl Compared {
    fn changed_pages(&self, capture: &impl Pinned) -> u32 {
        self.leaves.len() as u32 * Leaves::of(capture.pages()).pages_a_leaf()
    }

    fn leaf_numbers(&self) -> Vec<u32> {
        self.leaves.iter().map(|changed| changed.leaf).collect()
    }
}

/// The state that this client remembers, or else the last one in the timeline, read anew. What cannot be used costs a full read.
fn find_earlier(plan: &Plan<'_>) -> Option<Earlier> {
    let memory = plan.memory?;
    if let Some((position, map)) = memory.load()
        && let Some(Kept { id, manifest, .. }) = remembered(plan.timeline, &position)
    {
        return Some(Earlier { state: State::of_snapshot(id, manifest), map, position: Some(position) });
    }
    if plan.choice == Choice::Full {
        return None;
    }
    let (id, manifest) = plan.timeline.last()?;
    match rebuild(plan, memory, State::of_snapshot(id, manifest)) {
        Ok(earlier) => earlier,
        Err(error) => {
            let text = format!("the last snapshot cannot be read ({error}), so everything is stored anew");
            plan.monitor.event(Event::Notice(text));
            None
        }
    }
}

/// The snapshot of the state that a client remembers.
fn remembered<'a>(timeline: &'a Timeline, position: &Position) -> Option<Kept<'a>> {
    let of_entry = |kept: &Kept<'_>| kept.id == position.entry && kept.manifest.root == position.root;
    let found = timeline.kept().find(of_entry)?;
    // A compaction of the same state has fewer layers.
    let state = |kept: &Kept<'_>| (kept.manifest.commit, kept.manifest.root);
    timeline.kept().rev().find(|kept| state(kept) == state(&found))
}

/// What to store where `wanted` is wished for: nothing is made from a snapshot of which something is lost.
pub fn choose(timeline: &Timeline, memory: Option<&Memory>, wanted: Choice) -> Choice {
    let position = memory.and_then(Memory::load).map(|(position, _)| position);
    let base = position.and_then(|position| remembered(timeline, &position)).or_else(|| timeline.kept().next_back());
    if base.is_some_and(|base| base.is_damaged) { Choice::Full } else { wanted }
}

/// All snapshots that are not gone: forgotten ones can be built upon.
fn kept<'a>(plan: &'a Plan<'_>) -> impl DoubleEndedIterator<Item = (ObjectHash, &'a Manifest)> {
    plan.timeline.kept().map(|kept| (kept.id, kept.manifest))
}

fn rebuild(plan: &Plan<'_>, memory: &Memory, state: State) -> Result<Option<Earlier>, RepositoryError> {
    let stack = StackReader::open(plan.reader, &state)?;
    let (folder, page_bytes) = (memory.folder(), state.page_size.bytes());
    let mut builder = PageMapBuilder::new(Some(&folder), state.shape()).map_err(RepositoryError::LocalState)?;
    let batch_pages = (BATCH_BYTES / page_bytes) as u32;
    for start in (1..=state.page_count.0).step_by(batch_pages as usize) {
        plan.monitor.check_cancelled()?;
        let pages = batch_pages.min(state.page_count.0 + 1 - start);
        let mut bytes = vec![0; pages as usize * page_bytes];
        stack.read(PageNo(start), &mut bytes)?;
        builder.push_pages(&bytes).map_err(RepositoryError::LocalState)?;
    }
    drop(stack);
    let (root, map) = builder.finish().map_err(RepositoryError::LocalState)?;
    // Damage in the repository is not built upon.
    Ok(map.filter(|_| root == state.root).map(|map| Earlier { state, map, position: None }))
}

/// Finds the leaves that differ.
fn compare(
    plan: &Plan<'_>,
    mut earlier: Earlier,
    mut changes: Changes,
    capture: &impl Pinned,
) -> Result<Compared, SnapshotError> {
    let pages = capture.pages();
    let full = plan.choice == Choice::Full;
    if full && changes.tier != Tier::Scan {
        // Every page read anew is what a full is for.
        changes = Changes::unknown("a full reads every page anew");
    }
    loop {
        let leaves = match changes.tier {
            Tier::Unchanged => Vec::new(),
            Tier::WalTail | Tier::WalRescue => compare_pages(pages, &earlier.map, changes.pages.iter().copied())?,
            Tier::Scan => scan(pages, &earlier.map, plan.monitor)?,
        };
        let hashes: Vec<(u32, NodeHash)> = leaves.iter().map(|changed| (changed.leaf, changed.hash)).collect();
        match earlier.map.update(Leaves::of(pages), &hashes) {
            Ok(()) => return Ok(Compared { earlier, changes, leaves }),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData && changes.tier != Tier::Scan => {
                changes = Changes::unknown("the page map is damaged");
            }
            Err(error) => return Err(RepositoryError::LocalState(error).into()),
        }
    }
}

fn store_whole(
    plan: &Plan<'_>,
    writer: &mut ChunkWriter<'_>,
    capture: &impl Pinned,
    Step { file, lineage }: Step,
    reason: &'static str,
) -> Result<Stored, SnapshotError> {
    let pages = capture.pages();
    let page_count = pages.page_count().0;
    let folder = plan.memory.map(Memory::folder);
    let builder = PageMapBuilder::new(folder.as_deref(), Leaves::of(pages));
    let mut builder = builder.map_err(RepositoryError::LocalState)?;
    let extents = [Extent::New(PageNo(1), page_count)];
    adopt_unlisted(plan, writer, &extents, pages.page_size())?;
    let segments = write_image(plan.repository, writer, pages, &extents, Some(&mut builder), plan.monitor)?;
    let (root, map) = builder.finish().map_err(RepositoryError::LocalState)?;
    let state = new_state(plan, page_count, root);
    Ok(Stored {
        base: None,
        source: capture.path().display().to_string(),
        journal_mode: capture.journal_mode().to_owned(),
        page_size: pages.page_size().get(),
        layers: vec![image_layer(&state, segments)],
        state,
        strategy: Strategy::Full,
        lineage,
        tier: Tier::Scan,
        reasons: vec![reason],
        changed_pages: page_count,
        map,
        file,
        wal: capture.wal_position(),
    })
}

/// What an image is compared with is all that is stored, packs of an interrupted upload too.
fn adopt_unlisted(
    plan: &Plan<'_>,
    writer: &mut ChunkWriter<'_>,
    extents: &[Extent],
    page_size: PageSize,
) -> Result<(), RepositoryError> {
    writer.index().require_whole()?;
    if new_bytes(extents, page_size) < ADOPTION_BYTES {
        return Ok(());
    }
    unlisted_packs::adopt(plan.repository, writer, plan.monitor)
}

/// An image that shares the unchanged pages with the earlier state's image.
fn store_image(
    plan: &Plan<'_>,
    writer: &mut ChunkWriter<'_>,
    capture: &impl Pinned,
    compared: Compared,
    step: Step,
) -> Result<Stored, SnapshotError> {
    let pages = capture.pages();
    let earlier = &compared.earlier.state;
    let fault = |fault: Fault| SnapshotError::from(RepositoryError::from(fault));
    let stack = match StackReader::open(plan.reader, earlier) {
        Ok(stack) => stack,
        // A full is what helps against damage: nothing is taken over.
        Err(found) if found.is_damage() => {
            return store_whole(plan, writer, capture, step, "the earlier image is damaged");
        }
        Err(found) => return Err(fault(found)),
    };
    let mut changed = stack.touched();
    changed.extend(pages_of(&compared.leaf_numbers(), Leaves::of(pages)));
    changed.extend(lost_pages(&stack, writer.index()));
    changed.sort_unstable();
    changed.dedup();
    let extents = self::plan(stack.runs(), &changed, pages.page_count().0);
    adopt_unlisted(plan, writer, &extents, pages.page_size())?;
    let segments = write_image(plan.repository, writer, pages, &extents, None, plan.monitor)?;
    let state = next_state(plan, capture, &compared)?;
    let layers = vec![image_layer(&state, segments)];
    Ok(finish(capture, compared, step, state, Strategy::Full, layers))
}

/// Pages whose chunk is lost: the index, from which a repair has removed it, does not list it.
fn lost_pages(stack: &StackReader, index: &Index) -> Vec<PageNo> {
    let is_lost = |run: &Run| matches!(run.content, RunContent::Chunk { chunk, .. } if !index.contains(chunk.id));
    let lost = stack.runs().iter().filter(|(_, run)| is_lost(run));
    lost.flat_map(|(first, run)| (first.0..first.0 + run.pages).map(PageNo)).collect()
}

fn store_incremental(
    plan: &Plan<'_>,
    writer: &mut ChunkWriter<'_>,
    capture: &impl Pinned,
    compared: Compared,
    step: Step,
) -> Result<Stored, SnapshotError> {
    let state = next_state(plan, capture, &compared)?;
    let earlier = &compared.earlier.state;
    let mut layers = earlier.layers.clone();
    if state.commit != earlier.commit {
        let count = delta_writer::deltas_to_fold(&layers);
        if count > 0 {
            layers = delta_writer::fold_newest(plan.reader, writer, earlier, count, plan.monitor)?;
        }
        let bases = Bases::new(plan, capture, &compared);
        let below = Below { shape: earlier.shape(), bases: &|batch| bases.of(batch) };
        let leaves = compared.leaf_numbers();
        layers.push(write_delta(writer, capture.pages(), &leaves, &below, &state, plan.monitor)?);
    }
    Ok(finish(capture, compared, step, state, Strategy::Incremental, layers))
}

/// One delta against the last full, whatever came between.
fn store_differential(
    plan: &Plan<'_>,
    writer: &mut ChunkWriter<'_>,
    capture: &impl Pinned,
    compared: Compared,
    step: Step,
) -> Result<Stored, SnapshotError> {
    let is_full =
        |manifest: &Manifest| manifest.layers.len() == 1 && manifest.page_size == capture.pages().page_size().get();
    let full = kept(plan).rev().find(|(_, manifest)| is_full(manifest));
    let earlier = &compared.earlier.state;
    let Some((id, full)) = full.filter(|(_, full)| full.layers[0] == earlier.layers[0]) else {
        return store_image(plan, writer, capture, compared, step);
    };
    let state = next_state(plan, capture, &compared)?;
    let full = State::of_snapshot(id, full);
    let fault = |fault: Fault| SnapshotError::from(RepositoryError::from(fault));
    let now = Leaves::of(capture.pages());
    let between = StackReader::open_deltas(plan.reader, earlier).map_err(fault)?;
    let changed = compared.leaf_numbers();
    let pages = between.touched().into_iter().chain(pages_of(&changed, now));
    let leaves = now.touched_since(full.shape(), pages);
    let stack = StackReader::open(plan.reader, &full).map_err(fault)?;
    let bases =
        |batch: &[u32]| read_leaves(&stack, full.shape(), batch).map_err(|fault| ImageError::Repository(fault.into()));
    let low_page_count = full.page_count.0.min(state.page_count);
    let state = StepState { low_page_count, ..state };
    let mut layers = full.layers.clone();
    if state.commit != full.commit {
        let below = Below { shape: full.shape(), bases: &bases };
        layers.push(write_delta(writer, capture.pages(), &leaves, &below, &state, plan.monitor)?);
    }
    Ok(finish(capture, compared, step, state, Strategy::Differential, layers))
}

fn finish(
    capture: &impl Pinned,
    compared: Compared,
    step: Step,
    state: StepState,
    strategy: Strategy,
    layers: Vec<Layer>,
) -> Stored {
    let changed_pages = compared.changed_pages(capture).min(state.page_count);
    Stored {
        base: Some(compared.earlier.state.snapshot),
        source: capture.path().display().to_string(),
        journal_mode: capture.journal_mode().to_owned(),
        page_size: capture.pages().page_size().get(),
        state,
        strategy,
        lineage: step.lineage,
        layers,
        tier: compared.changes.tier,
        reasons: compared.changes.reasons,
        changed_pages,
        map: Some(compared.earlier.map),
        file: step.file,
        wal: capture.wal_position(),
    }
}

/// The state of a capture: a new one, unless it is still the newest one.
fn next_state(plan: &Plan<'_>, capture: &impl Pinned, compared: &Compared) -> Result<StepState, SnapshotError> {
    let root = compared.earlier.map.root().map_err(RepositoryError::LocalState)?;
    let root = root.ok_or_else(|| RepositoryError::LocalState(std::io::ErrorKind::InvalidData.into()))?;
    let earlier = &compared.earlier.state;
    let page_count = capture.pages().page_count().0;
    let low_page_count = earlier.page_count.0.min(page_count);
    let state = StepState { low_page_count, ..new_state(plan, page_count, root) };
    // A state that comes back after others gets a new number: numbers only grow.
    let newest = earlier.commit == plan.timeline.last_commit();
    let unchanged = newest && root == earlier.root && page_count == earlier.page_count.0;
    Ok(if unchanged { StepState { commit: earlier.commit, ..state } } else { state })
}

fn new_state(plan: &Plan<'_>, page_count: u32, root: ImageRoot) -> StepState {
    let commit = plan.timeline.last_commit() + 1;
    StepState { commit, captured: plan.captured, page_count, low_page_count: page_count, root }
}

/// An image as a layer.
pub fn image_layer(state: &StepState, segments: Vec<ChunkId>) -> Layer {
    Layer {
        kind: LayerKind::Image,
        first_commit: state.commit,
        last_commit: state.commit,
        page_count: state.page_count,
        low_page_count: state.page_count,
        record_bytes: 0,
        segments,
    }
}

fn pages_of(leaves: &[u32], shape: Leaves) -> impl Iterator<Item = PageNo> {
    leaves.iter().flat_map(move |&leaf| {
        let (first, count) = shape.pages(leaf);
        (first.0..first.0 + count).map(PageNo)
    })
}

/// Whole leaves of a state; `None` for those that it does not have.
fn read_leaves(stack: &StackReader, below: Leaves, leaves: &[u32]) -> Result<Vec<Option<Vec<u8>>>, Fault> {
    let existing: Vec<u32> = leaves.iter().copied().filter(|&leaf| leaf < below.count()).collect();
    let pages: Vec<PageNo> = pages_of(&existing, below).collect();
    let bytes = stack.read_pages(&pages)?;
    let mut rest = &bytes[..];
    Ok(leaves
        .iter()
        .map(|&leaf| {
            (leaf < below.count()).then(|| {
                let (content, tail) = rest.split_at(below.pages(leaf).1 as usize * below.page_size.bytes());
                rest = tail;
                content.to_vec()
            })
        })
        .collect())
}

/// Finds what pages were in the earlier state: in the source, where it still stands there, which the hash in the page map proves, else in the repository, whose chunks prove
/// themselves by their ids.
struct Bases<'a, P> {
    plan: &'a Plan<'a>,
    pages: &'a P,
    compared: &'a Compared,
    below: Leaves,
    frames: HashMap<PageNo, u32>,
    stack: OnceLock<Option<StackReader>>,
}

impl<'a, P: EarlierPages> Bases<'a, P> {
    fn new(plan: &'a Plan<'a>, capture: &'a impl Pinned<Pages = P>, compared: &'a Compared) -> Self {
        let earlier = &compared.earlier;
        let below = earlier.state.shape();
        let wal = earlier.position.and_then(|position| position.wal);
        let frames = wal.map(|wal| capture.pages().frames_before(&wal)).unwrap_or_default();
        Self { plan, pages: capture.pages(), compared, below, frames, stack: OnceLock::new() }
    }

    fn of(&self, leaves: &[u32]) -> Result<Vec<Option<Vec<u8>>>, ImageError<SourceError>> {
        let in_source = leaves.par_iter().map(|&leaf| self.in_source(leaf));
        let mut found: Vec<Option<Vec<u8>>> = in_source.collect::<Result<_, _>>().map_err(ImageError::Source)?;
        let missing = leaves.iter().zip(&found).filter(|(leaf, found)| found.is_none() && **leaf < self.below.count());
        let missing: Vec<u32> = missing.map(|(&leaf, _)| leaf).collect();
        if !missing.is_empty()
            && let Some(stack) = self.stack.get_or_init(|| self.open_stack())
            && self.is_worth_fetching(stack, &missing)
        {
            // A page that cannot be read from there is stored plain.
            let mut stored = read_leaves(stack, self.below, &missing).unwrap_or_default().into_iter();
            for base in found.iter_mut().zip(leaves).filter(|(_, leaf)| missing.binary_search(leaf).is_ok()) {
                *base.0 = stored.next().flatten();
            }
        }
        Ok(found)
    }

    /// Over a network, no more is fetched than changed: pages that are spread over many chunks are cheaper to store whole than to fetch all those chunks for.
    fn is_worth_fetching(&self, stack: &StackReader, leaves: &[u32]) -> bool {
        if self.plan.repository.store().concurrency() == 0 {
            return true;
        }
        let pages: Vec<PageNo> = pages_of(leaves, self.below).collect();
        let changed_bytes = (pages.len() * self.below.page_size.bytes()) as u64;
        stack.fetched_bytes(pages.into_iter()) <= changed_bytes
    }

    fn open_stack(&self) -> Option<StackReader> {
        match StackReader::open(self.plan.reader, &self.compared.earlier.state) {
            Ok(stack) => Some(stack),
            Err(fault) => {
                let text = format!("{}; changed pages are stored whole", fault.describe());
                self.plan.monitor.event(Event::Notice(text));
                None
            }
        }
    }

    /// The earlier content of a leaf, if the source still has it.
    fn in_source(&self, leaf: u32) -> Result<Option<Vec<u8>>, SourceError> {
        let found = self.compared.leaves.binary_search_by_key(&leaf, |changed| changed.leaf);
        let Some(expected) = found.ok().and_then(|at| self.compared.leaves[at].before) else { return Ok(None) };
        let (first, count) = self.below.pages(leaf);
        let page_bytes = self.below.page_size.bytes();
        let mut content = vec![0; count as usize * page_bytes];
        for use_frames in [true, false] {
            let mut complete = true;
            for (at, page) in content.chunks_exact_mut(page_bytes).enumerate() {
                let number = PageNo(first.0 + at as u32);
                let frame = if use_frames { self.frames.get(&number).copied() } else { None };
                complete &= self.pages.read_candidate(number, frame, page)?;
            }
            if complete && self.below.hash(leaf, &content) == expected {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }
}
