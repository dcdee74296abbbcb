//! One of two instances dies without a word under load, app and proxy, and some time later the other one, too.

use super::crash::{CALLED, CALLER};
use crate::load::{Aim, Load, Shot, Summary};
use crate::mesh::Mesh;
use crate::row::Row;
use anyhow::Result;
use std::time::Duration;

/// What it shows.
pub(super) const HALVED: &str =
    "crash: one of two instances is killed (-9), and then the other: the other zone answers";

/// 2,400 requests at 200 a second; each blow after a third of them.
const RATE: u32 = 200;
const REQUESTS: usize = 2_400;
const INSTANCES: [&str; 2] = ["west/cart-1", "west/cart-2"];
/// The promise is 5 of 2,400.
const FAILED_MAX: usize = 5;
/// From the loss of the last instance to an answer of the other zone.
const TAKEOVER: Duration = Duration::from_millis(500);
/// After the last request was due.
const END_WAIT: Duration = Duration::from_secs(20);

pub(super) async fn halved(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let load = Load::start(mesh.caller(CALLER)?, Aim::new(CALLED, RATE).count(REQUESTS));
    let mut blows = Vec::new();
    for (i, instance) in INSTANCES.iter().enumerate() {
        let due = REQUESTS / 3 * (i + 1);
        load.until("the load is under way", END_WAIT, |shots| shots.len() >= due).await?;
        let blow = load.now();
        mesh.kill(&format!("{instance}/*")).await?;
        blows.push((*instance, blow, load.now()));
    }
    let shots = load.finish(Duration::from_secs_f64(REQUESTS as f64 / f64::from(RATE)) + END_WAIT).await?;
    let summary = Summary::of(&shots);
    row.figure("requests", summary.total as f64);
    row.figure("failed", summary.failed as f64);
    row.figure("longestMs", summary.longest);
    row.saw(format!("{summary}; longest {:.0} ms", summary.longest));
    let few = summary.failed <= FAILED_MAX;
    row.expect(few, format!("more than {FAILED_MAX} of {REQUESTS} failed: {}", summary.examples.join("; ")));
    for (instance, blow, gone) in &blows {
        let heard = |shot: &&Shot| format!("{}/{}", shot.reply.zone, shot.reply.workload) == *instance;
        let before = shots.iter().filter(|shot| shot.due < *blow).filter(heard).count();
        let late = shots.iter().filter(|shot| shot.due > *gone).filter(heard).count();
        row.expect(before > 0, format!("{instance} answered nobody before it was killed"));
        row.expect(late == 0, format!("{instance} was dead and answered {late} times"));
    }
    let (_, first, _) = blows[0];
    let (_, last, _) = blows[1];
    let alone = shots.iter().filter(|shot| (first..last).contains(&shot.due) && shot.reply.zone == "west").count();
    row.expect(alone > 0, "the instance left over answered nobody");
    let east = shots.iter().filter(|shot| shot.due + shot.latency > last && shot.reply.zone == "east");
    let took = east.map(|shot| (shot.due + shot.latency).saturating_sub(last)).min();
    row.figure("takeoverMs", took.map_or(-1.0, |took| took.as_secs_f64() * 1e3));
    let words = took.map_or_else(|| "never".into(), |took| format!("{:.0} ms later", took.as_secs_f64() * 1e3));
    row.saw(format!("between the two, west answered {alone} times; after the second, east answered {words}"));
    row.expect(took.is_some_and(|took| took <= TAKEOVER), format!("east answered {words}, not within 500 ms"));
    for instance in INSTANCES {
        mesh.start(&format!("{instance}/*")).await?;
    }
    mesh.at_rest().await?;
    Ok(())
}
