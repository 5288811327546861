//! The shape of a file: module docs first, a name that says something, and a length that can be
//! read.

use super::Violation;
use super::rust_source::RustSource;

const MAX_FILE_LINES: usize = 700;
const MAX_FUNCTION_LINES: usize = 90;

/// Names that say nothing about what is inside, so that anything ends up there.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc"];

pub fn check(source: &RustSource) -> Vec<Violation> {
    let mut violations = check_module_names(source);
    violations.extend(check_docs(source));
    violations.extend(check_file_length(source));
    violations.extend(check_functions(source));
    violations
}

fn check_docs(source: &RustSource) -> Option<Violation> {
    let message = "the file does not begin with `//!`: what it is, what it guarantees";
    (!source.text.starts_with("//!")).then(|| source.violation(0, message))
}

fn check_module_names(source: &RustSource) -> Vec<Violation> {
    let message = |name: &str| format!("a module named `{name}`: name it after what it holds");
    let mut violations = Vec::new();
    for part in source.path.split('/') {
        let name = part.strip_suffix(".rs").unwrap_or(part);
        if EMPTY_NAMES.contains(&name) {
            violations.push(source.violation(0, message(name)));
        }
    }
    for offset in source.find_word("mod") {
        let name = source.identifier_at(offset + "mod".len());
        let is_inline = source.body(offset).is_some();
        if is_inline && EMPTY_NAMES.contains(&name) {
            violations.push(source.violation(offset, message(name)));
        }
    }
    violations
}

fn check_file_length(source: &RustSource) -> Option<Violation> {
    let lines = source.text.lines().count();
    let message = format!("the file has {lines} lines, more than {MAX_FILE_LINES}: split off its second subject");
    (lines > MAX_FILE_LINES).then(|| Violation::new(&source.path, lines, message))
}

fn check_functions(source: &RustSource) -> Vec<Violation> {
    let mut violations = Vec::new();
    for offset in source.find_word("fn") {
        let name = source.identifier_at(offset + "fn".len());
        let Some(body) = source.body(offset) else {
            continue;
        };
        let lines = source.line(body.end - 1) - source.line(offset) + 1;
        // `fn(u8) -> u8` is a type and has no name.
        if !name.is_empty() && lines > MAX_FUNCTION_LINES {
            let message = format!("`{name}` has {lines} lines, more than {MAX_FUNCTION_LINES}: split it");
            violations.push(source.violation(offset, message));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::assert_violations;
    use super::*;

    fn check_text(path: &str, text: &str, expected: &[(usize, &str)]) {
        assert_violations(&check(&RustSource::new(path, text)), expected);
    }

    #[test]
    fn files_begin_with_their_docs() {
        check_text("src/base/id.rs", "//! Identifiers.\n", &[]);
        check_text("src/base/id.rs", "use std::fmt;\n//! late", &[(1, "begin with `//!`")]);
        check_text("tests/api.rs", "", &[(1, "begin with `//!`")]);
    }

    #[test]
    fn modules_have_names_that_say_something() {
        check_text("src/repo/util.rs", "//! x", &[(1, "`util`")]);
        check_text("tests/common/mod.rs", "//! x", &[(1, "`common`")]);
        check_text("src/repo/mod.rs", "//! x\nmod helpers {}", &[(2, "`helpers`")]);
        check_text("src/repo/commonplace.rs", "//! x", &[]);
    }

    #[test]
    fn long_files_are_reported() {
        let text = format!("//! x\n{}", "\n".repeat(MAX_FILE_LINES - 1));
        check_text("src/repo/mod.rs", &text, &[]);
        check_text("src/repo/mod.rs", &format!("{text}\n"), &[(701, "701 lines")]);
    }

    #[test]
    fn long_functions_are_reported() {
        let function = |lines: usize| format!("//! x\nfn f(a: fn(u8) -> u8) {{{}}}\n", "\n".repeat(lines - 1));
        check_text("src/repo/mod.rs", &function(MAX_FUNCTION_LINES), &[]);
        check_text("src/repo/mod.rs", &function(MAX_FUNCTION_LINES + 1), &[(2, "`f` has 91 lines")]);
        check_text("src/repo/mod.rs", "//! x\ntrait T { fn f(); }\nfn g() {}", &[]);
    }
}
