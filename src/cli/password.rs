//! Where passwords come from: the environment, a file, a command, or a prompt; never an argument, which other users could see.

use std::io::IsTerminal;
use std::process::Command;

use secrecy::{ExposeSecret, SecretString};

use super::error::CliError;

/// The password of the repository.
pub fn current() -> Result<SecretString, CliError> {
    match from_environment("CONTINUUM_PASSWORD")? {
        Some(password) => Ok(password),
        None => prompt("CONTINUUM_PASSWORD", "Password: "),
    }
}

/// The password of the repository that is copied to.
pub fn destination() -> Result<SecretString, CliError> {
    match from_environment("CONTINUUM_TO_PASSWORD")? {
        Some(password) => Ok(password),
        None => prompt("CONTINUUM_TO_PASSWORD", "Password of the destination: "),
    }
}

/// The password of a repository that is about to be made.
pub fn first() -> Result<SecretString, CliError> {
    chosen("CONTINUUM_PASSWORD", "Password for the new repository: ")
}

/// A further password, for `key add`.
pub fn additional() -> Result<SecretString, CliError> {
    chosen("CONTINUUM_NEW_PASSWORD", "New password: ")
}

fn chosen(variable: &str, question: &str) -> Result<SecretString, CliError> {
    let password = match from_environment(variable)? {
        Some(password) => password,
        None => prompt_twice(variable, question)?,
    };
    if password.expose_secret().is_empty() {
        return Err(CliError::usage("an empty password protects nothing"));
    }
    Ok(password)
}

/// From `variable`, `variable_FILE` or `variable_COMMAND`, whichever is set first.
fn from_environment(variable: &str) -> Result<Option<SecretString>, CliError> {
    let set = |name: &str| std::env::var(name).ok();
    if let Some(password) = set(variable) {
        return Ok(Some(password.into()));
    }
    let file = format!("{variable}_FILE");
    if let Some(path) = set(&file) {
        let content = std::fs::read_to_string(&path);
        let content = content.map_err(|error| CliError::failed(format!("{file}: cannot read {path}: {error}")))?;
        return Ok(Some(without_line_end(content)));
    }
    let command = format!("{variable}_COMMAND");
    set(&command).map(|line| run(&command, &line)).transpose()
}

fn run(variable: &str, line: &str) -> Result<SecretString, CliError> {
    let output = Command::new("sh").args(["-c", line]).stderr(std::process::Stdio::inherit()).output();
    let output = output.map_err(|error| CliError::failed(format!("{variable}: cannot run the command: {error}")))?;
    if !output.status.success() {
        return Err(CliError::failed(format!("{variable}: the command ended with {}", output.status)));
    }
    let text = String::from_utf8(output.stdout);
    text.map(without_line_end).map_err(|_| CliError::failed(format!("{variable}: the command printed no UTF-8 text")))
}

fn without_line_end(mut text: String) -> SecretString {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text.into()
}

/// Asks; where nobody can be asked, says which `variable` would have answered.
fn prompt(variable: &str, question: &str) -> Result<SecretString, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage("no password: there is no terminal to ask on")
            .with_hint(format!("set {variable}, {variable}_FILE or {variable}_COMMAND")));
    }
    let answer = rpassword::prompt_password(question);
    answer.map(SecretString::from).map_err(|error| CliError::failed(format!("cannot ask for the password: {error}")))
}

fn prompt_twice(variable: &str, question: &str) -> Result<SecretString, CliError> {
    let first = prompt(variable, question)?;
    let again = prompt(variable, "Once more: ")?;
    if first.expose_secret() != again.expose_secret() {
        return Err(CliError::usage("the two passwords differ"));
    }
    Ok(first)
}
