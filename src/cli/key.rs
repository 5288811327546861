//! `continuum key`

use clap::{Args, Subcommand};
use serde_json::json;

use crate::base::id::SlotId;
use crate::crypto::password::Cost;
use crate::format::key_slot::{KeySlot, MAX_LABEL_BYTES};
use crate::repo::{self, Repository};

use super::error::{CliError, DAMAGE, DONE};
use super::session::Session;
use super::snapshots::report_faults;
use super::{output, password, time};

/// Subcommands of `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Add a password
    #[command(after_help = "\
The new password comes from CONTINUUM_NEW_PASSWORD, CONTINUUM_NEW_PASSWORD_FILE or CONTINUUM_NEW_PASSWORD_COMMAND, or is asked for.

Example:
  continuum -r /backup/repo key add --label \"safe in the office\"")]
    Add(AddArguments),
    /// List key slots
    List,
    /// Remove a key slot: its password no longer opens the repository
    #[command(after_help = "\
Whoever has used the password before may have kept the key itself: removing a slot does not change the key.

Example:
  continuum -r /backup/repo key remove 1a2b3c4d5e6f7081")]
    Remove {
        /// The slot, as `key list` prints it, or the beginning of it
        slot: String,
    },
}

/// Options of `key add`.
#[derive(Debug, Args)]
pub struct AddArguments {
    /// What to call the slot
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,
    #[command(flatten)]
    cost: CostArguments,
}

/// What guessing the password shall cost.
#[derive(Debug, Args)]
pub struct CostArguments {
    /// Memory of Argon2id in MiB
    #[arg(long, default_value_t = Cost::default().memory_kib >> 10, value_parser = clap::value_parser!(u32).range(1..=1024))]
    kdf_memory_mib: u32,
    /// Passes of Argon2id over its memory
    #[arg(long, default_value_t = Cost::default().passes, value_parser = clap::value_parser!(u32).range(1..=16))]
    kdf_passes: u32,
}

impl CostArguments {
    /// As the core takes it.
    pub fn cost(&self) -> Cost {
        Cost { memory_kib: self.kdf_memory_mib << 10, passes: self.kdf_passes, ..Cost::default() }
    }
}

/// Manages key slots.
pub fn run(session: &Session, command: KeyCommand) -> Result<u8, CliError> {
    match command {
        KeyCommand::Add(arguments) => add(session, arguments),
        KeyCommand::List => list(session),
        KeyCommand::Remove { slot } => remove(session, &slot),
    }
}

/// A label that fits into a slot.
pub fn checked_label(label: String) -> Result<String, CliError> {
    if label.len() <= MAX_LABEL_BYTES { Ok(label) } else { Err(CliError::usage("--label: at most 255 bytes expected")) }
}

fn add(session: &Session, arguments: AddArguments) -> Result<u8, CliError> {
    let label = checked_label(arguments.label)?;
    let repository = session.open()?;
    let slot = repo::add_password(&repository, &password::additional()?, label, arguments.cost.cost())?;
    if session.json() {
        session.print_json("continuum.key-add/1", json!({ "slot": slot.to_string() }));
    } else if !session.quiet() {
        output::line(format!("added key slot {slot}"));
    }
    Ok(DONE)
}

fn list(session: &Session) -> Result<u8, CliError> {
    let repository = session.open()?;
    let (mut slots, faults) = repo::key_slots(&repository)?;
    slots.sort_by_key(|slot| slot.created);
    if session.json() {
        let slot = |slot: &KeySlot| json!({ "slot": slot.slot.to_string(), "kind": "password", "created": time::utc(slot.created), "label": slot.label });
        session.print_json("continuum.key-list/1", json!({ "slots": slots.iter().map(slot).collect::<Vec<_>>() }));
    } else {
        let row = |slot: &KeySlot| {
            vec![slot.slot.to_string(), "password".into(), time::local(slot.created), slot.label.clone()]
        };
        let rows: Vec<Vec<String>> = slots.iter().map(row).collect();
        output::print(&output::table(&["slot", "kind", "created", "label"], &rows, &[]));
    }
    report_faults(&faults);
    Ok(if faults.is_empty() { DONE } else { DAMAGE })
}

fn remove(session: &Session, prefix: &str) -> Result<u8, CliError> {
    let repository = session.open()?;
    let slot = find(&repository, prefix)?;
    repo::remove_slot(&repository, slot)?;
    if session.json() {
        session.print_json("continuum.key-remove/1", json!({ "slot": slot.to_string() }));
    } else if !session.quiet() {
        output::line(format!("removed key slot {slot}"));
    }
    Ok(DONE)
}

fn find(repository: &Repository, prefix: &str) -> Result<SlotId, CliError> {
    let (slots, _) = repo::key_slots(repository)?;
    let matching: Vec<SlotId> =
        slots.iter().map(|slot| slot.slot).filter(|slot| slot.to_string().starts_with(prefix)).collect();
    match matching[..] {
        [slot] => Ok(slot),
        [] => Err(CliError::failed(format!("no key slot begins with {prefix:?}"))
            .with_hint("`continuum key list` lists them")),
        _ => Err(CliError::failed(format!("{} key slots begin with {prefix:?}", matching.len()))
            .with_hint("give more digits")),
    }
}
