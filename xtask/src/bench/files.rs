//! What is stored.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Files, or objects, and their lengths.
pub type Files = BTreeMap<PathBuf, u64>;

/// The files in a folder and in those in it.
pub fn below(folder: &Path) -> Result<Files, Failure> {
    let mut files = Files::new();
    list(folder, &mut files).map_err(Failure::io("list", folder))?;
    Ok(files)
}

/// A daemon may delete files while they are listed: those are not there.
fn list(directory: &Path, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => list(&entry.path(), files)?,
            Ok(metadata) => {
                files.insert(entry.path(), metadata.len());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
