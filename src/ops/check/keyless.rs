//! What anybody can check who has the objects and no key: an untrusted mirror, or whoever runs the storage.
//!
//! The hash of every pack, index segment, tombstone and verification, the checksum of the config and the key slots, the headers of timeline entries and journal objects, and
//! whether a name is that of an object. [`UNSEEN`] says what cannot be seen so.

use std::time::Duration;

use crate::base::clock::Timer;
use crate::base::id::ObjectHash;
use crate::format::damage::look_at;
use crate::format::name::{Folder, ObjectName};
use crate::format::object::MAX_SEALED_BYTES;
use crate::format::pack::MAX_PACK_BYTES;
use crate::monitor::{Event, Monitor, Phase};
use crate::repo::copies::{DamagedCopies, read_whole};
use crate::repo::{Environment, Fault, RepositoryError, require_config};
use crate::store::lane::concurrently;
use crate::store::{Listed, Store};

use super::data::is_over;
use super::rotation::{Coverage, ReadData, Rotation};

/// What only somebody with a key can check.
pub const UNSEEN: &str =
    "whether an object is missing, which packs are needed, what timelines say and whether they were rolled back";

/// Objects that are read at a time: each takes its bytes in memory.
const MOST_AT_ONCE: usize = 4;

/// All objects but the config and the packs.
const SMALL: [Folder; 6] =
    [Folder::Keys, Folder::Index, Folder::Tombstones, Folder::Timelines, Folder::Journals, Folder::Verifications];

/// How much to check.
#[derive(Clone, Copy, Debug)]
pub struct KeylessOptions {
    /// Packs that are read; of the other objects all are.
    pub read_data: ReadData,
    /// After so long no further pack is read.
    pub max_duration: Option<Duration>,
}

/// What was looked at, and what was found.
#[derive(Debug, Default)]
pub struct KeylessReport {
    /// Everything that is wrong.
    pub faults: Vec<Fault>,
    /// Objects that were read, but for packs.
    pub object_count: usize,
    /// Packs that are there.
    pub pack_count: usize,
    /// Packs that were read.
    pub read_count: usize,
    /// Bytes of all that was read.
    pub read_bytes: u64,
    /// Whether time was up before all packs were read that should be.
    pub is_cut_short: bool,
    /// How much of what is there was read by this client, now or earlier.
    pub coverage: Coverage,
    /// Copies that were found damaged where others were good.
    pub damaged: DamagedCopies,
}

/// Checks what can be checked without a key.
pub fn check_keyless(
    store: &dyn Store,
    environment: &Environment,
    options: &KeylessOptions,
    timer: &dyn Timer,
    monitor: &dyn Monitor,
) -> Result<KeylessReport, RepositoryError> {
    let begun = timer.elapsed();
    let mut report = KeylessReport::default();
    // Fails without one: then it is no repository, and there is nothing to check.
    let (repository, _) = require_config(store)?;
    let mut small = vec![Listed { name: ObjectName::config(), bytes: 0 }];
    for folder in SMALL {
        small.extend(store.list(folder)?);
    }
    for listed in small.chunks(store.concurrency().max(1)) {
        monitor.check_cancelled()?;
        let read = concurrently(store.concurrency(), listed, |listed| {
            read(store, &report.damaged, &listed.name, MAX_SEALED_BYTES)
        });
        for read in read {
            report.add(read);
            report.object_count += 1;
        }
    }
    let (packs, foreign): (Vec<Listed>, Vec<Listed>) =
        store.list(Folder::Packs)?.into_iter().partition(|listed| listed.name.is_pack());
    report.faults.extend(foreign.into_iter().map(|listed| Fault::ForeignName { name: listed.name }));
    report.pack_count = packs.len();
    let packs: Vec<(ObjectHash, u64)> =
        packs.into_iter().filter_map(|listed| Some((listed.name.hash()?, listed.bytes))).collect();
    let mut rotation = Rotation::load(environment.state.as_ref(), repository);
    let chosen = rotation.choose(&packs, options.read_data);
    monitor.event(Event::Started { phase: Phase::CheckData, total_bytes: bytes_of(&packs, &chosen) });
    let width = store.concurrency().clamp(1, MOST_AT_ONCE);
    for hashes in chosen.chunks(width) {
        if is_over(begun, timer.elapsed(), options.max_duration) || monitor.is_cancelled() {
            break;
        }
        let read = concurrently(width, hashes, |&hash| {
            read(store, &report.damaged, &ObjectName::pack(hash), MAX_PACK_BYTES as usize)
        });
        for (&hash, read) in hashes.iter().zip(read) {
            monitor.event(Event::Advanced(*read.as_ref().unwrap_or(&0)));
            if read.as_ref().err().is_none_or(Fault::is_damage) {
                rotation.note(hash, environment.clock.now(), read.is_err());
            }
            report.add(read);
            report.read_count += 1;
        }
    }
    monitor.event(Event::Finished);
    report.is_cut_short = report.read_count < chosen.len();
    report.coverage = rotation.coverage(&packs);
    rotation.save(&packs);
    monitor.check_cancelled()?;
    Ok(report)
}

impl KeylessReport {
    fn add(&mut self, read: Result<u64, Fault>) {
        match read {
            Ok(bytes) => self.read_bytes += bytes,
            // Collectors and folds delete what was listed.
            Err(fault) if fault.is_absence() => {}
            Err(fault) => self.faults.push(fault),
        }
    }
}

/// Reads an object and looks at it; returns its bytes' number.
fn read(store: &dyn Store, damaged: &DamagedCopies, name: &ObjectName, limit_bytes: usize) -> Result<u64, Fault> {
    let is_known = *name == ObjectName::config()
        || name.hash().is_some()
        || name.slot().is_some()
        || name.timeline().is_some()
        || name.journal_position().is_some();
    if !is_known {
        return Err(Fault::ForeignName { name: name.clone() });
    }
    read_whole(store, damaged, name, limit_bytes, |bytes| {
        if let Some(hash) = name.hash() {
            let found = ObjectHash::of(&bytes);
            if found != hash {
                return Err(Fault::WrongHash { name: name.clone(), found });
            }
        }
        look_at(name, &bytes).map_err(Fault::object(name))?;
        Ok(bytes.len() as u64)
    })
}

fn bytes_of(packs: &[(ObjectHash, u64)], chosen: &[ObjectHash]) -> u64 {
    let of = |hash: &ObjectHash| packs.binary_search_by_key(hash, |&(pack, _)| pack).map_or(0, |at| packs[at].1);
    chosen.iter().map(of).sum()
}
