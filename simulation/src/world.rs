//! The world of one run: the objects, the time, whose turn it is, and what goes wrong.
//!
//! Every request of an actor is a point where the turn may go to another, where the actor may be killed or stand still, and where the request may fail: before its
//! effect, after it, or with an effect that comes much later. Only the actor that has the turn touches the world, so the same seed gives the same run.

mod copies;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use continuum::base::id::ObjectHash;
use continuum::format::name::{Folder, ObjectName};
use continuum::repo::Repository;
use continuum::store::{Creation, Listed};

use crate::database::Database;
use crate::failure::Verdict;
use crate::place::{Ghost, Object, Place};
use crate::plan::{Plan, SECOND};
use crate::plant::Plant;
use crate::random::Random;
use crate::record::{Counts, Trace, Tracing};
use crate::truth::Truth;
use crate::turns::Turns;

/// By how much a clock may be wrong that does not jump.
pub const MOST_SKEW: i64 = 10 * SECOND;

/// What an actor is unwound with that is killed.
pub struct Killed;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It works.
    Works,
    /// It fails and has no effect.
    FailsBefore,
    /// It has its effect, and fails.
    FailsAfter,
    /// It fails, and has its effect later.
    FailsLate,
    /// A read gives less than it should.
    Short,
}

/// See the module documentation.
pub struct World {
    /// What the seed decided.
    pub plan: Plan,
    /// The databases that are backed up.
    pub databases: Vec<Database>,
    /// Opens what was written.
    pub repository: Repository,
    turns: Arc<Turns>,
    state: Mutex<State>,
}

struct State {
    random: Random,
    step: u64,
    now: i64,
    actors: Vec<Actor>,
    /// The destinations; most of the time there is one.
    places: Vec<Place>,
    /// Of several destinations: the entries of timelines that as many have as must have what is acknowledged.
    chosen: BTreeMap<ObjectName, blake3::Hash>,
    /// What the one that meets with a disaster held once.
    earlier: Option<BTreeMap<ObjectName, Object>>,
    is_disaster_over: bool,
    late: Vec<Late>,
    /// What a clock may have shown by now, if it is no more wrong than clocks are.
    latest: i64,
    truth: Truth,
    violation: Option<String>,
    /// From now on nothing fails.
    is_calm: bool,
    /// Nobody but the steward is at work.
    is_ending: bool,
    trace: Trace,
    counts: Counts,
}

struct Actor {
    is_done: bool,
    is_doomed: bool,
    /// It stands still until that step.
    frozen_until: u64,
    /// It waits until that time.
    sleeps_until: i64,
    /// The latest time that its clock has shown.
    clock: i64,
    /// Trouble that it had in this operation.
    troubles: u64,
}

struct Late {
    at_step: u64,
    place: usize,
    name: ObjectName,
    /// `None` deletes.
    bytes: Option<Arc<Vec<u8>>>,
    clock: i64,
}

impl World {
    /// A world before anything happens, with the objects of a new repository. `parts` actors have turns; the last one only when all others have ended.
    pub fn new(
        plan: Plan,
        repository: &Repository,
        begin: &[(ObjectName, Vec<u8>)],
        turns: Arc<Turns>,
        tracing: Tracing,
    ) -> Self {
        let mut random = Random::new(plan.seed, 2);
        let database = |number| {
            let pages = random.between(2, plan.most_pages);
            Database::new(number, plan.page_size, pages, &mut random)
        };
        let databases = (0..plan.databases).map(database).collect();
        let object = |(name, bytes): &(ObjectName, Vec<u8>)| {
            (name.clone(), Object { bytes: Arc::new(bytes.clone()), shows_from: i64::MIN, clock: 0 })
        };
        let place_count = plan.mirror.as_ref().map_or(1, |mirror| mirror.destinations);
        let place = |_| Place { objects: begin.iter().map(object).collect(), ghosts: BTreeMap::new() };
        let actor =
            |_| Actor { is_done: false, is_doomed: false, frozen_until: 0, sleeps_until: 0, clock: 0, troubles: 0 };
        let state = State {
            random: Random::new(plan.seed, 3),
            step: 0,
            now: 1000 * SECOND,
            actors: (0..=plan.actors.len()).map(actor).collect(),
            places: (0..place_count).map(place).collect(),
            chosen: BTreeMap::new(),
            earlier: None,
            is_disaster_over: false,
            late: Vec::new(),
            latest: 0,
            truth: Truth::new(repository.clone()),
            violation: None,
            is_calm: false,
            is_ending: false,
            trace: Trace::new(tracing),
            counts: Counts::default(),
        };
        Self { plan, databases, repository: repository.clone(), turns, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request is about to be made: others may have their turns before it. Says what becomes of it.
    pub fn request(&self, me: usize, place: usize, action: &'static str, name: &str) -> Fate {
        self.pass(me);
        let mut state = self.state();
        state.counts.requests += 1;
        let fate = state.fate(&self.plan, place, action);
        if fate != Fate::Works {
            state.counts.faults += 1;
            state.actors[me].troubles += 1;
        }
        let (step, now) = (state.step, state.now);
        let at = at(place);
        state.trace.note(|| format!("{step} {now} actor {me} {action} {name}{at} {fate:?}"));
        fate
    }

    /// Lets others have their turns. Does not return if the actor is killed.
    pub fn pass(&self, me: usize) {
        let next = {
            let mut state = self.state();
            state.advance(&self.plan);
            state.afflict(me, &self.plan);
            state.next(me, &self.plan)
        };
        if next != me {
            self.turns.give(Some(next));
            self.turns.wait(me);
        }
        if self.state().actors[me].is_doomed {
            resume_unwind(Box::new(Killed));
        }
    }

    /// The actor may be killed between the effect of a request and what it does next.
    pub fn after_effect(&self, me: usize) {
        let is_killed = {
            let mut state = self.state();
            let per_10_000 = if state.is_calm { 0 } else { self.plan.crashing };
            let is_killed = state.random.below(10_000) < per_10_000;
            if is_killed {
                state.kill(me);
            }
            is_killed
        };
        if is_killed {
            resume_unwind(Box::new(Killed));
        }
    }

    /// Stands still for so many steps, while others go on.
    pub fn stand_still(&self, me: usize, steps: u64) {
        let mut state = self.state();
        state.actors[me].frozen_until = state.step + steps;
        drop(state);
        self.pass(me);
    }

    /// Waits so many microseconds.
    pub fn sleep(&self, me: usize, micros: i64) {
        let mut state = self.state();
        let until = state.now.saturating_add(micros);
        state.actors[me].sleeps_until = until;
        if me + 1 == state.actors.len() {
            state.now = until;
        }
        drop(state);
        self.pass(me);
    }

    /// The actor begins an operation.
    pub fn begin(&self, me: usize, what: &str) {
        let mut state = self.state();
        state.actors[me].troubles = 0;
        state.actors[me].clock = 0;
        let step = state.step;
        state.trace.note(|| format!("{step} actor {me} begins: {what}"));
    }

    /// The actor's operation has ended.
    pub fn end(&self, me: usize, outcome: &Result<(), String>) {
        let mut state = self.state();
        match outcome {
            Ok(()) => state.counts.done += 1,
            Err(_) => state.counts.failed += 1,
        }
        let step = state.step;
        let rest = state.random.below(30);
        state.actors[me].frozen_until = step + rest;
        state.trace.note(|| match outcome {
            Ok(()) => format!("{step} actor {me} is done"),
            Err(error) => format!("{step} actor {me} failed: {error}"),
        });
    }

    /// Whether a destination is away now.
    pub fn is_away(&self, place: usize) -> bool {
        let step = self.state().step;
        self.plan.mirror.iter().flat_map(|mirror| &mirror.away).any(|(of, steps)| *of == place && steps.contains(&step))
    }

    /// Whether the end has begun.
    pub fn is_ending(&self) -> bool {
        self.state().is_ending
    }

    /// Whether a request of the actor's operation failed.
    pub fn had_trouble(&self, me: usize) -> bool {
        self.state().actors[me].troubles > 0
    }

    /// The actor was killed, and is there again after a while, as another process on the same machine.
    pub fn restart(&self, me: usize) {
        let mut state = self.state();
        let pause = state.random.between(1, 80);
        let step = state.step;
        let actor = &mut state.actors[me];
        actor.is_doomed = false;
        actor.frozen_until = step + pause;
    }

    /// Whether actors are to end.
    pub fn is_over(&self) -> bool {
        let state = self.state();
        state.violation.is_some() || state.step >= self.plan.steps
    }

    /// The actor ends for good; others go on. Returns who.
    pub fn leave(&self, me: usize) {
        let next = {
            let mut state = self.state();
            state.actors[me].is_done = true;
            let last = state.actors.len() - 1;
            if me == last { None } else { Some(state.next(me, &self.plan)) }
        };
        self.turns.give(next);
    }

    /// Faults stop, and what was late arrives.
    pub fn calm_down(&self) {
        let mut state = self.state();
        (state.is_calm, state.is_ending) = (true, true);
        for late in std::mem::take(&mut state.late) {
            state.take_effect(&self.plan, late);
        }
        state.now += 2 * self.plan.list_lag + 1;
    }

    /// The time.
    pub fn now(&self) -> i64 {
        self.state().now
    }

    /// The time on an actor's clock.
    pub fn clock(&self, me: usize, skew: i64) -> i64 {
        let mut state = self.state();
        let jumps = self.plan.clock_jumps;
        let jump = if jumps > 0 && !state.is_calm { state.random.below(2 * jumps as u64) as i64 - jumps } else { 0 };
        let clock = state.now + skew + jump;
        let actor = &mut state.actors[me];
        actor.clock = actor.clock.max(clock);
        clock
    }

    /// A number for the randomness of an operation.
    pub fn number(&self) -> u64 {
        self.state().random.number()
    }

    /// Creates an object unless it is there.
    pub fn create(&self, me: usize, place: usize, name: &ObjectName, bytes: &[u8]) -> Creation {
        let mut state = self.state();
        let clock = state.actors[me].clock;
        if self.plan.plant == Some(Plant::EntriesOverwritten) && name.timeline().is_some() {
            state.delete_at_once(&self.plan, place, name);
        }
        state.create(&self.plan, place, name, Arc::new(bytes.to_vec()), clock)
    }

    /// Creates an object, or deletes it, much later.
    pub fn later(&self, me: usize, place: usize, name: &ObjectName, bytes: Option<&[u8]>) {
        let mut state = self.state();
        let at_step = state.step + state.random.between(1, 400);
        let (name, bytes, clock) = (name.clone(), bytes.map(|bytes| Arc::new(bytes.to_vec())), state.actors[me].clock);
        state.late.push(Late { at_step, place, name, bytes, clock });
    }

    /// An object's bytes.
    pub fn read(&self, place: usize, name: &ObjectName) -> Option<Arc<Vec<u8>>> {
        self.state().places[place].objects.get(name).map(|object| Arc::clone(&object.bytes))
    }

    /// What a listing shows.
    pub fn list(&self, place: usize, folder: Folder) -> Vec<Listed> {
        let mut state = self.state();
        let now = state.now;
        state.places[place].list(now, &folder.prefix())
    }

    /// Deletes an object.
    pub fn delete(&self, place: usize, name: &ObjectName) {
        self.state().delete(&self.plan, place, name);
    }

    /// Puts other bytes in the place of an object of one destination, or takes it away, behind everybody's back.
    pub fn damage(&self, place: usize, name: &ObjectName, bytes: Option<Vec<u8>>) {
        let mut state = self.state();
        match bytes {
            Some(bytes) => {
                let object = state.places[place].objects.get_mut(name).expect("BUG: what is damaged is there");
                object.bytes = Arc::new(bytes);
            }
            None => _ = state.places[place].objects.remove(name),
        }
    }

    /// The names of all objects of the first destination.
    pub fn names(&self) -> Vec<ObjectName> {
        self.state().places[0].objects.keys().cloned().collect()
    }

    /// A snapshot was acknowledged: of several destinations as many have all of it as were promised, unless one has met with a disaster.
    pub fn require_durable(&self, id: ObjectHash) {
        let (Some(mirror), mut state) = (&self.plan.mirror, self.state()) else { return };
        if state.is_disaster_over {
            return;
        }
        for (chunk, packs) in state.truth.homes(id).unwrap_or_default() {
            let is_home = |(pack, segments): (&ObjectName, &Vec<ObjectName>)| {
                state.spread(std::slice::from_ref(pack)).min(state.spread(segments)) >= mirror.needed()
            };
            if !packs.iter().any(is_home) {
                let needed = mirror.needed();
                state.violate(format!(
                    "snapshot {id} was acknowledged, and fewer than {needed} destinations have chunk {chunk}"
                ));
                return;
            }
        }
    }

    /// The same of a commit that is in a journal, or was folded since.
    pub fn require_durable_commit(&self, base: ObjectHash, commit: u64) {
        let (Some(mirror), mut state) = (&self.plan.mirror, self.state()) else { return };
        let journals = state.truth.journals_of(base, commit);
        if !journals.is_empty() && !state.is_disaster_over && state.spread(&journals) < mirror.needed() {
            state.violate(format!("commit {commit} was acknowledged, and {} has it alone", journals[0]));
        }
    }

    /// All destinations hold the same objects.
    pub fn require_same(&self) -> Verdict {
        let state = self.state();
        let names: BTreeSet<&ObjectName> = state.places.iter().flat_map(|place| place.objects.keys()).collect();
        for name in names {
            let forms: BTreeSet<Option<&[u8]>> = state
                .places
                .iter()
                .map(|place| place.objects.get(name).map(|object| object.bytes.as_slice()))
                .collect();
            if forms.len() > 1 {
                return Err(format!("the destinations do not hold the same {name}"));
            }
        }
        Ok(())
    }

    /// Asks the truth, or tells it. Its verdict ends the run.
    pub fn with_truth<T>(&self, ask: impl FnOnce(&mut Truth) -> Result<T, String>) -> Option<T> {
        let mut state = self.state();
        let answer = ask(&mut state.truth);
        match answer {
            Ok(answer) => Some(answer),
            Err(what) => {
                state.violate(what);
                None
            }
        }
    }

    /// Something is wrong: the run ends.
    pub fn violate(&self, what: String) {
        self.state().violate(what);
    }

    /// What was wrong first.
    pub fn violation(&self) -> Option<String> {
        self.state().violation.clone()
    }

    /// Notes something for those who read the trace.
    pub fn note(&self, line: impl FnOnce() -> String) {
        let mut state = self.state();
        let step = state.step;
        state.trace.note(|| format!("{step} {}", line()));
    }

    /// Changes what was counted.
    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.state().counts);
    }

    /// What was counted, the hash of everything that happened, and, if they were kept, its lines.
    pub fn summary(&self) -> (Counts, String, Vec<String>) {
        let mut state = self.state();
        let (hash, lines) = state.trace.take();
        (state.counts, hash, lines)
    }
}

impl State {
    /// Time goes on.
    fn advance(&mut self, plan: &Plan) {
        self.step += 1;
        self.now += self.random.between(1, 200) as i64 * 1000;
        self.latest = self.latest.max(self.now + MOST_SKEW + plan.clock_jumps);
        if self.step == plan.steps && plan.drains {
            self.is_calm = true;
        }
        let due: Vec<usize> = (0..self.late.len()).rev().filter(|&at| self.late[at].at_step <= self.step).collect();
        for at in due {
            let late = self.late.swap_remove(at);
            self.take_effect(plan, late);
        }
        self.meet_disaster(plan);
    }

    fn take_effect(&mut self, plan: &Plan, late: Late) {
        self.counts.late += 1;
        let step = self.step;
        self.trace.note(|| {
            let action = if late.bytes.is_some() { "create" } else { "delete" };
            format!("{step} late effect: {action} {}{}", late.name, at(late.place))
        });
        match late.bytes {
            Some(bytes) => _ = self.create_at_once(plan, late.place, &late.name, bytes, late.clock),
            None => self.delete_at_once(plan, late.place, &late.name),
        }
    }

    /// The actor may be killed, or stand still.
    fn afflict(&mut self, me: usize, plan: &Plan) {
        if me + 1 == self.actors.len() {
            return;
        }
        if self.violation.is_some() || (self.step >= plan.steps && !plan.drains) {
            self.actors[me].is_doomed = true;
        }
        if self.is_calm {
            return;
        }
        if self.random.below(10_000) < plan.crashing {
            self.kill(me);
        }
        if self.random.below(10_000) < plan.freezing.0 {
            self.actors[me].frozen_until = self.step + self.random.between(1, plan.freezing.1);
        }
    }

    fn kill(&mut self, me: usize) {
        self.counts.kills += 1;
        self.actors[me].is_doomed = true;
        let step = self.step;
        self.trace.note(|| format!("{step} actor {me} is killed"));
    }

    /// Whose turn it is. If nobody can go on now, time passes until somebody can.
    fn next(&mut self, me: usize, plan: &Plan) -> usize {
        let last = self.actors.len() - 1;
        if me == last {
            return me;
        }
        let alive: Vec<usize> = (0..last).filter(|&at| !self.actors[at].is_done).collect();
        if alive.is_empty() {
            return last;
        }
        let stays = !self.random.chance(plan.switching) && alive.contains(&me);
        loop {
            if stays && self.can_go_on(me) {
                return me;
            }
            let ready: Vec<usize> = alive.iter().copied().filter(|&at| self.can_go_on(at)).collect();
            if !ready.is_empty() {
                return *self.random.pick(&ready);
            }
            let waits_for_time = |&&at: &&usize| self.actors[at].frozen_until <= self.step;
            match alive.iter().filter(waits_for_time).map(|&at| self.actors[at].sleeps_until).min() {
                Some(until) => self.now = self.now.max(until),
                None => self.step = alive.iter().map(|&at| self.actors[at].frozen_until).min().unwrap_or(self.step),
            }
        }
    }

    fn can_go_on(&self, at: usize) -> bool {
        let actor = &self.actors[at];
        actor.is_doomed || (actor.frozen_until <= self.step && actor.sleeps_until <= self.now)
    }

    fn fate(&mut self, plan: &Plan, place: usize, action: &str) -> Fate {
        if self.is_calm {
            return Fate::Works;
        }
        let mut away = plan.mirror.iter().flat_map(|mirror| &mirror.away);
        let is_away = away.any(|(of, steps)| *of == place && steps.contains(&self.step));
        if is_away || (plan.outage.0..plan.outage.1).contains(&self.step) {
            return Fate::FailsBefore;
        }
        if !self.random.chance(plan.failing) {
            return Fate::Works;
        }
        match (action, self.random.below(4)) {
            ("create" | "delete", 0 | 1) => Fate::FailsLate,
            ("create" | "delete", 2) => Fate::FailsAfter,
            ("read", 0) => Fate::Short,
            _ => Fate::FailsBefore,
        }
    }

    fn create(&mut self, plan: &Plan, place: usize, name: &ObjectName, bytes: Arc<Vec<u8>>, clock: i64) -> Creation {
        let creation = self.create_at_once(plan, place, name, bytes, clock);
        if creation == Creation::New && plan.list_lag > 0 && !self.is_calm {
            let lag = self.lag(plan);
            let now = self.now;
            self.places[place].objects.get_mut(name).expect("BUG: it was created").shows_from = now + lag;
        }
        creation
    }

    /// Half of the time the longest that there is.
    fn lag(&mut self, plan: &Plan) -> i64 {
        if self.random.chance(500) { plan.list_lag } else { self.random.below(plan.list_lag as u64 + 1) as i64 }
    }

    fn create_at_once(
        &mut self,
        plan: &Plan,
        place: usize,
        name: &ObjectName,
        bytes: Arc<Vec<u8>>,
        clock: i64,
    ) -> Creation {
        let clock = clock.min(self.latest);
        if self.places[place].objects.contains_key(name) {
            return Creation::Exists;
        }
        self.places[place].ghosts.remove(name);
        let step = self.step;
        let what = if self.trace.is_printed() { self.truth.describe(name, &bytes) } else { String::new() };
        self.trace.note(|| format!("{step}   {name} is there{}: {}", at(place), &blake3::hash(&bytes).to_hex()[..8]));
        if !what.is_empty() {
            println!("{step}     it says:{what}");
        }
        let object = Object { bytes, shows_from: self.now, clock };
        self.places[place].objects.insert(name.clone(), object.clone());
        self.tell_created(plan, name, &object);
        Creation::New
    }

    fn delete(&mut self, plan: &Plan, place: usize, name: &ObjectName) {
        if let Some(object) = self.places[place].objects.get(name)
            && plan.list_lag > 0
            && !self.is_calm
        {
            let bytes = object.bytes.len() as u64;
            let shows_until = self.now + self.lag(plan);
            self.places[place].ghosts.insert(name.clone(), Ghost { bytes, shows_until });
        }
        self.delete_at_once(plan, place, name);
    }

    fn delete_at_once(&mut self, plan: &Plan, place: usize, name: &ObjectName) {
        if self.places[place].objects.remove(name).is_some() {
            let step = self.step;
            self.trace.note(|| format!("{step}   {name} is gone{}", at(place)));
            self.counts.deleted_packs += u64::from(name.is_pack());
            self.counts.deleted_entries += u64::from(name.timeline().is_some());
            self.tell_deleted(plan, name);
        }
    }

    /// How many destinations have any of these objects.
    fn spread(&self, names: &[ObjectName]) -> usize {
        let has_any = |place: &&Place| names.iter().any(|name| place.objects.contains_key(name));
        self.places.iter().filter(has_any).count()
    }

    fn judge(&mut self, verdict: Verdict) {
        if let Err(what) = verdict {
            self.violate(what);
        }
    }

    fn violate(&mut self, what: String) {
        let step = self.step;
        self.trace.note(|| format!("{step} VIOLATION: {what}"));
        self.violation.get_or_insert(format!("step {step}: {what}"));
    }
}

/// The destination, for the trace; the first is not named.
fn at(place: usize) -> String {
    if place == 0 { String::new() } else { format!(" at {place}") }
}
