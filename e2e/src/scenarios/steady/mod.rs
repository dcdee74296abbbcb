//! What an operator does to a mesh under load fails no request: new configuration a thousand times, a hot restart of
//! every kind of proxy, draining them, certificates that rotate every second. And what fails is never taken for success:
//! an app killed in the middle of an answer, and requests that must not be sent twice.

mod broken;
mod drain;
pub mod ledger;
mod restart;
mod rotate;
mod swaps;

use super::crash::{Running, unused};
use super::report::Report;
use super::scene::{Scene, until};
use crate::caller::Caller;
use crate::dns;
use crate::hammer::{Hammer, Lap, Speaks};
use crate::mesh::Mesh;
use crate::row::Row;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Whose proxy takes all calls.
const WEB: &str = "west/web-1/proxy";
const UP: &str = "steady: a mesh of two zones comes up by `weft dev up`";
/// From a signal to its effect on a process.
const PROCESS_WAIT: Duration = Duration::from_secs(45);
/// The port of apps.
const PORT: u16 = 8080;

const TOPOLOGY: &str = "\
name: steady
global: {address: GLOBAL}
zones:
  - {name: west, network: \"127.WEST\"}
  - {name: east, network: \"127.EAST\", gateways: 2}
apps:
  - {name: web, namespace: shop, zones: [west]}
  - {name: cart, namespace: shop, replicas: 2}
  - {name: echo, namespace: shop, protocol: tcp, replicas: 2, zones: [west]}
  - {name: ledger, namespace: shop, zones: [west]}
  - {name: stream, namespace: shop, protocol: http2, zones: [west]}
";

/// A running mesh under test.
struct Town<'a> {
    scene: &'a Scene,
    mesh: &'a Mesh,
    /// Take as long as the promise says, not only as long as a suite may.
    long: bool,
}

/// Looks at them.
pub async fn tell(report: &mut Report) -> Result<()> {
    let facts = [swaps::FACT, drain::FACT, broken::CUT, broken::ONCE, restart::FACT, restart::FAILED, restart::SIGNAL];
    if facts.iter().any(|fact| report.wants(fact)) {
        let scene = Scene::new("steady")?;
        let mesh = Mesh::new(&topology(&scene, TOPOLOGY)?, &scene.path("state"))?;
        let mut running = Running::new(&mesh, scene.program("weft"));
        if came_up(report, UP, &mesh).await {
            let town = Town { scene: &scene, mesh: &mesh, long: report.is_long() };
            report.fact(swaps::FACT, async |row| swaps::look(&town, row).await).await;
            report.fact(broken::CUT, async |row| broken::cut(&town, row).await).await;
            report.fact(broken::ONCE, async |row| broken::once(&town, row).await).await;
            report.fact(drain::FACT, async |row| drain::look(&town, row).await).await;
            report.fact(restart::FAILED, async |row| restart::failed(&town, row).await).await;
            report.fact(restart::FACT, async |row| restart::look(&town, row).await).await;
            report.fact(restart::SIGNAL, async |row| restart::signal(&town, row).await).await;
            mesh.down().await?;
            running.is_down();
        }
    }
    rotate::tell(report).await
}

fn topology(scene: &Scene, text: &str) -> Result<std::path::PathBuf> {
    let number = unused()?;
    let text = text
        .replace("GLOBAL", &format!("127.0.{number}.1"))
        .replace("WEST", &number.to_string())
        .replace("EAST", &(number + 1).to_string());
    let file = scene.path("topology.yaml");
    std::fs::write(&file, text)?;
    Ok(file)
}

async fn came_up(report: &mut Report, fact: &str, mesh: &Mesh) -> bool {
    let begun = Instant::now();
    let up = mesh.up().await;
    let mut row = Row::new(fact);
    row.seconds = begun.elapsed().as_secs_f64();
    row.expect(up.is_ok(), up.err().map(|error| format!("{error:#}")).unwrap_or_default());
    report.row(&row);
    row.passed()
}

/// What each load counted.
type Laps = Vec<(&'static str, Lap)>;

/// Loads of every protocol at once, through the caller's proxy.
struct Loads(Vec<(&'static str, Hammer)>);

impl Loads {
    async fn start(mesh: &Mesh, host: &str) -> Result<Self> {
        let web = mesh.address(WEB, "outbound")?;
        let echo = echo(mesh).await?;
        let loads = vec![
            ("HTTP/1.1", Hammer::start(web, Speaks::Http1(host.into()), 4)),
            ("HTTP/2", Hammer::start(web, Speaks::Http2(host.into()), 4)),
            ("TCP", Hammer::start(echo, Speaks::Bytes, 1)),
            ("TCP, kept", Hammer::start(echo, Speaks::KeptBytes, 1)),
        ];
        let loads = Self(loads);
        loads.flows().await?;
        Ok(loads)
    }

    /// Waits until every load has had answers, from now on.
    async fn flows(&self) -> Result<()> {
        for (name, hammer) in &self.0 {
            let had = hammer.good();
            until(format!("{name} has answers"), PROCESS_WAIT, async || Ok(hammer.good() > had + 20)).await?;
        }
        Ok(())
    }

    fn laps(&self) -> Laps {
        self.0.iter().map(|(name, hammer)| (*name, hammer.lap())).collect()
    }

    async fn stop(self) -> Laps {
        let mut laps = Vec::new();
        for (name, hammer) in self.0 {
            laps.push((name, hammer.stop().await));
        }
        laps
    }
}

/// None of these may have failed.
fn all_good(row: &mut Row, what: &str, laps: &[(&str, Lap)]) {
    for (name, lap) in laps {
        row.saw(format!("{what}: {name}: {lap}"));
        row.expect(lap.failed == 0, format!("{what}: {} of {name} failed", lap.failed));
        row.expect(lap.good > 0, format!("{what}: {name} had no answer"));
    }
}

/// Virtual address of the app that sends bytes back.
async fn echo(mesh: &Mesh) -> Result<SocketAddr> {
    let address = dns::lookup(mesh.address(WEB, "dns")?, "echo.shop.mesh").await?;
    Ok(SocketAddr::new(address.into(), PORT))
}

/// A counter of a proxy.
async fn counter(mesh: &Mesh, process: &str, name: &str) -> Result<u64> {
    let metrics = Caller::new(mesh.address(process, "admin")?).get("admin", "/metrics").await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("_total "));
    let value = line.with_context(|| format!("{process} counts no {name}"))?;
    Ok(value.trim().parse::<f64>()? as u64)
}
