//! Hot restart: a next process takes over the sockets of a running proxy.

use super::{Loads, PROCESS_WAIT, Town, WEB, all_good, counter};
use crate::mesh::Mesh;
use crate::row::Row;
use crate::scenarios::scene::{LOOK, until};
use anyhow::{Context, Result, ensure};
use cli::dev::process::{Alive, alive, signal as send};
use cli::dev::state::Process;
use nix::sys::signal::Signal;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Looks at which a workload may seem unready: between two processes one report may say so. Callers then go elsewhere; what
/// is promised is that no request fails.
const UNREADY_LOOKS_MAX: u64 = 2;
pub const FACT: &str = "steady: hot restart of sidecars and gateway under load fails no request";
pub const FAILED: &str = "steady: a next process that cannot start leaves the running one as it was";
pub const SIGNAL: &str = "steady: SIGUSR2 makes a proxy start its next process";
/// Load goes on for so long after a restart.
const AFTER: Duration = Duration::from_secs(2);

pub async fn look(town: &Town<'_>, row: &mut Row) -> Result<()> {
    for (name, host, seen_as) in [
        (WEB, "cart.shop.mesh", ("west", "web-1")),
        ("west/cart-1/proxy", "cart.shop.mesh", ("west", "cart-1")),
        ("west/echo-1/proxy", "cart.shop.mesh", ("west", "echo-1")),
        ("east/gateway-1", "cart.shop.east.mesh", ("east", "gateway-1")),
    ] {
        let loads = Loads::start(town.mesh, host).await?;
        loads.laps();
        let gaps = Gaps::watch(town.mesh, seen_as.0, seen_as.1).await?;
        let old = town.mesh.process(name)?;
        let begun = Instant::now();
        take_over(town, &old).await?;
        let took = begun.elapsed();
        loads.flows().await?;
        tokio::time::sleep(AFTER).await;
        let laps = loads.stop().await;
        let answers = counter(town.mesh, name, "weft_config_swaps").await?;
        let looks = gaps.end().await?;
        row.saw(format!(
            "{name}: took over in {:.2} s; its zone saw it ready {looks} times of {looks}",
            took.as_secs_f64()
        ));
        all_good(row, name, &laps);
        row.expect(answers > 0, format!("{name}: the next process does not answer for the old one"));
        until(format!("the old process of {name} has ended"), PROCESS_WAIT, async || Ok(alive(&old) == Alive::Dead))
            .await?;
    }
    Ok(())
}

async fn take_over(town: &Town<'_>, old: &Process) -> Result<()> {
    let next = format!("{} next", old.name);
    let mut command = Command::new(town.scene.program(&old.program));
    command.args(&old.args).arg("--take-over").stdin(std::process::Stdio::null());
    town.scene.adopt(&next, command)?;
    until(format!("{next} has taken over"), PROCESS_WAIT, async || {
        if let Some(status) = town.scene.ended(&next) {
            anyhow::bail!("it ended with {status}: {}", town.scene.log_tail(&next));
        }
        Ok(town.scene.log(&next).contains("took over"))
    })
    .await
    .map(drop)
}

/// Watches what a zone says of one proxy.
struct Gaps {
    unready: Arc<AtomicU64>,
    looks: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
    name: String,
}

impl Gaps {
    async fn watch(mesh: &Mesh, zone: &str, workload: &str) -> Result<Self> {
        let client = mesh.control(&format!("{zone}/cp")).await?;
        let (unready, looks) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (bad, all, name) = (unready.clone(), looks.clone(), workload.to_owned());
        let task = tokio::spawn(async move {
            loop {
                if let Ok(list) = client.get("/proxies").await {
                    let found = list["items"].as_array().into_iter().flatten().find(|item| item["workload"] == *name);
                    all.fetch_add(1, Ordering::Relaxed);
                    let well = found.is_some_and(|item| item["ready"] == true && item["draining"] != true);
                    bad.fetch_add(u64::from(!well), Ordering::Relaxed);
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(Self { unready, looks, task, name: workload.to_owned() })
    }

    async fn end(self) -> Result<u64> {
        self.task.abort();
        let (unready, looks) = (self.unready.load(Ordering::Relaxed), self.looks.load(Ordering::Relaxed));
        ensure!(looks > 0, "nobody looked at {}", self.name);
        ensure!(unready <= UNREADY_LOOKS_MAX, "its zone took {} for unready {unready} times of {looks}", self.name);
        Ok(looks)
    }
}

/// A next process with a flag it cannot start by.
pub async fn failed(town: &Town<'_>, row: &mut Row) -> Result<()> {
    let old = town.mesh.process("west/cart-1/proxy")?;
    let loads = Loads::start(town.mesh, "cart.shop.mesh").await?;
    loads.laps();
    let next = "cannot start";
    let at = old.args.iter().position(|arg| arg == "--outbound-listen").context("its flags")?;
    let mut args = old.args.clone();
    // An address of another machine (RFC 5737): found out after everything was handed over.
    args[at + 1] = "192.0.2.1:1".into();
    let mut command = Command::new(town.scene.program(&old.program));
    command.args(args).arg("--take-over");
    town.scene.adopt(next, command)?;
    until("it has ended", PROCESS_WAIT, async || Ok(town.scene.ended(next).is_some())).await?;
    loads.flows().await?;
    let laps = loads.stop().await;
    all_good(row, "after a failed restart", &laps);
    row.saw(town.scene.log_tail(next));
    row.expect(alive(&old) == Alive::Running, "the running process did not go on");
    Ok(())
}

pub async fn signal(town: &Town<'_>, row: &mut Row) -> Result<()> {
    let old = town.mesh.process("east/gateway-2")?;
    let loads = Loads::start(town.mesh, "cart.shop.east.mesh").await?;
    loads.laps();
    send(&old, Signal::SIGUSR2).map_err(|failure| anyhow::anyhow!(failure.text()))?;
    let log = || std::fs::read_to_string(&old.log).unwrap_or_default();
    until("its next process has taken over", PROCESS_WAIT, async || Ok(log().contains("took over"))).await?;
    until("the old process has ended", PROCESS_WAIT, async || Ok(alive(&old) == Alive::Dead)).await?;
    loads.flows().await?;
    let laps = loads.stop().await;
    all_good(row, "by signal", &laps);
    let text = log();
    let pid = text.lines().find_map(|line| line.split_once("started the next process").map(|(_, rest)| rest));
    let digits: String = pid.context("its number")?.chars().filter(char::is_ascii_digit).collect();
    let next = nix::unistd::Pid::from_raw(digits.parse().with_context(|| format!("a number in `{digits}`"))?);
    nix::sys::signal::kill(next, Signal::SIGTERM)?;
    until("the next process has ended", PROCESS_WAIT, async || Ok(nix::sys::signal::kill(next, None).is_err())).await?;
    Ok(())
}
