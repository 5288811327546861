//! Stores around a store: each adds one thing and hands everything else on.
//!
//! ```text
//! cache ─ retry ─ (replicas) ─ meter ─ limit ─ single writer ─ the destination
//! ```
//!
//! The meter counts what goes over the wire, so it stands inside the retry. Where there are several destinations, [`super::replicas`] has one meter and one limit
//! for each.

pub mod cache;
pub mod fault;
pub mod limit;
pub mod meter;
pub mod retry;
pub mod single_writer;
