//! Runs a program and counts, records and disturbs its system calls that change files.
//!
//! Calls are numbered over all threads in the order in which they are made, so that every point of a run can be named; strace, which counts the calls of each thread by
//! itself, cannot do that. Only calls on files below one folder count. Of these one is made at a time: were two under way at once, nobody could say whose effect came first.

#![allow(dead_code, reason = "each test binary uses its part of this")]

mod ptrace;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use libc::c_long;
use ptrace::{Request, Stop, Thread};

/// A program that runs longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The longest data of a call that is recorded; tests work on small files.
const MAX_DATA_BYTES: u64 = 64 << 20;

/// What is done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is killed when it is about to make the call.
    KillBefore,
    /// It is killed when the call is done.
    KillAfter,
    /// The call fails.
    Error(i32),
    /// The call fails, and all after it.
    ErrorsFrom(i32),
}

/// Where the arguments of a system call name files.
#[derive(Clone, Copy)]
enum Shape {
    /// Path and flags; opens that make or cut a file count.
    Open,
    /// The same, relative to a folder.
    OpenAt,
    /// A path.
    Path,
    /// A path relative to a folder.
    PathAt,
    /// Two paths.
    Paths,
    /// Two paths, each relative to a folder.
    PathsAt,
    /// Target (a text) and path of a new link.
    Link,
    /// The same, relative to a folder.
    LinkAt,
    /// An open file.
    File,
    /// An open file, a buffer and its length: at the file's position.
    Write,
    /// … and an offset.
    WriteAt,
    /// An open file and a list of buffers: at the file's position.
    WriteMany,
    /// Two open files: the second, by its argument, is written.
    CopyTo(usize),
}

const CALLS: &[(c_long, &str, Shape)] = &[
    (libc::SYS_open, "open", Shape::Open),
    (libc::SYS_creat, "creat", Shape::Path),
    (libc::SYS_openat, "openat", Shape::OpenAt),
    (libc::SYS_write, "write", Shape::Write),
    (libc::SYS_pwrite64, "pwrite64", Shape::WriteAt),
    (libc::SYS_writev, "writev", Shape::WriteMany),
    (libc::SYS_pwritev, "pwritev", Shape::File),
    (libc::SYS_pwritev2, "pwritev2", Shape::File),
    (libc::SYS_fsync, "fsync", Shape::File),
    (libc::SYS_fdatasync, "fdatasync", Shape::File),
    (libc::SYS_sync_file_range, "sync_file_range", Shape::File),
    (libc::SYS_ftruncate, "ftruncate", Shape::File),
    (libc::SYS_truncate, "truncate", Shape::Path),
    (libc::SYS_fallocate, "fallocate", Shape::File),
    (libc::SYS_copy_file_range, "copy_file_range", Shape::CopyTo(2)),
    (libc::SYS_sendfile, "sendfile", Shape::CopyTo(0)),
    (libc::SYS_rename, "rename", Shape::Paths),
    (libc::SYS_renameat, "renameat", Shape::PathsAt),
    (libc::SYS_renameat2, "renameat2", Shape::PathsAt),
    (libc::SYS_link, "link", Shape::Paths),
    (libc::SYS_linkat, "linkat", Shape::PathsAt),
    (libc::SYS_symlink, "symlink", Shape::Link),
    (libc::SYS_symlinkat, "symlinkat", Shape::LinkAt),
    (libc::SYS_unlink, "unlink", Shape::Path),
    (libc::SYS_unlinkat, "unlinkat", Shape::PathAt),
    (libc::SYS_rmdir, "rmdir", Shape::Path),
    (libc::SYS_mkdir, "mkdir", Shape::Path),
    (libc::SYS_mkdirat, "mkdirat", Shape::PathAt),
    (libc::SYS_chmod, "chmod", Shape::Path),
    (libc::SYS_fchmod, "fchmod", Shape::File),
    (libc::SYS_fchmodat, "fchmodat", Shape::PathAt),
    (libc::SYS_utimensat, "utimensat", Shape::PathAt),
];

/// A call that changed a file, or wanted to.
#[derive(Clone, Debug)]
pub struct Call {
    /// The system call's name.
    pub name: &'static str,
    /// The file: its absolute path when the call was made.
    pub path: PathBuf,
    /// For renames and links, the new path.
    pub to: Option<PathBuf>,
    /// For writes to a file, where.
    pub offset: u64,
    /// For writes, the bytes; if they are recorded.
    pub data: Vec<u8>,
    /// Flags of an open, length of an ftruncate.
    pub word: u64,
    /// What it returned: a negative errno if it failed.
    pub result: i64,
}

/// How a traced program ended.
#[derive(Debug)]
pub struct Traced {
    /// Its exit code, or the signal that ended it.
    pub ended: Result<i32, i32>,
    /// The calls below the folder, in the order in which they were made.
    pub calls: Vec<Call>,
    /// Whether the fault was reached.
    pub disturbed: bool,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

/// Why tracing is not possible here, if it is not.
pub fn refused() -> Option<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    match run(&mut Command::new("true"), folder.path(), None) {
        Ok(Traced { ended: Ok(0), .. }) => None,
        Ok(traced) => Some(format!("a traced `true` ended with {:?}", traced.ended)),
        Err(error) => Some(error.to_string()),
    }
}

/// Runs `command` to its end. At the call of that number, counted from 1, the fault is done to it.
pub fn run(command: &mut Command, below: &Path, fault: Option<(usize, Fault)>) -> io::Result<Traced> {
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    ptrace::prepare(command, &CALLS.iter().map(|(number, ..)| *number).collect::<Vec<_>>());
    let child = command.spawn()?;
    let process = child.id() as Thread;
    let (ended, watching) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if watching.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            kill(process);
        }
    });
    let (calls, waiting) = (Vec::new(), VecDeque::new());
    let mut tracing = Tracing { process, below, fault, calls, under_way: None, waiting, disturbed: false };
    let status = tracing.follow();
    drop(ended);
    watchdog.join().expect("the watchdog does not panic");
    let Tracing { calls, disturbed, .. } = tracing;
    Ok(Traced { ended: status?, calls, disturbed, stdout: text(&stdout)?, stderr: text(&stderr)? })
}

fn text(file: &File) -> io::Result<String> {
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn kill(process: Thread) {
    if let Some(pid) = rustix::process::Pid::from_raw(process) {
        // It may have ended.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

struct Tracing<'a> {
    process: Thread,
    below: &'a Path,
    fault: Option<(usize, Fault)>,
    calls: Vec<Call>,
    /// The thread that carries out the last of `calls`.
    under_way: Option<Thread>,
    /// Threads stopped at a call that counts, until that one is done.
    waiting: VecDeque<Thread>,
    disturbed: bool,
}

impl Tracing<'_> {
    fn follow(&mut self) -> io::Result<Result<i32, i32>> {
        let (thread, stop) = ptrace::wait()?;
        if let Stop::Ended(status) = stop {
            return Ok(status);
        }
        ptrace::follow(thread)?;
        ptrace::resume(thread, 0)?;
        loop {
            let (thread, stop) = ptrace::wait()?;
            let handled = match stop {
                Stop::Ended(status) if thread == self.process => return Ok(status),
                Stop::Ended(_) => Ok(()),
                Stop::Entering => self.entering(thread),
                Stop::Done => self.done(thread),
                Stop::Signal(signal) => ptrace::resume(thread, signal),
                Stop::Other => ptrace::resume(thread, 0),
            };
            match handled {
                // It was killed meanwhile, and its end will be reported.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                handled => handled?,
            }
        }
    }

    fn entering(&mut self, thread: Thread) -> io::Result<()> {
        let Some(call) = read_call(thread, ptrace::asked(thread)?).filter(|call| self.counts(call)) else {
            return ptrace::resume(thread, 0);
        };
        if self.under_way.is_some() {
            self.waiting.push_back(thread);
            return Ok(());
        }
        self.calls.push(call);
        let number = self.calls.len();
        match self.fault {
            Some((at, Fault::KillBefore)) if at == number => {
                self.disturbed = true;
                kill(self.process);
                Ok(())
            }
            Some((at, fault @ (Fault::Error(errno) | Fault::ErrorsFrom(errno))))
                if at == number || (at < number && matches!(fault, Fault::ErrorsFrom(_))) =>
            {
                self.disturbed = true;
                self.calls[number - 1].result = (-errno).into();
                ptrace::refuse(thread, errno)?;
                ptrace::resume(thread, 0)
            }
            _ => {
                self.under_way = Some(thread);
                ptrace::resume_until_done(thread)
            }
        }
    }

    fn done(&mut self, thread: Thread) -> io::Result<()> {
        let number = self.calls.len();
        self.calls[number - 1].result = ptrace::returned(thread)?;
        if self.fault == Some((number, Fault::KillAfter)) {
            self.disturbed = true;
            kill(self.process);
            return Ok(());
        }
        self.under_way = None;
        ptrace::resume(thread, 0)?;
        while self.under_way.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            self.entering(next)?;
        }
        Ok(())
    }

    fn counts(&self, call: &Call) -> bool {
        call.path.starts_with(self.below) || call.to.as_ref().is_some_and(|to| to.starts_with(self.below))
    }
}

/// What a call does to which file; `None` for an open that changes nothing, and for what is no file.
fn read_call(thread: Thread, Request { number, arguments }: Request) -> Option<Call> {
    let (_, name, shape) = CALLS.iter().find(|(known, ..)| *known == number)?;
    let [a, b, c, d, ..] = arguments;
    let here = libc::AT_FDCWD as u64;
    let (path, to) = match shape {
        Shape::Open | Shape::Path => (path_at(thread, here, a)?, None),
        Shape::OpenAt | Shape::PathAt => (path_at(thread, a, b)?, None),
        Shape::Paths => (path_at(thread, here, a)?, Some(path_at(thread, here, b)?)),
        Shape::PathsAt => (path_at(thread, a, b)?, Some(path_at(thread, c, d)?)),
        Shape::Link => (path_at(thread, here, b)?, None),
        Shape::LinkAt => (path_at(thread, b, c)?, None),
        Shape::File | Shape::Write | Shape::WriteAt | Shape::WriteMany => (open_path(thread, a)?, None),
        Shape::CopyTo(at) => (open_path(thread, arguments[*at])?, None),
    };
    let word = match shape {
        Shape::Open | Shape::File => b,
        Shape::OpenAt => c,
        _ => 0,
    };
    let changes = (libc::O_CREAT | libc::O_TRUNC | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u64;
    if matches!(shape, Shape::Open | Shape::OpenAt) && word & changes == 0 {
        return None;
    }
    let (offset, data) = match shape {
        Shape::Write => (position(thread, a)?, bytes(thread, b, c)?),
        Shape::WriteAt => (d, bytes(thread, b, c)?),
        Shape::WriteMany => (position(thread, a)?, buffers(thread, b, c)?),
        _ => (0, Vec::new()),
    };
    Some(Call { name, path, to, offset, data, word, result: 0 })
}

fn path_at(thread: Thread, folder: u64, address: u64) -> Option<PathBuf> {
    let path = PathBuf::from(std::ffi::OsString::from_vec(text_at(thread, address)?));
    let folder = match folder as i32 {
        _ if path.is_absolute() => PathBuf::new(),
        libc::AT_FDCWD => fs::read_link(format!("/proc/{thread}/cwd")).ok()?,
        folder => open_path(thread, folder as u64)?,
    };
    Some(normal(&folder.join(path)))
}

/// Without `.` and `..`, for comparisons: tests use no symbolic links.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => _ = normal.pop(),
            other => normal.push(other),
        }
    }
    normal
}

fn open_path(thread: Thread, descriptor: u64) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{thread}/fd/{}", descriptor as i32)).ok()?;
    path.is_absolute().then_some(path)
}

fn position(thread: Thread, descriptor: u64) -> Option<u64> {
    let facts = fs::read_to_string(format!("/proc/{thread}/fdinfo/{}", descriptor as i32)).ok()?;
    facts.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()
}

fn bytes(thread: Thread, address: u64, length: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length.min(MAX_DATA_BYTES) as usize];
    File::open(format!("/proc/{thread}/mem")).ok()?.read_exact_at(&mut bytes, address).ok()?;
    Some(bytes)
}

fn buffers(thread: Thread, address: u64, count: u64) -> Option<Vec<u8>> {
    let list = bytes(thread, address, count.min(1024) * 16)?;
    let words = list.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<_>>();
    let parts = words.as_chunks::<2>().0.iter().map(|[base, length]| bytes(thread, *base, *length));
    Some(parts.collect::<Option<Vec<_>>>()?.concat())
}

fn text_at(thread: Thread, address: u64) -> Option<Vec<u8>> {
    let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut text = Vec::new();
    while text.len() < libc::PATH_MAX as usize {
        let mut part = [0; 64];
        let length = memory.read_at(&mut part, address + text.len() as u64).ok().filter(|&length| length > 0)?;
        if let Some(end) = part[..length].iter().position(|&byte| byte == 0) {
            text.extend(&part[..end]);
            return Some(text);
        }
        text.extend(&part[..length]);
    }
    None
}
