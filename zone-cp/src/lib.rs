//! A zone's control plane: knows its zone, programs its proxies and gateways, tells global and peers what it offers,
//! and goes on without global.
//!
//! ```text
//! global ~policy~> copy on disk --.
//! REST -> own store --------------+-> World -> Programmer -> one view per class ~config~> proxies
//! peers ~exports~> book ----------+               |               ^-- report <~--'
//!                                 readiness ------'-> exports, report ~> global and peers
//! ```
#![warn(missing_docs)]

mod admit;
mod authorities;
mod bootstrap;
mod join;
mod observe;
mod options;
mod peers;
mod program;
mod registry;
mod reporting;
mod rest;
pub mod rpc;
mod source;
mod tally;
mod world;

pub use options::Options;
pub use registry::RESTART_GRACE;

use crate::admit::Door;
use crate::authorities::Authorities;
use crate::join::{ALPN, Membership};
use crate::observe::Sight;
use crate::peers::{PeerDoor, Peers};
use crate::program::{Installed, Programmer};
use crate::registry::Registry;
use crate::reporting::Reporter;
use crate::source::Exports;
use crate::world::World;
use api::identity_v1::workloads_server::WorkloadsServer;
use api::report::ZoneReport;
use api::{SpiffeId, TrustDomain, ZoneName};
use control::auth::Auth;
use control::{Api, Board, Cache, Invitations, Objects, Programmed, Site, until};
use identity::{ClientAuth, Expect};
use process::{Admin, DataDir, Process};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use sync_grpc::{Absence, Admission, Channels, Dial, Follower, Held, Lineage, Published};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Name of the program.
pub const PROGRAM: &str = "weft-zone-cp";
/// Newest format of the data folder.
const FORMAT: u32 = 1;
/// Default of `--admin-listen`.
const ADMIN_LISTEN: &str = "127.0.0.1:5693";
/// Channel on which global tells what this zone may see.
const POLICY: &str = "policy";

/// A started zone control plane. Its tasks end with the process's drain.
pub struct Running {
    /// Our zone.
    pub zone: ZoneName,
    /// Where the API answers.
    pub api: SocketAddr,
    /// Where proxies connect.
    pub sync: SocketAddr,
    /// Where gateways hand over connections of peers.
    pub peer: SocketAddr,
    /// Value of the admin token, as in the data folder.
    pub token: String,
    /// The copy of what global owns.
    pub policy: watch::Receiver<Arc<Held>>,
    process: Process,
    _admin: Admin,
    _data: DataDir,
}

/// Opens the data folder, joins if need be, and listens.
pub async fn start(process: Process, options: Options) -> anyhow::Result<Running> {
    let data = process.data_dir(FORMAT)?;
    process.readiness.require("policy", "nothing received from the global control plane yet");
    let admin = process.admin(ADMIN_LISTEN.parse().expect("an address"), axum::Router::new())?;
    let api_listener = process::bind(options.api_listen, "api-listen").await?;
    let sync_listener = process::bind(options.sync_listen, "sync-listen").await?;
    let peer_listener = process::bind(options.peer_listen, "peer-listen").await?;
    let (api_addr, sync_addr) = (api_listener.local_addr()?, sync_listener.local_addr()?);
    let peer_addr = peer_listener.local_addr()?;

    let membership = join::membership(data.path(), options.token_file.as_deref()).await?;
    let zone = membership.zone.clone();
    let tasks = &process.tasks;
    let end = || process.drain.begun();
    tasks.spawn("renewal", until(end(), membership.clone().renew(data.path().to_owned())));
    let store = store::open(&format!("file:{}", data.join("store").display())).await?;
    let (cache, follow) = Cache::open(store.clone()).await?;
    tasks.spawn("cache", until(end(), follow));
    let authorities = Authorities::open(data.path(), &zone, options.certificate_lifetime()?)?;
    tasks.spawn("authorities", until(end(), authorities.clone().run()));
    let invitations = Arc::new(Invitations::open(&data.join("tokens"))?);
    let registry = Registry::open(data.path());
    tasks.spawn("registry", until(end(), registry.clone().run()));

    let policy = Follower::durable(&data.join("policy"), Absence::Keep)?;
    let (world, objects) = (watch::Sender::new(Arc::<World>::default()), watch::Sender::new(Arc::<Objects>::default()));
    let (seen, known) = (world.subscribe(), objects.subscribe());
    tasks.spawn("world", until(end(), world::follow(policy.clone(), cache.clone(), world, objects)));

    let exports = Exports::new(cache.now().history);
    let peers = Peers::new(membership.clone(), data.path());
    tasks.spawn("peers", peers.clone().run(seen.clone(), process.drain.token()));
    let installed = watch::Sender::new(Arc::<Installed>::default());
    let programmed = watch::Sender::new(Arc::<Programmed>::default());
    let latest = watch::Sender::new(Arc::<ZoneReport>::default());
    let (installed_seen, programmed_seen, report) = (installed.subscribe(), programmed.subscribe(), latest.subscribe());
    let programmer = Programmer {
        zone: zone.clone(),
        world: seen.clone(),
        peers: peers.book(),
        registry: registry.clone(),
        authorities: authorities.clone(),
        exports: exports.clone(),
        peer_address: options.peer_address.unwrap_or(peer_addr),
        installed,
    };
    tasks.spawn("programmer", until(end(), programmer.run()));
    let upward = Published::new(Lineage { history: cache.now().history, revision: 0 });
    let reporter = Reporter {
        membership: membership.clone(),
        world: seen.clone(),
        installed: installed_seen.clone(),
        registry: registry.clone(),
        view: upward.clone(),
        programmed,
        latest,
    };
    tasks.spawn("reporter", until(end(), reporter.run()));

    let progress = watch::Sender::new(BTreeMap::new());
    let sight = Sight {
        zone: zone.clone(),
        world: seen.clone(),
        policy: policy.clone(),
        upward: progress.subscribe(),
        peers: peers.clone(),
        registry: registry.clone(),
        report,
    };
    let channels = Channels {
        publish: vec![(peers::EXPORTS.into(), exports.view()), (registry::REPORT.into(), upward)],
        follow: vec![(POLICY.into(), policy.clone())],
    };
    tasks.spawn("uplink", sync_grpc::dial(uplink(&membership), channels, progress, process.drain.token()));

    let door = Door {
        zone: zone.clone(),
        installed: installed_seen.clone(),
        authorities: authorities.clone(),
        registry: registry.clone(),
    };
    let addresses = control::serve::advertised(options.sync_address, sync_addr, "sync-address");
    let bootstrap =
        bootstrap::Bootstrap { door: door.clone(), invitations: invitations.clone(), addresses: addresses.clone() };
    let mut routes = tonic::service::Routes::builder();
    routes
        .add_service(sync_grpc::service(Arc::new(door), Admission::default()))
        .add_service(WorkloadsServer::new(bootstrap));
    let control = authorities.control();
    let acceptor = identity::server_config(&control.live(), control.trust(), Expect::Any, ClientAuth::Optional, ALPN);
    tasks.spawn_fatal("sync", sync_grpc::serve(sync_listener, acceptor, routes.routes(), process.drain.token()));
    tasks.spawn_fatal("peer", serve_peers(peer_listener, membership, exports, seen.clone(), process.drain.token()));

    let board = {
        let sight = sight.clone();
        Board::new(move || sight.observe())
    };
    tasks.spawn("board", board.clone().run(end()));
    tasks.spawn("changes", until(end(), changes(sight.clone(), board.clone(), process.clone())));
    sight.clone().metrics(&process.metrics);
    let shared = Arc::new(Api {
        site: Site::Zone(zone.clone()),
        version: env!("CARGO_PKG_VERSION"),
        store,
        cache,
        objects: known,
        programmed: programmed_seen,
        auth: Auth::open(data.path(), options.api_host)?,
        status: {
            let (sight, board) = (sight, board.clone());
            Box::new(move || sight.status(&board))
        },
        board,
        converged: control::metrics::convergence(&process.metrics),
        streams: Arc::new(Semaphore::new(control::rest::STREAMS_MAX)),
    });
    let desk = rest::Desk {
        api: shared.clone(),
        zone: zone.clone(),
        invitations,
        authorities,
        addresses,
        installed: installed_seen,
        registry,
        world: seen,
        policy: policy.clone(),
        region: options.region,
    };
    let router = control::rest::router(shared, rest::routes(desk));
    tasks.spawn_fatal("api", control::serve::serve(api_listener, router, process.drain.clone()));
    let token = std::fs::read_to_string(data.join(control::auth::TOKEN_FILE))?.trim().to_owned();
    tracing::info!(%zone, api = %api_addr, sync = %sync_addr, peer = %peer_addr, "zone control plane is up");
    let policy = policy.watch();
    Ok(Running {
        zone,
        api: api_addr,
        sync: sync_addr,
        peer: peer_addr,
        token,
        policy,
        process,
        _admin: admin,
        _data: data,
    })
}

impl Running {
    /// Ends all tasks and waits for them.
    pub async fn stop(self) {
        self.process.drain.begin();
        self.process.tasks.finished().await;
    }
}

/// How global is dialled.
fn uplink(membership: &Membership) -> Dial {
    let Membership { zone, addresses, live, trust } = membership.clone();
    let config = identity::client_config(&live, &trust, Expect::id(SpiffeId::global_cp()), ALPN);
    Dial {
        addresses: watch::Sender::new(addresses).subscribe(),
        tls: Arc::new(move |address| (config.clone(), rpc::server_name(address))),
        name: zone.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

/// Peers follow our exports with the certificates global gave them and us.
async fn serve_peers(
    listener: tokio::net::TcpListener,
    membership: Membership,
    exports: Exports,
    world: watch::Receiver<Arc<World>>,
    end: CancellationToken,
) -> Result<(), sync_grpc::ServeError> {
    let Membership { live, trust, .. } = &membership;
    let expect = Expect::Domain(TrustDomain::global_control());
    let acceptor = identity::server_config(live, trust, expect, ClientAuth::Required, ALPN);
    let service = sync_grpc::service(Arc::new(PeerDoor { exports, world }), Admission::default());
    let mut routes = tonic::service::Routes::builder();
    routes.add_service(service);
    sync_grpc::serve(listener, acceptor, routes.routes(), end).await
}

/// Tells the overview and /readyz when something they show has changed.
async fn changes(sight: Sight, board: Board, process: Process) {
    let (mut world, mut report) = (sight.world.clone(), sight.report.clone());
    let (mut book, mut link) = (sight.peers.book(), sight.policy.link());
    loop {
        let complete = world.borrow_and_update().is_complete();
        process.readiness.set("policy", complete, "nothing received from the global control plane yet");
        let ended = tokio::select! {
            changed = world.changed() => changed.is_err(),
            changed = report.changed() => changed.is_err(),
            changed = book.changed() => changed.is_err(),
            changed = link.changed() => changed.is_err(),
        };
        if ended {
            return;
        }
        board.changed();
    }
}
