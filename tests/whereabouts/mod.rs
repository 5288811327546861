//! Where a test's repository is: in a folder, or on the server that `cargo xtask test` names in `CONTINUUM_TEST_STORE`, at a path of its own.

#![allow(dead_code, reason = "each harness uses its part of this")]

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// A URL below which repositories can be made.
pub const BASE: &str = "CONTINUUM_TEST_STORE";

/// What the servers' clients may need of the environment.
const CREDENTIALS: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_KEY",
    "STORAGE_EMULATOR_HOST",
];

/// See the module documentation.
pub enum Whereabouts {
    /// A folder that may not be there yet.
    Folder(PathBuf),
    /// A URL at which nothing is yet.
    Url(String),
}

impl Whereabouts {
    /// A new place: `folder`, unless a server is named.
    pub fn new(folder: PathBuf) -> Self {
        let Some(base) = base() else {
            return Self::Folder(folder);
        };
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("random bytes");
        Self::Url(below(&base, &format!("t-{:016x}", u64::from_le_bytes(random))))
    }

    /// As the program is told.
    pub fn name(&self) -> &OsStr {
        match self {
            Self::Folder(path) => path.as_os_str(),
            Self::Url(url) => url.as_ref(),
        }
    }

    /// The folder, for tests that look at a repository's files. They are not among those that `cargo xtask test` runs on a server.
    #[track_caller]
    pub fn folder(&self) -> &Path {
        match self {
            Self::Folder(path) => path,
            Self::Url(url) => panic!(
                "this test looks at the repository's files, but the repository is {url}: \
                 leave it out in xtask/src/test/suites.rs"
            ),
        }
    }
}

/// The server that the tests are run on, if it is not this machine's file system.
pub fn base() -> Option<String> {
    let base = std::env::var_os(BASE).filter(|base| !base.is_empty())?;
    Some(base.into_string().expect("CONTINUUM_TEST_STORE is a URL"))
}

/// What the program needs of our environment to reach the server.
pub fn credentials() -> impl Iterator<Item = (&'static str, OsString)> {
    CREDENTIALS.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// The URL with a path segment more, before its query.
pub fn below(base: &str, segment: &str) -> String {
    let (place, query) = base.split_at(base.find('?').unwrap_or(base.len()));
    format!("{}/{segment}{query}", place.trim_end_matches('/'))
}
