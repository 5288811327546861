//! `continuum snapshot`

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::chunk::codec::Compression;
use crate::format::manifest::{MAX_TAGS, is_tag};
use crate::ops::snapshot::{Choice, SnapshotOptions, SnapshotSummary, snapshot};
use crate::repo::Repository;
use crate::source::CaptureOptions;

use super::databases::{self, ListedDatabase};
use super::error::{CliError, DONE};
use super::session::{self, Session};
use super::{output, time};

/// Options of `snapshot`.
#[derive(Debug, Args)]
#[command(after_help = "\
The databases may be in use: the only lock taken is SQLite's own read lock. In rollback-journal mode writers wait while the \
snapshot reads; in WAL mode nobody waits.

Examples:
  continuum -r /backup/repo snapshot /var/lib/app/orders.db
  continuum -r /backup/repo snapshot --tag before-upgrade --name orders ./orders.db
  continuum -r /backup/repo snapshot /var/lib/app/*.db
  continuum snapshot               # repository and databases from the configuration file")]
pub struct SnapshotArguments {
    /// Database files [default: those that the configuration file lists]
    #[arg(value_name = "DATABASE")]
    databases: Vec<PathBuf>,
    /// Name of the database in the repository [default: the file's stem]
    #[arg(long)]
    name: Option<String>,
    /// Words to find the snapshot by
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// What to store
    #[arg(long, value_enum, default_value_t = StrategyArgument::Auto)]
    strategy: StrategyArgument,
    /// Codec; chunks that it does not shrink are stored plain
    #[arg(long, value_enum, default_value_t = Codec::Zstd)]
    compression: Codec,
    /// Level of the codec [zstd: 1 to 19, default 1; gzip: 1 to 9, default 6]
    #[arg(long, value_name = "N")]
    compression_level: Option<u32>,
    /// Upload without decoding and comparing first
    #[arg(long)]
    no_verify: bool,
    /// How long to wait for a lock that another process holds, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    busy_timeout: u32,
    /// Go on although a watcher on another machine did not end; its later commits are ignored
    #[arg(long)]
    take_over: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StrategyArgument {
    /// Incremental where there is something to build on, else full
    Auto,
    /// Every page, read anew; only what is new is stored
    Full,
    /// What changed since the last full
    Differential,
    /// What changed since the last restore point of any kind
    Incremental,
}

impl From<StrategyArgument> for Choice {
    fn from(argument: StrategyArgument) -> Self {
        match argument {
            StrategyArgument::Auto => Self::Auto,
            StrategyArgument::Full => Self::Full,
            StrategyArgument::Differential => Self::Differential,
            StrategyArgument::Incremental => Self::Incremental,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Codec {
    Zstd,
    Lz4,
    Gzip,
    None,
}

impl SnapshotArguments {
    fn compression(&self) -> Result<Compression, CliError> {
        let level = |default: u32, most: u32| match self.compression_level.unwrap_or(default) {
            level if (1..=most).contains(&level) => Ok(level),
            level => Err(CliError::usage(format!("--compression-level {level}: 1 to {most} expected"))),
        };
        match self.compression {
            Codec::Zstd => Ok(Compression::Zstd(level(1, 19)? as i32)),
            Codec::Gzip => Ok(Compression::Gzip(level(6, 9)?)),
            Codec::Lz4 | Codec::None if self.compression_level.is_some() => {
                Err(CliError::usage("--compression-level: this codec has no levels"))
            }
            Codec::Lz4 => Ok(Compression::Lz4),
            Codec::None => Ok(Compression::None),
        }
    }

    /// Everything that can be wrong with the arguments is said before anything is done.
    fn plan(&self, listed: &[ListedDatabase]) -> Result<Vec<(PathBuf, SnapshotOptions)>, CliError> {
        if self.tags.len() > MAX_TAGS || !self.tags.iter().all(|tag| is_tag(tag)) {
            return Err(CliError::usage(
                "--tag: at most 64 tags of 1 to 255 bytes without control characters expected",
            ));
        }
        let compression = self.compression()?;
        let options = |name| SnapshotOptions {
            name,
            choice: self.strategy.into(),
            tags: self.tags.clone(),
            host: session::host(),
            compression,
            verify: !self.no_verify,
            capture: CaptureOptions { busy_timeout: Duration::from_secs(self.busy_timeout.into()) },
            take_over: self.take_over,
        };
        let chosen = databases::chosen(&self.databases, self.name.as_deref(), listed)?;
        Ok(chosen.into_iter().map(|(path, name)| (path, options(name))).collect())
    }
}

/// Takes the snapshots. One that fails does not keep the others from being taken.
pub fn run(session: &Session, arguments: &SnapshotArguments, listed: &[ListedDatabase]) -> Result<u8, CliError> {
    let plan = arguments.plan(listed)?;
    let repository = session.open()?;
    let mut documents = Vec::new();
    let mut first_error = None;
    let single = plan.len() == 1;
    for (database, options) in plan {
        match take(session, &repository, &database, options) {
            Ok(document) => documents.push(document),
            Err(error) if single || error.code() == super::error::INTERRUPTED => return Err(error),
            Err(error) => {
                error.print(session.json());
                first_error.get_or_insert(error.code());
            }
        }
    }
    if session.json() {
        session.print_json("continuum.snapshot/1", json!({ "snapshots": documents }));
    }
    Ok(first_error.unwrap_or(DONE))
}

fn take(
    session: &Session,
    repository: &Repository,
    database: &Path,
    options: SnapshotOptions,
) -> Result<Value, CliError> {
    let before_s = session.elapsed_s();
    let summary = snapshot(repository, database, &options, &session.monitor())?;
    let seconds = session.elapsed_s() - before_s;
    if !session.json() && !session.quiet() {
        output::print(&describe(&summary, &options.name, seconds));
    }
    Ok(document(&summary, &options.name, seconds))
}

fn describe(summary: &SnapshotSummary, name: &str, seconds: f64) -> String {
    let SnapshotSummary { id, manifest, written, tier, reasons, changed_pages, .. } = summary;
    let image_bytes = manifest.image_bytes();
    let stored = match written.pack_count {
        0 => "nothing new: every chunk was stored already".to_owned(),
        packs => format!(
            "{} new in {}, {}; {:.3} % of the database",
            output::bytes(written.pack_bytes),
            output::plural(written.chunk_count, "chunk"),
            output::plural(packs, "pack"),
            100.0 * written.pack_bytes as f64 / image_bytes as f64,
        ),
    };
    let how = match reasons.as_slice() {
        [] => tier.to_string(),
        reasons => format!("{tier} ({})", reasons.join("; ")),
    };
    format!(
        "snapshot {:.8} of {name} ({}): {}, commit {}\n  source  {} of {} bytes, {}\n  changed {} found in {seconds:.2} s by {how}\n  stored  {stored}\n  blake3  {}\n",
        id.to_string(),
        manifest.source,
        manifest.strategy,
        manifest.commit,
        output::plural(manifest.page_count.into(), "page"),
        output::count(manifest.page_size.into()),
        output::bytes(image_bytes),
        output::plural((*changed_pages).into(), "page"),
        manifest.root,
    )
}

fn document(summary: &SnapshotSummary, name: &str, seconds: f64) -> Value {
    let SnapshotSummary { id, sequence, manifest, written, tier, reasons, changed_pages } = summary;
    json!({
        "id": id.to_string(),
        "database": name,
        "sequence": sequence,
        "commit": manifest.commit,
        "lineage": manifest.lineage,
        "strategy": manifest.strategy.to_string(),
        "tier": tier.to_string(),
        "reasons": reasons,
        "changed_pages": changed_pages,
        "layers": manifest.layers.len(),
        "source": manifest.source,
        "captured": time::utc(manifest.captured),
        "tags": manifest.tags,
        "journal_mode": manifest.journal_mode,
        "page_size": manifest.page_size,
        "page_count": manifest.page_count,
        "image_bytes": manifest.image_bytes(),
        "blake3": manifest.root.to_string(),
        "new_chunks": written.chunk_count,
        "new_packs": written.pack_count,
        "new_pack_bytes": written.pack_bytes,
        "new_index_bytes": written.index_bytes,
        "seconds": seconds,
    })
}
