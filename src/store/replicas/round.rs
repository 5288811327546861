//! One write to several destinations at the same time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::format::name::ObjectName;

use super::super::{Creation, StoreError};
use super::Shared;
use super::backlog::Owed;

/// A write that is under way.
pub struct Round<'a> {
    shared: &'a Arc<Shared>,
    owed: &'a Owed,
    bytes: Arc<Vec<u8>>,
    under_way: Vec<usize>,
    sender: Sender<(usize, Result<Creation, StoreError>)>,
    results: Receiver<(usize, Result<Creation, StoreError>)>,
}

/// What became of a write.
#[derive(Default)]
pub struct Written {
    /// How many destinations have done it.
    pub reached: usize,
    /// Where such an object was already.
    pub existed: Vec<usize>,
    /// Those that have not, or not in time.
    pub missed: Vec<usize>,
    /// Why one has not; if asking one of them again may help, then why that one has not.
    pub error: Option<StoreError>,
}

impl Written {
    /// One has failed.
    pub fn fail(&mut self, at: usize, error: StoreError) {
        self.missed.push(at);
        if !self.error.as_ref().is_some_and(StoreError::is_temporary) {
            self.error = Some(error);
        }
    }
}

impl<'a> Round<'a> {
    /// A write that begins nowhere yet.
    pub fn new(shared: &'a Arc<Shared>, owed: &'a Owed, bytes: Vec<u8>) -> Self {
        let (sender, results) = channel();
        Self { shared, owed, bytes: Arc::new(bytes), under_way: Vec::new(), sender, results }
    }

    /// Of which object.
    pub fn name(&self) -> &'a ObjectName {
        self.owed.name()
    }

    /// Begins at a destination.
    pub fn start(&mut self, at: usize) {
        let (destination, owed, bytes) =
            (Arc::clone(&self.shared.destinations[at]), self.owed.clone(), Arc::clone(&self.bytes));
        let sender = self.sender.clone();
        self.shared.beside(move || {
            // Nobody listens any more if this was late.
            let _ = sender.send((at, destination.write(&owed, &bytes)));
        });
        self.under_way.push(at);
    }

    /// Whether it is under way nowhere.
    pub fn is_over(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Waits for a destination; `None` if none has done it in time.
    pub fn wait(&mut self, limit: Option<Duration>) -> Option<(usize, Result<Creation, StoreError>)> {
        let (at, result) = self.results.recv_timeout(limit.unwrap_or(Duration::MAX)).ok()?;
        self.under_way.retain(|&other| other != at);
        Some((at, result))
    }

    /// Waits until all have done it, or enough and the others are late.
    pub fn settle(&mut self, written: &mut Written) {
        let (needed, straggler) = (self.shared.needed, self.shared.waits.straggler);
        let mut enough_at = None;
        while !self.is_over() {
            let now = self.shared.timer.elapsed();
            if written.reached >= needed {
                enough_at.get_or_insert(now);
            }
            let limit = enough_at.map(|at| straggler.saturating_sub(now.saturating_sub(at)));
            match self.wait(limit) {
                None => break,
                Some((at, Ok(creation))) => {
                    written.reached += 1;
                    if creation == Creation::Exists {
                        written.existed.push(at);
                    }
                }
                Some((at, Err(error))) => written.fail(at, error),
            }
        }
        for at in self.under_way.drain(..) {
            let why = format!("slower than the others by {} s", straggler.as_secs_f64());
            self.shared.destinations[at].health.failed(&why);
            written.missed.push(at);
        }
    }
}
