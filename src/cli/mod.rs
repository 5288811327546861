//! The command line: one file a command, and around them arguments, output, exit codes and hints.
//!
//! This is the edge: environment, terminal, clock and entropy are read here and handed down.

mod check;
mod compact;
mod config;
mod copy;
mod databases;
mod demo;
mod diff;
mod error;
mod forget;
mod history;
mod hold;
mod init;
mod keep;
mod key;
mod lock;
mod log;
mod mount;
mod output;
mod password;
mod progress;
mod prune;
mod query;
mod repair;
mod restore;
mod rows;
mod selection;
mod session;
mod snapshot;
mod snapshots;
mod stats;
mod status;
mod store;
mod sync;
mod tables;
mod time;
mod unforget;
mod units;
mod verify;
mod version;
mod watch;
mod when;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueHint};

use databases::ListedDatabase;
use error::CliError;
use session::Session;
use units::Rate;

/// Keeps every committed state of SQLite databases restorable.
///
/// Snapshots of live databases are cut into chunks, deduplicated, compressed, encrypted and kept in a repository.
#[derive(Debug, Parser)]
#[command(name = "continuum", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

const NETWORK: &str = "Destinations";

const AFTER_HELP: &str = "\
Password: CONTINUUM_PASSWORD, CONTINUUM_PASSWORD_FILE or CONTINUUM_PASSWORD_COMMAND; else it is asked for.
Local state is kept in $XDG_STATE_HOME/continuum (~/.local/state/continuum).

Configuration: the file that --config or CONTINUUM_CONFIG names, or else the first of
  $XDG_CONFIG_HOME/continuum/continuum.toml (~/.config/continuum/continuum.toml)
  /etc/continuum/continuum.toml
Every long option is a key, options of a command in a table of its name; [[database]] lists the databases of `snapshot` and `watch`:
  repository = \"/backup/repo\"
  [snapshot]
  tag = [\"nightly\"]
  [[database]]
  path = \"/var/lib/app/orders.db\"
  name = \"orders\"          # optional
The command line comes before the environment, and that before the file; --quiet=false unsets a flag that the file sets.
Relative paths in the file begin at its folder. No secret belongs in it.

Exit codes: 0 done, 1 failed, 2 usage, 3 damage found, 4 wrong password, 130 interrupted.

Examples:
  continuum demo
  continuum -r /backup/repo init
  continuum -r /backup/repo snapshot /var/lib/app/orders.db
  continuum -r /backup/repo restore latest --to /tmp/orders.db";

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
struct GlobalOptions {
    /// The repository: a folder, s3://, gs://, azblob:// or sftp://; several times for several destinations
    #[arg(short, long, global = true, env = "CONTINUUM_REPOSITORY", value_name = "PLACE", value_hint = ValueHint::AnyPath)]
    repository: Vec<String>,
    /// The configuration file, instead of those that `continuum --help` lists; /dev/null stands for none
    #[arg(long, global = true, env = "CONTINUUM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Of several destinations, how many may fail or be late without holding up a write
    #[arg(long, global = true, value_name = "N", default_value_t = 1, help_heading = NETWORK)]
    tolerate: usize,
    /// Send at most so much a second to each destination, e.g. 10MiB/s
    #[arg(long, global = true, value_name = "RATE", value_parser = units::rate, help_heading = NETWORK)]
    limit_upload: Option<Rate>,
    /// Fetch at most so much a second from each destination
    #[arg(long, global = true, value_name = "RATE", value_parser = units::rate, help_heading = NETWORK)]
    limit_download: Option<Rate>,
    /// Requests at a time to each destination [0: no bound]
    #[arg(long, global = true, value_name = "N", default_value_t = 0, hide_default_value = true, help_heading = NETWORK)]
    limit_requests: usize,
    /// How long a small request may take, in seconds; one with many bytes may take longer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600), help_heading = NETWORK)]
    timeout: u64,
    /// How long to try again what fails for now, in seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 60, help_heading = NETWORK)]
    retry_for: u64,
    /// Keep no copies of index and timelines in $XDG_CACHE_HOME/continuum
    #[arg(long, global = true, help_heading = NETWORK)]
    no_cache: bool,
    /// Print one JSON document instead of text; its shape is documented in format-spec/json.md
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but errors and what was asked for
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print each step
    #[arg(short, long, global = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a repository
    Init(init::InitArguments),
    /// Take a snapshot of one or more databases, live ones too
    Snapshot(snapshot::SnapshotArguments),
    /// Capture every commit of databases as it happens, until stopped
    Watch(watch::WatchArguments),
    /// Show what watchers of the repository are doing
    Status,
    /// List snapshots
    Snapshots(snapshots::SnapshotsArguments),
    /// List restore points: snapshots and captured commits
    Log(log::LogArguments),
    /// Restore a state into a file, proved by its hash
    Restore(restore::RestoreArguments),
    /// Run SQL on a state without restoring it
    Query(query::QueryArguments),
    /// Show what differs between two states: schema and rows
    Diff(diff::DiffArguments),
    /// List every kept version of a row
    History(history::HistoryArguments),
    /// Find out when a condition became true or false
    When(when::WhenArguments),
    /// Show every state as a file that any program can read, through FUSE
    Mount(mount::MountArguments),
    /// Fold the layers of a database's newest state, inside the repository
    Compact(compact::CompactArguments),
    /// Copy snapshots to another repository, under its keys
    Copy(copy::CopyArguments),
    /// Forget old snapshots, as a policy says: their space comes back later, until then they can be brought back
    Forget(forget::ForgetArguments),
    /// Bring back what was forgotten
    Unforget(unforget::UnforgetArguments),
    /// Keep a snapshot from being forgotten, whatever the policy
    Hold(hold::HoldArguments),
    /// Verify that snapshots can be relied on, and keep the result
    Verify(verify::VerifyArguments),
    /// Look for damage, loss and manipulation
    Check(check::CheckArguments),
    /// Mend what is damaged, as far as anything good is left of it, and say exactly what is lost
    Repair(repair::RepairArguments),
    /// Give back the space of what no snapshot needs
    Prune(prune::PruneArguments),
    /// Let the store's provider keep what restore points need from being deleted, for a time
    Lock(lock::LockArguments),
    /// Count what the repository holds
    Stats,
    /// Compare the destinations and make each of them whole
    Sync(sync::SyncArguments),
    /// Show the destinations: whether they answer, how fast, and what each lacks
    Destinations,
    /// Find out what a destination can do
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Manage the passwords that open the repository
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Show the whole job in a temporary place, in seconds
    Demo(demo::DemoArguments),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  continuum completions bash > /etc/bash_completion.d/continuum")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print versions of the program, the format and SQLite
    Version,
}

/// Parses the arguments, does what they say, and returns the exit code.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let (cli, databases) = match parse(&arguments) {
        Ok(parsed) => parsed,
        Err(code) => return ExitCode::from(code),
    };
    let json = cli.global.json;
    match run(cli, &databases) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.print(json);
            ExitCode::from(error.code())
        }
    }
}

/// The arguments, completed by the configuration file, and the databases that it lists. What is wrong has been said, in JSON if
/// that was asked for.
fn parse(arguments: &[OsString]) -> Result<(Cli, Vec<ListedDatabase>), u8> {
    let json = arguments.iter().any(|argument| argument == "--json");
    let command = Cli::command();
    let file = config::named_file(&command, arguments).map_err(|error| usage(&error, json))?;
    let configuration = config::load(file.as_deref(), &command).map_err(|error| {
        error.print(json);
        error.code()
    })?;
    let parsed = configuration.matches(&command, arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = parsed.map_err(|error| usage(&error, json || configuration.has_flag("json")))?;
    Ok((cli, configuration.databases))
}

/// Says what is wrong with the text of a configuration file that lies in `folder`, if anything; commands read it so.
pub fn check_configuration(text: &str, folder: &Path) -> Result<(), String> {
    config::check(text, folder, &Cli::command())
}

/// Prints why the arguments are not carried out, and returns the exit code. Help and version are no errors.
fn usage(error: &clap::Error, json: bool) -> u8 {
    if error.use_stderr() && json {
        CliError::usage(error.to_string().trim_end().to_owned()).print(true);
    } else {
        // A reader that went away needs no help.
        let _ = error.print();
    }
    if error.use_stderr() { error::USAGE } else { error::DONE }
}

fn run(cli: Cli, listed: &[ListedDatabase]) -> Result<u8, CliError> {
    let session = Session::new(cli.global)?;
    let done = dispatch(&session, cli.command, listed);
    session.finish();
    done
}

fn dispatch(session: &Session, command: Command, listed: &[ListedDatabase]) -> Result<u8, CliError> {
    match command {
        Command::Init(arguments) => init::run(session, arguments),
        Command::Snapshot(arguments) => snapshot::run(session, &arguments, listed),
        Command::Watch(arguments) => watch::run(session, &arguments, listed),
        Command::Status => status::run(session),
        Command::Snapshots(arguments) => snapshots::run(session, arguments),
        Command::Log(arguments) => log::run(session, &arguments),
        Command::Restore(arguments) => restore::run(session, arguments),
        Command::Query(arguments) => query::run(session, &arguments),
        Command::Diff(arguments) => diff::run(session, &arguments),
        Command::History(arguments) => history::run(session, &arguments),
        Command::When(arguments) => when::run(session, &arguments),
        Command::Mount(arguments) => mount::run(session, &arguments),
        Command::Compact(arguments) => compact::run(session, &arguments),
        Command::Copy(arguments) => copy::run(session, arguments),
        Command::Forget(arguments) => forget::run(session, &arguments),
        Command::Unforget(arguments) => unforget::run(session, &arguments),
        Command::Lock(arguments) => lock::run(session, &arguments),
        Command::Hold(arguments) => hold::run(session, &arguments),
        Command::Verify(arguments) => verify::run(session, &arguments),
        Command::Check(arguments) => check::run(session, &arguments),
        Command::Repair(arguments) => repair::run(session, &arguments),
        Command::Prune(arguments) => prune::run(session, &arguments),
        Command::Stats => stats::run(session),
        Command::Sync(arguments) => sync::run(session, &arguments),
        Command::Destinations => sync::destinations(session),
        Command::Store(command) => store::run(session, &command),
        Command::Key(command) => key::run(session, command),
        Command::Demo(arguments) => demo::run(session, arguments),
        Command::Version => version::run(session),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "continuum", &mut script);
            output::print(&String::from_utf8_lossy(&script));
            Ok(error::DONE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
