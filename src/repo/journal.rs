//! Journals: what watchers have captured since their last fold.
//!
//! # Invariants
//! * A commit that a watcher acknowledged is in a journal object or in a timeline. A fold deletes an object only after the timelines hold all that is in it.
//! * Parts count only behind the last snapshot of their timeline, one after the other without a gap. Whoever appends a snapshot to a timeline whose watcher did not end
//!   folds its journal first, so no snapshot ever hides a journaled commit.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::id::{ObjectHash, WriterId};
use crate::format::delta::StepPart;
use crate::format::journal::{JournalObject, JournalPart};
use crate::format::manifest::Manifest;
use crate::format::name::{Folder, ObjectName};
use crate::format::object::MAX_SEALED_BYTES;
use crate::store::StoreError;
use crate::store::lane::concurrently;

use super::copies::read_whole;
use super::{Fault, Repository};

/// All journals of a repository.
#[derive(Debug, Default)]
pub struct Journals {
    /// By the snapshot that they continue, in order.
    parts: HashMap<ObjectHash, Vec<(ObjectName, JournalPart)>>,
    /// What each object holds parts for.
    bases: Vec<(ObjectName, Vec<ObjectHash>)>,
}

impl Journals {
    /// Reads all journals, and says what is wrong with them.
    pub fn load(repository: &Repository) -> Result<(Self, Vec<Fault>), StoreError> {
        let (mut journals, mut faults) = (Self::default(), Vec::new());
        let listed = repository.store().list(Folder::Journals)?;
        let objects = concurrently(repository.store().concurrency(), &listed, |listed| read(repository, &listed.name));
        for (listed, object) in listed.into_iter().zip(objects) {
            match object {
                Ok(Some(object)) => journals.add(listed.name, object),
                // Folded and deleted since it was listed: the timeline has it, or the next reading will.
                Ok(None) => {}
                Err(fault) => faults.push(fault),
            }
        }
        Ok((journals, faults))
    }

    fn add(&mut self, name: ObjectName, object: JournalObject) {
        self.bases.push((name.clone(), object.parts.iter().map(|part| part.base).collect()));
        for part in object.parts {
            self.parts.entry(part.base).or_default().push((name.clone(), part));
        }
    }

    /// The steps behind a snapshot, as far as they are without a gap.
    pub fn steps_behind(&self, snapshot: ObjectHash, manifest: &Manifest) -> (Arc<Vec<StepPart>>, Option<Fault>) {
        let mut steps = Vec::new();
        let mut last = manifest.commit;
        for (name, part) in self.parts.get(&snapshot).into_iter().flatten() {
            if part.last_commit <= last {
                continue;
            }
            if part.first_commit != last + 1 {
                let fault = Fault::MissingJournal { database: part.database.clone(), commit: last + 1 };
                return (Arc::new(steps), Some(fault));
            }
            match part.steps(manifest.page_size()) {
                Ok(found) => steps.extend(found),
                Err(source) => return (Arc::new(steps), Some(Fault::Object { name: name.clone(), source })),
            }
            last = part.last_commit;
        }
        (Arc::new(steps), None)
    }

    /// Objects that hold nothing but parts behind other snapshots than these, which are the last of their timelines.
    pub fn folded(&self, last_snapshots: &[ObjectHash]) -> Vec<ObjectName> {
        let is_folded = |bases: &[ObjectHash]| bases.iter().all(|base| !last_snapshots.contains(base));
        self.bases.iter().filter(|(_, bases)| is_folded(bases)).map(|(name, _)| name.clone()).collect()
    }
}

fn read(repository: &Repository, name: &ObjectName) -> Result<Option<JournalObject>, Fault> {
    let (writer, sequence) = name.journal_position().ok_or_else(|| Fault::ForeignName { name: name.clone() })?;
    let Repository { store, damaged, config, keys, .. } = repository;
    let read = read_whole(&**store, damaged, name, MAX_SEALED_BYTES, |object| {
        JournalObject::open(&object, writer, sequence, &config.seal_context(), keys).map_err(Fault::object(name))
    });
    match read {
        Err(Fault::Unreadable { source: StoreError::NotFound { .. }, .. }) => Ok(None),
        read => read.map(Some),
    }
}

/// A journal object, sealed under its name.
pub fn seal(repository: &Repository, writer: WriterId, sequence: u64, flush: &JournalObject) -> Vec<u8> {
    let context = repository.config().seal_context();
    flush.seal(writer, sequence, &context, repository.keys(), &*repository.environment.entropy)
}
