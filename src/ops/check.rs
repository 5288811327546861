//! Looks for damage, loss and manipulation.
//!
//! Without reading data: every index segment, every timeline with its chain, the remembered heads, every page map, and that each chunk a snapshot
//! needs is listed in a pack that is there with its full length. With data: every pack's hash, its footer against the index, and every chunk decoded
//! and compared with its id. Faults are collected, not thrown: one does not hide another.

use std::collections::{BTreeMap, HashMap, HashSet};

use rayon::prelude::*;

use crate::base::id::{ChunkId, ObjectHash};
use crate::format::name::{Folder, ObjectName};
use crate::format::pack::{MAX_PACK_BYTES, PackReader, PackedChunk};
use crate::monitor::{Event, Monitor, Phase};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::copies::read_whole;
use crate::repo::image_reader::pieces;
use crate::repo::index::Index;
use crate::repo::stack_reader::delta_parts;
use crate::repo::{Fault, Repository, RepositoryError, key_slots, verifications};
use crate::store::Listed;

use super::snapshots::{Snapshot, snapshots_and_forgotten};

/// How much to check.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckOptions {
    /// Read every pack and open every chunk.
    pub read_data: bool,
}

/// What was looked at, and what was found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Everything that is wrong.
    pub faults: Vec<Fault>,
    /// Snapshots looked at.
    pub snapshot_count: usize,
    /// Packs looked at.
    pub pack_count: usize,
    /// Chunks that the index lists.
    pub chunk_count: usize,
    /// Bytes of packs that were read.
    pub read_bytes: u64,
    /// Packs that no index segment lists, left by an interrupted backup, and their bytes. No damage.
    pub unlisted_packs: (usize, u64),
}

/// Checks a repository.
pub fn check(
    repository: &Repository,
    options: CheckOptions,
    monitor: &dyn Monitor,
) -> Result<CheckReport, RepositoryError> {
    let mut report = CheckReport::default();
    check_slots(repository, &mut report)?;
    // Read in the reverse of the order in which they are written, so that a writer at work is no fault.
    // What is forgotten may come back.
    let (snapshots, faults) = snapshots_and_forgotten(repository, None)?;
    report.snapshot_count = snapshots.len();
    let (index, found) = Index::load(repository)?;
    report.faults.extend(found);
    report.chunk_count = index.len();
    let packs = check_packs(repository, &index, &mut report)?;
    report.faults.extend(faults);
    let (_, faults) = verifications::load(repository)?;
    report.faults.extend(faults);
    check_snapshots(repository, &index, &snapshots, &mut report);
    if options.read_data {
        check_data(repository, &index, &packs, &mut report, monitor)?;
    }
    Ok(report)
}

fn check_slots(repository: &Repository, report: &mut CheckReport) -> Result<(), RepositoryError> {
    let (slots, faults) = key_slots(repository)?;
    if slots.is_empty() {
        report.faults.push(Fault::NoKeySlot);
    }
    report.faults.extend(faults);
    for listed in repository.store().list(Folder::Keys)? {
        if listed.name.slot().is_none() {
            report.faults.push(Fault::ForeignName { name: listed.name });
        }
    }
    Ok(())
}

/// Compares the packs in the store with those in the index; returns those in the store.
fn check_packs(
    repository: &Repository,
    index: &Index,
    report: &mut CheckReport,
) -> Result<Vec<Listed>, RepositoryError> {
    let packs = repository.store().list(Folder::Packs)?;
    let mut present = HashMap::new();
    for listed in &packs {
        match listed.name.hash() {
            Some(hash) => _ = present.insert(hash, listed.bytes),
            None => report.faults.push(Fault::ForeignName { name: listed.name.clone() }),
        }
    }
    let mut indexed: BTreeMap<ObjectHash, (u64, usize)> = BTreeMap::new();
    for place in index.iter() {
        indexed.entry(place.pack.name).or_insert((place.pack.length, 0)).1 += 1;
    }
    for (&hash, &(expected, chunk_count)) in &indexed {
        let name = ObjectName::pack(hash);
        match present.get(&hash) {
            None => report.faults.push(Fault::MissingPack { name, chunk_count }),
            Some(&found) if found != expected => report.faults.push(Fault::PackLength { name, expected, found }),
            Some(_) => {}
        }
    }
    report.pack_count = packs.len();
    let unlisted = present.iter().filter(|(hash, _)| !indexed.contains_key(hash));
    report.unlisted_packs = unlisted.fold((0, 0), |(count, bytes), (_, length)| (count + 1, bytes + length));
    Ok(packs)
}

/// Every page map and delta parses, and every chunk that they name is listed.
fn check_snapshots(repository: &Repository, index: &Index, snapshots: &[Snapshot], report: &mut CheckReport) {
    let reader = ChunkReader::new(repository, index);
    let (mut missing, mut deltas_read) = (HashSet::new(), HashSet::new());
    for snapshot in snapshots {
        let state = snapshot.state();
        match pieces(&reader, &state) {
            Err(fault) => report.faults.push(fault),
            Ok(pieces) => {
                let chunks = pieces.iter().map(|piece| piece.chunk);
                missing.extend(chunks.filter(|&chunk| !index.contains(chunk)).map(|chunk| (snapshot.id, chunk)));
            }
        }
        let deltas = state.deltas().iter().flat_map(|layer| layer.segments.iter().copied().enumerate());
        for (position, chunk) in deltas {
            // Layers are shared: each segment is read once.
            if deltas_read.insert(chunk)
                && let Err(fault) = delta_parts(&reader, snapshot.id, state.page_size, position, chunk)
            {
                report.faults.push(fault);
            }
        }
    }
    let mut missing: Vec<(ObjectHash, ChunkId)> = missing.into_iter().collect();
    missing.sort_unstable();
    let fault = |(id, chunk)| Fault::MissingChunk { chunk, needed_by: format!("snapshot {id}") };
    report.faults.extend(missing.into_iter().map(fault));
}

fn check_data(
    repository: &Repository,
    index: &Index,
    packs: &[Listed],
    report: &mut CheckReport,
    monitor: &dyn Monitor,
) -> Result<(), RepositoryError> {
    let mut indexed: HashMap<ObjectHash, Vec<PackedChunk>> = HashMap::new();
    for place in index.iter() {
        indexed.entry(place.pack.name).or_default().push(place.chunk);
    }
    let total_bytes = packs.iter().map(|pack| pack.bytes).sum();
    monitor.event(Event::Started { phase: Phase::CheckData, total_bytes });
    for pack in packs {
        monitor.check_cancelled()?;
        let Some(hash) = pack.name.hash() else { continue };
        let listed = indexed.remove(&hash).unwrap_or_default();
        report.faults.extend(check_pack(repository, &pack.name, hash, listed));
        report.read_bytes += pack.bytes;
        monitor.event(Event::Advanced(pack.bytes));
    }
    monitor.event(Event::Finished);
    Ok(())
}

fn check_pack(repository: &Repository, name: &ObjectName, hash: ObjectHash, listed: Vec<PackedChunk>) -> Vec<Fault> {
    let read = read_whole(repository.store(), repository.damaged_copies(), name, MAX_PACK_BYTES as usize, |bytes| {
        let found = ObjectHash::of(&bytes);
        if found == hash { Ok(bytes) } else { Err(Fault::WrongHash { name: name.clone(), found }) }
    });
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(fault) => return vec![fault],
    };
    let opened = PackReader::open(&bytes, &repository.config().seal_context(), repository.keys())
        .and_then(|pack| pack.footer(&bytes, repository.keys()).map(|footer| (pack, footer)));
    match opened {
        Err(source) => vec![Fault::Object { name: name.clone(), source }],
        Ok((pack, footer)) => {
            let mut faults = check_chunks(repository, name, &pack, &bytes, &footer);
            faults.extend(compare_footer(name, footer, listed));
            faults
        }
    }
}

fn check_chunks(
    repository: &Repository,
    name: &ObjectName,
    pack: &PackReader,
    bytes: &[u8],
    footer: &[PackedChunk],
) -> Vec<Fault> {
    let check = |chunk: &PackedChunk| {
        let range = chunk.offset as usize..(chunk.offset + chunk.length) as usize;
        let opened = pack.chunk(chunk.id, chunk.offset, &mut bytes[range].to_vec(), repository.keys());
        opened.err().map(|source| Fault::Chunk { name: name.clone(), chunk: chunk.id, offset: chunk.offset, source })
    };
    footer.par_iter().filter_map(check).collect()
}

/// A pack that no segment lists is left over from an interrupted backup; one that is listed must be listed rightly.
fn compare_footer(name: &ObjectName, footer: Vec<PackedChunk>, mut listed: Vec<PackedChunk>) -> Option<Fault> {
    if listed.is_empty() {
        return None;
    }
    listed.sort_unstable_by_key(|chunk| chunk.offset);
    listed.dedup();
    let differs = footer.iter().zip(&listed).find(|(a, b)| a != b).map(|(_, b)| b.id);
    let longer = || footer.get(listed.len()).or_else(|| listed.get(footer.len())).map(|chunk| chunk.id);
    differs.or_else(longer).map(|chunk| Fault::IndexDisagrees { name: name.clone(), chunk })
}
