//! What one destination holds, and what its listings show of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use continuum::format::name::ObjectName;
use continuum::store::Listed;

/// See the module documentation.
#[derive(Default)]
pub struct Place {
    /// What it holds.
    pub objects: BTreeMap<ObjectName, Object>,
    /// Objects that were deleted lately and that listings may still show.
    pub ghosts: BTreeMap<ObjectName, Ghost>,
}

/// An object.
#[derive(Clone)]
pub struct Object {
    /// Its content.
    pub bytes: Arc<Vec<u8>>,
    /// Listings show it from then on.
    pub shows_from: i64,
    /// The latest time that its writer has seen.
    pub clock: i64,
}

/// An object that was deleted.
pub struct Ghost {
    /// Its length.
    pub bytes: u64,
    /// Listings may show it until then.
    pub shows_until: i64,
}

impl Place {
    /// What a listing shows.
    pub fn list(&mut self, now: i64, prefix: &str) -> Vec<Listed> {
        let from = ObjectName::from_listing(prefix.to_owned());
        let Self { objects, ghosts } = self;
        ghosts.retain(|_, ghost| ghost.shows_until > now);
        let there = objects.range(from..).take_while(|(name, _)| name.as_str().starts_with(prefix));
        let there = there.filter(|(_, object)| object.shows_from <= now);
        let mut listed: Vec<Listed> =
            there.map(|(name, object)| Listed { name: name.clone(), bytes: object.bytes.len() as u64 }).collect();
        let ghosts = ghosts.iter().filter(|(name, _)| name.as_str().starts_with(prefix));
        listed.extend(ghosts.map(|(name, ghost)| Listed { name: name.clone(), bytes: ghost.bytes }));
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        listed
    }
}
