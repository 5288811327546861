//! The `continuum` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    continuum::cli::main()
}
