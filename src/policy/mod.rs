//! What is decided by rules alone: which snapshots are kept.
//!
//! Pure in the time now and in the time zone; nothing is read or written here.

pub mod calendar;
pub mod promise;
pub mod refusal;
pub mod retention;
