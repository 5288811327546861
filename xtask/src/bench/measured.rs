//! Runs one command to its end and says what it cost: wall clock, CPU time and peak memory, the
//! last two from the kernel's own accounting of that child (`wait4`). Children of the child count
//! too, once it has waited for them.

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// How much of a failed command's output is shown.
const SHOWN_OUTPUT_LINES: usize = 12;

/// Linux counts `ru_maxrss` in KiB, macOS in bytes.
const MAXRSS_UNIT_BYTES: u64 = if cfg!(target_os = "macos") { 1 } else { 1024 };

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    pub wall: Duration,
    /// User and system time together.
    pub cpu: Duration,
    /// The largest resident set, pages of mapped files included.
    pub peak_bytes: u64,
}

impl Cost {
    pub fn new(wall: Duration, usage: &libc::rusage) -> Self {
        Self {
            wall,
            cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
            peak_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * MAXRSS_UNIT_BYTES,
        }
    }
}

/// Runs `command` with no standard input; its output goes to the file `log`. A command that fails
/// is an error that shows the end of the log.
pub fn run(command: &mut Command, log: &Path) -> Result<Cost, Failure> {
    let program = command.get_program().to_owned();
    let started = Instant::now();
    let child = spawn(command, log)?;
    let (status, usage) = wait(&child).map_err(Failure::io("wait for", Path::new(&program)))?;
    let wall = started.elapsed();
    if !status.success() {
        return Err(failed(&line_of(command), status, log));
    }
    Ok(Cost::new(wall, &usage))
}

/// Starts `command` with no standard input and its output in the file `log`.
pub fn spawn(command: &mut Command, log: &Path) -> Result<Child, Failure> {
    let output = File::create(log).map_err(Failure::io("create", log))?;
    let errors = output.try_clone().map_err(Failure::io("open", log))?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    let program = command.get_program().to_owned();
    command.spawn().map_err(Failure::io("run", Path::new(&program)))
}

/// Writes back what earlier commands left dirty, so that the next one does not pay for it.
pub fn settle() -> Result<(), Failure> {
    let status = Command::new("sync").stdin(Stdio::null()).status();
    status.map(|_| ()).map_err(Failure::io("run", Path::new("sync")))
}

/// Asks `child` to end (SIGTERM).
#[expect(unsafe_code, reason = "the standard library can only kill")]
pub fn terminate(child: &Child) -> io::Result<()> {
    let id = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: no memory is involved. `id` is our own child, and nobody has waited for it yet.
    if unsafe { libc::kill(id, libc::SIGTERM) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for the end of `child`, and gives what the kernel counted.
#[expect(unsafe_code, reason = "the standard library does not give a child's resource usage")]
pub fn wait(child: &Child) -> io::Result<(ExitStatus, libc::rusage)> {
    let id = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are valid for writes for the whole call. `id` is our own child and
        // nobody else waits for it (`Child` is only borrowed, and does not wait when it is
        // dropped).
        let waited = unsafe { libc::wait4(id, &raw mut status, 0, usage.as_mut_ptr()) };
        if waited == id {
            // SAFETY: zeroes are a valid `rusage`, and the kernel has filled it in.
            return Ok((ExitStatus::from_raw(status), unsafe { usage.assume_init() }));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// The error that says how the command `line` ended.
pub fn failed(line: &str, status: ExitStatus, log: &Path) -> Failure {
    Failure::new(format!("`{line}` ended with {status}; its last words:{}", last_words(log)))
}

/// The end of the log, each line indented below the message that it belongs to.
pub fn last_words(log: &Path) -> String {
    let output = output_of(log);
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_OUTPUT_LINES)..].iter().map(|line| format!("\n  {line}")).collect()
}

/// All that is in the log, as far as it is text.
pub fn output_of(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// The command as one line, for messages.
pub fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: &str) -> Result<Cost, Failure> {
        let log = std::env::temp_dir().join(format!("xtask-{}-{log}.log", std::process::id()));
        let outcome = run(Command::new("sh").args(["-c", script]), &log);
        fs::remove_file(log).unwrap();
        outcome
    }

    #[test]
    fn a_command_costs_something() {
        let cost = shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 0.05", "cost").unwrap();
        assert!(cost.wall >= Duration::from_millis(50));
        assert!(cost.cpu > Duration::ZERO && cost.cpu < cost.wall * 4);
        assert!(cost.peak_bytes > 100 << 10 && cost.peak_bytes < 1 << 30);
    }

    #[test]
    fn a_failed_command_is_an_error_with_its_last_words() {
        let failure = shell("echo no space left; exit 3", "failed").unwrap_err().to_string();
        assert!(failure.contains("exit status: 3"), "{failure}");
        assert!(failure.contains("no space left"), "{failure}");
    }
}
