//! Running cargo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;

/// Where the tests put their repositories, if not into folders.
pub const TEST_STORE: &str = "CONTINUUM_TEST_STORE";

/// Runs `cargo` with these arguments in `root`; names and values of `environment` are added to ours. It must succeed. A [`TEST_STORE`] that the
/// caller's shell happens to have is not passed on.
pub fn run(root: &Path, arguments: &[&str], environment: &[(String, String)]) -> Result<(), Failure> {
    let mut command = command();
    command.args(arguments).current_dir(root).stdin(Stdio::null());
    command.env_remove(TEST_STORE).envs(environment.iter().cloned());
    let status = command.status().map_err(Failure::io("run", Path::new("cargo")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("`cargo {}` ended with {status}", arguments.join(" "))))
}

/// Where cargo puts what it builds.
pub fn target(root: &Path) -> PathBuf {
    let set = std::env::var_os("CARGO_TARGET_DIR").filter(|set| !set.is_empty());
    let path = set.map_or_else(|| root.join("target"), PathBuf::from);
    std::path::absolute(&path).unwrap_or(path)
}

/// Where programs are that were built with this profile.
pub fn built(root: &Path, profile: &str) -> PathBuf {
    target(root).join(if profile == "dev" { "debug" } else { profile })
}

/// Whether `cargo nextest` can be run.
pub fn has_nextest() -> bool {
    let mut probe = command();
    probe.args(["nextest", "--version"]);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// The cargo that runs us, so that a `+toolchain` on the command line holds for every step.
pub fn command() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
