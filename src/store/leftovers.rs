//! Temporary files that a kill has left.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

/// Temporary files older than this belong to nobody: no write takes as long.
pub const STALE: Duration = Duration::from_secs(24 * 3600);

/// Removes files of `folder` that are temporary by their names and a day older than `new`, a file that was just made there: the file system's own clock counts.
/// Best effort: what cannot be removed today is removed another day.
pub fn remove_stale(folder: &Path, new: &File, is_temporary: impl Fn(&str) -> bool) {
    let now = new.metadata().and_then(|metadata| metadata.modified());
    let (Ok(now), Ok(entries)) = (now, fs::read_dir(folder)) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&is_temporary)) {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| now.duration_since(modified).ok());
        if age.is_some_and(|age| age > STALE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
