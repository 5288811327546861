//! How a destination does: whether it answers, and how fast.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::clock::Timer;
use crate::base::error_text::with_causes;

use super::super::StoreError;

/// Weight of the newest latency in the mean.
const NEWEST: f64 = 0.2;

/// See the module documentation.
pub struct Health {
    timer: Arc<dyn Timer>,
    avoid: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failed: Option<(Duration, String)>,
    latency_s: f64,
}

impl Health {
    /// Nothing is known yet. A failure counts for as long as `avoid`.
    pub fn new(timer: Arc<dyn Timer>, avoid: Duration) -> Self {
        Self { timer, avoid, state: Mutex::default() }
    }

    /// Runs a request and notes how it went. An object that is not there is no failure.
    pub fn timed<T>(&self, request: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let begun = self.timer.elapsed();
        let result = request();
        let took_s = self.timer.elapsed().saturating_sub(begun).as_secs_f64();
        let mut state = self.state();
        let has_failed = match &result {
            Err(StoreError::NotFound { .. } | StoreError::Truncated { .. }) | Ok(_) => false,
            Err(error) => {
                state.failed = Some((self.timer.elapsed(), with_causes(error)));
                true
            }
        };
        if !has_failed {
            state.failed = None;
        }
        // To fail at once is not to be fast.
        if !has_failed || took_s > state.latency_s {
            state.latency_s += NEWEST * (took_s - state.latency_s);
        }
        result
    }

    /// Notes a failure that no request told.
    pub fn failed(&self, why: &str) {
        self.state().failed = Some((self.timer.elapsed(), why.to_owned()));
    }

    /// Whether it answers, or its last failure is long ago.
    pub fn is_good(&self) -> bool {
        self.state().failed.as_ref().is_none_or(|(at, _)| self.timer.elapsed().saturating_sub(*at) > self.avoid)
    }

    /// The mean time that a request takes.
    pub fn latency(&self) -> Duration {
        Duration::from_secs_f64(self.state().latency_s)
    }

    /// What went wrong last, if the last request failed.
    pub fn error(&self) -> Option<String> {
        self.state().failed.as_ref().map(|(_, error)| error.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
