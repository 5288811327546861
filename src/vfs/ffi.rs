//! SQLite's side: a read-only VFS as a table of C functions, registered once as [`NAME`]. Files of it are named `/N`, the number of an image in [`IMAGES`].
//!
//! The only file of the project with `unsafe`. What makes it sound:
//! * SQLite calls a file's methods only between a successful `xOpen` and `xClose`; `xOpen` puts an `Arc` of the image into the file, `xClose` drops it.
//! * SQLite hands over buffers of the length that it says.
//! * No panic leaves a function: [`guarded`] turns one into an I/O error.
//!
//! A file says that it is immutable, so SQLite takes no locks and looks for no journal (<https://sqlite.org/c3ref/c_iocap_atomic.html>).
#![allow(unsafe_code, reason = "SQLite takes a VFS as a table of C functions")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::{ptr, slice};

use rusqlite::ffi;

/// The name of the VFS.
pub const NAME: &CStr = c"continuum";

/// A database file that can only be read.
pub trait Image: Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on, all of which exist. `None` if they cannot be read.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Option<()>;
}

/// Images that can be opened, by number.
static IMAGES: Mutex<BTreeMap<u64, Arc<dyn Image>>> = Mutex::new(BTreeMap::new());

/// Makes an image known under a number, and the VFS if it is not. Fails only if SQLite does not take it.
pub fn add(number: u64, image: Arc<dyn Image>) -> Result<(), c_int> {
    static REGISTERED: OnceLock<c_int> = OnceLock::new();
    match *REGISTERED.get_or_init(register) {
        ffi::SQLITE_OK => {}
        code => return Err(code),
    }
    IMAGES.lock().unwrap_or_else(PoisonError::into_inner).insert(number, image);
    Ok(())
}

/// Forgets an image. Files that are open keep it.
pub fn remove(number: u64) {
    IMAGES.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
}

/// A file: what SQLite knows of it, and ours.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    image: *const Arc<dyn Image>,
}

fn register() -> c_int {
    // SAFETY: the default VFS exists once SQLite is initialised, and lives for ever, as does ours, which is leaked once. What is inherited of it (time, sleep,
    // randomness) needs nothing of its own.
    unsafe {
        let code = ffi::sqlite3_initialize();
        let default = ffi::sqlite3_vfs_find(ptr::null());
        if code != ffi::SQLITE_OK || default.is_null() {
            return code.max(ffi::SQLITE_ERROR);
        }
        let vfs = ffi::sqlite3_vfs {
            iVersion: 1,
            szOsFile: size_of::<File>() as c_int,
            mxPathname: 64,
            pNext: ptr::null_mut(),
            zName: NAME.as_ptr(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_path),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            ..ptr::read(default)
        };
        ffi::sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0)
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// What `work` returns; an I/O error should it panic.
fn guarded(work: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(ffi::SQLITE_IOERR)
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands over a file of the size that the VFS says, and a name that ends with a zero, or none.
    unsafe {
        (*file).pMethods = ptr::null();
        if flags & ffi::SQLITE_OPEN_MAIN_DB == 0 || name.is_null() {
            return ffi::SQLITE_CANTOPEN;
        }
        let number = CStr::from_ptr(name).to_str().ok().and_then(|name| name.strip_prefix('/')?.parse().ok());
        let images = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(image) = number.and_then(|number: u64| images.get(&number)) else { return ffi::SQLITE_CANTOPEN };
        (*file.cast::<File>()).image = Box::into_raw(Box::new(Arc::clone(image)));
        (*file).pMethods = &METHODS;
        if !out_flags.is_null() {
            *out_flags = ffi::SQLITE_OPEN_READONLY | ffi::SQLITE_OPEN_MAIN_DB;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: `open` put the image there, and SQLite closes a file once.
    let image = unsafe { Box::from_raw((*file.cast::<File>()).image.cast_mut()) };
    guarded(|| {
        drop(image);
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    length: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(length), Ok(offset)) = (usize::try_from(length), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: the file is open, and the buffer has that length.
    let (image, buffer) =
        unsafe { (&*(*file.cast::<File>()).image, slice::from_raw_parts_mut(buffer.cast::<u8>(), length)) };
    guarded(|| {
        let there = image.length().saturating_sub(offset).min(length as u64) as usize;
        let (found, beyond) = buffer.split_at_mut(there);
        // SQLite asks for zeros beyond the end.
        beyond.fill(0);
        match image.read(offset, found) {
            None => ffi::SQLITE_IOERR_READ,
            Some(()) if there < length => ffi::SQLITE_IOERR_SHORT_READ,
            Some(()) => ffi::SQLITE_OK,
        }
    })
}

unsafe extern "C" fn write(_: *mut ffi::sqlite3_file, _: *const c_void, _: c_int, _: ffi::sqlite3_int64) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn truncate(_: *mut ffi::sqlite3_file, _: ffi::sqlite3_int64) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn sync(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut ffi::sqlite3_int64) -> c_int {
    // SAFETY: the file is open, and the place for its size is SQLite's.
    let (image, size) = unsafe { (&*(*file.cast::<File>()).image, &mut *size) };
    guarded(|| {
        *size = image.length() as ffi::sqlite3_int64;
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn lock(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: the place for the answer is SQLite's.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_IMMUTABLE
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_READONLY
}

unsafe extern "C" fn access(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int, out: *mut c_int) -> c_int {
    // SAFETY: the place for the answer is SQLite's. There is no journal and no WAL.
    unsafe { *out = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    length: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: the name ends with a zero, and `out` has that length.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if name.len() > length.max(0) as usize {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
    }
    ffi::SQLITE_OK
}
