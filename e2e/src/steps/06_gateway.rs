//! West has two gateways; one dies while east calls into west.

use super::{END_WAIT, RATE};
use crate::load::{Aim, Load, Shot, Summary};
use crate::mesh::Mesh;
use crate::row::Row;
use anyhow::Result;
use std::time::Duration;

const HOST: &str = "cart.shop.west.mesh";
const FROM: &str = "east/web-1";
const KILLED: &str = "west/gateway-1";
const REQUESTS: usize = 1_000;
const BEFORE: usize = 200;

pub async fn run(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let load = Load::start(mesh.caller(FROM)?, Aim::new(HOST, RATE).count(REQUESTS));
    load.until("the load is under way", END_WAIT, |shots| shots.len() >= BEFORE).await?;
    let killed = load.now();
    mesh.kill(KILLED).await?;
    let finished = load.finish(Duration::from_secs_f64(REQUESTS as f64 / f64::from(RATE)) + END_WAIT).await;
    mesh.start(KILLED).await?;
    let shots = finished?;
    let summary = Summary::of(&shots);
    let after: Vec<&Shot> = shots.iter().filter(|shot| shot.due >= killed).collect();
    let longest = after.iter().map(|shot| shot.latency).max().unwrap_or_default();
    row.figure("requests", summary.total as f64);
    row.figure("failed", summary.failed as f64);
    row.figure("longestMs", longest.as_secs_f64() * 1e3);
    row.saw(format!("{summary}; longest after the kill {:.0} ms", longest.as_secs_f64() * 1e3));
    row.expect(
        summary.failed == 0,
        format!("{} of {REQUESTS} failed: {}", summary.failed, summary.examples.join("; ")),
    );
    row.expect(summary.zone("west") == REQUESTS - summary.failed, format!("others than west answered: {summary}"));
    mesh.at_rest().await?;
    Ok(())
}
