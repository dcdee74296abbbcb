//! One port of a service outside the mesh as one worker calls it: its endpoints in order of preference, their
//! connections, its retry budget.

use super::breaker::{Breaker, Limit, Open, Share, Taken};
use super::origination::{Origination, Speaks};
use crate::compile::Service;
use crate::http::retry::Budget;
use crate::limits::{EXTERNAL_AVOID, EXTERNAL_LINK_IDLE, EXTERNAL_LINKS_IDLE, EXTERNAL_NAMES_MAX};
use crate::pool::link::sentence;
use crate::pool::server::{Keep, Seat, Server};
use crate::pool::transport::tune;
use api::config::Retry;
use http::uri::Authority;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

const KEEP: Keep = Keep { idle_max: EXTERNAL_LINKS_IDLE, age_max: EXTERNAL_LINK_IDLE };

/// See the module's text.
pub struct Outside {
    /// As compiled.
    service: Arc<Service>,
    endpoints: Arc<[Endpoint]>,
    budget: Arc<Mutex<Budget>>,
    breaker: Arc<Breaker>,
}

/// No place for a request.
pub enum NoSeat {
    /// A circuit breaker says so.
    NoRoom(Open),
    /// The endpoint did not take a connection.
    Connect(io::Error),
}

/// One address.
pub struct Endpoint {
    /// `ADDRESS:PORT`.
    pub name: Arc<str>,
    address: String,
    port: u16,
    /// Without TLS.
    plain: Arc<Server>,
    /// By the name TLS asks for.
    servers: Mutex<HashMap<Box<str>, Arc<Server>>>,
    /// It failed lately; others are asked first until then.
    avoid_until_us: AtomicU64,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Outside {
    /// For one port of `service`; `None` when that is not outside the mesh.
    pub fn new(service: &Arc<Service>, port: u16, breaker: Arc<Breaker>) -> Option<Arc<Self>> {
        let external = service.config.external.as_ref()?;
        let endpoint = |(address, at): &(String, Option<u16>)| {
            let port = at.unwrap_or(port);
            Endpoint {
                name: format!("{address}:{port}").into(),
                address: address.clone(),
                port,
                plain: Server::new(KEEP),
                servers: Mutex::default(),
                avoid_until_us: AtomicU64::new(0),
            }
        };
        let endpoints = external.endpoints.iter().map(endpoint).collect();
        Some(Arc::new(Self { service: service.clone(), endpoints, budget: Arc::default(), breaker }))
    }

    /// The same after a change of configuration: connections stay where addresses and TLS did.
    pub fn for_service(self: &Arc<Self>, service: &Arc<Service>, port: u16) -> Option<Arc<Self>> {
        if Arc::ptr_eq(&self.service, service) {
            return Some(self.clone());
        }
        if self.service.config.external != service.config.external {
            return Self::new(service, port, self.breaker.clone());
        }
        let (endpoints, budget, breaker) = (self.endpoints.clone(), self.budget.clone(), self.breaker.clone());
        Some(Arc::new(Self { service: service.clone(), endpoints, budget, breaker }))
    }

    /// One more of something, if the breaker has room.
    pub fn take(&self, limit: Limit) -> Result<Taken, Open> {
        self.breaker.take(limit, &self.service.config.breaker)
    }

    /// Lets a request in, if the breaker has room, and counts it towards the retry budget.
    pub fn admit(&self, share: &Arc<Share>, now_us: u64) -> Result<Taken, Open> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).request(now_us / 1_000_000);
        self.breaker.take_request(&self.service.config.breaker, share)
    }

    /// Takes a retry from the budget, if the breaker has room for one more.
    pub fn take_retry(&self, retry: &Retry, now_us: u64) -> Option<Taken> {
        let taken = self.take(Limit::Retries).ok()?;
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        budget.take(retry, now_us / 1_000_000).then_some(taken)
    }

    /// The first endpoint that neither failed lately nor is in `tried`; else the first not tried; else the first.
    pub fn choose(&self, tried: &[usize], now_us: u64) -> Option<(usize, &Endpoint)> {
        let fresh = || self.endpoints.iter().enumerate().filter(|(index, _)| !tried.contains(index));
        let good = fresh().find(|(_, endpoint)| endpoint.avoid_until_us.load(Ordering::Relaxed) <= now_us);
        good.or_else(|| fresh().next()).or_else(|| self.endpoints.iter().enumerate().next())
    }

    /// Whether every endpoint is in `tried`.
    pub fn exhausted(&self, tried: &[usize]) -> bool {
        (0..self.endpoints.len()).all(|index| tried.contains(&index))
    }

    /// A place on a connection to `endpoint`: one that is open, or a new one within `limit`. `called` by that name.
    pub async fn seat(
        &self,
        endpoint: &Endpoint,
        called: Option<&Authority>,
        http2: bool,
        limit: Duration,
    ) -> Result<Seat, NoSeat> {
        let tls = self.tls().map_err(NoSeat::Connect)?;
        let tls = tls.map(|tls| (tls, server_name(tls, endpoint, called)));
        let server = endpoint.server(tls.map(|(_, name)| name));
        if let Some(seat) = server.seat(http2) {
            return Ok(seat);
        }
        let _waits = self.take(Limit::Pending).map_err(NoSeat::NoRoom)?;
        let taken = self.take(Limit::Connections).map_err(NoSeat::NoRoom)?;
        let speaks = if http2 { Speaks::Http2 } else { Speaks::Http1 };
        let opening = async {
            let io = Io { stream: endpoint.open(tls, speaks).await?, _taken: taken };
            server.begin(io, http2).await.map_err(|error| io::Error::other(sentence(&error)))
        };
        let opened = timeout(limit, opening).await.unwrap_or_else(|_| Err(late(endpoint)));
        opened.map_err(NoSeat::Connect)
    }

    /// A connection of bytes to whichever endpoint takes it first, `limit` for each.
    pub async fn connect(&self, taken: Taken, limit: Duration, now_us: impl Fn() -> u64) -> io::Result<Io> {
        let tls = self.tls()?;
        let mut tried = Vec::new();
        let mut last = io::Error::other("the external service has no endpoint");
        while let Some((index, endpoint)) = self.choose(&tried, now_us()).filter(|(index, _)| !tried.contains(index)) {
            let tls = tls.map(|tls| (tls, server_name(tls, endpoint, None)));
            let opened = timeout(limit, endpoint.open(tls, Speaks::Bytes)).await;
            match opened.unwrap_or_else(|_| Err(late(endpoint))) {
                Ok(stream) => return Ok(Io { stream, _taken: taken }),
                Err(error) => {
                    endpoint.avoid(now_us());
                    last = error;
                }
            }
            tried.push(index);
        }
        Err(last)
    }

    fn tls(&self) -> io::Result<Option<&Origination>> {
        self.service
            .origination
            .as_ref()
            .map(Result::as_ref)
            .transpose()
            .map_err(|text| io::Error::other(text.as_str()))
    }

    /// Closes connections nobody used for long.
    pub fn sweep(&self) {
        for endpoint in &*self.endpoints {
            endpoint.plain.sweep();
            let mut servers = endpoint.servers.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever holds one gives a connection back to it.
            servers.retain(|_, server| server.sweep() || Arc::strong_count(server) > 1);
        }
    }
}

impl Endpoint {
    fn server(&self, name: Option<&str>) -> Arc<Server> {
        let Some(name) = name else { return self.plain.clone() };
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(name) {
            return server.clone();
        }
        let server = Server::new(KEEP);
        // Callers choose names where the configuration does not; beyond the bound a connection serves one request.
        if servers.len() < EXTERNAL_NAMES_MAX {
            servers.insert(name.into(), server.clone());
        }
        server
    }

    /// It failed: for a while the others are preferred.
    pub fn avoid(&self, now_us: u64) {
        self.avoid_until_us.store(now_us + EXTERNAL_AVOID.as_micros() as u64, Ordering::Relaxed);
    }

    async fn open(&self, tls: Option<(&Origination, &str)>, speaks: Speaks) -> io::Result<Stream> {
        let tcp = TcpStream::connect((self.address.as_str(), self.port)).await?;
        tune(&tcp);
        Ok(match tls {
            None => Stream::Plain(tcp),
            Some((tls, name)) => Stream::Tls(Box::new(tls.connect(name, speaks, tcp).await?)),
        })
    }
}

fn server_name<'a>(tls: &'a Origination, endpoint: &'a Endpoint, called: Option<&'a Authority>) -> &'a str {
    tls.server_name
        .as_deref()
        .or_else(|| called.map(Authority::host).filter(|host| !host.is_empty()))
        .unwrap_or(&endpoint.address)
}

fn late(endpoint: &Endpoint) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{endpoint} did not answer in time"))
}

/// A connection to an endpoint; the breaker counts it until it is closed.
pub struct Io {
    stream: Stream,
    _taken: Taken,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }
}
