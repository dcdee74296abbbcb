//! A small mesh within the test's process: throw-away authorities, proxies on threads of their own, apps.
#![allow(dead_code, clippy::unwrap_used)] // Each test file uses its own part; all of it is test.

pub mod raw;

use api::config::{
    Authorization, Backend, Balancing, Endpoint, Endpoints, EndpointsPlace, GatewayConfig, Inbound, InboundPort,
    Listener, ListenerHost, ListenerRoute, Outbound, OutboundPort, OutboundRule, RemoteEndpoints, Retry, ServiceRef,
    Timeouts, ZoneInfo, item,
};
use api::kinds::{DefaultAuthorization, ListenerProtocol, MutualTls, Protocol, ZoneState};
use api::report::Flow;
use api::{Account, MeshName, SpiffeId, TrustDomain, ZoneName};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::{Authority, Credentials, Issue, KeyPair, LiveCredentials, TrustStore, UnixTime};
use proxy::compile::Items;
use proxy::config::Mode;
use proxy::control::Applier;
use proxy::edge::gateway::Edge;
use proxy::edge::ingress::{Ingress, listeners};
use proxy::runtime::{Purpose, Service, gateway_tls, sidecar_tls, work};
use proxy::state::{Own, State};
use proxy::worker::Worker;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longest wait for something that should be quick.
pub const SOON: Duration = Duration::from_secs(10);

/// Waits until the flows that a proxy recorded are as they should be, and fails with those it has.
///
/// A connection of bytes is recorded when it ended, which its caller may see first.
pub async fn recorded(state: &State, holds: impl Fn(&[Flow]) -> bool) {
    let began = Instant::now();
    while !holds(&state.counters.flows()) {
        assert!(began.elapsed() < SOON, "recorded: {:?}", state.counters.flows());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn service(name: &str) -> ServiceRef {
    ServiceRef { mesh: MeshName::default(), namespace: "shop".parse().unwrap(), name: name.parse().unwrap() }
}

pub fn zone(name: &str) -> ZoneName {
    name.parse().unwrap()
}

/// Authorities of some zones.
pub struct Trusts(BTreeMap<String, Authority>);

impl Trusts {
    pub fn of(zones: &[&str]) -> Self {
        let mut all = BTreeMap::new();
        for name in zones {
            for domain in
                [TrustDomain::workloads(&zone(name), &MeshName::default()), TrustDomain::zone_control(&zone(name))]
            {
                all.insert(domain.to_string(), Authority::create(domain, UnixTime::now()).unwrap());
            }
        }
        Self(all)
    }

    fn store(&self) -> TrustStore {
        let store = TrustStore::new();
        for authority in self.0.values() {
            store.set(&authority.trust()).unwrap();
        }
        store
    }

    fn issue(&self, id: &SpiffeId, workload: &str) -> LiveCredentials {
        let key = KeyPair::generate().unwrap();
        let chain = self.0[id.trust_domain().as_str()]
            .issue(Issue {
                csr_der: &key.csr().unwrap(),
                id: id.clone(),
                common_name: Some(&format!("default/shop/{workload}")),
                dns_names: &[],
                lifetime: Duration::from_secs(3600),
                now: UnixTime::now(),
            })
            .unwrap();
        LiveCredentials::new(Credentials::new(chain, key).unwrap())
    }
}

pub fn identity_of(zone_name: &str, account: &str) -> SpiffeId {
    let account: Account = account.parse().unwrap();
    SpiffeId::workload(&zone(zone_name), &MeshName::default(), &"shop".parse().unwrap(), &account)
}

/// A proxy on a thread of its own.
pub struct Proxy {
    pub state: Arc<State>,
    pub inbound: SocketAddr,
    pub outbound: SocketAddr,
    pub edge: Arc<Edge>,
    pub id: SpiffeId,
    stop: CancellationToken,
    handle: tokio::runtime::Handle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Proxy {
    pub fn sidecar(trusts: &Trusts, zone_name: &str, account: &str, workload: &str) -> Self {
        let id = identity_of(zone_name, account);
        Self::start(trusts, id, workload, |state| Service::Sidecar {
            tls: sidecar_tls(state),
            mode: Mode::Explicit,
            vips: true,
        })
    }

    pub fn gateway(trusts: &Trusts, zone_name: &str) -> Self {
        let id = SpiffeId::gateway(&zone(zone_name), &"edge".parse().unwrap());
        Self::start(trusts, id, "edge", |state| Service::Gateway { tls: gateway_tls(state), edge: Arc::default() })
    }

    /// An edge gateway; its listeners come with what is applied. Certificates are in `folder`.
    pub fn ingress(trusts: &Trusts, zone_name: &str, folder: &std::path::Path) -> Self {
        let ingress = Arc::new(Ingress::new(LOCALHOST, folder.to_owned()));
        let shared = ingress.clone();
        let proxy = Self::start(trusts, identity_of(zone_name, "ingress"), "ingress-1", |state| Service::Edge {
            tls: sidecar_tls(state),
            ingress: shared,
        });
        let (state, workers) = (proxy.state.clone(), proxy.state.workers());
        proxy.handle.spawn(listeners::keep(state.clone(), ingress.clone(), workers));
        proxy.handle.spawn(async move { ingress.certificates.keep(&state).await });
        proxy
    }

    fn start(trusts: &Trusts, id: SpiffeId, workload: &str, service: impl FnOnce(&State) -> Service) -> Self {
        let credentials = trusts.issue(&id, workload);
        let own = Own::of(&credentials).unwrap();
        let state = State::new(own, credentials, trusts.store(), LOCALHOST, true);
        let service = service(&state);
        let bind = || proxy::listen::bind(SocketAddr::new(LOCALHOST, 0)).unwrap();
        let (first, second) = (bind(), bind());
        let (inbound, outbound) = (first.local_addr().unwrap(), second.local_addr().unwrap());
        let (sockets, edge) = match &service {
            Service::Sidecar { .. } => (vec![(Purpose::Inbound, first), (Purpose::Outbound, second)], Arc::default()),
            Service::Gateway { edge, .. } => (vec![(Purpose::Edge, first)], edge.clone()),
            Service::Edge { .. } => (vec![(Purpose::Leaving, first)], Arc::default()),
        };
        let worker = Worker::new(state.clone(), u64::from(inbound.port()));
        let number = state.add_worker(worker.clone());
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (handle, stopped) = (runtime.handle().clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = work(worker, service, sockets, number) => {}
                    () = stopped.cancelled() => {}
                }
            });
            // Everything that runs and every socket ends here, as when a process is killed.
            runtime.shutdown_background();
        });
        Self { state, inbound, outbound, edge, id, stop, handle, thread: Some(thread) }
    }

    pub fn apply(&self, items: &Items) {
        Applier::new(None, Vec::new()).apply(&self.state, items);
    }

    pub fn kill(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// Keeps the worker busy, `each` at a time.
    pub fn hog(&self, each: Duration) -> tokio::task::AbortHandle {
        let busy = async move {
            loop {
                let until = std::time::Instant::now() + each;
                while std::time::Instant::now() < until {
                    std::hint::spin_loop();
                }
                tokio::task::yield_now().await;
            }
        };
        self.handle.spawn(busy).abort_handle()
    }

    /// As SIGSTOP does: sockets stay, nothing answers. Until the answer is dropped.
    pub fn freeze(&self) -> std::sync::mpsc::Sender<()> {
        let (thaw, frozen) = std::sync::mpsc::channel::<()>();
        self.handle.spawn(async move { frozen.recv() });
        thaw
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Configuration in the making.
#[derive(Clone, Default)]
pub struct Plan(pub Items);

impl Plan {
    pub fn put(mut self, key: String, value: &impl Serialize) -> Self {
        self.0.insert(key.into(), serde_json::to_vec(value).unwrap().into());
        self
    }

    /// Changes an item that is there.
    pub fn change<T: Serialize + serde::de::DeserializeOwned>(self, key: String, change: impl FnOnce(&mut T)) -> Self {
        let mut value: T = serde_json::from_slice(&self.0[key.as_str()]).unwrap();
        change(&mut value);
        self.put(key, &value)
    }

    /// What every proxy gets.
    pub fn own(self, zone_name: &str, account: &str, ports: Vec<InboundPort>, authorization: Authorization) -> Self {
        let inbound = Inbound {
            mesh: MeshName::default(),
            zone: zone(zone_name),
            identity: identity_of(zone_name, account),
            service: (!ports.is_empty()).then(|| service(account)),
            ports,
            mutual_tls: MutualTls::Strict,
            authorization,
            rate_limits: Vec::new(),
            health: Default::default(),
        };
        self.put(item::INBOUND.into(), &inbound).put(
            item::zone(&zone(zone_name)),
            &ZoneInfo { zone: zone(zone_name), region: None, state: ZoneState::Active },
        )
    }

    /// A port of a Gateway: `(host name, certificate, routes)` of each listener.
    pub fn listener(self, port: u16, protocol: ListenerProtocol, hosts: Vec<ListenerHost>) -> Self {
        self.put(item::listener(port), &Listener { port, protocol, hosts })
    }

    pub fn zone(self, name: &str) -> Self {
        self.put(item::zone(&zone(name)), &ZoneInfo { zone: zone(name), region: None, state: ZoneState::Active })
    }

    pub fn outbound(self, name: &str, protocol: Protocol, rule: OutboundRule, failover: &[&str]) -> Self {
        let balancing = Balancing {
            failover: failover.iter().map(|name| api::config::FailoverTier { zones: vec![zone(name)] }).collect(),
            ..Balancing::default()
        };
        let ports = vec![OutboundPort { port: 80, protocol, rules: vec![rule] }];
        let hosts = vec![service(name).host(None)];
        self.put(
            item::outbound(&service(name)),
            &Outbound { service: service(name), hosts, ports, balancing, breaker: Default::default(), external: None },
        )
    }

    pub fn local(self, name: &str, zone_name: &str, endpoints: &[(&str, SocketAddr, bool)]) -> Self {
        let endpoints = endpoints.iter().map(|(workload, address, ready)| Endpoint {
            workload: workload.parse().unwrap(),
            address: *address,
            identity: identity_of(zone_name, name),
            weight: 1,
            ready: *ready,
            place: Default::default(),
        });
        let place = EndpointsPlace::Local(endpoints.collect());
        let set = Endpoints { service: service(name), zone: zone(zone_name), place };
        self.put(item::endpoints(&service(name), &zone(zone_name)), &set)
    }

    pub fn remote(self, name: &str, zone_name: &str, gateways: &[SocketAddr], ready: u32) -> Self {
        let place = EndpointsPlace::Remote(RemoteEndpoints {
            gateways: gateways.to_vec(),
            identities: vec![identity_of(zone_name, name)],
            ready,
            total: ready,
            weight: ready,
            load: None,
        });
        let set = Endpoints { service: service(name), zone: zone(zone_name), place };
        self.put(item::endpoints(&service(name), &zone(zone_name)), &set)
    }

    pub fn edge(self, zone_name: &str, exported: &[&str], peers: &[(&str, SocketAddr)]) -> Self {
        let exported = exported.iter().map(|name| (service(name).to_string(), vec![80])).collect();
        let peers = peers.iter().map(|(name, address)| (zone(name), vec![*address])).collect();
        self.put(item::GATEWAY.into(), &GatewayConfig { zone: zone(zone_name), exported, peers, zone_cp: None })
    }
}

pub fn allow_all() -> Authorization {
    Authorization { default: DefaultAuthorization::Allow, rules: Vec::new() }
}

/// A listener of Gateway `shop/public`.
pub fn host(name: &str, hostname: Option<&str>, certificate: Option<&str>, rules: Vec<OutboundRule>) -> ListenerHost {
    ListenerHost {
        gateway: service("public"),
        listener: name.parse().unwrap(),
        hostname: hostname.map(str::to_owned),
        certificate: certificate.map(str::to_owned),
        routes: vec![ListenerRoute { hostname: hostname.map(str::to_owned), rules }],
    }
}

/// A port nobody has, for the moment.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind((LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

pub fn rule_to(name: &str) -> OutboundRule {
    OutboundRule {
        name: "default".into(),
        matches: Vec::new(),
        filters: Vec::new(),
        backends: vec![Backend { service: service(name), port: 80, zone: None, weight: 1 }],
        timeouts: Timeouts::default(),
        retry: Retry::default(),
        faults: Default::default(),
        mirrors: Vec::new(),
    }
}

/// An app that answers with its name and what it was told.
pub struct App {
    pub port: u16,
    pub served: Arc<AtomicU64>,
    end: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl App {
    pub async fn http(name: &'static str) -> Self {
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = Arc::new(AtomicU64::new(0));
        let counter = served.clone();
        let end = CancellationToken::new();
        let ended = end.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Some(Ok((stream, _))) = ended.run_until_cancelled(listener.accept()).await {
                let counter = counter.clone();
                let serve = service_fn(move |request: Request<Incoming>| {
                    counter.fetch_add(1, Ordering::SeqCst);
                    answer(name, request)
                });
                connections.spawn(async move {
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), serve).await;
                });
            }
            connections.shutdown().await;
        });
        Self { port, served, end, task }
    }

    pub async fn echo() -> Self {
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let end = CancellationToken::new();
        let ended = end.clone();
        let task = tokio::spawn(async move {
            while let Some(Ok((mut stream, _))) = ended.run_until_cancelled(listener.accept()).await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        Self { port, served: Arc::default(), end, task }
    }

    /// Ends it and waits until its sockets are closed: what is sent afterwards cannot have reached it.
    pub async fn stop(&mut self) {
        self.end.cancel();
        (&mut self.task).await.unwrap();
    }

    pub fn inbound(&self, protocol: Protocol) -> Vec<InboundPort> {
        vec![InboundPort { port: 80, target: self.port, protocol }]
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    name: &'static str,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    if request.headers().contains_key(http::header::UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let answer = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "echo");
        return Ok(answer.body(Full::default()).unwrap());
    }
    let (parts, body) = request.into_parts();
    let told = |name: &str| {
        let value = parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
        value.unwrap_or("-").to_owned()
    };
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = format!(
        "{name} {} {} host={} peer={} for={} body={}",
        parts.method,
        parts.uri.path(),
        told("host"),
        told("weft-peer"),
        told("x-forwarded-for"),
        String::from_utf8_lossy(&body)
    );
    let mut answer = Response::builder().header("app", name).header("weft-zone", "liar").header("weft-reason", "LIE");
    if parts.uri.path() == "/fail" {
        answer = answer.status(503);
    }
    Ok(answer.body(Full::from(text)).unwrap())
}

/// One kept connection of an app to its proxy.
pub struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Client {
    pub async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Self { sender }
    }

    pub async fn get(&mut self, host: &str, path: &str) -> Answer {
        self.send(Request::get(path).header("host", host).body(Full::default()).unwrap()).await
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        self.sender.ready().await.expect("the connection to the proxy stays");
        let response = tokio::time::timeout(SOON, self.sender.send_request(request)).await.unwrap().unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { parts, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub async fn raw(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.sender.send_request(request).await.unwrap()
    }
}

#[derive(Debug)]
pub struct Answer {
    pub parts: http::response::Parts,
    pub text: String,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.parts.status.as_u16()
    }

    pub fn header(&self, name: &str) -> &str {
        self.parts.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or("")
    }
}

/// Ends a connection as the kernel does for a process that is killed with bytes unread.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}
