//! One typed stream of events: progress and notices that the core reports and the edge shows.
//!
//! The core never prints. A [`Monitor`] also carries the wish to stop the other way: long loops ask
//! [`Monitor::is_cancelled`] and end cleanly with [`Cancelled`].

use std::sync::Arc;

/// What is being done, for a progress bar or a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A database's pages are read, cut and stored.
    Snapshot,
    /// A database's pages are compared with the page map.
    Scan,
    /// What an earlier restore left on disk is compared with what should be there.
    Resume,
    /// Pages are fetched and written.
    Restore,
    /// The restored file is read back and hashed.
    Prove,
    /// Chunks are carried from one repository to another.
    Copy,
    /// Chunks that are needed are carried over from packs that are given up.
    Repack,
    /// Packs are read and their chunks opened.
    CheckData,
    /// Pages are read and hashed.
    Verify,
    /// Destinations are compared.
    Compare,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A phase begins.
    Started {
        /// Which.
        phase: Phase,
        /// Bytes that it will go through.
        total_bytes: u64,
    },
    /// Bytes gone through since the last such event.
    Advanced(u64),
    /// The phase is over.
    Finished,
    /// Something a person should know although the work goes on.
    Notice(String),
}

/// Receives events.
pub trait Monitor: Send + Sync {
    /// Shows, counts or drops an event.
    fn event(&self, event: Event);

    /// Whether the user wants the work to stop.
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl<M: Monitor + ?Sized> Monitor for Arc<M> {
    fn event(&self, event: Event) {
        (**self).event(event);
    }

    fn is_cancelled(&self) -> bool {
        (**self).is_cancelled()
    }
}

/// Work was stopped at the user's wish. Nothing half-done is visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

impl dyn Monitor + '_ {
    /// Fails once the user wants to stop.
    pub fn check_cancelled(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }
}

/// Drops every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn event(&self, _: Event) {}
}
