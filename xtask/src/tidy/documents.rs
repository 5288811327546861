//! Documents name what exists, and nothing names a place outside the project.
//!
//! In README.md, RUNBOOK.md and format-spec/*.md, relative links and backticked repository paths
//! must lead somewhere. In every text file, paths of the machine it was written on are refused:
//! they mean nothing to anyone else.

use std::path::{Component, Path, PathBuf};

use super::Violation;

/// How a backticked token begins when it is a path of the repository.
const PATH_PREFIXES: &[&str] = &["src/", "tests/", "benches/", "xtask/", "format-spec/", ".ci/"];

/// A token with one of these is a pattern or a command, not a path.
const NOT_IN_PATHS: &[char] = &['<', '>', '*', '{', '}', '$', '…', ' ', '|'];

/// `exists` says whether a path, relative to the root, is there.
pub fn check(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<Violation> {
    let mut violations = check_workplace(path, text);
    if is_document(path) {
        for (at, line) in prose_lines(text) {
            for named in dead_paths(path, line, exists) {
                violations.push(Violation::new(path, at, format!("`{named}` does not exist")));
            }
        }
    }
    violations
}

fn is_document(path: &str) -> bool {
    let in_spec = path.strip_prefix("format-spec/").is_some_and(|rest| !rest.contains('/'));
    matches!(path, "README.md" | "RUNBOOK.md") || (in_spec && path.ends_with(".md"))
}

/// Built from parts, so that this file does not contain what it looks for.
fn workplace_needles() -> [String; 3] {
    [["/wo", "rk/"], ["../sha", "red"], ["fa", "rm-"]].map(|parts| parts.concat())
}

fn check_workplace(path: &str, text: &str) -> Vec<Violation> {
    let needles = workplace_needles();
    let mut violations = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for needle in needles.iter().filter(|needle| line.contains(needle.as_str())) {
            let message = format!("`{needle}` names a place outside the project");
            violations.push(Violation::new(path, at + 1, message));
        }
    }
    violations
}

/// The lines outside code fences, counted from 1.
fn prose_lines(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((at + 1, line));
        }
    }
    lines
}

fn dead_paths(document: &str, line: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut dead = Vec::new();
    for target in relative_links(line) {
        // What climbs out of the repository is as dead as what is not there.
        if !resolve(document, &target).is_some_and(|path| exists(&path)) {
            dead.push(target);
        }
    }
    for token in repository_paths(line) {
        if !exists(token) {
            dead.push(token.to_owned());
        }
    }
    dead
}

/// The targets of `[text](target)` that are files, without their `#fragment`.
fn relative_links(line: &str) -> Vec<String> {
    let mut targets = Vec::new();
    for part in without_code(line).split("](").skip(1) {
        let target = part.split([')', ' ']).next().unwrap_or_default();
        let file = target.split('#').next().unwrap_or_default();
        let is_elsewhere = target.contains("://") || target.starts_with("mailto:");
        if !file.is_empty() && !is_elsewhere {
            targets.push(file.to_owned());
        }
    }
    targets
}

/// The line without its `code`, which may hold brackets of its own. A code span that is the text of
/// a link leaves the link in place.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Backticked repository paths, without a `:line` or a `::name` behind them.
fn repository_paths(line: &str) -> Vec<&str> {
    let tokens = line.split('`').skip(1).step_by(2);
    let paths = tokens
        .filter(|token| PATH_PREFIXES.iter().any(|prefix| token.starts_with(prefix)) && !token.contains(NOT_IN_PATHS));
    paths.map(|token| token.split([':', '#']).next().unwrap_or(token)).collect()
}

/// `target`, seen from `document`, as a path relative to the root; `None` when it leaves the root.
fn resolve(document: &str, target: &str) -> Option<String> {
    let mut resolved = PathBuf::new();
    let directory = Path::new(document).parent().unwrap_or(Path::new(""));
    for component in directory.join(target).components() {
        match component {
            Component::Normal(part) => resolved.push(part),
            Component::CurDir => {}
            Component::ParentDir => {
                if !resolved.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(resolved.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::assert_violations;
    use super::*;

    const EXISTING: &[&str] = &["README.md", "src/lib.rs", "format-spec/pack.md", "tests/frozen"];

    fn check_text(path: &str, text: &str, expected: &[(usize, &str)]) {
        let exists = |named: &str| EXISTING.contains(&named.trim_end_matches('/'));
        assert_violations(&check(path, text, &exists), expected);
    }

    #[test]
    fn links_lead_somewhere() {
        check_text("README.md", "see [the packs](format-spec/pack.md#header)", &[]);
        check_text("format-spec/README.md", "[a](pack.md) [b](../src/lib.rs)", &[]);
        check_text("format-spec/README.md", "x\n[a](packs.md)", &[(2, "`packs.md`")]);
        check_text("README.md", "[out](../elsewhere.md)", &[(1, "elsewhere")]);
        check_text("README.md", "[web](https://example.org/x) [here](#part)", &[]);
        check_text("CHANGES.md", "[not a checked document](gone.md)", &[]);
    }

    #[test]
    fn backticked_paths_lead_somewhere() {
        check_text("README.md", "`src/lib.rs`, `src/lib.rs:12`, `tests/frozen/`", &[]);
        check_text("README.md", "`src/gone.rs`", &[(1, "`src/gone.rs`")]);
        check_text("README.md", "`packs/<xx>/<name>` `src/<layer>/` `tests/*.rs` `cargo test`", &[]);
    }

    #[test]
    fn code_is_not_prose() {
        check_text("README.md", "```\n[a](gone.md)\n```\n`[b](gone.md)`", &[]);
        check_text("README.md", "[`code` as text](gone.md)", &[(1, "`gone.md`")]);
    }

    #[test]
    fn places_outside_the_project_are_refused_everywhere() {
        for needle in workplace_needles() {
            check_text("benches/load/x.py", &format!("#\npath = '{needle}y'"), &[(2, "outside the project")]);
        }
        check_text("src/lib.rs", "//! frames worked on /workspace", &[]);
    }
}
