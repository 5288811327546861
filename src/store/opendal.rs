//! Any service that OpenDAL reaches, behind the [`Store`] trait.
//!
//! Today that is its memory service, for tests; object stores follow.

use std::io;
use std::ops::Range;

use opendal::{ErrorKind, Operator, services};
use tokio::runtime::Runtime;

use crate::format::name::{Folder, ObjectName};

use super::{Creation, Listed, Store, StoreError, too_long};

/// See the module documentation.
pub struct OpendalStore {
    operator: Operator,
    runtime: Runtime,
    location: String,
}

impl OpendalStore {
    /// An empty store in this process's memory.
    pub fn memory() -> io::Result<Self> {
        let operator = Operator::new(services::Memory::default()).map_err(io::Error::from)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(Self { operator, runtime, location: "memory:".into() })
    }

    fn error(&self, action: &'static str, name: &ObjectName, error: opendal::Error) -> StoreError {
        let location = self.location();
        match error.kind() {
            ErrorKind::NotFound => StoreError::NotFound { location, name: name.clone() },
            _ => StoreError::Io { location, action, name: name.to_string(), source: error.into() },
        }
    }

    fn length(&self, name: &ObjectName) -> Result<u64, StoreError> {
        let metadata = self.runtime.block_on(self.operator.stat(name.as_str()));
        metadata.map(|metadata| metadata.content_length()).map_err(|error| self.error("read", name, error))
    }
}

impl Store for OpendalStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        let write = self.operator.write_with(name.as_str(), bytes.to_vec()).if_not_exists(true);
        match self.runtime.block_on(async { write.await }) {
            Ok(_) => Ok(Creation::New),
            Err(error) if error.kind() == ErrorKind::ConditionNotMatch => Ok(Creation::Exists),
            Err(error) => Err(self.error("create", name, error)),
        }
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let bytes = self.length(name)?;
        if bytes > limit_bytes {
            let source = too_long(bytes, limit_bytes);
            return Err(StoreError::Io { location: self.location(), action: "read", name: name.to_string(), source });
        }
        self.read_range(name, 0..bytes)
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        // Services differ in what a range past the end gives: ask first.
        if range.end > self.length(name)? {
            return Err(StoreError::Truncated { location: self.location(), name: name.clone(), range });
        }
        let read = self.operator.read_with(name.as_str()).range(range);
        let bytes = self.runtime.block_on(async { read.await });
        bytes.map(|bytes| bytes.to_vec()).map_err(|error| self.error("read", name, error))
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let prefix = folder.prefix();
        let list = self.operator.list_with(&prefix).recursive(true);
        let entries = self.runtime.block_on(async { list.await }).map_err(|error| StoreError::Io {
            location: self.location(),
            action: "list",
            name: prefix.clone(),
            source: error.into(),
        })?;
        let mut listed = Vec::new();
        for entry in entries.into_iter().filter(|entry| entry.metadata().is_file()) {
            let name = ObjectName::from_listing(entry.path().to_owned());
            let bytes = self.length(&name)?;
            listed.push(Listed { name, bytes });
        }
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let deleted = self.runtime.block_on(self.operator.delete(name.as_str()));
        deleted.map_err(|error| self.error("delete", name, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ObjectHash;

    #[test]
    fn memory_keeps_the_promises_of_a_store() {
        let store = OpendalStore::memory().expect("BUG: memory is always there");
        let name = ObjectName::pack(ObjectHash([3; 32]));
        assert_eq!(store.create(&name, b"0123").expect("BUG: created"), Creation::New);
        assert_eq!(store.create(&name, b"4567").expect("BUG: refused"), Creation::Exists);
        assert_eq!(store.read(&name, 4).expect("BUG: there"), b"0123");
        assert_eq!(store.read_range(&name, 1..3).expect("BUG: inside"), b"12");
        assert!(matches!(store.read_range(&name, 1..5), Err(StoreError::Truncated { .. })));
        assert!(store.read(&name, 3).is_err());
        assert_eq!(store.list(Folder::Packs).expect("BUG: listed"), [Listed { name: name.clone(), bytes: 4 }]);
        assert!(store.list(Folder::Index).expect("BUG: listed").is_empty());
        store.delete(&name).expect("BUG: deleted");
        assert!(matches!(store.read(&name, 4), Err(StoreError::NotFound { .. })));
    }
}
