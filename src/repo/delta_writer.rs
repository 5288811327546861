//! Stores deltas: of a live state against an earlier one, and of neighbouring deltas folded into one.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rayon::prelude::*;

use crate::base::id::ChunkId;
use crate::base::image_tree::Leaves;
use crate::base::page::{PageNo, PageReader};
use crate::format::delta::{Change, DeltaBuilder, Record, StepPart, StepState};
use crate::format::manifest::{Layer, LayerKind, MAX_LAYERS};
use crate::monitor::Monitor;

use super::chunk_reader::ChunkReader;
use super::chunk_writer::ChunkWriter;
use super::stack_reader::{State, for_each_segment};
use super::{Fault, ImageError, RepositoryError};

/// Pages encoded at a time.
const BATCH_BYTES: usize = 8 << 20;

/// About so many record bytes are folded in one pass.
const FOLD_BYTES: u64 = 64 << 20;

/// What leaves were in the state below, as whole leaves of that state; `None` where that is unknown. Whoever gives them has proved them.
pub type Bases<'a, E> = dyn Fn(&[u32]) -> Result<Vec<Option<Vec<u8>>>, E> + Sync + 'a;

/// The state that a delta is against.
pub struct Below<'a, E> {
    /// Its shape.
    pub shape: Leaves,
    /// Its content.
    pub bases: &'a Bases<'a, E>,
}

/// Stores what became of the `leaves` of a state, ascending, since the state `below`, as a delta of one step.
pub fn write_delta<P: PageReader>(
    writer: &mut ChunkWriter<'_>,
    source: &P,
    leaves: &[u32],
    below: &Below<'_, ImageError<P::Error>>,
    step: &StepState,
    monitor: &dyn Monitor,
) -> Result<Layer, ImageError<P::Error>> {
    let now = Leaves::of(source);
    let page_bytes = source.page_size().bytes();
    let leaf_bytes = page_bytes * now.pages_a_leaf() as usize;
    let mut layer = LayerWriter::default();
    layer.begin(step);
    for batch in leaves.chunks(BATCH_BYTES / leaf_bytes) {
        monitor.check_cancelled().map_err(RepositoryError::from)?;
        let known = (below.bases)(batch)?;
        let encoded = batch.par_iter().zip(known).map(|(&leaf, base)| {
            let (first, count) = now.pages(leaf);
            let mut content = vec![0; count as usize * page_bytes];
            source.read(first, &mut content)?;
            Ok(leaf_records(first, &content, base.as_deref(), below.shape, step.low_page_count))
        });
        let encoded: Vec<Vec<Record>> = encoded.collect::<Result<_, P::Error>>().map_err(ImageError::Source)?;
        for record in encoded.iter().flatten() {
            layer.push(record, writer)?;
        }
    }
    Ok(layer.finish(writer)?)
}

/// The records of the pages of one leaf that begins with page `first`: what became of its `base`, as far as that is known, in a step that left no fewer than
/// `low_page_count` pages of the state below.
pub fn leaf_records(
    first: PageNo,
    content: &[u8],
    base: Option<&[u8]>,
    below: Leaves,
    low_page_count: u32,
) -> Vec<Record> {
    let page_bytes = below.page_size.bytes();
    let zeros = vec![0; page_bytes];
    let pages = content.chunks_exact(page_bytes).enumerate();
    let record = |(at, new): (usize, &[u8])| {
        let page = PageNo(first.0 + at as u32);
        let old = if page.0 > below.page_count.0 || page.0 > low_page_count {
            Some(&zeros[..])
        } else {
            base.and_then(|base| base.get(at * page_bytes..(at + 1) * page_bytes))
        };
        Change::between(old, new).map(|change| Record { page, change })
    };
    pages.filter_map(record).collect()
}

/// Stores steps as they are, as one delta.
pub fn write_steps(writer: &mut ChunkWriter<'_>, parts: &[StepPart]) -> Result<Layer, RepositoryError> {
    let mut layer = LayerWriter::default();
    for part in parts {
        layer.begin(&part.state);
        for record in &part.records {
            layer.push(record, writer)?;
        }
        layer.end_step(writer)?;
    }
    layer.finish(writer)
}

/// Builds a delta layer.
#[derive(Default)]
struct LayerWriter {
    builder: DeltaBuilder,
    segments: Vec<ChunkId>,
    first: Option<StepState>,
    last: Option<StepState>,
}

impl LayerWriter {
    fn begin(&mut self, step: &StepState) {
        let low = self.last.map_or(u32::MAX, |last| last.low_page_count).min(step.low_page_count);
        self.first.get_or_insert(*step);
        self.last = Some(StepState { low_page_count: low, ..*step });
        self.builder.begin(step);
    }

    fn push(&mut self, record: &Record, writer: &mut ChunkWriter<'_>) -> Result<(), RepositoryError> {
        if let Some(full) = self.builder.push(record) {
            self.segments.push(writer.store(&full)?);
        }
        Ok(())
    }

    fn end_step(&mut self, writer: &mut ChunkWriter<'_>) -> Result<(), RepositoryError> {
        if self.builder.is_full() {
            self.close(writer)?;
        }
        Ok(())
    }

    fn close(&mut self, writer: &mut ChunkWriter<'_>) -> Result<(), RepositoryError> {
        if let Some(segment) = self.builder.finish() {
            self.segments.push(writer.store(&segment)?);
        }
        Ok(())
    }

    fn finish(mut self, writer: &mut ChunkWriter<'_>) -> Result<Layer, RepositoryError> {
        self.close(writer)?;
        let (first, last) = self.first.zip(self.last).expect("BUG: a delta has a step");
        Ok(Layer {
            kind: LayerKind::Delta,
            first_commit: first.commit,
            last_commit: last.commit,
            page_count: last.page_count,
            low_page_count: last.low_page_count,
            record_bytes: self.builder.record_bytes(),
            segments: self.segments,
        })
    }
}

/// How many of the newest deltas to fold so that `layers`, an image and deltas, have room for one more; 0 if they have.
///
/// Deltas are folded level by level: from the newest down, as long as the next one is at most twice as large as all above it together. So a record is rewritten about log₂ n
/// times among n deltas, and the stack stays about as deep.
pub fn deltas_to_fold(layers: &[Layer]) -> usize {
    if layers.len() < MAX_LAYERS {
        return 0;
    }
    let mut count = 2;
    let mut above: u64 = layers.iter().rev().take(2).map(|layer| layer.record_bytes).sum();
    for layer in layers[1..].iter().rev().skip(2) {
        if layer.record_bytes > above.saturating_mul(2) {
            break;
        }
        above = above.saturating_add(layer.record_bytes);
        count += 1;
    }
    count
}

/// Folds the newest `count` deltas of a state into one, in passes over ranges of pages, so that memory stays bounded: most folds take one.
pub fn fold_newest(
    reader: &ChunkReader,
    writer: &mut ChunkWriter<'_>,
    state: &State,
    count: usize,
    monitor: &dyn Monitor,
) -> Result<Vec<Layer>, RepositoryError> {
    let mut layers = state.layers.clone();
    let folded = layers.split_off(layers.len() - count);
    let record_bytes: u64 = folded.iter().map(|layer| layer.record_bytes).sum();
    let pages_a_pass = u64::from(state.page_count.0).div_ceil(record_bytes / FOLD_BYTES + 1).max(1) as u32;
    let mut layer = LayerWriter::default();
    for first in (1..=state.page_count.0).step_by(pages_a_pass as usize) {
        monitor.check_cancelled()?;
        let pages = PageNo(first)..=PageNo(first.saturating_add(pages_a_pass - 1));
        let (step, changes) = compose(reader, state, &folded, &pages)?;
        if first == 1 {
            layer.begin(&step);
        }
        for (page, change) in changes.into_iter().filter(|(_, change)| !change.is_nothing()) {
            layer.push(&Record { page, change }, writer)?;
        }
    }
    layers.push(layer.finish(writer)?);
    Ok(layers)
}

/// All that `deltas` make of these pages, composed, and the state that they lead to, with the fewest pages on the way.
fn compose(
    reader: &ChunkReader,
    state: &State,
    deltas: &[Layer],
    pages: &RangeInclusive<PageNo>,
) -> Result<(StepState, BTreeMap<PageNo, Change>), Fault> {
    let mut changes: BTreeMap<PageNo, Change> = BTreeMap::new();
    let mut last: Option<StepState> = None;
    for_each_segment(reader, state.snapshot, state.page_size, deltas, |_, _, parts| {
        for part in parts {
            let low = last.map_or(u32::MAX, |last| last.low_page_count).min(part.state.low_page_count);
            if last.is_none_or(|last| last.commit != part.state.commit) {
                // Pages beyond the low count start from zeros, whatever they were.
                changes.split_off(&PageNo(part.state.low_page_count.saturating_add(1)));
            }
            last = Some(StepState { low_page_count: low, ..part.state });
            for Record { page, change } in part.records.into_iter().filter(|record| pages.contains(&record.page)) {
                let composed = match changes.remove(&page) {
                    Some(before) => before.then(&change, state.page_size),
                    None => change,
                };
                changes.insert(page, composed);
            }
        }
        Ok::<(), Fault>(())
    })?;
    Ok((last.expect("BUG: a delta has a step"), changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(sizes: &[u64]) -> Vec<Layer> {
        let layer = |&record_bytes: &u64| Layer {
            kind: LayerKind::Delta,
            first_commit: 1,
            last_commit: 1,
            page_count: 1,
            low_page_count: 1,
            record_bytes,
            segments: Vec::new(),
        };
        sizes.iter().map(layer).collect()
    }

    #[test]
    fn a_full_stack_is_folded_level_by_level() {
        assert_eq!(deltas_to_fold(&layers(&[0; 31])), 0);
        let mut sizes = vec![0, 1 << 30, 1 << 20];
        sizes.extend([10; 29]);
        assert_eq!(deltas_to_fold(&layers(&sizes)), 29);
        let mut growing: Vec<u64> = (0..32).map(|level| 4u64.saturating_pow(31 - level)).collect();
        growing[0] = 0;
        assert_eq!(deltas_to_fold(&layers(&growing)), 2);
    }

    #[test]
    fn folding_keeps_the_stack_bounded_at_logarithmic_cost() {
        let (mut sizes, mut rewritten) = (vec![0u64], 0u64);
        for _ in 0..5_000 {
            let count = deltas_to_fold(&layers(&sizes));
            if count > 0 {
                let folded: u64 = sizes.split_off(sizes.len() - count).iter().sum();
                rewritten += folded;
                sizes.push(folded);
            }
            sizes.push(100);
            assert!(sizes.len() <= MAX_LAYERS);
        }
        assert!(rewritten < 5_000 * 100 * 8, "{rewritten}");
    }
}
