//! Connections to the app on this host: a small pool of HTTP/1.1 connections, or one of HTTP/2, for each port.

use crate::http::body::Outgoing;
use crate::limits::{APP_CONNECT, APP_LINK_IDLE, APP_LINKS_IDLE, HEADER_BYTES_MAX, HEADERS_MAX};
use crate::pool::link::{Link, sentence};
use crate::worker::Worker;
use futures_util::FutureExt;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The app did not answer.
#[derive(Debug)]
pub enum AppError {
    /// No connection; it never saw the request.
    Unreachable(String),
    /// It may have seen the request.
    Broken(String),
}

type Sender = http1::SendRequest<Outgoing>;

struct Idle {
    sender: Sender,
    since: Instant,
}

/// Connections of one worker.
#[derive(Default)]
pub struct AppLinks {
    idle: Arc<Mutex<HashMap<u16, Vec<Idle>>>>,
    shared: Mutex<HashMap<u16, Arc<Link>>>,
}

/// Holds a connection until the answer's body has ended, and then gives it back.
pub struct AppLease(Held);

enum Held {
    Own { sender: Option<Sender>, port: u16, idle: Arc<Mutex<HashMap<u16, Vec<Idle>>>> },
    Shared { link: Arc<Link> },
}

impl Drop for AppLease {
    fn drop(&mut self) {
        match &mut self.0 {
            Held::Shared { link } => link.count(false, 0),
            Held::Own { sender, port, idle } => {
                let Some(sender) = sender.take().filter(|sender| !sender.is_closed()) else { return };
                let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                let idle = idle.entry(*port).or_default();
                if idle.len() < APP_LINKS_IDLE {
                    idle.push(Idle { sender, since: Instant::now() });
                }
            }
        }
    }
}

impl AppLinks {
    /// Sends to the app. A pooled connection that turns out closed costs nothing but another one.
    pub async fn send(
        &self,
        worker: &Worker,
        port: u16,
        http2: bool,
        request: Request<Outgoing>,
    ) -> Result<(Response<Incoming>, AppLease), AppError> {
        let known = worker.state.apps.port(port).ok_or_else(|| AppError::Unreachable("the port is gone".into()))?;
        let frozen = "the app accepts connections and answers nothing";
        let waiting = known.begin().ok_or_else(|| AppError::Unreachable(frozen.into()))?;
        let sending = async {
            match http2 {
                true => self.send_shared(worker, port, request).await,
                false => self.send_own(worker, port, request).await,
            }
        };
        let sent = tokio::select! {
            sent = sending => sent,
            () = waiting.frozen() => return Err(AppError::Broken(frozen.into())),
        };
        waiting.answered();
        sent
    }

    async fn send_own(
        &self,
        worker: &Worker,
        port: u16,
        mut request: Request<Outgoing>,
    ) -> Result<(Response<Incoming>, AppLease), AppError> {
        loop {
            let (mut sender, pooled) = match self.take(port) {
                Some(sender) => (sender, true),
                None => (open(worker, port).await?, false),
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let held = Held::Own { sender: Some(sender), port, idle: self.idle.clone() };
                    return Ok((response, AppLease(held)));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if pooled => request = unsent,
                    _ => {
                        worker.state.apps.suspect(port);
                        return Err(AppError::Broken(sentence(&error.into_error())));
                    }
                },
            }
        }
    }

    /// An idle connection that is ready; the latest used first, so that the others can age out.
    fn take(&self, port: u16) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = idle.get_mut(&port)?;
        idle.retain(|one| !one.sender.is_closed());
        let ready = |one: &mut Idle| one.sender.is_ready() || matches!(one.sender.ready().now_or_never(), Some(Ok(())));
        let at = (0..idle.len()).rev().find(|at| ready(&mut idle[*at]))?;
        Some(idle.swap_remove(at).sender)
    }

    async fn send_shared(
        &self,
        worker: &Worker,
        port: u16,
        request: Request<Outgoing>,
    ) -> Result<(Response<Incoming>, AppLease), AppError> {
        let open = self.shared.lock().unwrap_or_else(PoisonError::into_inner).get(&port).cloned();
        let link = match open.filter(|link| link.is_open()) {
            Some(link) => link,
            None => {
                let tcp = connect(worker, port).await?;
                let link = Link::begin(tcp).await.map_err(|error| AppError::Broken(sentence(&error)))?;
                let link = Arc::new(link);
                self.shared.lock().unwrap_or_else(PoisonError::into_inner).insert(port, link.clone());
                link
            }
        };
        link.count(true, 0);
        let lease = AppLease(Held::Shared { link: link.clone() });
        match link.send(request).await {
            Ok(response) => Ok((response, lease)),
            Err(error) => {
                worker.state.apps.suspect(port);
                match error.unsent {
                    true => Err(AppError::Unreachable(error.text)),
                    false => Err(AppError::Broken(error.text)),
                }
            }
        }
    }

    /// Closes connections that were idle for long.
    pub fn sweep(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, idle| {
            idle.retain(|one| one.since.elapsed() < APP_LINK_IDLE && !one.sender.is_closed());
            !idle.is_empty()
        });
    }
}

async fn open(worker: &Worker, port: u16) -> Result<Sender, AppError> {
    let tcp = connect(worker, port).await?;
    let handshake =
        http1::Builder::new().max_headers(HEADERS_MAX).max_buf_size(HEADER_BYTES_MAX).handshake(TokioIo::new(tcp));
    let (sender, connection) = handshake.await.map_err(|error| AppError::Broken(sentence(&error)))?;
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

/// Connects to the app; a failure makes the proxy look at the port at once.
pub async fn connect(worker: &Worker, port: u16) -> Result<TcpStream, AppError> {
    let address = SocketAddr::new(worker.state.app_address, port);
    let connected = timeout(APP_CONNECT, TcpStream::connect(address)).await;
    let tcp = connected.map_err(|_| "no answer in time".to_owned()).and_then(|tcp| tcp.map_err(|e| e.to_string()));
    match tcp {
        Ok(tcp) => {
            let _ = tcp.set_nodelay(true);
            Ok(tcp)
        }
        Err(error) => {
            worker.state.apps.suspect(port);
            Err(AppError::Unreachable(error))
        }
    }
}
