//! A `continuum watch` in another process: started, asked, stopped and killed.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::Repository;

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Killed when it is dropped.
pub struct Watcher {
    child: Child,
    said: PathBuf,
}

impl Watcher {
    /// Starts `continuum watch` with these arguments. What it says is kept beside the repository.
    pub fn start(repository: &Repository, arguments: &[&str]) -> Self {
        let said = (1..).map(|number| repository.path(&format!("watcher-{number}.txt"))).find(|path| !path.exists());
        let said = said.expect("numbers do not end");
        let file = File::create(&said).expect("a new file");
        let mut command = repository.command(&["watch"]);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Self { child: command.spawn().expect("the binary runs"), said }
    }

    /// Starts it, and waits until it has attached the database of this name.
    #[track_caller]
    pub fn attached(repository: &Repository, name: &str, arguments: &[&str]) -> Self {
        let mut watcher = Self::start(repository, arguments);
        watcher.wait_for_words(&format!("{name}: watching from commit"));
        watcher
    }

    /// What it has said until now.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).expect("what it said")
    }

    /// Waits until it has said so.
    #[track_caller]
    pub fn wait_for_words(&mut self, words: &str) {
        self.wait_for(words, |watcher| watcher.said().contains(words));
    }

    /// Waits until it has said so this many times.
    #[track_caller]
    pub fn wait_for_times(&mut self, words: &str, times: usize) {
        self.wait_for(words, |watcher| watcher.said().matches(words).count() >= times);
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str, is_there: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_there(self) {
            assert!(self.is_running(), "the watcher ended before {what:?}: {}", self.said());
            assert!(Instant::now() < end, "no {what:?} from the watcher: {}", self.said());
            sleep(Duration::from_millis(10));
        }
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// What `status --json` says of it.
    pub fn status(&self, repository: &Repository) -> Option<Value> {
        let mut document = repository.json(&["status"]);
        let watchers = document["watchers"].as_array_mut().expect("a list");
        watchers.iter_mut().find(|watcher| watcher["pid"] == self.child.id()).map(|watcher| watcher["status"].take())
    }

    /// SIGTERM, and how it ended.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("a child of ours");
        let end = Instant::now() + PATIENCE;
        while self.is_running() {
            assert!(Instant::now() < end, "the watcher does not stop: {}", self.said());
            sleep(Duration::from_millis(5));
        }
        self.child.wait().expect("a child of ours")
    }

    /// SIGTERM; it must end well.
    #[track_caller]
    pub fn stop(&mut self) {
        let status = self.terminate();
        assert!(status.success(), "the watcher ended with {status}: {}", self.said());
        assert!(!self.said().contains("panicked"), "{}", self.said());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child of ours");
        self.child.wait().expect("a child of ours");
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
