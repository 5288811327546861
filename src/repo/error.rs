//! What can be wrong with a repository.

use crate::base::error_text::with_causes;
use crate::base::id::{ChunkId, DatabaseId, ObjectHash};
use crate::crypto::password::PasswordError;
use crate::format::FormatError;
use crate::format::name::ObjectName;
use crate::monitor::{Cancelled, Event, Monitor};
use crate::store::StoreError;

/// Of a disk that cannot read a sector.
const EIO: i32 = 5;

/// Why a repository did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no config.
    #[error("{location}: not a continuum repository (it has no config)")]
    NotARepository {
        /// Where.
        location: String,
    },
    /// There is one already.
    #[error("{location}: a repository exists there already")]
    AlreadyExists {
        /// Where.
        location: String,
    },
    /// No slot opens with the password. The wording is the same whatever is wrong with it.
    #[error("{location}: wrong password")]
    WrongPassword {
        /// Which repository.
        location: String,
    },
    /// A slot asks for too much, or the machine has too little memory.
    #[error("{name}: no key")]
    Password {
        /// The slot.
        name: ObjectName,
        /// Why.
        source: PasswordError,
    },
    /// There is no key slot at all, or none that parses.
    #[error("{location}: no usable key slot")]
    NoSlots {
        /// Which repository.
        location: String,
    },
    /// The last key slot must stay: without one the repository is lost.
    #[error("{location}: key slot {slot} is the last one; without it nobody can open the repository")]
    LastSlot {
        /// Which repository.
        location: String,
        /// Which slot.
        slot: String,
    },
    /// Something is damaged, missing or was altered.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Another writer extended the timeline first.
    #[error("{name}: another writer has extended this database's timeline meanwhile")]
    Fenced {
        /// The entry that it wrote.
        name: ObjectName,
    },
    /// A collector has taken, or marked, what a snapshot stands on: it is stored anew.
    #[error("what the snapshot stands on was deleted meanwhile")]
    Collected,
    /// Another process of this machine captures the database.
    #[error("{database}: another process on this machine is backing it up to this repository right now")]
    BeingCaptured {
        /// The database's name.
        database: String,
    },
    /// A watcher that did not end captures the database elsewhere.
    #[error("{database}: watched by a process on {host}, which may have commits that are not folded yet")]
    WatchedElsewhere {
        /// The database's name.
        database: String,
        /// Where.
        host: String,
    },
    /// Something that the last snapshot needs is lost.
    #[error("{database}: the last snapshot is damaged, and nothing is made from it")]
    DamagedBase {
        /// The database's name.
        database: String,
    },
    /// What this client remembers between runs cannot be read or written.
    #[error("local state cannot be used")]
    LocalState(#[source] std::io::Error),
    /// The whole index is needed, and only a part of it was read.
    #[error("only a part of the index was read")]
    PartialIndex,
    /// The user wants to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Decoding what was just encoded gave other bytes.
    #[error(
        "chunk {0} does not decode to what was encoded: nothing was uploaded; this machine's memory or processor may be faulty"
    )]
    Unfaithful(ChunkId),
}

impl RepositoryError {
    /// Whether a chunk was not to be found, or not looked for everywhere.
    pub fn misses_chunk(&self) -> bool {
        matches!(self, Self::Fault(Fault::MissingChunk { .. }) | Self::PartialIndex)
    }
}

/// Why something was not stored: the source or the repository failed.
#[derive(Debug)]
pub enum ImageError<E> {
    /// Pages could not be read.
    Source(E),
    /// Chunks could not be stored.
    Repository(RepositoryError),
}

impl<E> From<RepositoryError> for ImageError<E> {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}

/// Damage, loss or manipulation: something that should never be. `check` lists these.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// An object cannot be used.
    #[error("{name} cannot be used")]
    Object {
        /// Which object.
        name: ObjectName,
        /// Why.
        source: FormatError,
    },
    /// The bytes of a pack or an index segment do not have the hash in the name.
    #[error("{name} is damaged: its hash is {found}")]
    WrongHash {
        /// Which object.
        name: ObjectName,
        /// Of its bytes.
        found: ObjectHash,
    },
    /// An object cannot be read.
    #[error("{name} cannot be read")]
    Unreadable {
        /// Which object.
        name: ObjectName,
        /// Why.
        source: StoreError,
    },
    /// A pack that the index lists is not there.
    #[error("{name} is missing: the index lists {chunk_count} chunks in it")]
    MissingPack {
        /// Which pack.
        name: ObjectName,
        /// How many chunks it holds.
        chunk_count: usize,
    },
    /// A pack has another length than the index says.
    #[error("{name} has {found} bytes, the index says {expected}")]
    PackLength {
        /// Which pack.
        name: ObjectName,
        /// According to the index.
        expected: u64,
        /// According to the store.
        found: u64,
    },
    /// A pack's footer and the index contradict each other.
    #[error("{name}: the index and the pack's footer disagree about chunk {chunk}")]
    IndexDisagrees {
        /// Which pack.
        name: ObjectName,
        /// The first chunk they disagree about.
        chunk: ChunkId,
    },
    /// A chunk that something needs stands nowhere.
    #[error("{needed_by}: chunk {chunk} is in no index segment")]
    MissingChunk {
        /// Which chunk.
        chunk: ChunkId,
        /// What needs it.
        needed_by: String,
    },
    /// Further chunks that something needs stand nowhere.
    #[error("{count} further chunks that snapshots need are in no index segment")]
    MoreMissingChunks {
        /// How many.
        count: usize,
    },
    /// A chunk cannot be opened.
    #[error("{name}: chunk {chunk} at byte {offset} cannot be used")]
    Chunk {
        /// The pack.
        name: ObjectName,
        /// The chunk.
        chunk: ChunkId,
        /// Where it stands.
        offset: u32,
        /// Why.
        source: FormatError,
    },
    /// A snapshot's page map is wrong.
    #[error("snapshot {snapshot}: segment {position} of the page map (chunk {chunk}) cannot be used")]
    Layer {
        /// Which snapshot.
        snapshot: ObjectHash,
        /// Which segment, from 0.
        position: usize,
        /// Its chunk.
        chunk: ChunkId,
        /// Why.
        source: FormatError,
    },
    /// A page map points past the end of a chunk.
    #[error("snapshot {snapshot}: the page map points past the end of chunk {chunk}")]
    ShortChunk {
        /// Which snapshot.
        snapshot: ObjectHash,
        /// Which chunk.
        chunk: ChunkId,
    },
    /// A journal lacks commits although it has later ones.
    #[error("{database}: commit {commit} is missing from the journal although later ones are there")]
    MissingJournal {
        /// The database's name.
        database: String,
        /// The first that is missing.
        commit: u64,
    },
    /// An entry of a timeline is not there although later ones are.
    #[error("{name} is missing from its timeline")]
    MissingEntry {
        /// Which entry.
        name: ObjectName,
    },
    /// An entry does not follow the one before it.
    #[error("{name} does not continue the entry before it")]
    BrokenChain {
        /// Which entry.
        name: ObjectName,
    },
    /// Two destinations have different entries, each of them authentic.
    #[error("{first} and {second} hold different entries {name}: two writers wrote at once")]
    Forked {
        /// Which entry.
        name: ObjectName,
        /// A destination that holds the one.
        first: String,
        /// A destination that holds the other.
        second: String,
    },
    /// The timeline ends before the head that this client has seen, or has another entry there.
    #[error(
        "{name} was seen by this client with hash {seen}, but is missing or different now: the repository was rolled back or altered"
    )]
    RolledBack {
        /// The head that was seen.
        name: ObjectName,
        /// Its hash.
        seen: ObjectHash,
    },
    /// A file that no object's name fits.
    #[error("{name} is no name of an object")]
    ForeignName {
        /// The file.
        name: ObjectName,
    },
    /// A repository without any key slot.
    #[error("no key slot is left")]
    NoKeySlot,
}

impl Fault {
    /// The fault with all its causes, on one line.
    pub fn describe(&self) -> String {
        with_causes(self)
    }

    /// Whether something is wrong with the repository, and not only with the way to it.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Unreadable { source, .. } if source.is_about_access())
    }

    /// Whether an object is not there, which may be because it was deleted since somebody told of it.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Unreadable { source: StoreError::NotFound { .. }, .. })
    }

    /// The faults, if all of them are damage: what only cannot be read now is not to be left out.
    pub fn require_readable(faults: Vec<Self>) -> Result<Vec<Self>, Self> {
        let (damage, mut others): (Vec<Self>, Vec<Self>) = faults.into_iter().partition(Self::is_damage);
        others.pop().map_or(Ok(damage), Err)
    }

    /// The database whose timeline it is about, if it is about one.
    pub fn of_timeline(&self) -> Option<DatabaseId> {
        self.name()?.timeline().map(|(database, _)| database)
    }

    /// The object that it is about, if it is about one.
    pub fn name(&self) -> Option<&ObjectName> {
        match self {
            Self::Object { name, .. }
            | Self::WrongHash { name, .. }
            | Self::Unreadable { name, .. }
            | Self::MissingPack { name, .. }
            | Self::PackLength { name, .. }
            | Self::IndexDisagrees { name, .. }
            | Self::Chunk { name, .. }
            | Self::MissingEntry { name }
            | Self::BrokenChain { name }
            | Self::Forked { name, .. }
            | Self::RolledBack { name, .. }
            | Self::ForeignName { name } => Some(name),
            Self::MissingChunk { .. }
            | Self::MoreMissingChunks { .. }
            | Self::Layer { .. }
            | Self::ShortChunk { .. }
            | Self::MissingJournal { .. }
            | Self::NoKeySlot => None,
        }
    }

    /// Whether the object is there, and its bytes are for nobody to use: neither a later version of the program, nor whoever asks again.
    pub fn is_unusable(&self) -> bool {
        match self {
            Self::WrongHash { .. } => true,
            Self::Object { source, .. } => !matches!(source, FormatError::NewerVersion(_)),
            Self::Unreadable { source: StoreError::Truncated { .. }, .. } => true,
            Self::Unreadable { source: StoreError::Io { source, .. }, .. } => {
                source.kind() == std::io::ErrorKind::InvalidData || source.raw_os_error() == Some(EIO)
            }
            _ => false,
        }
    }

    /// Shows faults as notices, for work that goes on without what is damaged.
    pub fn report(faults: impl IntoIterator<Item = Self>, monitor: &dyn Monitor) {
        for fault in faults {
            monitor.event(Event::Notice(format!("{}; run `continuum check`", fault.describe())));
        }
    }

    /// A fault for an object that the store could not give.
    pub fn unreadable(name: &ObjectName) -> impl FnOnce(StoreError) -> Self {
        let name = name.clone();
        move |source| Self::Unreadable { name, source }
    }

    /// A fault for an object that does not parse.
    pub fn object(name: &ObjectName) -> impl FnOnce(FormatError) -> Self {
        let name = name.clone();
        move |source| Self::Object { name, source }
    }
}
