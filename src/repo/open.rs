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
use crate::format::damage::shows_damage;
use crate::format::key_slot::{KeySlot, SlotError, SlotOptions};
use crate::format::name::{Folder, ObjectName};
use crate::format::object::MAX_PLAIN_BYTES;
use crate::store::around::single_writer::SingleWriter;
use crate::store::lane::concurrently;
use crate::store::probe::creates_exclusively;
use crate::store::state::LocalState;
use crate::store::{Creation, Store, StoreError};

use super::copies::{DamagedCopies, read_whole, several};
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
    let single_writer = !creates_exclusively(&*store, &*environment.entropy)?;
    let keys = Keyring::new(SecretKey::generate(&*environment.entropy));
    let config = Config {
        repository: RepositoryId(environment.entropy.bytes()),
        created: environment.clock.now(),
        epoch: 1,
        suite: options.suite.unwrap_or(Suite::Aes256Gcm),
        public_key: keys.public().to_bytes(),
        cutter: options.cutter,
        single_writer,
    };
    let store = guarded(store, &config);
    let damaged = DamagedCopies::default();
    let repository = Repository { store: Arc::clone(&store), config, keys: Arc::new(keys), environment, damaged };
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

/// A store that may overwrite is looked at before each creation.
fn guarded(store: Arc<dyn Store>, config: &Config) -> Arc<dyn Store> {
    if config.single_writer { Arc::new(SingleWriter::new(store)) } else { store }
}

/// The identity of the repository that is there, and destinations that answer and hold none; fails if no destination holds one. Needs no key, and nobody has
/// vouched for it yet.
pub fn require_config(store: &dyn Store) -> Result<(RepositoryId, Vec<String>), RepositoryError> {
    read_config(store, &DamagedCopies::default()).map(|(config, empty)| (config.repository(), empty))
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
    let damaged = DamagedCopies::default();
    let (untrusted, _) = read_config(&*store, &damaged)?;
    let root = unlock(&*store, &damaged, untrusted.repository(), password, environment.state.as_ref())?;
    let keys = Keyring::new(root);
    let config = untrusted.verify(&keys).map_err(Fault::object(&ObjectName::config()))?;
    let store = guarded(store, &config);
    Ok(Repository { store, config, keys: Arc::new(keys), environment, damaged })
}

/// A config that shows no damage, if any destination has one, and destinations that have none. Two that differ are two repositories, which must not be mixed.
fn read_config(store: &dyn Store, damaged: &DamagedCopies) -> Result<(UntrustedConfig, Vec<String>), RepositoryError> {
    let name = ObjectName::config();
    let read = |store: &dyn Store| store.read(&name, MAX_PLAIN_BYTES as u64);
    let object = match read(store) {
        Err(StoreError::NotFound { .. }) => {
            return Err(RepositoryError::NotARepository { location: store.location() });
        }
        read => read?,
    };
    let copies = several(store);
    let copies = concurrently(copies.len(), &copies, |copy| (copy.location(), read(&**copy)));
    let is_empty = |copy: &Result<_, StoreError>| matches!(copy, Err(StoreError::NotFound { .. }));
    let empty = copies.iter().filter(|(_, copy)| is_empty(copy)).map(|(location, _)| location.clone()).collect();
    let readable = copies.into_iter().filter_map(|(location, copy)| Some((location, copy.ok()?)));
    let (bad, sound): (Vec<_>, Vec<_>) = readable.partition(|(_, copy)| shows_damage(&name, copy));
    if let [(first, one), rest @ ..] = sound.as_slice()
        && let Some((second, _)) = rest.iter().find(|(_, other)| other != one)
    {
        let (first, second) = (first.clone(), second.clone());
        return Err(StoreError::Conflict { name, first, second }.into());
    }
    let object = sound.into_iter().next().map_or(object, |(_, object)| object);
    // If it was damaged on its way, a second look helps.
    let config = UntrustedConfig::parse(&object).or_else(|_| -> Result<_, RepositoryError> {
        Ok(UntrustedConfig::parse(&read(store)?).map_err(Fault::object(&name))?)
    })?;
    bad.into_iter().for_each(|(location, _)| damaged.add(location, &name));
    Ok((config, empty))
}

/// The slot that opened last on this client, which saves listing them, then all slots.
fn unlock(
    store: &dyn Store,
    damaged: &DamagedCopies,
    repository: RepositoryId,
    password: &SecretString,
    state: Option<&LocalState>,
) -> Result<SecretKey, RepositoryError> {
    // Where listing costs no request, nothing need be remembered.
    let state = state.filter(|_| store.concurrency() > 0);
    let memory = format!("{repository}/slot");
    let last = state.and_then(|state| state.read(&memory).ok()?).and_then(|slot| String::from_utf8(slot).ok());
    let last = last.and_then(|slot| slot.trim().parse().ok()).map(ObjectName::key_slot);
    if let Some(name) = &last
        && let Ok(slot) = read_slot(store, damaged, name)
        && let Ok(root) = slot.open(repository, password)
    {
        return Ok(root);
    }
    let (name, root) = unlock_any(store, damaged, repository, password, last.as_ref())?;
    if let (Some(state), Some(slot)) = (state, name.slot()) {
        // Forgetting it costs a request.
        let _ = state.write(&memory, slot.to_string().as_bytes());
    }
    Ok(root)
}

/// Tries all slots, the one that was tried already last. One that is damaged does not keep another from opening; if none opens, damage is reported before a
/// wrong password.
fn unlock_any(
    store: &dyn Store,
    damaged: &DamagedCopies,
    repository: RepositoryId,
    password: &SecretString,
    tried: Option<&ObjectName>,
) -> Result<(ObjectName, SecretKey), RepositoryError> {
    let location = || store.location();
    let mut refusal = None;
    let mut wrong = false;
    let mut names = slot_names(store)?;
    names.sort_by_key(|name| Some(name) == tried);
    for name in names {
        let opened = match read_slot(store, damaged, &name) {
            Ok(slot) => slot.open(repository, password),
            Err(fault) => {
                refusal.get_or_insert(RepositoryError::Fault(fault));
                continue;
            }
        };
        match opened {
            Ok(root) => return Ok((name, root)),
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

fn read_slot(store: &dyn Store, damaged: &DamagedCopies, name: &ObjectName) -> Result<KeySlot, Fault> {
    let slot = name.slot().unwrap_or(SlotId([0; 8]));
    let parse = |object: Vec<u8>| KeySlot::parse(&object, slot).map_err(Fault::object(name));
    read_whole(store, damaged, name, MAX_PLAIN_BYTES, parse)
}

/// All key slots, and what is wrong with those that do not parse.
pub fn key_slots(repository: &Repository) -> Result<(Vec<KeySlot>, Vec<Fault>), StoreError> {
    let (mut slots, mut faults) = (Vec::new(), Vec::new());
    for name in slot_names(repository.store())? {
        match read_slot(repository.store(), &repository.damaged, &name) {
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
    let Repository { store, config, keys, environment, .. } = repository;
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
