//! The text of a configuration file, read against the commands that it configures. No file and no environment is touched here.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::num::ParseIntError;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, ValueHint};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::cli::databases::ListedDatabase;
use crate::format::name::is_database_name;

use super::{Configuration, Setting, exclude};

/// The table that lists databases.
const DATABASE: &str = "database";

/// Keys of `[[database]]`.
const DATABASE_KEYS: [&str; 2] = ["path", "name"];

/// Options of the command line alone.
const NO_KEYS: [&str; 5] = ["config", "help", "into", "param", "version"];

/// Words of a key that would hold a secret.
const SECRET_WORDS: [&str; 6] = ["password", "passphrase", "secret", "token", "credential", "access-key"];

/// Names that are less alike are not suggested; clap draws the same line.
const LEAST_SIMILARITY: f64 = 0.7;

/// What is wrong with the text.
#[derive(Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// Counted from 1.
    pub line: Option<usize>,
    /// What is wrong. It never holds text of the file but keys, and values of options.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Reads the text of a file that lies in `folder`.
pub fn parse(text: &str, folder: &Path, command: &Command) -> Result<Configuration, DocumentError> {
    let document = DeTable::parse(text).map_err(|error| DocumentError {
        line: error.span().map(|span| line(text, &span)),
        message: format!("not TOML: {}", error.message()),
        hint: None,
    })?;
    let mut reader = Reader { text, folder, root: command, configuration: Configuration::default() };
    reader.table(document.get_ref(), command, &[])?;
    Ok(reader.configuration)
}

fn line(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
}

type Key<'t> = Spanned<DeString<'t>>;
type Value<'t> = Spanned<DeValue<'t>>;

struct Reader<'a> {
    text: &'a str,
    folder: &'a Path,
    root: &'a Command,
    configuration: Configuration,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable, command: &Command, path: &[String]) -> Result<(), DocumentError> {
        let first = self.configuration.settings.len();
        for (key, value) in in_order(table) {
            let name: &str = key.get_ref();
            if path.is_empty() && name == DATABASE {
                self.databases(key, value)?;
            } else if let Some(subcommand) = command.find_subcommand(name) {
                let path = [path, &[name.to_owned()]].concat();
                let DeValue::Table(table) = value.get_ref() else {
                    return Err(self.wrong(key, format!("{name:?} is a command: a table {} expected", shown(&path))));
                };
                self.table(table, subcommand, &path)?;
            } else if let Some(option) = option(command, name) {
                let Some(values) = self.values(key, value, option, path)? else { continue };
                self.exclusive(key, command, option, first)?;
                let (id, long) = (option.get_id().to_string(), name.to_owned());
                self.configuration.settings.push(Setting { command: path.to_vec(), id, long, values });
            } else {
                return Err(self.unknown_in(key, value, command, path));
            }
        }
        Ok(())
    }

    /// What the option would be given on the command line, if anything.
    fn values(
        &self,
        key: &Key,
        value: &Value,
        option: &Arg,
        path: &[String],
    ) -> Result<Option<Vec<String>>, DocumentError> {
        let place = place(key, path);
        let takes_several = matches!(option.get_action(), ArgAction::Append);
        let elements: Vec<&Value> = match value.get_ref() {
            DeValue::Array(elements) if takes_several => elements.iter().collect(),
            _ => vec![value],
        };
        let mut values = Vec::new();
        for element in elements {
            let Some(text) = scalar(option, element.get_ref()) else {
                let several = if takes_several { ", or an array of them" } else { "" };
                let (expected, found) = (expected(option), found(element.get_ref()));
                return Err(self.wrong_at(element, format!("{place}: {expected}{several} expected, {found} found")));
            };
            let text = match option.get_value_hint() {
                ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath => {
                    self.resolved(element, &place, text)?
                }
                _ => text,
            };
            check(option, &text)
                .map_err(|why| self.wrong_at(element, format!("{place}: invalid value {text:?}: {why}")))?;
            values.push(text);
        }
        let is_unset_flag = matches!(option.get_action(), ArgAction::SetTrue) && values == ["false"];
        Ok((!is_unset_flag && !values.is_empty()).then_some(values))
    }

    /// A path as it is meant: relative ones begin at the file's folder. Places of other kinds, with a scheme, are left alone.
    fn resolved(&self, element: &Value, place: &str, text: String) -> Result<String, DocumentError> {
        if text == "~" || text.starts_with("~/") {
            return Err(self.wrong_at(element, format!("{place}: `~` stands for no folder here; write the whole path")));
        }
        if text.is_empty() || text.contains("://") {
            return Ok(text);
        }
        // Whatever is no UTF-8 in the folder's name is lost here; the message about the missing file then shows it.
        Ok(self.folder.join(text).to_string_lossy().into_owned())
    }

    /// That no setting of the same table excludes the option.
    fn exclusive(&self, key: &Key, command: &Command, option: &Arg, first: usize) -> Result<(), DocumentError> {
        let others = self.configuration.settings[first..].iter();
        for other in others.filter_map(|setting| self::option(command, &setting.long)) {
            if exclude(command, option, other) {
                let other = other.get_long().unwrap_or_default();
                return Err(self.wrong(key, format!("keys {other:?} and {:?} exclude each other", key.get_ref())));
            }
        }
        Ok(())
    }

    fn databases(&mut self, key: &Key, value: &Value) -> Result<(), DocumentError> {
        let wanted = || self.wrong(key, "an array of tables, [[database]], expected");
        let DeValue::Array(entries) = value.get_ref() else { return Err(wanted()) };
        let mut databases = Vec::new();
        for entry in entries.iter() {
            let DeValue::Table(table) = entry.get_ref() else { return Err(wanted()) };
            databases.push(self.database(entry, table)?);
        }
        self.configuration.databases = databases;
        Ok(())
    }

    fn database(&self, entry: &Value, table: &DeTable) -> Result<ListedDatabase, DocumentError> {
        let (mut path, mut name) = (None, None);
        for (key, value) in in_order(table) {
            let place = format!("key {:?} in [[database]]", key.get_ref());
            if !DATABASE_KEYS.contains(&key.get_ref().as_ref()) {
                let keys = DATABASE_KEYS.iter().map(|key| (*key, format!("{key:?}")));
                return Err(self.unknown(key, &place, keys, &[DATABASE.to_owned()]));
            }
            let DeValue::String(text) = value.get_ref() else {
                return Err(self.wrong(key, format!("{place}: a string expected, {} found", found(value.get_ref()))));
            };
            if text.is_empty() {
                return Err(self.wrong(key, format!("{place}: it is empty")));
            }
            if key.get_ref() == "path" {
                path = Some(PathBuf::from(self.resolved(value, &place, text.to_string())?));
            } else if is_database_name(text) {
                name = Some(text.to_string());
            } else {
                let expected = "1 to 255 bytes without `/` and control characters expected";
                return Err(self.wrong(key, format!("{place}: {text:?} is no name for a database: {expected}")));
            }
        }
        let path = path.ok_or_else(|| self.wrong_at(entry, "a [[database]] without \"path\""))?;
        Ok(ListedDatabase { path, name })
    }

    fn unknown_in(&self, key: &Key, value: &Value, command: &Command, path: &[String]) -> DocumentError {
        let below = |name: &str| shown(&[path, &[name.to_owned()]].concat());
        let what = match value.get_ref() {
            DeValue::Table(_) => format!("table {}", below(key.get_ref())),
            _ => place(key, path),
        };
        let longs = command.get_arguments().filter(|option| is_key(option)).filter_map(Arg::get_long);
        let keys = longs.map(|long| (long, format!("{long:?}")));
        let tables = command.get_subcommands().map(|command| (command.get_name(), below(command.get_name())));
        let databases = path.is_empty().then(|| (DATABASE, format!("[[{DATABASE}]]")));
        self.unknown(key, &what, keys.chain(tables).chain(databases), path)
    }

    /// A key that is none of the candidates, each of which comes with how to show it.
    fn unknown<'c>(
        &self,
        key: &Key,
        what: &str,
        candidates: impl Iterator<Item = (&'c str, String)>,
        path: &[String],
    ) -> DocumentError {
        let hint = hint(key.get_ref(), self.root, path);
        let alike = if hint.is_some() { None } else { alike(key.get_ref(), candidates) };
        let message = format!("unknown {what}{}", alike.unwrap_or_default());
        DocumentError { hint, ..self.wrong(key, message) }
    }

    fn wrong(&self, key: &Key, message: impl Into<String>) -> DocumentError {
        DocumentError { line: Some(line(self.text, &key.span())), message: message.into(), hint: None }
    }

    fn wrong_at(&self, value: &Value, message: impl Into<String>) -> DocumentError {
        DocumentError { line: Some(line(self.text, &value.span())), message: message.into(), hint: None }
    }
}

/// The entries as they stand in the file.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Key<'i>, &'t Value<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn option<'c>(command: &'c Command, long: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|option| is_key(option) && option.get_long() == Some(long))
}

/// Whether the option has a key: it has a long name, and makes sense in a file.
fn is_key(option: &Arg) -> bool {
    option.get_long().is_some_and(|long| !NO_KEYS.contains(&long))
        && matches!(option.get_action(), ArgAction::Set | ArgAction::Append | ArgAction::SetTrue)
}

/// The table's header.
fn shown(path: &[String]) -> String {
    format!("[{}]", path.join("."))
}

fn place(key: &Key, path: &[String]) -> String {
    match path {
        [] => format!("key {:?}", key.get_ref()),
        path => format!("key {:?} in {}", key.get_ref(), shown(path)),
    }
}

/// Where the key would be right, or what stands for it.
fn hint(name: &str, root: &Command, path: &[String]) -> Option<String> {
    let plain = name.to_lowercase().replace('_', "-");
    if plain.contains("password") || plain.contains("passphrase") {
        return Some("no secret belongs in this file: set the environment variable CONTINUUM_PASSWORD_FILE or CONTINUUM_PASSWORD_COMMAND".into());
    }
    if SECRET_WORDS.iter().any(|word| plain.contains(word)) {
        return Some("no secret belongs in this file: such are read from the environment".into());
    }
    if NO_KEYS.contains(&name) {
        return Some(format!("--{name} is for the command line alone"));
    }
    if !path.is_empty() && name == DATABASE {
        return Some("databases are listed at the top, as [[database]]".into());
    }
    if !path.is_empty() && option(root, name).is_some() {
        return Some("it is an option of all commands: it stands at the top, before the first [table]".into());
    }
    let mut tables = BTreeSet::new();
    tables_with(name, root, &[], &mut tables);
    let tables: Vec<String> = tables.into_iter().collect();
    (!tables.is_empty()).then(|| format!("it belongs in {}", tables.join(" or ")))
}

/// The tables of all commands that have the option.
fn tables_with(long: &str, command: &Command, path: &[String], tables: &mut BTreeSet<String>) {
    for subcommand in command.get_subcommands() {
        let path = [path, &[subcommand.get_name().to_owned()]].concat();
        if option(subcommand, long).is_some() {
            tables.insert(shown(&path));
        }
        tables_with(long, subcommand, &path, tables);
    }
}

/// The most similar of the names, each with how to show it.
fn alike<'c>(name: &str, candidates: impl Iterator<Item = (&'c str, String)>) -> Option<String> {
    let rated = candidates.map(|(candidate, shown)| (strsim::jaro_winkler(name, candidate), shown));
    let best = rated.filter(|(rate, _)| *rate > LEAST_SIMILARITY).max_by(|one, other| one.0.total_cmp(&other.0));
    best.map(|(_, shown)| format!("; did you mean {shown}?"))
}

/// The value as it would stand on the command line, if it is of a type that the option takes.
fn scalar(option: &Arg, value: &DeValue) -> Option<String> {
    let (is_bool, is_text) = (takes_bool(option), takes_text(option));
    match value {
        DeValue::Boolean(value) if is_bool => Some(value.to_string()),
        DeValue::String(text) if !is_bool => Some(text.to_string()),
        DeValue::Datetime(time) if !is_bool => Some(time.to_string()),
        DeValue::Integer(number) if !is_bool && !is_text => {
            let decimal = i128::from_str_radix(number.as_str(), number.radix());
            Some(decimal.map_or_else(|_| number.to_string(), |number| number.to_string()))
        }
        DeValue::Float(number) if !is_bool && !is_text => Some(number.as_str().to_owned()),
        _ => None,
    }
}

fn takes_bool(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::SetTrue) || option.get_value_parser().type_id() == TypeId::of::<bool>()
}

fn takes_text(option: &Arg) -> bool {
    let texts = [TypeId::of::<String>(), TypeId::of::<OsString>(), TypeId::of::<PathBuf>()];
    texts.iter().any(|text| option.get_value_parser().type_id() == *text) || !option.get_possible_values().is_empty()
}

fn expected(option: &Arg) -> &'static str {
    match option {
        option if takes_bool(option) => "true or false",
        option if takes_number(option) => "a number",
        _ => "a string",
    }
}

fn takes_number(option: &Arg) -> bool {
    let numbers = [TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>(), TypeId::of::<f64>()];
    numbers.iter().any(|number| option.get_value_parser().type_id() == *number)
}

fn found(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// Asks the option's own parser.
fn check(option: &Arg, text: &str) -> Result<(), String> {
    if takes_bool(option) {
        return Ok(());
    }
    let probe = Arg::new("probe").long("probe").action(ArgAction::Set).value_parser(option.get_value_parser().clone());
    let probed =
        Command::new("probe").no_binary_name(true).arg(probe).try_get_matches_from([format!("--probe={text}")]);
    let Err(error) = probed else { return Ok(()) };
    if let Some(cause) = error.source() {
        let is_no_integer = cause.is::<ParseIntError>();
        return Err(if is_no_integer { "a whole number expected".to_owned() } else { cause.to_string() });
    }
    Err(match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => format!("one of {} expected", values.join(", ")),
        _ => "it is empty".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::parser::ValueSource;

    use super::*;
    use crate::cli::Cli;

    fn parsed(text: &str) -> Result<Configuration, DocumentError> {
        parse(text, Path::new("/etc/continuum"), &Cli::command())
    }

    /// All commands that have none below them, each with its path.
    fn leaves(command: &Command, path: &[String]) -> Vec<(Vec<String>, Command)> {
        let below = command.get_subcommands().flat_map(|subcommand| {
            let path = [path, &[subcommand.get_name().to_owned()]].concat();
            leaves(subcommand, &path)
        });
        let below: Vec<_> = below.collect();
        if below.is_empty() { vec![(path.to_vec(), command.clone())] } else { below }
    }

    /// A value that the option takes, as TOML.
    fn sample(option: &Arg) -> String {
        let is_of = |kind: &str| option.get_value_names().is_some_and(|names| names.iter().any(|name| name == kind));
        let value = match option.get_possible_values().last() {
            _ if takes_bool(option) => "true".to_owned(),
            Some(value) => format!("{:?}", value.get_name()),
            None if is_of("SPAN") => "'3d'".to_owned(),
            None if is_of("SHARE") => "'30%'".to_owned(),
            None if is_of("NAME=PATH") => "'a=/x'".to_owned(),
            None if takes_text(option) => "'/x'".to_owned(),
            None => "3".to_owned(),
        };
        if matches!(option.get_action(), ArgAction::Append) { format!("[{value}, {value}]") } else { value }
    }

    /// Arguments of the command without which it would not run, but for the option.
    fn arguments(path: &[String], command: &Command, option: &Arg) -> Vec<OsString> {
        let is_own = command.get_arguments().any(|own| own.get_id() == option.get_id());
        let excluded = if is_own { command.get_arg_conflicts_with(option) } else { Vec::new() };
        // What excludes the new file of a restore belongs to a merge.
        if excluded.iter().any(|other| other.is_required_set()) {
            return ["continuum", "restore", "--into=x", "--tables=x"].map(OsString::from).into();
        }
        let required =
            command.get_arguments().filter(|other| other.is_required_set() && other.get_id() != option.get_id());
        let required = required.map(|other| {
            let value = other.get_possible_values().first().map_or("x".to_owned(), |value| value.get_name().to_owned());
            other.get_long().map_or(value.clone(), |long| format!("--{long}={value}"))
        });
        ["continuum".to_owned()].into_iter().chain(path.iter().cloned()).chain(required).map(OsString::from).collect()
    }

    /// The key is read, and its value gets to the command.
    fn check_key(text: &str, option: &Arg, path: &[String], command: &Command) {
        let configuration = parsed(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let matches = configuration.matches(&Cli::command(), &arguments(path, command, option));
        let matches = matches.unwrap_or_else(|error| panic!("{text}: {error}"));
        let matches = path.iter().fold(&matches, |matches, name| matches.subcommand_matches(name).unwrap());
        let id = option.get_id().as_str();
        assert_eq!(matches.value_source(id), Some(ValueSource::DefaultValue), "{text}");
        let values: Vec<_> = matches.get_raw(id).unwrap().map(|value| value.to_string_lossy().into_owned()).collect();
        assert_eq!(values, configuration.settings[0].values, "{text}");
        assert!(values.iter().all(|value| text.contains(value.as_str())), "{text}: {values:?}");
    }

    #[test]
    fn every_long_option_of_every_command_is_a_key() {
        let root = Cli::command();
        let mut count = 0;
        for (path, command) in leaves(&root, &[]) {
            let own = command.get_arguments().map(|option| (format!("{}\n", shown(&path)), option));
            for (header, option) in own.chain(root.get_arguments().map(|option| (String::new(), option))) {
                let Some(long) = option.get_long() else { continue };
                let text = format!("{header}{long} = {}", sample(option));
                if NO_KEYS.contains(&long) {
                    assert!(parsed(&text).unwrap_err().message.starts_with("unknown key"), "{text}");
                } else {
                    check_key(&text, option, &path, &command);
                    count += 1;
                }
            }
        }
        assert!(count > 60, "{count} keys were tried");
    }

    #[test]
    fn paths_begin_at_the_file_and_databases_are_listed() {
        let configuration = parsed(
            "repository = ['a', '/b', 's3://c', 'file://d']\n[restore]\nto = 'e'\n[[database]]\npath = 'f.db'\n\
             [[database]]\nname = 'g'\npath = '/h.db'",
        );
        let configuration = configuration.unwrap();
        let values: Vec<_> = configuration.settings.iter().map(|setting| setting.values.clone()).collect();
        let places = ["/etc/continuum/a", "/b", "s3://c", "file://d"].map(str::to_owned);
        assert_eq!(values, [places.to_vec(), vec!["/etc/continuum/e".to_owned()]]);
        let database =
            |path: &str, name: Option<&str>| ListedDatabase { path: path.into(), name: name.map(Into::into) };
        assert_eq!(configuration.databases, [database("/etc/continuum/f.db", None), database("/h.db", Some("g"))]);
    }

    #[test]
    fn nothing_said_is_nothing_set() {
        for text in ["", "# nothing", "quiet = false", "repository = []", "[watch]", "[key.add]", "database = []"] {
            assert_eq!(parsed(text), Ok(Configuration::default()), "{text}");
        }
    }

    #[test]
    fn numbers_are_read_in_every_notation() {
        let text = "[watch]\nflush-interval = 1\nfold-interval = 1e1\nfold-size = 0x1_0\nwal-limit = '8'";
        let values = parsed(text).unwrap().settings.into_iter().map(|mut setting| setting.values.remove(0));
        assert_eq!(values.collect::<Vec<_>>(), ["1", "1e1", "16", "8"]);
    }

    #[track_caller]
    fn check_error(text: &str, line: usize, message: &str, hint: Option<&str>) {
        let error = parsed(text).expect_err(text);
        assert_eq!((error.line, error.message.as_str()), (Some(line), message), "{text}");
        match (hint, error.hint) {
            (Some(part), Some(hint)) => assert!(hint.contains(part), "{hint}"),
            (expected, found) => assert_eq!((expected, found), (None, None), "{text}"),
        }
    }

    #[test]
    fn unknown_keys_come_with_a_suggestion() {
        let message = r#"unknown key "flush-intervall" in [watch]; did you mean "flush-interval"?"#;
        check_error("[watch]\nflush-intervall = 1", 2, message, None);
        check_error("repositry = 'a'", 1, r#"unknown key "repositry"; did you mean "repository"?"#, None);
        check_error("xyz = 1", 1, r#"unknown key "xyz""#, None);
        check_error("\n[wach]", 2, "unknown table [wach]; did you mean [watch]?", None);
        check_error("[key.ad]", 1, "unknown table [key.ad]; did you mean [key.add]?", None);
        check_error("[databse]", 1, "unknown table [databse]; did you mean [[database]]?", None);
        let message = r#"unknown key "paht" in [[database]]; did you mean "path"?"#;
        check_error("[[database]]\npath = 'a'\n[[database]]\npaht = 'a'", 4, message, None);
        check_error("[watch]\ndatabases = ['a']", 2, r#"unknown key "databases" in [watch]"#, None);
    }

    #[test]
    fn keys_in_a_wrong_place_come_with_the_right_one() {
        check_error("tag = 'a'", 1, r#"unknown key "tag""#, Some("[snapshot] or [snapshots]"));
        check_error("[key]\nlabel = 'a'", 2, r#"unknown key "label" in [key]"#, Some("[init] or [key.add]"));
        check_error("[watch]\nquiet = true", 2, r#"unknown key "quiet" in [watch]"#, Some("at the top"));
        let message = r#"unknown key "json" in [[database]]"#;
        check_error("[[database]]\npath = 'a'\njson = true", 3, message, Some("at the top"));
        check_error("[[watch.database]]", 1, r#"unknown key "database" in [watch]"#, Some("[[database]]"));
        check_error("config = 'a'", 1, r#"unknown key "config""#, Some("command line"));
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for key in ["password", "password-file", "new_password", "Passphrase"] {
            check_error(&format!("{key} = 'hunter2'"), 1, &format!("unknown key {key:?}"), Some("_PASSWORD_FILE"));
        }
        check_error(
            "[snapshot]\ns3-secret-key = 'hunter2'",
            2,
            r#"unknown key "s3-secret-key" in [snapshot]"#,
            Some("secret"),
        );
        let broken = parsed("password = hunter2").unwrap_err();
        assert!(!broken.message.contains("hunter2"), "{broken:?}");
    }

    #[test]
    fn values_are_judged_by_their_options() {
        let check = |key: &str, message: &str| check_error(&format!("[snapshot]\n{key}"), 2, message, None);
        check(
            "compression = 'zip'",
            r#"key "compression" in [snapshot]: invalid value "zip": one of zstd, lz4, gzip, none expected"#,
        );
        check("compression = 1", r#"key "compression" in [snapshot]: a string expected, an integer found"#);
        check(
            "busy-timeout = 1.5",
            r#"key "busy-timeout" in [snapshot]: invalid value "1.5": a whole number expected"#,
        );
        check(
            "busy-timeout = -1",
            r#"key "busy-timeout" in [snapshot]: invalid value "-1": -1 is not in 0..=4294967295"#,
        );
        check("busy-timeout = [1]", r#"key "busy-timeout" in [snapshot]: a number expected, an array found"#);
        let array = r#"key "keep-full" in [forget]: a string expected, an array found"#;
        check_error("[forget]\nkeep-full = [12]", 2, array, None);
        check("tag = ['a', 1]", r#"key "tag" in [snapshot]: a string, or an array of them expected, an integer found"#);
        check("no-verify = 'yes'", r#"key "no-verify" in [snapshot]: true or false expected, a string found"#);
        let message = r#"key "flush-interval" in [watch]: invalid value "0": 0.01 to 86400 seconds expected"#;
        check_error("[watch]\nflush-interval = 0", 2, message, None);
        check_error("[restore]\nto = ''", 2, r#"key "to" in [restore]: invalid value "": it is empty"#, None);
        check_error("watch = true", 1, r#""watch" is a command: a table [watch] expected"#, None);
        check_error("[[watch]]", 1, r#""watch" is a command: a table [watch] expected"#, None);
        let message = r#"key "repository": `~` stands for no folder here; write the whole path"#;
        check_error("repository = '~/a'", 1, message, None);
        check_error("quiet = true\nverbose = true", 2, r#"keys "quiet" and "verbose" exclude each other"#, None);
        assert!(parsed("quiet = true\nverbose = false").is_ok());
    }

    #[test]
    fn databases_are_tables_with_a_path() {
        check_error("[database]\npath = 'a'", 1, "an array of tables, [[database]], expected", None);
        check_error("\ndatabase = ['a']", 2, "an array of tables, [[database]], expected", None);
        check_error("[[database]]\nname = 'a'", 1, r#"a [[database]] without "path""#, None);
        let message = r#"key "path" in [[database]]: a string expected, an integer found"#;
        check_error("[[database]]\npath = 1", 2, message, None);
        check_error("[[database]]\npath = ''", 2, r#"key "path" in [[database]]: it is empty"#, None);
        let message = "key \"name\" in [[database]]: \"a/b\" is no name for a database: 1 to 255 bytes without `/` and control characters expected";
        check_error("[[database]]\npath = 'a'\nname = 'a/b'", 3, message, None);
    }

    #[test]
    fn what_is_not_toml_is_found_by_its_line() {
        check_error("quiet = true\nfoo bar", 2, "not TOML: key with no value, expected `=`", None);
        check_error("quiet = true\nquiet = true", 2, "not TOML: duplicate key", None);
    }
}
