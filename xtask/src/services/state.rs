//! What is known of a service that was started: a small text file, one fact a line.
//!
//! ```text
//! url s3://continuum-tests/suites?endpoint=http://127.0.0.1:20000&region=us-east-1
//! environment AWS_ACCESS_KEY_ID=continuum-tests
//! process 4711 812345
//! ```

use std::fmt::{self, Write};
use std::str::FromStr;

use super::processes::Process;

/// A service that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// A place for repositories, to which a path can be added before the `?`.
    pub url: String,
    /// What a client must have in its environment: names and values.
    pub environment: Vec<(String, String)>,
    pub processes: Vec<Process>,
}

/// The text is not that of a state.
#[derive(Debug)]
pub struct NoState;

impl State {
    pub fn new<const COUNT: usize>(url: String, environment: [(&str, &str); COUNT], processes: Vec<Process>) -> Self {
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { url, environment, processes }
    }

    /// Whether all of its processes are still there.
    pub fn is_running(&self) -> bool {
        self.processes.iter().all(Process::is_running)
    }

    /// Kills those of its processes that are still there.
    pub fn kill(&self) {
        self.processes.iter().for_each(Process::kill);
    }

    pub fn to_text(&self) -> String {
        let mut text = format!("url {}\n", self.url);
        for (name, value) in &self.environment {
            let _ = writeln!(text, "environment {name}={value}");
        }
        for process in &self.processes {
            let _ = writeln!(text, "process {} {}", process.pid, process.started);
        }
        text
    }
}

impl FromStr for State {
    type Err = NoState;

    fn from_str(text: &str) -> Result<Self, NoState> {
        let (mut url, mut environment, mut processes) = (None, Vec::new(), Vec::new());
        for line in text.lines() {
            let (kind, fact) = line.split_once(' ').ok_or(NoState)?;
            match kind {
                "url" => url = Some(fact.to_owned()),
                "environment" => {
                    let (name, value) = fact.split_once('=').ok_or(NoState)?;
                    environment.push((name.to_owned(), value.to_owned()));
                }
                "process" => {
                    let (pid, started) = fact.split_once(' ').ok_or(NoState)?;
                    let (pid, started) = (pid.parse().map_err(|_| NoState)?, started.parse().map_err(|_| NoState)?);
                    processes.push(Process { pid, started });
                }
                _ => return Err(NoState),
            }
        }
        let url = url.filter(|_| !processes.is_empty()).ok_or(NoState)?;
        Ok(Self { url, environment, processes })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pids: Vec<String> = self.processes.iter().map(|process| process.pid.to_string()).collect();
        write!(
            f,
            "running at {} ({} {})",
            self.url,
            if pids.len() == 1 { "process" } else { "processes" },
            pids.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let processes = vec![Process { pid: 12, started: 345 }, Process { pid: 13, started: 346 }];
        let environment = [("KEY", "Eby8=="), ("EMPTY", "")];
        let state = State::new("s3://bucket/x?endpoint=http://127.0.0.1:1".to_owned(), environment, processes);
        assert_eq!(state.to_text().parse::<State>().unwrap(), state);
    }

    #[test]
    fn half_a_state_is_none() {
        for text in ["", "url x\n", "process 1 2\n", "url x\nprocess 1\n", "url x\nprocess 1 2\nother\n"] {
            assert!(text.parse::<State>().is_err(), "{text:?}");
        }
    }
}
