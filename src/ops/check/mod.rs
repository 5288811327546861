//! Looks for damage, loss and manipulation.
//!
//! * Without reading data ([`structure`]): every index segment, tombstone and verification, every timeline with its chain, the remembered heads, every page map and delta, and
//!   that each chunk a snapshot needs, forgotten or not, is listed in a pack that is there with its full length.
//! * Footers ([`data`]): what each pack says of itself, against the index, from its two ends.
//! * Data: the hash of each pack, its footer, and every chunk decoded and compared with its id; of all packs, or of those that were read longest ago ([`rotation`]).
//! * Without any key ([`keyless`]): what anybody can do who has the objects.
//!
//! Faults are collected, not thrown: one does not hide another. Collectors and writers may be at work meanwhile.

pub mod data;
pub mod keyless;
pub mod rotation;
pub mod structure;

use std::time::Duration;

use crate::base::clock::Timer;
use crate::base::id::ObjectHash;
use crate::format::index::ListedPack;
use crate::monitor::Monitor;
use crate::repo::tombstones::Tombstones;
use crate::repo::{Fault, Repository, RepositoryError};

use rotation::Rotation;
pub use rotation::{Coverage, ReadData};
use structure::Structure;

/// How much to check.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckOptions {
    /// Compare the footer of each pack with the index.
    pub footers: bool,
    /// Packs of which every chunk is opened.
    pub read_data: ReadData,
    /// After so long no further pack is read.
    pub max_duration: Option<Duration>,
}

impl CheckOptions {
    /// Everything, every chunk of every pack.
    pub fn all_data() -> Self {
        Self { read_data: ReadData::All, ..Self::default() }
    }
}

/// What was looked at, and what was found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// Everything that is wrong.
    pub faults: Vec<Fault>,
    /// Snapshots looked at, forgotten ones too.
    pub snapshot_count: usize,
    /// Packs that are there.
    pub pack_count: usize,
    /// Chunks that the index lists.
    pub chunk_count: usize,
    /// Packs that were read whole.
    pub read_count: usize,
    /// Their bytes.
    pub read_bytes: u64,
    /// Whether time was up before all was read that should be.
    pub is_cut_short: bool,
    /// How much of what is there was read by this client, now or earlier.
    pub coverage: Coverage,
    /// Packs that no index segment lists, left by an interrupted backup, and their bytes. No damage.
    pub unlisted_packs: (usize, u64),
    /// Packs with a tombstone of which nothing is needed, and their bytes. They were not looked into.
    pub given_up_packs: (usize, u64),
}

/// Checks a repository. `timer` tells when time is up.
pub fn check(
    repository: &Repository,
    options: &CheckOptions,
    timer: &dyn Timer,
    monitor: &dyn Monitor,
) -> Result<CheckReport, RepositoryError> {
    let begun = timer.elapsed();
    let mut structure = structure::look(repository, monitor)?;
    let given_up = structure.given_up();
    let (unlisted, bytes_of) = (structure.unlisted(), |pack: &ObjectHash| structure.packs[pack]);
    let mut report = CheckReport {
        snapshot_count: structure.timelines.iter().map(|timeline| timeline.kept().count()).sum(),
        pack_count: structure.packs.len(),
        chunk_count: structure.index.len(),
        unlisted_packs: (unlisted.len(), unlisted.iter().map(|pack| pack.length).sum()),
        given_up_packs: (given_up.len(), given_up.iter().map(bytes_of).sum()),
        ..CheckReport::default()
    };
    let looked_into = structure.packs.iter().filter(|(pack, _)| !given_up.contains(pack));
    let looked_into: Vec<(ObjectHash, u64)> = looked_into.map(|(&pack, &bytes)| (pack, bytes)).collect();
    report.faults = std::mem::take(&mut structure.faults);
    let is_time_up = || data::is_over(begun, timer.elapsed(), options.max_duration);
    let reading = Reading { repository, structure: &structure, packs: &looked_into, is_time_up: &is_time_up, monitor };
    reading.run(options, &mut report)?;
    Ok(report)
}

/// What footers and packs are read with.
struct Reading<'a> {
    repository: &'a Repository,
    structure: &'a Structure,
    packs: &'a [(ObjectHash, u64)],
    is_time_up: &'a data::IsTimeUp<'a>,
    monitor: &'a dyn Monitor,
}

impl Reading<'_> {
    /// Reads as the options say.
    fn run(&self, options: &CheckOptions, report: &mut CheckReport) -> Result<(), RepositoryError> {
        let Self { repository, structure, packs, monitor, .. } = *self;
        let environment = repository.environment();
        let mut rotation = Rotation::load(environment.state.as_ref(), repository.config().repository);
        let chosen = rotation.choose(packs, options.read_data);
        report.coverage = rotation.coverage(packs);
        if !options.footers && chosen.is_empty() {
            return Ok(());
        }
        let by_pack = structure.by_pack();
        let listed = |name: &ObjectHash| ListedPack { name: *name, length: structure.packs[name] };
        if options.footers {
            let all = packs.iter().map(|(pack, _)| listed(pack)).collect();
            report.faults.extend(data::read_footers(repository, all, &by_pack, monitor)?);
        }
        let to_read: Vec<ListedPack> = chosen.iter().map(listed).collect();
        let read = data::read_packs(repository, &to_read, &by_pack, self.is_time_up, monitor, |pack, faults| {
            // What could not be reached was not read.
            if faults.iter().all(Fault::is_damage) {
                rotation.note(pack.name, environment.clock.now(), !faults.is_empty());
            }
            report.read_count += 1;
            report.read_bytes += pack.length;
            report.faults.extend(faults.into_iter().filter(|fault| !is_deleted_since(repository, fault)));
        });
        report.is_cut_short = report.read_count < to_read.len();
        report.coverage = rotation.coverage(packs);
        if report.read_count > 0 {
            rotation.save(packs);
        }
        read
    }
}

/// Whether a pack is not there that is named by a tombstone by now: a collector passed by since we looked.
fn is_deleted_since(repository: &Repository, fault: &Fault) -> bool {
    let Fault::Unreadable { name, .. } = fault else { return false };
    let hash = name.hash().filter(|_| fault.is_absence() && name.is_pack());
    let tombstones = || Tombstones::load(repository).ok();
    hash.is_some_and(|hash| tombstones().is_some_and(|(tombstones, _)| tombstones.surely_names(hash)))
}
