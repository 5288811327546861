//! `cargo xtask soak`: random runs of a watched ledger until the time is over, each with dozens of restores (`tests/watch/soak.rs`).
//!
//! The test prints the seed of each run before it begins, so that one that fails can be made again with `--seed`. What is run is built with
//! optimisation, as it is used.

use std::path::Path;

use crate::arguments::Arguments;
use crate::cargo;
use crate::failure::Failure;

pub struct Options {
    minutes: f64,
    /// Of the first run; each one after it has the next.
    seed: Option<u64>,
    cargo_profile: String,
}

impl Options {
    pub fn parse(arguments: &mut Arguments) -> Result<Self, Failure> {
        let options = Self {
            minutes: arguments.take_value("--minutes")?.unwrap_or(10.0),
            seed: arguments.take_value("--seed")?,
            cargo_profile: arguments.take_value("--cargo-profile")?.unwrap_or_else(|| "release".to_owned()),
        };
        arguments.finish()?;
        if options.minutes > 0.0 && options.minutes.is_finite() {
            Ok(options)
        } else {
            Err(Failure::usage(format!("--minutes does not take `{}`", options.minutes)))
        }
    }

    fn test_command(&self) -> Vec<&str> {
        let command = ["test", "--profile", &self.cargo_profile, "--test", "watch", "--"];
        [&command[..], &["soak::soak", "--exact", "--ignored", "--nocapture"]].concat()
    }
}

pub fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let mut environment = vec![("CONTINUUM_SOAK_MINUTES".to_owned(), options.minutes.to_string())];
    environment.extend(options.seed.map(|seed| ("CONTINUUM_SEED".to_owned(), seed.to_string())));
    cargo::run(root, &options.test_command(), &environment).map_err(|failure| {
        Failure::new(format!("{failure}: the last seed above makes the run again: `cargo xtask soak --seed N`"))
    })?;
    println!("soak: passed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Failure> {
        Options::parse(&mut Arguments::new(line.split_whitespace().map(str::to_owned)))
    }

    #[test]
    fn options_have_defaults_and_limits() {
        let options = parse("").expect("nothing is wrong");
        assert_eq!((options.minutes, options.seed, options.cargo_profile.as_str()), (10.0, None, "release"));
        assert_eq!(options.test_command()[..5], ["test", "--profile", "release", "--test", "watch"]);
        let options = parse("--minutes 0.5 --seed 7").expect("nothing is wrong");
        assert_eq!((options.minutes, options.seed), (0.5, Some(7)));
        assert!(parse("--minutes 0").is_err() && parse("--minutes nan").is_err() && parse("--hours 1").is_err());
    }
}
