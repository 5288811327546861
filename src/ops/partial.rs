//! The unfinished file of a restore, which the next run of the same restore finds again and goes on with.
//!
//! It stands beside the target as `.NAME.continuum-ROOT.partial`: NAME is the target's, ROOT the first 16 digits of the state's BLAKE3 root.
//!
//! # Invariants
//! * One process has it, by a lock that ends with the process (`flock`). A second restore of the same state to the same place is refused.
//! * It is a private file of this user. Whatever else stands under its name is refused, never written to.
//! * Nothing in it is believed. A piece of the image counts as there if the keyed hash of its bytes is its chunk's id; the others are fetched, and pages of zeros are made zeros.
//!   What comes out is proved as a whole before it gets the target's name, as if it had been written in one go.
//! * Only files that match the pattern, belong to this user and that nobody has locked are ever removed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{Mode, OFlags, SeekFrom};

use crate::base::clock::UnixMicros;
use crate::base::id::ImageRoot;
use crate::base::page::{PageCount, PageSize};
use crate::chunk::MAX_CHUNK_BYTES;
use crate::crypto::keys::Keyring;
use crate::monitor::{Event, Monitor, Phase};
use crate::repo::RepositoryError;
use crate::repo::image_reader::Piece;

use super::restore_error::{RestoreError, folder_of, io_error};

const MIDDLE: &[u8] = b".continuum-";
const END: &[u8] = b".partial";
const ROOT_DIGITS: usize = 16;

/// The longest name of a file; Linux's limit, and that of every file system in use there.
const MAX_NAME_BYTES: usize = 255;

/// A partial of another state of the same target is left alone for so long: somebody may want to go on with it.
const STALE_S: i64 = 24 * 3600;

/// Pieces looked at between two looks at the wish to stop.
const BATCH_PIECES: usize = 256;

/// Zeros that are looked at, or written, at a time. A multiple of every page size.
const ZERO_BYTES: u64 = 4 << 20;

/// See the module documentation.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    /// The partial of the restore of the state with that `root` to `target`: the one that is there, or a new one.
    pub fn claim(target: &Path, root: ImageRoot) -> Result<Self, RestoreError> {
        let path = folder_of(target).join(name_of(target, root));
        loop {
            let file = open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Err(RestoreError::BeingRestored(path)),
                Err(fs::TryLockError::Error(error)) => return Err(io_error(&path, "lock")(error)),
            }
            // Whoever had it before may have published or removed it between opening and locking.
            if stands_at(&file, &path) {
                return Ok(Self { file, path });
            }
        }
    }

    /// Its bytes.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether anything was ever written to it.
    pub fn is_empty(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.len() == 0 || metadata.blocks() == 0)
    }

    /// Removes it. Best effort: one that stays is found by the next run.
    pub fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Makes it as long as an image of `page_count` pages, with zeros where no piece is, and returns the pieces that are not there yet. `pieces` are in page order.
    pub fn missing(
        &self,
        pieces: Vec<Piece>,
        keys: &Keyring,
        page_size: PageSize,
        page_count: PageCount,
        monitor: &dyn Monitor,
    ) -> Result<Vec<Piece>, RestoreError> {
        let found_nothing = self.is_empty();
        if found_nothing {
            self.set_len(0)?;
        }
        self.set_len(page_size.image_bytes(page_count))?;
        if found_nothing {
            return Ok(pieces);
        }
        let extents = data_extents(&self.file).map_err(io_error(&self.path, "read"))?;
        let total_bytes = extents.iter().map(|extent| extent.end - extent.start).sum();
        monitor.event(Event::Started { phase: Phase::Resume, total_bytes });
        let mut missing = Vec::new();
        for batch in pieces.chunks(BATCH_PIECES) {
            monitor.check_cancelled().map_err(RepositoryError::from)?;
            let is_there = |piece: &Piece| is_there(&self.file, &extents, piece, keys, page_size, monitor);
            let there: Vec<bool> =
                batch.par_iter().map(is_there).collect::<io::Result<_>>().map_err(io_error(&self.path, "read"))?;
            missing.extend(batch.iter().zip(there).filter(|(_, there)| !there).map(|(piece, _)| *piece));
        }
        for zeros in gaps(&pieces, page_size, page_count) {
            monitor.check_cancelled().map_err(RepositoryError::from)?;
            make_zeros(&self.file, &extents, zeros).map_err(io_error(&self.path, "write to"))?;
        }
        monitor.event(Event::Finished);
        Ok(missing)
    }

    fn set_len(&self, bytes: u64) -> Result<(), RestoreError> {
        self.file.set_len(bytes).map_err(io_error(&self.path, "set the length of"))
    }
}

impl Drop for Partial {
    /// A thread that still syncs the file must not keep the next run from it.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// What comes before the root's digits in the name of a partial of `target`.
fn prefix_of(target: &Path) -> Vec<u8> {
    let name = target.file_name().unwrap_or_default().as_bytes();
    let room = MAX_NAME_BYTES - 1 - MIDDLE.len() - ROOT_DIGITS - END.len();
    [b".", &name[..name.len().min(room)], MIDDLE].concat()
}

fn name_of(target: &Path, root: ImageRoot) -> OsString {
    let digits = &root.to_string()[..ROOT_DIGITS];
    OsString::from_vec([&prefix_of(target), digits.as_bytes(), END].concat())
}

/// Whether `name` is that of a partial of a target with that prefix.
fn is_partial(name: &OsStr, prefix: &[u8]) -> bool {
    let digits = name.as_bytes().strip_prefix(prefix).and_then(|rest| rest.strip_suffix(END));
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digits.is_some_and(|digits| digits.len() == ROOT_DIGITS && digits.iter().all(is_digit))
}

/// Opens the file at `path`, or makes a private one there.
fn open(path: &Path) -> Result<File, RestoreError> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let private = Mode::RUSR | Mode::WUSR;
    loop {
        match rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, private).map_err(io::Error::from) {
            Ok(file) => return Ok(file.into()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error(folder_of(path), "create a file in")(error)),
        }
        match rustix::fs::open(path, flags, Mode::empty()).map(File::from).map_err(io::Error::from) {
            Ok(file) if is_own(&file) => return Ok(file),
            // Gone since: published or removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) | Err(_) => return Err(RestoreError::ForeignPartial(path.to_owned())),
        }
    }
}

/// Whether it is a file of this user that nobody else can read or write, also under no other name.
fn is_own(file: &File) -> bool {
    let user = rustix::process::geteuid().as_raw();
    let private = |metadata: fs::Metadata| {
        metadata.is_file() && metadata.uid() == user && metadata.mode() & 0o077 == 0 && metadata.nlink() <= 1
    };
    file.metadata().is_ok_and(private)
}

fn stands_at(file: &File, path: &Path) -> bool {
    is_same(file.metadata(), path.symlink_metadata())
}

/// Whether both are names of one file.
pub fn are_same(one: &Path, other: &Path) -> bool {
    is_same(one.symlink_metadata(), other.symlink_metadata())
}

fn is_same(one: io::Result<fs::Metadata>, other: io::Result<fs::Metadata>) -> bool {
    matches!((one, other), (Ok(one), Ok(other)) if (one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Removes partials that are the target by another name: a crash of the machine may undo one half of the rename that published it. Best effort.
pub fn remove_twins(target: &Path) {
    for path in partials_of(target).filter(|path| are_same(path, target)) {
        let _ = fs::remove_file(path);
    }
}

/// Removes partials of other states of the same target that nobody has gone on with for a day. Best effort.
pub fn remove_stale(target: &Path, own: &Partial, now: UnixMicros) {
    for path in partials_of(target).filter(|path| path.file_name() != own.path.file_name()) {
        remove_if_stale(&path, now);
    }
}

/// What stands beside the target and is called like a partial of it.
fn partials_of(target: &Path) -> impl Iterator<Item = PathBuf> {
    let prefix = prefix_of(target);
    let entries = fs::read_dir(folder_of(target)).into_iter().flatten().flatten();
    entries.filter(move |entry| is_partial(&entry.file_name(), &prefix)).map(|entry| entry.path())
}

fn remove_if_stale(path: &Path, now: UnixMicros) {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(file) = rustix::fs::open(path, flags, Mode::empty()).map(File::from) else { return };
    let is_old = |metadata: fs::Metadata| metadata.mtime() < now.0 / 1_000_000 - STALE_S;
    if is_own(&file) && file.metadata().is_ok_and(is_old) && file.try_lock().is_ok() && stands_at(&file, path) {
        let _ = fs::remove_file(path);
    }
}

/// Where the file has data: holes were never written.
fn data_extents(file: &File) -> io::Result<Vec<Range<u64>>> {
    let length = file.metadata()?.len();
    let mut extents = Vec::new();
    let mut at = 0;
    while at < length {
        let Ok(start) = rustix::fs::seek(file, SeekFrom::Data(at)) else {
            // No data behind `at`; or a file system that does not say where, which says so for the first byte already.
            let unknown = at == 0 && rustix::fs::seek(file, SeekFrom::Hole(0)).is_err();
            extents.extend(unknown.then_some(0..length));
            break;
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
        extents.push(start..end);
        at = end;
    }
    Ok(extents)
}

/// Whether any byte of `range` was ever written.
fn has_data(extents: &[Range<u64>], range: &Range<u64>) -> bool {
    let next = extents.partition_point(|extent| extent.end <= range.start);
    extents.get(next).is_some_and(|extent| extent.start < range.end)
}

fn is_there(
    file: &File,
    extents: &[Range<u64>],
    piece: &Piece,
    keys: &Keyring,
    page_size: PageSize,
    monitor: &dyn Monitor,
) -> io::Result<bool> {
    let start = page_size.offset_of(piece.first);
    let length = piece.bytes(page_size);
    // A chunk is no longer than its limit, whatever the page map says, and has a byte that is not zero, so it cannot lie in a hole.
    let possible = piece.is_whole() && length <= MAX_CHUNK_BYTES as u64;
    if !possible || !has_data(extents, &(start..start + length)) {
        return Ok(false);
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, start)?;
    monitor.event(Event::Advanced(length));
    Ok(keys.chunk_id(&bytes) == piece.chunk)
}

/// What lies between the pieces of an image, in parts of [`ZERO_BYTES`] at most.
fn gaps(pieces: &[Piece], page_size: PageSize, page_count: PageCount) -> Vec<Range<u64>> {
    let ranges = pieces.iter().map(|piece| {
        let start = page_size.offset_of(piece.first);
        start..start + piece.bytes(page_size)
    });
    let end = page_size.image_bytes(page_count);
    let (mut gaps, mut done) = (Vec::new(), 0);
    for range in ranges.chain(std::iter::once(end..end)) {
        while done < range.start {
            let until = range.start.min(done + ZERO_BYTES);
            gaps.push(done..until);
            done = until;
        }
        done = range.end;
    }
    gaps
}

fn make_zeros(file: &File, extents: &[Range<u64>], zeros: Range<u64>) -> io::Result<()> {
    if !has_data(extents, &zeros) {
        return Ok(());
    }
    let mut bytes = vec![0; (zeros.end - zeros.start) as usize];
    file.read_exact_at(&mut bytes, zeros.start)?;
    if bytes.iter().any(|&byte| byte != 0) {
        bytes.fill(0);
        file.write_all_at(&bytes, zeros.start)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ChunkId;
    use crate::base::page::PageNo;

    const ROOT: ImageRoot = ImageRoot([0xab; 32]);

    #[test]
    fn a_name_is_found_again_and_others_are_not_taken_for_it() {
        let target = Path::new("folder/orders.db");
        let name = name_of(target, ROOT);
        assert_eq!(name, ".orders.db.continuum-abababababababab.partial");
        assert!(is_partial(&name, &prefix_of(target)));
        for other in [
            ".orders.db.continuum-ABABABABABABABAB.partial",
            ".orders.db.continuum-ababababababab.partial",
            ".orders.db.continuum-ababababababababab.partial",
            ".orders.db.continuum-abababababababab.partial~",
            ".orders.continuum-abababababababab.partial",
            "orders.db.continuum-abababababababab.partial",
            ".orders.db",
        ] {
            assert!(!is_partial(OsStr::new(other), &prefix_of(target)), "{other}");
        }
    }

    #[test]
    fn the_name_of_a_long_name_still_fits() {
        let folder = tempfile::tempdir().expect("BUG: a temporary folder");
        let target = folder.path().join("n".repeat(MAX_NAME_BYTES));
        let partial = Partial::claim(&target, ROOT).expect("BUG: the name fits");
        assert!(partial.is_empty() && partial.path().exists());
    }

    #[test]
    fn one_has_it_at_a_time() {
        let folder = tempfile::tempdir().expect("BUG: a temporary folder");
        let target = folder.path().join("a.db");
        let first = Partial::claim(&target, ROOT).expect("BUG: it is free");
        assert!(matches!(Partial::claim(&target, ROOT), Err(RestoreError::BeingRestored(_))));
        drop(first);
        let second = Partial::claim(&target, ROOT).expect("BUG: it is free again");
        second.remove();
        assert!(fs::read_dir(folder.path()).expect("BUG: it is there").next().is_none());
    }

    #[test]
    fn what_is_not_this_users_private_file_is_refused() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().expect("BUG: a temporary folder");
        let (target, precious) = (folder.path().join("a.db"), folder.path().join("precious"));
        let path = folder.path().join(name_of(&target, ROOT));
        let check = |what: &str| {
            assert!(matches!(Partial::claim(&target, ROOT), Err(RestoreError::ForeignPartial(_))), "{what}");
            assert_eq!(fs::read(&precious).expect("BUG: it is there"), b"precious", "{what}");
        };
        fs::write(&precious, "precious").expect("BUG: it can be written");
        fs::set_permissions(&precious, fs::Permissions::from_mode(0o600)).expect("BUG: it is ours");
        symlink(&precious, &path).expect("BUG: a link");
        check("a symbolic link");
        fs::remove_file(&path).expect("BUG: it is there");
        fs::hard_link(&precious, &path).expect("BUG: a link");
        check("a second name");
        fs::remove_file(&path).expect("BUG: it is there");
        fs::write(&path, "").expect("BUG: it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("BUG: it is ours");
        check("a public file");
        fs::remove_file(&path).expect("BUG: it is there");
        fs::create_dir(&path).expect("BUG: a folder");
        check("a folder");
    }

    #[test]
    fn the_second_name_of_a_restored_file_goes() {
        let folder = tempfile::tempdir().expect("BUG: a temporary folder");
        let target = folder.path().join("a.db");
        let other = Partial::claim(&target, ImageRoot([1; 32])).expect("BUG: it is free");
        let twin = folder.path().join(name_of(&target, ROOT));
        remove_twins(&target);
        fs::write(&target, "restored").expect("BUG: it can be written");
        fs::hard_link(&target, &twin).expect("BUG: a link");
        remove_twins(&target);
        assert_eq!(fs::read(&target).expect("BUG: it is there"), b"restored");
        assert!(!twin.exists() && other.path().exists());
    }

    #[test]
    fn only_old_partials_of_the_same_target_that_nobody_has_are_removed() {
        let folder = tempfile::tempdir().expect("BUG: a temporary folder");
        let target = folder.path().join("a.db");
        let others = [1, 2, 3].map(|root| ImageRoot([root; 32]));
        let [old, young, locked] = others.map(|root| Partial::claim(&target, root).expect("BUG: it is free"));
        let unlike = folder.path().join(".a.db.continuum-notes.partial");
        fs::write(&unlike, "").expect("BUG: it can be written");
        let elsewhere = Partial::claim(&folder.path().join("b.db"), ROOT).expect("BUG: it is free");
        let own = Partial::claim(&target, ROOT).expect("BUG: it is free");
        let now = own.file().metadata().and_then(|metadata| metadata.modified()).expect("BUG: a time");
        let two_days_ago = now - std::time::Duration::from_secs(2 * STALE_S as u64);
        for file in [old.file(), locked.file(), elsewhere.file(), own.file()] {
            file.set_modified(two_days_ago).expect("BUG: a time");
        }
        File::open(&unlike).and_then(|file| file.set_modified(two_days_ago)).expect("BUG: a time");
        let stay = [young.path(), locked.path(), elsewhere.path(), own.path(), &unlike].map(Path::to_owned);
        let gone = old.path().to_owned();
        drop((old, young));
        let seconds = now.duration_since(std::time::UNIX_EPOCH).expect("BUG: after 1970").as_secs();
        remove_stale(&target, &own, UnixMicros(seconds as i64 * 1_000_000));
        assert!(!gone.exists() && stay.iter().all(|path| path.exists()));
    }

    #[test]
    fn gaps_are_what_no_piece_covers() {
        let page_size = PageSize::new(4096).expect("BUG: a page size");
        let piece = |first, pages| Piece {
            first: PageNo(first),
            pages,
            first_in_chunk: 0,
            chunk: ChunkId([0; 32]),
            chunk_pages: pages,
        };
        let found = gaps(&[piece(2, 3), piece(5, 1), piece(1500, 1)], page_size, PageCount(1502));
        let pages: Vec<_> = found.into_iter().map(|gap| gap.start / 4096 + 1..gap.end / 4096 + 1).collect();
        assert_eq!(pages, [1..2, 6..1030, 1030..1500, 1501..1503]);
        assert!(gaps(&[piece(1, 9)], page_size, PageCount(9)).is_empty());
    }
}
