//! grpc-go's interop client and server: the official cases of gRPC that need no cloud account. They also run while
//! configurations are swapped and while proxies are drained, which must not show.

use super::Score;
use super::cache::{Cache, GoModule, Missing};
use super::stand::{self, Place};
use crate::mesh::{Mesh, document};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// Of the suite.
pub const VERSION: &str = "1.85.0";
/// `pick_first_unary`, `orca_per_rpc` and `orca_oob` fail against the stock server without any proxy: left out.
const NAMES: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
];
/// Cases of that version.
pub const CASES: u32 = NAMES.len() as u32;
/// One case; most take milliseconds.
const CASE_WAIT: Duration = Duration::from_secs(20);
/// The server takes its port on all addresses; a relay leads to it from the app's place.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 18_085);
/// The replicas that are drained in turn.
const TWINS: [&str; 2] = ["west/twin-1", "west/twin-2"];
/// Drains that the cases must live through.
const DRAINS: u32 = 4;
/// Swaps likewise.
const SWAPS: u32 = 20;
/// Longest repetition of the cases while waiting for those.
const DISTURBED_MAX: Duration = Duration::from_secs(90);
/// A replica that came back has this long to be ready.
const READY_WAIT: Duration = Duration::from_secs(30);
/// A drained proxy has this long to end: its own limit and a little more.
const DRAIN_WAIT: Duration = Duration::from_secs(35);

/// Obtains it.
pub fn obtain(cache: &Cache) -> Result<PathBuf, Missing> {
    cache.go(&GoModule {
        name: "grpc-interop",
        version: VERSION,
        module: include_str!("../../judges/grpc-interop/go.mod"),
        sums: include_str!("../../judges/grpc-interop/go.sum"),
        packages: &["google.golang.org/grpc/interop/client", "google.golang.org/grpc/interop/server"],
    })
}

/// The server, and relays to it from apps' places.
struct Served(#[expect(dead_code, reason = "they live as long as this")] Vec<Child>);

impl Served {
    async fn start(folder: &Path, apps: &[SocketAddr]) -> Result<Self> {
        let port = SERVER.port().to_string();
        let mut server = Command::new(folder.join("server"));
        server.args(["-port", &port]).kill_on_drop(true).stdout(std::process::Stdio::null());
        let mut children = vec![server.stderr(std::process::Stdio::null()).spawn()?];
        Place::direct(SERVER).reached().await?;
        for app in apps {
            children.push(stand::relay(*app, SERVER)?);
        }
        Ok(Self(children))
    }
}

/// Judges the entry of `place`.
pub async fn judge(folder: &Path, place: &Place) -> Result<Score> {
    let _served = Served::start(folder, &[place.app]).await?;
    place.reached().await?;
    let mut score = Score::default();
    cases(folder, place.entry, &mut score).await?;
    Ok(score)
}

/// Each case once. A case that failed in an earlier round stays failed.
async fn cases(folder: &Path, entry: SocketAddr, score: &mut Score) -> Result<()> {
    let (host, port) = (entry.ip().to_string(), entry.port().to_string());
    let mut failures = std::mem::take(&mut score.failures);
    for name in NAMES {
        let args = ["-server_host", &host, "-server_port", &port, "-test_case", name];
        let mut client = Command::new(folder.join("client"));
        let ended = tokio::time::timeout(CASE_WAIT, client.args(args).kill_on_drop(true).output()).await;
        let why = match ended {
            Ok(output) => {
                let output = output?;
                let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
                (!output.status.success()).then_some(last)
            }
            Err(_) => Some(format!("no end within {} s", CASE_WAIT.as_secs())),
        };
        if let Some(why) = why
            && !failures.iter().any(|failure| failure.starts_with(name))
        {
            failures.push(format!("{name}: {why}"));
        }
    }
    let failed = failures.len() as u32;
    *score = Score { passed: CASES - failed, failed, skipped: 0, failures };
    Ok(())
}

/// What happens to the mesh meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disturbance {
    /// Every proxy's configuration changes, again and again.
    Swaps,
    /// Proxies of the called service end in good order, one after the other, and come back.
    Drains,
}

impl Disturbance {
    /// As the table says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Swaps => "pair, swaps",
            Self::Drains => "pair, drains",
        }
    }
}

/// Judges a service of two replicas while the mesh is disturbed.
pub async fn disturbed(folder: &Path, mesh: &Mesh, how: Disturbance) -> Result<Score> {
    let place = stand::place(mesh, TWINS[0], "twin").await?;
    let second = stand::place(mesh, TWINS[1], "twin").await?;
    let _served = Served::start(folder, &[place.app, second.app]).await?;
    place.reached().await?;
    for twin in TWINS {
        ready(mesh, twin).await?;
    }
    let (done, wanted) = match how {
        Disturbance::Swaps => (AtomicU32::new(0), SWAPS),
        Disturbance::Drains => (AtomicU32::new(0), DRAINS),
    };
    let mut score = Score::default();
    let judging = async {
        let begun = Instant::now();
        loop {
            cases(folder, place.entry, &mut score).await?;
            if done.load(Ordering::Relaxed) >= wanted {
                return Ok(());
            }
            ensure!(begun.elapsed() < DISTURBED_MAX, "{how:?}: {} of {wanted} in time", done.load(Ordering::Relaxed));
        }
    };
    let disturbing = async {
        loop {
            match how {
                Disturbance::Swaps => swap(mesh, done.load(Ordering::Relaxed)).await?,
                Disturbance::Drains => drain(mesh, TWINS[done.load(Ordering::Relaxed) as usize % TWINS.len()]).await?,
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        #[expect(unreachable_code, reason = "says what `?` gives above")]
        anyhow::Ok(())
    };
    tokio::select! {
        ended = judging => ended?,
        ended = disturbing => ended?,
    }
    // What was begun is put in order again.
    for twin in TWINS {
        let proxy = format!("{twin}/proxy");
        if cli::dev::process::alive(&mesh.process(&proxy)?) == cli::dev::process::Alive::Dead {
            mesh.start(&proxy).await?;
        }
    }
    eprintln!("  {}: {} times", how.name(), done.load(Ordering::Relaxed));
    Ok(score)
}

/// A policy for the called service; every proxy that calls it compiles and swaps.
async fn swap(mesh: &Mesh, number: u32) -> Result<()> {
    let default = json!({"request": format!("{}s", 30 + number % 7)});
    let spec = json!({"to": [{"targetRef": {"kind": "Service", "name": "twin"}, "default": default}]});
    let mut policy = document("Timeout", "judged", spec);
    policy["metadata"]["namespace"] = "court".into();
    mesh.put(&policy).await.map(drop)
}

/// Ends a proxy as an upgrade does, and brings it back once it is gone.
async fn drain(mesh: &Mesh, workload: &str) -> Result<()> {
    let name = format!("{workload}/proxy");
    let process = mesh.process(&name)?;
    if let Some(pid) = process.pid {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
    }
    let gone = || async {
        cli::dev::process::reap(&process);
        Ok(cli::dev::process::alive(&process) == cli::dev::process::Alive::Dead)
    };
    mesh.until(&format!("{name} has drained"), DRAIN_WAIT, gone).await?;
    mesh.start(&name).await?;
    ready(mesh, workload).await
}

/// Waits until a replica may be called again. Not for all proxies: those whose apps' places are free are not ready.
async fn ready(mesh: &Mesh, workload: &str) -> Result<()> {
    let (zone, name) = workload.split_once('/').context("a workload of a zone")?;
    let there = || async {
        let view = mesh.proxy_view(zone, name).await?;
        Ok(view["connected"] == true && view["ready"] == true && view["behind"] == false)
    };
    mesh.until(&format!("{workload} is ready"), READY_WAIT, there).await.map(drop)
}
