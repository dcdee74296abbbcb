//! Opens and closes the ports of Gateways: one owner of all their sockets. Connections that were accepted stay.

use super::serve::{ALPN, serve};
use super::{Ingress, about_port};
use crate::limits::LISTEN_AGAIN;
use crate::listen::open::TCP;
use crate::listen::{accept, bind};
use crate::state::State;
use crate::worker::Worker;
use process::BindError;
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Option that sets the address, as messages name it.
const FLAG: &str = "ingress-address";

/// Keeps ports in step with the configuration until the proxy drains.
pub async fn keep(state: Arc<State>, ingress: Arc<Ingress>, workers: Vec<Arc<Worker>>) {
    let mut changed = state.changed();
    let mut open: BTreeMap<u16, CancellationToken> = BTreeMap::new();
    loop {
        changed.borrow_and_update();
        let wanted: BTreeSet<u16> = state.running().listeners.keys().copied().collect();
        open.retain(|port, stop| {
            let keep = wanted.contains(port);
            if !keep {
                stop.cancel();
            }
            keep
        });
        let gone = |about: &str| !about.starts_with("port ") || wanted.iter().any(|port| about_port(*port) == about);
        state.listener_problems.keep(gone);
        let mut failed = false;
        for port in wanted.iter().filter(|port| !open.contains_key(port)).copied().collect::<Vec<_>>() {
            let opened = sockets(&state, SocketAddr::new(ingress.address, port), workers.len());
            let problem = opened.as_ref().err().map(ToString::to_string);
            failed |= problem.is_some();
            if state.listener_problems.set(&about_port(port), problem) {
                state.tell();
            }
            if let Ok(sockets) = opened {
                let stop = state.drain.child_token();
                open.insert(port, stop.clone());
                hand_out(&state, &ingress, &workers, port, sockets, &stop).await;
            }
        }
        tokio::select! {
            () = state.drain.cancelled() => return,
            () = sleep(LISTEN_AGAIN), if failed => {}
            more = changed.changed() => if more.is_err() { return },
        }
    }
}

/// At least one socket for each worker: those that a process before us left, and new ones. The kernel would share the
/// address with another process as well: an exclusive socket before the first one finds that out.
fn sockets(state: &State, address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, BindError> {
    if !state.listening.was_left(address) {
        drop(process::bind_std(address, FLAG)?);
    }
    let mut sockets: Vec<_> = (0..count).flat_map(|worker| state.listening.left(address, worker)).collect();
    while sockets.len() < count {
        let other = |source| BindError::Other { addr: address, flag: FLAG.into(), source };
        sockets.push(bind(address).map_err(other)?);
    }
    Ok(sockets)
}

async fn hand_out(
    state: &Arc<State>,
    ingress: &Arc<Ingress>,
    workers: &[Arc<Worker>],
    port: u16,
    sockets: Vec<TcpListener>,
    stop: &CancellationToken,
) {
    let tls = tls(state, ingress, port);
    tracing::info!(port, address = %ingress.address, "listening for traffic from outside");
    for (worker, socket) in workers.iter().cycle().zip(sockets) {
        let (worker, ingress, tls, stop) = (worker.clone(), ingress.clone(), tls.clone(), stop.clone());
        let connections = state.connections.clone();
        let runtime = worker.runtime.wait().await.clone();
        runtime.spawn(async move {
            let listener = match tokio::net::TcpListener::from_std(socket) {
                Ok(listener) => Arc::new(listener),
                Err(error) => return tracing::error!(%error, port, "a listener cannot start"),
            };
            worker.state.listening.add(TCP, &listener);
            accept(listener, stop, connections, |stream, peer| {
                serve(worker.clone(), ingress.clone(), tls.clone(), port, stream, peer)
            })
            .await;
        });
    }
}

/// TLS of one port: the certificate is chosen by the name the caller asks for. 1.3 only, until somebody asks for less.
fn tls(state: &Arc<State>, ingress: &Arc<Ingress>, port: u16) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chosen = Chosen { state: state.clone(), ingress: ingress.clone(), port };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3 suites")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(chosen));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match rustls::crypto::aws_lc_rs::Ticketer::new() {
        Ok(tickets) => config.ticketer = tickets,
        Err(error) => tracing::warn!(%error, "callers cannot resume sessions"),
    }
    config.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// Chooses the certificate of the listener that answers for a name.
struct Chosen {
    state: Arc<State>,
    ingress: Arc<Ingress>,
    port: u16,
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chosen(port {})", self.port)
    }
}

impl ResolvesServerCert for Chosen {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let running = self.state.running();
        let listener = running.listeners.get(&self.port)?;
        let host = match hello.server_name() {
            Some(name) => listener.host(&name.to_ascii_lowercase()),
            None => listener.nameless(),
        };
        self.ingress.certificates.get(host?.certificate.as_deref()?)
    }
}
