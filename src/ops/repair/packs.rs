//! Which packs are bad, and what of them is good.

use std::collections::{BTreeMap, HashSet};

use crate::base::id::{ChunkId, ObjectHash};
use crate::format::index::ListedPack;
use crate::format::name::ObjectName;
use crate::format::pack::PackedChunk;
use crate::monitor::{Event, Monitor};
use crate::ops::check::data::read_packs;
use crate::ops::check::rotation::Rotation;
use crate::ops::check::structure::Structure;
use crate::repo::index::Place;
use crate::repo::unlisted_packs::for_each_footer;
use crate::repo::{Fault, Repository};

use super::RepairError;

/// Where the chunks are that are needed.
pub struct Found {
    /// Good chunks that stand in bad packs only.
    pub carried: Vec<Place>,
    /// Chunks that are nowhere any more, and the pack in which each is damaged.
    pub lost: BTreeMap<ChunkId, Option<ObjectHash>>,
    /// Good packs in which the rest stands.
    pub homes: HashSet<ObjectHash>,
}

/// Packs that cannot be relied upon: those that are not there, are not in their full length, are named by a fault, or have damage in them. Looked into are all, or those that an
/// earlier check has found damaged. Those that are given up already are left out.
pub fn find_bad(
    repository: &Repository,
    structure: &Structure,
    faults: &[Fault],
    read_data: bool,
    monitor: &dyn Monitor,
) -> Result<BTreeMap<ObjectHash, Fault>, RepairError> {
    let (mut bad, by_pack) = (BTreeMap::new(), structure.by_pack());
    for listed in structure.index.packs() {
        let name = ObjectName::pack(listed.name);
        match structure.packs.get(&listed.name) {
            None => {
                let chunk_count = by_pack.chunks(listed.name).len();
                bad.insert(listed.name, Fault::MissingPack { name, chunk_count });
            }
            Some(&found) if found != listed.length => {
                bad.insert(listed.name, Fault::PackLength { name, expected: listed.length, found });
            }
            Some(_) => {}
        }
    }
    let environment = repository.environment();
    let mut rotation = Rotation::load(environment.state.as_ref(), repository.config().repository);
    // What is wrong with one chunk was met while reading page maps; the whole pack tells more.
    let named = faults.iter().filter_map(Fault::name).filter(|name| name.is_pack()).filter_map(ObjectName::hash);
    let suspects: HashSet<ObjectHash> = named.chain(rotation.damaged()).collect();
    let given_up = structure.given_up();
    let is_looked_into = |pack: &ObjectHash| !given_up.contains(pack) && (read_data || suspects.contains(pack));
    let to_read: Vec<ListedPack> = structure
        .packs
        .iter()
        .filter(|(pack, _)| is_looked_into(pack) && !bad.contains_key(pack))
        .map(|(&name, &length)| ListedPack { name, length })
        .collect();
    if to_read.is_empty() {
        return Ok(bad);
    }
    let mut unreachable = None;
    read_packs(repository, &to_read, &by_pack, &|| false, monitor, |pack, mut faults| {
        if let Some(at) = faults.iter().position(|fault| !fault.is_damage()) {
            unreachable.get_or_insert(faults.swap_remove(at));
            return;
        }
        rotation.note(pack.name, environment.clock.now(), !faults.is_empty());
        if let Some(fault) = faults.into_iter().next() {
            bad.insert(pack.name, fault);
        }
    })?;
    let there: Vec<(ObjectHash, u64)> = structure.packs.iter().map(|(&pack, &bytes)| (pack, bytes)).collect();
    rotation.save(&there);
    match unreachable {
        Some(fault) => Err(RepairError::Unreachable(fault)),
        None => Ok(bad),
    }
}

/// What packs say of themselves; those that say nothing are left as they are, with a notice.
pub fn read_footers(
    repository: &Repository,
    packs: Vec<ListedPack>,
    monitor: &dyn Monitor,
) -> Result<Vec<(ListedPack, Vec<PackedChunk>)>, RepairError> {
    let (mut footers, mut unreachable) = (Vec::new(), None);
    for_each_footer(repository, packs, monitor, |footer| {
        match footer {
            Ok(footer) => footers.push(footer),
            Err(fault) if !fault.is_damage() => unreachable = Some(fault),
            Err(fault) => {
                let text = format!("{}; what may be in it cannot be listed anew", fault.describe());
                monitor.event(Event::Notice(text));
            }
        }
        Ok(())
    })?;
    footers.sort_unstable_by_key(|(pack, _)| pack.name);
    match unreachable {
        Some(fault) => Err(RepairError::Unreachable(fault)),
        None => Ok(footers),
    }
}

/// Finds out where each chunk stands that is needed. Those that stand in bad packs only are read.
pub fn find_homes(
    structure: &Structure,
    bad: &BTreeMap<ObjectHash, Fault>,
    monitor: &dyn Monitor,
) -> Result<Found, RepairError> {
    let lost = structure.reachable.lost().map(|(chunk, _)| (chunk, None)).collect();
    let mut found = Found { carried: Vec::new(), lost, homes: HashSet::new() };
    for places in structure.needed() {
        let is_good = |place: &&Place| structure.is_there(place) && !bad.contains_key(&place.pack.name);
        if let Some(home) = places.iter().find(is_good) {
            found.homes.insert(home.pack.name);
            continue;
        }
        monitor.check_cancelled()?;
        let Some(&first) = places.first() else { continue };
        match structure.reader.open_fetched(first, None, &|| "a snapshot".to_owned()) {
            Ok(_) => found.carried.push(first),
            Err(fault) if fault.is_damage() => _ = found.lost.insert(first.chunk.id, Some(first.pack.name)),
            Err(fault) => return Err(RepairError::Unreachable(fault)),
        }
    }
    Ok(found)
}
