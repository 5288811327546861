//! Azurite: Microsoft's own emulator of Azure Blob Storage. It keeps everything in memory.

use std::path::PathBuf;
use std::process::Command;

use super::{Place, Start, State, ports, programs};
use crate::failure::Failure;

/// The account that every emulator has, and its key, which is in the documentation of all of them.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

pub fn start(place: &Place) -> Result<Start, Failure> {
    let Some(azurite) = find(place) else {
        let prefix = crate::cargo::target(&place.root).join("services");
        let install = format!("npm install --prefix {} azurite@3.37", prefix.display());
        return Ok(Start::Missing(format!("there is no `azurite-blob`, nor $AZURITE: {install}")));
    };
    if programs::find("node").is_none() {
        return Ok(Start::Missing(
            "there is no `node`, which Azurite runs in (Debian: apt-get install nodejs)".to_owned(),
        ));
    }
    let [port] = ports::free()?;
    let mut command = Command::new(azurite);
    command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
    command.args(["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]);
    let process = place.spawn(&mut command, "azurite.log")?;
    let url = format!("azblob://continuum-tests/suites?endpoint=http://127.0.0.1:{port}/{ACCOUNT}");
    let environment = [("AZURE_STORAGE_ACCOUNT", ACCOUNT), ("AZURE_STORAGE_KEY", KEY)];
    Ok(Start::Started(State::new(url, environment, vec![process])))
}

/// `azurite` alone would serve queues and tables as well; wherever it is, `azurite-blob` is beside it.
fn find(place: &Place) -> Option<PathBuf> {
    let told = std::env::var_os("AZURITE").map(PathBuf::from).filter(|path| programs::is_program(path));
    let installed = crate::cargo::target(&place.root).join("services/node_modules/.bin/azurite-blob");
    told.or_else(|| programs::find("azurite-blob"))
        .or_else(|| Some(installed).filter(|path| programs::is_program(path)))
}
