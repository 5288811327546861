//! Does what was planned. What replaces something is durable before that goes.

use std::collections::BTreeSet;

use crate::base::id::ObjectHash;
use crate::format::pack::EncodedChunk;
use crate::monitor::{self, Monitor, Phase};
use crate::ops::prune::segments;
use crate::ops::sync::{self, KeepReplaced};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::chunk_writer::{ChunkWriter, EncodeOptions, Written, encode};
use crate::repo::pack_fetch::{self, Fetched};
use crate::repo::tombstones::Tombstones;
use crate::repo::{Repository, RepositoryError};

use super::source::Source;
use super::{RepairError, RepairPlan, copies, log, mark};

/// What was done.
#[derive(Debug, Default)]
pub struct RepairSummary {
    /// Copies that were made on other destinations, or mended there.
    pub copied_count: u64,
    /// Packs that were listed anew.
    pub relisted_count: usize,
    /// Chunks that were carried over from packs that are given up.
    pub carried_count: usize,
    /// Chunks that were taken from the live source.
    pub from_source_count: usize,
    /// What was written for these.
    pub written: Written,
    /// Packs that were given up.
    pub given_up_count: usize,
    /// Index segments that were deleted or replaced.
    pub segment_count: usize,
    /// Snapshots that were taken out of the log.
    pub dropped_count: usize,
    /// Databases whose log says now what is damaged.
    pub marked_count: usize,
    /// Tombstones that were replaced.
    pub tombstone_count: usize,
    /// Verifications that were deleted.
    pub verification_count: usize,
    /// What went wrong; the rest was done.
    pub errors: Vec<String>,
}

/// Does what was planned, with the same sources. What is replaced on a destination, and may have been right, is given to `keep` first.
pub fn repair(
    repository: &Repository,
    plan: &RepairPlan,
    sources: &[Source<'_>],
    keep: &KeepReplaced<'_>,
    monitor: &dyn Monitor,
) -> Result<RepairSummary, RepairError> {
    let mut summary = RepairSummary::default();
    make_destinations_whole(repository, plan, keep, monitor, &mut summary)?;
    store_chunks(repository, plan, sources, monitor, &mut summary)?;
    bury(repository, plan, &mut summary)?;
    for name in &plan.segments {
        repository.store().delete(name)?;
        summary.segment_count += 1;
    }
    if !plan.unlisted.is_empty() {
        summary.segment_count += segments::replace(repository, &|pack| plan.unlisted.contains(&pack))?;
    }
    for change in &plan.log {
        monitor.check_cancelled()?;
        match log::amend(repository, change) {
            Ok(count) => summary.dropped_count += count,
            Err(RepositoryError::Fault(fault)) => {
                summary.errors.push(format!("{}: the log stays as it is: {}", change.name, fault.describe()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    for change in &plan.marks {
        monitor.check_cancelled()?;
        match mark::mark(repository, change) {
            Ok(true) => summary.marked_count += 1,
            Ok(false) => {
                summary.errors.push(format!("{}: others have written to its log meanwhile: repair again", change.name));
            }
            Err(RepositoryError::Fault(fault)) => {
                summary.errors.push(format!("{}: damage is not noted in its log: {}", change.name, fault.describe()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    for name in &plan.verifications {
        repository.store().delete(name)?;
        summary.verification_count += 1;
    }
    Ok(summary)
}

fn make_destinations_whole(
    repository: &Repository,
    plan: &RepairPlan,
    keep: &KeepReplaced<'_>,
    monitor: &dyn Monitor,
    summary: &mut RepairSummary,
) -> Result<(), RepairError> {
    let Some(destinations) = &plan.destinations else { return Ok(()) };
    let stores = repository.store().copies();
    for (at, name) in &plan.copies {
        match copies::mend(repository, &stores, *at, name, keep) {
            Ok(()) => summary.copied_count += 1,
            Err(error) => summary.errors.push(error),
        }
    }
    // What was in conflict with a damaged copy can be compared now.
    let options = copies::options(repository, plan.options.read_data);
    let anew = if plan.copies.is_empty() { None } else { Some(sync::compare(&stores, options, monitor)?) };
    let done = sync::execute(&stores, anew.as_ref().unwrap_or(destinations), keep, monitor)?;
    summary.copied_count += done.copied;
    summary.errors.extend(done.errors);
    if summary.errors.is_empty() {
        repository.damaged_copies().clear();
    }
    Ok(())
}

/// Lists packs anew, carries good chunks over, and stores what the source has: packs, then index segments.
fn store_chunks(
    repository: &Repository,
    plan: &RepairPlan,
    sources: &[Source<'_>],
    monitor: &dyn Monitor,
    summary: &mut RepairSummary,
) -> Result<(), RepairError> {
    if plan.relisted.is_empty() && plan.carried.is_empty() && plan.from_source.is_empty() {
        return Ok(());
    }
    let encode_options = EncodeOptions::default();
    let mut writer = ChunkWriter::new(repository, &plan.index, encode_options);
    for (pack, chunks) in &plan.relisted {
        writer.adopt(*pack, chunks)?;
    }
    carry(repository, plan, &mut writer, monitor)?;
    for found in &plan.from_source {
        monitor.check_cancelled()?;
        match found.read(repository, sources) {
            Some(bytes) => {
                writer.add(encode(found.chunk, &bytes, encode_options)?)?;
                summary.from_source_count += 1;
            }
            None => summary.errors.push(format!("chunk {}: the source has changed meanwhile", found.chunk)),
        }
    }
    summary.written = writer.settle()?;
    (summary.relisted_count, summary.carried_count) = (plan.relisted.len(), plan.carried.len());
    // Faults count: what cannot be read may name anything. Those that are to be replaced are known.
    let (tombstones, _) = Tombstones::load(repository)?;
    if writer.stand(None).packs.iter().any(|&pack| tombstones.surely_names(pack)) {
        return Err(RepositoryError::Collected.into());
    }
    Ok(())
}

fn carry(
    repository: &Repository,
    plan: &RepairPlan,
    writer: &mut ChunkWriter<'_>,
    monitor: &dyn Monitor,
) -> Result<(), RepositoryError> {
    let mut places = plan.carried.clone();
    places.sort_unstable_by_key(pack_fetch::sort_key);
    let reader = ChunkReader::new(repository, &plan.index);
    let total_bytes = places.iter().map(|place| u64::from(place.chunk.length)).sum();
    monitor.event(monitor::Event::Started { phase: Phase::Repack, total_bytes });
    pack_fetch::fetch(&reader, &places, monitor, |fetched: &Fetched| {
        for &place in &places[fetched.positions.clone()] {
            let opened = reader.open_fetched(place, fetched.sealed(place), &|| "a snapshot".to_owned())?;
            writer.add(EncodedChunk { id: place.chunk.id, encoded: opened.encoded })?;
            monitor.event(monitor::Event::Advanced(place.chunk.length.into()));
        }
        Ok::<(), RepositoryError>(())
    })?;
    monitor.event(monitor::Event::Finished);
    Ok(())
}

/// Gives packs up, and replaces tombstones that cannot be used: the new one is there before they go.
fn bury(repository: &Repository, plan: &RepairPlan, summary: &mut RepairSummary) -> Result<(), RepairError> {
    let given_up = plan.given_up.iter().map(|given_up| given_up.pack);
    let packs: BTreeSet<ObjectHash> = given_up.chain(plan.unneeded.iter().copied()).collect();
    if !packs.is_empty() {
        let (mut tombstones, _) = Tombstones::load(repository)?;
        tombstones.bury(repository, packs)?;
    }
    summary.given_up_count = plan.given_up.len();
    for name in &plan.tombstones {
        repository.store().delete(name)?;
        summary.tombstone_count += 1;
    }
    Ok(())
}
