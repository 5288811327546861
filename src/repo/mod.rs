//! The repository: objects in a store, opened with a key.
//!
//! ```text
//! pages ── image_writer, delta_writer ──> chunks ── chunk_writer ──> packs ──> index segments ──> timeline entry
//! pages <── image_reader, stack_reader <── chunks <── chunk_reader <── packs, index
//! ```
//!
//! # Invariants
//! * Nothing is overwritten. Packs are durable before the index segment that lists them is created, and both before the timeline entry that needs them:
//!   a kill at any moment leaves at most packs and segments that nothing refers to.
//! * A chunk counts as stored only if an index segment that was read, a pack that this process has finished, or one whose footer it has verified, holds it.
//! * What is read is checked: objects against their names, chunks against their ids, timelines against their chain and against the last head that this client saw.

pub mod changed_pages;
pub mod chunk_cache;
pub mod chunk_copy;
pub mod chunk_reader;
pub mod chunk_writer;
pub mod copies;
pub mod delta_writer;
mod error;
pub mod image_reader;
pub mod image_writer;
pub mod index;
pub mod journal;
pub mod lazy_pages;
pub mod memory;
mod open;
pub mod pack_fetch;
pub mod page_scan;
pub mod reachable;
pub mod stack_reader;
pub mod standing;
pub mod timeline;
pub mod tombstones;
pub mod unlisted_packs;
pub mod verifications;

use std::sync::Arc;

use crate::base::clock::Clock;
use crate::base::entropy::Entropy;
use crate::crypto::keys::Keyring;
use crate::format::config::Config;
use crate::store::Store;
use crate::store::state::LocalState;

use copies::DamagedCopies;
pub use error::{Fault, ImageError, RepositoryError};
pub use open::{InitOptions, add_password, init, key_slots, open, remove_slot, require_config, require_no_config};

/// The tool that writes manifests.
pub const TOOL: &str = concat!("continuum ", env!("CARGO_PKG_VERSION"));

/// What the edge hands to the core: where time and randomness come from, and how to run beside the caller.
#[derive(Clone)]
pub struct Environment {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Gives keys, salts and names.
    pub entropy: Arc<dyn Entropy>,
    /// What this client remembers between runs; `None` for one that remembers nothing.
    pub state: Option<LocalState>,
    /// How many threads seal and upload packs; 0 does it in the caller's thread.
    pub upload_threads: usize,
    /// How many threads fetch from packs; 0 does it in the caller's thread.
    pub fetch_threads: usize,
}

impl Environment {
    /// How many of so many requests to different destinations are made at once: one that takes its time does not hold the others up.
    pub fn width(&self, count: usize) -> usize {
        if self.fetch_threads == 0 { 1 } else { count }
    }
}

/// An opened repository.
#[derive(Clone)]
pub struct Repository {
    store: Arc<dyn Store>,
    config: Config,
    keys: Arc<Keyring>,
    environment: Environment,
    damaged: DamagedCopies,
}

impl Repository {
    /// Its identity and parameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it is.
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// The same repository, unlocked already, through another store that has its objects, and with another environment.
    pub fn through(&self, store: Arc<dyn Store>, environment: Environment) -> Self {
        let (config, keys) = (self.config.clone(), Arc::clone(&self.keys));
        Self { store, config, keys, environment, damaged: DamagedCopies::default() }
    }

    /// Its objects.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Its objects, to be used beside it.
    pub fn shared_store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Its keys.
    pub fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// Copies that were found damaged where others were good.
    pub fn damaged_copies(&self) -> &DamagedCopies {
        &self.damaged
    }

    /// What the edge handed in.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}
