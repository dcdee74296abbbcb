//! Connections the kernel redirected here: where they were going decides what they are.

use super::detect::{Speaks, detect};
use super::{origin, vips};
use crate::error::{Dialect, Failure};
use crate::http::gate::Side;
use crate::inbound::{self, Caller};
use crate::limits::DETECT;
use crate::outbound::http::{Via, app};
use crate::pool::transport::tune;
use crate::tcp::copy;
use crate::worker::Worker;
use api::kinds::MutualTls;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connect of a connection that is passed through (Envoy's default for its original-destination cluster).
const CONNECT: Duration = Duration::from_secs(5);
/// A passed connection without a byte in either direction (Envoy's TCP proxy: 1 h).
const IDLE: Duration = Duration::from_secs(3600);

/// The app calls somebody. A virtual address leads to its service; HTTP to the address of a service of the mesh does so
/// by its host; everything else is passed through as it is.
pub async fn outbound(worker: Arc<Worker>, stream: TcpStream) {
    let to = match origin::original(&stream) {
        Ok(to) => to,
        Err(error) => return tracing::debug!(%error, "a connection was not redirected; nobody to send it to"),
    };
    let names = worker.state.names().borrow().clone();
    if let Some(named) = names.named(to.ip()) {
        return vips::one(worker, stream, named.clone(), to.port()).await;
    }
    if stream.local_addr().is_ok_and(|local| local == to) {
        // Made straight to the proxy: as in explicit mode, by host.
        return match detect(&stream, DETECT).await {
            Ok(Speaks::Http) => app(worker, Via::Host, stream).await,
            _ => tracing::debug!("a connection to the proxy itself that is not HTTP"),
        };
    }
    pass(stream, to).await;
}

/// Somebody calls the app without mutual TLS.
pub async fn inbound(worker: Arc<Worker>, stream: TcpStream) {
    let Ok(to) = origin::original(&stream) else { return };
    let running = worker.running().clone();
    let Some(own) = running.inbound.as_ref() else { return };
    let Some(port) = own.ports.iter().find(|port| port.target == to.port()) else {
        return tracing::debug!(port = to.port(), "nobody may call this port");
    };
    let caller = Caller::new(None, port.port);
    let http = port.protocol.is_http();
    match (own.mutual_tls, http) {
        (MutualTls::Permissive, true) => {
            let drain = worker.state.drain.clone();
            let caller = Arc::new(caller);
            crate::http::serve::app(stream, Side::Plain, drain, move |request| {
                let (worker, caller) = (worker.clone(), caller.clone());
                async move { inbound::http::serve(&worker, &caller, request).await }
            })
            .await;
        }
        (MutualTls::Permissive, false) => inbound::tcp::relay(&worker, &caller, stream).await,
        (MutualTls::Strict, true) => {
            let drain = worker.state.drain.clone();
            crate::http::serve::app(stream, Side::Plain, drain, |request| {
                let failure = Failure::new(api::RouteReason::IdentityRefused, "this workload accepts mutual TLS only");
                async move { failure.answer::<()>(&Dialect::of(request.headers())) }
            })
            .await;
        }
        (MutualTls::Strict, false) => tracing::debug!(port = to.port(), "plaintext is not accepted"),
    }
}

async fn pass(stream: TcpStream, to: SocketAddr) {
    match timeout(CONNECT, TcpStream::connect(to)).await {
        Ok(Ok(outside)) => {
            tune(&outside);
            let copied = copy::both(stream, outside, IDLE).await;
            tracing::debug!(%to, ?copied, "passed a connection through");
        }
        Ok(Err(error)) => tracing::debug!(%to, %error, "cannot pass a connection through"),
        Err(_) => tracing::debug!(%to, "cannot pass a connection through in time"),
    }
}
