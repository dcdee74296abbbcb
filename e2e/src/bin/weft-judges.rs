//! `weft-judges install|run|list [NAME...]`: outside conformance suites against Weft's proxies, as real processes.

use anyhow::Result;
use clap::{Parser, Subcommand};
use e2e::judges::run::{self, Told, Wish};
use e2e::judges::{Judge, connect};
use e2e::mesh::Mesh;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Outside conformance suites, each at a pinned version, against a known peer and then Weft.
#[derive(Parser)]
#[command(name = "weft-judges", version)]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Obtains judges: all unless named.
    Install {
        /// See `list`.
        judges: Vec<Judge>,
    },
    /// Obtains judges where needed, and lets them judge.
    Run {
        /// See `list`; all unless named.
        judges: Vec<Judge>,
        /// Only what every change can afford: h2spec, and connectconformance's basic cases.
        #[arg(long)]
        quick: bool,
        /// Also write one line of JSON for each judge and target.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Names, versions and what each is about.
    List,
    /// What connectconformance starts as its server.
    #[command(hide = true)]
    ConnectServer {
        /// The reference server.
        reference: PathBuf,
        /// Places of HTTP/1.1 and HTTP/2.
        places: Vec<String>,
    },
}

// One thread: what `weft dev` starts is not tied to it, and children here are few.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match perform(Options::parse().task).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn perform(task: Task) -> Result<bool> {
    let all = |judges: Vec<Judge>| if judges.is_empty() { Judge::ALL.to_vec() } else { judges };
    match task {
        Task::List => {
            for judge in Judge::ALL {
                println!("{:<20} {:<8} {}", judge.name(), judge.version(), judge.about());
            }
            Ok(true)
        }
        Task::Install { judges } => Ok(run::obtain(&all(judges)).iter().all(|(_, obtained)| obtained.is_ok())),
        Task::Run { judges, quick: true, json } if judges.is_empty() => {
            judge(Wish { judges: Judge::QUICK.to_vec(), quick: true, json }).await
        }
        Task::Run { judges, quick, json } => judge(Wish { judges: all(judges), quick, json }).await,
        Task::ConnectServer { reference, places } => connect::serve(&reference, &places).await.map(|()| true),
    }
}

/// A run that is interrupted ends what it started, as any other.
async fn judge(wish: Wish) -> Result<bool> {
    let folder = tempfile::Builder::new().prefix("weft-judges-").tempdir()?;
    let topology = Path::new(env!("CARGO_MANIFEST_DIR")).join("topologies/judges.yaml");
    let mesh = Mesh::new(&topology, &folder.path().join("state"))?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let ended: Option<Result<Told>> = tokio::select! {
        ended = run::run(&wish, &mesh, folder.path()) => Some(ended),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    if mesh.state().is_ok() {
        mesh.down().await?;
    }
    let Some(told) = ended.transpose()? else { return Ok(false) };
    let well = told.tell(wish.json.as_deref())?;
    if !well {
        eprintln!("logs are kept in {}", folder.keep().display());
    }
    // In CI nothing may be skipped.
    let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    Ok(well && !(in_ci && told.skipped()))
}
