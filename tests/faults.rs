//! A repository on an S3 server that is reached through a proxy which spoils requests and answers: whatever happens on the way, every operation ends in its
//! time, done or with an error that says what is wrong; nothing is lost, nothing is there twice, and memory stays bounded.
//!
//! All of it needs a server, so it is run by `cargo xtask test` and ignored elsewhere.

#[path = "faults/jobs.rs"]
mod jobs;
mod ledger;
#[path = "faults/memory.rs"]
mod memory;
#[path = "faults/operations.rs"]
mod operations;
#[path = "watch/points.rs"]
mod points;
mod proxy;
#[path = "faults/refusals.rs"]
mod refusals;
#[path = "faults/server.rs"]
mod server;
mod support;
#[path = "faults/watched.rs"]
mod watched;
mod watcher;
