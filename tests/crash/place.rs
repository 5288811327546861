//! The world of one run: repositories, local state and targets below one folder, so that it can be copied and looked at.
//!
//! ```text
//! <root>/databases/   what is backed up: the same files for all runs, which only read them
//! <root>/<place>/     repository/ other/ second/ state/ cache/ target/
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use continuum::format::name::ObjectName;
use continuum::store::Store;
use continuum::store::local::LocalStore;
use continuum::store::state::LocalState;
use serde_json::Value;

/// What unlocks every repository here.
const PASSWORD: &str = "correct horse";

/// Temporary files of a store are taken for leftovers after a day.
const OLD: Duration = Duration::from_secs(48 * 3600);

/// See the module documentation.
pub struct Place {
    root: PathBuf,
}

/// A state that was acknowledged: whoever asks for it must get it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    /// The repository's folder, or its folders.
    pub repository: String,
    /// The database's name.
    pub database: String,
    /// Number of the state.
    pub commit: u64,
    /// BLAKE3 root of the state, in hexadecimal.
    pub root: String,
}

impl Place {
    /// A new, empty one.
    pub fn new(root: PathBuf) -> Self {
        for folder in ["state", "cache", "home", "target"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        Self { root }
    }

    /// Its copy. Files keep their times.
    pub fn copy(&self, to: PathBuf) -> Self {
        copy_folder(&self.root, &to);
        Self { root: to }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The program, with this place as its world and working folder.
    pub fn command<A: AsRef<str>>(&self, arguments: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_continuum"));
        command.args(arguments.iter().map(A::as_ref)).current_dir(&self.root).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("CONTINUUM_CONFIG", "/dev/null");
        command.env("XDG_STATE_HOME", self.path("state")).env("XDG_CACHE_HOME", self.path("cache"));
        for variable in ["CONTINUUM_PASSWORD", "CONTINUUM_TO_PASSWORD", "CONTINUUM_NEW_PASSWORD"] {
            command.env(variable, PASSWORD);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs the program; an error says how it ended if that is not with 0.
    pub fn run<A: AsRef<str>>(&self, arguments: &[A]) -> Result<String, String> {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let arguments: Vec<&str> = arguments.iter().map(A::as_ref).collect();
        let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if status.success() { Ok(stdout) } else { Err(format!("{arguments:?}: {status}: {stderr}{stdout}")) }
    }

    /// The same on a repository: a folder, or several joined by `+`.
    fn run_on(&self, repository: &str, arguments: &[&str]) -> Result<String, String> {
        let places = repository.split('+').flat_map(|folder| ["-r", folder]);
        self.run(&places.chain(arguments.iter().copied()).collect::<Vec<_>>())
    }

    fn json(&self, repository: &str, arguments: &[&str]) -> Result<Value, String> {
        let text = self.run_on(repository, &[&["--json"], arguments].concat())?;
        serde_json::from_str(&text).map_err(|error| format!("{arguments:?} printed {text}: {error}"))
    }

    /// Whether there is a repository in that folder.
    pub fn has(&self, repository: &str) -> bool {
        folders(repository).any(|folder| self.path(folder).join("config").exists())
    }

    /// Every state that can be restored.
    pub fn states(&self, repository: &str) -> Result<BTreeSet<State>, String> {
        let document = self.json(repository, &["log"])?;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let points = document["points"].as_array().unwrap().iter();
        let states = points.map(|point| State {
            repository: repository.to_owned(),
            database: text(&point["database"]),
            commit: point["commit"].as_u64().unwrap(),
            root: text(&point["blake3"]),
        });
        Ok(states.collect())
    }

    /// Checks a repository with all its data, and restores each of these states that is in it, and compares its hash.
    pub fn holds(&self, repository: &str, states: &BTreeSet<State>) -> Result<(), String> {
        self.run_on(repository, &["check", "--read-data"])?;
        let folder = tempfile::tempdir_in(self.root.parent().unwrap()).unwrap();
        for State { database, commit, root, .. } in states.iter().filter(|state| state.repository == repository) {
            let target = folder.path().join(format!("{database}-{commit}"));
            let (commit, to) = (commit.to_string(), target.to_str().unwrap());
            self.run_on(repository, &["-q", "restore", "--name", database, "--commit", &commit, "--to", to])?;
            if hash_of(&target) != *root {
                return Err(format!("commit {commit} of {database} in {repository} restores to {}", hash_of(&target)));
            }
        }
        Ok(())
    }

    /// What is there, so that two places can be compared: states, snapshots, key slots, restored files.
    pub fn outcome(&self, repositories: &[&str]) -> Result<BTreeSet<String>, String> {
        let mut outcome = BTreeSet::new();
        for &repository in repositories.iter().filter(|repository| self.has(repository)) {
            let states = self.states(repository)?.into_iter();
            outcome.extend(states.map(|State { database, root, .. }| format!("{repository}: state {database} {root}")));
            let snapshots = self.json(repository, &["snapshots"])?;
            let members = ["database", "blake3", "tags", "held"];
            let describe = |snapshot: &Value| members.map(|member| snapshot[member].to_string()).join(" ");
            let snapshots = snapshots["snapshots"].as_array().unwrap().iter();
            outcome.extend(snapshots.map(|snapshot| format!("{repository}: snapshot {}", describe(snapshot))));
            let slots = self.json(repository, &["key", "list"])?;
            let slots = slots["slots"].as_array().unwrap().iter();
            outcome.extend(slots.map(|slot| format!("{repository}: key {}", slot["label"])));
        }
        for entry in fs::read_dir(self.path("target")).unwrap().flatten() {
            // What was set aside is named after the time.
            if !entry.file_name().to_string_lossy().contains(".replaced-") {
                outcome.insert(format!("target: {} {}", entry.file_name().display(), hash_of(&entry.path())));
            }
        }
        Ok(outcome)
    }

    /// All files below a folder, sorted.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.path(folder), &mut files);
        files.sort();
        files
    }

    /// The id of the first snapshot, if there is any.
    pub fn first_snapshot(&self, repository: &str) -> Option<String> {
        let snapshots = self.json(repository, &["snapshots"]).ok()?;
        Some(snapshots["snapshots"][0]["id"].as_str()?.to_owned())
    }

    /// Makes all temporary files of repositories and of the local state two days old.
    pub fn age_leftovers(&self, repositories: &[&str]) {
        let old = SystemTime::now() - OLD;
        let mut files = self.state_leftovers();
        let folders = repositories.iter().flat_map(|repository| folders(repository));
        folders.for_each(|folder| collect(&self.path(folder).join("tmp"), &mut files));
        for file in files {
            File::options().write(true).open(file).and_then(|file| file.set_modified(old)).unwrap();
        }
    }

    /// The temporary files that stay in repositories and in the local state when something new is written there.
    pub fn leftovers_after_writes(&self, repositories: &[&str]) -> Vec<PathBuf> {
        for state_folder in self.state_leftovers().iter().filter_map(|path| path.parent()) {
            let state = LocalState::new(state_folder.to_owned());
            state.write("probe", b"probe").and_then(|()| state.remove("probe")).unwrap();
        }
        let mut left = self.state_leftovers();
        for folder in repositories.iter().flat_map(|repository| folders(repository)) {
            let store = LocalStore::new(self.path(folder));
            let probe = ObjectName::from_listing("probe/00000000000000000000000000000000".to_owned());
            store.create(&probe, b"probe").unwrap();
            store.delete(&probe).unwrap();
            collect(&self.path(folder).join("tmp"), &mut left);
        }
        left
    }

    /// Temporary files in the local state.
    fn state_leftovers(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.path("state"), &mut files);
        files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp")));
        files
    }
}

/// The folders of a repository.
fn folders(repository: &str) -> impl Iterator<Item = &str> {
    repository.split('+')
}

/// The BLAKE3 hash of a file.
pub fn hash_of(path: &Path) -> String {
    blake3::hash(&fs::read(path).unwrap()).to_hex().to_string()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
            let modified = entry.metadata().unwrap().modified().unwrap();
            File::options().write(true).open(&to).unwrap().set_modified(modified).unwrap();
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), files);
        } else {
            files.push(entry.path());
        }
    }
}
