//! `cargo xtask ci`: what must pass before a change is merged, in order, stopping at the first
//! failure. Each command is printed as a person would type it, and its duration after it.

use std::path::Path;
use std::time::Instant;

use crate::arguments::Arguments;
use crate::cargo;
use crate::failure::Failure;
use crate::{simulate, test, tidy};

pub struct Options {
    /// The cargo profile the tests are built with.
    cargo_profile: String,
}

impl Options {
    pub fn parse(arguments: &mut Arguments) -> Result<Self, Failure> {
        let cargo_profile = arguments.take_value("--cargo-profile")?;
        arguments.finish()?;
        Ok(Self { cargo_profile: cargo_profile.unwrap_or_else(|| "dev".to_owned()) })
    }
}

pub fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    step(root, &["fmt", "--all", "--check"])?;
    step(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    timed("cargo xtask tidy", || tidy::run(root))?;
    step(root, &test_command(&options.cargo_profile, cargo::has_nextest()))?;
    timed("cargo xtask test", || test::run(root, &test::Options::of_ci(&options.cargo_profile)))?;
    // Doc tests apart: nextest does not run them. `cargo test` repeats them, which is cheap.
    step(root, &["test", "--workspace", "--doc", "--profile", &options.cargo_profile])?;
    timed("cargo xtask simulate", || simulate::run(root, &simulate::Options::of_ci(&options.cargo_profile)))
}

fn test_command(profile: &str, nextest: bool) -> Vec<&str> {
    if nextest {
        vec!["nextest", "run", "--workspace", "--cargo-profile", profile]
    } else {
        vec!["test", "--workspace", "--profile", profile]
    }
}

fn step(root: &Path, arguments: &[&str]) -> Result<(), Failure> {
    let line = format!("cargo {}", arguments.join(" "));
    timed(&line, || cargo::run(root, arguments, &[]))
}

fn timed(line: &str, step: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    println!("$ {line}");
    let started = Instant::now();
    let outcome = step();
    let verdict = if outcome.is_ok() { "passed" } else { "failed" };
    println!("  {verdict} in {:.1} s\n", started.elapsed().as_secs_f64());
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_fall_back_to_cargo_test() {
        assert_eq!(test_command("dev", true)[..2], ["nextest", "run"]);
        assert_eq!(test_command("dev", false), ["test", "--workspace", "--profile", "dev"]);
    }

    #[test]
    fn the_first_failure_is_returned() {
        assert!(timed("true", || Ok(())).is_ok());
        assert!(timed("false", || Err(Failure::new("no"))).is_err());
    }
}
