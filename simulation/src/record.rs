//! What is kept of a run: numbers, and the trace of all that happened.

use std::fmt;

/// What is done with the trace of a run, beside hashing it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracing {
    /// Nothing.
    #[default]
    Hashed,
    /// Its lines are kept.
    Kept,
    /// Its lines are printed.
    Printed,
}

/// All that happened, in order.
#[derive(Default)]
pub struct Trace {
    hasher: blake3::Hasher,
    use_of: Tracing,
    lines: Vec<String>,
}

impl Trace {
    /// Nothing, yet.
    pub fn new(use_of: Tracing) -> Self {
        Self { use_of, ..Self::default() }
    }

    /// Whether somebody reads along.
    pub fn is_printed(&self) -> bool {
        self.use_of == Tracing::Printed
    }

    /// Adds a line.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        let line = line();
        self.hasher.update(line.as_bytes());
        match self.use_of {
            Tracing::Hashed => {}
            Tracing::Kept => self.lines.push(line),
            Tracing::Printed => println!("{line}"),
        }
    }

    /// The hash of everything that happened, and, if they were kept, its lines.
    pub fn take(&mut self) -> (String, Vec<String>) {
        (self.hasher.finalize().to_hex()[..16].to_owned(), std::mem::take(&mut self.lines))
    }
}

/// What happened in a run, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Requests.
    pub requests: u64,
    /// Requests that failed.
    pub faults: u64,
    /// Actors that were killed.
    pub kills: u64,
    /// Effects that came late.
    pub late: u64,
    /// Operations that succeeded.
    pub done: u64,
    /// Operations that failed.
    pub failed: u64,
    /// Packs that were deleted.
    pub deleted_packs: u64,
    /// Entries that were deleted.
    pub deleted_entries: u64,
    /// Snapshots that were acknowledged.
    pub snapshots: u64,
    /// Commits of watchers that were acknowledged.
    pub commits: u64,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.faults += other.faults;
        self.kills += other.kills;
        self.late += other.late;
        self.done += other.done;
        self.failed += other.failed;
        self.deleted_packs += other.deleted_packs;
        self.deleted_entries += other.deleted_entries;
        self.snapshots += other.snapshots;
        self.commits += other.commits;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, {} faults, {} late effects, {} kills; {} operations succeeded, {} failed; {} snapshots and {} commits acknowledged, {} packs and {} entries deleted",
            self.requests,
            self.faults,
            self.late,
            self.kills,
            self.done,
            self.failed,
            self.snapshots,
            self.commits,
            self.deleted_packs,
            self.deleted_entries
        )
    }
}
