//! What a seed decides before a run begins: how large the world is, who is at work in it, and how badly it behaves.

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
    /// Ends the run.
    Steward,
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
}

/// How a repair is done.
#[derive(Clone, Copy, Debug)]
pub struct Repair {
    /// Whether it is given the live databases.
    pub has_sources: bool,
}

impl Plan {
    /// What a seed decides.
    pub fn of(seed: u64, plant: Option<Plant>) -> Self {
        let mut random = Random::new(seed, 1);
        let r = &mut random;
        let page_bytes = *r.pick(&[512, 512, 512, 1024]);
        let faultless = r.chance(200);
        let client_count = r.between(1, 3) as usize;
        let clients: Vec<Client> = (0..client_count).map(|_| Client::of(r)).collect();
        // Entries are deleted only in logs that have grown.
        let steps = if r.chance(50) { r.between(300, 700) } else { r.between(80, 240) };
        let lags = r.chance(250) || plant == Some(Plant::LagUntold);
        let list_lag = if lags { r.between(1, 20) as i64 * SECOND } else { 0 };
        let outage_begin = r.below(steps * 3);
        // What came later is drawn from numbers of its own: old seeds stay what they were.
        let mut later = Random::new(seed, 4);
        let repair = later.chance(800).then(|| Repair { has_sources: later.chance(400) });
        Self {
            seed,
            plant,
            databases: r.between(1, 3),
            page_size: PageSize::new(page_bytes).expect("BUG: a page size"),
            most_pages: r.between(4, 16),
            actors: actors(client_count, lags, r),
            clients,
            steps,
            switching: *r.pick(&[50, 150, 300, 500]),
            failing: if faultless { 0 } else { *r.pick(&[0, 10, 20, 40]) },
            crashing: if faultless { 0 } else { *r.pick(&[0, 20, 50, 100]) },
            freezing: if r.chance(400) { (r.between(5, 60), r.between(20, 300)) } else { (0, 1) },
            list_lag,
            outage: (outage_begin, if faultless { 0 } else { outage_begin + r.below(60) }),
            drains: r.chance(500),
            grace: *r.pick(&[0, 0, 10, 100, 1000]) * SECOND,
            clock_jumps: if r.chance(300) { r.between(1, 200) as i64 * SECOND } else { 0 },
            damages: r.chance(150),
            repair,
        }
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
