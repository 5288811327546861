//! The few calls of ptrace(2) that the tracer is made of: the only `unsafe` of the tests. What makes it sound:
//!
//! * Between fork and exec, [`prepare`] makes system calls alone: it allocates nothing and takes no lock.
//! * Structures that the kernel reads or fills are ours, on the stack, and outlive the call.
//! * All calls on a tracee come from the thread that started it, as ptrace demands: nothing here can be sent to another.

#![allow(unsafe_code, reason = "neither the standard library nor rustix has ptrace")]

use std::io;
use std::os::raw::{c_int, c_long, c_void};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::null_mut;

/// A thread of a traced process, as the kernel numbers it.
pub type Thread = c_int;

/// What a tracee is going to ask of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The system call's number.
    pub number: c_long,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// Why a thread is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Before a system call that is traced.
    Entering,
    /// After one, if it was let go by [`resume_until_done`].
    Done,
    /// A signal is about to be delivered.
    Signal(c_int),
    /// Something else, such as a new thread; it wants to go on.
    Other,
    /// It has ended, with an exit code or by a signal.
    Ended(Result<c_int, c_int>),
}

/// Makes a command stop before each of these system calls once it runs, and its children too.
pub fn prepare(command: &mut Command, numbers: &[c_long]) {
    let filter = filter(numbers);
    // SAFETY: see above; `filter` was allocated before the fork.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            check(libc::ptrace(libc::PTRACE_TRACEME, 0, null_mut::<c_void>(), null_mut::<c_void>()))?;
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
            check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program).into())?;
            Ok(())
        });
    }
}

/// Of a system call's number: stop before these, let all others pass (seccomp(2)).
fn filter(numbers: &[c_long]) -> Vec<libc::sock_filter> {
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for (at, number) in numbers.iter().enumerate() {
        let to_trace = (numbers.len() - at) as u8;
        filter.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, to_trace, 0, *number as u32));
    }
    filter.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_TRACE));
    filter
}

/// To be called once the prepared command stands at its first instruction.
pub fn follow(thread: Thread) -> io::Result<()> {
    let options = libc::PTRACE_O_EXITKILL
        | libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACESECCOMP
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEEXEC;
    request(libc::PTRACE_SETOPTIONS, thread, options as usize)
}

/// Waits until a tracee of this thread stops or ends.
pub fn wait() -> io::Result<(Thread, Stop)> {
    let mut status = 0;
    // SAFETY: see above.
    let thread = check(unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) }.into())?;
    let stop = if libc::WIFEXITED(status) {
        Stop::Ended(Ok(libc::WEXITSTATUS(status)))
    } else if libc::WIFSIGNALED(status) {
        Stop::Ended(Err(libc::WTERMSIG(status)))
    } else {
        match (status >> 16, libc::WSTOPSIG(status)) {
            (libc::PTRACE_EVENT_SECCOMP, _) => Stop::Entering,
            (0, signal) if signal == libc::SIGTRAP | 0x80 => Stop::Done,
            // How a new thread, and a new program, begins.
            (0, libc::SIGSTOP | libc::SIGTRAP) => Stop::Other,
            (0, signal) => Stop::Signal(signal),
            _ => Stop::Other,
        }
    };
    Ok((thread as Thread, stop))
}

/// Lets a stopped thread go on, with a signal unless that is 0.
pub fn resume(thread: Thread, signal: c_int) -> io::Result<()> {
    request(libc::PTRACE_CONT, thread, signal as usize)
}

/// Lets the thread carry out its system call, and stop again.
pub fn resume_until_done(thread: Thread) -> io::Result<()> {
    request(libc::PTRACE_SYSCALL, thread, 0)
}

/// What a thread that stands before a system call asks for.
pub fn asked(thread: Thread) -> io::Result<Request> {
    let registers = registers(thread)?;
    let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
    Ok(Request { number: registers.orig_rax as c_long, arguments })
}

/// What a system call has returned.
pub fn returned(thread: Thread) -> io::Result<i64> {
    Ok(registers(thread)?.rax as i64)
}

/// Makes the system call that a thread stands before fail with `errno` instead of being carried out.
pub fn refuse(thread: Thread, errno: c_int) -> io::Result<()> {
    let set = |register: c_int, value: i64| {
        let offset = register as usize * size_of::<u64>();
        // SAFETY: see above; the words are passed by value.
        check(unsafe { libc::ptrace(libc::PTRACE_POKEUSER, thread, offset, value) })
    };
    set(libc::ORIG_RAX, -1)?;
    set(libc::RAX, (-errno).into())?;
    Ok(())
}

fn registers(thread: Thread) -> io::Result<libc::user_regs_struct> {
    // SAFETY: a structure of integers; the kernel fills it.
    unsafe {
        let mut registers: libc::user_regs_struct = std::mem::zeroed();
        check(libc::ptrace(libc::PTRACE_GETREGS, thread, null_mut::<c_void>(), &raw mut registers))?;
        Ok(registers)
    }
}

fn request(request: libc::c_uint, thread: Thread, data: usize) -> io::Result<()> {
    // SAFETY: these requests take a word, and write nothing.
    check(unsafe { libc::ptrace(request, thread, null_mut::<c_void>(), data) })?;
    Ok(())
}

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
