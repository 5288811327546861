//! Tries again what failed for now, until it succeeds, fails for good, or its time is up.
//!
//! # What holds
//! * Pauses are drawn evenly between nothing and a bound that doubles ("full jitter": Brooker, "Exponential Backoff And Jitter", 2015), so many clients of one
//!   service do not come back together.
//! * No attempt begins after the deadline; each attempt has its own time limit in the store below. So every operation ends.
//! * A creation that failed may have succeeded. When a later attempt finds that the object exists, its bytes are compared: if they are ours, it was us.
//! * A wish to stop ends the pauses of what was begun before. What is begun after it is part of stopping, as are a watcher's last commits, and has a shorter time.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::{Timer, UnixMicros};
use crate::base::entropy::Entropy;
use crate::base::error_text::with_causes;
use crate::format::name::{Folder, ObjectName};
use crate::monitor::{Event, Monitor};

use super::super::object_lock::{Lock, Locked};
use super::super::{Creation, Listed, Store, StoreError, holds};

/// The bound of the first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The bound of any pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// For how long an operation of stopping is tried again: who waits for the end of a process, does not wait much longer.
const STOPPING: Duration = Duration::from_secs(10);

/// A wish to stop is noticed within this.
const SLICE: Duration = Duration::from_millis(100);

/// Told is the failure of this attempt, for the first ones pass mostly, and then whenever the number has doubled.
const TOLD_ATTEMPTS: u32 = 3;

/// See the module documentation.
pub struct Retry {
    store: Arc<dyn Store>,
    deadline: Duration,
    timer: Arc<dyn Timer>,
    entropy: Arc<dyn Entropy>,
    monitor: Arc<dyn Monitor>,
}

impl Retry {
    /// Tries operations of `store` again for as long as `deadline`. `monitor` hears of it and may end it.
    pub fn new(
        store: Arc<dyn Store>,
        deadline: Duration,
        timer: Arc<dyn Timer>,
        entropy: Arc<dyn Entropy>,
        monitor: Arc<dyn Monitor>,
    ) -> Self {
        Self { store, deadline, timer, entropy, monitor }
    }

    fn run<T>(&self, mut attempt: impl FnMut(u32) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let begun = self.timer.elapsed();
        let stopping = self.monitor.is_cancelled();
        let deadline = if stopping { self.deadline.min(STOPPING) } else { self.deadline };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match attempt(attempts) {
                Err(error) if error.is_temporary() => error,
                done => return done,
            };
            let pause = self.pause(attempts);
            let after = self.timer.elapsed().saturating_sub(begun);
            if after + pause > deadline || !self.wait(pause, stopping) {
                return Err(StoreError::GaveUp { attempts, after, source: Box::new(error) });
            }
            if attempts % TOLD_ATTEMPTS == 0 && (attempts / TOLD_ATTEMPTS).is_power_of_two() {
                self.monitor.event(Event::Notice(format!("{}; trying again", with_causes(&error))));
            }
        }
    }

    fn pause(&self, attempts: u32) -> Duration {
        let bound = FIRST_PAUSE.saturating_mul(1 << (attempts - 1).min(10)).min(LONGEST_PAUSE);
        let fraction = u32::from_le_bytes(self.entropy.bytes()) as f64 / f64::from(u32::MAX);
        bound.mul_f64(fraction)
    }

    /// Waits, unless the user wants to stop and did not when the operation began.
    fn wait(&self, pause: Duration, stopping: bool) -> bool {
        let mut left = pause;
        while !left.is_zero() {
            if !stopping && self.monitor.is_cancelled() {
                return false;
            }
            let slice = left.min(SLICE);
            self.timer.wait(slice);
            left -= slice;
        }
        true
    }

    /// Whether what is there is what we sent. A second look is taken before it is called another's: what came may have been damaged on the way.
    fn is_ours(&self, name: &ObjectName, bytes: &[u8]) -> Result<bool, StoreError> {
        let look = || holds(&*self.store, name, bytes);
        Ok(look()? || look()?)
    }

    /// Several destinations tell by themselves whether an entry of a timeline is ours; of those that disagree, a read might give the one that nobody else has.
    fn is_decided(&self, name: &ObjectName) -> bool {
        name.timeline().is_some() && self.store.copies().len() > 1
    }
}

impl Store for Retry {
    fn location(&self) -> String {
        self.store.location()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.run(|attempts| match self.store.create(name, bytes)? {
            Creation::Exists if attempts > 1 && !self.is_decided(name) && self.is_ours(name, bytes)? => {
                Ok(Creation::New)
            }
            creation => Ok(creation),
        })
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        self.run(|_| self.store.read(name, limit_bytes))
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.run(|_| self.store.read_range(name, range.clone()))
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        self.run(|_| self.store.list(folder))
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.run(|_| self.store.delete(name))
    }

    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        self.run(|_| self.store.created(name))
    }

    fn locked(&self, name: &ObjectName) -> Result<Locked, StoreError> {
        self.run(|_| self.store.locked(name))
    }

    fn lock(&self, name: &ObjectName, lock: Lock) -> Result<(), StoreError> {
        self.run(|_| self.store.lock(name, lock))
    }

    fn remembered(&self, folder: Folder) -> Option<Vec<Listed>> {
        self.store.remembered(folder)
    }

    fn copies(&self) -> Vec<Arc<dyn Store>> {
        self.store.copies()
    }

    fn concurrency(&self) -> usize {
        self.store.concurrency()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::base::clock::JumpingTimer;
    use crate::base::entropy::SeededEntropy;
    use crate::base::id::ObjectHash;
    use crate::monitor::Silent;
    use crate::store::around::fault::{Fault, Faults};
    use crate::store::opendal::OpendalStore;

    /// Wants to stop, from the beginning or once it is asked the second time.
    struct Stopping(AtomicBool);

    impl Monitor for Stopping {
        fn event(&self, _: Event) {}

        fn is_cancelled(&self) -> bool {
            self.0.swap(true, Ordering::SeqCst)
        }
    }

    struct Told(Mutex<Vec<String>>);

    impl Monitor for Told {
        fn event(&self, event: Event) {
            if let Event::Notice(text) = event {
                self.0.lock().expect("BUG: no panic").push(text);
            }
        }
    }

    fn retry(faults: Vec<Fault>, monitor: Arc<dyn Monitor>) -> (Arc<Faults>, Arc<JumpingTimer>, Retry) {
        let memory = Arc::new(OpendalStore::memory().expect("BUG: memory is always there"));
        let faults = Arc::new(Faults::new(memory, faults));
        let timer = Arc::new(JumpingTimer::default());
        let store: Arc<dyn Store> = Arc::clone(&faults) as _;
        let retry = Retry::new(
            store,
            Duration::from_secs(60),
            Arc::clone(&timer) as _,
            Arc::new(SeededEntropy::new(1)),
            monitor,
        );
        (faults, timer, retry)
    }

    #[test]
    fn a_failure_for_now_is_tried_again_and_told_only_if_it_lasts() {
        let told = Arc::new(Told(Mutex::default()));
        let (_, _, store) = retry(vec![Fault::Before; 7], Arc::clone(&told) as _);
        let name = ObjectName::pack(ObjectHash([1; 32]));
        assert!(matches!(store.create(&name, b"x"), Ok(Creation::New)));
        assert_eq!(told.0.lock().expect("BUG: no panic").len(), 2, "the third and the sixth");
    }

    #[test]
    fn a_success_whose_answer_was_lost_is_met_as_ours_and_another_object_is_not() {
        let (_, _, store) = retry(vec![Fault::After], Arc::new(Silent));
        let name = ObjectName::pack(ObjectHash([1; 32]));
        assert!(matches!(store.create(&name, b"ours"), Ok(Creation::New)));
        let (faults, _, store) = retry(vec![], Arc::new(Silent));
        assert!(matches!(store.create(&name, b"theirs"), Ok(Creation::New)));
        faults.push(Fault::Before);
        assert!(matches!(store.create(&name, b"ours"), Ok(Creation::Exists)));
    }

    #[test]
    fn a_wish_to_stop_ends_what_waits_and_leaves_some_time_to_what_follows() {
        let name = ObjectName::pack(ObjectHash([1; 32]));
        let (_, timer, store) = retry(vec![Fault::Before; 100], Arc::new(Stopping(AtomicBool::new(false))));
        assert!(matches!(store.create(&name, b"x"), Err(StoreError::GaveUp { attempts: 1, .. })));
        assert_eq!(timer.elapsed(), Duration::ZERO);
        let (_, _, store) = retry(vec![Fault::Before; 3], Arc::new(Stopping(AtomicBool::new(true))));
        assert!(matches!(store.create(&name, b"x"), Ok(Creation::New)));
        let (_, timer, store) = retry(vec![Fault::Before; 100], Arc::new(Stopping(AtomicBool::new(true))));
        assert!(matches!(store.create(&name, b"x"), Err(StoreError::GaveUp { attempts: 4.., .. })));
        assert!(timer.elapsed() <= STOPPING);
    }

    #[test]
    fn our_own_success_is_met_though_the_first_look_at_it_is_spoiled() {
        let (_, _, store) = retry(vec![Fault::After, Fault::None, Fault::Short], Arc::new(Silent));
        assert!(matches!(store.create(&ObjectName::pack(ObjectHash([1; 32])), b"ours"), Ok(Creation::New)));
    }

    #[test]
    fn every_operation_ends() {
        let (_, timer, store) = retry(vec![Fault::Before; 10_000], Arc::new(Silent));
        let name = ObjectName::pack(ObjectHash([1; 32]));
        let error = store.read(&name, 9).expect_err("nothing ever answers");
        assert!(matches!(error, StoreError::GaveUp { attempts: 8.., .. }), "{error:?}");
        assert!(timer.elapsed() <= Duration::from_secs(60));
    }
}
