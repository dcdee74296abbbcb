//! Cut links between zones, under a plain client's load: where traffic goes, and what operators are told.

use super::nets::Rule;
use super::plain::unix_ms;
use super::report::Report;
use super::scene::{LOOK, until};
use super::world::{GLOBAL, Load, Seen, World, number};
use crate::row::Row;
use anyhow::{Result, bail};
use api::health::{LinkState, Overview, Status};
use std::time::{Duration, Instant};

const FAILOVER: &str = "partition: with no local instance the next zone of the region answers";
const BOTH: &str = "partition: west and east cut from each other: traffic goes to edge";
const HEALED: &str = "partition: the link is back: traffic returns, nobody is partitioned";
const ONE_WAY: &str = "partition: one direction cut: the matrix shows it, nobody is offline";
const FROM_GLOBAL: &str = "partition: a zone cut off from global only serves on its own";

/// All of them.
pub const FACTS: &[&str] = &[FAILOVER, BOTH, HEALED, ONE_WAY, FROM_GLOBAL];

/// Calls a second of the client.
const RATE: u32 = 50;
/// Within which traffic must have left a zone that cannot be reached.
const LEAVES: Duration = Duration::from_secs(3);
/// Within which operators must be told.
const TOLD: Duration = Duration::from_secs(6);
/// Return is gentle (slow start), and the view waits until better is certain.
const RETURNS: Duration = Duration::from_secs(30);
/// How long a verdict is watched for a change of mind: longer than any ping, time limit and pause between dials.
const STAYS: Duration = Duration::from_secs(6);
/// So many answers in a row are where traffic goes.
const STEADY: usize = 25;

/// Looks at them.
pub async fn tell(world: &World, report: &mut Report) -> Result<()> {
    if !FACTS.iter().any(|fact| report.wants(fact)) {
        return Ok(());
    }
    let load = world.load("west-web", "http://cart.shop.mesh:8080/", RATE)?;
    // Each builds on the one before.
    report.fact(FAILOVER, async |row| failover(world, &load, row).await).await;
    report.fact(BOTH, async |row| both(world, &load, row).await).await;
    report.fact(HEALED, async |row| healed(world, &load, row).await).await;
    report.fact(ONE_WAY, async |row| one_way(world, row).await).await;
    report.fact(FROM_GLOBAL, async |row| from_global(world, row).await).await;
    world.nets.cut(&[])
}

/// The latest answers all came from this zone.
fn steady(load: &Load, since: u64, zone: &str) -> bool {
    let seen = load.since(since);
    seen.len() >= STEADY && seen[seen.len() - STEADY..].iter().all(|seen| seen.good && seen.zone == zone)
}

/// Milliseconds from `since` until the first good answer of `zone` that ended after it.
fn first(seen: &[Seen], since: u64, zone: &str) -> Option<u64> {
    seen.iter()
        .filter(|seen| seen.good && seen.zone == zone)
        .map(|seen| (seen.at + seen.took).saturating_sub(since))
        .min()
}

fn failures(seen: &[Seen]) -> (usize, String) {
    let failed: Vec<&Seen> = seen.iter().filter(|seen| !seen.good).collect();
    (failed.len(), failed.first().map(|seen| seen.words.clone()).unwrap_or_default())
}

/// Calls that began later than allowed after a loss must all be good.
fn good_after(row: &mut Row, seen: &[Seen], since: u64) {
    let limit = since + LEAVES.as_millis() as u64;
    let late: Vec<&Seen> = seen.iter().filter(|seen| seen.at >= limit && !seen.good).collect();
    if let Some(one) = late.first() {
        row.expect(
            false,
            format!("{} calls failed later than {} s after: {}", late.len(), LEAVES.as_secs(), one.words),
        );
    }
}

async fn overview(world: &World, at: &str) -> Result<Overview> {
    Ok(serde_json::from_value(world.at(at)?.get("/overview").await?)?)
}

fn status(overview: &Overview, zone: &str) -> Option<(Status, String, bool)> {
    let view = overview.zones.iter().find(|view| view.name.as_str() == zone)?;
    Some((view.status, view.why.clone(), view.autonomous))
}

fn link(overview: &Overview, from: &str, to: &str) -> LinkState {
    let found = overview.links.iter().find(|link| link.from.as_str() == from && link.to.as_str() == to);
    found.map_or(LinkState::Unknown, |link| link.state)
}

async fn failover(world: &World, load: &Load, row: &mut Row) -> Result<()> {
    let begin = unix_ms();
    until("west answers the load", RETURNS, async || Ok(steady(load, begin, "west"))).await?;
    let since = unix_ms();
    world.scene.kill("west-cart-http")?;
    until("east answers alone", RETURNS, async || Ok(steady(load, since, "east"))).await?;
    let seen = load.since(since);
    let (failed, words) = failures(&seen);
    let first = first(&seen, since, "east").unwrap_or(u64::MAX);
    row.figure("ms to the first answer of east", first as f64);
    row.expect(first <= 500, format!("east answered after {first} ms"));
    row.expect(failed == 0, format!("{failed} of {} GETs failed: {words}", seen.len()));
    row.saw(format!("east answers after {first} ms; {failed} of {} GETs failed", seen.len()));
    Ok(())
}

async fn both(world: &World, load: &Load, row: &mut Row) -> Result<()> {
    // A link that was never up is starting, which is no partition yet.
    until("every gateway reaches every other", RETURNS, async || {
        let overview = overview(world, "global").await?;
        Ok(overview.links.iter().all(|link| link.state == LinkState::Up))
    })
    .await?;
    let since = unix_ms();
    world.nets.cut(&[Rule::Between(number("west"), number("east"))])?;
    let told = until("operators are told that the zones are partitioned", TOLD, async || {
        let overview = overview(world, "global").await?;
        let partitioned = |zone| status(&overview, zone).is_some_and(|(status, ..)| status == Status::Partitioned);
        let cut = |from, to| link(&overview, from, to) == LinkState::Down;
        if (partitioned("west") || partitioned("east")) && cut("west", "east") && cut("east", "west") {
            return Ok(true);
        }
        bail!("{:?} {:?} {:?}", status(&overview, "west"), status(&overview, "east"), overview.headline)
    });
    let told = told.await;
    until("edge answers alone", RETURNS, async || Ok(steady(load, since, "edge"))).await?;
    let seen = load.since(since);
    let (failed, words) = failures(&seen);
    let first = first(&seen, since, "edge").unwrap_or(u64::MAX);
    row.expect(first <= LEAVES.as_millis() as u64, format!("edge answered after {first} ms"));
    good_after(row, &seen, since);
    row.figure("ms to the first answer of edge", first as f64);
    row.saw(format!("edge answers after {first} ms; {failed} of {} calls failed {words}", seen.len()));
    row.saw(format!("told after {:.1} s", told?.as_secs_f64()));
    Ok(())
}

async fn healed(world: &World, load: &Load, row: &mut Row) -> Result<()> {
    let since = unix_ms();
    world.nets.cut(&[])?;
    let told = until("nobody is partitioned", RETURNS, async || {
        let overview = overview(world, "global").await?;
        let partitioned = overview.zones.iter().find(|view| view.status == Status::Partitioned);
        match partitioned {
            None => Ok(link(&overview, "west", "east") == LinkState::Up),
            Some(view) => bail!("{}: {}", view.name, view.why),
        }
    });
    let told = told.await?;
    let returned = until("east answers alone again", RETURNS, async || Ok(steady(load, since, "east"))).await?;
    let seen = load.since(since);
    let (failed, words) = failures(&seen);
    let first = first(&seen, since, "east").unwrap_or(u64::MAX);
    row.expect(failed == 0, format!("{failed} of {} calls failed on the way back: {words}", seen.len()));
    row.saw(format!(
        "told after {:.1} s; east answers from {first} ms on, alone after {:.1} s",
        told.as_secs_f64(),
        (told + returned).as_secs_f64()
    ));
    Ok(())
}

async fn one_way(world: &World, row: &mut Row) -> Result<()> {
    world.nets.cut(&[Rule::Calls(number("west"), number("east"))])?;
    let mut offline = None;
    let told = until("the matrix shows west -> east down and east -> west up", TOLD, async || {
        let overview = overview(world, "global").await?;
        offline = offline.take().or_else(|| overview.zones.iter().find(|view| view.status == Status::Offline).cloned());
        let (there, back) = (link(&overview, "west", "east"), link(&overview, "east", "west"));
        if there == LinkState::Down && back == LinkState::Up { Ok(true) } else { bail!("{there:?} and back {back:?}") }
    });
    let told = told.await;
    let overview = overview(world, "global").await?;
    for zone in ["west", "east", "edge"] {
        let (status, why, _) = status(&overview, zone).unwrap_or((Status::Unknown, "not listed".into(), false));
        row.expect(status != Status::Offline, format!("{zone} is called offline: {why}"));
        row.saw(format!("{zone}: {status:?} {why}"));
    }
    row.expect(offline.is_none(), format!("meanwhile called offline: {offline:?}"));
    row.saw(format!("told after {:.1} s", told?.as_secs_f64()));
    world.nets.cut(&[])
}

async fn from_global(world: &World, row: &mut Row) -> Result<()> {
    world.nets.cut(&[Rule::Between(number("edge"), GLOBAL)])?;
    let told = until("edge is called degraded and autonomous", TOLD * 2, async || {
        let overview = overview(world, "global").await?;
        match status(&overview, "edge") {
            Some((Status::Degraded, _, true)) => Ok(true),
            other => bail!("{other:?}"),
        }
    });
    let told = told.await;
    // It stays that for as long as it is cut off.
    let (since, mut looks) = (Instant::now(), 0);
    while since.elapsed() < STAYS {
        let now = status(&overview(world, "global").await?, "edge");
        row.expect(matches!(now, Some((Status::Degraded, _, true))), format!("cut off it was called {now:?}"));
        looks += 1;
        tokio::time::sleep(LOOK).await;
    }
    row.saw(format!("still so at each of {looks} looks"));
    for (host, zone) in [("cart.shop.mesh", "edge"), ("cart.shop.east.mesh", "east")] {
        let said = world.plain("edge-cart", &["get", &format!("http://{host}:8080/")])?;
        row.expect(said["zone"] == zone, format!("edge calls {host}: {said}"));
    }
    let link = world.at("edge")?.get("/status").await?;
    row.expect(link["link"]["connected"] == false, format!("edge does not say that it is cut off: {}", link["link"]));
    row.saw(format!(
        "edge is degraded (autonomous) after {:.1} s and goes on, at home and across zones",
        told?.as_secs_f64()
    ));
    world.nets.cut(&[])?;
    let back = until("edge is healthy again", RETURNS, async || {
        let overview = overview(world, "global").await?;
        match status(&overview, "edge") {
            Some((Status::Healthy, _, false)) => Ok(true),
            other => bail!("{other:?}"),
        }
    });
    row.saw(format!("healthy {:.1} s after the link was back", back.await?.as_secs_f64()));
    Ok(())
}
