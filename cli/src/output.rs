//! What goes to standard output: tables for people, JSON and YAML for programs. Everything else goes to standard
//! error, so that a pipe carries data only.

use api::problem::Diagnostic;
use serde::Serialize;
use std::io::{IsTerminal, Write};

/// One line to standard output. When nobody reads any more (`| head`) the command has done its work.
#[macro_export]
macro_rules! out {
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}

/// What [`out!`](crate::out) does.
pub fn line(text: std::fmt::Arguments<'_>) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Draws mistakes on their text: with colours on a terminal, unless `NO_COLOR` says otherwise (<https://no-color.org>).
pub fn draw(text: &str, diagnostics: &[Diagnostic]) -> String {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if set("CLICOLOR_FORCE") || (std::io::stderr().is_terminal() && !set("NO_COLOR")) {
        policy::document::render_styled(text, diagnostics)
    } else {
        policy::document::render(text, diagnostics)
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// Columns
    Table,
    /// More columns
    Wide,
    /// One JSON document; with -w one a line
    Json,
    /// YAML documents
    Yaml,
    /// Names only
    Name,
}

/// Space between columns.
const GAP: &str = "  ";
/// Longer cells are words that begin with a number.
const NUMBER_WIDTH_MAX: usize = 10;

/// Aligned columns without lines: readable on a terminal, and simple to cut in a pipe.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a heading.
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self { rows: vec![head.into_iter().map(Into::into).collect()] }
    }

    /// One more row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Whether it has no row but its heading.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The text, each line ending with a newline. Cells that look like numbers stand to the right.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let number = |column: usize| {
            let cells: Vec<&String> = self.rows[1..].iter().filter_map(|row| row.get(column)).collect();
            let digit = |cell: &&String| cell.starts_with(|c: char| c.is_ascii_digit());
            let short = |cell: &String| cell.chars().count() <= NUMBER_WIDTH_MAX && !cell.contains(':');
            cells.iter().any(digit) && cells.iter().all(|cell| (digit(cell) || *cell == "-") && short(cell))
        };
        let right: Vec<bool> = (0..columns).map(number).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let fill = " ".repeat(widths[column] - cell.chars().count());
                let (before, after) = if right[column] { (fill, String::new()) } else { (String::new(), fill) };
                line.push_str(&format!("{before}{cell}{after}{GAP}"));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// To standard output.
    pub fn print(&self) {
        out!("{}", self.text().trim_end());
    }
}

/// One JSON document.
pub fn print_json(value: &impl Serialize) {
    out!("{}", serde_json::to_string_pretty(value).expect("what is printed is plain data"));
}

/// One YAML document.
pub fn print_yaml(value: &impl Serialize) {
    out!("{}", yaml(value).trim_end());
}

/// As YAML text.
pub fn yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value).expect("what is printed is plain data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let mut table = Table::new(["NAME", "N", "WHY"]);
        table.row(["west", "7", ""]);
        table.row(["edge-far", "12", "late"]);
        assert_eq!(table.text(), "NAME       N  WHY\nwest       7\nedge-far  12  late\n");
    }
}
