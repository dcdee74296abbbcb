//! Weft on each path: a whole mesh by `weft dev up`, its proxies moved to the proxies' core, its app replaced by the
//! backend that all peers use.

use crate::Path;
use crate::peers::{BACKEND, LOAD_CORE, PROXY_CORE, Proxies, Rig, pinned};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};
use std::process::{Command, Stdio};

/// How a proxy is installed on a host.
const UNIT: &str = include_str!("../../deploy/systemd/weft-dataplane@.service");
/// Two workloads of one zone; `outside` is the backend, called without a second proxy.
const TOPOLOGY: &str = "\
name: bench
meshes:
  default: {defaultAuthorization: Deny}
zones:
  - {name: west, network: \"127.91\", gateways: 0}
apps:
  - {name: web}
  - {name: cart}
resources:
  - apiVersion: weft.dev/v1
    kind: Authorization
    metadata: {name: web-to-cart}
    spec:
      rules:
        - {action: Allow, from: [{account: web}]}
  - apiVersion: weft.dev/v1
    kind: ExternalService
    metadata: {name: outside}
    spec:
      hosts: [outside.example]
      ports: [{port: 80, appProtocol: http}]
      endpoints: [{address: BACKEND_IP, port: BACKEND_PORT}]
";

#[derive(Deserialize)]
struct State {
    processes: Vec<Process>,
}

#[derive(Deserialize)]
struct Process {
    name: String,
    pid: Option<u32>,
    addresses: BTreeMap<String, SocketAddr>,
}

/// Starts a mesh and hands out the proxies of one path.
pub fn start(rig: &Rig, path: Path) -> Result<Proxies> {
    let topology = rig.folder().join("bench.yaml");
    let text =
        TOPOLOGY.replace("BACKEND_IP", &BACKEND.ip().to_string()).replace("BACKEND_PORT", &BACKEND.port().to_string());
    fs::write(&topology, text)?;
    let state = rig.folder().join("weft");
    dev(rig, &["up", &topology.to_string_lossy(), "--state", &state.to_string_lossy()])?;
    let down = Down { bin: rig.bin.clone(), state: state.clone() };
    let known: State = serde_json::from_str(&fs::read_to_string(state.join("dev.json"))?)?;
    let find = |name: &str| {
        known.processes.iter().find(|process| process.name == name).with_context(|| format!("no process `{name}` runs"))
    };
    let web = find("west/web-1/proxy")?;
    let cart = find("west/cart-1/proxy")?;
    let app = find("west/cart-1/app")?;
    let counted: Vec<&Process> = if path == Path::A { vec![web] } else { vec![web, cart] };
    let pids: Vec<u32> = counted.iter().filter_map(|process| process.pid).collect();
    pids.iter().try_for_each(|pid| move_to_core(*pid))?;
    dev(rig, &["kill", "west/cart-1/app", "--state", &state.to_string_lossy()])?;
    let listen = *app.addresses.values().next().context("the app has no address")?;
    let relay = pinned(LOAD_CORE, FilePath::new("nginx"), &["-c", &backend_at(rig, listen)?])?;
    let mut proxies = Proxies::new(vec![relay]);
    proxies.pids = pids;
    proxies.entry = *web.addresses.get("outbound").context("the proxy has no outbound listener")?;
    proxies.host = if path == Path::A { "outside.example" } else { "cart.default.mesh" }.into();
    proxies.down = Some(Box::new(move || drop(down)));
    Ok(proxies)
}

/// Ends the mesh, also when a later step fails.
struct Down {
    bin: PathBuf,
    state: PathBuf,
}

impl Drop for Down {
    fn drop(&mut self) {
        let _ = weft(&self.bin, &["down", "--state", &self.state.to_string_lossy()]).status();
        let _ = fs::remove_dir_all(&self.state);
    }
}

fn weft(bin: &FilePath, args: &[&str]) -> Command {
    let mut command = Command::new(bin.join("weft"));
    command.arg("dev").args(args).stdout(Stdio::null());
    // The settings a proxy is installed with.
    for line in UNIT.lines() {
        if let Some((name, value)) = line.strip_prefix("Environment=").and_then(|setting| setting.split_once('=')) {
            command.env(name, value);
        }
    }
    // A line for each request, unless the environment says otherwise.
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "info,access=info");
    }
    command
}

fn dev(rig: &Rig, args: &[&str]) -> Result<()> {
    let out = weft(&rig.bin, args).stderr(Stdio::piped()).output().context("weft did not start")?;
    if !out.status.success() {
        bail!("weft dev {} failed:\n{}", args.join(" "), String::from_utf8_lossy(&out.stderr));
    }
    Ok(())
}

fn move_to_core(pid: u32) -> Result<()> {
    let done =
        Command::new("taskset").args(["-a", "-pc", PROXY_CORE, &pid.to_string()]).stdout(Stdio::null()).status()?;
    if !done.success() {
        bail!("taskset could not move process {pid}");
    }
    Ok(())
}

/// The backend's configuration on another address.
fn backend_at(rig: &Rig, listen: SocketAddr) -> Result<String> {
    let conf = fs::read_to_string(rig.folder().join("backend.conf"))?
        .replace(&BACKEND.to_string(), &listen.to_string())
        .replace("nginx.pid", "nginx-app.pid");
    let file = rig.folder().join("backend-app.conf");
    fs::write(&file, conf)?;
    Ok(file.to_string_lossy().into_owned())
}
