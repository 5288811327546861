//! Threads of which only the one that has the turn runs.
//!
//! The code that is simulated is synchronous, so each actor has a thread. The threads are kept from run to run, and each is a rayon pool of its own: what the core does
//! side by side it does there one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Thread};

/// What a thread does in one run.
pub type Part = Box<dyn FnOnce() + Send>;

/// Whoever waits for all parts to end.
const NOBODY: usize = usize::MAX;

/// The threads.
pub struct Crew {
    threads: Vec<(Sender<Part>, Thread)>,
}

/// Whose turn it is in one run.
pub struct Turns {
    current: AtomicUsize,
    threads: Vec<Thread>,
    caller: Thread,
}

impl Crew {
    /// So many threads.
    pub fn new(size: usize) -> Self {
        let member = |_| {
            let (sender, receiver) = channel();
            let thread = thread::Builder::new().stack_size(16 << 20).spawn(move || work(&receiver));
            let thread = thread.expect("BUG: a process may have a few threads").thread().clone();
            (sender, thread)
        };
        Self { threads: (0..size).map(member).collect() }
    }

    /// The turns of a run of `parts` parts. Nobody has it yet.
    pub fn turns(&self, parts: usize) -> Turns {
        let threads = self.threads[..parts].iter().map(|(_, thread)| thread.clone()).collect();
        Turns { current: AtomicUsize::new(NOBODY), threads, caller: thread::current() }
    }

    /// Runs the parts, the one numbered `first` first, until all have ended. Each begins when it gets its turn, and says at its end who goes on.
    pub fn run(&self, turns: &Arc<Turns>, parts: Vec<Part>, first: usize) {
        for (me, (part, (sender, _))) in parts.into_iter().zip(&self.threads).enumerate() {
            let turns = Arc::clone(turns);
            let part: Part = Box::new(move || {
                turns.wait(me);
                drop(turns);
                part();
            });
            sender.send(part).expect("BUG: the threads live as long as the crew");
        }
        turns.give(Some(first));
        while turns.current.load(Ordering::Acquire) != NOBODY {
            thread::park();
        }
    }
}

impl Turns {
    /// Gives the turn to another, or, when there is no other left, back to whoever runs all.
    pub fn give(&self, next: Option<usize>) {
        let (number, thread) = next.map_or((NOBODY, &self.caller), |next| (next, &self.threads[next]));
        self.current.store(number, Ordering::Release);
        thread.unpark();
    }

    /// Waits for the turn.
    pub fn wait(&self, me: usize) {
        while self.current.load(Ordering::Acquire) != me {
            thread::park();
        }
    }
}

fn work(parts: &Receiver<Part>) {
    // The pool is this thread, and ends with it.
    let _pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    for part in parts {
        part();
    }
}
