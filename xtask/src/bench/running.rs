//! A process that runs beside a measurement: a watcher. What it has cost so far is read from
//! `/proc`, so this works on Linux alone; what it cost in all comes from `wait4`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use super::measured::{self, Cost};
use crate::failure::Failure;

/// `/proc` counts CPU time in ticks of `USER_HZ`: 100 a second on every Linux that is not very odd.
const TICK: Duration = Duration::from_millis(10);

/// How often a condition is looked at again: seldom enough to cost the measured process nothing.
const POLL: Duration = Duration::from_millis(100);

/// A process is quiet when it needs no more than this much CPU in each of so many seconds.
const QUIET_CPU: Duration = Duration::from_millis(20);
const QUIET_SECONDS: u32 = 2;
/// For one that never is; measuring goes on then.
const QUIET_LIMIT: Duration = Duration::from_secs(60);

/// Killed when it is dropped before its end.
pub struct Running {
    child: Child,
    line: String,
    log: PathBuf,
    started: Instant,
    ended: bool,
}

impl Running {
    /// Starts `command`; its output goes to the file `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self, Failure> {
        let child = measured::spawn(command, log)?;
        let line = measured::line_of(command);
        Ok(Self { child, line, log: log.to_owned(), started: Instant::now(), ended: false })
    }

    /// Waits until the output holds `text` at least `count` times.
    pub fn wait_for(&mut self, text: &str, count: usize, limit: Duration) -> Result<(), Failure> {
        let waited = Instant::now();
        loop {
            let output = measured::output_of(&self.log);
            if output.matches(text).count() >= count {
                return Ok(());
            }
            self.check_alive()?;
            if waited.elapsed() > limit {
                let words = measured::last_words(&self.log);
                let message = format!("`{}` did not say `{text}` {count} times; its last words:{words}", self.line);
                return Err(Failure::new(message));
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until the process has nothing left to do.
    pub fn settle(&mut self) -> Result<(), Failure> {
        let waited = Instant::now();
        let mut quiet_seconds = 0;
        while quiet_seconds < QUIET_SECONDS {
            if waited.elapsed() > QUIET_LIMIT {
                eprintln!("  careful: not quiet after {} s: `{}`", QUIET_LIMIT.as_secs(), self.line);
                break;
            }
            let before = self.cpu()?;
            thread::sleep(Duration::from_secs(1));
            self.check_alive()?;
            quiet_seconds = if self.cpu()? - before <= QUIET_CPU { quiet_seconds + 1 } else { 0 };
        }
        Ok(())
    }

    /// User and system time so far.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        let path = self.proc_file("stat");
        let stat = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        cpu_in(&stat).ok_or_else(|| Failure::new(format!("{}: no CPU time in `{}`", path.display(), stat.trim())))
    }

    /// The resident set now, and the largest there has been.
    pub fn resident_bytes(&self) -> Result<(u64, u64), Failure> {
        let path = self.proc_file("status");
        let status = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        let (now, peak) = (status_bytes(&status, "VmRSS:"), status_bytes(&status, "VmHWM:"));
        now.zip(peak).ok_or_else(|| Failure::new(format!("{}: no VmRSS and VmHWM", path.display())))
    }

    /// Asks the process to end, as an operator would, and waits for it.
    pub fn stop(mut self) -> Result<Cost, Failure> {
        measured::terminate(&self.child).map_err(Failure::io("stop", Path::new(&self.line)))?;
        let (status, usage) = measured::wait(&self.child).map_err(Failure::io("wait for", Path::new(&self.line)))?;
        self.ended = true;
        if !status.success() {
            return Err(measured::failed(&self.line, status, &self.log));
        }
        Ok(Cost::new(self.started.elapsed(), &usage))
    }

    fn check_alive(&mut self) -> Result<(), Failure> {
        match self.child.try_wait().map_err(Failure::io("wait for", Path::new(&self.line)))? {
            None => Ok(()),
            Some(status) => {
                self.ended = true;
                Err(measured::failed(&self.line, status, &self.log))
            }
        }
    }

    fn proc_file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            // The measurement has failed already; that is what is told.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc(5)). The second, the program's name, may hold spaces
/// and brackets.
fn cpu_in(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(TICK * (user + system))
}

fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a) b) S 1 2 3 0 -1 4194304 23740 0 0 0 19 7 0 0 20 0 5 0 1653185";
        assert_eq!(cpu_in(stat), Some(Duration::from_millis(260)));
        assert_eq!(cpu_in("7 (a) S 1"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "VmHWM:\t   71864 kB\nVmRSS:\t   59488 kB\n";
        assert_eq!(status_bytes(status, "VmRSS:"), Some(59488 << 10));
        assert_eq!(status_bytes(status, "VmSwap:"), None);
    }

    #[test]
    fn a_process_that_ends_by_itself_is_an_error_with_its_last_words() {
        let log = std::env::temp_dir().join(format!("xtask-{}-running.log", std::process::id()));
        let mut running = Running::start(Command::new("sh").args(["-c", "echo ready; exit 4"]), &log).unwrap();
        running.wait_for("ready", 1, Duration::from_secs(10)).unwrap();
        let failure = running.wait_for("never", 1, Duration::from_secs(10)).unwrap_err().to_string();
        assert!(failure.contains("exit status: 4") && failure.contains("ready"), "{failure}");
        fs::remove_file(log).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_runs_is_measured_and_stopped() {
        let log = std::env::temp_dir().join(format!("xtask-{}-stopped.log", std::process::id()));
        let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done";
        let mut running = Running::start(Command::new("sh").args(["-c", script]), &log).unwrap();
        running.wait_for("ready", 1, Duration::from_secs(10)).unwrap();
        assert!(running.cpu().unwrap() < Duration::from_secs(10));
        let (now, peak) = running.resident_bytes().unwrap();
        assert!(now > 100 << 10 && peak >= now);
        assert!(running.stop().unwrap().wall < Duration::from_secs(10));
        fs::remove_file(log).unwrap();
    }
}
