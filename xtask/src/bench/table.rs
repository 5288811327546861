//! Tables and bars as text: one column for names, the others for figures.

use std::fmt::Write;

/// At least this much stands between two columns.
const GAP: usize = 2;

/// A table under its title, with an empty line after it. Names stand left, figures right.
pub fn render<const COLUMNS: usize>(title: &str, heads: &[&str; COLUMNS], rows: &[[String; COLUMNS]]) -> String {
    let heads = heads.map(str::to_owned);
    let width = |column: usize| {
        let cells = std::iter::once(&heads).chain(rows).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    let mut text = format!("{title}\n");
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let width = width + GAP;
            let _ = if at == 0 { write!(line, "  {cell:<width$}") } else { write!(line, "{cell:>width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push('\n');
    text
}

/// A figure, or a dash where there is none.
pub fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

/// A limit that we want to keep.
pub struct Bar {
    pub text: &'static str,
    pub limit: f64,
    /// `None` when a tool that it takes is missing.
    pub measured: Option<f64>,
    pub unit: &'static str,
}

impl Bar {
    fn line(&self) -> String {
        match self.measured {
            None => format!("  not measured  {}\n", self.text),
            Some(measured) => {
                let verdict = if measured <= self.limit { "reached" } else { "missed" };
                format!("  {verdict:<14}{}: {measured:.3}{}\n", self.text, self.unit)
            }
        }
    }
}

/// Each bar with what was measured.
pub fn bars(bars: &[Bar]) -> String {
    let lines: String = bars.iter().map(Bar::line).collect();
    format!("Bars\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["a tool".to_owned(), "1.5".to_owned(), String::new()]];
        assert_eq!(
            render("Title", &["tool", "wall s", ""], &rows),
            "Title\n  tool      wall s\n  a tool       1.5\n\n"
        );
    }

    #[test]
    fn bars_are_reached_missed_or_not_measured() {
        let bar = |measured| Bar { text: "x ≤ 1", limit: 1.0, measured, unit: " s" };
        let text = bars(&[bar(Some(1.0)), bar(Some(1.5)), bar(None)]);
        assert_eq!(
            text,
            "Bars\n  reached       x ≤ 1: 1.000 s\n  missed        x ≤ 1: 1.500 s\n  not measured  x ≤ 1\n"
        );
    }
}
