//! How a destination does: whether it answers, and how fast.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::error_text::with_causes;

use super::super::StoreError;

/// How long a destination that failed is asked last.
const AVOIDED: Duration = Duration::from_secs(10);

/// Weight of the newest latency in the mean.
const NEWEST: f64 = 0.2;

/// See the module documentation.
#[derive(Default)]
pub struct Health(Mutex<State>);

#[derive(Default)]
struct State {
    failed: Option<(Instant, String)>,
    latency_s: f64,
}

impl Health {
    /// Runs a request and notes how it went. An object that is not there is no failure.
    pub fn timed<T>(&self, request: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let begun = Instant::now();
        let result = request();
        let mut state = self.state();
        match &result {
            Err(error) if !matches!(error, StoreError::NotFound { .. } | StoreError::Truncated { .. }) => {
                state.failed = Some((Instant::now(), with_causes(error)));
            }
            _ => {
                state.failed = None;
                state.latency_s += NEWEST * (begun.elapsed().as_secs_f64() - state.latency_s);
            }
        }
        result
    }

    /// Notes a failure that no request told.
    pub fn failed(&self, why: &str) {
        self.state().failed = Some((Instant::now(), why.to_owned()));
    }

    /// Whether it answers, or its last failure is long ago.
    pub fn is_good(&self) -> bool {
        self.state().failed.as_ref().is_none_or(|(at, _)| at.elapsed() > AVOIDED)
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
