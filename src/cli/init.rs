//! `continuum init`

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::crypto::aead::Suite;
use crate::repo::{self, InitOptions};

use super::error::{CliError, DONE};
use super::key::{CostArguments, checked_label};
use super::session::{Session, fitting_environment};
use super::{output, password};

/// Options of `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without the password nobody can read the repository, you included: keep it in a second place.

Example:
  CONTINUUM_PASSWORD_FILE=~/.continuum-password continuum -r /backup/repo init")]
pub struct InitArguments {
    /// Cipher of everything in the repository
    #[arg(long, value_enum, default_value_t = Cipher::Aes256Gcm)]
    cipher: Cipher,
    /// Label of the first key slot
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,
    #[command(flatten)]
    cost: CostArguments,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Cipher {
    /// AES-256-GCM
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
    /// ChaCha20-Poly1305, faster on processors without AES instructions
    #[value(name = "chacha20-poly1305")]
    ChaCha20Poly1305,
}

/// Makes a repository.
pub fn run(session: &Session, arguments: InitArguments) -> Result<u8, CliError> {
    let store = session.store()?;
    repo::require_no_config(&*store)?;
    let suite = match arguments.cipher {
        Cipher::Aes256Gcm => Suite::Aes256Gcm,
        Cipher::ChaCha20Poly1305 => Suite::ChaCha20Poly1305,
    };
    let cost = arguments.cost.cost();
    let label = checked_label(arguments.label)?;
    let options = InitOptions { suite: Some(suite), label, cost, ..InitOptions::default() };
    let environment = fitting_environment(&*store);
    let repository = repo::init(store, &password::first()?, options, environment)?;
    let (id, location) = (repository.config().repository, repository.location());
    if session.json() {
        session.print_json(
            "continuum.init/1",
            json!({ "repository": id.to_string(), "location": location, "cipher": suite.to_string(), "single_writer": repository.config().single_writer }),
        );
    } else if !session.quiet() {
        output::line(format!("repository {id} is ready at {location}"));
        if repository.config().single_writer {
            output::line(
                "WARNING: this destination does not refuse to overwrite. Let only one process at a time write to the repository.",
            );
        }
        output::line("Keep the password in a second place: without it nobody can restore anything.");
    }
    Ok(DONE)
}
