//! Object stores: S3, Google Cloud Storage and Azure Blob Storage, by OpenDAL; and its memory service, for tests.
//!
//! # What is asked of a service
//! A creation is one conditional request (`If-None-Match: *` or its like): atomic and exclusive, unless the service ignores the condition, which
//! [`super::probe`] finds out. A read is one request; only when it fails, the object's length is asked for, to say why. Every request has a time
//! limit that grows with its bytes — with those that have come, if it is not known how many will —, so none hangs for ever; trying again is
//! [`super::around::retry`]'s part.
//!
//! S3 gives an `ETag` with every object that it takes or hands out. What says 200 without one comes from something else that stands in between.
//!
//! All stores share one runtime of two threads: connections live in it, whoever asks.

use std::io;
use std::ops::{Range, RangeBounds};
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::TryStreamExt;
use opendal::{Error, ErrorKind, Metadata, Operator, services};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout_at};

use crate::base::clock::UnixMicros;
use crate::format::name::{Folder, ObjectName};

use super::object_lock::{Lock, Locked, Refusal, S3Locks};
use super::{Creation, Listed, Store, StoreError, too_long, unlockable};

/// The slowest that a request may run before it is given up.
const SLOWEST_BYTES_A_SECOND: u64 = 64 << 10;

/// Requests that are worth having under way at once.
const CONCURRENCY: usize = 8;

/// What a service says at length is cut here: some answer with a whole page.
const LONGEST_TEXT: usize = 400;

/// What S3 calls data that was damaged or cut short on its way to it, as a refusal (status 400). Sent again, it may arrive.
const DAMAGED_ON_THE_WAY: [&str; 4] = ["BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"];

/// What S3 calls credentials that are no longer good, where it does not call it forbidden (status 400).
const EXPIRED: [&str; 3] = ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"];

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
    gives_etags: bool,
    locks: Option<S3Locks>,
}

impl OpendalStore {
    /// An empty store in this process's memory.
    pub fn memory() -> io::Result<Self> {
        let operator = Operator::new(services::Memory::default()).map_err(io::Error::from)?;
        Ok(Self { concurrency: 0, ..Self::new(operator, "memory:".into(), Duration::from_secs(60)) })
    }

    /// A service. A request of few bytes may take as long as `timeout`.
    pub fn new(operator: Operator, location: String, timeout: Duration) -> Self {
        let gives_etags = operator.info().scheme() == services::S3_SCHEME;
        Self { operator, location, timeout, concurrency: CONCURRENCY, gives_etags, locks: None }
    }

    /// The same, asked for object locks in this way.
    pub fn with_locks(self, locks: S3Locks) -> Self {
        Self { locks: Some(locks), ..self }
    }

    /// Waits for a request, for as long as it may take.
    fn wait<T>(&self, bytes: u64, request: impl Future<Output = opendal::Result<T>>) -> opendal::Result<T> {
        let limit = time_limit(self.timeout, bytes);
        RUNTIME.block_on(async { tokio::time::timeout(limit, request).await.unwrap_or_else(|_| Err(late(limit))) })
    }

    /// The bytes of an object, or of a part of it, until there are more than `limit_bytes`.
    async fn fetch(
        &self,
        name: &ObjectName,
        range: impl RangeBounds<u64>,
        limit_bytes: u64,
    ) -> opendal::Result<Vec<u8>> {
        // Later by what each part may take, so that one who sends nothing is not waited for as if it sent all.
        let mut deadline = sleep(self.timeout).deadline();
        let open = async {
            let mut stream = self.operator.reader(name.as_str()).await?.into_stream(range).await?;
            if self.gives_etags {
                self.confirm(&stream.metadata().await?)?;
            }
            Ok(stream)
        };
        let mut stream = timeout_at(deadline, open).await.unwrap_or_else(|_| Err(late(self.timeout)))?;
        let mut bytes = Vec::new();
        while bytes.len() as u64 <= limit_bytes {
            let part = timeout_at(deadline, stream.try_next()).await;
            let Some(part) = part.unwrap_or_else(|_| Err(slow(bytes.len())))? else { break };
            deadline += Duration::from_secs(part.len() as u64) / SLOWEST_BYTES_A_SECOND as u32;
            for part in part {
                bytes.extend_from_slice(&part);
            }
        }
        Ok(bytes)
    }

    /// Whether it was the service that answered.
    fn confirm(&self, metadata: &Metadata) -> opendal::Result<()> {
        if !self.gives_etags || metadata.etag().is_some() {
            return Ok(());
        }
        let text = "the answer has no ETag: it comes from something else than the service";
        Err(Error::new(ErrorKind::Unexpected, text).set_temporary())
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
            _ if has_code(&error, &EXPIRED) || lacks_credentials(&error) => io::ErrorKind::PermissionDenied,
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

    /// Waits for an answer about a lock.
    fn ask<T>(
        &self,
        action: &'static str,
        name: &ObjectName,
        request: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, StoreError> {
        let limit = self.timeout;
        let answer = RUNTIME.block_on(async { tokio::time::timeout(limit, request).await });
        let refusal = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(refusal)) => refusal,
            Err(_) => Refusal { is_temporary: true, error: io::Error::other(text_of(&late(limit))) },
        };
        let (location, source) = (self.location(), refusal.error);
        Err(match source.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound { location, name: name.clone() },
            _ if refusal.is_temporary => StoreError::Unavailable { location, action, name: name.to_string(), source },
            _ => StoreError::Io { location, action, name: name.to_string(), source },
        })
    }

    fn truncated(&self, name: &ObjectName, range: Range<u64>) -> StoreError {
        StoreError::Truncated { location: self.location(), name: name.clone(), range }
    }
}

/// Whether there was nothing to sign the request with; OpenDAL says so in words only.
fn lacks_credentials(error: &Error) -> bool {
    error.to_string().contains("failed to load signing credential")
}

fn late(limit: Duration) -> Error {
    let text = format!("no answer within {} s", limit.as_secs());
    Error::new(ErrorKind::Unexpected, text).set_temporary()
}

fn slow(bytes: usize) -> Error {
    let text = format!("after {bytes} bytes it came to less than {} KiB/s", SLOWEST_BYTES_A_SECOND >> 10);
    Error::new(ErrorKind::Unexpected, text).set_temporary()
}

/// What the service said, without the headers and addresses that OpenDAL adds.
fn text_of(error: &Error) -> String {
    if lacks_credentials(error) {
        return "there are no credentials for it in the environment, nor where its provider's own tools look for them"
            .into();
    }
    let said = error.message();
    let mut text = match (member(said, "code"), member(said, "message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        // Of a document that describes no error, OpenDAL leaves nothing.
        (None, _) if said.contains(" code: \"\"") => String::new(),
        (None, _) => said.to_owned(),
    };
    if text.is_empty() {
        text = status_of(error).map_or_else(|| error.kind().to_string(), |status| format!("HTTP status {status}"));
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    let text = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    text.chars().take(LONGEST_TEXT).collect()
}

/// A member of the document by which S3 and Azure describe an error, which OpenDAL prints as Rust prints it.
fn member<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = said.split_once(&format!(" {name}: \""))?;
    let (value, _) = value.split_once('"')?;
    Some(value).filter(|value| !value.is_empty())
}

fn has_code(error: &Error, codes: &[&str]) -> bool {
    member(error.message(), "code").is_some_and(|code| codes.contains(&code))
}

/// The answer's status, which OpenDAL keeps in words only.
fn status_of(error: &Error) -> Option<u16> {
    let text = error.to_string();
    let (_, status) = text.split_once("Parts { status: ")?;
    status.get(..3)?.parse().ok()
}

fn is_about_the_bucket(error: &Error) -> bool {
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"]
        .iter()
        .any(|word| error.to_string().contains(word))
}

fn is_about_the_range(error: &Error) -> bool {
    // Not every service has the answer's status in a kind of its own.
    error.kind() == ErrorKind::RangeNotSatisfied || status_of(error) == Some(416)
}

/// What OpenDAL does not know may pass as well as what it knows to pass: a body cut short, a status of the service's own. A refusal does not pass.
fn is_temporary(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::RateLimited | ErrorKind::Conflict => true,
        ErrorKind::Unexpected => error.is_temporary() || !(is_refusal(error) || lacks_credentials(error)),
        _ => error.is_temporary(),
    }
}

/// By its status, the service has understood and will say the same again (RFC 9110, 15.4 to 15.6).
fn is_refusal(error: &Error) -> bool {
    match status_of(error) {
        // Slow, in conflict with another, too early, too many; and "the client has gone", which the client that reads it has not.
        Some(408 | 409 | 425 | 429 | 499) => false,
        Some(300..=499 | 501 | 505) => !has_code(error, &DAMAGED_ON_THE_WAY),
        _ => false,
    }
}

impl Store for OpendalStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn create(&self, name: &ObjectName, bytes: &[u8]) -> Result<Creation, StoreError> {
        let write = self.operator.write_with(name.as_str(), bytes.to_vec()).if_not_exists(true);
        let write = async { write.await.and_then(|written| self.confirm(&written)) };
        match self.wait(bytes.len() as u64, write) {
            Ok(()) => Ok(Creation::New),
            Err(error) if error.kind() == ErrorKind::ConditionNotMatch => Ok(Creation::Exists),
            Err(error) => Err(self.error("create", name, error)),
        }
    }

    fn read(&self, name: &ObjectName, limit_bytes: u64) -> Result<Vec<u8>, StoreError> {
        let bytes = match RUNTIME.block_on(self.fetch(name, .., limit_bytes)) {
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
        let wanted = range.end - range.start;
        match RUNTIME.block_on(self.fetch(name, range.clone(), wanted)) {
            Ok(bytes) if bytes.len() as u64 == wanted => Ok(bytes),
            Ok(bytes) if (bytes.len() as u64) < wanted => Err(self.truncated(name, range)),
            Ok(_) => {
                let text = format!("more came than was asked for: at most {wanted} bytes expected");
                Err(self.error("read", name, Error::new(ErrorKind::Unexpected, text)))
            }
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
                tokio::time::timeout(self.timeout, lister.try_next()).await.map_err(|_| late(self.timeout))??
            {
                if entry.metadata().is_file() {
                    let name = ObjectName::from_listing(entry.path().to_owned());
                    listed.push(Listed { name, bytes: entry.metadata().content_length() });
                }
            }
            Ok::<_, Error>(listed)
        };
        let mut listed = match RUNTIME.block_on(collect) {
            Err(error) if error.kind() == ErrorKind::NotFound && !is_about_the_bucket(&error) => Vec::new(),
            listed => listed.map_err(|error| self.failure("list", prefix, error))?,
        };
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

    fn locked(&self, name: &ObjectName) -> Result<Locked, StoreError> {
        match &self.locks {
            None => Ok(Locked::Unsupported),
            Some(locks) => self.ask("read the lock of", name, locks.locked(name)),
        }
    }

    fn lock(&self, name: &ObjectName, lock: Lock) -> Result<(), StoreError> {
        match &self.locks {
            None => Err(unlockable(self.location(), name)),
            Some(locks) => self.ask("lock", name, locks.lock(name, lock)),
        }
    }

    fn concurrency(&self) -> usize {
        self.concurrency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As OpenDAL tells of an answer.
    fn answered(status: u16, message: &str) -> Error {
        Error::new(ErrorKind::Unexpected, message).with_context("response", format!("Parts {{ status: {status}, .. }}"))
    }

    fn said(code: &str) -> String {
        format!("S3Error {{ code: {code:?}, message: \"why\", resource: \"\", request_id: \"1\" }}")
    }

    #[test]
    fn refusals_are_told_from_what_passes() {
        for (status, code, expected) in [
            (400, "ExpiredToken", false),
            (400, "BadDigest", true),
            (301, "PermanentRedirect", false),
            (405, "MethodNotAllowed", false),
            (408, "", true),
            (429, "", true),
            (501, "NotImplemented", false),
            (500, "", true),
            (503, "", true),
            (520, "", true),
        ] {
            assert_eq!(is_temporary(&answered(status, &said(code))), expected, "{status} {code}");
        }
        assert!(is_temporary(&Error::new(ErrorKind::Unexpected, "reader got too little data")));
        assert!(!is_temporary(&Error::new(ErrorKind::NotFound, "")));
    }

    #[test]
    fn what_was_said_is_for_a_person() {
        for (status, message, expected) in [
            (503, said("SlowDown"), "SlowDown: why"),
            (502, said("").replace("why", ""), "HTTP status 502"),
            (429, String::new(), "HTTP status 429"),
            (500, "two\n  lines".to_owned(), "two lines"),
        ] {
            assert_eq!(text_of(&answered(status, &message)), expected);
        }
        assert_eq!(text_of(&answered(500, &"x".repeat(9999))).len(), LONGEST_TEXT);
    }
}
