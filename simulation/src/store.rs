//! The store of the simulated world, as one actor sees it.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use continuum::base::clock::{Clock, Timer, UnixMicros};
use continuum::format::name::{Folder, ObjectName};
use continuum::store::{Creation, Listed, Store, StoreError};

use crate::plan::Role;
use crate::spoiler::{Spoiled, Spoiler};
use crate::world::{Fate, World};

/// See the module documentation.
pub struct SimulatedStore {
    world: Arc<World>,
    actor: usize,
    place: usize,
    spoiler: Spoiler,
}

impl SimulatedStore {
    /// The destination at that place, used by an operation of that actor.
    pub fn new(world: &Arc<World>, actor: usize, role: Role, place: usize) -> Self {
        Self { world: Arc::clone(world), actor, place, spoiler: Spoiler::new(world, role, place) }
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> Creation {
        match self.spoiler.create(&self.world, self.actor, name, bytes) {
            Spoiled::Pretended => Creation::New,
            Spoiled::Not => {
                let creation = self.world.create(self.actor, self.place, name, bytes);
                self.spoiler.created(&self.world, self.actor, name);
                creation
            }
        }
    }

    fn error(&self, action: &'static str, name: &str) -> StoreError {
        let source = io::Error::other("as the simulation wants");
        StoreError::Unavailable { location: self.location(), action, name: name.to_owned(), source }
    }

    fn fetch(&self, name: &ObjectName) -> Result<(Fate, Arc<Vec<u8>>), StoreError> {
        let fate = self.world.request(self.actor, self.place, "read", name.as_str());
        if !matches!(fate, Fate::Works | Fate::Short) {
            return Err(self.error("read", name.as_str()));
        }
        let found = self.world.read(self.place, name).filter(|_| !self.spoiler.hides(name));
        let missing = || StoreError::NotFound { location: self.location(), name: name.clone() };
        Ok((fate, found.ok_or_else(missing)?))
    }
}

impl Store for SimulatedStore {
    fn location(&self) -> String {
        if self.world.plan.mirror.is_some() { format!("simulated:{}", self.place) } else { "simulated:".to_owned() }
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.spoiler.linger(&self.world, self.actor, name);
        let created = match self.world.request(self.actor, self.place, "create", name.as_str()) {
            Fate::FailsLate => {
                self.world.later(self.actor, self.place, name, Some(bytes));
                Err(self.error("create", name.as_str()))
            }
            Fate::FailsAfter => {
                self.put(name, bytes);
                Err(self.error("create", name.as_str()))
            }
            Fate::Works => Ok(self.put(name, bytes)),
            Fate::FailsBefore if self.spoiler.acknowledges(&self.world) => Ok(Creation::New),
            Fate::FailsBefore | Fate::Short => Err(self.error("create", name.as_str())),
        };
        self.world.after_effect(self.actor);
        created
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let (fate, bytes) = self.fetch(name)?;
        if bytes.len() as u64 > limit_bytes {
            let source = io::Error::new(io::ErrorKind::InvalidData, "longer than the limit");
            return Err(StoreError::Io { location: self.location(), action: "read", name: name.to_string(), source });
        }
        let length = bytes.len() - usize::from(fate == Fate::Short && !bytes.is_empty());
        Ok(bytes[..length].to_vec())
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let (fate, bytes) = self.fetch(name)?;
        let part = bytes.get(range.start as usize..range.end as usize).filter(|_| fate == Fate::Works);
        let truncated =
            || StoreError::Truncated { location: self.location(), name: name.clone(), range: range.clone() };
        Ok(part.ok_or_else(truncated)?.to_vec())
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        match self.world.request(self.actor, self.place, "list", &folder.prefix()) {
            Fate::Works => Ok(self.spoiler.list(&self.world, folder, self.world.list(self.place, folder))),
            _ => Err(self.error("list", &folder.prefix())),
        }
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let deleted = match self.world.request(self.actor, self.place, "delete", name.as_str()) {
            Fate::FailsLate => {
                self.world.later(self.actor, self.place, name, None);
                Err(self.error("delete", name.as_str()))
            }
            fate @ (Fate::FailsAfter | Fate::Works) => {
                self.world.delete(self.place, name);
                self.spoiler.deleted(&self.world, self.actor, name);
                if fate == Fate::Works { Ok(()) } else { Err(self.error("delete", name.as_str())) }
            }
            Fate::FailsBefore | Fate::Short => Err(self.error("delete", name.as_str())),
        };
        self.world.after_effect(self.actor);
        deleted
    }
}

/// The clock of the machine on which an actor runs.
pub struct SimulatedClock {
    /// Which world's.
    pub world: Arc<World>,
    /// Whose.
    pub actor: usize,
    /// By how much it is wrong.
    pub skew: i64,
}

impl Clock for SimulatedClock {
    fn now(&self) -> UnixMicros {
        UnixMicros(self.world.clock(self.actor, self.skew))
    }
}

/// Waits in the simulated world.
pub struct SimulatedTimer {
    /// Which world's.
    pub world: Arc<World>,
    /// Who waits.
    pub actor: usize,
}

impl Timer for SimulatedTimer {
    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.world.now() as u64)
    }

    fn wait(&self, pause: Duration) {
        self.world.sleep(self.actor, pause.as_micros() as i64);
    }
}
