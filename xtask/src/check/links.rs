//! Relative links in Markdown lead to files that exist.

use crate::run::step;
use anyhow::Result;
use std::path::Path;

/// Every link that leads nowhere.
pub fn wrong() -> Result<Vec<String>> {
    let listed = step("git", &["ls-files", "--cached", "--others", "--exclude-standard", "*.md"]).capture()?.stdout;
    let mut wrong = Vec::new();
    for file in listed.lines() {
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let folder = Path::new(file).parent().unwrap_or(Path::new(""));
        for link in links(&text) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !folder.join(target).exists() {
                wrong.push(format!("{file}: {link} leads nowhere"));
            }
        }
    }
    Ok(wrong)
}

fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|link| !link.contains("://") && !link.contains(' ') && !link.starts_with("mailto:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_links_are_found() {
        let text = "[a](b.md) and [c](https://x.example/) [d](../e.md#f) [g](#h)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["b.md", "../e.md#f", "#h"]);
    }
}
