//! Cargo, and where things of this workspace are.

use crate::run::{self, Output};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_owned()
}

/// A cargo command.
pub fn cargo(args: &[&str]) -> run::Step {
    run::step(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()), args)
}

/// Builds the whole workspace, so that features are the same whoever asks; returns the folder of the programs.
pub fn build_all(features: &[&str]) -> Result<PathBuf> {
    let list = features.join(",");
    let mut args = vec!["build", "--workspace", "--bins"];
    if !features.is_empty() {
        args.extend(["--features", &list]);
    }
    cargo(&args).run()?;
    Ok(target_dir()?.join("debug"))
}

/// Where cargo builds.
pub fn target_dir() -> Result<PathBuf> {
    Ok(metadata()?.target_directory)
}

/// What `cargo metadata` says of our own packages.
#[derive(Deserialize)]
pub struct Metadata {
    /// Ours.
    pub packages: Vec<Package>,
    target_directory: PathBuf,
}

/// One package.
#[derive(Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
}

/// One dependency.
#[derive(Deserialize)]
pub struct Dependency {
    /// Name of the package.
    pub name: String,
    /// `None`, `dev` or `build`.
    pub kind: Option<String>,
    /// Set for our own.
    pub path: Option<PathBuf>,
}

/// Our packages and their direct dependencies.
pub fn metadata() -> Result<Metadata> {
    let Output { stdout, .. } = cargo(&["metadata", "--no-deps", "--format-version", "1", "--offline"]).capture()?;
    serde_json::from_str(&stdout).context("cargo metadata said something unexpected")
}

/// Names of all packages a program links, by `cargo tree`.
pub fn linked(package: &str) -> Result<Vec<String>> {
    let args = ["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let Output { ok, stdout, stderr } = cargo(&args).capture()?;
    if !ok {
        bail!("cargo tree of {package} failed:\n{stderr}");
    }
    let mut names: Vec<String> = stdout.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    Ok(names)
}
