//! A destination on an S3 service, one on an SFTP server and one in a folder; the servers are killed and come back.
//!
//! The servers are those of `cargo xtask services`, which `cargo xtask test` starts: their storage is used, through an S3 gateway and an SSH server of our own
//! that can be killed while nobody else needs them. Linux only: how the gateway was started is read from `/proc`.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::ledger::{Ledger, PATIENCE};
use crate::points::{self, spread};
use crate::support::{Repository, text};
use crate::three::{CHEAP, Outcome, change};
use crate::watcher::Watcher;

/// A server of our own on a port that stays the same.
struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts it and waits until it listens.
    fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.join("server.log")).expect("a log");
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        self.child = Some(command.spawn().expect("the server runs"));
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "{} does not listen on {}", self.program.display(), self.port);
            sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL, for it and the processes that serve its connections.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let mut family = vec![child.id()];
            let mut next = 0;
            while let Some(&parent) = family.get(next) {
                family.extend(children_of(parent));
                next += 1;
            }
            for pid in family.into_iter().filter_map(|pid| Pid::from_raw(pid as i32)) {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
            child.wait().expect("a child of ours");
        }
    }
}

/// The processes that a process has started.
fn children_of(parent: u32) -> Vec<u32> {
    let line = format!("\nPPid:\t{parent}\n");
    let is_child = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|text| text.contains(&line));
    let pids =
        fs::read_dir("/proc").expect("Linux").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    // Below those of outgoing connections, so that it stays free while the server is dead.
    let start = 22_100 + (std::process::id() % 500) as u16;
    let is_free = |port: &u16| {
        [*port, port + 10_000].iter().all(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
    };
    (start..start + 500).find(is_free).expect("a free port")
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test --only destinations`"))
}

/// The number after these words.
fn number_after(text: &str, words: &str) -> u16 {
    let rest = &text[text.find(words).unwrap_or_else(|| panic!("no {words} in {text}")) + words.len()..];
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).expect("a port")
}

/// A gateway beside the one that the URL names, to the same storage; and the URL with its port.
fn s3(folder: &Path) -> (Server, String) {
    let url = variable("CONTINUUM_TEST_S3");
    let port = number_after(&url, "127.0.0.1:");
    let option = format!("-port={port}");
    let (program, arguments, home) = fs::read_dir("/proc")
        .expect("Linux")
        .flatten()
        .find_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let words: Vec<String> =
                line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            let is_it = words.get(1).is_some_and(|role| role == "s3") && words.contains(&option);
            let read = |name: &str| fs::read_link(entry.path().join(name)).ok();
            is_it.then(|| Some((read("exe")?, words, read("cwd")?)))?
        })
        .unwrap_or_else(|| panic!("no gateway listens on {port}"));
    let ours = free_port();
    let told = |word: &String| match word.split_once('=').map_or(word.as_str(), |(name, _)| name) {
        "-port" => format!("-port={ours}"),
        "-localSocket" => format!("-localSocket={}", folder.join("s3.socket").display()),
        "-config" => format!("-config={}", home.join("s3.json").display()),
        _ => word.clone(),
    };
    let arguments = arguments[1..].iter().filter(|word| !word.is_empty()).map(told).collect();
    let url = url.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{ours}"));
    let server = Server { program, arguments, folder: folder.to_owned(), port: ours, child: None };
    (server, below(&url))
}

/// A server beside the one that the URL names, with its keys; and the URL with its port.
fn sftp(folder: &Path) -> (Server, String) {
    let url = variable("CONTINUUM_TEST_SFTP");
    let port = number_after(&url, "127.0.0.1:");
    let (_, rest) = url.split_once("key=").expect("a key");
    let key = PathBuf::from(rest.split('&').next().expect("a path"));
    let home = key.parent().expect("a folder");
    let configuration = fs::read_to_string(home.join("sshd_config")).expect("it is there");
    let ours = free_port() + 600;
    let configuration = configuration.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{ours}"));
    fs::write(folder.join("sshd_config"), configuration).expect("written");
    let program = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/sbin/sshd"].map(PathBuf::from);
    let program = program.into_iter().find(|path| path.exists()).expect("sshd");
    let arguments = ["-D", "-e", "-f", text(&folder.join("sshd_config"))].map(str::to_owned).to_vec();
    let url = url.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{ours}"));
    let server = Server { program, arguments, folder: folder.to_owned(), port: ours, child: None };
    (server, below(&url))
}

/// A place of our own.
fn below(url: &str) -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("random bytes");
    let (place, query) = url.split_once('?').expect("a query");
    format!("{place}/destinations-{:016x}?{query}", u64::from_le_bytes(random))
}

fn run(repository: &Repository, arguments: &[&str]) -> Outcome {
    let options = ["--timeout", "10", "--retry-for", "5"];
    Outcome::of(&mut repository.command(&[&options[..], arguments].concat()))
}

fn destinations(repository: &Repository, code: i32) -> Vec<Value> {
    let outcome = run(repository, &["--json", "destinations"]).expect(code, &[]);
    let document: Value = serde_json::from_str(&outcome.stdout).expect("a document");
    document["destinations"].as_array().expect("a list").clone()
}

#[test]
#[ignore = "needs servers: `cargo xtask test --only destinations`"]
fn servers_are_killed_and_come_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let homes = ["s3", "sftp"].map(|name| folder.path().join(name));
    homes.iter().for_each(|home| fs::create_dir(home).expect("a new folder"));
    let ((s3, s3_url), (sftp, sftp_url)) = (s3(&homes[0]), sftp(&homes[1]));
    let mut servers = [s3, sftp];
    servers.iter_mut().for_each(Server::start);
    let urls = [s3_url, sftp_url];
    let repository = Repository::on(&[&urls[0], &urls[1], "c"]);
    run(&repository, &CHEAP).expect(0, &[]);
    let database = repository.path("app.db");
    let snapshot = || {
        change(&database);
        run(&repository, &["snapshot", text(&database)])
    };
    snapshot().expect(0, &[]);
    let ledger = Ledger::new(repository.path("ledger.db"), 61);
    let mut application = ledger.run("wal", 100);
    ledger.wait_for_ack(5);
    let options = ["--timeout", "10", "--retry-for", "5", "--flush-interval", "0.2", "--fold-interval", "1"];
    let mut watcher = Watcher::attached(&repository, "ledger", &[&options[..], &[text(&ledger.database)]].concat());
    for (number, server) in servers.iter_mut().enumerate() {
        server.kill();
        watcher.wait_for_times("is behind", number + 1);
        let stands = acknowledged(&repository, &watcher);
        for _ in 0..3 {
            snapshot().expect(0, &["lacks"]);
        }
        assert!(acknowledged(&repository, &watcher) > stands, "nothing is acknowledged: {}", watcher.said());
        let seen = destinations(&repository, 1);
        assert!(seen[number]["error"].is_string() && seen[number]["owed"].as_u64() > Some(0), "{seen:?}");
        server.start();
        watcher.wait_for_times("has caught up", number + 1);
    }
    for server in &mut servers {
        server.kill();
    }
    let refused = snapshot();
    assert!(refused.code == Some(1) && refused.stderr.contains("destinations that are needed"), "{}", refused.all());
    for server in &mut servers {
        server.start();
    }
    let acked = ledger.last_ack();
    let end = Instant::now() + PATIENCE;
    while ledger.lengths(&[restore_latest(&repository)])[0] < acked {
        assert!(Instant::now() < end && watcher.is_running(), "it does not go on: {}", watcher.said());
        sleep(Duration::from_millis(500));
    }
    watcher.stop();
    application.kill();
    run(&repository, &["sync", "--read-data"]).expect(0, &[]);
    let whole = run(&repository, &["sync", "--read-data"]).expect(0, &[]);
    assert!(whole.stdout.contains("every destination is whole"), "{}", whole.all());
    assert!(
        destinations(&repository, 0).iter().all(|destination| destination["owed"] == 0 && destination["lacking"] == 0)
    );
    // Each alone has every restore point.
    for place in [&urls[0], &urls[1], text(&repository.path("c"))] {
        let alone = |arguments: &[&str]| {
            let outcome = Outcome::of(&mut repository.command_on(&[&["-r", place], arguments].concat()));
            outcome.expect(0, &[])
        };
        let log = alone(&["--json", "log"]).stdout;
        let points = points::parse(&serde_json::from_str(&log).expect("a document"));
        assert!(points.len() > 20);
        for point in spread(&points, 6) {
            let target = repository.path("point.db");
            let _ = fs::remove_file(&target);
            let name = database_of(&log, &point.blake3);
            let commit = point.commit.to_string();
            alone(&["restore", "--name", &name, "--commit", &commit, "--to", text(&target)]);
            assert_eq!(crate::support::hash_of(&target), point.blake3);
        }
    }
}

/// The database of the state with this hash.
fn database_of(log: &str, blake3: &str) -> String {
    let log: Value = serde_json::from_str(log).expect("a document");
    let points = log["points"].as_array().expect("a list");
    let point = points.iter().find(|point| point["blake3"] == blake3).expect("it is listed");
    point["database"].as_str().expect("a name").to_owned()
}

fn acknowledged(repository: &Repository, watcher: &Watcher) -> u64 {
    // The status is told once a second.
    sleep(Duration::from_secs(2));
    let status = watcher.status(repository).expect("the watcher runs");
    status["databases"][0]["acknowledged"].as_u64().expect("a number")
}

fn restore_latest(repository: &Repository) -> PathBuf {
    let target = repository.path("latest.db");
    let _ = fs::remove_file(&target);
    run(repository, &["restore", "latest", "--name", "ledger", "--to", text(&target)]).expect(0, &[]);
    target
}
