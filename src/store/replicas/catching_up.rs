//! Brings a destination that is behind up to date: does what it lacks, in order, with bytes from the others.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::base::error_text::with_causes;
use crate::base::id::ObjectHash;
use crate::format::name::ObjectName;
use crate::format::pack::MAX_PACK_BYTES;
use crate::monitor::Event;

use super::super::{Creation, Store, StoreError};
use super::backlog::{Owed, Turn};
use super::{Shared, Waits};

/// How often what was done is taken out of the backlog: it is a file that is written anew. After a kill, what was done since is done once more.
const KEPT: Duration = Duration::from_secs(5);

impl Shared {
    /// Notes what a destination lacks; a thread does it once the destination answers.
    pub(super) fn owe(self: &Arc<Self>, at: usize, owed: &Owed) {
        let destination = &self.destinations[at];
        if destination.backlog.is_empty() {
            let why = match destination.health.error() {
                _ if self.is_absent(at) => "there is no repository; `continuum sync` makes it one".to_owned(),
                Some(error) => error,
                None => "it did not take a write".to_owned(),
            };
            self.notice(format!("{} is behind: {why}", destination.location()));
        }
        destination.backlog.add(owed);
        self.keep_up(at);
    }

    /// Begins a thread that brings a destination up to date, if none does and there may be any.
    pub(super) fn keep_up(self: &Arc<Self>, at: usize) {
        if !self.is_inline && !self.destinations[at].is_kept_up.swap(true, Ordering::SeqCst) {
            let (shared, waits) = (Arc::downgrade(self), self.waits);
            thread::spawn(move || run(&shared, at, waits));
        }
    }

    /// Does what a destination lacks, unless another thread or process is at it; that counts as not done.
    pub(super) fn try_to_catch_up(&self, at: usize, goes_on: &dyn Fn() -> bool) -> Result<(), StoreError> {
        let turn = self.destinations[at].backlog.try_turn();
        let busy = || self.hindrance(at, "another thread or process is bringing it up to date");
        self.catch_up(at, turn.ok_or_else(busy)?, goes_on)
    }

    /// Does what a destination lacks, until nothing is left, it fails, or it is not to go on.
    pub(super) fn catch_up(&self, at: usize, turn: Turn<'_>, goes_on: &dyn Fn() -> bool) -> Result<(), StoreError> {
        let destination = &self.destinations[at];
        let mut something = false;
        loop {
            let pending = turn.pending();
            if pending.is_empty() {
                break;
            }
            something = true;
            let result = self.do_all(at, &turn, &pending, goes_on);
            if let Err(error) = &result {
                self.say_why_not(at, error);
            }
            result?;
        }
        if something {
            destination.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
            self.notice(format!("{} has caught up", destination.location()));
        }
        Ok(())
    }

    fn do_all(
        &self,
        at: usize,
        turn: &Turn<'_>,
        pending: &[Option<Owed>],
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), StoreError> {
        self.require_repository(at, pending)?;
        let deletions = pending.iter().flatten().filter(|owed| matches!(owed, Owed::Delete(_)));
        let deleted: HashSet<&ObjectName> = deletions.map(Owed::name).collect();
        let (mut done, mut kept) = (0, self.timer.elapsed());
        let result = pending.iter().try_for_each(|owed| {
            if !goes_on() {
                return Err(self.hindrance(at, "interrupted"));
            }
            match owed {
                // What came of it all the same, the deletion takes away.
                Some(Owed::Create(name)) if deleted.contains(name) => {}
                Some(owed) => self.do_one(at, owed)?,
                None => {}
            }
            done += 1;
            if self.timer.elapsed().saturating_sub(kept) >= KEPT {
                turn.done(done);
                (done, kept) = (0, self.timer.elapsed());
            }
            Ok(())
        });
        turn.done(done);
        result
    }

    /// A place without a config is a disk that is not mounted, or is to be filled by a sync, which copies the config last. Only one that was away when the
    /// repository was made gets its config as everything else.
    fn require_repository(&self, at: usize, pending: &[Option<Owed>]) -> Result<(), StoreError> {
        let config = Owed::Create(ObjectName::config());
        if self.destinations[at].look_for_config()? || pending.iter().flatten().any(|owed| *owed == config) {
            return Ok(());
        }
        for other in self.destinations.iter().filter(|other| other.has_config().is_none()) {
            // One that is away tells nothing.
            let _ = other.look_for_config();
        }
        if !self.is_made() {
            return Ok(());
        }
        Err(self.hindrance(
            at,
            "there is no repository: is a disk not mounted? if it is a new destination, run `continuum sync`",
        ))
    }

    fn do_one(&self, at: usize, owed: &Owed) -> Result<(), StoreError> {
        let destination = &self.destinations[at];
        let Owed::Create(name) = owed else {
            return destination.write(owed, &[]).map(|_| ());
        };
        // Without any copy, it was deleted everywhere meanwhile.
        let Some(bytes) = self.read_good(name, Some(at))? else { return Ok(()) };
        let is_ours = match destination.create(name, &bytes)? {
            Creation::New => true,
            Creation::Exists => name.hash().is_some() || destination.holds(name, &bytes)?,
        };
        if !is_ours {
            let location = destination.location();
            self.notice(format!(
                "{location} holds another {name} than the other destinations; `continuum sync` shows what differs"
            ));
        }
        Ok(())
    }

    /// An object, from any destination but the one that lacks it. Where its name does not tell whether a copy is right, a second one must agree, or the only one when it is read again: damage
    /// must not spread.
    pub(super) fn read_good(&self, name: &ObjectName, lacks: Option<usize>) -> Result<Option<Vec<u8>>, StoreError> {
        let (mut found, mut failed): (Option<(usize, Vec<u8>)>, _) = (None, None);
        for other in self.fastest_first().into_iter().filter(|&other| Some(other) != lacks) {
            let copy = self.destinations[other].read(name, MAX_PACK_BYTES);
            match (copy, &found) {
                (Ok(bytes), _) if name.hash().is_some_and(|hash| hash != ObjectHash::of(&bytes)) => {
                    failed = Some(self.damaged(other, name));
                }
                (Ok(bytes), None) if name.hash().is_some() => return Ok(Some(bytes)),
                (Ok(bytes), None) => found = Some((other, bytes)),
                (Ok(bytes), Some((_, first))) if bytes == *first => return Ok(Some(bytes)),
                (Ok(_), Some((first, _))) => {
                    let location = |at: usize| self.destinations[at].location();
                    return Err(StoreError::Conflict {
                        name: name.clone(),
                        first: location(*first),
                        second: location(other),
                    });
                }
                (Err(StoreError::NotFound { .. }), _) => {}
                (Err(error), _) => failed = Some(error),
            }
        }
        match (found, failed) {
            (Some((other, bytes)), _) if self.destinations[other].holds(name, &bytes)? => Ok(Some(bytes)),
            (Some((other, _)), _) => Err(self.damaged(other, name)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    fn damaged(&self, at: usize, name: &ObjectName) -> StoreError {
        let location = self.destinations[at].location();
        let source = io::Error::new(io::ErrorKind::InvalidData, "it is damaged");
        StoreError::Io { location, action: "read", name: name.to_string(), source }
    }

    fn hindrance(&self, at: usize, why: &'static str) -> StoreError {
        let location = self.destinations[at].location();
        StoreError::Unavailable {
            location,
            action: "bring up to date",
            name: "it".to_owned(),
            source: io::Error::other(why),
        }
    }

    /// Once for each reason. That there is no repository was said when it came to be behind.
    fn say_why_not(&self, at: usize, error: &StoreError) {
        if self.is_absent(at) {
            return;
        }
        let destination = &self.destinations[at];
        let text = with_causes(error);
        let mut said = destination.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != text {
            self.notice(format!("{} stays behind: {text}", destination.location()));
            *said = text;
        }
    }

    pub(super) fn notice(&self, text: String) {
        self.monitor.event(Event::Notice(text));
    }
}

/// Ends when the destination has caught up, or nobody uses the destinations any more.
fn run(shared: &Weak<Shared>, at: usize, waits: Waits) {
    let mut pause = waits.catch_up.0;
    loop {
        thread::sleep(pause);
        let Some(shared) = shared.upgrade() else { return };
        let caught_up = shared.try_to_catch_up(at, &|| !shared.monitor.is_cancelled()).is_ok();
        let destination = &shared.destinations[at];
        if destination.backlog.is_empty() {
            destination.is_kept_up.store(false, Ordering::SeqCst);
            // What came in between would have found this thread still there.
            if destination.backlog.is_empty() || destination.is_kept_up.swap(true, Ordering::SeqCst) {
                return;
            }
        }
        pause = if caught_up { waits.catch_up.0 } else { (pause * 2).min(waits.catch_up.1) };
    }
}
