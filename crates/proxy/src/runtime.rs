//! Starts a proxy: sockets first, then workers, then the link to the control plane; and ends it.

use crate::config::{Config, Gateway, Mode, Role, Sidecar};
use crate::control::{Applier, follower, link};
use crate::dns;
use crate::edge::egress;
use crate::edge::gateway::{self, Edge};
use crate::edge::ingress::{self, Ingress};
use crate::edge::probe::{self, Probes, is_gateway};
use crate::enroll::{self, Enrolled, enroll};
use crate::handover;
use crate::inbound;
use crate::limits::{DRAIN, LEFT_OVER, STEPS_PER_LOOK};
use crate::listen::open::{TCP, UDP};
use crate::listen::{self, accept};
use crate::metrics::Traffic;
use crate::outbound::http::{self, Via};
use crate::overload::{self, Memory};
use crate::report::Reports;
use crate::state::{Own, OwnError, State};
use crate::tcp::preamble;
use crate::vips::Vips;
use crate::worker::Worker;
use identity::{ClientAuth, Expect, server_config};
use process::{Admin, DataDir, Offer, Process, Readiness};
use rustls::ServerConfig;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Others hear that we leave, and choose somebody else, before connections end.
const LEAVE: Duration = Duration::from_millis(1_000);
/// The next process has this long to take our place on the stream to the zone, which would see nobody in between.
const SUCCEEDED: Duration = Duration::from_secs(5);
/// Stack of a worker thread: futures live on the heap.
const STACK_BYTES: usize = 1024 * 1024;
/// Format of the data folder.
const DATA_FORMAT: u32 = 1;

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder, or whoever has it.
    #[error(transparent)]
    Data(#[from] handover::TakeOverError),
    /// No certificate.
    #[error(transparent)]
    Enroll(#[from] enroll::EnrollError),
    /// A foreign certificate.
    #[error(transparent)]
    Own(#[from] OwnError),
    /// The last good configuration cannot be read.
    #[error("the last good configuration cannot be read: {0}")]
    Journal(#[from] sync_grpc::JournalError),
    /// A socket.
    #[error(transparent)]
    Listen(#[from] process::BindError),
    /// A further socket for an address that is ours already.
    #[error("cannot listen on {address} a second time: {source}")]
    Share {
        /// Asked for.
        address: SocketAddr,
        /// The kernel's words.
        source: std::io::Error,
    },
    /// Threads.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What the listeners of all workers serve.
#[derive(Clone)]
pub enum Service {
    /// Next to a workload.
    Sidecar {
        /// Mutual TLS of the inbound listener.
        tls: Arc<ServerConfig>,
        /// How connections of the app arrive.
        mode: Mode,
        /// Listeners on virtual addresses.
        vips: bool,
    },
    /// At a zone's edge.
    Gateway {
        /// Mutual TLS of probes.
        tls: Arc<ServerConfig>,
        /// Shared by workers.
        edge: Arc<Edge>,
    },
    /// At the edge of the mesh.
    Edge {
        /// Mutual TLS of sidecars whose calls leave here.
        tls: Arc<ServerConfig>,
        /// Listeners that come and go with Gateways.
        ingress: Arc<Ingress>,
    },
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// From other proxies.
    Inbound,
    /// From the app.
    Outbound,
    /// Redirected on the way to the app.
    InboundRedirected,
    /// From other zones.
    Edge,
    /// From sidecars, on the way out of the mesh.
    Leaving,
}

/// Sockets of one worker.
pub type Sockets = Vec<(Purpose, TcpListener)>;

/// Runs a proxy until it has drained. Dropped before that, it closes every socket at once and drains nothing.
pub async fn run(config: Config, process: Process) -> Result<(), StartError> {
    let (data, mut inherited) = handover::data_dir(&process, DATA_FORMAT, config.take_over, &config.version).await?;
    process.readiness.require("certificate", "no certificate yet");
    process.readiness.require("config", "no configuration yet");
    let enrolling = enroll(data.path(), config.token_file.as_deref(), &config.version);
    let enrolled = tokio::select! {
        enrolled = enrolling => enrolled?,
        () = process.drain.begun() => return Ok(()),
    };
    process.readiness.met("certificate");
    let Enrolled { credentials, trust, zone, control } = enrolled;
    let own = Own::of(&credentials)?;
    let app = match &config.role {
        Role::Sidecar(sidecar) => sidecar.app,
        Role::Gateway(gateway) => gateway.ingress,
    };
    let state = State::new(own, credentials, trust, app, config.answer_headers);
    let workers = config.workers.max(1);
    if let Some(inherited) = &mut inherited {
        handover::receive(&state, inherited, workers);
    }
    let (service, first, vips) = prepare(&config.role, &state, data.path())?;
    let probes = matches!(service, Service::Gateway { .. }).then(Arc::<Probes>::default);
    let edge = match &service {
        Service::Gateway { edge, .. } => Some(edge.clone()),
        Service::Sidecar { .. } | Service::Edge { .. } => None,
    };
    process.metrics.with(|registry| registry.register_collector(Box::new(Traffic::new(state.clone(), edge.clone()))));

    // What the last run left is served before anybody is asked.
    let follower = follower(data.path())?;
    let mut applier = Applier::new(vips, enroll::kept_trust(data.path()));
    applier.apply(&state, &follower.held().items);
    let tasks = &process.tasks;
    let watched = state.clone();
    tasks.spawn("app", async move { watched.apps.watch().await });
    if let Some(inherited) = inherited {
        handover::complete(&state, inherited, &data).await?;
        let state = state.clone();
        tasks.spawn("left", async move {
            sleep(LEFT_OVER).await;
            state.listening.close_left();
        });
    }
    // From here on nobody else serves.
    let admin = admin(&process, &state)?;
    let _workers_end_with_this = state.gone.clone().drop_guard();
    let workers = start_workers(&state, &service, first, workers)?;
    let offer = offer(&data, process.name);
    process::serving();

    if let Service::Edge { ingress, .. } = &service {
        let (state, ingress) = (state.clone(), ingress.clone());
        process.tasks.spawn("listeners", ingress::listeners::keep(state.clone(), ingress.clone(), workers.clone()));
        process.tasks.spawn("certificates", async move { ingress.certificates.keep(&state).await });
    }

    let (addresses, control) = watch::channel(control);
    let reports = Reports::default();
    let end = CancellationToken::new();
    // What talks to the control plane, so that a storm of changes takes no time from requests.
    let background = tasks.giving_way("control", state.gone.clone().cancelled_owned()).map_err(StartError::Thread)?;
    background.spawn("config", applier.follow(state.clone(), follower.watch()));
    let mut dns = None;
    if let Role::Sidecar(Sidecar { dns: Some(address), .. }) = config.role {
        let (udp, tcp) = dns_sockets(&state, address).await?;
        dns = Some(tasks.spawn_fatal("dns", dns::serve(udp, tcp, state.names(), dns::resolvers(address))));
    }
    let memory = Memory::bounded(config.memory_max);
    tasks.spawn("load", overload::watch(state.clone(), memory, process.readiness.clone()));
    // It reads counters under locks of workers, and who gives way must not hold what they wait for.
    tasks.spawn("reports", reports.clone().run(state.clone(), probes.clone(), config.version.clone()));
    background.spawn(
        "link",
        link(state.clone(), follower.clone(), reports, control.clone(), config.version.clone(), end.clone()),
    );
    let random = {
        let worker = workers.first().cloned();
        move || worker.as_ref().map_or(0.5, |worker| worker.chance())
    };
    let (credentials, trust) = (state.credentials.clone(), state.trust.clone());
    let told = {
        let state = state.clone();
        move || state.tell()
    };
    background.spawn("renewal", enroll::renew(credentials, trust, zone, control, data.path().to_owned(), random, told));
    if let Some(probes) = probes {
        tasks.spawn("probes", probe::run(state.clone(), probes));
    }
    tasks.spawn("ready", configured(state.clone(), edge, process.readiness.clone()));

    tasks.spawn("next", handover::on_signal());
    let mut line = follower.link();
    let giver = handover::Giver { state: state.clone(), data, follower, control: addresses };
    tokio::select! {
        () = process.drain.begun() => drain(&state).await,
        () = given(giver, offer) => {
            tracing::info!("another process serves now; finishing what this one has");
            drop(admin);
            if let Some(dns) = dns {
                dns.abort();
            }
            finish(&state).await;
            let _ = timeout(SUCCEEDED, line.wait_for(|line| !line.connected)).await;
        }
    }
    end.cancel();
    Ok(())
}

/// Waits for a first configuration. From then on a gateway forgets endpoints that are gone.
async fn configured(state: Arc<State>, edge: Option<Arc<Edge>>, readiness: Readiness) {
    let (mut changed, mut moved) = (state.changed(), state.moved());
    while !state.running().is_configured() {
        if changed.changed().await.is_err() {
            return;
        }
    }
    readiness.met("config");
    let Some(edge) = edge else { return };
    loop {
        edge.keep(&state.running());
        if moved.changed().await.is_err() {
            return;
        }
    }
}

async fn given(giver: handover::Giver, offer: Option<Offer>) {
    match offer {
        Some(offer) => giver.given(offer).await,
        None => std::future::pending().await,
    }
}

/// A proxy nobody can take over from serves as well as any.
fn offer(data: &DataDir, name: &'static str) -> Option<Offer> {
    Offer::open(data.path(), name).inspect_err(|error| tracing::warn!(%error, "no hot restart")).ok()
}

fn admin(process: &Process, state: &Arc<State>) -> Result<Admin, StartError> {
    let address = process.admin_address(SocketAddr::from(([127, 0, 0, 1], 15_000)));
    let routes = crate::admin::routes(state.clone());
    let admin = match handover::admin(state, address) {
        Some(socket) => process.admin_on(socket, routes)?,
        None => process.admin(address, routes)?,
    };
    state.listening.add(TCP, admin.socket());
    Ok(admin)
}

async fn dns_sockets(
    state: &State,
    address: SocketAddr,
) -> Result<(Arc<tokio::net::UdpSocket>, Arc<tokio::net::TcpListener>), StartError> {
    let flag = "dns-listen";
    let share = |source| StartError::Share { address, source };
    let udp = match state.listening.left_udp(address) {
        Some(socket) => tokio::net::UdpSocket::from_std(socket).map_err(share)?,
        None => process::bind_udp(address, flag).await?,
    };
    let tcp = match state.listening.left(address, 0).pop() {
        Some(socket) => tokio::net::TcpListener::from_std(socket).map_err(share)?,
        None => process::bind(address, flag).await?,
    };
    let (udp, tcp) = (Arc::new(udp), Arc::new(tcp));
    state.listening.add(UDP, &udp);
    state.listening.add(TCP, &tcp);
    Ok((udp, tcp))
}

/// Tells others, stops accepting, lets requests end.
pub async fn drain(state: &State) {
    state.leaving.cancel();
    state.tell();
    sleep(LEAVE).await;
    finish(state).await;
}

/// Stops accepting, lets requests end.
pub async fn finish(state: &State) {
    state.drain.cancel();
    state.connections.close();
    if timeout(DRAIN, state.connections.wait()).await.is_err() {
        tracing::warn!(open = state.connections.len(), "connections were still open at the end of the drain");
    }
}

fn prepare(role: &Role, state: &Arc<State>, data: &Path) -> Result<(Service, Sockets, Option<Vips>), StartError> {
    match role {
        Role::Sidecar(sidecar) => {
            let Sidecar { inbound, outbound, inbound_redirected, vips, mode, .. } = sidecar;
            let mut sockets = first(state, Purpose::Inbound, *inbound, "inbound-listen")?;
            sockets.extend(first(state, Purpose::Outbound, *outbound, "outbound-listen")?);
            if let (Mode::Redirect, Some(address)) = (mode, inbound_redirected) {
                sockets.extend(first(state, Purpose::InboundRedirected, *address, "inbound-redirect-listen")?);
            }
            let service = Service::Sidecar {
                tls: sidecar_tls(state),
                mode: *mode,
                vips: vips.is_some() && *mode == Mode::Explicit,
            };
            Ok((service, sockets, vips.map(|range| Vips::open(range, Some(data)))))
        }
        Role::Gateway(Gateway { listen, ingress, certificates }) if state.own.id.as_workload().is_some() => {
            let sockets = first(state, Purpose::Leaving, *listen, "listen")?;
            let ingress = Arc::new(Ingress::new(*ingress, certificates.clone()));
            Ok((Service::Edge { tls: sidecar_tls(state), ingress }, sockets, None))
        }
        Role::Gateway(Gateway { listen, .. }) => {
            let sockets = first(state, Purpose::Edge, *listen, "listen")?;
            Ok((Service::Gateway { tls: gateway_tls(state), edge: Arc::default() }, sockets, None))
        }
    }
}

/// Sockets of the first worker. Ours share their address (SO_REUSEPORT), so that each worker has its own. The kernel would
/// share it with a second proxy as well: an exclusive socket before the first one finds that out.
fn first(state: &State, purpose: Purpose, address: SocketAddr, flag: &'static str) -> Result<Sockets, StartError> {
    if !state.listening.was_left(address) {
        drop(process::bind_std(address, flag)?);
    }
    sockets(state, purpose, address, 0)
}

/// What a process before us left for this worker, else a new one.
fn sockets(state: &State, purpose: Purpose, address: SocketAddr, worker: usize) -> Result<Sockets, StartError> {
    let mut sockets = state.listening.left(address, worker);
    if sockets.is_empty() {
        sockets.push(share(address)?);
    }
    Ok(sockets.into_iter().map(|socket| (purpose, socket)).collect())
}

fn share(address: SocketAddr) -> Result<TcpListener, StartError> {
    listen::bind(address).map_err(|source| StartError::Share { address, source })
}

/// Mutual TLS from any workload of our mesh.
pub fn sidecar_tls(state: &State) -> Arc<ServerConfig> {
    let mesh = state.own.id.as_workload().map(|(_, mesh, ..)| mesh);
    let expect = mesh.map_or(Expect::Ids(Vec::new()), Expect::Mesh);
    let alpn: &[&[u8]] = &[b"h2", preamble::ALPN];
    server_config(&state.credentials, &state.trust, expect, ClientAuth::Required, alpn)
}

/// Mutual TLS from any gateway.
pub fn gateway_tls(state: &State) -> Arc<ServerConfig> {
    let expect = Expect::fits("a gateway", is_gateway);
    server_config(&state.credentials, &state.trust, expect, ClientAuth::Required, &[probe::ALPN])
}

/// Starts workers, each with sockets of its own for the same addresses.
pub fn start_workers(
    state: &Arc<State>,
    service: &Service,
    first: Sockets,
    count: usize,
) -> Result<Vec<Arc<Worker>>, StartError> {
    let mut addresses = Vec::new();
    for (purpose, socket) in &first {
        let one = (*purpose, socket.local_addr().map_err(StartError::Thread)?);
        if !addresses.contains(&one) {
            addresses.push(one);
        }
    }
    let mut sets = vec![first];
    for worker in 1..count {
        let again = addresses.iter().map(|(purpose, address)| sockets(state, *purpose, *address, worker));
        sets.push(again.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect());
    }
    let mut workers = Vec::new();
    for sockets in sets {
        // Balancers only need numbers that differ between workers and processes.
        let seed = process::clock::unix_ms() ^ (u64::from(std::process::id()) << 32) ^ workers.len() as u64;
        let worker = Worker::new(state.clone(), seed);
        let number = state.add_worker(worker.clone());
        let (service, thread_worker) = (service.clone(), worker.clone());
        let work = move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            match builder.enable_all().event_interval(STEPS_PER_LOOK).build() {
                Ok(runtime) => runtime.block_on(work(thread_worker, service, sockets, number)),
                Err(error) => tracing::error!(%error, "a worker cannot start; traffic rests on the others"),
            }
        };
        let name = format!("worker-{number}");
        std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(work).map_err(StartError::Thread)?;
        workers.push(worker);
    }
    Ok(workers)
}

/// One worker's life. It ends when the process has nothing left to finish, or is gone.
pub async fn work(worker: Arc<Worker>, service: Service, sockets: Sockets, number: usize) {
    worker.runtime.set(Handle::current()).expect("a worker begins once");
    for (purpose, socket) in sockets {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => {
                let listener = Arc::new(listener);
                worker.state.listening.add(TCP, &listener);
                tokio::spawn(serve_listener(worker.clone(), service.clone(), purpose, listener));
            }
            Err(error) => tracing::error!(%error, ?purpose, "a listener cannot start"),
        }
    }
    if let Service::Sidecar { vips: true, .. } = service {
        tokio::spawn(listen::vips::keep(worker.clone(), number));
    }
    tokio::spawn(worker.clone().tend(number));
    let told = worker.cells.clone();
    tokio::spawn(async move { told.access.keep().await });
    let measured = worker.clone();
    tokio::spawn(async move { overload::measure(&measured.load).await });
    let drained = async {
        worker.state.drain.cancelled().await;
        worker.state.connections.wait().await;
    };
    tokio::select! {
        () = drained => {}
        () = worker.state.gone.cancelled() => {}
    }
    worker.cells.access.write();
}

async fn serve_listener(
    worker: Arc<Worker>,
    service: Service,
    purpose: Purpose,
    listener: Arc<tokio::net::TcpListener>,
) {
    let stop = worker.state.drain.clone();
    let connections = worker.state.connections.clone();
    match (purpose, service) {
        (Purpose::Inbound, Service::Sidecar { tls, .. }) => {
            accept(listener, stop, connections, |stream, _| inbound::serve(worker.clone(), tls.clone(), stream)).await;
        }
        (Purpose::Outbound, Service::Sidecar { mode: Mode::Explicit, .. }) => {
            accept(listener, stop, connections, |stream, _| http::app(worker.clone(), Via::Host, stream)).await;
        }
        (Purpose::Outbound, Service::Sidecar { mode: Mode::Redirect, .. }) => {
            accept(listener, stop, connections, |stream, _| listen::redirected::outbound(worker.clone(), stream)).await;
        }
        (Purpose::InboundRedirected, Service::Sidecar { .. }) => {
            accept(listener, stop, connections, |stream, _| listen::redirected::inbound(worker.clone(), stream)).await;
        }
        (Purpose::Edge, Service::Gateway { tls, edge }) => {
            accept(listener, stop, connections, |stream, peer| {
                gateway::serve(worker.clone(), edge.clone(), tls.clone(), stream, peer)
            })
            .await;
        }
        (Purpose::Leaving, Service::Edge { tls, .. }) => {
            accept(listener, stop, connections, |stream, _| egress::serve(worker.clone(), tls.clone(), stream)).await;
        }
        (purpose, _) => tracing::error!(?purpose, "this proxy has no such listener"),
    }
}
