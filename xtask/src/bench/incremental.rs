//! `--phase incremental`: what the next backup costs after 500 small transactions.
//!
//! Every tool takes a first backup, the application works and checkpoints, every tool takes its
//! next backup. That is the hard case for us: nothing in the WAL connects the two states, so every
//! page is compared. We alone then take a full backup of that state, and at last an incremental one
//! while an application holds the database open: there the WAL tells what changed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::application::HeldOpen;
use super::report::{added, find, ratio_to, values, wall, work_table};
use super::rounds::{self, Series, Work, Workload};
use super::statistics::{largest, median};
use super::table::{self, Bar};
use super::tool::{Installed, Site, Tool};
use super::{database, json};
use crate::failure::Failure;

const MEGABYTE: f64 = 1e6;

/// What `snapshot --json` said of itself.
struct Told {
    tier: String,
    /// Without the start of the process and the opening of the repository.
    seconds: f64,
}

/// All that was measured.
pub struct Measured {
    series: Vec<Series>,
    told: BTreeMap<Work, Vec<Told>>,
}

/// Measures `tools`, in their order, `rounds` times.
pub fn run(workload: &Workload<'_>, tools: &[Installed], rounds: u32) -> Result<Measured, Failure> {
    let series = tools.iter().map(|installed| Series::new(installed.tool)).collect();
    let mut measured = Measured { series, told: BTreeMap::new() };
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        let place = rounds::fresh_place(workload.directory)?;
        measure_round(workload, tools, &place, &mut measured)?;
        fs::remove_dir_all(&place).map_err(Failure::io("remove", &place))?;
    }
    Ok(measured)
}

fn measure_round(
    workload: &Workload<'_>,
    tools: &[Installed],
    place: &Path,
    measured: &mut Measured,
) -> Result<(), Failure> {
    let live = rounds::copy_of(workload.source, place)?;
    let directories: Vec<PathBuf> = (0..tools.len()).map(|at| place.join(at.to_string())).collect();
    let mut own = BTreeMap::new();
    for (at, _) in tools.iter().enumerate().filter(|(_, installed)| installed.tool.writes_to_database()) {
        own.insert(at, rounds::copy_of(workload.source, &directories[at])?);
    }
    let mut sites = Vec::new();
    for (at, installed) in tools.iter().enumerate() {
        sites.push(Site::create(installed, own.get(&at).unwrap_or(&live), &directories[at])?);
    }
    for work in [Work::Full, Work::Next] {
        if work == Work::Next {
            std::iter::once(&live).chain(own.values()).try_for_each(|path| database::mutate(workload.root, path))?;
        }
        for (at, site) in sites.iter_mut().enumerate() {
            measured.take(at, site, work)?;
        }
    }
    if let Some(at) = sites.iter().position(|site| site.tool() == Tool::Ours) {
        measured.take(at, &mut sites[at], Work::FullAfter)?;
        let mut application = HeldOpen::start(workload.root, &live)?;
        sites[at].next()?;
        application.commit()?;
        measured.take(at, &mut sites[at], Work::WalTail)?;
    }
    Ok(())
}

impl Measured {
    fn take(&mut self, at: usize, site: &mut Site<'_>, work: Work) -> Result<(), Failure> {
        let step = rounds::measure(site, work)?;
        self.series[at].push(work, step);
        if site.tool() == Tool::Ours {
            self.told.entry(work).or_default().push(told_in(&site.output())?);
        }
        Ok(())
    }

    fn told(&self, work: Work) -> &[Told] {
        self.told.get(&work).map_or(&[], Vec::as_slice)
    }

    /// Tables and bars.
    pub fn report(&self) -> String {
        let ours: Vec<&Series> = find(&self.series, Tool::Ours).into_iter().collect();
        let mut text = work_table(&self.series, Work::Full, "First backup into an empty repository");
        text += &work_table(&self.series, Work::Next, "Next backup, after 500 small transactions and a checkpoint");
        if !ours.is_empty() {
            text += &work_table(&self.series, Work::FullAfter, "Full backup of that state");
            let title = "Incremental after 500 more, all in the WAL, which an application holds open";
            text += &work_table(&self.series, Work::WalTail, title);
            text += &self.tiers();
        }
        text + &self.bars()
    }

    fn tiers(&self) -> String {
        let mut text = "How our backups found what had changed\n".to_owned();
        for (work, name) in [
            (Work::Full, "first"),
            (Work::Next, "after a checkpoint"),
            (Work::FullAfter, "full of that state"),
            (Work::WalTail, "held open"),
        ] {
            let mut tiers: Vec<&str> = self.told(work).iter().map(|told| told.tier.as_str()).collect();
            tiers.sort_unstable();
            tiers.dedup();
            let inside = median(&seconds(self.told(work))).unwrap_or(f64::NAN);
            let _ =
                writeln!(text, "  {name:<20}tier {}, {inside:.3} s without opening the repository", tiers.join(", "));
        }
        text + "\n"
    }

    fn bars(&self) -> String {
        let ours = find(&self.series, Tool::Ours);
        let steps = |work| ours.map_or(&[][..], |ours| ours.steps(work));
        let largest_added = |work| largest(&values(steps(work), added)).map(|bytes| bytes / MEGABYTE);
        let all_from_wal = self.told(Work::WalTail).iter().all(|told| told.tier.starts_with("wal"));
        let from_wal = |value: Option<f64>| value.filter(|_| all_from_wal);
        table::bars(&[
            Bar {
                text: "incremental after 500 transactions ≤ 0.35 MB added",
                limit: 0.35,
                measured: largest_added(Work::Next),
                unit: " MB",
            },
            Bar {
                text: "full of that state ≤ 5 MB added",
                limit: 5.0,
                measured: largest_added(Work::FullAfter),
                unit: " MB",
            },
            Bar {
                text: "incremental by comparing every page ≤ 0.15 × rustic, wall",
                limit: 0.15,
                measured: ratio_to(&self.series, Tool::Rustic, Work::Next, wall),
                unit: " ×",
            },
            Bar {
                text: "incremental from the WAL ≤ 0.1 s, without opening the repository by password",
                limit: 0.1,
                measured: from_wal(median(&seconds(self.told(Work::WalTail)))),
                unit: " s",
            },
            Bar {
                text: "incremental from the WAL ≤ 0.1 s, the whole command",
                limit: 0.1,
                measured: from_wal(median(&values(steps(Work::WalTail), wall))),
                unit: " s",
            },
            Bar {
                text: "incremental from the WAL ≤ 0.35 MB added",
                limit: 0.35,
                measured: from_wal(largest_added(Work::WalTail)),
                unit: " MB",
            },
        ])
    }
}

fn seconds(told: &[Told]) -> Vec<f64> {
    told.iter().map(|told| told.seconds).collect()
}

fn told_in(output: &str) -> Result<Told, Failure> {
    let told = json::member(output, "tier").zip(json::number(output, "seconds"));
    let (tier, seconds) = told.ok_or_else(|| Failure::new(format!("no tier and seconds in `{}`", output.trim())))?;
    Ok(Told { tier: tier.to_owned(), seconds })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::measured::Cost;
    use super::super::rounds::Step;
    use super::*;

    fn series(tool: Tool, works: &[(Work, u64, u64)]) -> Series {
        let mut series = Series::new(tool);
        for (work, wall_ms, added_bytes) in works {
            let wall = Duration::from_millis(*wall_ms);
            series.push(*work, Step { cost: Cost { wall, cpu: wall, peak_bytes: 0 }, added_bytes: *added_bytes });
        }
        series
    }

    fn check_tier(tier: &str, expected: &str) {
        let ours = [(Work::Next, 500, 300_000), (Work::FullAfter, 900, 6_000_000), (Work::WalTail, 300, 200_000)];
        let rustic = [(Work::Next, 4000, 350_000_000)];
        let told = Told { tier: tier.to_owned(), seconds: 0.05 };
        let measured = Measured {
            series: vec![series(Tool::Ours, &ours), series(Tool::Rustic, &rustic)],
            told: BTreeMap::from([(Work::WalTail, vec![told])]),
        };
        let report = measured.report();
        for line in [
            "  reached       incremental after 500 transactions ≤ 0.35 MB added: 0.300 MB\n",
            "  missed        full of that state ≤ 5 MB added: 6.000 MB\n",
            "  reached       incremental by comparing every page ≤ 0.15 × rustic, wall: 0.125 ×\n",
            expected,
        ] {
            assert!(report.contains(line), "{line}{report}");
        }
    }

    #[test]
    fn the_wal_is_a_bar_only_when_it_was_used() {
        check_tier("wal-tail", "  reached       incremental from the WAL ≤ 0.35 MB added: 0.200 MB\n");
        check_tier("wal-tail", "  missed        incremental from the WAL ≤ 0.1 s, the whole command: 0.300 s\n");
        check_tier("scan", "  not measured  incremental from the WAL ≤ 0.1 s, the whole command\n");
    }

    #[test]
    fn an_answer_that_is_not_understood_is_an_error() {
        assert!(told_in("").is_err());
        assert_eq!(told_in(r#"{"seconds":0.5,"tier":"scan"}"#).unwrap().tier, "scan");
    }
}
