//! What runs for long: `watch` captures every commit of its databases until it is stopped.
//!
//! ```text
//! databases ── database ──> steps ── journal ──> journal objects, acknowledged
//!                             └───── watch, every few minutes ──> packs, timelines; journal objects deleted
//! ```
//!
//! # Invariants
//! * Commits are captured in order under rolling pins ([`crate::source::Follower`]); where that cannot be proved, the database is attached anew by a snapshot, whose tiers prove
//!   completeness or read everything, and that is said.
//! * A commit is acknowledged when the journal object that holds it is durable in the destination.
//! * What waits for the destination is bounded; past the bound the databases are let go, so that their WALs do not grow, and caught up with later.
//! * One process watches a database: it holds its [`crate::repo::memory::Memory`], and its announcement stands in the timeline until it ends.

mod database;
pub mod journal;
pub mod watch;
