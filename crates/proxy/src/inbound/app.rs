//! Connections to the app on this host, for each of its ports.

use super::load::InFlight;
use crate::hash::Quick;
use crate::http::body::{Broken, Outgoing};
use crate::limits::{APP_CONNECT, APP_LINK_IDLE, APP_LINKS_IDLE};
use crate::pool::link::sentence;
use crate::pool::server::{Keep, Seat, Server, Unanswered};
use crate::worker::Worker;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio::time::timeout;

const KEEP: Keep = Keep { idle_max: APP_LINKS_IDLE, age_max: APP_LINK_IDLE };

/// The app did not answer.
#[derive(Debug)]
pub enum AppError {
    /// No connection; it never saw the request.
    Unreachable(String),
    /// It may have seen the request.
    Broken(String),
    /// The caller did not send all of the request.
    Caller(Broken),
}

/// Connections of one worker.
#[derive(Default)]
pub struct AppLinks {
    servers: Mutex<Quick<u16, Arc<Server>>>,
    /// Requests at the app.
    pub in_flight: InFlight,
}

impl AppLinks {
    /// Sends to the app. A pooled connection that turns out closed costs nothing but another one.
    pub async fn send(
        &self,
        worker: &Worker,
        port: u16,
        http2: bool,
        request: Request<Outgoing>,
    ) -> Result<(Response<Incoming>, Seat), AppError> {
        let known = worker.state.apps.port(port).ok_or_else(|| AppError::Unreachable("the port is gone".into()))?;
        let frozen = "the app accepts connections and answers nothing";
        let working = self.in_flight.begin();
        let waiting = known.begin().ok_or_else(|| AppError::Unreachable(frozen.into()))?;
        let mut sent = tokio::select! {
            sent = send(worker, self.server(port), port, http2, request) => sent,
            () = waiting.frozen() => return Err(AppError::Broken(frozen.into())),
        };
        waiting.answered();
        if let Ok((response, seat)) = &mut sent
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            seat.working = Some(working);
        }
        sent
    }

    fn server(&self, port: u16) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.entry(port).or_insert_with(|| Server::new(KEEP)).clone()
    }

    /// Closes connections that were idle for long.
    pub fn sweep(&self) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever holds one gives a connection back to it.
        servers.retain(|_, server| server.sweep() || Arc::strong_count(server) > 1);
    }
}

async fn send(
    worker: &Worker,
    server: Arc<Server>,
    port: u16,
    http2: bool,
    mut request: Request<Outgoing>,
) -> Result<(Response<Incoming>, Seat), AppError> {
    loop {
        let mut seat = match server.seat(http2) {
            Some(seat) => seat,
            None => {
                // Whoever took the request back at once is heard of now, before it costs the app a connection.
                tokio::task::yield_now().await;
                let begun = server.begin(connect(worker, port).await?, http2).await;
                begun.map_err(|error| AppError::Broken(sentence(&error)))?
            }
        };
        match seat.send(request).await {
            Ok(response) => return Ok((response, seat)),
            Err(Unanswered { request: Some(unsent), .. }) if seat.used => request = *unsent,
            Err(Unanswered { broken: Some(broken), .. }) => return Err(AppError::Caller(broken)),
            Err(Unanswered { unsent, text, .. }) => {
                worker.state.apps.suspect(port);
                return Err(if unsent { AppError::Unreachable(text) } else { AppError::Broken(text) });
            }
        }
    }
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
