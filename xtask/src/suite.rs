//! What a suite of tests ends with.

use crate::tools;
use anyhow::Result;

/// Facts that held, facts that did not, and what could not be looked at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Held.
    pub passed: u32,
    /// Did not.
    pub failed: u32,
    /// Could not be looked at; never in CI.
    pub skipped: u32,
}

impl Tally {
    /// One fact.
    pub fn fact(held: bool) -> Self {
        Self { passed: held.into(), failed: (!held).into(), skipped: 0 }
    }

    /// A suite that cannot run here. In CI that is a failure.
    pub fn skipped(suite: &str, enable: &str) -> Self {
        eprintln!("\nSKIPPED: {suite}. To enable it: {enable}\n");
        if tools::in_ci() { Self::fact(false) } else { Self { skipped: 1, ..Self::default() } }
    }

    /// Both.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Takes what a test runner prints: `test result: ok. 5 passed; 0 failed; 1 ignored; ...` or `5 passed, 0 failed`.
    pub fn read(&mut self, line: &str) {
        let number = |word: &str| {
            let (before, _) = line.split_once(&format!(" {word}"))?;
            before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok()
        };
        let plain = line.starts_with(|c: char| c.is_ascii_digit()) && line.contains(" passed, ");
        if line.starts_with("test result:") || plain {
            self.passed += number("passed").unwrap_or(0);
            self.failed += number("failed").unwrap_or(0);
            self.skipped += number("skipped").unwrap_or(0);
        }
    }

    /// A runner that failed without naming a failed test, such as one that did not compile, still failed.
    pub fn ended(mut self, well: Result<bool>) -> Self {
        match well {
            Ok(true) => {}
            Ok(false) => self.failed = self.failed.max(1),
            Err(error) => {
                eprintln!("error: {error:#}");
                self.failed = self.failed.max(1);
            }
        }
        self
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runners_print_is_counted() {
        let mut tally = Tally::default();
        for line in [
            "test result: ok. 12 passed; 1 failed; 3 ignored; 0 measured; 7 filtered out; finished in 0.1s",
            "15 passed, 2 failed",
            "12 passed, 0 failed, 1 skipped",
            "the word passed, alone",
        ] {
            tally.read(line);
        }
        assert_eq!(tally, Tally { passed: 39, failed: 3, skipped: 1 });
    }

    #[test]
    fn a_runner_that_dies_silently_has_failed() {
        assert_eq!(Tally::default().ended(Ok(false)).failed, 1);
    }
}
