//! Runs `nft`. Rules are checked before they are put in place, and read back afterwards.

use super::{Plan, TABLE, script};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Why rules could not be put in place or removed.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// No program.
    #[error("`nft` is not installed; install the package nftables")]
    Missing,
    /// Not allowed.
    #[error("nftables refused because this process may not change them; run as root or with CAP_NET_ADMIN")]
    Permission,
    /// Anything else, in nft's own words.
    #[error("nftables refused the rules, and nothing was changed: {0}")]
    Refused(String),
    /// After the fact.
    #[error("the rules were accepted but are not in place; does another program manage nftables on this host?")]
    NotThere,
    /// The program did not run.
    #[error("`nft` could not be run")]
    Run(#[from] std::io::Error),
}

/// Puts the rules in place, all or none, and reads them back.
///
/// # Errors
/// When nftables refuses; then nothing was changed.
pub fn up(plan: &Plan) -> Result<(), RedirectError> {
    let text = script(plan);
    nft(&["--check", "--file", "-"], &text)?;
    nft(&["--file", "-"], &text)?;
    match show()? {
        Some(rules) if rules.contains("chain outbound") && rules.contains("chain inbound") => Ok(()),
        _ => Err(RedirectError::NotThere),
    }
}

/// Removes the rules. Removing what is not there is no error.
///
/// # Errors
/// When nftables refuses.
pub fn down() -> Result<(), RedirectError> {
    nft(&["--file", "-"], &format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")).map(drop)
}

/// The rules in place, in nftables' words.
///
/// # Errors
/// When nftables cannot be asked.
pub fn show() -> Result<Option<String>, RedirectError> {
    match nft(&["list", "table", "inet", TABLE], "") {
        Ok(text) => Ok(Some(text)),
        Err(RedirectError::Refused(why)) if why.contains("No such file") => Ok(None),
        Err(error) => Err(error),
    }
}

fn nft(flags: &[&str], input: &str) -> Result<String, RedirectError> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new("nft")
        .args(flags)
        // System programs live where a user's PATH does not always look.
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => RedirectError::Missing,
            _ => RedirectError::Run(error),
        })?;
    child.stdin.take().expect("asked for above").write_all(input.as_bytes())?;
    let out = child.wait_with_output()?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    Err(if why.contains("Operation not permitted") { RedirectError::Permission } else { RedirectError::Refused(why) })
}
