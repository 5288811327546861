//! What people do with a repository: one file an operation, each a function of an opened repository, options and a monitor.

pub mod ask;
pub mod check;
pub mod compact;
pub mod copy;
pub mod delta;
pub mod diff;
pub mod fold;
pub mod forget;
pub mod history;
pub mod lock;
mod partial;
pub mod points;
pub mod prune;
pub mod query;
pub mod repair;
pub mod restore;
mod restore_error;
pub mod snapshot;
pub mod snapshots;
pub mod stats;
pub mod sync;
pub mod tables;
pub mod timeline_walk;
pub mod verify;
pub mod when;
