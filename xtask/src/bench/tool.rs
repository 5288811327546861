//! How each tool is told to make a repository, to back up one database in full, and to restore it.
//!
//! Every tool gets the same conditions: zstd at its level 3 or nearest default, encryption where it
//! has any, no cache that outlives the command, a home directory of its own (so no configuration or
//! state of this machine), and the order to read the whole database even if nothing seems to have
//! changed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use super::measured::{self, Cost};
use crate::failure::Failure;
use crate::project;

/// What protects the repositories; they live for one round.
const PASSWORD: &str = "measured and thrown away";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Ours,
    Restic,
    Rustic,
    Borg,
    /// `zstd -3 -T2`: what compressing costs, without everything else.
    Zstd,
    /// `cp` and `sync` of the copy: what the disk costs.
    Copy,
}

impl Tool {
    pub const ALL: &[Self] = &[Self::Ours, Self::Restic, Self::Rustic, Self::Borg, Self::Zstd, Self::Copy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "continuum",
            Self::Restic => "restic",
            Self::Rustic => "rustic",
            Self::Borg => "borg",
            Self::Zstd => "zstd -3 -T2",
            Self::Copy => "cp + sync",
        }
    }

    /// Whether the tool keeps several backups in one repository. A floor does not.
    pub fn keeps_history(self) -> bool {
        !matches!(self, Self::Zstd | Self::Copy)
    }

    fn program(self) -> &'static str {
        match self {
            Self::Ours => "continuum",
            Self::Restic => "restic",
            Self::Rustic => "rustic",
            Self::Borg => "borg",
            Self::Zstd => "zstd",
            Self::Copy => "sh",
        }
    }
}

/// A tool that is there to be run.
pub struct Installed {
    pub tool: Tool,
    program: PathBuf,
}

impl Installed {
    /// The tool's program, or the reason why there is none.
    pub fn find(tool: Tool, root: &Path) -> Result<Self, String> {
        let program = if tool == Tool::Ours { find_ours(root)? } else { find_in_path(tool.program())? };
        Ok(Self { tool, program })
    }
}

fn find_ours(root: &Path) -> Result<PathBuf, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = target.join("release").join(Tool::Ours.program());
    let Ok(program) = fs::canonicalize(&program) else {
        return Err(format!("no {}: run `cargo build --release` first", program.display()));
    };
    if let Some(newer) = newer_source(root, &program) {
        println!("careful: {newer} is newer than {}", program.display());
    }
    Ok(program)
}

/// A source file that changed after `program` was built.
fn newer_source(root: &Path, program: &Path) -> Option<String> {
    let modified = |path: &Path| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    let built = modified(program)?;
    let mut sources = project::files(root).ok()?;
    sources.retain(|path| path.starts_with("src/"));
    sources.into_iter().find(|path| modified(&root.join(path)) > Some(built))
}

fn find_in_path(program: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&path).map(|directory| directory.join(program));
    let mut files = candidates.filter(|candidate| candidate.is_file());
    files.next().ok_or_else(|| format!("no `{program}` in PATH"))
}

/// One tool's fresh repository, with everything around it, below one directory.
pub struct Site<'a> {
    installed: &'a Installed,
    database: &'a Path,
    repository: PathBuf,
    home: PathBuf,
    restored: PathBuf,
    log: PathBuf,
    backups: u32,
}

impl<'a> Site<'a> {
    /// Makes the repository. What that costs is not counted.
    pub fn create(installed: &'a Installed, database: &'a Path, directory: &Path) -> Result<Self, Failure> {
        let site = Self {
            installed,
            database,
            repository: directory.join("repository"),
            home: directory.join("home"),
            restored: directory.join("restored"),
            log: directory.join("log"),
            backups: 0,
        };
        fs::create_dir_all(&site.home).map_err(Failure::io("create", &site.home))?;
        site.init()?;
        Ok(site)
    }

    pub fn tool(&self) -> Tool {
        self.installed.tool
    }

    fn init(&self) -> Result<(), Failure> {
        let arguments: &[&str] = match self.tool() {
            Tool::Ours | Tool::Restic | Tool::Rustic => &["init"],
            Tool::Borg => &["init", "--encryption", "repokey-blake2"],
            Tool::Zstd | Tool::Copy => {
                return fs::create_dir_all(&self.repository).map_err(Failure::io("create", &self.repository));
            }
        };
        measured::run(self.command().args(arguments), &self.log).map(|_| ())
    }

    /// A full backup that reads the whole database.
    pub fn full(&mut self) -> Result<Cost, Failure> {
        self.backups += 1;
        let mut command = self.command();
        match self.tool() {
            Tool::Ours => command.arg("snapshot").arg(self.database).args(["--strategy", "full"]),
            Tool::Restic | Tool::Rustic => command.args(["backup", "--force"]).arg(self.database),
            Tool::Borg => command
                .args(["create", "--compression", "zstd,3", "--files-cache", "disabled"])
                .arg(self.borg_archive())
                .arg(self.database),
            Tool::Zstd => command.args(["-3", "-T2", "-q", "-f"]).arg(self.database).arg("-o").arg(self.floor_copy()),
            Tool::Copy => command
                .args(["-c", r#"cp -- "$1" "$2" && sync -- "$2""#, "sh"])
                .arg(self.database)
                .arg(self.floor_copy()),
        };
        measured::run(&mut command, &self.log)
    }

    /// Restores the last backup to a fresh place and compares it with the database, byte for byte.
    /// Only the restore is counted.
    pub fn restore(&self) -> Result<Cost, Failure> {
        fs::create_dir(&self.restored).map_err(Failure::io("create", &self.restored))?;
        measured::settle()?;
        let cost = measured::run(&mut self.restore_command(), &self.log)?;
        self.compare()?;
        fs::remove_dir_all(&self.restored).map_err(Failure::io("remove", &self.restored))?;
        Ok(cost)
    }

    fn restore_command(&self) -> Command {
        let mut command = self.command();
        match self.tool() {
            Tool::Ours => {
                command.args(["restore", "latest", "--to"]).arg(self.restored_file()).arg("--integrity-check=false")
            }
            Tool::Restic => command.args(["restore", "latest", "--target"]).arg(&self.restored),
            Tool::Rustic => command.args(["restore", "latest"]).arg(&self.restored),
            Tool::Borg => command.arg("extract").arg(self.borg_archive()).current_dir(&self.restored),
            Tool::Zstd => command.args(["-d", "-q"]).arg(self.floor_copy()).arg("-o").arg(self.restored_file()),
            Tool::Copy => command
                .args(["-c", r#"cp -- "$1" "$2" && sync -- "$2""#, "sh"])
                .arg(self.floor_copy())
                .arg(self.restored_file()),
        };
        command
    }

    fn compare(&self) -> Result<(), Failure> {
        let mut command = Command::new("cmp");
        command.arg(self.database).arg(self.restored_file());
        let compared = measured::run(&mut command, &self.log);
        compared.map(|_| ()).map_err(|failure| {
            let name = self.tool().name();
            Failure::new(format!("what {name} restored is not the database: {failure}"))
        })
    }

    /// Where the restored database ends up: the tools for file trees keep its whole path.
    fn restored_file(&self) -> PathBuf {
        match self.tool() {
            Tool::Restic | Tool::Rustic | Tool::Borg => {
                let relative = self.database.strip_prefix("/").unwrap_or(self.database);
                self.restored.join(relative)
            }
            Tool::Ours | Tool::Zstd | Tool::Copy => self.restored.join("restored.db"),
        }
    }

    /// The lengths of all files in the repository.
    pub fn stored_bytes(&self) -> Result<u64, Failure> {
        tree_bytes(&self.repository)
    }

    fn floor_copy(&self) -> PathBuf {
        self.repository.join("copy")
    }

    fn borg_archive(&self) -> OsString {
        let mut archive = self.repository.clone().into_os_string();
        archive.push(format!("::backup-{}", self.backups));
        archive
    }

    /// The tool's program with its surroundings: home, password, repository, no cache.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.installed.program);
        command.env("HOME", &self.home);
        for (variable, directory) in [
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_DATA_HOME", "data"),
        ] {
            command.env(variable, self.home.join(directory));
        }
        match self.tool() {
            Tool::Ours => command.env("CONTINUUM_PASSWORD", PASSWORD).arg("-r").arg(&self.repository),
            Tool::Restic => {
                command.env("RESTIC_PASSWORD", PASSWORD).args(["--quiet", "--no-cache", "-r"]).arg(&self.repository)
            }
            // Where global options may stand differs between versions; the environment always works.
            Tool::Rustic => command
                .env("RUSTIC_PASSWORD", PASSWORD)
                .env("RUSTIC_REPOSITORY", &self.repository)
                .env("RUSTIC_NO_CACHE", "true")
                .env("RUSTIC_NO_PROGRESS", "true"),
            Tool::Borg => command
                .env("BORG_PASSPHRASE", PASSWORD)
                .env("BORG_REPO", &self.repository)
                .env("BORG_BASE_DIR", &self.home),
            Tool::Zstd | Tool::Copy => &mut command,
        };
        command
    }
}

fn tree_bytes(directory: &Path) -> Result<u64, Failure> {
    let list = |error| Failure::io("list", directory)(error);
    let mut bytes = 0;
    for entry in fs::read_dir(directory).map_err(list)? {
        let entry = entry.map_err(list)?;
        let metadata = entry.metadata().map_err(list)?;
        bytes += if metadata.is_dir() { tree_bytes(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
