//! `weft-demo`: a federated mesh of three zones on this machine, to look at or to check.

use anyhow::Result;
use clap::Parser;
use e2e::demo;
use e2e::mesh::Mesh;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the demo's mesh. Without flags it stays up until Ctrl-C.
#[derive(Parser)]
#[command(name = "weft-demo", version)]
struct Options {
    /// Run the twelve steps, print a table with figures, and end with `N passed, M failed`.
    #[arg(long)]
    check: bool,
    /// Also write each step's name, figures and verdict.
    #[arg(long, value_name = "FILE", requires = "check")]
    json: Option<PathBuf>,
    /// Only these steps; 0 is the measurement at rest.
    #[arg(long, value_delimiter = ',', requires = "check", value_name = "N,N")]
    steps: Vec<u8>,
    /// Leave the mesh running, or its logs and data when it was stopped.
    #[arg(long)]
    keep: bool,
    /// Where processes keep data and logs [default: a new temporary folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Topology to start
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/demo.yaml"))]
    topology: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match perform(Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            println!("0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

async fn perform(options: Options) -> Result<bool> {
    let folder = tempfile::Builder::new().prefix("weft-demo-").tempdir()?;
    let state = options.state.clone().unwrap_or_else(|| folder.path().to_path_buf());
    let mesh = Mesh::new(&options.topology, &state)?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let ended = tokio::select! {
        ended = run(&mesh, &options) => ended,
        // The usual end of a demo that stays up; a check that is cut short has not passed.
        _ = interrupt.recv() => Ok(!options.check),
        _ = terminate.recv() => Ok(!options.check),
    };
    let passed = matches!(ended, Ok(true));
    if options.keep {
        let kept = if options.state.is_some() { state } else { folder.keep() };
        eprintln!("the mesh still runs; end it with: weft dev down --state {}", kept.display());
    } else if mesh.state().is_ok() {
        eprintln!("ending everything ...");
        mesh.down().await?;
        if options.check && !passed && options.state.is_none() {
            eprintln!("logs are kept in {}", folder.keep().join("logs").display());
        }
    }
    ended
}

async fn run(mesh: &Mesh, options: &Options) -> Result<bool> {
    mesh.up().await?;
    if options.check {
        return demo::check(mesh, &options.steps, options.json.as_deref()).await;
    }
    demo::stay(mesh).await?;
    Ok(true)
}
