//! Certificates that rotate every second.

use super::{Loads, WEB, all_good, came_up, counter, topology};
use crate::mesh::Mesh;
use crate::row::Row;
use crate::scenarios::crash::Running;
use crate::scenarios::report::Report;
use crate::scenarios::scene::{Scene, until};
use anyhow::Result;
use std::time::{Duration, Instant};

const UP: &str = "steady: a mesh whose certificates live for a minute comes up";
const FACT: &str = "steady: certificates that rotate every second fail no request";
/// Rotations: those of the promise, and those of a suite.
const LONG: u64 = 60;
const SHORT: u64 = 5;
/// From one to the next, at most; renewing takes its time on a machine that is busy.
const EACH: Duration = Duration::from_secs(3);
const PROXIES: [&str; 3] = [WEB, "west/cart-1/proxy", "west/echo-1/proxy"];

const TOPOLOGY: &str = "\
name: rotate
global: {address: GLOBAL}
zones:
  - {name: west, network: \"127.WEST\"}
apps:
  - {name: web, namespace: shop}
  - {name: cart, namespace: shop}
  - {name: echo, namespace: shop, protocol: tcp}
";

pub async fn tell(report: &mut Report) -> Result<()> {
    if !report.wants(FACT) {
        return Ok(());
    }
    let scene = Scene::new("rotate")?;
    let mut mesh = Mesh::new(&topology(&scene, TOPOLOGY)?, &scene.path("state"))?;
    // Certificates are dated back by more than that, so they are beyond their half at once.
    mesh.with("WEFT_CERTIFICATE_LIFETIME", "1m");
    let mut running = Running::new(&mesh, scene.program("weft"));
    if came_up(report, UP, &mesh).await {
        let wanted = if report.is_long() { LONG } else { SHORT };
        report.fact(FACT, async |row| look(&mesh, wanted, row).await).await;
        mesh.down().await?;
        running.is_down();
    }
    Ok(())
}

async fn look(mesh: &Mesh, wanted: u64, row: &mut Row) -> Result<()> {
    let loads = Loads::start(mesh, "cart.shop.mesh").await?;
    loads.laps();
    let begun = Instant::now();
    let mut before = Vec::new();
    for proxy in PROXIES {
        before.push(counter(mesh, proxy, "weft_certificate_renewals").await?);
    }
    for (proxy, before) in PROXIES.iter().zip(&before) {
        until(format!("{proxy} has renewed {wanted} times"), EACH * wanted as u32, async || {
            Ok(counter(mesh, proxy, "weft_certificate_renewals").await? - before >= wanted)
        })
        .await?;
    }
    let lasted = begun.elapsed().as_secs_f64();
    let laps = loads.stop().await;
    for (proxy, before) in PROXIES.iter().zip(&before) {
        let renewed = counter(mesh, proxy, "weft_certificate_renewals").await? - before;
        row.saw(format!("{proxy}: {renewed} certificates in {lasted:.1} s"));
    }
    all_good(row, "rotating", &laps);
    Ok(())
}
