//! Counts what a repository holds, from index and manifests alone.

use std::collections::HashSet;

use crate::format::name::Folder;
use crate::repo::index::Index;
use crate::repo::{Fault, Repository, RepositoryError};

use super::snapshots::snapshots;

/// What a repository holds.
#[derive(Debug, Default)]
pub struct Stats {
    /// Snapshots of each database, by name, with the bytes of their images together.
    pub databases: Vec<DatabaseStats>,
    /// Different chunks.
    pub chunk_count: usize,
    /// Packs in the store.
    pub pack_count: usize,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Bytes of index segments.
    pub index_bytes: u64,
    /// Bytes of timelines.
    pub timeline_bytes: u64,
    /// Bytes of journals.
    pub journal_bytes: u64,
    /// What was wrong on the way.
    pub faults: Vec<Fault>,
}

/// One database's share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseStats {
    /// Its name.
    pub name: String,
    /// Its snapshots.
    pub snapshot_count: usize,
    /// Bytes of all their images.
    pub image_bytes: u64,
    /// Bytes of the newest image.
    pub latest_bytes: u64,
}

impl Stats {
    /// Bytes of all images together.
    pub fn image_bytes(&self) -> u64 {
        self.databases.iter().map(|database| database.image_bytes).sum()
    }

    /// Bytes in the store.
    pub fn stored_bytes(&self) -> u64 {
        self.pack_bytes + self.index_bytes + self.timeline_bytes + self.journal_bytes
    }
}

/// Counts.
pub fn stats(repository: &Repository) -> Result<Stats, RepositoryError> {
    let store = repository.store();
    let bytes = |folder| Ok::<_, RepositoryError>(store.list(folder)?.iter().map(|listed| listed.bytes).sum());
    let packs = store.list(Folder::Packs)?;
    let (index, mut faults) = Index::load(repository)?;
    let chunks: HashSet<_> = index.iter().map(|place| place.chunk.id).collect();
    let (snapshots, found) = snapshots(repository, None)?;
    faults.extend(found);
    let mut databases: Vec<DatabaseStats> = Vec::new();
    for snapshot in &snapshots {
        if databases.last().is_none_or(|last| last.name != snapshot.database) {
            databases.push(DatabaseStats { name: snapshot.database.clone(), ..DatabaseStats::default() });
        }
        let Some(database) = databases.last_mut() else { continue };
        database.snapshot_count += 1;
        database.latest_bytes = snapshot.manifest.image_bytes();
        database.image_bytes += database.latest_bytes;
    }
    Ok(Stats {
        databases,
        chunk_count: chunks.len(),
        pack_count: packs.len(),
        pack_bytes: packs.iter().map(|pack| pack.bytes).sum(),
        index_bytes: bytes(Folder::Index)?,
        timeline_bytes: bytes(Folder::Timelines)?,
        journal_bytes: bytes(Folder::Journals)?,
        faults,
    })
}
