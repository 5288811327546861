//! The order of the measurements.
//!
//! A round gives every tool a fresh repository and takes one kind of work after the other, each
//! done by every tool in turn: full backup A B C …, restore A B C …, and so on. So the figures that
//! are set against each other were measured one after the other on the same bytes, and a slow
//! minute of the machine hits all of them. Before each command, what earlier ones wrote is flushed
//! to the disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::database;
use super::measured::{self, Cost};
use super::tool::{Installed, Site, Tool};
use crate::failure::Failure;

/// What is measured, and where.
#[derive(Clone, Copy)]
pub struct Workload<'a> {
    /// The project's root, for its load scripts.
    pub root: &'a Path,
    /// The database; it is copied and never written.
    pub source: &'a Path,
    /// Where repositories and copies go.
    pub directory: &'a Path,
}

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// A full backup into an empty repository.
    Full,
    /// Restore of it.
    Restore,
    /// Another full backup of the unchanged database.
    Unchanged,
    /// Another full backup after some small transactions.
    Changed,
    /// After such transactions, the backup that the tool takes by itself when it is run again.
    Next,
    /// A full backup of a state that `Next` has stored.
    FullAfter,
    /// `Next` while an application holds the database open and nothing was checkpointed.
    WalTail,
}

/// One command, and by how much the repository grew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub cost: Cost,
    pub added_bytes: u64,
}

/// All that was measured of one tool. The steps of one kind of work are in the order of the rounds, so the
/// same index in two series is a pair.
pub struct Series {
    pub tool: Tool,
    steps: BTreeMap<Work, Vec<Step>>,
}

impl Series {
    pub fn new(tool: Tool) -> Self {
        Self { tool, steps: BTreeMap::new() }
    }

    pub fn steps(&self, work: Work) -> &[Step] {
        self.steps.get(&work).map_or(&[], Vec::as_slice)
    }

    pub fn push(&mut self, work: Work, step: Step) {
        self.steps.entry(work).or_default().push(step);
    }
}

/// Measures `tools`, in their order, `rounds` times.
pub fn run(workload: &Workload<'_>, tools: &[Installed], rounds: u32) -> Result<Vec<Series>, Failure> {
    let mut series: Vec<Series> = tools.iter().map(|installed| Series::new(installed.tool)).collect();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let place = fresh_place(workload.directory)?;
        measure_round(workload, tools, &place, &mut series)?;
        fs::remove_dir_all(&place).map_err(Failure::io("remove", &place))?;
    }
    Ok(series)
}

/// A single snapshot and restore of `workload` by one tool.
pub fn memory_sample(workload: &Workload<'_>, installed: &Installed) -> Result<Series, Failure> {
    let place = fresh_place(workload.directory)?;
    let live = copy_of(workload.source, &place)?;
    let mut site = Site::create(installed, &live, &place.join("0"))?;
    let mut series = Series::new(installed.tool);
    for work in [Work::Full, Work::Restore] {
        series.push(work, measure(&mut site, work)?);
    }
    fs::remove_dir_all(&place).map_err(Failure::io("remove", &place))?;
    Ok(series)
}

fn measure_round(
    workload: &Workload<'_>,
    tools: &[Installed],
    place: &Path,
    series: &mut [Series],
) -> Result<(), Failure> {
    let live = copy_of(workload.source, place)?;
    let mut sites = Vec::new();
    for (at, installed) in tools.iter().enumerate() {
        sites.push(Site::create(installed, &live, &place.join(at.to_string()))?);
    }
    for work in [Work::Full, Work::Restore, Work::Unchanged, Work::Changed] {
        if work == Work::Changed {
            database::mutate(workload.root, &live)?;
        }
        for (site, series) in sites.iter_mut().zip(series.iter_mut()) {
            if site.tool().keeps_history() || matches!(work, Work::Full | Work::Restore) {
                series.push(work, measure(site, work)?);
            }
        }
    }
    Ok(())
}

/// Does `work` once.
pub fn measure(site: &mut Site<'_>, work: Work) -> Result<Step, Failure> {
    let before = site.stored_bytes()?;
    measured::settle()?;
    let cost = match work {
        Work::Restore => site.restore()?,
        Work::Next | Work::WalTail => site.next()?,
        Work::Full | Work::Unchanged | Work::Changed | Work::FullAfter => site.full()?,
    };
    let after = site.stored_bytes()?;
    // What is stored after the first backup includes what an empty repository holds.
    let added_bytes = if work == Work::Full { after } else { after.saturating_sub(before) };
    eprintln!("  {work:?} {}: {:.2} s", site.name(), cost.wall.as_secs_f64());
    Ok(Step { cost, added_bytes })
}

/// An empty directory; what a run that was interrupted left there is removed. Its path is absolute,
/// because tools for file trees restore to it.
pub fn fresh_place(directory: &Path) -> Result<PathBuf, Failure> {
    let directory = fs::canonicalize(directory).map_err(Failure::io("find", directory))?;
    let place = directory.join("round");
    if place.exists() {
        fs::remove_dir_all(&place).map_err(Failure::io("remove", &place))?;
    }
    fs::create_dir(&place).map_err(Failure::io("create", &place))?;
    Ok(place)
}

/// A copy of the database below `place`, for the application to write to.
pub fn copy_of(source: &Path, place: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(place).map_err(Failure::io("create", place))?;
    let live = place.join("live.db");
    fs::copy(source, &live).map_err(Failure::io("copy", source))?;
    Ok(live)
}
