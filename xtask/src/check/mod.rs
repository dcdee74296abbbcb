//! `cargo xtask check`: what reviewers should not have to look for.

mod files;
mod layers;
mod links;
mod reasons;

use crate::cargo::{self, cargo};
use crate::run;
use crate::suite::Tally;
use crate::tools;
use anyhow::Result;

/// Crates that no program of ours links: a second TLS stack makes rustls refuse to choose.
const NEVER: &[&str] = &["ring", "openssl", "openssl-sys", "native-tls"];
/// Crates that proxies do not link, besides.
const NEVER_IN_PROXIES: &[&str] = &["store", "redb", "etcd-client", "kube", "control", "policy", "resolve"];

/// All checks; whether all hold.
pub fn run() -> Result<bool> {
    let tally = suite();
    println!("{tally}");
    Ok(tally.failed == 0)
}

/// All checks, counted.
pub fn suite() -> Tally {
    let mut tally = Tally::default();
    let mut facts = |name: &str, wrong: Result<Vec<String>>| {
        let wrong = wrong.unwrap_or_else(|error| vec![format!("{error:#}")]);
        println!("{} {name}", if wrong.is_empty() { "ok  " } else { "FAIL" });
        wrong.iter().for_each(|line| println!("     {line}"));
        tally.add(Tally::fact(wrong.is_empty()));
    };
    facts("crates depend on lower layers only", layers::wrong());
    facts("files open with what they are for, and none is over 600 lines", files::wrong());
    facts("links of the documentation lead somewhere", links::wrong());
    facts("every reason a proxy may give is produced by a test", reasons::wrong());
    facts("no ring and no OpenSSL in the tree, no store in proxies", dependencies());
    facts("the code is formatted", passes(&["fmt", "--all", "--check"]));
    facts(
        "clippy has nothing to say",
        passes(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
    );
    facts("rustdoc has nothing to say", rustdoc());
    if tools::find("cargo-deny").is_some() {
        facts("cargo deny has nothing to say", passes(&["deny", "--offline", "check", "bans", "licenses", "sources"]));
    }
    tally
}

fn passes(args: &[&str]) -> Result<Vec<String>> {
    Ok(if cargo(args).succeeds()? { Vec::new() } else { vec![format!("cargo {} failed", args.join(" "))] })
}

fn rustdoc() -> Result<Vec<String>> {
    let step: run::Step = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings");
    Ok(if step.succeeds()? { Vec::new() } else { vec!["cargo doc failed".into()] })
}

fn dependencies() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for package in ["global-cp", "zone-cp", "dataplane", "gateway", "cli"] {
        let linked = cargo::linked(package)?;
        let proxy = matches!(package, "dataplane" | "gateway");
        let banned = NEVER.iter().chain(NEVER_IN_PROXIES.iter().filter(|_| proxy));
        wrong.extend(
            banned.filter(|name| linked.iter().any(|have| have == *name)).map(|name| format!("{package} links {name}")),
        );
    }
    Ok(wrong)
}
