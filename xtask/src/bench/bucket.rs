//! Buckets of an S3 server that runs beside the measurement: made, listed and removed by benches/load/s3.py, which also finds out how fast the
//! server takes bytes when its client does nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::files::Files;
use super::{database, json};
use crate::failure::Failure;
use crate::services::State;

/// An S3 server, as its clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub endpoint: String,
    pub region: String,
    /// Names and values for a client's environment.
    pub credentials: Vec<(String, String)>,
}

/// A bucket of our own.
#[derive(Clone, Debug)]
pub struct Bucket {
    pub server: Server,
    pub name: String,
    /// Of the project, for the script.
    root: PathBuf,
}

/// The objects of a bucket whose keys begin with a name and a slash.
#[derive(Clone, Debug)]
pub struct Prefix {
    pub bucket: Bucket,
    pub name: String,
}

/// How long the server took to store so many bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Puts {
    pub bytes: u64,
    pub seconds: f64,
}

impl Server {
    /// The server behind a service of `cargo xtask services`.
    pub fn of(state: &State) -> Result<Self, Failure> {
        let option = |name: &str| {
            let (_, options) = state.url.split_once('?')?;
            let mut pairs = options.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        let known = option("endpoint").zip(option("region"));
        let (endpoint, region) =
            known.ok_or_else(|| Failure::new(format!("no endpoint and region in `{}`", state.url)))?;
        Ok(Self { endpoint, region, credentials: state.environment.clone() })
    }
}

impl Bucket {
    /// An empty bucket; what an earlier run left in one of this name is removed.
    pub fn make(root: &Path, server: &Server, name: &str) -> Result<Self, Failure> {
        let bucket = Self { server: server.clone(), name: name.to_owned(), root: root.to_owned() };
        bucket.script("make", &bucket.prefix("all"), &[])?;
        Ok(bucket)
    }

    pub fn remove(&self) -> Result<(), Failure> {
        self.script("remove", &self.prefix("all"), &[]).map(|_| ())
    }

    pub fn prefix(&self, name: &str) -> Prefix {
        Prefix { bucket: self.clone(), name: name.to_owned() }
    }

    /// What the script prints.
    fn script(&self, action: &str, prefix: &Prefix, more: &[String]) -> Result<String, Failure> {
        let mut command: Command = database::script(&self.root, "s3.py");
        command.arg(action).arg(prefix.url()).args(more).envs(self.server.credentials.iter().cloned());
        let output = command.stdin(Stdio::null()).output().map_err(Failure::io("run", Path::new("python3")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Failure::new(format!("`s3.py {action} {}` ended with {}: {said}", prefix.url(), output.status)))
    }
}

impl Prefix {
    /// As we write it, and the script.
    pub fn url(&self) -> String {
        let Server { endpoint, region, .. } = &self.bucket.server;
        format!("s3://{}/{}?endpoint={endpoint}&region={region}", self.bucket.name, self.name)
    }

    /// Every object with its length.
    pub fn objects(&self) -> Result<Files, Failure> {
        let listed = self.bucket.script("list", self, &[])?;
        objects_in(&listed).ok_or_else(|| Failure::new(format!("s3.py listed `{}`", listed.trim())))
    }

    /// Stores random objects of 16 MiB, by 4 clients at once.
    pub fn put(&self, bytes: u64) -> Result<Puts, Failure> {
        let told = self.bucket.script("put", self, &[bytes.to_string()])?;
        let seconds = json::number(&told, "seconds");
        let seconds = seconds.ok_or_else(|| Failure::new(format!("no seconds in `{}`", told.trim())))?;
        Ok(Puts { bytes, seconds })
    }
}

fn objects_in(listed: &str) -> Option<Files> {
    let object = |line: &str| {
        let (bytes, key) = line.split_once(' ')?;
        Some((PathBuf::from(key), bytes.parse().ok()?))
    };
    listed.lines().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_found_in_the_url_of_its_service() {
        let state = |url: &str| State::new(url.to_owned(), [("AWS_ACCESS_KEY_ID", "key")], Vec::new());
        let server = Server::of(&state("s3://tests/suites?endpoint=http://127.0.0.1:1&region=us-east-1")).unwrap();
        assert_eq!((server.endpoint.as_str(), server.region.as_str()), ("http://127.0.0.1:1", "us-east-1"));
        assert_eq!(server.credentials, [("AWS_ACCESS_KEY_ID".to_owned(), "key".to_owned())]);
        assert!(Server::of(&state("s3://tests/suites?region=us-east-1")).is_err());
        let bucket = Bucket { server, name: "b".to_owned(), root: PathBuf::new() };
        assert_eq!(bucket.prefix("x").url(), "s3://b/x?endpoint=http://127.0.0.1:1&region=us-east-1");
    }

    #[test]
    fn objects_have_lengths_and_keys() {
        let objects = objects_in("12 x/config\n345 x/a b\n").unwrap();
        assert_eq!(objects.values().sum::<u64>(), 357);
        assert_eq!(objects.get(Path::new("x/a b")), Some(&345));
        assert!(objects_in("").unwrap().is_empty());
        assert_eq!(objects_in("many x\n"), None);
    }
}
