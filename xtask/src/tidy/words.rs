//! Words that have their place: what reads the clock, draws random bytes, looks at the environment,
//! opens sockets, starts threads, prints or panics stands where the design puts it and nowhere
//! else.
//!
//! Test code (`#[cfg(test)]` items, `tests.rs`, `tests/`) is free of these rules, but not of the
//! one about `unsafe`.

use std::collections::BTreeSet;

use super::Violation;
use super::rust_source::{RustSource, find_word};
use crate::project::lies_in;

struct Rule {
    words: &'static [&'static str],
    /// Files and folders in which the words are allowed.
    allowed_in: &'static [&'static str],
    /// What the words do, and what to do instead.
    reason: &'static str,
}

/// For `src/`.
const RULES: &[Rule] = &[
    Rule {
        words: &["SystemTime", "Instant::now", "Timestamp::now", "Zoned::now"],
        allowed_in: &["src/base/clock.rs", "src/cli", "src/daemon"],
        reason: "reads the clock: take a `Clock` or the time as an argument",
    },
    Rule {
        words: &["getrandom", "OsRng", "thread_rng", "rand::"],
        allowed_in: &["src/base/entropy.rs"],
        reason: "draws random bytes: take an `Entropy` as an argument",
    },
    Rule {
        words: &["std::env", "env::var", "env::var_os", "env::vars", "env::vars_os"],
        allowed_in: &["src/cli"],
        reason: "reads the environment: only src/cli does, and passes values on",
    },
    Rule {
        words: &["std::net", "TcpStream", "TcpListener", "UdpSocket"],
        allowed_in: &["src/store", "src/kms", "src/daemon", "src/serve"],
        reason: "opens sockets: only src/store, src/kms, src/daemon and src/serve do",
    },
    Rule {
        words: &["std::thread", "thread::spawn", "thread::scope"],
        // The machine's timer waits: that is what it is for.
        allowed_in: &["src/base/clock.rs", "src/store", "src/source", "src/cli", "src/daemon", "src/serve"],
        reason: "starts threads: the core runs in a simulation, without any",
    },
    Rule {
        words: &["println!", "eprintln!", "print!", "eprint!", "dbg!"],
        allowed_in: &["src/cli", "src/main.rs"],
        reason: "prints: tell the monitor, or return it to src/cli",
    },
    Rule {
        words: &[".unwrap()"],
        allowed_in: &[],
        reason: "panics without a word: return an error, or state the invariant: `.expect(\"BUG: …\")`",
    },
];

/// Files that may contain `unsafe`, anywhere in the project. Each entry needs its reason.
const UNSAFE_ALLOWED_IN: &[&str] = &[
    // SQLite takes a VFS as a table of C functions.
    "src/vfs/ffi.rs",
    // ptrace(2), which neither the standard library nor rustix has.
    "tests/tracer/ptrace.rs",
    // `wait4`: the standard library does not tell what one child process used.
    "xtask/src/bench/measured.rs",
];

/// How the text of an `.expect()` begins: it states an invariant of ours that is broken.
const EXPECT_PREFIX: &str = "BUG: ";

pub fn check(source: &RustSource) -> Vec<Violation> {
    let mut violations = check_unsafe(source);
    if source.path.starts_with("src/") {
        for rule in RULES {
            violations.extend(check_rule(source, rule));
        }
        violations.extend(check_expect(source));
    }
    violations
}

fn check_rule(source: &RustSource, rule: &Rule) -> Vec<Violation> {
    if rule.allowed_in.iter().any(|place| lies_in(&source.path, place)) {
        return Vec::new();
    }
    let mut violations = Vec::new();
    let mut lines = BTreeSet::new();
    for word in rule.words {
        for offset in places_of(source, word) {
            // One report a line is enough: `std::env::var` holds two of the words.
            if !source.is_test(offset) && lines.insert(source.line(offset)) {
                violations.push(source.violation(offset, format!("`{word}` {}", rule.reason)));
            }
        }
    }
    violations
}

/// Where `word` is in the code, spelled out or put together by a `use` tree (`use std::{env, fs}`).
fn places_of(source: &RustSource, word: &str) -> Vec<usize> {
    let mut places: Vec<usize> = source.find_word(word).collect();
    for leaf in &source.use_paths {
        if find_word(&leaf.path, word).next().is_some() {
            places.push(leaf.offset);
        }
    }
    places
}

fn check_unsafe(source: &RustSource) -> Vec<Violation> {
    if UNSAFE_ALLOWED_IN.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let message = "`unsafe` is not allowed here (xtask/src/tidy/words.rs lists where it is)";
    source.find_word("unsafe").map(|offset| source.violation(offset, message)).collect()
}

fn check_expect(source: &RustSource) -> Vec<Violation> {
    let mut violations = Vec::new();
    for offset in source.find_word(".expect(") {
        let argument = source.text[offset + ".expect(".len()..].trim_start();
        // Parsers have an `expect` too, whose argument is no text.
        let Some(text) = argument.strip_prefix('"') else {
            continue;
        };
        if !text.starts_with(EXPECT_PREFIX) && !source.is_test(offset) {
            let message =
                format!("`.expect` states an invariant and begins with \"{EXPECT_PREFIX}\": else return an error");
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
    fn the_clock_has_its_place() {
        let text = "use std::time::{Instant, SystemTime};\nlet a = Instant::now();";
        check_text("src/repo/mod.rs", text, &[(1, "`SystemTime`"), (2, "`Instant::now`")]);
        check_text("src/base/clock.rs", text, &[]);
        check_text("src/daemon/watch.rs", text, &[]);
        check_text("tests/api.rs", text, &[]);
    }

    #[test]
    fn entropy_has_its_place() {
        check_text("src/crypto/keys.rs", "getrandom::fill(&mut key)?;", &[(1, "`getrandom`")]);
        check_text("src/crypto/keys.rs", "strand::braid();", &[]);
        check_text("src/base/entropy.rs", "getrandom::fill(&mut key)?;", &[]);
    }

    #[test]
    fn environment_sockets_and_threads_have_their_place() {
        check_text("src/store/s3.rs", "let a = std::env::var(\"HOME\");", &[(1, "`std::env`")]);
        check_text("src/store/s3.rs", "use std::{\n    env,\n    net::TcpStream,\n};", &[(2, "`std::env`")]);
        check_text("src/ops/check.rs", "use std::net::TcpStream;", &[(1, "opens sockets")]);
        check_text("src/ops/check.rs", "use std::{fs, thread};", &[(1, "`std::thread`")]);
        check_text("src/cli/mod.rs", "let home = std::env::var_os(\"HOME\");", &[]);
    }

    #[test]
    fn output_has_its_place() {
        check_text("src/ops/check.rs", "println!(\"{x}\");\ndbg!(x);", &[(1, "`println!`"), (2, "`dbg!`")]);
        check_text("src/main.rs", "eprintln!(\"{x}\");", &[]);
    }

    #[test]
    fn panics_state_an_invariant() {
        check_text("src/repo/mod.rs", "a.unwrap();\nb.unwrap_or(1);", &[(1, "`.unwrap()`")]);
        check_text("src/repo/mod.rs", "a.expect(\"BUG: sorted above\");", &[]);
        check_text("src/repo/mod.rs", "a\n    .expect(\n        \"it works\",\n    );", &[(2, "BUG: ")]);
        check_text("src/repo/mod.rs", "parser.expect(Token::Comma)?;", &[]);
    }

    #[test]
    fn test_code_may_panic_but_not_be_unsafe() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n a.unwrap(); b.expect(\"fine\");\n unsafe {}\n}";
        check_text("src/repo/mod.rs", text, &[(5, "`unsafe`")]);
    }

    #[test]
    fn unsafe_is_listed() {
        check_text("src/source/pin.rs", "unsafe { f() }", &[(1, "`unsafe`")]);
        check_text("src/lib.rs", "#![forbid(unsafe_code)]", &[]);
        check_text(UNSAFE_ALLOWED_IN[0], "unsafe { f() }", &[]);
    }

    #[test]
    fn comments_and_literals_are_free() {
        check_text("src/repo/mod.rs", "// println! and .unwrap()\nlet a = \"unsafe SystemTime\";", &[]);
    }
}
