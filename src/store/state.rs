//! Small files of this machine's own: what a client remembers between runs, outside any repository.
//!
//! State is a memory, not a truth: losing it costs work or a warning, never data. Each file is replaced atomically.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

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
        temporary.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}
