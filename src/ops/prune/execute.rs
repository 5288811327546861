//! Does what was planned: tombstones, the fence, another look, what is needed elsewhere, and only then deletions.

use std::collections::BTreeSet;
use std::io;

use crate::base::clock::{Timer, UnixMicros};
use crate::base::id::ObjectHash;
use crate::format::name::ObjectName;
use crate::format::pack::EncodedChunk;
use crate::format::timeline::Event;
use crate::monitor::{self, Monitor, Phase};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::chunk_writer::{ChunkWriter, EncodeOptions, Written};
use crate::repo::index::Place;
use crate::repo::pack_fetch::{self, Fetched};
use crate::repo::timeline::{self, Behind, Timeline};
use crate::repo::tombstones::Tombstones;
use crate::repo::{Repository, RepositoryError};
use crate::store::StoreError;
use crate::store::lane::concurrently;

use super::look::{self, Look, look_once, require_on_all};
use super::{PruneError, PrunePlan, Tally, gone, segments};

/// How often the end of a timeline is read anew because others append to it.
const MOST_APPENDS: usize = 100;

/// What was done.
#[derive(Debug, Default)]
pub struct PruneSummary {
    /// Snapshots that are gone.
    pub gone_count: usize,
    /// Packs that were deleted.
    pub deleted: Tally,
    /// Packs that the store does not let go, for they are locked: the next run tries again.
    pub locked: Tally,
    /// What was written anew.
    pub written: Written,
    /// Index segments that were replaced.
    pub segment_count: usize,
    /// Entries, journal objects and verifications that were deleted.
    pub leftover_count: usize,
}

/// Does what was planned. `timer` waits where a listing may lag.
pub fn prune(
    repository: &Repository,
    plan: &PrunePlan,
    timer: &dyn Timer,
    monitor: &dyn Monitor,
) -> Result<PruneSummary, PruneError> {
    let mut summary = PruneSummary::default();
    // What later tombstones name, their collectors have yet to put a fence behind.
    let mut fenced = Tombstones::default();
    if plan.needs_fence() {
        let (mut tombstones, faults) = Tombstones::load(repository)?;
        if !faults.is_empty() {
            return Err(PruneError::Damaged(faults));
        }
        tombstones.bury(repository, plan.bury.iter().copied())?;
        if !plan.options.list_lag.is_zero() {
            timer.wait(plan.options.list_lag * 2);
        }
        summary.gone_count = fence(repository, plan.now, monitor)?;
        fenced = tombstones;
    }
    let (look, written) = look::persist(|| {
        let look = look_once(repository, None, monitor)?;
        require_on_all(repository, look.needed())?;
        let written = carry(repository, &look, monitor)?;
        Ok((look, written))
    })?;
    summary.written = written;
    let is_buried = |pack| fenced.surely_names(pack);
    summary.segment_count = segments::replace(repository, &is_buried)?;
    delete_packs(repository, &look, &is_buried, &mut summary, monitor)?;
    let leftovers: Vec<ObjectName> = look.leftovers().collect();
    summary.leftover_count = leftovers.len();
    if !leftovers.is_empty() && !plan.options.list_lag.is_zero() {
        // What says that entries are gone is seen by everybody before their names are free again.
        timer.wait(plan.options.list_lag);
    }
    delete(repository, leftovers, monitor)?.into_iter().try_for_each(|(_, deleted)| deleted)?;
    let (mut tombstones, _) = Tombstones::load(repository)?;
    tombstones.merge(repository)?;
    Ok(summary)
}

/// Appends the fence to every timeline; returns how many snapshots are gone by that.
fn fence(repository: &Repository, now: UnixMicros, monitor: &dyn Monitor) -> Result<usize, PruneError> {
    let (timelines, faults) = timeline::load_all(repository)?;
    if !faults.is_empty() {
        return Err(PruneError::Damaged(faults));
    }
    let mut gone_count = 0;
    for mut timeline in timelines {
        monitor.check_cancelled()?;
        gone_count += fence_timeline(repository, &mut timeline, now)?;
    }
    Ok(gone_count)
}

fn fence_timeline(repository: &Repository, timeline: &mut Timeline, now: UnixMicros) -> Result<usize, PruneError> {
    let name = timeline.name().to_owned();
    let mut appends = 0;
    loop {
        appends += 1;
        let due = gone::due(timeline, now).count();
        let event = Event::Collected { gone: gone::runs(timeline, now) };
        match timeline.append(repository, &name, event, Behind::Nothing) {
            Ok(_) => return Ok(due),
            // Decided anew on what is there now.
            Err(RepositoryError::Fenced { .. }) if appends < MOST_APPENDS => {
                let (now_there, faults) = timeline::load(repository, &name)?;
                if !faults.is_empty() {
                    return Err(PruneError::Damaged(faults));
                }
                *timeline = now_there;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Copies chunks that are needed and stand in no pack that stays.
fn carry(repository: &Repository, look: &Look, monitor: &dyn Monitor) -> Result<Written, PruneError> {
    let mut places: Vec<Place> = look.homeless().filter_map(Result::ok).collect();
    if places.is_empty() {
        return Ok(Written::default());
    }
    places.sort_unstable_by_key(pack_fetch::sort_key);
    let reader = ChunkReader::new(repository, &look.index);
    let mut writer = ChunkWriter::new(repository, &look.index, EncodeOptions::default());
    let total_bytes = places.iter().map(|place| u64::from(place.chunk.length)).sum();
    monitor.event(monitor::Event::Started { phase: Phase::Repack, total_bytes });
    pack_fetch::fetch(&reader, &places, monitor, |fetched: &Fetched| {
        for &place in &places[fetched.positions.clone()] {
            let needed_by = || "a snapshot that stays".to_owned();
            let opened = reader.open_fetched(place, fetched.sealed(place), &needed_by)?;
            writer.add(EncodedChunk { id: place.chunk.id, encoded: opened.encoded })?;
            monitor.event(monitor::Event::Advanced(place.chunk.length.into()));
        }
        Ok::<(), RepositoryError>(())
    })?;
    let written = writer.settle()?;
    monitor.event(monitor::Event::Finished);
    let packs: BTreeSet<ObjectName> = writer.stand(None).packs.into_iter().map(ObjectName::pack).collect();
    require_on_all(repository, packs)?;
    Ok(written)
}

fn delete_packs(
    repository: &Repository,
    look: &Look,
    is_buried: &dyn Fn(ObjectHash) -> bool,
    summary: &mut PruneSummary,
    monitor: &dyn Monitor,
) -> Result<(), PruneError> {
    let buried = look.packs.keys().copied().filter(|&pack| is_buried(pack));
    let names: Vec<ObjectName> = buried.map(ObjectName::pack).collect();
    for (name, deleted) in delete(repository, names, monitor)? {
        let bytes = name.hash().and_then(|pack: ObjectHash| look.packs.get(&pack)).copied().unwrap_or_default();
        match deleted {
            Ok(()) => summary.deleted.add(bytes),
            Err(error) if is_locked(&error) => summary.locked.add(bytes),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Whether the store refuses a deletion that it may allow later.
fn is_locked(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
}

/// An object, and what came of its deletion.
type Deleted = (ObjectName, Result<(), StoreError>);

/// Deletes objects, several at once; says of each what came of it.
fn delete(repository: &Repository, names: Vec<ObjectName>, monitor: &dyn Monitor) -> Result<Vec<Deleted>, PruneError> {
    let store = repository.store();
    let mut all = Vec::new();
    for names in names.chunks(store.concurrency().max(1) * 16) {
        monitor.check_cancelled()?;
        let deleted = concurrently(store.concurrency(), names, |name| store.delete(name));
        all.extend(names.iter().cloned().zip(deleted));
    }
    Ok(all)
}
