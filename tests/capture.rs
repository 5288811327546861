//! Deltas of databases that change in every way SQLite has: each restored snapshot is byte for byte SQLite's view of the moment at which it was
//! taken, whatever the strategy and whatever proved which pages had changed.
//!
//! The databases are open in this process while the binary reads them; see [`support`] for how their files are read meanwhile.

#[path = "capture/cost.rs"]
mod cost;
#[path = "capture/exclusive.rs"]
mod exclusive;
#[path = "capture/histories.rs"]
mod histories;
#[path = "capture/missed.rs"]
mod missed;
#[path = "capture/source.rs"]
mod source;
#[path = "capture/stale.rs"]
mod stale;
mod support;
#[path = "capture/tiers.rs"]
mod tiers;
mod watcher;
