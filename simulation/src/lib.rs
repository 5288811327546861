//! Runs the project's own code in a simulated world that fails in every way, the same way each time.
//!
//! A *run* is decided by its seed alone: a store in memory, a few databases of a few pages, machines with clocks that are wrong, and actors that take snapshots, watch,
//! compact, forget, prune, check and restore, all at once. Their code is that of `continuum::ops` and below, unchanged; what the core takes as arguments (store, clock, entropy,
//! timer, pinned database) is simulated. One actor runs at a time; each request to the store is a point where another may go on, where the actor may be killed or stand still for long, and where
//! the request may fail ([`world`]).
//!
//! ```text
//! cargo xtask simulate --seeds 100000      many runs, those that once failed first, then with bugs planted
//! cargo xtask simulate --seed 4711 --trace what happens in one
//! cargo xtask simulate --wide 30000        more of those with several destinations and repairs
//! ```
//!
//! # What goes wrong
//! Requests fail before their effect, after it, or with an effect that comes hundreds of requests later; answers are cut short; the store is away; listings lag behind creations and
//! deletions, for as long as collectors are told; of several destinations ([`mirroring`]) one is away for long, behind, lost with everything, or rolled back; actors are killed between any two requests, and stand still while others go on; clocks jump back and forth; machines lose nothing of
//! what they remember, or remember nothing.
//!
//! # What must hold
//! After every change of the store ([`truth`], [`timeline_truth`]), found anew from the specification where it can be:
//! * a snapshot begins to exist only when every chunk that it needs stands in a pack that is there and listed, and its image, made from these chunks, has the hash that it says;
//! * no chunk loses its last such place as long as a snapshot that is not gone needs it, acknowledged or not, forgotten or not;
//! * what was acknowledged is what the writer meant: the snapshot's image, the watcher's commit, which is in a journal until a snapshot holds it;
//! * what is gone was forgotten for long enough, not held, and not the last; nothing that stays changes its standing by that; no entry is deleted that is not gone;
//! * a pack once named by a tombstone stays named.
//!
//! An operation that fails must have met a fault, or others at work. With several destinations all this holds of them together, until the end. In the end ([`ending`]) faults stop and late effects arrive: a snapshot of each database can be taken; two collections later nothing is
//! left that nobody needs; check finds nothing; a reader sees exactly the snapshots that are not gone, and restores each; and when an object that is needed is then damaged, check finds
//! that, and repair mends it ([`repairing`]): it names exactly the snapshots that are lost, all others are restored, it has nothing to do a second time, and once what is lost was taken out of the log,
//! check finds nothing again. Several destinations are made equal by a sync before that, stay equal, and check finds nothing on each of them alone; what is
//! damaged then on one of them, repair mends from the others, and nothing is lost.
//!
//! Several destinations and repair are in *wide* worlds only ([`plan::Scope`]), so that the seeds of the others stay what they were.
//!
//! # Whether it would be found
//! [`plant`] spoils one thing at a time, from outside. `simulate --planted` fails unless each is found.
//!
//! # What is not simulated
//! SQLite and the capture of files (`tests/watch`, `cargo xtask soak` do that); the loop of `watch`, whose order [`watching`] repeats with its journal writer and its operations; the threads
//! of several destinations: what they do beside a process's work, it does here at its beginning; listings that lag on several destinations; two destinations of which one may fail, where two writers that do
//! not see the same one may both be acknowledged, and a user has to decide; damage while others are at work; taking a watch over while the watcher lives.

pub mod actor;
pub mod campaign;
pub mod database;
pub mod ending;
pub mod failure;
pub mod machine;
pub mod mirroring;
pub mod place;
pub mod plan;
pub mod plant;
pub mod proof;
pub mod random;
pub mod record;
pub mod repairing;
pub mod run;
pub mod spoiler;
pub mod store;
pub mod timeline_truth;
pub mod truth;
pub mod turns;
pub mod watching;
pub mod world;
