//! What is wrong, and why an operation of an actor failed, and whether it may fail for that.

use continuum::ops::forget::ForgetError;
use continuum::ops::prune::PruneError;
use continuum::ops::repair::RepairError;
use continuum::ops::snapshot::SnapshotError;
use continuum::repo::{Fault, RepositoryError};
use continuum::store::StoreError;

/// Something that must hold, or what is wrong with it, for people.
pub type Verdict = Result<(), String>;

/// Why an operation failed.
#[derive(Debug)]
pub struct Failure {
    /// For people.
    pub text: String,
    /// Whether it can happen in a world without faults: because of what others do.
    pub is_expected: bool,
}

impl Failure {
    /// Nothing that others do makes this happen.
    pub fn unexpected(text: String) -> Self {
        Self { text, is_expected: false }
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        let is_expected = matches!(
            error,
            RepositoryError::Fenced { .. }
                | RepositoryError::Collected
                | RepositoryError::BeingCaptured { .. }
                | RepositoryError::WatchedElsewhere { .. }
        );
        Self { text: describe(&error), is_expected }
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Repository(error) => error.into(),
            SnapshotError::Source(error) => Self::unexpected(describe(&error)),
        }
    }
}

impl From<PruneError> for Failure {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Repository(error) => error.into(),
            error => Self::unexpected(describe(&error)),
        }
    }
}

impl From<ForgetError> for Failure {
    fn from(error: ForgetError) -> Self {
        match error {
            ForgetError::Repository(error) => error.into(),
            // Others were faster, or there is nothing to change.
            error => Self { text: describe(&error), is_expected: true },
        }
    }
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Self {
        match error {
            RepairError::Repository(error) => error.into(),
            error => Self::unexpected(describe(&error)),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        RepositoryError::from(error).into()
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        RepositoryError::from(fault).into()
    }
}

fn describe(error: &dyn std::error::Error) -> String {
    continuum::base::error_text::with_causes(error)
}
