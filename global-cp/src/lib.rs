//! The global control plane: where operators write policy, and what keeps every zone in step.
//!
//! ```text
//! REST -> store -> Cache -> Hub -> one view per zone ~sync~> zones
//!                            ^---- exports, report <~sync~--'
//! ```
#![warn(missing_docs)]

mod admit;
mod hub;
mod join;
mod options;
mod rest;
mod status;
mod uplink;
mod views;

pub use hub::Hub;
pub use options::Options;

use anyhow::Context;
use api::SpiffeId;
use api::identity_v1::zones_server::ZonesServer;
use control::auth::Auth;
use control::{Api, Board, Cache, Invitations, Issuer, Site};
use identity::{ClientAuth, Expect};
use process::{Admin, DataDir, Process};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Name of the program.
pub const PROGRAM: &str = "weft-global-cp";
/// Newest format of the data folder.
const FORMAT: u32 = 1;
/// Default of `--admin-listen`.
const ADMIN_LISTEN: &str = "127.0.0.1:5682";
/// The application protocol of gRPC (RFC 7301 registry: HTTP/2).
const ALPN: &[&[u8]] = &[b"h2"];

/// A started control plane. Its tasks end with the process's drain.
pub struct Running {
    /// Where the API answers.
    pub api: SocketAddr,
    /// Where zones connect.
    pub sync: SocketAddr,
    /// Views and uplinks.
    pub hub: Hub,
    /// Value of the admin token, as in the data folder.
    pub token: String,
    process: Process,
    _admin: Admin,
    _data: DataDir,
}

/// Opens the data folder and listens.
pub async fn start(process: Process, options: Options) -> anyhow::Result<Running> {
    let data = process.data_dir(FORMAT)?;
    process.readiness.require("store", "not open yet");
    let admin = process.admin(ADMIN_LISTEN.parse().expect("an address"), axum::Router::new())?;
    let api_listener = process::bind(options.api_listen, "api-listen").await?;
    let sync_listener = process::bind(options.sync_listen, "sync-listen").await?;
    let (api_addr, sync_addr) = (api_listener.local_addr()?, sync_listener.local_addr()?);

    let url = match options.store.as_str() {
        "file" => format!("file:{}", data.join("store").display()),
        other => other.to_owned(),
    };
    let store = store::open(&url).await?;
    let (cache, follow) = Cache::open(store.clone()).await?;
    process.tasks.spawn("cache", control::until(process.drain.begun(), follow));
    process.readiness.met("store");

    let issuer = Issuer::open(&data.join("authority"), SpiffeId::global_cp())?;
    process.tasks.spawn("issuer", control::until(process.drain.begun(), issuer.clone().run(|| ())));
    let invitations = Arc::new(Invitations::open(&data.join("tokens"))?);
    let hub = Hub::open(data.path().to_owned(), cache.clone()).context("cannot read the folder of zones")?;
    let board = {
        let hub = hub.clone();
        Board::new(move || hub.observe())
    };
    process.tasks.spawn("board", board.clone().run(process.drain.begun()));
    let changed = {
        let board = board.clone();
        move || board.changed()
    };
    process.tasks.spawn("hub", hub.clone().run(changed, process.drain.token()));
    status::metrics(&process.metrics, hub.clone());

    let zones = sync_grpc::service(Arc::new(admit::Zones { hub: hub.clone() }), sync_grpc::Admission::default());
    let joining = join::Joining {
        invitations: invitations.clone(),
        issuer: issuer.clone(),
        cache: cache.clone(),
        hub: hub.clone(),
    };
    let mut routes = tonic::service::Routes::builder();
    routes.add_service(zones).add_service(ZonesServer::new(joining));
    let expect = Expect::fits("a zone", |id| id.as_zone().is_some());
    let acceptor = identity::server_config(&issuer.live(), issuer.trust(), expect, ClientAuth::Optional, ALPN);
    let serving = sync_grpc::serve(sync_listener, acceptor, routes.routes(), process.drain.token());
    process.tasks.spawn_fatal("sync", serving);

    let addresses = control::serve::advertised(options.sync_address, sync_addr, "sync-address");
    let shared = Arc::new(Api {
        site: Site::Global,
        version: env!("CARGO_PKG_VERSION"),
        store,
        objects: hub.objects(),
        programmed: hub.programmed(),
        auth: Auth::open(data.path(), options.api_host)?,
        status: {
            let (hub, board) = (hub.clone(), board.clone());
            Box::new(move || status::view(&hub, &board))
        },
        board,
        converged: control::metrics::convergence(&process.metrics),
        streams: Arc::new(Semaphore::new(control::rest::STREAMS_MAX)),
        cache,
    });
    let desk = rest::Desk { api: shared.clone(), invitations, issuer, addresses };
    let router = control::rest::router(shared, rest::routes(desk));
    process.tasks.spawn_fatal("api", control::serve::serve(api_listener, router, process.drain.clone()));
    let token = std::fs::read_to_string(data.join(control::auth::TOKEN_FILE))?.trim().to_owned();
    tracing::info!(api = %api_addr, sync = %sync_addr, "global control plane is up");
    Ok(Running { api: api_addr, sync: sync_addr, hub, token, process, _admin: admin, _data: data })
}

impl Running {
    /// Ends all tasks and waits for them.
    pub async fn stop(self) {
        self.process.drain.begin();
        self.process.tasks.finished().await;
    }
}
