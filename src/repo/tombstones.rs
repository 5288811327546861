//! Tombstones: packs that nobody relies upon any more (`format-spec/collection.md`).
//!
//! They are read **before** the index by whoever relies upon what the index says: a tombstone is there before, and stays after, a pack is deleted.

use std::collections::{BTreeSet, HashSet};

use crate::base::id::ObjectHash;
use crate::format::name::{Folder, ObjectName};
use crate::format::tombstone::{MAX_TOMBSTONE_PACKS, Tombstone};
use crate::store::StoreError;

use super::copies::read_folder;
use super::{Fault, Repository, RepositoryError};

/// So many objects are replaced by as few as can hold what they name.
const MOST_OBJECTS: usize = 16;

/// All tombstones.
#[derive(Clone, Debug, Default)]
pub struct Tombstones {
    packs: HashSet<ObjectHash>,
    objects: Vec<ObjectName>,
    /// One cannot be read, and may name any pack.
    is_partial: bool,
}

impl Tombstones {
    /// Reads all, and says what is wrong with them.
    pub fn load(repository: &Repository) -> Result<(Self, Vec<Fault>), StoreError> {
        let Repository { config, keys, .. } = repository;
        let open = |object: &[u8]| Tombstone::open(object, &config.seal_context(), &keys.tombstone);
        let (mut tombstones, mut faults) = (Self::default(), Vec::new());
        for (name, read) in read_folder(repository, Folder::Tombstones, open)? {
            match read {
                Ok(tombstone) => {
                    tombstones.packs.extend(tombstone.packs);
                    tombstones.objects.push(name);
                }
                Err(fault) => {
                    tombstones.is_partial = true;
                    faults.push(fault);
                }
            }
        }
        Ok((tombstones, faults))
    }

    /// Whether the pack must not be relied upon.
    pub fn names(&self, pack: ObjectHash) -> bool {
        self.is_partial || self.packs.contains(&pack)
    }

    /// Whether the pack is known to be named.
    pub fn surely_names(&self, pack: ObjectHash) -> bool {
        self.packs.contains(&pack)
    }

    /// How many packs are named.
    pub fn len(&self) -> usize {
        self.packs.len()
    }

    /// Whether no pack is named.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Names further packs, durably.
    pub fn bury(
        &mut self,
        repository: &Repository,
        packs: impl IntoIterator<Item = ObjectHash>,
    ) -> Result<(), RepositoryError> {
        let packs: BTreeSet<ObjectHash> = packs.into_iter().filter(|pack| !self.packs.contains(pack)).collect();
        self.objects.extend(create(repository, &packs)?);
        self.packs.extend(packs);
        Ok(())
    }

    /// Puts many objects together. Nothing that is named stops being so at any moment.
    pub fn merge(&mut self, repository: &Repository) -> Result<(), RepositoryError> {
        let fewest = self.packs.len().div_ceil(MAX_TOMBSTONE_PACKS);
        if self.is_partial || self.objects.len() < fewest + MOST_OBJECTS {
            return Ok(());
        }
        let merged = create(repository, &self.packs.iter().copied().collect())?;
        for name in std::mem::replace(&mut self.objects, merged) {
            repository.store().delete(&name)?;
        }
        Ok(())
    }
}

fn create(repository: &Repository, packs: &BTreeSet<ObjectHash>) -> Result<Vec<ObjectName>, RepositoryError> {
    let (context, key) = (repository.config().seal_context(), &repository.keys().tombstone);
    let packs: Vec<ObjectHash> = packs.iter().copied().collect();
    let mut names = Vec::new();
    for packs in packs.chunks(MAX_TOMBSTONE_PACKS) {
        let object = Tombstone { packs: packs.to_vec() }.seal(&context, key, &*repository.environment().entropy);
        let name = ObjectName::tombstone(ObjectHash::of(&object));
        repository.store().create(&name, &object)?;
        names.push(name);
    }
    Ok(names)
}
