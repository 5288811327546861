//! `cargo xtask tidy`: the style that a program can check.
//!
//! Each violation is printed as `path:line: message`; any of them makes the command fail. The
//! checks:
//!
//! * [`layers`]: imports go downward along the layer table only;
//! * [`words`]: clock, entropy, environment, sockets, threads, output, panics stay where they
//!   belong;
//! * [`shape`]: module docs, module names, lengths of files and functions;
//! * [`documents`]: paths named in documents exist, and no file names a place outside the project.
//!
//! They read text, not types. They know comments, literals, test code and `use` trees apart
//! ([`rust_source`]), but a determined author can fool them: they catch slips, not malice.

mod documents;
mod layers;
mod rust_source;
mod shape;
mod words;

use std::fmt;
use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::project;
use rust_source::RustSource;

/// A place in the project that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    path: String,
    /// Counted from 1.
    line: usize,
    message: String,
}

impl Violation {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Prints every violation; fails if there is one.
pub fn run(root: &Path) -> Result<(), Failure> {
    let violations = check(root)?;
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => Ok(()),
        1 => Err(Failure::new("tidy found 1 violation")),
        count => Err(Failure::new(format!("tidy found {count} violations"))),
    }
}

fn check(root: &Path) -> Result<Vec<Violation>, Failure> {
    let files = project::files(root)?;
    let mut violations = Vec::new();
    for path in &files {
        // What is not UTF-8 is not source: frozen repositories, for example.
        let Some(text) = read_text(&root.join(path))? else {
            continue;
        };
        violations.extend(documents::check(path, &text, &|named| root.join(named).exists()));
        if project::is_rust(path) {
            violations.extend(check_rust(&RustSource::new(path, &text)));
        }
        if path == "src/lib.rs" {
            violations.extend(layers::check_docs(&text, &files));
        }
    }
    violations.sort();
    Ok(violations)
}

fn check_rust(source: &RustSource) -> Vec<Violation> {
    let mut violations = layers::check(source);
    violations.extend(words::check(source));
    violations.extend(shape::check(source));
    violations
}

fn read_text(path: &Path) -> Result<Option<String>, Failure> {
    let bytes = fs::read(path).map_err(Failure::io("read", path))?;
    Ok(String::from_utf8(bytes).ok())
}

/// For the checks' tests: `expected` gives the line and a part of the message of each violation, in
/// order of the lines.
#[cfg(test)]
fn assert_violations(found: &[Violation], expected: &[(usize, &str)]) {
    let mut found = found.to_vec();
    found.sort();
    let matches = |(violation, (line, part)): (&Violation, &(usize, &str))| {
        violation.line == *line && violation.message.contains(part)
    };
    let all_match = found.iter().zip(expected).all(matches);
    assert!(found.len() == expected.len() && all_match, "found {found:?}, expected {expected:?}");
}
