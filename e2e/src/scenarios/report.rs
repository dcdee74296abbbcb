//! Rows as they come, and how many held.

use super::{STORIES, Tally};
use crate::row::Row;
use anyhow::Result;
use std::time::Instant;

/// Rows of one run.
pub struct Report {
    /// Stories to tell, by name; `None`: all.
    only: Option<String>,
    /// Facts to look at: a part of their name.
    part: Option<String>,
    long: bool,
    tally: Tally,
}

impl Report {
    /// `STORY`, `STORY/PART-OF-A-FACT` or `PART-OF-A-FACT`.
    pub fn new(filter: Option<&str>, long: bool) -> Self {
        let is_story = |name: &str| STORIES.iter().any(|story| story.name == name);
        let (only, part) = match filter.map(|filter| filter.split_once('/').unwrap_or((filter, ""))) {
            Some((story, part)) if is_story(story) => (Some(story.to_owned()), part),
            _ => (None, filter.unwrap_or_default()),
        };
        let part = Some(part.to_owned()).filter(|part| !part.is_empty());
        Self { only, part, long, tally: Tally::default() }
    }

    /// Whether stories take as long as their promises say.
    pub fn is_long(&self) -> bool {
        self.long
    }

    /// Whether a story is to be told.
    pub fn begins(&self, story: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == story)
    }

    /// Whether a fact is to be looked at.
    pub fn wants(&self, fact: &str) -> bool {
        self.part.as_deref().is_none_or(|part| fact.contains(part))
    }

    /// Looks at one fact and prints its row; whether it held.
    pub async fn fact(&mut self, name: &str, look: impl AsyncFnOnce(&mut Row) -> Result<()>) -> bool {
        if !self.wants(name) {
            return true;
        }
        let (mut row, since) = (Row::new(name), Instant::now());
        if let Err(error) = look(&mut row).await {
            row.expect(false, format!("{error:#}"));
        }
        row.seconds = since.elapsed().as_secs_f64();
        self.row(&row);
        row.passed()
    }

    /// Prints a finished row.
    pub fn row(&mut self, row: &Row) {
        print!("{}", row.text());
        if row.passed() {
            self.tally.passed += 1;
        } else {
            self.tally.failed += 1;
        }
    }

    /// A story that could not go on has failed.
    pub fn broke(&mut self, story: &str, error: &anyhow::Error) {
        let mut row = Row::new(format!("{story}: told to its end"));
        row.expect(false, format!("{error:#}"));
        self.row(&row);
    }

    /// What was counted.
    pub fn tally(&self) -> Tally {
        self.tally
    }
}
