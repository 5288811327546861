//! Writes a watcher's journal: one object a flush, in order, beside the capturing.
//!
//! Objects that the destination does not take wait in memory, in order, and are tried again. They are sealed once: a retry sends the same bytes under the same name,
//! so one that had arrived after all is met as itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::error_text::with_causes;
use crate::base::id::WriterId;
use crate::chunk::codec::{self, Compression};
use crate::format::delta;
use crate::format::journal::{JournalObject, JournalPart, MAX_JOURNAL_BYTES};
use crate::format::name::ObjectName;
use crate::repo::{Repository, journal};
use crate::store::lane::Lane;
use crate::store::{Creation, StoreError};

pub use super::database::Pending;

/// Records of one part, before compression; more begin another part.
const PART_BYTES: u64 = 1 << 20;

/// Journal records are many small runs of a kind: a level higher than for pages costs little and saves a tenth.
const COMPRESSION: Compression = Compression::Zstd(3);

/// How long to wait before an object is sent again.
const RETRY: Duration = Duration::from_secs(1);

/// What is acknowledged when an object is durable: the database's name, and its last commit.
pub type Acknowledgement = (String, u64);

/// An object on its way.
type Sending = (ObjectName, Arc<Vec<u8>>);

struct Object {
    sequence: u64,
    bytes: Arc<Vec<u8>>,
    acknowledges: Vec<Acknowledgement>,
}

/// See the module documentation.
pub struct JournalWriter {
    repository: Repository,
    writer: WriterId,
    next_sequence: u64,
    waiting: VecDeque<Object>,
    sending: bool,
    retry_at: Option<Instant>,
    lane: Lane<Sending, Result<Creation, StoreError>>,
    /// The first object that has not been deleted.
    first_kept: u64,
    /// Bytes of all objects so far.
    pub sent_bytes: u64,
    /// Objects so far.
    pub sent_count: u64,
    /// What the destination said last, if it refused.
    pub last_error: Option<String>,
}

impl JournalWriter {
    /// The journal of `writer`, which nobody else writes.
    pub fn new(repository: &Repository, writer: WriterId) -> Self {
        let store = repository.clone();
        let send = move |(name, bytes): Sending| store.store().create(&name, &bytes);
        let lane = Lane::new(repository.environment().upload_threads.min(1), send);
        Self {
            repository: repository.clone(),
            writer,
            next_sequence: 1,
            waiting: VecDeque::new(),
            sending: false,
            retry_at: None,
            lane,
            first_kept: 1,
            sent_bytes: 0,
            sent_count: 0,
            last_error: None,
        }
    }

    /// Queues what databases have captured. Returns whether that was anything.
    pub fn write<'a>(&mut self, pending: impl Iterator<Item = Pending<'a>>) -> bool {
        let first_sequence = self.next_sequence;
        let (mut flush, mut bytes, mut acknowledges) = (JournalObject::default(), 0, Vec::new());
        for Pending { base, name, steps } in pending {
            let mut rest = steps;
            while !rest.is_empty() {
                let mut record_bytes = 0;
                let mut fits = |step: &delta::StepPart| {
                    record_bytes += step.record_bytes() + delta::STEP_BYTES as u64;
                    record_bytes <= PART_BYTES
                };
                let count = rest.iter().take_while(|step| fits(step)).count().max(1);
                let (steps, tail) = rest.split_at(count);
                rest = tail;
                let segment = codec::encode(&delta::whole_segment(steps), COMPRESSION);
                let (first_commit, last_commit) = (steps[0].state.commit, steps[count - 1].state.commit);
                bytes += segment.len();
                flush.parts.push(JournalPart { database: name.to_owned(), base, first_commit, last_commit, segment });
                acknowledges.push((name.to_owned(), last_commit));
                if bytes > MAX_JOURNAL_BYTES / 2 {
                    self.queue(&std::mem::take(&mut flush), std::mem::take(&mut acknowledges));
                    bytes = 0;
                }
            }
        }
        if !flush.parts.is_empty() {
            self.queue(&flush, acknowledges);
        }
        self.next_sequence > first_sequence
    }

    fn queue(&mut self, flush: &JournalObject, acknowledges: Vec<Acknowledgement>) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let bytes = Arc::new(journal::seal(&self.repository, self.writer, sequence, flush));
        self.waiting.push_back(Object { sequence, bytes, acknowledges });
    }

    /// Sends the next object if none is under way; returns what is durable since the last call.
    pub fn advance(&mut self, now: Instant) -> Vec<Acknowledgement> {
        let mut acknowledged = Vec::new();
        for result in self.lane.completed() {
            self.sending = false;
            match result {
                Ok(Creation::New | Creation::Exists) => {
                    self.last_error = None;
                    if let Some(object) = self.waiting.pop_front() {
                        self.sent_bytes += object.bytes.len() as u64;
                        self.sent_count += 1;
                        acknowledged.extend(object.acknowledges);
                    }
                }
                Err(error) => {
                    self.last_error = Some(with_causes(&error));
                    self.retry_at = Some(now + RETRY);
                }
            }
        }
        if !self.sending
            && self.retry_at.is_none_or(|retry_at| retry_at <= now)
            && let Some(object) = self.waiting.front()
        {
            self.retry_at = None;
            self.sending = true;
            self.lane.submit((ObjectName::journal(self.writer, object.sequence), Arc::clone(&object.bytes)));
        }
        acknowledged
    }

    /// Bytes that wait for the destination.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting.iter().map(|object| object.bytes.len() as u64).sum()
    }

    /// Whether everything was sent.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Drops what waits and is not under way: a fold has stored it otherwise.
    pub fn drop_waiting(&mut self) {
        self.waiting.truncate(usize::from(self.sending));
    }

    /// Deletes all objects that were sent: the timelines hold all that is in them. One that stays because that fails is met by the next watcher.
    pub fn delete_folded(&mut self) -> Result<(), StoreError> {
        let end = self.waiting.front().map_or(self.next_sequence, |object| object.sequence);
        while self.first_kept < end {
            self.repository.store().delete(&ObjectName::journal(self.writer, self.first_kept))?;
            self.first_kept += 1;
        }
        Ok(())
    }
}
