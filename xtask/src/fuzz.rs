//! `cargo xtask fuzz`: what anybody may send to a proxy, mutated for a while.

use crate::run::step;
use crate::suite::Tally;
use crate::tools;
use anyhow::{Context as _, Result, bail};
use std::path::Path;

const FOLDER: &str = "crates/proxy/fuzz";
const VERSION: &str = "0.13.2";
/// Longest input; what we read in one piece is shorter than this (a ClientHello: 16 KiB).
const INPUT_BYTES_MAX: u32 = 16 * 1024;

/// Fuzzes each of `targets` (all, if none is named) for so many seconds; whether nothing was found.
///
/// # Errors
/// When a target has no such name, or cargo-fuzz cannot be had.
pub fn run(targets: &[String], seconds: u32) -> Result<bool> {
    let all = targets_there()?;
    if let Some(unknown) = targets.iter().find(|target| !all.contains(target)) {
        bail!("there is no fuzz target `{unknown}`; there are {}", all.join(", "));
    }
    if tools::find("cargo-fuzz").is_none() {
        step("cargo", &["install", "--locked", "cargo-fuzz", "--version", VERSION]).run()?;
    }
    let chosen = if targets.is_empty() { &all } else { targets };
    let mut tally = Tally::default();
    for target in chosen {
        let found = fuzz(target, seconds)?;
        println!("{} {target}: {seconds} s", if found { "FAIL" } else { "ok  " });
        tally.add(Tally::fact(!found));
    }
    println!("{tally}");
    Ok(tally.failed == 0)
}

/// Whether it found something. New inputs go to the build folder, so that the seeds stay few.
fn fuzz(target: &str, seconds: u32) -> Result<bool> {
    let corpus = format!("target/corpus/{target}");
    std::fs::create_dir_all(Path::new(FOLDER).join(&corpus)).context("making room for the corpus")?;
    let (time, length) = (format!("-max_total_time={seconds}"), format!("-max_len={INPUT_BYTES_MAX}"));
    // Our code has no unsafe block in what is fuzzed, so the address sanitizer would only slow it down.
    let args = ["fuzz", "run", "--sanitizer", "none", "--fuzz-dir", ".", target, &corpus, &format!("seeds/{target}")];
    let limits = ["--", &time, &length, "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"];
    let args: Vec<&str> = args.into_iter().chain(limits).collect();
    // The instrumentation is unstable; the compiler is the pinned stable one.
    let clean = step("cargo", &args).within(FOLDER).env("RUSTC_BOOTSTRAP", "1").succeeds()?;
    Ok(!clean)
}

fn targets_there() -> Result<Vec<String>> {
    let listed = std::fs::read_dir(Path::new(FOLDER).join("fuzz_targets")).context("listing fuzz targets")?;
    let mut names: Vec<String> =
        listed.flatten().filter_map(|file| file.path().file_stem()?.to_str().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}
