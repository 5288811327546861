//! Where the project lies and which files belong to it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Directories that hold what tools made, not what people wrote.
const SKIPPED_DIRECTORIES: &[&str] = &[".git", "target", "__pycache__", "mutants.out"];

/// Where Rust code lies.
const RUST_DIRECTORIES: &[&str] = &["src", "xtask/src", "tests", "benches", "fuzz/src", "simulation/src"];

/// The repository's root: the folder above xtask's own.
pub fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// Every file of the project, as sorted paths relative to `root`, with `/` between their parts.
/// Symbolic links are not followed.
pub fn files(root: &Path) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    collect(root, "", &mut found)?;
    found.sort();
    Ok(found)
}

/// Whether `path` (relative) is one of our Rust files.
pub fn is_rust(path: &str) -> bool {
    path.ends_with(".rs") && RUST_DIRECTORIES.iter().any(|directory| lies_in(path, directory))
}

/// Whether the file `path` is `place`, lies in the folder `place`, or is the module file
/// `place.rs`.
pub fn lies_in(path: &str, place: &str) -> bool {
    match path.strip_prefix(place) {
        Some(rest) => rest.is_empty() || rest == ".rs" || rest.starts_with('/'),
        None => false,
    }
}

fn collect(root: &Path, below: &str, found: &mut Vec<String>) -> Result<(), Failure> {
    let directory = root.join(below);
    let list = |error| Failure::io("list", &directory)(error);
    for entry in fs::read_dir(&directory).map_err(list)? {
        let entry = entry.map_err(list)?;
        let kind = entry.file_type().map_err(list)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if kind.is_file() {
            found.push(path);
        } else if kind.is_dir() && !SKIPPED_DIRECTORIES.contains(&name.as_str()) {
            collect(root, &path, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_file_a_folder_or_a_module_file() {
        assert!(lies_in("src/base/clock.rs", "src/base/clock.rs"));
        assert!(lies_in("src/cli/snapshot.rs", "src/cli"));
        assert!(lies_in("src/cli.rs", "src/cli"));
        assert!(!lies_in("src/client/mod.rs", "src/cli"));
        assert!(!lies_in("tests/src/cli/mod.rs", "src/cli"));
    }

    #[test]
    fn finds_its_own_source() {
        let found = files(&root()).unwrap();
        assert!(found.contains(&"xtask/src/project.rs".to_owned()));
        assert!(found.is_sorted());
    }
}
