//! kill -9 of every kind of process, in a seeded random order, while an app calls and an operator writes. At the end
//! every acknowledged write must be there, every document whole, every zone at the head.

use super::halved::{HALVED, halved};
use super::report::Report;
use super::scene::{Scene, until};
use crate::load::{Aim, Load, Summary};
use crate::mesh::Mesh;
use crate::row::Row;
use anyhow::{Context, Result, bail};
use cli::client::{Client, ClientError};
use cli::dev::state::{Process, Role};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const UP: &str = "crash: a mesh of two zones comes up by `weft dev up`";
const KILLS: &str = "crash: every kind of process is killed (-9) and started again, under load and writes";
const KEPT: &str = "crash: every acknowledged write is there, and every document is whole";
const CONVERGED: &str = "crash: every zone holds the head, every policy is programmed everywhere";
const FINE: &str = "crash: afterwards no request fails";

/// Who calls whom.
pub(super) const CALLER: &str = "west/web-1";
pub(super) const CALLED: &str = "cart.shop.mesh";

/// The random order is the same in every run unless `WEFT_SEED` says otherwise.
const SEED: u64 = 0x5eed_0003;
/// Processes that are killed, by kind. The caller's own proxy carries the load and is spared.
const VICTIMS: &[&str] = &[
    "global",
    "west/cp",
    "east/cp",
    "west/gateway-1",
    "east/gateway-1",
    "west/cart-1/proxy",
    "west/cart-2/proxy",
    "east/cart-1/proxy",
    "west/cart-1/app",
    "east/cart-2/app",
];
/// Kills of one run.
const ROUNDS: usize = 14;
/// Longest time a victim stays dead, and longest pause between kills, milliseconds.
const DEAD_MS_MAX: u64 = 700;
const PAUSE_MS_MAX: u64 = 500;
/// Calls a second.
const RATE: u32 = 100;
/// Policies that are written over and over.
const DOCUMENTS: u64 = 12;
/// From the last start to everything being in step.
const CONVERGED_WAIT: Duration = Duration::from_secs(40);
/// Calls afterwards, none of which may fail.
const CALLS_AFTER: usize = 200;
/// A request must not fail because another process was killed, but for the few that were in its hands: at each kill of
/// a callee, what was in flight.
const FAILED_SHARE_MAX: f64 = 0.02;

const TOPOLOGY: &str = "\
# Two zones, two instances of the called app in each; the caller stands in the west.
name: crash
global: {address: GLOBAL}
zones:
  - {name: west, network: \"127.WEST\"}
  - {name: east, network: \"127.EAST\"}
apps:
  - {name: cart, namespace: shop, replicas: 2}
  - {name: web, namespace: shop, zones: [west]}
";

/// Looks at them.
pub async fn tell(report: &mut Report) -> Result<()> {
    if ![UP, HALVED, KILLS, KEPT, CONVERGED, FINE].iter().any(|fact| report.wants(fact)) {
        return Ok(());
    }
    let scene = Scene::new("crash")?;
    let number = unused()?;
    let text = TOPOLOGY
        .replace("GLOBAL", &format!("127.0.{number}.1"))
        .replace("WEST", &number.to_string())
        .replace("EAST", &(number + 1).to_string());
    let file = scene.path("topology.yaml");
    std::fs::write(&file, text)?;
    let mesh = Mesh::new(&file, &scene.path("state"))?;
    let mut running = Running::new(&mesh, scene.program("weft"));
    let begun = Instant::now();
    let up = mesh.up().await;
    let mut row = Row::new(UP);
    row.seconds = begun.elapsed().as_secs_f64();
    row.expect(up.is_ok(), up.err().map(|error| format!("{error:#}")).unwrap_or_default());
    report.row(&row);
    if !row.passed() {
        return Ok(());
    }
    let told = Told::default();
    report.fact(HALVED, async |row| halved(&mesh, row).await).await;
    report.fact(KILLS, async |row| kills(&mesh, &told, row).await).await;
    report.fact(CONVERGED, async |row| converged(&mesh, row).await).await;
    report.fact(KEPT, async |row| kept(&mesh, &told, row).await).await;
    report.fact(FINE, async |row| fine(&mesh, row).await).await;
    mesh.down().await?;
    running.is_down();
    Ok(())
}

/// Two networks nobody uses, so that a demo or another run can go on at the same time.
pub(super) fn unused() -> Result<u32> {
    let free = |address: String| std::net::TcpListener::bind(address).is_ok();
    let unused = |number: &u32| {
        free(format!("127.0.{number}.1:5680"))
            && [*number, number + 1].iter().all(|n| free(format!("127.{n}.0.1:5690")))
    };
    let begin = 50 + std::process::id() % 16;
    (begin..98).find(unused).context("no network of 127.50 to 127.98 is unused")
}

/// Ends what `weft dev up` started, whatever happens, also while it is starting: that runs on its own.
pub(super) struct Running<'a> {
    mesh: &'a Mesh,
    weft: PathBuf,
    is_down: bool,
}

impl<'a> Running<'a> {
    /// From before it is started.
    pub fn new(mesh: &'a Mesh, weft: PathBuf) -> Self {
        Self { mesh, weft, is_down: false }
    }

    /// It was taken down in good order.
    pub fn is_down(&mut self) {
        self.is_down = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.is_down {
            return;
        }
        for process in self.mesh.state().map(|state| state.processes).unwrap_or_default() {
            let _ = cli::dev::process::signal(&process, nix::sys::signal::Signal::SIGKILL);
        }
        // Waits for one that is still starting.
        let mut down = std::process::Command::new(&self.weft);
        let _ = down.args(["dev", "down"]).env("WEFT_DEV_STATE", self.mesh.folder()).stderr(Stdio::null()).status();
    }
}

/// What the operator was told of one document.
#[derive(Clone, Debug, Default)]
struct Written {
    /// The number of the latest write that was acknowledged.
    acknowledged: u64,
    /// Numbers sent since without an answer: they may have been written or not.
    in_doubt: Vec<u64>,
}

/// What the operator was told, by document.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<BTreeMap<u64, Written>>>);

impl Told {
    fn of(&self, document: u64, change: impl FnOnce(&mut Written)) {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(document).or_default());
    }

    fn all(&self) -> BTreeMap<u64, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Both values of a document say one number, so that a torn one is recognised.
pub(super) fn document(document: u64, number: u64) -> Value {
    let spec = json!({"to": [{"targetRef": {"kind": "Service", "name": "cart"},
        "default": {"request": format!("{}ms", 100_000 + number), "connect": format!("{}ms", 1_000 + number)}}]});
    json!({"apiVersion": api::API_VERSION, "kind": "Timeout", "spec": spec,
        "metadata": {"name": format!("t{document}"), "namespace": "shop", "labels": {"number": number.to_string()}}})
}

/// The number a document says, if it says one only.
fn number(object: &Value) -> Result<u64> {
    let written: u64 = object["metadata"]["labels"]["number"].as_str().context("its number")?.parse()?;
    let part = |name: &str| -> Result<u64> {
        let text = object["spec"]["to"][0]["default"][name].as_str().context("a time")?;
        let span: api::Span = text.parse().map_err(|error| anyhow::anyhow!("{text}: {error}"))?;
        Ok(Duration::from(span).as_millis() as u64)
    };
    let (request, connect) = (part("request")?, part("connect")?);
    if (request, connect) != (100_000 + written, 1_000 + written) {
        bail!("torn: {object}");
    }
    Ok(written)
}

/// An operator who writes without pause, and is refused while global is dead.
fn write(client: Client, told: Told) -> JoinHandle<()> {
    tokio::spawn(async move {
        let client = client.with_timeout(Duration::from_secs(2));
        for number in 1.. {
            let name = number % DOCUMENTS;
            let path = format!("/resources/timeouts/default/shop/t{name}");
            told.of(name, |written| written.in_doubt.push(number));
            match client.send(Method::PUT, &path, Some(&document(name, number)), &[]).await {
                Ok(_) => told.of(name, |written| *written = Written { acknowledged: number, in_doubt: Vec::new() }),
                // It never left.
                Err(ClientError::Unreachable { .. }) => {
                    told.of(name, |written| written.in_doubt.retain(|sent| *sent != number));
                }
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
}

/// xorshift64* (Vigna 2016): the order of a run is repeatable and needs no library.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

async fn kills(mesh: &Mesh, told: &Told, row: &mut Row) -> Result<()> {
    let seed = std::env::var("WEFT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let mut chance = Chance(seed);
    let writer = write(mesh.control("global").await?, told.clone());
    let load = Load::start(mesh.caller(CALLER)?, Aim::new(CALLED, RATE));
    // Everybody once, and then whoever chance points at.
    let mut order: Vec<&str> = VICTIMS.to_vec();
    for i in (1..order.len()).rev() {
        order.swap(i, chance.below(i as u64 + 1) as usize);
    }
    while order.len() < ROUNDS {
        order.push(VICTIMS[chance.below(VICTIMS.len() as u64) as usize]);
    }
    let mut done = Ok(());
    for victim in &order {
        tokio::time::sleep(Duration::from_millis(chance.below(PAUSE_MS_MAX))).await;
        done = mesh.kill(victim).await;
        tokio::time::sleep(Duration::from_millis(chance.below(DEAD_MS_MAX))).await;
        done = done.and(mesh.start(victim).await);
        if done.is_err() {
            break;
        }
    }
    let shots = load.stop().await;
    writer.abort();
    done?;
    let summary = Summary::of(&shots);
    let acknowledged = told.all().len();
    row.saw(format!("{} kills, seed {seed}; {acknowledged} documents written over and over", order.len()));
    row.saw(format!("{summary}; p99 {:.0} ms, longest {:.0} ms", summary.p99, summary.longest));
    row.figure("failed", summary.failed as f64);
    row.expect(acknowledged as u64 == DOCUMENTS, "not every document was acknowledged at least once");
    let allowed = (summary.total as f64 * FAILED_SHARE_MAX) as usize;
    row.expect(summary.failed <= allowed, format!("more than {allowed} of {} requests failed", summary.total));
    Ok(())
}

async fn converged(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let since = Instant::now();
    let global = mesh.control("global").await?;
    let zones = mesh.zones()?;
    until("every zone holds the head", CONVERGED_WAIT, async || {
        let head = global.get("/meta").await?["revision"].as_u64();
        for zone in &zones {
            let replica = mesh.control(&format!("{zone}/cp")).await?.get("/replica").await?;
            if replica["revision"].as_u64() != head {
                bail!("{zone} holds {} of {head:?}", replica["revision"]);
            }
        }
        Ok(true)
    })
    .await?;
    let held = since.elapsed().as_secs_f64();
    mesh.at_rest().await?;
    let rested = since.elapsed().as_secs_f64();
    // Of every proxy there is: a zone that has just started does not know all of them yet.
    let state = mesh.state()?;
    let proxies = |zone: &str| -> u64 {
        let own = |process: &&Process| {
            process.role == Role::Proxy && process.zone.as_ref().is_some_and(|of| of.as_str() == zone)
        };
        state.processes.iter().filter(own).count() as u64
    };
    until("every policy is programmed by every proxy", CONVERGED_WAIT, async || {
        for n in 0..DOCUMENTS {
            let object = global.get(&format!("/resources/timeouts/default/shop/t{n}")).await?;
            for zone in &zones {
                let status = &object["status"]["zones"][zone];
                let (done, total) = (status["programmed"].as_u64(), status["total"].as_u64());
                let all = Some(proxies(zone));
                if done != all || total != all || status["revision"] != object["metadata"]["revision"] {
                    bail!("t{n} in {zone}: {status}, of revision {}", object["metadata"]["revision"]);
                }
            }
        }
        Ok(true)
    })
    .await?;
    for zone in &zones {
        let all = proxies(zone);
        row.expect(all > 0, format!("nobody in {zone} runs the policies"));
        row.saw(format!("{zone}: {DOCUMENTS} policies, each programmed {all}/{all}"));
    }
    let told = since.elapsed().as_secs_f64();
    row.saw(format!("after the last start: zones hold the head {held:.1} s, proxies run it {rested:.1} s, status says so {told:.1} s"));
    Ok(())
}

async fn kept(mesh: &Mesh, told: &Told, row: &mut Row) -> Result<()> {
    let global = mesh.control("global").await?;
    let mut copies = Vec::new();
    for zone in mesh.zones()? {
        let replica = mesh.control(&format!("{zone}/cp")).await?.get("/replica").await?;
        copies.push((zone, replica["objects"].as_array().cloned().unwrap_or_default()));
    }
    let (mut doubts, mut writes) = (0, 0);
    for (n, Written { acknowledged, in_doubt }) in told.all() {
        let object = global.get(&format!("/resources/timeouts/default/shop/t{n}")).await?;
        let found = number(&object)?;
        // A write without an answer may have happened; the last answered one must have, unless one after it did.
        let allowed = found == acknowledged || in_doubt.contains(&found);
        row.expect(allowed, format!("t{n} holds {found}; {acknowledged} was acknowledged, {in_doubt:?} may be there"));
        doubts += in_doubt.len();
        writes += acknowledged;
        for (zone, objects) in &copies {
            let copy = objects.iter().find(|copy| copy["metadata"]["name"] == object["metadata"]["name"]);
            let copy = copy.with_context(|| format!("{zone} does not hold t{n}"))?;
            let same = number(copy)? == found;
            row.expect(same, format!("{zone} holds {copy} of t{n}"));
        }
    }
    let last = writes / DOCUMENTS;
    row.saw(format!("about {last} writes to each document, {doubts} without an answer; nothing lost, nothing torn"));
    Ok(())
}

async fn fine(mesh: &Mesh, row: &mut Row) -> Result<()> {
    for host in [CALLED, "cart.shop.east.mesh"] {
        let load = Load::start(mesh.caller(CALLER)?, Aim::new(host, RATE * 2).count(CALLS_AFTER));
        let shots = load.finish(CONVERGED_WAIT).await?;
        let summary = Summary::of(&shots);
        row.expect(summary.failed == 0, format!("{host}: {summary}"));
        row.saw(format!("{host}: {summary}"));
    }
    Ok(())
}
