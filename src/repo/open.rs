//! Making, opening and unlocking a repository.

use std::sync::Arc;

use secrecy::SecretString;

use crate::base::id::{RepositoryId, SlotId};
use crate::chunk::cutter::CutterSizes;
use crate::crypto::aead::Suite;
use crate::crypto::keys::Keyring;
use crate::crypto::password::{Cost, PasswordError};
use crate::crypto::secret::SecretKey;
use crate::format::config::{Config, UntrustedConfig};
use crate::format::key_slot::{KeySlot, SlotError, SlotOptions};
use crate::format::name::{Folder, ObjectName};
use crate::format::object::MAX_PLAIN_BYTES;
use crate::store::{Creation, Store, StoreError};

use super::{Environment, Fault, Repository, RepositoryError};

/// How to make a repository.
#[derive(Clone, Debug, Default)]
pub struct InitOptions {
    /// Cipher suite of everything sealed in it; AES-256-GCM by default.
    pub suite: Option<Suite>,
    /// How images are cut.
    pub cutter: CutterSizes,
    /// What guessing the password shall cost.
    pub cost: Cost,
    /// Label of the first key slot.
    pub label: String,
}

/// Makes a repository. The config comes last and is created only if absent: of two `init`s at once one wins, and the other's key slot, which opens nothing,
/// is taken back.
pub fn init(
    store: Arc<dyn Store>,
    password: &SecretString,
    options: InitOptions,
    environment: Environment,
) -> Result<Repository, RepositoryError> {
    require_no_config(&*store)?;
    let keys = Keyring::new(SecretKey::generate(&*environment.entropy));
    let config = Config {
        repository: RepositoryId(environment.entropy.bytes()),
        created: environment.clock.now(),
        epoch: 1,
        suite: options.suite.unwrap_or(Suite::Aes256Gcm),
        public_key: keys.public().to_bytes(),
        cutter: options.cutter,
    };
    let repository = Repository { store: Arc::clone(&store), config, keys: Arc::new(keys), environment };
    let slot = add_password(&repository, password, options.label, options.cost)?;
    let object = repository.config.to_object(&repository.keys);
    match store.create(&ObjectName::config(), &object)? {
        Creation::New => Ok(repository),
        Creation::Exists => {
            store.delete(&ObjectName::key_slot(slot))?;
            Err(RepositoryError::AlreadyExists { location: store.location() })
        }
    }
}

/// Fails unless there is a repository. Needs no key.
pub fn require_config(store: &dyn Store) -> Result<(), RepositoryError> {
    read_config(store).map(|_| ())
}

/// Fails if there is a repository already.
pub fn require_no_config(store: &dyn Store) -> Result<(), RepositoryError> {
    match store.read(&ObjectName::config(), MAX_PLAIN_BYTES as u64) {
        Err(StoreError::NotFound { .. }) => Ok(()),
        Ok(_) => Err(RepositoryError::AlreadyExists { location: store.location() }),
        Err(error) => Err(error.into()),
    }
}

/// Opens a repository with any of its passwords.
pub fn open(
    store: Arc<dyn Store>,
    password: &SecretString,
    environment: Environment,
) -> Result<Repository, RepositoryError> {
    let untrusted = read_config(&*store)?;
    let root = unlock(&*store, untrusted.repository(), password)?;
    let keys = Keyring::new(root);
    let config = untrusted.verify(&keys).map_err(Fault::object(&ObjectName::config()))?;
    Ok(Repository { store, config, keys: Arc::new(keys), environment })
}

fn read_config(store: &dyn Store) -> Result<UntrustedConfig, RepositoryError> {
    let name = ObjectName::config();
    let object = store.read(&name, MAX_PLAIN_BYTES as u64).map_err(|error| match error {
        StoreError::NotFound { .. } => RepositoryError::NotARepository { location: store.location() },
        error => error.into(),
    })?;
    Ok(UntrustedConfig::parse(&object).map_err(Fault::object(&name))?)
}

/// Tries all slots. One that is damaged does not keep another from opening; if none opens, damage is reported before a wrong password.
fn unlock(store: &dyn Store, repository: RepositoryId, password: &SecretString) -> Result<SecretKey, RepositoryError> {
    let location = || store.location();
    let mut refusal = None;
    let mut wrong = false;
    for name in slot_names(store)? {
        let opened = match read_slot(store, &name) {
            Ok(slot) => slot.open(repository, password),
            Err(fault) => {
                refusal.get_or_insert(RepositoryError::Fault(fault));
                continue;
            }
        };
        match opened {
            Ok(root) => return Ok(root),
            Err(SlotError::Password(PasswordError::Wrong)) => wrong = true,
            Err(SlotError::Password(source)) => {
                refusal.get_or_insert(RepositoryError::Password { name, source });
            }
            Err(SlotError::Format(source)) => {
                refusal.get_or_insert(RepositoryError::Fault(Fault::Object { name, source }));
            }
        }
    }
    Err(match (refusal, wrong) {
        (Some(refusal), _) => refusal,
        (None, true) => RepositoryError::WrongPassword { location: location() },
        (None, false) => RepositoryError::NoSlots { location: location() },
    })
}

fn slot_names(store: &dyn Store) -> Result<Vec<ObjectName>, StoreError> {
    Ok(store.list(Folder::Keys)?.into_iter().map(|listed| listed.name).filter(|name| name.slot().is_some()).collect())
}

fn read_slot(store: &dyn Store, name: &ObjectName) -> Result<KeySlot, Fault> {
    let object = store.read(name, MAX_PLAIN_BYTES as u64).map_err(Fault::unreadable(name))?;
    let slot = name.slot().unwrap_or(SlotId([0; 8]));
    KeySlot::parse(&object, slot).map_err(Fault::object(name))
}

/// All key slots, and what is wrong with those that do not parse.
pub fn key_slots(repository: &Repository) -> Result<(Vec<KeySlot>, Vec<Fault>), StoreError> {
    let (mut slots, mut faults) = (Vec::new(), Vec::new());
    for name in slot_names(repository.store())? {
        match read_slot(repository.store(), &name) {
            Ok(slot) => slots.push(slot),
            Err(fault) => faults.push(fault),
        }
    }
    Ok((slots, faults))
}

/// Adds a slot that opens with `password`.
pub fn add_password(
    repository: &Repository,
    password: &SecretString,
    label: String,
    cost: Cost,
) -> Result<SlotId, RepositoryError> {
    let Repository { store, config, keys, environment } = repository;
    let options = SlotOptions { label, cost, suite: config.suite, created: environment.clock.now() };
    let made = KeySlot::create(config.repository, keys.root(), password, options, &*environment.entropy);
    let slot =
        made.map_err(|source| RepositoryError::Password { name: ObjectName::key_slot(SlotId([0; 8])), source })?;
    store.create(&ObjectName::key_slot(slot.slot), &slot.to_object())?;
    Ok(slot.slot)
}

/// Removes a slot, unless it is the last.
pub fn remove_slot(repository: &Repository, slot: SlotId) -> Result<(), RepositoryError> {
    let names = slot_names(repository.store())?;
    let name = ObjectName::key_slot(slot);
    if !names.contains(&name) {
        return Err(StoreError::NotFound { location: repository.location(), name }.into());
    }
    if names.len() == 1 {
        return Err(RepositoryError::LastSlot { location: repository.location(), slot: slot.to_string() });
    }
    Ok(repository.store().delete(&name)?)
}
