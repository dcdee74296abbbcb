//! Autobahn: WebSocket, case by case. Not the echo server behind is judged but what lies between: every case must end as it
//! does without anything in between.

use super::cache::{self, Cache, Missing};
use super::stand::{self, Place};
use super::{Score, said};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Of the suite.
pub const VERSION: &str = "0.8.2";
/// Cases of the sections below.
pub const CASES: u32 = 247;
/// Not 9 (limits and speed), 12 and 13 (compression, which its echo server does not speak): they take minutes.
const SECTIONS: [&str; 8] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"];
/// May end otherwise through a proxy: who closes first after a bad opcode is a matter of timing.
const MAY_DIFFER: &str = "4.2.5";
/// The last Python it runs on.
const PYTHON: &str = "2.7.18";
/// Every package it needs, pinned.
const PACKAGES: &str = include_str!("../../judges/autobahn/requirements.txt");
const ECHO: &str = include_str!("../../judges/autobahn/echo.py");
const AGENT: &str = "judged";
/// What the direct connection was like, within the folder of a run.
const DIRECT: &str = "direct";

/// How one case ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    behavior: String,
    behavior_close: String,
}

/// Obtains it.
pub fn obtain(cache: &Cache) -> Result<PathBuf, Missing> {
    cache.folder("autobahn", VERSION, &format!("{PACKAGES}{ECHO}"), |folder| {
        let python = python().ok_or_else(|| Missing {
            why: "it needs Python 2.7, which is not here".into(),
            enable: format!("pyenv install {PYTHON}, then `cargo xtask judges install autobahn`"),
        })?;
        cache::write(&folder.join("requirements.txt"), PACKAGES)?;
        cache::write(&folder.join("echo.py"), ECHO)?;
        let pip = |python: &Path, args: &[&str]| {
            let mut command = std::process::Command::new(python);
            command.current_dir(folder).args([
                "-W",
                "ignore",
                "-m",
                "pip",
                "-q",
                "--disable-pip-version-check",
                "install",
            ]);
            command.args(args);
            cache::finish(command, "autobahn")
        };
        pip(&python, &["--target", "virtualenv", "virtualenv==20.15.1"])?;
        let mut make = std::process::Command::new(&python);
        make.current_dir(folder).env("PYTHONPATH", "virtualenv").args(["-m", "virtualenv", "-q", "env"]);
        cache::finish(make, "autobahn")?;
        pip(&folder.join("env/bin/python"), &["-r", "requirements.txt"])
    })
}

fn python() -> Option<PathBuf> {
    let home = std::env::var("PYENV_ROOT").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.pyenv")));
    let pyenv = home.map(|root| PathBuf::from(format!("{root}/versions/{PYTHON}/bin/python2.7")));
    // A shim of pyenv is no Python: it may say that this version is not chosen.
    let found = cache::program("python2.7", &[]).filter(|path| !path.to_string_lossy().contains("/shims/"));
    pyenv.ok().filter(|path| path.is_file()).or(found)
}

fn script(folder: &Path, name: &str) -> Command {
    let mut command = Command::new(folder.join("env/bin/python"));
    command.args(["-W", "ignore"]).arg(folder.join(name)).kill_on_drop(true);
    command
}

/// Judges the entry of `place`, beside a direct connection to the same echo server.
pub async fn judge(folder: &Path, work: &Path, name: &str, place: &Place) -> Result<Score> {
    let (address, port) = (place.app.ip().to_string(), place.app.port().to_string());
    let echo = script(folder, "echo.py").args([&address, &port]).spawn().context("the echo server")?;
    place.reached().await?;
    let direct = match read(work, DIRECT) {
        Ok(known) => known,
        Err(_) => fuzz(folder, work, DIRECT, &Place::direct(place.app)).await?,
    };
    let through = fuzz(folder, work, &name.replace(' ', "-"), place).await?;
    stand::end(echo).await?;
    Ok(compare(&direct, &through))
}

async fn fuzz(folder: &Path, work: &Path, name: &str, place: &Place) -> Result<BTreeMap<String, Verdict>> {
    let spec = json!({
        "options": {"failByDrop": false},
        "outdir": work.join(name),
        "servers": [{"agent": AGENT, "url": format!("ws://{}/", place.entry), "options": {"version": 18}}],
        "cases": SECTIONS,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    let file = work.join(format!("{name}.json"));
    std::fs::write(&file, spec.to_string())?;
    said(script(folder, "env/bin/wstest").args(["-m", "fuzzingclient", "-s"]).arg(&file)).await?;
    read(work, name)
}

fn read(work: &Path, name: &str) -> Result<BTreeMap<String, Verdict>> {
    let text = std::fs::read_to_string(work.join(name).join("index.json")).context("no report of Autobahn's")?;
    let mut agents: BTreeMap<String, BTreeMap<String, Verdict>> = serde_json::from_str(&text)?;
    agents.remove(AGENT).context("its report is about somebody else")
}

fn compare(direct: &BTreeMap<String, Verdict>, through: &BTreeMap<String, Verdict>) -> Score {
    let mut score = Score::default();
    for (case, expect) in direct {
        match through.get(case) {
            Some(seen) if seen == expect || case == MAY_DIFFER => score.passed += 1,
            seen => {
                score.failed += 1;
                score.failures.push(format!("{case}: direct {expect:?}, here {seen:?}"));
            }
        }
    }
    score
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_must_end_as_it_does_directly() {
        let verdict = |word: &str| Verdict { behavior: word.into(), behavior_close: "OK".into() };
        let direct: BTreeMap<_, _> =
            ["1.1.1", "1.1.2", "1.1.3", MAY_DIFFER].map(|case| (case.to_owned(), verdict("NON-STRICT"))).into();
        let mut through = direct.clone();
        assert_eq!(compare(&direct, &through).passed, 4);
        through.insert("1.1.1".into(), verdict("OK"));
        through.insert(MAY_DIFFER.into(), verdict("OK"));
        through.remove("1.1.2");
        let score = compare(&direct, &through);
        assert_eq!((score.passed, score.failed, score.failures.len()), (2, 2, 2));
    }
}
