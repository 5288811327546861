//! `continuum demo`

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rusqlite::Connection;
use secrecy::SecretString;
use serde_json::json;

use crate::base::entropy::{Entropy, OsEntropy};
use crate::base::id::to_hex;
use crate::chunk::codec::Compression;
use crate::ops::restore::{RestoreOptions, restore};
use crate::ops::snapshot::{Choice, SnapshotOptions, SnapshotSummary, snapshot};
use crate::ops::snapshots::Snapshot;
use crate::repo::chunk_reader::ChunkReader;
use crate::repo::index::Index;
use crate::repo::standing::Standing;
use crate::repo::{self, Environment, InitOptions, Repository, RepositoryError};
use crate::source::CaptureOptions;
use crate::store::local::LocalStore;
use crate::store::state::LocalState;

use super::error::{CliError, DONE};
use super::output;
use super::session::{Session, environment};

/// Rows of the database that the demo makes.
const ROWS: u32 = 20_000;

/// Options of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Everything happens in a temporary folder that is removed at the end; a database that you name is only read.

Example:
  continuum demo /var/lib/app/orders.db")]
pub struct DemoArguments {
    /// A database to show it with [default: a small one is made]
    database: Option<PathBuf>,
}

/// Shows the whole job: repository, snapshot, change, snapshot, restore, proof.
pub fn run(session: &Session, arguments: DemoArguments) -> Result<u8, CliError> {
    let folder = tempfile::Builder::new().prefix("continuum-demo-").tempdir();
    let folder = folder.map_err(|error| CliError::failed(format!("cannot make a temporary folder: {error}")))?;
    let demo = Demo { session, folder: folder.path() };
    let changed = folder.path().join("changed.db");
    let source = match arguments.database {
        Some(database) => database,
        None => demo.make_database()?,
    };
    let repository = demo.make_repository()?;
    let first = demo.snapshot(&repository, "Snapshot of", &source)?;
    demo.restore(&repository, &first, &changed, "a working copy, to change it")?;
    demo.change(&changed)?;
    let second = demo.snapshot(&repository, "Snapshot of the changed", &changed)?;
    let restored = folder.path().join("restored.db");
    demo.restore(&repository, &second, &restored, "the second snapshot")?;
    let oldest = folder.path().join("oldest.db");
    demo.restore(&repository, &first, &oldest, "the first one again")?;
    demo.prove(&restored, &second)?;
    demo.prove(&oldest, &first)?;
    if session.json() {
        let ids = [&first, &second].map(|snapshot| snapshot.id.to_string());
        let roots = [&first, &second].map(|snapshot| snapshot.manifest.root.to_string());
        session.print_json(
            "continuum.demo/1",
            json!({ "snapshots": ids, "blake3": roots, "seconds": session.elapsed_s() }),
        );
    }
    demo.say(format!("Done in {:.1} s. Next: continuum -r PLACE init", session.elapsed_s()));
    Ok(DONE)
}

struct Demo<'a> {
    session: &'a Session,
    folder: &'a Path,
}

impl Demo<'_> {
    fn say(&self, text: impl AsRef<str>) {
        if !self.session.quiet() && !self.session.json() {
            output::line(text);
        }
    }

    fn make_database(&self) -> Result<PathBuf, CliError> {
        let path = self.folder.join("orders.db");
        let made = Connection::open(&path).and_then(|connection| {
            connection.execute_batch(&format!(
                "PRAGMA journal_mode = wal;
                 CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, item TEXT, price REAL);
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
                 INSERT INTO orders SELECT i, 'customer ' || abs(random() % 500), hex(randomblob(40)), abs(random() % 10000) / 100.0 FROM n;
                 CREATE INDEX orders_customer ON orders (customer);",
            ))
        });
        made.map_err(|error| CliError::failed(format!("cannot make a database: {error}")))?;
        self.say(format!("Made a database with {} orders.", output::count(ROWS.into())));
        Ok(path)
    }

    fn make_repository(&self) -> Result<Repository, CliError> {
        let entropy: &dyn Entropy = &OsEntropy;
        let password = SecretString::from(to_hex(&entropy.bytes::<16>()));
        let store = Arc::new(LocalStore::new(self.folder.join("repository")));
        // What the demo did is nothing to remember afterwards.
        let state = Some(LocalState::new(self.folder.join("state")));
        let environment = Environment { state, ..environment() };
        let repository = repo::init(store, &password, InitOptions::default(), environment)?;
        self.say("Made an encrypted repository.");
        Ok(repository)
    }

    fn snapshot(&self, repository: &Repository, what: &str, path: &Path) -> Result<Snapshot, CliError> {
        let options = SnapshotOptions {
            name: "demo".into(),
            choice: Choice::Auto,
            tags: Vec::new(),
            host: "demo".into(),
            compression: Compression::default(),
            verify: true,
            capture: CaptureOptions::default(),
            take_over: false,
        };
        let SnapshotSummary { id, sequence, manifest, written, .. } =
            snapshot(repository, path, &options, &self.session.monitor())?;
        self.say(format!(
            "{what} database: {} read, {} stored, as {:.8}.",
            output::bytes(manifest.image_bytes()),
            output::bytes(written.pack_bytes + written.index_bytes),
            id.to_string(),
        ));
        let (standing, journal) = (Standing::default(), Arc::default());
        Ok(Snapshot { id, database: "demo".into(), sequence, manifest, standing, is_damaged: false, journal })
    }

    fn restore(&self, repository: &Repository, snapshot: &Snapshot, to: &Path, what: &str) -> Result<(), CliError> {
        let options = RestoreOptions { force: false, integrity_check: None, aside_suffix: String::new() };
        let monitor = self.session.monitor();
        let index = Index::load_reporting(repository, &monitor).map_err(RepositoryError::from)?;
        let reader = ChunkReader::new(repository, &index);
        let summary = restore(&reader, &snapshot.state(), to, &options, &monitor)?;
        self.say(format!("Restored {what}: {}.", output::bytes(summary.bytes)));
        Ok(())
    }

    /// One transaction, as an application would make it.
    fn change(&self, path: &Path) -> Result<(), CliError> {
        let changed = Connection::open(path).and_then(|connection| {
            connection.execute_batch(
                "BEGIN;
                 CREATE TABLE continuum_demo (note TEXT);
                 INSERT INTO continuum_demo VALUES ('one committed change');
                 COMMIT;",
            )
        });
        changed.map_err(|error| CliError::failed(format!("cannot change the working copy: {error}")))?;
        self.say("Changed the working copy in one transaction.");
        Ok(())
    }

    /// Hashes the file from scratch, as `b3sum` does.
    fn prove(&self, path: &Path, snapshot: &Snapshot) -> Result<(), CliError> {
        let mut hasher = blake3::Hasher::new();
        let hashed = File::open(path).and_then(|file| hasher.update_reader(file).map(|hasher| hasher.finalize()));
        let hash = hashed.map_err(|error| CliError::failed(format!("cannot hash {}: {error}", path.display())))?;
        if hash.as_bytes() != &snapshot.manifest.root.0 {
            return Err(CliError::failed(format!(
                "{} has the hash {hash}, expected {}",
                path.display(),
                snapshot.manifest.root
            )));
        }
        self.say(format!(
            "Proof: b3sum prints {hash} for {}, as captured.",
            path.file_name().unwrap_or_default().display()
        ));
        Ok(())
    }
}
