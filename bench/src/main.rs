//! Weft beside Envoy and HAProxy, in one interleaved run. See `bench/README.md`.

mod install;
mod measure;
mod peers;
mod report;
mod weft;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

/// Compares proxies by CPU per request.
#[derive(Parser)]
struct Options {
    /// Runs of each peer.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured seconds of one run.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Paths to measure; both unless given.
    #[arg(long, value_enum)]
    path: Vec<Path>,
    /// Peers to measure, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = ["weft", "envoy", "haproxy"].map(String::from))]
    only: Vec<String>,
    /// Appends one JSON line for each run.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Folder of Weft's programs.
    #[arg(long)]
    bin: PathBuf,
}

/// What a request passes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ValueEnum)]
pub enum Path {
    /// One proxy, plaintext.
    #[value(name = "A")]
    A,
    /// Two proxies, mutual TLS between them.
    #[value(name = "B")]
    B,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let paths = if options.path.is_empty() { vec![Path::A, Path::B] } else { options.path.clone() };
    let rig = peers::Rig::new(&options.bin)?;
    let mut runs: Vec<report::Run> = Vec::new();
    for round in 0..options.rounds {
        for path in &paths {
            for peer in &options.only {
                let Some(mut proxies) = peers::start(&rig, peer, *path)? else { continue };
                let measured = measure::run(&rig, &mut proxies, options.seconds);
                proxies.stop();
                let run = report::Run {
                    path: *path,
                    peer: peer.clone(),
                    round,
                    measured: measured.with_context(|| format!("{peer} on path {path:?}"))?,
                };
                eprintln!("{}", report::line(&run));
                if let Some(file) = &options.json {
                    let mut out = OpenOptions::new().create(true).append(true).open(file)?;
                    writeln!(out, "{}", serde_json::to_string(&run)?)?;
                }
                runs.push(run);
            }
        }
    }
    if runs.is_empty() {
        bail!("nothing was measured; is every peer missing?");
    }
    print!("{}", report::table(&runs));
    Ok(())
}
