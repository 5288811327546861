//! `cargo xtask test`: the tests of snapshot, restore, check and watch again, with their repositories on real servers ([`suites`]).
//!
//! A service that does not run is started and stopped again afterwards. One that is not installed is skipped with a line that says what is
//! missing, unless it was asked for by name.

mod suites;

use std::path::Path;
use std::time::Instant;

use crate::arguments::Arguments;
use crate::cargo;
use crate::failure::Failure;
use crate::services::{self, Service, State, Up};
use suites::Suite;

/// For how many seconds the tests go on that write beside a backup, unless the environment says otherwise: less than on a local file
/// system, where they have shown already that they are right.
const SECONDS: [(&str, &str); 2] = [("CONTINUUM_LIVE_SECONDS", "3"), ("CONTINUUM_TOGETHER_SECONDS", "10")];

/// What is run on which service, and what of it is ignored elsewhere. The server that lies has no place for a repository: what must happen there is a
/// test of its own.
const RUNS: [(&Service, &[Suite], &[Suite]); 4] = [
    (&services::S3, suites::ALL, suites::IGNORED_ELSEWHERE),
    (&services::AZBLOB, suites::SOME, &[]),
    (&services::GCS, suites::SOME, &[]),
    (&services::SFTP, suites::SOME, &[]),
];

/// What needs several services at once, by the name that `--only` takes for it.
const TOGETHER: (&str, [&Service; 2], &[Suite]) = ("destinations", [&services::S3, &services::SFTP], suites::TOGETHER);

pub struct Options {
    /// Names of services, or of what needs several; all, if there are none.
    only: Vec<String>,
    cargo_profile: String,
    /// More arguments for nextest.
    more: Vec<String>,
}

impl Options {
    pub fn parse(arguments: &mut Arguments) -> Result<Self, Failure> {
        let more = arguments.take_rest();
        let mut only = Vec::new();
        while let Some(name) = arguments.take_value::<String>("--only")? {
            if name != TOGETHER.0 && !RUNS.iter().any(|(service, ..)| service.name == name) {
                return Err(Failure::usage(format!("--only: no tests are run on `{name}`")));
            }
            only.push(name);
        }
        let cargo_profile = arguments.take_value("--cargo-profile")?;
        arguments.finish()?;
        Ok(Self { only, cargo_profile: cargo_profile.unwrap_or_else(|| "dev".to_owned()), more })
    }

    /// Everything.
    pub fn of_ci(cargo_profile: &str) -> Self {
        Self { only: Vec::new(), cargo_profile: cargo_profile.to_owned(), more: Vec::new() }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

pub fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let mut outcomes = Vec::new();
    for (service, suites, ignored) in RUNS.into_iter().filter(|(service, ..)| options.wants(service.name)) {
        let started = Instant::now();
        let commands = [commands(suites, options, "default"), commands(ignored, options, "only")].concat();
        outcomes.push(match service.during(root, |state| run_on(root, service, state, &commands))? {
            Ok(()) => format!("{} passed in {:.0} s", service.name, started.elapsed().as_secs_f64()),
            Err(why) if options.only.is_empty() => format!("{} skipped ({why})", service.name),
            Err(why) => return Err(Failure::new(format!("{}: {why}", service.name))),
        });
    }
    if options.wants(TOGETHER.0) {
        outcomes.push(run_together(root, options)?);
    }
    println!("test: {}", outcomes.join(", "));
    Ok(())
}

/// Starts what does not run yet of [`TOGETHER`], runs it, and stops what was started.
fn run_together(root: &Path, options: &Options) -> Result<String, Failure> {
    let (name, services, suites) = TOGETHER;
    let (begun, mut started) = (Instant::now(), Vec::new());
    let outcome = prepare_together(root, &services, &mut started).and_then(|prepared| match prepared {
        Ok(environment) => {
            println!("test: {name}");
            run_all(root, &commands(suites, options, "only"), &environment)?;
            Ok(format!("{name} passed in {:.0} s", begun.elapsed().as_secs_f64()))
        }
        Err(why) if options.only.is_empty() => Ok(format!("{name} skipped ({why})")),
        Err(why) => Err(Failure::new(format!("{name}: {why}"))),
    });
    for service in started {
        service.down(root)?;
    }
    outcome
}

/// What the tests must have in their environment, or what is missing.
fn prepare_together<'s>(
    root: &Path,
    services: &[&'s Service],
    started: &mut Vec<&'s Service>,
) -> Result<Result<Vec<(String, String)>, String>, Failure> {
    let mut environment = Vec::new();
    for &service in services {
        let state = match service.up(root)? {
            Up::Running(state) => state,
            Up::Started(state) => {
                started.push(service);
                state
            }
            Up::Missing(why) => return Ok(Err(format!("{}: {why}", service.name))),
        };
        environment.push((service.variable(), state.url));
        environment.extend(state.environment);
    }
    Ok(Ok(environment))
}

fn run_on(root: &Path, service: &Service, state: &State, commands: &[Vec<String>]) -> Result<(), Failure> {
    println!("test: {} at {}", service.name, state.url);
    let mut environment = state.environment.clone();
    environment.push((cargo::TEST_STORE.to_owned(), state.url.clone()));
    let unsaid = SECONDS.into_iter().filter(|(name, _)| std::env::var_os(name).is_none());
    environment.extend(unsaid.map(|(name, seconds)| (name.to_owned(), seconds.to_owned())));
    run_all(root, commands, &environment)
}

fn run_all(root: &Path, commands: &[Vec<String>], environment: &[(String, String)]) -> Result<(), Failure> {
    commands.iter().try_for_each(|arguments| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        cargo::run(root, &arguments, environment)
    })
}

/// What cargo is told; `ignored` is `only` for tests that are ignored elsewhere.
fn commands(suites: &[Suite], options: &Options, ignored: &str) -> Vec<Vec<String>> {
    let Options { cargo_profile, more, .. } = options;
    if suites.is_empty() {
        return Vec::new();
    }
    if cargo::has_nextest() {
        let ignored = ["--run-ignored", ignored].map(str::to_owned).to_vec();
        return vec![[suites::nextest_arguments(suites, cargo_profile), ignored, more.clone()].concat()];
    }
    let told = suites.iter().map(|suite| suite.cargo_test_arguments(cargo_profile));
    if ignored == "only" {
        told.map(|told| [told, vec!["--ignored".to_owned()]].concat()).collect()
    } else {
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Failure> {
        Options::parse(&mut Arguments::new(line.split_whitespace().map(str::to_owned)))
    }

    #[test]
    fn services_are_chosen_by_name() {
        let options = parse("--only s3 --cargo-profile release --only=sftp -- --no-fail-fast").unwrap();
        assert_eq!(
            (options.only.as_slice(), options.cargo_profile.as_str()),
            (["s3", "sftp"].map(String::from).as_slice(), "release")
        );
        assert_eq!(options.more, ["--no-fail-fast"]);
        assert!(options.wants("sftp") && !options.wants("gcs") && !options.wants(TOGETHER.0));
        assert!(parse("").unwrap().wants("gcs") && parse("--only destinations").unwrap().wants(TOGETHER.0));
        assert!(parse("--only lying-s3").is_err() && parse("--only").is_err() && parse("s3").is_err());
    }
}
