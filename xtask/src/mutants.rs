//! `cargo xtask mutants`: what the tests notice when the code is wrong, by cargo-mutants, where wrong code loses data.
//!
//! A mutant that no test catches fails the command, unless `xtask/mutants.txt` accepts it and says why. The project is mutated in a copy of it
//! that stays, with a target directory of its own, in the target directory: what it depends on is built once, for all groups and runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::arguments::Arguments;
use crate::cargo;
use crate::failure::Failure;
use crate::project;

/// Accepted survivors: `file: mutant # reason`.
const ACCEPTED: &str = "xtask/mutants.txt";

/// Exit codes of cargo-mutants after a whole run: all caught, some missed, some ran too long (which counts as caught).
const WHOLE_RUNS: [i32; 3] = [0, 2, 3];

struct Group {
    name: &'static str,
    /// What is mutated.
    files: &'static [&'static str],
    /// Tests beside those of the library.
    tests: &'static [&'static str],
}

const GROUPS: &[Group] = &[
    Group { name: "wal", files: &["src/sqlite/wal.rs"], tests: &["capture"] },
    Group { name: "crypto", files: &["src/crypto/*.rs"], tests: &["vectors"] },
    Group { name: "forget", files: &["src/ops/forget.rs", "src/policy/*.rs"], tests: &["forget", "retention"] },
    Group { name: "standing", files: &["src/repo/standing.rs"], tests: &["vectors", "prune", "repair"] },
    Group {
        name: "prune",
        files: &["src/ops/prune/*.rs", "src/repo/tombstones.rs", "src/repo/reachable.rs"],
        tests: &["prune"],
    },
    Group { name: "restore", files: &["src/ops/restore.rs"], tests: &["resume", "damage"] },
];

pub struct Options {
    groups: Vec<&'static Group>,
}

impl Options {
    pub fn parse(arguments: &mut Arguments) -> Result<Self, Failure> {
        let mut groups = Vec::new();
        while let Some(name) = arguments.take_value::<String>("--group")? {
            let known = || GROUPS.iter().map(|group| group.name).collect::<Vec<_>>().join(", ");
            let group = GROUPS.iter().find(|group| group.name == name);
            groups.push(group.ok_or_else(|| Failure::usage(format!("there is no group `{name}`: {}", known())))?);
        }
        arguments.finish()?;
        Ok(Self { groups: if groups.is_empty() { GROUPS.iter().collect() } else { groups } })
    }
}

pub fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let accepted = accepted(root)?;
    let mut unexpected = Vec::new();
    for group in &options.groups {
        let missed = missed(root, group)?;
        println!("mutants: {}: {} not caught", group.name, missed.len());
        unexpected.extend(missed.difference(&accepted).cloned());
    }
    unexpected.iter().for_each(|mutant| println!("{mutant}"));
    match unexpected.len() {
        0 => Ok(()),
        count => Err(Failure::new(format!("mutants: {count} not caught and not accepted in {ACCEPTED}"))),
    }
}

/// The mutants of a group that no test catches, as cargo-mutants calls them.
fn missed(root: &Path, group: &Group) -> Result<BTreeSet<String>, Failure> {
    let place = cargo::target(root).join("mutants");
    let (copy, output) = (place.join("project"), place.join(group.name));
    fs::create_dir_all(&output).map_err(Failure::io("make", &output))?;
    make_equal(root, &copy)?;
    let mut command = cargo::command();
    command.args(["mutants", "--in-place", "--line-col=false", "--no-shuffle", "--profile=mutants"]);
    command.args(["--cargo-arg=--lib", "--output"]).arg(&output).current_dir(&copy).stdin(Stdio::null());
    command.args(group.files.iter().map(|file| format!("--file={file}")));
    command.args(group.tests.iter().map(|test| format!("--cargo-arg=--test={test}")));
    if cargo::has_nextest() {
        command.arg("--test-tool=nextest");
    }
    command.env("CARGO_TARGET_DIR", place.join("target"));
    let status = command.status().map_err(Failure::io("run", Path::new("cargo mutants")))?;
    if !status.code().is_some_and(|code| WHOLE_RUNS.contains(&code)) {
        return Err(Failure::new(format!(
            "`cargo mutants` ended with {status}; `cargo install cargo-mutants` installs it"
        )));
    }
    let list = output.join("mutants.out/missed.txt");
    let text = fs::read_to_string(&list).map_err(Failure::io("read", &list))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Gives `copy` the files of the project as they are now. Those that are the same stay as they are: cargo then builds only what has changed.
fn make_equal(root: &Path, copy: &Path) -> Result<(), Failure> {
    fs::create_dir_all(copy).map_err(Failure::io("make", copy))?;
    let files: BTreeSet<String> = project::files(root)?.into_iter().collect();
    for stale in project::files(copy)?.iter().filter(|path| !files.contains(*path)) {
        let path = copy.join(stale);
        fs::remove_file(&path).map_err(Failure::io("remove", &path))?;
    }
    for (path, copied) in files.iter().map(|file| (root.join(file), copy.join(file))) {
        let content = fs::read(&path).map_err(Failure::io("read", &path))?;
        if fs::read(&copied).is_ok_and(|there| there == content) {
            continue;
        }
        let folder = copied.parent().unwrap_or(copy);
        fs::create_dir_all(folder).map_err(Failure::io("make", folder))?;
        fs::copy(&path, &copied).map_err(Failure::io("write", &copied))?;
    }
    Ok(())
}

fn accepted(root: &Path) -> Result<BTreeSet<String>, Failure> {
    let path = root.join(ACCEPTED);
    parse(&fs::read_to_string(&path).map_err(Failure::io("read", &path))?)
}

fn parse(text: &str) -> Result<BTreeSet<String>, Failure> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mutant = |line: &str| match line.split_once(" # ") {
        Some((mutant, reason)) if !reason.trim().is_empty() => Ok(mutant.trim().to_owned()),
        _ => Err(Failure::new(format!("{ACCEPTED}: `{line}` has no reason"))),
    };
    lines.map(mutant).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survivors_are_accepted_with_a_reason() {
        let text = "# comment\n\nsrc/a.rs: replace f with () # f only speeds things up\n";
        assert_eq!(parse(text).expect("a list"), BTreeSet::from(["src/a.rs: replace f with ()".to_owned()]));
        assert!(parse("src/a.rs: replace f with ()").is_err());
        assert!(accepted(&project::root()).is_ok());
    }

    #[test]
    fn a_copy_becomes_equal_and_keeps_what_is_equal() {
        let place = std::env::temp_dir().join(format!("xtask-{}-mutants", std::process::id()));
        let (root, copy) = (place.join("root"), place.join("copy"));
        let write = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        for (name, text) in [("src/same.rs", "1"), ("src/changed.rs", "2"), ("new.rs", "3")] {
            write(&root.join(name), text);
        }
        for (name, text) in [("src/same.rs", "1"), ("src/changed.rs", "mutated"), ("src/old.rs", "4")] {
            write(&copy.join(name), text);
        }
        let age = |name: &str| fs::metadata(copy.join(name)).and_then(|file| file.modified()).expect("a time");
        let before = age("src/same.rs");
        make_equal(&root, &copy).expect("nothing is wrong");
        assert_eq!(project::files(&copy).expect("files"), ["new.rs", "src/changed.rs", "src/same.rs"]);
        assert_eq!(fs::read_to_string(copy.join("src/changed.rs")).expect("a file"), "2");
        assert_eq!(age("src/same.rs"), before);
        fs::remove_dir_all(&place).expect("it was made");
    }

    #[test]
    fn groups_are_chosen_by_name() {
        let parse = |line: &str| Options::parse(&mut Arguments::new(line.split_whitespace().map(str::to_owned)));
        assert_eq!(parse("").map_or(0, |options| options.groups.len()), GROUPS.len());
        assert_eq!(parse("--group wal").map_or("", |options| options.groups[0].name), "wal");
        assert!(parse("--group none").is_err());
    }
}
