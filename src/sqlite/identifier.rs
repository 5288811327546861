//! Names of tables, columns and indexes in SQL.

/// A name in double quotes, as SQL takes any name (<https://sqlite.org/lang_keywords.html>).
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
