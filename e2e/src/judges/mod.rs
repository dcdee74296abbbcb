//! Outside judges: conformance suites written by others. Each is obtained at a pinned version, looks first at a peer that is
//! known to pass, so that a broken rig shows, and then at Weft.

pub mod autobahn;
pub mod cache;
pub mod connect;
pub mod h2spec;
pub mod interop;
pub mod run;
pub mod stand;

use anyhow::{Context, Result, bail};
use cache::{Cache, Missing};
use interop::Disturbance;
use serde::Serialize;
use stand::Target;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use tokio::process::Command;

/// A suite.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judge {
    /// connectconformance.
    Connect,
    /// h2spec.
    H2spec,
    /// grpc-go interop.
    Interop,
    /// Autobahn.
    Autobahn,
}

/// What a judge said of one target.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Score {
    /// Cases that passed.
    pub passed: u32,
    /// Cases that failed.
    pub failed: u32,
    /// Cases the suite left out.
    pub skipped: u32,
    /// Names of failed cases, with words where the suite has some.
    pub failures: Vec<String>,
}

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Its name.
    pub judge: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it looked at.
    pub target: String,
    /// Cases that passed.
    pub passed: u32,
    /// Cases that failed.
    pub failed: u32,
    /// Cases that were left out.
    pub skipped: u32,
    /// How long it took.
    pub seconds: f64,
}

impl Judge {
    /// What fails fast comes first.
    pub const ALL: [Self; 4] = [Self::H2spec, Self::Connect, Self::Interop, Self::Autobahn];
    /// Cheap enough for every change.
    pub const QUICK: [Self; 2] = [Self::H2spec, Self::Connect];

    /// As one calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connectconformance",
            Self::H2spec => "h2spec",
            Self::Interop => "grpc-interop",
            Self::Autobahn => "autobahn",
        }
    }

    /// What it says that nothing else does.
    pub fn about(self) -> &'static str {
        match self {
            Self::Connect => "gRPC, gRPC-Web and Connect over HTTP/1.1 and HTTP/2, bytes checked at both ends",
            Self::H2spec => "HTTP/2 framing and states",
            Self::Interop => "the official cases of gRPC, also during swaps and drains",
            Self::Autobahn => "WebSocket, verdicts as without a proxy",
        }
    }

    /// Pinned.
    pub fn version(self) -> &'static str {
        match self {
            Self::Connect => connect::VERSION,
            Self::H2spec => h2spec::VERSION,
            Self::Interop => interop::VERSION,
            Self::Autobahn => autobahn::VERSION,
        }
    }

    /// Cases it has; fewer mean that the rig is broken.
    pub fn cases(self, quick: bool) -> u32 {
        match self {
            Self::Connect if quick => connect::BASIC_CASES,
            Self::Connect => connect::CASES,
            Self::H2spec => h2spec::CASES,
            Self::Interop => interop::CASES,
            Self::Autobahn => autobahn::CASES,
        }
    }

    /// Obtains it unless it is there.
    pub fn obtain(self, cache: &Cache) -> Result<PathBuf, Missing> {
        match self {
            Self::Connect => connect::obtain(cache),
            Self::H2spec => h2spec::obtain(cache),
            Self::Interop => interop::obtain(cache),
            Self::Autobahn => autobahn::obtain(cache),
        }
    }

    /// Lets it judge.
    pub async fn judge(self, folder: &Path, work: &Path, target: &Target, quick: bool) -> Result<Score> {
        match self {
            Self::Connect => connect::judge(folder, work, target, quick).await,
            Self::H2spec => h2spec::judge(folder, &target.http2).await,
            Self::Interop => interop::judge(folder, &target.http2).await,
            Self::Autobahn => autobahn::judge(folder, work, target.name, &target.http1).await,
        }
    }

    /// What may happen to the mesh while it looks again.
    pub fn disturbances(self) -> &'static [Disturbance] {
        match self {
            Self::Interop => &[Disturbance::Swaps, Disturbance::Drains],
            Self::Connect | Self::H2spec | Self::Autobahn => &[],
        }
    }
}

impl FromStr for Judge {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|judge| judge.name() == name)
            .with_context(|| format!("no judge `{name}`; choose from {names}"))
    }
}

/// Runs a suite's program to its end and gives what it printed. Suites end badly when a case fails: that is not our matter
/// here, that they say nothing is.
async fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.trim().is_empty() && !output.status.success() {
        bail!(
            "{:?} ended with {}: {}",
            command.as_std().get_program(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_wrapper_modules() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("judges");
        for judge in Judge::ALL {
            let pins = ["go.mod", "requirements.txt"].map(|file| folder.join(judge.name()).join(file));
            let text: String = pins.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
            let pinned = [format!(" v{}", judge.version()), format!("=={}\n", judge.version())];
            assert!(pinned.iter().any(|pin| text.contains(pin)), "{} {}", judge.name(), judge.version());
        }
    }
}
