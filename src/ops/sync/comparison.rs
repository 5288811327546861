//! What the copies of an object look like, and which are right.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use crate::base::error_text::with_causes;
use crate::base::id::{DatabaseId, ObjectHash};
use crate::format::damage::shows_damage;
use crate::format::name::ObjectName;
use crate::format::pack::MAX_PACK_BYTES;
use crate::store::lane::concurrently;
use crate::store::{Store, StoreError};

use super::{Holders, SyncOptions};

/// Of a disk that cannot read a sector.
const EIO: i32 = 5;

/// The destinations, and how to compare them.
pub struct Comparison<'a> {
    pub stores: &'a [Arc<dyn Store>],
    pub options: SyncOptions,
}

/// The hash of a copy; `None` for all copies of an object that were not read.
pub type Form = Option<ObjectHash>;

/// What the copies of an object look like, by the destinations' places. One that was deleted meanwhile is none of them.
#[derive(Clone, Default)]
pub struct Looked {
    /// Those that show no damage.
    pub sound: Vec<(usize, Form)>,
    /// Those that do.
    pub damaged: Vec<usize>,
    /// What kept others from being read.
    pub unread: Vec<String>,
}

impl Looked {
    /// What there is of those that show no damage.
    pub fn forms(&self) -> BTreeSet<Form> {
        self.sound.iter().map(|(_, form)| *form).collect()
    }

    /// Without the copies of these destinations.
    pub fn without(&self, places: &[usize]) -> Self {
        let mut rest = self.clone();
        rest.sound.retain(|(at, _)| !places.contains(at));
        rest.damaged.retain(|at| !places.contains(at));
        rest
    }
}

impl Comparison<'_> {
    /// Who has an object that no listing shows.
    pub fn holders(&self, name: &ObjectName) -> Holders {
        concurrently(self.options.width(self.stores.len()), self.stores, |store| {
            match store.read(name, MAX_PACK_BYTES) {
                Ok(bytes) => Some(bytes.len() as u64),
                Err(StoreError::NotFound { .. }) => None,
                // Looking at it will say why.
                Err(_) => Some(0),
            }
        })
    }

    /// Timelines of which two destinations have different last entries in common, or a copy shows damage there: further back others may, too.
    pub fn suspects(&self, entries: &BTreeMap<ObjectName, Holders>) -> BTreeSet<DatabaseId> {
        let mut last: BTreeMap<(DatabaseId, usize), (&ObjectName, &Holders)> = BTreeMap::new();
        for (name, holders) in entries.iter().filter(|(_, holders)| holders.iter().flatten().count() > 1) {
            let Some((database, _)) = name.timeline() else { continue };
            for at in (0..holders.len()).filter(|&at| holders[at].is_some()) {
                last.insert((database, at), (name, holders));
            }
        }
        let to_look_at: BTreeMap<&ObjectName, &Holders> = last.into_values().collect();
        let differs = |(name, holders): &(&ObjectName, &Holders)| {
            let looked = self.look(name, holders, true);
            looked.forms().len() > 1 || !looked.damaged.is_empty()
        };
        let suspects = to_look_at.into_iter().filter(differs);
        suspects.filter_map(|(name, _)| name.timeline()).map(|(database, _)| database).collect()
    }

    /// Looks at the copies; if their lengths agree, nothing is doubtful and not everything is to be read, they are taken for the same.
    pub fn look(&self, name: &ObjectName, holders: &Holders, doubtful: bool) -> Looked {
        let held: Vec<usize> = (0..holders.len()).filter(|&at| holders[at].is_some()).collect();
        let same_length = held.windows(2).all(|pair| holders[pair[0]] == holders[pair[1]]);
        if same_length && !doubtful && !self.options.read_data {
            return Looked { sound: held.into_iter().map(|at| (at, None)).collect(), ..Looked::default() };
        }
        let copies = concurrently(self.options.width(held.len()), &held, |&at| read_twice(&*self.stores[at], name));
        let mut looked = Looked::default();
        for (at, copy) in held.into_iter().zip(copies) {
            match copy {
                Ok(bytes) if shows_damage(name, &bytes) => looked.damaged.push(at),
                Ok(bytes) => looked.sound.push((at, Some(ObjectHash::of(&bytes)))),
                Err(StoreError::NotFound { .. }) => {}
                Err(StoreError::Truncated { .. }) => looked.damaged.push(at),
                Err(StoreError::Io { source, .. }) if is_damage(&source) => looked.damaged.push(at),
                Err(error) => looked.unread.push(with_causes(&error)),
            }
        }
        looked
    }

    /// What all that show no damage, or the preferred one, or more than half of the destinations have.
    pub fn decide(&self, looked: &Looked) -> Option<Form> {
        let mut votes: BTreeMap<Form, usize> = BTreeMap::new();
        for (_, form) in &looked.sound {
            *votes.entry(*form).or_default() += 1;
        }
        if votes.len() == 1 {
            return votes.into_keys().next();
        }
        let preferred = looked.sound.iter().find(|(at, _)| Some(*at) == self.options.prefer).map(|(_, form)| *form);
        let majority = votes.into_iter().find(|&(_, count)| count * 2 > self.stores.len()).map(|(form, _)| form);
        preferred.or(majority)
    }
}

/// A copy; one that shows damage is read once more, for it may have been damaged on its way.
fn read_twice(store: &dyn Store, name: &ObjectName) -> Result<Vec<u8>, StoreError> {
    let read = || store.read(name, MAX_PACK_BYTES);
    match read() {
        Ok(bytes) if shows_damage(name, &bytes) => read(),
        copy => copy,
    }
}

/// Longer than any object, or on bad sectors.
fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData || error.raw_os_error() == Some(EIO)
}
