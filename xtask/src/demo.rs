//! `cargo xtask demo`: builds, then runs the demo.

use crate::{cargo, run, web};
use anyhow::Result;
use std::path::PathBuf;

/// Data and logs of a demo that stays up.
const STATE: &str = ".weft-dev/demo";

/// Whether every step passed, or the demo ended well.
pub fn run(check: bool, json: Option<PathBuf>, steps: &[u8]) -> Result<bool> {
    let folder = prepare()?;
    let mut flags: Vec<String> = Vec::new();
    if check {
        flags.push("--check".into());
    } else {
        // Where README's tour looks for it.
        flags.extend(["--state".into(), STATE.into()]);
    }
    if let Some(file) = json {
        flags.extend(["--json".into(), file.display().to_string()]);
    }
    if !steps.is_empty() {
        let list: Vec<String> = steps.iter().map(u8::to_string).collect();
        flags.extend(["--steps".into(), list.join(",")]);
    }
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    run::step(&folder.join("weft-demo").to_string_lossy(), &flags).succeeds()
}

/// The GUI where Node is, then all programs.
fn prepare() -> Result<PathBuf> {
    eprintln!("[1/3] the GUI");
    web::build_if_possible();
    eprintln!("[2/3] the programs; the first time this takes some minutes");
    let folder = cargo::build_all(&[])?;
    eprintln!("[3/3] the mesh");
    Ok(folder)
}
