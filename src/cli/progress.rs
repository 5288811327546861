//! Shows events: a progress bar with rate and remaining time on a terminal, quiet lines otherwise.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

use crate::monitor::{Event, Monitor, Phase};

/// Set by the first Ctrl-C, SIGTERM or SIGHUP; read by every long loop.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The first signal asks for a clean end, the second ends at once: nothing half-done is visible either way.
pub fn catch_signals() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(super::error::INTERRUPTED));
        }
    })
}

/// How much to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Notices only.
    Quiet,
    /// Bars on a terminal, notices.
    Normal,
    /// Each phase as a line, too.
    Verbose,
}

/// Shows events on standard error.
pub struct TerminalMonitor {
    verbosity: Verbosity,
    bar: Mutex<Option<ProgressBar>>,
}

impl TerminalMonitor {
    /// A monitor that shows that much.
    pub fn new(verbosity: Verbosity) -> Self {
        Self { verbosity, bar: Mutex::new(None) }
    }

    fn start(&self, phase: Phase, total_bytes: u64) {
        if self.verbosity == Verbosity::Verbose {
            eprintln!("{}: {}", title(phase), super::output::bytes(total_bytes));
        }
        if self.verbosity != Verbosity::Quiet && std::io::stderr().is_terminal() {
            *self.bar() = Some(ProgressBar::new(total_bytes).with_style(style()).with_message(title(phase)));
        }
    }

    fn bar(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn title(phase: Phase) -> &'static str {
    match phase {
        Phase::Snapshot => "reading",
        Phase::Scan => "comparing",
        Phase::Resume => "resuming",
        Phase::Restore => "restoring",
        Phase::Prove => "proving",
        Phase::Copy => "copying",
        Phase::Repack => "repacking",
        Phase::CheckData => "checking data",
        Phase::Verify => "verifying",
        Phase::Compare => "comparing",
    }
}

fn style() -> ProgressStyle {
    let template = "{msg:>13} {wide_bar} {bytes}/{total_bytes}  {binary_bytes_per_sec}  {eta} left";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Monitor for TerminalMonitor {
    fn event(&self, event: Event) {
        match event {
            Event::Started { phase, total_bytes } => self.start(phase, total_bytes),
            Event::Advanced(bytes) => {
                if let Some(bar) = &*self.bar() {
                    bar.inc(bytes);
                }
            }
            Event::Finished => {
                if let Some(bar) = self.bar().take() {
                    bar.finish_and_clear();
                }
            }
            Event::Notice(text) => match &*self.bar() {
                Some(bar) => bar.suspend(|| eprintln!("notice: {text}")),
                None => eprintln!("notice: {text}"),
            },
        }
    }

    fn is_cancelled(&self) -> bool {
        INTERRUPTED.load(Ordering::SeqCst)
    }
}

impl Drop for TerminalMonitor {
    fn drop(&mut self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }
}
