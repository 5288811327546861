//! Names of the repository as file names: safe for any file system, bounded, and told apart.
//!
//! # Invariants
//! * A file name is 1 to 255 bytes of UTF-8 without `/` and control characters, is not `.` or `..`, and does not begin with a dot.
//! * Two texts never have the same file name: what is not shown as it is, is written `%` and two hexadecimal digits a byte, `%` itself too; what is too long is cut, and
//!   the mark of that, `%~`, with a hash, appears in no other name.

use std::collections::{BTreeMap, HashMap};

/// The longest file name, in bytes.
pub const MAX_BYTES: usize = 255;

/// Digits of the hash of a name that was cut: 128 bits.
const HASH_DIGITS: usize = 32;

/// A text as a file name, or a part of one, of at most `limit_bytes`.
pub fn file_name(text: &str, limit_bytes: usize) -> String {
    // A single `%` is what nothing else becomes.
    if text.is_empty() {
        return "%".to_owned();
    }
    let pieces: Vec<String> = text.char_indices().map(|(at, c)| piece(c, at == 0)).collect();
    if pieces.iter().map(String::len).sum::<usize>() <= limit_bytes {
        return pieces.concat();
    }
    let mark = format!("%~{}", &blake3::hash(text.as_bytes()).to_hex()[..HASH_DIGITS]);
    let mut name = String::new();
    for piece in pieces {
        if name.len() + piece.len() + mark.len() > limit_bytes {
            break;
        }
        name += &piece;
    }
    name + &mark
}

/// A character as it stands in a file name.
fn piece(c: char, is_first: bool) -> String {
    let is_unsafe = c.is_control() || matches!(c, '/' | '%') || (is_first && c == '.');
    if !is_unsafe {
        return c.to_string();
    }
    let mut bytes = [0; 4];
    c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Gives each of `things` its short name, or, where several have the same, each of these its long one.
pub fn tell_apart<T>(things: impl IntoIterator<Item = (String, String, T)>) -> BTreeMap<String, T> {
    let things: Vec<(String, String, T)> = things.into_iter().collect();
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (short, ..) in &things {
        *counts.entry(short.clone()).or_default() += 1;
    }
    let name = |(short, long, thing): (String, String, T)| (if counts[&short] == 1 { short } else { long }, thing);
    things.into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stay_readable() {
        let cases = [
            ("orders", "orders"),
            ("orders 2026 — ö.db", "orders 2026 — ö.db"),
            ("", "%"),
            (".", "%2E"),
            ("..", "%2E."),
            (".hidden", "%2Ehidden"),
            ("a/../b", "a%2F..%2Fb"),
            ("a\n\0b", "a%0A%00b"),
            ("100%", "100%25"),
            ("%2E", "%252E"),
            ("\u{85}", "%C2%85"),
        ];
        for (text, name) in cases {
            assert_eq!(file_name(text, MAX_BYTES), name, "{text:?}");
        }
        let (long, other) = ("ö".repeat(200), "ö".repeat(201));
        assert!(file_name(&long, MAX_BYTES).starts_with("öööööö") && file_name(&long, MAX_BYTES).len() > 250);
        assert_ne!(file_name(&long, MAX_BYTES), file_name(&other, MAX_BYTES));
    }

    #[test]
    fn what_would_have_one_name_has_two() {
        let thing = |short: &str, long: &str, n: u32| (short.to_owned(), long.to_owned(), n);
        let names = tell_apart([thing("a", "a1", 1), thing("a", "a2", 2), thing("b", "b3", 3)]);
        let names: Vec<(&str, u32)> = names.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(names, [("a1", 1), ("a2", 2), ("b", 3)]);
    }

    proptest! {
        #[test]
        fn any_two_texts_have_two_names(a in "[.%/~a0-9\\x00\\n]{0,300}", b in "[.%/~a0-9\\x00\\n]{0,300}") {
            let names = [&a, &b].map(|text| file_name(text, 100));
            for name in &names {
                prop_assert!((1..=100).contains(&name.len()), "{name:?}");
                prop_assert!(!name.contains(['/', '\0', '\n']) && !name.starts_with('.'), "{name:?}");
            }
            prop_assert_eq!(names[0] == names[1], a == b);
        }
    }
}
