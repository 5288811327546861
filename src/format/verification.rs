//! `verifications/<name>`: what a verification found (`format-spec/verification.md`).

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::base::clock::UnixMicros;
use crate::base::entropy::Entropy;
use crate::base::id::{ImageRoot, ObjectHash};
use crate::crypto::secret::SecretKey;

use super::manifest::MAX_TEXT_BYTES;
use super::name::is_database_name;
use super::object::{self, ObjectType, SealContext};
use super::{FormatError, cbor, ensure};

/// The most records of an object.
pub const MAX_RECORDS: usize = 4096;
/// The most checks of a record.
const MAX_CHECKS: usize = 16;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// Every page was read, and the image's hash is the root.
    Hashes,
    /// Every object of the schema parses.
    Schema,
    /// Sampled rows: storage classes, content, their entries in indexes.
    Data,
    /// SQLite's own integrity_check and foreign_key_check.
    Integrity,
    /// A file was restored and proved.
    Restore,
}

impl std::fmt::Display for CheckKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hashes => "hashes",
            Self::Schema => "schema",
            Self::Data => "data",
            Self::Integrity => "integrity",
            Self::Restore => "restore",
        })
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All is well.
    Passed,
    /// Something is wrong.
    Failed,
    /// It could not be looked at.
    Skipped,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        })
    }
}

/// One check of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What was looked at.
    pub kind: CheckKind,
    /// What came of it.
    pub outcome: Outcome,
    /// For people.
    pub detail: String,
}

/// What was found in one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The database's name.
    pub database: String,
    /// The snapshot's id.
    pub snapshot: ObjectHash,
    /// BLAKE3 of its image, as its manifest says.
    pub root: ImageRoot,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// SHA-256 of the image, if it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<ByteArray<32>>,
    /// How long a test restore took, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_micros: Option<u64>,
}

impl Record {
    /// Whether nothing that was looked at is wrong.
    pub fn is_passed(&self) -> bool {
        self.checks.iter().all(|check| check.outcome != Outcome::Failed)
    }
}

/// What one run found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// When the run ended, on that host's clock.
    pub recorded: UnixMicros,
    /// Where it ran.
    pub host: String,
    /// Name and version of the program.
    pub tool: String,
    /// What was found.
    pub records: Vec<Record>,
}

impl Verification {
    /// The object.
    pub fn seal(&self, context: &SealContext, key: &SecretKey, entropy: &dyn Entropy) -> Vec<u8> {
        object::seal(ObjectType::Verification, context, key, &[], &cbor::encode(self), entropy)
    }

    /// Opens and checks an object.
    pub fn open(object: &[u8], context: &SealContext, key: &SecretKey) -> Result<Self, FormatError> {
        let cbor = object::open(object, ObjectType::Verification, context, key, &[])?;
        let verification: Self = cbor::decode(&cbor)?;
        let Self { host, tool, records, .. } = &verification;
        let is_short = |text: &String| text.len() <= MAX_TEXT_BYTES;
        ensure(is_short(host) && is_short(tool), "a text longer than 4,096 bytes")?;
        ensure((1..=MAX_RECORDS).contains(&records.len()), "no or more than 4,096 records")?;
        for record in records {
            ensure(is_database_name(&record.database), "no name of a database")?;
            ensure((1..=MAX_CHECKS).contains(&record.checks.len()), "no or more than 16 checks")?;
            ensure(record.checks.iter().all(|check| is_short(&check.detail)), "a text longer than 4,096 bytes")?;
        }
        Ok(verification)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::entropy::SeededEntropy;
    use crate::base::id::RepositoryId;
    use crate::crypto::aead::Suite;

    fn record() -> Record {
        let check = Check { kind: CheckKind::Hashes, outcome: Outcome::Passed, detail: "4 MiB".into() };
        let (snapshot, root) = (ObjectHash([1; 32]), ImageRoot([2; 32]));
        Record { database: "orders".into(), snapshot, root, checks: vec![check], sha256: None, restore_micros: None }
    }

    fn check(change: impl FnOnce(&mut Verification)) -> Result<(), &'static str> {
        let context = SealContext { repository: RepositoryId([1; 16]), suite: Suite::Aes256Gcm, epoch: 1 };
        let key = SecretKey::from_bytes([2; 32]);
        let mut verification =
            Verification { recorded: UnixMicros(7), host: "h".into(), tool: "t".into(), records: vec![record()] };
        change(&mut verification);
        let object = verification.seal(&context, &key, &SeededEntropy::new(1));
        let opened = Verification::open(&object, &context, &key).map_err(|error| error.name())?;
        assert_eq!(opened, verification);
        Ok(())
    }

    #[test]
    fn verifications_come_back() {
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(check(|v| v.records[0].sha256 = Some(ByteArray::new([3; 32]))), Ok(()));
        assert_eq!(check(|v| v.records[0].restore_micros = Some(u64::MAX)), Ok(()));
        assert_eq!(check(|v| v.records[0].checks[0].detail = "x".repeat(MAX_TEXT_BYTES)), Ok(()));
    }

    #[test]
    fn hostile_verifications_are_refused() {
        assert_eq!(check(|v| v.records.clear()), Err("malformed"));
        assert_eq!(check(|v| v.records = vec![record(); MAX_RECORDS + 1]), Err("malformed"));
        assert_eq!(check(|v| v.records[0].checks.clear()), Err("malformed"));
        assert_eq!(check(|v| v.records[0].database = "a/b".into()), Err("malformed"));
        assert_eq!(check(|v| v.host = "x".repeat(MAX_TEXT_BYTES + 1)), Err("malformed"));
        assert_eq!(check(|v| v.records[0].checks[0].detail = "x".repeat(MAX_TEXT_BYTES + 1)), Err("malformed"));
    }
}
