//! `--phase watch`: an application that writes at a steady rate, alone and beside each tool that
//! captures continuously. What does the capture store, what does it compute, and what does the
//! application feel of it?
//!
//! The first full backup is not counted. We take it before the watcher starts; Litestream's daemon
//! takes it by itself, so counting begins when it says that this snapshot is complete. Everything
//! after that counts: that it then writes the snapshot once more, at its next compaction level, and
//! the orderly end of either daemon. We don't wait in between, because before the first commit
//! Litestream needs a quarter of a core for nothing, which should not be held against it.

use std::fs;
use std::path::Path;
use std::slice;
use std::thread;
use std::time::Duration;

use super::application::{self, Latencies};
use super::files::Files;
use super::json;
use super::measured;
use super::report::number_of_files;
use super::rounds::{self, Workload};
use super::statistics::{largest, median, paired_ratio};
use super::table::{self, Bar, number};
use super::tool::{Installed, Site, Tool};
use crate::failure::Failure;

const MEGABYTE: f64 = 1e6;

/// After the last commit: several times what either daemon waits before it stores one.
const DRAIN: Duration = Duration::from_secs(3);

/// What one tool did in one round.
#[derive(Clone, Copy, Debug)]
struct Capture {
    cpu: Duration,
    /// The first backup and the start of the daemon included.
    cpu_in_all: Duration,
    /// Beyond the first backup, before the daemon was told to end.
    objects: usize,
    bytes: u64,
    /// The same after its end.
    objects_at_end: usize,
    bytes_at_end: u64,
    /// Objects added since the daemon was watching, for each flush that it tells of.
    objects_per_flush: Option<f64>,
}

/// One tool, or none, beside the application; the rounds in their order.
struct Beside {
    tool: Option<Tool>,
    latencies: Vec<Latencies>,
    captures: Vec<Capture>,
}

impl Beside {
    fn new(tool: Option<Tool>) -> Self {
        Self { tool, latencies: Vec::new(), captures: Vec::new() }
    }

    fn name(&self) -> &'static str {
        self.tool.map_or("nothing", Tool::name)
    }

    fn latencies(&self, of: fn(&Latencies) -> f64) -> Vec<f64> {
        self.latencies.iter().map(of).collect()
    }

    fn captures(&self, of: fn(&Capture) -> f64) -> Vec<f64> {
        self.captures.iter().map(of).collect()
    }
}

/// All that was measured, the application alone first.
pub struct Measured {
    beside: Vec<Beside>,
}

/// Measures the application alone and beside each of `tools`, `rounds` times.
pub fn run(workload: &Workload<'_>, tools: &[Installed], rounds: u32) -> Result<Measured, Failure> {
    let mut beside = vec![Beside::new(None)];
    beside.extend(tools.iter().map(|installed| Beside::new(Some(installed.tool))));
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let place = rounds::fresh_place(workload.directory)?;
        // Each round begins with another one: what comes first may meet a machine in another mood.
        let count = beside.len();
        let first = (round as usize - 1) % count;
        for at in (0..count).map(|at| (first + at) % count) {
            let beside = &mut beside[at];
            let directory = place.join(at.to_string());
            let latencies = match at.checked_sub(1) {
                None => alone(workload, &directory)?,
                Some(tool) => {
                    let (latencies, capture) = capture(workload, &tools[tool], &directory)?;
                    beside.captures.push(capture);
                    latencies
                }
            };
            eprintln!("  beside {}: p99 {:.2} ms", beside.name(), latencies.p99_ms);
            beside.latencies.push(latencies);
        }
        fs::remove_dir_all(&place).map_err(Failure::io("remove", &place))?;
    }
    Ok(Measured { beside })
}

fn alone(workload: &Workload<'_>, directory: &Path) -> Result<Latencies, Failure> {
    let live = rounds::copy_of(workload.source, directory)?;
    measured::settle()?;
    application::write_at_rate(workload.root, &live, &directory.join("application.log"))
}

fn capture(workload: &Workload<'_>, installed: &Installed, directory: &Path) -> Result<(Latencies, Capture), Failure> {
    let live = rounds::copy_of(workload.source, directory)?;
    let mut site = Site::create(installed, &live, directory)?;
    let (mut first, mut first_cpu) = (Files::new(), Duration::ZERO);
    if installed.tool == Tool::Ours {
        first_cpu = site.full()?.cpu;
        first = site.stored()?;
    }
    measured::settle()?;
    let mut daemon = site.watch(slice::from_ref(&live))?;
    if installed.tool == Tool::Ours {
        daemon.settle()?;
    }
    let started = site.stored()?;
    if installed.tool != Tool::Ours {
        first.clone_from(&started);
    }
    let cpu_before = daemon.cpu()?;
    let latencies = application::write_at_rate(workload.root, &live, &directory.join("application.log"))?;
    thread::sleep(DRAIN);
    let busy = site.stored()?;
    let cpu_busy = daemon.cpu()?;
    let cost = daemon.stop()?;
    let cpu_at_end = cost.cpu.saturating_sub(cpu_busy);
    eprintln!("  {}: {:.2} s of CPU at its end", installed.tool.name(), cpu_at_end.as_secs_f64());
    let end = site.stored()?;
    // Litestream does not tell of its flushes.
    let flushes = json::number(&site.output(), "flushes").filter(|flushes| *flushes > 0.0);
    let capture = Capture {
        cpu: cost.cpu.saturating_sub(cpu_before),
        cpu_in_all: first_cpu + cost.cpu,
        objects: busy.len().saturating_sub(first.len()),
        bytes: bytes(&busy).saturating_sub(bytes(&first)),
        objects_at_end: end.len().saturating_sub(first.len()),
        bytes_at_end: bytes(&end).saturating_sub(bytes(&first)),
        objects_per_flush: flushes.map(|flushes| number_of_files(busy.len().saturating_sub(started.len())) / flushes),
    };
    Ok((latencies, capture))
}

fn bytes(files: &Files) -> u64 {
    files.values().sum()
}

impl Measured {
    /// Tables and bars.
    pub fn report(&self) -> String {
        self.application_table() + &self.capture_table() + &self.bars()
    }

    fn application_table(&self) -> String {
        let title = format!(
            "The application: {} transactions at {} a second",
            application::TRANSACTIONS,
            application::PER_SECOND
        );
        let rows = self.beside.iter().map(|beside| {
            let alone = (beside.tool.is_some()).then(|| self.slower(beside));
            [
                beside.name().to_owned(),
                number(median(&beside.latencies(|one| one.p50_ms)), 2),
                number(median(&beside.latencies(|one| one.p95_ms)), 2),
                number(median(&beside.latencies(|one| one.p99_ms)), 2),
                number(alone.flatten(), 2),
                number(median(&beside.latencies(|one| one.max_ms)), 1),
            ]
        });
        let heads = ["beside", "p50 ms", "p95 ms", "p99 ms", "it/alone", "max ms"];
        table::render(&title, &heads, &rows.collect::<Vec<_>>())
    }

    fn capture_table(&self) -> String {
        let ours = self.find(Tool::Ours);
        let rows = self.beside.iter().filter(|beside| beside.tool.is_some()).map(|beside| {
            let others = ours.filter(|_| beside.tool != Some(Tool::Ours));
            let ratio = |of| others.and_then(|ours| paired_ratio(&ours.captures(of), &beside.captures(of)));
            let middle = |of, decimals| number(median(&beside.captures(of)), decimals);
            let flushes: Vec<f64> = beside.captures.iter().filter_map(|one| one.objects_per_flush).collect();
            [
                beside.name().to_owned(),
                middle(cpu, 2),
                number(ratio(cpu), 3),
                middle(cpu_in_all, 2),
                number(ratio(cpu_in_all), 3),
                middle(|one| as_figure(one.bytes), 0),
                number(ratio(|one| as_figure(one.bytes)), 4),
                middle(|one| number_of_files(one.objects), 0),
                number(median(&flushes), 2),
                middle(|one| as_figure(one.bytes_at_end), 0),
                middle(|one| number_of_files(one.objects_at_end), 0),
            ]
        });
        let heads = [
            "tool",
            "CPU s",
            "ours/it",
            "with the first",
            "ours/it",
            "stored bytes",
            "ours/it",
            "objects",
            "a flush",
            "bytes at end",
            "objects at end",
        ];
        let title = "The capture, beyond the first full backup: before the daemon is told to end, and after that";
        table::render(title, &heads, &rows.collect::<Vec<_>>())
    }

    fn bars(&self) -> String {
        let ours = self.find(Tool::Ours);
        let stored = ours.and_then(|ours| largest(&ours.captures(|one| as_figure(one.bytes.max(one.bytes_at_end)))));
        let flushes = ours.and_then(|ours| {
            let each: Option<Vec<f64>> = ours.captures.iter().map(|one| one.objects_per_flush).collect();
            largest(&each?)
        });
        let cpu = ours.zip(self.find(Tool::Litestream));
        table::bars(&[
            Bar {
                text: "stored beyond the first backup ≤ 1.5 MB",
                limit: 1.5,
                measured: stored.map(|bytes| bytes / MEGABYTE),
                unit: " MB",
            },
            Bar { text: "objects ≤ 1 a flush", limit: 1.0, measured: flushes, unit: "" },
            Bar {
                text: "CPU ≤ 0.1 × litestream",
                limit: 0.1,
                measured: cpu
                    .and_then(|(ours, theirs)| paired_ratio(&ours.captures(self::cpu), &theirs.captures(self::cpu))),
                unit: " ×",
            },
            Bar {
                text: "the application's p99 ≤ 1.2 × alone",
                limit: 1.2,
                measured: ours.and_then(|ours| self.slower(ours)),
                unit: " ×",
            },
        ])
    }

    /// The median of the application's p99 divided by its p99 alone in the same round.
    fn slower(&self, beside: &Beside) -> Option<f64> {
        let p99 = |one: &Latencies| one.p99_ms;
        paired_ratio(&beside.latencies(p99), &self.beside.first()?.latencies(p99))
    }

    fn find(&self, tool: Tool) -> Option<&Beside> {
        self.beside.iter().find(|beside| beside.tool == Some(tool))
    }
}

fn cpu(capture: &Capture) -> f64 {
    capture.cpu.as_secs_f64()
}

fn cpu_in_all(capture: &Capture) -> f64 {
    capture.cpu_in_all.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^53")]
fn as_figure(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside(tool: Option<Tool>, p99_ms: f64, cpu_s: u64, bytes: u64) -> Beside {
        let mut beside = Beside::new(tool);
        beside.latencies.push(Latencies { p50_ms: 0.5, p95_ms: 0.6, p99_ms, max_ms: 9.0 });
        let flushes = (tool == Some(Tool::Ours)).then_some(0.5);
        beside.captures.push(Capture {
            cpu: Duration::from_secs(cpu_s),
            cpu_in_all: Duration::from_secs(2 * cpu_s),
            objects: 30,
            bytes,
            objects_at_end: 3,
            bytes_at_end: bytes / 2,
            objects_per_flush: flushes,
        });
        beside
    }

    #[test]
    fn bars_compare_within_the_round() {
        let alone = beside(None, 1.0, 0, 0);
        let ours = beside(Some(Tool::Ours), 1.5, 1, 1_000_000);
        let litestream = beside(Some(Tool::Litestream), 4.0, 25, 32_000_000);
        let report = Measured { beside: vec![alone, ours, litestream] }.report();
        for line in [
            "  reached       stored beyond the first backup ≤ 1.5 MB: 1.000 MB\n",
            "  reached       objects ≤ 1 a flush: 0.500\n",
            "  reached       CPU ≤ 0.1 × litestream: 0.040 ×\n",
            "  missed        the application's p99 ≤ 1.2 × alone: 1.500 ×\n",
        ] {
            assert!(report.contains(line), "{line}{report}");
        }
    }

    #[test]
    fn without_peers_we_are_compared_with_the_application_alone() {
        let report = Measured { beside: vec![beside(None, 1.0, 0, 0), beside(Some(Tool::Ours), 1.1, 1, 9)] }.report();
        assert_eq!(report.matches("not measured").count(), 1, "{report}");
    }
}
