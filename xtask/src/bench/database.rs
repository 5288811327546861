//! The databases that are measured: made by the scripts in benches/load, kept for the next time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;

/// The change between two backups: this many small transactions, with this seed.
pub const MUTATION_TRANSACTIONS: &str = "500";
const MUTATION_SEED: &str = "7";

/// A database of `mebibytes`, made unless an earlier run left it in `directory`.
pub fn make(root: &Path, directory: &Path, mebibytes: u64) -> Result<PathBuf, Failure> {
    let path = directory.join(format!("database-{mebibytes}.db"));
    if path.exists() {
        return Ok(path);
    }
    // Made under another name: what an interrupted run leaves must not be taken for a database.
    let unfinished = path.with_extension("unfinished");
    eprintln!("making {} ({mebibytes} MiB)", path.display());
    let mut command = script(root, "make_database.py");
    run(command.arg(&unfinished).arg(mebibytes.to_string()))?;
    fs::rename(&unfinished, &path).map_err(Failure::io("rename", &unfinished))?;
    Ok(path)
}

/// Changes the database at `path` as an application would, and checkpoints it.
pub fn mutate(root: &Path, path: &Path) -> Result<(), Failure> {
    let mut command = script(root, "mutate.py");
    run(command.arg(path).args([MUTATION_TRANSACTIONS, MUTATION_SEED, "checkpoint"]))
}

/// Makes `count` small databases in `directory`, which nobody uses.
pub fn make_idle(root: &Path, directory: &Path, count: usize) -> Result<Vec<PathBuf>, Failure> {
    let mut command = script(root, "make_idle.py");
    run(command.arg(directory).arg(count.to_string()))?;
    let list = |error| Failure::io("list", directory)(error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(list)? {
        let path = entry.map_err(list)?.path();
        if path.extension().is_some_and(|extension| extension == "db") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The peers copy one file: a database with commits in its WAL is not the same work for all.
pub fn check(path: &Path) -> Result<(), Failure> {
    if !path.is_file() {
        return Err(Failure::new(format!("no database at {}", path.display())));
    }
    let wal = with_suffix(path, "-wal");
    match fs::metadata(&wal) {
        Ok(metadata) if metadata.len() > 0 => {
            let message = format!("{} holds commits: checkpoint it first (wal_checkpoint(truncate))", wal.display());
            Err(Failure::new(message))
        }
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// One of the load scripts. It leaves no compiled code in the project.
pub fn script(root: &Path, name: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg("-B").arg(root.join("benches/load").join(name));
    command
}

fn run(command: &mut Command) -> Result<(), Failure> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.map_err(Failure::io("run", Path::new("python3")))?;
    if status.success() {
        return Ok(());
    }
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    Err(Failure::new(format!("`python3 {}` ended with {status}", words.join(" "))))
}
