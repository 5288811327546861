//! What actors do: each runs the project's own operations again and again, until the run is over.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use continuum::base::id::ObjectHash;
use continuum::base::page::{PageNo, PageReader};
use continuum::ops::check::{CheckOptions, check};
use continuum::ops::compact::compact;
use continuum::ops::forget::{ForgetOptions, What, forget, hold, plan_forget, release, unforget};
use continuum::ops::prune::{PruneOptions, plan_prune, prune};
use continuum::ops::snapshot::{Choice, snapshot_pinned};
use continuum::ops::snapshots::snapshots;
use continuum::ops::sync::SyncOptions;
use continuum::policy::refusal::Allowed;
use continuum::policy::retention::{Among, Policy, Reach, Rule};
use continuum::repo::chunk_reader::ChunkReader;
use continuum::repo::index::Index;
use continuum::repo::memory::Memory;
use continuum::repo::stack_reader::{StackReader, State};
use continuum::repo::timeline;
use continuum::repo::{Repository, RepositoryError};

use crate::database::{Database, root_of};
use crate::failure::Failure;
use crate::machine::{ENCODE, Machine};
use crate::mirroring::sync;
use crate::plan::Role;
use crate::plant::Plant;
use crate::random::Random;
use crate::store::SimulatedTimer;
use crate::watching::watch;
use crate::world::{Killed, World};

/// How often a reader reads the index anew.
const READINGS: usize = 3;

/// See the module documentation.
pub struct Actor {
    /// Where it runs.
    pub machine: Machine,
    /// What it chooses by.
    pub random: Random,
}

impl Actor {
    /// Acts until the run is over.
    pub fn act(mut self) {
        let (world, me) = (Arc::clone(&self.machine.world), self.machine.actor);
        while !world.is_over() {
            let ended = catch_unwind(AssertUnwindSafe(|| {
                world.pass(me);
                world.begin(me, &format!("{:?}", self.machine.role));
                self.operate()
            }));
            match ended {
                Ok(result) => judge(&world, me, result),
                Err(panic) => survive(&world, me, &*panic),
            }
        }
        world.leave(me);
    }

    fn operate(&mut self) -> Result<(), Failure> {
        let database = self.random.pick(&self.machine.world.databases).clone();
        match self.machine.role {
            Role::Writer => self.take_snapshot(&database),
            Role::Watcher => watch(&self.machine, &mut self.random),
            Role::Compactor => self.compact(&database),
            Role::Forgetter => self.forget(&database),
            Role::Collector => self.collect(),
            Role::Checker => self.check(),
            Role::Reader => self.read(&database),
            Role::Mirrorer => self.mirror(),
            Role::Steward | Role::Repairer => Ok(()),
        }
    }

    fn take_snapshot(&mut self, database: &Database) -> Result<(), Failure> {
        for _ in 0..self.random.below(4) {
            database.commit(&mut self.random);
        }
        if self.random.chance(60) {
            database.lose_history(self.random.chance(300));
        }
        let choices =
            [Choice::Auto, Choice::Auto, Choice::Full, Choice::Full, Choice::Differential, Choice::Incremental];
        let choice = *self.random.pick(&choices);
        take_snapshot(&self.machine, database, choice, false)
    }

    fn compact(&mut self, database: &Database) -> Result<(), Failure> {
        let (repository, monitor) = (self.machine.repository(), self.machine.monitor());
        compact(&repository, database.name(), self.random.chance(500), "host", ENCODE, &monitor)?;
        Ok(())
    }

    /// Changes what is a restore point.
    fn forget(&mut self, database: &Database) -> Result<(), Failure> {
        let repository = self.machine.repository();
        let (timeline, _) = timeline::load(&repository, database.name()).map_err(RepositoryError::from)?;
        let kept: Vec<ObjectHash> = timeline.kept().map(|kept| kept.id).collect();
        let Some((_, older)) = kept.split_last().filter(|(_, older)| !older.is_empty()) else { return Ok(()) };
        let chosen = *self.random.pick(older);
        let world = &self.machine.world;
        match self.random.below(10) {
            0 => {
                unforget(&repository, &[chosen.to_string()], Some(database.name()))?;
                world.with_truth(|truth| truth.require_standing(chosen, |standing| standing.forgotten.is_none()));
            }
            1 => {
                hold(&repository, &chosen.to_string(), "a test")?;
                world.with_truth(|truth| truth.require_standing(chosen, |standing| standing.is_held));
            }
            2 => {
                release(&repository, &chosen.to_string())?;
                world.with_truth(|truth| truth.require_standing(chosen, |standing| !standing.is_held));
            }
            _ => self.forget_some(&repository, database, older)?,
        }
        Ok(())
    }

    fn forget_some(
        &mut self,
        repository: &Repository,
        database: &Database,
        older: &[ObjectHash],
    ) -> Result<(), Failure> {
        let what = if self.random.chance(400) {
            let reach = Reach::Count(self.random.between(1, 4) as u32);
            let rules = vec![Rule { among: Among::All, one_per: None, reach }];
            let allowed = Allowed { odd_times: true, max_share: 1.0 };
            What::ByPolicy { policy: Policy { rules, ..Policy::empty() }, zone: TimeZone::UTC, allowed }
        } else {
            let chance = *self.random.pick(&[200, 500]);
            let named = older.iter().filter(|_| self.random.chance(chance)).map(ObjectHash::to_string);
            What::Named(named.collect())
        };
        let (name, grace) = (Some(database.name().to_owned()), self.machine.world.plan.grace);
        let monitor = self.machine.monitor();
        let plan = plan_forget(repository, &ForgetOptions { what, name, grace }, &monitor)?;
        self.machine.world.pass(self.machine.actor);
        forget(repository, &plan, &monitor, |_| {})?;
        Ok(())
    }

    fn collect(&mut self) -> Result<(), Failure> {
        collect(&self.machine, *self.random.pick(&[0.0, 0.5, 0.8, 1.0]), &mut || {
            self.machine.world.pass(self.machine.actor);
        })
    }

    /// With others at work, what it finds may be theirs; it must end.
    fn check(&mut self) -> Result<(), Failure> {
        let options = if self.random.chance(250) { CheckOptions::all_data() } else { CheckOptions::default() };
        let timer = SimulatedTimer { world: Arc::clone(&self.machine.world), actor: self.machine.actor };
        check(&self.machine.repository(), &options, &timer, &self.machine.monitor())?;
        Ok(())
    }

    /// Makes destinations whole.
    fn mirror(&mut self) -> Result<(), Failure> {
        let Some(mirror) = &self.machine.world.plan.mirror else { return Ok(()) };
        let options = SyncOptions { read_data: self.random.chance(300), prefer: None, is_inline: true };
        sync(&self.machine, mirror, options).map(|_| ())
    }

    /// Restores any snapshot. One that is there when the reader has looked, and not gone when it is done, must be restorable.
    fn read(&mut self, database: &Database) -> Result<(), Failure> {
        let (machine, repository) = (&self.machine, self.machine.repository());
        let (found, _) = snapshots(&repository, Some(database.name()))?;
        if found.is_empty() {
            return Ok(());
        }
        let snapshot = self.random.pick(&found);
        let mut result = Ok(());
        for _ in 0..READINGS {
            result = restore(&repository, &[snapshot.state()]);
            match &result {
                Err(_) if !machine.world.had_trouble(machine.actor) => {}
                _ => break,
            }
        }
        let is_gone = machine.world.with_truth(|truth| {
            let mut kept = truth.timelines().values().flat_map(|line| line.snapshots().values());
            Ok(!kept.any(|kept| kept.id == snapshot.id))
        });
        result.map_err(|failure| Failure { is_expected: is_gone == Some(true), ..failure })
    }
}

/// Takes a snapshot of a database, and lets the truth compare what was acknowledged.
pub fn take_snapshot(machine: &Machine, database: &Database, choice: Choice, take_over: bool) -> Result<(), Failure> {
    let (world, repository) = (&machine.world, machine.repository());
    let memory = Memory::claim(&repository, database.name())?;
    let mut pinned = database.pin();
    let options = machine.snapshot_options(database.name(), choice, take_over);
    let taken = snapshot_pinned(&repository, &mut pinned, memory.as_ref(), &options, &machine.monitor())?;
    world.count(|counts| counts.snapshots += 1);
    world.note(|| {
        format!("  snapshot {} {} {}", taken.summary.sequence, taken.summary.manifest.strategy, taken.summary.tier)
    });
    world.with_truth(|truth| truth.acknowledge(database.name(), taken.summary.id, pinned.image()));
    world.require_durable(taken.summary.id);
    Ok(())
}

/// Collects what nobody needs. Between the plan and its execution, `consider` may take its time.
pub fn collect(machine: &Machine, min_live_share: f64, consider: &mut dyn FnMut()) -> Result<(), Failure> {
    let world = &machine.world;
    let told = if world.plan.plant == Some(Plant::LagUntold) { 0 } else { world.plan.list_lag };
    let list_lag = Duration::from_micros(told as u64);
    let options = PruneOptions { min_live_share, min_age: Duration::ZERO, list_lag, ..PruneOptions::default() };
    let (repository, monitor) = (machine.repository(), machine.monitor());
    let plan = plan_prune(&repository, options, &monitor)?;
    consider();
    let timer = SimulatedTimer { world: Arc::clone(world), actor: machine.actor };
    let summary = prune(&repository, &plan, &timer, &monitor)?;
    world.note(|| format!("  collected {summary:?}"));
    Ok(())
}

/// Restores states, without a file.
pub fn restore(repository: &Repository, states: &[State]) -> Result<(), Failure> {
    let (index, faults) = Index::load(repository)?;
    if let Some(fault) = faults.into_iter().find(|fault| !fault.is_absence()) {
        return Err(fault.into());
    }
    let reader = ChunkReader::new(repository, &index);
    states.iter().try_for_each(|state| prove(&reader, state))
}

fn prove(reader: &ChunkReader, state: &State) -> Result<(), Failure> {
    let stack = StackReader::open(reader, state)?;
    let mut image = vec![0; state.image_bytes() as usize];
    stack.read(PageNo(1), &mut image)?;
    if root_of(&image) == state.root {
        return Ok(());
    }
    let text = format!("snapshot {}, commit {}: the image that was read is another", state.snapshot, state.commit);
    Err(Failure::unexpected(text))
}

/// An operation has ended: one that fails must have a reason.
pub fn judge(world: &World, me: usize, result: Result<(), Failure>) {
    let result = result.map_err(|failure| {
        // A planted bug must be found by what it does, not by an error that it happens to cause.
        // What others could not write to all destinations, or wrote to different ones, may stop everybody until a sync.
        let is_torn = world.plan.mirror.is_some() && !world.is_ending();
        let is_clean = !world.had_trouble(me) && !is_torn && world.plan.list_lag == 0 && world.plan.plant.is_none();
        if !failure.is_expected && is_clean {
            world.violate(format!("actor {me} failed without any fault: {}", failure.text));
        }
        failure.text
    });
    world.end(me, &result);
}

/// An actor was killed, or panicked, which nothing in the world may make it do.
pub fn survive(world: &World, me: usize, panic: &(dyn std::any::Any + Send)) {
    if !panic.is::<Killed>() {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
        world.violate(format!("actor {me} panicked: {text}"));
    }
    world.restart(me);
}
