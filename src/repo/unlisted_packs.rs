//! Packs that no index segment lists: what an upload that was killed has left. A later one uses them instead of storing their chunks again.
//!
//! # Invariants
//! * A pack is used only if its header opens with the repository's key, its footer authenticates under that header, and every chunk that the footer names lies inside the length
//!   that the store gives. The footer was sealed by a writer that had verified the pack, and a store keeps objects whole or not at all; whoever reads a chunk verifies it again.
//! * The store decides nothing: a pack that it cuts, exchanges or invents does not authenticate, and is ignored with a notice.
//! * Nothing is deleted or changed. The packs are listed in a segment of the writer's own, before the entry that needs them, like its own packs.
//! * Two writers may list the same pack, one of which wrote it: then a chunk has the same place twice, which is no fault.

use std::collections::HashSet;
use std::time::Duration;

use crate::base::id::ObjectHash;
use crate::format::FormatError;
use crate::format::index::ListedPack;
use crate::format::name::{Folder, ObjectName};
use crate::format::object::MAX_SEALED_BYTES;
use crate::format::pack::{self, PACK_HEADER_BYTES, PackReader, PackedChunk, TRAILER_BYTES};
use crate::monitor::{Event, Monitor};
use crate::store::lane::Lane;

use super::chunk_writer::ChunkWriter;
use super::{Fault, Repository, RepositoryError};

/// The end of a pack that is fetched first: the footer of most packs, with room for three times as many chunks as a pack of average ones holds.
const TAIL_BYTES: u64 = 64 << 10;

/// How often the wish to stop is looked at while a destination takes its time.
const PATIENCE: Duration = Duration::from_millis(50);

/// What was found in a pack, or what is wrong with it.
pub type Footer = Result<(ListedPack, Vec<PackedChunk>), Fault>;

/// Lets `writer` use, and list, all packs that its index does not list. A second call for the same writer does nothing: what is unlisted then is its own.
pub fn adopt(
    repository: &Repository,
    writer: &mut ChunkWriter<'_>,
    monitor: &dyn Monitor,
) -> Result<(), RepositoryError> {
    if !writer.begin_adoption() {
        return Ok(());
    }
    let listed: HashSet<ObjectHash> = writer.index().iter().map(|place| place.pack.name).collect();
    let unlisted = repository.store().list(Folder::Packs)?.into_iter().filter_map(|found| {
        let name = found.name.hash().filter(|&name| !listed.contains(&name) && writer.index().is_reliable(name))?;
        Some(ListedPack { name, length: found.bytes })
    });
    let (mut count, mut bytes) = (0, 0);
    for_each_footer(repository, unlisted.collect(), monitor, |footer| {
        match footer {
            Ok((pack, chunks)) => {
                (count, bytes) = (count + 1, bytes + pack.length);
                writer.adopt(pack, &chunks)?;
            }
            Err(fault) => monitor.event(Event::Notice(format!("{}; it is not used", fault.describe()))),
        }
        Ok(())
    })?;
    if count > 0 {
        let text = format!("{count} packs of an interrupted backup are used: {} MiB", bytes >> 20);
        monitor.event(Event::Notice(text));
    }
    Ok(())
}

/// Reads the footers of these packs, several at once, and hands each to `take`, in no particular order.
pub fn for_each_footer(
    repository: &Repository,
    packs: Vec<ListedPack>,
    monitor: &dyn Monitor,
    mut take: impl FnMut(Footer) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let threads = repository.environment().fetch_threads.min(packs.len());
    let worker = repository.clone();
    let mut lane = Lane::new(threads, move |pack| read_footer(&worker, pack));
    let mut packs = packs.into_iter();
    loop {
        monitor.check_cancelled()?;
        while lane.in_flight() < lane.width()
            && let Some(pack) = packs.next()
        {
            lane.submit(pack);
        }
        if lane.in_flight() == 0 {
            return Ok(());
        }
        if let Some(footer) = lane.wait(PATIENCE) {
            take(footer)?;
        }
    }
}

/// Reads what a pack holds from its two ends.
fn read_footer(repository: &Repository, pack: ListedPack) -> Footer {
    let name = ObjectName::pack(pack.name);
    let fault = |source: FormatError| Fault::Object { name: name.clone(), source };
    let read = |range| repository.store().read_range(&name, range).map_err(Fault::unreadable(&name));
    let shortest = (PACK_HEADER_BYTES + TRAILER_BYTES) as u64;
    if pack.length < shortest {
        return Err(fault(FormatError::Malformed("shorter than a pack's header and trailer".into())));
    }
    let mut end = read(pack.length - TAIL_BYTES.min(pack.length)..pack.length)?;
    let footer_bytes = pack::footer_bytes_at_end(&end, pack.length).map_err(fault)?;
    if footer_bytes > MAX_SEALED_BYTES as u64 {
        return Err(fault(FormatError::TooLarge { found: footer_bytes, limit: MAX_SEALED_BYTES as u64 }));
    }
    let needed = footer_bytes + TRAILER_BYTES as u64;
    if needed > end.len() as u64 {
        end = read(pack.length - needed..pack.length)?;
    }
    let head = read(0..PACK_HEADER_BYTES as u64)?;
    let reader = PackReader::open(&head, &repository.config().seal_context(), repository.keys()).map_err(fault)?;
    let chunks = reader.footer_at_end(&end, pack.length, repository.keys()).map_err(fault)?;
    Ok((pack, chunks))
}
