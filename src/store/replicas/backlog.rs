//! What a destination lacks, in order: names only, for the bytes are on other destinations.
//!
//! It is a file of lines in the local state, `+name` for a creation and `-name` for a deletion. Any process appends to it; only the one that has the [`Turn`] does what
//! it says and takes lines away from its beginning. Losing it loses no object: a comparison of the destinations finds the same.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::format::name::ObjectName;

/// So many of the lines added last are not added again: whoever tries a write again, owes it once.
const REMEMBERED: usize = 64;

/// A write that a destination did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owed {
    /// A creation.
    Create(ObjectName),
    /// A deletion.
    Delete(ObjectName),
}

impl Owed {
    /// Of which object.
    pub fn name(&self) -> &ObjectName {
        match self {
            Self::Create(name) | Self::Delete(name) => name,
        }
    }

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
    added: Mutex<VecDeque<String>>,
    turn: Mutex<()>,
}

/// The right to shorten a backlog. One at a time has it, of all processes.
pub struct Turn<'b> {
    backlog: &'b Backlog,
    _here: MutexGuard<'b, ()>,
    /// Locked.
    _everywhere: Option<File>,
}

impl Backlog {
    /// The backlog of a destination, in the local state's `folder`.
    pub fn new(folder: Option<&Path>, identity: &str) -> Self {
        let name = &blake3::hash(identity.as_bytes()).to_hex()[..32];
        let file = folder.map(|folder| folder.join(format!("behind/{name}")));
        Self { file, memory: Mutex::default(), added: Mutex::default(), turn: Mutex::default() }
    }

    /// Whether nothing is lacking.
    pub fn is_empty(&self) -> bool {
        let file = self.file.as_ref().and_then(|file| fs::metadata(file).ok());
        file.is_none_or(|file| file.len() == 0) && locked(&self.memory).is_empty()
    }

    /// How many writes are lacking.
    pub fn len(&self) -> usize {
        self.text_of_file().lines().count() + locked(&self.memory).lines().count()
    }

    /// Adds a write.
    pub fn add(&self, owed: &Owed) {
        let line = owed.line();
        let mut added = locked(&self.added);
        if added.contains(&line) && !self.is_empty() {
            return;
        }
        if self.append(&line).is_err() {
            locked(&self.memory).push_str(&line);
        }
        added.push_back(line);
        while added.len() > REMEMBERED {
            added.pop_front();
        }
    }

    /// Waits for other threads; `None` if another process has the turn.
    pub fn turn(&self) -> Option<Turn<'_>> {
        self.turn_of(locked(&self.turn))
    }

    /// `None` if anybody else has the turn.
    pub fn try_turn(&self) -> Option<Turn<'_>> {
        self.turn_of(self.turn.try_lock().ok()?)
    }

    fn turn_of<'b>(&'b self, here: MutexGuard<'b, ()>) -> Option<Turn<'b>> {
        // Where no file can be made, nobody else has one either.
        let file = self.lock_file("turn").ok();
        match file.as_ref().map(File::try_lock) {
            Some(Err(fs::TryLockError::WouldBlock)) => None,
            _ => Some(Turn { backlog: self, _here: here, _everywhere: file }),
        }
    }

    fn append(&self, line: &str) -> io::Result<()> {
        let path = self.path()?;
        let _alone = self.lock_edits()?;
        File::options().append(true).create(true).open(path)?.write_all(line.as_bytes())
    }

    /// Takes so many lines from the beginning of the file; a kill leaves the old file or the new one.
    fn shorten(&self, lines: usize) -> io::Result<()> {
        let path = self.path()?;
        let _alone = self.lock_edits()?;
        let text = self.text_of_file();
        let rest: String = text.split_inclusive('\n').skip(lines).collect();
        if rest.is_empty() {
            return fs::remove_file(path);
        }
        let mut temporary = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(path))?;
        temporary.write_all(rest.as_bytes())?;
        temporary.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    fn lock_edits(&self) -> io::Result<File> {
        let file = self.lock_file("lock")?;
        file.lock()?;
        Ok(file)
    }

    fn lock_file(&self, extension: &str) -> io::Result<File> {
        let path = self.path()?;
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        File::options().write(true).create(true).truncate(false).open(path.with_extension(extension))
    }

    fn path(&self) -> io::Result<&Path> {
        Ok(self.file.as_deref().ok_or(io::ErrorKind::NotFound)?)
    }

    fn text_of_file(&self) -> String {
        self.file.as_ref().and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default()
    }
}

impl Turn<'_> {
    /// All writes that are lacking now. One that cannot be read stands in nobody's way: it is `None`.
    pub fn pending(&self) -> Vec<Option<Owed>> {
        let (file, memory) = (self.backlog.text_of_file(), locked(&self.backlog.memory).clone());
        file.lines().chain(memory.lines()).map(Owed::parse).collect()
    }

    /// Takes out so many of the first, which were done.
    pub fn done(&self, count: usize) {
        let in_file = count.min(self.backlog.text_of_file().lines().count());
        if in_file > 0 {
            // What stays there is done once more, without an effect.
            let _ = self.backlog.shorten(in_file);
        }
        let mut memory = locked(&self.backlog.memory);
        *memory = memory.split_inclusive('\n').skip(count - in_file).collect();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ObjectHash;

    fn owed(n: u8) -> Owed {
        Owed::Create(ObjectName::pack(ObjectHash([n; 32])))
    }

    fn pending(backlog: &Backlog) -> Vec<Owed> {
        backlog.try_turn().expect("BUG: nobody has it").pending().into_iter().flatten().collect()
    }

    #[test]
    fn what_is_owed_survives_the_process_in_order() {
        let folder = tempfile::tempdir().expect("BUG: a temporary folder");
        for place in [Some(folder.path()), None] {
            let backlog = Backlog::new(place, "s3://bucket");
            assert!(backlog.is_empty());
            let deletion = Owed::Delete(ObjectName::config());
            [&owed(1), &deletion].into_iter().for_each(|owed| backlog.add(owed));
            let backlog = if place.is_some() { Backlog::new(place, "s3://bucket") } else { backlog };
            assert_eq!((backlog.len(), pending(&backlog)), (2, vec![owed(1), deletion.clone()]));
            assert!(place.is_none() || Backlog::new(place, "s3://other").is_empty());
            let turn = backlog.try_turn().expect("BUG: nobody has it");
            backlog.add(&owed(2));
            turn.done(1);
            assert_eq!(turn.pending(), [Some(deletion), Some(owed(2))]);
            turn.done(2);
            assert!(backlog.is_empty());
        }
    }

    #[test]
    fn one_at_a_time_shortens_it_and_everybody_extends_it() {
        let folder = tempfile::tempdir().expect("BUG: a temporary folder");
        let (one, other) = (Backlog::new(Some(folder.path()), "a"), Backlog::new(Some(folder.path()), "a"));
        let turn = one.turn().expect("BUG: nobody has it");
        assert!(one.try_turn().is_none() && other.try_turn().is_none() && other.turn().is_none());
        other.add(&owed(1));
        drop(turn);
        assert_eq!(pending(&one), [owed(1)]);
    }

    #[test]
    fn a_write_that_is_tried_again_is_owed_once() {
        let backlog = Backlog::new(None, "a");
        [1, 2, 1, 2].into_iter().for_each(|n| backlog.add(&owed(n)));
        assert_eq!(pending(&backlog), [owed(1), owed(2)]);
        backlog.turn().expect("BUG: nobody has it").done(2);
        backlog.add(&owed(2));
        assert_eq!(pending(&backlog), [owed(2)]);
    }
}
