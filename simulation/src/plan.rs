//! What a seed decides before a run begins: how large the world is, who is at work in it, and how badly it behaves.

use std::ops::Range;

use continuum::base::page::PageSize;

use crate::plant::Plant;
use crate::random::Random;

/// Microseconds of a second.
pub const SECOND: i64 = 1_000_000;

/// What an actor does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes snapshots.
    Writer,
    /// Watches databases: journals their commits, and folds them.
    Watcher,
    /// Folds layers.
    Compactor,
    /// Forgets, brings back, holds and releases snapshots.
    Forgetter,
    /// Collects.
    Collector,
    /// Checks the repository.
    Checker,
    /// Restores.
    Reader,
    /// Makes destinations whole.
    Mirrorer,
    /// Ends the run.
    Steward,
    /// Repairs, at the end.
    Repairer,
}

/// Where an actor runs: what it remembers, and how it reaches the store.
#[derive(Clone, Debug)]
pub struct Client {
    /// Whether it keeps local state.
    pub remembers: bool,
    /// Whether it keeps copies of objects.
    pub caches: bool,
    /// Whether it tries again what failed.
    pub retries: bool,
    /// By how much its clock is wrong.
    pub skew: i64,
}

/// How much there is in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One destination, and no repair.
    Narrow,
    /// Several destinations and repairs, too.
    Wide,
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What everything is decided by.
    pub seed: u64,
    /// A bug that is planted.
    pub plant: Option<Plant>,
    /// How many databases there are.
    pub databases: u64,
    /// Of the databases.
    pub page_size: PageSize,
    /// Pages of a database at first, at most.
    pub most_pages: u64,
    /// The machines.
    pub clients: Vec<Client>,
    /// Who is at work, and on which client.
    pub actors: Vec<(Role, usize)>,
    /// Requests until the end begins.
    pub steps: u64,
    /// How often in 1,000 the turn goes to another actor.
    pub switching: u64,
    /// How often in 1,000 a request fails.
    pub failing: u64,
    /// How often in 10,000 an actor is killed.
    pub crashing: u64,
    /// How often in 10,000 an actor stands still, and for how many steps at most.
    pub freezing: (u64, u64),
    /// How long a change may not show in listings, in microseconds.
    pub list_lag: i64,
    /// When the store is away, in steps.
    pub outage: (u64, u64),
    /// Whether whoever is at work when the end begins may finish, without further trouble.
    pub drains: bool,
    /// How long a forgotten snapshot is kept, in microseconds.
    pub grace: i64,
    /// How far clocks jump, in microseconds.
    pub clock_jumps: i64,
    /// What is damaged at the end.
    pub damages: bool,
    /// How what is damaged at the end is repaired, if it is.
    pub repair: Option<Repair>,
    /// The destinations, if there are several.
    pub mirror: Option<Mirror>,
}

/// Several destinations, and what becomes of them.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// How many there are.
    pub destinations: usize,
    /// How many may fail.
    pub tolerate: usize,
    /// When which one is away, in steps.
    pub away: Vec<(usize, Range<u64>)>,
    /// What one of them loses, if any does.
    pub disaster: Option<Disaster>,
}

/// What one destination loses.
#[derive(Clone, Copy, Debug)]
pub struct Disaster {
    /// Which.
    pub destination: usize,
    /// When, in steps, at the earliest.
    pub at: u64,
    /// It is again as it was at this step; else it is empty.
    pub back_to: Option<u64>,
}

/// How a repair is done.
#[derive(Clone, Copy, Debug)]
pub struct Repair {
    /// Whether it is given the live databases.
    pub has_sources: bool,
}

impl Plan {
    /// What a seed decides.
    pub fn of(seed: u64, scope: Scope, plant: Option<Plant>) -> Self {
        let mut random = Random::new(seed, 1);
        let r = &mut random;
        let page_bytes = *r.pick(&[512, 512, 512, 1024]);
        let faultless = r.chance(200);
        let client_count = r.between(1, 3) as usize;
        let clients: Vec<Client> = (0..client_count).map(|_| Client::of(r)).collect();
        // Entries are deleted only in logs that have grown.
        let outlives_stones = plant == Some(Plant::StonesUnseen);
        let steps = match r.chance(50) {
            _ if outlives_stones => r.between(800, 2000),
            true => r.between(300, 700),
            false => r.between(80, 240),
        };
        let lags = r.chance(250) || plant == Some(Plant::LagUntold);
        let list_lag = if lags { r.between(1, 20) as i64 * SECOND } else { 0 };
        let outage_begin = r.below(steps * 3);
        // What came later is drawn from numbers of its own: old seeds stay what they were.
        let mut later = Random::new(seed, 4);
        let is_wide = scope == Scope::Wide;
        let repair = (is_wide && later.chance(800)).then(|| Repair { has_sources: later.chance(400) });
        let mirror = (is_wide && later.chance(300)).then(|| Mirror::of(steps, faultless, &mut later));
        let (databases, most_pages) = (if outlives_stones { 1 } else { r.between(1, 3) }, r.between(4, 16));
        let mut actors = actors(client_count, lags, r);
        if mirror.is_some() {
            actors.push((Role::Mirrorer, later.below(client_count as u64) as usize));
        }
        Self {
            seed,
            plant,
            databases,
            page_size: PageSize::new(page_bytes).expect("BUG: a page size"),
            most_pages,
            actors,
            clients,
            steps,
            switching: *r.pick(&[50, 150, 300, 500]),
            failing: if faultless { 0 } else { *r.pick(&[0, 10, 20, 40]) },
            crashing: if faultless { 0 } else { *r.pick(&[0, 20, 50, 100]) },
            freezing: if r.chance(400) { (r.between(5, 60), r.between(20, 300)) } else { (0, 1) },
            list_lag: if mirror.is_some() { 0 } else { list_lag },
            outage: (outage_begin, if faultless { 0 } else { outage_begin + r.below(60) }),
            drains: r.chance(500),
            grace: if outlives_stones { 0 } else { *r.pick(&[0, 0, 10, 100, 1000]) * SECOND },
            clock_jumps: if r.chance(300) { r.between(1, 200) as i64 * SECOND } else { 0 },
            damages: r.chance(150),
            repair,
            mirror,
        }
    }
}

impl Mirror {
    /// What was acknowledged stands on more destinations than may fail, and two majorities share one. So of two destinations none may fail, and of three one.
    fn of(steps: u64, faultless: bool, random: &mut Random) -> Self {
        let (destinations, tolerate) = if random.chance(300) { (2, 0) } else { (3, 1) };
        let most_absences = if faultless { 0 } else { 2 };
        let absence = |random: &mut Random| {
            let (destination, begin) = (random.below(destinations as u64) as usize, random.below(steps));
            (destination, begin..begin + random.below(steps / 2))
        };
        let away = (0..random.below(most_absences + 1)).map(|_| absence(random)).collect();
        let disaster = |random: &mut Random| {
            let at = random.between(steps / 4, steps);
            let back_to = random.chance(600).then(|| random.below(at));
            Disaster { destination: random.below(destinations as u64) as usize, at, back_to }
        };
        let has_disaster = tolerate > 0 && random.chance(400);
        Self { destinations, tolerate, away, disaster: has_disaster.then(|| disaster(random)) }
    }

    /// How many destinations have what was acknowledged.
    pub fn needed(&self) -> usize {
        self.destinations - self.tolerate
    }
}

impl Client {
    fn of(random: &mut Random) -> Self {
        let remembers = random.chance(750);
        Self {
            remembers,
            caches: remembers && random.chance(400),
            retries: random.chance(500),
            skew: random.below(11) as i64 * SECOND,
        }
    }
}

/// A watcher's journal is found by a listing: where listings lag, nobody watches.
fn actors(clients: usize, lags: bool, random: &mut Random) -> Vec<(Role, usize)> {
    let mut roles = vec![Role::Writer, Role::Collector, Role::Forgetter];
    let others = [
        Role::Writer,
        Role::Writer,
        Role::Watcher,
        Role::Watcher,
        Role::Collector,
        Role::Compactor,
        Role::Checker,
        Role::Reader,
    ];
    for _ in 0..random.between(1, 3) {
        roles.push(*random.pick(&others));
    }
    let role = |role| if lags && role == Role::Watcher { Role::Writer } else { role };
    roles.into_iter().map(|of| (role(of), random.below(clients as u64) as usize)).collect()
}
