//! `cargo xtask bench`: release builds, then the interleaved comparison.

use crate::cargo::{cargo, target_dir};
use crate::run::step;
use anyhow::Result;

/// Builds for release and measures; see bench/README.md.
pub fn run(flags: &[String]) -> Result<bool> {
    cargo(&["build", "--release", "--workspace", "--bins"]).run()?;
    let folder = target_dir()?.join("release");
    let bin = folder.to_string_lossy().into_owned();
    let mut args = vec!["--bin", &bin];
    args.extend(flags.iter().map(String::as_str));
    step(&folder.join("weft-bench").to_string_lossy(), &args).succeeds()
}
