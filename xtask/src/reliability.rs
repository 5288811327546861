//! `cargo xtask reliability`: every long proof that nothing is lost, one after the other, and the table of what came of them that README.md shows.
//!
//! Each is a command of its own that can be run alone; its figures are lines that it prints. One that fails keeps the others from nothing, and fails the whole.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use crate::arguments::Arguments;
use crate::failure::Failure;

pub struct Options {
    seeds: u64,
    minutes: f64,
    seconds: u32,
    without: Vec<String>,
}

/// One of the proofs.
struct Proof {
    /// The words after `cargo xtask`.
    command: Vec<String>,
    /// What of its output counts.
    figures: fn(&[String]) -> String,
}

/// What came of one.
struct Outcome {
    command: String,
    has_passed: bool,
    minutes: f64,
    figures: String,
}

impl Options {
    pub fn parse(arguments: &mut Arguments) -> Result<Self, Failure> {
        let mut options = Self {
            seeds: arguments.take_value("--seeds")?.unwrap_or(1_000_000),
            minutes: arguments.take_value("--minutes")?.unwrap_or(5.0),
            seconds: arguments.take_value("--seconds")?.unwrap_or(600),
            without: Vec::new(),
        };
        while let Some(name) = arguments.take_value("--without")? {
            options.without.push(name);
        }
        arguments.finish()?;
        let proofs = options.all();
        match options.without.iter().find(|name| !proofs.iter().any(|proof| proof.name() == *name)) {
            Some(unknown) => Err(Failure::usage(format!("--without: there is no proof `{unknown}`"))),
            None => Ok(options),
        }
    }

    fn all(&self) -> Vec<Proof> {
        let proof = |line: String, figures| Proof { command: line.split(' ').map(str::to_owned).collect(), figures };
        vec![
            proof(format!("simulate --seeds {}", self.seeds), simulated),
            proof("crash".to_owned(), |lines| last(lines, "crash: ")),
            proof(format!("together --minutes {}", self.minutes), together),
            proof(format!("together --on s3 --minutes {}", self.minutes), together),
            proof(format!("soak --minutes {}", self.minutes), |lines| last(lines, "soak: ")),
            proof(format!("fuzz --seconds {}", self.seconds), fuzzed),
            proof("mutants".to_owned(), mutated),
        ]
    }

    fn chosen(&self) -> Vec<Proof> {
        self.all().into_iter().filter(|proof| !self.without.iter().any(|name| proof.name() == name)).collect()
    }
}

pub fn run(root: &Path, options: &Options) -> Result<(), Failure> {
    let mut outcomes = Vec::new();
    for proof in options.chosen() {
        let outcome = proof.run(root)?;
        println!("reliability: {}: {}", outcome.command, outcome.verdict());
        outcomes.push(outcome);
    }
    print!("{}", table(&outcomes));
    let failed: Vec<&str> =
        outcomes.iter().filter(|outcome| !outcome.has_passed).map(|outcome| outcome.command.as_str()).collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(format!("reliability: failed: {}", failed.join(", ")))) }
}

impl Proof {
    fn name(&self) -> &str {
        &self.command[0]
    }

    /// Runs it as a process of its own, shows what it prints, and keeps that.
    fn run(&self, root: &Path) -> Result<Outcome, Failure> {
        let program = std::env::current_exe().map_err(Failure::io("find", Path::new("this program")))?;
        let (begun, lines) = (Instant::now(), Mutex::new(Vec::new()));
        let mut process = Command::new(&program);
        process
            .args(&self.command)
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = process.spawn().map_err(Failure::io("run", &program))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            scope.spawn(|| stdout.map(|pipe| pass_on(pipe, &mut io::stdout(), &lines)));
            scope.spawn(|| stderr.map(|pipe| pass_on(pipe, &mut io::stderr(), &lines)));
        });
        let status = child.wait().map_err(Failure::io("run", &program))?;
        let lines = lines.into_inner().unwrap_or_default();
        Ok(Outcome {
            command: format!("cargo xtask {}", self.command.join(" ")),
            has_passed: status.success(),
            minutes: begun.elapsed().as_secs_f64() / 60.0,
            figures: (self.figures)(&lines),
        })
    }
}

/// Best effort: nobody need look on.
fn pass_on(pipe: impl Read, shown: &mut dyn Write, lines: &Mutex<Vec<String>>) {
    for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        let _ = writeln!(shown, "{line}");
        if let Ok(mut lines) = lines.lock() {
            lines.push(line);
        }
    }
}

impl Outcome {
    fn verdict(&self) -> &'static str {
        if self.has_passed { "passed" } else { "FAILED" }
    }
}

/// As Markdown.
fn table(outcomes: &[Outcome]) -> String {
    let mut table = "\n| command | outcome | minutes | figures |\n|---|---|---|---|\n".to_owned();
    for outcome in outcomes {
        let Outcome { command, minutes, figures, .. } = outcome;
        table.push_str(&format!("| `{command}` | {} | {minutes:.0} | {figures} |\n", outcome.verdict()));
    }
    table
}

/// What stands behind `prefix` in the last line that begins with it and has figures.
fn last(lines: &[String], prefix: &str) -> String {
    let has_figures = |rest: &&str| rest.contains(|letter: char| letter.is_ascii_digit());
    lines.iter().rev().filter_map(|line| line.strip_prefix(prefix)).find(has_figures).unwrap_or_default().to_owned()
}

fn simulated(lines: &[String]) -> String {
    let planted = || lines.iter().filter(|line| line.starts_with("planted "));
    let missed = planted().filter(|line| line.contains(": NOT found")).count();
    format!("{}; {} of {} planted bugs found", last(lines, "seeds "), planted().count() - missed, planted().count())
}

fn together(lines: &[String]) -> String {
    let with = |part: &str| lines.iter().rev().find(|line| line.contains(part)).map_or("", String::as_str);
    format!("{}; {}", with(" s: Done").replace('|', "/"), with(" bytes stored, "))
}

fn fuzzed(lines: &[String]) -> String {
    let count = |prefix: &str| -> u64 {
        let counts = lines.iter().filter_map(|line| line.strip_prefix(prefix)?.trim().parse::<u64>().ok());
        counts.sum()
    };
    let targets = lines.iter().filter(|line| line.starts_with("stat::number_of_executed_units:")).count();
    format!("{targets} targets, {} inputs", count("stat::number_of_executed_units:"))
}

fn mutated(lines: &[String]) -> String {
    let told: Vec<&str> =
        lines.iter().filter_map(|line| line.split_once("mutants tested in").map(|_| line.as_str())).collect();
    told.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn figures_are_found_among_what_is_printed() {
        let simulation = lines(
            "seeds that once failed: 3 run in 0.1 s\nseeds 0..7: 7 run in 0.2 s, 9 a minute; 0 failed\n\
             planted A: found by seed 1: x\nplanted B: NOT found by 20 seeds",
        );
        let expected = "0..7: 7 run in 0.2 s, 9 a minute; 0 failed; 1 of 2 planted bugs found";
        assert_eq!(simulated(&simulation), expected);
        let crash = lines("crash: init: 7 runs, 0 wrong, 3 s\ncrash: 9 runs, 0 wrong\ncrash: passed");
        assert_eq!(last(&crash, "crash: "), "9 runs, 0 wrong");
        let fuzz = lines("stat::number_of_executed_units: 12\nx\nstat::number_of_executed_units: 30");
        assert_eq!(fuzzed(&fuzz), "2 targets, 42 inputs");
        assert_eq!(fuzzed(&[]), "0 targets, 0 inputs");
    }

    #[test]
    fn the_table_says_what_failed() {
        let outcome = |has_passed| Outcome {
            command: "cargo xtask crash".to_owned(),
            has_passed,
            minutes: 61.4,
            figures: "9 runs".to_owned(),
        };
        let told = table(&[outcome(true), outcome(false)]);
        assert!(told.contains("| `cargo xtask crash` | passed | 61 | 9 runs |\n"), "{told}");
        assert!(told.ends_with("| `cargo xtask crash` | FAILED | 61 | 9 runs |\n"), "{told}");
    }

    #[test]
    fn proofs_can_be_left_out() {
        let parse = |line: &str| Options::parse(&mut Arguments::new(line.split_whitespace().map(str::to_owned)));
        let options = parse("--seeds 5 --without mutants --without fuzz").expect("nothing is wrong");
        let names: Vec<String> = options.chosen().iter().map(|proof| proof.command.join(" ")).collect();
        assert_eq!(names[..2], ["simulate --seeds 5", "crash"]);
        assert_eq!(names.len(), 5);
        assert!(parse("--without nothing").is_err());
    }
}
