//! The configuration file, as the real program reads it: where it is looked for, what comes before it, what it refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod scratch;

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use scratch::{CHEAP, Outcome, PASSWORD, Scratch, finish, make_database};

/// Where the program looks first, in these tests: below the scratch place's home folder.
const FILE: &str = ".config/continuum/continuum.toml";

fn write(scratch: &Scratch, name: &str, text: &str) {
    let path = scratch.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The program, without a repository in its environment.
fn command(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = scratch.command();
    command.env_remove("CONTINUUM_REPOSITORY").args(arguments);
    command
}

fn run(scratch: &Scratch, arguments: &[&str]) -> Outcome {
    finish(&mut command(scratch, arguments))
}

/// Which repository is used, seen from the message that it is none.
#[track_caller]
fn expect_repository(command: &mut Command, name: &str) {
    finish(command).expect(1, &[&format!("{name}: not a continuum repository")]);
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_file() {
    let scratch = Scratch::new();
    write(&scratch, FILE, "repository = '/absent/of-the-file'");
    expect_repository(&mut command(&scratch, &["stats"]), "/absent/of-the-file");
    let environment = ("CONTINUUM_REPOSITORY", "/absent/of-the-environment");
    expect_repository(command(&scratch, &["stats"]).env(environment.0, environment.1), environment.1);
    for arguments in [["-r", "/absent/of-the-flag", "stats"], ["stats", "-r", "/absent/of-the-flag"]] {
        expect_repository(command(&scratch, &arguments).env(environment.0, environment.1), "/absent/of-the-flag");
    }
    // What is built in comes last.
    run(&scratch, &["--config", "/dev/null", "stats"]).expect(2, &["no repository named", "configuration file"]);
}

#[test]
fn the_first_file_of_the_search_path_is_read() {
    let scratch = Scratch::new();
    // The current folder is not among them.
    write(&scratch, "continuum.toml", "repository = '/absent/here'");
    write(&scratch, "continuum/continuum.toml", "repository = '/absent/here'");
    run(&scratch, &["--config", "/dev/null", "stats"]).expect(2, &["no repository named"]);
    write(&scratch, FILE, "repository = '/absent/home'");
    expect_repository(&mut command(&scratch, &["stats"]), "/absent/home");
    write(&scratch, "xdg/continuum/continuum.toml", "repository = '/absent/xdg'");
    let xdg = scratch.path("xdg");
    expect_repository(command(&scratch, &["stats"]).env("XDG_CONFIG_HOME", &xdg), "/absent/xdg");
    expect_repository(command(&scratch, &["stats"]).env("XDG_CONFIG_HOME", "xdg"), "/absent/home");
    write(&scratch, "named.toml", "repository = '/absent/named'");
    let named = scratch.path("named.toml");
    let with_both = |arguments: &[&str]| {
        let mut command = command(&scratch, arguments);
        command.env("XDG_CONFIG_HOME", &xdg).env("CONTINUUM_CONFIG", &named);
        command
    };
    expect_repository(&mut with_both(&["stats"]), "/absent/named");
    expect_repository(&mut with_both(&["stats", "--config", "continuum.toml"]), "/absent/here");
    let help = scratch.run(&["--help"]).expect(0, &[]).stdout;
    for words in ["$XDG_CONFIG_HOME/continuum/continuum.toml", "/etc/continuum/continuum.toml", "CONTINUUM_CONFIG"] {
        assert!(help.contains(words), "{words:?} expected in {help}");
    }
}

/// The whole job with nothing on the command line, from another folder: paths begin at the file.
#[test]
fn a_file_can_say_everything() {
    let scratch = Scratch::new();
    make_database(&scratch.path("a.db"), 50);
    make_database(&scratch.path("b.db"), 50);
    let text = "repository = '../../backup'\nquiet = true\n[init]\nkdf-memory-mib = 1\nkdf-passes = 1\n\
                [snapshot]\ntag = ['nightly', 'all']\ncompression = 'lz4'\n[restore]\nname = 'second'\nto = '../../c.db'\n\
                [[database]]\npath = '../../a.db'\n[[database]]\npath = '../../b.db'\nname = 'second'\n";
    write(&scratch, FILE, text);
    fs::create_dir(scratch.path("elsewhere")).unwrap();
    let run =
        |arguments: &[&str]| finish(command(&scratch, arguments).current_dir(scratch.path("elsewhere"))).expect(0, &[]);
    for arguments in [&["init"][..], &["snapshot"], &["restore"]] {
        let Outcome { stdout, stderr, .. } = run(arguments);
        assert_eq!((stdout.as_str(), stderr.as_str()), ("", ""), "quiet");
    }
    assert!(scratch.path("backup").exists() && scratch.path("c.db").exists());
    assert_eq!(fs::read_dir(scratch.path("elsewhere")).unwrap().count(), 0);
    assert!(run(&["snapshot", "-v"]).stdout.contains("snapshot "), "-v displaces quiet");
    assert!(run(&["snapshot", "--quiet=false"]).stdout.contains("snapshot "));
    // A database on the command line is the only one, a tag too.
    let taken = run(&["snapshot", "--json", "--tag", "one", "--name", "third", "../a.db"]);
    let taken: Value = serde_json::from_str(&taken.stdout).unwrap();
    assert_eq!(taken["snapshots"].as_array().unwrap().len(), 1);
    let listed: Value = serde_json::from_str(&run(&["snapshots", "--json"]).stdout).unwrap();
    let listed = listed["snapshots"].as_array().unwrap().iter();
    let listed: Vec<_> = listed.map(|snapshot| (snapshot["database"].as_str().unwrap(), &snapshot["tags"])).collect();
    let count = |name: &str, tags: Value| listed.iter().filter(|(of, with)| *of == name && **with == tags).count();
    let counts = [count("a", ["nightly", "all"].into()), count("second", ["nightly", "all"].into())];
    assert_eq!((counts, count("third", ["one"].into()), listed.len()), ([3, 3], 1, 7));
}

#[test]
fn watch_follows_the_databases_of_the_file() {
    let scratch = Scratch::with_repository();
    make_database(&scratch.path("a.db"), 50);
    make_database(&scratch.path("b.db"), 50);
    let text = "[watch]\nflush-interval = 0.05\n[[database]]\npath = '../../a.db'\n[[database]]\npath = '../../b.db'\nname = 'bee'\n";
    write(&scratch, FILE, text);
    let mut watcher = scratch.command();
    let mut watcher = watcher.arg("watch").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let names = loop {
        let status = scratch.json(&["snapshots"]);
        let snapshots = status["snapshots"].as_array().unwrap().iter();
        let mut names: Vec<_> = snapshots.map(|snapshot| snapshot["database"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names.dedup();
        if names.len() == 2 || Instant::now() > end {
            break names;
        }
        sleep(Duration::from_millis(50));
    };
    kill_process(Pid::from_child(&watcher), Signal::TERM).unwrap();
    assert!(watcher.wait().unwrap().success());
    assert_eq!(names, ["a", "bee"]);
}

#[test]
fn databases_must_be_named_somewhere_and_once() {
    let scratch = Scratch::with_repository();
    for command in ["snapshot", "watch"] {
        scratch.run(&[command]).expect(2, &["no database named", "[[database]]"]);
        write(&scratch, FILE, "[[database]]\npath = '/a/x.db'\n[[database]]\npath = '/b/x.db'\n");
        scratch.run(&[command]).expect(2, &["/a/x.db and /b/x.db would both be named \"x\""]);
        scratch.run(&[command, "--name", "y"]).expect(2, &["none is given there"]);
        fs::remove_file(scratch.path(FILE)).unwrap();
    }
}

#[test]
fn a_wrong_file_is_named_with_line_key_and_suggestion() {
    let scratch = Scratch::new();
    let name = format!("{}", scratch.path(FILE).display());
    for (text, words) in [
        (
            "[watch]\nflush-intervall = 1",
            &[":2: unknown key \"flush-intervall\" in [watch]; did you mean \"flush-interval\"?"][..],
        ),
        ("\nrepositry = 'x'", &[":2: unknown key \"repositry\"; did you mean \"repository\"?"]),
        ("quiet = 'yes'", &[":1: key \"quiet\": true or false expected, a string found"]),
        (
            "[snapshot]\nstrategy = 'often'",
            &[":2: key \"strategy\" in [snapshot]: invalid value \"often\": one of auto, full"],
        ),
        (
            "password = 'hunter2'",
            &[":1: unknown key \"password\"", "CONTINUUM_PASSWORD_FILE or CONTINUUM_PASSWORD_COMMAND"],
        ),
        ("quiet = true\n[[database]\n", &[":2: not TOML"]),
    ] {
        write(&scratch, FILE, text);
        let outcome = run(&scratch, &["version"]).expect(2, words);
        assert!(outcome.stderr.contains(&name) && !outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
        let document: Value = serde_json::from_str(&run(&scratch, &["version", "--json"]).stderr).unwrap();
        assert_eq!((&document["format"], &document["exit_code"]), (&"continuum.error/1".into(), &2.into()));
        // Help does not depend on it, and another file can be taken.
        run(&scratch, &["snapshot", "--help"]).expect(0, &[]);
        run(&scratch, &["version", "--config", "/dev/null"]).expect(0, &[]);
    }
    write(&scratch, FILE, "json = true");
    let document: Value = serde_json::from_str(&run(&scratch, &["stats", "--bogus"]).stderr).unwrap();
    assert_eq!(document["format"], "continuum.error/1", "what is wrong with the arguments, too");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let scratch = Scratch::new();
    run(&scratch, &["--config", "absent.toml", "version"]).expect(2, &["absent.toml: no such configuration file"]);
    finish(command(&scratch, &["version"]).env("CONTINUUM_CONFIG", "absent.toml")).expect(2, &["absent.toml: no such"]);
    // A folder stands for what may not be read: the superuser may read every file.
    fs::create_dir_all(scratch.path(FILE)).unwrap();
    run(&scratch, &["version"]).expect(2, &[FILE, "the configuration file cannot be read: "]);
    fs::write(scratch.path("bytes.toml"), [0xff; 10]).unwrap();
    run(&scratch, &["--config", "bytes.toml", "version"])
        .expect(2, &["bytes.toml: the configuration file cannot be read"]);
    run(&scratch, &["--config", "/dev/zero", "version"]).expect(2, &["/dev/zero: longer than 1048576 bytes"]);
}

/// Until there are several destinations, one may not silently be left out.
#[test]
fn every_repository_counts() {
    let scratch = Scratch::new();
    let message = "--repository is given before and after the command";
    run(&scratch, &["-r", "a", "stats", "-r", "b"]).expect(2, &[message]);
    write(&scratch, FILE, "repository = ['a', 'b']");
    run(&scratch, &["stats", "-r", "c"]).expect(1, &["c: not a continuum repository"]);
    let init = [&["-r", "c", "init"][..], &CHEAP].concat();
    finish(command(&scratch, &init).env("CONTINUUM_PASSWORD", PASSWORD)).expect(0, &[]);
    run(&scratch, &["stats", "-r", "c"]).expect(0, &[]);
}
