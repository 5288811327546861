//! The command line: one file a command, and around them arguments, output, exit codes and hints.
//!
//! This is the edge: environment, terminal, clock and entropy are read here and handed down.

mod check;
mod compact;
mod copy;
mod demo;
mod error;
mod init;
mod key;
mod log;
mod output;
mod password;
mod progress;
mod restore;
mod session;
mod snapshot;
mod snapshots;
mod stats;
mod status;
mod time;
mod version;
mod watch;

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use error::CliError;
use session::Session;

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

const AFTER_HELP: &str = "\
Password: CONTINUUM_PASSWORD, CONTINUUM_PASSWORD_FILE or CONTINUUM_PASSWORD_COMMAND; else it is asked for.
Local state is kept in $XDG_STATE_HOME/continuum (~/.local/state/continuum).

Exit codes: 0 done, 1 failed, 2 usage, 3 damage found, 4 wrong password, 130 interrupted.

Examples:
  continuum demo
  continuum -r /backup/repo init
  continuum -r /backup/repo snapshot /var/lib/app/orders.db
  continuum -r /backup/repo restore latest --to /tmp/orders.db";

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
struct GlobalOptions {
    /// The repository: a folder
    #[arg(short, long, global = true, env = "CONTINUUM_REPOSITORY", value_name = "PLACE")]
    repository: Option<String>,
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
    /// Fold the layers of a database's newest state, inside the repository
    Compact(compact::CompactArguments),
    /// Copy snapshots to another repository, under its keys
    Copy(copy::CopyArguments),
    /// Look for damage, loss and manipulation
    Check(check::CheckArguments),
    /// Count what the repository holds
    Stats,
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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let json = cli.global.json;
    match run(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.print(json);
            ExitCode::from(error.code())
        }
    }
}

/// Help and version are no errors; what is wrong with the arguments is said in JSON if they ask for it.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        CliError::usage(error.to_string().trim_end().to_owned()).print(true);
    } else {
        // A reader that went away needs no help.
        let _ = error.print();
    }
    ExitCode::from(if error.use_stderr() { error::USAGE } else { error::DONE })
}

fn run(cli: Cli) -> Result<u8, CliError> {
    let session = Session::new(cli.global)?;
    match cli.command {
        Command::Init(arguments) => init::run(&session, arguments),
        Command::Snapshot(arguments) => snapshot::run(&session, arguments),
        Command::Watch(arguments) => watch::run(&session, &arguments),
        Command::Status => status::run(&session),
        Command::Snapshots(arguments) => snapshots::run(&session, arguments),
        Command::Log(arguments) => log::run(&session, &arguments),
        Command::Restore(arguments) => restore::run(&session, arguments),
        Command::Compact(arguments) => compact::run(&session, &arguments),
        Command::Copy(arguments) => copy::run(&session, arguments),
        Command::Check(arguments) => check::run(&session, arguments),
        Command::Stats => stats::run(&session),
        Command::Key(command) => key::run(&session, command),
        Command::Demo(arguments) => demo::run(&session, arguments),
        Command::Version => version::run(&session),
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
