//! `journal/<writer>/<sequence>`: what a watcher captured in one flush, all its databases together (`format-spec/journal.md`).

use serde::{Deserialize, Serialize};

use crate::base::entropy::Entropy;
use crate::base::id::{ObjectHash, WriterId};
use crate::base::page::PageSize;
use crate::chunk::codec;
use crate::crypto::keys::Keyring;

use super::delta::{self, StepPart};
use super::name::is_database_name;
use super::object::{self, ObjectType, SealContext};
use super::{FormatError, cbor, ensure};

/// Encoded segments that one object may hold, so that it stays below the limit of sealed objects.
pub const MAX_JOURNAL_BYTES: usize = 8 << 20;

/// The most parts of an object.
const MAX_PARTS: usize = 65_536;

/// A database's commits since the flush before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalPart {
    /// The database's name.
    pub database: String,
    /// The snapshot whose state the journal continues: its timeline entry's hash.
    pub base: ObjectHash,
    /// The first commit in it.
    pub first_commit: u64,
    /// The last commit in it.
    pub last_commit: u64,
    /// A delta segment, encoded as a chunk is.
    #[serde(with = "serde_bytes")]
    pub segment: Vec<u8>,
}

/// What one flush wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalObject {
    /// In the order of capture for each database.
    pub parts: Vec<JournalPart>,
}

impl JournalPart {
    /// The steps in the part, all complete.
    pub fn steps(&self, page_size: PageSize) -> Result<Vec<StepPart>, FormatError> {
        let steps = delta::parse(&codec::decode(&self.segment)?, page_size)?;
        let commits = steps.first().map(|step| step.state.commit).zip(steps.last().map(|step| step.state.commit));
        ensure(
            commits == Some((self.first_commit, self.last_commit)),
            "a journal part holds other commits than it says",
        )?;
        ensure(steps.iter().all(|step| !step.more), "an unfinished step in a journal")?;
        Ok(steps)
    }
}

impl JournalObject {
    /// The object.
    pub fn seal(
        &self,
        writer: WriterId,
        sequence: u64,
        context: &SealContext,
        keys: &Keyring,
        entropy: &dyn Entropy,
    ) -> Vec<u8> {
        let binding = object::sequence_binding(writer.0, sequence);
        object::seal(ObjectType::Journal, context, &keys.journal, &binding, &cbor::encode(self), entropy)
    }

    /// Opens and checks the object that stands under the name of `writer` and `sequence`.
    pub fn open(
        object: &[u8],
        writer: WriterId,
        sequence: u64,
        context: &SealContext,
        keys: &Keyring,
    ) -> Result<Self, FormatError> {
        let cbor = object::open(
            object,
            ObjectType::Journal,
            context,
            &keys.journal,
            &object::sequence_binding(writer.0, sequence),
        )?;
        let opened: Self = cbor::decode(&cbor)?;
        ensure(opened.parts.len() <= MAX_PARTS, "more than 65,536 parts in a journal object")?;
        for part in &opened.parts {
            ensure(is_database_name(&part.database), "no name of a database")?;
            ensure((1..=part.last_commit).contains(&part.first_commit), "commits of a journal part out of order")?;
        }
        Ok(opened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixMicros;
    use crate::base::entropy::SeededEntropy;
    use crate::base::id::{ImageRoot, RepositoryId};
    use crate::base::page::PageNo;
    use crate::chunk::codec::Compression;
    use crate::crypto::aead::Suite;
    use crate::crypto::secret::SecretKey;
    use crate::format::delta::{Change, DeltaBuilder, Record, StepState};

    const WRITER: WriterId = WriterId([5; 16]);

    fn round_trip(flush: &JournalObject, writer: WriterId, sequence: u64) -> Result<JournalObject, FormatError> {
        let keys = Keyring::new(SecretKey::from_bytes([9; 32]));
        let context = SealContext { repository: RepositoryId([1; 16]), suite: Suite::Aes256Gcm, epoch: 1 };
        let object = flush.seal(WRITER, 1, &context, &keys, &SeededEntropy::new(1));
        JournalObject::open(&object, writer, sequence, &context, &keys)
    }

    /// A part of these commits whose segment holds the commits 4 and 5.
    fn part(first_commit: u64, last_commit: u64) -> JournalPart {
        let mut builder = DeltaBuilder::default();
        for commit in [4, 5] {
            let root = ImageRoot([1; 32]);
            builder.begin(&StepState { commit, captured: UnixMicros(1), page_count: 2, low_page_count: 2, root });
            builder.push(&Record { page: PageNo(2), change: Change::Plain(vec![1; 512]) });
        }
        let segment = builder.finish().expect("BUG: a step was begun");
        let segment = codec::encode(&segment, Compression::default());
        JournalPart { database: "a".into(), base: ObjectHash([2; 32]), first_commit, last_commit, segment }
    }

    #[test]
    fn a_flush_comes_back_only_under_its_own_name() {
        for parts in [vec![], vec![part(4, 5)], vec![part(4, 5), JournalPart { database: "b".into(), ..part(1, 9) }]] {
            let flush = JournalObject { parts };
            assert_eq!(round_trip(&flush, WRITER, 1), Ok(flush.clone()));
            assert_eq!(round_trip(&flush, WRITER, 2), Err(FormatError::NotAuthentic));
            assert_eq!(round_trip(&flush, WriterId([6; 16]), 1), Err(FormatError::NotAuthentic));
        }
    }

    #[test]
    fn hostile_parts_are_refused() {
        let check = |parts| round_trip(&JournalObject { parts }, WRITER, 1).map_err(|error| error.name()).map(drop);
        let small = JournalPart { segment: Vec::new(), ..part(1, 1) };
        assert_eq!(check(vec![small.clone(); MAX_PARTS]), Ok(()));
        for (what, parts) in [
            ("first commit 0", vec![part(0, 5)]),
            ("commits out of order", vec![part(5, 4)]),
            ("no name", vec![part(4, 5), JournalPart { database: "a/b".into(), ..part(4, 5) }]),
            ("65,537 parts", vec![small; MAX_PARTS + 1]),
        ] {
            assert_eq!(check(parts), Err("malformed"), "{what}");
        }
    }

    #[test]
    fn a_part_holds_the_commits_that_it_says() {
        let page_size = PageSize::new(512).expect("BUG: a page size");
        let steps = |part: &JournalPart| part.steps(page_size).map(|steps| steps.len()).map_err(|error| error.name());
        assert_eq!(steps(&part(4, 5)), Ok(2));
        assert_eq!(steps(&part(3, 5)), Err("malformed"));
        assert_eq!(steps(&part(4, 6)), Err("malformed"));
        assert_eq!(steps(&JournalPart { segment: vec![0x70, 1, 0, 0, 0], ..part(4, 5) }), Err("unknown-encoding"));
        // A builder leaves a step unfinished when it closes the segment within it.
        let mut builder = DeltaBuilder::default();
        let root = ImageRoot([1; 32]);
        builder.begin(&StepState { commit: 4, captured: UnixMicros(1), page_count: 9_000, low_page_count: 2, root });
        let record = |page| Record { page: PageNo(page), change: Change::Plain(vec![1; 512]) };
        let full = (1..).find_map(|page| builder.push(&record(page))).expect("BUG: it is full in the end");
        let segment = codec::encode(&full, Compression::default());
        assert_eq!(steps(&JournalPart { segment, ..part(4, 4) }), Err("malformed"));
    }
}
