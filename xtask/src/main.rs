//! `cargo xtask <command>`: the project's own checks and measurements.
//!
//! | command | what it does | module |
//! |---|---|---|
//! | `tidy` | checks the style that a program can check | [`tidy`] |
//! | `ci` | everything that must pass before a change is merged | [`ci`] |
//! | `test` | the suites again, with their repositories on real servers | [`test`] |
//! | `services` | starts and stops those servers | [`services`] |
//! | `simulate` | runs the project's code in a simulated world that fails in every way | [`simulate`] |
//! | `crash` | the program killed, and given errors, at each of its write-like system calls | [`crash`] |
//! | `fuzz` | every decoder on bytes that a fuzzer makes up | [`fuzz`] |
//! | `mutants` | whether the tests notice when code is wrong that data depend on | [`mutants`] |
//! | `together` | backups, a watcher, forget and prune at once, for minutes | [`together`] |
//! | `soak` | random runs of a watched database, for as long as told | [`soak`] |
//! | `reliability` | all of these long proofs, and the table of README.md | [`reliability`] |
//! | `bench` | compares us with other backup tools, side by side | [`bench`] |
//!
//! Ends with 0 when all is well, 1 when a check or a step failed, 2 when the command line is wrong.

mod arguments;
mod bench;
mod cargo;
mod ci;
mod crash;
mod failure;
mod fuzz;
mod mutants;
mod project;
mod reliability;
mod services;
mod simulate;
mod soak;
mod test;
mod tidy;
mod together;

use std::process::ExitCode;

use arguments::Arguments;
use failure::Failure;

const USAGE: &str = "\
usage: cargo xtask <command>

  tidy                      check the style that a program can check
  ci [--cargo-profile NAME] format, clippy, tidy, tests, tests on servers, doc tests, 50,000 simulated runs; stops at the
                            first failure
  test [options] [-- ARGS]  the tests of snapshot, restore, check and watch with their repositories on real
                            servers, which are started if need be; ARGS are for nextest
      --only NAME             on this one: s3, azblob, gcs, sftp, or destinations, which needs s3 and sftp at once
                              (may be repeated; default: all installed)
      --cargo-profile NAME    what is built (default dev)
  services up [NAME]...     start servers on loopback (default: all; also lying-s3, which ignores conditions)
  services down|status [NAME]...
                            stop them and remove what they keep; say which run
  services env [NAME]...    what their clients need, as lines for a shell; with one NAME also
                            CONTINUUM_TEST_STORE, with which the tests can be run on it by hand
  simulate [options]        the project's code in a simulated world that fails in every way, then with bugs planted
      --seeds N               so many runs (default 1000000)
      --wide N                then so many with several destinations and repairs, too (default 2000)
      --seed N [--trace] [--in-wide]
                              this one; with all that happens in it; in a wide world
      --cargo-profile NAME    what is built (default simulation: optimised, with all checks)
  crash [options]           kills the program, and lets its disk fail, at each call that changes a file; and looks
                            at what is left (a part of it is run with the tests)
      --command TEXT          only commands with this in their names, as the table shows them
      --fault TEXT            only faults with this in their names
      --call N                only at this call
      --cargo-profile NAME    what is built (default dev)
  fuzz [options]            gives every decoder bytes that a fuzzer makes up; needs nightly Rust and cargo-fuzz
      --seconds N             for each target (default 60)
      --target NAME           only this one (may be repeated)
  mutants [--group NAME]... changes code that data depend on, and counts what no test notices; needs cargo-mutants
                            (groups: wal, crypto, forget, standing, prune, restore; default all: hours)
  soak [options]            random runs of a watched database: each restore must be a committed state
      --minutes N             for so long (default 10)
      --seed N                of the first run (default 1000)
      --cargo-profile NAME    what is built (default release)
  together [options]        backups, a watcher, forget and prune at once: nothing is lost, and the space comes back
      --minutes N             for so long (default 3)
      --on NAME               with the repository on this service (default: in a folder)
      --cargo-profile NAME    what is built (default dev)
  reliability [options]     simulate, crash, together (in a folder and on s3), soak, fuzz and mutants, one after the
                            other, which takes most of a day; prints the table of README.md
      --seeds N               of simulate (default 1000000)
      --minutes N             of together and soak (default 5)
      --seconds N             of fuzz, for each target (default 600)
      --without NAME          without this one (may be repeated)
  bench peers [options]     compare with other tools; one that is not installed is left out
                            (build --release first)
      --phase full            full backups and restores: restic, rustic, borg, zstd, cp (default)
      --phase incremental     the next backup after a small change: restic, rustic, borg, litestream
      --phase watch           continuous capture beside an application that writes: litestream
      --phase idle            continuous capture of 200 databases that nobody uses
      --phase s3, --s3        full and next backups to an S3 server on loopback (the service s3, started if need
                              be) and restores, ours to a folder as well: restic, rustic, the server's own PUTs
      --binary PATH           measure this continuum (default: what --release built)
      --database PATH         measure this database (default: make one)
      --mebibytes N           size of the database to make (default 1024)
      --runs N                paired rounds (default 5)
      --dir DIR               where to work, about 9 times the database's size (default: temporary)
      --memory-mebibytes N    also measure our peak memory on a database of this size
      --peers-only            leave ourselves out
";

fn main() -> ExitCode {
    let mut arguments = Arguments::new(std::env::args().skip(1));
    match dispatch(&mut arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.chain());
            if failure.is_usage() {
                eprint!("\n{USAGE}");
            }
            failure.exit_code()
        }
    }
}

fn dispatch(arguments: &mut Arguments) -> Result<(), Failure> {
    let root = project::root();
    if arguments.asks_for_help() {
        print!("{USAGE}");
        return Ok(());
    }
    match arguments.take_word().as_deref() {
        Some("tidy") => {
            arguments.finish()?;
            tidy::run(&root)
        }
        Some("ci") => ci::run(&root, &ci::Options::parse(arguments)?),
        Some("test") => test::run(&root, &test::Options::parse(arguments)?),
        Some("services") => services::run(&root, arguments),
        Some("simulate") => simulate::run(&root, &simulate::Options::parse(arguments)?),
        Some("crash") => crash::run(&root, &crash::Options::parse(arguments)?),
        Some("fuzz") => fuzz::run(&root, &fuzz::Options::parse(arguments)?),
        Some("mutants") => mutants::run(&root, &mutants::Options::parse(arguments)?),
        Some("soak") => soak::run(&root, &soak::Options::parse(arguments)?),
        Some("together") => together::run(&root, &together::Options::parse(arguments)?),
        Some("reliability") => reliability::run(&root, &reliability::Options::parse(arguments)?),
        Some("bench") => bench::run(&root, arguments),
        Some(other) => Err(Failure::usage(format!("there is no command `{other}`"))),
        None => Err(Failure::usage("a command is missing")),
    }
}
