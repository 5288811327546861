//! `--phase s3`: repositories on an S3 server on loopback, ours also in a folder.
//!
//! What is slow there may be the server and not its client. So the same bytes as we stored are put by a client that does
//! nothing else, in the same round: a backup can hardly be faster than that.
//!
//! A round gives every tool a prefix of its own in a new bucket. After the full backup and its restore, as on another
//! machine, the application works and checkpoints, and every tool takes its next backup.
//!
//! What the bucket holds until the end of the round lies with the data of the service, below cargo's target folder: about
//! four times what one tool stores.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::bucket::{Bucket, Puts, Server};
use super::report::{added, cpu, peak, values, wall};
use super::repository::Repository;
use super::requests::{self, Requests};
use super::rounds::{self, Series, Step, Work, Workload};
use super::statistics::{largest, median, paired_ratio, smallest};
use super::table::{self, Bar, number};
use super::tool::{Installed, Site, Tool};
use super::{database, file_bytes, measured};
use crate::failure::Failure;

const MEGABYTE: f64 = 1e6;
const KIBIBYTE: f64 = 1024.0;
const MEBIBYTE: f64 = 1_048_576.0;

/// At least 0.8 of its throughput.
const MOST_OF_SLOWER: f64 = 1.25;

const FLOOR: &str = "the server's own PUTs";

/// Of a round, whose number is added.
const BUCKET: &str = "continuum-bench";

const WORKS: [(Work, &str); 3] = [
    (Work::Full, "Full backup into an empty repository"),
    (Work::Restore, "Restore, from S3 as on another machine: without a cache"),
    (Work::Next, "Next backup, after 500 small transactions and a checkpoint"),
];

/// Where a repository is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Folder,
    Bucket,
}

/// A tool with its repositories in one kind of place.
struct Contender {
    kept: Kept,
    series: Series,
    /// Ours alone tells of them.
    requests: BTreeMap<Work, Vec<Requests>>,
}

impl Contender {
    fn new(tool: Tool, kept: Kept) -> Self {
        Self { kept, series: Series::new(tool), requests: BTreeMap::new() }
    }

    fn name(&self) -> String {
        let kept = match self.kept {
            Kept::Folder => "folder",
            Kept::Bucket => "S3",
        };
        format!("{}, {kept}", self.series.tool.name())
    }

    fn walls(&self, work: Work) -> Vec<f64> {
        values(self.series.steps(work), wall)
    }

    fn requests(&self, work: Work, of: fn(&Requests) -> f64) -> Vec<f64> {
        self.requests.get(&work).into_iter().flatten().map(of).collect()
    }

    /// Does `work` once.
    fn take(&mut self, site: &mut Site<'_>, work: Work) -> Result<Step, Failure> {
        let step = rounds::measure(site, work)?;
        self.series.push(work, step);
        if self.is(Tool::Ours, Kept::Bucket) {
            self.requests.entry(work).or_default().push(requests::told_in(&site.output())?);
        }
        Ok(step)
    }

    fn is(&self, tool: Tool, kept: Kept) -> bool {
        self.series.tool == tool && self.kept == kept
    }
}

/// All that was measured, each in the order of the rounds.
pub struct Measured {
    database_bytes: f64,
    contenders: Vec<Contender>,
    floor: Vec<Puts>,
}

/// Measures `tools`, in their order, `rounds` times.
pub fn run(workload: &Workload<'_>, tools: &[Installed], server: &Server, rounds: u32) -> Result<Measured, Failure> {
    let mut contenders: Vec<(&Installed, Contender)> = Vec::new();
    for installed in tools {
        if installed.tool == Tool::Ours {
            contenders.push((installed, Contender::new(installed.tool, Kept::Folder)));
        }
        contenders.push((installed, Contender::new(installed.tool, Kept::Bucket)));
    }
    let mut floor = Vec::new();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let place = rounds::fresh_place(workload.directory)?;
        let bucket = Bucket::make(workload.root, server, &format!("{BUCKET}-{round}"))?;
        let measured = measure_round(workload, &mut contenders, &place, &bucket, &mut floor);
        // Whatever happened: the server may not be ours to throw away.
        let removed = bucket.remove();
        measured.and(removed)?;
        fs::remove_dir_all(&place).map_err(Failure::io("remove", &place))?;
    }
    let contenders = contenders.into_iter().map(|(_, contender)| contender).collect();
    let database_bytes = as_figure(file_bytes(workload.source)?);
    Ok(Measured { database_bytes, contenders, floor })
}

fn measure_round(
    workload: &Workload<'_>,
    contenders: &mut [(&Installed, Contender)],
    place: &Path,
    bucket: &Bucket,
    floor: &mut Vec<Puts>,
) -> Result<(), Failure> {
    let live = rounds::copy_of(workload.source, place)?;
    let mut sites = Vec::new();
    for (at, (installed, contender)) in contenders.iter().enumerate() {
        let directory = place.join(at.to_string());
        let repository = match contender.kept {
            Kept::Folder => Repository::Folder(directory.join("repository")),
            Kept::Bucket => Repository::Bucket(bucket.prefix(installed.tool.name())),
        };
        sites.push(Site::create_in(repository, installed, &live, &directory)?);
    }
    let first_in_bucket = contenders.iter().position(|(_, contender)| contender.kept == Kept::Bucket);
    for (work, _) in WORKS {
        if work == Work::Next {
            database::mutate(workload.root, &live)?;
        }
        for (at, (site, (_, contender))) in sites.iter_mut().zip(contenders.iter_mut()).enumerate() {
            let step = contender.take(site, work)?;
            if work == Work::Full && Some(at) == first_in_bucket {
                floor.push(measure_floor(bucket, step.added_bytes)?);
            }
        }
    }
    Ok(())
}

/// The server alone, with as many bytes as the first tool, ours, has just stored.
fn measure_floor(bucket: &Bucket, bytes: u64) -> Result<Puts, Failure> {
    measured::settle()?;
    let puts = bucket.prefix("floor").put(bytes)?;
    eprintln!("  {FLOOR}: {:.2} s", puts.seconds);
    Ok(puts)
}

impl Measured {
    /// Tables and bars.
    pub fn report(&self) -> String {
        let tables: String = WORKS.iter().map(|(work, title)| self.work_table(*work, title)).collect();
        tables + &self.requests_table() + &self.bars()
    }

    fn work_table(&self, work: Work, title: &str) -> String {
        let mut rows: Vec<_> = self.contenders.iter().map(|contender| self.cells(contender, work)).collect();
        if work == Work::Full {
            // Behind ours, which it was measured next to.
            let at = self.contenders.iter().position(|contender| contender.kept == Kept::Bucket);
            rows.insert(at.map_or(0, |at| at + 1), self.floor_cells());
        }
        let bytes = if work == Work::Full { "stored bytes" } else { "added bytes" };
        let heads = ["tool", "wall s", "min–max", "ours/it", "MB/s", "CPU s", "peak MiB", bytes, "ours/it"];
        table::render(title, &heads, &rows)
    }

    fn cells(&self, contender: &Contender, work: Work) -> [String; 9] {
        let steps = contender.series.steps(work);
        let ours = self.ours().filter(|_| !contender.is(Tool::Ours, Kept::Bucket)).map(|ours| ours.series.steps(work));
        let stored = values(steps, added);
        let ratio = ours.and_then(|ours| paired_ratio(&values(ours, added), &stored));
        let stored = [number(median(&stored), 0), number(ratio, 3)];
        let [bytes, bytes_ratio] = if work == Work::Restore { ["–", "–"].map(str::to_owned) } else { stored };
        let [wall, range, ratio, rate] = self.wall_cells(work, &contender.walls(work), ours.is_some());
        [
            contender.name(),
            wall,
            range,
            ratio,
            rate,
            number(median(&values(steps, cpu)), 2),
            number(largest(&values(steps, peak)).map(|bytes| bytes / MEBIBYTE), 0),
            bytes,
            bytes_ratio,
        ]
    }

    fn floor_cells(&self) -> [String; 9] {
        let [wall, range, ratio, rate] = self.wall_cells(Work::Full, &self.floor_walls(), true);
        let bytes: Vec<f64> = self.floor.iter().map(|puts| as_figure(puts.bytes)).collect();
        let none = || number(None, 0);
        [FLOOR.to_owned(), wall, range, ratio, rate, none(), none(), number(median(&bytes), 0), none()]
    }

    /// The median, the smallest and the largest, ours in proportion to them if that is `compared`, and how fast the database was worked through.
    fn wall_cells(&self, work: Work, walls: &[f64], compared: bool) -> [String; 4] {
        let ours = self.ours().filter(|_| compared);
        let middle = median(walls);
        [
            number(middle, 2),
            format!("{}–{}", number(smallest(walls), 2), number(largest(walls), 2)),
            number(ours.and_then(|ours| paired_ratio(&ours.walls(work), walls)), 2),
            number(middle.map(|wall| self.database_bytes / MEGABYTE / wall), 0),
        ]
    }

    fn requests_table(&self) -> String {
        let Some(ours) = self.ours() else {
            return String::new();
        };
        let rows = WORKS.map(|(work, _)| {
            let middle = |of: fn(&Requests) -> f64| number(median(&ours.requests(work, of)), 0);
            let kibibytes =
                |of: fn(&Requests) -> f64| number(median(&ours.requests(work, of)).map(|bytes| bytes / KIBIBYTE), 1);
            [
                format!("{work:?}").to_lowercase(),
                middle(|one| one.puts),
                kibibytes(|one| one.put_bytes),
                middle(|one| one.gets),
                kibibytes(|one| one.got_bytes),
                middle(|one| one.lists),
                middle(|one| one.deletes),
            ]
        });
        let heads = ["command", "PUT", "KiB up", "GET", "KiB down", "LIST", "DELETE"];
        table::render("What continuum asked of the server", &heads, &rows)
    }

    fn bars(&self) -> String {
        let next = |of: fn(&Requests) -> f64| self.ours().and_then(|ours| largest(&ours.requests(Work::Next, of)));
        table::bars(&[
            Bar {
                text: "full snapshot to S3 ≤ 1.25 × the slower of folder and the server's own PUTs, wall",
                limit: MOST_OF_SLOWER,
                measured: self.ratio_to_slower(),
                unit: " ×",
            },
            Bar { text: "next backup ≤ 4 PUT", limit: 4.0, measured: next(|one| one.puts), unit: "" },
            Bar { text: "next backup: 0 LIST", limit: 0.0, measured: next(|one| one.lists), unit: "" },
        ])
    }

    /// Round by round against whichever was the slower in it.
    fn ratio_to_slower(&self) -> Option<f64> {
        let folder = self.find(Tool::Ours, Kept::Folder)?.walls(Work::Full);
        let slower: Vec<f64> = folder.iter().zip(self.floor_walls()).map(|(folder, floor)| folder.max(floor)).collect();
        paired_ratio(&self.ours()?.walls(Work::Full), &slower)
    }

    fn floor_walls(&self) -> Vec<f64> {
        self.floor.iter().map(|puts| puts.seconds).collect()
    }

    /// What the others are compared with.
    fn ours(&self) -> Option<&Contender> {
        self.find(Tool::Ours, Kept::Bucket)
    }

    fn find(&self, tool: Tool, kept: Kept) -> Option<&Contender> {
        self.contenders.iter().find(|contender| contender.is(tool, kept))
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^53")]
fn as_figure(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::measured::Cost;
    use super::super::rounds::Step;
    use super::*;

    fn contender(tool: Tool, kept: Kept, wall_ms: &[u64]) -> Contender {
        let mut contender = Contender::new(tool, kept);
        for wall_ms in wall_ms {
            let wall = Duration::from_millis(*wall_ms);
            let cost = Cost { wall, cpu: wall, peak_bytes: 100 << 20 };
            contender.series.push(Work::Full, Step { cost, added_bytes: 1000 });
        }
        contender
    }

    fn measured(ours_ms: &[u64]) -> Measured {
        let mut ours = contender(Tool::Ours, Kept::Bucket, ours_ms);
        let requests =
            Requests { puts: 4.0, put_bytes: 2048.0, gets: 7.0, got_bytes: 1024.0, lists: 0.0, deletes: 0.0 };
        ours.requests.insert(Work::Next, vec![requests, Requests { lists: 1.0, ..requests }]);
        let folder = contender(Tool::Ours, Kept::Folder, &[1000, 3000]);
        let restic = contender(Tool::Restic, Kept::Bucket, &[8000, 8000]);
        let floor = [2.0, 2.0].map(|seconds| Puts { bytes: 1000, seconds }).into();
        Measured { database_bytes: 40e6, contenders: vec![folder, ours, restic], floor }
    }

    fn check_line(text: &str, expected: &str) {
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(lines.any(|line| line.contains(expected)), "{expected}:\n{text}");
    }

    #[test]
    fn what_is_slower_bounds_us_round_by_round() {
        let bar = "full snapshot to S3 ≤ 1.25 × the slower of folder and the server's own PUTs, wall";
        check_line(&measured(&[2400, 3600]).report(), &format!("reached {bar}: 1.200 ×"));
        check_line(&measured(&[2600, 4200]).report(), &format!("missed {bar}: 1.350 ×"));
    }

    #[test]
    fn the_worst_round_counts_for_requests() {
        let report = measured(&[2000, 2000]).report();
        check_line(&report, "reached next backup ≤ 4 PUT: 4.000");
        check_line(&report, "missed next backup: 0 LIST: 1.000");
        check_line(&report, "next 4 2.0 7 1.0 0 0");
    }

    #[test]
    fn all_are_compared_with_our_repository_in_the_bucket() {
        let report = measured(&[2000, 2000]).report();
        check_line(&report, "continuum, folder 2.00 1.00–3.00 1.33 20 2.00 100 1000 1.000");
        check_line(&report, "continuum, S3 2.00 2.00–2.00 – 20 2.00 100 1000 –");
        check_line(&report, "the server's own PUTs 2.00 2.00–2.00 1.00 20 – – 1000 –");
        check_line(&report, "restic, S3 8.00 8.00–8.00 0.25 5 8.00 100 1000 1.000");
    }

    #[test]
    fn without_us_the_peers_are_measured_alone() {
        let mut measured = measured(&[]);
        measured.contenders.drain(..2);
        let report = measured.report();
        assert_eq!(report.matches("not measured").count(), 3, "{report}");
        check_line(&report, "restic, S3 8.00 8.00–8.00 – 5");
    }
}
