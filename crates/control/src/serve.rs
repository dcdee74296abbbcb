//! Serves the API on a listener until the end.

use axum::Router;
use process::Drain;
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
