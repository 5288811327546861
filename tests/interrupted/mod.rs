//! A store in which something else happens in the middle of what is tested.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use continuum::format::name::{Folder, ObjectName};
use continuum::store::{Creation, Listed, Store, StoreError};

/// What is done once, when an object is created whose name begins so.
type Interruption = (&'static str, Box<dyn FnOnce() + Send>);

/// A store in which something happens just before an object is created.
pub struct Interrupted {
    store: Arc<dyn Store>,
    waiting: Mutex<Option<Interruption>>,
}

impl Interrupted {
    /// Before the first object whose name begins with `prefix`.
    pub fn new(store: Arc<dyn Store>, prefix: &'static str, happen: impl FnOnce() + Send + 'static) -> Self {
        Self { store, waiting: Mutex::new(Some((prefix, Box::new(happen)))) }
    }
}

impl Store for Interrupted {
    fn location(&self) -> String {
        self.store.location()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        let mut waiting = self.waiting.lock().unwrap();
        let due = waiting.take_if(|(prefix, _)| name.as_str().starts_with(*prefix));
        drop(waiting);
        if let Some((_, happen)) = due {
            happen();
        }
        self.store.create(name, bytes)
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.store.read(name, limit_bytes)
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.store.read_range(name, range)
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        self.store.list(folder)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.store.delete(name)
    }
}
