//! What a destination lacks, in order: names only, for the bytes are on other destinations.
//!
//! It is a file of lines in the local state, `+name` for a creation and `-name` for a deletion, that several processes extend under a lock. Losing it
//! loses no object: a comparison of the destinations finds the same.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::format::name::ObjectName;

/// A write that a destination did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owed {
    /// A creation.
    Create(ObjectName),
    /// A deletion.
    Delete(ObjectName),
}

impl Owed {
    fn line(&self) -> String {
        match self {
            Self::Create(name) => format!("+{name}\n"),
            Self::Delete(name) => format!("-{name}\n"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let name = |name: &str| ObjectName::from_listing(name.to_owned());
        match line.split_at_checked(1)? {
            ("+", rest) => Some(Self::Create(name(rest))),
            ("-", rest) => Some(Self::Delete(name(rest))),
            _ => None,
        }
    }
}

/// See the module documentation.
pub struct Backlog {
    file: Option<PathBuf>,
    /// Where no file is, or it cannot be written.
    memory: Mutex<String>,
}

impl Backlog {
    /// The backlog of a destination, in the local state's `folder`.
    pub fn new(folder: Option<&Path>, location: &str) -> Self {
        let name = &blake3::hash(location.as_bytes()).to_hex()[..32];
        let file = folder.map(|folder| folder.join(format!("behind/{name}")));
        Self { file, memory: Mutex::default() }
    }

    /// Whether nothing is lacking.
    pub fn is_empty(&self) -> bool {
        let file = self.file.as_ref().and_then(|file| fs::metadata(file).ok());
        file.is_none_or(|file| file.len() == 0) && self.memory().is_empty()
    }

    /// How many writes are lacking.
    pub fn len(&self) -> usize {
        let file = self.file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        file.unwrap_or_default().lines().count() + self.memory().lines().count()
    }

    /// Adds a write.
    pub fn add(&self, owed: &Owed) {
        if self.edit(|text| text.push_str(&owed.line())).is_err() {
            self.memory().push_str(&owed.line());
        }
    }

    /// The first write that is lacking.
    pub fn first(&self) -> Option<Owed> {
        let file = self.file.as_ref().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        let memory = self.memory();
        file.lines().chain(memory.lines()).find_map(Owed::parse)
    }

    /// Takes a write out that was done.
    pub fn done(&self, owed: &Owed) {
        let line = owed.line();
        let remove = |text: &mut String| {
            // What cannot be read stands in nobody's way.
            let kept = text.lines().filter(|line| Owed::parse(line).is_some());
            let mut kept: Vec<String> = kept.map(|line| format!("{line}\n")).collect();
            if let Some(at) = kept.iter().position(|kept| *kept == line) {
                kept.remove(at);
            }
            *text = kept.concat();
        };
        let _ = self.edit(remove);
        remove(&mut self.memory());
    }

    fn edit(&self, change: impl FnOnce(&mut String)) -> io::Result<()> {
        let path = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        file.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        change(&mut text);
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, String> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ObjectHash;

    #[test]
    fn what_is_owed_survives_the_process_in_order() {
        let folder = tempfile::tempdir().expect("BUG: a temporary folder");
        let owed = |n| Owed::Create(ObjectName::pack(ObjectHash([n; 32])));
        for place in [Some(folder.path()), None] {
            let backlog = Backlog::new(place, "s3://bucket");
            assert!(backlog.is_empty());
            backlog.add(&owed(1));
            backlog.add(&Owed::Delete(ObjectName::config()));
            let backlog = if place.is_some() { Backlog::new(place, "s3://bucket") } else { backlog };
            assert_eq!((backlog.len(), backlog.first()), (2, Some(owed(1))));
            assert!(place.is_none() || Backlog::new(place, "s3://other").is_empty());
            backlog.done(&owed(1));
            assert_eq!(backlog.first(), Some(Owed::Delete(ObjectName::config())));
            backlog.done(&Owed::Delete(ObjectName::config()));
            assert!(backlog.is_empty());
        }
    }
}
