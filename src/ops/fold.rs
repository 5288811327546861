//! Folds captured commits into a timeline: one layer that holds each of them, under a snapshot with the strategy `continuous`.

use crate::base::id::ObjectHash;
use crate::format::delta::{StepPart, StepState};
use crate::format::manifest::{Layer, Manifest, Strategy};
use crate::format::timeline::Event;
use crate::monitor::{self, Monitor};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::chunk_writer::{ChunkWriter, EncodeOptions, Written};
use crate::repo::delta_writer::{deltas_to_fold, fold_newest, write_steps};
use crate::repo::index::Index;
use crate::repo::journal::Journals;
use crate::repo::memory::Memory;
use crate::repo::stack_reader::State;
use crate::repo::timeline::{Behind, Stand, Timeline};
use crate::repo::{Fault, Repository, RepositoryError, TOOL, timeline};

/// How often a snapshot is made anew because collectors pass by meanwhile. Each attempt finds most of what the one before has stored.
const MOST_ATTEMPTS: usize = 5;

/// What is folded where.
pub struct Fold<'a> {
    /// The repository.
    pub repository: &'a Repository,
    /// The database's name.
    pub name: &'a str,
    /// How chunks are encoded.
    pub encode: EncodeOptions,
    /// Hears of progress, and says when to stop.
    pub monitor: &'a dyn Monitor,
}

/// Appends a snapshot that `steps`, which are complete and lead on from the state of the snapshot `base`, end in.
pub fn fold_steps(
    fold: &Fold<'_>,
    timeline: &mut Timeline,
    base: (ObjectHash, &Manifest),
    steps: &[StepPart],
) -> Result<(ObjectHash, Manifest), RepositoryError> {
    let &Fold { repository, name, encode, monitor } = fold;
    let (base_id, base) = base;
    let last = steps.last().expect("BUG: nothing is not folded").state;
    let mut attempt = |index: Index| -> Result<(Vec<Layer>, Written, Stand), RepositoryError> {
        let mut writer = ChunkWriter::new(repository, &index, encode);
        let mut layers = base.layers.clone();
        let count = deltas_to_fold(&layers);
        if count > 0 {
            let reader = ChunkReader::new(repository, &index);
            layers = fold_newest(&reader, &mut writer, &State::of_snapshot(base_id, base), count, monitor)?;
        }
        layers.push(write_steps(&mut writer, steps)?);
        let written = writer.settle()?;
        Ok((layers, written, writer.stand(Some(base_id))))
    };
    append_anew(timeline, repository, name, |_, is_first| {
        let layers = is_first.then_some(&base.layers[..]);
        let (layers, written, stand) =
            Index::with(repository, layers, monitor, RepositoryError::misses_chunk, &mut attempt)?;
        Ok((continuous(base, last, layers, &written), stand))
    })
}

/// The snapshot that ends in the state `last`.
fn continuous(base: &Manifest, last: StepState, layers: Vec<Layer>, written: &Written) -> Manifest {
    Manifest {
        strategy: Strategy::Continuous,
        tags: Vec::new(),
        captured: last.captured,
        tool: TOOL.to_owned(),
        page_count: last.page_count,
        root: last.root,
        commit: last.commit,
        layers,
        added: written.pack_bytes,
        ..base.clone()
    }
}

/// Appends the snapshot that `store` makes; where a collector has taken what it stands on, one that is made anew.
pub fn append_anew<E: From<RepositoryError>>(
    timeline: &mut Timeline,
    repository: &Repository,
    name: &str,
    mut store: impl FnMut(&Timeline, bool) -> Result<(Manifest, Stand), E>,
) -> Result<(ObjectHash, Manifest), E> {
    let mut attempts = 0..MOST_ATTEMPTS;
    loop {
        let (manifest, stand) = store(timeline, attempts.next() == Some(0))?;
        match timeline.append(repository, name, Event::Snapshot(manifest.clone()), Behind::Housekeeping(Some(&stand))) {
            Ok(id) => return Ok((id, manifest)),
            Err(RepositoryError::Collected) if !attempts.is_empty() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes a timeline ready for a new writer: the journal of a watcher that did not end is folded. Refused if the watcher may still live:
/// one that this `memory` knows does not, for the caller has the memory now.
pub fn adopt(
    fold: &Fold<'_>,
    timeline: &mut Timeline,
    memory: Option<&Memory>,
    take_over: bool,
) -> Result<(), RepositoryError> {
    let &Fold { repository, name, monitor, .. } = fold;
    let Some(watch) = timeline.open_watch().cloned() else { return Ok(()) };
    let ended = memory.is_some_and(|memory| memory.is_own_writer(watch.writer));
    if !ended && !take_over {
        return Err(RepositoryError::WatchedElsewhere { database: name.to_owned(), host: watch.host });
    }
    let (journals, faults) = Journals::load(repository)?;
    // A snapshot hides what was journaled before it: what cannot be read now must not be among that.
    let faults = Fault::require_readable(faults)?;
    let base = timeline.last().map(|(id, manifest)| (id, manifest.clone()));
    if let Some((id, manifest)) = base {
        let (steps, gap) = journals.steps_behind(id, &manifest);
        Fault::report(faults.into_iter().chain(gap), monitor);
        if !steps.is_empty() {
            let text = format!("{name}: {} commits from the journal of a watcher that did not end", steps.len());
            monitor.event(monitor::Event::Notice(text));
            fold_steps(fold, timeline, (id, &manifest), &steps)?;
        }
    }
    timeline.append(repository, name, Event::WatchEnded(watch), Behind::Housekeeping(None))?;
    delete_folded(repository, &journals)
}

/// Deletes journal objects of which nothing counts any more. With a damaged timeline nothing is deleted: it may need them.
fn delete_folded(repository: &Repository, journals: &Journals) -> Result<(), RepositoryError> {
    let (timelines, faults) = timeline::load_all(repository)?;
    if !faults.is_empty() {
        return Ok(());
    }
    let last = timelines.iter().filter_map(Timeline::last).map(|(id, _)| id);
    for name in journals.folded(&last.collect::<Vec<_>>()) {
        repository.store().delete(&name)?;
    }
    Ok(())
}
