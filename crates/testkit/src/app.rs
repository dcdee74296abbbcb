//! An app that knows nothing of a mesh: it says who it is and what it saw, and misbehaves when it is told to.

use crate::ports::Port;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// How it answers.
#[derive(Clone, Copy)]
struct Mood {
    status: StatusCode,
    delay: Duration,
    /// Of `/healthz`; every other path answers `status`.
    health: StatusCode,
}

const WELL: Mood = Mood { status: StatusCode::OK, delay: Duration::ZERO, health: StatusCode::OK };

struct Shared {
    zone: String,
    workload: String,
    mood: watch::Sender<Mood>,
    begun: AtomicU64,
    served: AtomicU64,
}

/// HTTP/1.1 and HTTP/2 without TLS. Every path answers `{"zone", "workload", "path", "peer"}`, where `peer` is the
/// caller's identity as the proxy told it.
pub struct App {
    port: Port,
    shared: Arc<Shared>,
    task: Option<AbortHandle>,
}

impl App {
    /// Serves.
    pub(crate) async fn start(zone: &str, workload: &str) -> Self {
        let shared = Shared {
            zone: zone.into(),
            workload: workload.into(),
            mood: watch::Sender::new(WELL),
            begun: AtomicU64::new(0),
            served: AtomicU64::new(0),
        };
        let mut app = Self { port: Port::claim(), shared: Arc::new(shared), task: None };
        app.open().await;
        app
    }

    /// Serves again after [`App::stop`].
    pub async fn open(&mut self) {
        let listener = TcpListener::bind(self.port.at()).await.expect("the port is claimed");
        let shared = self.shared.clone();
        let serve = async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let shared = shared.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request| answer(shared.clone(), request));
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
                while connections.try_join_next().is_some() {}
            }
        };
        self.task = Some(tokio::spawn(serve).abort_handle());
    }

    /// Closes its port and every connection.
    pub fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Answers everything with a status from now on.
    pub fn answers(&self, status: u16) {
        let status = StatusCode::from_u16(status).expect("a status of HTTP");
        self.shared.mood.send_modify(|mood| mood.status = status);
    }

    /// Says on `/healthz` that it is not well from now on, and answers everything else as before.
    pub fn ails(&self) {
        self.shared.mood.send_modify(|mood| mood.health = StatusCode::INTERNAL_SERVER_ERROR);
    }

    /// Takes its time from now on.
    pub fn takes(&self, delay: Duration) {
        self.shared.mood.send_modify(|mood| mood.delay = delay);
    }

    /// Well again.
    pub fn heals(&self) {
        self.shared.mood.send_replace(WELL);
    }

    /// Requests it has answered.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Requests it has begun to work on.
    pub fn begun(&self) -> u64 {
        self.shared.begun.load(Ordering::Relaxed)
    }

    /// Where it listens, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let Mood { status, delay, health } = *shared.mood.borrow();
    if request.uri().path() == "/healthz" {
        let mut response = Response::new(Full::default());
        *response.status_mut() = health;
        return Ok(response);
    }
    shared.begun.fetch_add(1, Ordering::Relaxed);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    shared.served.fetch_add(1, Ordering::Relaxed);
    let text = |value: &HeaderValue| Value::from(String::from_utf8_lossy(value.as_bytes()));
    let said = json!({
        "zone": shared.zone,
        "workload": format!("{}/{}", shared.zone, shared.workload),
        "path": request.uri().path(),
        "peer": request.headers().get("weft-peer").map(text),
    });
    let mut response = Response::new(Full::new(said.to_string().into()));
    *response.status_mut() = status;
    Ok(response)
}
