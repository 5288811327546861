//! Object lock: a service that lets nobody delete an object's bytes before a time, whoever asks.
//!
//! Where a bucket has it, deleting an object hides it and keeps what it was; so does overwriting it. A lock holds for those bytes. It can be made longer, not shorter, unless it is in
//! [governance](LockMode::Governance) mode and the account may do that.
//!
//! S3 alone has locks of single objects with a time of their own; OpenDAL has no call for them. [`S3Locks`] asks for them itself, with the credentials that OpenDAL finds
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectRetention.html>).

use std::io;
use std::sync::OnceLock;

use base64::prelude::{BASE64_STANDARD, Engine};
use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use opendal::{Buffer, HttpTransport, HttpTransporter};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, RequestSigner};
use reqsign_core::{Context, OsEnv, Signer};
use reqsign_file_read_tokio::TokioFileRead;
use sha2::{Digest, Sha256};

use crate::base::clock::UnixMicros;
use crate::base::id::to_hex;
use crate::format::name::ObjectName;

use super::transport::Transport;

/// How an object is to be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Nobody deletes it before.
    pub until: UnixMicros,
    /// Who may end the lock early.
    pub mode: LockMode,
}

/// Who may end a lock early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockMode {
    /// Whoever has the permission for that.
    #[default]
    Governance,
    /// Nobody, not the account's owner either.
    Compliance,
}

/// Whether an object is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    /// The place has no such thing.
    Unsupported,
    /// It is not.
    No,
    /// Until then.
    Until(UnixMicros),
}

/// Where an S3 service keeps objects, and how it is asked for locks.
pub struct S3Locks {
    /// Of the bucket.
    bucket_url: String,
    /// What every object's URL begins with.
    base: String,
    /// Whether the bucket has locks, once it was asked.
    has_locks: OnceLock<bool>,
    signer: Signer<Credential>,
    transport: Transport,
}

/// What a service said that is no answer to the question.
#[derive(Debug)]
pub struct Refusal {
    /// Whether asking again may help.
    pub is_temporary: bool,
    /// What it said.
    pub error: io::Error,
}

/// Stays as it is in the path of a URL that is signed.
const IN_PATHS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

impl S3Locks {
    /// Of a bucket's objects below `prefix`, on an endpoint like `https://s3.eu-central-1.amazonaws.com`.
    pub fn new(
        endpoint: &str,
        bucket: &str,
        prefix: &str,
        is_virtual_host: bool,
        region: &str,
        profile: Option<&str>,
    ) -> Self {
        let (bucket_url, base) = urls(endpoint, bucket, prefix, is_virtual_host);
        let provider = DefaultCredentialProvider::builder();
        let provider = match profile {
            Some(profile) => provider.with_profile(profile),
            None => provider,
        };
        let context =
            Context::new().with_file_read(TokioFileRead).with_env(OsEnv).with_http_send(HttpTransporter::default());
        let signer = Signer::new(context, provider.build(), RequestSigner::new("s3", region));
        Self { bucket_url, base, has_locks: OnceLock::new(), signer, transport: Transport::default() }
    }

    /// Whether an object is locked.
    pub async fn locked(&self, name: &ObjectName) -> Result<Locked, Refusal> {
        if !self.has_locks().await? {
            return Ok(Locked::Unsupported);
        }
        let (status, text) = self.ask(Method::GET, self.url(name), String::new()).await?;
        if status.is_success() {
            let until = element(&text, "RetainUntilDate").and_then(|time| time.parse::<Timestamp>().ok());
            return until
                .map(|until| Locked::Until(UnixMicros(until.as_microsecond())))
                .ok_or_else(|| refusal(status, &text));
        }
        match element(&text, "Code") {
            // Amazon's word for it, and that of others.
            Some("NoSuchObjectLockConfiguration" | "ObjectLockConfigurationNotFoundError") => Ok(Locked::No),
            _ => Err(refusal(status, &text)),
        }
    }

    /// Locks an object.
    pub async fn lock(&self, name: &ObjectName, lock: Lock) -> Result<(), Refusal> {
        let mode = match lock.mode {
            LockMode::Governance => "GOVERNANCE",
            LockMode::Compliance => "COMPLIANCE",
        };
        // Whole seconds are what services keep.
        let seconds = lock.until.0.div_euclid(1_000_000) + 1;
        let until = Timestamp::from_second(seconds).map_err(|error| refused(false, io::Error::other(error)))?;
        let body = format!(
            "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
        );
        let (status, text) = self.ask(Method::PUT, self.url(name), body).await?;
        if status.is_success() { Ok(()) } else { Err(refusal(status, &text)) }
    }

    /// Whether the bucket lets objects be locked: a service that does not know the question does not.
    async fn has_locks(&self) -> Result<bool, Refusal> {
        if let Some(&known) = self.has_locks.get() {
            return Ok(known);
        }
        let (status, text) = self.ask(Method::GET, format!("{}?object-lock=", self.bucket_url), String::new()).await?;
        let refusal = refusal(status, &text);
        let is_denied = refusal.error.kind() == io::ErrorKind::PermissionDenied;
        if !status.is_success() && (refusal.is_temporary || is_denied) {
            return Err(refusal);
        }
        let found = status.is_success() && element(&text, "ObjectLockEnabled") == Some("Enabled");
        Ok(*self.has_locks.get_or_init(|| found))
    }

    fn url(&self, name: &ObjectName) -> String {
        format!("{}/{}?retention=", self.base, encoded(name.as_str()))
    }

    async fn ask(&self, method: Method, url: String, body: String) -> Result<(StatusCode, String), Refusal> {
        let digest = Sha256::digest(&body);
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("x-amz-content-sha256", to_hex(&digest))
            // A request that changes a lock has to prove that it arrived whole.
            .header("x-amz-checksum-sha256", BASE64_STANDARD.encode(digest))
            .header("content-length", body.len());
        let request = request.body(()).map_err(|error| refused(false, io::Error::other(error)))?;
        let (mut parts, ()) = request.into_parts();
        let signed = self.signer.sign(&mut parts, None).await;
        signed.map_err(|error| refused(false, io::Error::new(io::ErrorKind::PermissionDenied, error.to_string())))?;
        let answer = self.transport.fetch(Request::from_parts(parts, Buffer::from(body.into_bytes()))).await;
        let (parts, mut body) = answer.map(Response::into_parts).map_err(unreached)?;
        let text = body.to_buffer().await.map_err(unreached)?.to_vec();
        Ok((parts.status, String::from_utf8_lossy(&text).into_owned()))
    }
}

/// Of a bucket, and of what lies below `prefix` in it.
fn urls(endpoint: &str, bucket: &str, prefix: &str, is_virtual_host: bool) -> (String, String) {
    let endpoint = endpoint.trim_end_matches('/');
    let place = match endpoint.split_once("://") {
        Some((scheme, host)) if is_virtual_host => format!("{scheme}://{bucket}.{host}"),
        _ => format!("{endpoint}/{bucket}"),
    };
    let prefix = prefix.trim_matches('/');
    let base = if prefix.is_empty() { place.clone() } else { format!("{place}/{}", encoded(prefix)) };
    (if is_virtual_host { place + "/" } else { place }, base)
}

fn encoded(path: &str) -> String {
    utf8_percent_encode(path, IN_PATHS).to_string()
}

fn unreached(error: opendal::Error) -> Refusal {
    refused(true, io::Error::other(error.message().to_owned()))
}

fn refused(is_temporary: bool, error: io::Error) -> Refusal {
    Refusal { is_temporary, error }
}

fn refusal(status: StatusCode, text: &str) -> Refusal {
    let said = match (element(text, "Code"), element(text, "Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => format!("HTTP status {}", status.as_u16()),
    };
    let is_temporary = status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 425 | 429);
    let kind = match status {
        StatusCode::NOT_FOUND => io::ErrorKind::NotFound,
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => io::ErrorKind::PermissionDenied,
        _ => io::ErrorKind::Other,
    };
    refused(is_temporary, io::Error::new(kind, said))
}

/// The text of the first element of this name.
fn element<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(text, _)| text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_in_either_style() {
        let url = |is_virtual| urls("https://s3.example/", "b", "/a b/c/", is_virtual);
        let expected = |bucket: &str, base: &str| (bucket.to_owned(), base.to_owned());
        assert_eq!(url(false), expected("https://s3.example/b", "https://s3.example/b/a%20b/c"));
        assert_eq!(url(true), expected("https://b.s3.example/", "https://b.s3.example/a%20b/c"));
        assert_eq!(urls("http://h", "b", "", false), expected("http://h/b", "http://h/b"));
    }

    #[test]
    fn elements_are_found() {
        let text = "<Error><Code>NoSuchKey</Code><Message>why</Message></Error>";
        assert_eq!(element(text, "Code"), Some("NoSuchKey"));
        assert_eq!(refusal(StatusCode::NOT_FOUND, text).error.to_string(), "NoSuchKey: why");
        assert_eq!(element(text, "Other"), None);
    }
}
