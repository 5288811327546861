//! What earlier verifications found.

use std::collections::{BTreeMap, HashMap};

use crate::base::clock::UnixMicros;
use crate::base::id::ObjectHash;
use crate::format::manifest::Manifest;
use crate::format::name::{Folder, ObjectName};
use crate::format::verification::{Record, Verification};
use crate::store::StoreError;

use super::copies::read_folder;
use super::{Fault, Repository, RepositoryError};

/// A record, and when it was made.
#[derive(Clone, Debug)]
pub struct Verified {
    /// When, on the verifying host's clock.
    pub recorded: UnixMicros,
    /// What was found.
    pub record: Record,
}

/// The newest record of each snapshot.
#[derive(Clone, Debug, Default)]
pub struct Verifications(HashMap<ObjectHash, Verified>);

impl Verifications {
    /// What was found in the snapshot of that id.
    pub fn of(&self, id: ObjectHash, manifest: &Manifest) -> Option<&Verified> {
        self.0.get(&id).filter(|verified| verified.record.root == manifest.root)
    }

    /// Whether that snapshot was verified, and nothing was wrong.
    pub fn is_passed(&self, id: ObjectHash, manifest: &Manifest) -> bool {
        self.of(id, manifest).is_some_and(|verified| verified.record.is_passed())
    }
}

/// All objects, or what is wrong with them.
pub fn objects(repository: &Repository) -> Result<BTreeMap<ObjectName, Result<Verification, Fault>>, StoreError> {
    let Repository { config, keys, .. } = repository;
    read_folder(repository, Folder::Verifications, |object| {
        Verification::open(object, &config.seal_context(), &keys.verification)
    })
}

/// All verifications, and what is wrong with them.
pub fn load(repository: &Repository) -> Result<(Verifications, Vec<Fault>), StoreError> {
    let (mut newest, mut faults) = (HashMap::<ObjectHash, Verified>::new(), Vec::new());
    for read in objects(repository)?.into_values() {
        match read {
            Err(fault) => faults.push(fault),
            Ok(Verification { recorded, records, .. }) => {
                for record in records {
                    let known = newest.get(&record.snapshot);
                    if known.is_none_or(|known| known.recorded <= recorded) {
                        newest.insert(record.snapshot, Verified { recorded, record });
                    }
                }
            }
        }
    }
    Ok((Verifications(newest), faults))
}

/// Stores what was found.
pub fn store(repository: &Repository, verification: &Verification) -> Result<ObjectName, RepositoryError> {
    let context = repository.config().seal_context();
    let object = verification.seal(&context, &repository.keys().verification, &*repository.environment().entropy);
    let name = ObjectName::verification(ObjectHash::of(&object));
    repository.store().create(&name, &object)?;
    Ok(name)
}
