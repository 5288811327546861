//! Where a repository is, as a person writes it: a folder, or the URL of a bucket, a container or a server.
//!
//! ```text
//! /backup/repo                                    a folder; file:///backup/repo too
//! s3://BUCKET/PREFIX?endpoint=URL&region=NAME&profile=NAME&virtual_host=true
//! gs://BUCKET/PREFIX?endpoint=URL
//! azblob://CONTAINER/PREFIX?account=NAME&endpoint=URL
//! sftp://USER@HOST:PORT/PATH?key=FILE&known_hosts=strict|add|accept
//! memory:                                         this process's memory, for tests
//! ```
//!
//! A place carries no secrets: a URL that holds one is refused, for it would be printed and stored. Parsing is pure.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

/// See the module documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket of an S3 service.
    S3 {
        /// The bucket.
        bucket: Bucket,
        /// Where in the world; found out or guessed if not given.
        region: Option<String>,
        /// The profile in the AWS configuration files.
        profile: Option<String>,
        /// Whether the bucket is part of the host's name.
        virtual_host: bool,
    },
    /// A bucket of Google Cloud Storage.
    Gcs(Bucket),
    /// A container of Azure Blob Storage.
    Azblob {
        /// The container.
        container: Bucket,
        /// The storage account.
        account: Option<String>,
    },
    /// A folder of an SSH server.
    Sftp(SftpPlace),
    /// This process's memory.
    Memory,
}

/// A bucket or container, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What all objects' names begin with; without slashes at its ends.
    pub prefix: String,
    /// The service's URL, if it is not the provider's own.
    pub endpoint: Option<String>,
}

/// A folder of an SSH server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SftpPlace {
    /// The server, or a host of the SSH configuration.
    pub host: String,
    /// Its port.
    pub port: Option<u16>,
    /// Who logs in.
    pub user: Option<String>,
    /// The folder; relative to the user's home if it begins with `~/` or is empty.
    pub path: String,
    /// A private key's file.
    pub key: Option<PathBuf>,
    /// What to do about a host key that is not known.
    pub known_hosts: KnownHosts,
}

/// What to do about a host key that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KnownHosts {
    /// What the SSH configuration says.
    #[default]
    Configured,
    /// Refuse it.
    Strict,
    /// Accept and remember it; refuse one that has changed.
    Add,
    /// Accept any. Whoever is in between can delete the repository, but neither read nor forge it.
    Accept,
}

/// Why a text names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct PlaceError {
    place: String,
    problem: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// What must not stand plainly in a URL's path or parameters.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'&');

impl Place {
    /// Parses what a person wrote.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        if text.is_empty() {
            return Err(PlaceError { place: "the repository".into(), problem: "its name is empty".into(), hint: None });
        }
        match text.split_once(':') {
            Some(("memory", "" | "//")) => return Ok(Self::Memory),
            Some((scheme @ ("s3" | "gs" | "gcs" | "az" | "azure" | "azblob" | "sftp" | "ssh"), rest))
                if !rest.starts_with("//") =>
            {
                // As restic writes them.
                return Err(error(text, "no URL", Some(&format!("write {scheme}://…"))));
            }
            _ => {}
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(Self::Folder(PathBuf::from(text))) };
        match scheme {
            "file" if rest.starts_with('/') => Ok(Self::Folder(PathBuf::from(rest))),
            "file" => Err(error(text, "the path must be absolute", Some("write file:///path, or the path alone"))),
            "s3" => Parameters::of(text)?.s3(),
            "gs" | "gcs" => Parameters::of(text)?.gcs(),
            "azblob" | "az" | "azure" => Parameters::of(text)?.azblob(),
            "sftp" | "ssh" => Parameters::of(text)?.sftp(),
            "http" | "https" => {
                let hint = "for an S3 service write s3://BUCKET/PREFIX?endpoint=URL";
                Err(error(text, "a web address alone is no destination", Some(hint)))
            }
            _ => Err(error(
                text,
                &format!("destinations of the kind {scheme:?} are not supported"),
                Some("name a folder, or s3://, gs://, azblob:// or sftp://"),
            )),
        }
    }

    /// Whether operations take a round trip over a network.
    pub fn is_remote(&self) -> bool {
        !matches!(self, Self::Folder(_) | Self::Memory)
    }

    /// The same for the same place, from wherever a folder is named.
    pub fn identity(&self) -> String {
        match self {
            Self::Folder(path) => std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string(),
            other => other.to_string(),
        }
    }
}

fn error(place: &str, problem: &str, hint: Option<&str>) -> PlaceError {
    PlaceError { place: without_secrets(place), problem: problem.to_owned(), hint: hint.map(str::to_owned) }
}

/// A text that was refused may hold a secret: what could be one is left out.
fn without_secrets(text: &str) -> String {
    let text = text.split('?').next().unwrap_or_default();
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => text.to_owned(),
    }
}

/// A URL, taken apart piece by piece; what is left at the end is not understood.
struct Parameters {
    text: String,
    url: Url,
    query: Vec<(String, String)>,
}

impl Parameters {
    fn of(text: &str) -> Result<Self, PlaceError> {
        let url = Url::parse(text).map_err(|problem| error(text, &problem.to_string(), None))?;
        if url.password().is_some() || (url.scheme() == "s3" && !url.username().is_empty()) {
            let hint = "credentials come from the environment or from the provider's own files, never from the URL";
            return Err(error(text, "the URL holds a secret", Some(hint)));
        }
        let query = url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
        Ok(Self { text: text.to_owned(), url, query })
    }

    fn take(&mut self, key: &str) -> Option<String> {
        let position = self.query.iter().position(|(name, _)| name == key)?;
        Some(self.query.remove(position).1).filter(|value| !value.is_empty())
    }

    /// Everything has been taken.
    fn finish(self, known: &[&str]) -> Result<(), PlaceError> {
        let Some((key, _)) = self.query.first() else { return Ok(()) };
        let secret = ["key", "secret", "token", "password", "credential", "sas", "sig"];
        let hint = if secret.iter().any(|word| key.contains(word)) {
            "credentials come from the environment or from the provider's own files, never from the URL".to_owned()
        } else {
            format!("known are {}", known.join(", "))
        };
        Err(error(&self.text, &format!("unknown parameter {key:?}"), Some(&hint)))
    }

    fn host(&self, what: &str) -> Result<String, PlaceError> {
        let host = self.url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| error(&self.text, &format!("no {what} is named"), None))?;
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte)) {
            return Err(error(&self.text, &format!("no {what} has such a name"), None));
        }
        Ok(host.to_owned())
    }

    fn path(&self) -> Result<String, PlaceError> {
        let path = percent_decode_str(self.url.path()).decode_utf8();
        let path = path.map_err(|_| error(&self.text, "the path is no UTF-8", None))?.into_owned();
        let dots = path.split('/').any(|part| matches!(part, "." | ".."));
        if dots || path.chars().any(char::is_control) {
            return Err(error(&self.text, "the path holds `.`, `..` or control characters", None));
        }
        Ok(path)
    }

    fn bucket(&mut self, what: &str) -> Result<Bucket, PlaceError> {
        if self.url.port().is_some() {
            let hint = format!("name the {what} first, and the server as ?endpoint=URL");
            return Err(error(&self.text, "a bucket has no port", Some(&hint)));
        }
        let endpoint = self.take("endpoint").map(|endpoint| endpoint.trim_end_matches('/').to_owned());
        if let Some(endpoint) = &endpoint {
            let url = Url::parse(endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let clean = |url: &Url| url.username().is_empty() && url.password().is_none() && url.query().is_none();
            if !url.as_ref().is_some_and(clean) {
                let hint = "write ?endpoint=https://HOST:PORT, without credentials or parameters";
                return Err(error(&self.text, "the endpoint is no plain URL", Some(hint)));
            }
        }
        let prefix = self.path()?;
        let parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
        Ok(Bucket { name: self.host(what)?, prefix: parts.join("/"), endpoint })
    }

    fn s3(mut self) -> Result<Place, PlaceError> {
        let bucket = self.bucket("bucket")?;
        let (region, profile) = (self.take("region"), self.take("profile"));
        let virtual_host = match self.take("virtual_host").as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(error(&self.text, "virtual_host is true or false", None)),
        };
        self.finish(&["endpoint", "region", "profile", "virtual_host"])?;
        Ok(Place::S3 { bucket, region, profile, virtual_host })
    }

    fn gcs(mut self) -> Result<Place, PlaceError> {
        let bucket = self.bucket("bucket")?;
        self.finish(&["endpoint"])?;
        Ok(Place::Gcs(bucket))
    }

    fn azblob(mut self) -> Result<Place, PlaceError> {
        let container = self.bucket("container")?;
        let account = self.take("account");
        self.finish(&["account", "endpoint"])?;
        Ok(Place::Azblob { container, account })
    }

    fn sftp(mut self) -> Result<Place, PlaceError> {
        let user = percent_decode_str(self.url.username()).decode_utf8_lossy().into_owned();
        let key = self.take("key").map(PathBuf::from);
        let known_hosts = match self.take("known_hosts").as_deref() {
            None => KnownHosts::Configured,
            Some("strict") => KnownHosts::Strict,
            Some("add") => KnownHosts::Add,
            Some("accept") => KnownHosts::Accept,
            Some(_) => return Err(error(&self.text, "known_hosts is strict, add or accept", None)),
        };
        let (host, path, port) = (self.host("host")?, self.path()?, self.url.port());
        // What begins so would be taken for an option of ssh.
        if host.starts_with('-') || user.starts_with('-') {
            return Err(error(&self.text, "neither host nor user may begin with `-`", None));
        }
        let path = match path.strip_prefix("/~") {
            Some(home) if home.is_empty() || home.starts_with('/') => home.trim_start_matches('/').to_owned(),
            _ => path,
        };
        let path = path.trim_end_matches('/').to_owned();
        self.finish(&["key", "known_hosts"])?;
        let user = Some(user).filter(|user| !user.is_empty());
        Ok(Place::Sftp(SftpPlace { host, port, user, path, key, known_hosts }))
    }
}

/// Writes a bucket's URL; [`Place::parse`] reads it back.
fn write_bucket(
    f: &mut fmt::Formatter<'_>,
    scheme: &str,
    bucket: &Bucket,
    more: &[(&str, Option<&str>)],
) -> fmt::Result {
    write!(f, "{scheme}://{}", bucket.name)?;
    if !bucket.prefix.is_empty() {
        write!(f, "/{}", utf8_percent_encode(&bucket.prefix, ESCAPED))?;
    }
    write_query(f, [("endpoint", bucket.endpoint.as_deref())].iter().chain(more))
}

fn write_query<'a>(
    f: &mut fmt::Formatter<'_>,
    query: impl Iterator<Item = &'a (&'a str, Option<&'a str>)>,
) -> fmt::Result {
    let mut separator = '?';
    for (key, value) in query {
        if let Some(value) = value {
            write!(f, "{separator}{key}={}", utf8_percent_encode(value, ESCAPED))?;
            separator = '&';
        }
    }
    Ok(())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, region, profile, virtual_host } => {
                let virtual_host = virtual_host.then_some("true");
                let more =
                    [("region", region.as_deref()), ("profile", profile.as_deref()), ("virtual_host", virtual_host)];
                write_bucket(f, "s3", bucket, &more)
            }
            Self::Gcs(bucket) => write_bucket(f, "gs", bucket, &[]),
            Self::Azblob { container, account } => {
                write_bucket(f, "azblob", container, &[("account", account.as_deref())])
            }
            Self::Sftp(place) => place.fmt(f),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

impl fmt::Display for SftpPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sftp://")?;
        if let Some(user) = &self.user {
            write!(f, "{}@", utf8_percent_encode(user, ESCAPED))?;
        }
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        let home = if self.path.starts_with('/') { "" } else { "/~/" };
        write!(f, "{home}{}", utf8_percent_encode(&self.path, ESCAPED))?;
        let key = self.key.as_ref().map(|key| key.display().to_string());
        let known_hosts = match self.known_hosts {
            KnownHosts::Configured => None,
            KnownHosts::Strict => Some("strict"),
            KnownHosts::Add => Some("add"),
            KnownHosts::Accept => Some("accept"),
        };
        write_query(f, [("key", key.as_deref()), ("known_hosts", known_hosts)].iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, canonical: &str) {
        let place = Place::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(place.to_string(), canonical, "{text}");
        assert_eq!(Place::parse(canonical), Ok(place), "{canonical} reads back");
    }

    #[test]
    fn what_people_write_is_understood() {
        check("/backup/repo", "/backup/repo");
        check("repo", "repo");
        check("a:b", "a:b");
        check("file:///backup/repo", "/backup/repo");
        check("s3://bucket", "s3://bucket");
        check("s3://bucket//a//b/", "s3://bucket/a/b");
        check("s3://bucket/a%20b?region=eu-central-1", "s3://bucket/a%20b?region=eu-central-1");
        check("s3://b/p?endpoint=http://127.0.0.1:9000/", "s3://b/p?endpoint=http://127.0.0.1:9000");
        check("s3://b?profile=backup&virtual_host=true", "s3://b?profile=backup&virtual_host=true");
        check("gcs://bucket/p", "gs://bucket/p");
        check("az://container/p?account=store", "azblob://container/p?account=store");
        check("sftp://me@host:2222/srv/backup/", "sftp://me@host:2222/srv/backup");
        check("sftp://host/~/backup?known_hosts=add", "sftp://host/~/backup?known_hosts=add");
        check("sftp://host", "sftp://host/~/");
        check("memory:", "memory:");
    }

    #[test]
    fn what_cannot_be_is_said_and_no_secret_is_repeated() {
        let refused = [
            ("", "empty"),
            ("ftp://host/x", "not supported"),
            ("s3:https://host/bucket", "no URL"),
            ("s3:///prefix", "no bucket"),
            ("s3://b\u{fc}cket", "no bucket has"),
            ("s3://key:hunter2@bucket/p", "secret"),
            ("s3://bucket?secret_access_key=hunter2", "unknown parameter"),
            ("s3://bucket?regoin=x", "unknown parameter"),
            ("s3://127.0.0.1:9000/bucket", "port"),
            ("s3://bucket?endpoint=host:9000", "endpoint"),
            ("s3://bucket?endpoint=http://u:hunter2@h", "endpoint"),
            ("s3://bucket/%2e%2e/%2e%2e/x%0ay", "control"),
            ("sftp://-oProxyCommand=x/p", "no host has"),
            ("sftp://-oA@host/p", "begin with"),
            ("sftp://-host/p", "begin with"),
            ("sftp://u:hunter2@host/p", "secret"),
            ("https://host/bucket", "web address"),
        ];
        for (text, problem) in refused {
            let error = Place::parse(text).expect_err(text);
            assert!(error.to_string().contains(problem), "{text}: {error}");
            let all = format!("{error} {:?}", error.hint);
            assert!(!all.contains("hunter2"), "{all}");
        }
    }
}
