//! `simulate`: runs seeds, and says which fail.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use simulation::campaign::{Campaign, Settings, find, run_all};
use simulation::plan::Scope;
use simulation::plant::Plant;
use simulation::record::Tracing;
use simulation::run::Runner;

const USAGE: &str = "\
usage: simulate [options]

  --seeds A..B        run these seeds (default 0..10000)
  --wide A..B         then these in wide worlds, in which there are several destinations and repairs, too
  --seed N [--trace]  run one seed, and print all that happens
  --in-wide           in a wide world (with --seed)
  --plant NAME        with that bug planted (with --seed)
  --planted           afterwards plant one bug after the other; each must be found
  --repeat N          run the seeds below N twice, and compare (default 1000)
  --regressions FILE  run the seeds in this file first, and add those that fail
  --jobs N            seeds at once (default: as many as there are processors)
";

/// Seeds that may be needed to find a planted bug.
const SEEDS_A_PLANT: u64 = 20_000;

struct Options {
    seeds: Range<u64>,
    wide: Range<u64>,
    is_wide: bool,
    seed: Option<u64>,
    is_traced: bool,
    plant: Option<Plant>,
    plants: bool,
    repeated: u64,
    regressions: Option<PathBuf>,
    jobs: usize,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|options| simulate(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let jobs = std::thread::available_parallelism().map_or(1, |count| count.get());
    let mut options = Options {
        seeds: 0..10_000,
        wide: 0..0,
        is_wide: false,
        seed: None,
        is_traced: false,
        plant: None,
        plants: false,
        repeated: 1000,
        regressions: None,
        jobs,
    };
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seeds" => options.seeds = parse_range(&value()?)?,
            "--wide" => options.wide = parse_range(&value()?)?,
            "--in-wide" => options.is_wide = true,
            "--seed" => options.seed = Some(parse_number(&value()?)?),
            "--trace" => options.is_traced = true,
            "--plant" => options.plant = Some(parse_plant(&value()?)?),
            "--planted" => options.plants = true,
            "--repeat" => options.repeated = parse_number(&value()?)?,
            "--regressions" => options.regressions = Some(value()?.into()),
            "--jobs" => options.jobs = parse_number(&value()?)? as usize,
            _ => return Err(format!("`{argument}` is not understood")),
        }
    }
    Ok(options)
}

fn parse_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = text.split_once("..").ok_or_else(|| format!("`{text}` is not like 0..100"))?;
    Ok(parse_number(start)?..parse_number(end)?)
}

fn parse_plant(text: &str) -> Result<Plant, String> {
    let found = Plant::ALL.into_iter().find(|plant| format!("{plant:?}") == text);
    found.ok_or_else(|| format!("`{text}` is none of {:?}", Plant::ALL))
}

/// Whether all is well.
fn simulate(options: &Options) -> Result<bool, String> {
    let folder = state_folder().map_err(|error| error.to_string())?;
    if let Some(seed) = options.seed {
        let tracing = if options.is_traced { Tracing::Printed } else { Tracing::Hashed };
        let scope = if options.is_wide { Scope::Wide } else { Scope::Narrow };
        let outcome = Runner::new(folder.path(), scope).run(seed, options.plant, tracing);
        println!("seed {seed}: {}, trace {}", outcome.violation.as_deref().unwrap_or("passed"), outcome.trace);
        return Ok(outcome.violation.is_none());
    }
    let narrow =
        Settings { folder: folder.path(), scope: Scope::Narrow, jobs: options.jobs, repeated: options.repeated };
    let wide = Settings { scope: Scope::Wide, ..narrow };
    let known = options.regressions.as_deref().map(read_regressions).transpose()?.unwrap_or_default();
    let mut is_well = true;
    if !known.is_empty() {
        let campaign = tell("seeds that once failed", || run_all(wide, &known));
        is_well &= campaign.failures.is_empty();
    }
    let seeds: Vec<u64> = options.seeds.clone().collect();
    let campaign = tell(&format!("seeds {:?}", options.seeds), || run_all(narrow, &seeds));
    is_well &= campaign.failures.is_empty();
    if !options.wide.is_empty() {
        let seeds: Vec<u64> = options.wide.clone().collect();
        let campaign = tell(&format!("in wide worlds: seeds {:?}", options.wide), || run_all(wide, &seeds));
        if let Some(file) = options.regressions.as_deref() {
            keep(file, &known, &campaign)?;
        }
        is_well &= campaign.failures.is_empty();
    }
    if options.plants {
        is_well &= find_plants(narrow, wide);
    }
    Ok(is_well)
}

/// Local state is kept in memory where that can be had.
fn state_folder() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
}

fn tell(what: &str, run: impl FnOnce() -> Campaign) -> Campaign {
    let begun = Instant::now();
    let campaign = run();
    let seconds = begun.elapsed().as_secs_f64();
    let Campaign { runs, counts, failures } = &campaign;
    println!(
        "{what}: {runs} run in {seconds:.1} s, {:.0} a minute; {} failed\n  {counts}",
        *runs as f64 / seconds * 60.0,
        failures.len()
    );
    for (seed, what) in failures {
        println!("  seed {seed}: {what}");
    }
    campaign
}

fn read_regressions(file: &Path) -> Result<Vec<u64>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(parse_number).collect()
}

fn keep(file: &Path, known: &[u64], campaign: &Campaign) -> Result<(), String> {
    let new: Vec<_> = campaign.failures.iter().filter(|(seed, _)| !known.contains(seed)).collect();
    if new.is_empty() {
        return Ok(());
    }
    let mut text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    for (seed, what) in new {
        text.push_str(&format!("{seed} # {}\n", what.lines().next().unwrap_or_default()));
    }
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}

fn find_plants(narrow: Settings<'_>, wide: Settings<'_>) -> bool {
    let mut all = true;
    for plant in Plant::ALL {
        let settings = if plant.is_wide() { wide } else { narrow };
        match find(settings, plant, 0..SEEDS_A_PLANT) {
            Some((seed, what)) => println!("planted {plant:?}: found by seed {seed}: {what}"),
            None => {
                all = false;
                println!("planted {plant:?}: NOT found by {SEEDS_A_PLANT} seeds");
            }
        }
    }
    all
}
