//! Serves the API on a listener until the end.

use axum::Router;
use process::Drain;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;

/// Requests may take this long to finish after the end was announced; streams say goodbye at once.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Answers until the drain begins, then lets running requests finish for a moment.
pub async fn serve(listener: TcpListener, router: Router, drain: Drain) -> std::io::Result<()> {
    let served = axum::serve(listener, router).with_graceful_shutdown(drain.begun()).into_future();
    let too_long = async {
        drain.begun().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        ended = served => ended,
        () = too_long => Ok(()),
    }
}

/// Where others reach a listener: as an operator says, else where it listens. `flag` is the option that says it.
pub fn advertised(given: Vec<String>, listens: SocketAddr, flag: &str) -> Vec<String> {
    if !given.is_empty() {
        return given;
    }
    if listens.ip().is_unspecified() {
        tracing::warn!(%listens, "tokens will name an address nobody can reach; say the real one with --{flag}");
    }
    vec![listens.to_string()]
}
