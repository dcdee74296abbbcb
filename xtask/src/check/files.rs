//! Source files: short, named for what they hold, opening with what they are for.

use crate::run::step;
use anyhow::Result;

const LINES_MAX: usize = 600;
const EXTENSIONS: &[&str] = &["rs", "ts", "svelte"];
/// They say nothing about what is inside.
const BANNED: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "handler", "misc"];
const OPENINGS: &[&str] = &["//!", "#!["];
/// Placeholders for work that was not done.
const UNFINISHED: &[&str] = &[concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME")];

/// Every file that breaks a rule.
pub fn wrong() -> Result<Vec<String>> {
    let listed = step("git", &["ls-files", "--cached", "--others", "--exclude-standard"]).capture()?.stdout;
    let mut wrong = Vec::new();
    for file in listed.lines() {
        let Some((stem, extension)) = file.rsplit('/').next().and_then(|name| name.rsplit_once('.')) else { continue };
        if !EXTENSIONS.contains(&extension) {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        wrong.extend(judge(file, stem, extension, &text));
    }
    Ok(wrong)
}

fn judge(file: &str, stem: &str, extension: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        wrong.push(format!("{file} has {lines} lines; at most {LINES_MAX}"));
    }
    if BANNED.contains(&stem) {
        wrong.push(format!("{file}: `{stem}` does not say what is inside"));
    }
    if extension == "rs" && !OPENINGS.iter().any(|opening| text.starts_with(opening)) {
        wrong.push(format!("{file} does not open with `//!` and what it is for"));
    }
    wrong.extend(UNFINISHED.iter().filter(|word| text.contains(*word)).map(|word| format!("{file} contains {word}")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_file() {
        assert!(judge("a/feed.rs", "feed", "rs", "//! For x.\n").is_empty());
        assert_eq!(judge("a/utils.rs", "utils", "rs", "//! For x.\n").len(), 1);
        assert_eq!(judge("a/feed.rs", "feed", "rs", "use x;\n").len(), 1);
        assert_eq!(judge("a/feed.ts", "feed", "ts", &"x\n".repeat(601)).len(), 1);
        assert_eq!(judge("a/feed.rs", "feed", "rs", concat!("//! x\nfn f() { todo", "!() }\n")).len(), 1);
    }
}
