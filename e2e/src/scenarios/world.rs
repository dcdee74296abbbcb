//! Three zones in network namespaces. Between zones a firewall lets nothing through but calls to gateways, so whatever
//! arrives in another zone went through its gateway.

use super::nets::{Host, Nets, Rule};
use super::report::Report;
use super::scene::{Scene, Start, until};
use super::{partition, transparent};
use anyhow::{Context, Result, bail};
use cli::client::Client;
use cli::dev::up::unsettled;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// User of the proxies: nobody else's (systemd leaves numbers around 64000 alone).
pub const PROXY_USER: u32 = 64_123;
/// Number of the network that the global control plane stands in.
pub const GLOBAL: u8 = 0;
/// Zones with their region; the number of a zone's network is its place here, from 1.
const ZONES: [(&str, &str); 3] = [("west", "us"), ("east", "us"), ("edge", "eu")];
const GLOBAL_API: u16 = 5680;
const GLOBAL_SYNC: u16 = 5681;
const ZONE_API: u16 = 5690;
const GATEWAY: u16 = 15_443;
/// Sent on a connection from before the rules.
pub const HELD_OVER: &str = "from before";
/// From the first start to every proxy holding its configuration.
const READY_WAIT: Duration = Duration::from_secs(30);

/// A running world. Processes end before their namespaces go.
pub struct World {
    /// Its processes.
    pub scene: Scene,
    hosts: BTreeMap<String, Host>,
    clients: BTreeMap<String, Client>,
    /// What an app received after its host was redirected, on a connection from before.
    pub held_over: String,
    /// Its network.
    pub nets: Nets,
}

/// Tells the facts of [`transparent`] and [`partition`] in one world.
pub async fn tell(report: &mut Report) -> Result<()> {
    if !transparent::FACTS.iter().chain(partition::FACTS).any(|fact| report.wants(fact)) {
        return Ok(());
    }
    let mut world = None;
    let begun = report.fact("netns: three zones join and every proxy holds its configuration", async |row| {
        let started = World::new().await?;
        row.saw(format!("{} namespaces, {} zones, redirected by nftables", started.hosts.len() + 1, ZONES.len()));
        world = Some(started);
        Ok(())
    });
    begun.await;
    if world.is_none() {
        world = Some(World::new().await?);
    }
    let world = world.context("started above")?;
    transparent::tell(&world, report).await?;
    partition::tell(&world, report).await
}

/// Number of a zone's network.
pub fn number(zone: &str) -> u8 {
    ZONES.iter().position(|(name, _)| *name == zone).map_or(GLOBAL, |place| place as u8 + 1)
}

impl World {
    async fn new() -> Result<Self> {
        let scene = Scene::new("netns")?;
        let nets = Nets::new()?;
        let mut world =
            Self { scene, hosts: BTreeMap::new(), clients: BTreeMap::new(), held_over: String::new(), nets };
        world.host("global", GLOBAL, 0)?;
        for (zone, _) in ZONES {
            world.host(zone, number(zone), 0)?;
            world.host(&format!("{zone}-cart"), number(zone), 1)?;
        }
        world.host("west-web", number("west"), 2)?;
        world.walls()?;
        let names = ["plain", "names", "0.0.0.0:53"].map(str::to_owned).to_vec();
        world.scene.start("names", &Start { program: "weft-scenarios", args: names, ..Start::default() })?;
        world.global().await?;
        for (zone, region) in ZONES {
            world.zone(zone, region).await?;
        }
        for (zone, _) in ZONES {
            world.apps(&format!("{zone}-cart"), zone)?;
            world.workload(&format!("{zone}-cart"), zone, Some("cart")).await?;
        }
        world.workload("west-web", "west", None).await?;
        for (zone, _) in ZONES {
            // Its gateway, its cart, and in the west the caller.
            let expected = if zone == "west" { 3 } else { 2 };
            let client = world.at(zone)?.clone();
            let settled = async || {
                let waiting = unsettled(&client.get("/proxies").await?, expected);
                if waiting.is_empty() { Ok(true) } else { bail!("waiting for {}", waiting.join(", ")) }
            };
            let waited = until(format!("every proxy of {zone} is ready and current"), READY_WAIT, settled).await;
            waited.with_context(|| world.logs(zone))?;
        }
        let held = world.hold("west-web").await?;
        for host in ["west-web", "west-cart", "east-cart", "edge-cart"] {
            world.redirect(host, true)?;
        }
        world.held_over = held.speak().await?;
        Ok(world)
    }

    /// A connection of a plain app to the outside.
    async fn hold(&self, host: &str) -> Result<Held> {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await?;
        let to = SocketAddr::new(self.router_of(host), listener.local_addr()?.port());
        let start = self.on(host, "weft-scenarios", &["plain", "echo", &to.to_string(), ""]);
        let mut command = tokio::process::Command::from(self.scene.command(&start));
        let app = command.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn()?;
        let (stream, _) = tokio::time::timeout(READY_WAIT, listener.accept()).await??;
        Ok(Held { app, stream })
    }

    /// Where a host reaches the router.
    pub fn router_of(&self, host: &str) -> IpAddr {
        let [a, b, number, _] = self.hosts[host].address.octets();
        IpAddr::from([a, b, number, 1])
    }

    /// Everything a process has said.
    pub fn log(&self, name: &str) -> String {
        self.scene.log(name)
    }

    fn logs(&self, zone: &str) -> String {
        let names = [zone.to_owned(), format!("{zone}-gateway"), format!("{zone}-cart"), format!("{zone}-web")];
        names.iter().map(|name| format!("{name}: {}", self.scene.log_tail(name))).collect::<Vec<_>>().join("\n")
    }

    fn host(&mut self, name: &str, zone: u8, index: u8) -> Result<()> {
        let host = self.nets.host(name, zone, index)?;
        self.hosts.insert(name.to_owned(), host);
        Ok(())
    }

    /// A host's address with a port.
    pub fn address(&self, host: &str, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.hosts[host].address), port)
    }

    /// Zones reach gateways of each other, and nothing else.
    fn walls(&self) -> Result<()> {
        let zones = ZONES.map(|(zone, _)| zone);
        let pairs = zones.iter().flat_map(|from| zones.iter().filter(move |to| from != *to).map(move |to| (from, to)));
        let rules = pairs.map(|(from, to)| Rule::CallsBut(number(from), number(to), self.hosts[*to].address, GATEWAY));
        self.nets.rules("walls", &rules.collect::<Vec<_>>())
    }

    /// The REST interface of `global` or a zone.
    pub fn at(&self, name: &str) -> Result<&Client> {
        self.clients.get(name).with_context(|| format!("no control plane is named {name}"))
    }

    fn data(&self, name: &str, user: Option<u32>) -> Result<PathBuf> {
        let path = self.scene.path(&format!("data-{name}"));
        std::fs::create_dir_all(&path)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        std::os::unix::fs::chown(&path, user, user)?;
        Ok(path)
    }

    fn start(&self, name: &str, host: &str, program: &'static str, user: Option<u32>, args: &[&str]) -> Result<()> {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let space = Some(self.hosts[host].space.clone());
        self.scene.start(name, &Start { program, args, space, user })
    }

    async fn global(&mut self) -> Result<()> {
        let data = self.data("global", None)?;
        let (api, sync) = (self.address("global", GLOBAL_API), self.address("global", GLOBAL_SYNC));
        let (folder, api_text, sync) = (data.display().to_string(), api.to_string(), sync.to_string());
        let args = ["--data-dir", &folder, "--api-listen", &api_text, "--sync-listen", &sync];
        self.start("global", "global", "weft-global-cp", None, &args)?;
        let client = self.scene.client("global", api, &data).await?;
        let mesh = json!({"apiVersion": api::API_VERSION, "kind": "Mesh", "metadata": {"name": "default"},
            "spec": {"defaultAuthorization": "Allow"}});
        client.send(Method::PUT, "/resources/meshes/default", Some(&mesh), &[]).await?;
        self.clients.insert("global".into(), client);
        Ok(())
    }

    async fn zone(&mut self, zone: &str, region: &str) -> Result<()> {
        let answer = self.at("global")?.post("/zones", &json!({"name": zone, "region": region})).await?;
        let token = self.scene.secret(&format!("{zone}.token"), answer["token"].as_str().unwrap_or_default(), None)?;
        let data = self.data(zone, None)?;
        let api = self.address(zone, ZONE_API);
        let listen = |port: u16| self.address(zone, port).to_string();
        let (folder, token) = (data.display().to_string(), token.display().to_string());
        let (api_text, sync, peer) = (api.to_string(), listen(5691), listen(5692));
        let args = [
            "--data-dir",
            &folder,
            "--token-file",
            &token,
            "--region",
            region,
            "--api-listen",
            &api_text,
            "--sync-listen",
            &sync,
            "--peer-listen",
            &peer,
        ];
        self.start(zone, zone, "weft-zone-cp", None, &args)?;
        let client = self.scene.client(zone, api, &data).await?;
        let gateway = json!({"mesh": "default", "namespace": "default", "name": "gateway", "spec":
            {"address": self.hosts[zone].address, "proxyPort": GATEWAY, "role": "EastWestGateway"}});
        let answer = client.post("/workloads", &gateway).await?;
        self.clients.insert(zone.to_owned(), client);
        let name = format!("{zone}-gateway");
        let token = self.scene.secret(&format!("{name}.token"), answer["token"].as_str().unwrap_or_default(), None)?;
        let (folder, token) = (self.data(&name, None)?.display().to_string(), token.display().to_string());
        let listen = self.address(zone, GATEWAY).to_string();
        let args = ["--data-dir", &folder, "--token-file", &token, "--listen", &listen];
        self.start(&name, zone, "weft-gateway", None, &args)
    }

    /// HTTP on 8080 and bytes on 9000, on every address of the host.
    pub fn apps(&self, host: &str, zone: &str) -> Result<()> {
        for (kind, port, more) in [("http", 8080, None), ("tcp", 9000, Some("--tcp"))] {
            let listen = format!("0.0.0.0:{port}");
            let mut args =
                vec!["dev", "app", "--listen", &listen, "--zone", zone, "--app", "cart", "--workload", "cart"];
            args.extend(more);
            self.start(&format!("{host}-{kind}"), host, "weft", None, &args)?;
        }
        Ok(())
    }

    /// Registers a workload and starts its proxy, as its own user.
    async fn workload(&self, host: &str, zone: &str, service: Option<&str>) -> Result<()> {
        let (_, name) = host.split_once('-').context("hosts of workloads are named ZONE-NAME")?;
        let mut spec = json!({"address": self.hosts[host].address});
        if let Some(service) = service {
            spec["service"] = service.into();
            spec["ports"] = json!([{"port": 8080, "appProtocol": "http"}, {"port": 9000, "appProtocol": "tcp"}]);
        }
        let body = json!({"mesh": "default", "namespace": "shop", "name": name, "spec": spec});
        let answer = self.at(zone)?.post("/workloads", &body).await?;
        let token = answer["token"].as_str().unwrap_or_default();
        let token = self.scene.secret(&format!("{host}.token"), token, Some(PROXY_USER))?.display().to_string();
        let folder = self.data(host, Some(PROXY_USER))?.display().to_string();
        let args = ["--data-dir", &folder, "--token-file", &token, "--mode", "redirect"];
        self.start(host, host, "weft-dataplane", Some(PROXY_USER), &args)
    }

    /// `weft-dataplane redirect up` or `down` on a host, as root.
    pub fn redirect(&self, host: &str, up: bool) -> Result<()> {
        let user = PROXY_USER.to_string();
        let args = if up { vec!["redirect", "up", "--proxy-user", &user] } else { vec!["redirect", "down"] };
        let output = self.inside(host, "weft-dataplane", &args)?;
        if !output.status.success() {
            bail!("`weft-dataplane {}` on {host}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn inside(&self, host: &str, program: &'static str, args: &[&str]) -> Result<std::process::Output> {
        self.scene.run(&self.on(host, program, args))
    }

    fn on(&self, host: &str, program: &'static str, args: &[&str]) -> Start {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Start { program, args, space: self.hosts.get(host).map(|host| host.space.clone()), user: None }
    }

    /// Runs one of the plain programs on a host (`router` for the outsider) and reads what it printed.
    pub fn plain(&self, host: &str, args: &[&str]) -> Result<Value> {
        let args: Vec<&str> = std::iter::once("plain").chain(args.iter().copied()).collect();
        let output = self.inside(host, "weft-scenarios", &args)?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(text.trim()).with_context(|| {
            format!(
                "{} on {host} printed `{}` and `{}`",
                args.join(" "),
                text.trim(),
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    /// All nftables rules of a host, in nftables' words.
    pub fn ruleset(&self, host: &str) -> Result<String> {
        let space = &self.hosts.get(host).with_context(|| format!("no host is named {host}"))?.space;
        let output =
            std::process::Command::new("ip").args(["netns", "exec", space, "nft", "list", "ruleset"]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A plain client on a host that calls `url` so many times a second until it is dropped.
    pub fn load(&self, host: &str, url: &str, rate: u32) -> Result<Load> {
        let start = self.on(host, "weft-scenarios", &["plain", "load", url, &rate.to_string()]);
        let mut command = tokio::process::Command::from(self.scene.command(&start));
        let mut child = command.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("asked for above")?).lines();
        let seen = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(read(lines, seen.clone()));
        Ok(Load { _child: child, seen })
    }
}

/// The outside's end of a connection.
struct Held {
    app: tokio::process::Child,
    stream: tokio::net::TcpStream,
}

impl Held {
    /// Speaks first, and tells what the app received.
    async fn speak(self) -> Result<String> {
        let Self { app, mut stream } = self;
        stream.write_all(HELD_OVER.as_bytes()).await?;
        stream.shutdown().await?;
        let output = app.wait_with_output().await?;
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        Ok(said["back"].as_str().map_or_else(|| said.to_string(), str::to_owned))
    }
}

async fn read(mut lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>, seen: Arc<Mutex<Vec<Seen>>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
        let number = |field: &str| said[field].as_u64().unwrap_or_default();
        let words = format!("{} {} {}", text("reason"), text("error"), text("body"));
        let one =
            Seen { at: number("at"), took: number("tookMs"), good: number("status") == 200, zone: text("zone"), words };
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    }
}

/// A plain client that goes on calling.
pub struct Load {
    _child: tokio::process::Child,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// One call and its end.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Unix milliseconds at which it was made.
    pub at: u64,
    /// Milliseconds to its end.
    pub took: u64,
    /// Status 200.
    pub good: bool,
    /// Zone that answered.
    pub zone: String,
    /// About a failure.
    pub words: String,
}

impl Load {
    /// What ended so far, of calls made at or after `since`.
    pub fn since(&self, since: u64) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|seen| seen.at >= since).cloned().collect()
    }
}
