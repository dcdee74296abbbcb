//! What a proxy is told on its command line.

use crate::overload::MemorySize;
use crate::vips::Cidr;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// How connections of the app arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// The app calls names and virtual addresses on loopback; nothing is redirected.
    Explicit,
    /// The kernel redirects what the app does; see `weft-dataplane redirect`.
    Redirect,
}

/// Settings of a proxy next to a workload.
#[derive(Clone, Debug)]
pub struct Sidecar {
    /// Mutual TLS, from other proxies.
    pub inbound: SocketAddr,
    /// Explicit mode: HTTP by `Host`. Redirect mode: redirected connections of the app.
    pub outbound: SocketAddr,
    /// Redirect mode: redirected connections to the app.
    pub inbound_redirected: Option<SocketAddr>,
    /// DNS; none: not served.
    pub dns: Option<SocketAddr>,
    /// Range of virtual addresses; none: services are called by `Host` only.
    pub vips: Option<Cidr>,
    /// Where the app listens.
    pub app: IpAddr,
    /// How connections arrive.
    pub mode: Mode,
}

/// Settings of a gateway. Which it is, its certificate says: registered as `EastWestGateway` or as `EdgeGateway`.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// East-west: from other zones. Edge: from sidecars, on the way out of the mesh.
    pub listen: SocketAddr,
    /// Edge: address on which ports of Gateways are opened.
    pub ingress: IpAddr,
    /// Edge: folder of certificates that Gateways name.
    pub certificates: PathBuf,
}

/// Which proxy this is.
#[derive(Clone, Debug)]
pub enum Role {
    /// Next to a workload.
    Sidecar(Sidecar),
    /// At a zone's edge.
    Gateway(Gateway),
}

/// All settings of a proxy.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which proxy this is.
    pub role: Role,
    /// Threads that carry traffic, each with its own sockets, balancers and connections.
    pub workers: usize,
    /// Say in answers which zone and workload gave them.
    pub answer_headers: bool,
    /// Memory this process may use; none: that of its control group, if there is one.
    pub memory_max: Option<MemorySize>,
    /// Take over from the process that serves with this data folder, if there is one.
    pub take_over: bool,
    /// Read at the first start only.
    pub token_file: Option<PathBuf>,
    /// Version of the program, for reports.
    pub version: String,
}
