//! What people read: standard output, numbers and units.

use std::io::Write;

use indicatif::{HumanBytes, HumanCount};

/// Prints to standard output. A reader that went away, as `head` does, ends the program quietly.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(i32::from(super::error::FAILED));
    }
}

/// Prints a line.
pub fn line(text: impl AsRef<str>) {
    print(&format!("{}\n", text.as_ref()));
}

/// `12.3 MiB`.
pub fn bytes(count: u64) -> String {
    HumanBytes(count).to_string()
}

/// `1,234`.
pub fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

/// `1 pack`, `2 packs`.
pub fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Rows as a table with a header; columns are as wide as they need to be, numbers of the columns in `right` stand right.
pub fn table(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let format_row = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().enumerate().map(|(column, cell)| pad(cell, widths[column], right.contains(&column))).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = format_row(header.to_vec());
    for row in rows {
        text += &format_row(row.iter().map(String::as_str).collect());
    }
    text
}

fn pad(cell: &str, width: usize, right: bool) -> String {
    if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let rows = [vec!["a".into(), "1".into()], vec!["long".into(), "22".into()]];
        assert_eq!(table(&["name", "n"], &rows, &[1]), "name   n\na      1\nlong  22\n");
        assert_eq!(plural(1, "pack"), "1 pack");
        assert_eq!(plural(1234, "pack"), "1,234 packs");
    }
}
