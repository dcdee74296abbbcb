//! A member of a zone: a workload with its app and proxy, or a gateway.

use crate::app::App;
use crate::caller::Caller;
use crate::control::{ADMIN, Api};
use crate::front::Front;
use crate::ports::Port;
use crate::program::{Program, Threads};
use http::Method;
use process::{CommonOptions, Process};
use proxy::{Config, Gateway, Mode, Role, Sidecar};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;

/// Namespace of all apps; their host names are `APP.shop.mesh`.
pub(crate) const NAMESPACE: &str = "shop";
/// Port by which services are called.
const SERVICE_PORT: u16 = 8080;
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What it is.
enum Kind {
    Gateway,
    Edge,
    Workload { service: String, app: App },
}

/// A workload with its app and proxy, or a gateway.
pub(crate) struct Member {
    /// Such as `west/cart-1`.
    pub name: String,
    kind: Kind,
    inbound: Port,
    outbound: Port,
    front: Option<Front>,
    data: PathBuf,
    token_file: PathBuf,
    program: Option<Program>,
    /// Its app's connections to its proxy.
    pub caller: Arc<Caller>,
    /// Neither lost nor frozen.
    pub well: bool,
}

impl Member {
    pub fn gateway(zone: &str, number: usize, folder: &Path) -> Self {
        Self::new(format!("{zone}/gateway-{number}"), Kind::Gateway, folder)
    }

    pub fn edge(zone: &str, number: usize, folder: &Path) -> Self {
        Self::new(format!("{zone}/edge-{number}"), Kind::Edge, folder)
    }

    /// Where its caller calls.
    pub fn port(&self) -> u16 {
        self.outbound.number()
    }

    /// A workload; `fronted` ones can be frozen.
    pub async fn workload(zone: &str, service: &str, number: usize, fronted: bool, folder: &Path) -> Self {
        let workload = format!("{service}-{number}");
        let app = App::start(zone, &workload).await;
        let kind = Kind::Workload { service: service.into(), app };
        let mut member = Self::new(format!("{zone}/{workload}"), kind, folder);
        if fronted {
            member.front = Some(Front::open(member.inbound.at()).await);
        }
        member
    }

    fn new(name: String, kind: Kind, folder: &Path) -> Self {
        let file = name.replace('/', "_");
        let (data, token_file) = (folder.join(&file), folder.join(format!("{file}.token")));
        let (inbound, outbound) = (Port::claim(), Port::claim());
        let caller = Caller::new(outbound.at());
        Self { name, kind, inbound, outbound, front: None, data, token_file, program: None, caller, well: false }
    }

    /// The workload's name within its zone.
    fn workload_name(&self) -> &str {
        self.name.split_once('/').map_or(self.name.as_str(), |(_, workload)| workload)
    }

    /// The service it belongs to; gateways to none.
    pub fn service(&self) -> Option<&str> {
        match &self.kind {
            Kind::Gateway | Kind::Edge => None,
            Kind::Workload { service, .. } => Some(service),
        }
    }

    pub fn app(&self) -> Option<&App> {
        match &self.kind {
            Kind::Gateway | Kind::Edge => None,
            Kind::Workload { app, .. } => Some(app),
        }
    }

    pub fn app_mut(&mut self) -> Option<&mut App> {
        match &mut self.kind {
            Kind::Gateway | Kind::Edge => None,
            Kind::Workload { app, .. } => Some(app),
        }
    }

    /// Where others reach its proxy.
    pub fn advertised(&self) -> u16 {
        self.front.as_ref().map_or(self.inbound.number(), Front::number)
    }

    fn registration(&self) -> Value {
        let name = self.workload_name();
        let (address, port) = (LOCALHOST, self.advertised());
        match &self.kind {
            Kind::Gateway => json!({
                "mesh": "default", "namespace": "default", "name": name,
                "spec": {"address": address, "proxyPort": port, "role": "EastWestGateway"},
            }),
            Kind::Edge => json!({
                "mesh": "default", "namespace": "default", "name": name,
                "spec": {"account": "ingress", "address": address, "proxyPort": port, "role": "EdgeGateway"},
            }),
            Kind::Workload { service, app } => json!({
                "mesh": "default", "namespace": NAMESPACE, "name": name, "labels": {"app": service},
                "spec": {
                    "service": service, "address": address, "proxyPort": port,
                    "ports": [{"port": SERVICE_PORT, "target": app.port(), "appProtocol": "http"}],
                },
            }),
        }
    }

    /// Registers it at its zone, and starts its proxy with the token.
    pub async fn join(&mut self, zone: &Api) {
        let reply = zone.good(Method::POST, "/workloads", Some(&self.registration())).await;
        let reply = reply.unwrap_or_else(|error| panic!("{} was not registered: {error:#}", self.name));
        let token = reply.body["token"].as_str().expect("a registration is answered with a token");
        std::fs::write(&self.token_file, token).expect("the folder is ours");
        self.start();
    }

    fn start(&mut self) {
        let role = match self.kind {
            Kind::Gateway | Kind::Edge => Role::Gateway(Gateway {
                listen: self.inbound.at(),
                ingress: LOCALHOST,
                certificates: self.data.join("certificates"),
            }),
            Kind::Workload { .. } => Role::Sidecar(Sidecar {
                inbound: self.inbound.at(),
                outbound: self.outbound.at(),
                inbound_redirected: None,
                dns: None,
                vips: None,
                app: LOCALHOST,
                mode: Mode::Explicit,
            }),
        };
        let config = Config {
            role,
            workers: 1,
            answer_headers: true,
            memory_max: None,
            take_over: false,
            token_file: Some(self.token_file.clone()),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let program = match self.kind {
            Kind::Gateway | Kind::Edge => "weft-gateway",
            Kind::Workload { .. } => "weft-dataplane",
        };
        let options =
            CommonOptions { data_dir: Some(self.data.clone()), admin_listen: ADMIN.parse().ok(), ..Default::default() };
        let run = move || async move { Ok(proxy::runtime::run(config, Process::new(program, options)).await?) };
        self.program = Some(Program::start(self.name.clone(), Threads::One, run));
        self.well = true;
    }

    /// Ends proxy and app without a word; answers when nobody listens any more.
    pub async fn kill(&mut self) {
        self.well = false;
        if let Kind::Workload { app, .. } = &mut self.kind {
            app.stop();
        }
        let program = self.program.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        program.kill().await;
        // Workers end by themselves, a moment after what they belong to.
        for address in [self.inbound.at(), self.outbound.at()] {
            closed(address).await;
        }
    }

    /// Starts what was killed, with the data it had.
    pub async fn revive(&mut self) {
        assert!(self.program.is_none(), "{} runs already", self.name);
        if let Kind::Workload { app, .. } = &mut self.kind {
            app.open().await;
        }
        self.start();
    }

    /// Stops it in its tracks: its sockets stay, the kernel accepts more, nobody answers.
    pub fn freeze(&mut self, frozen: bool) {
        let front = self.front.as_ref();
        let front = front.unwrap_or_else(|| panic!("{} cannot be frozen: say so in its zone's plan", self.name));
        front.freeze(frozen);
        self.well = !frozen;
        let program = self.program.as_mut().expect("it runs");
        if frozen { program.freeze() } else { program.thaw() }
    }

    /// Begins to kill it.
    pub fn condemn(&mut self) {
        if let Some(program) = &mut self.program {
            program.condemn();
        }
    }
}

async fn closed(address: SocketAddr) {
    crate::wait::until("its sockets are closed", async || match TcpStream::connect(address).await {
        Ok(_) => Err(format!("somebody accepts at {address}")),
        Err(_) => Ok(()),
    })
    .await;
}
