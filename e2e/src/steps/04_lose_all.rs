//! Every cart of west dies at once, app and proxy, without a word. East answers; when they are back, traffic comes home
//! bit by bit.

use super::{CART, END_WAIT, RATE, WEB};
use crate::load::{Aim, Load, Shot, Summary};
use crate::mesh::Mesh;
use crate::row::Row;
use anyhow::Result;
use std::time::Duration;

const REQUESTS: usize = 1_000;
/// Requests before the blow.
const BEFORE: usize = 200;
const ALL: &str = "west/cart-*";
/// The remote zone must answer this long after the loss.
const TAKEOVER: Duration = Duration::from_millis(500);
/// Home at the latest: detection, reconnection and a slow start of 10 s.
const HOME: Duration = Duration::from_secs(45);
/// Shots that make a window, and how many of them at home mean home.
const WINDOW: usize = 100;
const AT_HOME: usize = 98;

pub async fn run(mesh: &Mesh, row: &mut Row) -> Result<()> {
    lose_and_return(mesh, row).await
}

/// Also step 8 does this, with global dead.
pub async fn lose_and_return(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let load = Load::start(mesh.caller(WEB)?, Aim::new(CART, RATE).count(REQUESTS));
    load.until("the load is under way", END_WAIT, |shots| shots.len() >= BEFORE).await?;
    let lost = load.now();
    mesh.kill(ALL).await?;
    let gone = load.now();
    let shots = load.finish(Duration::from_secs_f64(REQUESTS as f64 / f64::from(RATE)) + END_WAIT).await?;
    let summary = Summary::of(&shots);
    let ended = |shot: &Shot| shot.due + shot.latency;
    let first = shots.iter().filter(|shot| shot.reply.zone == "east").map(ended).min();
    let took = first.map(|first| first.saturating_sub(lost));
    let late = shots.iter().filter(|shot| shot.due > gone && shot.reply.zone == "west").count();
    row.figure("requests", summary.total as f64);
    row.figure("failed", summary.failed as f64);
    row.figure("takeoverMs", took.map_or(-1.0, |took| took.as_secs_f64() * 1e3));
    row.figure("longestMs", summary.longest);
    let words =
        took.map_or_else(|| "never".into(), |took| format!("{:.0} ms after the kill", took.as_secs_f64() * 1e3));
    row.saw(format!("{summary}; east answered {words}; longest {:.0} ms", summary.longest));
    row.expect(
        summary.failed == 0,
        format!("{} of {REQUESTS} failed: {}", summary.failed, summary.examples.join("; ")),
    );
    row.expect(took.is_some_and(|took| took <= TAKEOVER), format!("east answered {words}, not within 500 ms"));
    row.expect(late == 0, format!("{late} answers came from west although everything there was dead"));

    let load = Load::start(mesh.caller(WEB)?, Aim::new(CART, RATE));
    mesh.start(ALL).await?;
    let started = load.now();
    let home = |shots: &[Shot]| {
        shots.len() >= WINDOW
            && shots[shots.len() - WINDOW..].iter().filter(|shot| shot.reply.zone == "west").count() >= AT_HOME
    };
    let came = load.until("traffic is home in west", HOME, home).await;
    let now = load.now();
    let shots = load.stop().await;
    came?;
    let summary = Summary::of(&shots);
    let west = |shot: &&Shot| shot.reply.zone == "west";
    let first = shots.iter().filter(west).map(|shot| shot.due).min().unwrap_or(now);
    let ramp = now.saturating_sub(first).as_secs_f64();
    let early: Vec<&Shot> = shots.iter().filter(|shot| shot.due >= first).take(WINDOW).collect();
    let share =
        early.iter().filter(|shot| shot.reply.zone == "west").count() as f64 * 100.0 / early.len().max(1) as f64;
    row.figure("homeSeconds", now.saturating_sub(started).as_secs_f64());
    row.figure("rampSeconds", ramp);
    row.figure("firstWindowPercent", share);
    row.figure("failedReturning", summary.failed as f64);
    row.saw(format!(
        "coming back: {} requests, {} failed; first answer {:.1} s after the start, {share:.0} % of the next {WINDOW}, home {ramp:.1} s later",
        summary.total,
        summary.failed,
        first.saturating_sub(started).as_secs_f64(),
    ));
    row.expect(summary.failed == 0, format!("coming back, {} failed: {}", summary.failed, summary.examples.join("; ")));
    row.expect(share < 90.0, format!("no slow start: {share:.0} % of the first {WINDOW} requests went home at once"));
    mesh.at_rest().await?;
    Ok(())
}
