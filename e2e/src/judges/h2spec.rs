//! h2spec: framing and states of HTTP/2 as a server must keep them (RFC 9113 and RFC 7541).

use super::cache::{Cache, GoModule, Missing};
use super::stand::{self, Place};
use super::{Score, said};
use anyhow::{Context, Result};
use std::path::PathBuf;
use tokio::process::Command;

/// Of the suite.
pub const VERSION: &str = "2.2.1";
/// Cases of that version, strict ones included.
pub const CASES: u32 = 146;
/// Seconds in which something must happen; a failing case waits so long.
const TIMEOUT: &str = "2";

/// Obtains it.
pub fn obtain(cache: &Cache) -> Result<PathBuf, Missing> {
    cache.go(&GoModule {
        name: "h2spec",
        version: VERSION,
        module: include_str!("../../judges/h2spec/go.mod"),
        sums: include_str!("../../judges/h2spec/go.sum"),
        packages: &["github.com/summerwind/h2spec/cmd/h2spec"],
    })
}

/// Judges the entry of `place`, with an app behind it.
pub async fn judge(folder: &std::path::Path, place: &Place) -> Result<Score> {
    let app = stand::demo_app(place.app)?;
    place.reached().await?;
    let (address, port) = (place.entry.ip().to_string(), place.entry.port().to_string());
    let args = ["--strict", "-o", TIMEOUT, "-h", &address, "-p", &port];
    let output = said(Command::new(folder.join("h2spec")).args(args)).await?;
    stand::end(app).await?;
    read(&output)
}

/// `146 tests, 145 passed, 0 skipped, 1 failed`, and failed cases marked with a cross.
fn read(output: &str) -> Result<Score> {
    let total = output.lines().rev().find(|line| line.contains(" tests, ")).context("h2spec counted nothing")?;
    let number = |word: &str| {
        total.split(", ").find_map(|part| part.strip_suffix(word)?.trim().parse().ok()).context("no count of h2spec's")
    };
    let mut failures: Vec<String> =
        output.lines().filter_map(|line| Some(line.split_once("× ")?.1.trim().to_owned())).collect();
    failures.dedup();
    Ok(Score { passed: number("passed")?, failed: number("failed")?, skipped: number("skipped")?, failures })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_last_line_is_the_score() {
        let output = "  × 2: Sends invalid connection preface\n  -> ...\n146 tests, 145 passed, 0 skipped, 1 failed\n";
        let score = read(output).unwrap();
        assert_eq!((score.passed, score.failed, score.skipped), (145, 1, 0));
        assert_eq!(score.failures, ["2: Sends invalid connection preface"]);
        assert!(read("panic").is_err());
    }
}
