//! What a planted bug makes of the requests of one operation.

use std::sync::{Mutex, MutexGuard, PoisonError};

use continuum::base::id::DatabaseId;
use continuum::format::name::{Folder, ObjectName};
use continuum::store::{Creation, Listed};

use crate::plan::Role;
use crate::plant::Plant;
use crate::world::World;

/// Long enough for others to write entries, forget snapshots and collect.
const LONG_STEPS: u64 = 1000;

/// See the module documentation.
pub struct Spoiler {
    plant: Option<Plant>,
    role: Role,
    place: usize,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    tombstones: Option<Vec<Listed>>,
    held_back: Vec<(ObjectName, Vec<u8>)>,
    /// The entry that was created last.
    entry: Option<ObjectName>,
}

/// What becomes of a creation.
pub enum Spoiled {
    /// It is made as usual.
    Not,
    /// It is acknowledged.
    Pretended,
}

impl Spoiler {
    /// For an operation of an actor of that role.
    pub fn new(world: &World, role: Role, place: usize) -> Self {
        let plant = world.plan.plant;
        let mut memory = Memory::default();
        if plant == Some(Plant::TombstonesSeenEarly) {
            memory.tombstones = Some(world.list(place, Folder::Tombstones));
        }
        Self { plant, role, place, memory: Mutex::new(memory) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, plant: Plant, role: Role) -> bool {
        self.plant == Some(plant) && self.role == role
    }

    fn writes(&self) -> bool {
        matches!(self.role, Role::Writer | Role::Watcher | Role::Compactor)
    }

    /// Before an object is created.
    pub fn create(&self, world: &World, actor: usize, name: &ObjectName, bytes: &[u8]) -> Spoiled {
        let Some(plant) = self.plant else { return Spoiled::Not };
        let is_index = name.as_str().starts_with("index/");
        let (collects, watches) = (self.role == Role::Collector, self.role == Role::Watcher);
        let (is_lost, is_held_back) = match plant {
            Plant::FenceNotWritten => (collects && name.timeline().is_some(), false),
            Plant::TombstonesAfterFence => (false, collects && name.as_str().starts_with("tombstones/")),
            Plant::CopiesAfterDeletions => (false, collects && (name.is_pack() || is_index)),
            Plant::CopiesNotWritten => (collects && name.is_pack(), false),
            Plant::PacksNotWritten => (self.writes() && name.is_pack() && world.number().is_multiple_of(8), false),
            Plant::SegmentsNotWritten => (self.writes() && is_index && world.number().is_multiple_of(8), false),
            Plant::FoldsNotWritten => (watches && name.timeline().is_some() && world.number().is_multiple_of(4), false),
            Plant::DestinationForgets => (self.place == 1 && world.number().is_multiple_of(8), false),
            Plant::SyncSkips => (self.role == Role::Mirrorer && is_index, false),
            Plant::MendedNotWritten => (self.role == Role::Repairer && name.is_pack(), false),
            Plant::RelistedNotWritten => (self.role == Role::Repairer && is_index, false),
            Plant::MarksNotWritten => (self.role == Role::Repairer && name.timeline().is_some(), false),
            Plant::WritesLost => (world.number().is_multiple_of(30), false),
            Plant::JournalsLate if name.journal_position().is_some() && world.number().is_multiple_of(4) => {
                world.later(actor, self.place, name, Some(bytes));
                (true, false)
            }
            _ => (false, false),
        };
        if is_held_back {
            self.memory().held_back.push((name.clone(), bytes.to_vec()));
        }
        if is_lost || is_held_back { Spoiled::Pretended } else { Spoiled::Not }
    }

    /// Before an object is created: for stones to be there and not seen, the log has to grow between a look at its end and the next entry.
    pub fn linger(&self, world: &World, actor: usize, name: &ObjectName) {
        if self.is(Plant::StonesUnseen, Role::Writer) && name.timeline().is_some() && world.number().is_multiple_of(8) {
            world.stand_still(actor, LONG_STEPS);
        }
    }

    /// Whether a creation is acknowledged that fails.
    pub fn acknowledges(&self, world: &World) -> bool {
        self.plant == Some(Plant::AbsenceUnseen) && world.is_away(self.place)
    }

    /// Whether an object seems not to be there.
    pub fn hides(&self, name: &ObjectName) -> bool {
        let created = self.memory().entry.as_ref().and_then(ObjectName::timeline);
        let is_behind = |(database, sequence): (DatabaseId, u64)| {
            created.is_some_and(|(of, last)| of == database && last < sequence && sequence.is_multiple_of(16))
        };
        self.plant == Some(Plant::StonesUnseen) && self.role != Role::Steward && name.timeline().is_some_and(is_behind)
    }

    /// After an object was created.
    pub fn created(&self, world: &World, actor: usize, name: &ObjectName) {
        if name.timeline().is_some() {
            self.memory().entry = Some(name.clone());
        }
        if self.is(Plant::TombstonesAfterFence, Role::Collector) && name.timeline().is_some() {
            self.release(world, actor);
        }
    }

    /// After an object was deleted.
    pub fn deleted(&self, world: &World, actor: usize, name: &ObjectName) {
        if self.is(Plant::CopiesAfterDeletions, Role::Collector) {
            self.release(world, actor);
        }
        if self.is(Plant::TombstonesTakenBack, Role::Collector) && name.is_pack() {
            world.list(self.place, Folder::Tombstones).iter().for_each(|listed| world.delete(self.place, &listed.name));
        }
    }

    fn release(&self, world: &World, actor: usize) {
        for (name, bytes) in std::mem::take(&mut self.memory().held_back) {
            let _: Creation = world.create(actor, self.place, &name, &bytes);
        }
    }

    /// What is seen of a listing.
    pub fn list(&self, world: &World, folder: Folder, mut listed: Vec<Listed>) -> Vec<Listed> {
        let Some(plant) = self.plant else { return listed };
        match (plant, folder) {
            (Plant::TombstonesUnseen, Folder::Tombstones) if self.writes() => Vec::new(),
            (Plant::TombstonesSeenOnce | Plant::TombstonesSeenEarly, Folder::Tombstones) if self.writes() => {
                self.memory().tombstones.get_or_insert(listed).clone()
            }
            (Plant::JournalsDeleted, Folder::Journals) if self.role == Role::Collector => {
                listed.iter().for_each(|listed| world.delete(self.place, &listed.name));
                listed
            }
            (Plant::TimelineUnseen, Folder::Timelines) if self.role == Role::Collector => {
                let first = world.repository.keys().database_id(world.databases[0].name());
                listed.retain(|listed| listed.name.timeline().is_none_or(|(database, _)| database != first));
                listed
            }
            (Plant::BeginningUnseen, Folder::Timelines) if self.role == Role::Collector => {
                let databases: Vec<_> = listed.iter().filter_map(|listed| Some(listed.name.timeline()?.0)).collect();
                let is_alone = |name: &ObjectName| {
                    name.timeline()
                        .is_some_and(|(of, _)| databases.iter().filter(|&&database| database == of).count() == 1)
                };
                listed.retain(|listed| !is_alone(&listed.name));
                listed
            }
            _ => listed,
        }
    }
}
