//! `timelines/<database>/<sequence>`: the append-only, hash-chained log of one database (`format-spec/timeline.md`).

use serde::{Deserialize, Serialize};

use crate::base::clock::UnixMicros;
use crate::base::entropy::Entropy;
use crate::base::id::{ChunkId, DatabaseId, ObjectHash, WriterId};
use crate::crypto::keys::Keyring;

use super::manifest::{MAX_TEXT_BYTES, Manifest};
use super::name::is_database_name;
use super::object::{self, ObjectType, SealContext};
use super::{FormatError, cbor, ensure};

/// What an entry records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The log begins: a snapshot is being made. Collectors know by it that somebody may be at work.
    Begun {},
    /// A snapshot was taken, or a watcher's commits were folded.
    Snapshot(Manifest),
    /// A watcher began: until it ends, commits after the last snapshot are in its journal.
    WatchStarted(Watch),
    /// A watcher ended, and nothing of its journal is left to fold.
    WatchEnded(Watch),
    /// Snapshots are no restore points any more, but kept for a while.
    Forgotten {
        /// Those that are not held.
        snapshots: Vec<SnapshotRef>,
        /// They are not collected before that time.
        until: UnixMicros,
    },
    /// They are again.
    Unforgotten {
        /// Those that are not gone.
        snapshots: Vec<SnapshotRef>,
    },
    /// A snapshot cannot be forgotten, and is not.
    Held {
        /// Which.
        snapshot: SnapshotRef,
        /// Why, for people.
        reason: String,
    },
    /// It can be forgotten.
    Released {
        /// Which.
        snapshot: SnapshotRef,
    },
    /// A repair has found these lost, or in need of a chunk that is; a full snapshot has proved others whole.
    Damaged {
        /// All segments of layers of which that is so now.
        segments: Vec<ChunkId>,
    },
    /// A collector passed by: whoever appends after it has read the tombstones that were written before it.
    Collected {
        /// All entries that are gone, those that were gone before, too.
        gone: Vec<Run>,
    },
}

/// A snapshot in the same timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRef {
    /// Its place.
    pub sequence: u64,
    /// Its id.
    pub id: ObjectHash,
}

/// Entries that are gone, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Hash of the last: what the entry behind it continues.
    pub last_id: ObjectHash,
}

impl Run {
    /// Whether the entry is one of them.
    pub fn contains(&self, sequence: u64) -> bool {
        (self.first..=self.last).contains(&sequence)
    }
}

/// The most snapshots, segments or runs that an entry names.
pub const MAX_NAMED: usize = 65_536;

/// Who watches a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The folder of its journal.
    pub writer: WriterId,
    /// Where it runs.
    pub host: String,
}

/// An entry of a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimelineEntry {
    /// Its number, from 1, without gaps.
    pub sequence: u64,
    /// Hash of the entry object before it; zeros for the first.
    pub previous: ObjectHash,
    /// The database's name.
    pub database: String,
    /// When it was written, on the writer's clock.
    pub recorded: UnixMicros,
    /// What happened.
    pub event: Event,
}

/// `previous` of the first entry.
pub const NO_ENTRY: ObjectHash = ObjectHash([0; 32]);

impl TimelineEntry {
    /// The object.
    pub fn seal(&self, context: &SealContext, keys: &Keyring, entropy: &dyn Entropy) -> Vec<u8> {
        let binding = object::sequence_binding(keys.database_id(&self.database).0, self.sequence);
        object::seal(ObjectType::TimelineEntry, context, &keys.timeline, &binding, &cbor::encode(self), entropy)
    }

    /// Opens and checks the object that stands under the name of `database` and `sequence`.
    pub fn open(
        object: &[u8],
        database: DatabaseId,
        sequence: u64,
        context: &SealContext,
        keys: &Keyring,
    ) -> Result<Self, FormatError> {
        let binding = object::sequence_binding(database.0, sequence);
        let cbor = object::open(object, ObjectType::TimelineEntry, context, &keys.timeline, &binding)?;
        let entry: Self = cbor::decode(&cbor)?;
        if entry.sequence != sequence || keys.database_id(&entry.database) != database {
            return Err(FormatError::WrongName);
        }
        ensure(is_database_name(&entry.database), "no name of a database")?;
        entry.event.validate(sequence)?;
        Ok(entry)
    }
}

impl Event {
    /// Whether it writes to the history of the database: only one writer at a time may.
    pub fn is_history(&self) -> bool {
        matches!(self, Self::Snapshot(_) | Self::WatchStarted(_) | Self::WatchEnded(_))
    }

    /// Checks what the types do not say.
    fn validate(&self, sequence: u64) -> Result<(), FormatError> {
        let text = |text: &str| ensure(text.len() <= MAX_TEXT_BYTES, "a text longer than 4,096 bytes");
        match self {
            Self::Snapshot(manifest) => manifest.validate(),
            Self::WatchStarted(watch) | Self::WatchEnded(watch) => text(&watch.host),
            Self::Forgotten { snapshots, .. } | Self::Unforgotten { snapshots } => {
                ensure((1..=MAX_NAMED).contains(&snapshots.len()), "none or too many snapshots")
            }
            Self::Held { reason, .. } => text(reason),
            Self::Damaged { segments } => ensure(segments.len() <= MAX_NAMED, "too many segments"),
            Self::Collected { gone } => {
                ensure(gone.len() <= MAX_NAMED, "too many runs")?;
                let in_order = gone.iter().all(|run| 1 <= run.first && run.first <= run.last && run.last < sequence);
                // Runs that touch are one.
                let apart = gone.is_sorted_by(|a, b| a.last.checked_add(1).is_some_and(|next| next < b.first));
                ensure(in_order && apart, "runs that are not ascending, or too late")
            }
            Self::Begun {} | Self::Released { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SeededEntropy;
    use crate::base::id::{ImageRoot, RepositoryId};
    use crate::crypto::aead::Suite;
    use crate::crypto::secret::SecretKey;
    use crate::format::layer::MAX_SEGMENTS;
    use crate::format::manifest::{Layer, LayerKind, MAX_LAYERS, Strategy};

    fn image() -> Layer {
        Layer {
            kind: LayerKind::Image,
            first_commit: 9,
            last_commit: 9,
            page_count: 3,
            low_page_count: 3,
            record_bytes: 0,
            segments: vec![ChunkId([4; 32])],
        }
    }

    fn delta() -> Layer {
        Layer {
            kind: LayerKind::Delta,
            first_commit: 10,
            last_commit: 12,
            low_page_count: 2,
            record_bytes: 99,
            ..image()
        }
    }

    /// A snapshot of an image and a delta.
    fn entry() -> TimelineEntry {
        let manifest = Manifest {
            strategy: Strategy::Incremental,
            tags: vec!["daily".into()],
            host: "host".into(),
            source: "/data/orders.db".into(),
            captured: UnixMicros(5),
            tool: "continuum".into(),
            journal_mode: "wal".into(),
            page_size: 4096,
            page_count: 3,
            root: ImageRoot([6; 32]),
            commit: 12,
            lineage: 2,
            layers: vec![image(), delta()],
            added: 7,
        };
        TimelineEntry {
            sequence: 1,
            previous: NO_ENTRY,
            database: "orders".into(),
            recorded: UnixMicros(8),
            event: Event::Snapshot(manifest),
        }
    }

    fn round_trip(entry: &TimelineEntry, sequence: u64) -> Result<TimelineEntry, FormatError> {
        let keys = Keyring::new(SecretKey::from_bytes([1; 32]));
        let context = SealContext { repository: RepositoryId([2; 16]), suite: Suite::Aes256Gcm, epoch: 1 };
        let object = entry.seal(&context, &keys, &SeededEntropy::new(1));
        TimelineEntry::open(&object, keys.database_id("orders"), sequence, &context, &keys)
    }

    /// What becomes of the entry when its manifest is changed.
    fn check(change: impl FnOnce(&mut Manifest)) -> Result<(), &'static str> {
        let mut entry = entry();
        let Event::Snapshot(manifest) = &mut entry.event else { panic!("BUG: the entry is a snapshot") };
        change(manifest);
        let opened = round_trip(&entry, 1).map_err(|error| error.name())?;
        assert_eq!(opened, entry);
        Ok(())
    }

    #[test]
    fn an_entry_opens_in_its_own_place_only() {
        assert_eq!(round_trip(&entry(), 1), Ok(entry()));
        assert_eq!(round_trip(&entry(), 2), Err(FormatError::NotAuthentic));
        let other = TimelineEntry { database: "others".into(), ..entry() };
        assert_eq!(round_trip(&other, 1), Err(FormatError::NotAuthentic));
        assert_eq!(round_trip(&TimelineEntry { sequence: 2, ..entry() }, 1), Err(FormatError::NotAuthentic));
    }

    #[test]
    fn watches_come_back_and_bound_their_host() {
        for (host_bytes, fits) in [(0, true), (MAX_TEXT_BYTES, true), (MAX_TEXT_BYTES + 1, false)] {
            let watch = Watch { writer: WriterId([3; 16]), host: "h".repeat(host_bytes) };
            for event in [Event::WatchStarted(watch.clone()), Event::WatchEnded(watch.clone())] {
                let entry = TimelineEntry { event, ..entry() };
                let opened = round_trip(&entry, 1).map_err(|error| error.name());
                assert_eq!(opened, if fits { Ok(entry) } else { Err("malformed") }, "{host_bytes} bytes");
            }
        }
    }

    #[test]
    fn what_an_entry_names_is_bounded() {
        let named = |count: usize| vec![SnapshotRef { sequence: 3, id: ObjectHash([5; 32]) }; count];
        let run =
            |nth: usize| Run { first: 1 + 2 * nth as u64, last: 1 + 2 * nth as u64, last_id: ObjectHash([5; 32]) };
        let gone = |count: usize| Event::Collected { gone: (0..count).map(run).collect() };
        let damaged = |count: usize| Event::Damaged { segments: vec![ChunkId([5; 32]); count] };
        let (most, sequence) = (MAX_NAMED, 3 * MAX_NAMED as u64);
        for (event, fits) in [
            (Event::Forgotten { snapshots: named(most), until: UnixMicros(1) }, true),
            (Event::Forgotten { snapshots: named(most + 1), until: UnixMicros(1) }, false),
            (Event::Unforgotten { snapshots: named(most) }, true),
            (Event::Unforgotten { snapshots: named(most + 1) }, false),
            (damaged(most), true),
            (damaged(most + 1), false),
            (gone(most), true),
            (gone(most + 1), false),
        ] {
            let entry = TimelineEntry { event, sequence, ..entry() };
            let opened = round_trip(&entry, sequence).map_err(|error| error.name());
            assert!(opened == if fits { Ok(entry) } else { Err("malformed") });
        }
    }

    #[test]
    fn manifests_at_the_limits_come_back() {
        let good: [fn(&mut Manifest); 7] = [
            |_| {},
            |m| (m.layers, m.commit) = (vec![image()], 9),
            |m| m.layers = [vec![image()], vec![delta(); MAX_LAYERS - 1]].concat(),
            |m| m.layers[0].page_count = 2,
            |m| m.layers[1].low_page_count = 0,
            |m| (m.layers[1].first_commit, m.layers[1].last_commit, m.commit) = (1, u64::MAX, u64::MAX),
            |m| m.layers[1].segments = vec![ChunkId([5; 32]); MAX_SEGMENTS],
        ];
        for (i, change) in good.into_iter().enumerate() {
            let adjusted = |m: &mut Manifest| {
                change(m);
                m.layers[0].low_page_count = m.layers[0].page_count;
            };
            assert_eq!(check(adjusted), Ok(()), "change {i}");
        }
        for strategy in
            [Strategy::Full, Strategy::Differential, Strategy::Incremental, Strategy::Continuous, Strategy::Compaction]
        {
            assert_eq!(check(|m| m.strategy = strategy), Ok(()), "{strategy}");
        }
    }

    #[test]
    fn hostile_manifests_are_refused() {
        type Spoil = fn(&mut Manifest);
        let changes: [(&str, Spoil); 24] = [
            ("page size", |m| m.page_size = 100),
            ("no pages", |m| (m.page_count, m.layers[1].page_count, m.layers[1].low_page_count) = (0, 0, 0)),
            ("too many pages", |m| (m.page_count, m.layers[1].page_count) = (u32::MAX, u32::MAX)),
            ("no pages of the image", |m| {
                (m.layers[0].page_count, m.layers[0].low_page_count) = (0, 0);
                m.layers[0].segments.clear();
            }),
            ("too many pages of the image", |m| m.layers[0].page_count = u32::MAX),
            ("an empty tag", |m| m.tags = vec![String::new()]),
            ("a long text", |m| m.tool = "x".repeat(MAX_TEXT_BYTES + 1)),
            ("no layers", |m| m.layers.clear()),
            ("33 layers", |m| m.layers = [vec![image()], vec![delta(); MAX_LAYERS]].concat()),
            ("only a delta", |m| m.layers = vec![delta()]),
            ("a delta first", |m| m.layers.insert(0, delta())),
            ("an image second", |m| (m.layers, m.commit) = (vec![image(), image()], 9)),
            ("an image between", |m| m.layers.insert(1, image())),
            ("a delta without segments", |m| m.layers[1].segments.clear()),
            ("a delta of 65,537 segments", |m| m.layers[1].segments = vec![ChunkId([5; 32]); MAX_SEGMENTS + 1]),
            ("an image without segments", |m| m.layers[0].segments.clear()),
            ("a segment of the image too many", |m| m.layers[0].segments.push(ChunkId([5; 32]))),
            ("a delta's first commit 0", |m| m.layers[1].first_commit = 0),
            ("the image's first commit 0", |m| m.layers[0].first_commit = 0),
            ("first commit after the last", |m| m.layers[1].first_commit = 13),
            ("a delta's low count above", |m| m.layers[1].low_page_count = 4),
            ("the image's low count above", |m| m.layers[0].low_page_count = 4),
            ("another page count at the top", |m| m.layers[1].page_count = 4),
            ("another commit at the top", |m| m.commit = 11),
        ];
        for (what, change) in changes {
            assert_eq!(check(change), Err("malformed"), "{what}");
        }
    }
}
