//! Names of objects, spelled here and nowhere else (`format-spec/README.md`, "Names").

use std::fmt;

use crate::base::id::{DatabaseId, ObjectHash, SlotId, WriterId};

/// The longest name of a database, in bytes of UTF-8.
pub const MAX_DATABASE_NAME_BYTES: usize = 255;

/// The name of an object, or of a folder of objects, in a store: lower-case segments joined by `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// A folder to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// Key slots.
    Keys,
    /// Packs.
    Packs,
    /// Index segments.
    Index,
    /// All timelines.
    Timelines,
    /// One database's timeline.
    Timeline(DatabaseId),
    /// All journals.
    Journals,
    /// One writer's journal.
    Journal(WriterId),
    /// Verifications.
    Verifications,
    /// Tombstones.
    Tombstones,
    /// What is left of finding out what the store can do.
    Probes,
}

impl ObjectName {
    /// `config`.
    pub fn config() -> Self {
        Self("config".into())
    }

    /// A key slot.
    pub fn key_slot(slot: SlotId) -> Self {
        Self(format!("keys/{slot}"))
    }

    /// A pack.
    pub fn pack(hash: ObjectHash) -> Self {
        let hash = hash.to_string();
        Self(format!("packs/{}/{hash}", &hash[..2]))
    }

    /// An index segment.
    pub fn index(hash: ObjectHash) -> Self {
        Self(format!("index/{hash}"))
    }

    /// A verification.
    pub fn verification(hash: ObjectHash) -> Self {
        Self(format!("verifications/{hash}"))
    }

    /// A tombstone.
    pub fn tombstone(hash: ObjectHash) -> Self {
        Self(format!("tombstones/{hash}"))
    }

    /// An entry of a timeline.
    pub fn timeline_entry(database: DatabaseId, sequence: u64) -> Self {
        Self(format!("timelines/{database}/{sequence:016x}"))
    }

    /// An object of a journal.
    pub fn journal(writer: WriterId, sequence: u64) -> Self {
        Self(format!("journal/{writer}/{sequence:016x}"))
    }

    /// An object that is made and deleted to find out what a store can do.
    pub fn probe(random: WriterId) -> Self {
        Self(format!("probe/{random}"))
    }

    /// Whether it is one of those.
    pub fn is_probe(&self) -> bool {
        self.0.starts_with("probe/")
    }

    /// Whether it is one of the first objects of a repository. Only for these may a store make the repository's own folder: one that was moved away or unmounted
    /// must not be made anew, for what went there would be lost.
    pub fn begins_a_repository(&self) -> bool {
        self.slot().is_some() || self.is_probe() || *self == Self::config()
    }

    /// A name as a store lists it.
    pub fn from_listing(name: String) -> Self {
        Self(name)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hash that names a pack, an index segment, a verification or a tombstone.
    pub fn hash(&self) -> Option<ObjectHash> {
        let hash: ObjectHash = self.last().parse().ok()?;
        let named = [Self::pack(hash), Self::index(hash), Self::verification(hash), Self::tombstone(hash)];
        named.contains(self).then_some(hash)
    }

    /// Whether it is that of a pack.
    pub fn is_pack(&self) -> bool {
        self.hash().is_some_and(|hash| *self == Self::pack(hash))
    }

    /// The slot that this name is for.
    pub fn slot(&self) -> Option<SlotId> {
        let slot = self.last().parse().ok()?;
        (*self == Self::key_slot(slot)).then_some(slot)
    }

    /// The database and sequence that this name is for.
    pub fn timeline(&self) -> Option<(DatabaseId, u64)> {
        let (database, sequence) = self.0.strip_prefix("timelines/")?.split_once('/')?;
        let (database, sequence) = (database.parse().ok()?, u64::from_str_radix(sequence, 16).ok()?);
        (*self == Self::timeline_entry(database, sequence)).then_some((database, sequence))
    }

    /// The writer and sequence that this name is for.
    pub fn journal_position(&self) -> Option<(WriterId, u64)> {
        let (writer, sequence) = self.0.strip_prefix("journal/")?.split_once('/')?;
        let (writer, sequence) = (writer.parse().ok()?, u64::from_str_radix(sequence, 16).ok()?);
        (*self == Self::journal(writer, sequence)).then_some((writer, sequence))
    }

    fn last(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Folder {
    /// The prefix that all its objects share, with a final `/`.
    pub fn prefix(self) -> String {
        match self {
            Self::Keys => "keys/".into(),
            Self::Packs => "packs/".into(),
            Self::Index => "index/".into(),
            Self::Timelines => "timelines/".into(),
            Self::Timeline(database) => format!("timelines/{database}/"),
            Self::Journals => "journal/".into(),
            Self::Journal(writer) => format!("journal/{writer}/"),
            Self::Verifications => "verifications/".into(),
            Self::Tombstones => "tombstones/".into(),
            Self::Probes => "probe/".into(),
        }
    }
}

/// Whether a database may be called that: 1 to 255 bytes, no control characters, no `/`, and not `.` or `..`,
/// so that a name is a file name as well.
pub fn is_database_name(name: &str) -> bool {
    (1..=MAX_DATABASE_NAME_BYTES).contains(&name.len())
        && !name.chars().any(|c| c.is_control() || c == '/')
        && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_to_what_they_were_made_from() {
        let hash = ObjectHash([0xab; 32]);
        assert_eq!(ObjectName::pack(hash).hash(), Some(hash));
        assert!(ObjectName::pack(hash).as_str().starts_with("packs/ab/abab"));
        assert_eq!(ObjectName::index(hash).hash(), Some(hash));
        assert_eq!(ObjectName::verification(hash).hash(), Some(hash));
        assert_eq!(ObjectName::tombstone(hash).hash(), Some(hash));
        assert_eq!(ObjectName::key_slot(SlotId([1; 8])).slot(), Some(SlotId([1; 8])));
        let entry = ObjectName::timeline_entry(DatabaseId([2; 16]), 77);
        assert_eq!(entry.timeline(), Some((DatabaseId([2; 16]), 77)));
        let journal = ObjectName::journal(WriterId([3; 16]), 78);
        assert_eq!((journal.journal_position(), journal.timeline()), (Some((WriterId([3; 16]), 78)), None));
    }

    #[test]
    fn other_spellings_are_no_names() {
        for text in ["timelines/x/1", "packs/ac/abab", "keys/", "", "timelines/02020202020202020202020202020202/4d"] {
            let name = ObjectName::from_listing(text.into());
            assert!(name.hash().is_none() && name.slot().is_none() && name.timeline().is_none(), "{text}");
        }
    }

    #[test]
    fn database_names_are_safe_as_file_names() {
        assert!(is_database_name("orders 2026"));
        for bad in ["", ".", "..", "a/b", "a\nb", "a\0b", &"x".repeat(256)] {
            assert!(!is_database_name(bad), "{bad:?}");
        }
    }
}
