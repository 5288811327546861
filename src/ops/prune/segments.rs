//! Index segments without what is given up: written first, the old ones deleted after it. Many small ones are put together.

use std::collections::BTreeMap;

use crate::base::id::ObjectHash;
use crate::format::index::{IndexSegment, MAX_SEGMENT_ENTRIES};
use crate::format::name::{Folder, ObjectName};
use crate::format::pack::PackedChunk;
use crate::repo::copies::read_named;
use crate::repo::{Fault, Repository, RepositoryError};

/// Segments with fewer entries are small.
const SMALL_ENTRIES: usize = MAX_SEGMENT_ENTRIES / 4;

/// So many small ones are put together: each costs a request.
const MOST_SMALL: usize = 64;

/// Whether a pack is given up.
type IsBuried<'a> = dyn Fn(ObjectHash) -> bool + 'a;

/// How many are to be replaced.
pub fn to_replace(repository: &Repository, is_buried: &IsBuried<'_>) -> Result<usize, RepositoryError> {
    Ok(choose(repository, is_buried)?.len())
}

/// Replaces those that list packs that are given up. Returns how many.
pub fn replace(repository: &Repository, is_buried: &IsBuried<'_>) -> Result<usize, RepositoryError> {
    let old = choose(repository, is_buried)?;
    let mut new = IndexSegment::default();
    for name in &old {
        let Some(segment) = read(repository, name)? else { continue };
        let mut packs: BTreeMap<u32, Vec<PackedChunk>> = BTreeMap::new();
        for entry in segment.entries {
            packs.entry(entry.pack).or_default().push(entry.chunk);
        }
        for (pack, chunks) in packs {
            let pack = segment.packs[pack as usize];
            if is_buried(pack.name) {
                continue;
            }
            if new.entries.len() + chunks.len() > MAX_SEGMENT_ENTRIES {
                create(repository, std::mem::take(&mut new))?;
            }
            new.add(pack, &chunks);
        }
    }
    if !new.packs.is_empty() {
        create(repository, new)?;
    }
    for name in &old {
        repository.store().delete(name)?;
    }
    Ok(old.len())
}

fn choose(repository: &Repository, is_buried: &IsBuried<'_>) -> Result<Vec<ObjectName>, RepositoryError> {
    let (mut chosen, mut small) = (Vec::new(), Vec::new());
    for listed in repository.store().list(Folder::Index)? {
        let Some(segment) = read(repository, &listed.name)? else { continue };
        if segment.packs.iter().any(|pack| is_buried(pack.name)) {
            chosen.push(listed.name);
        } else if segment.entries.len() < SMALL_ENTRIES {
            small.push(listed.name);
        }
    }
    if small.len() >= MOST_SMALL {
        chosen.append(&mut small);
    }
    Ok(chosen)
}

/// A segment, unless another collector has replaced it since it was listed.
fn read(repository: &Repository, name: &ObjectName) -> Result<Option<IndexSegment>, Fault> {
    let (context, key) = (repository.config().seal_context(), &repository.keys().index);
    match read_named(repository, name, |object| IndexSegment::open(object, &context, key)) {
        Err(fault) if fault.is_absence() => Ok(None),
        read => read.map(Some),
    }
}

fn create(repository: &Repository, segment: IndexSegment) -> Result<(), RepositoryError> {
    let (context, key) = (repository.config().seal_context(), &repository.keys().index);
    let object = segment.seal(&context, key, &*repository.environment().entropy);
    repository.store().create(&ObjectName::index(ObjectHash::of(&object)), &object)?;
    Ok(())
}
