//! One run: the world of a seed from its beginning to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;

use continuum::base::clock::{FixedClock, UnixMicros};
use continuum::base::entropy::SeededEntropy;
use continuum::chunk::cutter::CutterSizes;
use continuum::crypto::password::Cost;
use continuum::format::name::{Folder, ObjectName};
use continuum::repo::{Environment, InitOptions, Repository, init};
use continuum::store::Store;
use continuum::store::opendal::OpendalStore;

use crate::actor::{Actor, judge, survive};
use crate::ending;
use crate::machine::Machine;
use crate::plan::{Client, Plan, Role, Scope};
use crate::plant::Plant;
use crate::random::Random;
use crate::record::{Counts, Tracing};
use crate::turns::{Crew, Part};
use crate::world::World;

/// The most actors of a run, with the one that ends it.
pub const MOST_ACTORS: usize = 8;

/// What runs one world after the other.
pub struct Runner {
    crew: Crew,
    repository: Repository,
    begin: Vec<(ObjectName, Vec<u8>)>,
    folder: PathBuf,
    scope: Scope,
    number: u64,
}

/// What came of a run.
pub struct Outcome {
    /// What was wrong, if anything was.
    pub violation: Option<String>,
    /// What happened, in numbers.
    pub counts: Counts,
    /// The hash of all that happened, in order.
    pub trace: String,
    /// What happened, if that was to be kept.
    pub lines: Vec<String>,
}

impl Runner {
    /// Makes the repository with which every world begins. Local state goes into `folder`, which should be in memory.
    pub fn new(folder: &Path, scope: Scope) -> Self {
        let store: Arc<dyn Store> = Arc::new(OpendalStore::memory().expect("BUG: memory is always there"));
        let environment = Environment {
            clock: Arc::new(FixedClock(UnixMicros(0))),
            entropy: Arc::new(SeededEntropy::new(0)),
            state: None,
            upload_threads: 0,
            fetch_threads: 0,
        };
        let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let cutter = CutterSizes { minimum: 4 << 10, average: 16 << 10, maximum: 32 << 10 };
        let options = InitOptions { suite: None, cutter, cost, label: "simulation".to_owned() };
        let password = SecretString::from("simulation");
        let repository = init(Arc::clone(&store), &password, options, environment);
        let repository = repository.expect("BUG: an empty store becomes a repository");
        let slots = store.list(Folder::Keys).expect("BUG: memory answers").into_iter().map(|listed| listed.name);
        let read = |name: ObjectName| {
            let bytes = store.read(&name, 1 << 20).expect("BUG: it was just written");
            (name, bytes)
        };
        let begin = slots.chain([ObjectName::config()]).map(read).collect();
        Self { crew: Crew::new(MOST_ACTORS), repository, begin, folder: folder.to_owned(), scope, number: 0 }
    }

    /// Runs the world of a seed.
    pub fn run(&mut self, seed: u64, plant: Option<Plant>, tracing: Tracing) -> Outcome {
        self.number += 1;
        let folder = self.folder.join(self.number.to_string());
        let plan = Plan::of(seed, self.scope, plant);
        if tracing == Tracing::Printed {
            println!("{plan:#?}");
        }
        let (actors, clients) = (plan.actors.clone(), plan.clients.clone());
        let turns = Arc::new(self.crew.turns(actors.len() + 1));
        let world = Arc::new(World::new(plan, &self.repository, &self.begin, Arc::clone(&turns), tracing));
        let machine = |actor: usize, role: Role, client: usize| Machine {
            world: Arc::clone(&world),
            actor,
            role,
            client: clients[client].clone(),
            folder: folder.join(client.to_string()),
        };
        let part = |(number, &(role, client)): (usize, &(Role, usize))| -> Part {
            let actor =
                Actor { machine: machine(number, role, client), random: Random::new(seed, 100 + number as u64) };
            Box::new(move || actor.act())
        };
        let mut parts: Vec<Part> = actors.iter().enumerate().map(part).collect();
        let last = Machine {
            client: Client { remembers: true, caches: false, retries: false, skew: 0 },
            folder: folder.join("end"),
            ..machine(actors.len(), Role::Steward, 0)
        };
        parts.push(Box::new(move || end(&last, Random::new(seed, 99))));
        self.crew.run(&turns, parts, 0);
        // Nothing was kept if no client remembers anything.
        let _ = std::fs::remove_dir_all(&folder);
        let (counts, trace, lines) = world.summary();
        Outcome { violation: world.violation(), counts, trace, lines }
    }
}

fn end(machine: &Machine, mut random: Random) {
    let (world, me) = (&machine.world, machine.actor);
    if world.violation().is_none() {
        match catch_unwind(AssertUnwindSafe(|| ending::end(machine, &mut random))) {
            Ok(result) => {
                if let Err(failure) = &result {
                    world.violate(failure.text.clone());
                }
                judge(world, me, result);
            }
            Err(panic) => survive(world, me, &*panic),
        }
    }
    world.leave(me);
}
