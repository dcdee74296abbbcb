//! Progress lines on standard error, each with the time since the start.

use std::fmt::Arguments;
use std::time::Instant;

/// Width of the column that says what a line is about.
const WHAT_WIDTH: usize = 10;

/// Knows when it began.
pub struct Progress(Instant);

impl Progress {
    /// Begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// One line.
    pub fn line(&self, what: &str, text: Arguments<'_>) {
        eprintln!("{:7.1} s  {what:<WHAT_WIDTH$}  {text}", self.0.elapsed().as_secs_f64());
    }
}
