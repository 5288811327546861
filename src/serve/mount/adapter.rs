//! The tree as the kernel asks for it.
//!
//! Requests of several threads are answered side by side: what one waits for holds up no other, unless it is the same chunk.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, Notifier, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyXattr, Request,
};
use rustix::process::{getegid, geteuid};

use crate::base::error_text::with_causes;
use crate::repo::chunk_cache::ChunkCache;

use super::catalog::Catalog;
use super::inodes::{Inodes, ROOT};
use super::listing::{Listing, StateFile};
use super::reading::{OpenFile, OpenFiles};
use super::tree::{Node, Validity};
use super::{Audience, MountOptions};

/// A state is what it is, for ever; the kernel may ask once an hour.
const FILE_TTL: Duration = Duration::from_secs(3600);
/// For so long the kernel takes a name of a snapshot for granted, which may be deleted.
const LASTING_TTL: Duration = Duration::from_secs(60);
/// … and a name that means something else when there is a newer state, and a folder's time.
const PASSING_TTL: Duration = Duration::from_secs(1);

/// Requests that the kernel sends ahead of readers.
const MAX_BACKGROUND: u16 = 64;

/// What the kernel is given at once.
const GIFT_BYTES: u64 = 256 << 10;
/// The largest page that kernels use.
const KERNEL_PAGE_BYTES: u64 = 64 << 10;

/// What `stat` tells as the size of a block that is good to read.
const BLOCK_BYTES: u32 = 128 << 10;

/// See the module documentation.
pub struct Adapter {
    catalog: Catalog,
    inodes: Mutex<Inodes>,
    files: OpenFiles,
    folders: Mutex<HashMap<u64, Arc<Vec<Line>>>>,
    next_folder: AtomicU64,
    owner: (u32, u32),
    audience: Audience,
    kernel: Arc<OnceLock<Notifier>>,
    giving: Mutex<()>,
}

/// A line of a folder that is being listed.
struct Line {
    number: u64,
    kind: FileType,
    name: String,
}

impl Adapter {
    /// A file system that shows what `catalog` knows.
    pub fn new(catalog: Catalog, options: &MountOptions) -> Self {
        let cache = ChunkCache::new(catalog.reader(), options.cache_bytes);
        Self {
            catalog,
            inodes: Mutex::default(),
            files: OpenFiles::new(cache, options.cache_bytes, options.content),
            folders: Mutex::default(),
            next_folder: AtomicU64::new(1),
            owner: (geteuid().as_raw(), getegid().as_raw()),
            audience: options.audience,
            kernel: Arc::default(),
            giving: Mutex::default(),
        }
    }

    /// Takes the way to the kernel, once there is one.
    pub fn kernel(&self) -> Arc<OnceLock<Notifier>> {
        Arc::clone(&self.kernel)
    }

    fn node(&self, number: INodeNo) -> Result<Node, Errno> {
        // The kernel looks the path up again.
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner).node(number.0).ok_or(Errno::ESTALE)
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Result<(Node, Validity), Errno> {
        let parent = self.node(parent)?;
        let name = name.to_str().ok_or(Errno::ENOENT)?;
        let listing = self.catalog.listing();
        match parent.lookup(name, &listing, &self.catalog) {
            Ok(found) => found.ok_or(Errno::ENOENT),
            Err(error) => {
                self.catalog.say(with_causes(&error));
                Err(Errno::EIO)
            }
        }
    }

    fn open_state(&self, number: INodeNo, flags: OpenFlags) -> Result<u64, Errno> {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return Err(Errno::EROFS);
        }
        let node = self.node(number)?;
        let file = node.file().ok_or(Errno::EISDIR)?;
        match self.catalog.state(file) {
            Ok(Some(state)) => Ok(self.files.open(number.0, &file.database, state)),
            Ok(None) => Err(Errno::ESTALE),
            Err(fault) => {
                self.catalog.say(format!("{}, commit {}: {}", file.database, file.commit, fault.describe()));
                Err(Errno::EIO)
            }
        }
    }

    fn lines(&self, number: INodeNo) -> Result<Vec<Line>, Errno> {
        let node = self.node(number)?;
        if node.file().is_some() {
            return Err(Errno::ENOTDIR);
        }
        let line = |number, kind, name: &str| Line { number, kind, name: name.to_owned() };
        let own = [line(number.0, FileType::Directory, "."), line(ROOT, FileType::Directory, "..")];
        let entries = node.entries(&self.catalog.listing()).into_iter();
        let entries = entries.map(|(name, node)| Line { number: Inodes::number(&node), kind: kind(&node), name });
        Ok(own.into_iter().chain(entries).collect())
    }

    fn attributes(&self, number: u64, node: &Node, listing: &Listing) -> FileAttr {
        let time = node.time(listing).to_system();
        let size = node.file().map_or(0, |file| file.bytes);
        let perm = match (kind(node), self.audience) {
            (FileType::Directory, Audience::Owner) => 0o500,
            (FileType::Directory, Audience::Everybody) => 0o555,
            (_, Audience::Owner) => 0o400,
            (_, Audience::Everybody) => 0o444,
        };
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: kind(node),
            perm,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        }
    }

    /// Puts a part of a file into the kernel's page cache, without being asked.
    ///
    /// The kernel waits for pages that are being read, so only one thread does this at a time, and after it has answered: the others are there for those reads.
    fn give(&self, file: &OpenFile, range: Range<u64>) {
        let (Some(kernel), Ok(_giving)) = (self.kernel.get(), self.giving.try_lock()) else { return };
        // Whole pages of the kernel; what it has already stays the same.
        let mut from = range.start / KERNEL_PAGE_BYTES * KERNEL_PAGE_BYTES;
        while from < range.end {
            let to = range.end.min(from + GIFT_BYTES);
            let given = self.files.read(file, &(from..to), |bytes| kernel.store(INodeNo(file.number), from, bytes));
            // What is wrong is said when it is read.
            if !matches!(given, Ok(Ok(()))) {
                return;
            }
            from = to;
        }
    }

    /// An extended attribute, by its name.
    fn attribute(&self, file: &StateFile, name: &str) -> Option<String> {
        Some(match name {
            "user.blake3" => file.root.to_string(),
            "user.continuum.commit" => file.commit.to_string(),
            "user.continuum.captured" => (self.catalog.times().exact)(file.captured),
            "user.continuum.snapshot" => file.snapshot.to_string(),
            _ => return None,
        })
    }
}

/// What [`Adapter::attribute`] knows.
const ATTRIBUTES: [&str; 4] =
    ["user.blake3", "user.continuum.captured", "user.continuum.commit", "user.continuum.snapshot"];

fn kind(node: &Node) -> FileType {
    if node.file().is_some() { FileType::RegularFile } else { FileType::Directory }
}

fn attribute_ttl(node: &Node) -> Duration {
    if node.file().is_some() { FILE_TTL } else { PASSING_TTL }
}

/// Answers with an extended attribute's value or with its size, as asked.
fn reply_bytes(reply: ReplyXattr, bytes: &[u8], asked: u32) {
    match asked as usize {
        0 => reply.size(bytes.len() as u32),
        room if room < bytes.len() => reply.error(Errno::ERANGE),
        _ => reply.data(bytes),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Where the kernel does not take it, it has its own values.
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent, name) {
            Ok((node, validity)) => {
                let number = self.inodes.lock().unwrap_or_else(PoisonError::into_inner).remember(node.clone());
                let attributes = self.attributes(number, &node, &self.catalog.known_listing());
                let entry_ttl = if validity == Validity::Lasting { LASTING_TTL } else { PASSING_TTL };
                reply.entry_with_ttls(&attribute_ttl(&node), &entry_ttl, &attributes, Generation(0));
            }
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(number) {
            Ok(node) => {
                let attributes = self.attributes(number.0, &node, &self.catalog.known_listing());
                reply.attr(&attribute_ttl(&node), &attributes);
            }
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_state(number, flags) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(file) = self.files.get(handle.0) else { return reply.error(Errno::EBADF) };
        let mut reply = Some(reply);
        let range = offset..offset.saturating_add(u64::from(size));
        let done = self.files.read(&file, &range, |bytes| {
            if let Some(reply) = reply.take() {
                reply.data(bytes);
            }
        });
        match (done, reply) {
            (Err(error), Some(reply)) => {
                self.catalog.say(format!("{}: {}", file.describe(), with_causes(&error)));
                reply.error(Errno::EIO);
            }
            // The reader has what it asked for: now there is time to look ahead.
            _ => {
                if let Some(give) = self.files.look_ahead(&file, &range) {
                    self.give(&file, give);
                }
            }
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.close(handle.0);
        reply.ok();
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.lines(number) {
            Ok(lines) => {
                let handle = self.next_folder.fetch_add(1, Ordering::Relaxed);
                self.folders.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, Arc::new(lines));
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let lines = self.folders.lock().unwrap_or_else(PoisonError::into_inner).get(&handle.0).map(Arc::clone);
        let Some(lines) = lines else { return reply.error(Errno::EBADF) };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(lines.len());
        for (at, line) in lines.iter().enumerate().skip(from) {
            if reply.add(INodeNo(line.number), at as u64 + 1, line.kind, &line.name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
        reply.ok();
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let node = match self.node(number) {
            Ok(node) => node,
            Err(error) => return reply.error(error),
        };
        let value = node.file().and_then(|file| self.attribute(file, name.to_str()?));
        match value {
            Some(value) => reply_bytes(reply, value.as_bytes(), size),
            None => reply.error(Errno::ENODATA),
        }
    }

    fn listxattr(&self, _: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        match self.node(number) {
            Ok(node) if node.file().is_some() => {
                let names: String = ATTRIBUTES.iter().flat_map(|name| [name, "\0"]).collect();
                reply_bytes(reply, names.as_bytes(), size);
            }
            Ok(_) => reply_bytes(reply, b"", size),
            Err(error) => reply.error(error),
        }
    }
}
