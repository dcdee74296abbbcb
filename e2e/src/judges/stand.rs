//! What judges look at: something between an app's place and an entry. The judge's server takes the app's place, its client
//! calls the entry.

use crate::dns;
use crate::mesh::Mesh;
use anyhow::{Context, Result, bail, ensure};
use cli::dev::process::programs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long a server may take to be reached from the entry.
const REACHED_WAIT: Duration = Duration::from_secs(20);
/// How often that is tried.
const LOOK: Duration = Duration::from_millis(20);
/// One try.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
const PORT: u16 = 8080;
/// The workload that calls.
const CALLER: &str = "west/judge-1";
/// Edge gateway of west; its ports lead to the near apps.
const INGRESS: Ipv4Addr = Ipv4Addr::new(127, 71, 0, 21);

/// Where the judge's server listens, and where its client calls.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Where the judge's server listens.
    pub app: SocketAddr,
    /// Where its client calls.
    pub entry: SocketAddr,
    /// The entry understands HTTP/1.1, so that one can ask whether the app is reached.
    pub asks: bool,
}

/// Something to judge.
#[derive(Clone, Debug)]
pub struct Target {
    /// As the table says it.
    pub name: &'static str,
    /// For a server of HTTP/1.1.
    pub http1: Place,
    /// For a server of HTTP/2.
    pub http2: Place,
}

impl Place {
    /// Nothing in between.
    pub fn direct(app: SocketAddr) -> Self {
        Self { app, entry: app, asks: false }
    }

    /// Waits until a server at the app's place is reached from the entry.
    pub async fn reached(&self) -> Result<()> {
        let until = Instant::now() + REACHED_WAIT;
        loop {
            let tried = tokio::time::timeout(ANSWER_WAIT, self.ask()).await;
            match tried.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time"))) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > until => {
                    return Err(error).with_context(|| format!("{} is not reached from {}", self.app, self.entry));
                }
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn ask(&self) -> Result<()> {
        TcpStream::connect(self.app).await?;
        if !self.asks {
            return Ok(());
        }
        let mut stream = TcpStream::connect(self.entry).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: judge\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        // Proxies say so when the app is not there; whatever the judge's server says is an answer.
        ensure!(line.starts_with("HTTP/1.1 ") && !line.contains(" 503 "), "the answer is `{line}`");
        Ok(())
    }
}

/// HAProxy, the known peer.
pub struct Peer {
    _process: Child,
}

impl Peer {
    /// Starts it; waits for its ports.
    pub async fn start(haproxy: &Path, folder: &Path) -> Result<(Self, Target)> {
        let at = |c: u8, d: u8| SocketAddr::from(([127, 70, c, d], PORT));
        let place = |d: u8| Place { app: at(1, d), entry: at(2, d), asks: false };
        let target = Target { name: "haproxy", http1: place(1), http2: place(2) };
        let mut text =
            "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n".to_owned();
        for (name, place, proto) in [("one", target.http1, ""), ("two", target.http2, " proto h2")] {
            let Place { app, entry, .. } = place;
            text += &format!(
                "frontend {name}\n bind {entry}{proto}\n default_backend {name}\nbackend {name}\n server s {app}{proto}\n"
            );
        }
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, text)?;
        let process =
            Command::new(haproxy).args(["-q", "-db", "-f"]).arg(&file).kill_on_drop(true).spawn().context("HAProxy")?;
        for place in [target.http1, target.http2] {
            Place::direct(place.entry).reached().await?;
        }
        Ok((Self { _process: process }, target))
    }
}

/// The mesh, with the apps' places free.
pub async fn targets(mesh: &Mesh) -> Result<Vec<Target>> {
    for app in ["west/near-one-1", "west/near-two-1", "east/far-one-1", "east/far-two-1", "west/twin-1", "west/twin-2"]
    {
        mesh.kill(&format!("{app}/app")).await?;
    }
    let pair = target(mesh, "pair", [("west/near-one-1", "near-one"), ("west/near-two-1", "near-two")]).await?;
    let gateways = target(mesh, "gateways", [("east/far-one-1", "far-one"), ("east/far-two-1", "far-two")]).await?;
    let ingress = Target { name: "ingress", http1: outside(pair.http1, PORT), http2: outside(pair.http2, 8082) };
    Ok(vec![pair, gateways, ingress])
}

/// The same app, called from outside the mesh.
fn outside(place: Place, port: u16) -> Place {
    Place { entry: (INGRESS, port).into(), ..place }
}

async fn target(mesh: &Mesh, name: &'static str, [one, two]: [(&str, &str); 2]) -> Result<Target> {
    let http1 = place(mesh, one.0, one.1).await?;
    Ok(Target { name, http1, http2: place(mesh, two.0, two.1).await? })
}

/// A workload's app, called by its service's virtual address from the judge's workload.
pub async fn place(mesh: &Mesh, workload: &str, service: &str) -> Result<Place> {
    let app = mesh.address(&format!("{workload}/app"), "listen")?;
    let server = mesh.address(&format!("{CALLER}/proxy"), "dns")?;
    let address: Ipv4Addr = dns::lookup(server, &format!("{service}.court.mesh")).await?;
    Ok(Place { app, entry: (address, PORT).into(), asks: true })
}

/// `weft dev app` at a place.
pub fn demo_app(at: SocketAddr) -> Result<Child> {
    let (address, weft) = (at.to_string(), weft()?);
    let args = ["dev", "app", "--zone", "court", "--app", "judged", "--workload", "judged-1", "--listen", &address];
    Command::new(weft).args(args).kill_on_drop(true).spawn().context("weft dev app")
}

/// `weft dev relay` without delay: for servers that cannot be told an address.
pub fn relay(at: SocketAddr, to: SocketAddr) -> Result<Child> {
    let (at, to, weft) = (at.to_string(), to.to_string(), weft()?);
    let args = ["dev", "relay", "--delay", "0ms", "--listen", &at, "--to", &to];
    Command::new(weft).args(args).kill_on_drop(true).spawn().context("weft dev relay")
}

fn weft() -> Result<std::path::PathBuf> {
    Ok(programs().map_err(|failure| anyhow::anyhow!(failure.text()))?.join("weft"))
}

/// Ends a process and waits for it, so that its address is free.
pub async fn end(mut process: Child) -> Result<()> {
    process.start_kill()?;
    if tokio::time::timeout(ANSWER_WAIT, process.wait()).await.is_err() {
        bail!("a process does not end");
    }
    Ok(())
}
