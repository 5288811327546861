//! `continuum mount`, with a real kernel mount and programs that know nothing of us: `sqlite3`, `sqldiff`, Python.
//!
//! Where nothing can be mounted (no /dev/fuse, or neither root nor fusermount3), each test says so and does nothing. Whatever happens to a test, what it mounted
//! is unmounted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "mount/away.rs"]
mod away;
#[path = "mount/content.rs"]
mod content;
#[path = "mount/ending.rs"]
mod ending;
#[path = "mount/following.rs"]
mod following;
#[path = "mount/mounted.rs"]
mod mounted;
#[path = "mount/names.rs"]
mod names;
#[path = "mount/refusals.rs"]
mod refusals;
mod scratch;
