//! Bad input: `cases.yaml` says what is done, `messages.txt` what a person then sees, word for word. `UPDATE=1`
//! rewrites the messages; read the difference as the person would.

mod prepared;

use super::report::Report;
use super::scene::{LOOK, Start};
use crate::row::Row;
use anyhow::{Context, Result, bail, ensure};
use prepared::Prepared;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const CASES: &str = include_str!("cases.yaml");
const MESSAGES: &str = "src/scenarios/input/messages.txt";
/// The least that the suite promises.
const CASES_MIN: usize = 60;
/// Bad input is answered at once; a program that still runs has taken it.
const END_WAIT: Duration = Duration::from_secs(10);
/// User without any right (every Linux has it under this number).
const NOBODY: u32 = 65_534;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// `GROUP/WHAT`.
    name: String,
    /// Command line; `{words}` stand for what was prepared.
    run: String,
    /// Control plane that `weft` asks: `global` or `west`.
    #[serde(default)]
    at: Option<String>,
    /// Written into the folder the program runs in.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// Runs as nobody.
    #[serde(default)]
    nobody: bool,
    /// The program goes on trying, and what counts is its first warning.
    #[serde(default)]
    goes_on: bool,
}

/// Looks at them, a row a group.
pub async fn tell(report: &mut Report) -> Result<()> {
    let cases: Vec<Case> = serde_saphyr::from_str(CASES).context("cases.yaml")?;
    ensure!(cases.len() >= CASES_MIN, "{} cases; {CASES_MIN} are promised", cases.len());
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    ensure!(names.len() == cases.len(), "two cases have one name");
    if !cases.iter().any(|case| report.wants(&case.name)) {
        return Ok(());
    }
    let prepared = Prepared::new().await?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(MESSAGES);
    let mut expected = read(&std::fs::read_to_string(&path).unwrap_or_default());
    let update = std::env::var_os("UPDATE").is_some();
    let mut groups: Vec<&str> = Vec::new();
    for case in &cases {
        let group = case.name.split('/').next().unwrap_or_default();
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    for group in groups {
        let all: Vec<&Case> = cases
            .iter()
            .filter(|case| case.name.split('/').next() == Some(group) && report.wants(&case.name))
            .collect();
        if all.is_empty() {
            continue;
        }
        let (mut row, since) = (Row::new(format!("input: {group}")), Instant::now());
        for case in &all {
            match look(&prepared, case).await {
                Ok(seen) if update => drop(expected.insert(case.name.clone(), seen)),
                Ok(seen) => compare(&mut row, &case.name, expected.get(&case.name), &seen),
                Err(error) => row.expect(false, format!("{}: {error:#}", case.name)),
            }
        }
        row.saw(format!("{} cases, each with its exit code and exact words", all.len()));
        row.seconds = since.elapsed().as_secs_f64();
        report.row(&row);
    }
    if update {
        expected.retain(|name, _| names.contains(name.as_str()));
        let mut text = String::new();
        for case in &cases {
            if let Some(seen) = expected.get(&case.name) {
                let _ = writeln!(text, "## {}\n{seen}", case.name);
            }
        }
        std::fs::write(&path, text)?;
    }
    Ok(())
}

/// Sections of the messages file, by name.
fn read(text: &str) -> BTreeMap<String, String> {
    let mut sections = BTreeMap::new();
    for section in text.split("## ").skip(1) {
        let (name, body) = section.split_once('\n').unwrap_or((section, ""));
        sections.insert(name.to_owned(), format!("{}\n", body.trim_end()));
    }
    sections
}

fn compare(row: &mut Row, name: &str, expected: Option<&String>, seen: &str) {
    let expected = expected.map_or("nothing was expected yet; UPDATE=1 records it\n", String::as_str);
    if expected != seen {
        let mut words = format!("{name}: a person sees other words (UPDATE=1 accepts them)");
        for line in expected.lines().filter(|line| !seen.contains(line)) {
            let _ = write!(words, "\n            - {line}");
        }
        for line in seen.lines().filter(|line| !expected.contains(line)) {
            let _ = write!(words, "\n            + {line}");
        }
        row.expect(false, words);
    }
}

/// Runs a case: the command line, the exit code, and what was printed, without what differs from run to run.
async fn look(prepared: &Prepared, case: &Case) -> Result<String> {
    let folder = prepared.base.scene.path("cases").join(case.name.replace('/', "_"));
    std::fs::create_dir_all(&folder)?;
    for (name, text) in &case.files {
        std::fs::write(folder.join(name), text)?;
    }
    let words: Vec<&str> = case.run.split_whitespace().collect();
    let (program, args) = words.split_first().context("a command line")?;
    let args: Vec<String> = args.iter().map(|word| prepared.fill(word)).collect::<Result<_>>()?;
    let start = Start { program: prepared::program(program)?, args, space: None, user: case.nobody.then_some(NOBODY) };
    let mut command = tokio::process::Command::from(prepared.base.scene.command(&start));
    let said = folder.join("said");
    let out = std::fs::File::create(&said)?;
    command
        .current_dir(&folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &folder)
        .env("RUST_LOG", if case.goes_on { "warn" } else { "off" })
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .kill_on_drop(true);
    if let Some(at) = &case.at {
        let (server, token) = prepared.control(at)?;
        command.env("WEFT_SERVER", server).env("WEFT_TOKEN_FILE", token);
    }
    let mut child = command.spawn()?;
    let ended = if case.goes_on { first_line(&said, &mut child).await? } else { whole(&said, &mut child).await? };
    let text = prepared.steady(&std::fs::read_to_string(&said)?, &folder);
    let text = if case.goes_on { warning(&text) } else { text };
    let mut seen = format!("$ {}\n{ended}\n", case.run);
    for line in text.trim_end().lines() {
        let _ = writeln!(seen, "{}", line.trim_end());
    }
    Ok(seen)
}

async fn whole(said: &PathBuf, child: &mut tokio::process::Child) -> Result<String> {
    match tokio::time::timeout(END_WAIT, child.wait()).await {
        Ok(status) => Ok(format!("exit {}", status?.code().context("it was killed")?)),
        Err(_) => bail!("it still runs after {} s: {}", END_WAIT.as_secs(), std::fs::read_to_string(said)?),
    }
}

async fn first_line(said: &PathBuf, child: &mut tokio::process::Child) -> Result<String> {
    let since = Instant::now();
    while since.elapsed() < END_WAIT {
        if let Some(status) = child.try_wait()? {
            return Ok(format!("exit {}", status.code().context("it was killed")?));
        }
        if std::fs::read_to_string(said)?.contains('\n') {
            child.kill().await?;
            return Ok("goes on trying".into());
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("it said nothing within {} s", END_WAIT.as_secs())
}

/// The first event of a log, without its time.
fn warning(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.split_once("Z ").map_or(line, |(_, rest)| rest).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_read_and_each_has_its_words() {
        let cases: Vec<Case> = serde_saphyr::from_str(CASES).unwrap();
        assert!(cases.len() >= CASES_MIN);
        let expected = read(include_str!("messages.txt"));
        for case in &cases {
            assert!(expected.contains_key(&case.name), "{} has no words; run it with UPDATE=1", case.name);
        }
        assert_eq!(expected.len(), cases.len(), "words without a case");
    }

    #[test]
    fn a_difference_is_shown_line_by_line() {
        let mut row = Row::new("x");
        compare(&mut row, "a", Some(&"exit 1\nold words\n".to_owned()), "exit 1\nnew words\n");
        assert!(row.wrong[0].contains("- old words") && row.wrong[0].contains("+ new words"));
        assert!(!row.wrong[0].contains("exit 1"));
    }
}
