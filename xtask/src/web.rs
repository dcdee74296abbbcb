//! The GUI: built before the control planes, which embed it.

use crate::run::{Step, step};
use crate::suite::Tally;
use crate::tools;
use anyhow::Result;

fn npm(args: &[&str]) -> Step {
    step("npm", args).within("web")
}

fn install() -> Result<()> {
    npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]).run()
}

/// Builds web/dist.
pub fn build() -> Result<()> {
    install()?;
    npm(&["run", "build"]).run()
}

/// Builds web/dist if npm is here and it is missing; the control planes do without it.
pub fn build_if_possible() {
    if std::path::Path::new("web/dist/index.html").exists() {
        return;
    }
    if tools::find("npm").is_none() {
        eprintln!("no npm: the control planes get no GUI. Install Node.js 20.19 or newer and run `cargo xtask web`.");
    } else if let Err(error) = build() {
        eprintln!("the GUI could not be built ({error:#}); the control planes go without it");
    }
}

/// Types, unit tests, and the page in a real browser.
pub fn suite(filter: Option<&str>) -> Tally {
    if tools::find("npm").is_none() {
        return Tally::skipped("the GUI's tests", "install Node.js 20.19 or newer");
    }
    let mut tally = Tally::default();
    if let Err(error) = build() {
        return tally.ended(Err(error));
    }
    tally.add(Tally::fact(npm(&["run", "check"]).succeeds().unwrap_or(false)));
    let mut unit = vec!["run", "test"];
    if let Some(filter) = filter {
        unit.extend(["--", "-t", filter]);
    }
    tally.add(Tally::fact(npm(&unit).succeeds().unwrap_or(false)));
    match tools::need("chromium", &["chromium"]) {
        Err(enable) => tally.add(Tally::skipped("the page in Chromium", &enable)),
        Ok(chromium) => {
            let ended = npm(&["run", "e2e"]).env("CHROMIUM", chromium).watch(|line| tally.read(line));
            tally = tally.ended(ended);
        }
    }
    tally
}
