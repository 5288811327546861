//! Takes a snapshot of a live database.
//!
//! Order: pin the state, store chunks and the page map, list them in the index, append the timeline entry. Only the last step makes the
//! snapshot exist; a failure or kill before it leaves at most packs that nothing refers to, and the next snapshot uses those that are listed.

use std::path::Path;

use crate::base::id::ObjectHash;
use crate::base::page::PageReader;
use crate::chunk::codec::Compression;
use crate::format::manifest::{Manifest, Strategy};
use crate::format::timeline::Event;
use crate::monitor::{self, Monitor};
use crate::repo::chunk_writer::{ChunkWriter, EncodeOptions, Written};
use crate::repo::image_writer::{ImageError, StoredImage, write_image};
use crate::repo::index::Index;
use crate::repo::{Repository, RepositoryError, timeline};
use crate::source::{Capture, CaptureOptions, SourceError};

/// The tool that writes manifests.
const TOOL: &str = concat!("continuum ", env!("CARGO_PKG_VERSION"));

/// How to take a snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// The database's name in the repository; valid by [`crate::format::name::is_database_name`].
    pub name: String,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// This machine's name.
    pub host: String,
    /// How chunks are encoded.
    pub compression: Compression,
    /// Whether what was encoded is decoded and compared before it is uploaded.
    pub verify: bool,
    /// How the source is opened.
    pub capture: CaptureOptions,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct SnapshotSummary {
    /// The new snapshot.
    pub id: ObjectHash,
    /// Its place in the timeline.
    pub sequence: u64,
    /// What it says.
    pub manifest: Manifest,
    /// What was stored for it.
    pub written: Written,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// Takes a full snapshot of the database at `source`.
pub fn snapshot(
    repository: &Repository,
    source: &Path,
    options: SnapshotOptions,
    monitor: &dyn Monitor,
) -> Result<SnapshotSummary, SnapshotError> {
    let mut capture = Capture::open(source, options.capture)?;
    if capture.recovered() {
        let text =
            format!("{}: SQLite rolled back a transaction that a crashed process had left", capture.path().display());
        monitor.event(monitor::Event::Notice(text));
    }
    let captured = repository.environment().clock.now();
    let (mut timeline, faults) = timeline::load(repository, &options.name).map_err(RepositoryError::from)?;
    for fault in faults {
        monitor.event(monitor::Event::Notice(format!("{}; run `continuum check`", fault.describe())));
    }
    let index = Index::load_reporting(repository, monitor).map_err(RepositoryError::from)?;
    let encode = EncodeOptions { compression: options.compression, verify: options.verify };
    let mut writer = ChunkWriter::new(repository, &index, encode);
    let StoredImage { layer, root } = store_image(repository, &mut writer, &mut capture, monitor)?;
    let written = writer.finish()?;
    let manifest = Manifest {
        strategy: Strategy::Full,
        tags: options.tags,
        host: options.host,
        source: capture.path().display().to_string(),
        captured,
        tool: TOOL.to_owned(),
        journal_mode: capture.journal_mode().to_owned(),
        page_size: capture.pages().page_size().get(),
        page_count: layer.page_count,
        root,
        layers: vec![layer],
        added: written.pack_bytes,
    };
    capture.finish()?;
    let id = timeline.append(repository, &options.name, Event::Snapshot(manifest.clone()))?;
    let sequence = timeline.entries.last().map_or(0, |recorded| recorded.entry.sequence);
    Ok(SnapshotSummary { id, sequence, manifest, written })
}

/// Stores the pinned image. Should a writer restart the WAL meanwhile, which it can do once under a pin, the state after that is stored instead; what
/// is stored already is not stored again.
fn store_image(
    repository: &Repository,
    writer: &mut ChunkWriter<'_>,
    capture: &mut Capture,
    monitor: &dyn Monitor,
) -> Result<StoredImage, SnapshotError> {
    let mut restarted = false;
    loop {
        match write_image(repository, writer, capture.pages(), monitor) {
            Ok(image) => return Ok(image),
            Err(ImageError::Source(SourceError::WalRestarted(_))) if !restarted => {
                restarted = true;
                capture.map_wal()?;
            }
            Err(ImageError::Source(error)) => return Err(error.into()),
            Err(ImageError::Repository(error)) => return Err(error.into()),
        }
    }
}
