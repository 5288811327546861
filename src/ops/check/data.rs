//! Reads packs: whole, with every chunk, or their footers alone.

use std::time::Duration;

use rayon::prelude::*;

use crate::base::id::ObjectHash;
use crate::format::index::ListedPack;
use crate::format::name::ObjectName;
use crate::format::pack::{MAX_PACK_BYTES, PackReader, PackedChunk};
use crate::monitor::{Event, Monitor, Phase};
use crate::repo::copies::read_whole;
use crate::repo::index::ByPack;
use crate::repo::unlisted_packs::for_each_footer;
use crate::repo::{Fault, Repository, RepositoryError};
use crate::store::lane::concurrently;

/// Packs that are read at a time: each takes its bytes in memory.
const MOST_AT_ONCE: usize = 4;

/// When to stop.
pub type IsTimeUp<'a> = dyn Fn() -> bool + 'a;

/// Whether so much time has passed since `begun`, on a timer that shows `now`.
pub fn is_over(begun: Duration, now: Duration, limit: Option<Duration>) -> bool {
    limit.is_some_and(|limit| now.saturating_sub(begun) >= limit)
}

/// Reads these packs in order, until time is up, and hands what is wrong with each to `take`.
pub fn read_packs(
    repository: &Repository,
    packs: &[ListedPack],
    by_pack: &ByPack,
    is_time_up: &IsTimeUp<'_>,
    monitor: &dyn Monitor,
    mut take: impl FnMut(ListedPack, Vec<Fault>),
) -> Result<(), RepositoryError> {
    let total_bytes = packs.iter().map(|pack| pack.length).sum();
    monitor.event(Event::Started { phase: Phase::CheckData, total_bytes });
    let width = repository.store().concurrency().clamp(1, MOST_AT_ONCE);
    for packs in packs.chunks(width) {
        if is_time_up() {
            break;
        }
        let read = concurrently(width, packs, |pack| read_pack(repository, pack.name, by_pack.chunks(pack.name)));
        // Asked for while the last of them were read, too: who interrupts is not told that all is well.
        monitor.check_cancelled()?;
        for (&pack, faults) in packs.iter().zip(read) {
            take(pack, faults);
            monitor.event(Event::Advanced(pack.length));
        }
    }
    monitor.event(Event::Finished);
    Ok(())
}

/// Reads a pack, compares its hash, opens every chunk, and compares its footer with what the index lists.
fn read_pack(repository: &Repository, hash: ObjectHash, listed: Vec<PackedChunk>) -> Vec<Fault> {
    let name = ObjectName::pack(hash);
    let read = read_whole(repository.store(), repository.damaged_copies(), &name, MAX_PACK_BYTES as usize, |bytes| {
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
        Err(source) => vec![Fault::Object { name, source }],
        Ok((pack, footer)) => {
            let mut faults = open_chunks(repository, &name, &pack, &bytes, &footer);
            faults.extend(compare_footer(&name, &footer, listed));
            faults
        }
    }
}

fn open_chunks(
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

/// Reads the two ends of these packs and compares their footers with what the index lists.
pub fn read_footers(
    repository: &Repository,
    packs: Vec<ListedPack>,
    by_pack: &ByPack,
    monitor: &dyn Monitor,
) -> Result<Vec<Fault>, RepositoryError> {
    let mut faults = Vec::new();
    for_each_footer(repository, packs, monitor, |footer| {
        match footer {
            Err(fault) => faults.push(fault),
            Ok((pack, footer)) => {
                let name = ObjectName::pack(pack.name);
                faults.extend(compare_footer(&name, &footer, by_pack.chunks(pack.name)));
            }
        }
        Ok(())
    })?;
    // They come in no particular order.
    faults.sort_by_cached_key(Fault::describe);
    Ok(faults)
}

/// A pack that no segment lists is left over from an interrupted backup; one that is listed must be listed rightly.
fn compare_footer(name: &ObjectName, footer: &[PackedChunk], listed: Vec<PackedChunk>) -> Option<Fault> {
    if listed.is_empty() {
        return None;
    }
    let differs = footer.iter().zip(&listed).find(|(a, b)| a != b).map(|(_, b)| b.id);
    let longer = || footer.get(listed.len()).or_else(|| listed.get(footer.len())).map(|chunk| chunk.id);
    differs.or_else(longer).map(|chunk| Fault::IndexDisagrees { name: name.clone(), chunk })
}
