//! `cargo xtask bench peers`: the same work done by us and by other backup tools, side by side.
//!
//! What is quoted are ratios within a round, and their medians over the rounds: absolute times
//! belong to one machine on one day. A bar that is missed does not fail the command, it is a
//! measurement; a tool that fails does.
//!
//! * [`database`]: the workload, made by the scripts in benches/load;
//! * [`tool`]: how each tool is told to do each thing, [`repository`]: and where;
//! * [`bucket`], [`requests`]: the S3 server, and what we ask of it;
//! * [`measured`]: what one command cost;
//! * [`running`]: what a daemon has cost so far;
//! * [`application`]: the load beside it;
//! * [`rounds`]: the order of the measurements of full backups and restores;
//! * [`report`]: their tables and bars;
//! * [`incremental`], [`watch`], [`idle`], [`s3`]: the other phases, each with its report;
//! * [`table`], [`statistics`], [`json`]: what the reports are made of.

mod application;
mod bucket;
mod database;
mod files;
mod idle;
mod incremental;
mod json;
mod measured;
mod report;
mod repository;
mod requests;
mod rounds;
mod running;
mod s3;
mod statistics;
mod table;
mod tool;
mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::services::{self, Up};
use tool::{Installed, Tool};

/// What is compared in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Full backups and restores.
    Full,
    /// The next backup after a small change.
    Incremental,
    /// Continuous capture beside an application that writes.
    Watch,
    /// Continuous capture of many databases that nobody uses.
    Idle,
    /// Backups to an S3 server on loopback and restores from it.
    S3,
}

impl Phase {
    /// The tools that can do it, ours first.
    fn tools(self) -> &'static [Tool] {
        match self {
            Self::Full => &[Tool::Ours, Tool::Restic, Tool::Rustic, Tool::Borg, Tool::Zstd, Tool::Copy],
            Self::Incremental => &[Tool::Ours, Tool::Restic, Tool::Rustic, Tool::Borg, Tool::Litestream],
            Self::Watch => &[Tool::Ours, Tool::Litestream],
            Self::Idle => &[Tool::Ours],
            Self::S3 => &[Tool::Ours, Tool::Restic, Tool::Rustic],
        }
    }
}

impl FromStr for Phase {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "full" => Ok(Self::Full),
            "incremental" => Ok(Self::Incremental),
            "watch" => Ok(Self::Watch),
            "idle" => Ok(Self::Idle),
            "s3" => Ok(Self::S3),
            _ => Err(()),
        }
    }
}

pub struct Options {
    phase: Phase,
    binary: Option<PathBuf>,
    database: Option<PathBuf>,
    mebibytes: u64,
    rounds: u32,
    directory: PathBuf,
    memory_mebibytes: Option<u64>,
    peers_only: bool,
}

impl Options {
    fn parse(arguments: &mut Arguments) -> Result<Self, Failure> {
        let default_directory = || std::env::temp_dir().join("continuum-bench");
        let options = Self {
            phase: take_phase(arguments)?,
            binary: arguments.take_value("--binary")?,
            database: arguments.take_value("--database")?,
            mebibytes: arguments.take_value("--mebibytes")?.unwrap_or(1024),
            rounds: arguments.take_value("--runs")?.unwrap_or(5),
            directory: arguments.take_value("--dir")?.unwrap_or_else(default_directory),
            memory_mebibytes: arguments.take_value("--memory-mebibytes")?,
            peers_only: arguments.take_flag("--peers-only"),
        };
        arguments.finish()?;
        if options.rounds == 0 {
            return Err(Failure::usage("--runs needs at least 1"));
        }
        if options.memory_mebibytes.is_some() && options.phase != Phase::Full {
            return Err(Failure::usage("--memory-mebibytes belongs to `--phase full`"));
        }
        Ok(options)
    }
}

/// `--s3` is short for `--phase s3`.
fn take_phase(arguments: &mut Arguments) -> Result<Phase, Failure> {
    let named = arguments.take_value("--phase")?;
    if !arguments.take_flag("--s3") {
        return Ok(named.unwrap_or(Phase::Full));
    }
    match named {
        None | Some(Phase::S3) => Ok(Phase::S3),
        Some(_) => Err(Failure::usage("--s3 is a phase of its own")),
    }
}

/// Runs `bench <subcommand>`.
pub fn run(root: &Path, arguments: &mut Arguments) -> Result<(), Failure> {
    match arguments.take_word().as_deref() {
        Some("peers") => peers(root, &Options::parse(arguments)?),
        Some(other) => Err(Failure::usage(format!("there is no `bench {other}`"))),
        None => Err(Failure::usage("`bench` needs to know what: peers")),
    }
}

fn peers(root: &Path, options: &Options) -> Result<(), Failure> {
    fs::create_dir_all(&options.directory).map_err(Failure::io("create", &options.directory))?;
    let tools = find_tools(root, options);
    if options.phase == Phase::Idle {
        return idle(root, options, &tools);
    }
    let source = match &options.database {
        Some(path) => path.clone(),
        None => database::make(root, &options.directory, options.mebibytes)?,
    };
    database::check(&source)?;
    println!("database {}, {} bytes, {} rounds\n", source.display(), file_bytes(&source)?, options.rounds);
    let workload = rounds::Workload { root, source: &source, directory: &options.directory };
    match options.phase {
        Phase::Incremental => print!("{}", incremental::run(&workload, &tools, options.rounds)?.report()),
        Phase::Watch => print!("{}", watch::run(&workload, &tools, options.rounds)?.report()),
        Phase::S3 => s3(&workload, &tools, options.rounds)?,
        Phase::Full | Phase::Idle => full(&workload, options, &tools)?,
    }
    Ok(())
}

fn full(workload: &rounds::Workload<'_>, options: &Options, tools: &[Installed]) -> Result<(), Failure> {
    let series = rounds::run(workload, tools, options.rounds)?;
    print!("{}", report::tables(&series));
    print!("{}", report::bars(&series));
    match options.memory_mebibytes {
        Some(mebibytes) => compare_memory(workload, tools, &series, mebibytes),
        None => Ok(()),
    }
}

fn idle(root: &Path, options: &Options, tools: &[Installed]) -> Result<(), Failure> {
    let Some(ours) = tools.first() else {
        return Ok(());
    };
    println!("{} rounds\n", options.rounds);
    print!("{}", idle::run(root, &options.directory, ours, options.rounds)?.report());
    Ok(())
}

/// On the S3 service of `cargo xtask services`. One that did not run is stopped again.
fn s3(workload: &rounds::Workload<'_>, tools: &[Installed], rounds: u32) -> Result<(), Failure> {
    let service = &services::S3;
    let (state, is_ours) = match service.up(workload.root)? {
        Up::Running(state) => (state, false),
        Up::Started(state) => (state, true),
        Up::Missing(why) => return Err(Failure::new(format!("{}: {why}", service.name))),
    };
    let measured = bucket::Server::of(&state).and_then(|server| s3::run(workload, tools, &server, rounds));
    if is_ours {
        service.down(workload.root)?;
    }
    print!("{}", measured?.report());
    Ok(())
}

/// The same snapshot and restore of a larger database: does our memory grow with it?
fn compare_memory(
    workload: &rounds::Workload<'_>,
    tools: &[Installed],
    series: &[rounds::Series],
    mebibytes: u64,
) -> Result<(), Failure> {
    let ours = tools.iter().find(|installed| installed.tool == Tool::Ours);
    let first = series.iter().find(|one| one.tool == Tool::Ours);
    let (Some(ours), Some(first)) = (ours, first) else {
        println!("\nskipped the larger database: continuum was not measured");
        return Ok(());
    };
    let larger = database::make(workload.root, workload.directory, mebibytes)?;
    let larger = rounds::Workload { source: &larger, ..*workload };
    let sample = rounds::memory_sample(&larger, ours)?;
    print!("{}", report::memory_bars(first, &sample, mebibytes));
    Ok(())
}

/// The tools to measure, ours first. Says in one line each which are left out and why.
fn find_tools(root: &Path, options: &Options) -> Vec<Installed> {
    let mut found = Vec::new();
    for tool in options.phase.tools() {
        if *tool == Tool::Ours && options.peers_only {
            println!("skipped {}: --peers-only", tool.name());
            continue;
        }
        match Installed::find(*tool, root, options.binary.as_deref()) {
            Ok(installed) => found.push(installed),
            Err(reason) => println!("skipped {}: {reason}", tool.name()),
        }
    }
    found
}

fn file_bytes(path: &Path) -> Result<u64, Failure> {
    let metadata = fs::metadata(path).map_err(Failure::io("look at", path))?;
    Ok(metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, Failure> {
        Options::parse(&mut Arguments::new(line.split_whitespace().map(str::to_owned)))
    }

    #[test]
    fn options_have_defaults() {
        let given = options("").unwrap();
        assert_eq!((given.mebibytes, given.rounds, given.peers_only), (1024, 5, false));
        let given = options("--runs 2 --mebibytes=64 --database m.db --peers-only").unwrap();
        assert_eq!((given.mebibytes, given.rounds, given.peers_only), (64, 2, true));
        assert_eq!(given.database, Some(PathBuf::from("m.db")));
        assert_eq!(given.phase, Phase::Full);
        let given = options("--phase watch --binary ./continuum").unwrap();
        assert_eq!((given.phase, given.binary), (Phase::Watch, Some(PathBuf::from("./continuum"))));
        for line in ["--phase s3", "--s3", "--s3 --phase s3"] {
            assert_eq!(options(line).unwrap().phase, Phase::S3);
        }
    }

    #[test]
    fn options_are_checked() {
        assert!(options("--runs 0").is_err());
        assert!(options("--size 3").is_err());
        assert!(options("--phase fast").is_err());
        assert!(options("--phase idle --s3").is_err());
        assert!(options("--phase idle --memory-mebibytes 64").is_err());
    }
}
