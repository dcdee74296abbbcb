//! A connection of bytes from another proxy: who asks, may they, and on to the app.

use super::Caller;
use super::app;
use super::authorize::{Asked, Verdict, decide};
use crate::filter::pace::{Pace, Slowed};
use crate::filter::rate_limit::{self, Limit, What};
use crate::limits::PREAMBLE;
use crate::record::{Direction, Record};
use crate::tcp::copy;
use crate::tcp::preamble::Preamble;
use crate::worker::Worker;
use api::RouteReason;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};

/// A connection without a byte in either direction (Envoy's TCP proxy: 1 h).
const IDLE: Duration = Duration::from_secs(3600);

/// Serves one connection that begins with a preamble.
pub async fn serve<I: AsyncRead + AsyncWrite + Unpin>(worker: &Arc<Worker>, caller: &Caller, mut io: I) {
    match timeout(PREAMBLE, Preamble::read(&mut io)).await {
        Ok(Ok(preamble)) if preamble.port == caller.port => relay(worker, caller, io).await,
        Ok(Ok(preamble)) => {
            tracing::debug!(asked = preamble.port, port = caller.port, "preamble and server name differ");
        }
        Ok(Err(error)) => tracing::debug!(%error, "a connection of bytes began wrongly"),
        Err(_) => tracing::debug!("a connection of bytes did not begin in time"),
    }
}

/// Decides and copies; for connections without a preamble as well, where plaintext is accepted.
pub async fn relay<I: AsyncRead + AsyncWrite + Unpin>(worker: &Arc<Worker>, caller: &Caller, io: I) {
    let started = Instant::now();
    let running = worker.running().clone();
    let Some(inbound) = running.inbound.as_ref() else { return };
    let Some(port) = caller.target(inbound) else { return };
    let audited = |policy: &str| tracing::info!(target: "audit", policy, caller = caller.name, "would be refused");
    let asked = Asked { port: caller.port, request: None };
    let reason = match decide(&inbound.authorization, caller.peer.as_ref(), asked, audited) {
        Verdict::Denied(policy) => {
            worker.state.counters.denied(policy.unwrap_or_default());
            tracing::debug!(policy, caller = caller.name, "connection refused");
            RouteReason::Denied
        }
        Verdict::Allowed => {
            let limits = running.rate_limits.about(caller.id.as_ref(), asked);
            match rate_limit::admit(&limits, What::Connection, caller.id.as_ref(), worker.now_us()) {
                Ok(()) => carry(worker, caller, port.target, &limits, io).await,
                Err(failure) => {
                    tracing::debug!(text = failure.text, caller = caller.name, "connection refused");
                    failure.reason
                }
            }
        }
    };
    worker.cells.add(&Record {
        direction: Direction::Inbound,
        service: inbound.service.as_ref(),
        zone: Some(&worker.state.own.zone),
        code: match reason {
            RouteReason::Local => 200,
            RouteReason::Denied => 403,
            RouteReason::RateLimited => 429,
            _ => 503,
        },
        reason,
        latency: started.elapsed(),
        method: "-",
        path: "-",
        tries: 1,
        peer: &caller.name,
    });
}

async fn carry<I: AsyncRead + AsyncWrite + Unpin>(
    worker: &Arc<Worker>,
    caller: &Caller,
    target: u16,
    limits: &[Arc<Limit>],
    io: I,
) -> RouteReason {
    match app::connect(worker, target).await {
        Ok(app) => {
            let copied = match Pace::shared(&worker.state, limits, caller.id.as_ref()) {
                None => copy::both(io, app, IDLE).await,
                pace => copy::both(Slowed::new(io, pace), app, IDLE).await,
            };
            if let Err(error) = copied {
                tracing::debug!(%error, "connection of bytes ended");
            }
            RouteReason::Local
        }
        Err(error) => {
            tracing::debug!(?error, port = target, "the app does not accept connections");
            RouteReason::AppUnreachable
        }
    }
}
