//! `cargo xtask test`: every suite, each with what it needs.

use crate::suite::Tally;
use crate::{cargo, check, judges, tools, web};
use anyhow::{Result, bail};
use std::time::Instant;

type Run = fn(Option<&str>) -> Tally;

/// In the order in which they run: what fails fast comes first.
const SUITES: &[(&str, &str, Run)] = &[
    ("web", "the GUI: types, units, the page in Chromium", web::suite),
    ("unit", "cases, simulations, in-process mesh, store conformance against etcd", unit),
    ("check", "formatting, lints, layers, sizes, links, dependencies", |_| check::suite()),
    ("demo", "the twelve steps of the demo, on real processes", demo),
    (
        "judges",
        "conformance suites written by others: h2spec, and the basic cases of connectconformance",
        judges::suite,
    ),
    ("netns", "real processes in network namespaces, faults, bad input", netns),
];

/// Runs one suite or all; whether nothing failed.
pub fn run(suite: Option<&str>, filter: Option<&str>) -> Result<bool> {
    if let Some(name) = suite
        && !SUITES.iter().any(|(known, ..)| *known == name)
    {
        let names: Vec<&str> = SUITES.iter().map(|(known, ..)| *known).collect();
        bail!("no suite `{name}`; choose from {}", names.join(", "));
    }
    let mut total = Tally::default();
    let mut rows = Vec::new();
    for (name, about, run) in SUITES.iter().filter(|(known, ..)| suite.is_none_or(|name| name == *known)) {
        eprintln!("\n== {name}: {about}");
        let start = Instant::now();
        let tally = run(filter);
        rows.push(format!("{name:6} {tally}, {} s", start.elapsed().as_secs()));
        total.add(tally);
    }
    eprintln!();
    rows.iter().for_each(|row| eprintln!("{row}"));
    println!("{total}");
    Ok(total.failed == 0)
}

/// Features that all builds of a test run share, so that nothing is built twice.
fn features() -> Vec<&'static str> {
    let protoc = tools::need("protoc", &["protobuf-compiler"]).is_ok();
    let includes = tools::need_file("/usr/include/google/protobuf/descriptor.proto", &["libprotobuf-dev"]).is_ok();
    if protoc && includes { vec!["store/etcd"] } else { Vec::new() }
}

fn unit(filter: Option<&str>) -> Tally {
    let mut tally = Tally::default();
    let etcd = tools::need("etcd", &["etcd-server"]);
    let features = features();
    let list = features.join(",");
    let mut args = vec!["test", "--workspace"];
    if !features.is_empty() && etcd.is_ok() {
        args.extend(["--features", &list]);
    } else {
        let enable = "apt-get install etcd-server protobuf-compiler libprotobuf-dev";
        tally.add(Tally::skipped("the store's conformance suite on etcd", enable));
    }
    args.extend(["--no-fail-fast", "--"]);
    args.extend(filter);
    let ended = cargo::cargo(&args).watch(|line| tally.read(line));
    tally.ended(ended)
}

fn demo(_: Option<&str>) -> Tally {
    scenarios("weft-demo", &["--check"])
}

fn netns(filter: Option<&str>) -> Tally {
    let needs = [("nft", "nftables"), ("ip", "iproute2"), ("etcd", "etcd-server")];
    let missing: Vec<&str> =
        needs.iter().filter(|(program, package)| tools::need(program, &[package]).is_err()).map(|(_, p)| *p).collect();
    if !tools::is_root() || !missing.is_empty() {
        return Tally::skipped("scenarios in network namespaces", "sudo cargo xtask test netns");
    }
    scenarios("weft-scenarios", &filter.into_iter().collect::<Vec<_>>())
}

/// Builds everything and runs one of the programs of `e2e`.
pub fn scenarios(program: &str, flags: &[&str]) -> Tally {
    let mut tally = Tally::default();
    let ended = cargo::build_all(&features()).and_then(|folder| {
        crate::run::step(&folder.join(program).to_string_lossy(), flags).watch(|line| tally.read(line))
    });
    tally.ended(ended)
}
