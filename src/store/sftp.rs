//! A folder of an SSH server, over the SFTP protocol (version 3, draft-ietf-secsh-filexfer-02) of the machine's own `ssh` program, so that its
//! configuration, agent and known hosts hold.
//!
//! An object is written to a temporary file, synced (`fsync@openssh.com`), hard-linked to its name (`hardlink@openssh.com`), which
//! fails if that is taken, and then the temporary name is removed: atomic, exclusive and, as far as the protocol allows, durable. OpenSSH's server has both
//! extensions. On a server without the second, the temporary file is renamed after a look whether the name is free, so two creators at the same moment may
//! both believe that they won; [`super::probe`] says so. A kill leaves at most a temporary file under `tmp/`.
//!
//! One connection serves all requests, many at a time. It is made when first needed, and anew after it broke.

use std::io;
use std::ops::Range;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use openssh_sftp_client::error::SftpErrorKind;
use openssh_sftp_client::file::TokioCompatFile;
use openssh_sftp_client::{Error, Sftp, SftpOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, Command};

use crate::base::clock::UnixMicros;
use crate::base::entropy::{Entropy, OsEntropy};
use crate::base::id::WriterId;
use crate::format::name::{Folder, ObjectName};

use super::opendal::{runtime, time_limit};
use super::place::{KnownHosts, SftpPlace};
use super::{Creation, Listed, Store, StoreError, too_long};

/// Requests that are worth having under way at once.
const CONCURRENCY: usize = 8;

/// Folders that are listed at once.
const LIST_CONCURRENCY: usize = 16;

/// What `ssh` says is kept up to this.
const MAX_MESSAGE_BYTES: u64 = 4096;

/// Folders nest no deeper than this: a loop of links must end.
const MAX_DEPTH: usize = 4;

/// See the module documentation.
pub struct SftpStore {
    place: SftpPlace,
    timeout: Duration,
    connection: Mutex<Option<Arc<Connection>>>,
}

struct Connection {
    sftp: Sftp,
    /// Ends with the connection.
    _ssh: Child,
}

/// Why a request failed.
enum Failure {
    /// The server answered.
    Refused(SftpErrorKind, String),
    /// Nothing answered.
    Away(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::SftpError(kind, message) => Self::Refused(kind, message.to_string()),
            error => Self::Away(error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // The client hides the server's answer in errors of its file type.
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::Away(error.to_string()),
        }
    }
}

impl Failure {
    fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(SftpErrorKind::NoSuchFile, _))
    }

    fn io_error(self) -> io::Error {
        match self {
            Self::Refused(SftpErrorKind::NoSuchFile, text) => io::Error::new(io::ErrorKind::NotFound, text),
            Self::Refused(SftpErrorKind::PermDenied, text) => io::Error::new(io::ErrorKind::PermissionDenied, text),
            Self::Refused(_, text) | Self::Away(text) => io::Error::other(text),
        }
    }
}

impl SftpStore {
    /// The folder. Nothing is connected yet. A request of few bytes may take as long as `timeout`.
    pub fn new(place: SftpPlace, timeout: Duration) -> Self {
        Self { place, timeout, connection: Mutex::new(None) }
    }

    fn path(&self, name: &str) -> String {
        if self.place.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.place.path) }
    }

    /// Does something over the connection, within the time for so many bytes. A connection that broke is not used again.
    fn with<T>(&self, bytes: u64, work: impl AsyncFnOnce(&Sftp) -> Result<T, Failure>) -> Result<T, Failure> {
        let limit = time_limit(self.timeout, bytes);
        let mut used = None;
        let done = runtime().block_on(async {
            let work = async {
                let connection = self.connect().await?;
                used = Some(Arc::clone(&connection));
                work(&connection.sftp).await
            };
            let late = || Failure::Away(format!("no answer within {} s", limit.as_secs()));
            tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
        });
        if matches!(done, Err(Failure::Away(_))) {
            let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            if connection.as_ref().zip(used.as_ref()).is_some_and(|(now, used)| Arc::ptr_eq(now, used)) {
                *connection = None;
            }
        }
        done
    }

    async fn connect(&self) -> Result<Arc<Connection>, Failure> {
        if let Some(connection) = &*self.connection.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(connection));
        }
        let mut ssh = self.command().spawn().map_err(|error| Failure::Away(format!("cannot run ssh: {error}")))?;
        let pipes = ssh.stdin.take().zip(ssh.stdout.take());
        let (stdin, stdout) = pipes.expect("BUG: both are pipes");
        let stderr = ssh.stderr.take();
        let sftp = match Sftp::new(stdin, stdout, SftpOptions::default()).await {
            Ok(sftp) => sftp,
            Err(error) => {
                return Err(Failure::Away(message_of(ssh, stderr).await.unwrap_or_else(|| error.to_string())));
            }
        };
        let made = Arc::new(Connection { sftp, _ssh: ssh });
        // Of two that were made at once, one is enough.
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(connection.get_or_insert(made)))
    }

    fn command(&self) -> Command {
        let SftpPlace { host, port, user, key, known_hosts, .. } = &self.place;
        let mut command = Command::new("ssh");
        let connect_s = format!("ConnectTimeout={}", self.timeout.as_secs().max(1));
        // Nobody is there to answer questions; a server that is gone is noticed.
        for option in ["BatchMode=yes", "ServerAliveInterval=10", "ServerAliveCountMax=3", &connect_s] {
            command.args(["-o", option]);
        }
        for option in ["ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no", "PermitLocalCommand=no"] {
            command.args(["-o", option]);
        }
        match known_hosts {
            KnownHosts::Configured => {}
            KnownHosts::Strict => _ = command.args(["-o", "StrictHostKeyChecking=yes"]),
            KnownHosts::Add => _ = command.args(["-o", "StrictHostKeyChecking=accept-new"]),
            KnownHosts::Accept => {
                command.args([
                    "-o",
                    "StrictHostKeyChecking=no",
                    "-o",
                    "UserKnownHostsFile=/dev/null",
                    "-o",
                    "LogLevel=ERROR",
                ]);
            }
        }
        if let Some(port) = port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = user {
            command.args(["-l", user]);
        }
        if let Some(key) = key {
            command.arg("-i").arg(key).args(["-o", "IdentitiesOnly=yes"]);
        }
        command.args(["-s", "--", host, "sftp"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // Ctrl-C is for us: what is under way is ended in order.
        command.process_group(0);
        command
    }

    async fn write(&self, sftp: &Sftp, temporary: &str, bytes: &[u8]) -> Result<(), Failure> {
        let file = sftp.options().write(true).create_new(true).open(temporary).await?;
        let mut file = Box::pin(TokioCompatFile::new(file));
        file.write_all(bytes).await?;
        file.flush().await?;
        if sftp.support_fsync() {
            file.as_mut().as_mut_file().sync_all().await?;
        }
        Ok(())
    }

    /// Gives the temporary file its name, unless that is taken.
    async fn publish(&self, sftp: &Sftp, temporary: &str, path: &str) -> Result<Creation, Failure> {
        let mut fs = sftp.fs();
        let published = if sftp.support_hardlink() {
            fs.hard_link(temporary, path).await
        } else if fs.metadata(path).await.is_ok() {
            return Ok(Creation::Exists);
        } else {
            fs.rename(temporary, path).await
        };
        match published.map_err(Failure::from) {
            Ok(()) => Ok(Creation::New),
            // The protocol has no word for a name that is taken.
            Err(Failure::Refused(SftpErrorKind::Failure, _)) if fs.metadata(path).await.is_ok() => Ok(Creation::Exists),
            Err(failure) => Err(failure),
        }
    }

    async fn create_object(&self, sftp: &Sftp, name: &ObjectName, bytes: &[u8]) -> Result<Creation, Failure> {
        let entropy: &dyn Entropy = &OsEntropy;
        let random = WriterId(entropy.bytes());
        let temporary = self.path(&format!("tmp/{random}"));
        let path = self.path(name.as_str());
        match self.write(sftp, &temporary, bytes).await {
            Err(failure) if failure.is_not_found() => {
                self.create_folders(sftp, "tmp", name.begins_a_repository()).await?;
                self.write(sftp, &temporary, bytes).await?;
            }
            written => written?,
        }
        let published = match self.publish(sftp, &temporary, &path).await {
            Err(failure) if failure.is_not_found() => {
                let folder = name.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
                self.create_folders(sftp, folder, name.begins_a_repository()).await?;
                self.publish(sftp, &temporary, &path).await
            }
            published => published,
        };
        // One that stays is garbage, no harm.
        let _ = sftp.fs().remove_file(&temporary).await;
        published
    }

    /// Creates a folder of the repository and those above it, the repository's own only with its first objects.
    async fn create_folders(&self, sftp: &Sftp, folder: &str, root_too: bool) -> Result<(), Failure> {
        let mut fs = sftp.fs();
        let root = &self.place.path;
        let skip = if root_too { 0 } else { root.len() };
        let whole = self.path(folder);
        let ends = whole.char_indices().filter(|&(at, c)| c == '/' && at > 0).map(|(at, _)| at).chain([whole.len()]);
        for end in ends.filter(|&end| end > skip) {
            if let Err(error) = fs.create_dir(&whole[..end]).await
                && fs.metadata(&whole[..end]).await.is_err()
            {
                return Err(error.into());
            }
        }
        Ok(())
    }

    async fn read_object(&self, sftp: &Sftp, path: &str, range: Range<u64>) -> Result<Vec<u8>, Failure> {
        let mut file = Box::pin(TokioCompatFile::new(sftp.open(path).await?));
        if range.start > 0 {
            use tokio::io::AsyncSeekExt;
            file.seek(io::SeekFrom::Start(range.start)).await?;
        }
        let mut bytes = Vec::new();
        file.take(range.end - range.start).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    /// The files of a folder and its sub-folders, a level of folders at a time.
    async fn list_files(&self, sftp: &Sftp, folder: String) -> Result<Vec<Listed>, Failure> {
        let (mut listed, mut folders) = (Vec::new(), vec![folder]);
        for _ in 0..MAX_DEPTH {
            let level = stream::iter(folders).map(|folder| self.list_folder(sftp, folder));
            let level: Vec<_> = level.buffer_unordered(LIST_CONCURRENCY).try_collect().await?;
            folders = Vec::new();
            for (files, below) in level {
                listed.extend(files);
                folders.extend(below);
            }
        }
        Ok(listed)
    }

    async fn list_folder(&self, sftp: &Sftp, folder: String) -> Result<(Vec<Listed>, Vec<String>), Failure> {
        let path = self.path(&folder);
        let (mut files, mut folders) = (Vec::new(), Vec::new());
        let entries = match sftp.fs().open_dir(path).await.map_err(Failure::from) {
            Err(failure) if failure.is_not_found() => return Ok((files, folders)),
            opened => opened?,
        };
        let mut entries = Box::pin(entries.read_dir());
        while let Some(entry) = entries.try_next().await? {
            let Some(name) = entry.filename().to_str().filter(|name| !matches!(*name, "." | "..")) else { continue };
            let name = format!("{folder}/{name}");
            if entry.file_type().is_some_and(|kind| kind.is_dir()) {
                folders.push(name);
            } else {
                let bytes = entry.metadata().len().unwrap_or(0);
                files.push(Listed { name: ObjectName::from_listing(name), bytes });
            }
        }
        Ok((files, folders))
    }

    fn error(&self, action: &'static str, name: &ObjectName, failure: Failure) -> StoreError {
        if failure.is_not_found() && action == "read" {
            return StoreError::NotFound { location: self.location(), name: name.clone() };
        }
        self.failure(action, name.to_string(), failure)
    }

    fn failure(&self, action: &'static str, name: String, failure: Failure) -> StoreError {
        let location = self.location();
        let away = matches!(failure, Failure::Away(_));
        let source = failure.io_error();
        if away {
            StoreError::Unavailable { location, action, name, source }
        } else {
            StoreError::Io { location, action, name, source }
        }
    }
}

/// What `ssh` said before it ended.
async fn message_of(mut ssh: Child, stderr: Option<ChildStderr>) -> Option<String> {
    let mut message = Vec::new();
    stderr?.take(MAX_MESSAGE_BYTES).read_to_end(&mut message).await.ok()?;
    let status = ssh.wait().await.ok()?;
    let message = String::from_utf8_lossy(&message);
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Some(if lines.is_empty() { format!("ssh ended with {status}") } else { lines.join("; ") })
}

impl Store for SftpStore {
    fn location(&self) -> String {
        self.place.to_string()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        let created = self.with(bytes.len() as u64, async |sftp| self.create_object(sftp, name, bytes).await);
        created.map_err(|failure| self.error("create", name, failure))
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(name.as_str());
        let read = self.with(limit_bytes, async |sftp| self.read_object(sftp, &path, 0..limit_bytes + 1).await);
        let bytes = read.map_err(|failure| self.error("read", name, failure))?;
        if bytes.len() as u64 <= limit_bytes {
            return Ok(bytes);
        }
        let source = too_long(bytes.len() as u64, limit_bytes);
        Err(StoreError::Io { location: self.location(), action: "read", name: name.to_string(), source })
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let (path, bytes) = (self.path(name.as_str()), range.end - range.start);
        let read = self.with(bytes, async |sftp| self.read_object(sftp, &path, range.clone()).await);
        let found = read.map_err(|failure| self.error("read", name, failure))?;
        if found.len() as u64 == bytes {
            Ok(found)
        } else {
            Err(StoreError::Truncated { location: self.location(), name: name.clone(), range })
        }
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let prefix = folder.prefix();
        let path = prefix.trim_end_matches('/').to_owned();
        let listed = self.with(0, async |sftp| self.list_files(sftp, path).await);
        let mut listed = listed.map_err(|failure| self.failure("list", prefix, failure))?;
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let path = self.path(name.as_str());
        let deleted = self.with(0, async |sftp| Ok(sftp.fs().remove_file(&path).await?));
        match deleted {
            Err(failure) if failure.is_not_found() => Ok(()),
            deleted => deleted.map_err(|failure| self.error("delete", name, failure)),
        }
    }

    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        let path = self.path(name.as_str());
        let metadata = self.with(0, async |sftp| Ok(sftp.fs().metadata(&path).await?));
        let metadata = metadata.map_err(|failure| self.error("read", name, failure))?;
        Ok(metadata.modified().map(|time| UnixMicros::of(time.as_system_time())))
    }

    fn concurrency(&self) -> usize {
        CONCURRENCY
    }
}
