//! A proxy that hangs accepts connections and never answers. It must be found out by something else than timeouts of
//! requests.

use super::{CART, END_WAIT, RATE, WEB};
use crate::load::{Aim, Load, Shot, Summary};
use crate::mesh::Mesh;
use crate::row::Row;
use anyhow::Result;
use std::time::Duration;

const FROZEN: &str = "west/cart-1";
/// Out of rotation at the latest; nothing may wait for it longer than that.
const OUT: Duration = Duration::from_secs(3);
/// A request this slow waited for the frozen one.
const SLOW: Duration = Duration::from_millis(250);
/// Load while it is frozen.
const REQUESTS: usize = 1_200;
/// Back in rotation after the thaw.
const RETURNED: Duration = Duration::from_secs(45);

pub async fn run(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let load = Load::start(mesh.caller(WEB)?, Aim::new(CART, RATE));
    load.until("all workloads answer", END_WAIT, |shots| Summary::of(shots).workloads.len() == 3).await?;
    let before = load.shots().len();
    let frozen = load.now();
    mesh.freeze(&format!("{FROZEN}/proxy")).await?;
    let enough = load.until("the load went on", END_WAIT, |shots| shots.len() >= before + REQUESTS).await;
    let name = FROZEN.split('/').nth(1).unwrap_or_default();
    let view = mesh.proxy_view("west", name).await;
    let shots: Vec<Shot> = load.shots();
    mesh.thaw(&format!("{FROZEN}/proxy")).await?;
    let thawed = load.now();
    let from = load.shots().len();
    let back = load
        .until("it answers again", RETURNED, |shots| {
            Summary::of(&shots[from.min(shots.len())..]).workloads.contains_key(FROZEN)
        })
        .await;
    let rest = Summary::of(&load.stop().await[from..]);
    enough?;
    let during: Vec<&Shot> = shots.iter().filter(|shot| shot.due >= frozen).collect();
    let summary = Summary::of(during.iter().copied());
    let slow = during.iter().filter(|shot| shot.latency >= SLOW);
    let last = slow.clone().map(|shot| shot.due).max();
    let out = last.map_or(Duration::ZERO, |last| last.saturating_sub(frozen));
    let longest = during.iter().map(|shot| shot.latency).max().unwrap_or_default();
    let known = view.map(|view| view["ready"] == true && view["connected"] == true).unwrap_or(true);
    row.figure("failed", summary.failed as f64);
    row.figure("slow", slow.count() as f64);
    row.figure("outSeconds", out.as_secs_f64());
    row.figure("longestSeconds", longest.as_secs_f64());
    row.saw(format!(
        "{summary}; out of rotation after {:.2} s, longest wait {:.2} s",
        out.as_secs_f64(),
        longest.as_secs_f64()
    ));
    row.expect(summary.failed == 0, format!("{} failed: {}", summary.failed, summary.examples.join("; ")));
    row.expect(out <= OUT, format!("requests still waited for it after {:.1} s", out.as_secs_f64()));
    row.expect(longest <= OUT, format!("a request waited {:.1} s", longest.as_secs_f64()));
    row.expect(!known, "its zone still calls it ready");
    match back {
        Ok(took) => {
            row.figure("returnedSeconds", took.as_secs_f64());
            row.saw(format!(
                "thawed after {:.1} s, it answered again {:.1} s later",
                (thawed - frozen).as_secs_f64(),
                took.as_secs_f64()
            ));
        }
        Err(error) => row.expect(false, format!("{error:#}")),
    }
    row.expect(rest.failed == 0, format!("after the thaw {rest}"));
    mesh.at_rest().await?;
    Ok(())
}
