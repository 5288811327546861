//! A folder on a local file system.
//!
//! An object is written to a temporary file, synced, moved to its name by `renameat2(RENAME_NOREPLACE)` (by
//! `link` where a file system lacks it), and then the folder is synced: atomic, exclusive and durable. A kill leaves at most a
//! temporary file under `tmp/`, which a later creation removes once it is a day old by the file system's own clock.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::base::clock::UnixMicros;
use crate::format::name::{Folder, ObjectName};

use super::leftovers::remove_stale;
use super::{Creation, Listed, Store, StoreError, too_long};

/// See the module documentation.
pub struct LocalStore {
    root: PathBuf,
    cleaned: Once,
    /// Device and inode of the folder when it was used first.
    identity: OnceLock<(u64, u64)>,
}

impl LocalStore {
    /// A store in the folder `root`, which need not exist until something is created.
    pub fn new(root: PathBuf) -> Self {
        Self { root, cleaned: Once::new(), identity: OnceLock::new() }
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.as_str())
    }

    /// Fails if the folder that was used first is gone: moved away, or unmounted. It must not be made anew, for what went there would be lost.
    fn check_root(&self) -> io::Result<()> {
        match fs::metadata(&self.root) {
            Ok(found) => {
                let found = (found.dev(), found.ino());
                // A disk that was mounted again may have another device number.
                let known = *self.identity.get_or_init(|| found) == found || self.path(&ObjectName::config()).is_file();
                if known {
                    Ok(())
                } else {
                    Err(io::Error::other("another folder stands there now: is a disk not mounted?"))
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.identity.get().is_none() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn error(&self, action: &'static str, name: &ObjectName, source: io::Error) -> StoreError {
        let location = self.location();
        match source.kind() {
            io::ErrorKind::NotFound if action == "read" && self.check_root().is_ok() => {
                StoreError::NotFound { location, name: name.clone() }
            }
            _ => StoreError::Io { location, action, name: name.to_string(), source },
        }
    }

    fn create_file(&self, name: &ObjectName, bytes: &[u8]) -> io::Result<Creation> {
        let path = &self.path(name);
        self.check_root()?;
        if !name.begins_a_repository() && !self.root.is_dir() {
            return Err(io::Error::other("the repository's folder is not there: is a disk not mounted?"));
        }
        let temporary_folder = self.root.join("tmp");
        create_folder(&temporary_folder)?;
        self.cleaned.call_once(|| {
            if let Ok(new) = tempfile::tempfile_in(&temporary_folder) {
                remove_stale(&temporary_folder, &new, |_| true);
            }
        });
        let folder = path.parent().unwrap_or(&self.root);
        create_folder(folder)?;
        let mut temporary = tempfile::NamedTempFile::new_in(&temporary_folder)?;
        temporary.write_all(bytes)?;
        temporary.as_file().sync_all()?;
        let creation = publish(temporary, path)?;
        sync_folder(folder)?;
        self.check_root()?;
        Ok(creation)
    }

    fn collect(&self, folder: &Path, listed: &mut Vec<Listed>) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            match entry.metadata() {
                // Deleted since the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(metadata) if metadata.is_dir() => self.collect(&path, listed)?,
                Ok(metadata) => {
                    let name = path.strip_prefix(&self.root).ok().and_then(Path::to_str);
                    let name = name.map(|name| ObjectName::from_listing(name.to_owned()));
                    listed.extend(name.map(|name| Listed { name, bytes: metadata.len() }));
                }
            }
        }
        Ok(())
    }
}

impl Store for LocalStore {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        self.create_file(name, bytes).map_err(|error| self.error("create", name, error))
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        read_file(&self.path(name), limit_bytes).map_err(|error| self.error("read", name, error))
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let read = File::open(self.path(name)).and_then(|file| file.read_exact_at(&mut bytes, range.start));
        match read {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(StoreError::Truncated { location: self.location(), name: name.clone(), range })
            }
            Err(error) => Err(self.error("read", name, error)),
        }
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::new();
        let prefix = folder.prefix();
        let folder = self.root.join(prefix.trim_end_matches('/'));
        self.check_root().and_then(|()| self.collect(&folder, &mut listed)).map_err(|source| StoreError::Io {
            location: self.location(),
            action: "list",
            name: prefix,
            source,
        })?;
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let path = self.path(name);
        let deleted = fs::remove_file(&path).and_then(|()| sync_folder(path.parent().unwrap_or(&self.root)));
        match deleted {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error("delete", name, error)),
            _ => self.check_root().map_err(|error| self.error("delete", name, error)),
        }
    }

    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        let modified = fs::metadata(self.path(name)).and_then(|metadata| metadata.modified());
        modified.map(|time| Some(UnixMicros::of(time))).map_err(|error| self.error("read", name, error))
    }
}

/// Gives a synced temporary file its name, unless that is taken.
fn publish(temporary: tempfile::NamedTempFile, path: &Path) -> io::Result<Creation> {
    let (_, source) = temporary.into_parts();
    let renamed = renameat_with(CWD, &*source, CWD, path, RenameFlags::NOREPLACE).map_err(io::Error::from);
    let published = match renamed {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            fs::hard_link(&source, path)
        }
        other => other,
    };
    match published {
        Ok(()) => Ok(Creation::New),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Creation::Exists),
        Err(error) => Err(error),
    }
}

/// Creates a folder and those above it; each new name is synced in its parent.
fn create_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_folder(parent(folder).ok_or(error)?)?;
            match fs::create_dir(folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Err(error) => return Err(error),
    }
    sync_folder(parent(folder).unwrap_or(folder))
}

/// The folder above; the current one for a bare name.
fn parent(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn read_file(path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    if bytes > limit_bytes {
        return Err(too_long(bytes, limit_bytes));
    }
    let mut content = Vec::with_capacity(bytes as usize);
    file.take(limit_bytes).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::super::leftovers::STALE;
    use super::*;
    use crate::base::id::{DatabaseId, ObjectHash, SlotId};

    fn store() -> (tempfile::TempDir, LocalStore) {
        let folder = tempfile::tempdir().expect("BUG: a temporary folder");
        let root = folder.path().join("a/b");
        fs::create_dir_all(&root).expect("BUG: a folder");
        (folder, LocalStore::new(root))
    }

    #[test]
    fn of_many_creators_one_wins_and_its_bytes_stay() {
        let (_folder, store) = store();
        let name = ObjectName::timeline_entry(DatabaseId([1; 16]), 1);
        let winners: Vec<u8> = std::thread::scope(|scope| {
            let create = |i: u8| {
                let (store, name) = (&store, &name);
                scope.spawn(move || store.create(name, &[i; 100]).map(|creation| (i, creation)))
            };
            let threads: Vec<_> = (0..16).map(create).collect();
            let results =
                threads.into_iter().map(|thread| thread.join().expect("BUG: no panic").expect("BUG: created"));
            results.filter(|(_, creation)| *creation == Creation::New).map(|(i, _)| i).collect()
        });
        assert_eq!(winners.len(), 1);
        assert_eq!(store.read(&name, 100).expect("BUG: it is there"), vec![winners[0]; 100]);
        assert!(fs::read_dir(store.root.join("tmp")).expect("BUG: a folder").next().is_none());
    }

    #[test]
    fn lists_what_was_created_and_deletes_it() {
        let (_folder, store) = store();
        assert!(store.list(Folder::Keys).expect("BUG: empty").is_empty());
        let names = [ObjectName::key_slot(SlotId([1; 8])), ObjectName::key_slot(SlotId([2; 8]))];
        for name in &names {
            store.create(name, b"slot").expect("BUG: created");
        }
        let listed: Vec<_> =
            store.list(Folder::Keys).expect("BUG: listed").into_iter().map(|l| (l.name, l.bytes)).collect();
        assert_eq!(listed, names.clone().map(|name| (name, 4)));
        store.delete(&names[0]).expect("BUG: deleted");
        store.delete(&names[0]).expect("BUG: deleting twice is no error");
        assert!(matches!(store.read(&names[0], 10), Err(StoreError::NotFound { .. })));
    }

    #[test]
    fn a_folder_that_went_away_is_not_made_anew() {
        let (folder, store) = store();
        let [first, second] = [1, 2].map(|n| ObjectName::index(ObjectHash([n; 32])));
        store.create(&first, b"1").expect("BUG: it can be created");
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&store.root, &elsewhere).expect("BUG: it can be moved");
        for stands_in in [false, true] {
            if stands_in {
                fs::create_dir(&store.root).expect("BUG: an empty mount point");
            }
            assert!(matches!(store.create(&second, b"2"), Err(StoreError::Io { .. })));
            assert!(matches!(store.read(&first, 9), Err(StoreError::Io { .. })));
            assert!(store.list(Folder::Index).is_err() && store.delete(&first).is_err());
        }
        fs::remove_dir(&store.root).expect("BUG: nothing was put there");
        fs::rename(&elsewhere, &store.root).expect("BUG: it can be moved back");
        store.create(&second, b"2").expect("BUG: it is there again");
        assert_eq!(store.list(Folder::Index).expect("BUG: it is there again").len(), 2);
    }

    #[test]
    fn ranges_and_limits_are_exact() {
        let (_folder, store) = store();
        store.create(&ObjectName::config(), b"0123456789").expect("BUG: created");
        assert_eq!(store.read_range(&ObjectName::config(), 3..5).expect("BUG: inside"), b"34");
        assert!(matches!(store.read_range(&ObjectName::config(), 8..11), Err(StoreError::Truncated { .. })));
        assert!(matches!(store.read(&ObjectName::config(), 9), Err(StoreError::Io { .. })));
    }

    #[test]
    fn stale_temporary_files_are_removed() {
        let (_folder, store) = store();
        let temporary = store.root.join("tmp");
        fs::create_dir_all(&temporary).expect("BUG: a folder");
        let old = File::create(temporary.join("old")).expect("BUG: a file");
        let modified = old.metadata().and_then(|m| m.modified()).expect("BUG: a time");
        old.set_modified(modified - STALE * 2).expect("BUG: a time");
        File::create(temporary.join("new")).expect("BUG: a file");
        store.create(&ObjectName::config(), b"").expect("BUG: created");
        let left: Vec<_> = fs::read_dir(&temporary).expect("BUG: a folder").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["new"]);
    }
}
