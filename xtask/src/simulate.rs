//! `cargo xtask simulate`: the simulation (`simulation/src/lib.rs`) on all processors. First come the seeds that once failed; seeds that fail are added to them.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::arguments::Arguments;
use crate::cargo;
use crate::failure::Failure;

/// Where seeds are kept that once failed.
const REGRESSIONS: &str = "simulation/regressions.txt";

/// In a short run.
const SEEDS_OF_CI: u64 = 50_000;

/// These take longer.
const WIDE_SEEDS_OF_CI: u64 = 2000;

pub struct Options {
    seeds: u64,
    /// In wide worlds.
    wide: u64,
    /// Only this one.
    seed: Option<u64>,
    is_traced: bool,
    is_wide: bool,
    cargo_profile: String,
    /// Built with what the tests need of their dependencies, as they have been built already.
    is_built_with_tests: bool,
}

impl Options {
    pub fn parse(arguments: &mut Arguments) -> Result<Self, Failure> {
        let cargo_profile = arguments.take_value("--cargo-profile")?.unwrap_or_else(|| "simulation".to_owned());
        let options = Self {
            seeds: arguments.take_value("--seeds")?.unwrap_or(1_000_000),
            wide: arguments.take_value("--wide")?.unwrap_or(WIDE_SEEDS_OF_CI),
            is_wide: arguments.take_flag("--in-wide"),
            seed: arguments.take_value("--seed")?,
            is_traced: arguments.take_flag("--trace"),
            cargo_profile,
            is_built_with_tests: false,
        };
        arguments.finish()?;
        Ok(options)
    }

    /// What a change has to pass, after the tests were built.
    pub fn of_ci(cargo_profile: &str) -> Self {
        let cargo_profile = cargo_profile.to_owned();
        Self {
            seeds: SEEDS_OF_CI,
            wide: WIDE_SEEDS_OF_CI,
            seed: None,
            is_traced: false,
            is_wide: false,
            cargo_profile,
            is_built_with_tests: true,
        }
    }

    fn build_command(&self) -> Vec<&str> {
        let targets = if self.is_built_with_tests { ["--bins", "--tests"] } else { ["--bin", "simulate"] };
        [&["build", "--workspace", "--profile", &self.cargo_profile], &targets[..]].concat()
    }

    fn command(&self) -> Vec<String> {
        let [seeds, wide] = [self.seeds, self.wide].map(|count| format!("0..{count}"));
        let mut command: Vec<String> = match self.seed {
            Some(seed) => vec!["--seed".to_owned(), seed.to_string()],
            None => ["--regressions", REGRESSIONS, "--seeds", &seeds, "--wide", &wide, "--planted"]
                .map(str::to_owned)
                .into(),
        };
        command.extend(self.is_traced.then(|| "--trace".to_owned()));
        command.extend(self.is_wide.then(|| "--in-wide".to_owned()));
        command
    }
}

pub fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    cargo::run(root, &options.build_command(), &[])?;
    let program = cargo::built(root, &options.cargo_profile).join("simulate");
    let command = options.command();
    let mut process = Command::new(&program);
    let status = process.args(&command).current_dir(root).stdin(Stdio::null()).status();
    let status = status.map_err(Failure::io("run", &program))?;
    let failed = || Failure::new(format!("`simulate {}` ended with {status}", command.join(" ")));
    if status.success() { Ok(()) } else { Err(failed()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Result<String, Failure> {
        let options = Options::parse(&mut Arguments::new(line.split_whitespace().map(str::to_owned)))?;
        Ok(options.command().join(" "))
    }

    #[test]
    fn one_seed_or_many() {
        let many = command("--seeds 7").expect("nothing is wrong");
        assert_eq!(many, "--regressions simulation/regressions.txt --seeds 0..7 --wide 0..2000 --planted");
        let one = command("--seed 9 --trace --in-wide --cargo-profile dev").expect("nothing is wrong");
        assert_eq!(one, "--seed 9 --trace --in-wide");
        assert!(command("--seed x").is_err() && command("--more").is_err());
    }
}
