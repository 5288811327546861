//! `cargo xtask ci`: what must pass before a change is merged, in order, stopping at the first
//! failure. Each command is printed as a person would type it, and its duration after it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::tidy;

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
    cargo(root, &["fmt", "--all", "--check"])?;
    cargo(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    timed("cargo xtask tidy", || tidy::run(root))?;
    cargo(root, &test_command(&options.cargo_profile, nextest_is_installed()))?;
    // Doc tests apart: nextest does not run them. `cargo test` repeats them, which is cheap.
    cargo(root, &["test", "--doc", "--profile", &options.cargo_profile])
}

fn test_command(profile: &str, nextest: bool) -> Vec<&str> {
    if nextest {
        vec!["nextest", "run", "--workspace", "--cargo-profile", profile]
    } else {
        vec!["test", "--workspace", "--profile", profile]
    }
}

fn nextest_is_installed() -> bool {
    let mut probe = cargo_command();
    probe.args(["nextest", "--version"]);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<(), Failure> {
    let line = format!("cargo {}", arguments.join(" "));
    timed(&line, || {
        let mut command = cargo_command();
        command.args(arguments).current_dir(root).stdin(Stdio::null());
        let status = command.status().map_err(Failure::io("run", Path::new("cargo")))?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("`{line}` ended with {status}"))) }
    })
}

/// The cargo that runs us, so that a `+toolchain` on the command line holds for every step.
fn cargo_command() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
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
