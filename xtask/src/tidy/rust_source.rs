//! A Rust file as the checks see it: its text, and its *code*: the same text, byte for byte in the
//! same place, with the insides of comments and literals blanked out.
//!
//! This is no parser. It knows strings, characters, lifetimes, comments, balanced brackets and
//! `use` trees, which is what it takes to ask "does this word occur in code?" and to mean it.

use std::ops::Range;

use super::Violation;

const TEST_ATTRIBUTES: &[&str] = &["#[cfg(test)]", "#[cfg(all(test,"];

pub struct RustSource {
    pub path: String,
    pub text: String,
    pub code: String,
    pub use_paths: Vec<UsePath>,
    /// `use` statements, from `use` to `;`.
    use_spans: Vec<Range<usize>>,
    /// Items marked `#[cfg(test)]`, or the whole of a test file.
    test_spans: Vec<Range<usize>>,
    /// Bodies of inline modules.
    module_spans: Vec<Range<usize>>,
}

/// One leaf of a `use` tree with its full path: `use a::{b, c::D}` has the leaves `a::b` and
/// `a::c::D`.
#[derive(Debug, PartialEq, Eq)]
pub struct UsePath {
    /// Where the statement begins.
    pub statement: usize,
    /// Where the leaf stands.
    pub offset: usize,
    pub path: String,
}

impl RustSource {
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank_comments_and_literals(text);
        let use_spans = use_spans(&code);
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            use_paths: use_paths(&code, &use_spans),
            use_spans,
            test_spans: test_spans(path, &code),
            module_spans: inline_module_spans(&code),
            code,
        }
    }

    /// Where `word` occurs in the code, not as a part of a longer identifier.
    pub fn find_word(&self, word: &str) -> impl Iterator<Item = usize> {
        find_word(&self.code, word)
    }

    pub fn is_test(&self, offset: usize) -> bool {
        self.test_spans.iter().any(|span| span.contains(&offset))
    }

    /// Whether `offset` lies inside a `use` statement.
    pub fn is_import(&self, offset: usize) -> bool {
        self.use_spans.iter().any(|span| span.contains(&offset))
    }

    /// How many inline modules (`mod tests { … }`) surround `offset`.
    pub fn inline_depth(&self, offset: usize) -> usize {
        let surround = |span: &&Range<usize>| span.contains(&offset);
        self.module_spans.iter().filter(surround).count()
    }

    /// The line of `offset`, counted from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    pub fn violation(&self, offset: usize, message: impl Into<String>) -> Violation {
        Violation::new(&self.path, self.line(offset), message)
    }

    /// The first identifier at or after `offset`, if nothing but white space is before it.
    pub fn identifier_at(&self, offset: usize) -> &str {
        let rest = self.code[offset..].trim_start();
        let end = rest.find(|c| !is_identifier_char(c)).unwrap_or(rest.len());
        &rest[..end]
    }

    /// The body of the item that begins at `offset`, from its `{` to its `}`; `None` for an item
    /// without one.
    pub fn body(&self, offset: usize) -> Option<Range<usize>> {
        body(&self.code, offset)
    }
}

pub fn is_identifier_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Where `word` occurs in `code`. A word that begins or ends with an identifier's character must
/// not touch another one on that side.
pub fn find_word(code: &str, word: &str) -> impl Iterator<Item = usize> {
    let guards_start = word.starts_with(is_identifier_char);
    let guards_end = word.ends_with(is_identifier_char);
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let touches_before = code[..at].ends_with(is_identifier_char);
        let touches_after = code[at + word.len()..].starts_with(is_identifier_char);
        let is_part = (guards_start && touches_before) || (guards_end && touches_after);
        !is_part
    })
}

fn use_spans(code: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    for start in find_word(code, "use") {
        let rest = &code[start..];
        // `use<'a>` in a type captures lifetimes; it imports nothing.
        let imports = rest["use".len()..].starts_with(char::is_whitespace);
        if let (true, Some(length)) = (imports, rest.find(';')) {
            spans.push(start..start + length);
        }
    }
    spans
}

fn use_paths(code: &str, spans: &[Range<usize>]) -> Vec<UsePath> {
    let mut found = Vec::new();
    for span in spans {
        let tree_start = span.start + "use".len();
        let mut leaves = Vec::new();
        expand_use_tree("", &code[tree_start..span.end], tree_start, &mut leaves);
        let statement = span.start;
        found.extend(leaves.into_iter().map(|(offset, path)| UsePath { statement, offset, path }));
    }
    found
}

fn expand_use_tree(prefix: &str, tree: &str, tree_start: usize, leaves: &mut Vec<(usize, String)>) {
    for range in split_at_commas(tree) {
        let branch = &tree[range.clone()];
        let branch_start = tree_start + range.start;
        if let Some(open) = branch.find('{') {
            let inside = open + 1..branch.rfind('}').unwrap_or(branch.len());
            let inner_prefix = join_path(prefix, &branch[..open]);
            let inner_start = branch_start + inside.start;
            expand_use_tree(&inner_prefix, &branch[inside], inner_start, leaves);
        } else if !branch.trim().is_empty() {
            let indent = branch.len() - branch.trim_start().len();
            let name = branch.split(" as ").next().unwrap_or_default();
            let path = join_path(prefix, name);
            let path = path.strip_suffix("::self").unwrap_or(&path);
            leaves.push((branch_start + indent, path.to_owned()));
        }
    }
}

fn join_path(prefix: &str, rest: &str) -> String {
    let rest: String = rest.split_whitespace().collect();
    let joined = format!("{prefix}{rest}");
    joined.strip_prefix("::").unwrap_or(&joined).to_owned()
}

fn split_at_commas(tree: &str) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0);
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(start..tree.len());
    parts
}

fn test_spans(path: &str, code: &str) -> Vec<Range<usize>> {
    let is_test_file = path.starts_with("tests/")
        || path.ends_with("/tests.rs")
        || path.contains("/tests/")
        || code.contains("#![cfg(test)]");
    if is_test_file {
        return std::iter::once(0..code.len()).collect();
    }
    let mut spans = Vec::new();
    for attribute in TEST_ATTRIBUTES {
        for (start, _) in code.match_indices(attribute) {
            spans.push(start..item_end(code, start));
        }
    }
    spans
}

fn inline_module_spans(code: &str) -> Vec<Range<usize>> {
    find_word(code, "mod").filter_map(|start| body(code, start)).collect()
}

fn body(code: &str, offset: usize) -> Option<Range<usize>> {
    let end = item_end(code, offset);
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().take(end).skip(offset) {
        match byte {
            b'{' if depth == 0 => return Some(at..end),
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The end of the item that begins at `offset`: behind its `;`, or behind the `}` of its body.
fn item_end(code: &str, offset: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(offset) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if byte == b'}' && depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// `text` with the insides of comments, strings and character literals replaced by spaces. Offsets
/// and lines stay; the quotes stay too.
fn blank_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    while code.len() < text.len() {
        let rest = &text[code.len()..];
        if let Some(Token { length, inside }) = comment_or_literal(rest, &code) {
            code.push_str(&rest[..inside.start]);
            code.extend(rest[inside.clone()].bytes().map(blank));
            code.push_str(&rest[inside.end..length]);
        } else {
            code.extend(rest.chars().next());
        }
    }
    code
}

fn blank(byte: u8) -> char {
    if byte == b'\n' { '\n' } else { ' ' }
}

/// A token at the start of some text: its length, and the part of it that is not code.
struct Token {
    length: usize,
    inside: Range<usize>,
}

impl Token {
    fn comment(length: usize) -> Self {
        Self { length, inside: 0..length }
    }

    fn quoted(length: usize, quotes: Range<usize>) -> Self {
        Self { length, inside: quotes }
    }
}

fn comment_or_literal(rest: &str, before: &str) -> Option<Token> {
    if rest.starts_with("//") {
        return Some(Token::comment(rest.find('\n').unwrap_or(rest.len())));
    }
    if rest.starts_with("/*") {
        return Some(Token::comment(block_comment_length(rest)));
    }
    match rest.chars().next()? {
        '"' => Some(string_token(rest)),
        '\'' => character_token(rest),
        'r' if !before.ends_with(is_identifier_char) || is_raw_prefix(before) => raw_string_token(rest),
        _ => None,
    }
}

/// Whether the code ends in the `b` or `c` of `br"…"` or `cr"…"`.
fn is_raw_prefix(before: &str) -> bool {
    let Some(without) = before.strip_suffix(['b', 'c']) else {
        return false;
    };
    !without.ends_with(is_identifier_char)
}

/// Block comments nest.
fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_token(rest: &str) -> Token {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Token::quoted(at + 1, 1..at),
            _ => {}
        }
    }
    Token::quoted(rest.len(), 1..rest.len())
}

fn raw_string_token(rest: &str) -> Option<Token> {
    let hashes = rest[1..].bytes().take_while(|&byte| byte == b'#').count();
    let start = 1 + hashes + 1;
    if rest.as_bytes().get(start - 1) != Some(&b'"') {
        return None;
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    match rest[start..].find(&closing) {
        Some(length) => Some(Token::quoted(start + length + closing.len(), start..start + length)),
        None => Some(Token::quoted(rest.len(), start..rest.len())),
    }
}

/// A character literal; `None` for a lifetime, which also begins with a quote.
fn character_token(rest: &str) -> Option<Token> {
    let first = rest[1..].chars().next()?;
    let second = 1 + first.len_utf8();
    if first == '\\' {
        // Behind the backslash stands at least one character, perhaps a quote itself.
        let length = rest.get(second + 1..)?.find('\'')?;
        let end = second + 1 + length;
        return Some(Token::quoted(end + 1, 1..end));
    }
    rest[second..].starts_with('\'').then(|| Token::quoted(second + 1, 1..second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_code(text: &str, expected: &str) {
        let code = blank_comments_and_literals(text);
        assert_eq!(code, expected);
        assert_eq!(code.len(), text.len());
    }

    #[test]
    fn comments_are_blanked() {
        check_code("a // b\nc", "a     \nc");
        let nested = "/* b /* c */ d */";
        check_code(&format!("a {nested} e"), &format!("a {} e", " ".repeat(nested.len())));
    }

    #[test]
    fn literals_are_blanked_between_their_quotes() {
        check_code(r#"f("a\"b", 'x', '\'', b"q")"#, r#"f("    ", ' ', '  ', b" ")"#);
        check_code("r#\"a\"b\"# + br\"c\"", "r#\"   \"# + br\" \"");
        check_code("\"// no comment\" x", "\"             \" x");
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_code() {
        check_code("fn f<'a>(r#type: &'a str)", "fn f<'a>(r#type: &'a str)");
        check_code("for r in rows {}", "for r in rows {}");
    }

    #[test]
    fn non_ascii_text_keeps_offsets() {
        check_code("\"…\" x", "\"   \" x");
        check_code("let größe = 'ß';", "let größe = '  ';");
    }

    #[test]
    fn use_trees_are_expanded() {
        let source = RustSource::new(
            "src/x.rs",
            "use a::b;\npub use crate::{c::{self, D as E}, f::*};\nfn g() -> impl Sized + use<> {}",
        );
        let paths: Vec<_> = source.use_paths.iter().map(|leaf| leaf.path.as_str()).collect();
        assert_eq!(paths, ["a::b", "crate::c", "crate::c::D", "crate::f::*"]);
        assert_eq!(source.line(source.use_paths[2].offset), 2);
    }

    #[test]
    fn test_code_is_the_item_behind_the_attribute() {
        let text = "#[cfg(test)]\nuse a::B;\nfn c() {}\n#[cfg(test)]\nmod tests {\n fn d() {}\n}\n";
        let source = RustSource::new("src/x.rs", text);
        let is_test = |word| source.is_test(text.find(word).unwrap());
        assert!(is_test("use a"));
        assert!(!is_test("fn c"));
        assert!(is_test("fn d"));
        assert_eq!(source.inline_depth(text.find("fn d").unwrap()), 1);
        assert!(RustSource::new("src/x/tests.rs", text).is_test(text.find("fn c").unwrap()));
    }

    #[test]
    fn words_have_boundaries() {
        let found = |code, word| find_word(code, word).count();
        assert_eq!(found("strand::x(rand::y)", "rand::"), 1);
        assert_eq!(found("eprintln!()", "println!"), 0);
        assert_eq!(found("x.unwrap().unwrap_or()", ".unwrap()"), 1);
    }

    #[test]
    fn a_body_is_found_behind_arrays_and_defaults() {
        let source = RustSource::new("src/x.rs", "fn a(b: [u8; 4]) -> [u8; 2] { c(|| { 1 }) } fn d();");
        assert_eq!(&source.code[source.body(0).unwrap()], "{ c(|| { 1 }) }");
        let declaration = source.code.find("fn d").unwrap();
        assert_eq!(source.body(declaration), None);
    }
}
