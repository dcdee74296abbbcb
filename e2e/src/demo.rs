//! The demo: starts the mesh, then either checks the twelve steps or stays up for a person to look at.

use crate::idle;
use crate::load::{Aim, Load, Shot, Summary};
use crate::mesh::Mesh;
use crate::row::Row;
use crate::steps::{STEPS, Step};
use anyhow::{Context, Result};
use cli::dev::process::{Alive, alive};
use cli::dev::state::Role;
use cli::dev::up::token_file;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// A step that takes longer hangs; the longest waits three times for a minute.
const STEP_WAIT: Duration = Duration::from_secs(240);
/// Requests a second while the demo stays up.
const GENTLE: u32 = 10;
/// How often the gentle load says how it goes.
const NEWS: Duration = Duration::from_secs(10);
/// The step that is about the return of a dead global.
const GLOBAL_RETURNS: u8 = 9;
/// Number of the row about rest, for `--steps`.
pub const IDLE: u8 = 0;

/// Runs the steps (all when none are named) and prints the table; whether all passed.
pub async fn check(mesh: &Mesh, only: &[u8], json: Option<&Path>) -> Result<bool> {
    let wanted = |number: u8| only.is_empty() || only.contains(&number);
    let mut rows = Vec::new();
    // First, before any load has grown a buffer.
    if wanted(IDLE) {
        eprintln!("measuring at rest ...");
        rows.push(idle::measure(mesh).await.unwrap_or_else(|error| broken(Row::new("at rest"), &error)));
    }
    for step in STEPS.iter().filter(|step| wanted(step.number)) {
        let row = one(mesh, step).await;
        eprint!("{}", row.text());
        rows.push(row);
    }
    println!("\n{:-<80}", "");
    rows.iter().for_each(|row| print!("{}", row.text()));
    let count = |verdict: &str| rows.iter().filter(|row| row.verdict() == verdict).count();
    let (passed, failed) = (count("passed"), count("failed"));
    if let Some(path) = json {
        let steps: Vec<_> = rows
            .iter()
            .map(|row| {
                let verdict = row.verdict();
                json!({"name": row.step, "figures": row.figures, "verdict": verdict, "seen": row.seen, "wrong": row.wrong, "seconds": row.seconds})
            })
            .collect();
        let text = serde_json::to_string_pretty(&json!({"steps": steps, "passed": passed, "failed": failed}))?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

async fn one(mesh: &Mesh, step: &Step) -> Row {
    let mut row = Row::new(format!("{:>2} {}", step.number, step.name));
    let since = Instant::now();
    eprintln!("{:>2} {} ...", step.number, step.name);
    let run = async {
        // Step 8 leaves it dead for step 9, which may not have been asked for.
        if step.number != GLOBAL_RETURNS && alive(&mesh.process("global")?) == Alive::Dead {
            mesh.start("global").await?;
            mesh.control("global").await?;
        }
        mesh.at_rest().await?;
        (step.run)(mesh, &mut row).await
    };
    let ended = tokio::time::timeout(STEP_WAIT, run).await;
    let ended = ended.unwrap_or_else(|_| Err(anyhow::anyhow!("it did not end within {} s", STEP_WAIT.as_secs())));
    if let Err(error) = ended {
        row = broken(row, &error);
        if let Err(error) = revive(mesh).await {
            row.expect(false, format!("and could not be put in order: {error:#}"));
        }
    }
    row.seconds = since.elapsed().as_secs_f64();
    row
}

fn broken(mut row: Row, error: &anyhow::Error) -> Row {
    row.expect(false, format!("{error:#}"));
    row
}

/// After a step that broke off: thaws and starts what it left, so that the next one has a fair chance.
async fn revive(mesh: &Mesh) -> Result<()> {
    for process in mesh.state()?.processes {
        match alive(&process) {
            Alive::Running => {}
            Alive::Stopped => mesh.thaw(&process.name).await?,
            Alive::Dead => mesh.start(&process.name).await?,
        }
    }
    mesh.at_rest().await.map(drop)
}

/// Prints where to look and what to try, and keeps a gentle load running until interrupted.
pub async fn stay(mesh: &Mesh) -> Result<()> {
    let state = mesh.state()?;
    println!("\nThe mesh runs. Its pages (log in with the token beside each):");
    for process in &state.processes {
        if let (Role::Global | Role::ZoneCp, Some(api), Some(path)) =
            (process.role, process.address("api"), token_file(process))
        {
            let token = std::fs::read_to_string(&path).unwrap_or_default();
            println!("  {:<10} http://{api}/   {}", process.name, token.trim());
        }
    }
    let weft = cli::dev::process::programs().map_err(|failure| anyhow::anyhow!(failure.text()))?.join("weft");
    let weft = weft.display();
    println!("\nWorth trying, in another terminal:");
    println!("  export WEFT_DEV_STATE='{}'; eval \"$({weft} dev env)\"", mesh.folder().display());
    println!("  {weft} status                           # the whole mesh on one screen");
    println!("  {weft} dev kill 'west/cart-*'           # watch east take over below; `dev start` brings them back");
    println!("  {weft} dev stop west/cart-1/proxy       # a hanging proxy; `dev cont` thaws it");
    println!("\nweb in west calls cart {GENTLE} times a second. Ctrl-C ends everything.\n");
    let load = Load::start(mesh.caller("west/web-1")?, Aim::new("cart.shop.mesh", GENTLE));
    let mut news = tokio::time::interval(NEWS);
    news.tick().await;
    let mut told = 0;
    loop {
        news.tick().await;
        let shots: Vec<Shot> = load.shots();
        let summary = Summary::of(&shots[told..]);
        told = shots.len();
        println!("{:6.0} s  {summary}; p50 {:.1} ms", load.now().as_secs_f64(), summary.p50);
    }
}
