//! Compares a state with the page map of an earlier one.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use crate::base::image_tree::{self, Leaves, NodeHash};
use crate::base::page::{PageNo, PageReader};
use crate::monitor::{Event, Monitor, Phase};
use crate::store::page_map::{BLOCK_LEAVES, PageMap};

use super::{ImageError, RepositoryError};

/// Bytes read at a time. A multiple of every page size.
const BATCH_BYTES: usize = 8 << 20;

/// Leaves that are hashed together: long enough for BLAKE3 to use all lanes of a vector unit.
const GROUP_BYTES: usize = 64 << 10;

/// A leaf that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedLeaf {
    /// Which.
    pub leaf: u32,
    /// Its hash in the earlier state, if it is known.
    pub before: Option<NodeHash>,
    /// Its hash in the new one.
    pub hash: NodeHash,
}

/// The leaves that differ from `map`, found by reading all of them.
pub fn scan<P: PageReader>(
    source: &P,
    map: &PageMap,
    monitor: &dyn Monitor,
) -> Result<Vec<ChangedLeaf>, ImageError<P::Error>> {
    let leaves = Leaves::of(source);
    let total_bytes = source.page_size().image_bytes(source.page_count());
    monitor.event(Event::Started { phase: Phase::Scan, total_bytes });
    // A batch is whole blocks, so that each is looked up once.
    let leaf_bytes = source.page_size().bytes() * leaves.pages_a_leaf() as usize;
    let batch = ((BATCH_BYTES / leaf_bytes) as u32).next_multiple_of(BLOCK_LEAVES);
    let starts: Vec<u32> = (0..leaves.count()).step_by(batch as usize).collect();
    let mut changed = Vec::new();
    // As many batches at once as there are processors: memory stays bounded.
    for group in starts.chunks(rayon::current_num_threads()) {
        monitor.check_cancelled().map_err(RepositoryError::from)?;
        let compared: Vec<Vec<ChangedLeaf>> = group
            .par_iter()
            .map(|&start| compare(source, map, leaves, start..leaves.count().min(start + batch)))
            .collect::<Result<_, P::Error>>()
            .map_err(ImageError::Source)?;
        changed.extend(compared.into_iter().flatten());
        monitor.event(Event::Advanced(group.len() as u64 * u64::from(batch) * leaf_bytes as u64));
    }
    monitor.event(Event::Finished);
    Ok(changed)
}

fn compare<P: PageReader>(
    source: &P,
    map: &PageMap,
    leaves: Leaves,
    range: Range<u32>,
) -> Result<Vec<ChangedLeaf>, P::Error> {
    let (first, _) = leaves.pages(range.start);
    let (last, last_pages) = leaves.pages(range.end - 1);
    let page_bytes = source.page_size().bytes();
    let length = (last.0 + last_pages - first.0) as usize * page_bytes;
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        let bytes = &mut buffer[..length];
        source.read(first, bytes)?;
        let block_bytes = page_bytes * leaves.pages_a_leaf() as usize * BLOCK_LEAVES as usize;
        let blocks = bytes.chunks(block_bytes).zip(range.step_by(BLOCK_LEAVES as usize));
        Ok(blocks.flat_map(|(content, start)| compare_block(map, leaves, start, content)).collect())
    })
}

thread_local! {
    /// What a thread reads into: pages that are touched for the first time cost as much as reading them.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The leaves of a block that differ. Groups of leaves are hashed together, which is several times faster, and one by one only where the group differs.
fn compare_block(map: &PageMap, leaves: Leaves, start: u32, content: &[u8]) -> Vec<ChangedLeaf> {
    let known = map.known_block(leaves, start / BLOCK_LEAVES);
    let leaf_bytes = leaves.page_size.bytes() * leaves.pages_a_leaf() as usize;
    let group = if leaves.count() == 1 { 1 } else { (GROUP_BYTES / leaf_bytes).clamp(1, BLOCK_LEAVES as usize) };
    let mut changed = Vec::new();
    for (at, group_content) in content.chunks(group * leaf_bytes).enumerate() {
        let first = at * group;
        let count = group_content.len().div_ceil(leaf_bytes);
        let expected = known.get(first..first + count).map(image_tree::subtree);
        if group > 1 && expected == Some(leaves.hash_subtree(start + first as u32, group_content)) {
            continue;
        }
        for (leaf, content) in (first..).zip(group_content.chunks(leaf_bytes)) {
            let (before, leaf) = (known.get(leaf).copied(), start + leaf as u32);
            let hash = leaves.hash(leaf, content);
            if before != Some(hash) {
                changed.push(ChangedLeaf { leaf, before, hash });
            }
        }
    }
    changed
}

/// The leaves that differ from `map` among those that hold `pages`, ascending. All pages that can have changed must be among them.
pub fn compare_pages<P: PageReader>(
    source: &P,
    map: &PageMap,
    pages: impl IntoIterator<Item = PageNo>,
) -> Result<Vec<ChangedLeaf>, ImageError<P::Error>> {
    let leaves = Leaves::of(source);
    let candidates = leaves.touched_since(map.shape(), pages);
    let compared = candidates.par_iter().map(|&leaf| {
        let (first, count) = leaves.pages(leaf);
        let mut content = vec![0; count as usize * source.page_size().bytes()];
        source.read(first, &mut content)?;
        let (hash, before) = (leaves.hash(leaf, &content), map.known(leaves, leaf));
        Ok((before != Some(hash)).then_some(ChangedLeaf { leaf, before, hash }))
    });
    let compared: Vec<Option<ChangedLeaf>> = compared.collect::<Result<_, P::Error>>().map_err(ImageError::Source)?;
    Ok(compared.into_iter().flatten().collect())
}
