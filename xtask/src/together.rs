//! `cargo xtask together`: backups, a watcher, forget and prune at work at once (`tests/together.rs`), in a folder or on a service, for minutes.

use std::path::Path;

use crate::arguments::Arguments;
use crate::cargo;
use crate::failure::Failure;
use crate::services::{self, Service};

pub struct Options {
    minutes: f64,
    /// Where the repository is, if not in a folder.
    service: Option<&'static Service>,
    cargo_profile: String,
}

impl Options {
    pub fn parse(arguments: &mut Arguments) -> Result<Self, Failure> {
        let minutes = arguments.take_value("--minutes")?.unwrap_or(3.0);
        let service = arguments.take_value::<String>("--on")?.map(|name| services::find(&name)).transpose()?;
        let cargo_profile = arguments.take_value("--cargo-profile")?.unwrap_or_else(|| "dev".to_owned());
        arguments.finish()?;
        if minutes > 0.0 && f64::is_finite(minutes) {
            Ok(Self { minutes, service, cargo_profile })
        } else {
            Err(Failure::usage(format!("--minutes does not take `{minutes}`")))
        }
    }
}

pub fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let Some(service) = options.service else {
        return run_on(root, options, "a folder", &[]);
    };
    let done = service.during(root, |state| {
        let store = (cargo::TEST_STORE.to_owned(), state.url.clone());
        run_on(root, options, service.name, &[&state.environment[..], &[store]].concat())
    })?;
    done.map_err(|why| Failure::new(format!("{}: {why}", service.name)))
}

fn run_on(root: &Path, options: &Options, place: &str, environment: &[(String, String)]) -> Result<(), Failure> {
    let seconds = ("CONTINUUM_TOGETHER_SECONDS".to_owned(), (options.minutes * 60.0).to_string());
    let command =
        ["test", "--workspace", "--profile", &options.cargo_profile, "--test", "together", "--", "--nocapture"];
    cargo::run(root, &command, &[environment, &[seconds]].concat())?;
    println!("together: passed on {place}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_or_a_service() {
        let parse = |line: &str| Options::parse(&mut Arguments::new(line.split_whitespace().map(str::to_owned)));
        assert!(parse("").is_ok_and(|options| options.service.is_none() && options.minutes == 3.0));
        let found = parse("--on s3 --minutes 0.5").map(|options| (options.service.map(|s| s.name), options.minutes));
        assert_eq!(found.ok(), Some((Some("s3"), 0.5)));
        assert!(parse("--on nowhere").is_err() && parse("--minutes inf").is_err() && parse("--minutes -1").is_err());
    }
}
