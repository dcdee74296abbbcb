//! The admin endpoint: /healthz, /readyz, /metrics, and what a program adds. It has a thread and a runtime of its own,
//! so that it answers when the data path is saturated.

use crate::bind::{BindError, bind_std};
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::readiness::Readiness;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE as CONTENT_TYPE_HEADER};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{error, info};

/// Stack of the admin thread: requests are small and shallow, and sidecars count their memory.
const STACK_BYTES: usize = 512 * 1024;
/// The option that sets the address, for the error when it is taken.
const FLAG: &str = "admin-listen";

/// A running admin endpoint; it ends when this is dropped.
#[derive(Debug)]
#[must_use = "the endpoint ends when this is dropped"]
pub struct Admin {
    address: SocketAddr,
    socket: Arc<TcpListener>,
    _stop: DropGuard,
}

impl Admin {
    /// Listens on `addr` and answers from a thread of its own. `extra` may not use the three paths of ours.
    pub fn serve(addr: SocketAddr, metrics: Metrics, readiness: Readiness, extra: Router) -> Result<Self, BindError> {
        Self::serve_on(bind_std(addr, FLAG)?, metrics, readiness, extra)
    }

    /// As [`Self::serve`], on a socket another process had. It does not block.
    pub fn serve_on(
        listener: TcpListener,
        metrics: Metrics,
        readiness: Readiness,
        extra: Router,
    ) -> Result<Self, BindError> {
        let unusable = |addr| move |source| BindError::Other { addr, flag: FLAG.into(), source };
        let address = listener.local_addr().map_err(unusable(SocketAddr::from(([0, 0, 0, 0], 0))))?;
        let socket = Arc::new(listener.try_clone().map_err(unusable(address))?);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let router = extra.merge(routes(metrics, readiness));
        let answer = move || {
            let serve = async move {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router).with_graceful_shutdown(stopped).await
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Err(error) = runtime.and_then(|runtime| runtime.block_on(serve)) {
                error!(%address, %error, "the admin endpoint ended; restart the process to get it back");
            }
        };
        thread::Builder::new().name("admin".into()).stack_size(STACK_BYTES).spawn(answer).map_err(unusable(address))?;
        info!(%address, "admin endpoint: /healthz /readyz /metrics");
        Ok(Self { address, socket, _stop: stop.drop_guard() })
    }

    /// Where it listens; of use when port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket, to hand over.
    pub fn socket(&self) -> &Arc<TcpListener> {
        &self.socket
    }
}

fn routes(metrics: Metrics, readiness: Readiness) -> Router {
    let healthz = || async { "ok\n" };
    let text =
        |State(metrics): State<Metrics>| async move { ([(CONTENT_TYPE_HEADER, CONTENT_TYPE)], metrics.encode()) };
    Router::new()
        .route("/readyz", get(readyz))
        .with_state(readiness)
        .route("/healthz", get(healthz))
        .merge(Router::new().route("/metrics", get(text)).with_state(metrics))
}

/// 200 `{"ready":true,"missing":{}}`, or 503 with the conditions that are not met and why.
async fn readyz(State(readiness): State<Readiness>) -> Response {
    let missing = readiness.missing();
    let ready = missing.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CACHE_CONTROL, "no-store")], Json(json!({ "ready": ready, "missing": missing }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    /// Blocks its thread, as a saturated data path would.
    fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[tokio::test(flavor = "current_thread")]
    async fn it_answers_while_the_only_runtime_of_the_process_is_blocked() {
        let readiness = Readiness::new();
        readiness.require("certificate", "not issued yet");
        let extra = Router::new().route("/config", get(|| async { "extra" }));
        let admin =
            Admin::serve("127.0.0.1:0".parse().unwrap(), Metrics::new("weft-test"), readiness.clone(), extra).unwrap();

        assert!(fetch(admin.address(), "/healthz").starts_with("HTTP/1.1 200"));
        let waiting = fetch(admin.address(), "/readyz");
        assert!(waiting.starts_with("HTTP/1.1 503"), "{waiting}");
        assert!(waiting.ends_with(r#"{"missing":{"certificate":"not issued yet"},"ready":false}"#), "{waiting}");
        readiness.met("certificate");
        assert!(fetch(admin.address(), "/readyz").starts_with("HTTP/1.1 200"));
        assert!(fetch(admin.address(), "/config").ends_with("extra"));
        let metrics = fetch(admin.address(), "/metrics");
        assert!(metrics.contains("application/openmetrics-text") && metrics.contains("# EOF"), "{metrics}");
    }

    #[test]
    fn a_taken_address_names_the_flag() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let refused = Admin::serve(addr, Metrics::new("weft-test"), Readiness::new(), Router::new()).unwrap_err();
        assert!(refused.to_string().ends_with("choose another with --admin-listen"));
    }
}
