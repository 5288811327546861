//! A lane of work beside the caller's: jobs go in, results come out in order of completion.
//!
//! The core has no threads of its own; it submits jobs to a lane that the edge made. A lane [`inline`](Lane::inline) does each job
//! at once in the caller's thread, so a simulation stays deterministic; a [`threaded`](Lane::threaded) one overlaps
//! sealing and I/O with the work that feeds it, and its queue is short, so memory stays bounded.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// See the module documentation.
pub struct Lane<J, R>(Kind<J, R>);

enum Kind<J, R> {
    Inline { work: Box<dyn Fn(J) -> R + Send>, done: Vec<R> },
    Threaded { jobs: SyncSender<J>, results: Receiver<R>, threads: Vec<JoinHandle<()>> },
}

impl<J: Send + 'static, R: Send + 'static> Lane<J, R> {
    /// A lane of so many threads; with none, it is [`inline`](Self::inline).
    pub fn new(thread_count: usize, work: impl Fn(J) -> R + Send + Sync + 'static) -> Self {
        if thread_count == 0 { Self::inline(work) } else { Self::threaded(thread_count, work) }
    }

    /// Does each job when it is submitted.
    pub fn inline(work: impl Fn(J) -> R + Send + 'static) -> Self {
        Self(Kind::Inline { work: Box::new(work), done: Vec::new() })
    }

    /// Does jobs in `thread_count` threads; at most one more job waits for them.
    pub fn threaded(thread_count: usize, work: impl Fn(J) -> R + Send + Sync + 'static) -> Self {
        let (jobs, job_receiver) = sync_channel(1);
        let (result_sender, results) = channel();
        let job_receiver = Arc::new(Mutex::new(job_receiver));
        let work = Arc::new(work);
        let threads = (0..thread_count).map(|_| {
            let (jobs, results, work) = (Arc::clone(&job_receiver), result_sender.clone(), Arc::clone(&work));
            thread::spawn(move || run(&jobs, &results, &*work))
        });
        Self(Kind::Threaded { jobs, results, threads: threads.collect() })
    }

    /// Hands a job over, waiting while the lane is full.
    pub fn submit(&mut self, job: J) {
        match &mut self.0 {
            Kind::Inline { work, done } => done.push(work(job)),
            Kind::Threaded { jobs, .. } => {
                // A lane whose threads are gone has panicked; `finish` says so.
                let _ = jobs.send(job);
            }
        }
    }

    /// The results that are there by now.
    pub fn completed(&mut self) -> Vec<R> {
        match &mut self.0 {
            Kind::Inline { done, .. } => std::mem::take(done),
            Kind::Threaded { results, .. } => results.try_iter().collect(),
        }
    }

    /// Waits for all jobs and returns the results not yet taken.
    ///
    /// # Panics
    /// When a job has panicked.
    pub fn finish(self) -> Vec<R> {
        match self.0 {
            Kind::Inline { done, .. } => done,
            Kind::Threaded { jobs, results, threads } => {
                drop(jobs);
                let done = results.iter().collect();
                for thread in threads {
                    if let Err(panic) = thread.join() {
                        std::panic::resume_unwind(panic);
                    }
                }
                done
            }
        }
    }
}

/// Does the same for each item, up to `concurrency` at a time, or in the caller's thread if that is less than 2. The results are in the items' order.
pub fn concurrently<T: Sync, R: Send>(concurrency: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if concurrency < 2 || items.len() < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<Option<R>>> = Mutex::new(items.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..concurrency.min(items.len()) {
            scope.spawn(|| {
                while let Some((at, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, items.get(at)?)))
                {
                    let result = work(item);
                    results.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().map(|result| result.expect("BUG: every item was done")).collect()
}

fn run<J, R>(jobs: &Mutex<Receiver<J>>, results: &Sender<R>, work: &impl Fn(J) -> R) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if results.send(work(job)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_return_every_result() {
        for mut lane in [Lane::inline(|n: u32| n * 2), Lane::threaded(2, |n: u32| n * 2)] {
            let mut results = Vec::new();
            for n in 0..20 {
                lane.submit(n);
                results.extend(lane.completed());
            }
            results.extend(lane.finish());
            results.sort_unstable();
            assert_eq!(results, (0..20).map(|n| n * 2).collect::<Vec<_>>());
        }
    }
}
