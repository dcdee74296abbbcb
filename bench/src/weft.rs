//! Weft on each path: a whole mesh by `weft dev up`, its proxies moved to the proxies' core, its app replaced by the
//! backend that all peers use.

use crate::Path;
use crate::peers::{BACKEND, LOAD_CORE, PROXY_CORE, Proxies, Rig, pinned};
use crate::swaps::{Swap, ask, metric};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::json;
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
    pids.iter().try_for_each(|pid| move_to_core(PROXY_CORE, *pid))?;
    let (global, zone) = (find("global")?, find("west/cp")?);
    [global, zone].iter().filter_map(|control| control.pid).try_for_each(|pid| move_to_core(LOAD_CORE, pid))?;
    let swap = swap(&state, global, &counted)?;
    dev(rig, &["kill", "west/cart-1/app", "--state", &state.to_string_lossy()])?;
    let listen = *app.addresses.values().next().context("the app has no address")?;
    let relay = pinned(LOAD_CORE, FilePath::new("nginx"), &["-c", &backend_at(rig, listen)?])?;
    let mut proxies = Proxies::new(vec![relay]);
    proxies.pids = pids;
    proxies.swap = Some(swap);
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

/// A policy of the called service, written at global: each proxy has it as a part of what it runs.
fn swap(state: &FilePath, global: &Process, counted: &[&Process]) -> Result<Swap> {
    let at = |process: &Process, name: &str| {
        process.addresses.get(name).copied().with_context(|| format!("{} has no {name} address", process.name))
    };
    let api = at(global, "api")?;
    let token = fs::read_to_string(state.join("data/global/admin.token"))?;
    let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", token.trim());
    let admins = counted.iter().map(|proxy| at(proxy, "admin")).collect::<Result<Vec<SocketAddr>>>()?;
    let swaps = |admin: &SocketAddr| metric(&ask(*admin, "GET", "/metrics", "", "")?, "weft_config_swaps");
    Ok(Swap {
        give: Box::new(move |number| {
            let to = json!([{"targetRef": {"kind": "Service", "name": "cart"},
                "default": {"request": format!("{}ms", 15_000 + number)}}]);
            let timeout = json!({"apiVersion": "weft.dev/v1", "kind": "Timeout", "metadata": {"name": "cart"}, "spec": {"to": to}});
            ask(api, "PUT", "/api/v1/resources/timeouts/default/default/cart", &headers, &timeout.to_string()).map(drop)
        }),
        seen: Box::new(move || admins.iter().map(swaps).sum()),
    })
}

fn move_to_core(core: &str, pid: u32) -> Result<()> {
    let done = Command::new("taskset").args(["-a", "-pc", core, &pid.to_string()]).stdout(Stdio::null()).status()?;
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
