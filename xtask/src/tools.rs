//! What a machine has, and gets: Debian packages as root, or words about what to do.

use crate::run;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// In CI nothing may be skipped.
pub fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Whether this process may install packages and make network namespaces.
pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| {
            text.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1).map(str::to_owned))
        })
        .is_some_and(|uid| uid == "0")
}

/// A program in `PATH` or where system programs live.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Makes sure that `program` is there, installing `packages` where we may.
///
/// # Errors
/// The command that would make it so, as text.
pub fn need(program: &str, packages: &[&str]) -> Result<PathBuf, String> {
    if let Some(found) = find(program) {
        return Ok(found);
    }
    install(packages)?;
    find(program).ok_or_else(|| format!("apt-get install {}", packages.join(" ")))
}

/// The same for a file that no program stands for.
///
/// # Errors
/// The command that would make it so, as text.
pub fn need_file(file: &str, packages: &[&str]) -> Result<(), String> {
    if !Path::new(file).exists() {
        install(packages)?;
    }
    if Path::new(file).exists() { Ok(()) } else { Err(format!("apt-get install {}", packages.join(" "))) }
}

fn install(packages: &[&str]) -> Result<(), String> {
    static UPDATED: OnceLock<()> = OnceLock::new();
    let wanted = || format!("apt-get install {}", packages.join(" "));
    if !is_root() || find("apt-get").is_none() {
        return Err(wanted());
    }
    let apt = |args: &[&str]| run::step("apt-get", args).env("DEBIAN_FRONTEND", "noninteractive").capture();
    if UPDATED.set(()).is_ok() {
        eprintln!("$ apt-get update");
        let _ = apt(&["update", "-q"]);
    }
    eprintln!("$ apt-get install -y --no-install-recommends {}", packages.join(" "));
    let mut args = vec!["install", "-y", "-q", "--no-install-recommends"];
    args.extend(packages);
    match apt(&args) {
        Ok(out) if out.ok => Ok(()),
        _ => Err(wanted()),
    }
}
