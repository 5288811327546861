//! `cargo xtask services`: real servers on loopback that the tests keep repositories on.
//!
//! | service | server | found as |
//! |---|---|---|
//! | `s3` | SeaweedFS as it is run on several machines: master, volume server, filer and S3 gateway apart | `weed` |
//! | `azblob` | Azurite | `$AZURITE`, `azurite-blob`, or installed below `target/services` |
//! | `gcs` | `tests/servers/fake_gcs.py` | `python3` |
//! | `sftp` | OpenSSH | `sshd`, `sftp` |
//! | `lying-s3` | `rclone serve s3`, which ignores the condition of a conditional create | `rclone` |
//!
//! Each keeps everything in a folder of its own, `target/services/<name>`, with a `state` file that says which processes it is, its URL and what
//! a client must have in its environment. Ports are free ones. A service counts as running when its processes are those of the state file and
//! `tests/servers/prepare.py` finds that it does what its kind of service must. Linux only: processes are told apart by what `/proc` says.

mod azblob;
mod gcs;
mod lying_s3;
mod ports;
mod processes;
mod programs;
mod s3;
mod sftp;
mod state;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::cargo::{self, TEST_STORE};
use crate::failure::Failure;
use processes::Process;
pub use state::State;

/// How long a service may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Every service.
pub const ALL: [&Service; 5] = [&S3, &AZBLOB, &GCS, &SFTP, &LYING_S3];

pub static S3: Service = Service { name: "s3", start: s3::start, creates: "exclusive" };
pub static AZBLOB: Service = Service { name: "azblob", start: azblob::start, creates: "exclusive" };
pub static GCS: Service = Service { name: "gcs", start: gcs::start, creates: "exclusive" };
pub static SFTP: Service = Service { name: "sftp", start: sftp::start, creates: "unknown" };
pub static LYING_S3: Service = Service { name: "lying-s3", start: lying_s3::start, creates: "overwriting" };

/// A kind of server.
pub struct Service {
    pub name: &'static str,
    /// Starts its processes in its folder, which is empty; does not wait until they answer.
    start: fn(&Place) -> Result<Start, Failure>,
    /// What `prepare.py` must find about clients that create one object at the same time.
    creates: &'static str,
}

/// Where a service is to be started.
pub struct Place {
    /// Of the project.
    root: PathBuf,
    /// The service's own.
    folder: PathBuf,
}

/// What became of starting.
pub enum Start {
    Started(State),
    /// What is missing, and how to install it.
    Missing(String),
}

/// What became of bringing a service up.
pub enum Up {
    /// It ran already.
    Running(State),
    Started(State),
    /// Why it cannot run here.
    Missing(String),
}

/// `services up|down|status|env [NAME]…`
pub fn run(root: &Path, arguments: &mut Arguments) -> Result<(), Failure> {
    let Some(action) = arguments.take_word() else {
        return Err(Failure::usage("services: up, down, status or env?"));
    };
    let mut named = Vec::new();
    while let Some(word) = arguments.take_word() {
        named.push(find(&word)?);
    }
    let chosen = if named.is_empty() { ALL.to_vec() } else { named.clone() };
    match action.as_str() {
        "up" => chosen.iter().try_for_each(|service| {
            let line = match service.up(root)? {
                Up::Running(state) | Up::Started(state) => format!("running at {}", state.url),
                Up::Missing(why) => format!("skipped: {why}"),
            };
            println!("{:<9}{line}", service.name);
            Ok(())
        }),
        "down" => chosen.iter().try_for_each(|service| {
            let line = if service.down(root)? { "stopped" } else { "was not running" };
            println!("{:<9}{line}", service.name);
            Ok(())
        }),
        "status" => chosen.iter().try_for_each(|service| {
            let state = service.running(root)?;
            println!("{:<9}{}", service.name, state.map_or("not running".to_owned(), |state| state.to_string()));
            Ok(())
        }),
        "env" => print_environment(root, &chosen, &named),
        other => Err(Failure::usage(format!("services: there is no action `{other}`"))),
    }
}

/// The service of this name.
pub fn find(name: &str) -> Result<&'static Service, Failure> {
    let found = ALL.into_iter().find(|service| service.name == name);
    found.ok_or_else(|| Failure::usage(format!("there is no service `{name}`")))
}

/// For a shell: where each service is and what its clients need, and [`TEST_STORE`] if just one is named.
fn print_environment(root: &Path, chosen: &[&Service], named: &[&Service]) -> Result<(), Failure> {
    for service in chosen {
        let Some(state) = service.running(root)? else {
            continue;
        };
        let mut lines = vec![(service.variable(), state.url.clone())];
        if named.len() == 1 {
            lines.push((TEST_STORE.to_owned(), state.url));
        }
        for (name, value) in lines.into_iter().chain(state.environment) {
            println!("export {name}='{}'", value.replace('\'', r"'\''"));
        }
    }
    Ok(())
}

impl Service {
    /// Where tests that need just this service find its URL.
    pub fn variable(&self) -> String {
        format!("CONTINUUM_TEST_{}", self.name.replace('-', "_").to_uppercase())
    }

    /// Does something while it runs, and stops it afterwards if it was started for that; or says why it cannot run here.
    pub fn during<T>(
        &self,
        root: &Path,
        work: impl FnOnce(&State) -> Result<T, Failure>,
    ) -> Result<Result<T, String>, Failure> {
        match self.up(root)? {
            Up::Running(state) => work(&state).map(Ok),
            Up::Started(state) => {
                let done = work(&state);
                self.down(root)?;
                done.map(Ok)
            }
            Up::Missing(why) => Ok(Err(why)),
        }
    }

    /// Leaves it alone if it runs and answers; else starts it anew, with nothing in it.
    pub fn up(&self, root: &Path) -> Result<Up, Failure> {
        let place = self.place(root);
        let _alone = place.lock()?;
        if let Some(state) = place.read_state()?
            && state.is_running()
            && self.prepare(&place, &state).is_ok()
        {
            return Ok(Up::Running(state));
        }
        place.clear()?;
        fs::create_dir_all(&place.folder).map_err(Failure::io("create", &place.folder))?;
        let state = match (self.start)(&place)? {
            Start::Started(state) => state,
            Start::Missing(why) => return Ok(Up::Missing(why)),
        };
        place.write_state(&state)?;
        match self.wait_until_ready(&place, &state) {
            Ok(()) => Ok(Up::Started(state)),
            Err(failure) => {
                state.kill();
                Err(failure)
            }
        }
    }

    /// Kills its processes and removes what it kept; whether it ran.
    pub fn down(&self, root: &Path) -> Result<bool, Failure> {
        let place = self.place(root);
        let _alone = place.lock()?;
        place.clear()
    }

    /// How it runs, if it does.
    fn running(&self, root: &Path) -> Result<Option<State>, Failure> {
        Ok(self.place(root).read_state()?.filter(State::is_running))
    }

    fn place(&self, root: &Path) -> Place {
        Place { root: root.to_owned(), folder: cargo::target(root).join("services").join(self.name) }
    }

    fn wait_until_ready(&self, place: &Place, state: &State) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let Err(failure) = self.prepare(place, state) else {
                return Ok(());
            };
            if !state.is_running() || started.elapsed() > PATIENCE {
                let logs = place.folder.display();
                return Err(Failure::new(format!("{} does not run; see the logs in {logs}: {failure}", self.name)));
            }
            sleep(POLL);
        }
    }

    /// Makes the bucket, and finds out whether the service does what the tests want of it.
    fn prepare(&self, place: &Place, state: &State) -> Result<(), Failure> {
        let mut command = Command::new("python3");
        command.arg("-B").arg(place.server("prepare.py")).arg(&state.url).envs(state.environment.iter().cloned());
        let output = command.output().map_err(Failure::io("run", Path::new("python3")))?;
        if !output.status.success() {
            return Err(Failure::new(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        match String::from_utf8_lossy(&output.stdout).trim() {
            found if found == self.creates => Ok(()),
            found => Err(Failure::new(format!("its creates are {found}, not {}", self.creates))),
        }
    }
}

impl Place {
    /// A server of ours.
    fn server(&self, name: &str) -> PathBuf {
        self.root.join("tests/servers").join(name)
    }

    /// A process of the service; its output goes to a log beside its data.
    fn spawn(&self, command: &mut Command, log: &str) -> Result<Process, Failure> {
        Process::spawn(command.current_dir(&self.folder), &self.folder.join(log))
    }

    /// An empty folder in it.
    fn new_folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        fs::create_dir(&path).map_err(Failure::io("create", &path))?;
        Ok(path)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        fs::write(&path, text).map_err(Failure::io("write", &path))?;
        Ok(path)
    }

    /// Nobody else starts or stops services while the file is held.
    fn lock(&self) -> Result<File, Failure> {
        let services = self.folder.parent().unwrap_or(&self.folder);
        fs::create_dir_all(services).map_err(Failure::io("create", services))?;
        let path = services.join("lock");
        let file = File::create(&path).map_err(Failure::io("create", &path))?;
        file.lock().map_err(Failure::io("lock", &path))?;
        Ok(file)
    }

    fn read_state(&self) -> Result<Option<State>, Failure> {
        let path = self.folder.join("state");
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        // Half a state, or one of another version of this program, tells nothing.
        Ok(text.parse().ok())
    }

    fn write_state(&self, state: &State) -> Result<(), Failure> {
        self.write("state", &state.to_text()).map(|_| ())
    }

    /// Kills what runs here and removes the folder; whether all of it ran.
    fn clear(&self) -> Result<bool, Failure> {
        let state = self.read_state()?;
        let was_running = state.as_ref().is_some_and(State::is_running);
        if let Some(state) = state {
            state.kill();
        }
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder).map_err(Failure::io("remove", &self.folder))?;
        }
        Ok(was_running)
    }
}
