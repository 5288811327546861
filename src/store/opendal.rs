//! Object stores: S3, Google Cloud Storage and Azure Blob Storage, by OpenDAL; and its memory service, for tests.
//!
//! # What is asked of a service
//! A creation is one conditional request (`If-None-Match: *` or its like): atomic and exclusive, unless the service ignores the condition, which
//! [`super::probe`] finds out. A read is one request; only when it fails, the object's length is asked for, to say why. Every request has a time
//! limit that grows with its bytes, so none hangs for ever; trying again is [`super::around::retry`]'s part.
//!
//! All stores share one runtime of two threads: connections live in it, whoever asks.

use std::io;
use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::TryStreamExt;
use opendal::{Error, ErrorKind, Operator, services};
use tokio::runtime::Runtime;

use crate::base::clock::UnixMicros;
use crate::format::name::{Folder, ObjectName};

use super::{Creation, Listed, Store, StoreError, too_long};

/// The slowest that a request may run before it is given up.
const SLOWEST_BYTES_A_SECOND: u64 = 64 << 10;

/// Requests that are worth having under way at once.
const CONCURRENCY: usize = 8;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).thread_name("network").enable_all().build();
    runtime.expect("BUG: a machine that runs this has two more threads")
});

/// The runtime of everything that talks over a network.
pub(super) fn runtime() -> &'static Runtime {
    &RUNTIME
}

/// How long a request for so many bytes may take, if a small one may take `base`.
pub(super) fn time_limit(base: Duration, bytes: u64) -> Duration {
    base + Duration::from_secs(bytes / SLOWEST_BYTES_A_SECOND)
}

/// See the module documentation.
pub struct OpendalStore {
    operator: Operator,
    location: String,
    timeout: Duration,
    concurrency: usize,
}

impl OpendalStore {
    /// An empty store in this process's memory.
    pub fn memory() -> io::Result<Self> {
        let operator = Operator::new(services::Memory::default()).map_err(io::Error::from)?;
        Ok(Self { operator, location: "memory:".into(), timeout: Duration::from_secs(60), concurrency: 0 })
    }

    /// A service. A request of few bytes may take as long as `timeout`.
    pub fn new(operator: Operator, location: String, timeout: Duration) -> Self {
        Self { operator, location, timeout, concurrency: CONCURRENCY }
    }

    /// Waits for a request, for as long as it may take.
    fn wait<T>(&self, bytes: u64, request: impl Future<Output = opendal::Result<T>>) -> opendal::Result<T> {
        let limit = time_limit(self.timeout, bytes);
        let late = || {
            let text = format!("no answer within {} s", limit.as_secs());
            Error::new(ErrorKind::Unexpected, text).set_temporary()
        };
        RUNTIME.block_on(async { tokio::time::timeout(limit, request).await.unwrap_or_else(|_| Err(late())) })
    }

    fn error(&self, action: &'static str, name: &ObjectName, error: Error) -> StoreError {
        if error.kind() == ErrorKind::NotFound && action == "read" && !is_about_the_bucket(&error) {
            return StoreError::NotFound { location: self.location(), name: name.clone() };
        }
        self.failure(action, name.to_string(), error)
    }

    fn failure(&self, action: &'static str, name: String, error: Error) -> StoreError {
        let location = self.location();
        if is_temporary(&error) {
            let source = io::Error::other(text_of(&error));
            return StoreError::Unavailable { location, action, name, source };
        }
        let kind = match error.kind() {
            ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::Other,
        };
        StoreError::Io { location, action, name, source: io::Error::new(kind, text_of(&error)) }
    }

    /// Services differ in what a range past the end gives: the length tells.
    fn range_error(&self, name: &ObjectName, range: Range<u64>, error: Error) -> StoreError {
        let is_short = is_about_the_range(&error) || error.message().contains("too little data");
        if !is_short {
            return self.error("read", name, error);
        }
        match self.wait(0, self.operator.stat(name.as_str())) {
            Ok(metadata) if metadata.content_length() < range.end => self.truncated(name, range),
            Ok(_) => self.error("read", name, error),
            Err(error) => self.error("read", name, error),
        }
    }

    fn truncated(&self, name: &ObjectName, range: Range<u64>) -> StoreError {
        StoreError::Truncated { location: self.location(), name: name.clone(), range }
    }
}

/// What the service said, without the headers and addresses that OpenDAL adds.
fn text_of(error: &Error) -> String {
    let mut text = error.message().to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn is_about_the_bucket(error: &Error) -> bool {
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"]
        .iter()
        .any(|word| error.to_string().contains(word))
}

fn is_about_the_range(error: &Error) -> bool {
    // Not every service has the answer's status in a kind of its own.
    error.kind() == ErrorKind::RangeNotSatisfied || error.to_string().contains("status: 416")
}

/// What OpenDAL does not know may pass as well as what it knows to pass: a status it has no word for, a body cut short. A refusal does not pass.
fn is_temporary(error: &Error) -> bool {
    error.is_temporary() || matches!(error.kind(), ErrorKind::Unexpected | ErrorKind::RateLimited | ErrorKind::Conflict)
}

impl Store for OpendalStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        let write = self.operator.write_with(name.as_str(), bytes.to_vec()).if_not_exists(true);
        match self.wait(bytes.len() as u64, async { write.await }) {
            Ok(_) => Ok(Creation::New),
            Err(error) if error.kind() == ErrorKind::ConditionNotMatch => Ok(Creation::Exists),
            Err(error) => Err(self.error("create", name, error)),
        }
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let read = async {
            let mut bytes = Vec::new();
            let mut stream = self.operator.reader(name.as_str()).await?.into_stream(..).await?;
            while let Some(part) = stream.try_next().await? {
                for part in part {
                    bytes.extend_from_slice(&part);
                }
                if bytes.len() as u64 > limit_bytes {
                    break;
                }
            }
            Ok(bytes)
        };
        let bytes = match self.wait(limit_bytes, read) {
            Ok(bytes) => bytes,
            // Services that read by ranges only have none of an empty object.
            Err(error) if is_about_the_range(&error) => Vec::new(),
            Err(error) => return Err(self.error("read", name, error)),
        };
        if bytes.len() as u64 <= limit_bytes {
            return Ok(bytes);
        }
        let source = too_long(bytes.len() as u64, limit_bytes);
        Err(StoreError::Io { location: self.location(), action: "read", name: name.to_string(), source })
    }

    fn read_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let read = self.operator.read_with(name.as_str()).range(range.clone());
        match self.wait(range.end - range.start, async { read.await }) {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => Ok(bytes.to_vec()),
            Ok(_) => Err(self.truncated(name, range)),
            Err(error) => Err(self.range_error(name, range, error)),
        }
    }

    fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let prefix = folder.prefix();
        let collect = async {
            let mut listed = Vec::new();
            let mut lister = self.operator.lister_with(&prefix).recursive(true).await?;
            // Each page is a request: the limit is for one, not for all.
            while let Some(entry) =
                tokio::time::timeout(self.timeout, lister.try_next()).await.map_err(|_| late_page())??
            {
                if entry.metadata().is_file() {
                    let name = ObjectName::from_listing(entry.path().to_owned());
                    listed.push(Listed { name, bytes: entry.metadata().content_length() });
                }
            }
            Ok::<_, Error>(listed)
        };
        let listed = match RUNTIME.block_on(collect) {
            Err(error) if error.kind() == ErrorKind::NotFound && !is_about_the_bucket(&error) => Vec::new(),
            listed => listed.map_err(|error| self.failure("list", prefix, error))?,
        };
        let mut listed = listed;
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        match self.wait(0, self.operator.delete(name.as_str())) {
            Err(error) if error.kind() == ErrorKind::NotFound && !is_about_the_bucket(&error) => Ok(()),
            deleted => deleted.map_err(|error| self.error("delete", name, error)),
        }
    }

    fn created(&self, name: &ObjectName) -> Result<Option<UnixMicros>, StoreError> {
        let metadata =
            self.wait(0, self.operator.stat(name.as_str())).map_err(|error| self.error("read", name, error))?;
        Ok(metadata.last_modified().map(UnixMicros::of))
    }

    fn concurrency(&self) -> usize {
        self.concurrency
    }
}

fn late_page() -> Error {
    Error::new(ErrorKind::Unexpected, "no answer in time").set_temporary()
}
