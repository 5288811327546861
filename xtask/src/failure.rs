//! The one error type of these tools: what failed, on what, and the cause below it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Why a command could not do its work, or what it found wrong.
#[derive(Debug)]
pub struct Failure {
    message: String,
    kind: Kind,
    source: Option<io::Error>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Work,
    Usage,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: Kind::Work, source: None }
    }

    /// The command line is wrong: the usage text is shown and the exit code is 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: Kind::Usage, source: None }
    }

    /// For `map_err`: `action` on `path` met an I/O error.
    pub fn io(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let message = format!("{action} {}", path.display());
        move |source| Self { message, kind: Kind::Work, source: Some(source) }
    }

    pub fn is_usage(&self) -> bool {
        self.kind == Kind::Usage
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.is_usage() { 2 } else { 1 })
    }

    /// The message and its cause, on one line.
    pub fn chain(&self) -> String {
        match &self.source {
            Some(cause) => format!("error: {self}: {cause}"),
            None => format!("error: {self}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|cause| cause as &(dyn Error + 'static))
    }
}
