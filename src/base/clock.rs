//! Time as an argument.
//!
//! The core never asks the machine what time it is: it is handed a [`Clock`], so that tests and
//! simulations decide. Times inform people; nothing is ordered by them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z, negative before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMicros(pub i64);

impl UnixMicros {
    /// The same time.
    pub fn of(time: impl Into<SystemTime>) -> Self {
        Self(match time.into().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        })
    }

    /// The same time, as the standard library has it; 1970 if it cannot tell a time so far away.
    pub fn to_system(self) -> SystemTime {
        let distance = Duration::from_micros(self.0.unsigned_abs());
        let there = if self.0 < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
        there.unwrap_or(UNIX_EPOCH)
    }
}

/// Where times come from.
pub trait Clock: Send + Sync {
    /// The time now, as this machine believes it.
    fn now(&self) -> UnixMicros;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMicros {
        UnixMicros::of(SystemTime::now())
    }
}

/// How long things take, and waiting. Unlike a [`Clock`] it never goes back and means no date.
pub trait Timer: Send + Sync {
    /// Time since some moment that stays the same.
    fn elapsed(&self) -> Duration;

    /// Waits so long.
    fn wait(&self, pause: Duration);
}

/// The machine's own timer.
#[derive(Clone, Copy, Debug)]
pub struct SystemTimer(Instant);

impl Default for SystemTimer {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Timer for SystemTimer {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn wait(&self, pause: Duration) {
        std::thread::sleep(pause);
    }
}

/// A timer that waits by jumping, for tests and simulations.
#[derive(Debug, Default)]
pub struct JumpingTimer(AtomicU64);

impl Timer for JumpingTimer {
    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn wait(&self, pause: Duration) {
        self.0.fetch_add(pause.as_micros() as u64, Ordering::SeqCst);
    }
}

/// A clock that stands still, for tests and simulations.
#[derive(Clone, Copy, Debug)]
pub struct FixedClock(pub UnixMicros);

impl Clock for FixedClock {
    fn now(&self) -> UnixMicros {
        self.0
    }
}
