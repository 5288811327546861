//! SQL as tokens: enough to see what a stored statement is before it is executed, and that a condition is one expression.
//!
//! # Guarantees
//! * Tokens end where SQLite's tokenizer ends them, so what is a string or a comment here is one there.
//! * [`qualified`] gives a statement only if it creates the one thing that its row of the schema says, and nothing else: it is one statement, of that kind, of that name,
//!   and a table's is a list of columns and never a `SELECT`.
//! * [`check_condition`] takes only text that stays inside the parentheses it is put into.

use crate::sqlite::identifier::quoted;

use std::borrow::Cow;

/// What a stored statement creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary table.
    Table,
    /// A virtual one.
    VirtualTable,
    /// An index.
    Index,
    /// A trigger.
    Trigger,
    /// A view.
    View,
}

impl Kind {
    /// As a person says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::VirtualTable => "virtual table",
            Self::Index => "index",
            Self::Trigger => "trigger",
            Self::View => "view",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Word,
    /// In double quotes, backticks or brackets: a name.
    QuotedName,
    /// In single quotes.
    Text,
    Number,
    Variable,
    Sign,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    sort: Sort,
    text: &'a str,
    start: usize,
}

impl Token<'_> {
    fn is_word(&self, word: &str) -> bool {
        self.sort == Sort::Word && self.text.eq_ignore_ascii_case(word)
    }

    fn is_sign(&self, sign: &str) -> bool {
        self.sort == Sort::Sign && self.text == sign
    }

    /// The name that it is, if it can be one.
    fn as_name(&self) -> Option<Cow<'_, str>> {
        match self.sort {
            Sort::Word => Some(Cow::Borrowed(self.text)),
            Sort::QuotedName | Sort::Text => Some(Cow::Owned(unquoted(self.text))),
            _ => None,
        }
    }
}

/// Names in double quotes, with commas between them.
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

fn unquoted(text: &str) -> String {
    let inside = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    match text.as_bytes().first() {
        Some(b'[') | None => inside.to_owned(),
        Some(&quote) => {
            let quote = char::from(quote).to_string();
            inside.replace(&quote.repeat(2), &quote)
        }
    }
}

/// The statement that creates `name` in the database `schema`, made of the stored one. The error says what is wrong with that.
pub fn qualified(sql: &str, kind: Kind, name: &str, schema: &str) -> Result<String, String> {
    let tokens = tokens(sql)?;
    let at = position_of_name(&tokens, kind).ok_or_else(|| format!("its stored SQL creates no {}", kind.name()))?;
    let found = tokens[at];
    let stored = found.as_name().unwrap_or_default();
    if stored != name {
        return Err(format!("its stored SQL creates {stored:?}"));
    }
    let rest = &tokens[at + 1..];
    let follows = match kind {
        Kind::Table => rest.first().is_some_and(|token| token.is_sign("(")),
        Kind::VirtualTable => rest.first().is_some_and(|token| token.is_word("USING")),
        Kind::Index => rest.first().is_some_and(|token| token.is_word("ON")),
        Kind::Trigger | Kind::View => rest.first().is_some_and(|token| token.sort != Sort::Sign || token.text == "("),
    };
    if !follows {
        return Err("its stored SQL is not as SQLite stores it".to_owned());
    }
    let several = match kind {
        Kind::Trigger => !rest.last().is_some_and(|token| token.is_word("END")) || ends_early(rest),
        _ => rest.iter().any(|token| token.is_sign(";")),
    };
    if several {
        return Err("its stored SQL is more than one statement".to_owned());
    }
    Ok(format!("{}{}.{}", &sql[..found.start], quoted(schema), &sql[found.start..]))
}

/// Whether a trigger's `END` comes before the last word: an `END` right after a `;` is not that of a `CASE`.
fn ends_early(tokens: &[Token<'_>]) -> bool {
    let ends = tokens.windows(2).filter(|pair| pair[0].is_sign(";") && pair[1].is_word("END")).count();
    ends != 1
}

fn position_of_name(tokens: &[Token<'_>], kind: Kind) -> Option<usize> {
    let words: &[&str] = match kind {
        Kind::Table => &["CREATE", "TABLE"],
        Kind::VirtualTable => &["CREATE", "VIRTUAL", "TABLE"],
        Kind::Index if tokens.get(1).is_some_and(|token| token.is_word("UNIQUE")) => &["CREATE", "UNIQUE", "INDEX"],
        Kind::Index => &["CREATE", "INDEX"],
        Kind::Trigger => &["CREATE", "TRIGGER"],
        Kind::View => &["CREATE", "VIEW"],
    };
    let begins = tokens.len() > words.len() && tokens.iter().zip(words).all(|(token, word)| token.is_word(word));
    begins.then_some(words.len())
}

/// Whether the text is one expression as far as tokens can tell; SQLite's parser says the rest. The error says what is wrong.
pub fn check_condition(text: &str) -> Result<(), String> {
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut depth = 0u32;
    for token in &tokens {
        match (token.sort, token.text) {
            (Sort::Sign, ";") => return Err("it has a semicolon: one expression is expected, no statement".to_owned()),
            (Sort::Sign, "(") => depth += 1,
            (Sort::Sign, ")") => depth = depth.checked_sub(1).ok_or("it closes a parenthesis that it did not open")?,
            (Sort::Variable, name) => return Err(format!("it has the parameter {name}, which has no value here")),
            _ => {}
        }
    }
    if depth > 0 { Err("a parenthesis is not closed".to_owned()) } else { Ok(()) }
}

/// Whether the name occurs in the statement, as a name.
pub fn mentions(sql: &str, name: &str) -> bool {
    let tokens = tokens(sql).unwrap_or_default();
    tokens
        .iter()
        .any(|token| token.sort != Sort::Text && token.as_name().is_some_and(|found| found.eq_ignore_ascii_case(name)))
}

/// A virtual table's module and its arguments, word by word as they stand there.
pub fn module(sql: &str) -> Option<(String, Vec<String>)> {
    let tokens = tokens(sql).ok()?;
    let at = position_of_name(&tokens, Kind::VirtualTable)?;
    let name = tokens.get(at + 2).filter(|_| tokens[at + 1].is_word("USING"))?;
    let mut arguments = Vec::new();
    let (mut depth, mut start) = (0u32, 0);
    for token in &tokens[at + 3..] {
        let end = token.start;
        match token.text {
            "(" if token.sort == Sort::Sign => {
                depth += 1;
                if depth == 1 {
                    start = end + 1;
                }
            }
            ")" if token.sort == Sort::Sign => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    arguments.push(sql[start..end].trim().to_owned());
                }
            }
            "," if token.sort == Sort::Sign && depth == 1 => {
                arguments.push(sql[start..end].trim().to_owned());
                start = end + 1;
            }
            _ => {}
        }
    }
    Some((name.as_name()?.into_owned(), arguments))
}

/// Name and value of an argument like `content='x'`.
pub fn option(argument: &str) -> Option<(String, String)> {
    let tokens = tokens(argument).ok()?;
    let [name, equals, value @ ..] = tokens.as_slice() else { return None };
    if name.sort != Sort::Word || !equals.is_sign("=") {
        return None;
    }
    let value = match value {
        [] => String::new(),
        [one] => one.as_name().map_or_else(|| one.text.to_owned(), Cow::into_owned),
        [first, ..] => argument[first.start..].to_owned(),
    };
    Some((name.text.to_ascii_lowercase(), value))
}

fn tokens(sql: &str) -> Result<Vec<Token<'_>>, String> {
    if sql.contains('\0') {
        return Err("it has a NUL character".to_owned());
    }
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(&byte) = sql.as_bytes().get(start) {
        let rest = &sql[start..];
        let next = rest.as_bytes().get(1).copied();
        let (sort, length) = match byte {
            b' ' | b'\t' | b'\n' | b'\x0c' | b'\r' => {
                start += 1;
                continue;
            }
            b'-' if next == Some(b'-') => {
                start += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            b'/' if next == Some(b'*') => {
                // SQLite wants something between `/*` and `*/`'s star, so `/*/` does not end.
                start += rest[2..].find("*/").ok_or("a comment is not closed")? + 4;
                continue;
            }
            b'\'' | b'"' | b'`' => {
                let sort = if byte == b'\'' { Sort::Text } else { Sort::QuotedName };
                (sort, length_of_quoted(rest).ok_or("a quote is not closed")?)
            }
            b'[' => (Sort::QuotedName, rest.find(']').ok_or("a bracket is not closed")? + 1),
            b'0'..=b'9' => (Sort::Number, length_of(rest, |byte| is_part(byte) || byte == b'.')),
            b'?' | b':' | b'@' | b'$' | b'#' => (Sort::Variable, 1 + length_of(&rest[1..], is_part)),
            byte if is_part(byte) => (Sort::Word, length_of(rest, is_part)),
            _ => (Sort::Sign, 1),
        };
        tokens.push(Token { sort, text: &sql[start..start + length], start });
        start += length;
    }
    Ok(tokens)
}

/// Whether a byte can be in a word. Whatever is not ASCII can.
fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

fn length_of(text: &str, is_in: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|&byte| is_in(byte)).count()
}

/// The length of what is in quotes, which are doubled inside.
fn length_of_quoted(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        at += bytes[at..].iter().position(|byte| *byte == bytes[0])? + 1;
        if bytes.get(at) != bytes.first() {
            return Some(at);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_statement_gets_its_schema() {
        let check = |sql: &str, kind, name: &str, expected: &str| {
            assert_eq!(qualified(sql, kind, name, "new").as_deref(), Ok(expected), "{sql}");
        };
        check("CREATE TABLE a (b)", Kind::Table, "a", "CREATE TABLE \"new\".a (b)");
        check("CREATE TABLE 'a b'(b)", Kind::Table, "a b", "CREATE TABLE \"new\".'a b'(b)");
        check("CREATE TABLE [a](b)", Kind::Table, "a", "CREATE TABLE \"new\".[a](b)");
        check(
            "CREATE TABLE \"a\"\"b\"(b) -- ; DROP",
            Kind::Table,
            "a\"b",
            "CREATE TABLE \"new\".\"a\"\"b\"(b) -- ; DROP",
        );
        check("CREATE UNIQUE INDEX i ON a(b)", Kind::Index, "i", "CREATE UNIQUE INDEX \"new\".i ON a(b)");
        check(
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT CASE WHEN 1 THEN 2 END; END",
            Kind::Trigger,
            "t",
            "CREATE TRIGGER \"new\".t AFTER INSERT ON a BEGIN SELECT CASE WHEN 1 THEN 2 END; END",
        );
        check("CREATE VIEW v(x) AS SELECT 1", Kind::View, "v", "CREATE VIEW \"new\".v(x) AS SELECT 1");
        check(
            "CREATE VIRTUAL TABLE f USING fts5(a)",
            Kind::VirtualTable,
            "f",
            "CREATE VIRTUAL TABLE \"new\".f USING fts5(a)",
        );
    }

    #[test]
    fn another_statement_is_not_taken() {
        for (sql, kind) in [
            ("CREATE TABLE a AS SELECT load_extension('x')", Kind::Table),
            ("CREATE TABLE b (a)", Kind::Table),
            ("CREATE TABLE main.a (a)", Kind::Table),
            ("CREATE TABLE IF NOT EXISTS a (b)", Kind::Table),
            ("CREATE TEMP TABLE a (b)", Kind::Table),
            ("CREATE TABLE a (b); DROP TABLE c", Kind::Table),
            ("CREATE TABLE a (b);", Kind::Table),
            ("CREATE VIEW a AS SELECT 1", Kind::Table),
            ("CREATE TABLE a (b '", Kind::Table),
            ("CREATE TABLE a (b /* ", Kind::Table),
            ("CREATE TABLE a\0 (b)", Kind::Table),
            ("DROP TABLE a", Kind::Table),
            ("ATTACH 'x' AS a", Kind::Table),
            ("", Kind::Table),
            ("CREATE TABLE", Kind::Table),
            ("CREATE TABLE a", Kind::Table),
            ("CREATE INDEX a ON b(c); DROP TABLE d", Kind::Index),
            ("CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1; END; DROP TABLE c", Kind::Trigger),
            ("CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1; END; BEGIN; END", Kind::Trigger),
            ("CREATE VIRTUAL TABLE a (b)", Kind::VirtualTable),
        ] {
            assert!(qualified(sql, kind, "a", "new").is_err(), "{sql}");
        }
    }

    #[test]
    fn a_condition_is_one_expression() {
        for good in [
            "a = 1",
            "a = ')' AND b IN (1, 2) -- yes",
            "a /* ) */ > 2",
            "\"a)\" = [b)]",
            "a = 'it''s (' ",
            "a = x'00'",
            "a->>'$.x' = 1",
        ] {
            assert_eq!(check_condition(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            " -- a",
            "1) OR (1",
            "1; DROP TABLE a",
            "(1",
            "a = 'x",
            "a = \"x",
            "a = [x",
            "a /* x",
            "a = ?",
            "a = :b",
            "a = $b",
            "a\0",
        ] {
            assert!(check_condition(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_module_and_its_arguments_are_found() {
        let sql = "CREATE VIRTUAL TABLE f USING fts5(title, 'a, b', content = 'x''y', tokenize=\"porter ascii\")";
        let (name, arguments) = module(sql).expect("BUG: it is one");
        assert_eq!(name, "fts5");
        assert_eq!(arguments, ["title", "'a, b'", "content = 'x''y'", "tokenize=\"porter ascii\""]);
        assert_eq!(option(&arguments[2]), Some(("content".to_owned(), "x'y".to_owned())));
        assert_eq!(option("content=''"), Some(("content".to_owned(), String::new())));
        assert_eq!(option(&arguments[0]), None);
        assert_eq!(module("CREATE VIRTUAL TABLE f USING dbstat"), Some(("dbstat".to_owned(), vec![])));
        assert!(mentions(sql, "TITLE") && !mentions(sql, "a, b"));
    }

    #[test]
    fn no_text_makes_it_panic() {
        for text in ["\u{e9}\"", "'", "''", "'''", "[", "/*/", "/**/", "-", "--", "$", "?", "\u{feff}a", "é[ö]ü'ß'"]
        {
            let _ = tokens(text).map(|tokens| tokens.len());
            let _ = (module(text), option(text), check_condition(text));
        }
    }
}
