//! What an actor's operation runs on: a client of the simulated world, and the repository opened from there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use continuum::base::clock::Timer;
use continuum::base::entropy::{Entropy, SeededEntropy};
use continuum::chunk::codec::Compression;
use continuum::format::name::ObjectName;
use continuum::format::object::MAX_PLAIN_BYTES;
use continuum::monitor::{self, Monitor};
use continuum::ops::snapshot::{Choice, SnapshotOptions};
use continuum::repo::chunk_writer::EncodeOptions;
use continuum::repo::{Environment, Repository};
use continuum::source::CaptureOptions;
use continuum::store::around::cache::Cache;
use continuum::store::around::retry::Retry;
use continuum::store::replicas::{Options, Replicas, Waits};
use continuum::store::state::LocalState;
use continuum::store::{Store, StoreError};

use crate::plan::{Client, Mirror, Role, SECOND};
use crate::plant::Plant;
use crate::store::{SimulatedClock, SimulatedStore, SimulatedTimer};
use crate::world::World;

/// For how long what failed is tried again, if it is.
const RETRIES: Duration = Duration::from_secs(20);

/// Microseconds of a day.
const DAY: i64 = 24 * 3600 * SECOND;

/// See the module documentation.
pub struct Machine {
    /// The world.
    pub world: Arc<World>,
    /// The actor.
    pub actor: usize,
    /// What it does.
    pub role: Role,
    /// What its machine is like.
    pub client: Client,
    /// Where its machine keeps its local state.
    pub folder: PathBuf,
}

impl Machine {
    /// The repository, as a new process opens it.
    pub fn repository(&self) -> Repository {
        let Self { world, actor, role, client, folder } = self;
        let number = world.number();
        let number = if world.plan.plant == Some(Plant::NamesUsedAgain) && *role != Role::Watcher { 7 } else { number };
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(number));
        let mut store: Arc<dyn Store> = match &world.plan.mirror {
            Some(mirror) => self.replicas(mirror),
            None => Arc::new(SimulatedStore::new(world, *actor, *role, 0)),
        };
        if client.retries {
            let timer: Arc<dyn Timer> = Arc::new(SimulatedTimer { world: Arc::clone(world), actor: *actor });
            store = Arc::new(Retry::new(store, RETRIES, timer, Arc::clone(&entropy), Arc::new(self.monitor())));
        }
        if client.caches {
            store = Arc::new(Cache::new(store, folder.join("cache")));
        }
        let is_ahead = world.plan.plant == Some(Plant::ClockAhead) && *role == Role::Collector;
        let skew = client.skew + if is_ahead { DAY } else { 0 };
        let clock = SimulatedClock { world: Arc::clone(world), actor: *actor, skew };
        let environment = Environment {
            clock: Arc::new(clock),
            entropy,
            state: client.remembers.then(|| LocalState::new(folder.join("state"))),
            upload_threads: 0,
            fetch_threads: 0,
        };
        world.repository.through(store, environment)
    }

    /// Several destinations as one store, as a new process uses them.
    pub fn replicas(&self, mirror: &Mirror) -> Arc<Replicas> {
        let Self { world, actor, role, client, folder } = self;
        let destination = |place: usize| -> (String, Arc<dyn Store>) {
            (place.to_string(), Arc::new(SimulatedStore::new(world, *actor, *role, place)))
        };
        let options = Options {
            tolerate: mirror.tolerate,
            state: client.remembers.then(|| folder.join("destinations")),
            waits: Waits::default(),
            is_inline: true,
            timer: Arc::new(SimulatedTimer { world: Arc::clone(world), actor: *actor }),
            monitor: Arc::new(self.monitor()),
        };
        let replicas = Arc::new(Replicas::new((0..mirror.destinations).map(destination).collect(), options));
        for copy in replicas.copies() {
            // Whoever opens a repository looks for it everywhere. One that is away tells nothing.
            let _: Result<_, StoreError> = copy.read(&ObjectName::config(), MAX_PLAIN_BYTES as u64);
        }
        if world.number().is_multiple_of(2) {
            // What a process does beside its work.
            replicas.catch_up();
        }
        replicas
    }

    /// The same machine, for another task.
    pub fn as_role(&self, role: Role) -> Self {
        let Self { world, actor, client, folder, .. } = self;
        Self { world: Arc::clone(world), actor: *actor, role, client: client.clone(), folder: folder.clone() }
    }

    /// Hears what operations say.
    pub fn monitor(&self) -> Listener {
        Listener { world: Arc::clone(&self.world), actor: self.actor }
    }

    /// How a snapshot is taken.
    pub fn snapshot_options(&self, name: &str, choice: Choice, take_over: bool) -> SnapshotOptions {
        SnapshotOptions {
            name: name.to_owned(),
            choice,
            tags: Vec::new(),
            host: format!("actor {}", self.actor),
            compression: Compression::None,
            verify: false,
            capture: CaptureOptions::default(),
            take_over,
        }
    }
}

/// How chunks are encoded: in the way that costs least.
pub const ENCODE: EncodeOptions = EncodeOptions { compression: Compression::None, verify: false };

/// Puts notices into the trace.
pub struct Listener {
    world: Arc<World>,
    actor: usize,
}

impl Monitor for Listener {
    fn event(&self, event: monitor::Event) {
        if let monitor::Event::Notice(text) = event {
            self.world.note(|| format!("  actor {} says: {text}", self.actor));
        }
    }
}
