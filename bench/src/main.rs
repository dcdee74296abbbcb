//! Weft beside Envoy and HAProxy, in one interleaved run. See `bench/README.md`.

mod install;
mod measure;
mod peers;
mod report;
mod swaps;
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
    /// Measures each run twice, without and with so many new configurations a second; peers that take none while they
    /// run are left out.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    swaps: Option<f64>,
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
                if options.swaps.is_some() && proxies.swap.is_none() {
                    eprintln!("{peer} takes no configuration while it runs: left out");
                    proxies.stop();
                    continue;
                }
                let measured = measured(&proxies, &options, round);
                proxies.stop();
                for (swaps, measured) in measured.with_context(|| format!("{peer} on path {path:?}"))? {
                    let run = report::Run { path: *path, peer: peer.clone(), round, swaps, measured };
                    eprintln!("{}", report::line(&run));
                    if let Some(file) = &options.json {
                        let mut out = OpenOptions::new().create(true).append(true).open(file)?;
                        writeln!(out, "{}", serde_json::to_string(&run)?)?;
                    }
                    runs.push(run);
                }
            }
        }
    }
    if runs.is_empty() {
        bail!("nothing was measured; is every peer missing?");
    }
    print!("{}", if options.swaps.is_some() { report::swaps(&runs) } else { report::table(&runs) });
    Ok(())
}

/// What one start of proxies gives, and how many configurations each of them has begun to run meanwhile, if it was given any.
fn measured(
    proxies: &peers::Proxies,
    options: &Options,
    round: usize,
) -> Result<Vec<(Option<f64>, measure::Measured)>> {
    let calm = measure::prepare(proxies)?;
    let load = || measure::load(proxies, options.seconds, calm);
    let Some(rate) = options.swaps else { return Ok(vec![(None, load()?)]) };
    // Which comes first takes turns, as proxies are not the same after a load.
    let order = if round.is_multiple_of(2) { [false, true] } else { [true, false] };
    let one = |swapping| match swapping {
        false => Ok((None, load()?)),
        true => swaps::beside(proxies, rate, load).map(|(measured, swaps)| (Some(swaps), measured)),
    };
    order.into_iter().map(one).collect()
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number of changes a second".to_owned())?;
    if rate > 0.0 && rate.is_finite() { Ok(rate) } else { Err("more than 0 a second".into()) }
}
