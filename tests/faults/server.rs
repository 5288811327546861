//! The server, the proxy before it, and repositories that are reached through it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use continuum::base::clock::SystemTimer;
use continuum::base::entropy::OsEntropy;
use continuum::format::name::Folder;
use continuum::monitor::Silent;
use continuum::store::Store;
use continuum::store::around::limit::Limits;
use continuum::store::connect::{Reach, Use, connect_all};
use continuum::store::place::Place;
use rusqlite::Connection;

use crate::proxy::{Fault, Proxy, Rule};
use crate::support::whereabouts::{BASE, below};
use crate::support::{Repository, text};

/// What passes if the client asks again. What makes it give up, for good reasons, is in `refusals` and `memory`.
pub const PASSING: [Fault; 14] = [
    Fault::TooMany,
    Fault::Internal,
    Fault::SlowDown,
    Fault::CutRequest,
    Fault::LostAnswer,
    Fault::CutAnswer,
    Fault::HalfAnswer,
    Fault::Hang,
    Fault::Drip,
    Fault::ErrorBody,
    Fault::Page,
    Fault::Words,
    Fault::TooShort,
    Fault::TooLong,
];

/// All of that happens to such a share of requests, but that a pack is not left hanging: its upload may take a second for each 64 KiB, so that is what it waits.
pub fn spoil(share: f64, seed: u64) -> Vec<Rule> {
    let (slow, quick): (Vec<Fault>, Vec<Fault>) =
        PASSING.iter().partition(|fault| matches!(fault, Fault::Hang | Fault::Drip));
    let slow_share = share * slow.len() as f64 / PASSING.len() as f64;
    let small = [("GET", ""), ("DELETE", ""), ("PUT", "/timelines/"), ("PUT", "/journal/"), ("PUT", "/config")];
    let slow = small.map(|(method, part)| Rule { method, part: part.into(), ..Rule::share(slow_share, seed, &slow) });
    slow.into_iter().chain([Rule::share(share - slow_share, seed, &quick)]).collect()
}

/// Entries that a timeline has before its first snapshot.
pub const BEGUN: usize = 1;

/// A place on the server that nobody else uses, reached through a proxy of its own.
pub struct Server {
    pub proxy: Proxy,
    /// Through the proxy.
    pub url: String,
}

impl Server {
    /// A new one.
    #[track_caller]
    pub fn new() -> Self {
        let base = std::env::var("CONTINUUM_TEST_S3").or_else(|_| std::env::var(BASE)).unwrap_or_default();
        let endpoint = base.split(['?', '&']).find_map(|part| part.strip_prefix("endpoint=http://"));
        let Some(server) = endpoint.filter(|_| base.starts_with("s3://")) else {
            panic!("{BASE} names no S3 server at an http:// endpoint ({base:?}): use `cargo xtask test --only s3`");
        };
        let server = server.trim_end_matches('/');
        let proxy = Proxy::new(server);
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("random bytes");
        let base = base.replace(server, &proxy.address());
        let url = below(&base, &format!("faults-{:016x}", u64::from_le_bytes(random)));
        Self { proxy, url }
    }

    /// A repository to be made there, used with these options of the configuration file.
    pub fn repository(&self, configuration: &str) -> Repository {
        let repository = Repository::at(self.url.clone());
        fs::create_dir_all(repository.path("config/continuum")).expect("a new folder");
        fs::write(repository.path("config/continuum/continuum.toml"), configuration).expect("a new file");
        repository
    }

    /// The store as the program has it.
    pub fn store(&self, timeout: Duration, retry: Duration) -> Arc<dyn Store> {
        let place = Place::parse(&self.url).expect("a URL");
        let reach = Reach { timeout, variable: &|name| std::env::var(name).ok() };
        let options = Use {
            reach,
            retry,
            tolerate: 0,
            limits: Limits::default(),
            state: None,
            timer: Arc::new(SystemTimer::default()),
            entropy: Arc::new(OsEntropy),
            monitor: Arc::new(Silent),
        };
        connect_all(&[place], options).expect("a configuration").store
    }

    /// How many objects a folder has, asked without faults.
    pub fn count(&self, folder: Folder) -> usize {
        self.proxy.set_rules([]);
        let store = self.store(Duration::from_secs(30), Duration::from_secs(30));
        store.list(folder).expect("the server answers").len()
    }
}

/// Makes a database of so many KiB of random bytes.
pub fn make_database(path: &Path, kibibytes: u32) {
    let connection = Connection::open(path).expect("a database");
    connection.execute_batch("CREATE TABLE part (id INTEGER PRIMARY KEY, bytes BLOB)").expect("a table");
    drop(connection);
    change_database(path, kibibytes);
}

/// Adds so many KiB of random bytes.
pub fn change_database(path: &Path, kibibytes: u32) {
    let connection = Connection::open(path).expect("a database");
    let sql = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
         INSERT INTO part (bytes) SELECT randomblob(4000) FROM n",
        kibibytes.div_ceil(4)
    );
    connection.execute_batch(&sql).expect("rows");
}

/// A snapshot of the database as it is, restored, is what was captured.
#[track_caller]
pub fn assert_restores(repository: &Repository, snapshot: &serde_json::Value, target: &str) {
    let target = repository.path(target);
    repository.restore(snapshot, &target);
    assert_eq!(snapshot["blake3"], crate::support::hash_of(&target), "{}", text(&target));
}
