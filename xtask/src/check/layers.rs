//! The layers of ARCHITECTURE.md, held against the graph cargo knows.

use crate::cargo::{Metadata, metadata};
use anyhow::Result;

/// Lowest first. A crate may depend on lower rows only.
const LAYERS: &[&[&str]] = &[
    &["api"],
    &["policy", "resolve", "sync", "balance", "insight"],
    &["store", "sync-grpc", "identity", "process"],
    &["control", "proxy"],
    &["global-cp", "zone-cp", "dataplane", "gateway", "cli"],
];
/// Rows in which neighbours may be used, with the reason.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("resolve", "policy"),     // lowers policies
    ("sync-grpc", "identity"), // reads peers
    ("sync-grpc", "process"),  // drains
    ("identity", "process"),   // writes files
    ("store", "process"),      // writes files
];
/// Only for tests and automation: nothing that is shipped depends on them, and they may depend on anything.
const OUTSIDE: &[&str] = &["testkit", "e2e", "bench", "xtask"];
/// Not in pure crates: anything that does IO, reads a clock or makes randomness.
const NOT_PURE: &[&str] =
    &["tokio", "tonic", "hyper", "hyper-util", "axum", "rustls", "tokio-rustls", "rand", "jiff", "socket2", "nix"];

/// Every dependency that points the wrong way.
pub fn wrong() -> Result<Vec<String>> {
    Ok(judge(&metadata()?))
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&name))
}

fn judge(metadata: &Metadata) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let from = &package.name;
        if OUTSIDE.contains(&from.as_str()) {
            continue;
        }
        let Some(own) = layer(from) else {
            wrong.push(format!("{from} has no layer: add it to ARCHITECTURE.md and xtask/src/check/layers.rs"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev")) {
            let to = &dependency.name;
            if own == 1 && NOT_PURE.contains(&to.as_str()) {
                wrong.push(format!("{from} is pure and may not use {to}"));
            }
            if dependency.path.is_none() {
                continue;
            }
            let allowed = match layer(to) {
                Some(other) => other < own || NEIGHBOURS.contains(&(from.as_str(), to.as_str())),
                None => false,
            };
            if !allowed {
                wrong.push(format!("{from} may not depend on {to}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(from: &str, to: &str, kind: Option<&str>) -> Metadata {
        let path = layer(to).map(|_| "/x");
        let text = serde_json::json!({
            "target_directory": "/t",
            "packages": [{"name": from, "dependencies": [{"name": to, "kind": kind, "path": path}]}],
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn the_workspace_keeps_its_layers() {
        assert_eq!(wrong().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_upwards_or_sideways_is_found() {
        for (from, to, found) in [
            ("api", "sync", true),
            ("sync", "api", false),
            ("balance", "insight", true),
            ("resolve", "policy", false),
            ("proxy", "control", true),
            ("sync", "tokio", true),
            ("store", "tokio", false),
        ] {
            assert_eq!(!judge(&graph(from, to, None)).is_empty(), found, "{from} -> {to}");
        }
        assert!(judge(&graph("sync", "store", Some("dev"))).is_empty(), "tests may look up");
        assert!(!judge(&graph("stranger", "api", None)).is_empty(), "a crate without a layer");
    }
}
