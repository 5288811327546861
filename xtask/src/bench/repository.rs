//! Where a tool keeps its repository, and how each tool is told so.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bucket::{Prefix, Server};
use super::tool::Tool;
use crate::failure::Failure;

/// Files, or objects, and their lengths.
pub type Files = BTreeMap<PathBuf, u64>;

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
            Self::Folder(path) => {
                let mut files = Files::new();
                list_files(path, &mut files).map_err(Failure::io("list", path))?;
                Ok(files)
            }
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

    /// Adds to a command of `tool` where the repository is, and that it needs no cache if that is here. A tool that takes
    /// the place with each of its commands is told nothing.
    pub fn point(&self, tool: Tool, command: &mut Command) -> Result<(), Failure> {
        match (tool, self) {
            (Tool::Ours, Self::Folder(path)) => command.arg("-r").arg(path),
            // So it says at its end what it asked of the server.
            (Tool::Ours, Self::Bucket(prefix)) => {
                credentials(prefix, command).args(["--verbose", "-r"]).arg(prefix.url())
            }
            (Tool::Restic, Self::Folder(path)) => command.args(["--no-cache", "-r"]).arg(path),
            (Tool::Restic, Self::Bucket(prefix)) => {
                let Server { endpoint, region, .. } = &prefix.bucket.server;
                let place = format!("s3:{endpoint}/{}/{}", prefix.bucket.name, prefix.name);
                credentials(prefix, command).env("AWS_DEFAULT_REGION", region).args(["-r", &place])
            }
            // Where global options may stand differs between versions; the environment always works.
            (Tool::Rustic, Self::Folder(path)) => command.env("RUSTIC_REPOSITORY", path).env("RUSTIC_NO_CACHE", "true"),
            // It hands these variables to OpenDAL, which knows the credentials by the names that all clients use.
            (Tool::Rustic, Self::Bucket(prefix)) => credentials(prefix, command)
                .env("RUSTIC_REPOSITORY", "opendal:s3")
                .env("OPENDAL_BUCKET", &prefix.bucket.name)
                .env("OPENDAL_ROOT", format!("/{}", prefix.name))
                .env("OPENDAL_ENDPOINT", &prefix.bucket.server.endpoint)
                .env("OPENDAL_REGION", &prefix.bucket.server.region),
            (Tool::Borg, _) => command.env("BORG_REPO", self.folder()?),
            (Tool::Litestream | Tool::Zstd | Tool::Copy, _) => self.folder().map(|_| command)?,
        };
        Ok(())
    }
}

fn credentials<'c>(prefix: &Prefix, command: &'c mut Command) -> &'c mut Command {
    command.envs(prefix.bucket.server.credentials.iter().cloned())
}

/// A daemon may delete files while they are listed: those are not there.
fn list_files(directory: &Path, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => list_files(&entry.path(), files)?,
            Ok(metadata) => {
                files.insert(entry.path(), metadata.len());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
