//! A listener for each port of each virtual address, opened when the service appears and closed when it goes.
//! Connections that were accepted stay.

use super::open::TCP;
use super::{accept, bind};
use crate::compile::Running;
use crate::outbound::http::{Via, app};
use crate::outbound::tcp;
use crate::vips::{Named, Names};
use crate::worker::Worker;
use std::collections::BTreeMap;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Keeps listeners in step with names until the proxy drains. `number` is the worker's.
pub async fn keep(worker: Arc<Worker>, number: usize) {
    let mut moved = worker.state.moved();
    let names = worker.state.names();
    let mut open: BTreeMap<SocketAddr, CancellationToken> = BTreeMap::new();
    loop {
        moved.borrow_and_update();
        let wanted = wanted(&worker.running(), &names.borrow().clone());
        open.retain(|address, stop| {
            let keep = wanted.contains_key(address);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for (address, named) in wanted {
            if open.contains_key(&address) {
                continue;
            }
            match sockets(&worker, address, number) {
                Ok(sockets) => drop(open.insert(address, start(&worker, sockets, named, address.port()))),
                Err(error) => {
                    tracing::warn!(%address, service = %named.service, %error,
                        "cannot listen on a virtual address; is the range of --vips on this host?");
                }
            }
        }
        tokio::select! {
            () = worker.state.drain.cancelled() => return,
            more = moved.changed() => if more.is_err() { return },
        }
    }
}

fn wanted(running: &Running, names: &Names) -> BTreeMap<SocketAddr, Named> {
    let mut wanted = BTreeMap::new();
    for (address, named) in names.addresses() {
        let ports = running.services.get(&named.service).into_iter().flat_map(|service| service.ports.keys());
        wanted.extend(ports.map(|port| (SocketAddr::new(address, *port), named.clone())));
    }
    wanted
}

/// What a process before us left for this worker, else a new one.
fn sockets(worker: &Worker, address: SocketAddr, number: usize) -> io::Result<Vec<Arc<TcpListener>>> {
    let mut sockets = worker.state.listening.left(address, number);
    if sockets.is_empty() {
        sockets.push(bind(address)?);
    }
    let open = |socket| {
        let socket = Arc::new(TcpListener::from_std(socket)?);
        worker.state.listening.add(TCP, &socket);
        Ok(socket)
    };
    sockets.into_iter().map(open).collect()
}

fn start(worker: &Arc<Worker>, sockets: Vec<Arc<TcpListener>>, named: Named, port: u16) -> CancellationToken {
    let stop = worker.state.drain.child_token();
    for socket in sockets {
        let (worker, named) = (worker.clone(), named.clone());
        let connections = worker.state.connections.clone();
        tokio::spawn(accept(socket, stop.clone(), connections, move |stream, _| {
            one(worker.clone(), stream, named.clone(), port)
        }));
    }
    stop
}

/// Serves one connection of the app to one port of a service, by what the port is declared to speak now.
pub async fn one(worker: Arc<Worker>, stream: TcpStream, named: Named, port: u16) {
    let http = worker
        .running()
        .services
        .get(&named.service)
        .and_then(|service| service.ports.get(&port))
        .map(|port| port.protocol.is_http());
    match http {
        Some(true) => app(worker, Via::Service(named, port), stream).await,
        Some(false) => tcp::serve(&worker, &named, port, |_| ready(Some(stream))).await,
        None => tracing::debug!(service = %named.service, port, "the service went while a connection came"),
    }
}
