//! Every reason a proxy may give is produced by a test: a word that nothing produces explains nothing.

use crate::run::step;
use anyhow::{Context as _, Result};

const LIST: &str = "api/src/reason.rs";
/// Where tests begin within a source file.
const INLINE: &str = "#[cfg(test)]";

/// Reasons that no test names.
pub fn wrong() -> Result<Vec<String>> {
    let list = std::fs::read_to_string(LIST).with_context(|| format!("reading {LIST}"))?;
    let listed = step("git", &["ls-files", "--cached", "--others", "--exclude-standard"]).capture()?.stdout;
    let tests: Vec<String> = listed.lines().filter_map(test_text).collect();
    Ok(untested(&list, &tests))
}

/// What of a file is test: all, what follows `#[cfg(test)]`, or nothing.
fn test_text(path: &str) -> Option<String> {
    if !path.ends_with(".rs") || path == LIST || path.starts_with("xtask/") {
        return None;
    }
    let text = std::fs::read_to_string(path).ok()?;
    let all = path.starts_with("e2e/") || path.contains("/tests/") || path.ends_with("/tests.rs");
    if all { Some(text) } else { text.find(INLINE).map(|at| text[at..].to_owned()) }
}

fn untested(list: &str, tests: &[String]) -> Vec<String> {
    let reasons = list.lines().filter_map(|line| {
        let (variant, rest) = line.trim().split_once(" = \"")?;
        let (text, _) = rest.split_once("\",")?;
        Some((variant, text))
    });
    let named = |variant: &str, text: &str| {
        let (variant, text) = (format!("RouteReason::{variant}"), format!("\"{text}\""));
        tests.iter().any(|test| test.contains(&text) || names(test, &variant))
    };
    reasons
        .filter(|(variant, text)| !named(variant, text))
        .map(|(_, text)| format!("{LIST}: no test produces {text}"))
        .collect()
}

/// Whether `word` stands in `text` by itself: `RouteReason::Local` is not in `RouteReason::LocalNone`.
fn names(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| !text[at + word.len()..].starts_with(|c: char| c.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_counts_as_tested_by_its_word_or_its_name() {
        let list = "    Local = \"LOCAL\", \"usual\";\n    LocalNone = \"LOCAL_NONE\", \"none\";\n    Panic = \"PANIC\", \"all\";";
        let tests = ["assert_eq!(reason, RouteReason::LocalNone);".to_owned(), "expect(\"PANIC\")".to_owned()];
        assert_eq!(untested(list, &tests), ["api/src/reason.rs: no test produces LOCAL"]);
    }
}
