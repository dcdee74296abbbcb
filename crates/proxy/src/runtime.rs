//! Starts a proxy: sockets first, then workers, then the link to the control plane; and ends it.

use crate::config::{Config, Gateway, Mode, Role, Sidecar};
use crate::control::{Applier, follower, link};
use crate::dns;
use crate::edge::gateway::{self, Edge};
use crate::edge::ingress::{self, Ingress};
use crate::edge::probe::{self, Probes, is_gateway};
use crate::enroll::{self, Enrolled, enroll};
use crate::inbound;
use crate::limits::DRAIN;
use crate::listen::{self, accept};
use crate::metrics::Traffic;
use crate::outbound::http::{Via, serve};
use crate::report::Reports;
use crate::state::{Own, OwnError, State};
use crate::tcp::preamble;
use crate::vips::Vips;
use crate::worker::Worker;
use identity::{ClientAuth, Expect, server_config};
use process::Process;
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
/// Stack of a worker thread: futures live on the heap.
const STACK_BYTES: usize = 1024 * 1024;
/// Format of the data folder.
const DATA_FORMAT: u32 = 1;

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Data(#[from] process::DataDirError),
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
    #[error("cannot start a worker thread: {0}")]
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
    /// At the edge of the mesh; its listeners come and go with Gateways.
    Ingress(Arc<Ingress>),
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
}

/// Sockets of one worker.
pub type Sockets = Vec<(Purpose, TcpListener)>;

/// Runs a proxy until it has drained. Dropped before that, it closes every socket at once and drains nothing.
pub async fn run(config: Config, process: Process) -> Result<(), StartError> {
    let data = process.data_dir(DATA_FORMAT)?;
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
    let (service, first, vips) = prepare(&config.role, &state, data.path())?;
    let probes = matches!(service, Service::Gateway { .. }).then(Arc::<Probes>::default);
    let edge = match &service {
        Service::Gateway { edge, .. } => Some(edge.clone()),
        Service::Sidecar { .. } | Service::Ingress(_) => None,
    };
    process.metrics.with(|registry| registry.register_collector(Box::new(Traffic::new(state.clone(), edge.clone()))));
    let admin_default = SocketAddr::from(([127, 0, 0, 1], 15_000));
    let _admin = process.admin(admin_default, crate::admin::routes(state.clone()))?;

    // What the last run left is served before anybody is asked.
    let follower = follower(data.path())?;
    let mut applier = Applier::new(vips, enroll::kept_trust(data.path()));
    applier.apply(&state, &follower.held().items);
    let _workers_end_with_this = state.gone.clone().drop_guard();
    let workers = start_workers(&state, &service, first, config.workers.max(1))?;

    if let Service::Ingress(ingress) = &service {
        let (state, ingress) = (state.clone(), ingress.clone());
        process.tasks.spawn("listeners", ingress::listeners::keep(state.clone(), ingress.clone(), workers.clone()));
        process.tasks.spawn("certificates", async move { ingress.certificates.keep(&state).await });
    }

    let (addresses, control) = watch::channel(control);
    let reports = Reports::default();
    let end = CancellationToken::new();
    let tasks = &process.tasks;
    tasks.spawn("config", applier.follow(state.clone(), follower.watch()));
    if let Role::Sidecar(Sidecar { dns: Some(address), .. }) = config.role {
        let (udp, tcp) = (process::bind_udp(address, "dns-listen").await?, process::bind(address, "dns-listen").await?);
        tasks.spawn_fatal("dns", dns::serve(udp, tcp, state.names(), dns::resolvers(address)));
    }
    tasks.spawn("reports", reports.clone().run(state.clone(), probes.clone(), config.version.clone()));
    tasks.spawn("link", link(state.clone(), follower, reports, control.clone(), config.version.clone(), end.clone()));
    let random = {
        let worker = workers.first().cloned();
        move || worker.as_ref().map_or(0.5, |worker| worker.chance())
    };
    let (credentials, trust) = (state.credentials.clone(), state.trust.clone());
    let told = {
        let state = state.clone();
        move || state.tell()
    };
    tasks.spawn("renewal", enroll::renew(credentials, trust, zone, control, data.path().to_owned(), random, told));
    if let Some(probes) = probes {
        tasks.spawn("probes", probe::run(state.clone(), probes));
    }
    let watched = state.clone();
    tasks.spawn("app", async move { watched.apps.watch().await });
    let (readiness, ready_state) = (process.readiness.clone(), state.clone());
    tasks.spawn("ready", async move {
        let mut changed = ready_state.changed();
        loop {
            let running = ready_state.running().clone();
            if let (Some(edge), Some(_)) = (&edge, &running.gateway) {
                edge.keep(&running);
            }
            if running.inbound.is_some() || running.gateway.is_some() {
                readiness.met("config");
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    });

    process.drain.begun().await;
    drain(&state).await;
    end.cancel();
    drop(addresses);
    Ok(())
}

/// Tells others, stops accepting, lets requests end.
pub async fn drain(state: &State) {
    state.leaving.cancel();
    state.tell();
    sleep(LEAVE).await;
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
            let mut sockets = vec![
                (Purpose::Inbound, bind(*inbound, "inbound-listen")?),
                (Purpose::Outbound, bind(*outbound, "outbound-listen")?),
            ];
            if let (Mode::Redirect, Some(address)) = (mode, inbound_redirected) {
                sockets.push((Purpose::InboundRedirected, bind(*address, "inbound-redirect-listen")?));
            }
            let service = Service::Sidecar {
                tls: sidecar_tls(state),
                mode: *mode,
                vips: vips.is_some() && *mode == Mode::Explicit,
            };
            Ok((service, sockets, vips.map(|range| Vips::open(range, Some(data)))))
        }
        Role::Gateway(Gateway { ingress, certificates, .. }) if state.own.id.as_workload().is_some() => {
            Ok((Service::Ingress(Arc::new(Ingress::new(*ingress, certificates.clone()))), Vec::new(), None))
        }
        Role::Gateway(Gateway { listen, .. }) => {
            let sockets = vec![(Purpose::Edge, bind(*listen, "listen")?)];
            Ok((Service::Gateway { tls: gateway_tls(state), edge: Arc::default() }, sockets, None))
        }
    }
}

/// Sockets of ours share their address (SO_REUSEPORT), so that each worker has its own. The kernel would share it with
/// a second proxy as well: an exclusive socket before the first one finds that out.
fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, StartError> {
    drop(process::bind_std(address, flag)?);
    share(address)
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
    let mut sets = Vec::new();
    for _ in 1..count {
        let again = |(purpose, socket): &(Purpose, TcpListener)| {
            let address = socket.local_addr().map_err(StartError::Thread)?;
            Ok((*purpose, share(address)?))
        };
        sets.push(first.iter().map(again).collect::<Result<Sockets, StartError>>()?);
    }
    sets.push(first);
    let mut workers = Vec::new();
    for sockets in sets {
        // Balancers only need numbers that differ between workers and processes.
        let seed = process::clock::unix_ms() ^ (u64::from(std::process::id()) << 32) ^ workers.len() as u64;
        let worker = Worker::new(state.clone(), seed);
        let number = state.add_worker(worker.clone());
        let (service, thread_worker) = (service.clone(), worker.clone());
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
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
            Ok(listener) => drop(tokio::spawn(serve_listener(worker.clone(), service.clone(), purpose, listener))),
            Err(error) => tracing::error!(%error, ?purpose, "a listener cannot start"),
        }
    }
    if let Service::Sidecar { vips: true, .. } = service {
        tokio::spawn(listen::vips::keep(worker.clone()));
    }
    tokio::spawn(worker.clone().tend(number));
    let told = worker.cells.clone();
    tokio::spawn(async move { told.access.keep().await });
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

async fn serve_listener(worker: Arc<Worker>, service: Service, purpose: Purpose, listener: tokio::net::TcpListener) {
    let stop = worker.state.drain.clone();
    let connections = worker.state.connections.clone();
    match (purpose, service) {
        (Purpose::Inbound, Service::Sidecar { tls, .. }) => {
            accept(listener, stop, connections, |stream, _| inbound::serve(worker.clone(), tls.clone(), stream)).await;
        }
        (Purpose::Outbound, Service::Sidecar { mode: Mode::Explicit, .. }) => {
            let via = Arc::new(Via::Host);
            accept(listener, stop, connections, |stream, _| {
                let (worker, via) = (worker.clone(), via.clone());
                let drain = worker.state.drain.clone();
                crate::http::serve::app(stream, drain, move |request| {
                    let (worker, via) = (worker.clone(), via.clone());
                    async move { serve(&worker, &via, request).await }
                })
            })
            .await;
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
        (purpose, _) => tracing::error!(?purpose, "this proxy has no such listener"),
    }
}
