//! Folds a database's layers inside the repository, without the source.
//!
//! The newest state gets a new manifest with fewer layers: its deltas as one, or an image alone (a synthetic full, which shares the unchanged pages with the
//! image below). Of a damaged snapshot nothing is made. Nothing is deleted: earlier snapshots keep their layers, and commits that a watcher captured stay restorable one by one through them.

use crate::base::id::ObjectHash;
use crate::base::page::PageReader;
use crate::format::delta::StepState;
use crate::format::manifest::{Layer, Manifest, Strategy};
use crate::monitor::Monitor;
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::chunk_writer::{ChunkWriter, EncodeOptions, Written};
use crate::repo::delta_writer::fold_newest;
use crate::repo::image_writer::{plan, write_image};
use crate::repo::index::Index;
use crate::repo::memory::Memory;
use crate::repo::stack_reader::{StackReader, State};
use crate::repo::{ImageError, Repository, RepositoryError, TOOL, timeline};

use super::delta::image_layer;
use super::fold::{Fold, adopt, append_anew};

/// What was done.
#[derive(Debug)]
pub struct CompactSummary {
    /// The new snapshot; `None` if there was nothing to fold.
    pub id: Option<ObjectHash>,
    /// Layers before.
    pub layers_before: usize,
    /// Layers after.
    pub layers_after: usize,
    /// What was stored for it.
    pub written: Written,
}

/// Folds the layers of the newest snapshot of the database named `name`; with `full`, into a new image. `None` if it has no snapshot.
pub fn compact(
    repository: &Repository,
    name: &str,
    full: bool,
    host: &str,
    encode: EncodeOptions,
    monitor: &dyn Monitor,
) -> Result<Option<CompactSummary>, RepositoryError> {
    let claim = Memory::claim(repository, name)?;
    let mut timeline = timeline::load_for_writing(repository, name, monitor)?;
    adopt(&Fold { repository, name, encode, monitor }, &mut timeline, claim.as_ref(), false)?;
    let Some((id, manifest)) = timeline.last() else { return Ok(None) };
    let (state, manifest) = (State::of_snapshot(id, manifest), manifest.clone());
    let layers_before = state.layers.len();
    if layers_before == 1 || (layers_before == 2 && !full) {
        let written = Written::default();
        return Ok(Some(CompactSummary { id: None, layers_before, layers_after: layers_before, written }));
    }
    let mut stored = Written::default();
    let (id, manifest) = append_anew(&mut timeline, repository, name, |timeline, _| {
        if timeline.is_damaged(&manifest) {
            return Err(RepositoryError::DamagedBase { database: name.to_owned() });
        }
        let index = Index::load_for_writing(repository, monitor)?;
        let reader = ChunkReader::new(repository, &index);
        let mut writer = ChunkWriter::new(repository, &index, encode);
        let layers = if full {
            vec![synthetic_full(repository, &reader, &mut writer, &state, monitor)?]
        } else {
            fold_newest(&reader, &mut writer, &state, layers_before - 1, monitor)?
        };
        stored = writer.settle()?;
        let (host, tool, added) = (host.to_owned(), TOOL.to_owned(), stored.pack_bytes);
        let strategy = Strategy::Compaction;
        let manifest = Manifest { strategy, tags: Vec::new(), host, tool, layers, added, ..manifest.clone() };
        Ok::<_, RepositoryError>((manifest, writer.stand(Some(id))))
    })?;
    let layers_after = manifest.layers.len();
    Ok(Some(CompactSummary { id: Some(id), layers_before, layers_after, written: stored }))
}

fn synthetic_full(
    repository: &Repository,
    reader: &ChunkReader,
    writer: &mut ChunkWriter<'_>,
    state: &State,
    monitor: &dyn Monitor,
) -> Result<Layer, RepositoryError> {
    let stack = StackReader::open(reader, state)?;
    let page_count = stack.page_count().0;
    let extents = plan(stack.runs(), &stack.touched(), page_count);
    let segments = write_image(repository, writer, &stack, &extents, None, monitor).map_err(|error| match error {
        ImageError::Source(error) | ImageError::Repository(error) => error,
    })?;
    let (commit, captured, root) = (state.commit, state.captured, state.root);
    Ok(image_layer(&StepState { commit, captured, page_count, low_page_count: page_count, root }, segments))
}
