//! What a step saw: a row of the table, and an object in the JSON file.

use serde::Serialize;
use std::collections::BTreeMap;

/// What one step saw.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Number and words.
    pub step: String,
    /// What was seen, in words.
    pub seen: Vec<String>,
    /// By name.
    pub figures: BTreeMap<String, f64>,
    /// What did not hold; empty: passed.
    pub wrong: Vec<String>,
    /// Figures of this machine at this moment: shown with their limits, and not counted.
    pub measured: bool,
    /// How long it took.
    pub seconds: f64,
}

impl Row {
    /// For a step.
    pub fn new(step: impl Into<String>) -> Self {
        Self { step: step.into(), ..Self::default() }
    }

    /// Something seen.
    pub fn saw(&mut self, text: impl Into<String>) {
        self.seen.push(text.into());
    }

    /// A number.
    pub fn figure(&mut self, name: &str, value: f64) {
        self.figures.insert(name.into(), (value * 1000.0).round() / 1000.0);
    }

    /// Something that must hold.
    pub fn expect(&mut self, holds: bool, otherwise: impl Into<String>) {
        if !holds {
            self.wrong.push(otherwise.into());
        }
    }

    /// Whether everything held.
    pub fn passed(&self) -> bool {
        self.wrong.is_empty()
    }

    /// In one word: `passed`, `failed` or `measured`.
    pub fn verdict(&self) -> &'static str {
        match (self.measured, self.passed()) {
            (true, _) => "measured",
            (false, true) => "passed",
            (false, false) => "failed",
        }
    }

    /// Lines for people.
    pub fn text(&self) -> String {
        let mark = match self.verdict() {
            "passed" => "ok  ",
            "failed" => "FAIL",
            _ => "    ",
        };
        let mut text = format!("{mark}  {:<62} {:6.1} s\n", self.step, self.seconds);
        for line in &self.seen {
            text.push_str(&format!("          {line}\n"));
        }
        for line in &self.wrong {
            text.push_str(&format!("      !   {line}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_that_does_not_hold_fails_a_row() {
        let mut row = Row::new("1 something");
        row.expect(true, "no");
        assert!(row.passed());
        row.expect(false, "4 of 5 answered");
        assert!(!row.passed() && row.text().contains("4 of 5 answered"));
    }
}
