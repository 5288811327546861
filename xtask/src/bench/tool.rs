//! How each tool is told to make a repository, to back up one database, to restore it, and to watch.
//!
//! Every tool gets the same conditions: zstd at its level 3 or nearest default, encryption where it
//! has any, a home directory of its own (so no configuration or state of this machine), and the order
//! to read the whole database even if nothing seems to have changed. With a repository in a folder no
//! cache outlives the command. With one in a bucket every tool keeps a cache in that home, as its users
//! have one, which the next backup finds; a restore has another home, as on another machine, and
//! finds none.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::bucket::{Prefix, Server};
use super::files::Files;
use super::measured::{self, Cost};
use super::repository::Repository;
use super::running::Running;
use crate::cargo;
use crate::failure::Failure;
use crate::project;

/// What protects the repositories; they live for one round.
const PASSWORD: &str = "measured and thrown away";

/// A daemon has this long to take its first backup.
const WATCHING_LIMIT: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Ours,
    Restic,
    Rustic,
    Borg,
    /// Copies the WAL continuously, or what there is of it each time it is run.
    Litestream,
    /// `zstd -3 -T2`: what compressing costs, without everything else.
    Zstd,
    /// `cp` and `sync` of the copy: what the disk costs.
    Copy,
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "continuum",
            Self::Restic => "restic",
            Self::Rustic => "rustic",
            Self::Borg => "borg",
            Self::Litestream => "litestream",
            Self::Zstd => "zstd -3 -T2",
            Self::Copy => "cp + sync",
        }
    }

    /// Whether the tool writes to the database that it copies, so that it needs one of its own.
    pub fn writes_to_database(self) -> bool {
        self == Self::Litestream
    }

    /// Whether the tool keeps several backups in one repository. A floor does not.
    pub fn keeps_history(self) -> bool {
        !matches!(self, Self::Zstd | Self::Copy)
    }

    /// Adds to a command where the repository is, and that it needs no cache if that is here. A tool that takes
    /// the place with each of its commands is told nothing.
    fn point_at(self, repository: &Repository, command: &mut Command) -> Result<(), Failure> {
        match (self, repository) {
            (Self::Ours, Repository::Folder(path)) => command.arg("-r").arg(path),
            // So it says at its end what it asked of the server.
            (Self::Ours, Repository::Bucket(prefix)) => {
                credentials(prefix, command).args(["--verbose", "-r"]).arg(prefix.url())
            }
            (Self::Restic, Repository::Folder(path)) => command.args(["--no-cache", "-r"]).arg(path),
            (Self::Restic, Repository::Bucket(prefix)) => {
                let Server { endpoint, region, .. } = &prefix.bucket.server;
                let place = format!("s3:{endpoint}/{}/{}", prefix.bucket.name, prefix.name);
                credentials(prefix, command).env("AWS_DEFAULT_REGION", region).args(["-r", &place])
            }
            // Where global options may stand differs between versions; the environment always works.
            (Self::Rustic, Repository::Folder(path)) => {
                command.env("RUSTIC_REPOSITORY", path).env("RUSTIC_NO_CACHE", "true")
            }
            // It hands these variables to OpenDAL, which knows the credentials by the names that all clients use.
            (Self::Rustic, Repository::Bucket(prefix)) => credentials(prefix, command)
                .env("RUSTIC_REPOSITORY", "opendal:s3")
                .env("OPENDAL_BUCKET", &prefix.bucket.name)
                .env("OPENDAL_ROOT", format!("/{}", prefix.name))
                .env("OPENDAL_ENDPOINT", &prefix.bucket.server.endpoint)
                .env("OPENDAL_REGION", &prefix.bucket.server.region),
            (Self::Borg, _) => command.env("BORG_REPO", repository.folder()?),
            (Self::Litestream | Self::Zstd | Self::Copy, _) => repository.folder().map(|_| command)?,
        };
        Ok(())
    }

    fn program(self) -> &'static str {
        match self {
            Self::Ours => "continuum",
            Self::Restic => "restic",
            Self::Rustic => "rustic",
            Self::Borg => "borg",
            Self::Litestream => "litestream",
            Self::Zstd => "zstd",
            Self::Copy => "sh",
        }
    }
}

fn credentials<'c>(prefix: &Prefix, command: &'c mut Command) -> &'c mut Command {
    command.envs(prefix.bucket.server.credentials.iter().cloned())
}

/// A tool that is there to be run.
pub struct Installed {
    pub tool: Tool,
    program: PathBuf,
}

impl Installed {
    /// The tool's program, or the reason why there is none.
    /// `binary` is ours, if it is not the one that cargo built.
    pub fn find(tool: Tool, root: &Path, binary: Option<&Path>) -> Result<Self, String> {
        let program = match (tool, binary) {
            (Tool::Ours, Some(binary)) => {
                fs::canonicalize(binary).map_err(|error| format!("{}: {error}", binary.display()))?
            }
            (Tool::Ours, None) => find_ours(root)?,
            (Tool::Litestream, _) => find_litestream()?,
            _ => find_in_path(tool.program())?,
        };
        Ok(Self { tool, program })
    }
}

fn find_ours(root: &Path) -> Result<PathBuf, String> {
    let target = cargo::target(root);
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

/// Litestream is one binary, but what is in PATH may be a version manager's script around it, which
/// must not be measured. Then it is where Python puts the programs of its packages.
fn find_litestream() -> Result<PathBuf, String> {
    let found = find_in_path(Tool::Litestream.program())?;
    if !is_script(&found) {
        return Ok(found);
    }
    let mut command = Command::new("python3");
    command.args(["-c", "import sysconfig; print(sysconfig.get_path('scripts'))"]);
    let output = command.output().map_err(|error| format!("python3: {error}"))?;
    let scripts = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let program = scripts.join(Tool::Litestream.program());
    if program.is_file() && !is_script(&program) {
        return Ok(program);
    }
    Err(format!("{} is a script, and the program behind it was not found", found.display()))
}

fn is_script(path: &Path) -> bool {
    let mut begin = [0; 2];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == *b"#!"
}

/// One tool's fresh repository, with everything around it, below one directory.
pub struct Site<'a> {
    installed: &'a Installed,
    database: &'a Path,
    repository: Repository,
    home: PathBuf,
    restore_home: PathBuf,
    restored: PathBuf,
    log: PathBuf,
    backups: u32,
}

impl<'a> Site<'a> {
    /// Makes the repository in a folder. What that costs is not counted.
    pub fn create(installed: &'a Installed, database: &'a Path, directory: &Path) -> Result<Self, Failure> {
        Self::create_in(Repository::Folder(directory.join("repository")), installed, database, directory)
    }

    /// Makes the repository there, and what else is needed in `directory`.
    pub fn create_in(
        repository: Repository,
        installed: &'a Installed,
        database: &'a Path,
        directory: &Path,
    ) -> Result<Self, Failure> {
        let home = directory.join("home");
        let site = Self {
            restore_home: if repository.is_remote() { directory.join("another-home") } else { home.clone() },
            installed,
            database,
            repository,
            home,
            restored: directory.join("restored"),
            log: directory.join("log"),
            backups: 0,
        };
        for home in [&site.home, &site.restore_home] {
            fs::create_dir_all(home).map_err(Failure::io("create", home))?;
        }
        site.init()?;
        Ok(site)
    }

    /// The tool, and where it keeps its repository if that is not here.
    pub fn name(&self) -> String {
        let name = self.tool().name();
        if self.repository.is_remote() { format!("{name}, S3") } else { name.to_owned() }
    }

    pub fn tool(&self) -> Tool {
        self.installed.tool
    }

    fn init(&self) -> Result<(), Failure> {
        let arguments: &[&str] = match self.tool() {
            Tool::Ours | Tool::Restic | Tool::Rustic => &["init"],
            Tool::Borg => &["init", "--encryption", "repokey-blake2"],
            Tool::Litestream | Tool::Zstd | Tool::Copy => {
                let folder = self.repository.folder()?;
                return fs::create_dir_all(folder).map_err(Failure::io("create", folder));
            }
        };
        measured::run(self.command()?.args(arguments), &self.log).map(|_| ())
    }

    /// A full backup that reads the whole database.
    pub fn full(&mut self) -> Result<Cost, Failure> {
        self.backups += 1;
        let mut command = self.command()?;
        match self.tool() {
            Tool::Ours => command.args(["--json", "snapshot", "--strategy", "full"]).arg(self.database),
            Tool::Restic | Tool::Rustic => command.args(["backup", "--force"]).arg(self.database),
            Tool::Borg => command
                .args(["create", "--compression", "zstd,3", "--files-cache", "disabled"])
                .arg(self.borg_archive()?)
                .arg(self.database),
            Tool::Litestream => self.replicate_once(&mut command)?,
            Tool::Zstd => command.args(["-3", "-T2", "-q", "-f"]).arg(self.database).arg("-o").arg(self.floor_copy()?),
            Tool::Copy => command
                .args(["-c", r#"cp -- "$1" "$2" && sync -- "$2""#, "sh"])
                .arg(self.database)
                .arg(self.floor_copy()?),
        };
        measured::run(&mut command, &self.log)
    }

    /// The backup that the tool takes by itself when it is run again. We are told not to take a full
    /// one; what there is to build on is found out either way.
    pub fn next(&mut self) -> Result<Cost, Failure> {
        self.backups += 1;
        let mut command = self.command()?;
        match self.tool() {
            Tool::Ours => command.args(["--json", "snapshot", "--strategy", "incremental"]).arg(self.database),
            Tool::Restic | Tool::Rustic => command.arg("backup").arg(self.database),
            Tool::Borg => {
                command.args(["create", "--compression", "zstd,3"]).arg(self.borg_archive()?).arg(self.database)
            }
            Tool::Litestream => self.replicate_once(&mut command)?,
            Tool::Zstd | Tool::Copy => return Err(Failure::new(format!("{} keeps no history", self.tool().name()))),
        };
        measured::run(&mut command, &self.log)
    }

    fn replicate_once<'c>(&self, command: &'c mut Command) -> Result<&'c mut Command, Failure> {
        Ok(command.args(["replicate", "-once"]).arg(self.database).arg(self.replica()?))
    }

    /// Starts the tool as a daemon that captures what is committed to `databases`, and returns when
    /// it is watching all of them.
    pub fn watch(&self, databases: &[PathBuf]) -> Result<Running, Failure> {
        let mut command = self.command()?;
        let watching = match self.tool() {
            Tool::Ours => {
                command.args(["--json", "watch"]).args(databases);
                "watching from commit"
            }
            Tool::Litestream => {
                command.arg("replicate").args(databases).arg(self.replica()?);
                "snapshot complete"
            }
            other => return Err(Failure::new(format!("{} does not watch", other.name()))),
        };
        let mut running = Running::start(&mut command, &self.log)?;
        running.wait_for(watching, databases.len(), WATCHING_LIMIT)?;
        Ok(running)
    }

    /// What the last command printed.
    pub fn output(&self) -> String {
        measured::output_of(&self.log)
    }

    /// Restores the last backup to a fresh place and compares it with the database, byte for byte.
    /// Only the restore is counted.
    pub fn restore(&self) -> Result<Cost, Failure> {
        fs::create_dir(&self.restored).map_err(Failure::io("create", &self.restored))?;
        measured::settle()?;
        let cost = measured::run(&mut self.restore_command()?, &self.log)?;
        self.compare()?;
        fs::remove_dir_all(&self.restored).map_err(Failure::io("remove", &self.restored))?;
        Ok(cost)
    }

    fn restore_command(&self) -> Result<Command, Failure> {
        let mut command = self.command_in(&self.restore_home)?;
        match self.tool() {
            Tool::Ours => {
                command.args(["restore", "latest", "--to"]).arg(self.restored_file()).arg("--integrity-check=false")
            }
            Tool::Restic => command.args(["restore", "latest", "--target"]).arg(&self.restored),
            Tool::Rustic => command.args(["restore", "latest"]).arg(&self.restored),
            Tool::Borg => command.arg("extract").arg(self.borg_archive()?).current_dir(&self.restored),
            Tool::Litestream => command.args(["restore", "-o"]).arg(self.restored_file()).arg(self.replica()?),
            Tool::Zstd => command.args(["-d", "-q"]).arg(self.floor_copy()?).arg("-o").arg(self.restored_file()),
            Tool::Copy => command
                .args(["-c", r#"cp -- "$1" "$2" && sync -- "$2""#, "sh"])
                .arg(self.floor_copy()?)
                .arg(self.restored_file()),
        };
        Ok(command)
    }

    fn compare(&self) -> Result<(), Failure> {
        let mut command = Command::new("cmp");
        command.arg(self.database).arg(self.restored_file());
        // What the restore printed stays in the log.
        let compared = measured::run(&mut command, &self.log.with_extension("cmp"));
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
            Tool::Ours | Tool::Litestream | Tool::Zstd | Tool::Copy => self.restored.join("restored.db"),
        }
    }

    /// The lengths of all files or objects in the repository.
    pub fn stored_bytes(&self) -> Result<u64, Failure> {
        Ok(self.stored()?.values().sum())
    }

    /// Every file or object in the repository with its length.
    pub fn stored(&self) -> Result<Files, Failure> {
        self.repository.stored()
    }

    fn replica(&self) -> Result<OsString, Failure> {
        let mut url = OsString::from("file://");
        url.push(self.repository.folder()?);
        Ok(url)
    }

    fn floor_copy(&self) -> Result<PathBuf, Failure> {
        Ok(self.repository.folder()?.join("copy"))
    }

    fn borg_archive(&self) -> Result<OsString, Failure> {
        let mut archive = self.repository.folder()?.as_os_str().to_owned();
        archive.push(format!("::backup-{}", self.backups));
        Ok(archive)
    }

    fn command(&self) -> Result<Command, Failure> {
        self.command_in(&self.home)
    }

    /// The tool's program with its surroundings: home, password, repository.
    fn command_in(&self, home: &Path) -> Result<Command, Failure> {
        let mut command = Command::new(&self.installed.program);
        command.env("HOME", home);
        for (variable, directory) in [
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_DATA_HOME", "data"),
        ] {
            command.env(variable, home.join(directory));
        }
        match self.tool() {
            Tool::Ours => command.env("CONTINUUM_PASSWORD", PASSWORD),
            Tool::Restic => command.env("RESTIC_PASSWORD", PASSWORD).arg("--quiet"),
            Tool::Rustic => command.env("RUSTIC_PASSWORD", PASSWORD).env("RUSTIC_NO_PROGRESS", "true"),
            Tool::Borg => command.env("BORG_PASSPHRASE", PASSWORD).env("BORG_BASE_DIR", home),
            Tool::Litestream | Tool::Zstd | Tool::Copy => &mut command,
        };
        self.tool().point_at(&self.repository, &mut command)?;
        Ok(command)
    }
}
