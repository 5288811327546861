//! Many runs, on all processors.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::plan::Scope;
use crate::plant::Plant;
use crate::record::{Counts, Tracing};
use crate::run::{Outcome, Runner};

/// How many failing seeds are enough.
const MOST_FAILURES: usize = 20;

/// What came of many runs.
#[derive(Debug, Default)]
pub struct Campaign {
    /// Runs.
    pub runs: u64,
    /// What happened in them.
    pub counts: Counts,
    /// What was wrong, by seed.
    pub failures: BTreeMap<u64, String>,
}

/// How seeds are run.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Where local state is kept.
    pub folder: &'a Path,
    /// How much there is in each world.
    pub scope: Scope,
    /// Threads that run seeds.
    pub jobs: usize,
    /// So many of the seeds are run twice, and must come out the same.
    pub repeated: u64,
}

/// Runs seeds; the first that fail are told.
pub fn run_all(settings: Settings<'_>, seeds: &[u64]) -> Campaign {
    let campaign = Mutex::new(Campaign::default());
    let next = AtomicU64::new(0);
    on_all_processors(settings, |runner| {
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
            let is_repeated = seed < settings.repeated;
            let tracing = if is_repeated { Tracing::Kept } else { Tracing::Hashed };
            let outcome = runner.run(seed, None, tracing);
            let differs = if is_repeated { compare(&outcome, &runner.run(seed, None, tracing)) } else { None };
            let mut campaign = campaign.lock().expect("BUG: nobody panics with it");
            campaign.add(seed, outcome, differs);
            if campaign.failures.len() >= MOST_FAILURES {
                break;
            }
        }
    });
    campaign.into_inner().expect("BUG: nobody panics with it")
}

/// Runs seeds with a planted bug until one of them finds it. Returns which, and what it says.
pub fn find(settings: Settings<'_>, plant: Plant, seeds: Range<u64>) -> Option<(u64, String)> {
    let found: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let next = AtomicU64::new(seeds.start);
    on_all_processors(settings, |runner| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let is_needed = |found: &Option<(u64, String)>| found.as_ref().is_none_or(|(first, _)| seed < *first);
            if seed >= seeds.end || !is_needed(&found.lock().expect("BUG: nobody panics with it")) {
                return;
            }
            if let Some(violation) = runner.run(seed, Some(plant), Tracing::Hashed).violation {
                let mut found = found.lock().expect("BUG: nobody panics with it");
                if is_needed(&found) {
                    *found = Some((seed, violation));
                }
            }
        }
    });
    found.into_inner().expect("BUG: nobody panics with it")
}

impl Campaign {
    fn add(&mut self, seed: u64, outcome: Outcome, differs: Option<String>) {
        self.runs += 1;
        self.counts.add(&outcome.counts);
        if let Some(what) = outcome.violation.or(differs) {
            self.failures.insert(seed, what);
        }
    }
}

/// Where two runs of a seed part, if they do.
fn compare(one: &Outcome, other: &Outcome) -> Option<String> {
    if one.trace == other.trace {
        return None;
    }
    let differs = |(a, b): &(&String, &String)| a != b;
    let (a, b) = one.lines.iter().zip(&other.lines).find(differs)?;
    Some(format!("two runs are not the same: {a:?}, and {b:?}"))
}

fn on_all_processors(settings: Settings<'_>, work: impl Fn(&mut Runner) + Sync) {
    thread::scope(|scope| {
        for job in 0..settings.jobs {
            let work = &work;
            scope.spawn(move || {
                // Best effort: without it, handing over the turn takes longer.
                let _ = stay_on(job);
                let mut runner = Runner::new(&settings.folder.join(job.to_string()), settings.scope);
                work(&mut runner);
            });
        }
    });
}

/// Keeps this thread, and those that it will start, on one processor.
fn stay_on(processor: usize) -> io::Result<()> {
    let mut allowed = rustix::thread::sched_getaffinity(None)?;
    let available: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    let Some(&mine) = available.get(processor % available.len().max(1)) else { return Ok(()) };
    allowed.clear();
    allowed.set(mine);
    Ok(rustix::thread::sched_setaffinity(None, &allowed)?)
}
