//! A watcher of a database, run by the real binary.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::program::{PASSWORD, Place};

/// How long a commit may take until it is stored.
const PATIENCE: Duration = Duration::from_secs(60);

/// A watcher that stores what it captures at once, until it is stopped or killed.
pub struct Watch<'p> {
    place: &'p Place,
    child: Child,
}

impl<'p> Watch<'p> {
    /// Watches the database at `path`.
    pub fn new(place: &'p Place, path: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_continuum"));
        command.arg("--repository").arg(place.path("repository")).args(["watch", "--flush-interval", "0.1"]).arg(path);
        command.env("XDG_STATE_HOME", place.path("state")).env("CONTINUUM_CONFIG", "/dev/null");
        command.env("CONTINUUM_PASSWORD", PASSWORD);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self { place, child: command.spawn().expect("the watcher starts") }
    }

    /// Waits until the state of that number of the database can be restored.
    pub fn await_commit(&self, database: &str, number: u64) {
        let begun = Instant::now();
        loop {
            // Before the first snapshot there is no database of that name, so all are listed.
            let log = self.place.json(&["log"]);
            let points = log["points"].as_array().expect("a list of states").iter();
            let mut commits = points.filter(|point| point["database"] == database).map(|point| &point["commit"]);
            if commits.any(|commit| commit.as_u64().is_some_and(|commit| commit >= number)) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "commit {number} is not captured: {log}");
            sleep(Duration::from_millis(50));
        }
    }

    /// Ends it at once: what it captured stays in its journal.
    pub fn kill(mut self) {
        self.child.kill().expect("the watcher is there");
        self.child.wait().expect("the watcher ends");
    }

    /// Ends it as a person does: it folds what it captured.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the watcher is there");
        assert!(self.child.wait().expect("the watcher ends").success());
    }
}
