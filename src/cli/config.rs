//! The configuration file, `continuum.toml`: options that need not be typed, and the databases that are meant when none is named.
//!
//! Every long option is a key. Options of all commands stand at the top, the others in a table of their command's name
//! (`[snapshot]`, `[key.add]`). Nothing is listed here for that: the keys are those of the [`Command`] that reads the command line,
//! the values become its defaults, and its own parsers judge them. What it guarantees:
//!
//! * A flag comes before the environment, the environment before the file, and the file before what is built in. What the command
//!   line or the environment says also displaces what the file says to the contrary: `-v` a `quiet = true`.
//! * A key that nobody would read is an error, and so is a value that its option would refuse, whichever command runs.
//! * A relative path in the file begins at the file's folder, wherever the program runs.
//! * Secrets have no keys, and no message repeats a line of the file.
//! * The current folder is not searched: a program that runs in somebody else's folder takes no orders from there.
//!
//! An option from the file counts as a default, so `requires`, `required_unless_present` and groups of clap do not see it: such
//! rules are checked by the command itself. `conflicts_with` and `required` are understood here.

mod document;

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::databases::ListedDatabase;
use super::error::CliError;
use super::session::user_folder;

/// The file's name in the folders where it is looked for.
const FILE_NAME: &str = "continuum/continuum.toml";

/// A configuration file that is longer is a mistake; it is not read into memory.
const MAX_BYTES: u64 = 1 << 20;

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    settings: Vec<Setting>,
    /// The `[[database]]` tables.
    pub databases: Vec<ListedDatabase>,
}

/// An option with its values. Flags that are not set are left out.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    /// Names of the command and its subcommand; empty for options of all commands.
    command: Vec<String>,
    /// What clap calls the option.
    id: String,
    /// The key.
    long: String,
    /// As they would stand on the command line.
    values: Vec<String>,
}

impl Configuration {
    /// Whether a flag of all commands is set.
    pub fn has_flag(&self, long: &str) -> bool {
        self.settings.iter().any(|setting| setting.command.is_empty() && setting.long == long)
    }

    /// Parses arguments, with the file's values for options that stand neither there nor in the environment.
    pub fn matches(&self, command: &Command, arguments: &[OsString]) -> Result<ArgMatches, clap::Error> {
        let matches = self.apply(command, |_| true).try_get_matches_from(arguments)?;
        let is_displaced = |setting: &Setting| is_displaced(setting, command, &matches);
        if !self.settings.iter().any(is_displaced) {
            return Ok(matches);
        }
        self.apply(command, |setting| !is_displaced(setting)).try_get_matches_from(arguments)
    }

    fn apply(&self, command: &Command, applies: impl Fn(&Setting) -> bool) -> Command {
        let settings = self.settings.iter().filter(|setting| applies(setting));
        settings.fold(command.clone(), |command, setting| with_default(command, &setting.command, setting))
    }
}

fn with_default(command: Command, path: &[String], setting: &Setting) -> Command {
    if let [name, path @ ..] = path {
        return command.mut_subcommand(name, |command| with_default(command, path, setting));
    }
    command.mut_arg(&setting.id, |option| {
        // `--quiet=false` takes back what the file says.
        let option = match option.get_action() {
            ArgAction::SetTrue => option
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .value_name("BOOL")
                .default_missing_value("true"),
            _ => option,
        };
        option.required(false).default_values(&setting.values)
    })
}

/// Whether something that excludes the setting was given on the command line or in the environment.
fn is_displaced(setting: &Setting, command: &Command, matches: &ArgMatches) -> bool {
    let (mut command, mut matches) = (command, matches);
    for name in &setting.command {
        let below = command.find_subcommand(name).zip(matches.subcommand_matches(name));
        let Some(below) = below else { return false };
        (command, matches) = below;
    }
    let find = |id: &str| command.get_arguments().find(|option| option.get_id() == id);
    let Some(own) = find(&setting.id) else { return false };
    let is_given = |id: &clap::Id| {
        matches!(matches.value_source(id.as_str()), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    matches.ids().filter(|id| is_given(id)).filter_map(|id| find(id.as_str())).any(|other| exclude(command, own, other))
}

/// Whether the options exclude each other.
fn exclude(command: &Command, one: &Arg, other: &Arg) -> bool {
    let names = |one: &Arg, other: &Arg| {
        command.get_arg_conflicts_with(one).iter().any(|excluded| excluded.get_id() == other.get_id())
    };
    names(one, other) || names(other, one)
}

/// What arguments say of the configuration file, before the rest of them can be understood: the file that they or the environment
/// name. A request for help and a lack of a command are answered here; they need no file.
///
/// Clap would silently prefer the second of `-r a snapshot -r b`; this refuses it, as a repository would be left out.
pub fn named_file(command: &Command, arguments: &[OsString]) -> Result<Option<PathBuf>, clap::Error> {
    let is_list = |option: &&Arg| option.is_global_set() && matches!(option.get_action(), ArgAction::Append);
    let lists: Vec<Arg> = command.get_arguments().filter(is_list).cloned().collect();
    let scan = lists.iter().fold(command.clone().ignore_errors(true), |command, option| {
        command.mut_arg(option.get_id(), |option| option.global(false)).mut_subcommands(|command| with(command, option))
    });
    let matches = scan.try_get_matches_from(arguments)?;
    if matches.subcommand_name().is_none() {
        command.clone().try_get_matches_from(arguments)?;
    }
    for option in &lists {
        if levels(&matches).filter(|level| is_on_command_line(level, option)).count() > 1 {
            let long = option.get_long().unwrap_or_default();
            let message = format!("--{long} is given before and after the command; give all of them in one place");
            return Err(command.clone().error(clap::error::ErrorKind::ArgumentConflict, message));
        }
    }
    Ok(matches.get_one::<PathBuf>("config").cloned())
}

/// The command and all below it, each with an option of its own.
fn with(command: Command, option: &Arg) -> Command {
    command.mut_subcommands(|command| with(command, option)).arg(option.clone().global(false))
}

fn levels(matches: &ArgMatches) -> impl Iterator<Item = &ArgMatches> {
    std::iter::successors(Some(matches), |matches| matches.subcommand().map(|(_, matches)| matches))
}

fn is_on_command_line(matches: &ArgMatches, option: &Arg) -> bool {
    matches.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine)
}

/// Says what is wrong with the text of a file that lies in `folder`, if anything.
pub fn check(text: &str, folder: &Path, command: &Command) -> Result<(), String> {
    document::parse(text, folder, command).map(|_| ()).map_err(|error| error.message)
}

/// Reads the file of that name, or else the first that is found on the search path. None is like an empty one.
pub fn load(named: Option<&Path>, command: &Command) -> Result<Configuration, CliError> {
    let (path, file) = match named {
        Some(path) => (path.to_owned(), open(path)?.ok_or_else(|| absent(path))?),
        None => match find()? {
            Some(found) => found,
            None => return Ok(Configuration::default()),
        },
    };
    let mut text = String::new();
    let read = file.take(MAX_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| unreadable(&path, &error))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(CliError::usage(format!("{}: longer than {MAX_BYTES} bytes", path.display())));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    document::parse(&text, folder, command).map_err(|error| {
        let message = match error.line {
            Some(line) => format!("{}:{line}: {}", path.display(), error.message),
            None => format!("{}: {}", path.display(), error.message),
        };
        let wrong = CliError::usage(message);
        if let Some(hint) = error.hint { wrong.with_hint(hint) } else { wrong }
    })
}

/// The first file of the search path that is there.
fn find() -> Result<Option<(PathBuf, File)>, CliError> {
    let own = user_folder("XDG_CONFIG_HOME", ".config");
    for folder in own.into_iter().chain([PathBuf::from("/etc")]) {
        let path = folder.join(FILE_NAME);
        if let Some(file) = open(&path)? {
            return Ok(Some((path, file)));
        }
    }
    Ok(None)
}

fn open(path: &Path) -> Result<Option<File>, CliError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn absent(path: &Path) -> CliError {
    CliError::usage(format!("{}: no such configuration file", path.display())).with_hint(
        "--config and CONTINUUM_CONFIG name one that is there; `continuum --help` says where others are looked for",
    )
}

fn unreadable(path: &Path, error: &std::io::Error) -> CliError {
    CliError::usage(format!("{}: the configuration file cannot be read: {error}", path.display()))
        .with_hint("name one that this user can read with --config; /dev/null stands for none")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    /// What is settled by a file and a command line.
    fn settled(text: &str, arguments: &str) -> ArgMatches {
        let command = Cli::command();
        let configuration = document::parse(text, Path::new("/f"), &command).unwrap();
        let arguments: Vec<OsString> = format!("continuum {arguments}").split(' ').map(OsString::from).collect();
        configuration.matches(&command, &arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn check_flags(text: &str, arguments: &str, expected: [(&str, bool); 2]) {
        let matches = settled(text, arguments);
        let below = matches.subcommand().unwrap().1;
        for (flag, is_set) in expected {
            for matches in [&matches, below] {
                assert_eq!(matches.get_flag(flag), is_set, "{flag} by {text:?} and {arguments:?}");
            }
        }
    }

    #[test]
    fn the_command_line_displaces_flags_of_the_file() {
        let quiet = "quiet = true";
        check_flags(quiet, "status", [("quiet", true), ("verbose", false)]);
        check_flags(quiet, "-v status", [("quiet", false), ("verbose", true)]);
        check_flags(quiet, "status -v", [("quiet", false), ("verbose", true)]);
        check_flags(quiet, "status -q", [("quiet", true), ("verbose", false)]);
        check_flags(quiet, "status --quiet=false", [("quiet", false), ("verbose", false)]);
        check_flags(quiet, "--quiet=false status", [("quiet", false), ("verbose", false)]);
        check_flags("quiet = false", "status -v", [("quiet", false), ("verbose", true)]);
        check_flags("verbose = true", "status -q", [("quiet", true), ("verbose", false)]);
        // Short flags still stand together.
        check_flags("json = true\nverbose = true", "status -vr x", [("json", true), ("verbose", true)]);
    }

    #[test]
    fn a_value_of_the_file_yields_to_what_excludes_it() {
        let restore = |arguments: &str| {
            let matches = settled("[restore]\nto = 'x.db'\nat = 2026-01-02", arguments);
            let restore = matches.subcommand_matches("restore").unwrap().clone();
            let text = |id: &str| restore.get_one::<String>(id).cloned();
            (restore.get_one::<PathBuf>("to").cloned(), text("at"), restore.get_one::<u64>("commit").copied())
        };
        let to = |path: &str| Some(PathBuf::from(path));
        assert_eq!(restore("restore"), (to("/f/x.db"), Some("2026-01-02".into()), None), "--to is required no more");
        assert_eq!(restore("restore --commit 4 --to y.db"), (to("y.db"), None, Some(4)));
        assert_eq!(restore("restore 1a2b"), (to("/f/x.db"), None, None), "an argument without a flag, too");
    }

    #[test]
    fn lists_are_replaced_and_not_extended() {
        let tags = |arguments: &str| {
            let matches = settled("[snapshot]\ntag = ['a', 'b']", arguments);
            let tags = matches.subcommand_matches("snapshot").unwrap().get_many::<String>("tags").unwrap();
            tags.cloned().collect::<Vec<_>>()
        };
        assert_eq!(tags("snapshot x.db"), ["a", "b"]);
        assert_eq!(tags("snapshot x.db --tag c"), ["c"]);
    }

    #[test]
    fn the_named_file_is_found_wherever_it_stands() {
        let named = |arguments: &str| {
            let arguments: Vec<OsString> = format!("continuum {arguments}").split(' ').map(OsString::from).collect();
            named_file(&Cli::command(), &arguments)
        };
        for arguments in
            ["--config a status", "status --config=a", "key add --config a", "key --config a add", "restore --config a"]
        {
            assert_eq!(named(arguments).unwrap(), Some("a".into()), "{arguments}");
        }
        for arguments in ["--help --config a", "watch --help", "help", "--version", "", "--bogus"] {
            assert!(named(arguments).is_err(), "{arguments} needs no file");
        }
        for arguments in ["-r a status -r b", "key -r a add --repository=b", "-r a key list -r b"] {
            let refused = named(arguments).unwrap_err().to_string();
            assert!(refused.contains("--repository is given before and after the command"), "{refused}");
        }
        assert!(named("-r a -r b status").is_ok() && named("key list -r a -r b").is_ok());
    }
}
