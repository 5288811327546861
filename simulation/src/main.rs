//! `simulate`: runs seeds, and says which fail.

use std::fs::{self, File};
use std::io::Write;
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
    let regressions = options.regressions.clone().map(Regressions::read).transpose()?.unwrap_or_default();
    let mut is_well = true;
    for settings in [narrow, wide] {
        let known = regressions.of(settings.scope);
        if !known.is_empty() {
            let campaign = tell(settings, "seeds that once failed", || run_all(settings, &known));
            is_well &= campaign.failures.is_empty();
        }
    }
    for (settings, seeds) in [(narrow, &options.seeds), (wide, &options.wide)] {
        if !seeds.is_empty() {
            let all: Vec<u64> = seeds.clone().collect();
            let campaign = tell(settings, &format!("seeds {seeds:?}"), || run_all(settings, &all));
            regressions.keep(settings.scope, &campaign)?;
            is_well &= campaign.failures.is_empty();
        }
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

fn tell(settings: Settings<'_>, what: &str, run: impl FnOnce() -> Campaign) -> Campaign {
    let begun = Instant::now();
    let place = if settings.scope == Scope::Wide { "in wide worlds: " } else { "" };
    let campaign = run();
    let seconds = begun.elapsed().as_secs_f64();
    let Campaign { runs, counts, failures } = &campaign;
    println!(
        "{place}{what}: {runs} run in {seconds:.1} s, {:.0} a minute; {} failed\n  {counts}",
        *runs as f64 / seconds * 60.0,
        failures.len()
    );
    for (seed, what) in failures {
        println!("  seed {seed}: {what}");
    }
    campaign
}

/// Seeds that once failed.
#[derive(Default)]
struct Regressions {
    file: Option<PathBuf>,
    seeds: Vec<(Scope, u64)>,
}

impl Regressions {
    /// Reads lines like `wide 4711 # why`.
    fn read(file: PathBuf) -> Result<Self, String> {
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let seeds = lines.filter(|line| !line.is_empty()).map(parse_regression).collect::<Result<_, _>>()?;
        Ok(Self { file: Some(file), seeds })
    }

    fn of(&self, scope: Scope) -> Vec<u64> {
        self.seeds.iter().filter(|(of, _)| *of == scope).map(|(_, seed)| *seed).collect()
    }

    /// Adds those that have failed now.
    fn keep(&self, scope: Scope, campaign: &Campaign) -> Result<(), String> {
        let Some(file) = &self.file else { return Ok(()) };
        let new = campaign.failures.iter().filter(|(seed, _)| !self.seeds.contains(&(scope, **seed)));
        let line = |(seed, what): (&u64, &String)| {
            format!("{} {seed} # {}\n", word_of(scope), what.lines().next().unwrap_or_default())
        };
        let lines: String = new.map(line).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let append = || File::options().append(true).open(file)?.write_all(lines.as_bytes());
        append().map_err(|error| format!("{}: {error}", file.display()))
    }
}

fn parse_regression(line: &str) -> Result<(Scope, u64), String> {
    let (word, seed) = line.split_once(' ').ok_or_else(|| format!("`{line}` is not like wide 4711"))?;
    let scope = [Scope::Narrow, Scope::Wide].into_iter().find(|&scope| word_of(scope) == word);
    Ok((scope.ok_or_else(|| format!("`{word}` is neither narrow nor wide"))?, parse_number(seed.trim())?))
}

fn word_of(scope: Scope) -> &'static str {
    match scope {
        Scope::Narrow => "narrow",
        Scope::Wide => "wide",
    }
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
