//! `continuum mount`

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueHint};

use crate::base::clock::{SystemTimer, UnixMicros};
use crate::monitor::Monitor;
use crate::serve::mount::{Audience, Content, Ended, MountOptions, Times, mount};

use super::error::{CliError, DONE};
use super::session::Session;
use super::time;
use super::units::{self, Bytes};

/// Options of `mount`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows, until Ctrl-C, SIGTERM or `umount DIR`:
  databases/<name>/latest.db                    the newest state, also of a database that is being watched
  databases/<name>/snapshots/<time>-<id>.db
  databases/<name>/at/<time>/<name>.db          any time that you type: \"2026-11-23 14:30\", \"10 minutes ago\"
  by-id/<id>.db                                 or the first digits of an id
  tags/<tag>/<time>-<name>-<id>.db
New snapshots appear by themselves. An open file keeps its state. The attribute user.blake3 is the hash of the state's image (getfattr -d FILE).
While the destination is away, what was read before can be read, and the rest is an I/O error after the time that --retry-for gives.

Examples:
  continuum -r /backup/repo mount /mnt/past
  sqlite3 /mnt/past/databases/orders/latest.db \"SELECT count(*) FROM orders\"
  sqlite3 \"/mnt/past/databases/orders/at/10 minutes ago/orders.db\" .dump
  sqldiff /mnt/past/by-id/1a2b3c4d.db /mnt/past/databases/orders/latest.db")]
pub struct MountArguments {
    /// An empty folder
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    directory: PathBuf,
    /// Show only the database of this name; may be given several times
    #[arg(long)]
    name: Vec<String>,
    /// Show every byte as it is; SQLite then opens a database in WAL mode only with immutable=1
    #[arg(long)]
    exact: bool,
    /// Let other users of this machine read, too
    #[arg(long)]
    allow_other: bool,
    /// Chunks that are kept decoded, for all readers together
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, default_value = "256MiB")]
    cache_size: Bytes,
    /// Stay in the foreground, which it does anyway
    #[arg(long)]
    foreground: bool,
}

/// Mounts until told to stop.
pub fn run(session: &Session, arguments: &MountArguments) -> Result<u8, CliError> {
    let repository = session.open()?;
    let options = MountOptions {
        names: arguments.name.clone(),
        content: if arguments.exact { Content::Exact } else { Content::WithoutWal },
        audience: if arguments.allow_other { Audience::Everybody } else { Audience::Owner },
        cache_bytes: arguments.cache_size.0,
        times: Times { parse, file_name: time::compact, exact: time::utc },
    };
    let monitor: Arc<dyn Monitor> = session.monitor();
    let mounted = mount(&repository, &arguments.directory, &options, Arc::clone(&monitor))?;
    let folder = mounted.folder().display().to_string();
    let say = |text: String| {
        if !session.quiet() {
            eprintln!("{text}");
        }
    };
    say(format!("mounted on {folder}; Ctrl-C unmounts"));
    match mounted.serve(&*monitor, &SystemTimer::default())? {
        Ended::Unmounted => say(format!("unmounted {folder}")),
        Ended::ByOthers => say(format!("{folder} was unmounted")),
        Ended::Busy => {
            say(format!("unmounted {folder} while some program has files of it open: it gets errors from now on"));
        }
    }
    Ok(DONE)
}

fn parse(text: &str, now: UnixMicros) -> Option<UnixMicros> {
    time::parse(text, now).ok()
}
