//! Processes that outlive the command that started them, and are known again by a later one.
//!
//! A process id alone may be another's by then. With the time at which the process was started (in ticks since the machine was) it is one
//! process for ever.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::Failure;

/// How long a process may take to be gone once it was killed.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(5);

/// A process that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// In ticks since the machine was started.
    pub started: u64,
}

impl Process {
    /// Starts a command that goes on when this program ends and when the terminal is interrupted. What it prints goes to the file `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> Result<Self, Failure> {
        let file = File::create(log).map_err(Failure::io("create", log))?;
        let errors = file.try_clone().map_err(Failure::io("open", log))?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0);
        let program = PathBuf::from(command.get_program());
        let child = command.spawn().map_err(Failure::io("run", &program))?;
        Self::of(&child)
            .ok_or_else(|| Failure::new(format!("{} ended at once; see {}", program.display(), log.display())))
    }

    fn of(child: &Child) -> Option<Self> {
        let pid = i32::try_from(child.id()).ok()?;
        let (_, started) = look(pid)?;
        Some(Self { pid, started })
    }

    /// Whether it is there, and has not ended without anybody asking for how.
    pub fn is_running(&self) -> bool {
        look(self.pid).is_some_and(|(state, started)| started == self.started && !matches!(state, 'Z' | 'X'))
    }

    /// SIGKILL, and waits until it is gone: what these servers hold is thrown away, and some of them take their time to end well.
    pub fn kill(&self) {
        let end = Instant::now() + PATIENCE;
        while self.is_running() && Instant::now() < end {
            // It may be gone by now.
            let _ = Pid::from_raw(self.pid).map(|pid| kill_process(pid, Signal::KILL));
            sleep(POLL);
        }
    }
}

/// The state of a process and when it was started.
fn look(pid: i32) -> Option<(char, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// See proc_pid_stat(5): the program's name stands in brackets and may hold anything; the state is field 3, the start time field 22.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_has_a_state_and_a_start_time() {
        let stat = "12 (a) (b) S 1 12 12 0 -1 4194560 183 0 0 0 3 1 0 0 20 0 5 0 987654 1300 2 18446744073709551615\n";
        assert_eq!(parse_stat(stat), Some(('S', 987_654)));
        assert_eq!(parse_stat("12 (a"), None);
    }

    #[test]
    fn only_the_very_process_is_running_and_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(&child).unwrap();
        let another = Process { started: process.started + 1, ..process };
        assert!(process.is_running() && !another.is_running());
        another.kill();
        assert!(process.is_running());
        process.kill();
        assert!(!process.is_running(), "a process that nobody has waited for has ended, too");
        child.wait().unwrap();
    }
}
