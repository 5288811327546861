//! `cargo xtask crash`: the whole matrix of `tests/crash.rs`, command by system call by fault, with a table at its end.

use std::path::Path;

use crate::arguments::Arguments;
use crate::cargo;
use crate::failure::Failure;

/// The options' variables, as `tests/crash.rs` reads them.
const OPTIONS: [(&str, &str); 3] =
    [("--command", "CONTINUUM_CRASH_CASE"), ("--fault", "CONTINUUM_CRASH_FAULT"), ("--call", "CONTINUUM_CRASH_CALL")];

pub struct Options {
    environment: Vec<(String, String)>,
    cargo_profile: String,
}

impl Options {
    pub fn parse(arguments: &mut Arguments) -> Result<Self, Failure> {
        let mut environment = Vec::new();
        for (option, variable) in OPTIONS {
            environment.extend(arguments.take_value(option)?.map(|value| (variable.to_owned(), value)));
        }
        let cargo_profile = arguments.take_value("--cargo-profile")?.unwrap_or_else(|| "dev".to_owned());
        arguments.finish()?;
        Ok(Self { environment, cargo_profile })
    }

    fn test_command(&self) -> Vec<&str> {
        let command = ["test", "--workspace", "--profile", &self.cargo_profile, "--test", "crash", "--"];
        [&command[..], &["--ignored", "--nocapture"]].concat()
    }
}

pub fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    cargo::run(root, &options.test_command(), &options.environment).map_err(|failure| {
        Failure::new(format!("{failure}: --command, --call and --fault run one of the lines above again"))
    })?;
    println!("crash: passed");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_variables() {
        let line = "--command restore --call 7 --fault EIO";
        let options =
            Options::parse(&mut Arguments::new(line.split(' ').map(str::to_owned))).expect("nothing is wrong");
        let expected = [("CASE", "restore"), ("FAULT", "EIO"), ("CALL", "7")];
        let names = options.environment.iter().map(|(name, value)| (&name["CONTINUUM_CRASH_".len()..], value.as_str()));
        assert!(names.eq(expected));
        assert_eq!(options.test_command()[..6], ["test", "--workspace", "--profile", "dev", "--test", "crash"]);
        assert!(Options::parse(&mut Arguments::new(["--calls".to_owned()].into_iter())).is_err());
    }
}
