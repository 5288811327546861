//! The application beside a backup: the load scripts that keep a connection open.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::{database, measured};
use crate::failure::Failure;

/// The load of a busy application.
pub const TRANSACTIONS: u32 = 3000;
pub const PER_SECOND: u32 = 100;

/// Its transactions are others than those of the change between two backups.
const SEED: &str = "8";

/// How long the transactions of an application took, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latencies {
    pub p50_ms: f64,
    pub p95_ms: f64,
    /// About one commit in a hundred runs a checkpoint and waits for the disk, so this one is noisy.
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// Lets an application write to the database at a steady rate.
pub fn write_at_rate(root: &Path, path: &Path, log: &Path) -> Result<Latencies, Failure> {
    let mut command = database::script(root, "write_at_rate.py");
    command.arg(path).args([TRANSACTIONS.to_string(), PER_SECOND.to_string()]);
    measured::run(&mut command, log)?;
    let output = measured::output_of(log);
    latencies_in(&output).ok_or_else(|| Failure::new(format!("no latencies in `{}`", output.trim())))
}

fn latencies_in(output: &str) -> Option<Latencies> {
    let after = |name: &str| {
        let mut words = output.split_whitespace().skip_while(|word| *word != name);
        words.nth(1)?.parse().ok()
    };
    Some(Latencies { p50_ms: after("p50")?, p95_ms: after("p95")?, p99_ms: after("p99")?, max_ms: after("max")? })
}

/// An application that holds its database open and never checkpoints. It ends when it is dropped.
pub struct HeldOpen {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl HeldOpen {
    /// Returns when the application's connection is open.
    pub fn start(root: &Path, path: &Path) -> Result<Self, Failure> {
        let mut command = database::script(root, "hold_open.py");
        command.arg(path).args([database::MUTATION_TRANSACTIONS, SEED]);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(Failure::io("run", Path::new("python3")))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new("BUG: both were asked to be pipes"));
        };
        let mut held = Self { child, input: Some(input), output: BufReader::new(output) };
        held.expect("open")?;
        Ok(held)
    }

    /// Commits the transactions, and returns when the last one is in the WAL.
    pub fn commit(&mut self) -> Result<(), Failure> {
        if let Some(input) = &mut self.input {
            input.write_all(b"commit\n").map_err(Failure::io("write to", Path::new("hold_open.py")))?;
        }
        self.expect("committed")
    }

    fn expect(&mut self, word: &str) -> Result<(), Failure> {
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(Failure::io("read from", Path::new("hold_open.py")))?;
        if line.trim() == word {
            return Ok(());
        }
        Err(Failure::new(format!("hold_open.py said `{}` instead of `{word}`", line.trim())))
    }
}

impl Drop for HeldOpen {
    fn drop(&mut self) {
        // The end of its input is the end of the application.
        self.input = None;
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_found_in_the_report() {
        let output = "tx 300 in 3.0 p50 0.188 p95 0.4 p99 0.966 max 21.25 ms\n";
        assert_eq!(latencies_in(output), Some(Latencies { p50_ms: 0.188, p95_ms: 0.4, p99_ms: 0.966, max_ms: 21.25 }));
        assert_eq!(latencies_in("Traceback"), None);
    }
}
