//! Fetches many chunks: neighbours in a pack with one request, several requests at once, ahead of whoever decodes them.
//!
//! Requests begin in the order of the packs and are handed over as they end. What is fetched and not yet decoded stays within a budget, whatever the
//! number of threads and the size of the database; the plan takes 48 bytes a request. With no threads ([`super::Environment::fetch_threads`]) each is made when it is
//! its turn, so order and memory are always the same.
//!
//! A request that fails is no error here: its chunks have other places, or the reader says what is wrong when it tries them one by one. An error of the caller or the wish
//! to stop ends everything: requests that have not begun are not made, those under way end by themselves, and nobody waits for them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use crate::base::id::{ChunkId, ObjectHash};
use crate::format::name::ObjectName;
use crate::monitor::Monitor;
use crate::store::lane::Lane;

use super::chunk_reader::ChunkReader;
use super::index::Place;
use super::{Fault, RepositoryError};

/// The most that is fetched with one request, unless a single chunk is longer.
const FETCH_BYTES: u64 = 4 << 20;
/// Bytes that nobody needs are fetched along if they are fewer than a further request costs.
const GAP_BYTES: u64 = 128 << 10;
/// What may be under way or wait to be decoded. A chunk is bounded, so a single request always fits.
const BUDGET_BYTES: u64 = 64 << 20;
/// How often the wish to stop is looked at while a destination takes its time.
const PATIENCE: Duration = Duration::from_millis(50);

/// Chunks that came with one request.
pub struct Fetched {
    /// Their positions among the places that were asked for.
    pub positions: Range<usize>,
    start: u64,
    bytes: Option<Vec<u8>>,
}

impl Fetched {
    /// What came from `start` in a pack on, if anything did.
    pub fn new(positions: Range<usize>, start: u64, bytes: Option<Vec<u8>>) -> Self {
        Self { positions, start, bytes }
    }

    /// The sealed bytes of the chunk at `place`, one of those asked for, if they came.
    pub fn sealed(&self, place: Place) -> Option<&[u8]> {
        let offset = u64::from(place.chunk.offset).checked_sub(self.start)? as usize;
        self.bytes.as_ref()?.get(offset..)?.get(..place.chunk.length as usize)
    }
}

/// One request.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    pack: ObjectHash,
    range: Range<u64>,
    positions: Range<usize>,
}

impl Request {
    fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Puts places in the order in which they are fetched.
pub fn sort_key(place: &Place) -> (ObjectHash, u32) {
    (place.pack.name, place.chunk.offset)
}

/// Fetches the chunks at `places`, which are sorted by [`sort_key`], and hands them to `take`, a request at a time.
pub fn fetch<E: From<RepositoryError>>(
    reader: &ChunkReader,
    places: &[Place],
    monitor: &dyn Monitor,
    mut take: impl FnMut(&Fetched) -> Result<(), E>,
) -> Result<(), E> {
    let requests = plan(places);
    let mut lane = fetch_lane(reader, requests.len());
    let mut waiting = requests.iter().enumerate().peekable();
    let mut budget = BUDGET_BYTES;
    loop {
        monitor.check_cancelled().map_err(|cancelled| E::from(cancelled.into()))?;
        while lane.in_flight() < lane.width()
            && let Some((number, request)) =
                waiting.next_if(|(_, request)| request.bytes() <= budget || lane.in_flight() == 0)
        {
            budget = budget.saturating_sub(request.bytes());
            lane.submit((number, request.pack, request.range.clone()));
        }
        if lane.in_flight() == 0 {
            return Ok(());
        }
        if let Some((number, bytes)) = lane.wait(PATIENCE) {
            let Request { positions, range, .. } = &requests[number];
            take(&Fetched { positions: positions.clone(), start: range.start, bytes })?;
            budget += requests[number].bytes();
        }
    }
}

/// Reads chunks one by one, some ahead, and hands each to `take` with its position, in this order. `needed_by` says what a position is needed for. For
/// chunks of which the next few fit into memory: segments of page maps and deltas.
pub fn read_ahead<E: From<Fault>>(
    reader: &ChunkReader,
    chunks: &[ChunkId],
    needed_by: &dyn Fn(usize) -> String,
    mut take: impl FnMut(usize, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    // One chunk alone needs nobody beside the caller.
    let mut lane = fetch_lane(reader, chunks.len() - chunks.len().min(1));
    let (mut submitted, mut arrived) = (0, BTreeMap::new());
    for (position, &chunk) in chunks.iter().enumerate() {
        let place = reader.place(chunk);
        while place.is_some() && !arrived.contains_key(&position) {
            while submitted < chunks.len() && submitted < position + lane.width() {
                if let Some(Place { pack, chunk }) = reader.place(chunks[submitted]) {
                    let start = u64::from(chunk.offset);
                    lane.submit((submitted, pack.name, start..start + u64::from(chunk.length)));
                }
                submitted += 1;
            }
            arrived.extend(lane.wait(PATIENCE));
        }
        let sealed: Option<Vec<u8>> = arrived.remove(&position).flatten();
        let decoded = match place {
            Some(place) => reader.open_fetched(place, sealed.as_deref(), &|| needed_by(position))?.decoded,
            None => reader.read(chunk, &|| needed_by(position))?,
        };
        take(position, decoded)?;
    }
    Ok(())
}

type Job = (usize, ObjectHash, Range<u64>);

/// A lane for so many requests.
fn fetch_lane(reader: &ChunkReader, requests: usize) -> Lane<Job, (usize, Option<Vec<u8>>)> {
    let (repository, packs) = (reader.repository().clone(), reader.packs());
    let threads = repository.environment().fetch_threads.min(requests);
    Lane::new(threads, move |(number, pack, range): Job| {
        let bytes = repository.store().read_range(&ObjectName::pack(pack), range.clone()).ok();
        // Opened here, so that whoever decodes has nothing to wait for.
        match &bytes {
            Some(bytes) if range.start == 0 => packs.learn(&repository, pack, bytes),
            Some(_) => _ = packs.open(&repository, pack),
            None => {}
        }
        (number, bytes)
    })
}

/// The requests for places that are sorted. One that begins near the front of its pack takes the header along.
fn plan(places: &[Place]) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    for (position, place) in places.iter().enumerate() {
        let start = u64::from(place.chunk.offset);
        let end = start + u64::from(place.chunk.length);
        match requests.last_mut() {
            Some(last) if last.pack == place.pack.name && fits(&last.range, start, end) => {
                last.range.end = last.range.end.max(end);
                last.positions.end = position + 1;
            }
            _ => {
                let start = if start <= GAP_BYTES { 0 } else { start };
                requests.push(Request { pack: place.pack.name, range: start..end, positions: position..position + 1 });
            }
        }
    }
    requests
}

fn fits(range: &Range<u64>, start: u64, end: u64) -> bool {
    start <= range.end + GAP_BYTES && end - range.start <= FETCH_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ChunkId;
    use crate::format::index::ListedPack;
    use crate::format::pack::PackedChunk;

    fn places(chunks: &[(u8, u32, u32)]) -> Vec<Place> {
        let place = |&(pack, offset, length): &(u8, u32, u32)| Place {
            pack: ListedPack { name: ObjectHash([pack; 32]), length: 64 << 20 },
            chunk: PackedChunk { id: ChunkId([0; 32]), offset, length },
        };
        chunks.iter().map(place).collect()
    }

    #[test]
    fn neighbours_share_a_request_and_the_header_comes_along() {
        const MIB: u32 = 1 << 20;
        let chunks = [
            (1, 92, 1000),
            (1, 1092, 1000),
            (1, 2092 + (128 << 10), 10),
            (1, MIB, 2 * MIB),
            (1, 3 * MIB, 2 * MIB),
            (1, 5 * MIB, MIB),
            (2, 10 * MIB, MIB),
        ];
        let planned: Vec<(u8, Range<u64>, Range<usize>)> = plan(&places(&chunks))
            .into_iter()
            .map(|request| (request.pack.0[0], request.range, request.positions))
            .collect();
        let mib = |count: u64| count << 20;
        assert_eq!(
            planned,
            [
                (1, 0..2102 + (128 << 10), 0..3),
                (1, mib(1)..mib(5), 3..5),
                (1, mib(5)..mib(6), 5..6),
                (2, mib(10)..mib(11), 6..7),
            ]
        );
        assert!(plan(&[]).is_empty());
    }

    #[test]
    fn a_place_that_did_not_come_is_nothing() {
        let all = places(&[(1, 100, 10), (1, 105, 6), (1, 90, 10)]);
        let fetched = Fetched::new(0..1, 100, Some(vec![7; 10]));
        assert_eq!(fetched.sealed(all[0]), Some(&[7; 10][..]));
        assert_eq!((fetched.sealed(all[1]), fetched.sealed(all[2])), (None, None));
        assert_eq!(Fetched { bytes: None, ..fetched }.sealed(all[0]), None);
    }
}
