//! Small files of this machine's own: what a client remembers between runs, outside any repository.
//!
//! State is a memory, not a truth: losing it costs work or a warning, never data. Each file is replaced atomically; a temporary file that a kill has left in its folder, this module's
//! or a page map's, is removed by the first write that finds it a day old.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use super::leftovers::remove_stale;

/// How names of temporary files begin, by the crate that makes them.
const TEMPORARY: &str = ".tmp";

/// A folder of state.
#[derive(Clone, Debug)]
pub struct LocalState {
    folder: PathBuf,
}

impl LocalState {
    /// State under `folder`, which is made when something is first kept.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where files of that `name` are kept.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What was kept under `name`, if anything.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.folder.join(name)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names kept in a folder of the state.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.join(folder)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Forgets what was kept under `name`.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }

    /// Keeps `content` under `name`, a relative path.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.folder.join(name);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        temporary.write_all(content)?;
        temporary.as_file().sync_data()?;
        remove_stale(folder, temporary.as_file(), |name| name.starts_with(TEMPORARY));
        temporary.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::leftovers::STALE;
    use super::*;

    #[test]
    fn what_a_kill_has_left_is_removed_when_it_is_old() {
        let folder = tempfile::tempdir().expect("BUG: a folder");
        let state = LocalState::new(folder.path().to_owned());
        state.write("a/kept", b"1").expect("BUG: it can be written");
        for name in ["a/.tmpOld", "a/.tmpNew", "a/old"] {
            let file = File::create(folder.path().join(name)).expect("BUG: a file");
            let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("BUG: a time");
            let old = if name == "a/.tmpNew" { modified } else { modified - STALE * 2 };
            file.set_modified(old).expect("BUG: a time");
        }
        state.write("a/kept", b"2").expect("BUG: it can be written");
        let mut names = state.names("a");
        names.sort();
        assert_eq!(names, [".tmpNew", "kept", "old"]);
        assert_eq!(state.read("a/kept").expect("BUG: it can be read"), Some(b"2".to_vec()));
    }
}
