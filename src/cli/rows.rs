//! Rows of a query as people and programs read them.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Stdout, Write};

use clap::ValueEnum;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};

use crate::base::id::to_hex;
use crate::ops::query::Rows;

/// So many rows are looked at for the width of columns, and in a table no more are kept.
const MEASURED_ROWS: usize = 1000;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// Columns in line, for people
    Table,
    /// RFC 4180, with a header
    Csv,
    /// An array of objects; blobs are {"blob": "hex"}
    Json,
    /// A line for each value
    Line,
}

/// Prints rows to standard output as they come.
pub struct RowPrinter {
    format: RowFormat,
    out: BufWriter<Stdout>,
    columns: Vec<String>,
    /// The first rows of a table, until its widths are known.
    measured: Vec<Vec<String>>,
    widths: Vec<usize>,
    is_first: bool,
}

impl RowPrinter {
    /// A printer of that format.
    pub fn new(format: RowFormat) -> Self {
        let out = BufWriter::new(io::stdout());
        Self { format, out, columns: Vec::new(), measured: Vec::new(), widths: Vec::new(), is_first: true }
    }

    fn print(&mut self, text: &str) -> Result<(), String> {
        self.out.write_all(text.as_bytes()).map_err(|error| error.to_string())
    }

    /// Fixes the widths, and prints the rows that waited for them.
    fn measure(&mut self) -> Result<(), String> {
        let rows = std::mem::take(&mut self.measured);
        let width = |column: usize| {
            let cells = rows.iter().chain([&self.columns]).map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        self.widths = (0..self.columns.len()).map(width).collect();
        let header = self.columns.clone();
        let rule = self.widths.iter().map(|&width| "-".repeat(width)).collect();
        for row in [header, rule].into_iter().chain(rows) {
            let line = self.table_line(&row);
            self.print(&line)?;
        }
        Ok(())
    }

    fn table_line(&self, row: &[String]) -> String {
        let padded = row.iter().zip(&self.widths).map(|(cell, &width)| format!("{cell:<width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    }

    fn table_row(&mut self, row: Vec<String>) -> Result<(), String> {
        if !self.widths.is_empty() {
            let line = self.table_line(&row);
            return self.print(&line);
        }
        self.measured.push(row);
        if self.measured.len() == MEASURED_ROWS { self.measure() } else { Ok(()) }
    }
}

impl Rows for RowPrinter {
    fn begin(&mut self, columns: &[String]) -> Result<(), String> {
        self.columns = columns.iter().map(|column| shown(column)).collect();
        self.widths.clear();
        self.is_first = true;
        match self.format {
            RowFormat::Csv => self.print(&csv_line(columns.iter().map(String::as_str))),
            RowFormat::Json => self.print("["),
            RowFormat::Table | RowFormat::Line => Ok(()),
        }
    }

    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<(), String> {
        let first = std::mem::take(&mut self.is_first);
        match self.format {
            RowFormat::Table => self.table_row(values.iter().map(|&value| cell(value)).collect()),
            RowFormat::Csv => {
                let fields: Vec<String> = values.iter().map(|&value| field(value)).collect();
                self.print(&csv_line(fields.iter().map(String::as_str)))
            }
            RowFormat::Json => {
                let document = object(&self.columns, values);
                self.print(&format!("{}\n{document}", if first { "" } else { "," }))
            }
            RowFormat::Line => {
                let width = self.columns.iter().map(|column| column.chars().count()).max().unwrap_or(0);
                let mut text = if first { String::new() } else { "\n".to_owned() };
                for (column, &value) in self.columns.iter().zip(values) {
                    let _ = writeln!(text, "{column:>width$} = {}", cell(value));
                }
                self.print(&text)
            }
        }
    }

    fn end(&mut self) -> Result<(), String> {
        match self.format {
            RowFormat::Table if self.widths.is_empty() => self.measure()?,
            RowFormat::Json => self.print(if self.is_first { "]\n" } else { "\n]\n" })?,
            _ => {}
        }
        self.out.flush().map_err(|error| error.to_string())
    }
}

/// A row as an object. Of columns with the same name, the last one counts.
pub fn object(columns: &[String], values: &[ValueRef<'_>]) -> Value {
    Value::Object(columns.iter().cloned().zip(values.iter().map(|&value| json_of(value))).collect())
}

/// A value as JSON.
pub fn json_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        // JSON has no infinity.
        ValueRef::Real(number) => {
            serde_json::Number::from_f64(number).map_or_else(|| number.to_string().into(), Value::Number)
        }
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => json!({ "blob": to_hex(bytes) }),
    }
}

/// A value for people: on one line, without control characters.
pub fn cell(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Blob(bytes) => format!("x'{}'", to_hex(bytes)),
        _ => shown(&field(value)),
    }
}

/// A value as a field of CSV: NULL is empty, as in SQLite's own shell.
fn field(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => to_hex(bytes),
    }
}

fn csv_line<'a>(fields: impl Iterator<Item = &'a str>) -> String {
    let quoted = fields.map(|field| {
        if field.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.to_owned()
        }
    });
    format!("{}\r\n", quoted.collect::<Vec<_>>().join(","))
}

/// Text that does nothing to a terminal: control characters are written as escapes.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_nothing_to_a_terminal() {
        assert_eq!(cell(ValueRef::Text(b"a\x1b[2Jb\nc\xff")), "a\\u{1b}[2Jb\\nc\u{fffd}");
        assert_eq!(cell(ValueRef::Blob(&[0, 255])), "x'00ff'");
        assert_eq!(cell(ValueRef::Real(1.0)), "1.0");
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(csv_line(["a", "b,c", "d\"e", ""].into_iter()), "a,\"b,c\",\"d\"\"e\",\r\n");
    }

    #[test]
    fn json_has_all_values() {
        let columns: Vec<String> = ["n", "i", "r", "t", "b", "inf"].map(str::to_owned).into();
        let values = [
            ValueRef::Null,
            ValueRef::Integer(i64::MAX),
            ValueRef::Real(0.5),
            ValueRef::Text(b"x"),
            ValueRef::Blob(b"\x01"),
            ValueRef::Real(f64::INFINITY),
        ];
        let expected = json!({ "n": null, "i": i64::MAX, "r": 0.5, "t": "x", "b": { "blob": "01" }, "inf": "inf" });
        assert_eq!(object(&columns, &values), expected);
    }
}
