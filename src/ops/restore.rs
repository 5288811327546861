//! Restores a state into a file, and proves it.
//!
//! The image is written beside the target ([`partial`](super::partial)), synced while it is read back and hashed, and gets the target's name only if its BLAKE3 root is the manifest's:
//! a wrong byte can never appear under that name. A file that stands there is refused, or set aside; nothing is deleted. What a kill, an interruption or a destination that goes away leaves beside
//! the target is gone on with by the next run; what turned out wrong is removed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, FlockOperation, RenameFlags, renameat_with};

use crate::base::id::ImageRoot;
use crate::base::page::{PageCount, PageNo, PageSize};
use crate::format::delta::{Change, Record, StepPart};
use crate::monitor::{Event, Monitor, Phase};
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::image_reader::{Piece, pieces, read_pieces};
use crate::repo::stack_reader::{State, for_each_part};
use crate::repo::{Repository, RepositoryError};
use crate::sqlite::uri::uri_of;
use crate::store::lane::Lane;

use super::partial::{self, Partial};
pub use super::restore_error::RestoreError;
use super::restore_error::{folder_of, io_error};

/// Databases up to this size are checked by SQLite too, unless told otherwise.
pub const INTEGRITY_CHECK_LIMIT_BYTES: u64 = 1 << 30;

/// So much may be written before the disk is told to begin.
const SYNC_BYTES: u64 = 64 << 20;

/// Bytes read back at a time.
const PROOF_BYTES: usize = 4 << 20;

/// What SQLite keeps beside a database. A leftover one would be taken for the restored database's own.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// How to restore.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Set aside what stands at the target instead of refusing.
    pub force: bool,
    /// Run SQLite's integrity check; by default up to [`INTEGRITY_CHECK_LIMIT_BYTES`].
    pub integrity_check: Option<bool>,
    /// Appended, after a dot, to names of files that are set aside.
    pub aside_suffix: String,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct RestoreSummary {
    /// Length of the restored file.
    pub bytes: u64,
    /// Of these, how many were written to the target.
    pub written_bytes: u64,
    /// How many an earlier run that did not finish had left on disk.
    pub resumed_bytes: u64,
    /// Its hash, computed from the file.
    pub root: ImageRoot,
    /// Whether SQLite checked it.
    pub integrity_checked: bool,
    /// Files that were set aside, with their new names.
    pub set_aside: Vec<(PathBuf, PathBuf)>,
}

/// Restores `state` to the file `target`.
pub fn restore(
    reader: &ChunkReader,
    state: &State,
    target: &Path,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestoreSummary, RestoreError> {
    partial::remove_twins(target);
    let standing = standing_files(target)?;
    if !options.force
        && let Some(path) = standing.first()
    {
        return Err(RestoreError::Exists(path.clone()));
    }
    let proved = restore_beside(reader, state, target, options, monitor)?;
    let set_aside = match publish(&proved.partial, target, &standing, &options.aside_suffix) {
        Ok(set_aside) => set_aside,
        Err(error) => {
            proved.partial.remove();
            return Err(error);
        }
    };
    let Proved { resumed_bytes, root, integrity_checked, .. } = proved;
    let bytes = state.image_bytes();
    Ok(RestoreSummary { bytes, written_bytes: bytes, resumed_bytes, root, integrity_checked, set_aside })
}

/// A state in a file beside the target, compared with its root.
struct Proved {
    partial: Partial,
    resumed_bytes: u64,
    root: ImageRoot,
    integrity_checked: bool,
}

/// Restores into a file beside the target, and proves it. If that fails, the file stays only if the next run can go on with it.
fn restore_beside(
    reader: &ChunkReader,
    state: &State,
    target: &Path,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<Proved, RestoreError> {
    let partial = Partial::claim(target, state.root)?;
    partial::remove_stale(target, &partial, reader.repository().environment().clock.now());
    match fill(reader, state, &partial, options, monitor) {
        Ok((resumed_bytes, root, integrity_checked)) => Ok(Proved { partial, resumed_bytes, root, integrity_checked }),
        Err(error) if error.can_continue() && !partial.is_empty() => Err(unfinished(&partial, error)),
        Err(error) => {
            partial.remove();
            Err(error)
        }
    }
}

fn unfinished(partial: &Partial, error: RestoreError) -> RestoreError {
    RestoreError::Unfinished { partial: partial.path().to_owned(), source: Box::new(error) }
}

/// Makes the partial the state; returns how many bytes of it were there already, its root, and whether SQLite has checked it.
fn fill(
    reader: &ChunkReader,
    state: &State,
    partial: &Partial,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<(u64, ImageRoot, bool), RestoreError> {
    let resumed_bytes = write_pages(reader, state, partial, monitor)?;
    let root = prove(partial.file(), state, partial.path(), monitor)?;
    let bytes = state.image_bytes();
    let integrity_checked = options.integrity_check.unwrap_or(bytes <= INTEGRITY_CHECK_LIMIT_BYTES);
    if integrity_checked {
        check_integrity(partial.path())?;
    }
    monitor.check_cancelled().map_err(RepositoryError::from)?;
    Ok((resumed_bytes, root, integrity_checked))
}

/// Restores `state` into the database file that stands at `target`: proved beside it first, then page by page where they differ, under a lock that keeps
/// SQLite's users out. A kill in between leaves a mixture, which running the command again mends, with the proved file that is still there.
pub fn restore_in_place(
    reader: &ChunkReader,
    state: &State,
    target: &Path,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestoreSummary, RestoreError> {
    let standing = standing_files(target)?;
    if standing.first().is_none_or(|path| path != target) {
        return Err(RestoreError::NothingThere(target.to_owned()));
    }
    let file = File::options().read(true).write(true).open(target).map_err(io_error(target, "open"))?;
    // The lock covers SQLite's lock bytes: whoever has the database open in WAL mode, or reads or writes it, holds one of them.
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| RestoreError::InUse(target.to_owned()))?;
    let proved = restore_beside(reader, state, target, options, monitor)?;
    let mut set_aside = Vec::new();
    let made = make_equal(&proved, &file, target, state, &standing[1..], options, &mut set_aside, monitor);
    let written_bytes = made.map_err(|error| unfinished(&proved.partial, error))?;
    let Proved { partial, resumed_bytes, root, integrity_checked } = proved;
    partial.remove();
    Ok(RestoreSummary { bytes: state.image_bytes(), written_bytes, resumed_bytes, root, integrity_checked, set_aside })
}

/// Makes the database at `target`, opened as `file`, what was proved; returns how many bytes it wrote.
#[expect(clippy::too_many_arguments, reason = "the last step of one function, apart for its length")]
fn make_equal(
    proved: &Proved,
    file: &File,
    target: &Path,
    state: &State,
    companions: &[PathBuf],
    options: &RestoreOptions,
    set_aside: &mut Vec<(PathBuf, PathBuf)>,
    monitor: &dyn Monitor,
) -> Result<u64, RestoreError> {
    // What is left in a WAL or a journal belongs to the database as it was.
    *set_aside = self::set_aside(target, companions, &options.aside_suffix)?;
    let written_bytes = copy_differences(proved.partial.file(), file, state).map_err(io_error(target, "write to"))?;
    file.sync_all().map_err(io_error(target, "sync"))?;
    let (expected, found) = (proved.root, hash_file(file, target, state.image_bytes(), monitor)?);
    if found == expected { Ok(written_bytes) } else { Err(RestoreError::WrongRoot { expected, found }) }
}

/// Makes `target` what `proved` is; returns how many bytes it wrote.
fn copy_differences(proved: &File, target: &File, state: &State) -> io::Result<u64> {
    let total_bytes = state.image_bytes();
    target.set_len(total_bytes)?;
    let page_bytes = state.page_size.bytes();
    let (mut new, mut old) = (vec![0; PROOF_BYTES], vec![0; PROOF_BYTES]);
    let (mut done, mut written) = (0, 0);
    while done < total_bytes {
        let length = (total_bytes - done).min(PROOF_BYTES as u64) as usize;
        proved.read_exact_at(&mut new[..length], done)?;
        target.read_exact_at(&mut old[..length], done)?;
        for at in (0..length).step_by(page_bytes) {
            let page = &new[at..at + page_bytes];
            if page != &old[at..at + page_bytes] {
                target.write_all_at(page, done + at as u64)?;
                written += page_bytes as u64;
            }
        }
        done += length as u64;
    }
    Ok(written)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The target and its companions, as far as they exist.
pub(super) fn standing_files(target: &Path) -> Result<Vec<PathBuf>, RestoreError> {
    if target.is_dir() {
        return Err(RestoreError::Folder(target.to_owned()));
    }
    let all = std::iter::once(target.to_owned()).chain(COMPANIONS.map(|suffix| with_suffix(target, suffix)));
    Ok(all.filter(|path| path.symlink_metadata().is_ok()).collect())
}

/// Writes every page of the image that is not zeros and not there yet; then what the deltas make of it, step by step. Returns how many bytes were there.
fn write_pages(
    reader: &ChunkReader,
    state: &State,
    partial: &Partial,
    monitor: &dyn Monitor,
) -> Result<u64, RestoreError> {
    let (page_size, file, path) = (state.page_size, partial.file(), partial.path());
    let image_pages = PageCount(state.image().page_count);
    let pieces = pieces(reader, state)?;
    let bytes_of = |pieces: &[Piece]| pieces.iter().map(|piece| piece.bytes(page_size)).sum::<u64>();
    let piece_bytes = bytes_of(&pieces);
    let missing = partial.missing(pieces, reader.repository().keys(), page_size, image_pages, monitor)?;
    let resumed_bytes = piece_bytes - bytes_of(&missing);
    monitor.event(Event::Started { phase: Phase::Restore, total_bytes: page_size.image_bytes(image_pages) });
    monitor.event(Event::Advanced(resumed_bytes));
    let syncing = EarlySync::new(reader.repository(), file).map_err(io_error(path, "open"))?;
    let write = |first: PageNo, pages: &[u8]| {
        file.write_all_at(pages, page_size.offset_of(first)).map_err(io_error(path, "write to"))?;
        syncing.written(pages.len() as u64);
        Ok::<(), RestoreError>(())
    };
    read_pieces(reader, state, missing, &write, monitor)?;
    syncing.finish().map_err(io_error(path, "sync"))?;
    let mut last = None;
    for_each_part(reader, state, |part| {
        monitor.check_cancelled().map_err(RepositoryError::from)?;
        let begins = last.replace(part.state.commit) != Some(part.state.commit);
        apply(part, begins, page_size, file).map_err(io_error(path, "write to"))
    })?;
    monitor.event(Event::Finished);
    Ok(resumed_bytes)
}

/// Makes the changes of a step part to the file. Pages beyond the step's low count start from zeros.
fn apply(part: &StepPart, begins: bool, page_size: PageSize, file: &File) -> io::Result<()> {
    if begins {
        file.set_len(page_size.image_bytes(PageCount(part.state.low_page_count)).min(file.metadata()?.len()))?;
        file.set_len(page_size.image_bytes(part.state.page_count()))?;
    }
    let mut page = vec![0; page_size.bytes()];
    for Record { page: number, change } in &part.records {
        let offset = page_size.offset_of(*number);
        if matches!(change, Change::Xor(_)) {
            file.read_exact_at(&mut page, offset)?;
        }
        change.apply(&mut page);
        file.write_all_at(&page, offset)?;
    }
    Ok(())
}

/// Syncs a file while it is being written, every [`SYNC_BYTES`]: the disk is busy from the start, and little is left to wait for at the end.
struct EarlySync {
    written_bytes: AtomicU64,
    lane: Mutex<Lane<(), io::Result<()>>>,
}

impl EarlySync {
    fn new(repository: &Repository, file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        let sync = move |()| file.sync_data();
        let lane = Lane::new(repository.environment().upload_threads.min(1), sync);
        Ok(Self { written_bytes: AtomicU64::new(0), lane: Mutex::new(lane) })
    }

    fn written(&self, bytes: u64) {
        let before = self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before / SYNC_BYTES != (before + bytes) / SYNC_BYTES {
            self.lane.lock().unwrap_or_else(PoisonError::into_inner).submit(());
        }
    }

    fn finish(self) -> io::Result<()> {
        let lane = self.lane.into_inner().unwrap_or_else(PoisonError::into_inner);
        lane.finish().into_iter().collect()
    }
}

/// Syncs the file and, meanwhile, reads it back and hashes it.
fn prove(file: &File, state: &State, path: &Path, monitor: &dyn Monitor) -> Result<ImageRoot, RestoreError> {
    let total_bytes = state.image_bytes();
    monitor.event(Event::Started { phase: Phase::Prove, total_bytes });
    let (synced, found) = rayon::join(|| file.sync_all(), || hash_file(file, path, total_bytes, monitor));
    synced.map_err(io_error(path, "sync"))?;
    let found = found?;
    monitor.event(Event::Finished);
    let expected = state.root;
    if found == expected { Ok(found) } else { Err(RestoreError::WrongRoot { expected, found }) }
}

fn hash_file(file: &File, path: &Path, total_bytes: u64, monitor: &dyn Monitor) -> Result<ImageRoot, RestoreError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; PROOF_BYTES];
    let mut done = 0;
    while done < total_bytes {
        monitor.check_cancelled().map_err(RepositoryError::from)?;
        let length = (total_bytes - done).min(PROOF_BYTES as u64) as usize;
        file.read_exact_at(&mut buffer[..length], done).map_err(io_error(path, "read back"))?;
        hasher.update(&buffer[..length]);
        done += length as u64;
        monitor.event(Event::Advanced(length as u64));
    }
    Ok(ImageRoot(*hasher.finalize().as_bytes()))
}

/// Runs SQLite's own check. The file is opened as immutable, so that SQLite creates nothing beside it.
fn check_integrity(path: &Path) -> Result<(), RestoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let checked = Connection::open_with_flags(uri_of(path, "immutable=1"), flags)
        .and_then(|connection| connection.pragma_query_value(None, "integrity_check", |row| row.get::<_, String>(0)));
    match checked.map_err(RestoreError::Sqlite)? {
        ok if ok == "ok" => Ok(()),
        problem => Err(RestoreError::Integrity(problem)),
    }
}

/// Gives the proven file its name, after setting aside what stands there.
pub(super) fn publish(
    partial: &Partial,
    target: &Path,
    standing: &[PathBuf],
    aside_suffix: &str,
) -> Result<Vec<(PathBuf, PathBuf)>, RestoreError> {
    let moved = set_aside(target, standing, aside_suffix)?;
    rename_exclusively(partial.path(), target)?;
    // Not before: after a kill in between, what is no private file would not be gone on with.
    let file = partial.file();
    make_readable_like_new(file).map_err(io_error(target, "set the permissions of"))?;
    file.sync_all().map_err(io_error(target, "sync"))?;
    sync_folder_of(target)?;
    Ok(moved)
}

/// Gives other names to what stands at the target and beside it; returns the old and the new ones. The new names last before the old ones go: a rename is not one change
/// on every file system (Pillai et al., OSDI 2014).
fn set_aside(target: &Path, standing: &[PathBuf], suffix: &str) -> Result<Vec<(PathBuf, PathBuf)>, RestoreError> {
    let suffix = free_suffix(target, standing, suffix);
    let moves: Vec<(PathBuf, PathBuf)> =
        standing.iter().map(|path| (path.clone(), aside_name(target, path, &suffix))).collect();
    let mut linked = moves.iter().map(|(path, aside)| fs::hard_link(path, aside).map_err(|error| (aside, error)));
    if let Some(Err((path, error))) = linked.find(Result::is_err) {
        moves.iter().filter(|(path, aside)| partial::are_same(path, aside)).for_each(|(_, aside)| {
            let _ = fs::remove_file(aside);
        });
        if !matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) {
            return Err(io_error(path, "link to")(error));
        }
        // A file system without second names.
        moves.iter().try_for_each(|(path, aside)| rename_exclusively(path, aside))?;
        return Ok(moves);
    }
    sync_folder_of(target)?;
    for (path, aside) in &moves {
        if !partial::are_same(path, aside) {
            return Err(io_error(path, "set aside")(io::Error::other("another process has replaced it")));
        }
        fs::remove_file(path).map_err(io_error(path, "remove"))?;
    }
    Ok(moves)
}

fn sync_folder_of(target: &Path) -> Result<(), RestoreError> {
    let folder = folder_of(target);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error(folder, "sync"))
}

/// The suffix, with a number if a run within the same second has used it.
fn free_suffix(target: &Path, standing: &[PathBuf], suffix: &str) -> String {
    let is_free =
        |suffix: &String| standing.iter().all(|path| aside_name(target, path, suffix).symlink_metadata().is_err());
    let numbered = (2..u32::MAX).map(|number| format!("{suffix}-{number}"));
    let mut suffixes = std::iter::once(suffix.to_owned()).chain(numbered);
    suffixes.find(is_free).unwrap_or_else(|| suffix.to_owned())
}

/// The old database's companions keep their place beside it: `x.db-wal` becomes `x.db.<suffix>-wal`.
fn aside_name(target: &Path, path: &Path, aside_suffix: &str) -> PathBuf {
    let base = with_suffix(target, &format!(".{aside_suffix}"));
    let companion = COMPANIONS.iter().find(|suffix| with_suffix(target, suffix) == *path);
    companion.map_or_else(|| base.clone(), |suffix| with_suffix(&base, suffix))
}

/// Partials are private; a restored database gets the permissions that any new file has.
fn make_readable_like_new(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let umask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(umask);
    file.set_permissions(fs::Permissions::from_mode(0o666 & !umask.as_raw_mode()))
}

fn rename_exclusively(from: &Path, to: &Path) -> Result<(), RestoreError> {
    let renamed = renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from);
    match renamed {
        // A file system without RENAME_NOREPLACE.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput && to.symlink_metadata().is_err() => {
            fs::rename(from, to).map_err(io_error(to, "rename to"))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(RestoreError::Exists(to.to_owned())),
        other => other.map_err(io_error(to, "rename to")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_aside_keeps_its_name() {
        let folder = tempfile::tempdir().expect("BUG: a folder");
        let path = |name: &str| folder.path().join(name);
        let standing = [path("a.db"), path("a.db-wal")];
        for (taken, expected) in [("a.db", "old"), ("a.db.old-wal", "old-2"), ("a.db.old-2", "old-3")] {
            File::create(path(taken)).expect("BUG: a file");
            assert_eq!(free_suffix(&path("a.db"), &standing, "old"), expected);
        }
        File::create(path("a.db-wal")).expect("BUG: a file");
        let moved = set_aside(&path("a.db"), &standing, "old").expect("BUG: nothing is in the way");
        assert_eq!(moved[1], (path("a.db-wal"), path("a.db.old-3-wal")));
        assert!(standing.iter().all(|path| !path.exists()) && path("a.db.old").symlink_metadata().is_err());
    }
}
