//! `continuum query`: SQL on states in the repository, what it costs, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod counted;
mod scratch;

#[path = "query/cost.rs"]
mod cost;
#[path = "query/hostile.rs"]
mod hostile;
#[path = "query/program.rs"]
mod program;
