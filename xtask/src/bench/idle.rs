//! `--phase idle`: many databases that nobody uses, in one watcher. They should cost nothing.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::database;
use super::report::number_of_files;
use super::rounds;
use super::statistics::{largest, median};
use super::table::{self, Bar, number};
use super::tool::{Installed, Site};
use crate::failure::Failure;

const MEBIBYTE: f64 = 1_048_576.0;

const DATABASE_COUNT: usize = 200;

/// How long the watcher is looked at.
const OBSERVED: Duration = Duration::from_secs(20);

/// One round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Until all databases had their first backup and the watcher was quiet.
    settled_s: f64,
    /// Of one core.
    cpu_percent: f64,
    resident_mebibytes: f64,
    peak_mebibytes: f64,
    /// Written or changed while it was looked at.
    objects: f64,
}

/// All that was measured, the rounds in their order.
pub struct Measured {
    samples: Vec<Sample>,
}

/// Measures our watcher `rounds` times.
pub fn run(root: &Path, directory: &Path, ours: &Installed, rounds: u32) -> Result<Measured, Failure> {
    let mut samples = Vec::new();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let place = rounds::fresh_place(directory)?;
        samples.push(sample(root, &place, ours)?);
        fs::remove_dir_all(&place).map_err(Failure::io("remove", &place))?;
    }
    Ok(Measured { samples })
}

fn sample(root: &Path, place: &Path, ours: &Installed) -> Result<Sample, Failure> {
    let databases = database::make_idle(root, &place.join("databases"), DATABASE_COUNT)?;
    let Some(first) = databases.first() else {
        return Err(Failure::new("make_idle.py made no database"));
    };
    let site = Site::create(ours, first, &place.join("watcher"))?;
    let started = Instant::now();
    let mut daemon = site.watch(&databases)?;
    daemon.settle()?;
    let settled_s = started.elapsed().as_secs_f64();
    let (stored, cpu, observed) = (site.stored()?, daemon.cpu()?, Instant::now());
    thread::sleep(OBSERVED);
    let (cpu, observed) = (daemon.cpu()?.saturating_sub(cpu), observed.elapsed());
    let (resident_bytes, peak_bytes) = daemon.resident_bytes()?;
    let written = site.stored()?.iter().filter(|(path, bytes)| stored.get(*path) != Some(bytes)).count();
    daemon.stop()?;
    Ok(Sample {
        settled_s,
        cpu_percent: 100.0 * cpu.as_secs_f64() / observed.as_secs_f64(),
        resident_mebibytes: mebibytes(resident_bytes),
        peak_mebibytes: mebibytes(peak_bytes),
        objects: number_of_files(written),
    })
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^53")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MEBIBYTE
}

impl Measured {
    /// Tables and bars.
    pub fn report(&self) -> String {
        let middle = |of: fn(&Sample) -> f64, decimals| number(median(&self.all(of)), decimals);
        let row = [
            "continuum".to_owned(),
            middle(|sample| sample.settled_s, 1),
            middle(|sample| sample.cpu_percent, 2),
            middle(|sample| sample.resident_mebibytes, 0),
            middle(|sample| sample.peak_mebibytes, 0),
            middle(|sample| sample.objects, 0),
        ];
        let heads = ["tool", "settled after s", "CPU %", "resident MiB", "peak MiB", "objects"];
        let title = format!("{DATABASE_COUNT} idle databases in one watcher, over {} s", OBSERVED.as_secs());
        table::render(&title, &heads, &[row]) + &self.bars()
    }

    fn bars(&self) -> String {
        table::bars(&[
            Bar {
                text: "CPU when idle < 1 % of a core",
                limit: 1.0,
                measured: median(&self.all(|sample| sample.cpu_percent)),
                unit: " %",
            },
            Bar {
                text: "resident memory < 150 MiB",
                limit: 150.0,
                measured: largest(&self.all(|sample| sample.resident_mebibytes)),
                unit: " MiB",
            },
            Bar {
                text: "objects written when idle: 0",
                limit: 0.0,
                measured: largest(&self.all(|sample| sample.objects)),
                unit: "",
            },
        ])
    }

    fn all(&self, of: fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_written_object_misses_the_bar() {
        let quiet =
            Sample { settled_s: 5.0, cpu_percent: 0.5, resident_mebibytes: 60.0, peak_mebibytes: 70.0, objects: 0.0 };
        let report = Measured { samples: vec![quiet, Sample { objects: 1.0, ..quiet }] }.report();
        assert!(report.contains("  reached       CPU when idle < 1 % of a core: 0.500 %\n"), "{report}");
        assert!(report.contains("  missed        objects written when idle: 0: 1.000\n"), "{report}");
    }
}
