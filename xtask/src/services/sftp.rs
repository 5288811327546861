//! OpenSSH's server, run by whoever runs the tests, for that user, with keys of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Place, Start, State, ports, programs};
use crate::failure::Failure;

/// The server run by root wants this folder, which the system's service makes when it is started.
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

pub fn start(place: &Place) -> Result<Start, Failure> {
    let Some(sshd) = programs::find("sshd") else {
        return Ok(Start::Missing("there is no `sshd` (Debian: apt-get install openssh-server)".to_owned()));
    };
    if let Some(program) = ["ssh", "sftp", "ssh-keygen"].iter().find(|name| programs::find(name).is_none()) {
        return Ok(Start::Missing(format!("there is no `{program}` (Debian: apt-get install openssh-client)")));
    }
    let (user, user_id) = (output_of("id", &["-un"])?, output_of("id", &["-u"])?);
    if user_id == "0" {
        let folder = Path::new(PRIVILEGE_SEPARATION);
        fs::create_dir_all(folder).map_err(Failure::io("create", folder))?;
    }
    let [port] = ports::free()?;
    let (host_key, key) = (make_key(place, "host_key")?, make_key(place, "client_key")?);
    let authorized = key.with_extension("pub");
    let configuration = place.write("sshd_config", &configuration(port, &user, &host_key, &authorized))?;
    let data = place.new_folder("data")?;
    let process = place.spawn(Command::new(sshd).args(["-D", "-e", "-f"]).arg(configuration), "sshd.log")?;
    let options = format!("key={}&known_hosts=accept", in_url(&key));
    let url = format!("sftp://{user}@127.0.0.1:{port}{}?{options}", in_url(&data));
    Ok(Start::Started(State::new(url, [], vec![process])))
}

/// One user, by one key, for files only. The number of connections at once is not limited as it is on a server in the open.
fn configuration(port: u16, user: &str, host_key: &Path, authorized: &Path) -> String {
    format!(
        "ListenAddress 127.0.0.1:{port}\n\
         HostKey \"{host_key}\"\n\
         PidFile none\n\
         AllowUsers {user}\n\
         PermitRootLogin prohibit-password\n\
         AuthenticationMethods publickey\n\
         AuthorizedKeysFile \"{authorized}\"\n\
         StrictModes no\n\
         UsePAM no\n\
         UseDNS no\n\
         MaxStartups 1000\n\
         MaxSessions 1000\n\
         Subsystem sftp internal-sftp\n\
         ForceCommand internal-sftp\n\
         DisableForwarding yes\n",
        host_key = host_key.display(),
        authorized = authorized.display(),
    )
}

fn make_key(place: &Place, name: &str) -> Result<PathBuf, Failure> {
    let path = place.folder.join(name);
    let text = path.to_string_lossy();
    output_of("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "continuum-tests", "-f", &text])?;
    Ok(path)
}

/// What a command prints, without the end of the line.
fn output_of(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let output = Command::new(program).args(arguments).output().map_err(Failure::io("run", Path::new(program)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("`{program} {}` ended with {}: {}", arguments.join(" "), output.status, said.trim())))
}

/// A path as it stands in a URL: all but letters, digits and a few signs is escaped.
fn in_url(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_in_urls() {
        assert_eq!(in_url(Path::new("/tmp/a-b_c.d~1")), "/tmp/a-b_c.d~1");
        assert_eq!(in_url(Path::new("/a b/ä?&")), "/a%20b/%C3%A4%3F%26");
    }
}
