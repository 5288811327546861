//! Which pages may differ between two states, from their layers alone.
//!
//! What both stand on is the same; above it, a page that no delta touches is too. So the answer is never too small. It may name pages that came back to what they were.
//! No page is read, but for images that are not the same: their page maps are compared, where the same place in the same chunk is the same page.

use std::sync::Arc;

use crate::base::page::PageNo;
use crate::base::page_set::PageSet;
use crate::format::delta::StepPart;
use crate::format::layer::{Run, RunContent};
use crate::format::manifest::Layer;

use super::Fault;
use super::chunk_reader::ChunkReader;
use super::stack_reader::{State, for_each_segment, image_runs};

/// The pages that may differ; `None` if their sizes do, so that all differ.
pub fn changed_pages(reader: &ChunkReader, a: &State, b: &State) -> Result<Option<PageSet>, Fault> {
    if a.page_size != b.page_size {
        return Ok(None);
    }
    let (low, high) = (a.page_count.0.min(b.page_count.0), a.page_count.0.max(b.page_count.0));
    let mut touched = Touched { ranges: vec![(low.saturating_add(1), high)], high };
    let earlier = a.commit.min(b.commit);
    // Beyond the earlier state, a layer of both may hold steps that only the later one counts.
    let is_common = |(a, b): &(&Layer, &Layer)| a == b && a.last_commit <= earlier;
    let common = a.layers.iter().zip(&b.layers).take_while(is_common).count();
    if common == 0 {
        touched.ranges.extend(differing_runs(reader, a, b)?);
    }
    let above = |state: &State, skip: usize| state.layers.get(skip.max(1)..).unwrap_or_default().to_vec();
    let (layers_a, layers_b) = (above(a, common), above(b, common));
    match (layers_a.first(), layers_b.first()) {
        (Some(layer), Some(other)) if common > 0 && layer == other => {
            let later = if a.commit > b.commit { a } else { b };
            touched.add_layers(reader, later, std::slice::from_ref(layer), earlier)?;
            touched.add_layers(reader, a, &layers_a[1..], 0)?;
            touched.add_layers(reader, b, &layers_b[1..], 0)?;
        }
        _ => {
            touched.add_layers(reader, a, &layers_a, 0)?;
            touched.add_layers(reader, b, &layers_b, 0)?;
        }
    }
    let is_one_journal = Arc::ptr_eq(&a.journal, &b.journal) || a.snapshot == b.snapshot;
    let after = if is_one_journal && layers_a.is_empty() && layers_b.is_empty() { earlier } else { 0 };
    for state in [a, b] {
        let parts = state.journal.iter().filter(|part| (after + 1..=state.commit).contains(&part.state.commit));
        parts.for_each(|part| touched.add(part));
    }
    Ok(Some(PageSet::from_ranges(touched.ranges)))
}

/// The pages that a step, or a part of it, may make something else of, in a database of at most `high` pages.
pub fn touched_by(part: &StepPart, high: u32) -> PageSet {
    let mut touched = Touched { ranges: Vec::new(), high };
    touched.add(part);
    PageSet::from_ranges(touched.ranges)
}

struct Touched {
    ranges: Vec<(u32, u32)>,
    /// The greater page count.
    high: u32,
}

impl Touched {
    fn add(&mut self, part: &StepPart) {
        // Pages that a step cut off start from zeros.
        self.ranges.push((part.state.low_page_count.saturating_add(1), self.high));
        self.ranges.extend(part.records.iter().map(|record| (record.page.0, record.page.0)));
        if self.ranges.len() >= 1 << 20 {
            let merged = PageSet::from_ranges(std::mem::take(&mut self.ranges));
            self.ranges = merged.ranges().collect();
        }
    }

    fn add_layers(&mut self, reader: &ChunkReader, state: &State, layers: &[Layer], after: u64) -> Result<(), Fault> {
        for_each_segment(reader, state.snapshot, state.page_size, layers, |_, _, parts| {
            let counting = parts.iter().filter(|part| part.state.commit > after && part.state.commit <= state.commit);
            counting.for_each(|part| self.add(part));
            Ok(())
        })
    }
}

/// Pages that stand in different places.
fn differing_runs(reader: &ChunkReader, a: &State, b: &State) -> Result<Vec<(u32, u32)>, Fault> {
    let mut runs_a = image_runs(reader, a.snapshot, a.image())?.into_iter();
    let mut runs_b = image_runs(reader, b.snapshot, b.image())?.into_iter();
    let (mut left_a, mut left_b) = (runs_a.next(), runs_b.next());
    let (mut page, mut differing) = (PageNo(1), Vec::new());
    while let (Some(run_a), Some(run_b)) = (left_a, left_b) {
        let pages = run_a.pages.min(run_b.pages);
        if !is_same(run_a, run_b) {
            differing.push((page.0, page.0.saturating_add(pages - 1)));
        }
        page.0 = page.0.saturating_add(pages);
        left_a = rest(run_a, pages).or_else(|| runs_a.next());
        left_b = rest(run_b, pages).or_else(|| runs_b.next());
    }
    // One image is longer: what a delta cut off it starts from zeros, as what the other never had.
    let longest = a.image().page_count.max(b.image().page_count);
    differing.push((page.0, longest));
    Ok(differing)
}

fn is_same(a: Run, b: Run) -> bool {
    match (a.content, b.content) {
        (RunContent::Zeros, RunContent::Zeros) => true,
        (RunContent::Chunk { chunk: a, first: at }, RunContent::Chunk { chunk: b, first: other }) => {
            a.id == b.id && at == other
        }
        _ => false,
    }
}

fn rest(run: Run, pages: u32) -> Option<Run> {
    (run.pages > pages).then(|| run.part(pages, run.pages - pages))
}

#[cfg(test)]
mod tests {
    use crate::base::clock::UnixMicros;
    use crate::base::id::ImageRoot;
    use crate::format::delta::{Change, Record, StepState};

    use super::*;

    #[test]
    fn a_step_touches_its_records_and_what_it_cuts_off() {
        let state = StepState {
            commit: 5,
            captured: UnixMicros(0),
            page_count: 12,
            low_page_count: 9,
            root: ImageRoot([0; 32]),
        };
        let records = vec![Record { page: PageNo(3), change: Change::Zero }];
        let touched = touched_by(&StepPart { state, more: false, records }, 12);
        assert_eq!(touched.pages().map(|page| page.0).collect::<Vec<_>>(), [3, 10, 11, 12]);
    }
}
