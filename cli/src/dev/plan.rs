//! From a topology to processes: every name, address, port, folder and argument, before anything is started.
//!
//! Ports are the same in every zone; addresses differ. Zone `N` (its network is 127.N):
//! `127.N.0.1` control plane, `127.N.0.1G` gateway G, `127.N.0.2E` edge gateway E, `127.N.A.R` replica R of app A with its proxy, and
//! `127.(100+N).W.0/24` the virtual addresses that the proxy of workload W answers with.

use super::state::{Process, Role};
use super::topology::{App, REPLICAS_MAX, Topology, ZonePlan};
use api::ZoneName;
use api::kinds::Protocol;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Ports of the global control plane.
pub const GLOBAL_API: u16 = 5680;
const GLOBAL_SYNC: u16 = 5681;
const GLOBAL_ADMIN: u16 = 5682;
/// Ports of a zone control plane.
pub const ZONE_API: u16 = 5690;
const ZONE_SYNC: u16 = 5691;
const ZONE_PEER: u16 = 5692;
const ZONE_ADMIN: u16 = 5693;
/// Ports of a proxy.
const OUTBOUND: u16 = 15_001;
const INBOUND: u16 = 15_008;
const GATEWAY: u16 = 15_443;
/// Port a gateway listens on when a relay stands before it.
const GATEWAY_BEHIND_RELAY: u16 = 15_444;
const DNS: u16 = 15_053;
const ADMIN: u16 = 15_000;

/// Where everything of one topology is kept.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The state folder.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn file_name(process: &str) -> String {
        process.replace('/', "_")
    }

    fn data(&self, process: &str) -> PathBuf {
        self.0.join("data").join(Self::file_name(process))
    }

    fn log(&self, process: &str) -> PathBuf {
        self.0.join("logs").join(format!("{}.log", Self::file_name(process)))
    }

    /// Where the join token of a process is put.
    pub fn token(&self, process: &str) -> PathBuf {
        self.0.join("tokens").join(Self::file_name(process))
    }
}

/// One workload to register, with the processes that belong to it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Body of the registration.
    pub registration: Value,
    /// In the order in which to start them; the first one takes the token.
    pub processes: Vec<Process>,
}

/// Everything one zone needs.
#[derive(Clone, Debug)]
pub struct ZoneMembers {
    /// Which.
    pub zone: ZoneName,
    /// Its region.
    pub region: Option<String>,
    /// Its control plane.
    pub control: Process,
    /// Gateways first.
    pub members: Vec<Member>,
}

/// Name of the global control plane's process.
pub const GLOBAL: &str = "global";

fn at(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(address), port)
}

/// A process without what differs by role.
fn process(folder: &Folder, role: Role, name: &str, zone: Option<&ZoneName>) -> Process {
    Process {
        name: name.into(),
        role,
        zone: zone.cloned(),
        workload: None,
        program: role.program().into(),
        args: Vec::new(),
        data_dir: role.keeps_data().then(|| folder.data(name)),
        log: folder.log(name),
        addresses: BTreeMap::new(),
        pid: None,
        started: None,
    }
}

/// Adds `--FLAG ADDRESS` and remembers the address under the flag's first word.
fn listen(process: &mut Process, flag: &str, address: SocketAddr) {
    process.args.extend([format!("--{flag}"), address.to_string()]);
    let name = flag.strip_suffix("-listen").unwrap_or(flag);
    process.addresses.insert(name.into(), address);
}

fn data_dir(process: &mut Process) {
    if let Some(folder) = &process.data_dir {
        process.args.extend(["--data-dir".into(), folder.display().to_string()]);
    }
}

/// The global control plane.
pub fn global(topology: &Topology, folder: &Folder) -> Process {
    let mut process = process(folder, Role::Global, GLOBAL, None);
    let address = topology.global.address;
    data_dir(&mut process);
    listen(&mut process, "api-listen", at(address, GLOBAL_API));
    listen(&mut process, "sync-listen", at(address, GLOBAL_SYNC));
    listen(&mut process, "admin-listen", at(address, GLOBAL_ADMIN));
    process.args.extend(["--store".into(), topology.global.store.clone()]);
    process
}

/// A zone with all it runs.
pub fn zone(topology: &Topology, index: usize, folder: &Folder) -> ZoneMembers {
    let plan = &topology.zones[index];
    let zone = &plan.name.value;
    let name = format!("{zone}/cp");
    let number = plan.number(index).expect("the topology was checked");
    let address = Ipv4Addr::new(127, number, 0, 1);
    let mut control = process(folder, Role::ZoneCp, &name, Some(zone));
    data_dir(&mut control);
    control.args.extend(["--token-file".into(), folder.token(&name).display().to_string()]);
    listen(&mut control, "api-listen", at(address, ZONE_API));
    listen(&mut control, "sync-listen", at(address, ZONE_SYNC));
    listen(&mut control, "peer-listen", at(address, ZONE_PEER));
    listen(&mut control, "admin-listen", at(address, ZONE_ADMIN));
    if let Some(region) = &plan.region {
        control.args.extend(["--region".into(), region.clone()]);
    }
    let mut members: Vec<Member> = (1..=plan.gateways).map(|i| gateway(plan, number, i, folder)).collect();
    members.extend((1..=plan.ingress).map(|i| edge_gateway(plan, number, i, folder)));
    for (a, app) in topology.apps.iter().enumerate() {
        members.extend((1..=plan.replicas(app)).map(|replica| workload(topology, index, a, app, replica, folder)));
    }
    ZoneMembers { zone: zone.clone(), region: plan.region.clone(), control, members }
}

fn gateway(plan: &ZonePlan, number: u8, index: u32, folder: &Folder) -> Member {
    let zone = &plan.name.value;
    let name = format!("gateway-{index}");
    let process_name = format!("{zone}/{name}");
    let address = Ipv4Addr::new(127, number, 0, 10 + index as u8);
    let mut processes = Vec::new();
    let mut own = process(folder, Role::Gateway, &process_name, Some(zone));
    own.workload = Some(format!("default/default/{name}"));
    data_dir(&mut own);
    own.args.extend(["--token-file".into(), folder.token(&process_name).display().to_string()]);
    let behind = if plan.delay.is_some() { GATEWAY_BEHIND_RELAY } else { GATEWAY };
    listen(&mut own, "listen", at(address, behind));
    listen(&mut own, "admin-listen", at(address, ADMIN));
    processes.push(own);
    if let Some(delay) = plan.delay {
        let mut relay = process(folder, Role::Relay, &format!("{process_name}/relay"), Some(zone));
        relay.args = vec!["dev".into(), "relay".into()];
        listen(&mut relay, "listen", at(address, GATEWAY));
        relay.args.extend(["--to".into(), at(address, behind).to_string(), "--delay".into(), delay.to_string()]);
        processes.push(relay);
    }
    let registration = json!({
        "mesh": "default", "namespace": "default", "name": name,
        "spec": {"address": address, "proxyPort": GATEWAY, "role": "EastWestGateway"},
    });
    Member { registration, processes }
}

/// Certificates that its Gateways name are below `certificates` in the state folder.
fn edge_gateway(plan: &ZonePlan, number: u8, index: u32, folder: &Folder) -> Member {
    let zone = &plan.name.value;
    let name = format!("ingress-{index}");
    let process_name = format!("{zone}/{name}");
    let address = Ipv4Addr::new(127, number, 0, 20 + index as u8);
    let mut own = process(folder, Role::Gateway, &process_name, Some(zone));
    own.workload = Some(format!("default/default/{name}"));
    data_dir(&mut own);
    own.args.extend(["--token-file".into(), folder.token(&process_name).display().to_string()]);
    listen(&mut own, "listen", at(address, GATEWAY));
    own.args.extend(["--ingress-address".into(), address.to_string()]);
    own.args.extend(["--certificates".into(), folder.path().join("certificates").display().to_string()]);
    listen(&mut own, "admin-listen", at(address, ADMIN));
    let registration = json!({
        "mesh": "default", "namespace": "default", "name": name,
        "spec": {"account": "ingress", "address": address, "proxyPort": GATEWAY, "role": "EdgeGateway"},
    });
    Member { registration, processes: vec![own] }
}

/// One replica of an app with its proxy.
pub fn workload(
    topology: &Topology,
    zone_index: usize,
    app_index: usize,
    app: &App,
    replica: u32,
    folder: &Folder,
) -> Member {
    let plan = &topology.zones[zone_index];
    let zone = &plan.name.value;
    let number = plan.number(zone_index).expect("the topology was checked");
    let App { name: app_name, namespace, mesh, protocol, port, .. } = app;
    let name = format!("{}-{replica}", app_name.value);
    let address = Ipv4Addr::new(127, number, app_index as u8 + 1, replica as u8);
    let nth = app_index as u32 * REPLICAS_MAX + replica - 1;
    let vips = format!("127.{}.{nth}.0/24", 100 + number);
    let workload = format!("{mesh}/{namespace}/{name}");

    let mut proxy = process(folder, Role::Proxy, &format!("{zone}/{name}/proxy"), Some(zone));
    proxy.workload = Some(workload.clone());
    data_dir(&mut proxy);
    proxy.args.extend(["--token-file".into(), folder.token(&proxy.name).display().to_string()]);
    listen(&mut proxy, "inbound-listen", at(address, INBOUND));
    listen(&mut proxy, "outbound-listen", at(address, OUTBOUND));
    listen(&mut proxy, "dns-listen", at(address, DNS));
    listen(&mut proxy, "admin-listen", at(address, ADMIN));
    proxy.args.extend(["--vips".into(), vips, "--app-address".into(), address.to_string()]);

    let mut own = process(folder, Role::App, &format!("{zone}/{name}/app"), Some(zone));
    own.workload = Some(workload);
    own.args = vec!["dev".into(), "app".into()];
    listen(&mut own, "listen", at(address, *port));
    for (flag, value) in [("zone", zone.as_str()), ("app", app_name.value.as_str()), ("workload", &name)] {
        own.args.extend([format!("--{flag}"), value.to_owned()]);
    }
    if *protocol == Protocol::Tcp {
        own.args.push("--tcp".into());
    }
    let registration = json!({
        "mesh": mesh, "namespace": namespace, "name": name,
        "labels": {"app": app_name.value},
        "spec": {
            "service": app_name.value, "address": address, "proxyPort": INBOUND,
            "ports": [{"port": port, "appProtocol": protocol}],
        },
    });
    Member { registration, processes: vec![proxy, own] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_processes_share_an_address() {
        let text = "\
zones:
  - {name: west, gateways: 2, ingress: 2}
  - {name: east, delay: 20ms}
apps:
  - {name: cart, replicas: 3}
  - {name: web, replicas: 2}
";
        let topology = Topology::parse("t.yaml", text).unwrap();
        let folder = Folder::new("state".into());
        let mut all = vec![global(&topology, &folder)];
        for i in 0..topology.zones.len() {
            let zone = zone(&topology, i, &folder);
            all.push(zone.control);
            all.extend(zone.members.into_iter().flat_map(|member| member.processes));
        }
        let mut addresses: Vec<SocketAddr> = all.iter().flat_map(|p| p.addresses.values().copied()).collect();
        let mut vips: Vec<&String> =
            all.iter().filter_map(|p| p.args.iter().skip_while(|arg| *arg != "--vips").nth(1)).collect();
        let (count, ranges) = (addresses.len(), vips.len());
        addresses.sort();
        addresses.dedup();
        vips.sort();
        vips.dedup();
        assert_eq!((addresses.len(), vips.len()), (count, ranges));
        assert_eq!(ranges, 10);
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    }
}
