//! The real binary, killed at its write-like system calls and given each error of a disk by them.
//!
//! Each run is on a fresh copy of a prepared place. Afterwards `check` is clean, each state that had been acknowledged restores to its hash, the same command run again
//! does what was left to do, and nothing is left over. Only a part of the matrix is run here; all of it by `cargo xtask crash`.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod crash {
    pub mod cases;
    pub mod matrix;
    pub mod place;
    pub mod unsynced;
}
mod tracer;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::Instant;

use crash::cases::{CASES, Case};
use crash::matrix::{Findings, Scope, name_of, prepare};
use tracer::Fault;

/// There is nothing to recover from a kill.
const ERRORS_ONLY: Scope = Scope { stride: 2, recovery_stride: 1, recovery_call_stride: 1 };

/// What is run whenever the tests are.
const SHORT: [(Fault, Scope); 3] = [
    (Fault::KillBefore, Scope { stride: 1, recovery_stride: 17, recovery_call_stride: 5 }),
    (Fault::Error(libc::EIO), ERRORS_ONLY),
    (Fault::ErrorsFrom(libc::ENOSPC), ERRORS_ONLY),
];

/// What is run on demand.
const WHOLE: Scope = Scope { stride: 1, recovery_stride: 4, recovery_call_stride: 1 };

/// All the ways in which a call is disturbed.
const FAULTS: [Fault; 8] = [
    Fault::KillBefore,
    Fault::KillAfter,
    Fault::Error(libc::ENOSPC),
    Fault::Error(libc::EIO),
    Fault::Error(libc::EDQUOT),
    Fault::ErrorsFrom(libc::ENOSPC),
    Fault::ErrorsFrom(libc::EIO),
    Fault::ErrorsFrom(libc::EDQUOT),
];

/// States that a crash of the machine may leave, of each command.
const MACHINE_CRASHES: usize = 12;

/// Chooses cases by a part of their names.
const CASE: &str = "CONTINUUM_CRASH_CASE";
/// What a crash of the machine is called among the faults.
const MACHINE_CRASH: &str = "machine crash";
/// Disturbs only the call of this number.
const CALL: &str = "CONTINUUM_CRASH_CALL";
/// Only in the ways whose names have this in them.
const FAULT: &str = "CONTINUUM_CRASH_FAULT";

/// Runs cases, as many at once as there are processors.
fn run_all(cases: &[&Case], run: impl Fn(&Case) -> Findings + Sync) -> Findings {
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Findings::default()));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begun = Instant::now();
            let findings = run(case);
            let (runs, wrong) = (findings.run_count(), findings.wrong.len());
            println!("crash: {}: {runs} runs, {wrong} wrong, {:.0} s", case.name, begun.elapsed().as_secs_f64());
            findings.wrong.iter().for_each(|wrong| println!("  {wrong}"));
            all.lock().unwrap().add(findings);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    all.into_inner().unwrap()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// All cases, unless some are chosen.
fn chosen() -> Vec<&'static Case> {
    let part = variable(CASE);
    let chosen: Vec<&Case> = CASES.iter().filter(|case| case.name.contains(&part)).collect();
    assert!(!chosen.is_empty(), "no case has {part:?} in its name");
    chosen
}

/// Whether runs can be disturbed here; if not, it is said.
fn can_trace() -> bool {
    let refused = tracer::refused();
    if let Some(reason) = &refused {
        println!("crash: SKIPPED, processes cannot be traced here: {reason}");
    }
    refused.is_none()
}

fn conclude(findings: &Findings) {
    println!("crash: {} runs, {} wrong", findings.run_count(), findings.wrong.len());
    assert!(findings.wrong.is_empty(), "{}", findings.wrong.join("\n\n"));
}

#[test]
fn a_part_of_the_matrix() {
    if can_trace() {
        conclude(&run_all(&chosen(), |case| {
            let prepared = prepare(case);
            let mut findings = Findings::default();
            SHORT.iter().for_each(|(fault, scope)| findings.add(prepared.run(*fault, *scope)));
            findings
        }));
    }
}

#[test]
fn what_is_synced_lasts() {
    crash::unsynced::check_model();
    if can_trace() {
        conclude(&run_all(&chosen(), |case| prepare(case).crash_machine(MACHINE_CRASHES)));
    }
}

#[test]
#[ignore = "takes long: `cargo xtask crash`"]
fn the_whole_matrix() {
    if !can_trace() {
        return;
    }
    let (call, fault) = (variable(CALL).parse().ok(), variable(FAULT));
    let faults = FAULTS.iter().copied().filter(|kind| name_of(*kind).contains(&fault)).collect::<Vec<_>>();
    let findings = run_all(&chosen(), |case| {
        let mut findings = Findings::default();
        let prepared = prepare(case);
        for &kind in &faults {
            match call {
                Some(number) => _ = prepared.disturb(number, kind, WHOLE, &mut findings),
                None => findings.add(prepared.run(kind, WHOLE)),
            }
        }
        if call.is_none() && MACHINE_CRASH.contains(&fault) {
            findings.add(prepared.crash_machine(usize::MAX));
        }
        findings
    });
    print!("{}", findings.table());
    conclude(&findings);
}
