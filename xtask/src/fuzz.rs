//! `cargo xtask fuzz`: each target of `fuzz/` for some seconds, with cargo-fuzz on the nightly toolchain.
//!
//! What is found to be new goes to a corpus in the target directory and is gone on with the next time; the seeds in `fuzz/seeds` are only read.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::arguments::Arguments;
use crate::cargo;
use crate::failure::Failure;

/// No input makes a target take more.
const RSS_LIMIT_MIB: u32 = 1024;

/// Nor ask for more at once: the largest chunk is 4 MiB, the largest object 64.
const MALLOC_LIMIT_MIB: u32 = 128;

/// An input takes no longer than this, in seconds.
const TIMEOUT_S: u32 = 10;

/// The longest input: what a decoder does wrong shows on short ones.
const MAX_INPUT_BYTES: u32 = 8192;

pub struct Options {
    seconds: u32,
    targets: Vec<String>,
}

impl Options {
    pub fn parse(arguments: &mut Arguments) -> Result<Self, Failure> {
        let seconds = arguments.take_value("--seconds")?.unwrap_or(60);
        let mut targets = Vec::new();
        while let Some(target) = arguments.take_value("--target")? {
            targets.push(target);
        }
        arguments.finish()?;
        Ok(Self { seconds, targets })
    }
}

pub fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let known = targets(root)?;
    if let Some(unknown) = options.targets.iter().find(|target| !known.contains(target)) {
        return Err(Failure::usage(format!("there is no target `{unknown}`: {}", known.join(", "))));
    }
    let chosen = if options.targets.is_empty() { &known } else { &options.targets };
    let mut failed = Vec::new();
    for target in chosen {
        println!("fuzz: {target} for {} s", options.seconds);
        if !fuzz(root, target, options.seconds)? {
            failed.push(target.as_str());
        }
    }
    if failed.is_empty() {
        println!("fuzz: passed: {}", chosen.join(", "));
        Ok(())
    } else {
        Err(Failure::new(format!("fuzz: failed: {}; the inputs are in fuzz/artifacts", failed.join(", "))))
    }
}

/// Those that have seeds: `tests/fuzz_corpus.rs` sees to it that these are all.
fn targets(root: &Path) -> Result<Vec<String>, Failure> {
    let folder = root.join("fuzz/seeds");
    let list = |error| Failure::io("list", &folder)(error);
    let entries = fs::read_dir(&folder).map_err(list)?.collect::<Result<Vec<_>, _>>().map_err(list)?;
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

fn fuzz(root: &Path, target: &str, seconds: u32) -> Result<bool, Failure> {
    let built = cargo::target(root).join("fuzz");
    let corpus = built.join("corpus").join(target);
    fs::create_dir_all(&corpus).map_err(Failure::io("make", &corpus))?;
    // Rustup's cargo, not the one that runs us: only that knows `+nightly`.
    let mut cargo = Command::new("cargo");
    cargo.args(["+nightly", "fuzz", "run", "--fuzz-dir", "fuzz", "--target-dir"]).arg(&built).arg(target);
    cargo.arg(&corpus).arg(root.join("fuzz/seeds").join(target)).arg("--");
    for (option, value) in [
        ("max_total_time", seconds),
        ("rss_limit_mb", RSS_LIMIT_MIB),
        ("malloc_limit_mb", MALLOC_LIMIT_MIB),
        ("timeout", TIMEOUT_S),
        ("max_len", MAX_INPUT_BYTES),
        ("verbosity", 0),
        ("print_final_stats", 1),
    ] {
        cargo.arg(format!("-{option}={value}"));
    }
    for variable in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC"] {
        cargo.env_remove(variable);
    }
    let status =
        cargo.current_dir(root).stdin(Stdio::null()).status().map_err(Failure::io("run", Path::new("cargo")))?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_may_be_several() {
        let line = "--target chunk --seconds 5 --target wal";
        let options =
            Options::parse(&mut Arguments::new(line.split(' ').map(str::to_owned))).expect("nothing is wrong");
        assert_eq!((options.seconds, options.targets), (5, vec!["chunk".to_owned(), "wal".to_owned()]));
    }

    #[test]
    fn the_targets_are_found() {
        let found = targets(&crate::project::root()).expect("there are seeds");
        assert!(found.contains(&"timeline_entry".to_owned()));
    }
}
