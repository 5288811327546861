//! Which databases a command is about: those on its command line, or else those that the configuration file lists.
//!
//! Every one of them has a name in the repository, and no two have the same.

use std::path::{Path, PathBuf};

use crate::format::name::is_database_name;

use super::error::CliError;

/// A database that the configuration file lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDatabase {
    /// Its file.
    pub path: PathBuf,
    /// Its name in the repository, if it is not the file's stem.
    pub name: Option<String>,
}

/// The databases `given` on the command line, of which a single one may be named; without any, those `listed` in the configuration
/// file. Each with its name in the repository.
pub fn chosen(
    given: &[PathBuf],
    name: Option<&str>,
    listed: &[ListedDatabase],
) -> Result<Vec<(PathBuf, String)>, CliError> {
    if given.is_empty() && listed.is_empty() {
        return Err(CliError::usage("no database named")
            .with_hint("name one or more, or list them as [[database]] in the configuration file"));
    }
    if name.is_some() && given.is_empty() {
        return Err(CliError::usage("--name names a database of the command line, but none is given there")
            .with_hint("in the configuration file each [[database]] has its own name"));
    }
    if name.is_some() && given.len() > 1 {
        return Err(CliError::usage("--name names one database, but several are given"));
    }
    let named: Vec<(&Path, Option<&str>)> = match given {
        [] => listed.iter().map(|database| (database.path.as_path(), database.name.as_deref())).collect(),
        given => given.iter().map(|path| (path.as_path(), name)).collect(),
    };
    let mut chosen: Vec<(PathBuf, String)> = Vec::new();
    for (path, name) in named {
        let name = name_of(path, name)?;
        if let Some((other, _)) = chosen.iter().find(|(_, taken)| *taken == name) {
            let message = format!("{} and {} would both be named {name:?}", other.display(), path.display());
            return Err(CliError::usage(message)
                .with_hint("give each its own: one by one with --name, or as [[database]] in the configuration file"));
        }
        chosen.push((path.to_owned(), name));
    }
    Ok(chosen)
}

/// The name in the repository: the one that is given, or else the file's stem.
pub fn name_of(database: &Path, given: Option<&str>) -> Result<String, CliError> {
    let stem = database.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = given.map(str::to_owned).or(stem).unwrap_or_default();
    if is_database_name(&name) {
        return Ok(name);
    }
    Err(CliError::usage(format!(
        "{name:?} is no name for a database: 1 to 255 bytes without `/` and control characters expected"
    ))
    .with_hint("choose another with --name"))
}
