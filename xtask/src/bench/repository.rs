//! Where a tool keeps its repository.

use std::path::{Path, PathBuf};

use super::bucket::Prefix;
use super::files::{self, Files};
use crate::failure::Failure;

/// A place for one repository.
pub enum Repository {
    Folder(PathBuf),
    /// Objects of an S3 server.
    Bucket(Prefix),
}

impl Repository {
    /// Every file or object in it with its length.
    pub fn stored(&self) -> Result<Files, Failure> {
        match self {
            Self::Folder(path) => files::below(path),
            Self::Bucket(prefix) => prefix.objects(),
        }
    }

    /// Whether the way to it is long enough for a cache to be of use.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Bucket(_))
    }

    /// For a tool that we run on folders alone.
    pub fn folder(&self) -> Result<&Path, Failure> {
        match self {
            Self::Folder(path) => Ok(path),
            Self::Bucket(prefix) => Err(Failure::new(format!("{} is not in a folder", prefix.url()))),
        }
    }
}
