//! Keeps a store's use of the network within bounds: bytes a second in each direction, and requests at a time.
//!
//! The rate holds on average over objects, not within one: an object is sent at full speed once the time of those before it is up.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::{Timer, UnixMicros};
use crate::format::name::{Folder, ObjectName};

use super::super::object_lock::{Lock, Locked};
use super::super::{Creation, Listed, Store, StoreError};

/// What is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a second that are sent; no bound if 0.
    pub upload_bytes_a_second: u64,
    /// Bytes a second that are fetched; no bound if 0.
    pub download_bytes_a_second: u64,
    /// Requests at a time; no bound if 0.
    pub requests: usize,
}

/// See the module documentation.
pub struct Limit {
    store: Arc<dyn Store>,
    limits: Limits,
    timer: Arc<dyn Timer>,
    /// When the bytes so far are paid for, in each direction.
    upload_paid: Mutex<Duration>,
    download_paid: Mutex<Duration>,
    under_way: Mutex<usize>,
    ended: Condvar,
}

impl Limit {
    /// Keeps `store` within `limits`.
    pub fn new(store: Arc<dyn Store>, limits: Limits, timer: Arc<dyn Timer>) -> Self {
        let (upload_paid, download_paid) = (Mutex::default(), Mutex::default());
        Self { store, limits, timer, upload_paid, download_paid, under_way: Mutex::new(0), ended: Condvar::new() }
    }

    /// Waits until the bytes before these are paid for.
    fn pay(&self, paid: &Mutex<Duration>, bytes_a_second: u64, bytes: u64) {
        if bytes_a_second == 0 || bytes == 0 {
            return;
        }
        let now = self.timer.elapsed();
        let begins = {
            let mut paid = paid.lock().unwrap_or_else(PoisonError::into_inner);
            let begins = (*paid).max(now);
            *paid = begins + Duration::from_secs_f64(bytes as f64 / bytes_a_second as f64);
            begins
        };
        self.timer.wait(begins - now);
    }

    fn run<T>(&self, request: impl FnOnce() -> T) -> T {
        if self.limits.requests == 0 {
            return request();
        }
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        while *under_way >= self.limits.requests {
            under_way = self.ended.wait(under_way).unwrap_or_else(PoisonError::into_inner);
        }
        *under_way += 1;
        drop(under_way);
        let done = request();
        *self.under_way.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.ended.notify_one();
        done
    }

    fn fetch(&self, request: impl FnOnce() -> Result<Vec<u8>, StoreError>) -> Result<Vec<u8>, StoreError> {
        let bytes = self.run(request)?;
        self.pay(&self.download_paid, self.limits.download_bytes_a_second, bytes.len() as u64);
        Ok(bytes)
    }
}

impl Store for Limit {
    fn location(&self) -> String {
        self.store.location()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.pay(&self.upload_paid, self.limits.upload_bytes_a_second, bytes.len() as u64);
        self.run(|| self.store.create(name, bytes))
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.fetch(|| self.store.read(name, limit_bytes))
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.fetch(|| self.store.read_range(name, range))
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        self.run(|| self.store.list(folder))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.run(|| self.store.delete(name))
    }

    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        self.run(|| self.store.created(name))
    }

    fn locked(&self, name: &ObjectName) -> Result<Locked, StoreError> {
        self.run(|| self.store.locked(name))
    }

    fn lock(&self, name: &ObjectName, lock: Lock) -> Result<(), StoreError> {
        self.run(|| self.store.lock(name, lock))
    }

    fn remembered(&self, folder: Folder) -> Option<Vec<Listed>> {
        self.store.remembered(folder)
    }

    fn copies(&self) -> Vec<Arc<dyn Store>> {
        self.store.copies()
    }

    fn concurrency(&self) -> usize {
        match self.limits.requests {
            0 => self.store.concurrency(),
            requests => self.store.concurrency().min(requests),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::JumpingTimer;
    use crate::base::id::ObjectHash;
    use crate::store::opendal::OpendalStore;

    #[test]
    fn bytes_take_the_time_that_they_cost() {
        let memory = Arc::new(OpendalStore::memory().expect("BUG: memory is always there"));
        let limits = Limits { upload_bytes_a_second: 1 << 20, requests: 1, ..Limits::default() };
        let timer = Arc::new(JumpingTimer::default());
        let store = Limit::new(memory, limits, Arc::clone(&timer) as _);
        for n in 0..5 {
            store.create(&ObjectName::pack(ObjectHash([n; 32])), &[0; 256 << 10]).expect("BUG: memory takes it");
        }
        // The first four are paid for before the fifth begins.
        assert_eq!(timer.elapsed(), Duration::from_secs(1));
    }
}
