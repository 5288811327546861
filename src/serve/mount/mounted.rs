//! Mounting and unmounting.
//!
//! # Invariants
//! * Only an empty folder is mounted over: nothing is hidden, and the repository itself can't be.
//! * The mount ends when it is told to, or when somebody else unmounts it. Readers that still hold files then keep what the kernel has of them and get errors for the rest.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::base::clock::{SystemTimer, Timer};
use crate::monitor::{Event, Monitor};
use crate::repo::{Repository, RepositoryError};

use super::adapter::Adapter;
use super::catalog::{Catalog, Source};
use super::{Audience, MountOptions};

/// Requests that are answered at once: one may wait for the network, and others should not.
const THREADS: usize = 16;
/// How often it is looked whether to end.
const TICK: Duration = Duration::from_millis(100);
/// How long the kernel may take to end a session that nobody uses any more.
const END_PATIENCE: Duration = Duration::from_secs(3);

const DEVICE: &str = "/dev/fuse";

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The folder cannot be used.
    #[error("{path}: cannot be mounted on")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Something is in it.
    #[error("{path}: the folder is not empty")]
    NotEmpty {
        /// Which.
        path: String,
    },
    /// Something is mounted on it.
    #[error("{path}: something is mounted there already")]
    Mounted {
        /// Which.
        path: String,
    },
    /// A mount whose process is gone stands there.
    #[error("{path}: a mount stands there whose process has ended")]
    Dead {
        /// Which.
        path: String,
    },
    /// The machine has no FUSE, or we may not use it.
    #[error("{DEVICE} cannot be opened")]
    Device(#[source] io::Error),
    /// Users other than root need a program.
    #[error("fusermount3 is not installed, and mounting without it takes root's rights")]
    NoHelper,
    /// Users other than root need leave to show others what they mount.
    #[error("{path}: not allowed to show a mount to other users")]
    NoOthers {
        /// Which.
        path: String,
    },
    /// The kernel, or the program that asks it, refused.
    #[error("{path}: mounting failed")]
    Refused {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// How a mount ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// We unmounted it.
    Unmounted,
    /// We took it out of the tree while somebody has files of it open.
    Busy,
    /// Somebody else unmounted it.
    ByOthers,
}

/// What is mounted.
pub struct Mount {
    session: BackgroundSession,
    folder: PathBuf,
}

/// Mounts what a repository holds on an empty folder.
pub fn mount(
    repository: &Repository,
    folder: &Path,
    options: &MountOptions,
    monitor: Arc<dyn Monitor>,
) -> Result<Mount, MountError> {
    let folder = check_folder(folder)?;
    check_device()?;
    let source = Source { repository: repository.clone(), names: options.names.clone(), times: options.times };
    let catalog = Catalog::open(source, Arc::clone(&monitor), Arc::new(SystemTimer::default()))?;
    let listing = catalog.known_listing();
    for name in options.names.iter().filter(|name| listing.database(name).is_none()) {
        monitor.event(Event::Notice(format!("no snapshot of a database named {name:?} yet")));
    }
    let config = config(options);
    let adapter = Adapter::new(catalog, options);
    let kernel = adapter.kernel();
    match fuser::spawn_mount(adapter, &folder, &config) {
        Ok(session) => {
            let _ = kernel.set(session.notifier());
            Ok(Mount { session, folder })
        }
        Err(error) => Err(refusal(&folder, error)),
    }
}

fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoAtime,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::DefaultPermissions,
        MountOption::FSName("continuum".to_owned()),
        MountOption::Subtype("continuum".to_owned()),
    ];
    config.acl = match options.audience {
        Audience::Owner => SessionACL::Owner,
        Audience::Everybody => SessionACL::All,
    };
    config.n_threads = Some(THREADS);
    config.clone_fd = true;
    config
}

/// The folder's whole path, if it can be mounted on.
fn check_folder(folder: &Path) -> Result<PathBuf, MountError> {
    let path = folder.display().to_string();
    let wrong = |source: io::Error| match Errno::from_io_error(&source) {
        Some(Errno::NOTCONN) => MountError::Dead { path: path.clone() },
        _ => MountError::Folder { path: path.clone(), source },
    };
    let whole = folder.canonicalize().map_err(wrong)?;
    let metadata = fs::metadata(&whole).map_err(wrong)?;
    if fs::read_dir(&whole).map_err(wrong)?.next().is_none() {
        return Ok(whole);
    }
    let above = whole.parent().and_then(|above| fs::metadata(above).ok());
    // What is mounted has a device of its own.
    if above.is_some_and(|above| above.dev() != metadata.dev()) {
        return Err(MountError::Mounted { path });
    }
    Err(MountError::NotEmpty { path })
}

fn check_device() -> Result<(), MountError> {
    let opened = fs::OpenOptions::new().read(true).write(true).open(DEVICE);
    opened.map(|_| ()).map_err(MountError::Device)
}

/// What an error of the library means.
fn refusal(folder: &Path, source: io::Error) -> MountError {
    let (path, text) = (folder.display().to_string(), source.to_string());
    if text.contains("user_allow_other") {
        return MountError::NoOthers { path };
    }
    match source.kind() {
        // The folder and the device are there: it is the program.
        io::ErrorKind::NotFound => MountError::NoHelper,
        _ => MountError::Refused { path, source },
    }
}

impl Mount {
    /// Where.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Serves until somebody unmounts it or the user wants to stop; then nothing is mounted any more.
    pub fn serve(self, monitor: &dyn Monitor, timer: &dyn Timer) -> Result<Ended, MountError> {
        while !monitor.is_cancelled() {
            if self.session.guard.is_finished() {
                self.forget();
                return Ok(Ended::ByOthers);
            }
            timer.wait(TICK);
        }
        self.unmount(timer)
    }

    fn unmount(self, timer: &dyn Timer) -> Result<Ended, MountError> {
        let unmounted = match rustix::mount::unmount(&self.folder, UnmountFlags::NOFOLLOW) {
            Err(Errno::BUSY) => rustix::mount::unmount(&self.folder, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
            unmounted => unmounted,
        };
        match unmounted {
            // Somebody was faster.
            Ok(()) | Err(Errno::INVAL) => Ok(self.end(timer)),
            Err(Errno::PERM) => Ok(self.unmount_through_helper(timer)),
            Err(error) => {
                let path = self.folder.display().to_string();
                Err(MountError::Refused { path, source: error.into() })
            }
        }
    }

    /// A user other than root unmounts by the program that mounted.
    fn unmount_through_helper(self, timer: &dyn Timer) -> Ended {
        let Self { session, folder } = self;
        // Dropping it unmounts, and detaches what is busy.
        drop(session);
        timer.wait(TICK);
        if is_there(&folder) { Ended::Busy } else { Ended::Unmounted }
    }

    /// Waits a moment for the session to end, which it does once nobody has a file open.
    fn end(self, timer: &dyn Timer) -> Ended {
        let end = timer.elapsed() + END_PATIENCE;
        while !self.session.guard.is_finished() && timer.elapsed() < end {
            timer.wait(TICK / 10);
        }
        let ended = if self.session.guard.is_finished() { Ended::Unmounted } else { Ended::Busy };
        self.forget();
        ended
    }

    /// Nothing is mounted any more. The library would unmount once more when the session is dropped, and might meet what somebody else has mounted there.
    fn forget(self) {
        std::mem::forget(self.session);
    }
}

/// Whether something of ours still stands there.
fn is_there(folder: &Path) -> bool {
    let above = folder.parent().and_then(|above| fs::metadata(above).ok());
    let here = fs::metadata(folder).ok();
    matches!((above, here), (Some(above), Some(here)) if above.dev() != here.dev())
}
