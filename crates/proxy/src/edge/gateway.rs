//! An east-west gateway: reads a server name, checks that it may be asked for, and copies bytes to a workload.
//!
//! It sees no plaintext. Until the workload's first byte the ClientHello is all that was sent, so a workload that
//! refuses or says nothing is left for another without the caller noticing.

use super::probe;
use super::sni::{self, Hello};
use super::sources::Sources;
use crate::compile::Running;
use crate::limits::{CLIENT_HELLO_MAX, FIRST_ANSWER, GATEWAY_AVOID, GATEWAY_CONNECT, HANDSHAKE};
use crate::pool::transport::tune;
use crate::tcp::copy;
use crate::worker::Worker;
use api::config::{EndpointsPlace, ServiceRef, gateway_server_name, zone_cp_server_name};
use rustls::ServerConfig;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A connection without a byte in either direction; the proxies at its ends have shorter limits (Envoy's TCP proxy).
const IDLE: Duration = Duration::from_secs(3600);
/// While draining, a connection in which nothing moved for so long is closed; ours are asked by ping after 500 ms.
const QUIET: Duration = Duration::from_millis(500);
/// Workloads asked for one connection.
const TRIES_MAX: usize = 3;
/// Small reads: most of what passes before the relay is one ClientHello.
const READ: usize = 4096;

/// What all workers of a gateway share.
#[derive(Default)]
pub struct Edge {
    sources: Sources,
    peers: Mutex<HashMap<SocketAddr, Arc<Load>>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    relayed: AtomicU64,
}

/// What is known of one workload.
#[derive(Default)]
struct Load {
    open: AtomicUsize,
    failed: Mutex<Option<Instant>>,
}

/// Counts a connection of a workload while it lasts.
struct Carried(Arc<Load>);

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a connection goes.
enum Leads {
    Workloads(Vec<(SocketAddr, u32)>),
    ZoneCp(SocketAddr),
    Probe,
}

impl Edge {
    /// Refusals so far, by reason.
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections relayed so far.
    pub fn relayed(&self) -> u64 {
        self.relayed.load(Ordering::Relaxed)
    }

    fn refuse(&self, why: &'static str, peer: SocketAddr, asked: &str) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
        tracing::debug!(%peer, asked, why, "refused");
    }

    fn load(&self, address: SocketAddr) -> Arc<Load> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default().clone()
    }

    /// Forgets workloads that are gone.
    pub fn keep(&self, running: &Running) {
        let known = |address: &SocketAddr| {
            running.places.values().flat_map(|places| &places.sets).any(|set| match &set.place {
                EndpointsPlace::Local(endpoints) => endpoints.iter().any(|endpoint| endpoint.address == *address),
                EndpointsPlace::Remote(_) => false,
            })
        };
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|address, load| load.open.load(Ordering::Relaxed) > 0 || known(address));
    }

    /// The workload with the least load for its weight; one that failed lately comes last.
    fn choose(&self, from: &[(SocketAddr, u32)], tried: &[SocketAddr]) -> Option<(SocketAddr, Arc<Load>)> {
        let left = from.iter().filter(|(address, _)| !tried.contains(address));
        let rated = left.map(|(address, weight)| {
            let load = self.load(*address);
            let failed = *load.failed.lock().unwrap_or_else(PoisonError::into_inner);
            let avoid = failed.is_some_and(|at| at.elapsed() < GATEWAY_AVOID);
            let share = (load.open.load(Ordering::Relaxed) as u64 + 1) * 1_000 / u64::from((*weight).max(1));
            ((avoid, share), (*address, load))
        });
        rated.min_by_key(|(rate, _)| *rate).map(|(_, chosen)| chosen)
    }
}

/// Serves one connection from another zone.
pub async fn serve(
    worker: Arc<Worker>,
    edge: Arc<Edge>,
    tls: Arc<ServerConfig>,
    mut stream: TcpStream,
    peer: SocketAddr,
) {
    let Some(_admitted) = edge.sources.admit(peer.ip(), Instant::now()) else {
        return edge.refuse("too many connections of one source", peer, "");
    };
    if let Err(refused) = worker.admit() {
        return edge.refuse("overloaded", peer, &refused.text);
    }
    let (name, hello) = match timeout(HANDSHAKE, hello(&mut stream)).await {
        Ok(Ok(read)) => read,
        Ok(Err(why)) => return edge.refuse(why, peer, ""),
        Err(_) => return edge.refuse("no ClientHello in time", peer, ""),
    };
    let leads = match leads(&worker.running(), &worker.state.own.zone, &name) {
        Ok(leads) => leads,
        Err(why) => return edge.refuse(why, peer, &name),
    };
    let drain = worker.state.drain.clone();
    let ended = match leads {
        Leads::Probe => probe::answer(stream, hello, tls, drain.clone()).await,
        Leads::ZoneCp(address) => match timeout(GATEWAY_CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(zone_cp)) => relay(stream, zone_cp, &hello, &[], &drain).await,
            _ => return edge.refuse("the zone control plane does not answer", peer, &name),
        },
        Leads::Workloads(workloads) => match connect(&edge, &workloads, &hello).await {
            Some((workload, first, _carried)) => {
                edge.relayed.fetch_add(1, Ordering::Relaxed);
                relay(stream, workload, &[], &first, &drain).await
            }
            None => return edge.refuse("no workload answers", peer, &name),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, name, %error, "relayed connection ended");
    }
}

/// The server name, and the bytes it was read from.
async fn hello(stream: &mut TcpStream) -> Result<(String, Vec<u8>), &'static str> {
    let mut bytes = Vec::with_capacity(READ);
    loop {
        match sni::read(&bytes) {
            Hello::For(name) => return Ok((name, bytes)),
            Hello::Nameless => return Err("no server name"),
            Hello::Garbage => return Err("no ClientHello"),
            Hello::Partial if bytes.len() > CLIENT_HELLO_MAX => return Err("ClientHello too long"),
            Hello::Partial => {}
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Err("closed before a ClientHello"),
            Ok(_) => {}
        }
    }
}

fn leads(running: &Running, own: &api::ZoneName, name: &str) -> Result<Leads, &'static str> {
    let gateway = running.gateway.as_ref().ok_or("not configured yet")?;
    if name == gateway_server_name(own) {
        return Ok(Leads::Probe);
    }
    if name == zone_cp_server_name(own) {
        return gateway.zone_cp.map(Leads::ZoneCp).ok_or("no zone control plane is known");
    }
    let (service, port, zone) = ServiceRef::parse_server_name(name).ok_or("not a server name of a mesh")?;
    if zone != *own {
        // Passing on to a third zone would make loops possible; callers reach every zone's gateways themselves.
        return Err("another zone");
    }
    match gateway.exported.get(&service.to_string()) {
        Some(ports) if ports.contains(&port) => {}
        _ => return Err("not exported"),
    }
    let sets = running.places.get(&service).map(|places| places.sets.as_slice()).unwrap_or_default();
    let local = sets.iter().filter_map(|set| match &set.place {
        EndpointsPlace::Local(endpoints) => Some(endpoints),
        EndpointsPlace::Remote(_) => None,
    });
    let workloads: Vec<_> =
        local.flatten().filter(|endpoint| endpoint.ready).map(|endpoint| (endpoint.address, endpoint.weight)).collect();
    if workloads.is_empty() { Err("no ready workload") } else { Ok(Leads::Workloads(workloads)) }
}

/// A workload that answered the ClientHello, with its first bytes.
async fn connect(edge: &Edge, workloads: &[(SocketAddr, u32)], hello: &[u8]) -> Option<(TcpStream, Vec<u8>, Carried)> {
    let mut tried = Vec::new();
    while tried.len() < TRIES_MAX {
        let (address, load) = edge.choose(workloads, &tried)?;
        load.open.fetch_add(1, Ordering::Relaxed);
        let carried = Carried(load.clone());
        match first_answer(address, hello).await {
            Ok((stream, first)) => {
                *load.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return Some((stream, first, carried));
            }
            Err(error) => {
                tracing::debug!(%address, %error, "a workload did not answer; trying another");
                *load.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                tried.push(address);
            }
        }
    }
    None
}

async fn first_answer(address: SocketAddr, hello: &[u8]) -> io::Result<(TcpStream, Vec<u8>)> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    let mut stream = timeout(GATEWAY_CONNECT, TcpStream::connect(address)).await.map_err(|_| late())??;
    tune(&stream);
    stream.write_all(hello).await?;
    let mut first = Vec::with_capacity(READ);
    let count = timeout(FIRST_ANSWER, stream.read_buf(&mut first)).await.map_err(|_| late())??;
    if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((stream, first)) }
}

async fn relay(
    mut caller: TcpStream,
    mut workload: TcpStream,
    forth: &[u8],
    back: &[u8],
    drain: &CancellationToken,
) -> io::Result<()> {
    workload.write_all(forth).await?;
    caller.write_all(back).await?;
    copy::leaving(caller, workload, IDLE, drain, QUIET).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_loaded_workload_that_did_not_fail_is_chosen() {
        let edge = Edge::default();
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let workloads = [(address(1), 1), (address(2), 1), (address(3), 4)];
        let hold = |port: u16, open: usize| edge.load(address(port)).open.store(open, Ordering::Relaxed);
        for (port, open) in [(1, 2), (2, 1), (3, 3)] {
            hold(port, open);
        }
        let chosen = |tried: &[SocketAddr]| edge.choose(&workloads, tried).map(|(address, _)| address.port());
        assert_eq!(chosen(&[]), Some(3), "four times the weight");
        assert_eq!(chosen(&[address(3)]), Some(2));
        *edge.load(address(2)).failed.lock().unwrap() = Some(Instant::now());
        assert_eq!(chosen(&[address(3)]), Some(1));
        assert_eq!(chosen(&[address(3), address(1)]), Some(2), "better one that failed than none");
        assert_eq!(chosen(&[address(1), address(2), address(3)]), None);
    }
}
