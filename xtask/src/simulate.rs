//! `cargo xtask simulate`: the simulation (`simulation/src/lib.rs`) on all processors. First come the seeds that once failed; seeds that fail are added to them.

use std::path::Path;

use crate::arguments::Arguments;
use crate::cargo;
use crate::failure::Failure;

/// Where seeds are kept that once failed.
const REGRESSIONS: &str = "simulation/regressions.txt";

/// In a short run.
const SEEDS_OF_CI: u64 = 50_000;

pub struct Options {
    seeds: u64,
    /// Only this one.
    seed: Option<u64>,
    is_traced: bool,
    cargo_profile: String,
}

impl Options {
    pub fn parse(arguments: &mut Arguments) -> Result<Self, Failure> {
        let cargo_profile = arguments.take_value("--cargo-profile")?.unwrap_or_else(|| "simulation".to_owned());
        let options = Self {
            seeds: arguments.take_value("--seeds")?.unwrap_or(1_000_000),
            seed: arguments.take_value("--seed")?,
            is_traced: arguments.take_flag("--trace"),
            cargo_profile,
        };
        arguments.finish()?;
        Ok(options)
    }

    /// What a change has to pass.
    pub fn of_ci(cargo_profile: &str) -> Self {
        Self { seeds: SEEDS_OF_CI, seed: None, is_traced: false, cargo_profile: cargo_profile.to_owned() }
    }

    fn command(&self) -> Vec<String> {
        let words = ["run", "--profile", &self.cargo_profile, "--package", "simulation", "--bin", "simulate", "--"];
        let mut command: Vec<String> = words.map(str::to_owned).into();
        match self.seed {
            Some(seed) => command.extend(["--seed".to_owned(), seed.to_string()]),
            None => {
                let seeds = format!("0..{}", self.seeds);
                command.extend(["--regressions", REGRESSIONS, "--seeds", &seeds, "--planted"].map(str::to_owned));
            }
        }
        command.extend(self.is_traced.then(|| "--trace".to_owned()));
        command
    }
}

pub fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let command = options.command();
    cargo::run(root, &command.iter().map(String::as_str).collect::<Vec<_>>(), &[])
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
        assert!(many.ends_with("-- --regressions simulation/regressions.txt --seeds 0..7 --planted"), "{many}");
        let one = command("--seed 9 --trace --cargo-profile dev").expect("nothing is wrong");
        assert!(one.starts_with("run --profile dev ") && one.ends_with("-- --seed 9 --trace"), "{one}");
        assert!(command("--seed x").is_err() && command("--more").is_err());
    }
}
