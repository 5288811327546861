//! A store that fails as told, for tests and simulations: the same list of faults gives the same run.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::clock::UnixMicros;
use crate::format::name::{Folder, ObjectName};

use super::super::object_lock::{Lock, Locked};
use super::super::{Creation, Listed, Store, StoreError};

/// What goes wrong with one operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It fails and has no effect.
    Before,
    /// It has its effect, and fails.
    After,
    /// It fails, and has its effect when the next operation begins.
    Late,
    /// A read gives a byte less than it should; other operations do nothing wrong.
    Short,
    /// A read gives a flipped bit.
    Flipped,
    /// It fails for good.
    Refused,
}

/// A write that has its effect later.
enum LateWrite {
    Create(ObjectName, Vec<u8>),
    Delete(ObjectName),
}

/// See the module documentation.
pub struct Faults {
    store: Arc<dyn Store>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    faults: VecDeque<Fault>,
    late: Vec<LateWrite>,
    away: bool,
    /// Names created so lately that no listing shows them, oldest first, and for how many.
    unlisted: VecDeque<ObjectName>,
    list_lag: usize,
}

impl Faults {
    /// The faults of the next operations, in order; after them everything works.
    pub fn new(store: Arc<dyn Store>, faults: impl IntoIterator<Item = Fault>) -> Self {
        let state = State { faults: faults.into_iter().collect(), ..State::default() };
        Self { store, state: Mutex::new(state) }
    }

    /// One more fault.
    pub fn push(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    /// From now on, no operation reaches the store, or all do again.
    pub fn set_away(&self, away: bool) {
        self.state().away = away;
    }

    /// From now on, listings leave out the last so many created objects.
    pub fn set_list_lag(&self, objects: usize) {
        self.state().list_lag = objects;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, action: &'static str, name: &str) -> Result<Fault, StoreError> {
        let (fault, late) = {
            let mut state = self.state();
            if state.away {
                return Err(self.error(action, name));
            }
            (state.faults.pop_front().unwrap_or_default(), std::mem::take(&mut state.late))
        };
        for write in late {
            // Nobody hears how it ended.
            match write {
                LateWrite::Create(name, bytes) => _ = self.store.create(&name, &bytes),
                LateWrite::Delete(name) => _ = self.store.delete(&name),
            }
        }
        match fault {
            Fault::Before => Err(self.error(action, name)),
            Fault::Refused => {
                let (location, name, source) = (self.location(), name.to_owned(), std::io::Error::other("refused"));
                Err(StoreError::Io { location, action, name, source })
            }
            fault => Ok(fault),
        }
    }

    fn error(&self, action: &'static str, name: &str) -> StoreError {
        let source = std::io::Error::other("as the test wants");
        StoreError::Unavailable { location: self.location(), action, name: name.to_owned(), source }
    }

    fn spoil(&self, fault: Fault, name: &ObjectName, mut bytes: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        match fault {
            Fault::After | Fault::Late => return Err(self.error("read", name.as_str())),
            Fault::Short => _ = bytes.pop(),
            Fault::Flipped => {
                let middle = bytes.len() / 2;
                bytes.get_mut(middle).into_iter().for_each(|byte| *byte ^= 1);
            }
            Fault::None | Fault::Before | Fault::Refused => {}
        }
        Ok(bytes)
    }
}

impl Store for Faults {
    fn location(&self) -> String {
        self.store.location()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        let fault = self.next("create", name.as_str())?;
        if fault == Fault::Late {
            self.state().late.push(LateWrite::Create(name.clone(), bytes.to_vec()));
            return Err(self.error("create", name.as_str()));
        }
        let creation = self.store.create(name, bytes)?;
        let mut state = self.state();
        state.unlisted.push_back(name.clone());
        while state.unlisted.len() > state.list_lag {
            state.unlisted.pop_front();
        }
        drop(state);
        if fault == Fault::After { Err(self.error("create", name.as_str())) } else { Ok(creation) }
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let fault = self.next("read", name.as_str())?;
        self.spoil(fault, name, self.store.read(name, limit_bytes)?)
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let fault = self.next("read", name.as_str())?;
        self.spoil(fault, name, self.store.read_range(name, range)?)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        if self.next("list", &folder.prefix())? != Fault::None {
            return Err(self.error("list", &folder.prefix()));
        }
        let mut listed = self.store.list(folder)?;
        let state = self.state();
        listed.retain(|listed| !state.unlisted.contains(&listed.name));
        Ok(listed)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let fault = self.next("delete", name.as_str())?;
        if fault == Fault::Late {
            self.state().late.push(LateWrite::Delete(name.clone()));
            return Err(self.error("delete", name.as_str()));
        }
        self.store.delete(name)?;
        if fault == Fault::After { Err(self.error("delete", name.as_str())) } else { Ok(()) }
    }

    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        self.store.created(name)
    }

    fn locked(&self, name: &ObjectName) -> Result<Locked, StoreError> {
        self.store.locked(name)
    }

    fn lock(&self, name: &ObjectName, lock: Lock) -> Result<(), StoreError> {
        self.store.lock(name, lock)
    }

    fn copies(&self) -> Vec<Arc<dyn Store>> {
        self.store.copies()
    }

    fn concurrency(&self) -> usize {
        self.store.concurrency()
    }
}
