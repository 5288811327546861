//! A lane of work beside the caller's: jobs go in, results come out in order of completion.
//!
//! The core has no threads of its own; it submits jobs to a lane that the edge made. A lane [`inline`](Lane::inline) does each job
//! at once in the caller's thread, so a simulation stays deterministic; a [`threaded`](Lane::threaded) one overlaps
//! sealing and I/O with the work that feeds it, and its queue is short, so memory stays bounded.
//!
//! A lane that is dropped stops: a job that has not begun is not done, one that runs ends by itself, and nobody waits for it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What becomes of a job: a result, or its panic.
type Ended<R> = Result<R, Box<dyn Any + Send>>;

/// See the module documentation.
pub struct Lane<J, R> {
    kind: Kind<J, R>,
    /// Jobs whose results were not taken yet.
    in_flight: usize,
}

enum Kind<J, R> {
    Inline { work: Box<dyn Fn(J) -> R + Send>, done: Vec<R> },
    Threaded(Threads<J, R>),
}

struct Threads<J, R> {
    /// `None` once no more jobs come.
    jobs: Option<SyncSender<J>>,
    results: Receiver<Ended<R>>,
    threads: Vec<JoinHandle<()>>,
    stopped: Arc<AtomicBool>,
}

impl<J: Send + 'static, R: Send + 'static> Lane<J, R> {
    /// A lane of so many threads; with none, it is [`inline`](Self::inline).
    pub fn new(thread_count: usize, work: impl Fn(J) -> R + Send + Sync + 'static) -> Self {
        if thread_count == 0 { Self::inline(work) } else { Self::threaded(thread_count, work) }
    }

    /// Does each job when it is submitted.
    pub fn inline(work: impl Fn(J) -> R + Send + 'static) -> Self {
        Self { kind: Kind::Inline { work: Box::new(work), done: Vec::new() }, in_flight: 0 }
    }

    /// Does jobs in `thread_count` threads; at most one more job waits for them.
    pub fn threaded(thread_count: usize, work: impl Fn(J) -> R + Send + Sync + 'static) -> Self {
        let (jobs, job_receiver) = sync_channel(1);
        let (result_sender, results) = channel();
        let job_receiver = Arc::new(Mutex::new(job_receiver));
        let (work, stopped) = (Arc::new(work), Arc::new(AtomicBool::new(false)));
        let threads = (0..thread_count).map(|_| {
            let (jobs, results) = (Arc::clone(&job_receiver), result_sender.clone());
            let (work, stopped) = (Arc::clone(&work), Arc::clone(&stopped));
            thread::spawn(move || run(&jobs, &results, &*work, &stopped))
        });
        let threads = threads.collect();
        Self { kind: Kind::Threaded(Threads { jobs: Some(jobs), results, threads, stopped }), in_flight: 0 }
    }

    /// How many jobs can be in flight without [`submit`](Self::submit) waiting for a thread.
    pub fn width(&self) -> usize {
        match &self.kind {
            Kind::Inline { .. } => 1,
            Kind::Threaded(lane) => lane.threads.len() + 1,
        }
    }

    /// Jobs that were submitted and whose results were not taken yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Hands a job over, waiting while the lane is full.
    pub fn submit(&mut self, job: J) {
        self.in_flight += 1;
        match &mut self.kind {
            Kind::Inline { work, done } => done.push(work(job)),
            Kind::Threaded(lane) => {
                let sent = lane.jobs.as_ref().map(|jobs| jobs.send(job));
                debug_assert!(matches!(sent, Some(Ok(()))), "BUG: threads live as long as their lane");
            }
        }
    }

    /// The results that are there by now.
    ///
    /// # Panics
    /// When a job has panicked.
    pub fn completed(&mut self) -> Vec<R> {
        let done: Vec<R> = match &mut self.kind {
            Kind::Inline { done, .. } => std::mem::take(done),
            Kind::Threaded(lane) => lane.results.try_iter().map(result).collect(),
        };
        self.in_flight -= done.len();
        done
    }

    /// The next result, if it comes within `patience`; with nothing in flight, none does.
    ///
    /// # Panics
    /// When the job has panicked.
    pub fn wait(&mut self, patience: Duration) -> Option<R> {
        if self.in_flight == 0 {
            return None;
        }
        let done = match &mut self.kind {
            Kind::Inline { done, .. } => (!done.is_empty()).then(|| done.remove(0)),
            Kind::Threaded(lane) => match lane.results.recv_timeout(patience) {
                Ok(ended) => Some(result(ended)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
            },
        };
        self.in_flight -= usize::from(done.is_some());
        done
    }

    /// Waits for all jobs and returns the results not yet taken.
    ///
    /// # Panics
    /// When a job has panicked.
    pub fn finish(mut self) -> Vec<R> {
        match &mut self.kind {
            Kind::Inline { done, .. } => std::mem::take(done),
            Kind::Threaded(lane) => {
                lane.jobs = None;
                let done = lane.results.iter().map(result).collect();
                for thread in lane.threads.drain(..) {
                    if let Err(panic) = thread.join() {
                        resume_unwind(panic);
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

impl<J, R> Drop for Threads<J, R> {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// A job's panic goes on in the thread that waits for it.
fn result<R>(ended: Ended<R>) -> R {
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

fn run<J, R>(jobs: &Mutex<Receiver<J>>, results: &Sender<Ended<R>>, work: &impl Fn(J) -> R, stopped: &AtomicBool) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        // What a job shares with others is behind locks that are never left poisoned.
        if results.send(catch_unwind(AssertUnwindSafe(|| work(job)))).is_err() {
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
            results.extend(lane.wait(Duration::from_secs(60)));
            results.extend(lane.finish());
            results.sort_unstable();
            assert_eq!(results, (0..20).map(|n| n * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn jobs_run_at_once_and_their_results_can_be_waited_for() {
        let barrier = std::sync::Barrier::new(3);
        let mut lane = Lane::threaded(3, move |()| _ = barrier.wait());
        (0..3).for_each(|_| lane.submit(()));
        let waited: Vec<()> = std::iter::from_fn(|| lane.wait(Duration::from_secs(60))).collect();
        assert_eq!((waited.len(), lane.in_flight(), lane.width()), (3, 0, 4));
    }

    #[test]
    fn a_dropped_lane_begins_no_further_job() {
        let (begun, release) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(())));
        let held = release.lock().expect("BUG: it is free");
        let (count, gate) = (Arc::clone(&begun), Arc::clone(&release));
        let mut lane = Lane::threaded(1, move |()| {
            *count.lock().expect("BUG: it is free") += 1;
            drop(gate.lock());
        });
        lane.submit(());
        while *begun.lock().expect("BUG: it is free") == 0 {
            thread::yield_now();
        }
        lane.submit(());
        drop(lane);
        drop(held);
        // The lane's thread has let go of everything when it ends.
        while Arc::strong_count(&begun) > 1 {
            thread::yield_now();
        }
        assert_eq!(*begun.lock().expect("BUG: it is free"), 1);
    }

    #[test]
    #[should_panic(expected = "a job's own")]
    fn the_panic_of_a_job_reaches_whoever_waits() {
        let mut lane = Lane::threaded(2, |()| panic!("a job's own"));
        lane.submit(());
        lane.wait(Duration::from_secs(60));
    }
}
