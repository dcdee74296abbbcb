//! Global is dead. Calls go on, failover goes on, a zone control plane restarts from its own copy, and a new workload
//! gets its identity and its traffic.

use super::{CART, END_WAIT, RATE, WEB, fire, lose_all};
use crate::load::{Aim, Load, Summary};
use crate::mesh::Mesh;
use crate::row::Row;
use anyhow::Result;
use std::time::Duration;

const CONTROL: &str = "west/cp";
/// Requests at least, from before the restart to after it.
const REQUESTS: usize = 400;
const NEWCOMER_WAIT: Duration = Duration::from_secs(20);

pub async fn run(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let policies = mesh.control(CONTROL).await?.get("/replica").await?["objects"].as_array().map_or(0, Vec::len);
    mesh.kill("global").await?;
    let seen = observe(mesh, row, policies).await;
    // Step 9 is about its return; here it only must not stay away when something went wrong.
    if seen.is_err() {
        mesh.start("global").await?;
    }
    seen
}

async fn observe(mesh: &Mesh, row: &mut Row, policies: usize) -> Result<()> {
    let summary = fire(mesh, WEB, CART, 400).await?;
    row.saw(format!("step 1 without global: {summary}"));
    row.expect(summary.failed == 0 && summary.zone("west") == 400, format!("step 1 without global: {summary}"));

    let load = Load::start(mesh.caller(WEB)?, Aim::new(CART, RATE));
    mesh.kill(CONTROL).await?;
    mesh.start(CONTROL).await?;
    let control = mesh.control(CONTROL).await?;
    let held = control.get("/replica").await?["objects"].as_array().map_or(0, Vec::len);
    mesh.at_rest().await?;
    load.until("the load went on", END_WAIT, |shots| shots.len() >= REQUESTS).await?;
    let restart = Summary::of(&load.stop().await);
    row.figure("failedDuringRestart", restart.failed as f64);
    row.saw(format!("west's control plane killed and restarted: {held} documents from its own copy; {restart}"));
    row.expect(held == policies, format!("{held} documents after the restart, {policies} before"));
    row.expect(restart.failed == 0, format!("during the restart {restart}"));

    let load = Load::start(mesh.caller(WEB)?, Aim::new(CART, RATE));
    let added = mesh.weft(&["dev", "add", "west", "cart"]).await?;
    let name = added.lines().next().and_then(|line| line.split('/').nth(1)).unwrap_or_default().to_owned();
    let workload = format!("west/{name}");
    let first = load
        .until(&format!("{workload} answers"), NEWCOMER_WAIT, |shots| {
            Summary::of(shots).workloads.contains_key(&workload)
        })
        .await;
    let joined = Summary::of(&load.stop().await);
    mesh.weft(&["dev", "remove", &workload]).await?;
    let first = first?;
    row.figure("newcomerSeconds", first.as_secs_f64());
    row.figure("failedWithNewcomer", joined.failed as f64);
    row.saw(format!(
        "a new workload, {workload}, answered {:.1} s after its registration; {joined}",
        first.as_secs_f64()
    ));
    row.expect(joined.failed == 0, format!("with the newcomer {joined}"));
    mesh.at_rest().await?;

    lose_all::lose_and_return(mesh, row).await
}
