//! Our own small Google Cloud Storage: no emulator that can be installed has the generations and conditions that a repository needs.

use std::process::Command;

use super::{Place, Start, State, ports, programs};
use crate::failure::Failure;

pub fn start(place: &Place) -> Result<Start, Failure> {
    if programs::find("python3").is_none() {
        return Ok(Start::Missing("there is no `python3` (Debian: apt-get install python3)".to_owned()));
    }
    let [port] = ports::free()?;
    let mut command = Command::new("python3");
    command.arg("-B").arg(place.server("fake_gcs.py")).arg(port.to_string());
    let process = place.spawn(&mut command, "fake_gcs.log")?;
    let endpoint = format!("http://127.0.0.1:{port}");
    let url = format!("gs://continuum-tests/suites?endpoint={endpoint}");
    // The variable by which Google's own libraries know an emulator, which needs no credentials.
    Ok(Start::Started(State::new(url, [("STORAGE_EMULATOR_HOST", &endpoint)], vec![process])))
}
